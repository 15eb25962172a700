/* Inference: group by group over the arena. */
#include <string.h>

#include "zob_internal.h"

static const float *decoded(const zob_context *c, uint32_t parameter, uint8_t **scratch) {
    const zob_parameter *p = &c->model->parameters[parameter];
    float *out = (float *)(void *)*scratch;
    zob_decode(p, c->image, 0u, p->count, out);
    *scratch += 4u * (size_t)p->count;
    return out;
}

static const float *stored(const zob_context *c, uint32_t tensor) {
    return (const float *)(const void *)(c->arena + c->model->tensors[tensor].offset);
}

/* Make a step of an operation: decode what it needs, once a layer, into the arena. */
static zob_step make_step(const zob_context *c, const zob_op *op) {
    uint8_t *scratch = c->arena + op->scratch;
    zob_step s = {op->opcode, NULL, NULL, op->low, op->high, 0u};
    if ((ZOB_HAS(ZOB_OP_ADD) && op->opcode == ZOB_OP_ADD) || (ZOB_HAS(ZOB_OP_MUL) && op->opcode == ZOB_OP_MUL)) {
        s.table = stored(c, op->other);
        s.by_element = zob_pixels(&c->model->tensors[op->other]) != 1u;
    } else if (op->parameter != ZOB_NONE) {
        s.table = decoded(c, op->parameter, &scratch);
        s.by_element = c->model->parameters[op->parameter].count != c->model->tensors[op->output].channels;
    }
    if (op->bias != ZOB_NONE) s.bias = decoded(c, op->bias, &scratch);
    return s;
}

#ifdef ZOB_SOFT
#define MOST_WORDS 65536u /* six times their bits, more than a gated sum with flipped weights, are less than 2^24 */

/* Whether a group, of sums of bits that fit 24 bits, begins with an affine by values of codes of which no product with
 * them is too large or too small for a normal float, whatever the codes hold: their scale lies in the plan. */
static uint32_t scales_sums(const zob_context *c, const zob_op *op, const zob_op *end) {
    const uint64_t words = (uint64_t)op->kernel[0] * op->kernel[1] * zob_words(c->in->channels);
    const zob_parameter *p;
    uint32_t bits;
    if (c->in->kind != ZOB_KIND_BINARY || (op->opcode != ZOB_OP_CONV && op->opcode != ZOB_OP_GATED_CONV)) return 0u;
    op++;
    if (op == end || op->opcode != ZOB_OP_AFFINE || op->parameter == ZOB_NONE || words > MOST_WORDS) return 0u;
    p = &c->model->parameters[op->parameter];
    memcpy(&bits, &p->scale, 4u);
    return zob_is_plain(p) && p->encoding == ZOB_ENCODING_UNIFORM && (bits >> 23) - 1u < 254u - 32u - 24u;
}
#endif

/* Operations that compute elements of their own; all others take the input's elements through steps. */
#define HEADS                                                                                                          \
    (1u << ZOB_OP_CONV | 1u << ZOB_OP_GATED_CONV | 1u << ZOB_OP_MAX_POOL | 1u << ZOB_OP_AVERAGE_POOL |                 \
     1u << ZOB_OP_UNPACK | 1u << ZOB_OP_DEQUANTIZE | 1u << ZOB_OP_SOFTMAX | 1u << ZOB_OP_RESHAPE | 1u << ZOB_OP_CONCAT | \
     1u << ZOB_OP_PAD | 1u << ZOB_OP_THERMOMETER | 1u << ZOB_OP_DYNAMIC_RANGE)
static uint32_t is_head(uint32_t opcode) { return (HEADS >> opcode) & 1u; }

/* The group's operations that work element by element, and where their results go. */
static void make_sink(const zob_context *c, const zob_op *op, const zob_op *end, zob_sink *sink) {
    const zob_tensor *out = &c->model->tensors[end[-1].output];
    sink->count = 0;
    sink->channels = out->channels;
    sink->words = zob_words(out->channels);
    sink->real = NULL;
    sink->binary = NULL;
    sink->intervals = NULL;
#ifdef ZOB_SOFT
    sink->done = ZOB_HAS_KERNEL(ZOB_KERNEL_CODED_SCALES) ? scales_sums(c, op, end) : 0u;
#endif
    if (out->kind == ZOB_KIND_REAL) {
        sink->real = (float *)(void *)(c->arena + out->offset);
    } else {
        sink->binary = (uint32_t *)(void *)(c->arena + out->offset);
        memset(sink->binary, 0, 4u * (size_t)zob_pixels(out) * sink->words);
    }
    if (ZOB_HAS_KERNEL(ZOB_KERNEL_INTERVALS) && zob_decides(c->model, op, end)) {
        sink->intervals = zob_find_intervals(c, op, end);
        return;
    }
    if (ZOB_HAS_KERNEL(ZOB_KERNEL_LIMITS) && zob_compares(c->model, op, end)) {
        sink->count = 1u;
        return;
    }
    for (op += is_head(op->opcode); op < end; op++) sink->steps[sink->count++] = make_step(c, op);
}

