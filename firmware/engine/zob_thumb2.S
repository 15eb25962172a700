/* Adding up table rows (zob_rows.h) on Armv7-M and Armv8-M Mainline, with and without the DSP extension.
 *
 *     void zob_add_words(const zob_pixel_run *run);     void zob_add_halves(const zob_pixel_run *run);
 *
 * A row is two words of eight counts of four bits. Up to three rows are added as they are, at most 4 + 4 + 4 in each
 * count; then their even counts are added to the counts of eight bits E, and the whole, shifted by four, to S: S holds
 * the odd counts plus 16 times the even ones of the next byte, which are taken off when counts are widened.
 *
 *   r0 groups of the word      r4 word
 *   r1 next word of the input  r5 address of a row         r11, r12 E and S of the rows' first words
 *   r2 words left              r6, r7 sum of rows          lr, r3   E and S of their second words
 *                              r8, r9 a row
 * The stack holds a copy of the run, brought up to the pixel, and below it where its sums are and the next stretch. */
#include "zob_rows.h"

#if defined(ZOB_THUMB2) || defined(ZOB_MVE)

    .syntax unified
    .thumb

    .equ STRETCHES, 0
    .equ TABLES, 8          /* and INPUT */
    .equ INPUT, 12          /* and STEP */
    .equ FROM, 20           /* and FROM_STEP */
    .equ PIXELS, 28
    .equ SUMS, 32           /* and AT */
    .equ AT, 36             /* sums to be added to next: those of `from`, then those of `sums` */
    .equ NEXT, 40           /* next stretch */
    .equ FRAME, 48

/* Words of the input are looked up group by group. `base` is where r0 points, in bytes from the first group of the
 * macro at hand; it is moved on where a group is out of reach of a load's offset. */
#ifdef ZOB_MVE
    .equ GROUP, 256
    .equ REACH, 256
    .equ SKEW, 256          /* offsets may be negative: one group lies before r0 */
#else
    .equ GROUP, 128
    .equ REACH, 896
    .equ SKEW, 0
#endif

.macro begin
    .set    base, SKEW
.endm

/* Where group \group may be the first: a label, and what r0 is to be moved by before. */
.macro enter label, move, group
    .set    \move, base - SKEW - \group * GROUP
\label:
.endm

.macro end groups
    add     r0, r0, #(\groups * GROUP + SKEW - base)
.endm

/* r5 + \group * GROUP - base = row of the four bits of r4 from \shift on */
.macro row group, shift
    .if \group * GROUP - base > REACH
    add     r0, r0, #(\group * GROUP + SKEW - base)
    .set    base, \group * GROUP + SKEW
    .endif
    .if \shift == 0
    and     r5, r4, #15
    .elseif \shift == 28
    lsr     r5, r4, #28
    .else
    ubfx    r5, r4, #\shift, #4
    .endif
#ifdef ZOB_MVE
    add     r5, r0, r5, lsl #4
#else
    add     r5, r0, r5, lsl #3
#endif
.endm

.macro first group, shift
    row     \group, \shift
