/* Convolutions over packed bits. */
#include "zob_internal.h"

/* The sum of the sixteen-bit halves after adding up bytes. */
static uint32_t sum_of_bytes(uint32_t x) {
    x = (x & 0x00FF00FFu) + ((x >> 8) & 0x00FF00FFu);
    return (x + (x >> 16)) & 0xFFFFu;
}

/* Bits of one word, counted in fields of four bits: at most 4 in each. */
static uint32_t count_in_nibbles(uint32_t x) {
    x = x - ((x >> 1) & 0x55555555u);
    return (x & 0x33333333u) + ((x >> 2) & 0x33333333u);
}

static uint32_t nibbles_to_bytes(uint32_t x) { return (x & 0x0F0F0F0Fu) + ((x >> 4) & 0x0F0F0F0Fu); }

/* How many bits differ. Counts are merged late: three words fit fields of four bits, ten such triples those of eight. */
static uint32_t count_differing(const uint32_t *x, const uint32_t *w, uint32_t words) {
    uint32_t n = 0;
    while (words >= 3u) {
        uint32_t bytes = 0, triples = words / 3u < 10u ? words / 3u : 10u;
        words -= 3u * triples;
        for (; triples > 0u; triples--, x += 3, w += 3) {
            uint32_t nibbles = count_in_nibbles(x[0] ^ w[0]);
            nibbles += count_in_nibbles(x[1] ^ w[1]);
            nibbles += count_in_nibbles(x[2] ^ w[2]);
            bytes += nibbles_to_bytes(nibbles);
        }
        n += sum_of_bytes(bytes);
    }
    for (; words > 0u; words--) n += sum_of_bytes(nibbles_to_bytes(count_in_nibbles(*x++ ^ *w++)));
    return n;
}

static uint32_t count_bits(const uint32_t *x, uint32_t words) {
    uint32_t n = 0;
    for (; words > 0u; words--) n += sum_of_bytes(nibbles_to_bytes(count_in_nibbles(*x++)));
    return n;
}

/* Bits of a filter's taps outside the input. */
static uint32_t count_outside(const uint32_t *w, const zob_op *op, uint32_t words, zob_span v, zob_span h) {
    uint32_t n = 0;
    const uint32_t line = op->kernel[1] * words;
    for (uint32_t ky = 0; ky < op->kernel[0]; ky++, w += line) {
        if (ky < v.begin || ky >= v.end) {
            n += count_bits(w, line);
        } else {
            n += count_bits(w, h.begin * words);
            n += count_bits(w + h.end * words, line - h.end * words);
        }
    }
    return n;
}

/* Copy what a filter reads at one pixel, `words` words a tap from word `first` of each pixel on; zero outside. */
static void gather(const zob_context *c, zob_span v, zob_span h, uint32_t first, uint32_t words, uint32_t *patch) {
    const zob_op *op = c->op;
    const uint32_t pixel = zob_words(c->in->channels);
    const uint32_t *input = (const uint32_t *)(const void *)(c->arena + c->in->offset) + first;
    for (uint32_t ky = 0; ky < op->kernel[0]; ky++) {
        for (uint32_t kx = 0; kx < op->kernel[1]; kx++) {
            const int inner = ky >= v.begin && ky < v.end && kx >= h.begin && kx < h.end;
            const uint32_t y = v.at + (ky - v.begin) * op->dilation[0], x = h.at + (kx - h.begin) * op->dilation[1];
            const uint32_t *tap = input + (inner ? (y * c->in->width + x) * pixel : 0u);
            for (uint32_t i = 0; i < words; i++) *patch++ = inner ? tap[i] : 0u;
        }
    }
}

void zob_conv_binary(const zob_context *c, const zob_sink *sink) {
    const zob_op *op = c->op;
    const uint32_t channels = c->in->channels / op->groups, words = zob_words(channels);
    const uint32_t filters = c->out->channels / op->groups, all = (uint32_t)op->kernel[0] * op->kernel[1];
    const uint32_t *weights = (const uint32_t *)(const void *)(c->image + c->model->parameters[op->parameter].offset);
    uint32_t *patch = (uint32_t *)(void *)(c->arena + op->scratch);
    uint32_t pixel = 0;
    for (uint32_t oy = 0; oy < c->out->height; oy++) {
        const zob_span v = zob_inside(op, 0, oy, c->in->height);
        for (uint32_t ox = 0; ox < c->out->width; ox++, pixel++) {
            const zob_span h = zob_inside(op, 1, ox, c->in->width);
            const uint32_t taps = op->pad_value ? all : (v.end - v.begin) * (h.end - h.begin);
            const int32_t products = (int32_t)(taps * channels);
            const uint32_t *w = weights;
            for (uint32_t o = 0; o < c->out->channels; o++, w += all * words) {
                uint32_t differing;
                if (o % filters == 0u) gather(c, v, h, o / filters * words, words, patch);
                differing = count_differing(patch, w, all * words);
                /* Outside the gathered words are 0, which is +1. Taps that are not to be read do not count. */
                if (taps < all) differing -= count_outside(w, op, words, v, h);
                zob_emit(sink, pixel, o, (float)(products - 2 * (int32_t)differing));
            }
        }
    }
}
