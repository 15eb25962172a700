/* Counting what a section of code costs.
 *
 * On a real part the DWT counts cycles or, where the core has none (ARMv6-M), the SysTick timer does. An emulator has no
 * DWT, but its SysTick runs in step with the instructions (QEMU -icount), from which their exact number follows.
 *
 * For an emulated board the build defines BOARD_TIMER_HZ, the rate of SysTick in emulation, and BOARD_ICOUNT_SHIFT: an
 * instruction takes 2^BOARD_ICOUNT_SHIFT ns of emulated time. They must make at least two ticks an instruction. */
#ifndef COUNTER_H
#define COUNTER_H

/* Find out what can be counted; called by board_init. */
void counter_init(void);

/* The interrupt of SysTick. */
void counter_interrupt(void);

#endif
