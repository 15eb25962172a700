#include "counter.h"

#include "board.h"
#include "cortex_m.h"
#include "uart.h"

#ifdef BOARD_TIMER_HZ
#define NS_PER_S UINT64_C(1000000000)
#define WRAP_NS ((NS_PER_S << 24) / BOARD_TIMER_HZ) /* the emulator wraps at whole nanoseconds */
#endif
#define SPIN_INSTRUCTIONS 2001u   /* what `spin` has more than `nothing` */
#define INTERRUPT_INSTRUCTIONS 8u /* of counter_interrupt */

static enum board_counter kind;
static bool has_dwt;
/* Wraps of SysTick since `measure` began, and with how many of them the watchdog bites. */
__attribute__((used)) static struct {
    volatile uint32_t wraps;
    uint32_t limit;
} timer;
static uint64_t overhead; /* ticks that measuring nothing takes */

/* Nothing is pushed: where the watchdog bites, fault_handler finds the registers of what was interrupted. */
__attribute__((naked)) void counter_interrupt(void) {
    __asm volatile(
        ".syntax unified\n"
        "ldr r0, =timer\n"
        "ldr r1, [r0]\n"
        "ldr r2, [r0, #4]\n"
        "adds r1, #1\n"
        "str r1, [r0]\n"
        "cmp r1, r2\n"
        "beq 1f\n"
        "bx lr\n"
        "1: ldr r0, =fault_handler\n"
        "bx r0\n"
        ".ltorg\n");
}

/* Ticks of DWT or SysTick. The latter begins anew, so that its phase is always the same. */
static __attribute__((noinline)) uint64_t measure(void (*section)(void *), void *context, uint32_t limit) {
    uint32_t begin, end, before, left;
    uart_hold();
    timer.wraps = 0;
    timer.limit = limit;
    SYST_CVR = 0;
    if (has_dwt) SYST_CSR = limit ? SYST_CSR_RUN : 0u;
    begin = has_dwt ? DWT_CYCCNT : 0u;
    section(context);
    end = has_dwt ? DWT_CYCCNT : 0u;
    before = timer.wraps;
    left = SYST_CVR;
    timer.limit = 0; /* the count never comes back to 0 */
    uart_release();
    if (has_dwt) return end - begin;
    /* If it wrapped while the two were read, `left` says on which side. */
    return ((uint64_t)(left > SYST_MAX / 2u ? timer.wraps : before) << 24) + (SYST_MAX - left);
}

#ifdef BOARD_TIMER_HZ
/* Bit by bit, nothing being in a hurry where this is used: libgcc's division is 700 bytes. */
static __attribute__((noinline)) uint64_t quotient(uint64_t n, uint32_t divisor) {
    uint64_t rest = 0;
    for (uint32_t i = 0; i < 64u; i++) {
        rest = rest << 1 | n >> 63;
        n <<= 1;
        if (rest < divisor) continue;
        rest -= divisor;
        n |= 1u;
    }
    return n;
}

static uint64_t emulated_ns(uint64_t ticks) {
    return (ticks >> 24) * WRAP_NS + quotient((ticks & SYST_MAX) * NS_PER_S, BOARD_TIMER_HZ);
}
#endif

/* Each takes 1 << BOARD_ICOUNT_SHIFT ns. Both readings are off by less than a tick, their difference by less than half
 * an instruction. */
static uint32_t instructions(uint64_t ticks) {
#ifdef BOARD_TIMER_HZ
    const uint64_t half = (UINT64_C(1) << BOARD_ICOUNT_SHIFT) / 2u;
    const uint64_t all = (emulated_ns(ticks) - emulated_ns(overhead) + half) >> BOARD_ICOUNT_SHIFT;
    return (uint32_t)(all - (ticks >> 24) * INTERRUPT_INSTRUCTIONS);
#else
    (void)ticks;
    return 0; /* nothing emulates the board */
#endif
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

static bool dwt_counts(void) {
#if __ARM_ARCH >= 7
    uint32_t before;
    DCB_DEMCR |= DCB_DEMCR_TRCENA;
    DWT_LAR = DWT_LAR_KEY;
    DWT_CTRL |= DWT_CTRL_CYCCNTENA;
    before = DWT_CYCCNT;
    spin(0);
    return DWT_CYCCNT != before;
#else
    return false;
#endif
}

static enum board_counter what_counts(void) {
    const uint64_t ticks = measure(spin, 0, 0u);
    if (has_dwt) return BOARD_COUNTS_CYCLES;
    if (instructions(ticks) == SPIN_INSTRUCTIONS) return BOARD_COUNTS_INSTRUCTIONS;
    /* Not in step with the instructions: the cycles of a core without a DWT, which takes at least one for each, or an
     * emulator without -icount, which counts nothing of use. */
    return __ARM_ARCH < 7 && ticks > SPIN_INSTRUCTIONS ? BOARD_COUNTS_CYCLES : BOARD_COUNTS_NOTHING;
}

void counter_init(void) {
    has_dwt = dwt_counts();
    SYST_RVR = SYST_MAX;
    SYST_CSR = has_dwt ? 0u : SYST_CSR_RUN;
    overhead = measure(nothing, 0, 0u);
    kind = what_counts();
}

enum board_counter board_counter(void) { return kind; }

/* How many wraps of SysTick are more than a limit; 0 for none. */
static uint32_t wraps_of(uint32_t limit) {
    uint64_t ticks = limit;
    if (limit == 0u) return 0u;
#ifdef BOARD_TIMER_HZ
    if (kind == BOARD_COUNTS_INSTRUCTIONS) {
        ticks = quotient(((uint64_t)limit << BOARD_ICOUNT_SHIFT) * (BOARD_TIMER_HZ / 1000u), 1000000u);
    }
#endif
    if (kind == BOARD_COUNTS_NOTHING) ticks = (uint64_t)limit * (BOARD_CLOCK_HZ / 1000u);
    return (uint32_t)(ticks >> 24) + 2u;
}

uint32_t board_count(void (*section)(void *), void *context, uint32_t limit) {
    const uint64_t ticks = measure(section, context, wraps_of(limit));
    if (kind == BOARD_COUNTS_INSTRUCTIONS) return instructions(ticks);
    return kind == BOARD_COUNTS_CYCLES && ticks > overhead ? (uint32_t)(ticks - overhead) : 0u;
}
