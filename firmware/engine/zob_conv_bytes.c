/* Convolutions over int8 with whole weights, in integers: gathering, and filters of codes of 2 to 16 bits.
 *
 * A sum is that of x * (code - zero_point), x = q - the input's zero point. Four pixels' taps are gathered in 16 bits,
 * quad by quad and pixel by pixel, each quad in the order 0 2 1 3, in which bytes widen two at a time; codes are used as
 * they are stored, and zero_point times the sum of x is subtracted at the start. */
#include <string.h>

#include "zob_bytes.h"

#if defined(__ARM_FEATURE_DSP)
#include <arm_acle.h>
#define DUAL_MAC(x, w, acc) __smlad((int16x2_t)(x), (int16x2_t)(w), acc)
#define EVEN_BYTES(x) ((uint32_t)__sxtb16((int8x4_t)(x)))
#define DIFFERENCES(x, y) ((uint32_t)__ssub16((int16x2_t)(x), (int16x2_t)(y)))
#else
#define LOW(x) ((int32_t)(int16_t)(x))
#define HIGH(x) ((int32_t)(int16_t)((x) >> 16))
#define DUAL_MAC(x, w, acc) ((acc) + LOW(x) * LOW(w) + HIGH(x) * HIGH(w))
#define EVEN_BYTES(x) (((uint32_t)(int8_t)(x) & 0xFFFFu) | (uint32_t)(int8_t)((x) >> 16) << 16)
#define DIFFERENCES(x, y) ((((x) - (y)) & 0xFFFFu) | (((x) & 0xFFFF0000u) - ((y) & 0xFFFF0000u)))
#endif

/* memcpy for a few bytes: whole words, the last one over the one before. */
static void copy_bytes(int8_t *to, const int8_t *from, uint32_t n) {
    uint32_t i = 0;
    for (; i + 4u <= n; i += 4u) memcpy(to + i, from + i, 4u);
    if (n >= 4u) {
        memcpy(to + n - 4u, from + n - 4u, 4u);
    } else {
        for (; i < n; i++) to[i] = from[i];
    }
}

void zob_gather_bytes(const zob_byte_conv *b, uint32_t pixel, uint32_t first, int8_t *patch) {
    const zob_context *c = b->c;
    const zob_op *op = c->op;
    const zob_span v = zob_inside(op, 0, pixel / c->out->width, c->in->height);
    const zob_span h = zob_inside(op, 1, pixel % c->out->width, c->in->width);
    const uint32_t run = (h.end - h.begin) * b->channels, apart = op->dilation[1] * c->in->channels;
    const int8_t *input = (const int8_t *)(c->arena + c->in->offset) + first;
    const int whole = run * (v.end - v.begin) == b->taps, side_by_side = op->dilation[1] == 1u && op->groups == 1u;
    memset(whole ? patch + 4u * (b->quads - 1u) : patch, c->in->zero_point, whole ? 4u : 4u * b->quads);
    for (uint32_t ky = v.begin; ky < v.end && run > 0u; ky++) {
        const uint32_t line = (v.at + (ky - v.begin) * op->dilation[0]) * c->in->width;
        const int8_t *row = input + (line + h.at) * c->in->channels;
        int8_t *to = patch + (ky * op->kernel[1] + h.begin) * b->channels;
        if (side_by_side) {
            copy_bytes(to, row, run);
        } else {
            for (uint32_t i = 0; i < h.end - h.begin; i++) copy_bytes(to + i * b->channels, row + i * apart, b->channels);
        }
    }
}

/* One pixel's taps, widened, to every fourth pair of words; returns their sum. */
static int32_t widen(const int8_t *patch, uint32_t quads, int32_t zero_point, uint32_t *x) {
    const uint32_t zeros = ((uint32_t)zero_point & 0xFFFFu) | (uint32_t)zero_point << 16;
    int32_t sum = 0;
    for (; quads > 0u; quads--, patch += 4, x += 2u * ZOB_BLOCK) {
        uint32_t bytes;
        memcpy(&bytes, patch, 4u);
        x[0] = DIFFERENCES(EVEN_BYTES(bytes), zeros);
        x[1] = DIFFERENCES(EVEN_BYTES(bytes >> 8), zeros);
        sum = DUAL_MAC(x[0], 0x00010001u, sum);
        sum = DUAL_MAC(x[1], 0x00010001u, sum);
    }
    return sum;
}

