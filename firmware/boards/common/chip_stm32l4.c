/* STM32L476 (RM0351): 80 MHz from the internal oscillator, USART2 on PA2 (TX) and PA3 (RX). */
#include "startup.h"
#include "stm32.h"

#define FLASH_ACR REGISTER(0x40022000u)
#define FLASH_ACR_FAST 0x704u /* prefetch and both caches; 4 wait states */

#define RCC_CR REGISTER(0x40021000u)
#define RCC_CR_HSI_ON (1u << 8)
#define RCC_CR_HSI_READY (1u << 10)
#define RCC_CR_PLL_ON (1u << 24)
#define RCC_CR_PLL_READY (1u << 25)
#define RCC_CFGR REGISTER(0x40021008u)
#define RCC_CFGR_PLL 3u
#define RCC_CFGR_RUNNING (3u << 2)
#define RCC_PLLCFGR REGISTER(0x4002100Cu)
#define RCC_PLLCFGR_80_MHZ (1u << 24 | 10u << 8 | 2u) /* HSI 16 MHz * 10 / 2, to the core */
#define RCC_AHB2ENR REGISTER(0x4002104Cu)
#define RCC_AHB2ENR_GPIOA 1u
#define RCC_APB1ENR1 REGISTER(0x40021058u)
#define RCC_APB1ENR1_USART2 (1u << 17)

#define GPIOA 0x48000000u
#define USART2_FUNCTION 7u

static void start_pll(void) {
    RCC_CR |= RCC_CR_HSI_ON;
    while (!(RCC_CR & RCC_CR_HSI_READY)) {
    }
    RCC_PLLCFGR = RCC_PLLCFGR_80_MHZ;
    RCC_CR |= RCC_CR_PLL_ON;
    FLASH_ACR = FLASH_ACR_FAST;
    while (!(RCC_CR & RCC_CR_PLL_READY)) {
    }
    RCC_CFGR = RCC_CFGR_PLL;
    while ((RCC_CFGR & RCC_CFGR_RUNNING) != RCC_CFGR_PLL << 2) {
    }
}

void startup_clocks(void) {
    start_pll();
    RCC_AHB2ENR |= RCC_AHB2ENR_GPIOA;
    RCC_APB1ENR1 |= RCC_APB1ENR1_USART2;
    clock_settle();
    stm32_connect(GPIOA, 2u, USART2_FUNCTION);
    stm32_connect(GPIOA, 3u, USART2_FUNCTION);
}
