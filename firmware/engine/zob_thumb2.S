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

#ifdef ZOB_THUMB2

    .syntax unified
    .thumb
    .text

    .equ STRETCHES, 0
    .equ END, 4
    .equ TABLES, 8          /* and INPUT */
    .equ INPUT, 12          /* and STEP */
    .equ FROM, 20           /* and FROM_STEP */
    .equ SUMS, 28
    .equ PIXELS, 32
    .equ RUN_BYTES, 36
    .equ AT, 36             /* sums to be added to next: those of `from`, then those of `sums` */
    .equ NEXT, 40           /* next stretch */
    .equ FRAME, 48

/* r5 = row of the four bits of r4 from \shift on, but for its group's offset */
.macro row shift
    .if \shift == 0
    and     r5, r4, #15
    .elseif \shift == 28
    lsr     r5, r4, #28
    .else
    ubfx    r5, r4, #\shift, #4
    .endif
    add     r5, r0, r5, lsl #3
.endm

.macro first shift, offset
    row     \shift
    ldrd    r6, r7, [r5, #\offset]
.endm

.macro then shift, offset
    row     \shift
    ldrd    r8, r9, [r5, #\offset]
    add     r6, r6, r8
    add     r7, r7, r9
.endm

.macro keep
    and     r8, r6, #0x0F0F0F0F
    and     r9, r7, #0x0F0F0F0F
    add     r11, r11, r8
    add     lr, lr, r9
    add     r12, r12, r6, lsr #4
    add     r3, r3, r7, lsr #4
.endm

.macro word
    ldr     r4, [r1], #4
.endm

/* One word of eight groups. */
.macro one_word
    word
    first   0, 0
    then    4, 128
    then    8, 256
    keep
    first   12, 384
    then    16, 512
    then    20, 640
    keep
    first   24, 768
    then    28, 896
    keep
    add     r0, r0, #1024
.endm

/* Three words of eight groups, whose 24 rows make eight threes. */
.macro three_words
    word
    first   0, 0
    then    4, 128
    then    8, 256
    keep
    first   12, 384
    then    16, 512
    then    20, 640
    keep
    first   24, 768
    then    28, 896
    word
    add     r0, r0, #1024
    then    0, 0
    keep
    first   4, 128
    then    8, 256
    then    12, 384
    keep
    first   16, 512
    then    20, 640
    then    24, 768
    keep
    first   28, 896
    word
    add     r0, r0, #1024
    then    0, 0
    then    4, 128
    keep
    first   8, 256
    then    12, 384
    then    16, 512
    keep
    first   20, 640
    then    24, 768
    then    28, 896
    keep
    add     r0, r0, #1024
.endm

/* The same for words of four groups. */
.macro one_half
    word
    first   0, 0
    then    4, 128
    then    8, 256
    keep
    first   12, 384
    keep
    add     r0, r0, #512
.endm

.macro three_halves
    word
    first   0, 0
    then    4, 128
    then    8, 256
    keep
    first   12, 384
    word
    then    0, 512
    then    4, 640
    keep
    first   8, 768
    then    12, 896
    word
    add     r0, r0, #1024
    then    0, 0
    keep
    first   4, 128
    then    8, 256
    then    12, 384
    keep
    add     r0, r0, #512
.endm

.macro add_rows name, one, three
    .global \name
    .type   \name, %function
    .thumb_func
\name:
    push    {r4-r11, lr}
    ldmia   r0, {r1-r9}
    sub     sp, sp, #FRAME
    stmia   sp, {r1-r9}
    mov     r8, r1
1:  /* a pixel */
    ldr     r4, [sp, #FROM]
    str     r4, [sp, #AT]
2:  /* counts of eight bits begin anew */
    mov     r11, #0
    mov     r12, #0
    mov     lr, #0
    mov     r3, #0
3:  /* a stretch */
    ldmia   r8!, {r1, r2, r4, r5}
    ldrd    r6, r7, [sp, #TABLES]
    str     r8, [sp, #NEXT]
    add     r0, r6, r4
    add     r1, r1, r7
    subs    r2, r2, #3
    blo     5f
4:  \three
    subs    r2, r2, #3
    bhs     4b
5:  adds    r2, r2, #3
    beq     7f
6:  \one
    subs    r2, r2, #1
    bne     6b
7:  ldr     r8, [sp, #NEXT]
    ldr     r4, [r8, #-4]
    cmp     r4, #0
    beq     3b
    /* widen */
    lsr     r4, r11, #8
    sub     r12, r12, r4, lsl #4
    lsr     r4, lr, #8
    sub     r3, r3, r4, lsl #4
    ldr     r0, [sp, #AT]
    ldr     r1, [sp, #SUMS]
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
    ldr     r4, [sp, #END]
    cmp     r8, r4
    bne     2b
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
    pop     {r4-r11, pc}
    .size   \name, . - \name
.endm

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

    add_rows zob_add_words, one_word, three_words
    add_rows zob_add_halves, one_half, three_halves

#endif
