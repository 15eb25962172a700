/* STM32F405 as after a reset: everything on the internal 16 MHz oscillator, so that no crystal and no voltage matters. */
#include "board.h"

#include "cortex_m.h"
#include "counter.h"
#include "startup.h"
#include "uart.h"

#define RCC_AHB1ENR REGISTER(0x40023830u)
#define RCC_AHB1ENR_GPIOA 1u
#define RCC_APB1ENR REGISTER(0x40023840u)
#define RCC_APB1ENR_TIM2 1u
#define RCC_APB2ENR REGISTER(0x40023844u)
#define RCC_APB2ENR_USART1 (1u << 4)

#define GPIOA_MODER REGISTER(0x40020000u)
#define GPIOA_AFRH REGISTER(0x40020024u)

#define TIM2_CR1 REGISTER(0x40000000u)
#define TIM2_CR1_ENABLE 1u
#define TIM2_CNT REGISTER(0x40000024u)
#define TIM2_PSC REGISTER(0x40000028u)
#define TIM2_ARR REGISTER(0x4000002Cu)

#define USART1 0x40011000u
#define USART1_IRQ 37u

/* PA9 (TX) and PA10 (RX): alternate function 7. */
static void connect_pins(void) {
    GPIOA_MODER = (GPIOA_MODER & ~(0xFu << 18)) | (0xAu << 18);
    GPIOA_AFRH = (GPIOA_AFRH & ~(0xFFu << 4)) | (0x77u << 4);
}

void board_init(void) {
    RCC_AHB1ENR |= RCC_AHB1ENR_GPIOA;
    RCC_APB1ENR |= RCC_APB1ENR_TIM2;
    RCC_APB2ENR |= RCC_APB2ENR_USART1;
    (void)RCC_APB2ENR; /* a peripheral answers two cycles after its clock is on */
    connect_pins();
    TIM2_PSC = 0;
    TIM2_ARR = 0xFFFFFFFFu;
    TIM2_CR1 = TIM2_CR1_ENABLE;
    uart_init(USART1, USART1_IRQ, (BOARD_CLOCK_HZ + BOARD_BAUD / 2u) / BOARD_BAUD);
    counter_init();
}

uint32_t board_timer(void) { return TIM2_CNT; }

void board_reset(void) {
    uart_flush();
    startup_reset();
}