#ifdef ZOB_MVE
    vldrw.u32 q2, [r5, #(\group * GROUP - base)]
#else
    ldrd    r6, r7, [r5, #(\group * GROUP - base)]
#endif
.endm

.macro then group, shift
    row     \group, \shift
#ifdef ZOB_MVE
    vldrw.u32 q3, [r5, #(\group * GROUP - base)]
    vadd.i8 q2, q2, q3
#else
    ldrd    r8, r9, [r5, #(\group * GROUP - base)]
    add     r6, r6, r8
    add     r7, r7, r9
#endif
.endm

.macro keep
#ifdef ZOB_MVE
    vand    q3, q2, q4
    vshr.u8 q2, q2, #4
    vadd.i8 q0, q0, q3
    vadd.i8 q1, q1, q2
#else
    and     r8, r6, #0x0F0F0F0F
    and     r9, r7, #0x0F0F0F0F
    add     r11, r11, r8
    add     lr, lr, r9
    add     r12, r12, r6, lsr #4
    add     r3, r3, r7, lsr #4
#endif
.endm

.macro word
    ldr     r4, [r1], #4
.endm

/* Three words of eight groups, whose 24 rows make eight threes. It may be entered where the second or the third of them
 * is loaded, with no rows added yet. */
.macro three_words
    begin
    word
    first   0, 0
    then    1, 4
    then    2, 8
    keep
    first   3, 12
    then    4, 16
    then    5, 20
    keep
    first   6, 24
    then    7, 28
    enter   8, second, 8
    word
    then    8, 0
    keep
    first   9, 4
    then    10, 8
    then    11, 12
    keep
    first   12, 16
    then    13, 20
    then    14, 24
    keep
    first   15, 28
    enter   9, third, 16
    word
    then    16, 0
    then    17, 4
    keep
    first   18, 8
    then    19, 12
    then    20, 16
    keep
    first   21, 20
    then    22, 24
    then    23, 28
    keep
    end     24
.endm

/* The same of four groups each. */
.macro three_halves
    begin
    word
    first   0, 0
    then    1, 4
    then    2, 8
    keep
    first   3, 12
    enter   8, second, 4
    word
    then    4, 0
    then    5, 4
    keep
    first   6, 8
    then    7, 12
    enter   9, third, 8
    word
    then    8, 0
    keep
    first   9, 4
    then    10, 8
    then    11, 12
    keep
    end     12
.endm

.macro add_rows name, three
    .section .text.\name, "ax", %progbits
    .global \name
    .type   \name, %function
    .thumb_func
\name:
    push    {r4-r11, lr}
#ifdef ZOB_MVE
    vpush   {d8-d9}
    vmov.i8 q4, #15
#endif
    ldmia   r0, {r1-r9}
    sub     sp, sp, #FRAME
    stmia   sp, {r1-r9}
    mov     r8, r1
1:  /* a pixel */
    ldr     r4, [sp, #FROM]
    str     r4, [sp, #AT]
2:  /* counts of eight bits begin anew */
#ifdef ZOB_MVE
    vmov.i8 q0, #0
    vmov.i8 q1, #0
#else
    mov     r11, #0
    mov     r12, #0
    mov     lr, #0
    mov     r3, #0
#endif
3:  /* a stretch */
    ldmia   r8!, {r1, r2, r4, r5}
    ldrd    r6, r7, [sp, #TABLES]
    str     r8, [sp, #NEXT]
    add     r0, r6, r4
    add     r1, r1, r7
#ifdef ZOB_MVE
    add     r0, r0, #SKEW
#endif
    subs    r2, r2, #3
    blt     5f
4:  \three
    subs    r2, r2, #3
    bge     4b
5:  cmn     r2, #2          /* one word is left, or two; or less, where they were */
    blt     7f
#ifdef ZOB_MVE
    vmov.i8 q2, #0
#else
    mov     r6, #0
    mov     r7, #0
#endif
    beq     6f
    add     r0, r0, #second
    b       8b
6:  add     r0, r0, #third
    b       9b
7:  ldr     r8, [sp, #NEXT]
    ldr     r4, [r8, #-4]
    cmp     r4, #ZOB_WIDEN
    blo     3b
    /* widen; flags stay */
#ifdef ZOB_MVE
    ldrd    r1, r0, [sp, #SUMS]
    str     r1, [sp, #AT]
    .irp    counts, q0, q1
    vldrh.u16 q2, [r0], #16
    vmovlb.u8 q3, \counts
    vadd.i16 q2, q2, q3
    vstrh.16 q2, [r1], #16
    vldrh.u16 q2, [r0], #16
    vmovlt.u8 q3, \counts
    vadd.i16 q2, q2, q3
    vstrh.16 q2, [r1], #16
    .endr
#else
    lsr     r4, r11, #8
    sub     r12, r12, r4, lsl #4
    lsr     r4, lr, #8
    sub     r3, r3, r4, lsl #4
    ldrd    r1, r0, [sp, #SUMS]
    str     r1, [sp, #AT]
    ldmia   r0!, {r4-r7}
#ifdef __ARM_FEATURE_DSP
    uxtab16 r4, r4, r11
    uxtab16 r5, r5, r11, ror #8
    uxtab16 r6, r6, r12
    uxtab16 r7, r7, r12, ror #8
    stmia   r1!, {r4-r7}
    ldmia   r0, {r4-r7}
    uxtab16 r4, r4, lr
    uxtab16 r5, r5, lr, ror #8
    uxtab16 r6, r6, r3
    uxtab16 r7, r7, r3, ror #8
#else
    and     r2, r11, #0x00FF00FF
    and     r11, r11, #0xFF00FF00
    add     r4, r4, r2
    add     r5, r5, r11, lsr #8
    and     r2, r12, #0x00FF00FF
    and     r12, r12, #0xFF00FF00
    add     r6, r6, r2
    add     r7, r7, r12, lsr #8
    stmia   r1!, {r4-r7}
    ldmia   r0, {r4-r7}
    and     r2, lr, #0x00FF00FF
    and     lr, lr, #0xFF00FF00
    add     r4, r4, r2
    add     r5, r5, lr, lsr #8
    and     r2, r3, #0x00FF00FF
    and     r3, r3, #0xFF00FF00
    add     r6, r6, r2
    add     r7, r7, r3, lsr #8
#endif
    stmia   r1!, {r4-r7}
#endif
    beq     2b
    /* the next pixel */
    str     r1, [sp, #SUMS]
    ldrd    r4, r5, [sp, #INPUT]
    add     r4, r4, r5
    str     r4, [sp, #INPUT]
    ldrd    r4, r5, [sp, #FROM]
    add     r4, r4, r5
    str     r4, [sp, #FROM]
    ldr     r8, [sp, #STRETCHES]
    ldr     r4, [sp, #PIXELS]
    subs    r4, r4, #1
    str     r4, [sp, #PIXELS]
    bne     1b
    add     sp, sp, #FRAME
#ifdef ZOB_MVE
    vpop    {d8-d9}
#endif
    pop     {r4-r11, pc}
    .size   \name, . - \name
.endm

    add_rows zob_add_words, three_words
    add_rows zob_add_halves, three_halves

#ifndef ZOB_MVE /* zob_mve.c */

/* void zob_expand(uint32_t *table r0, const uint32_t *weights r1, uint32_t groups r2)
 *
 * Rows 0 to 3, eight words, are made from their bit planes; rows 4 to 7 are the same plus what bit 2 changes, then rows
 * 8 to 11 and 12 to 15 follow likewise: bit 3 set and bit 2 cleared, bit 2 set. */

/* \r0..\r3: a word of rows 0 to 3 of \weights; \two: what bit 2 changes; \three: what setting bit 3 and clearing bit 2
 * does. r12 = 0x11111111; \weights may be \three. */
.macro quad r0, r1, r2, r3, two, three, weights
    and     \r1, r12, \weights
    and     \r2, r12, \weights, lsr #1
    and     \two, r12, \weights, lsr #2
    and     \three, r12, \weights, lsr #3
    add     \r0, \r1, \r2
    add     \r0, \r0, \two
    add     \r0, \r0, \three
    sub     \r1, r12, \r1, lsl #1
    sub     \r2, r12, \r2, lsl #1
    add     \r1, \r1, \r0
    add     \r3, \r1, \r2
    add     \r2, \r2, \r0
    sub     \three, \two, \three
    lsl     \three, \three, #1
    sub     \two, r12, \two, lsl #1
.endm

.macro next_rows even, odd
    add     r4, r4, \even
    add     r5, r5, \odd
    add     r6, r6, \even
    add     r7, r7, \odd
    add     r8, r8, \even
    add     r9, r9, \odd
    add     r10, r10, \even
    add     r11, r11, \odd
    stmia   r0!, {r4-r11}
.endm

    .section .text.zob_expand, "ax", %progbits
    .global zob_expand
    .type   zob_expand, %function
    .thumb_func
zob_expand:
    push    {r4-r11, lr}
    add     r2, r1, r2, lsl #2
    push    {r2}
1:  ldr     lr, [r1, #32]
    ldr     r3, [r1], #4
    mov     r12, #0x11111111
    push    {r1}
    quad    r4, r6, r8, r10, r2, r3, r3
    quad    r5, r7, r9, r11, r1, lr, lr
    stmia   r0!, {r4-r11}
    next_rows r2, r1
    next_rows r3, lr
    next_rows r2, r1
    pop     {r1}
    ldr     r2, [sp]
    cmp     r1, r2
    bne     1b
    pop     {r2, r4-r11, pc}
    .size   zob_expand, . - zob_expand

/* uint32_t zob_signs(const uint32_t *sums r0): filter f is in the lower half of word f, or in the upper half of word
 * f - 8. */
    .section .text.zob_signs, "ax", %progbits
    .global zob_signs
    .type   zob_signs, %function
    .thumb_func
zob_signs:
    push    {r4-r8}
    ldmia   r0, {r1-r8}
    and     r0, r1, #0x80008000
    .irp    word, r2, r3, r4, r5, r6, r7, r8
    and     \word, \word, #0x80008000
    orr     r0, \word, r0, lsr #1
    .endr
    pop     {r4-r8}
    lsr     r1, r0, #16
    ubfx    r0, r0, #8, #8
    bfi     r1, r0, #0, #8
    mov     r0, r1
    bx      lr
    .size   zob_signs, . - zob_signs

#endif
#endif
