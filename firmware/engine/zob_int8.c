/* Operations whose result is int8: whole numbers q that stand for scale * (q - zero_point).
 *
 * The arithmetic is that of TensorFlow Lite's reference kernels and of gemmlowp (docs/spec.md, "Integers"). Sums wrap
 * around modulo 2^32, so that any content of the parameter image has a defined result.
 */
#include "zob_internal.h"

#define SOFTMAX_BITS 5u /* integer bits of the differences that an exponential is taken of */

static int32_t wrapped_add(int32_t a, int32_t b) { return (int32_t)((uint32_t)a + (uint32_t)b); }

static int32_t wrapped_shift(int32_t x, uint32_t by) { return (int32_t)((uint32_t)x << by); }

static int32_t saturated_shift(int32_t x, uint32_t by) {
    const int64_t y = (int64_t)x * ((int64_t)1 << by);
    return y > INT32_MAX ? INT32_MAX : y < INT32_MIN ? INT32_MIN : (int32_t)y;
}

/* a * b / 2^31, rounded to nearest. */
static int32_t high_mul(int32_t a, int32_t b) {
    const int64_t ab = (int64_t)a * b;
    const int64_t nudged = ab + (ab >= 0 ? (int64_t)1 << 30 : 1 - ((int64_t)1 << 30));
    if (a == INT32_MIN && b == INT32_MIN) return INT32_MAX;
    return (int32_t)(nudged / ((int64_t)1 << 31));
}

/* x / 2^exponent, rounded to nearest, ties away from 0; exponent 0 to 31. */
static int32_t divide_by_power(int32_t x, uint32_t exponent) {
    const uint32_t mask = ((uint32_t)1 << exponent) - 1u;
    const uint32_t remainder = (uint32_t)x & mask, threshold = (mask >> 1) + (x < 0 ? 1u : 0u);
    const int32_t quotient = x >> exponent;
    return remainder > threshold ? quotient + 1 : quotient;
}

/* x times a factor: a fraction of 2^31, and a power of 2 from -31 to 30. */
static int32_t scaled(int32_t x, const int32_t *pair) {
    const int32_t shift = pair[1] < -31 ? -31 : pair[1] > 30 ? 30 : pair[1];
    x = wrapped_shift(x, shift > 0 ? (uint32_t)shift : 0u);
    return divide_by_power(high_mul(x, pair[0]), shift < 0 ? (uint32_t)-shift : 0u);
}

/* Sum with the zero point, limited to what the operation allows. */
static int8_t limited(const zob_context *c, int32_t x) {
    const int32_t low = (int32_t)c->op->low, high = (int32_t)c->op->high;
    x = wrapped_add(x, c->out->zero_point);
    return (int8_t)(x < low ? low : x > high ? high : x);
}

static const int8_t *stored(const zob_context *c, const zob_tensor *t) {
    return (const int8_t *)(c->arena + t->offset);
}

static int8_t *result(const zob_context *c) { return (int8_t *)(c->arena + c->out->offset); }

static const int32_t *numbers(const zob_context *c, uint32_t parameter) {
    return (const int32_t *)(const void *)(c->image + c->model->parameters[parameter].offset);
}

/* To the nearest step, ties away from 0; NaN counts as the least. */
static void quantize(const zob_context *c) {
    const float *x = (const float *)(const void *)(c->arena + c->in->offset);
    const uint32_t count = zob_pixels(c->in) * c->in->channels;
    int8_t *y = result(c);
    for (uint32_t i = 0; i < count; i++) y[i] = zob_quantized(c->out, x[i]);
}

/* The sum of `count` products; stored weights have the sign bit inverted. Both factors fit int16. */
static int32_t add_products(int32_t acc, const int8_t *x, int32_t zero_point, const uint8_t *w, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) acc += (int16_t)(x[i] - zero_point) * (int16_t)(w[i] - 128);
    return acc;
}

/* The sum of a filter's products with the part (v, h) of its window that lies inside; x and w: at the group's first
 * channel and the filter's first weight. A row of the window is one run where its pixels lie side by side. */
static int32_t add_window(const zob_context *c, const zob_span *v, const zob_span *h, const int8_t *x, const uint8_t *w,
                          uint32_t channels) {
    const zob_op *op = c->op;
    const uint32_t pixels = h->end - h->begin, whole = op->groups == 1u && op->dilation[1] == 1u;
    const uint32_t runs = whole ? 1u : pixels, run = whole ? pixels * channels : channels;
    int32_t acc = 0;
    for (uint32_t ky = v->begin; ky < v->end; ky++) {
        const uint32_t row = (v->at + (ky - v->begin) * op->dilation[0]) * c->in->width + h->at;
        for (uint32_t i = 0; i < runs; i++) {
            const int8_t *at = x + (row + i * op->dilation[1]) * c->in->channels;
            acc = add_products(acc, at, c->in->zero_point, w + (ky * op->kernel[1] + h->begin + i) * channels, run);
        }
    }
    return acc;
}

static void conv(const zob_context *c) {
    const zob_op *op = c->op;
    const uint32_t channels = c->in->channels / op->groups, filters = c->out->channels / op->groups;
    const uint32_t filter = (uint32_t)op->kernel[0] * op->kernel[1] * channels;
    const uint8_t *weights = c->image + c->model->parameters[op->parameter].offset;
    const int32_t *bias = numbers(c, op->bias), *pairs = numbers(c, op->multiplier);
    int8_t *y = result(c);
    for (uint32_t oy = 0; oy < c->out->height; oy++) {
        const zob_span v = zob_inside(op, 0, oy, c->in->height);
        for (uint32_t ox = 0; ox < c->out->width; ox++) {
            const zob_span h = zob_inside(op, 1, ox, c->in->width);
            for (uint32_t o = 0; o < c->out->channels; o++) {
                const int8_t *x = stored(c, c->in) + o / filters * channels;
                const int32_t acc = add_window(c, &v, &h, x, weights + o * filter, channels);
                *y++ = limited(c, scaled(wrapped_add(acc, bias[o]), pairs + 2u * o));
            }
        }
    }
}

