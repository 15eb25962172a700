#include "counter.h"

#include "board.h"
#include "cortex_m.h"

#define TICKS_PER_G ((uint64_t)BOARD_TIMER_HZ << BOARD_ICOUNT_SHIFT) /* ticks in 10^9 instructions */
#define SPIN_INSTRUCTIONS 2001u /* what `spin` has more than `nothing` */

static enum board_counter kind;
static uint32_t overhead; /* ticks that measuring nothing takes */

static uint32_t ticks_now(void) { return kind == BOARD_COUNTS_CYCLES ? DWT_CYCCNT : board_timer(); }

static __attribute__((noinline)) uint32_t measure(void (*section)(void *), void *context) {
    uint32_t begin, end;
    interrupts_off();
    begin = ticks_now();
    section(context);
    end = ticks_now();
    interrupts_on();
    return end - begin;
}

static uint32_t instructions(uint32_t ticks) {
    return (uint32_t)((ticks * UINT64_C(1000000000) + TICKS_PER_G / 2u) / TICKS_PER_G);
}

static uint32_t count(uint32_t ticks) {
    if (kind == BOARD_COUNTS_CYCLES) return ticks > overhead ? ticks - overhead : 0u;
    return instructions(ticks) - instructions(overhead);
}

static void nothing(void *context) { (void)context; }

/* A known number of instructions: one, and two a turn. */
static __attribute__((naked, noinline)) void spin(void *context) {
    (void)context;
    __asm volatile(
        ".syntax unified\n"
        "ldr r0, =1000\n"
        "1: subs r0, #1\n"
        "bne 1b\n"
        "bx lr\n"
        ".ltorg\n");
}

static int dwt_counts(void) {
#if __ARM_ARCH >= 7
    uint32_t before;
    DCB_DEMCR |= DCB_DEMCR_TRCENA;
    DWT_LAR = DWT_LAR_KEY;
    DWT_CTRL |= DWT_CTRL_CYCCNTENA;
    before = DWT_CYCCNT;
    spin(0);
    return DWT_CYCCNT != before;
#else
    return 0; /* ARMv6-M has no cycle counter */
#endif
}

void counter_init(void) {
    kind = dwt_counts() ? BOARD_COUNTS_CYCLES : BOARD_COUNTS_INSTRUCTIONS;
    overhead = measure(nothing, 0);
    /* A timer that is not in step with the instructions (an emulator without -icount) counts nothing of use. */
    if (kind == BOARD_COUNTS_INSTRUCTIONS && count(measure(spin, 0)) != SPIN_INSTRUCTIONS) kind = BOARD_COUNTS_NOTHING;
}

enum board_counter board_counter(void) { return kind; }

uint32_t board_count(void (*section)(void *), void *context) {
    const uint32_t ticks = measure(section, context);
    return kind == BOARD_COUNTS_NOTHING ? 0u : count(ticks);
}
