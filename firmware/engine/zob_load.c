/* Checking a plan. Everything zob_run later relies on is established here, record by record, from the bytes alone. */
#include <stddef.h>

#include "zob_internal.h"

#define MAX_ZERO_POINT 8388608 /* q - zero_point stays exact in float32 */
#define MAX_INT8_PRODUCTS 65000u
#define MAX_GATED_BITS 32767u
#define MAX_PRODUCTS 16777216u /* and so does the sum of that many products of +-1 */
#define MAX_WHOLE_SUM 1073741824u

/* Half-open ranges of bytes in the arena. */
typedef struct {
    uint64_t begin, end;
} extent;

static int overlaps(extent a, extent b) { return a.begin < b.end && b.begin < a.end; }

static uint64_t tensor_bytes(const zob_tensor *t) {
    const uint64_t pixels = (uint64_t)t->height * t->width;
    if (t->kind == ZOB_KIND_INT8) return pixels * t->channels;
    return 4u * pixels * (t->kind == ZOB_KIND_REAL ? t->channels : zob_words(t->channels));
}

static extent tensor_extent(const zob_tensor *t) {
    extent e;
    e.begin = t->offset;
    e.end = t->offset + tensor_bytes(t);
    return e;
}

static int dim_ok(uint32_t n) { return n >= 1u && n <= ZOB_MAX_DIM; }

static zob_status check_tensor(const zob_model *m, const zob_tensor *t) {
    if (t->kind > ZOB_KIND_INT8) return ZOB_E_TENSOR;
    if (t->kind == ZOB_KIND_INT8 && !(t->scale > 0.0f && t->scale <= 3.402823466e38f)) return ZOB_E_TENSOR;
    if (t->zero_point < INT8_MIN || t->zero_point > INT8_MAX) return ZOB_E_TENSOR;
    if (!dim_ok(t->height) || !dim_ok(t->width) || !dim_ok(t->channels)) return ZOB_E_TENSOR;
    if (t->offset == ZOB_NONE) return ZOB_OK;
    if (t->offset % ZOB_ALIGN || tensor_extent(t).end > m->header->arena_bytes) return ZOB_E_TENSOR;
    return ZOB_OK;
}

static int protection_ok(const zob_parameter *p) {
    if (p->protection != ZOB_PROTECTION_VOTED && p->voted != 0u) return 0;
    switch (p->protection) {
    case ZOB_PROTECTION_NONE:
    case ZOB_PROTECTION_SECDED:
        return 1;
    case ZOB_PROTECTION_HAMMING:
        return p->bits == 8u;
    case ZOB_PROTECTION_VOTED:
        return p->voted >= 1u && p->voted <= p->bits;
    default:
        return 0;
    }
}

static int is_finite(float x) { return x >= -3.402823466e38f && x <= 3.402823466e38f; }

static int encoding_ok(const zob_parameter *p) {
    if (!protection_ok(p) || p->scales > ZOB_SCALES_TMR) return 0;
    if (!ZOB_HAS_KERNEL(ZOB_KERNEL_PROTECTED) && !zob_is_plain(p)) return 0;
    if (!ZOB_HAS_KERNEL(ZOB_KERNEL_CODES) && zob_is_plain(p) && p->encoding == ZOB_ENCODING_UNIFORM) return 0;
    if (!ZOB_HAS_KERNEL(ZOB_KERNEL_CODES_ANY) && zob_is_plain(p) && p->encoding == ZOB_ENCODING_UNIFORM && p->bits != 8u) {
        return 0;
    }
    if (p->scales != ZOB_SCALES_FLASH && p->encoding != ZOB_ENCODING_UNIFORM) return 0;
    switch (p->encoding) {
    case ZOB_ENCODING_FLOAT32:
        return p->bits == 32u && p->row == 0u;
    case ZOB_ENCODING_INT32:
        return p->bits == 32u && p->row == 0u && zob_is_plain(p);
    case ZOB_ENCODING_BINARY:
        return p->bits == 1u && (p->row == 0u || p->count % p->row == 0u) && zob_is_plain(p);
    case ZOB_ENCODING_FLOAT16:
        return p->bits == 16u && p->row == 0u;
    case ZOB_ENCODING_GUARDED:
        return p->bits == 32u && p->row == 0u && p->zero_point >= 1 && p->zero_point <= 254;
    case ZOB_ENCODING_CLAMPED:
        return p->bits == 32u && p->row == 0u && is_finite(p->low) && is_finite(p->high) && p->low <= p->high;
    case ZOB_ENCODING_UNIFORM:
        return p->bits >= 2u && p->bits <= 16u && p->row == 0u && p->scale > 0.0f && p->scale <= 3.402823466e38f &&
               p->zero_point >= -MAX_ZERO_POINT && p->zero_point <= MAX_ZERO_POINT;
    default:
        return 0;
    }
}

