/* Eight lanes of NEON (AArch64), in two registers. */
#ifndef ZOB_LANES_H
#define ZOB_LANES_H

#include <arm_neon.h>

#include "tile.h"

#define LANES 8u

typedef struct {
    float32x4_t low, high;
} reals;
typedef struct {
    uint8x16_t low, high;
} words;
typedef uint8x8_t bytes;
typedef struct {
    uint32x4_t low, high;
} mask;

static inline reals load(const void *p) { return (reals){vld1q_f32(p), vld1q_f32((const float *)p + 4)}; }
static inline void store(void *p, reals x) {
    vst1q_f32(p, x.low);
    vst1q_f32((float *)p + 4, x.high);
}
static inline reals all(float x) { return (reals){vdupq_n_f32(x), vdupq_n_f32(x)}; }
static inline reals add(reals x, reals y) { return (reals){vaddq_f32(x.low, y.low), vaddq_f32(x.high, y.high)}; }
static inline reals multiply(reals x, reals y) { return (reals){vmulq_f32(x.low, y.low), vmulq_f32(x.high, y.high)}; }
static inline reals divide(reals x, reals y) { return (reals){vdivq_f32(x.low, y.low), vdivq_f32(x.high, y.high)}; }
static inline mask less(reals x, reals y) { return (mask){vcltq_f32(x.low, y.low), vcltq_f32(x.high, y.high)}; }
static inline reals choose(mask m, reals set, reals clear) {
    return (reals){vbslq_f32(m.low, set.low, clear.low), vbslq_f32(m.high, set.high, clear.high)};
}
/* x where x > y, else y. */
static inline reals greater_or(reals x, reals y) { return choose(less(y, x), x, y); }
/* x where x < y, else y. */
static inline reals less_or(reals x, reals y) { return choose(less(x, y), x, y); }
/* x where x >= 0, else x * slope. */
static inline reals sloped(reals x, reals slope) {
    const mask positive = {vcgezq_f32(x.low), vcgezq_f32(x.high)};
    return choose(positive, x, multiply(x, slope));
}

static inline uint32x4_t each_bit(void) {
    static const uint32_t bits[4] = {1, 2, 4, 8};
    return vld1q_u32(bits);
}
static inline mask load_bits(const uint8_t *p) {
    return (mask){vtstq_u32(vdupq_n_u32(*p), each_bit()), vtstq_u32(vdupq_n_u32(*p >> 4u), each_bit())};
}
static inline void store_bits(uint8_t *p, mask m, uint32_t valid) {
    const uint32_t low = vaddvq_u32(vandq_u32(m.low, each_bit())), high = vaddvq_u32(vandq_u32(m.high, each_bit()));
    *p = (uint8_t)((low | high << 4) & valid);
}

/* Of twins, `valid` lanes of both. */
static inline void store_twins(uint8_t *p, mask lower, mask upper, uint32_t valid) {
    store_bits(p, lower, valid);
    store_bits(p + 2, upper, valid);
}

static inline words load_words(const void *p) { return (words){vld1q_u8(p), vld1q_u8((const uint8_t *)p + 16)}; }
static inline words no_words(void) { return (words){vdupq_n_u8(0), vdupq_n_u8(0)}; }
static inline words all_words(const uint8_t *p) {
    uint32_t x;
    __builtin_memcpy(&x, p, 4);
    return (words){vreinterpretq_u8_u32(vdupq_n_u32(x)), vreinterpretq_u8_u32(vdupq_n_u32(x))};
}
static inline int32x4_t signed_of(uint8x16_t x) { return vreinterpretq_s32_u8(x); }
static inline words either(words x, words y) { return (words){vorrq_u8(x.low, y.low), vorrq_u8(x.high, y.high)}; }
static inline uint8x16_t shifted_half(uint8x16_t x, uint32_t bits) {
    return vreinterpretq_u8_u32(vshlq_u32(vreinterpretq_u32_u8(x), vdupq_n_s32((int32_t)bits)));
}
static inline words shifted(words x, uint32_t bits) {
    return (words){shifted_half(x.low, bits), shifted_half(x.high, bits)};
}
static inline mask more(words x, words y) {
    return (mask){vcgtq_s32(signed_of(x.low), signed_of(y.low)), vcgtq_s32(signed_of(x.high), signed_of(y.high))};
}
static inline void store_words(void *p, words x) {
    vst1q_u8(p, x.low);
    vst1q_u8((uint8_t *)p + 16, x.high);
}
static inline reals whole(words x) {
    return (reals){vcvtq_f32_s32(signed_of(x.low)), vcvtq_f32_s32(signed_of(x.high))};
}
/* Whole numbers below 2^24, so that nothing is rounded: x; base - 2 * count. */
static inline reals less_twice(reals base, words count) { return add(base, multiply(whole(count), all(-2.0f))); }
/* y, plus x where the mask is clear. */
static inline reals add_where_clear(mask m, reals x, reals y) { return choose(m, y, add(x, y)); }

