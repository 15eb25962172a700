/* Eight lanes of AVX2: bits are counted with a table of nibbles. */
#ifndef ZOB_LANES_H
#define ZOB_LANES_H

#include <immintrin.h>

#include "tile.h"

#define LANES 8u

typedef __m256 reals;
typedef __m256i words;
typedef __m128i bytes;
typedef __m256 mask;

static inline reals load(const void *p) { return _mm256_loadu_ps(p); }
static inline void store(void *p, reals x) { _mm256_storeu_ps(p, x); }
static inline reals all(float x) { return _mm256_set1_ps(x); }
static inline reals add(reals x, reals y) { return _mm256_add_ps(x, y); }
static inline reals multiply(reals x, reals y) { return _mm256_mul_ps(x, y); }
static inline reals divide(reals x, reals y) { return _mm256_div_ps(x, y); }
/* x where x > y, else y. */
static inline reals greater_or(reals x, reals y) { return _mm256_max_ps(x, y); }
/* x where x < y, else y. */
static inline reals less_or(reals x, reals y) { return _mm256_min_ps(x, y); }
static inline mask less(reals x, reals y) { return _mm256_cmp_ps(x, y, _CMP_LT_OQ); }
static inline reals choose(mask m, reals set, reals clear) { return _mm256_blendv_ps(clear, set, m); }
/* x where x >= 0, else x * slope. */
static inline reals sloped(reals x, reals slope) {
    return _mm256_blendv_ps(x, multiply(x, slope), _mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_NGE_UQ));
}

static inline mask load_bits(const uint8_t *p) {
    const __m256i each = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    return _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(*p), each), each));
}
static inline void store_bits(uint8_t *p, mask m, uint32_t valid) {
    *p = (uint8_t)((uint32_t)_mm256_movemask_ps(m) & valid);
}

/* Of twins, `valid` lanes of both. */
static inline void store_twins(uint8_t *p, mask lower, mask upper, uint32_t valid) {
    store_bits(p, lower, valid);
    store_bits(p + 2, upper, valid);
}

static inline words load_words(const void *p) { return _mm256_loadu_si256(p); }
static inline words no_words(void) { return _mm256_setzero_si256(); }
static inline words all_words(const uint8_t *p) {
    int32_t x;
    __builtin_memcpy(&x, p, 4);
    return _mm256_set1_epi32(x);
}
static inline words either(words x, words y) { return _mm256_or_si256(x, y); }
static inline words shifted(words x, uint32_t bits) { return _mm256_slli_epi32(x, (int)bits); }
static inline mask more(words x, words y) { return _mm256_castsi256_ps(_mm256_cmpgt_epi32(x, y)); }
static inline void store_words(void *p, words x) { _mm256_storeu_si256(p, x); }
/* Whole numbers below 2^24, so that nothing is rounded: x; base - 2 * count. */
static inline reals less_twice(reals base, words count) {
    return _mm256_sub_ps(base, _mm256_cvtepi32_ps(_mm256_add_epi32(count, count)));
}
static inline reals whole(words x) { return _mm256_cvtepi32_ps(x); }
/* y, plus x where the mask is clear. */
static inline reals add_where_clear(mask m, reals x, reals y) { return choose(m, y, add(x, y)); }

/* Bits that differ, and how many they are in each byte: at most 8 a step. */
#define SETTLE_EVERY 31
static inline words differing(words x, words w) { return _mm256_xor_si256(x, w); }
static inline words count_nibbles(words count, words x, __m256i of_each) {
    const __m256i nibble = _mm256_set1_epi8(15);
    const __m256i low = _mm256_shuffle_epi8(of_each, _mm256_and_si256(x, nibble));
    const __m256i high = _mm256_shuffle_epi8(of_each, _mm256_and_si256(_mm256_srli_epi16(x, 4), nibble));
    return _mm256_add_epi8(count, _mm256_add_epi8(low, high));
}
#define OF_EACH(one)                                                                                                   \
    _mm256_broadcastsi128_si256(_mm_setr_epi8(0, (one), (one), 2 * (one), (one), 2 * (one), 2 * (one), 3 * (one),      \
                                              (one), 2 * (one), 2 * (one), 3 * (one), 2 * (one), 3 * (one), 3 * (one), \
                                              4 * (one)))
static inline words count_once(words count, words x) { return count_nibbles(count, x, OF_EACH(1)); }
static inline words count_twice(words count, words x) { return count_nibbles(count, x, OF_EACH(2)); }
static inline words count_ones(words count, words x, int twins) {
    (void)twins;
    return count_once(count, x);
}
/* sum ^ next ? sum : x */
static inline words carried(words x, words sum, words next) {
    const words apart = _mm256_xor_si256(sum, next);
    return _mm256_or_si256(_mm256_and_si256(apart, sum), _mm256_andnot_si256(apart, x));
}
static inline words settle(words sum, words count, int twins) {
    const __m256i halves = _mm256_maddubs_epi16(count, _mm256_set1_epi8(1));
    if (twins) return _mm256_add_epi16(sum, halves);
    return _mm256_add_epi32(sum, _mm256_madd_epi16(halves, _mm256_set1_epi16(1)));
}
/* -4 times the upper half, and, where x is not more than `most`, -2 times the lower one. Halves are signed. */
static inline words gated(words x, words most) {
    const __m256i alone = _mm256_and_si256(_mm256_cmpgt_epi32(x, most), _mm256_set1_epi32(0xFFFF));
    return _mm256_madd_epi16(_mm256_andnot_si256(alone, x), _mm256_set1_epi32(-4 * 0x10000 + 0xFFFE));
}

/* A byte a lane, and others that nobody looks at: x plus those at p; as words. */
static inline bytes no_bytes(void) { return _mm_setzero_si128(); }
static inline bytes add_bytes(bytes x, const void *p) { return _mm_add_epi8(x, _mm_loadu_si128(p)); }
static inline words widened(bytes x) { return _mm256_cvtepu8_epi32(x); }
static inline words add_words(words x, words y) { return _mm256_add_epi32(x, y); }

/* Vectors of filters that products of bytes are summed up for at once, as registers hold. */
#define BYTES_AT_ONCE 1u
/* sum + the four products of unsigned bytes of x and signed bytes of w, each lane; at most 64 of w. */
static inline words add_byte_products(words sum, words x, words w) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(x, w), _mm256_set1_epi16(1)));
}

#define MAPPED_AT_ONCE 1u
static inline void map_some(const uint8_t *table, const uint8_t *from, uint8_t *to) { *to = table[*from]; }

#endif
