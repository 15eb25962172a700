/* The vector table, for every Cortex-M: one entry for all interrupts, since a board enables only that of its UART. */
    .syntax unified
    .section .vectors, "a", %progbits
    .global vectors
vectors:
    .word stack_top
    .word reset_handler
    .rept 14
    .word fault_handler
    .endr
    .rept 240
    .word uart_interrupt
    .endr
