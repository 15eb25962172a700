/* RP2040 (RP2040 datasheet): 125 MHz from the 12 MHz crystal, UART0 on GP0 (TX) and GP1 (RX). */
#include "cortex_m.h"
#include "startup.h"

#define CLEAR 0x3000u /* every register again at this distance: writing ones clears bits */

#define XOSC_CTRL REGISTER(0x40024000u)
#define XOSC_CTRL_ON (0xFABu << 12 | 0xAA0u)
#define XOSC_STATUS REGISTER(0x40024004u)
#define XOSC_STATUS_STABLE (1u << 31)
#define XOSC_STARTUP REGISTER(0x4002400Cu)
#define XOSC_STARTUP_1_MS 47u /* in units of 256 periods */

#define PLL_CS REGISTER(0x40028000u)
#define PLL_CS_LOCK (1u << 31)
#define PLL_PWR_CLEAR REGISTER(0x40028004u + CLEAR)
#define PLL_PWR_CORE (1u << 5 | 1u)
#define PLL_PWR_DIVIDERS (1u << 3)
#define PLL_FBDIV REGISTER(0x40028008u)
#define PLL_PRIM REGISTER(0x4002800Cu)
#define PLL_PRIM_125_MHZ (6u << 16 | 2u << 12) /* 12 MHz * 125 / 6 / 2 */

#define CLK_REF_CTRL REGISTER(0x40008030u)
#define CLK_REF_CTRL_XOSC 2u
#define CLK_REF_SELECTED REGISTER(0x40008038u)
#define CLK_SYS_CTRL REGISTER(0x4000803Cu)
#define CLK_SYS_CTRL_PLL 1u
#define CLK_SYS_SELECTED REGISTER(0x40008044u)
#define CLK_PERI_CTRL REGISTER(0x40008048u)
#define CLK_PERI_CTRL_XOSC (1u << 11 | 4u << 5)

#define RESETS_CLEAR REGISTER(0x4000C000u + CLEAR)
#define RESETS_DONE REGISTER(0x4000C008u)
#define RESETS_USED (1u << 22 | 1u << 12 | 1u << 8 | 1u << 5) /* UART0, system PLL, pads, pin functions */

#define GP0_FUNCTION REGISTER(0x40014004u)
#define GP1_FUNCTION REGISTER(0x4001400Cu)
#define FUNCTION_UART 2u

#define PSM_WDSEL REGISTER(0x40010008u)
#define PSM_WDSEL_ALL_BUT_OSCILLATORS 0x1FFFCu
#define WATCHDOG_CTRL REGISTER(0x40058000u)
#define WATCHDOG_CTRL_TRIGGER (1u << 31)

static void start_crystal(void) {
    XOSC_STARTUP = XOSC_STARTUP_1_MS;
    XOSC_CTRL = XOSC_CTRL_ON;
    while (!(XOSC_STATUS & XOSC_STATUS_STABLE)) {
    }
    CLK_REF_CTRL = CLK_REF_CTRL_XOSC;
    while (!(CLK_REF_SELECTED & 1u << CLK_REF_CTRL_XOSC)) {
    }
}

static void start_pll(void) {
    PLL_CS = 1u; /* crystal / 1 */
    PLL_FBDIV = 125u;
    PLL_PWR_CLEAR = PLL_PWR_CORE;
    while (!(PLL_CS & PLL_CS_LOCK)) {
    }
    PLL_PRIM = PLL_PRIM_125_MHZ;
    PLL_PWR_CLEAR = PLL_PWR_DIVIDERS;
    CLK_SYS_CTRL = CLK_SYS_CTRL_PLL;
    while (!(CLK_SYS_SELECTED & 1u << CLK_SYS_CTRL_PLL)) {
    }
}

void startup_clocks(void) {
    start_crystal();
    CLK_PERI_CTRL = CLK_PERI_CTRL_XOSC;
    RESETS_CLEAR = RESETS_USED;
    while ((RESETS_DONE & RESETS_USED) != RESETS_USED) {
    }
    start_pll();
    GP0_FUNCTION = FUNCTION_UART;
    GP1_FUNCTION = FUNCTION_UART;
}

/* The core's own reset request would leave clocks and peripherals as they are; the watchdog begins at the boot ROM. */
void startup_reset(void) {
    PSM_WDSEL = PSM_WDSEL_ALL_BUT_OSCILLATORS;
    WATCHDOG_CTRL = WATCHDOG_CTRL_TRIGGER;
    for (;;) __asm volatile("dsb" ::: "memory");
}
