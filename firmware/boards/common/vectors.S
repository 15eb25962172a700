/* The vector table, for every Cortex-M. Of the interrupts of peripherals only the UART's is ever enabled; the table ends
 * with it. */
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
    .rept UART_VECTORS
    .word uart_interrupt
    .endr
    .size vectors, . - vectors
