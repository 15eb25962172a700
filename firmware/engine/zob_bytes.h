/* What convolutions over int8 share: four pixels are computed at a time. No part of the engine's interface. */
#ifndef ZOB_BYTES_H
#define ZOB_BYTES_H

#include "zob_internal.h"

#define ZOB_BLOCK 4u

/* A convolution over int8, with what it needs at every pixel. */
typedef struct {
    const zob_context *c;
    const zob_sink *sink;
    const zob_parameter *weight;
    uint32_t channels, filters; /* of one group */
    uint32_t taps, quads;       /* products a sum, and those of four that hold them */
    uint8_t *scratch;           /* behind the intervals */
} zob_byte_conv;

/* Output pixels [pixel, pixel + count), count at most ZOB_BLOCK. */
typedef struct {
    uint32_t pixel, count;
} zob_block;

/* Copy what filters read at one pixel, `channels` bytes a tap from channel `first` of each on; outside the input, and
 * up to 4 * quads bytes, the number that stands for 0. */
void zob_gather_bytes(const zob_byte_conv *b, uint32_t pixel, uint32_t first, int8_t *patch);

void zob_conv_codes(const zob_byte_conv *b);
void zob_conv_signs(const zob_byte_conv *b);

/* Take the sums of one channel to where they go. */
static inline void zob_put_sums(const zob_byte_conv *b, zob_block block, uint32_t channel, const int32_t *sums) {
    const zob_sink *sink = b->sink;
    if (sink->intervals) {
        const zob_interval v = sink->intervals[channel];
        uint32_t *word = sink->binary + block.pixel * sink->words + channel / 32u;
        for (uint32_t i = 0; i < block.count; i++, word += sink->words) {
            *word |= (uint32_t)((uint32_t)sums[i] - v.first < v.width) << (channel % 32u);
        }
    } else {
        const float scale = b->c->in->scale;
        for (uint32_t i = 0; i < block.count; i++) zob_emit(sink, block.pixel + i, channel, (float)sums[i] * scale);
    }
}

#endif