/* Compute the elements of a group's head and send each through the sink. What the firmware was built without, zob_load
 * has refused. */
static void run_elements(const zob_context *c, const zob_sink *sink) {
    switch (c->op->opcode) {
    case ZOB_OP_CONV:
        if (c->in->kind == ZOB_KIND_BINARY) {
            if (ZOB_HAS_KERNEL(ZOB_KERNEL_BITS_CONV)) zob_conv_binary(c, sink);
        } else if (c->in->kind == ZOB_KIND_INT8) {
            if (ZOB_HAS_KERNEL(ZOB_KERNEL_CODE_CONV | ZOB_KERNEL_SIGN_CONV)) zob_conv_bytes(c, sink);
        } else if (ZOB_HAS_KERNEL(ZOB_KERNEL_REAL_CONV) && (!ZOB_HAS_KERNEL(ZOB_KERNEL_DENSE) || !zob_is_dense(c->model, c->op))) {
            zob_conv_real(c, sink);
        } else {
            if (ZOB_HAS_KERNEL(ZOB_KERNEL_DENSE)) zob_dense(c, sink);
        }
        break;
    case ZOB_OP_GATED_CONV:
        if (ZOB_HAS(ZOB_OP_GATED_CONV)) zob_conv_gated(c, sink);
        break;
    case ZOB_OP_MAX_POOL:
    case ZOB_OP_AVERAGE_POOL:
        if (ZOB_HAS_KERNEL(ZOB_KERNEL_REAL_POOL)) zob_pool_real(c, sink);
        break;
    case ZOB_OP_CONCAT:
        if (ZOB_HAS(ZOB_OP_CONCAT)) zob_concat(c, sink);
        break;
    case ZOB_OP_PAD:
        if (ZOB_HAS(ZOB_OP_PAD)) zob_pad(c, sink);
        break;
    case ZOB_OP_DYNAMIC_RANGE:
        if (ZOB_HAS(ZOB_OP_DYNAMIC_RANGE)) zob_dynamic_range(c, sink);
        break;
    default:
        if (ZOB_HAS_KERNEL(ZOB_KERNEL_COPY)) zob_copy(c, sink);
        break;
    }
}

static ZOB_INLINE void run_group(zob_context *c, const zob_op *op, const zob_op *end) {
    c->op = op;
    c->in = &c->model->tensors[op->input];
    c->out = &c->model->tensors[op->output];
    if (op->opcode == ZOB_OP_RESHAPE) {
        return; /* the same storage under another shape */
    }
    if (ZOB_HAS_KERNEL(ZOB_KERNEL_INT8) && c->out->kind == ZOB_KIND_INT8) {
        zob_int8(c);
    } else if (ZOB_HAS(ZOB_OP_THERMOMETER) && op->opcode == ZOB_OP_THERMOMETER) {
        zob_thermometer(c);
    } else if (ZOB_HAS(ZOB_OP_SOFTMAX) && op->opcode == ZOB_OP_SOFTMAX) {
        zob_softmax(c);
    } else if (ZOB_HAS(ZOB_OP_MAX_POOL) && op->opcode == ZOB_OP_MAX_POOL && c->in->kind == ZOB_KIND_BINARY) {
        zob_pool_binary(c);
    } else {
        zob_sink sink;
        make_sink(c, op, end, &sink);
        run_elements(c, &sink);
    }
}

static float of_pixel(const zob_model *m, uint32_t p) {
    return (float)p * m->header->pixel_scale + m->header->pixel_offset;
}

static void read_real(const zob_model *m, const void *input, uint32_t format, float *x) {
    const uint32_t count = zob_input_count(m);
    if (format == ZOB_INPUT_FLOAT32) {
        memcpy(x, input, 4u * (size_t)count);
    } else {
        for (uint32_t i = 0; i < count; i++) x[i] = of_pixel(m, ((const uint8_t *)input)[i]);
    }
}

static ZOB_NOINLINE void read_int8(const zob_model *m, const void *input, uint32_t format, int8_t *q) {
    const zob_tensor *t = &m->tensors[m->header->input];
    const uint32_t count = zob_input_count(m);
    int8_t of[256];
    if (format == ZOB_INPUT_FLOAT32) {
        for (uint32_t i = 0; i < count; i++) q[i] = zob_quantized(t, ((const float *)input)[i]);
    } else {
        for (uint32_t p = 0; p < 256u; p++) of[p] = zob_quantized(t, of_pixel(m, p));
        for (uint32_t i = 0; i < count; i++) q[i] = of[((const uint8_t *)input)[i]];
    }
}

