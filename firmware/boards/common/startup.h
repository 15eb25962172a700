/* Start-up and what survives a reset: boot count and fault record, in RAM that no start-up code touches. */
#ifndef STARTUP_H
#define STARTUP_H

#include "board.h"

/* Where the core begins. */
void reset_handler(void) __attribute__((noreturn));

/* Where every fault ends: keep a record of it and reset. */
void fault_handler(void);

/* Count this boot and take over the fault record of the last run; called once, before main. */
void startup_count_boot(void);

/* Start the clocks and connect the pins that the serial line needs: what a board may provide. Without it they are as
 * after a reset, which does on boards that are there already when the core starts. */
void startup_clocks(void);

/* Restart at once, RAM kept. A board whose core resets no more than itself provides its own. */
void startup_reset(void) __attribute__((noreturn));

#endif
