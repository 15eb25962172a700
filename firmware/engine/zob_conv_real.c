/* Convolutions over floats; a dense layer is one whose kernel covers its input.
 *
 * Every sum is added up in the order (row, column, channel), one product after the other. Four output pixels side by
 * side share the loads of their weights, where all of them read whole kernel rows. */
#include "zob_internal.h"

/* Sums of `count` output pixels side by side, whose inputs lie `step` floats apart. */
typedef struct {
    uint32_t count, step;
    float of[4];
} sums;

#if defined(__thumb2__) && defined(__ARM_FP)

#define PRODUCTS(x, sum)                                                                                               \
    "vldmia %[" x "]!, {s24-s27}\n\t"                                                                                  \
    "vmul.f32 s24, s24, s20\n\t"                                                                                       \
    "vmul.f32 s25, s25, s21\n\t"                                                                                       \
    "vmul.f32 s26, s26, s22\n\t"                                                                                       \
    "vmul.f32 s27, s27, s23\n\t"                                                                                       \
    "vadd.f32 %[" sum "], %[" sum "], s24\n\t"                                                                         \
    "vadd.f32 %[" sum "], %[" sum "], s25\n\t"                                                                         \
    "vadd.f32 %[" sum "], %[" sum "], s26\n\t"                                                                         \
    "vadd.f32 %[" sum "], %[" sum "], s27\n\t"

/* Products of four weights at a time, loaded together: GCC would load one by one. Returns how many are left. */
static uint32_t add_fours(sums *s, const float **x, const float **w, uint32_t count) {
    const float *x0 = *x, *x1 = x0 + s->step, *x2 = x1 + s->step, *x3 = x2 + s->step, *weight = *w;
    float s0 = s->of[0], s1 = s->of[1], s2 = s->of[2], s3 = s->of[3];
    if (count < 4u) return count;
    __asm__("1:\n\t"
            "vldmia %[w]!, {s20-s23}\n\t" PRODUCTS("x0", "s0") PRODUCTS("x1", "s1") PRODUCTS("x2", "s2")
                PRODUCTS("x3", "s3") "subs %[n], %[n], #4\n\t"
            "cmp %[n], #4\n\t"
            "bcs 1b"
            : [w] "+r"(weight), [x0] "+r"(x0), [x1] "+r"(x1), [x2] "+r"(x2), [x3] "+r"(x3), [n] "+r"(count),
              [s0] "+t"(s0), [s1] "+t"(s1), [s2] "+t"(s2), [s3] "+t"(s3)
            :
            : "s20", "s21", "s22", "s23", "s24", "s25", "s26", "s27", "cc", "memory");
    s->of[0] = s0;
    s->of[1] = s1;
    s->of[2] = s2;
    s->of[3] = s3;
    *x = x0;
    *w = weight;
    return count;
}
#undef PRODUCTS

#else

static uint32_t add_fours(sums *s, const float **x, const float **w, uint32_t count) {
    (void)s, (void)x, (void)w;
    return count;
}

#endif

/* Add `count` products to every sum; inputs lie `apart` floats apart. */
static void add_products(sums *s, const float *x, uint32_t apart, const float *w, uint32_t count) {
    if (s->count == 4u) {
        const float *x1, *x2, *x3;
        float s0, s1, s2, s3;
        if (apart == 1u) count = add_fours(s, &x, &w, count);
        x1 = x + s->step, x2 = x1 + s->step, x3 = x2 + s->step;
        s0 = s->of[0], s1 = s->of[1], s2 = s->of[2], s3 = s->of[3];
        for (; count > 0u; count--, x += apart, x1 += apart, x2 += apart, x3 += apart) {
            const float weight = *w++;
            s0 = s0 + *x * weight;
            s1 = s1 + *x1 * weight;
            s2 = s2 + *x2 * weight;
            s3 = s3 + *x3 * weight;
        }
        s->of[0] = s0;
        s->of[1] = s1;
        s->of[2] = s2;
        s->of[3] = s3;
    } else {
        float sum = s->of[0];
        for (; apart == 1u && count >= 4u; count -= 4u, x += 4, w += 4) {
            sum = sum + x[0] * w[0];
            sum = sum + x[1] * w[1];
            sum = sum + x[2] * w[2];
            sum = sum + x[3] * w[3];
        }
        for (; count > 0u; count--, x += apart) sum = sum + *x * *w++;
        s->of[0] = sum;
    }
}

