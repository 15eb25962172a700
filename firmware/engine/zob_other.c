/* Heads of groups that are no convolution, or a dense layer: pooling, element-wise chains, softmax. */
#include <string.h>

#include "zob_internal.h"

static const float *real_input(const zob_context *c) { return (const float *)(const void *)(c->arena + c->in->offset); }

static const uint32_t *binary_input(const zob_context *c) {
    return (const uint32_t *)(const void *)(c->arena + c->in->offset);
}

/* The part of a window that lies inside the input: rows [y0, y1), columns [x0, x1). Never empty (zob_load). */
typedef struct {
    uint32_t y0, y1, x0, x1;
} window;

static window window_at(const zob_context *c, uint32_t oy, uint32_t ox) {
    const zob_op *op = c->op;
    const uint32_t top = oy * op->stride[0], left = ox * op->stride[1];
    const uint32_t bottom = top + op->kernel[0] - op->pad[0], right = left + op->kernel[1] - op->pad[1];
    window w;
    w.y0 = top > op->pad[0] ? top - op->pad[0] : 0u;
    w.x0 = left > op->pad[1] ? left - op->pad[1] : 0u;
    w.y1 = bottom < c->in->height ? bottom : c->in->height;
    w.x1 = right < c->in->width ? right : c->in->width;
    return w;
}

static float pool(const zob_context *c, window w, uint32_t channel) {
    const float *input = real_input(c) + channel;
    const uint32_t channels = c->in->channels;
    const int mean = ZOB_HAS(ZOB_OP_AVERAGE_POOL) && (!ZOB_HAS(ZOB_OP_MAX_POOL) || c->op->opcode == ZOB_OP_AVERAGE_POOL);
    float best = input[(w.y0 * c->in->width + w.x0) * channels], sum = 0.0f;
    for (uint32_t y = w.y0; y < w.y1; y++) {
        for (uint32_t x = w.x0; x < w.x1; x++) {
            const float value = input[(y * c->in->width + x) * channels];
            if (mean) {
                sum = sum + value;
            } else if (value > best) {
                best = value;
            }
        }
    }
    return mean ? sum / (float)((w.y1 - w.y0) * (w.x1 - w.x0)) : best;
}

/* Channels of a row that begins at `channel`. */
static uint32_t row_of(uint32_t channels, uint32_t channel) {
    return channels - channel < ZOB_MAX_BLOCK ? channels - channel : ZOB_MAX_BLOCK;
}

void zob_pool_real(const zob_context *c, const zob_sink *sink) {
    uint32_t pixel = 0;
    for (uint32_t oy = 0; oy < c->out->height; oy++) {
        for (uint32_t ox = 0; ox < c->out->width; ox++, pixel++) {
            const window w = window_at(c, oy, ox);
            for (uint32_t ch = 0; ch < c->out->channels; ch += ZOB_MAX_BLOCK) {
                float row[ZOB_MAX_BLOCK];
                const uint32_t n = row_of(c->out->channels, ch);
                for (uint32_t i = 0; i < n; i++) row[i] = pool(c, w, ch + i);
                zob_emit_row(sink, pixel, ch, n, row);
            }
        }
    }
}

/* The maximum of +-1 is -1 where all are: AND of the bits. */
void zob_pool_binary(const zob_context *c) {
    const uint32_t words = zob_words(c->in->channels);
    const uint32_t *input = binary_input(c);
    uint32_t *output = (uint32_t *)(void *)(c->arena + c->out->offset);
    for (uint32_t oy = 0; oy < c->out->height; oy++) {
        for (uint32_t ox = 0; ox < c->out->width; ox++) {
            const window w = window_at(c, oy, ox);
            for (uint32_t i = 0; i < words; i++) {
                uint32_t bits = 0xFFFFFFFFu;
                for (uint32_t y = w.y0; y < w.y1; y++) {
                    for (uint32_t x = w.x0; x < w.x1; x++) bits &= input[(y * c->in->width + x) * words + i];
                }
                *output++ = bits;
            }
        }
    }
}

/* To the nearest whole number, ties away from 0. */
static int32_t mean(int32_t sum, int32_t count) {
    if (count < 1) return 0;
    return (sum > 0 ? sum + count / 2 : sum - count / 2) / count;
}

