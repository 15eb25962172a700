// A plan's operations dealt out again: those that work element by element on positions of one shape form a pass,
// together with the convolutions and pools that begin them, as long as nobody reads across positions what the pass
// itself writes. An operation between them that needs nothing of the pass comes before it.
#pragma once

#include <map>
#include <vector>

#include "pixels.hpp"

namespace zob {

constexpr int32_t MOST_WEIGHT = 64;  // of a byte, so that two products stay below 2^15

// Operations [begin, end) among those that are live: a pass over tiles, or one that moves data.
struct Part {
    size_t begin, end;
    bool tiles;
};

class Parts {
public:
    // `pixels`: what depends on one 8-bit input pixel each; null where inputs are floats.
    Parts(const zob_model &model, const PixelTables *pixels);

    // Whether vector kernels know all operations of a plan.
    static bool known(const zob_model &model);

    const zob_model &model() const { return m_; }
    const zob_tensor &tensor(uint32_t t) const { return m_.tensors[t]; }
    const zob_parameter &parameter(uint32_t p) const { return m_.parameters[p]; }
    const std::vector<Part> &all() const { return parts_; }
    // Of operations whose results are read.
    const zob_op &op(size_t i) const { return m_.ops[live_[i]]; }
    uint32_t number(size_t i) const { return live_[i]; }

    // Tensors that an operation reads from memory.
    std::vector<uint32_t> inputs(const zob_op &o) const;
    // How many tensors an operation reads through windows.
    uint32_t windows(const zob_op &o) const;
    // A thermometer of pixels.
    bool reads_pixels(const zob_op &o) const;
    // A convolution over bytes: of codes, or of pixels that stand for whole numbers of steps.
    bool reads_bytes(const zob_op &o) const;
    // A convolution over the thermometer codes of pixels: the thermometer, or null.
    const zob_op *thermometer_of(const zob_op &o) const;
    // Two planes of bits that lie as twins: a sign and a low bit that are decided together, and that gated convolutions
    // read together and nobody else. ZOB_NONE where a tensor has no such other.
    uint32_t second_of(uint32_t first) const { return other_of(seconds_, first); }
    uint32_t first_of(uint32_t second) const { return other_of(firsts_, second); }
    // Whether a tensor is written by a part, and by which one.
    bool is_written(uint32_t t) const { return written_.count(t) != 0; }
    size_t writer(uint32_t t) const { return written_.at(t); }

private:
    bool on_tiles(const zob_op &o) const;
    bool joins(size_t part, const zob_op &o) const;
    bool needs(size_t part, const zob_op &o) const;
    void put_before_last(size_t i);
    void find_live();
    void deal_out();
    void find_twins();
    bool are_twins(const zob_op &sign, const zob_op &low) const;
    static uint32_t other_of(const std::map<uint32_t, uint32_t> &others, uint32_t t) {
        const auto found = others.find(t);
        return found == others.end() ? ZOB_NONE : found->second;
    }

    const zob_model &m_;
    const PixelTables *pixels_;
    std::vector<uint32_t> live_;
    std::vector<Part> parts_;
    std::map<uint32_t, size_t> written_;
    std::map<uint32_t, uint32_t> seconds_, firsts_;  // twins
};

bool same_shape(const zob_tensor &a, const zob_tensor &b);

}  // namespace zob
