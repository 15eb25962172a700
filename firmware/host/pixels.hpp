// Tensors that depend on one 8-bit input pixel each, and on nothing else: 256 values say all about them.
#pragma once

#include <map>
#include <optional>

#include "moves.hpp"

namespace zob {

class PixelTables {
public:
    // Follow the operations from the input on.
    explicit PixelTables(const zob_model &model);
    // The values of a real tensor, or null where it depends on more.
    const PixelTable *of(uint32_t tensor) const;

private:
    void follow(const zob_model &model, const zob_op &op);
    std::map<uint32_t, PixelTable> tables_;
};

// The largest power of two that all values are whole multiples of, where none is more than -128 to 127 of them and 1 is
// one of these multiples: sums of a convolution with weights +1 and -1 are then exact in any order.
std::optional<float> step_of(const PixelTable &table);

}  // namespace zob
