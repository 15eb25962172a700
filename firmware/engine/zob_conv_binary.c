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
 * it is the least. Ceilings of `count` values, 1 to ZOB_MAX_BLOCK: of a parameter's, or of 0 where there is none. */
#if defined(__ARM_FP)

static ZOB_INLINE int32_t ceiling(float t) {
    int32_t whole;
    if (!(t > -(float)MAX_COUNT)) return -2 * MAX_COUNT;
    if (t >= (float)MAX_COUNT) return 2 * MAX_COUNT;
    whole = (int32_t)t;
    return whole + ((float)whole < t);
}

#else

/* In integers, as these cores have no others. */
static ZOB_INLINE int32_t ceiling(float t) {
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

#endif

/* Limits of codes are worth ways of their own, in fixed point, but where floats take as little time: those of bytes, with
 * a floating-point unit. */
#if defined(__ARM_FP) && !ZOB_HAS_KERNEL(ZOB_KERNEL_CODES_ANY)

typedef struct {
    const zob_parameter *p;
} limit_source;

static limit_source limits_of(const zob_parameter *p) {
    const limit_source s = {p};
    return s;
}

static void ceilings(const limit_source *s, const uint8_t *image, uint32_t first, uint32_t count, int32_t *to) {
    float values[ZOB_MAX_BLOCK];
    memset(to, 0, 4u * (size_t)count);
    if (!s->p) return;
    zob_decode(s->p, image, first, count, values);
    for (uint32_t i = 0; i < count; i++) to[i] = ceiling(values[i]);
}

#else

/* How the ceilings of a parameter's values are found. Those of codes are monotone in the code. */
typedef struct {
    const zob_parameter *p;
    enum { ONE_BY_ONE, ALL_EQUAL, FIXED_POINT } how;
    int32_t least;     /* that of code 0 */
    /* FIXED_POINT: scale * n is (mantissa * (n << shift)) / 2^32, or a little more; so near a whole number that float32
     * may have made one of it where the fraction is within `near` of 0 or 2^32. */
    int32_t mantissa;
    uint32_t shift, near;
} limit_source;

#define MOST_STEPS 8388608 /* n << shift has 31 bits */
#define MOST_VALUE 32768   /* half a unit in float32's last place is `value` * 2^8 / 2^32 at most */

static ZOB_NOINLINE int32_t ceiling_of_steps(const zob_parameter *p, int32_t n) { return ceiling(p->scale * (float)n); }

static int32_t larger(int32_t a, int32_t b) { return a > b ? a : b; }

static ZOB_NOINLINE limit_source limits_of_codes(const zob_parameter *p) {
    const int32_t last = ((int32_t)1 << p->bits % 32u) - 1, zero_point = p->zero_point;
    limit_source s = {p, ONE_BY_ONE, 0, 0, 0u, 0u};
    uint32_t bits, exponent, mantissa;
    int32_t greatest;
    if (zero_point < last - MOST_STEPS || zero_point > MOST_STEPS) return s;
    s.least = ceiling_of_steps(p, -zero_point);
    greatest = ceiling_of_steps(p, last - zero_point);
    if (s.least == greatest) s.how = ALL_EQUAL;
    memcpy(&bits, &p->scale, 4u);
    exponent = bits >> 23;
    mantissa = (bits & 0x7FFFFFu) | 0x800000u;
    if (s.least == greatest || s.least < -MOST_VALUE || greatest > MOST_VALUE) return s;
    if (exponent < 118u - 23u || exponent > 125u + 7u) return s;
    s.how = FIXED_POINT;
    s.near = (uint32_t)larger(larger(-s.least, greatest), 1) << 8;
    s.shift = exponent > 125u ? exponent - 125u : 0u;
    if (exponent >= 118u) {
        s.mantissa = (int32_t)(mantissa << (exponent - s.shift - 118u));
    } else {
        s.mantissa = (int32_t)(mantissa >> (118u - exponent));
        s.near += (uint32_t)larger(zero_point, last - zero_point); /* the part of a mantissa that is lost, n times */
    }
    return s;
}

static limit_source limits_of(const zob_parameter *p) {
    const int codes = p && ZOB_HAS_KERNEL(ZOB_KERNEL_CODED_LIMITS) && zob_is_plain(p) && p->encoding == ZOB_ENCODING_UNIFORM;
    const limit_source others = {p, p ? ONE_BY_ONE : ALL_EQUAL, 0, 0, 0u, 0u};
    return codes ? limits_of_codes(p) : others;
}

/* The ceilings of codes in fixed point. */
static ZOB_NOINLINE void fixed_ceilings(const limit_source *s, const uint8_t *image, uint32_t first, uint32_t count,
                                        int32_t *to) {
    const int64_t mantissa = s->mantissa;
    const uint32_t shift = s->shift, near = s->near;
    zob_decode_whole(s->p, image, first, count, to);
    do {
        const int32_t n = *to;
        const int64_t value = mantissa * (n * ((int32_t)1 << shift));
        const int unsure = (uint32_t)value + near <= 2u * near;
        *to++ = unsure ? ceiling_of_steps(s->p, n) : (int32_t)(value >> 32) + 1;
    } while (--count > 0u);
}

/* The ceilings of `count` values, 1 to ZOB_MAX_BLOCK. */
static void ceilings(const limit_source *s, const uint8_t *image, uint32_t first, uint32_t count, int32_t *to) {
    float values[ZOB_MAX_BLOCK];
    if (s->how == ALL_EQUAL) {
        const int32_t least = s->least;
        do {
            *to++ = least;
        } while (--count > 0u);
    } else if (ZOB_HAS_KERNEL(ZOB_KERNEL_CODED_LIMITS) && s->how == FIXED_POINT) {
        fixed_ceilings(s, image, first, count, to);
    } else {
        zob_decode(s->p, image, first, count, values);
        for (uint32_t i = 0; i < count; i++) to[i] = ceiling(values[i]);
    }
}

#endif

/* The limits of a block by trial; 0 if one of its filters has none. */
static ZOB_NOINLINE int search_limits(zob_block *b, int32_t products) {
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
static void set_limits(zob_block *b, const limit_source *thresholds) {
    const int32_t products = (int32_t)(b->taps * b->channels);
    b->inverted = 0u;
    if (ZOB_HAS_KERNEL(ZOB_KERNEL_SEARCHED_LIMITS) && b->searched) {
        b->decided = search_limits(b, products);
    } else if (b->decided) {
        ceilings(thresholds, b->c->image, b->first, b->filters, b->limits);
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
    if (ZOB_HAS(ZOB_OP_GATED_CONV) && b->gate != ZOB_NO_GATE) {
        int16_t *const high = b->high + pixel * b->filters;
        for (uint32_t f = 0; f < b->filters; f++) {
            const int32_t h = high[f];
            if (b->gate == ZOB_HIGH_PLANE) high[f] = (int16_t)sums[f];
            else sums[f] = 2 * h + (h < b->limits[f] ? 0 : sums[f]);
        }
        if (b->gate == ZOB_HIGH_PLANE) return;
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
    const int by_table = ZOB_HAS_KERNEL(ZOB_KERNEL_TABLE) && op->algorithm == ZOB_ALGORITHM_TABLE;
    const uint32_t most = by_table ? ZOB_BLOCK : ZOB_MAX_BLOCK;
    b->input = group * b->words;
    b->first = group * filters + done;
    b->filters = filters - done < most ? filters - done : most;
    b->weights = weights + b->first * b->taps * b->words;
    return done + b->filters;
}

static void run_block(const zob_block *b) {
    if (ZOB_HAS_KERNEL(ZOB_KERNEL_TABLE) && b->c->op->algorithm == ZOB_ALGORITHM_TABLE && zob_block_table(b)) return;
    if (ZOB_HAS_KERNEL(ZOB_KERNEL_COUNT)) zob_block_count(b);
}

void zob_conv_binary(const zob_context *c, const zob_sink *sink) {
    const uint32_t filters = c->out->channels / c->op->groups;
    const zob_parameter *threshold = NULL; /* of a sign, 0 */
    limit_source limits;
    zob_block b;
    make_block(&b, c, sink);
    if (ZOB_HAS_KERNEL(ZOB_KERNEL_LIMITS)) set_decided(&b);
    if (b.decided && c->op[1].opcode == ZOB_OP_THRESHOLD) threshold = &c->model->parameters[c->op[1].parameter];
    if (ZOB_HAS_KERNEL(ZOB_KERNEL_LIMITS)) limits = limits_of(threshold);
    for (uint32_t group = 0; group < c->op->groups; group++) {
        for (uint32_t done = 0; done < filters;) {
            done = next_block(&b, group, done);
            if (ZOB_HAS_KERNEL(ZOB_KERNEL_LIMITS)) set_limits(&b, &limits);
            run_block(&b);
        }
    }
}

void zob_conv_gated(const zob_context *c, const zob_sink *sink) {
    const uint32_t kept = (uint32_t)zob_kept_bytes(c->out);
    const limit_source thresholds = limits_of(&c->model->parameters[c->op->bias]);
    zob_block b;
    make_block(&b, c, sink);
    b.high = (int16_t *)(void *)b.memory;
    b.memory += kept;
    b.memory_bytes -= kept;
    for (uint32_t done = 0; done < c->out->channels;) {
        done = next_block(&b, 0u, done);
        ceilings(&thresholds, c->image, b.first, b.filters, b.limits);
        b.gate = ZOB_HIGH_PLANE;
        b.in = c->in;
        run_block(&b);
        b.gate = ZOB_LOW_PLANE;
        b.in = &c->model->tensors[c->op->other];
        run_block(&b);
    }
}
