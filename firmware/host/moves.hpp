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
// Pixels as bytes, each by a table; the border reads `border`.
using ByteTable = std::array<uint8_t, 256>;
Action read_bytes(const zob_tensor &t, const ByteTable &table, uint8_t border, const Place &to);
// The levels of a thermometer that pixels have, LEVEL_BYTES times each, a plane a channel; the border reads zero bits.
Action read_levels(const zob_op &thermometer, const zob_tensor &t, uint32_t planes, const PixelTable &table, const Place &to);
// Floats as bytes: 128 above the numbers of an int8 tensor; the border reads its zero point.
Action read_code_bytes(const zob_tensor &t, const Place &to);
// Floats, or what a table makes of pixels, as those numbers less the zero point, in floats.
Action read_codes(const zob_tensor &t, const Place &to);
Action read_pixel_codes(const zob_tensor &t, const PixelTable &table, const Place &to);
// The number of an int8 tensor that stands for x, to the nearest step.
int32_t code_of(const zob_tensor &t, float x);
Action write_scores(const zob_tensor &t, const Place &from);

Action thermometer(const zob_op &op, const zob_tensor &in, const zob_tensor &out, const Place &from, const Place &to);
Action thermometer_of_pixels(const zob_op &op, const zob_tensor &in, const zob_tensor &out, const PixelTable &table,
                             const Place &to);
Action pool_bits(const zob_op &op, const zob_tensor &in, const zob_tensor &out, const Place &from, const Place &to);
Action concat(const zob_tensor &in, const Place &from, const Place &tail, const Place &to);
Action pad(const zob_op &op, const zob_tensor &in, const zob_tensor &out, const Place &from, const Place &to);
Action reshape(const zob_tensor &in, const zob_tensor &out, const Place &from, const Place &to);
Action dynamic_range(const zob_model &model, const zob_op &op, const zob_tensor &t, const Place &from, const Place &to);
Action softmax(const zob_model &model, const zob_tensor &t, const Place &from, const Place &to);

}  // namespace zob
