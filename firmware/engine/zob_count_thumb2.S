/* Counting differing bits (zob_count.c) on Armv7-M and Armv8-M Mainline, with and without the DSP extension.
 *
 *     uint32_t zob_count_differing(const uint32_t *x, const uint32_t *w, uint32_t words);
 *
 * The steps are those of the C version; the masks are in registers, where a shift of the other operand is free.
 *   r0 x   r1 w   r2 words left, less 3   r3-r8 work   r9 0x55555555   r10 0x33333333   r11 0x0F0F0F0F
 * With the DSP extension, which adds up the bytes of a word: r12 the count so far   lr 0. Without:
 *   r12 sum of counts of four bits   lr sum of the upper ones of each byte   [sp] the count so far */
#include "zob_core.h"

#if defined(ZOB_THUMB2) || defined(ZOB_MVE)

    .syntax unified
    .thumb

#ifdef __ARM_FEATURE_DSP
/* The count so far += the counts of four bits in \q. */
.macro add_bytes q
    and     r6, r11, \q
    and     \q, r11, \q, lsr #4
    add     \q, \q, r6
    usada8  r12, \q, lr, r12
.endm
#endif

/* Three words. */
.macro triple
    ldmia   r0!, {r3, r4, r5}
    ldmia   r1!, {r6, r7, r8}
    eor     r3, r3, r6
    eor     r4, r4, r7
    eor     r5, r5, r8
    and     r6, r9, r3, lsr #1
    sub     r3, r3, r6
    and     r6, r9, r4
    add     r3, r3, r6              /* sixteen counts of two bits */
    and     r6, r9, r5, lsr #1
    sub     r5, r5, r6
    and     r6, r9, r4, lsr #1
    add     r5, r5, r6              /* and sixteen more */
    and     r6, r10, r3, lsr #2
    and     r7, r10, r5, lsr #2
    add     r6, r6, r7
    add     r3, r3, r5
    sub     r3, r3, r6
    sub     r3, r3, r6, lsl #1      /* eight counts of four bits, at most 12 */
#ifdef __ARM_FEATURE_DSP
    add_bytes r3
#else
    add     r12, r12, r3
    and     r3, r11, r3, lsr #4
    add     lr, lr, r3
#endif
.endm

#ifndef __ARM_FEATURE_DSP
/* The count so far += the sum of the bytes of r12 - 15 * lr, each at most 144. */
.macro flush
    rsb     lr, lr, lr, lsl #4
    sub     r12, r12, lr
    ldr     r4, [sp]
    and     r3, r12, #0x00FF00FF
    and     r12, r12, #0xFF00FF00
    add     r3, r3, r12, lsr #8
    add     r3, r3, r3, lsl #16
    add     r4, r4, r3, lsr #16
    str     r4, [sp]
.endm
#endif

    .section .text.zob_count_differing, "ax", %progbits
    .global zob_count_differing
    .type   zob_count_differing, %function
    .thumb_func
zob_count_differing:
    push    {r4-r11, lr}
    mov     r9, #0x55555555
    mov     r10, #0x33333333
    mov     r11, #0x0F0F0F0F
#ifdef __ARM_FEATURE_DSP
    mov     r12, #0
    mov     lr, #0
    subs    r2, r2, #3
    blo     3f
1:  triple
    subs    r2, r2, #3
    bhs     1b
3:  adds    r2, r2, #3
    beq     5f
4:  ldr     r3, [r0], #4            /* one or two words are left */
    ldr     r4, [r1], #4
    eor     r3, r3, r4
    and     r4, r9, r3, lsr #1
    sub     r3, r3, r4
    and     r4, r10, r3, lsr #2
    and     r3, r3, r10
    add     r3, r3, r4
    add_bytes r3
    subs    r2, r2, #1
    bne     4b
5:  mov     r0, r12
    pop     {r4-r11, pc}
#else
    mov     r3, #0
    push    {r3}
    subs    r2, r2, #3
    blo     3f
1:  mov     r12, #0
    mov     lr, #0
#if ZOB_SMALL
    .equ TRIPLES, 1                 /* that are added before a flush: at most six fit counts of eight bits */
#else
    .equ TRIPLES, 3
#endif
    .rept TRIPLES
    triple
    subs    r2, r2, #3
    blo     2f
    .endr
    flush
    b       1b
2:  flush
3:  adds    r2, r2, #3
    beq     5f
4:  ldr     r12, [r0], #4           /* one or two words are left */
    ldr     r3, [r1], #4
    mov     lr, #0
    eor     r12, r12, r3
    and     r3, r9, r12, lsr #1
    sub     r12, r12, r3
    and     r3, r10, r12, lsr #2
    and     r12, r12, #0x33333333
    add     r12, r12, r3
    and     lr, r11, r12, lsr #4
    flush
    subs    r2, r2, #1
    bne     4b
5:  pop     {r0, r4-r11, pc}
#endif
    .size   zob_count_differing, . - zob_count_differing

#endif
