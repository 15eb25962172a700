/* From reset to main and what main asks for first: memory, vector table, floating-point unit, clocks, serial line. */
#include "startup.h"

#include <string.h>

#include "counter.h"
#include "cortex_m.h"
#include "uart.h"

/* Defined by sections.ld. */
extern uint8_t data_begin[], data_end[], bss_begin[], bss_end[], inputs_begin[], inputs_end[];
extern const uint8_t data_flash[];
extern const uint32_t vectors[];

int main(void);

/* Bytes between two of the linker's symbols, which to the compiler are different objects. */
static uint32_t between(const uint8_t *begin, const uint8_t *end) { return (uint32_t)((uintptr_t)end - (uintptr_t)begin); }

void reset_handler(void) {
    SCB_VTOR = (uint32_t)(uintptr_t)vectors; /* a boot loader may have left its own there; a Cortex-M0 has none */
#if defined(__ARM_FP) || defined(__ARM_FEATURE_MVE)
    SCB_CPACR |= SCB_CPACR_FPU;
    __asm volatile("dsb\n isb" ::: "memory");
#endif
    memcpy(data_begin, data_flash, between(data_begin, data_end));
    memset(bss_begin, 0, between(bss_begin, bss_end));
    startup_count_boot();
    main();
    board_reset();
}

__attribute__((weak)) void startup_clocks(void) {}

void board_init(void) {
    startup_clocks();
    uart_init();
    counter_init();
}

void board_reset(void) {
    uart_flush();
    startup_reset();
}

uint8_t *board_input_buffer(uint32_t *bytes) {
    *bytes = between(inputs_begin, inputs_end);
    return inputs_begin;
}

uint8_t *board_memory(uint32_t *bytes) {
    *bytes = BOARD_RAM_BYTES;
    return (uint8_t *)BOARD_RAM_ORIGIN;
}
