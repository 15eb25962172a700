/* Adding up table rows (zob_rows.h) on Armv6-M. What is done is described in zob_thumb2.S; only eight registers can be
 * used for everything, so that the counts are in the others, where they can be added to.
 *
 *   r0 groups, moved on       r4 word of the input         r8, r9    E and S of the rows' first words
 *   r1 0x78: 15 rows of 8     r5 address of a row; works   r10, r11  E and S of their second words
 *   r2, r3 sum of rows        r6, r7 a row                 r12 next word of the input    lr 0x0F0F0F0F */
#include "zob_rows.h"

#ifdef ZOB_THUMB1

    .syntax unified
    .thumb

    /* the stack: a copy of the run, brought up to the pixel, and what follows */
    .equ STRETCHES, 0
    .equ TABLES, 8
    .equ INPUT, 12
    .equ STEP, 16
    .equ FROM, 20
    .equ FROM_STEP, 24
    .equ PIXELS, 28
    .equ SUMS, 32
    .equ AT, 36             /* sums to be added to next: those of `from`, then those of `sums` */
    .equ NEXT, 40           /* next stretch */
    .equ STOP, 44           /* end of the stretch's words */
    .equ FRAME, 48

/* r5 = row of the four bits of r4 from \shift on in the group at r0, which moves on */
.macro row shift
    .if \shift == 0
    lsls    r5, r4, #3
    .else
    lsrs    r5, r4, #(\shift - 3)
    .endif
    ands    r5, r5, r1
    adds    r5, r5, r0
    adds    r0, #128
.endm

.macro first shift
    row     \shift
    ldmia   r5!, {r2, r3}
.endm

.macro then shift
    row     \shift
    ldmia   r5!, {r6, r7}
    adds    r2, r2, r6
    adds    r3, r3, r7
.endm

.macro keep
    mov     r5, lr
    mov     r6, r2
    ands    r6, r6, r5
    ands    r5, r5, r3
    lsrs    r2, r2, #4
    lsrs    r3, r3, #4
    add     r8, r8, r6
    add     r9, r9, r2
    add     r10, r10, r5
    add     r11, r11, r3
.endm

/* A word of eight groups. */
.macro one_word
    first   0
    then    4
    then    8
    keep
    first   12
    then    16
    then    20
    keep
    first   24
    then    28
    keep
.endm

/* A word of four groups. */
.macro one_half
    first   0
    then    4
    then    8
    keep
    first   12
    keep
.endm

/* Two words of sums, at r0, plus the bytes of \counts: 0 and 2 to the first, 1 and 3 to the second; to r1.
 * r7 = 0x00FF00FF. */
.macro add_bytes counts
    ldmia   r0!, {r4, r5}
    mov     r6, \counts
    ands    r6, r6, r7
    lsrs    \counts, \counts, #8
    ands    \counts, \counts, r7
    adds    r4, r4, r6
    adds    r5, r5, \counts
    stmia   r1!, {r4, r5}
.endm

.macro widen even, shifted
    mov     r2, \even
    mov     r3, \shifted
    lsrs    r4, r2, #8
    lsls    r4, r4, #4
    subs    r3, r3, r4
    add_bytes r2
    add_bytes r3
.endm

.macro add_rows name, one
    .section .text.\name, "ax", %progbits
    .global \name
    .type   \name, %function
    .thumb_func
\name:
    push    {r4-r7, lr}
    mov     r4, r8
    mov     r5, r9
    mov     r6, r10
    mov     r7, r11
    push    {r4-r7}
    sub     sp, sp, #FRAME
    mov     r1, sp
    ldmia   r0!, {r2-r6}
    stmia   r1!, {r2-r6}
    ldmia   r0!, {r2-r5}
    stmia   r1!, {r2-r5}
    ldr     r5, =0x0F0F0F0F
    mov     lr, r5
