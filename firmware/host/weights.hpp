// Parameters laid out for the kernels, once for each image of parameters: blocks of ZOB_BLOCK filters or channels, the
// terms one after the other, lanes filled up with zeros.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "place.hpp"
#include "program.hpp"

namespace zob {

// Values a channel at `at`; a parameter of one value an element has a row of channels each pixel.
Preparation prepare_values(const zob_parameter &p, uint32_t channels, size_t at);
Preparation prepare_negated(const zob_parameter &p, size_t at);
// Whole numbers that a function makes of each value.
Preparation prepare_whole(const zob_parameter &p, std::function<int32_t(float)> of, size_t at);
Preparation prepare_constant(float value, uint32_t channels, size_t at);

// Numbers that a function makes of the weights of a convolution, term after term.
Preparation prepare_weights(const zob_parameter &weight, std::function<float(float)> of, size_t at);

// A whole weight as the nearest multiple of 2^bits, and what is left.
struct Split {
    uint32_t bits;

    float coarse(float weight) const;
    float fine(float weight) const { return weight - coarse(weight); }
};
// How to split whole weights so that floats add up the products of either part with the numbers of an int8 tensor
// exactly; 0 bits where they do so of the weights themselves. Nothing where no way does.
std::optional<Split> split_of(const zob_tensor &in, const zob_parameter &weight);

// Whole weights as bytes: `elements` names for each byte of each term the element of a filter, or -1. At `base` go the
// int32 that sums begin with, -zero times the filter's sum: inputs are bytes, `zero` above what they stand for.
Preparation prepare_bytes(const zob_parameter &weight, const std::vector<int32_t> &elements, int32_t zero, size_t at,
                          size_t base);

// Where the sums of a window over bits begin: as floats, at the number of products, plus twice the bits counted outside
// where nothing is to be read there. Counts of differing bits begin at minus half of that, rounded up: sums are -2 times
// them, and one more where they are odd. Twins do so in both halves of a word.
enum class Bases { SUMS, COUNTS, TWINS };

// Binary weights over bits. With `slot` below 32 taps are packed, several to a word of `slot` bits each; for twins every
// half word is there twice. At `base` goes a row of initial values for each way a window lies over the border.
struct BitWeights {
    zob_parameter weight;
    uint32_t words;  // of a tap and group; half words of twins
    uint32_t slot;
    uint32_t chains;  // of a filter (tile.h); or 0
    Bases bases;
    uint32_t last;   // the bits of a tap's last word that kernels read
    bool read_outside;
    std::vector<zob_cover> covers;
};
Preparation prepare_bits(const BitWeights &w, size_t at, size_t base);

// The same over thermometer codes of `pixel_channels` channels: a byte a filter for each level of each term, the
// bits that differ.
Preparation prepare_levels(const BitWeights &w, uint32_t pixel_channels, size_t at, size_t base);

}  // namespace zob
