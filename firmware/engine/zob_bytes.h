/* What convolutions over int8 share: four pixels are computed at a time. No part of the engine's interface. */
#ifndef ZOB_BYTES_H
#define ZOB_BYTES_H

#include <string.h>

#include "zob_internal.h"

/* A convolution over int8, with what it needs at every pixel. */
typedef struct {
    const zob_context *c;
    const zob_sink *sink;
    const zob_parameter *weight;
    uint32_t channels, filters; /* of one group */
    uint32_t taps, quads;       /* products a sum, and those of four that hold them */
    int apart;                  /* a kernel row's taps do not lie side by side in the input */
    uint8_t *scratch;           /* behind the intervals */
    const uint8_t *codes;       /* the weights, and how many bytes there are from there to the end of the image */
    uint32_t rest;
} zob_byte_conv;

/* An output pixel, and the rows of the kernel that are inside the input there. */
typedef struct {
    uint32_t y, x;
    zob_span rows;
} zob_place;

/* Up to four pixels, one after the other: the first of them and its place. */
typedef struct {
    uint32_t pixel, count;
    zob_place place;
} zob_four;

/* One number for each pixel of a block: a channel's sums, or bits of up to 32 channels. */
typedef struct {
    int32_t of[4];
} zob_sums;
typedef struct {
    uint32_t of[4];
} zob_bits;

/* Filters of byte codes at four pixels. (The assembly, zob_bytes_dsp.S, knows the order of the members.) */
typedef struct {
    const uint8_t *bytes;          /* of the last filter */
    const uint32_t *x;             /* taps of the pixels, widened, quad by quad */
    uint32_t quads;
    uint32_t entry;                /* the assembly's own */
    zob_sums start;                /* what sums begin with */
    const zob_interval *intervals; /* of the last filter */
    uint32_t back;                 /* bytes from behind the quads of a filter to those of the one before */
    const zob_interval *first;     /* of the first filter */
    zob_bits bits;                 /* results are shifted in */
} zob_byte_run;

/* Decide the filters of a run, the last one first. Changes the run. */
void zob_decide_bytes(zob_byte_run *run);

/* To the next place. */
static inline void zob_advance(const zob_byte_conv *b, zob_place *place) {
    if (++place->x == b->c->out->width) {
        place->x = 0;
        place->rows = zob_inside(b->c->op, 0, ++place->y, b->c->in->height);
    }
}

/* Whether integers decide bits: known beforehand, where a plan has sums of one kind only. */
static inline int zob_decided_by_integers(const zob_byte_conv *b) {
    return ZOB_HAS_KERNEL(ZOB_KERNEL_INTERVALS) && (!ZOB_HAS_KERNEL(ZOB_KERNEL_CODE_SUMS) || b->sink->intervals);
}

/* Copy what filters read at one pixel, `channels` bytes a tap from channel `first` of each on, and the number that
 * stands for 0 for taps outside the input. */
void zob_gather_bytes(const zob_byte_conv *b, const zob_place *place, uint32_t first, int8_t *patch);

/* One group of filters at a block. */
void zob_block_of_codes(const zob_byte_conv *b, const zob_four *block, uint32_t group);
void zob_block_of_signs(const zob_byte_conv *b, const zob_four *block, uint32_t group);

/* The same, where fewer than 64 bits are left of the image: those behind it are 0. */
uint32_t zob_last_weight_bits(const zob_byte_conv *b, uint32_t bit);

/* 32 of the weights' bits from bit `bit` on, and what may follow them in the image. */
static inline uint32_t zob_weight_bits(const zob_byte_conv *b, uint32_t bit) {
    const uint32_t at = bit / 8u, shift = bit % 8u;
    uint32_t low, high;
    if (at + 8u > b->rest) return zob_last_weight_bits(b, bit);
    memcpy(&low, b->codes + at, 4u);
    memcpy(&high, b->codes + at + 4u, 4u);
    return low >> shift | high << 1 << (31u - shift);
}

/* Where results go: the sums of one channel; the bits of those from `channel` on, decided from the last one down. */
void zob_emit_sums(const zob_byte_conv *b, const zob_four *block, uint32_t channel, zob_sums sums);
void zob_put_pixel_bits(const zob_byte_conv *b, const zob_four *block, uint32_t channel, zob_bits bits);

/* Shift the bit of a sum in. */
static inline uint32_t zob_shifted(uint32_t bits, zob_interval v, int32_t sum) {
    const uint32_t place = (uint32_t)sum - v.first;
#if defined(__thumb2__)
    __asm__("cmp %[place], %[width]\n\tadc %[bits], %[bits], %[bits]"
            : [bits] "+r"(bits)
            : [place] "r"(place), [width] "r"(v.width)
            : "cc");
    return bits;
#else
    return bits << 1 | (place >= v.width);
#endif
}

static inline void zob_decide(zob_interval v, const zob_sums *sums, zob_bits *bits) {
    bits->of[0] = zob_shifted(bits->of[0], v, sums->of[0]);
    bits->of[1] = zob_shifted(bits->of[1], v, sums->of[1]);
    bits->of[2] = zob_shifted(bits->of[2], v, sums->of[2]);
    bits->of[3] = zob_shifted(bits->of[3], v, sums->of[3]);
}

/* The first of the channels of a group that share a word with channel end - 1, the group beginning with `first`. */
static inline uint32_t zob_word_begin(uint32_t first, uint32_t end) {
    const uint32_t begin = (end - 1u) & ~31u;
    return begin > first ? begin : first;
}

#endif