1:  /* a pixel */
    ldr     r5, [sp, #FROM]
    str     r5, [sp, #AT]
    ldr     r5, [sp, #STRETCHES]
    str     r5, [sp, #NEXT]
2:  /* counts of eight bits begin anew */
    movs    r5, #0
    mov     r8, r5
    mov     r9, r5
    mov     r10, r5
    mov     r11, r5
3:  /* a stretch */
    ldr     r7, [sp, #NEXT]
    ldmia   r7!, {r2-r5}
    str     r7, [sp, #NEXT]
    ldr     r0, [sp, #TABLES]
    adds    r0, r0, r4
    ldr     r6, [sp, #INPUT]
    adds    r2, r2, r6
    mov     r12, r2
    lsls    r3, r3, #2
    adds    r3, r3, r2
    str     r3, [sp, #STOP]
    movs    r1, #0x78
4:  mov     r5, r12
    ldmia   r5!, {r4}
    mov     r12, r5
    \one
    ldr     r5, [sp, #STOP]
    cmp     r12, r5
    bne     4b
    ldr     r7, [sp, #NEXT]
    subs    r7, r7, #4
    ldr     r5, [r7]
    cmp     r5, #0
    beq     3b
    ldr     r0, [sp, #AT]
    ldr     r1, [sp, #SUMS]
    str     r1, [sp, #AT]
    ldr     r7, =0x00FF00FF
    widen   r8, r9
    widen   r10, r11
    ldr     r7, [sp, #NEXT]
    subs    r7, r7, #4
    ldr     r5, [r7]
    cmp     r5, #ZOB_WIDEN
    bne     5f
    b       2b
5:  /* the next pixel */
    str     r1, [sp, #SUMS]
    ldr     r4, [sp, #INPUT]
    ldr     r5, [sp, #STEP]
    adds    r4, r4, r5
    str     r4, [sp, #INPUT]
    ldr     r4, [sp, #FROM]
    ldr     r5, [sp, #FROM_STEP]
    adds    r4, r4, r5
    str     r4, [sp, #FROM]
    ldr     r4, [sp, #PIXELS]
    subs    r4, r4, #1
    str     r4, [sp, #PIXELS]
    beq     6f
    b       1b
6:  add     sp, sp, #FRAME
    pop     {r4-r7}
    mov     r8, r4
    mov     r9, r5
    mov     r10, r6
    mov     r11, r7
    pop     {r4-r7, pc}
    .ltorg
    .size   \name, . - \name
.endm

/* void zob_expand(uint32_t *table r0, const uint32_t *weights r1, uint32_t groups r2)
 *
 * From one row to the next the lowest 0 of its number is set and all below are cleared: four steps, two words each. The
 * row is in r2, r3; the steps of bit 0 in r4, r5, of bit 1 in r6, r7, of bit 2 in r8, r10, of bit 3 in r9, r11. */

/* Of the weights in r5, with r4 = 0x11111111: row 0 in r3; the steps of bits 0 to 3 in r8, r9, r6, r7. r2 is lost. */
.macro steps
    mov     r6, r5
    ands    r6, r6, r4          /* weight bit 0 */
    lsrs    r7, r5, #1
    ands    r7, r7, r4
    adds    r3, r6, r7          /* row 0, so far */
    lsls    r6, r6, #1
    subs    r6, r4, r6          /* set 0 */
    lsls    r7, r7, #1
    subs    r7, r4, r7          /* set 1 */
    mov     r8, r6
    adds    r2, r6, r7          /* what is cleared by setting bit 2 */
    subs    r7, r7, r6
    mov     r9, r7
    lsrs    r6, r5, #2
    ands    r6, r6, r4
    adds    r3, r3, r6
    lsls    r6, r6, #1
    subs    r6, r4, r6          /* set 2 */
    lsrs    r7, r5, #3
    ands    r7, r7, r4
    adds    r3, r3, r7
    lsls    r7, r7, #1
    subs    r7, r4, r7          /* set 3 */
    subs    r7, r7, r2
    subs    r7, r7, r6
    subs    r6, r6, r2
.endm

    .section .text.zob_expand, "ax", %progbits
    .global zob_expand
    .type   zob_expand, %function
    .thumb_func
zob_expand:
    push    {r4-r7, lr}
    mov     r4, r8
    mov     r5, r9
    mov     r6, r10
    mov     r7, r11
    push    {r4-r7}
    lsls    r2, r2, #2
    adds    r2, r2, r1
    mov     r12, r2
1:  push    {r1}
    ldr     r4, =0x11111111
    ldr     r5, [r1, #32]
    steps
    push    {r3, r6, r7}        /* the second word: row 0, steps 2 and 3 */
    mov     r10, r8
    mov     r11, r9             /* steps 0 and 1 */
    ldr     r5, [r1]
    steps
    mov     r2, r3
    mov     r4, r8
    mov     r1, r9
    mov     r8, r6
    mov     r9, r7
    mov     r6, r1
    mov     r5, r10
    mov     r7, r11
    pop     {r1, r3}
    mov     r10, r3
    mov     r3, r1
    pop     {r1}
    mov     r11, r1
    .irp    bit, 0, 1, 0, 2, 0, 1, 0, 3, 0, 1, 0, 2, 0, 1, 0
    stmia   r0!, {r2, r3}
    .if \bit == 0
    adds    r2, r2, r4
    adds    r3, r3, r5
    .elseif \bit == 1
    adds    r2, r2, r6
    adds    r3, r3, r7
    .elseif \bit == 2
    add     r2, r2, r8
    add     r3, r3, r10
    .else
    add     r2, r2, r9
    add     r3, r3, r11
    .endif
    .endr
    stmia   r0!, {r2, r3}
    pop     {r1}
    adds    r1, r1, #4
    cmp     r1, r12
    beq     2f
    b       1b
2:  pop     {r4-r7}
    mov     r8, r4
    mov     r9, r5
    mov     r10, r6
    mov     r11, r7
    pop     {r4-r7, pc}
    .ltorg
    .size   zob_expand, . - zob_expand

    add_rows zob_add_words, one_word
    add_rows zob_add_halves, one_half

#endif
