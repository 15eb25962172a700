// Where a tensor of a block of images lies in a thread's memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "records.hpp"
#include "tile.h"

namespace zob {

constexpr size_t MOST_BYTES = size_t{1} << 30;  // offsets in a thread's memory are 32 bits wide
constexpr uint32_t SLACK = 64 * ZOB_TILE;  // bytes behind a tensor that a tile may touch

inline size_t aligned(size_t bytes) { return (bytes + 63) / 64 * 64; }
inline uint32_t padded(uint32_t channels) { return (channels + ZOB_BLOCK - 1) / ZOB_BLOCK * ZOB_BLOCK; }

// Cells, one a pixel, in rows within a border that reads zero; plane after plane, image after image.
struct Place {
    uint32_t height = 1, width = 1, planes = 1;
    uint32_t cell = 0;  // bytes
    uint32_t top = 0, left = 0, bottom = 0, right = 0;
    uint32_t offset = 0;
    size_t born = 0, dies = 0;  // stages
    // Nobody else ever lies there: borders, and bits beyond the last channel, are zero from the beginning.
    bool for_good = false;

    uint32_t row() const { return (left + width + right) * cell; }
    uint32_t plane_bytes() const { return (top + height + bottom) * row(); }
    uint32_t image_bytes() const { return planes * plane_bytes(); }
    bool meets(const Place &other) const {
        return for_good || other.for_good || (other.born <= dies && born <= other.dies);
    }
    bool bordered() const { return top || left || bottom || right; }
    // Bytes from the image's first cell; the position may lie outside.
    int32_t at(int64_t y, int64_t x) const {
        return static_cast<int32_t>((y + top) * row() + (x + left) * static_cast<int64_t>(cell));
    }
    // A border wide enough for a window of an operation.
    void widen(const zob_op &op, const zob_tensor &out) {
        const auto axis = [&](int k, uint32_t size, uint32_t count, uint32_t &before, uint32_t &after) {
            const uint32_t end = (count - 1) * op.stride[k] + (op.kernel[k] - 1u) * op.dilation[k] + 1;
            before = before > op.pad[k] ? before : op.pad[k];
            const uint32_t over = end > size + op.pad[k] ? end - size - op.pad[k] : 0;
            after = after > over ? after : over;
        };
        axis(0, height, out.height, top, bottom);
        axis(1, width, out.width, left, right);
    }
};

// Bits in words, all else in floats.
inline uint32_t cell_bytes(const zob_tensor &t) {
    return 4 * (t.kind == ZOB_KIND_BINARY ? zob_words(t.channels) : padded(t.channels));
}

// What a level adds to a block of sums, in bytes.
constexpr uint32_t LEVEL_BYTES = ZOB_BLOCK;
constexpr uint32_t MOST_BYTE = 255;

// Of one of two planes that lie as twins.
inline uint32_t half_words(uint32_t channels) { return (channels + 15) / 16; }

}  // namespace zob