static void read_input(const zob_model *m, const void *input, uint32_t format, uint8_t *arena) {
    const zob_tensor *t = &m->tensors[m->header->input];
    const uint32_t of_int8 = ZOB_KERNEL_INT8 | ZOB_KERNEL_CODE_CONV | ZOB_KERNEL_SIGN_CONV;
    if (ZOB_HAS_KERNEL(of_int8) && t->kind == ZOB_KIND_INT8) {
        read_int8(m, input, format, (int8_t *)(arena + t->offset));
    } else {
        read_real(m, input, format, (float *)(void *)(arena + t->offset));
    }
}

static void write_scores(const zob_model *m, const uint8_t *arena, float *scores) {
    static const uint32_t canonical_nan = 0x7FC00000u;
    const uint32_t count = zob_output_count(m);
    memcpy(scores, arena + m->tensors[m->header->output].offset, 4u * (size_t)count);
    for (uint32_t i = 0; i < count; i++) {
        if (scores[i] != scores[i]) memcpy(&scores[i], &canonical_nan, 4u);
    }
}

static zob_status check_buffers(const zob_model *m, const void *arena, uint32_t arena_bytes) {
    if (!m || !arena || (uintptr_t)arena % 8u) return ZOB_E_ARGUMENT;
    return arena_bytes < m->header->arena_bytes ? ZOB_E_ARENA : ZOB_OK;
}

/* True for the first operation of a group, and for the end of all. */
static int is_boundary(const zob_model *m, uint32_t op) {
    return op == m->header->ops || (op < m->header->ops && !(m->ops[op].flags & ZOB_FLAG_FUSED));
}

static zob_status check_image(const zob_model *m, const void *image, uint32_t image_bytes) {
    if (!image || (uintptr_t)image % 4u) return ZOB_E_ARGUMENT;
    return image_bytes == m->header->image_bytes ? ZOB_OK : ZOB_E_IMAGE;
}

static ZOB_INLINE void run_groups(const zob_model *m, const void *image, void *arena, uint32_t first, uint32_t end) {
    const zob_op *op, *next, *const last = m->ops + end;
    zob_context c;
    c.model = m;
    c.image = (const uint8_t *)image;
    c.arena = (uint8_t *)arena;
    for (op = m->ops + first; op < last; op = next) {
        for (next = op + 1; next < last && (next->flags & ZOB_FLAG_FUSED); next++) {}
        run_group(&c, op, next);
    }
}

zob_status zob_put_input(const zob_model *model, const void *input, uint32_t format, void *arena, uint32_t arena_bytes) {
    const zob_status status = check_buffers(model, arena, arena_bytes);
    if (status != ZOB_OK) return status;
    if (!input || format > ZOB_INPUT_UINT8) return ZOB_E_ARGUMENT;
    read_input(model, input, format, (uint8_t *)arena);
    return ZOB_OK;
}

zob_status zob_run_ops(const zob_model *model, const void *image, uint32_t image_bytes, void *arena,
                       uint32_t arena_bytes, uint32_t first, uint32_t end) {
    zob_status status = check_buffers(model, arena, arena_bytes);
    if (status == ZOB_OK) status = check_image(model, image, image_bytes);
    if (status != ZOB_OK) return status;
    if (!is_boundary(model, first) || !is_boundary(model, end)) return ZOB_E_ORDER;
    run_groups(model, image, arena, first, end);
    return ZOB_OK;
}

zob_status zob_get_scores(const zob_model *model, const void *arena, uint32_t arena_bytes, float *scores) {
    const zob_status status = check_buffers(model, arena, arena_bytes);
    if (status != ZOB_OK) return status;
    if (!scores) return ZOB_E_ARGUMENT;
    write_scores(model, (const uint8_t *)arena, scores);
    return ZOB_OK;
}

zob_status zob_run(const zob_model *model, const void *image, uint32_t image_bytes, const void *input, uint32_t format,
                   void *arena, uint32_t arena_bytes, float *scores) {
    zob_status status = scores ? zob_put_input(model, input, format, arena, arena_bytes) : ZOB_E_ARGUMENT;
    if (status == ZOB_OK) status = zob_run_ops(model, image, image_bytes, arena, arena_bytes, 0u, model->header->ops);
    return status == ZOB_OK ? zob_get_scores(model, arena, arena_bytes, scores) : status;
}