/* What every code is taken less, so that it fits 16 bits with a sign. */
static int32_t middle(const zob_parameter *p) { return p->bits == 16u ? 32768 : 0; }

/* A filter's codes, widened, in the order of the taps. */
static void decode_filter(const zob_byte_conv *b, uint32_t filter, uint32_t *w) {
    const zob_parameter *p = b->weight;
    const uint8_t *bytes = b->c->image + p->offset;
    const uint32_t mask = ((uint32_t)1 << p->bits) - 1u;
    uint32_t bit = filter * b->taps * p->bits;
    for (uint32_t quad = 0; quad < b->quads; quad++, w += 2) {
        uint32_t codes[4] = {0, 0, 0, 0};
        for (uint32_t i = 0; i < 4u && 4u * quad + i < b->taps; i++, bit += p->bits) {
            const uint8_t *at = bytes + bit / 8u;
            const uint32_t shift = bit % 8u;
            uint32_t value = at[0];
            if (shift + p->bits > 8u) value |= (uint32_t)at[1] << 8;
            if (shift + p->bits > 16u) value |= (uint32_t)at[2] << 16;
            codes[i] = ((value >> shift) & mask) - (uint32_t)middle(p);
        }
        w[0] = (codes[0] & 0xFFFFu) | codes[2] << 16;
        w[1] = (codes[1] & 0xFFFFu) | codes[3] << 16;
    }
}

static void dot_codes(const uint32_t *w, const uint32_t *x, uint32_t quads, int32_t *sums) {
    for (; quads > 0u; quads--, w += 2) {
        for (uint32_t i = 0; i < ZOB_BLOCK; i++, x += 2) {
            sums[i] = DUAL_MAC(x[0], w[0], sums[i]);
            sums[i] = DUAL_MAC(x[1], w[1], sums[i]);
        }
    }
}

/* One group's filters at one block of pixels. */
static void conv_block(const zob_byte_conv *b, zob_block block, uint32_t group) {
    uint32_t *x = (uint32_t *)(void *)b->scratch, *w = x + 2u * ZOB_BLOCK * b->quads;
    const int32_t zero_point = b->weight->zero_point - middle(b->weight);
    int32_t start[ZOB_BLOCK] = {0, 0, 0, 0};
    for (uint32_t i = 0; i < ZOB_BLOCK; i++) {
        /* A block's missing pixels repeat the first: their sums go nowhere. */
        zob_gather_bytes(b, block.pixel + (i < block.count ? i : 0u), group * b->channels, (int8_t *)w);
        start[i] = -zero_point * widen((const int8_t *)w, b->quads, b->c->in->zero_point, x + 2u * i);
    }
    for (uint32_t o = group * b->filters; o < (group + 1u) * b->filters; o++) {
        int32_t sums[ZOB_BLOCK];
        memcpy(sums, start, sizeof sums);
        decode_filter(b, o, w);
        dot_codes(w, x, b->quads, sums);
        zob_put_sums(b, block, o, sums);
    }
}

void zob_conv_codes(const zob_byte_conv *b) {
    const uint32_t pixels = zob_pixels(b->c->out);
    zob_block block = {0, ZOB_BLOCK};
    for (; block.pixel < pixels; block.pixel += ZOB_BLOCK) {
        if (pixels - block.pixel < ZOB_BLOCK) block.count = pixels - block.pixel;
        for (uint32_t group = 0; group < b->c->op->groups; group++) conv_block(b, block, group);
    }
}

void zob_conv_bytes(const zob_context *c, const zob_sink *sink) {
    zob_byte_conv b;
    b.c = c;
    b.sink = sink;
    b.weight = &c->model->parameters[c->op->parameter];
    b.channels = c->in->channels / c->op->groups;
    b.filters = c->out->channels / c->op->groups;
    b.taps = b.weight->count / b.weight->dims[0];
    b.quads = (b.taps + 3u) / 4u;
    b.scratch = c->arena + c->op->scratch + (sink->intervals ? sizeof(zob_interval) * c->out->channels : 0u);
    if (b.weight->encoding == ZOB_ENCODING_BINARY) {
        zob_conv_signs(&b);
    } else {
        zob_conv_codes(&b);
    }
}