static zob_status check_parameter(const zob_model *m, const zob_parameter *p) {
    uint64_t count = 1u, bits;
    if (p->rank < 1u || p->rank > 4u || p->offset % 4u) return ZOB_E_PARAMETER;
    for (uint32_t i = 0; i < 4u; i++) {
        if (!dim_ok(p->dims[i]) || (i >= p->rank && p->dims[i] != 1u)) return ZOB_E_PARAMETER;
        count *= p->dims[i];
        if (count > p->count) return ZOB_E_PARAMETER;
    }
    if (count != p->count || !encoding_ok(p)) return ZOB_E_PARAMETER;
    bits = zob_stored_bits(p);
    if (bits > 0xFFFFFFFFu) return ZOB_E_PARAMETER; /* read in words, the last of which may be part padding */
    if (p->offset + (bits + 31u) / 32u * 4u > m->header->image_bytes) return ZOB_E_PARAMETER;
    return ZOB_OK;
}

/* One axis of a window: every position must cover at least one element of the input. */
static int axis_ok(const zob_op *op, uint32_t axis, uint32_t in, uint32_t out) {
    const uint64_t stride = op->stride[axis], kernel = op->kernel[axis], pad = op->pad[axis];
    return stride >= 1u && kernel >= 1u && pad < kernel && (out - 1u) * stride < in + pad;
}

static int window_ok(const zob_op *op, const zob_tensor *in, const zob_tensor *out) {
    return axis_ok(op, 0, in->height, out->height) && axis_ok(op, 1, in->width, out->width);
}

/* One axis of a convolution: no position may begin behind the input; a dilated kernel may reach over it altogether. */
static int dilated_ok(const zob_op *op, uint32_t axis, uint32_t in, uint32_t out) {
    const uint64_t stride = op->stride[axis], pad = op->pad[axis];
    return stride >= 1u && op->kernel[axis] >= 1u && op->dilation[axis] >= 1u &&
           pad <= (op->kernel[axis] - 1u) * (uint64_t)op->dilation[axis] && (out - 1u) * stride < in + pad;
}

static int same_shape(const zob_tensor *a, const zob_tensor *b) {
    return a->height == b->height && a->width == b->width && a->channels == b->channels;
}

/* The parameter an index names, or null. */
static const zob_parameter *parameter_at(const zob_model *m, uint32_t index) {
    return index < m->header->parameters ? &m->parameters[index] : NULL;
}

static int per_channel(const zob_parameter *p, uint32_t channels) {
    return p && p->row == 0u && p->rank == 1u && p->count == channels;
}

/* Whole numbers whose sums fit 32 bits. */
static int whole_ok(const zob_tensor *in, const zob_parameter *w) {
    const int codes = w->encoding == ZOB_ENCODING_UNIFORM && w->scale == 1.0f && w->scales == ZOB_SCALES_FLASH;
    return (w->encoding == ZOB_ENCODING_BINARY || codes) && zob_largest_sum(in, w) < MAX_WHOLE_SUM;
}

static int conv_ok(const zob_model *m, const zob_op *op, const zob_tensor *in, const zob_tensor *out) {
    const zob_parameter *w = parameter_at(m, op->parameter);
    if (!w || w->rank != 4u || w->dims[0] != out->channels || op->pad_value > 1u || op->groups < 1u) return 0;
    if ((uint64_t)w->dims[3] * op->groups != in->channels || out->channels % op->groups) return 0;
    if (w->dims[1] != op->kernel[0] || w->dims[2] != op->kernel[1]) return 0;
    if (w->count / w->dims[0] > MAX_PRODUCTS || out->kind != ZOB_KIND_REAL) return 0;
    if (!dilated_ok(op, 0, in->height, out->height) || !dilated_ok(op, 1, in->width, out->width)) return 0;
    if (in->kind == ZOB_KIND_REAL) return w->row == 0u;
    if (in->kind == ZOB_KIND_INT8) return w->row == 0u && op->pad_value == 0u && whole_ok(in, w);
    return w->encoding == ZOB_ENCODING_BINARY && w->row == w->dims[3] && (op->groups == 1u || w->row % 32u == 0u);
}

