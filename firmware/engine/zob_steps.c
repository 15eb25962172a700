/* What a group does to the elements that its head has computed, row by row: consecutive channels of a pixel. */
#include "zob_internal.h"
#include "zob_steps.h"

/* Elements from the start of a row that zob_fp.S takes. Those behind them go through zob_take_one. */
static uint32_t fast(uint32_t count) {
#ifdef ZOB_FP
    return count - count % ZOB_FP_ROW;
#else
    return count;
#endif
}

static void mul(float *x, const float *y, uint32_t count) {
#ifdef ZOB_FP
    zob_fp_mul(x, y, count);
#else
    for (uint32_t i = 0; i < count; i++) x[i] = x[i] * y[i];
#endif
}

static void add(float *x, const float *y, uint32_t count) {
#ifdef ZOB_FP
    zob_fp_add(x, y, count);
#else
    for (uint32_t i = 0; i < count; i++) x[i] = x[i] + y[i];
#endif
}

static void prelu(float *x, const float *slope, uint32_t count) {
#ifdef ZOB_FP
    zob_fp_prelu(x, slope, count);
#else
    for (uint32_t i = 0; i < count; i++) {
        if (!(x[i] >= 0.0f)) x[i] = x[i] * slope[i];
    }
#endif
}

static void copy(float *to, const float *x, uint32_t count) {
    uint32_t i = 0;
#ifdef ZOB_FP
    i = fast(count);
    if (i) zob_fp_copy(to, x, i);
#endif
    for (; i < count; i++) to[i] = x[i];
}

static void clip(float *x, float low, float high, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        if (x[i] < low) x[i] = low;
        if (x[i] > high) x[i] = high;
    }
}

static void gain(float *x, float factor, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) x[i] = x[i] * factor;
}

static void affine(const zob_step *s, uint32_t channel, float *x, uint32_t count) {
    if (s->table) mul(x, s->table + channel, count);
    else if (s->low != 1.0f) gain(x, s->low, count); /* a product with 1 is the factor */
    if (s->bias) add(x, s->bias + channel, count);
}

/* Bit i of the result: element i becomes -1. */
static uint32_t bits_of(const zob_step *s, uint32_t channel, const float *x, uint32_t count) {
    const int threshold = ZOB_HAS(ZOB_OP_THRESHOLD) && s->opcode == ZOB_OP_THRESHOLD;
    const int low = ZOB_HAS(ZOB_OP_LOW_BIT) && s->opcode == ZOB_OP_LOW_BIT;
    uint32_t bits = 0, i = 0;
#ifdef ZOB_FP
    i = fast(count);
    if (i) {
        bits = threshold ? zob_fp_below(x, s->table + channel, i) : low ? zob_fp_low(x, &s->low, i) : zob_fp_negative(x, i);
    }
    for (; i < count; i++) bits |= zob_bit_of_one(s, channel + i, x[i]) << i;
#else
    for (; i < count; i++) {
        float limit = 0.0f;
        if (threshold) limit = s->table[channel + i];
        if (low) limit = x[i] < 0.0f ? -s->low : s->low;
        bits |= (uint32_t)(x[i] < limit) << i;
    }
#endif
    return bits;
}

static ZOB_INLINE void put_bits(const zob_sink *sink, uint32_t pixel, uint32_t channel, uint32_t count, uint32_t bits) {
    uint32_t *word = sink->binary + pixel * sink->words + channel / 32u;
    const uint32_t shift = channel % 32u;
    word[0] |= bits << shift;
    if (shift + count > 32u) word[1] |= bits >> (32u - shift);
}

void zob_put_bits(const zob_sink *sink, uint32_t pixel, uint32_t channel, uint32_t count, uint32_t bits) {
    put_bits(sink, pixel, channel, count, bits);
}

/* One step that leaves reals. `x` are `count` channels of a pixel, from `channel` on, the tensor's `element`th. */
static void take(const zob_step *s, uint32_t element, uint32_t channel, float *x, uint32_t count) {
    const uint32_t row = fast(count);
    for (uint32_t i = row; i < count; i++) x[i] = zob_take_one(s, element + i, channel + i, x[i]);
    if (row == 0u) return;
    count = row;
    switch (s->opcode) {
    case ZOB_OP_AFFINE:
        affine(s, channel, x, count);
        break;
    case ZOB_OP_PRELU:
        if (ZOB_HAS(ZOB_OP_PRELU)) prelu(x, s->table + (s->by_element ? element : channel), count);
        break;
    case ZOB_OP_CLIP:
        if (ZOB_HAS(ZOB_OP_CLIP)) clip(x, s->low, s->high, count);
        break;
    case ZOB_OP_ADD:
        if (ZOB_HAS(ZOB_OP_ADD)) add(x, s->table + element, count);
        break;
    default:
        if (ZOB_HAS(ZOB_OP_MUL)) mul(x, s->table + (s->by_element ? element : channel), count);
        break;
    }
}

/* Steps that zob_emit_block has taken. */
static ZOB_INLINE uint32_t done(const zob_sink *sink) {
#ifdef ZOB_SOFT
    if (ZOB_HAS_KERNEL(ZOB_KERNEL_CODED_SCALES)) return sink->done;
#endif
    (void)sink;
    return 0u;
}

void zob_emit_row(const zob_sink *sink, uint32_t pixel, uint32_t channel, uint32_t count, float *x) {
    const uint32_t reals = sink->count - (sink->binary ? 1u : 0u);
    const uint32_t element = pixel * sink->channels + channel;
    for (uint32_t i = done(sink); i < reals; i++) take(&sink->steps[i], element, channel, x, count);
    if (sink->binary) {
        put_bits(sink, pixel, channel, count, bits_of(&sink->steps[reals], channel, x, count));
    } else {
        float *to = sink->real + element;
        if (to != x) copy(to, x, count);
    }
}

void zob_emit_block(const zob_sink *sink, uint32_t pixel, uint32_t channel, uint32_t count, const int32_t *sums) {
    float x[ZOB_MAX_BLOCK];
    uint32_t i = 0;
#ifdef ZOB_FP
    i = fast(count);
    if (i) zob_fp_of_int(x, sums, i);
#endif
#ifdef ZOB_SOFT
    if (done(sink)) {
        const zob_step *s = sink->steps;
        zob_soft_of_sums(x, sums, s->table + channel, count);
        if (s->bias) add(x, s->bias + channel, count);
        i = count;
    }
#endif
    for (; i < count; i++) x[i] = (float)sums[i];
    zob_emit_row(sink, pixel, channel, count, x);
}

void zob_emit_reals(const zob_sink *sink, uint32_t pixel, uint32_t channel, uint32_t count, const float *x) {
    while (count > 0u) {
        const uint32_t n = count < ZOB_MAX_BLOCK ? count : ZOB_MAX_BLOCK;
        float row[ZOB_MAX_BLOCK];
        copy(row, x, n);
        zob_emit_row(sink, pixel, channel, n, row);
        channel += n;
        count -= n;
        x += n;
    }
}
