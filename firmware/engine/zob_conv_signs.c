/* Convolutions over int8 with weights of one bit: sums of four taps for all 16 signs of them, made once a block of
 * pixels, are looked up by four bits of a filter and added.
 *
 * Two pixels share a word: it holds first + 65536 * second, which adds up as both do. Where sums do not fit 16 bits a
 * word holds one. */
#include <string.h>

#include "zob_bytes.h"

/* Two words: the pixels of a block. */
typedef struct {
    uint32_t first, second;
} pair;

static pair sum(pair a, pair b) {
    const pair s = {a.first + b.first, a.second + b.second};
    return s;
}

static pair difference(pair a, pair b) {
    const pair d = {a.first - b.first, a.second - b.second};
    return d;
}

/* The 16 sums of +-taps[0] to +-taps[3]; bit i of an index is the sign of tap i. */
static void tabulate(const pair *taps, pair *table) {
    const pair plus = sum(taps[0], taps[1]), minus = difference(taps[0], taps[1]);
    const pair none = {0u, 0u};
    const pair low[4] = {plus, difference(none, minus), minus, difference(none, plus)};
    for (uint32_t i = 0; i < 4u; i++, table += 4) {
        const pair third = i & 1u ? difference(none, taps[2]) : taps[2];
        const pair high = i & 2u ? difference(third, taps[3]) : sum(third, taps[3]);
        for (uint32_t j = 0; j < 4u; j++) table[j] = sum(low[j], high);
    }
}

/* 32 of the weights' bits from bit `bit` on; those behind the image are 0. */
static uint32_t bits_at(const zob_byte_conv *b, uint32_t bit) {
    const uint32_t at = b->weight->offset + bit / 8u, rest = b->c->model->header->image_bytes - at, shift = bit % 8u;
    uint32_t words[2] = {0u, 0u};
    if (rest >= 8u) {
        memcpy(words, b->c->image + at, 8u);
    } else {
        memcpy(words, b->c->image + at, rest);
    }
    return words[0] >> shift | words[1] << 1 << (31u - shift);
}

/* The sums of one filter. */
static pair look_up(const zob_byte_conv *b, const pair *table, uint32_t filter) {
    uint32_t bit = filter * b->taps;
    pair acc = {0u, 0u};
    for (uint32_t quad = 0; quad < b->quads; bit += 32u) {
        const uint32_t end = quad + 8u < b->quads ? quad + 8u : b->quads;
        uint32_t bits = bits_at(b, bit);
        for (; quad < end; quad++, bits >>= 4, table += 16) acc = sum(acc, table[bits & 15u]);
    }
    return acc;
}

/* Gather a block's taps and tabulate the sums of every quad. */
static void prepare(const zob_byte_conv *b, zob_block block, uint32_t in_word, uint32_t group, pair *taps, pair *table) {
    const int32_t zero_point = b->c->in->zero_point;
    int8_t *patch = (int8_t *)table;
    memset(taps, 0, 4u * b->quads * sizeof *taps);
    for (uint32_t i = 0; i < block.count; i++) {
        zob_gather_bytes(b, block.pixel + i, group * b->channels, patch);
        for (uint32_t t = 0; t < b->taps; t++) {
            const uint32_t x = (uint32_t)(patch[t] - zero_point) << (i % in_word ? 16 : 0);
            *(i < in_word ? &taps[t].first : &taps[t].second) += x;
        }
    }
    for (uint32_t quad = 0; quad < b->quads; quad++) tabulate(taps + 4u * quad, table + 16u * quad);
}

static void conv_block(const zob_byte_conv *b, zob_block block, uint32_t in_word, uint32_t group) {
    pair *taps = (pair *)(void *)b->scratch, *table = taps + 4u * b->quads;
    prepare(b, block, in_word, group, taps, table);
    for (uint32_t o = group * b->filters; o < (group + 1u) * b->filters; o++) {
        const pair words = look_up(b, table, o);
        if (in_word == 2u) {
            const int32_t low = (int16_t)words.first, high = (int16_t)words.second;
            const int32_t sums[ZOB_BLOCK] = {low, (int16_t)((words.first - (uint32_t)low) >> 16), high,
                                             (int16_t)((words.second - (uint32_t)high) >> 16)};
            zob_put_sums(b, block, o, sums);
        } else {
            const int32_t sums[2] = {(int32_t)words.first, (int32_t)words.second};
            zob_put_sums(b, block, o, sums);
        }
    }
}

void zob_conv_signs(const zob_byte_conv *b) {
    const uint32_t pixels = zob_pixels(b->c->out);
    const uint32_t in_word = zob_largest_sum(b->c->in, b->weight) <= INT16_MAX ? 2u : 1u;
    zob_block block = {0, 2u * in_word};
    for (; block.pixel < pixels; block.pixel += 2u * in_word) {
        if (pixels - block.pixel < block.count) block.count = pixels - block.pixel;
        for (uint32_t group = 0; group < b->c->op->groups; group++) conv_block(b, block, in_word, group);
    }
}