static int gated_ok(const zob_model *m, const zob_op *op, const zob_tensor *in, const zob_tensor *out) {
    const zob_tensor *low = op->other < m->header->tensors ? &m->tensors[op->other] : NULL;
    if (!low || low->kind != ZOB_KIND_BINARY || in->kind != ZOB_KIND_BINARY || !same_shape(in, low)) return 0;
    return op->groups == 1u && op->pad_value == 0u && conv_ok(m, op, in, out) &&
           32u * (uint64_t)zob_words(in->channels) * op->kernel[0] * op->kernel[1] <= MAX_GATED_BITS &&
           per_channel(parameter_at(m, op->bias), out->channels);
}

static const zob_tensor *other_real(const zob_model *m, const zob_op *op) {
    const zob_tensor *t = op->other < m->header->tensors ? &m->tensors[op->other] : NULL;
    return t && t->kind == ZOB_KIND_REAL ? t : NULL;
}

static int mul_ok(const zob_model *m, const zob_op *op, const zob_tensor *in) {
    const zob_tensor *factor = other_real(m, op);
    return factor && (same_shape(in, factor) || (zob_pixels(factor) == 1u && factor->channels == in->channels));
}

static int concat_ok(const zob_model *m, const zob_op *op, const zob_tensor *in, const zob_tensor *out) {
    const zob_tensor *tail = other_real(m, op);
    return tail && tail->height == in->height && tail->width == in->width && out->height == in->height &&
           out->width == in->width && out->channels == (uint64_t)in->channels + tail->channels;
}

static int pad_ok(const zob_op *op, const zob_tensor *in, const zob_tensor *out) {
    return out->channels == in->channels && out->height >= (uint64_t)in->height + op->pad[0] &&
           out->width >= (uint64_t)in->width + op->pad[1];
}

static int thermometer_ok(const zob_tensor *in, const zob_tensor *out) {
    return in->kind == ZOB_KIND_REAL && out->kind == ZOB_KIND_BINARY && in->height == out->height &&
           in->width == out->width && out->channels % in->channels == 0u;
}

static int affine_ok(const zob_model *m, const zob_op *op, uint32_t channels) {
    return (op->parameter == ZOB_NONE || per_channel(parameter_at(m, op->parameter), channels)) &&
           (op->bias == ZOB_NONE || per_channel(parameter_at(m, op->bias), channels));
}

static int prelu_ok(const zob_model *m, const zob_op *op, const zob_tensor *t) {
    const zob_parameter *p = parameter_at(m, op->parameter);
    return p && p->row == 0u && (p->count == t->channels || p->count == (uint64_t)zob_pixels(t) * t->channels);
}

static int numbers_ok(const zob_model *m, uint32_t index, uint32_t rows, uint32_t columns) {
    const zob_parameter *p = parameter_at(m, index);
    return p && p->encoding == ZOB_ENCODING_INT32 && p->dims[0] == rows && p->count == rows * columns;
}

static int limits_ok(const zob_op *op) { return op->low >= -128.0f && op->low <= op->high && op->high <= 127.0f; }

/* Weights are bytes; sums of their products stay below 2^31. */
static int conv_int8_ok(const zob_model *m, const zob_op *op, const zob_tensor *in, const zob_tensor *out) {
    const zob_parameter *w = parameter_at(m, op->parameter);
    if (!w || w->rank != 4u || w->dims[0] != out->channels || op->groups < 1u) return 0;
    if (!zob_is_plain(w)) return 0;
    if (w->encoding != ZOB_ENCODING_UNIFORM || w->bits != 8u || w->zero_point != 128 || w->scale != 1.0f) return 0;
    if ((uint64_t)w->dims[3] * op->groups != in->channels || out->channels % op->groups) return 0;
    if (w->dims[1] != op->kernel[0] || w->dims[2] != op->kernel[1] || w->count / w->dims[0] > MAX_INT8_PRODUCTS) return 0;
    if (!dilated_ok(op, 0, in->height, out->height) || !dilated_ok(op, 1, in->width, out->width)) return 0;
    return limits_ok(op) && numbers_ok(m, op->bias, out->channels, 1u) &&
           numbers_ok(m, op->multiplier, out->channels, 2u);
}

