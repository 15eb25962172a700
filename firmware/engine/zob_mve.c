/* Rows of counts (zob_rows.h) with the M-profile vector extension: a row of 32 filters is one vector. Byte m of it has
 * filter m in its lower four bits and filter 16 + m in its upper four. They are added up in zob_thumb2.S. */
#include "zob_rows.h"

#ifdef ZOB_MVE
#include <arm_mve.h>

void zob_expand(uint32_t *table, const uint32_t *weights, uint32_t groups) {
    const uint32x4_t ones = vdupq_n_u32(0x11111111u);
    for (uint32_t g = 0; g < groups; g++, weights++, table += ZOB_GROUP_WORDS) {
        const uint32x4_t w = {weights[0], weights[8], weights[16], weights[24]};
        const uint32x4_t b0 = vandq_u32(w, ones), b1 = vandq_u32(vshrq_n_u32(w, 1), ones), b2 = vandq_u32(vshrq_n_u32(w, 2), ones),
                         b3 = vandq_u32(vshrq_n_u32(w, 3), ones);
        /* what setting bit 0, 1, 2 changes; and bit 3, with bit 2 cleared */
        const uint32x4_t set0 = vsubq_u32(ones, vaddq_u32(b0, b0)), set1 = vsubq_u32(ones, vaddq_u32(b1, b1)),
                         set2 = vsubq_u32(ones, vaddq_u32(b2, b2)), step3 = vshlq_n_u32(vsubq_u32(b2, b3), 1);
        uint32x4_t rows[4];
        rows[0] = vaddq_u32(vaddq_u32(b0, b1), vaddq_u32(b2, b3));
        rows[1] = vaddq_u32(rows[0], set0);
        rows[2] = vaddq_u32(rows[0], set1);
        rows[3] = vaddq_u32(rows[1], set1);
        for (uint32_t i = 0; i < 16u; i += 4u) {
            const uint32x4_t change = i == 4u ? step3 : set2;
            for (uint32_t k = 0; k < 4u; k++) {
                vst1q_u32(table + (i + k) * ZOB_ROW_WORDS, rows[k]);
                rows[k] = vaddq_u32(rows[k], change);
            }
        }
    }
}

uint32_t zob_signs(const uint32_t *sums) {
    const int16_t *s = (const int16_t *)(const void *)sums;
    const uint32_t even0 = vcmpltq_n_s16(vld1q_s16(s), 0), odd0 = vcmpltq_n_s16(vld1q_s16(s + 8), 0);
    const uint32_t even1 = vcmpltq_n_s16(vld1q_s16(s + 16), 0), odd1 = vcmpltq_n_s16(vld1q_s16(s + 24), 0);
    const uint32_t low = (even0 & 0x5555u) | (odd0 & 0xAAAAu), high = (even1 & 0x5555u) | (odd1 & 0xAAAAu);
    return low | high << 16;
}

#endif
