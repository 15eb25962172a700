/* Rows of floats on Armv7E-M and Armv8-M with a single-precision unit: contracts in zob_steps.h.
 *
 * Eight elements a turn, so that loading or storing eight registers is one instruction; four where each takes several
 * instructions. A comparison leaves "not below"
 * in the carry flag, also for NaN, and RRX shifts it into the result from above. */
#include "zob_steps.h"
#ifdef ZOB_FP
    .syntax unified
    .thumb

.macro FUNCTION name
    .section .text.\name, "ax", %progbits
    .global \name
    .type \name, %function
    .thumb_func
\name:
.endm

/* op s<i>, s<i>, s<j> for eight elements */
.macro BY_8 op
    \op s0, s0, s8
    \op s1, s1, s9
    \op s2, s2, s10
    \op s3, s3, s11
    \op s4, s4, s12
    \op s5, s5, s13
    \op s6, s6, s14
    \op s7, s7, s15
.endm

.macro BINARY name, op
FUNCTION \name
1:  vldmia r0, {s0-s7}
    vldmia r1!, {s8-s15}
    BY_8 \op
    vstmia r0!, {s0-s7}
    subs  r2, r2, #8
    bne   1b
    bx    lr
    .size \name, . - \name
.endm
    BINARY zob_fp_mul, vmul.f32
    BINARY zob_fp_add, vadd.f32

.macro PRELU x, slope
    vcmp.f32 \x, #0.0
    vmrs  APSR_nzcv, fpscr
    it    lt                        /* less, or NaN */
    vmullt.f32 \x, \x, \slope
.endm
FUNCTION zob_fp_prelu
1:  vldmia r0, {s0-s3}
    vldmia r1!, {s8-s11}
    PRELU s0, s8
    PRELU s1, s9
    PRELU s2, s10
    PRELU s3, s11
    vstmia r0!, {s0-s3}
    subs  r2, r2, #4
    bne   1b
    bx    lr
    .size zob_fp_prelu, . - zob_fp_prelu

/* The floats of eight whole numbers in s0 to s7. Vectors are for what never rounds: they flush subnormals to zero. */
.macro FLOATS_OF_8
#ifdef ZOB_MVE_FP
    vcvt.f32.s32 q0, q0
    vcvt.f32.s32 q1, q1
#else
    .irp x, s0, s1, s2, s3, s4, s5, s6, s7
    vcvt.f32.s32 \x, \x
    .endr
#endif
.endm
FUNCTION zob_fp_of_int
1:  vldmia r1!, {s0-s7}
    FLOATS_OF_8
    vstmia r0!, {s0-s7}
    subs  r2, r2, #8
    bne   1b
    bx    lr
    .size zob_fp_of_int, . - zob_fp_of_int

/* Eight whole numbers in s0 to s7, times s8. */
.macro VALUES_OF_STEPS
    FLOATS_OF_8
    .irp x, s0, s1, s2, s3, s4, s5, s6, s7
    vmul.f32 \x, \x, s8
    .endr
.endm

/* Codes of as many bits less the zero point, eight after another into r4 to r11. r1: where they lie, at any byte, so that
 * they are loaded one word at a time; r2: the zero point with its sign turned. */
.macro FIELD to, at, bits
    .if \at + \bits == 32
    add   \to, r2, r12, lsr #\at
    .else
    ubfx  \to, r12, #\at, #\bits
    add   \to, \to, r2
    .endif
.endm
.macro EIGHT_OF_4
    ldr   r12, [r1], #4
    FIELD r4, 0, 4
    FIELD r5, 4, 4
    FIELD r6, 8, 4
    FIELD r7, 12, 4
    FIELD r8, 16, 4
    FIELD r9, 20, 4
    FIELD r10, 24, 4
    FIELD r11, 28, 4