static int add_int8_ok(const zob_model *m, const zob_op *op, const zob_tensor *in) {
    const zob_tensor *other = op->other < m->header->tensors ? &m->tensors[op->other] : NULL;
    return other && other->kind == ZOB_KIND_INT8 && same_shape(in, other) && limits_ok(op) &&
           numbers_ok(m, op->multiplier, 3u, 2u);
}

/* The tensors and parameters of one operation exist and fit each other. */
static int operands_ok(const zob_model *m, const zob_op *op) {
    const zob_tensor *in, *out;
    int real, int8;
    if (op->input >= m->header->tensors || op->output >= m->header->tensors) return 0;
    in = &m->tensors[op->input];
    out = &m->tensors[op->output];
    real = in->kind == ZOB_KIND_REAL && out->kind == ZOB_KIND_REAL;
    int8 = in->kind == ZOB_KIND_INT8 && out->kind == ZOB_KIND_INT8;
    switch (op->opcode) {
    case ZOB_OP_CONV:
        return conv_ok(m, op, in, out);
    case ZOB_OP_GATED_CONV:
        return ZOB_HAS(ZOB_OP_GATED_CONV) && gated_ok(m, op, in, out);
    case ZOB_OP_MAX_POOL:
        return in->kind == out->kind && in->channels == out->channels && window_ok(op, in, out);
    case ZOB_OP_AVERAGE_POOL:
        return (real || int8) && in->channels == out->channels && window_ok(op, in, out);
    case ZOB_OP_AFFINE:
        return real && same_shape(in, out) && affine_ok(m, op, in->channels);
    case ZOB_OP_PRELU:
        return real && same_shape(in, out) && prelu_ok(m, op, in);
    case ZOB_OP_CLIP:
        return real && same_shape(in, out) && op->low <= op->high;
    case ZOB_OP_SIGN:
    case ZOB_OP_LOW_BIT:
        return in->kind == ZOB_KIND_REAL && out->kind == ZOB_KIND_BINARY && same_shape(in, out);
    case ZOB_OP_THRESHOLD:
        return in->kind == ZOB_KIND_REAL && out->kind == ZOB_KIND_BINARY && same_shape(in, out) &&
               per_channel(parameter_at(m, op->parameter), in->channels);
    case ZOB_OP_UNPACK:
        return in->kind == ZOB_KIND_BINARY && out->kind == ZOB_KIND_REAL && same_shape(in, out);
    case ZOB_OP_ADD:
        return real && same_shape(in, out) && other_real(m, op) && same_shape(in, other_real(m, op));
    case ZOB_OP_MUL:
        return ZOB_HAS(ZOB_OP_MUL) && real && same_shape(in, out) && mul_ok(m, op, in);
    case ZOB_OP_CONCAT:
        return ZOB_HAS(ZOB_OP_CONCAT) && real && concat_ok(m, op, in, out);
    case ZOB_OP_PAD:
        return ZOB_HAS(ZOB_OP_PAD) && real && pad_ok(op, in, out);
    case ZOB_OP_THERMOMETER:
        return ZOB_HAS(ZOB_OP_THERMOMETER) && thermometer_ok(in, out);
    case ZOB_OP_SOFTMAX:
    case ZOB_OP_DYNAMIC_RANGE:
        return real && same_shape(in, out);
    case ZOB_OP_RESHAPE:
        return (real || int8) && tensor_bytes(in) == tensor_bytes(out) && in->offset == out->offset;
    case ZOB_OP_QUANTIZE:
        return in->kind == ZOB_KIND_REAL && out->kind == ZOB_KIND_INT8 && same_shape(in, out);
    case ZOB_OP_DEQUANTIZE:
        return in->kind == ZOB_KIND_INT8 && out->kind == ZOB_KIND_REAL && same_shape(in, out);
    case ZOB_OP_CONV_INT8:
        return ZOB_HAS(ZOB_OP_CONV_INT8) && int8 && conv_int8_ok(m, op, in, out);
    case ZOB_OP_ADD_INT8:
        return ZOB_HAS(ZOB_OP_ADD_INT8) && int8 && same_shape(in, out) && add_int8_ok(m, op, in);
    case ZOB_OP_SOFTMAX_INT8:
        return int8 && same_shape(in, out) && numbers_ok(m, op->multiplier, 1u, 2u);
    default:
        return 0;
    }
}