void zob_pool_int8(const zob_context *c) {
    const uint32_t channels = c->in->channels;
    const int8_t *input = (const int8_t *)(c->arena + c->in->offset);
    int8_t *output = (int8_t *)(c->arena + c->out->offset);
    for (uint32_t oy = 0; oy < c->out->height; oy++) {
        for (uint32_t ox = 0; ox < c->out->width; ox++) {
            const window w = window_at(c, oy, ox);
            const int32_t count = (int32_t)((w.y1 - w.y0) * (w.x1 - w.x0));
            for (uint32_t ch = 0; ch < channels; ch++) {
                int32_t best = INT8_MIN, sum = 0;
                for (uint32_t y = w.y0; y < w.y1; y++) {
                    for (uint32_t x = w.x0; x < w.x1; x++) {
                        const int32_t q = input[(y * c->in->width + x) * channels + ch];
                        sum += q;
                        if (q > best) best = q;
                    }
                }
                *output++ = (int8_t)(c->op->opcode == ZOB_OP_AVERAGE_POOL ? mean(sum, count) : best);
            }
        }
    }
}

/* The floats of `count` elements, from element `channel` of `pixel` on. */
static void read_row(const zob_context *c, uint32_t pixel, uint32_t channel, uint32_t count, float *row) {
    const uint32_t element = pixel * c->in->channels + channel;
    if (ZOB_HAS(ZOB_OP_DEQUANTIZE) && c->in->kind == ZOB_KIND_INT8) {
        const int8_t *q = (const int8_t *)(c->arena + c->in->offset) + element;
        for (uint32_t i = 0; i < count; i++) row[i] = (float)(q[i] - c->in->zero_point) * c->in->scale;
    } else if (!ZOB_HAS(ZOB_OP_UNPACK) || c->in->kind == ZOB_KIND_REAL) {
        memcpy(row, real_input(c) + element, 4u * (size_t)count);
    } else { /* rows begin at words */
        uint32_t bits = binary_input(c)[pixel * zob_words(c->in->channels) + channel / 32u];
        for (uint32_t i = 0; i < count; i++, bits >>= 1) row[i] = bits & 1u ? -1.0f : 1.0f;
    }
}

void zob_copy(const zob_context *c, const zob_sink *sink) {
    const uint32_t pixels = zob_pixels(c->in), channels = c->in->channels;
    const int only_bits = sink->binary && sink->count == 1u;
    float *const input = (float *)(void *)(c->arena + c->in->offset);
    /* Where nothing is changed, or what is changed is the result, rows need not be copied. */
    const int at_place = c->in->kind == ZOB_KIND_REAL && (only_bits || sink->real == input);
    for (uint32_t p = 0; p < pixels; p++) {
        for (uint32_t ch = 0; ch < channels; ch += ZOB_MAX_BLOCK) {
            float row[ZOB_MAX_BLOCK], *x = at_place ? input + p * channels + ch : row;
            const uint32_t n = row_of(channels, ch);
            if (!at_place) read_row(c, p, ch, n, row);
            zob_emit_row(sink, p, ch, n, x);
        }
    }
}

void zob_dense(const zob_context *c, const zob_sink *sink) {
    const zob_parameter *weight = &c->model->parameters[c->op->parameter];
    const uint32_t count = weight->count / weight->dims[0];
    const float *const input = (const float *)(const void *)(c->arena + c->in->offset);
    float *const filter = (float *)(void *)(c->arena + c->op->scratch);
    for (uint32_t o = 0; o < c->out->channels; o++) {
        const float *x = input, *w = filter, *const end = w + count;
        float sum = 0.0f;
        zob_decode(weight, c->image, o * count, count, filter);
        while (w < end) sum = sum + *x++ * *w++;
        zob_emit(sink, 0u, o, sum);
    }
}

/* The channels of one tensor, then those of the other. */
void zob_concat(const zob_context *c, const zob_sink *sink) {
    const zob_tensor *tail = &c->model->tensors[c->op->other];
    const float *first = real_input(c), *second = (const float *)(const void *)(c->arena + tail->offset);
    const uint32_t pixels = zob_pixels(c->in), split = c->in->channels;
    for (uint32_t p = 0; p < pixels; p++, first += split, second += tail->channels) {
        zob_emit_reals(sink, p, 0u, split, first);
        zob_emit_reals(sink, p, split, tail->channels, second);
    }
}

void zob_pad(const zob_context *c, const zob_sink *sink) {
    const float *input = real_input(c);
    const uint32_t channels = c->in->channels, top = c->op->pad[0], left = c->op->pad[1];
    uint32_t pixel = 0;
    for (uint32_t y = 0; y < c->out->height; y++) {
        for (uint32_t x = 0; x < c->out->width; x++, pixel++) {
            const int inside = y >= top && y - top < c->in->height && x >= left && x - left < c->in->width;
            if (inside) {
                zob_emit_reals(sink, pixel, 0u, channels, input + ((y - top) * c->in->width + x - left) * channels);
            } else {
                for (uint32_t ch = 0; ch < channels; ch++) zob_emit(sink, pixel, ch, c->op->low);
            }
        }
    }
}