/* Taps outside that read 1. */
static ZOB_NOINLINE void add_weights(sums *s, const float *w, uint32_t count) {
    for (uint32_t i = 0; i < s->count; i++) {
        for (uint32_t j = 0; j < count; j++) s->of[i] = s->of[i] + w[j];
    }
}

/* The sums of one filter, `input` being the first input channel of its group. */
static void add_filter(const zob_context *c, const float *input, const float *w, zob_span v, zob_span h, sums *s) {
    const zob_op *op = c->op;
    const uint32_t channels = c->in->channels / op->groups, line = op->kernel[1] * channels;
    const uint32_t before = h.begin * channels, within = (h.end - h.begin) * channels;
    const uint32_t apart = op->dilation[1] * c->in->channels;
    const int side_by_side = op->dilation[1] == 1u && op->groups == 1u;
    for (uint32_t ky = 0; ky < op->kernel[0]; ky++, w += line) {
        const float *in = input;
        if (ky < v.begin || ky >= v.end || within == 0u) {
            if (op->pad_value) add_weights(s, w, line);
            continue;
        }
        in += ((v.at + (ky - v.begin) * op->dilation[0]) * c->in->width + h.at) * c->in->channels;
        if (op->pad_value) add_weights(s, w, before);
        if (side_by_side) {
            add_products(s, in, 1u, w + before, within);
        } else if (channels == 1u) {
            add_products(s, in, apart, w + before, within);
        } else {
            for (uint32_t kx = h.begin; kx < h.end; kx++, in += apart) add_products(s, in, 1u, w + kx * channels, channels);
        }
        if (op->pad_value) add_weights(s, w + before + within, line - before - within);
    }
}

/* How many pixels from column `ox` on are computed together: four, if all of them read whole kernel rows, or one. */
static uint32_t together(const zob_context *c, uint32_t ox, zob_span first) {
    zob_span last;
    if (ox + 4u > c->out->width || first.end - first.begin != c->op->kernel[1]) return 1u;
    last = zob_inside(c->op, 1, ox + 3u, c->in->width);
    return last.end - last.begin == c->op->kernel[1] ? 4u : 1u;
}

void zob_conv_real(const zob_context *c, const zob_sink *sink) {
    const zob_op *op = c->op;
    const zob_parameter *weight = &c->model->parameters[op->parameter];
    const uint32_t filter = weight->count / weight->dims[0], channels = c->in->channels / op->groups;
    const uint32_t filters = c->out->channels / op->groups, step = op->stride[1] * c->in->channels;
    float *w = (float *)(void *)(c->arena + op->scratch);
    for (uint32_t o = 0; o < c->out->channels; o++) {
        const float *input = (const float *)(const void *)(c->arena + c->in->offset) + o / filters * channels;
        uint32_t pixel = 0;
        zob_decode(weight, c->image, o * filter, filter, w);
        for (uint32_t oy = 0; oy < c->out->height; oy++) {
            const zob_span v = zob_inside(op, 0, oy, c->in->height);
            for (uint32_t ox = 0; ox < c->out->width;) {
                const zob_span h = zob_inside(op, 1, ox, c->in->width);
                sums s = {together(c, ox, h), step, {0.0f, 0.0f, 0.0f, 0.0f}};
                add_filter(c, input, w, v, h, &s);
                for (uint32_t i = 0; i < s.count; i++) zob_emit(sink, pixel++, o, s.of[i]);
                ox += s.count;
            }
        }
    }
}
