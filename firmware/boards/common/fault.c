/* Faults, resets and what is known of them after the restart. */
#include "startup.h"

#include <string.h>

#include "cortex_m.h"

#define KEPT 0x5A4F4246u /* "ZOBF": RAM that was kept over a reset, not the noise of a power-on */

extern uint32_t stack_bottom[], stack_top[]; /* sections.ld */

static struct {
    uint32_t magic, boots;
    struct board_fault fault;
} kept __attribute__((section(".noinit")));

static struct board_fault last_fault;

void startup_count_boot(void) {
    if (kept.magic != KEPT) memset(&kept, 0, sizeof kept);
    kept.magic = KEPT;
    kept.boots++;
    last_fault = kept.fault;
    memset(&kept.fault, 0, sizeof kept.fault);
}

uint32_t board_boots(void) { return kept.boots; }

const struct board_fault *board_last_fault(void) { return &last_fault; }

__attribute__((weak)) void startup_reset(void) {
    __asm volatile("dsb" ::: "memory");
    SCB_AIRCR = SCB_AIRCR_RESET;
    for (;;) __asm volatile("dsb" ::: "memory");
}

#define FRAME_WORDS 8u /* what the core has stacked: r0-r3, r12, lr, pc, xpsr */

/* Written by fault_handler: r4 to r11, then the stack pointer, at the fault. */
__attribute__((used, section(".noinit"))) static uint32_t saved[9];
/* The stack of record_fault. */
__attribute__((used, section(".noinit"))) static uint64_t fault_stack[16];

__attribute__((used, noreturn)) static void record_fault(void) {
    static const uint8_t places[FRAME_WORDS] = {0, 1, 2, 3, 12, 14, 15, 16};
    const uint32_t *const frame = (const uint32_t *)(uintptr_t)saved[8]; /* if the stack pointer was any good */
    const bool stacked = frame >= stack_bottom && frame + FRAME_WORDS <= stack_top && saved[8] % 4u == 0u;
    __asm volatile("mrs %0, ipsr" : "=r"(kept.fault.exception));
    kept.fault.status = SCB_CFSR;
    kept.fault.address = kept.fault.status & SCB_CFSR_MMARVALID ? SCB_MMFAR : SCB_BFAR;
    memcpy(&kept.fault.registers[4], saved, 32u);
    kept.fault.registers[13] = saved[8];
    for (uint32_t i = 0; stacked && i < FRAME_WORDS; i++) kept.fault.registers[places[i]] = frame[i]; /* else they are 0 */
    startup_reset();
}

/* The stack may be what is broken: recording has one of its own, so that it neither faults again and locks up nor writes
 * over what the core has stacked. In instructions of ARMv6-M. */
__attribute__((naked)) void fault_handler(void) {
    __asm volatile(
        ".syntax unified\n"
        "ldr r0, =saved\n"
        "stmia r0!, {r4-r7}\n"
        "mov r1, r8\n"
        "mov r2, r9\n"
        "mov r3, r10\n"
        "stmia r0!, {r1-r3}\n"
        "mov r1, r11\n"
        "mrs r2, msp\n"
        "stmia r0!, {r1, r2}\n"
        "ldr r1, =fault_stack + 128\n"
        "mov sp, r1\n"
        "ldr r1, =record_fault\n"
        "bx r1\n"
        ".ltorg\n");
}
