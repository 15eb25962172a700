#include "pixels.hpp"

#include <cmath>

namespace zob {

PixelTables::PixelTables(const zob_model &model) {
    PixelTable input;
    for (size_t p = 0; p < 256; p++) {
        input[p] = static_cast<float>(p) * model.header->pixel_scale;
        input[p] = input[p] + model.header->pixel_offset;
    }
    tables_[model.header->input] = input;
    for (uint32_t i = 0; i < model.header->ops; i++) follow(model, model.ops[i]);
}

const PixelTable *PixelTables::of(uint32_t tensor) const {
    const auto found = tables_.find(tensor);
    return found == tables_.end() ? nullptr : &found->second;
}

void PixelTables::follow(const zob_model &model, const zob_op &op) {
    const PixelTable *x = of(op.input), *other = op.other == ZOB_NONE ? nullptr : of(op.other);
    if (!x) return;
    const auto each = [&](auto f) {
        PixelTable y;
        for (size_t p = 0; p < 256; p++) y[p] = f((*x)[p], other ? (*other)[p] : 0.0f);
        tables_[op.output] = y;
    };
    const auto same_pixels = [&] {
        const zob_tensor &a = model.tensors[op.input], &b = model.tensors[op.other];
        return other && a.height == b.height && a.width == b.width;
    };
    switch (op.opcode) {
    case ZOB_OP_AFFINE:
        if (op.parameter == ZOB_NONE && op.bias == ZOB_NONE) each([&](float a, float) { return a * op.low; });
        break;
    case ZOB_OP_CLIP:
        each([&](float a, float) {
            a = a < op.low ? op.low : a;
            return a > op.high ? op.high : a;
        });
        break;
    case ZOB_OP_SIGN:
        each([](float a, float) { return a < 0.0f ? -1.0f : 1.0f; });
        break;
    case ZOB_OP_UNPACK:
        each([](float a, float) { return a; });
        break;
    case ZOB_OP_ADD:
        if (same_pixels()) each([](float a, float b) { return a + b; });
        break;
    case ZOB_OP_MUL:
        if (same_pixels()) each([](float a, float b) { return a * b; });
        break;
    default:
        break;
    }
}

std::optional<float> step_of(const PixelTable &table) {
    for (int e = 0; e >= -7; e--) {
        const float step = std::ldexp(1.0f, e);
        bool whole = true, small = 1.0f / step <= 127.0f;
        for (const float x : table) {
            const float steps = x / step;
            whole = whole && std::isfinite(steps) && steps == std::trunc(steps);
            small = small && steps >= -128.0f && steps <= 127.0f;
        }
        if (whole) return small ? std::optional<float>(step) : std::nullopt;
    }
    return std::nullopt;
}

}  // namespace zob
