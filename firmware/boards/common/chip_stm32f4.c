/* STM32F405, F407, F446 (RM0090, RM0390): 168 MHz from the internal oscillator, USART2 on PA2 (TX) and PA3 (RX). */
#include "startup.h"
#include "stm32.h"

#define FLASH_ACR REGISTER(0x40023C00u)
#define FLASH_ACR_FAST 0x705u /* prefetch and both caches; 5 wait states */

#define RCC_CR REGISTER(0x40023800u)
#define RCC_CR_PLL_ON (1u << 24)
#define RCC_CR_PLL_READY (1u << 25)
#define RCC_PLLCFGR REGISTER(0x40023804u)
#define RCC_PLLCFGR_168_MHZ (0x27000000u | 168u << 6 | 8u) /* 16 MHz / 8 * 168 / 2; R = 2, Q = 7 */
#define RCC_CFGR REGISTER(0x40023808u)
#define RCC_CFGR_BUSES (4u << 13 | 5u << 10) /* APB2 / 2, APB1 / 4 */
#define RCC_CFGR_PLL 2u
#define RCC_CFGR_RUNNING (3u << 2)
#define RCC_AHB1ENR REGISTER(0x40023830u)
#define RCC_AHB1ENR_GPIOA 1u
#define RCC_APB1ENR REGISTER(0x40023840u)
#define RCC_APB1ENR_USART2 (1u << 17)

#define GPIOA 0x40020000u
#define USART2_FUNCTION 7u

static void start_pll(void) {
    RCC_PLLCFGR = RCC_PLLCFGR_168_MHZ;
    RCC_CR |= RCC_CR_PLL_ON;
    FLASH_ACR = FLASH_ACR_FAST;
    while (!(RCC_CR & RCC_CR_PLL_READY)) {
    }
    RCC_CFGR = RCC_CFGR_BUSES | RCC_CFGR_PLL;
    while ((RCC_CFGR & RCC_CFGR_RUNNING) != RCC_CFGR_PLL << 2) {
    }
}

void startup_clocks(void) {
    start_pll();
    RCC_AHB1ENR |= RCC_AHB1ENR_GPIOA;
    RCC_APB1ENR |= RCC_APB1ENR_USART2;
    clock_settle();
    stm32_connect(GPIOA, 2u, USART2_FUNCTION);
    stm32_connect(GPIOA, 3u, USART2_FUNCTION);
}
