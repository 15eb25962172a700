/* From reset to main: the memory that C expects, the vector table, the floating-point unit. */
#include "startup.h"

#include <string.h>

#include "cortex_m.h"

/* Defined by sections.ld. */
extern uint8_t data_begin[], data_end[], bss_begin[], bss_end[], inputs_begin[], inputs_end[];

/* Bytes between two of the linker's symbols, which to the compiler are different objects. */
static uint32_t between(const uint8_t *begin, const uint8_t *end) { return (uint32_t)((uintptr_t)end - (uintptr_t)begin); }
extern const uint8_t data_flash[];
extern const uint32_t vectors[];

int main(void);

void reset_handler(void) {
    SCB_VTOR = (uint32_t)(uintptr_t)vectors; /* a boot loader may have left its own there */
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

uint8_t *board_input_buffer(uint32_t *bytes) {
    *bytes = between(inputs_begin, inputs_end);
    return inputs_begin;
}
