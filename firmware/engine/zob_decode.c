/* Codes -> values. */
#include <string.h>

#include "zob_internal.h"

static uint32_t code_at(const uint8_t *bytes, uint32_t bit, uint32_t bits) {
    uint32_t value = 0;
    const uint32_t shift = bit % 8u;
    const uint32_t need = (shift + bits + 7u) / 8u;
    const uint8_t *p = bytes + bit / 8u;
    for (uint32_t i = 0; i < need; i++) value |= (uint32_t)p[i] << (8u * i);
    return (value >> shift) & (((uint32_t)1 << bits) - 1u);
}

void zob_decode(const zob_parameter *p, const uint8_t *image, uint32_t first, uint32_t count, float *out) {
    const uint8_t *bytes = image + p->offset;
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
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t q = code_at(bytes, (first + i) * p->bits, p->bits);
        if (p->encoding == ZOB_ENCODING_BINARY) {
            out[i] = q ? -1.0f : 1.0f;
        } else {
            out[i] = p->scale * (float)((int32_t)q - p->zero_point);
        }
    }
}
