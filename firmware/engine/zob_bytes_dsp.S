/* Deciding filters of byte codes (zob_bytes.h) with the DSP extension: void zob_decide_bytes(zob_byte_run *run)
 *
 *   r0 next bytes        r3, r12 even and odd codes, 16 bits each       lr run
 *   r1 next taps         r4-r7   taps of two pixels
 *   r2 rounds left       r8-r11  sums of the four pixels */
#include "zob_core.h"

#if defined(__ARM_FEATURE_DSP) && defined(__thumb2__)
    .syntax unified
    .thumb

    .equ ENTRY, 12
#if ZOB_SMALL
    .equ ROUND_LOG, 0       /* quads that a round is unrolled to: 2^ROUND_LOG */
#else
    .equ ROUND_LOG, 2
#endif
    .equ ROUND, 1 << ROUND_LOG
    .equ INTERVALS, 32

/* A quad of codes at four pixels: 13 instructions for 16 products. All of them have 4 bytes. */
.macro quad
    ldr     r3, [r0], #4
    ldmia.w r1!, {r4-r7}
    uxtb16  r12, r3, ror #8
    uxtb16  r3, r3
    smlad   r8, r4, r3, r8
    smlad   r9, r6, r3, r9
    smlad   r8, r5, r12, r8
    smlad   r9, r7, r12, r9
    ldmia.w r1!, {r4-r7}
    smlad   r10, r4, r3, r10
    smlad   r11, r6, r3, r11
    smlad   r10, r5, r12, r10
    smlad   r11, r7, r12, r11
.endm
    .equ QUAD_BYTES, 13 * 4

/* Shift the bit of a sum in: r0 is the first number of its interval, r2 their count. */
.macro decide bits, sum
    sub     \sum, \sum, r0
    cmp     \sum, r2
    adc     \bits, \bits, \bits
.endm

    .section .text.zob_decide_bytes, "ax", %progbits
    .global zob_decide_bytes
    .type   zob_decide_bytes, %function
    .thumb_func
zob_decide_bytes:
    push    {r4-r11, lr}
    mov     lr, r0
    ldr     r2, [lr, #8]        /* rounds of quads, the first one entered where as many are left as it has */
    rsb     r1, r2, #0
    and     r1, r1, #(ROUND - 1)
    mov     r0, #QUAD_BYTES
    adr     r3, 2f
    mla     r3, r1, r0, r3
    orr     r3, r3, #1
    add     r2, r2, #(ROUND - 1)
    lsr     r2, r2, #ROUND_LOG
    strd    r2, r3, [lr, #8]
1:  /* a filter */
    ldmia   lr, {r0-r3, r8-r11}
    bx      r3
    .balign 4
2:  .rept   ROUND
    quad
    .endr
    subs    r2, r2, #1
    bne     2b
    add     r3, lr, #INTERVALS
    ldmia   r3!, {r1, r2, r12}
    sub     r0, r0, r2
    str     r0, [lr]
    ldrd    r0, r2, [r1], #-8
    str     r1, [lr, #INTERVALS]
    ldmia   r3, {r4-r7}
    decide  r4, r8
    decide  r5, r9
    decide  r6, r10
    decide  r7, r11
    stmia   r3, {r4-r7}
    cmp     r1, r12
    bhs     1b
    pop     {r4-r11, pc}
    .size   zob_decide_bytes, . - zob_decide_bytes
#endif
