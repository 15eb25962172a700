/* Convolution over packed bits: blocks of filters, and what decides their bits. */
#include <string.h>

#include "zob_binary.h"
#include "zob_rows.h"
#include "zob_steps.h"

#define MAX_COUNT 16777216 /* sums of so many products are exact in float32 */

/* From so many steps of sums of a channel on, finding its limit costs less. */
#ifdef ZOB_FP
#define MANY_STEPS 160u
#else
#define MANY_STEPS 40u
#endif

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

#define NEAR 128u    /* rounding to float32 moves a product of 32 bits by no more */
#define LEAST_BITS 12u
#define NOT_SURE INT32_MAX

/* Values of bytes, scale * n, in fixed point: those of |n| < 256 are `mantissa` * n / 2^`fraction`, before rounding. */
typedef struct {
    uint32_t mantissa, fraction;
} fixed;

/* The scale of a parameter of bytes; 0 where it is too large or too small, or n may be. */
static int fixed_of(const zob_parameter *p, fixed *to) {
    uint32_t bits, exponent;
    if (p->zero_point < 0 || p->zero_point > 255) return 0;
    memcpy(&bits, &p->scale, 4u);
    exponent = bits >> 23;
    to->mantissa = (bits & 0x7FFFFFu) | 0x800000u;
    to->fraction = 150u - exponent;
    return exponent <= 150u - LEAST_BITS && exponent > 150u - 32u;
}

static int32_t ceiling_of_value(const zob_parameter *p, const uint8_t *image, uint32_t index) {
    float value;
    zob_decode(p, image, index, 1u, &value);
    return ceiling(value);
}

/* The ceiling of the value of n; NOT_SURE where rounding to float32 might have made a whole number of one beside it. */
static ZOB_INLINE int32_t ceiling_of(fixed scale, int32_t n) {
    const uint32_t product = scale.mantissa * (uint32_t)(n < 0 ? -n : n), mask = ((uint32_t)1 << scale.fraction) - 1u;
    const uint32_t below = product & mask;
    const int32_t whole = (int32_t)(product >> scale.fraction);
    if (n < 0) return below > mask - NEAR ? NOT_SURE : -whole;
    return below - 1u < NEAR ? NOT_SURE : whole + (below != 0u);
}

/* The ceilings of `count` values of a parameter, at most ZOB_MAX_BLOCK. Bytes that repeat are looked at once. */
static void ceilings(const zob_parameter *p, const uint8_t *image, uint32_t first, uint32_t count, int32_t *to) {
    if (zob_is_plain(p) && p->encoding == ZOB_ENCODING_UNIFORM && p->bits == 8u) {
        const uint8_t *codes = image + p->offset + first;
        const int32_t zero_point = p->zero_point;
        fixed scale = {0u, 0u};
        const int is_fixed = fixed_of(p, &scale);
        uint32_t before = 256u;
        int32_t last = 0;
        for (uint32_t i = 0; i < count; i++) {
            const uint32_t code = codes[i];
            if (code != before) {
                last = is_fixed ? ceiling_of(scale, (int32_t)code - zero_point) : NOT_SURE;
                if (last == NOT_SURE) last = ceiling_of_value(p, image, first + i);
            }
            before = code;
            to[i] = last;
        }
    } else {
        float values[ZOB_MAX_BLOCK];
        zob_decode(p, image, first, count, values);
        for (uint32_t i = 0; i < count; i++) to[i] = ceiling(values[i]);
    }
}

/* The limits of a block by trial; 0 if one of its filters has none. */
static int search_limits(zob_block *b, int32_t products) {
    const int32_t reach = (int32_t)(2u * 32u * b->taps * b->words) - products; /* bits that fill up rows count, too */
    for (uint32_t f = 0; f < b->filters; f++) {
        zob_limit limit;
        if (!zob_find_limit(b->sink, b->first + f, reach, &limit)) return 0;
        b->limits[f] = products - limit.below;
        b->inverted |= (uint32_t)limit.otherwise << f;
    }
    return 1;
}

int zob_compares(const zob_model *m, const zob_op *op, const zob_op *end) {
    const zob_parameter *weight = &m->parameters[op->parameter];
    if (op->opcode != ZOB_OP_CONV || m->tensors[op->input].kind != ZOB_KIND_BINARY || end - op != 2) return 0;
    if (op[1].opcode != ZOB_OP_SIGN && op[1].opcode != ZOB_OP_THRESHOLD) return 0;
    return weight->count / weight->dims[0] / weight->row * zob_words(weight->row) <= MAX_COUNT / 32;
}

/* How the bits of a convolution's blocks are decided, if by limits. */
static void set_decided(zob_block *b) {
    const zob_op *op = b->c->op, *end = op + 1u + b->sink->count;
    b->decided = zob_compares(b->c->model, op, end);
    b->searched = !b->decided && b->sink->binary && b->taps * b->words <= MAX_COUNT / 32 &&
                  zob_pixels(b->c->out) * b->sink->count >= MANY_STEPS && zob_splits(b->c->model, op, end);
}

/* Whole numbers decide every bit exactly as the comparison of floats would: the sum, products - missing - 2 * count, is
 * less than t where 2 * count + missing is more than products - t. */
static void set_limits(zob_block *b) {
    const zob_op *step = b->c->op + 1;
    const int32_t products = (int32_t)(b->taps * b->channels);
    b->inverted = 0u;
    if (b->searched) {
        b->decided = search_limits(b, products);
    } else if (b->decided) {
        memset(b->limits, 0, sizeof b->limits);
        if (step->opcode == ZOB_OP_THRESHOLD) {
            ceilings(&b->c->model->parameters[step->parameter], b->c->image, b->first, b->filters, b->limits);
        }
        for (uint32_t f = 0; f < b->filters; f++) b->limits[f] = products - b->limits[f];
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
    if (ZOB_HAS_KERNEL(ZOB_KERNEL_TABLE) && b->c->op->algorithm == ZOB_ALGORITHM_TABLE && zob_block_table(b)) return;
    zob_block_count(b);
}

void zob_conv_binary(const zob_context *c, const zob_sink *sink) {
    const uint32_t filters = c->out->channels / c->op->groups;
    zob_block b;
    make_block(&b, c, sink);
    set_decided(&b);
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
        done = next_block(&b, 0u, done);
        ceilings(&c->model->parameters[c->op->bias], c->image, b.first, b.filters, b.limits);
        b.gate = ZOB_HIGH_PLANE;
        b.in = c->in;
        run_block(&b);
        b.gate = ZOB_LOW_PLANE;
        b.in = &c->model->tensors[c->op->other];
        run_block(&b);
    }
}