/* Set `count` bits, from bit `first` on. */
static void set_bits(uint32_t *words, uint32_t first, uint32_t count) {
    for (words += first / 32u, first %= 32u; count > 0u; words++, first = 0u) {
        const uint32_t n = count < 32u - first ? count : 32u - first;
        *words |= (n < 32u ? ((uint32_t)1 << n) - 1u : 0xFFFFFFFFu) << first;
        count -= n;
    }
}

/* Plane k of a channel is +1 where k is below the channel's rounded level. */
void zob_thermometer(const zob_context *c) {
    const float *input = real_input(c);
    const uint32_t channels = c->in->channels, planes = c->out->channels / channels, words = zob_words(c->out->channels);
    uint32_t *out = (uint32_t *)(void *)(c->arena + c->out->offset), pixels = zob_pixels(c->in);
    memset(out, 0, 4u * (size_t)pixels * words);
    for (; pixels > 0u; pixels--, out += words) {
        for (uint32_t ch = 0; ch < channels; ch++) {
            const float level = zob_round(*input++ * c->op->low);
            uint32_t below = 0;
            if (level >= (float)planes) below = planes;
            else if (level > 0.0f) below = (uint32_t)level;
            set_bits(out, ch * planes + below, planes - below);
        }
    }
}

/* How 8 bits stand for real numbers: scale * (q - zero_point), of least <= q <= 127. */
typedef struct {
    float scale, per_unit; /* per_unit: steps a unit; 0 for a tensor of zeros */
    int32_t zero_point, least;
} code;

/* The numbers of TensorFlow Lite's SymmetricQuantizeFloats and AsymmetricQuantizeFloats, whose range contains 0. */
static code code_of(float least, float greatest, int symmetric) {
    code q = {0.0f, 0.0f, 0, symmetric ? -127 : -128};
    if (least == greatest) return q;
    if (symmetric) {
        const float reach = -least > greatest ? -least : greatest;
        q.scale = reach / 127.0f;
        q.per_unit = 127.0f / reach;
    } else {
        const double step = ((double)greatest - (double)least) / 255.0;
        const double below = -(double)least / step, above = (double)greatest / step;
        q.scale = (float)step;
        q.per_unit = 1.0f / q.scale;
        q.zero_point = zob_nearest((float)(128.0 + below < 127.0 + above ? below - 128.0 : 127.0 - above));
        if (q.zero_point < -128) q.zero_point = -128;
        if (q.zero_point > 127) q.zero_point = 127;
    }
    return q;
}

void zob_dynamic_range(const zob_context *c, const zob_sink *sink) {
    const float *input = real_input(c);
    const uint32_t channels = c->in->channels, count = zob_pixels(c->in) * channels;
    float least = 0.0f, greatest = 0.0f;
    code q;
    for (uint32_t i = 0; i < count; i++) {
        if (input[i] < least) least = input[i];
        if (input[i] > greatest) greatest = input[i];
    }
    q = code_of(least, greatest, c->op->low > 0.0f);
    for (uint32_t i = 0; i < count; i++) {
        int32_t steps = q.per_unit == 0.0f && q.scale == 0.0f ? 0 : zob_nearest((float)q.zero_point + input[i] * q.per_unit);
        if (steps < q.least) steps = q.least;
        if (steps > 127) steps = 127;
        zob_emit(sink, i / channels, i % channels, (float)(steps - q.zero_point) * q.scale);
    }
}

/* e^x for x <= 0: Cephes expf (docs/spec.md, "Softmax"). A positive x cannot come from a finite maximum; it gives 1. */
static float exp_negative(float x) {
    static const float coefficients[5] = {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f,
                                          5.0000001201e-1f};
    float n, r, y = 1.9875691500e-4f, power;
    uint32_t bits;
    if (x != x) return x;
    if (x > 0.0f) return 1.0f;
    if (x < -87.0f) return 0.0f;
    n = zob_round(x * 1.44269504f);
    r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
    for (uint32_t i = 0; i < 5u; i++) y = y * r + coefficients[i];
    y = (y * r * r + r) + 1.0f;
    bits = (uint32_t)((int32_t)n + 127) << 23;
    memcpy(&power, &bits, sizeof power);
    return y * power;
}

void zob_softmax(const zob_context *c) {
    const float *x = real_input(c);
    float *y = (float *)(void *)(c->arena + c->out->offset);
    const uint32_t pixels = zob_pixels(c->in), channels = c->in->channels;
    for (uint32_t p = 0; p < pixels; p++, x += channels, y += channels) {
        float top = x[0], sum = 0.0f;
        for (uint32_t i = 1; i < channels; i++) {
            if (x[i] > top) top = x[i];
        }
        for (uint32_t i = 0; i < channels; i++) {
            y[i] = exp_negative(x[i] - top);
            sum = sum + y[i];
        }
        for (uint32_t i = 0; i < channels; i++) y[i] = y[i] / sum;
    }
}
