/* Convolutions: over packed bits, and over floats. A dense layer is a convolution whose kernel covers its input. */
#include "zob_internal.h"

/* The kernel positions [begin, end) of one axis that fall inside the input, and the input position of the first. */
typedef struct {
    uint32_t begin, end, at;
} span;

/* `start` and `edge` are counted from `pad` before the input: the first kernel position's place, the input's end. */
static span inside(const zob_op *op, uint32_t axis, uint32_t out, uint32_t size) {
    const uint32_t kernel = op->kernel[axis], pad = op->pad[axis], step = op->dilation[axis];
    const uint32_t start = out * op->stride[axis], edge = size + pad;
    span s;
    s.begin = start < pad ? (pad - start + step - 1u) / step : 0u;
    s.end = edge > start ? (edge - start + step - 1u) / step : 0u;
    if (s.end > kernel) s.end = kernel;
    if (s.begin > s.end) s.begin = s.end;
    s.at = start + s.begin * step - pad;
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

/* Differing bits of one filter over the taps inside the input. `corner` is the first pixel read. */
static uint32_t count_inside(const zob_context *c, const uint32_t *corner, const uint32_t *w, uint32_t words, span v, span h) {
    const zob_op *op = c->op;
    const uint32_t pixel = zob_words(c->in->channels), line = op->dilation[0] * c->in->width * pixel;
    const int whole_lines = op->dilation[1] == 1u && words == pixel; /* taps of a line lie side by side */
    uint32_t n = 0;
    for (uint32_t ky = v.begin; ky < v.end; ky++, corner += line) {
        const uint32_t *taps = w + (ky * op->kernel[1] + h.begin) * words;
        if (whole_lines) {
            n += count_differing(corner, taps, (h.end - h.begin) * words);
            continue;
        }
        for (uint32_t kx = h.begin; kx < h.end; kx++, taps += words) {
            n += count_differing(corner + (kx - h.begin) * op->dilation[1] * pixel, taps, words);
        }
    }
    return n;
}

void zob_conv_binary(const zob_context *c, const zob_sink *sink) {
    const zob_op *op = c->op;
    const uint32_t pixel_words = zob_words(c->in->channels);
    const uint32_t channels = c->in->channels / op->groups, words = zob_words(channels);
    const uint32_t filters = c->out->channels / op->groups, all = (uint32_t)op->kernel[0] * op->kernel[1];
    const uint32_t *input = (const uint32_t *)(const void *)(c->arena + c->in->offset);
    const uint32_t *weights = (const uint32_t *)(const void *)(c->image + c->model->parameters[op->parameter].offset);
    uint32_t pixel = 0;
    for (uint32_t oy = 0; oy < c->out->height; oy++) {
        const span v = inside(op, 0, oy, c->in->height);
        for (uint32_t ox = 0; ox < c->out->width; ox++, pixel++) {
            const span h = inside(op, 1, ox, c->in->width);
            const uint32_t taps = (v.end - v.begin) * (h.end - h.begin);
            const uint32_t *corner = input + (taps ? (v.at * c->in->width + h.at) * pixel_words : 0u);
            const int32_t products = (int32_t)((op->pad_value ? all : taps) * channels);
            const uint32_t *w = weights;
            for (uint32_t o = 0; o < c->out->channels; o++, w += all * words) {
                uint32_t differing = op->pad_value && taps < all ? count_outside(w, op, words, v, h) : 0u;
                if (taps) differing += count_inside(c, corner + o / filters * words, w, words, v, h);
                zob_emit(sink, pixel, o, (float)(products - 2 * (int32_t)differing));
            }
        }
    }
}

/* The sum of products of one output element, in the order (row, column, channel). */
static float dot_real(const zob_context *c, const float *input, const float *w, span v, span h) {
    const zob_op *op = c->op;
    const uint32_t channels = c->in->channels / op->groups;
    float acc = 0.0f;
    for (uint32_t ky = 0; ky < op->kernel[0]; ky++) {
        for (uint32_t kx = 0; kx < op->kernel[1]; kx++, w += channels) {
            if (ky >= v.begin && ky < v.end && kx >= h.begin && kx < h.end) {
                const uint32_t y = v.at + (ky - v.begin) * op->dilation[0], x = h.at + (kx - h.begin) * op->dilation[1];
                const float *in = input + (y * c->in->width + x) * c->in->channels;
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
    const uint32_t filter = weight->count / weight->dims[0], channels = c->in->channels / op->groups;
    const uint32_t filters = c->out->channels / op->groups;
    const float *input = (const float *)(const void *)(c->arena + c->in->offset);
    float *w = (float *)(void *)(c->arena + op->scratch);
    for (uint32_t o = 0; o < c->out->channels; o++) {
        uint32_t pixel = 0;
        zob_decode(weight, c->image, o * filter, filter, w);
        for (uint32_t oy = 0; oy < c->out->height; oy++) {
            const span v = inside(op, 0, oy, c->in->height);
            for (uint32_t ox = 0; ox < c->out->width; ox++, pixel++) {
                const span h = inside(op, 1, ox, c->in->width);
                zob_emit(sink, pixel, o, dot_real(c, input + o / filters * channels, w, v, h));
            }
        }
    }
}
