/* The vector table, for every Cortex-M: one entry for all interrupts of peripherals, since only the UART has one. */
    .syntax unified
    .section .vectors, "a", %progbits
    .global vectors
    .type vectors, %object
vectors:
    .word stack_top
    .word reset_handler
    .rept 13
    .word fault_handler
    .endr
    .word counter_interrupt
    .rept 240
    .word uart_interrupt
    .endr
    .size vectors, . - vectors
