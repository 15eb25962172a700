/* STM32F405 as after a reset: on its internal 16 MHz oscillator, since QEMU emulates no PLL; USART1 on PA9 and PA10. */
#include "startup.h"
#include "stm32.h"

#define RCC_AHB1ENR REGISTER(0x40023830u)
#define RCC_AHB1ENR_GPIOA 1u
#define RCC_APB2ENR REGISTER(0x40023844u)
#define RCC_APB2ENR_USART1 (1u << 4)

#define GPIOA 0x40020000u
#define USART1_FUNCTION 7u

void startup_clocks(void) {
    RCC_AHB1ENR |= RCC_AHB1ENR_GPIOA;
    RCC_APB2ENR |= RCC_APB2ENR_USART1;
    clock_settle();
    stm32_connect(GPIOA, 9u, USART1_FUNCTION);
    stm32_connect(GPIOA, 10u, USART1_FUNCTION);
}
