/* Convolution over floats. A dense layer is a convolution whose kernel covers its input. */
#include "zob_internal.h"

/* acc + x[0] * w[0] + x[1] * w[1] ..., added one after the other. */
static float add_products(float acc, const float *x, const float *w, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) acc = acc + x[i] * w[i];
    return acc;
}

/* Taps outside that read 1. */
static float add_weights(float acc, const float *w, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) acc = acc + w[i];
    return acc;
}

/* The sum of products of one output element, in the order (row, column, channel). */
static float dot_real(const zob_context *c, const float *input, const float *w, zob_span v, zob_span h) {
    const zob_op *op = c->op;
    const uint32_t channels = c->in->channels / op->groups, line = op->kernel[1] * channels;
    const uint32_t before = h.begin * channels, within = (h.end - h.begin) * channels;
    const int side_by_side = op->dilation[1] == 1u && op->groups == 1u;
    float acc = 0.0f;
    for (uint32_t ky = 0; ky < op->kernel[0]; ky++, w += line) {
        const float *in = input;
        if (ky < v.begin || ky >= v.end || within == 0u) {
            if (op->pad_value) acc = add_weights(acc, w, line);
            continue;
        }
        in += ((v.at + (ky - v.begin) * op->dilation[0]) * c->in->width + h.at) * c->in->channels;
        if (op->pad_value) acc = add_weights(acc, w, before);
        if (side_by_side) {
            acc = add_products(acc, in, w + before, within);
        } else {
            for (uint32_t kx = h.begin; kx < h.end; kx++, in += op->dilation[1] * c->in->channels) {
                acc = add_products(acc, in, w + kx * channels, channels);
            }
        }
        if (op->pad_value) acc = add_weights(acc, w + before + within, line - before - within);
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
            const zob_span v = zob_inside(op, 0, oy, c->in->height);
            for (uint32_t ox = 0; ox < c->out->width; ox++, pixel++) {
                const zob_span h = zob_inside(op, 1, ox, c->in->width);
                zob_emit(sink, pixel, o, dot_real(c, input + o / filters * channels, w, v, h));
            }
        }
    }
}
