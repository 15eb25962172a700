/* Codes -> values. */
#include <string.h>

#include "zob_internal.h"
#include "zob_steps.h"

/* Code `index` less the zero point; for bits and indices that the compiler knows. */
static ZOB_INLINE int32_t whole_of(const uint32_t *words, uint32_t bits, uint32_t index, int32_t zero_point) {
    const uint32_t at = index * bits / 32u, shift = index * bits % 32u;
    uint32_t code = words[at] >> shift;
    if (shift + bits > 32u) code |= words[at + 1u] << (32u - shift);
    return (int32_t)(code & (((uint32_t)1 << bits) - 1u)) - zero_point;
}

/* `count` codes of so many bits, a multiple of 4, from a word's first bit on; `count` is a multiple of 8. */
static ZOB_INLINE void unpack_eights(const uint32_t *words, uint32_t bits, int32_t zero_point, uint32_t count, int32_t *n) {
    const int32_t *const end = n + count;
    for (; n < end; n += 8, words += bits / 4u) {
        n[0] = whole_of(words, bits, 0u, zero_point);
        n[1] = whole_of(words, bits, 1u, zero_point);
        n[2] = whole_of(words, bits, 2u, zero_point);
        n[3] = whole_of(words, bits, 3u, zero_point);
        n[4] = whole_of(words, bits, 4u, zero_point);
        n[5] = whole_of(words, bits, 5u, zero_point);
        n[6] = whole_of(words, bits, 6u, zero_point);
        n[7] = whole_of(words, bits, 7u, zero_point);
    }
}

/* A function for each width, so that firmware has those that its network needs. */
#define UNPACK(bits)                                                                                              \
    static ZOB_NOINLINE void unpack_##bits(const uint32_t *words, int32_t zero_point, uint32_t count, int32_t *n) { \
        unpack_eights(words, bits, zero_point, count, n);                                                         \
    }
UNPACK(4)
UNPACK(8)
UNPACK(12)
UNPACK(16)

/* Whether codes of so many bits come by eights. */
static int by_eights(uint32_t bits) {
    return (ZOB_HAS_KERNEL(ZOB_KERNEL_CODES_4) && bits == 4u) || (ZOB_HAS_KERNEL(ZOB_KERNEL_CODES_8) && bits == 8u) ||
           (ZOB_HAS_KERNEL(ZOB_KERNEL_CODES_12) && bits == 12u) || (ZOB_HAS_KERNEL(ZOB_KERNEL_CODES_16) && bits == 16u);
}

/* `count` codes of 2 to 16 bits, from bit `bit` on, bit by bit out of a window that the next word fills up. */
static void unpack_codes(const uint32_t *words, uint32_t bit, const zob_parameter *p, uint32_t count, int32_t *n) {
    const uint32_t bits = p->bits, mask = ((uint32_t)1 << bits) - 1u;
    uint32_t window, held = 32u - bit % 32u;
    words += bit / 32u;
    for (window = count > 0u ? *words++ >> bit % 32u : 0u; count > 0u; count--) {
        uint32_t code = window;
        if (held < bits) {
            const uint32_t next = *words++;
            code |= next << held;
            window = next >> (bits - held);
            held += 32u - bits;
        } else {
            window >>= bits;
            held -= bits;
        }
        *n++ = (int32_t)(code & mask) - p->zero_point;
    }
}

void zob_decode_whole(const zob_parameter *p, const uint8_t *image, uint32_t first, uint32_t count, int32_t *n) {
    const uint32_t bit = first * p->bits, *words = (const uint32_t *)(const void *)(image + p->offset);
    const uint32_t *at = words + bit / 32u;
    const uint32_t quick = bit % 32u == 0u && by_eights(p->bits) ? count - count % 8u : 0u;
    if (quick > 0u) {
        if (ZOB_HAS_KERNEL(ZOB_KERNEL_CODES_4) && p->bits == 4u) unpack_4(at, p->zero_point, quick, n);
        if (ZOB_HAS_KERNEL(ZOB_KERNEL_CODES_8) && p->bits == 8u) unpack_8(at, p->zero_point, quick, n);
        if (ZOB_HAS_KERNEL(ZOB_KERNEL_CODES_12) && p->bits == 12u) unpack_12(at, p->zero_point, quick, n);
        if (ZOB_HAS_KERNEL(ZOB_KERNEL_CODES_16) && p->bits == 16u) unpack_16(at, p->zero_point, quick, n);
    }
    if (quick < count) unpack_codes(words, bit + quick * p->bits, p, count - quick, n + quick);
}

