// What the records of a checked plan say.
#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {
#include "zob_internal.h"
}

namespace zob {

// A parameter's bytes in the image.
inline size_t parameter_bytes(const zob_parameter &p) {
    return static_cast<size_t>((zob_stored_bits(&p) + 7) / 8);
}

// What an operation takes for one image, in multiply-adds and elements written.
inline double work_of(const zob_model &model, const zob_op &o) {
    const zob_tensor &out = model.tensors[o.output];
    const double pixels = static_cast<double>(out.height) * out.width;
    const bool gated = o.opcode == ZOB_OP_GATED_CONV;
    const bool convolves = o.opcode == ZOB_OP_CONV || o.opcode == ZOB_OP_CONV_INT8 || gated;
    return pixels * (out.channels + (convolves ? (gated ? 2.0 : 1.0) * model.parameters[o.parameter].count : 0.0));
}

}  // namespace zob
