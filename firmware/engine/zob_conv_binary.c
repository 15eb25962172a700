/* Convolution over packed bits: blocks of filters, and what decides their bits. */
#include <string.h>

#include "zob_binary.h"
#include "zob_rows.h"

#define MAX_COUNT 16777216 /* sums of so many products are exact in float32 */

/* The least whole number that is not less than t, between -2 and 2 times MAX_COUNT. Of NaN, which no sum is less than,
 * it is the least. In integers, as many cores have no others. */
static int32_t ceiling(float t) {
    uint32_t bits, exponent, mantissa, below, whole = 0, fraction;
    memcpy(&bits, &t, 4u);
    exponent = (bits >> 23) & 255u;
    mantissa = (bits & 0x7FFFFFu) | 0x800000u;
    fraction = (bits & 0x7FFFFFFFu) != 0u;
    if (exponent > 127u + 23u) return bits >> 31 || (bits << 1) > 0xFF000000u ? -2 * MAX_COUNT : 2 * MAX_COUNT;
    if (exponent >= 127u) {
        below = 150u - exponent;
        whole = mantissa >> below;
        fraction = (mantissa & (((uint32_t)1 << below) - 1u)) != 0u;
    }
    return bits >> 31 ? -(int32_t)whole : (int32_t)(whole + fraction);
}

/* Where a group is a convolution and a sign or thresholds, whole numbers decide every bit exactly as the comparison of
 * floats would: the sum, products - missing - 2 * count, is less than t where 2 * count + missing is more than
 * products - t. */
static void set_limits(zob_block *b) {
    const zob_step *step = b->sink->steps;
    const int32_t products = (int32_t)(b->taps * b->channels);
    b->decided = b->sink->binary && b->sink->count == 1u && b->taps * b->words <= MAX_COUNT / 32 &&
                 (step->opcode == ZOB_OP_SIGN || step->opcode == ZOB_OP_THRESHOLD);
    for (uint32_t f = 0; b->decided && f < b->filters; f++) {
        b->limits[f] = products - (step->opcode == ZOB_OP_SIGN ? 0 : ceiling(step->table[b->first + f]));
    }
}

uint32_t zob_missing(const zob_block *b, zob_span v, zob_span h) {
    const uint32_t read = (v.end - v.begin) * (h.end - h.begin);
    return b->c->op->pad_value ? 0u : (b->taps - read) * b->channels;
}

const uint32_t *zob_block_input(const zob_block *b, zob_span v, zob_span h) {
    const zob_tensor *in = b->in;
    const uint32_t *input = (const uint32_t *)(const void *)(b->c->arena + in->offset);
    if (v.begin == v.end || h.begin == h.end) return input; /* nothing is read */
    return input + (v.at * in->width + h.at) * zob_words(in->channels) + b->input;
}

void zob_put_sums(const zob_block *b, uint32_t pixel, int32_t *sums) {
    int16_t *high = b->high;
    if (b->gate != ZOB_NO_GATE) high += pixel * b->filters;
    if (b->gate == ZOB_HIGH_PLANE) {
        for (uint32_t f = 0; f < b->filters; f++) high[f] = (int16_t)sums[f];
        return;
    }
    if (b->gate == ZOB_LOW_PLANE) {
        for (uint32_t f = 0; f < b->filters; f++) {
            const int32_t h = high[f];
            sums[f] = 2 * h + (h < b->limits[f] ? 0 : sums[f]);
        }
    }
    zob_emit_block(b->sink, pixel, b->first, b->filters, sums);
}

static void make_block(zob_block *b, const zob_context *c, const zob_sink *sink) {
    memset(b, 0, sizeof *b);
    b->c = c;
    b->sink = sink;
    b->in = c->in;
    b->memory = c->arena + c->op->scratch;
    b->memory_bytes = c->op->scratch_bytes;
    b->channels = c->in->channels / c->op->groups;
    b->words = zob_words(b->channels);
    b->taps = (uint32_t)c->op->kernel[0] * c->op->kernel[1];
}

/* Move on to the block of filters after `done` of a group's; returns how many are done after it. */
static uint32_t next_block(zob_block *b, uint32_t group, uint32_t done) {
    const zob_op *op = b->c->op;
    const uint32_t *weights =
        (const uint32_t *)(const void *)(b->c->image + b->c->model->parameters[op->parameter].offset);
    const uint32_t filters = b->c->out->channels / op->groups;
    const uint32_t most = op->algorithm == ZOB_ALGORITHM_TABLE ? ZOB_BLOCK : ZOB_MAX_BLOCK;
    b->input = group * b->words;
    b->first = group * filters + done;
    b->filters = filters - done < most ? filters - done : most;
    b->weights = weights + b->first * b->taps * b->words;
    return done + b->filters;
}

static void run_block(const zob_block *b) {
    if (b->c->op->algorithm != ZOB_ALGORITHM_TABLE || !zob_block_table(b)) zob_block_count(b);
}

void zob_conv_binary(const zob_context *c, const zob_sink *sink) {
    const uint32_t filters = c->out->channels / c->op->groups;
    zob_block b;
    make_block(&b, c, sink);
    for (uint32_t group = 0; group < c->op->groups; group++) {
        for (uint32_t done = 0; done < filters;) {
            done = next_block(&b, group, done);
            set_limits(&b);
            run_block(&b);
        }
    }
}

void zob_conv_gated(const zob_context *c, const zob_sink *sink) {
    const uint32_t kept = (uint32_t)zob_kept_bytes(c->out);
    zob_block b;
    make_block(&b, c, sink);
    b.high = (int16_t *)(void *)b.memory;
    b.memory += kept;
    b.memory_bytes -= kept;
    for (uint32_t done = 0; done < c->out->channels;) {
        float thresholds[ZOB_MAX_BLOCK];
        done = next_block(&b, 0u, done);
        zob_decode(&c->model->parameters[c->op->bias], c->image, b.first, b.filters, thresholds);
        for (uint32_t f = 0; f < b.filters; f++) b.limits[f] = ceiling(thresholds[f]);
        b.gate = ZOB_HIGH_PLANE;
        b.in = c->in;
        run_block(&b);
        b.gate = ZOB_LOW_PLANE;
        b.in = &c->model->tensors[c->op->other];
        run_block(&b);
    }
}
