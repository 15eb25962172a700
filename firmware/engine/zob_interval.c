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
    return ZOB_HAS_KERNEL(ZOB_KERNEL_CODE_CONV | ZOB_KERNEL_SIGN_CONV) && op->opcode == ZOB_OP_CONV &&
           m->tensors[op->input].kind == ZOB_KIND_INT8 && zob_splits(m, op, end);
}

static void decode_channel(const zob_context *c, const zob_op *op, const zob_op *end, uint32_t channel, channel_steps *to) {
    zob_step *step = &to->steps[0];
    float(*values)[2] = to->values;
    for (op++; op < end; op++, step++, values++) {
        const int gain = op->opcode == ZOB_OP_AFFINE && op->parameter == ZOB_NONE, biased = op->bias != ZOB_NONE;
        const zob_step made = {op->opcode, gain ? NULL : &(*values)[0], biased ? &(*values)[1] : NULL, op->low, op->high, 0u};
        (*values)[0] = 0.0f;
        if (op->parameter != ZOB_NONE) zob_decode(&c->model->parameters[op->parameter], c->image, channel, 1u, *values);
        if (biased) zob_decode(&c->model->parameters[op->bias], c->image, channel, 1u, &(*values)[1]);
        *step = made;
    }
}

/* Whether n becomes -1: what zob_steps.c does to rows, for the steps of `zob_splits` and one number. */
static int bit_of(const decision *d, int32_t n) {
    const zob_step *s = d->steps, *const last = s + d->count - 1u;
    const uint32_t channel = d->channel;
    float x = (float)n * d->scale;
    for (; s < last; s++) {
        if (s->opcode == ZOB_OP_AFFINE) {
            if (s->table || s->low != 1.0f) x = x * (s->table ? s->table[channel] : s->low);
            if (s->bias) x = x + s->bias[channel];
        } else if (s->opcode == ZOB_OP_PRELU) {
            if (!(x >= 0.0f)) x = x * s->table[channel];
        } else {
            if (x < s->low) x = s->low;
            if (x > s->high) x = s->high;
        }
    }
    return x < (s->opcode == ZOB_OP_THRESHOLD ? s->table[channel] : 0.0f);
}

/* The first number whose bit is that of `high`; between `low` and `high` it changes once. */
static int32_t change(const decision *d, int32_t low, int32_t high) {
    const int bit = bit_of(d, high);
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

/* The numbers from -reach to reach that give +1. */
static zob_interval interval_of(const decision *d, int32_t reach) {
    const int first = bit_of(d, -reach), before = bit_of(d, -1), zero = bit_of(d, 0), last = bit_of(d, reach);
    int32_t edges[4] = {reach + 1, reach + 2, 0, 0}; /* where the bit changes: at most twice */
    uint32_t n = 0;
    zob_interval inside, outside;
    if (first != before) edges[n++] = change(d, -reach, -1);
    if (before != zero) edges[n++] = 0;
    if (zero != last) edges[n++] = change(d, 0, reach);
    if (n == 1u) edges[1] = reach + 2;
    inside.first = (uint32_t)edges[0];
    inside.width = (uint32_t)edges[1] - (uint32_t)edges[0];
    outside.first = (uint32_t)edges[1];
    outside.width = (uint32_t)edges[0] - (uint32_t)edges[1];
    return first ? inside : outside;
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
    const int first = bit_of(&d, -reach), before = bit_of(&d, -1), zero = bit_of(&d, 0), last = bit_of(&d, reach);
    const int changes = (first != before) + (before != zero) + (zero != last);
    if (changes > 1) return 0;
    limit->otherwise = changes == 1 && last;
    if (first != before) {
        limit->below = change(&d, -reach, -1);
    } else if (before != zero) {
        limit->below = 0;
    } else if (zero != last) {
        limit->below = change(&d, 0, reach);
    } else {
        limit->below = first ? reach + 1 : -reach;
    }
    return 1;
}
