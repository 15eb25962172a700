/* Element by element, over rows of consecutive channels: what zob_steps.c does in C, and zob_fp.S on cores with a
 * floating-point unit. No part of the engine's interface. */
#ifndef ZOB_STEPS_H
#define ZOB_STEPS_H

#include "zob_core.h"

#if !ZOB_SMALL && defined(__ARM_FP) && (__ARM_FP & 4) && defined(__ARM_FEATURE_DSP) && defined(__thumb2__)
#define ZOB_FP 1 /* zob_fp.S: loads of many registers, and bits from flags */
#endif

#ifndef __ASSEMBLER__
#include <stdint.h>

#define ZOB_FP_ROW 8u /* the functions below take rows of a multiple of so many elements, at least one */

/* x[i] * y[i]; x[i] + y[i]; x[i] where x[i] >= 0, else x[i] * slope[i];
 * the floats of whole numbers; a copy. */
void zob_fp_mul(float *x, const float *y, uint32_t count);
void zob_fp_add(float *x, const float *y, uint32_t count);
void zob_fp_prelu(float *x, const float *slope, uint32_t count);
void zob_fp_of_int(float *x, const int32_t *sums, uint32_t count);
void zob_fp_copy(float *to, const float *x, uint32_t count);

/* scale[0] * (code i - zero point), the zero point being the whole number that follows scale[0] in memory; codes of so
 * many bits, the first of which is a byte's first bit. */
void zob_fp_of_codes_4(float *x, const uint8_t *codes, const float *scale, uint32_t count);
void zob_fp_of_codes_6(float *x, const uint8_t *codes, const float *scale, uint32_t count);
void zob_fp_of_codes_8(float *x, const uint8_t *codes, const float *scale, uint32_t count);
void zob_fp_of_codes_12(float *x, const uint8_t *codes, const float *scale, uint32_t count);
void zob_fp_of_codes_16(float *x, const uint8_t *codes, const float *scale, uint32_t count);

#if defined(ZOB_FP) && !defined(ZOB_MVE_FP)
/* The same of bytes, in rows of a multiple of ZOB_FP_WIDE_ROW. */
#define ZOB_FP_WIDE_ROW 16u
void zob_fp_of_codes_8_wide(float *x, const uint8_t *codes, const float *scale, uint32_t count);
#endif

/* Of cores without a floating-point unit: a scale of codes, mantissa * 2^(exponent - 150), with which no product but 0 is
 * too large or too small for a normal float. The mantissa has 24 bits, the first of them set. */
typedef struct {
    uint32_t mantissa, exponent;
    int32_t zero_point;
} zob_soft_scale;

/* scale * the whole number that lies at x[i]; scale * (codes[i] - zero point); with Thumb-2. At least one element. */
#ifdef ZOB_THUMB2
void zob_soft_of_steps(float *x, const zob_soft_scale *scale, uint32_t count);
void zob_soft_of_bytes(float *x, const zob_soft_scale *scale, uint32_t count, const uint8_t *codes);
#endif

/* sums[i] * values[i], at least one; of sums from -2^24 to 2^24, and of values that are zeros or whose products with these
 * are normal floats. */
#ifdef ZOB_SOFT
void zob_soft_of_sums(float *x, const int32_t *sums, const float *values, uint32_t count);
#endif

/* Bit i of the result: x[i] < limit[i]; x[i] < 0; x[i] < (x[i] < 0 ? -bound : bound). At most 32 elements. */
uint32_t zob_fp_below(const float *x, const float *limit, uint32_t count);
uint32_t zob_fp_negative(const float *x, uint32_t count);
uint32_t zob_fp_low(const float *x, const float *bound, uint32_t count);

#endif
#endif
