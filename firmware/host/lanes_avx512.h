/* Sixteen lanes of AVX-512, with VPOPCNTDQ and BITALG to count bits, VNNI to add up bytes and VBMI to look them up. */
#ifndef ZOB_LANES_H
#define ZOB_LANES_H

#include <immintrin.h>

#include "tile.h"

#define LANES 16u

typedef __m512 reals;
typedef __m512i words;
typedef __m128i bytes;
typedef __mmask16 mask;

static inline reals load(const void *p) { return _mm512_loadu_ps(p); }
static inline void store(void *p, reals x) { _mm512_storeu_ps(p, x); }
static inline reals all(float x) { return _mm512_set1_ps(x); }
static inline reals add(reals x, reals y) { return _mm512_add_ps(x, y); }
static inline reals multiply(reals x, reals y) { return _mm512_mul_ps(x, y); }
static inline reals divide(reals x, reals y) { return _mm512_div_ps(x, y); }
/* x where x > y, else y. */
static inline reals greater_or(reals x, reals y) { return _mm512_max_ps(x, y); }
/* x where x < y, else y. */
static inline reals less_or(reals x, reals y) { return _mm512_min_ps(x, y); }
static inline mask less(reals x, reals y) { return _mm512_cmp_ps_mask(x, y, _CMP_LT_OQ); }
static inline reals choose(mask m, reals set, reals clear) { return _mm512_mask_blend_ps(m, clear, set); }
/* x where x >= 0, else x * slope. */
static inline reals sloped(reals x, reals slope) {
    return _mm512_mask_mul_ps(x, _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_NGE_UQ), x, slope);
}

static inline mask load_bits(const uint8_t *p) { return (mask)(p[0] | p[1] << 8); }
static inline void store_bits(uint8_t *p, mask m, uint32_t valid) {
    const uint16_t bits = (uint16_t)(m & valid);
    __builtin_memcpy(p, &bits, 2);
}

/* Of twins, `valid` lanes of both. */
static inline void store_twins(uint8_t *p, mask lower, mask upper, uint32_t valid) {
    const uint32_t bits = (uint32_t)_mm512_kunpackw(upper, lower) & (valid | valid << 16);
    __builtin_memcpy(p, &bits, 4);
}

static inline words load_words(const void *p) { return _mm512_loadu_si512(p); }
static inline words no_words(void) { return _mm512_setzero_si512(); }
static inline words all_words(const uint8_t *p) {
    int32_t x;
    __builtin_memcpy(&x, p, 4);
    return _mm512_set1_epi32(x);
}
static inline words either(words x, words y) { return _mm512_or_si512(x, y); }
static inline words shifted(words x, uint32_t bits) { return _mm512_slli_epi32(x, bits); }
static inline mask more(words x, words y) { return _mm512_cmpgt_epi32_mask(x, y); }
static inline void store_words(void *p, words x) { _mm512_storeu_si512(p, x); }
/* Whole numbers below 2^24, so that nothing is rounded: x; base - 2 * count. */
static inline reals less_twice(reals base, words count) {
    return _mm512_fnmadd_ps(_mm512_set1_ps(2.0f), _mm512_cvtepi32_ps(count), base);
}
static inline reals whole(words x) { return _mm512_cvtepi32_ps(x); }
/* y, plus x where the mask is clear. */
static inline reals add_where_clear(mask m, reals x, reals y) { return _mm512_mask_add_ps(y, (mask)~m, x, y); }

/* Vectors of filters that products of bytes are summed up for at once, as registers hold. */
#define BYTES_AT_ONCE 2u
/* sum + the four products of unsigned bytes of x and signed bytes of w, each lane. */
static inline words add_byte_products(words sum, words x, words w) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(x), "v"(w));
    return sum;
}

/* Bits that differ, and how many they are in each lane, or in both halves of each for `twins`. Other instruction sets count
 * in bytes: after so many `settle` adds up those of each lane. */
#define SETTLE_EVERY 0
static inline words differing(words x, words w) { return _mm512_xor_si512(x, w); }
/* In place, as in what follows: of the intrinsic GCC makes an addition and a move. */
static inline words count_ones(words count, words x, int twins) {
    if (twins) {
        __asm__("vpaddw %1, %0, %0" : "+v"(count) : "v"(_mm512_popcnt_epi16(x)));
    } else {
        __asm__("vpaddd %1, %0, %0" : "+v"(count) : "v"(_mm512_popcnt_epi32(x)));
    }
    return count;
}
/* sum ^ next ? sum : x */
static inline words carried(words x, words sum, words next) {
    __asm__("vpternlogd $0xD4, %2, %1, %0" : "+v"(x) : "v"(sum), "v"(next));
    return x;
}
static inline words count_once(words count, words x) {
    return add_byte_products(count, _mm512_popcnt_epi8(x), _mm512_set1_epi8(1));
}
static inline words count_twice(words count, words x) {
    return add_byte_products(count, _mm512_popcnt_epi8(x), _mm512_set1_epi8(2));
}
static inline words settle(words sum, words count, int twins) {
    return twins ? _mm512_add_epi16(sum, count) : _mm512_add_epi32(sum, count);
}
/* -4 times the upper half, and, where x is not more than `most`, -2 times the lower one. Halves are signed. */
static inline words gated(words x, words most) {
    const words kept = _mm512_mask_and_epi32(x, more(x, most), x, _mm512_set1_epi32(-0x10000));
    return _mm512_madd_epi16(kept, _mm512_set1_epi32(-4 * 0x10000 + 0xFFFE));
}

/* A byte a lane: x plus those at p; as words. */
static inline bytes no_bytes(void) { return _mm_setzero_si128(); }
static inline bytes add_bytes(bytes x, const void *p) {
    __asm__("vpaddb %1, %0, %0" : "+v"(x) : "m"(*(const __m128i_u *)p)); /* in place, as in count_ones */
    return x;
}
static inline words widened(bytes x) { return _mm512_cvtepu8_epi32(x); }
static inline words add_words(words x, words y) { return _mm512_add_epi32(x, y); }

/* 64 bytes at a time: entries of both halves of the table, of which the top bit chooses. */
#define MAPPED_AT_ONCE 64u
static inline void map_some(const uint8_t *table, const uint8_t *from, uint8_t *to) {
    const __m512i x = _mm512_loadu_si512(from);
    const __m512i low = _mm512_permutex2var_epi8(_mm512_loadu_si512(table), x, _mm512_loadu_si512(table + 64));
    const __m512i high = _mm512_permutex2var_epi8(_mm512_loadu_si512(table + 128), x, _mm512_loadu_si512(table + 192));
    _mm512_storeu_si512(to, _mm512_mask_blend_epi8(_mm512_movepi8_mask(x), low, high));
}

#endif