static int reads_other(uint32_t opcode) {
    return opcode == ZOB_OP_ADD || opcode == ZOB_OP_MUL || opcode == ZOB_OP_CONCAT || opcode == ZOB_OP_ADD_INT8 ||
           opcode == ZOB_OP_GATED_CONV;
}

/* Operations of other kinds leave `parameter` and `bias` unused, so that zob_run may decode whatever is there. */
static int unused_ok(const zob_op *op) {
    const int takes = op->opcode == ZOB_OP_CONV || op->opcode == ZOB_OP_AFFINE || op->opcode == ZOB_OP_PRELU ||
                      op->opcode == ZOB_OP_THRESHOLD || op->opcode == ZOB_OP_CONV_INT8 ||
                      op->opcode == ZOB_OP_GATED_CONV;
    const int biased =
        op->opcode == ZOB_OP_AFFINE || op->opcode == ZOB_OP_CONV_INT8 || op->opcode == ZOB_OP_GATED_CONV;
    return (takes || op->parameter == ZOB_NONE) && (biased || op->bias == ZOB_NONE) &&
           (reads_other(op->opcode) || op->other == ZOB_NONE);
}

static int is_step(uint32_t opcode) {
    return opcode == ZOB_OP_AFFINE || opcode == ZOB_OP_PRELU || opcode == ZOB_OP_CLIP || opcode == ZOB_OP_SIGN ||
           opcode == ZOB_OP_LOW_BIT || opcode == ZOB_OP_THRESHOLD || opcode == ZOB_OP_ADD || opcode == ZOB_OP_MUL;
}

static int takes_steps(const zob_model *m, const zob_op *op) {
    return op->opcode != ZOB_OP_SOFTMAX && op->opcode != ZOB_OP_RESHAPE &&
           m->tensors[op->output].kind == ZOB_KIND_REAL;
}

static int is_fused(const zob_model *m, uint32_t index) {
    return index < m->header->ops && (m->ops[index].flags & ZOB_FLAG_FUSED);
}

/* A tensor that lies in the arena and that the input or an earlier group has filled. */
static int is_filled(const zob_model *m, uint32_t tensor, uint32_t before) {
    if (m->tensors[tensor].offset == ZOB_NONE) return 0;
    if (tensor == m->header->input) return 1;
    for (uint32_t i = 0; i < before; i++) {
        if (m->ops[i].output == tensor && !is_fused(m, i + 1u)) return 1;
    }
    return 0;
}

static int is_written(const zob_model *m, uint32_t tensor, uint32_t before) {
    if (tensor == m->header->input) return 1;
    for (uint32_t i = 0; i < before; i++) {
        if (m->ops[i].output == tensor) return 1;
    }
    return 0;
}

static zob_status check_order(const zob_model *m, uint32_t index, uint32_t head) {
    const zob_op *op = &m->ops[index];
    if (op->flags & ~(ZOB_FLAG_FUSED | ZOB_FLAG_SMALL)) return ZOB_E_ORDER;
    if (is_fused(m, index)) {
        if (index == 0u || index - head >= ZOB_MAX_STEPS || !is_step(op->opcode)) return ZOB_E_ORDER;
        if (op->input != m->ops[index - 1u].output || !takes_steps(m, &m->ops[index - 1u])) return ZOB_E_ORDER;
    } else if (!is_filled(m, op->input, index)) {
        return ZOB_E_ORDER;
    }
    if (reads_other(op->opcode) && !is_filled(m, op->other, head)) return ZOB_E_ORDER;
    if (is_written(m, op->output, index)) return ZOB_E_ORDER;
    if (!is_fused(m, index + 1u) && m->tensors[op->output].offset == ZOB_NONE) return ZOB_E_ORDER;
    return ZOB_OK;
}

/* What a binary convolution needs at least: room to gather what a filter reads. */
static uint64_t patch_bytes(const zob_parameter *weight) {
    return weight->count / weight->dims[0] / weight->dims[3] * 4u * (uint64_t)zob_words(weight->dims[3]);
}

static int algorithm_ok(const zob_model *m, const zob_op *op) {
    const int gated = op->opcode == ZOB_OP_GATED_CONV;
    if (!gated && (op->opcode != ZOB_OP_CONV || m->tensors[op->input].kind != ZOB_KIND_BINARY)) {
        return op->algorithm == ZOB_ALGORITHM_NONE && op->scratch_bytes == 0u;
    }
    return op->algorithm >= ZOB_ALGORITHM_COUNT && op->algorithm <= ZOB_ALGORITHM_TABLE &&
           op->scratch_bytes >= patch_bytes(&m->parameters[op->parameter]) +
                                    (gated ? zob_kept_bytes(&m->tensors[op->output]) : 0u);
}

