/* STM32H743 (RM0433): 400 MHz from the internal oscillator, instruction cache, USART3 on PD8 (TX) and PD9 (RX). */
#include "startup.h"
#include "stm32.h"

#define PWR_CR3 REGISTER(0x5802480Cu)
#define PWR_CR3_LDO 2u
#define PWR_CSR1 REGISTER(0x58024804u)
#define PWR_CSR1_VOLTAGE_READY (1u << 13)
#define PWR_D3CR REGISTER(0x58024818u)
#define PWR_D3CR_SCALE_1 (3u << 14)
#define PWR_D3CR_READY (1u << 13)

#define FLASH_ACR REGISTER(0x52002000u)
#define FLASH_ACR_FAST 0x22u /* 2 wait states at 200 MHz of the bus */

#define RCC_CR REGISTER(0x58024400u)
#define RCC_CR_PLL1_ON (1u << 24)
#define RCC_CR_PLL1_READY (1u << 25)
#define RCC_CFGR REGISTER(0x58024410u)
#define RCC_CFGR_PLL1 3u
#define RCC_CFGR_RUNNING (7u << 3)
#define RCC_D1CFGR REGISTER(0x58024418u)
#define RCC_D1CFGR_BUSES (4u << 4 | 8u) /* APB3 / 2, AXI and AHB / 2 */
#define RCC_D2CFGR REGISTER(0x5802441Cu)
#define RCC_D2CFGR_BUSES (4u << 8 | 4u << 4) /* APB2 / 2, APB1 / 2 */
#define RCC_D3CFGR REGISTER(0x58024420u)
#define RCC_D3CFGR_BUSES (4u << 4) /* APB4 / 2 */
#define RCC_PLLCKSELR REGISTER(0x58024428u)
#define RCC_PLLCKSELR_16_MHZ (4u << 4) /* HSI 64 MHz / 4 */
#define RCC_PLLCFGR REGISTER(0x5802442Cu)
#define RCC_PLLCFGR_PLL1 (1u << 16 | 3u << 2) /* output P; input of 8 to 16 MHz, wide VCO */
#define RCC_PLL1DIVR REGISTER(0x58024430u)
#define RCC_PLL1DIVR_400_MHZ (1u << 24 | 1u << 16 | 1u << 9 | 49u) /* * 50, / 2 */
#define RCC_AHB4ENR REGISTER(0x580244E0u)
#define RCC_AHB4ENR_GPIOD (1u << 3)
#define RCC_APB1LENR REGISTER(0x580244E8u)
#define RCC_APB1LENR_USART3 (1u << 18)

#define GPIOD 0x58020C00u
#define USART3_FUNCTION 7u

#define SCB_ICIALLU REGISTER(0xE000EF50u)
#define SCB_CCR REGISTER(0xE000ED14u)
#define SCB_CCR_ICACHE (1u << 17)

/* 400 MHz needs the highest core voltage, which can be asked for once the supply is fixed. */
static void raise_voltage(void) {
    PWR_CR3 = PWR_CR3_LDO;
    while (!(PWR_CSR1 & PWR_CSR1_VOLTAGE_READY)) {
    }
    PWR_D3CR = PWR_D3CR_SCALE_1;
    while (!(PWR_D3CR & PWR_D3CR_READY)) {
    }
}

static void start_pll(void) {
    RCC_PLLCKSELR = RCC_PLLCKSELR_16_MHZ;
    RCC_PLLCFGR = RCC_PLLCFGR_PLL1;
    RCC_PLL1DIVR = RCC_PLL1DIVR_400_MHZ;
    RCC_CR |= RCC_CR_PLL1_ON;
    RCC_D1CFGR = RCC_D1CFGR_BUSES;
    RCC_D2CFGR = RCC_D2CFGR_BUSES;
    RCC_D3CFGR = RCC_D3CFGR_BUSES;
    FLASH_ACR = FLASH_ACR_FAST;
    while (!(RCC_CR & RCC_CR_PLL1_READY)) {
    }
    RCC_CFGR = RCC_CFGR_PLL1;
    while ((RCC_CFGR & RCC_CFGR_RUNNING) != RCC_CFGR_PLL1 << 3) {
    }
}

static void start_instruction_cache(void) {
    SCB_ICIALLU = 0u;
    __asm volatile("dsb\n isb" ::: "memory");
    SCB_CCR |= SCB_CCR_ICACHE;
    __asm volatile("dsb\n isb" ::: "memory");
}

void startup_clocks(void) {
    raise_voltage();
    start_pll();
    start_instruction_cache();
    RCC_AHB4ENR |= RCC_AHB4ENR_GPIOD;
    RCC_APB1LENR |= RCC_APB1LENR_USART3;
    clock_settle();
    stm32_connect(GPIOD, 8u, USART3_FUNCTION);
    stm32_connect(GPIOD, 9u, USART3_FUNCTION);
}