/* Bits that differ, and how many they are in each byte: at most 8 a step. */
#define SETTLE_EVERY 31
static inline words differing(words x, words w) { return (words){veorq_u8(x.low, w.low), veorq_u8(x.high, w.high)}; }
static inline words count_ones(words count, words x, int twins) {
    (void)twins;
    return (words){vaddq_u8(count.low, vcntq_u8(x.low)), vaddq_u8(count.high, vcntq_u8(x.high))};
}
/* sum ^ next ? sum : x */
static inline words carried(words x, words sum, words next) {
    return (words){vbslq_u8(veorq_u8(sum.low, next.low), sum.low, x.low),
                   vbslq_u8(veorq_u8(sum.high, next.high), sum.high, x.high)};
}
static inline words count_once(words count, words x) { return count_ones(count, x, 0); }
static inline words count_twice(words count, words x) { return count_once(count_once(count, x), x); }
static inline uint8x16_t settle_half(uint8x16_t sum, uint8x16_t count) {
    return vreinterpretq_u8_u32(vpadalq_u16(vreinterpretq_u32_u8(sum), vpaddlq_u8(count)));
}
static inline uint8x16_t settle_twins_half(uint8x16_t sum, uint8x16_t count) {
    return vreinterpretq_u8_u16(vpadalq_u8(vreinterpretq_u16_u8(sum), count));
}
static inline words settle(words sum, words count, int twins) {
    if (!twins) return (words){settle_half(sum.low, count.low), settle_half(sum.high, count.high)};
    return (words){settle_twins_half(sum.low, count.low), settle_twins_half(sum.high, count.high)};
}
/* -4 times the upper half, and, where x is not more than `most`, -2 times the lower one. Halves are signed. */
static inline uint8x16_t gated_half(uint8x16_t x, uint8x16_t most) {
    const int32x4_t alone = vreinterpretq_s32_u32(vcgtq_s32(signed_of(x), signed_of(most)));
    const int32x4_t upper = vshrq_n_s32(signed_of(x), 16), lower = vshrq_n_s32(vshlq_n_s32(signed_of(x), 16), 16);
    const int32x4_t twice = vaddq_s32(vaddq_s32(upper, upper), vbicq_s32(lower, alone));
    return vreinterpretq_u8_s32(vnegq_s32(vaddq_s32(twice, twice)));
}
static inline words gated(words x, words most) {
    return (words){gated_half(x.low, most.low), gated_half(x.high, most.high)};
}

/* A byte a lane: x plus those at p; as words. */
static inline bytes no_bytes(void) { return vdup_n_u8(0); }
static inline bytes add_bytes(bytes x, const void *p) { return vadd_u8(x, vld1_u8(p)); }
static inline words widened(bytes x) {
    const uint16x8_t halves = vmovl_u8(x);
    return (words){vreinterpretq_u8_u32(vmovl_u16(vget_low_u16(halves))),
                   vreinterpretq_u8_u32(vmovl_u16(vget_high_u16(halves)))};
}
static inline uint8x16_t add_words_half(uint8x16_t x, uint8x16_t y) {
    return vreinterpretq_u8_s32(vaddq_s32(signed_of(x), signed_of(y)));
}
static inline words add_words(words x, words y) {
    return (words){add_words_half(x.low, y.low), add_words_half(x.high, y.high)};
}

/* Vectors of filters that products of bytes are summed up for at once, as registers hold. */
#define BYTES_AT_ONCE 1u
/* sum + the four products of unsigned bytes of x and signed bytes of w, each lane; at most 64 of w. */
static inline uint8x16_t add_products_half(uint8x16_t sum, uint8x16_t x, uint8x16_t w) {
    const int8x16_t s = vreinterpretq_s8_u8(w);
    const int16x8_t first = vmulq_s16(vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(x))), vmovl_s8(vget_low_s8(s)));
    const int16x8_t second = vmulq_s16(vreinterpretq_s16_u16(vmovl_u8(vget_high_u8(x))), vmovl_s8(vget_high_s8(s)));
    return vreinterpretq_u8_s32(vpadalq_s16(signed_of(sum), vpaddq_s16(first, second)));
}
static inline words add_byte_products(words sum, words x, words w) {
    return (words){add_products_half(sum.low, x.low, w.low), add_products_half(sum.high, x.high, w.high)};
}

#define MAPPED_AT_ONCE 1u
static inline void map_some(const uint8_t *table, const uint8_t *from, uint8_t *to) { *to = table[*from]; }

#endif