/* Bytes that a convolution decodes, gathers or works in (docs/spec.md, "Operations"). */
static uint64_t conv_bytes(const zob_model *m, const zob_op *op) {
    const zob_parameter *w = &m->parameters[op->parameter];
    const uint64_t taps = w->count / w->dims[0], quads = (taps + 3u) / 4u;
    switch (m->tensors[op->input].kind) {
    case ZOB_KIND_INT8:
        return quads * (w->encoding == ZOB_ENCODING_BINARY ? 160u : 40u) + zob_corrected_bytes(w);
    case ZOB_KIND_BINARY:
        return op->scratch_bytes;
    default:
        return 4u * taps;
    }
}

/* The part of the arena where an operation of a group decodes its parameters, or a convolution works. */
static extent scratch_extent(const zob_model *m, const zob_op *op, int decides) {
    uint64_t bytes = 0;
    extent e;
    if (op->opcode == ZOB_OP_CONV_INT8) {
        /* integers are used as they are stored */
    } else if (op->opcode == ZOB_OP_GATED_CONV) {
        bytes = op->scratch_bytes;
    } else if (op->opcode == ZOB_OP_CONV) {
        bytes = conv_bytes(m, op) + (decides ? 8u * (uint64_t)m->tensors[op->output].channels : 0u);
    } else if (!decides) {
        if (op->parameter != ZOB_NONE) bytes += 4u * (uint64_t)m->parameters[op->parameter].count;
        if (op->bias != ZOB_NONE) bytes += 4u * (uint64_t)m->parameters[op->bias].count;
    }
    e.begin = op->scratch;
    e.end = op->scratch + bytes;
    return e;
}

/* Two real tensors that share their storage element for element. */
static int same_place(const zob_tensor *a, const zob_tensor *b) {
    return a->kind == ZOB_KIND_REAL && b->kind == ZOB_KIND_REAL && a->offset == b->offset &&
           zob_pixels(a) == zob_pixels(b) && a->channels == b->channels;
}

/* Nothing that a group reads may lie where it writes: its output, and the scratch of each of its operations. Only what
 * it reads at the very element that it writes may be written in place. */
static zob_status check_memory(const zob_model *m, uint32_t head, uint32_t end) {
    const zob_tensor *source = &m->tensors[m->ops[head].input], *target = &m->tensors[m->ops[end - 1u].output];
    const extent in = tensor_extent(source), out = tensor_extent(target);
    const int decides = zob_decides(m, &m->ops[head], &m->ops[end]);
    if (m->ops[head].opcode == ZOB_OP_RESHAPE) return ZOB_OK;
    if (overlaps(in, out) && !(is_step(m->ops[head].opcode) && same_place(source, target))) return ZOB_E_OVERLAP;
    for (uint32_t i = head; i < end; i++) {
        const extent scratch = scratch_extent(m, &m->ops[i], decides);
        if (scratch.begin % ZOB_ALIGN || scratch.end > m->header->arena_bytes) return ZOB_E_ARENA;
        if (overlaps(scratch, in) || overlaps(scratch, out)) return ZOB_E_OVERLAP;
        for (uint32_t j = head; j < end; j++) {
            if (j != i && overlaps(scratch, scratch_extent(m, &m->ops[j], decides))) return ZOB_E_OVERLAP;
            if (reads_other(m->ops[j].opcode)) {
                const zob_tensor *tensor = &m->tensors[m->ops[j].other];
                const extent other = tensor_extent(tensor);
                const int in_place = is_step(m->ops[j].opcode) && same_place(tensor, target);
                if (overlaps(scratch, other) || (overlaps(out, other) && !in_place)) return ZOB_E_OVERLAP;
            }
        }
    }
    return ZOB_OK;
}

/* The kernels that a convolution over int8, the head of the group [op, end), needs. Bytes are weights that can be read
 * four at a time. */