.endm
.macro EIGHT_OF_6                   /* five of four bytes, the others of the last four */
    ldr   r12, [r1], #6
    FIELD r4, 0, 6
    FIELD r5, 6, 6
    FIELD r6, 12, 6
    FIELD r7, 18, 6
    FIELD r8, 24, 6
    ldr   r12, [r1, #-4]
    FIELD r9, 14, 6
    FIELD r10, 20, 6
    FIELD r11, 26, 6
.endm
.macro FOUR_OF_8 a, b, c, d
    ldr   r12, [r1], #4
    uxtab \a, r2, r12
    uxtab \b, r2, r12, ror #8
    uxtab \c, r2, r12, ror #16
    uxtab \d, r2, r12, ror #24
.endm
.macro EIGHT_OF_8
    FOUR_OF_8 r4, r5, r6, r7
    FOUR_OF_8 r8, r9, r10, r11
.endm
.macro EIGHT_OF_12                  /* two of a word each, and where there is one before, of its last three bytes */
    ldr   r12, [r1], #12
    FIELD r4, 0, 12
    FIELD r5, 12, 12
    ldr   r12, [r1, #-10]
    FIELD r6, 8, 12
    FIELD r7, 20, 12
    ldr   r12, [r1, #-7]
    FIELD r8, 8, 12
    FIELD r9, 20, 12
    ldr   r12, [r1, #-4]
    FIELD r10, 8, 12
    FIELD r11, 20, 12
.endm
.macro TWO_OF_16 a, b
    ldr   r12, [r1], #4
    uxtah \a, r2, r12
    FIELD \b, 16, 16
.endm
.macro EIGHT_OF_16
    TWO_OF_16 r4, r5
    TWO_OF_16 r6, r7
    TWO_OF_16 r8, r9
    TWO_OF_16 r10, r11
.endm
.macro OF_CODES bits
FUNCTION zob_fp_of_codes_\bits
    vldr  s8, [r2]
    ldr   r2, [r2, #4]
    rsb   r2, r2, #0
    push  {r4-r11, lr}
1:  EIGHT_OF_\bits
    stmia r0, {r4-r11}
    vldmia r0, {s0-s7}
    VALUES_OF_STEPS
    vstmia r0!, {s0-s7}
    subs  r3, r3, #8
    bne   1b
    pop   {r4-r11, pc}
    .size zob_fp_of_codes_\bits, . - zob_fp_of_codes_\bits
.endm
    OF_CODES 4
    OF_CODES 6
#ifdef ZOB_MVE_FP
FUNCTION zob_fp_of_codes_8
    vldr  s8, [r2]
    ldr   r2, [r2, #4]
    rsb   r2, r2, #0
1:  vldrb.u32 q0, [r1], #4
    vldrb.u32 q1, [r1], #4
    vadd.i32 q0, q0, r2
    vadd.i32 q1, q1, r2
    VALUES_OF_STEPS
    vstmia r0!, {s0-s7}
    subs  r3, r3, #8
    bne   1b
    bx    lr
    .size zob_fp_of_codes_8, . - zob_fp_of_codes_8
#else
    OF_CODES 8
FUNCTION zob_fp_of_codes_8_wide
    vpush {s16}
    vldr  s16, [r2]
    ldr   r2, [r2, #4]
    rsb   r2, r2, #0
    push  {r4-r11, lr}
1:  EIGHT_OF_8
    stmia r0!, {r4-r11}
    EIGHT_OF_8
    stmia r0!, {r4-r11}
    vldmdb r0!, {s0-s15}
    .irp i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    vcvt.f32.s32 s\i, s\i
    vmul.f32 s\i, s\i, s16
    .endr
    vstmia r0!, {s0-s15}
    subs  r3, r3, #16
    bne   1b
    pop   {r4-r11, lr}
    vpop  {s16}
    bx    lr
    .size zob_fp_of_codes_8_wide, . - zob_fp_of_codes_8_wide
#endif
    OF_CODES 12
    OF_CODES 16

FUNCTION zob_fp_copy
1:  vldmia r1!, {s0-s7}
    vstmia r0!, {s0-s7}
    subs  r2, r2, #8
    bne   1b
    bx    lr
    .size zob_fp_copy, . - zob_fp_copy

/* The result is complete but for its place: r3 has "not below" of the last element in bit 31; r12 elements in all. */
.macro FINISH
    rsb   r12, r12, #32
    mvn   r0, r3
    lsr   r0, r0, r12
    bx    lr
.endm
.macro BELOW x, limit
    vcmp.f32 \x, \limit
    vmrs  APSR_nzcv, fpscr
    rrx   r3, r3
.endm
FUNCTION zob_fp_below
    mov   r12, r2
1:  vldmia r0!, {s0-s3}
    vldmia r1!, {s8-s11}
    BELOW s0, s8
    BELOW s1, s9
    BELOW s2, s10
    BELOW s3, s11
    subs  r2, r2, #4
    bne   1b
    FINISH
    .size zob_fp_below, . - zob_fp_below

FUNCTION zob_fp_negative
    mov   r12, r1
1:  vldmia r0!, {s0-s3}
    .irp x, s0, s1, s2, s3
    BELOW \x, #0.0
    .endr
    subs  r1, r1, #4
    bne   1b
    FINISH
    .size zob_fp_negative, . - zob_fp_negative

/* The bound with the sign of x: below it, or not. */
.macro LOW x
    vcmp.f32 \x, #0.0
    vmrs  APSR_nzcv, fpscr
    ite   cc
    vcmpcc.f32 \x, s9
    vcmpcs.f32 \x, s8
    vmrs  APSR_nzcv, fpscr
    rrx   r3, r3
.endm
FUNCTION zob_fp_low
    vldr  s8, [r1]
    vneg.f32 s9, s8
    mov   r12, r2
1:  vldmia r0!, {s0-s3}
    .irp x, s0, s1, s2, s3
    LOW   \x
    .endr
    subs  r2, r2, #4
    bne   1b
    FINISH
    .size zob_fp_low, . - zob_fp_low
#endif
