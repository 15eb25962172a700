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

/* As many codes of so many bits, a multiple of 4, as come in whole eights from a word's first bit on. */
static ZOB_INLINE uint32_t unpack_eights(const uint32_t *words, uint32_t bits, int32_t zero_point, uint32_t count,
                                         int32_t *n) {
    const int32_t *const end = n + count / 8u * 8u;
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
    return count / 8u * 8u;
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
    uint32_t done = 0;
    if (bit % 32u == 0u) {
        if (p->bits == 4u) done = unpack_eights(at, 4u, p->zero_point, count, n);
        if (p->bits == 8u) done = unpack_eights(at, 8u, p->zero_point, count, n);
        if (p->bits == 12u) done = unpack_eights(at, 12u, p->zero_point, count, n);
        if (p->bits == 16u) done = unpack_eights(at, 16u, p->zero_point, count, n);
    }
    if (done < count) unpack_codes(words, bit + done * p->bits, p, count - done, n + done);
}

/* The whole number that lies where a float will. */
static inline int32_t whole_at(const float *place) {
    int32_t n;
    memcpy(&n, place, 4u);
    return n;
}

#if defined(__arm__) && !defined(__ARM_FP)

/* Positive mantissa * 2^(exponent - 150) times n, which is not 0, rounded to nearest, ties to even. */
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

/* In integers, where no result can be too large or too small: what a core without a floating-point unit does in software
 * takes thrice as long. */
static void multiply(float scale, float *x, uint32_t count) {
    uint32_t exponent, mantissa;
    int fits;
    memcpy(&exponent, &scale, 4u);
    mantissa = (exponent & 0x7FFFFFu) | 0x800000u;
    exponent >>= 23;
    fits = exponent - 1u < 254u - 32u;
    for (; count > 0u; count--, x++) {
        const int32_t n = whole_at(x);
        if (fits) {
            const uint32_t bits = n ? product(mantissa, exponent, n) : 0u;
            memcpy(x, &bits, 4u);
        } else {
            *x = scale * (float)n;
        }
    }
}

#else

static void multiply(float scale, float *x, uint32_t count) {
    uint32_t i = 0;
#ifdef ZOB_FP
    i = count - count % ZOB_FP_ROW;
    if (i) zob_fp_of_steps(x, scale, i);
#endif
    for (; i < count; i++) x[i] = scale * (float)whole_at(x + i);
}

#endif

/* Values of uniform codes; from whole numbers, which take their places first. */
static ZOB_NOINLINE void decode_codes(const zob_parameter *p, const uint8_t *image, uint32_t first, uint32_t count,
                                      float *out) {
#ifdef ZOB_FP
    if (p->bits == 8u) {
        const uint32_t rows = count - count % ZOB_FP_ROW;
        if (rows) zob_fp_of_bytes(out, image + p->offset + first, &p->scale, rows);
        first += rows, count -= rows, out += rows;
    }
#endif
    if (count == 0u) return;
    zob_decode_whole(p, image, first, count, (int32_t *)(void *)out);
    multiply(p->scale, out, count);
}

void zob_decode(const zob_parameter *p, const uint8_t *image, uint32_t first, uint32_t count, float *out) {
    const uint8_t *bytes = image + p->offset;
    if (ZOB_HAS_KERNEL(ZOB_KERNEL_PROTECTED) && !zob_is_plain(p)) {
        zob_decode_protected(p, image, first, count, out);
        return;
    }
    if (ZOB_HAS_KERNEL(ZOB_KERNEL_CODES) && p->encoding == ZOB_ENCODING_UNIFORM) {
        decode_codes(p, image, first, count, out);
        return;
    }
    if (p->encoding == ZOB_ENCODING_FLOAT32) {
        memcpy(out, bytes + 4u * first, 4u * (size_t)count);
        return;
    }
    if (p->encoding == ZOB_ENCODING_INT32) {
        for (uint32_t i = 0; i < count; i++) {
            int32_t q;
            memcpy(&q, bytes + 4u * (first + i), 4u);
            out[i] = (float)q;
        }
        return;
    }
    if (p->encoding == ZOB_ENCODING_BINARY) {
        for (uint32_t i = first; i < first + count; i++) *out++ = (uint32_t)bytes[i / 8u] >> i % 8u & 1u ? -1.0f : 1.0f;
    }
}