static uint32_t kernels_of_bytes(const zob_model *m, const zob_op *op, const zob_op *end) {
    const zob_parameter *w = &m->parameters[op->parameter];
    const int bytes = zob_is_plain(w) && w->bits == 8u && (uint64_t)w->offset + w->count + 3u <= m->header->image_bytes;
    uint32_t kernels = zob_decides(m, op, end) ? ZOB_KERNEL_INTERVALS : ZOB_KERNEL_CODE_SUMS;
    if (op->dilation[1] != 1u || op->groups != 1u) kernels |= ZOB_KERNEL_BYTES_APART;
    if (w->encoding == ZOB_ENCODING_BINARY) return kernels | ZOB_KERNEL_SIGN_CONV;
    return kernels | (bytes ? ZOB_KERNEL_CODE_CONV : ZOB_KERNEL_CODE_CONV | ZOB_KERNEL_CODE_FIELDS);
}

/* Whether the memory of a convolution by tables has room for those of the whole kernel, in blocks of 16 filters, and for
 * what each tap counts outside the input. */
static int has_room_for_all(const zob_model *m, const zob_op *op) {
    const uint64_t taps = (uint64_t)op->kernel[0] * op->kernel[1], channels = m->parameters[op->parameter].dims[3];
    const uint64_t words = (channels + 31u) / 32u, tables = taps * words * (channels <= 16u ? 4u : 8u) * 128u;
    return op->scratch_bytes >= tables + 16u * (taps + taps * words / 6u) + 32u * (taps + m->tensors[op->output].width);
}

/* Whether it has room, in blocks of up to 32 filters, for the tables of one tap and the sums of a row, with what they read
 * if that is copied; and tables leave out no bits of the weights. Then nothing is ever counted instead. */
static int never_counts(const zob_model *m, const zob_op *op, int copied) {
    const zob_tensor *out = &m->tensors[op->output];
    const uint64_t channels = m->parameters[op->parameter].dims[3], words = (channels + 31u) / 32u, width = out->width;
    const uint64_t down = (op->kernel[0] - 1u) * (uint64_t)op->dilation[0] + op->stride[0];
    const uint64_t across = (op->kernel[1] - 1u) * (uint64_t)op->dilation[1] + (width - 1u) * op->stride[1] + 1u;
    const uint64_t kept = op->opcode == ZOB_OP_GATED_CONV ? zob_kept_bytes(out) : 0u;
    const uint64_t least = 2048u * words + 16u * (1u + words / 6u) + 64u * width + (copied ? 4u * down * across * words : 0u);
    return channels > 16u && 32u * words * op->kernel[0] * op->kernel[1] <= MAX_GATED_BITS && op->scratch_bytes >= kept + least;
}

/* The kernels that a binary convolution, the head of the group [op, end), needs. */
static uint32_t kernels_of_bits(const zob_model *m, const zob_op *op, const zob_op *end) {
    const int outside = zob_reads_outside(op, &m->tensors[op->input], &m->tensors[op->output]);
    const int table = op->algorithm == ZOB_ALGORITHM_TABLE, gated = op->opcode == ZOB_OP_GATED_CONV;
    uint32_t kernels = ZOB_KERNEL_BITS_CONV;
    if (table) kernels |= ZOB_KERNEL_TABLE;
    if (!table || !never_counts(m, op, outside && op->pad_value)) kernels |= ZOB_KERNEL_COUNT;
    if (table && !zob_compares(m, op, end)) kernels |= ZOB_KERNEL_TABLE_SUMS;
    if (table && m->parameters[op->parameter].dims[3] <= 16u) kernels |= ZOB_KERNEL_HALVES;
    if (outside) kernels |= op->pad_value ? ZOB_KERNEL_ONES_OUTSIDE : ZOB_KERNEL_NONE_OUTSIDE;
    if (outside && table && op->pad_value && has_room_for_all(m, op)) kernels |= ZOB_KERNEL_ONES_COUNTED;
    if (!gated && end - op > 2 && m->tensors[end[-1].output].kind == ZOB_KIND_BINARY) {
        kernels |= ZOB_KERNEL_LIMITS | ZOB_KERNEL_SEARCHED_LIMITS;
    }
    if (gated || zob_compares(m, op, end)) kernels |= ZOB_KERNEL_LIMITS;
    return kernels;
}

