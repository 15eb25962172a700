/* Convolutions over int8 with whole weights, in integers: going through the pixels, gathering what filters read, and
 * storing what comes out. */
#include "zob_bytes.h"

/* memcpy for a few bytes: whole words, the last one first and over what lies before it. */
static ZOB_INLINE void copy_bytes(int8_t *to, const int8_t *from, uint32_t n) {
    if (n >= 4u) {
        int8_t *const last = to + n - 4u;
        memcpy(last, from + n - 4u, 4u);
        do {
            memcpy(to, from, 4u);
            to += 4, from += 4;
        } while (to < last);
    } else {
        for (; n > 0u; n--) *to++ = *from++;
    }
}

void zob_gather_bytes(const zob_byte_conv *b, const zob_place *place, uint32_t first, int8_t *patch) {
    const zob_context *c = b->c;
    const zob_op *op = c->op;
    const zob_span v = place->rows, h = zob_inside(op, 1, place->x, c->in->width);
    const uint32_t columns = h.end - h.begin, run = columns * b->channels, apart = op->dilation[1] * c->in->channels;
    const uint32_t line = c->in->width * c->in->channels, next = op->dilation[0] * line;
    const uint32_t row = op->kernel[1] * b->channels;
    const int8_t *from = (const int8_t *)(c->arena + c->in->offset) + first;
    uint32_t rows = v.end - v.begin;
    if (run * rows < b->taps) memset(patch, c->in->zero_point, b->taps);
    if (run == 0u) return;
    from += v.at * line + h.at * c->in->channels;
    patch += v.begin * row + h.begin * b->channels;
    for (; rows > 0u; rows--, from += next, patch += row) {
        if (!ZOB_HAS_KERNEL(ZOB_KERNEL_BYTES_APART) || !b->apart) {
            copy_bytes(patch, from, run);
        } else {
            for (uint32_t i = 0; i < columns; i++) copy_bytes(patch + i * b->channels, from + i * apart, b->channels);
        }
    }
}

uint32_t zob_last_weight_bits(const zob_byte_conv *b, uint32_t bit) {
    uint64_t bits = 0;
    for (uint32_t at = bit / 8u, i = 0; at < b->rest && i < 8u; at++, i++) bits |= (uint64_t)b->codes[at] << 8u * i;
    return (uint32_t)(bits >> bit % 8u);
}

void zob_emit_sums(const zob_byte_conv *b, const zob_four *block, uint32_t channel, zob_sums sums) {
    const float scale = b->c->in->scale;
    for (uint32_t i = 0; i < block->count; i++) {
        zob_emit(b->sink, block->pixel + i, channel, (float)sums.of[i] * scale);
    }
}

void zob_put_pixel_bits(const zob_byte_conv *b, const zob_four *block, uint32_t channel, zob_bits bits) {
    const zob_sink *sink = b->sink;
    for (uint32_t i = 0; i < block->count; i++) {
        sink->binary[(block->pixel + i) * sink->words + channel / 32u] |= bits.of[i] << (channel % 32u);
    }
}

void zob_conv_bytes(const zob_context *c, const zob_sink *sink) {
    const zob_op *op = c->op;
    const zob_parameter *weight = &c->model->parameters[op->parameter];
    const uint32_t pixels = zob_pixels(c->out), groups = ZOB_HAS_KERNEL(ZOB_KERNEL_BYTES_APART) ? op->groups : 1u;
    zob_byte_conv b;
    zob_four block = {0, 4u, {0, 0, zob_inside(op, 0, 0, c->in->height)}};
    b.c = c;
    b.sink = sink;
    b.weight = weight;
    b.channels = c->in->channels / groups;
    b.filters = c->out->channels / groups;
    b.taps = weight->count / weight->dims[0];
    b.quads = (b.taps + 3u) / 4u;
    b.apart = op->dilation[1] != 1u || op->groups != 1u;
    b.codes = c->image + weight->offset;
    b.rest = c->model->header->image_bytes - weight->offset;
    b.scratch = c->arena + op->scratch + (sink->intervals ? sizeof(zob_interval) * c->out->channels : 0u);
    if (ZOB_HAS_KERNEL(ZOB_KERNEL_PROTECTED) && weight->protection != ZOB_PROTECTION_NONE) {
        uint8_t *const codes = b.scratch + 40u * b.quads;
        zob_correct_codes(weight, c->image, codes);
        b.codes = codes;
        b.rest = (uint32_t)zob_corrected_bytes(weight);
    }
    for (; block.pixel < pixels; block.pixel += 4u) {
        if (pixels - block.pixel < 4u) block.count = pixels - block.pixel;
        for (uint32_t group = 0; group < groups; group++) {
            if (!ZOB_HAS_KERNEL(ZOB_KERNEL_CODE_CONV) ||
                (ZOB_HAS_KERNEL(ZOB_KERNEL_SIGN_CONV) && weight->encoding == ZOB_ENCODING_BINARY)) {
                zob_block_of_signs(&b, &block, group);
            } else {
                zob_block_of_codes(&b, &block, group);
            }
        }
        for (uint32_t i = 0; i < block.count; i++) zob_advance(&b, &block.place);
    }
}