/* The whole number that lies where a float will. */
static inline int32_t whole_at(const float *place) {
    int32_t n;
    memcpy(&n, place, 4u);
    return n;
}

#if defined(__arm__) && !defined(__ARM_FP)

#ifndef ZOB_THUMB2
/* The float of mantissa * 2^(exponent - 150) * n, n not 0, rounded to nearest, ties to even. */
static inline uint32_t product(uint32_t mantissa, uint32_t exponent, int32_t n) {
    const uint32_t size = (uint32_t)(n < 0 ? -n : n), zeros = (uint32_t)__builtin_clz(size);
    const uint64_t wide = (uint64_t)(mantissa << 8) * (size << zeros);
    uint32_t high = (uint32_t)(wide >> 32), low = (uint32_t)wide, rest;
    exponent += 31u - zeros;
    if (high >> 31) {
        exponent++;
    } else {
        high = high << 1 | low >> 31;
        low <<= 1;
    }
    rest = high << 24 | (high >> 8 & 1u) | (low != 0u); /* rounded up where more than half, or half and the rest odd */
    high = (high >> 8) + (rest > 0x80000000u);
    return ((uint32_t)n & 0x80000000u) + ((exponent - 1u) << 23) + high;
}

static void zob_soft_of_steps(float *x, const zob_soft_scale *scale, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        const int32_t n = whole_at(x + i);
        const uint32_t bits = n ? product(scale->mantissa, scale->exponent, n) : 0u;
        memcpy(x + i, &bits, 4u);
    }
}
#endif

/* A scale in parts; 0 where a product may be too large or too small for them. */
static int split(const zob_parameter *p, zob_soft_scale *scale) {
    uint32_t bits;
    memcpy(&bits, &p->scale, 4u);
    scale->mantissa = (bits & 0x7FFFFFu) | 0x800000u;
    scale->exponent = bits >> 23;
    scale->zero_point = p->zero_point;
    return scale->exponent - 1u < 254u - 32u;
}

/* In integers: what a core without a floating-point unit does in software takes thrice as long. */
static void multiply(const zob_parameter *p, float *x, uint32_t count) {
    zob_soft_scale scale;
    if (split(p, &scale)) {
        zob_soft_of_steps(x, &scale, count);
    } else {
        for (uint32_t i = 0; i < count; i++) x[i] = p->scale * (float)whole_at(x + i);
    }
}

/* The values of codes from bit `bit` on, if a kernel makes them at once; else 0. */
static int decode_rows(const zob_parameter *p, const uint8_t *image, uint32_t bit, uint32_t count, float *out) {
#ifdef ZOB_THUMB2
    zob_soft_scale scale;
    if (!ZOB_HAS_KERNEL(ZOB_KERNEL_CODES_8) || p->bits != 8u || !split(p, &scale)) return 0;
    zob_soft_of_bytes(out, &scale, count, image + p->offset + bit / 8u);
    return 1;
#else
    (void)p, (void)image, (void)bit, (void)count, (void)out;
    return 0;
#endif
}

#elif defined(ZOB_FP)

static int in_rows(uint32_t bits) { return by_eights(bits) || (ZOB_HAS_KERNEL(ZOB_KERNEL_CODES_6) && bits == 6u); }

/* Rows of codes that are bytes: longer ones for the filters of real convolutions, much of whose time is decoding. */
static ZOB_INLINE void decode_byte_rows(float *out, const uint8_t *codes, const float *scale, uint32_t count) {
#ifdef ZOB_FP_WIDE_ROW
    const uint32_t wide = ZOB_HAS_KERNEL(ZOB_KERNEL_REAL_CONV) ? count - count % ZOB_FP_WIDE_ROW : 0u;
    if (wide > 0u) zob_fp_of_codes_8_wide(out, codes, scale, wide);
    if (wide == count) return;
    out += wide;
    codes += wide;
    count -= wide;
#endif
    zob_fp_of_codes_8(out, codes, scale, count);
}

/* Values of codes that are bytes, where a plan has no others. */
static ZOB_INLINE void decode_bytes(const zob_parameter *p, const uint8_t *codes, uint32_t count, float *out) {
    const uint32_t row = count - count % ZOB_FP_ROW;
    const float scale = p->scale;
    const int32_t zero_point = p->zero_point;
    if (row > 0u) decode_byte_rows(out, codes, &p->scale, row);
    codes += row;
    out += row;
    for (count -= row; count > 0u; count--) *out++ = scale * (float)(*codes++ - zero_point);
}

