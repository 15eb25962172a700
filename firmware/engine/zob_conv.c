/* Convolutions: over packed bits, and over floats. A dense layer is a convolution whose kernel covers its input. */
#include "zob_internal.h"

/* The kernel positions [begin, end) of one axis that fall inside the input, and the input position of the first. */
typedef struct {
    uint32_t begin, end, at;
} span;

static span inside(uint32_t out, uint32_t stride, uint32_t pad, uint32_t kernel, uint32_t size) {
    const uint32_t start = out * stride; /* counted from `pad` before the input */
    span s;
    s.begin = start < pad ? pad - start : 0u;
    s.end = size + pad - start < kernel ? size + pad - start : kernel;
    s.at = start + s.begin - pad;
    return s;
}

static uint32_t popcount(uint32_t x) {
    x = x - ((x >> 1) & 0x55555555u);
    x = (x & 0x33333333u) + ((x >> 2) & 0x33333333u);
    x = (x + (x >> 4)) & 0x0F0F0F0Fu;
    return (x * 0x01010101u) >> 24;
}

static uint32_t count_bits(const uint32_t *x, uint32_t words) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < words; i++) n += popcount(x[i]);
    return n;
}

static uint32_t count_differing(const uint32_t *x, const uint32_t *w, uint32_t words) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < words; i++) n += popcount(x[i] ^ w[i]);
    return n;
}

/* Taps outside the input read +1, that is 0 bits: what differs there is the weights' own bits. */
static uint32_t count_outside(const uint32_t *w, const zob_op *op, uint32_t words, span v, span h) {
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

void zob_conv_binary(const zob_context *c, const zob_sink *sink) {
    const zob_op *op = c->op;
    const uint32_t words = zob_words(c->in->channels);
    const uint32_t *input = (const uint32_t *)(const void *)(c->arena + c->in->offset);
    const uint32_t *weights = (const uint32_t *)(const void *)(c->image + c->model->parameters[op->parameter].offset);
    const uint32_t filter = (uint32_t)op->kernel[0] * op->kernel[1] * words;
    uint32_t pixel = 0;
    for (uint32_t oy = 0; oy < c->out->height; oy++) {
        const span v = inside(oy, op->stride[0], op->pad[0], op->kernel[0], c->in->height);
        for (uint32_t ox = 0; ox < c->out->width; ox++, pixel++) {
            const span h = inside(ox, op->stride[1], op->pad[1], op->kernel[1], c->in->width);
            const uint32_t run = (h.end - h.begin) * words;
            const uint32_t *corner = input + (v.at * c->in->width + h.at) * words;
            const uint32_t all = (uint32_t)op->kernel[0] * op->kernel[1];
            const uint32_t taps = (v.end - v.begin) * (h.end - h.begin);
            const uint32_t ones = op->pad_value ? all : taps;
            const int32_t products = (int32_t)(ones * c->in->channels);
            for (uint32_t o = 0; o < c->out->channels; o++) {
                const uint32_t *w = weights + o * filter;
                uint32_t differing = op->pad_value && taps < all ? count_outside(w, op, words, v, h) : 0u;
                for (uint32_t ky = v.begin; ky < v.end; ky++) {
                    differing += count_differing(corner + (ky - v.begin) * c->in->width * words,
                                                 w + (ky * op->kernel[1] + h.begin) * words, run);
                }
                zob_emit(sink, pixel, o, (float)(products - 2 * (int32_t)differing));
            }
        }
    }
}

/* The sum of products of one output element, in the order (row, column, channel). */
static float dot_real(const zob_context *c, const float *input, const float *w, span v, span h) {
    const zob_op *op = c->op;
    const uint32_t channels = c->in->channels;
    float acc = 0.0f;
    for (uint32_t ky = 0; ky < op->kernel[0]; ky++) {
        for (uint32_t kx = 0; kx < op->kernel[1]; kx++, w += channels) {
            if (ky >= v.begin && ky < v.end && kx >= h.begin && kx < h.end) {
                const uint32_t y = v.at + ky - v.begin, x = h.at + kx - h.begin;
                const float *in = input + (y * c->in->width + x) * channels;
                for (uint32_t i = 0; i < channels; i++) acc = acc + in[i] * w[i];
            } else if (op->pad_value) {
                for (uint32_t i = 0; i < channels; i++) acc = acc + w[i];
            }
        }
    }
    return acc;
}

void zob_conv_real(const zob_context *c, const zob_sink *sink) {
    const zob_op *op = c->op;
    const zob_parameter *weight = &c->model->parameters[op->parameter];
    const uint32_t filter = weight->count / weight->dims[0];
    const float *input = (const float *)(const void *)(c->arena + c->in->offset);
    float *w = (float *)(void *)(c->arena + op->scratch);
    for (uint32_t o = 0; o < c->out->channels; o++) {
        uint32_t pixel = 0;
        zob_decode(weight, c->image, o * filter, filter, w);
        for (uint32_t oy = 0; oy < c->out->height; oy++) {
            const span v = inside(oy, op->stride[0], op->pad[0], op->kernel[0], c->in->height);
            for (uint32_t ox = 0; ox < c->out->width; ox++, pixel++) {
                const span h = inside(ox, op->stride[1], op->pad[1], op->kernel[1], c->in->width);
                zob_emit(sink, pixel, o, dot_real(c, input, w, v, h));
            }
        }
    }
}
