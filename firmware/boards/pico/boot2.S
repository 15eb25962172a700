/* Second boot stage of RP2040. The boot ROM copies the first 256 bytes of flash to RAM and, if their checksum is right,
 * runs them there. They make flash readable in place by the read command that every SPI flash knows (0x03, one bit
 * wide), then enter the firmware by its vector table, which follows.
 *
 * The last word is the CRC-32 of the 252 bytes before it, as the ROM computes it: polynomial 0x04C11DB7, not reflected,
 * initial value 0xFFFFFFFF, no final inversion. tests/boards/test_elf.py says what it must be. */
    .syntax unified
    .cpu cortex-m0plus
    .thumb
    .section .boot, "ax", %progbits
    ldr r3, ssi
    movs r1, #0
    str r1, [r3, #0x08]         /* SSIENR: off while it is set up */
    movs r1, #4
    str r1, [r3, #0x14]         /* BAUDR: a quarter of the system clock */
    ldr r1, ctrlr0
    str r1, [r3, #0x00]
    movs r1, #0
    str r1, [r3, #0x04]         /* CTRLR1: one data frame a read */
    ldr r1, spi_ctrlr0
    adds r3, #0xF4 - 0x60
    str r1, [r3, #0x60]
    subs r3, #0xF4 - 0x60
    movs r1, #1
    str r1, [r3, #0x08]         /* SSIENR: on */
    ldr r0, vector_table
    ldr r1, vtor
    str r0, [r1]
    ldm r0!, {r1, r2}           /* initial stack pointer, reset handler */
    msr msp, r1
    bx r2

    .balign 4
ssi:            .word 0x18000000
ctrlr0:         .word 31 << 16 | 3 << 8             /* frames of 32 bits; send command and address, then receive */
spi_ctrlr0:     .word 0x03 << 24 | 2 << 8 | 6 << 2  /* command 0x03; 8 bits of command, 24 of address, one wide */
vector_table:   .word 0x10000100
vtor:           .word 0xE000ED08
    .org 252
    .word 0x3033D07F