/* The kernels that the group [op, end) needs. */
static uint32_t kernels_of(const zob_model *m, const zob_op *op, const zob_op *end) {
    const uint32_t kind = m->tensors[op->input].kind;
    if (m->tensors[op->output].kind == ZOB_KIND_INT8) return ZOB_KERNEL_INT8;
    if (op->algorithm != ZOB_ALGORITHM_NONE) return kernels_of_bits(m, op, end);
    if (op->opcode == ZOB_OP_MAX_POOL || op->opcode == ZOB_OP_AVERAGE_POOL) {
        return kind == ZOB_KIND_REAL ? ZOB_KERNEL_REAL_POOL : 0u;
    }
    if (is_step(op->opcode) || op->opcode == ZOB_OP_UNPACK || op->opcode == ZOB_OP_DEQUANTIZE) return ZOB_KERNEL_COPY;
    if (op->opcode != ZOB_OP_CONV) return 0u;
    if (kind == ZOB_KIND_REAL) return zob_is_dense(m, op) ? ZOB_KERNEL_DENSE : ZOB_KERNEL_REAL_CONV;
    return kernels_of_bytes(m, op, end);
}

static zob_status check_group(const zob_model *m, uint32_t head, uint32_t end) {
    if (kernels_of(m, &m->ops[head], m->ops + end) & ~ZOB_KERNELS) return ZOB_E_OPCODE;
    return check_memory(m, head, end);
}

static zob_status check_ops(const zob_model *m, uint32_t *where) {
    uint32_t head = 0;
    for (uint32_t i = 0; i < m->header->ops; i++) {
        zob_status status;
        *where = i;
        if (m->ops[i].opcode < ZOB_OP_CONV || m->ops[i].opcode > ZOB_OP_GATED_CONV) return ZOB_E_OPCODE;
        if (!ZOB_HAS(m->ops[i].opcode)) return ZOB_E_OPCODE;
        if (!unused_ok(&m->ops[i]) || !operands_ok(m, &m->ops[i])) return ZOB_E_OPERAND;
        if (!algorithm_ok(m, &m->ops[i])) return ZOB_E_OPERAND;
        if (!is_fused(m, i)) head = i;
        status = check_order(m, i, head);
        if (status == ZOB_OK && !is_fused(m, i + 1u)) status = check_group(m, head, i + 1u);
        if (status != ZOB_OK) return status;
    }
    return ZOB_OK;
}

static zob_status check_header(const struct zob_plan_header *h, uint32_t plan_bytes) {
    uint64_t need = sizeof(struct zob_plan_header);
    if (h->magic != ZOB_PLAN_MAGIC) return ZOB_E_MAGIC;
    if (h->version != ZOB_VERSION) return ZOB_E_VERSION;
    if (h->tensors > ZOB_MAX_TENSORS || h->parameters > ZOB_MAX_PARAMETERS || h->ops > ZOB_MAX_OPS) return ZOB_E_LENGTH;
    need += (uint64_t)h->tensors * sizeof(zob_tensor) + (uint64_t)h->parameters * sizeof(zob_parameter);
    need += (uint64_t)h->ops * sizeof(zob_op);
    if (h->plan_bytes != plan_bytes || need != plan_bytes || h->ops == 0u) return ZOB_E_LENGTH;
    if (h->input >= h->tensors || h->output >= h->tensors) return ZOB_E_LENGTH;
    return ZOB_OK;
}

static zob_status check_ends(const zob_model *m) {
    const zob_tensor *in = &m->tensors[m->header->input], *out = &m->tensors[m->header->output];
    if (in->kind == ZOB_KIND_BINARY || in->offset == ZOB_NONE || out->kind != ZOB_KIND_REAL) return ZOB_E_TENSOR;
    return is_filled(m, m->header->output, m->header->ops) ? ZOB_OK : ZOB_E_ORDER;
}

zob_status zob_load(zob_model *model, const void *plan, uint32_t plan_bytes, uint32_t *where) {
    uint32_t unused;
    zob_status status;
    if (!where) where = &unused;
    *where = 0;
    if (!model || !plan || (uintptr_t)plan % 4u) return ZOB_E_ARGUMENT;
    if (plan_bytes < sizeof(struct zob_plan_header)) return ZOB_E_LENGTH;
    status = check_header((const struct zob_plan_header *)plan, plan_bytes);
    if (status != ZOB_OK) return status;
    zob_open(model, plan);
    for (*where = 0; *where < model->header->tensors; ++*where) {
        status = check_tensor(model, &model->tensors[*where]);
        if (status != ZOB_OK) return status;
    }
    for (*where = 0; *where < model->header->parameters; ++*where) {
        status = check_parameter(model, &model->parameters[*where]);
        if (status != ZOB_OK) return status;
    }
    status = check_ops(model, where);
    return status == ZOB_OK ? check_ends(model) : status;
}
