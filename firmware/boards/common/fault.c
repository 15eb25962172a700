/* Faults, resets and what is known of them after the restart. */
#include "startup.h"

#include "cortex_m.h"

#define KEPT 0x5A4F4246u /* "ZOBF": RAM that was kept over a reset, not the noise of a power-on */

extern uint32_t stack_bottom[], stack_top[]; /* sections.ld */

static struct {
    uint32_t magic, boots;
    struct board_fault fault;
} kept __attribute__((section(".noinit")));

static struct board_fault last_fault;

void startup_count_boot(void) {
    static const struct board_fault none;
    if (kept.magic != KEPT) {
        kept.magic = KEPT;
        kept.boots = 0;
        kept.fault = none;
    }
    kept.boots++;
    last_fault = kept.fault;
    kept.fault = none;
}

uint32_t board_boots(void) { return kept.boots; }

struct board_fault board_last_fault(void) { return last_fault; }

__attribute__((weak)) void startup_reset(void) {
    __asm volatile("dsb" ::: "memory");
    SCB_AIRCR = SCB_AIRCR_RESET;
    for (;;) __asm volatile("dsb" ::: "memory");
}

/* `frame`: the registers the core has stacked (r0-r3, r12, lr, pc, xpsr), if the stack pointer was any good. */
__attribute__((used, noreturn)) static void record_fault(const uint32_t *frame) {
    __asm volatile("mrs %0, ipsr" : "=r"(kept.fault.exception));
    kept.fault.status = SCB_CFSR;
    kept.fault.address = kept.fault.status & SCB_CFSR_MMARVALID ? SCB_MMFAR : SCB_BFAR;
    kept.fault.pc = frame >= stack_bottom && frame + 8 <= stack_top ? frame[6] : 0u;
    startup_reset();
}

/* The stack may be what is broken: begin with an empty one, so that recording cannot fault again and lock up. */
__attribute__((naked)) void fault_handler(void) {
    __asm volatile(
        "mrs r0, msp\n"
        "ldr r1, =stack_top\n"
        "mov sp, r1\n"
        "ldr r1, =record_fault\n"
        "bx r1\n"
        ".ltorg\n");
}