static void add(const zob_context *c) {
    const zob_tensor *other = &c->model->tensors[c->op->other];
    const int8_t *a = stored(c, c->in), *b = stored(c, other);
    const int32_t *pairs = numbers(c, c->op->multiplier);
    const uint32_t count = zob_pixels(c->in) * c->in->channels;
    int8_t *y = result(c);
    for (uint32_t i = 0; i < count; i++) {
        const int32_t first = scaled((a[i] - c->in->zero_point) * (1 << 20), pairs);
        const int32_t second = scaled((b[i] - other->zero_point) * (1 << 20), pairs + 2);
        y[i] = limited(c, scaled(wrapped_add(first, second), pairs + 4));
    }
}

/* exp of a number <= 0 in units of 2^-26, in fractions of 2^31. */
static int32_t exp_negative(int32_t a) {
    static const int32_t steps[7] = {1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242};
    const int32_t quarter = 1 << 24, rest = (a & (quarter - 1)) - quarter;
    const int32_t x = wrapped_add(saturated_shift(rest, SOFTMAX_BITS), 1 << 28);
    const int32_t x2 = high_mul(x, x), x3 = high_mul(x2, x), x4 = high_mul(x2, x2);
    const int32_t tail = high_mul(wrapped_add(divide_by_power(x4, 2u), x3), 715827883);
    const int32_t series = divide_by_power(wrapped_add(tail, x2), 1u);
    const uint32_t remainder = (uint32_t)rest - (uint32_t)a;
    int32_t y = wrapped_add(1895147668, high_mul(wrapped_add(x, series), 1895147668));
    if (a == 0) return INT32_MAX;
    for (uint32_t i = 0; i < 7u; i++) {
        if (remainder & ((uint32_t)quarter << i)) y = high_mul(y, steps[i]);
    }
    return y;
}

static uint32_t leading_zeros(uint32_t x) {
    uint32_t n = 0;
    for (; n < 31u && !(x & 0x80000000u); n++) x <<= 1;
    return n;
}

/* 1 / x in fractions of 2^31, x shifted left by `headroom` until its highest bit is set. */
static int32_t reciprocal(uint32_t x, uint32_t headroom) {
    const int64_t total = (int64_t)(int32_t)((x << headroom) - 0x80000000u) + INT32_MAX;
    const int32_t half = (int32_t)((total + (total >= 0 ? 1 : -1)) / 2);
    int32_t y = wrapped_add(1515870810, high_mul(half, -1010580540));
    for (uint32_t i = 0; i < 3u; i++) {
        const int32_t rest = wrapped_add(1 << 29, (int32_t)(0u - (uint32_t)high_mul(half, y)));
        y = wrapped_add(y, saturated_shift(high_mul(y, rest), 2u));
    }
    return saturated_shift(y, 1u);
}

/* One pixel: shares of 256, less 128. */
static void softmax_pixel(const int8_t *x, int8_t *y, uint32_t channels, const int32_t *pair) {
    const uint32_t shift = pair[1] < 0 ? 0u : pair[1] > 30 ? 30u : (uint32_t)pair[1];
    const int32_t least = -(int32_t)((((uint32_t)1 << SOFTMAX_BITS) - 1u) << (31u - SOFTMAX_BITS) >> shift);
    int32_t top = x[0], total = 0, fraction, over;
    uint32_t headroom, exponent;
    for (uint32_t i = 1; i < channels; i++) {
        if (x[i] > top) top = x[i];
    }
    for (uint32_t i = 0; i < channels; i++) {
        const int32_t e = exp_negative(high_mul(wrapped_shift(x[i] - top, shift), pair[0]));
        if (x[i] - top >= least) total = wrapped_add(total, divide_by_power(e, 12u));
    }
    headroom = leading_zeros((uint32_t)total);
    fraction = reciprocal((uint32_t)total, headroom);
    over = 12 - (int32_t)headroom + 31 - 8;
    exponent = over < 0 ? 0u : over > 31 ? 31u : (uint32_t)over;
    for (uint32_t i = 0; i < channels; i++) {
        const int32_t e = exp_negative(high_mul(wrapped_shift(x[i] - top, shift), pair[0]));
        const int64_t share = (int64_t)divide_by_power(high_mul(fraction, e), exponent) - 128;
        const int64_t q = share < INT8_MIN ? INT8_MIN : share > INT8_MAX ? INT8_MAX : share;
        y[i] = x[i] - top >= least ? (int8_t)q : (int8_t)INT8_MIN;
    }
}

static void softmax(const zob_context *c) {
    const uint32_t pixels = zob_pixels(c->in), channels = c->in->channels;
    for (uint32_t p = 0; p < pixels; p++) {
        softmax_pixel(stored(c, c->in) + p * channels, result(c) + p * channels, channels, numbers(c, c->op->multiplier));
    }
}

void zob_int8(const zob_context *c) {
    switch (c->op->opcode) {
    case ZOB_OP_QUANTIZE:
        quantize(c);
        break;
    case ZOB_OP_CONV_INT8:
        conv(c);
        break;
    case ZOB_OP_ADD_INT8:
        add(c);
        break;
    case ZOB_OP_SOFTMAX_INT8:
        softmax(c);
        break;
    default:
        zob_pool_int8(c);
        break;
    }
}
