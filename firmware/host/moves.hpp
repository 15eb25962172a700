// Operations that move data more than they compute; everything but tiles' passes.
#pragma once

#include <array>

#include "place.hpp"
#include "program.hpp"

namespace zob {

// What each 8-bit pixel value becomes.
using PixelTable = std::array<float, 256>;

Action read_floats(const zob_tensor &t, const Place &to);
Action read_pixels(const zob_tensor &t, const PixelTable &table, const Place &to);
// Pixels as bytes 128 above the whole number of steps that `table` gives; the border reads `border`.
Action read_steps(const zob_tensor &t, const PixelTable &table, float step, uint8_t border, const Place &to);
Action write_scores(const zob_tensor &t, const Place &from);

Action thermometer(const zob_op &op, const zob_tensor &in, const zob_tensor &out, const Place &from, const Place &to);
Action thermometer_of_pixels(const zob_op &op, const zob_tensor &in, const zob_tensor &out, const PixelTable &table,
                             const Place &to);
Action pool_bits(const zob_op &op, const zob_tensor &in, const zob_tensor &out, const Place &from, const Place &to);
Action concat(const zob_tensor &in, const zob_tensor &other, const Place &from, const Place &tail, const Place &to);
Action pad(const zob_op &op, const zob_tensor &in, const zob_tensor &out, const Place &from, const Place &to);
Action reshape(const zob_tensor &in, const zob_tensor &out, const Place &from, const Place &to);
Action dynamic_range(const zob_model &model, const zob_op &op, const zob_tensor &t, const Place &from, const Place &to);
Action softmax(const zob_model &model, const zob_tensor &t, const Place &from, const Place &to);

}  // namespace zob
