/* Codes -> values. */
#include <string.h>

#include "zob_internal.h"
#include "zob_steps.h"

/* A code of at most 16 bits. */
static uint32_t code_at(const uint8_t *bytes, uint32_t bit, uint32_t bits) {
    const uint8_t *p = bytes + bit / 8u;
    const uint32_t shift = bit % 8u;
    uint32_t value = p[0];
    if (shift + bits > 8u) value |= (uint32_t)p[1] << 8;
    if (shift + bits > 16u) value |= (uint32_t)p[2] << 16;
    return (value >> shift) & (((uint32_t)1 << bits) - 1u);
}

#if defined(__arm__) && !defined(__ARM_FP)

/* scale * n, n not 0, its product with the scale's 24 bits having 32; rounded to nearest, ties to even. */
static inline float product(uint32_t scale, int32_t n) {
    const uint32_t sign = n < 0 ? 0x80000000u : 0u, exponent = scale & 0x7F800000u;
    const uint32_t whole = ((scale & 0x7FFFFFu) | 0x800000u) * (uint32_t)(n < 0 ? -n : n);
    const uint32_t more = 8u - (uint32_t)__builtin_clz(whole), odd = whole >> more & 1u;
    const uint32_t rounded = whole + (((uint32_t)1 << more) - 1u + odd) / 2u;
    const uint32_t bits = sign + exponent + (more << 23) + ((rounded >> more) - 0x800000u);
    float value;
    memcpy(&value, &bits, 4u);
    return value;
}

/* In integers, as far as these do: what a core without a floating-point unit does in software takes thrice as long. */
static float value_of(const zob_parameter *p, uint32_t code) {
    const int32_t n = (int32_t)code - p->zero_point;
    uint32_t scale;
    memcpy(&scale, &p->scale, 4u);
    if (n == 0) return 0.0f;
    if (n > -256 && n < 256 && scale - 0x800000u < 0x7A000000u) return product(scale, n);
    return p->scale * (float)n;
}

#else

static float value_of(const zob_parameter *p, uint32_t code) {
    return p->scale * (float)((int32_t)code - p->zero_point);
}

#endif

void zob_decode(const zob_parameter *p, const uint8_t *image, uint32_t first, uint32_t count, float *out) {
    const uint8_t *bytes = image + p->offset;
    if (ZOB_HAS_KERNEL(ZOB_KERNEL_PROTECTED) && !zob_is_plain(p)) {
        zob_decode_protected(p, image, first, count, out);
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
    if (p->encoding == ZOB_ENCODING_UNIFORM && p->bits == 8u) {
        uint32_t i = 0;
#ifdef ZOB_FP
        i = count - count % ZOB_FP_ROW;
        if (i) zob_fp_of_bytes(out, bytes + first, &p->scale, i);
#endif
        for (; i < count; i++) out[i] = value_of(p, bytes[first + i]);
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t q = code_at(bytes, (first + i) * p->bits, p->bits);
        out[i] = p->encoding == ZOB_ENCODING_BINARY ? (q ? -1.0f : 1.0f) : value_of(p, q);
    }
}