/* Codes that are bytes one by one; of others whole numbers take the values' places first. */
static ZOB_NOINLINE void multiply_rest(const zob_parameter *p, const uint8_t *image, uint32_t bit, uint32_t count,
                                       float *out) {
    if (ZOB_HAS_KERNEL(ZOB_KERNEL_CODES_8) && p->bits == 8u) {
        const uint8_t *codes = image + p->offset + bit / 8u;
        const float scale = p->scale;
        const int32_t zero_point = p->zero_point;
        for (; count > 0u; count--) *out++ = scale * (float)(*codes++ - zero_point);
        return;
    }
    unpack_codes((const uint32_t *)(const void *)(image + p->offset), bit, p, count, (int32_t *)(void *)out);
    for (; count > 0u; count--, out++) *out = p->scale * (float)whole_at(out);
}

/* How many codes lie before the first that begins with a byte, as rows do. */
static uint32_t before_rows(const zob_parameter *p, uint32_t bit, uint32_t count) {
    uint32_t n = 0;
    if (!ZOB_HAS_KERNEL(ZOB_KERNEL_CODES_4 | ZOB_KERNEL_CODES_6 | ZOB_KERNEL_CODES_12)) return 0u;
    while (n < count && (bit + n * p->bits) % 8u) n++;
    return n;
}

/* Values of codes: rows of them at once, and what rows do not take one by one. */
static void decode_codes(const zob_parameter *p, const uint8_t *image, uint32_t first, uint32_t count, float *out) {
    uint32_t bit = first * p->bits;
    if (ZOB_HAS_KERNEL(ZOB_KERNEL_CODES_8) && !ZOB_HAS_KERNEL(ZOB_KERNEL_CODES_ANY)) {
        decode_bytes(p, image + p->offset + first, count, out);
        return;
    }
    if (in_rows(p->bits)) {
        const uint32_t before = before_rows(p, bit, count), row = (count - before) - (count - before) % ZOB_FP_ROW;
        if (before > 0u) multiply_rest(p, image, bit, before, out);
        bit += before * p->bits;
        out += before;
        count -= before + row;
        if (row > 0u) {
            const uint8_t *codes = image + p->offset + bit / 8u;
            if (ZOB_HAS_KERNEL(ZOB_KERNEL_CODES_4) && p->bits == 4u) zob_fp_of_codes_4(out, codes, &p->scale, row);
            if (ZOB_HAS_KERNEL(ZOB_KERNEL_CODES_6) && p->bits == 6u) zob_fp_of_codes_6(out, codes, &p->scale, row);
            if (ZOB_HAS_KERNEL(ZOB_KERNEL_CODES_8) && p->bits == 8u) decode_byte_rows(out, codes, &p->scale, row);
            if (ZOB_HAS_KERNEL(ZOB_KERNEL_CODES_12) && p->bits == 12u) zob_fp_of_codes_12(out, codes, &p->scale, row);
            if (ZOB_HAS_KERNEL(ZOB_KERNEL_CODES_16) && p->bits == 16u) zob_fp_of_codes_16(out, codes, &p->scale, row);
            bit += row * p->bits;
            out += row;
        }
        if (count == 0u) return;
    }
    multiply_rest(p, image, bit, count, out);
}

#else

static void multiply(const zob_parameter *p, float *x, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) x[i] = p->scale * (float)whole_at(x + i);
}

static int decode_rows(const zob_parameter *p, const uint8_t *image, uint32_t bit, uint32_t count, float *out) {
    (void)p, (void)image, (void)bit, (void)count, (void)out;
    return 0;
}

#endif

#ifndef ZOB_FP
/* Values of uniform codes; where no kernel makes them at once, from whole numbers, which take their places first. */
static ZOB_NOINLINE void decode_codes(const zob_parameter *p, const uint8_t *image, uint32_t first, uint32_t count,
                                      float *out) {
    if (decode_rows(p, image, first * p->bits, count, out)) return;
    zob_decode_whole(p, image, first, count, (int32_t *)(void *)out);
    multiply(p, out, count);
}
#endif

void zob_decode(const zob_parameter *p, const uint8_t *image, uint32_t first, uint32_t count, float *out) {
    if (ZOB_HAS_KERNEL(ZOB_KERNEL_PROTECTED) && !zob_is_plain(p)) {
        zob_decode_protected(p, image, first, count, out);
    } else if (ZOB_HAS_KERNEL(ZOB_KERNEL_CODES) && p->encoding == ZOB_ENCODING_UNIFORM) {
        decode_codes(p, image, first, count, out);
    } else if (p->encoding == ZOB_ENCODING_FLOAT32) {
        memcpy(out, image + p->offset + 4u * first, 4u * (size_t)count);
    } else {
        zob_decode_others(p, image + p->offset, first, count, out);
    }
}
