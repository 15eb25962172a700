/* Counting what a section of code costs. On a real part the DWT counts cycles; an emulator has no DWT, but a timer that
 * runs in step with the instructions (QEMU -icount), from which their exact number follows.
 *
 * The build defines BOARD_TIMER_HZ, the rate of the board's timer in emulation, and BOARD_ICOUNT_SHIFT: an instruction
 * takes 2^BOARD_ICOUNT_SHIFT ns of emulated time. They must make at least two ticks an instruction, or exactly one. */
#ifndef COUNTER_H
#define COUNTER_H

#include <stdint.h>

/* Find out what can be counted; called by board_init when the timer runs. */
void counter_init(void);

/* The board's free-running timer: 32 bits, counting up. Provided by the board. */
uint32_t board_timer(void);

#endif
