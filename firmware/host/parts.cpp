#include "parts.hpp"

#include <algorithm>
#include <set>

#include "place.hpp"
#include "weights.hpp"
#include "windows.hpp"

namespace zob {

namespace {

constexpr uint32_t MOST_BYTE_PRODUCTS = 32768;  // a sum; their sums stay below 2^31
constexpr uint32_t MOST_HALF = 65535;  // bits of a filter that half words count
constexpr size_t MOST_LEVEL_BYTES = 256 * 1024;  // of what levels add, so that it stays in a cache
constexpr size_t MOST_KINDS = 4096;  // of windows over the border

uint32_t windows_of(const zob_model &m, const zob_op &o) {
    switch (o.opcode) {
    case ZOB_OP_GATED_CONV:
        return 2;
    case ZOB_OP_CONV: case ZOB_OP_AVERAGE_POOL:
        return 1;
    default:
        return o.opcode == ZOB_OP_MAX_POOL && m.tensors[o.input].kind == ZOB_KIND_REAL;
    }
}

bool takes_mask(const zob_op &o) {
    return o.opcode == ZOB_OP_SIGN || o.opcode == ZOB_OP_LOW_BIT || o.opcode == ZOB_OP_THRESHOLD ||
           o.opcode == ZOB_OP_UNPACK;
}

}  // namespace

bool same_shape(const zob_tensor &a, const zob_tensor &b) {
    return a.height == b.height && a.width == b.width && a.channels == b.channels;
}

Parts::Parts(const zob_model &model, const PixelTables *pixels) : m_(model), pixels_(pixels) {
    find_live();
    deal_out();
    find_twins();
}

bool Parts::known(const zob_model &m) {
    for (uint32_t i = 0; i < m.header->ops; i++) {
        const zob_op &o = m.ops[i];
        switch (o.opcode) {
        case ZOB_OP_CONV: case ZOB_OP_MAX_POOL: case ZOB_OP_AVERAGE_POOL: case ZOB_OP_AFFINE: case ZOB_OP_PRELU:
        case ZOB_OP_CLIP: case ZOB_OP_SIGN: case ZOB_OP_THRESHOLD: case ZOB_OP_UNPACK: case ZOB_OP_ADD:
        case ZOB_OP_SOFTMAX: case ZOB_OP_RESHAPE: case ZOB_OP_MUL: case ZOB_OP_CONCAT: case ZOB_OP_PAD:
        case ZOB_OP_THERMOMETER: case ZOB_OP_DYNAMIC_RANGE: case ZOB_OP_LOW_BIT: case ZOB_OP_GATED_CONV:
            break;
        default:
            return false;
        }
        const zob_tensor &in = m.tensors[o.input], &out = m.tensors[o.output];
        const bool codes = o.opcode == ZOB_OP_CONV && o.input == m.header->input;  // whole inputs, real sums
        if (codes && in.kind == ZOB_KIND_INT8 && !split_of(in, m.parameters[o.parameter])) return false;
        if ((in.kind == ZOB_KIND_INT8 && !codes) || out.kind == ZOB_KIND_INT8) return false;
        if (windows_of(m, o) && window_kinds(m, o) > MOST_KINDS) return false;
    }
    return m.header->arena_bytes <= MOST_BYTES / 4;
}

bool Parts::reads_pixels(const zob_op &o) const {
    return o.opcode == ZOB_OP_THERMOMETER && pixels_ && pixels_->of(o.input);
}

bool Parts::reads_bytes(const zob_op &o) const {
    if (o.opcode != ZOB_OP_CONV || o.groups != 1 || tensor(o.input).kind == ZOB_KIND_BINARY) return false;
    const zob_parameter &w = parameter(o.parameter);
    if (w.count / w.dims[0] > MOST_BYTE_PRODUCTS) return false;
    if (tensor(o.input).kind == ZOB_KIND_INT8) {
        const int32_t most = (int32_t{1} << w.bits) - 1 - w.zero_point;
        return w.encoding == ZOB_ENCODING_BINARY || (w.zero_point <= MOST_WEIGHT && most <= MOST_WEIGHT);
    }
    const PixelTable *table = pixels_ ? pixels_->of(o.input) : nullptr;
    return table && w.encoding == ZOB_ENCODING_BINARY && step_of(*table).has_value();
}

const zob_op *Parts::thermometer_of(const zob_op &o) const {
    if (o.opcode != ZOB_OP_CONV || o.groups != 1 || tensor(o.input).kind != ZOB_KIND_BINARY) return nullptr;
    const zob_op *end = m_.ops + m_.header->ops;
    const zob_op *coder = std::find_if(m_.ops, end, [&](const zob_op &c) { return c.output == o.input; });
    if (coder == end || !reads_pixels(*coder)) return nullptr;
    const zob_parameter &w = parameter(o.parameter);
    const uint32_t bits = w.count / w.dims[0], planes = w.dims[3] / tensor(coder->input).channels;
    const size_t rows = size_t{bits} / planes * (planes + 1);
    const bool few = planes <= MOST_BYTE;
    return few && rows * LEVEL_BYTES * (padded(w.dims[0]) / ZOB_BLOCK) <= MOST_LEVEL_BYTES ? coder : nullptr;
}

std::vector<uint32_t> Parts::inputs(const zob_op &o) const {
    if (reads_pixels(o) || reads_bytes(o) || thermometer_of(o)) return {};
    std::vector<uint32_t> read{o.input};
    if (o.other != ZOB_NONE) read.push_back(o.other);
    return read;
}

void Parts::find_live() {
    std::set<uint32_t> wanted{m_.header->output};
    for (uint32_t i = m_.header->ops; i-- > 0;) {
        if (!wanted.count(m_.ops[i].output)) continue;
        live_.push_back(i);
        for (const uint32_t t : inputs(m_.ops[i])) wanted.insert(t);
    }
    std::reverse(live_.begin(), live_.end());
}

uint32_t Parts::windows(const zob_op &o) const { return windows_of(m_, o); }

bool Parts::on_tiles(const zob_op &o) const {
    switch (o.opcode) {
    case ZOB_OP_AFFINE: case ZOB_OP_PRELU: case ZOB_OP_CLIP: case ZOB_OP_SIGN: case ZOB_OP_THRESHOLD:
    case ZOB_OP_UNPACK: case ZOB_OP_ADD: case ZOB_OP_MUL: case ZOB_OP_LOW_BIT:
        return true;
    default:
        return windows(o) > 0;
    }
}

bool Parts::joins(size_t k, const zob_op &o) const {
    const Part &part = parts_[k];
    if (!part.tiles || !on_tiles(o) || !same_shape(tensor(op(part.begin).output), tensor(o.output))) return false;
    uint32_t all_windows = windows(o), masks = 1;
    for (size_t i = part.begin; i < part.end; i++) {
        all_windows += windows(op(i));
        masks += takes_mask(op(i));
    }
    if (all_windows > ZOB_MAX_WINDOWS || masks > ZOB_MAX_MASKS) return false;
    for (const uint32_t t : inputs(o)) {
        const auto writer = written_.find(t);
        const bool here = writer != written_.end() && writer->second == k;
        if (here && (windows(o) || !same_shape(tensor(t), tensor(o.output)))) return false;
    }
    return true;
}

bool Parts::needs(size_t part, const zob_op &o) const {
    const auto read = inputs(o);
    return std::any_of(read.begin(), read.end(), [&](uint32_t t) { return is_written(t) && writer(t) == part; });
}

// Operation i, which follows the last part: into the part before that, or as a part of its own.
void Parts::put_before_last(size_t i) {
    Part last = parts_.back();
    parts_.pop_back();
    std::rotate(live_.begin() + last.begin, live_.begin() + i, live_.begin() + i + 1);
    const zob_op &o = op(last.begin);
    if (!parts_.empty() && joins(parts_.size() - 1, o)) {
        parts_.back().end++;
    } else {
        parts_.push_back({last.begin, last.begin + 1, on_tiles(o)});
    }
    written_[o.output] = parts_.size() - 1;
    parts_.push_back({last.begin + 1, last.end + 1, last.tiles});
    for (size_t j = last.begin + 1; j <= last.end; j++) written_[op(j).output] = parts_.size() - 1;
}

void Parts::deal_out() {
    for (size_t i = 0; i < live_.size(); i++) {
        const size_t last = parts_.size() - 1;
        if (!parts_.empty() && joins(last, op(i))) {
            parts_.back().end = i + 1;
        } else if (!parts_.empty() && parts_.back().tiles && !needs(last, op(i))) {
            put_before_last(i);
            continue;
        } else {
            parts_.push_back({i, i + 1, on_tiles(op(i))});
        }
        written_[op(i).output] = parts_.size() - 1;
    }
}

bool Parts::are_twins(const zob_op &sign, const zob_op &low) const {
    if (sign.opcode != ZOB_OP_SIGN || low.opcode != ZOB_OP_LOW_BIT || sign.input != low.input) return false;
    if (written_.at(sign.output) != written_.at(low.output)) return false;
    if (sign.output == m_.header->output || low.output == m_.header->output) return false;
    for (const uint32_t i : live_) {
        const zob_op &o = m_.ops[i];
        const auto read = inputs(o);
        const auto reads = [&](uint32_t t) { return std::count(read.begin(), read.end(), t) > 0; };
        if (!reads(sign.output) && !reads(low.output)) continue;
        const bool both = o.opcode == ZOB_OP_GATED_CONV && o.input == sign.output && o.other == low.output;
        if (!both || o.groups != 1) return false;
        const zob_parameter &w = parameter(o.parameter);
        if (w.count / w.dims[0] > MOST_HALF || w.dims[3] % 2) return false;  // sums have to be even
    }
    return true;
}

void Parts::find_twins() {
    for (size_t i = 1; i < live_.size(); i++) {
        if (!are_twins(op(i - 1), op(i))) continue;
        seconds_[op(i - 1).output] = op(i).output;
        firsts_[op(i).output] = op(i - 1).output;
    }
}

}  // namespace zob
