/* Values of codes, and products with them, in integers, on Thumb-2 cores without a floating-point unit: contracts in
 * zob_steps.h.
 *
 * A factor that is shifted up to bit 31, times a mantissa of 24 bits, has 23 or 24 bits in its upper word and what is
 * beyond the mantissa in its lower one. Comparing that with a half sets the carry flag where it is no less: the addition
 * that joins mantissa and exponent rounds up with it, also into the exponent. Of a tie the last bit is then cleared. */
#include "zob_steps.h"
#ifdef ZOB_SOFT
    .syntax unified
    .thumb

/* r4 * r1 with the exponent \base: the product in r7 and r6, the result's exponent in r5. */
.macro PRODUCT base
    clz   r5, r4
    lsl   r4, r4, r5
    umull r6, r7, r4, r1
    sub   r5, \base, r5
.endm

/* The next factor and its flags come of \take. */
.macro OF name, take
    .section .text.\name, "ax", %progbits
    .global \name
    .type \name, %function
    .thumb_func
\name:
    push  {r4-r9}
    ldr   r8, [r1, #8]
    mov   r9, r3
    mov   r3, r2
    ldrd  r1, r2, [r1]
    adds  r2, r2, #31               /* the exponent's field, less the one that the mantissa's first bit adds */
    add   r12, r2, #256             /* with the sign above it */
1:  \take
    ble   6f
    PRODUCT r2
2:  cmp   r7, #0x800000
    bhs   3f
    adds  r6, r6, r6
    adc   r7, r7, r7
    sub   r5, r5, #1
3:  cmp   r6, #0x80000000
    adc   r7, r7, r5, lsl #23
    beq   5f
4:  str   r7, [r0], #4
    subs  r3, r3, #1
    bne   1b
    pop   {r4-r9}
    bx    lr
5:  bic   r7, r7, #1
    b     4b
6:  mov   r7, #0
    beq   4b
    rsb   r4, r4, #0
    PRODUCT r12
    b     2b
.endm

.macro STEP
    ldr   r4, [r0]
    cmp   r4, #0
.endm
    OF zob_soft_of_steps, STEP

.macro BYTE
    ldrb  r4, [r9], #1
    subs  r4, r4, r8
.endm
    OF zob_soft_of_bytes, BYTE

/* r4 is the sum, r5 the value. Above its exponent's field lies its sign, which is carried along. */
    .section .text.zob_soft_of_sums, "ax", %progbits
    .global zob_soft_of_sums
    .type zob_soft_of_sums, %function
    .thumb_func
zob_soft_of_sums:
    push  {r4-r8}
1:  ldr   r4, [r1], #4
    ldr   r5, [r2], #4
    cmp   r4, #0
    ble   6f
2:  lsls  r6, r5, #1
    beq   7f
    ubfx  r7, r5, #0, #23
    orr   r7, r7, #0x800000
    clz   r8, r4
    lsl   r4, r4, r8
    umull r6, r7, r4, r7
    rsb   r8, r8, #31               /* the exponent's field, less the one that the mantissa's first bit adds, is more by */
    add   r5, r8, r5, lsr #23
    cmp   r7, #0x800000
    bhs   3f
    adds  r6, r6, r6
    adc   r7, r7, r7
    sub   r5, r5, #1
3:  cmp   r6, #0x80000000
    adc   r5, r7, r5, lsl #23
    beq   5f
4:  str   r5, [r0], #4
    subs  r3, r3, #1
    bne   1b
    pop   {r4-r8}
    bx    lr
5:  bic   r5, r5, #1
    b     4b
6:  beq   7f
    rsb   r4, r4, #0
    eor   r5, r5, #0x80000000
    b     2b
7:  and   r5, r5, #0x80000000       /* +0 times a value, or a zero with its sign */
    b     4b
    .size zob_soft_of_sums, . - zob_soft_of_sums
#endif
