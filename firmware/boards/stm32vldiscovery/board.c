/* STM32F100 as after a reset, on its internal 8 MHz oscillator. */
#include "cortex_m.h"
#include "startup.h"

#define RCC_APB2ENR REGISTER(0x40021018u)
#define RCC_APB2ENR_GPIOA (1u << 2)
#define RCC_APB2ENR_USART1 (1u << 14)

#define GPIOA_CRH REGISTER(0x40010804u)

/* USART1 on PA9 (TX, alternate function, push-pull, 50 MHz) and PA10 (RX, floating). */
void startup_clocks(void) {
    RCC_APB2ENR |= RCC_APB2ENR_GPIOA | RCC_APB2ENR_USART1;
    clock_settle();
    GPIOA_CRH = (GPIOA_CRH & ~(0xFFu << 4)) | (0x4Bu << 4);
}
