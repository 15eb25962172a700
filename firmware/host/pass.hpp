// Writing a pass: the steps that take a tile through all its operations.
#pragma once

#include "arrangement.hpp"
#include "program.hpp"
#include "weights.hpp"

namespace zob {

class PassWriter {
public:
    // The pass of stage `stage` is added to `out`, whose memory is arranged.
    PassWriter(const Parts &parts, const PixelTables *pixels, const Arrangement &places, size_t stage, Program &out);
    void write();

private:
    // A value of a pass: two constants, chosen by a mask.
    struct TwoValued {
        uint32_t mask;
        float set, clear;
    };

    void join_steps();
    size_t reserve(size_t bytes);
    uint32_t values(uint32_t index, uint32_t channels);
    const uint32_t *cells_of(uint32_t t);
    zob_tile_step step(zob_step_kind kind) const;
    void at_tensor(zob_tile_step &s, uint32_t t) const;
    void at_bits(zob_tile_step &s, uint32_t t);
    void load(uint32_t t);
    uint32_t mask_of(uint32_t t);
    Action read_for(const zob_op &o, const Place &to) const;
    int32_t zero_of(const zob_op &o) const;
    bool is_read_here(uint32_t t) const;
    zob_tile_step decide(zob_step_kind kind, uint32_t t);
    const zob_op *sole_reader(size_t i) const;
    bool emit_with_next(size_t i);
    bool emit_twins(size_t i);
    bool emit_threshold(size_t i);
    bool emit_signs(size_t i);
    uint32_t whole_values(uint32_t index, std::function<int32_t(float)> of);
    void emit_op(size_t i);
    void finish(size_t i, uint32_t t);
    bool emit_two_valued(const zob_op &o);
    zob_tile_step scale_by(float factor, uint32_t channels);
    void emit_affine(const zob_op &o);
    void emit_sum_or_product(const zob_op &o);
    uint32_t add_window(const zob_op &o, const Place &from, WindowTables &&tables, zob_window w);
    void emit_real_conv(const zob_op &o);
    void emit_whole_sums(zob_tile_step s, const zob_parameter &weight, Split split, size_t bytes);
    void emit_bit_conv(const zob_op &o);
    void read_bits(zob_tile_step &s, const zob_op &o, Bases bases);
    void emit_level_conv(const zob_op &o);
    void emit_byte_conv(const zob_op &o);
    float step_of_sums(const zob_op &o) const;
    void read_products(zob_tile_step &s, const zob_op &o);
    void emit_pool(const zob_op &o);
    void prepare(Preparation p) { out_.stages[stage_].preparations.push_back(std::move(p)); }

    const Parts &parts_;
    const PixelTables *pixels_;
    const Arrangement &places_;
    size_t stage_;
    const Part &part_;
    Program &out_;
    zob_tensor shape_;
    std::vector<zob_tile_step> steps_;
    std::vector<zob_window> windows_;
    std::map<uint32_t, uint32_t> slots_;  // real tensors kept for later steps
    std::map<uint32_t, uint32_t> masks_;  // binary tensors
    std::map<uint32_t, TwoValued> two_valued_;
    std::map<uint32_t, const uint32_t *> cells_;
    uint32_t current_ = ZOB_NONE;  // the tensor in the tile's registers
};

}  // namespace zob
