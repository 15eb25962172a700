/* Groups whose bits are decided by integers: sums of a convolution that go through steps that end in a sign.
 *
 * A channel's bit is a function of the whole number n that its filter sums up. The steps of `zob_splits` are monotone
 * in n on either side of 0, whatever the parameters hold (NaN counts as +1 at one end of its side, or on all of it), so
 * that -1 is the answer on one interval of numbers or off it. Its ends are found with the steps themselves; therefore
 * comparing integers decides as float32 arithmetic does. */
#include <stddef.h>

#include "zob_internal.h"

/* What a sum of one channel goes through, times `scale`. */
typedef struct {
    const zob_step *steps;
    uint32_t count, channel;
    float scale;
} decision;

/* The steps of one channel, with its parameters decoded. */
typedef struct {
    zob_step steps[ZOB_MAX_STEPS];
    float values[ZOB_MAX_STEPS][2];
} channel_steps;

float zob_take_one(const zob_step *s, uint32_t element, uint32_t channel, float x) {
    const uint32_t at = s->by_element ? element : channel;
    switch (s->opcode) {
    case ZOB_OP_AFFINE:
        if (s->table || s->low != 1.0f) x = x * (s->table ? s->table[channel] : s->low); /* a product with 1 is the factor */
        return s->bias ? x + s->bias[channel] : x;
    case ZOB_OP_PRELU:
        if (ZOB_HAS(ZOB_OP_PRELU) && !(x >= 0.0f)) x = x * s->table[at];
        return x;
    case ZOB_OP_CLIP:
        if (ZOB_HAS(ZOB_OP_CLIP) && x < s->low) x = s->low;
        if (ZOB_HAS(ZOB_OP_CLIP) && x > s->high) x = s->high;
        return x;
    case ZOB_OP_ADD:
        return ZOB_HAS(ZOB_OP_ADD) ? x + s->table[element] : x;
    default:
        return ZOB_HAS(ZOB_OP_MUL) ? x * s->table[at] : x;
    }
}

int zob_splits(const zob_model *m, const zob_op *op, const zob_op *end) {
    const zob_tensor *sums = &m->tensors[op->output];
    uint32_t affines = 0;
    if (m->tensors[end[-1].output].kind != ZOB_KIND_BINARY) return 0;
    for (const zob_op *step = op + 1; step < end; step++) {
        switch (step->opcode) {
        case ZOB_OP_PRELU:
            if (step != op + 1 || m->parameters[step->parameter].count != sums->channels) return 0;
            break;
        case ZOB_OP_AFFINE:
            if (affines++) return 0;
            break;
        case ZOB_OP_CLIP:
        case ZOB_OP_SIGN:
        case ZOB_OP_THRESHOLD:
            break;
        default:
            return 0;
        }
    }
    return 1;
}

int zob_decides(const zob_model *m, const zob_op *op, const zob_op *end) {
    return ZOB_HAS_KERNEL(ZOB_KERNEL_INTERVALS) && op->opcode == ZOB_OP_CONV &&
           m->tensors[op->input].kind == ZOB_KIND_INT8 && zob_splits(m, op, end);
}

/* A channel's value of a parameter, put to `to`; null where an operation has none. */
static ZOB_NOINLINE const float *decode_value(const zob_context *c, uint32_t parameter, uint32_t channel, float *to) {
    if (parameter == ZOB_NONE) return NULL;
    zob_decode(&c->model->parameters[parameter], c->image, channel, 1u, to);
    return to;
}

static void decode_channel(const zob_context *c, const zob_op *op, const zob_op *end, uint32_t channel, channel_steps *to) {
    zob_step *step = &to->steps[0];
    float(*values)[2] = to->values;
    for (op++; op < end; op++, step++, values++) {
        step->opcode = op->opcode;
        step->table = decode_value(c, op->parameter, channel, &(*values)[0]);
        step->bias = decode_value(c, op->bias, channel, &(*values)[1]);
        step->low = op->low;
        step->high = op->high;
        step->by_element = 0u;
    }
}

/* Whether n becomes -1. */
static uint32_t bit_of(const decision *d, int32_t n) {
    const zob_step *s = d->steps, *const last = s + d->count - 1u;
    float x = (float)n * d->scale;
    for (; s < last; s++) x = zob_take_one(s, d->channel, d->channel, x);
    return zob_bit_of_one(last, d->channel, x);
}

/* The first number whose bit is that of `high`; between `low` and `high` it changes once. */
static int32_t change(const decision *d, int32_t low, int32_t high) {
    const uint32_t bit = bit_of(d, high);
    while (high - low > 1) {
        const int32_t middle = low + (high - low) / 2;
        if (bit_of(d, middle) == bit) {
            high = middle;
        } else {
            low = middle;
        }
    }
    return high;
}

/* Where the bits of the numbers from -reach to reach change: at most twice. */
typedef struct {
    uint32_t first; /* the bit of -reach */
    uint32_t count;
    int32_t at[3];
} changes;

static ZOB_NOINLINE changes find_changes(const decision *d, int32_t reach) {
    const int32_t sides[4] = {-reach, -1, 0, reach};
    changes found = {bit_of(d, -reach), 0u, {0, 0, 0}};
    uint32_t bit = found.first;
    for (uint32_t i = 1; i < 4u; i++) {
        if (bit_of(d, sides[i]) == bit) continue;
        found.at[found.count++] = change(d, sides[i - 1u], sides[i]);
        bit = !bit;
    }
    return found;
}

/* The numbers from -reach to reach that give +1. */
static zob_interval interval_of(const decision *d, int32_t reach) {
    const changes found = find_changes(d, reach);
    const uint32_t begin = (uint32_t)(found.count > 0u ? found.at[0] : reach + 1);
    const uint32_t end = (uint32_t)(found.count > 1u ? found.at[1] : reach + 2);
    zob_interval v = {begin, end - begin};
    if (!found.first) v.first = end, v.width = begin - end;
    return v;
}

const zob_interval *zob_find_intervals(const zob_context *c, const zob_op *op, const zob_op *end) {
    const int32_t reach = (int32_t)zob_largest_sum(c->in, &c->model->parameters[op->parameter]);
    zob_interval *intervals = (zob_interval *)(void *)(c->arena + op->scratch);
    for (uint32_t channel = 0; channel < c->out->channels; channel++) {
        channel_steps steps;
        const decision d = {steps.steps, (uint32_t)(end - op) - 1u, 0u, c->in->scale};
        decode_channel(c, op, end, channel, &steps);
        intervals[channel] = interval_of(&d, reach);
    }
    return intervals;
}

int zob_find_limit(const zob_sink *sink, uint32_t channel, int32_t reach, zob_limit *limit) {
    const decision d = {sink->steps, sink->count, channel, 1.0f};
    const changes found = find_changes(&d, reach);
    if (found.count > 1u) return 0;
    limit->below = found.count ? found.at[0] : found.first ? reach + 1 : -reach;
    limit->otherwise = found.count && !found.first;
    return 1;
}
