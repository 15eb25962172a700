/* A model: where a plan's records lie, and what they say about it. */
#include <string.h>

#include "zob_fault.h"
#include "zob_internal.h"

void zob_open(zob_model *model, const void *plan) {
    model->header = (const struct zob_plan_header *)plan;
    model->tensors = (const zob_tensor *)(const void *)(model->header + 1);
    model->parameters = (const zob_parameter *)(const void *)(model->tensors + model->header->tensors);
    model->ops = (const zob_op *)(const void *)(model->parameters + model->header->parameters);
}

zob_status zob_adopt(zob_model *model, const void *plan, uint32_t plan_bytes, uint32_t crc) {
    if (!model || !plan || (uintptr_t)plan % 4u) return ZOB_E_ARGUMENT;
    if (plan_bytes < sizeof(struct zob_plan_header)) return ZOB_E_LENGTH;
    if (zob_crc32(0u, plan, plan_bytes) != crc) return ZOB_E_PLAN;
    zob_open(model, plan);
    return ZOB_OK;
}

/* `start` and `edge` are counted from `pad` before the input: the first kernel position's place, the input's end. */
zob_span zob_inside(const zob_op *op, uint32_t axis, uint32_t out, uint32_t size) {
    const uint32_t kernel = op->kernel[axis], pad = op->pad[axis], step = op->dilation[axis];
    const uint32_t start = out * op->stride[axis], edge = size + pad;
    zob_span s;
    if (start >= pad && start + (kernel - 1u) * step < edge) {
        s.begin = 0u;
        s.end = kernel;
        s.at = start - pad;
        return s;
    }
    s.begin = start < pad ? zob_steps(pad - start, step) : 0u;
    s.end = edge > start ? zob_steps(edge - start, step) : 0u;
    if (s.end > kernel) s.end = kernel;
    if (s.begin > s.end) s.begin = s.end;
    s.at = start + s.begin * step - pad;
    return s;
}

void zob_decode_others(const zob_parameter *p, const uint8_t *bytes, uint32_t first, uint32_t count, float *out) {
    for (uint32_t i = first; i < first + count; i++) {
        int32_t q = 0;
        if (p->encoding == ZOB_ENCODING_INT32) memcpy(&q, bytes + 4u * i, 4u);
        if (p->encoding == ZOB_ENCODING_BINARY) q = (uint32_t)bytes[i / 8u] >> i % 8u & 1u ? -1 : 1;
        *out++ = (float)q;
    }
}

static int axis_reads_outside(const zob_op *op, uint32_t axis, uint32_t in, uint32_t out) {
    const uint32_t reach = (out - 1u) * op->stride[axis] + (op->kernel[axis] - 1u) * op->dilation[axis];
    return op->pad[axis] > 0u || reach >= in;
}

int zob_reads_outside(const zob_op *op, const zob_tensor *in, const zob_tensor *out) {
    return axis_reads_outside(op, 0u, in->height, out->height) || axis_reads_outside(op, 1u, in->width, out->width);
}

uint32_t zob_arena_bytes(const zob_model *model) { return model->header->arena_bytes; }

uint32_t zob_image_bytes(const zob_model *model) { return model->header->image_bytes; }

uint32_t zob_input_count(const zob_model *model) {
    const zob_tensor *t = &model->tensors[model->header->input];
    return zob_pixels(t) * t->channels;
}

uint32_t zob_output_count(const zob_model *model) {
    const zob_tensor *t = &model->tensors[model->header->output];
    return zob_pixels(t) * t->channels;
}

uint32_t zob_op_count(const zob_model *model) { return model->header->ops; }

const char *zob_status_text(zob_status status) {
    static const char *const texts[] = {
        "ok",
        "a pointer is null or misaligned, or the input format is unknown",
        "it is no plan",
        "the plan has another format version",
        "lengths and counts of the plan do not add up",
        "a tensor has an impossible kind, size or offset",
        "a parameter has an impossible encoding, size or offset",
        "an operation is unknown, or this firmware was built without it",
        "an operation does not fit its tensors or parameters",
        "an operation reads what nothing before it wrote, or is fused wrongly",
        "an operation writes over what it reads",
        "the arena is too small",
        "the parameter image has the wrong size",
        "the plan is not the one that was adopted",
    };
    const uint32_t index = (uint32_t)status;
    return index < sizeof texts / sizeof *texts ? texts[index] : "unknown status";
}
