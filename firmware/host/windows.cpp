#include "windows.hpp"

#include <algorithm>

namespace zob {

namespace {

// The different ways a window's rows, or columns, lie over the border; kind 0 is wholly inside.
struct Spans {
    std::vector<zob_span> kinds;
    std::vector<size_t> kind;  // of each output row or column
};

Spans spans(zob_op o, uint32_t axis, uint32_t in, uint32_t out) {
    Spans s;
    o.dilation[axis] = std::max<uint16_t>(o.dilation[axis], 1);  // pools have none
    s.kinds.push_back({0, o.kernel[axis], 0});
    for (uint32_t i = 0; i < out; i++) {
        const zob_span span = zob_inside(&o, axis, i, in);
        const auto same = [&](const zob_span &k) { return k.begin == span.begin && k.end == span.end; };
        const auto found = std::find_if(s.kinds.begin(), s.kinds.end(), same);
        s.kind.push_back(static_cast<size_t>(found - s.kinds.begin()));
        if (found == s.kinds.end()) s.kinds.push_back(span);
    }
    return s;
}

}  // namespace

size_t window_kinds(const zob_model &m, const zob_op &o) {
    const zob_tensor &in = m.tensors[o.input], &out = m.tensors[o.output];
    return spans(o, 0, in.height, out.height).kinds.size() * spans(o, 1, in.width, out.width).kinds.size();
}

uint32_t slot_of(const zob_model &m, const zob_op &o) {
    const uint32_t channels = m.tensors[o.input].channels;
    const uint32_t taps = uint32_t(o.kernel[0]) * o.kernel[1];
    if (o.groups != 1 || channels > 16 || taps == 1) return 32;
    uint32_t slot = 1;
    while (slot < channels) slot *= 2;
    return (taps + 32 / slot - 1) / (32 / slot) <= ZOB_MAX_PACKED ? slot : 32;
}

uint32_t chains_of(const zob_op &o, uint32_t slot, uint32_t words) {
    const bool pay = slot == 32 && words % 2 == 0 && words <= ZOB_MAX_CHAINS;
    return pay && o.groups == 1 && uint32_t{o.kernel[0]} * o.kernel[1] == ZOB_LINKS ? words : 0;
}

void link_taps(uint32_t chains, WindowTables &t) {
    for (uint32_t l = 0; l < ZOB_LINKS; l++) t.links.push_back(t.offsets[l * chains]);
    for (uint32_t l = 0; l < ZOB_LINKS; l++) t.links.push_back(static_cast<int32_t>(l * 4 * ZOB_TILE * chains));
}

zob_read read_of(const zob_model &m, const zob_op &o) {
    const zob_parameter &weight = m.parameters[o.parameter];
    const uint32_t in_group = weight.dims[0] / o.groups;
    if (o.groups == 1 || in_group % ZOB_BLOCK == 0) return ZOB_READ_SHARED;
    const bool own = m.tensors[o.input].kind == ZOB_KIND_REAL && weight.dims[3] == 1 && in_group == 1;
    return own ? ZOB_READ_OWN : ZOB_READ_SCATTERED;
}

WindowTables cover_windows(const zob_model &m, const zob_op &o, const Place &from) {
    const zob_tensor &in = m.tensors[o.input], &out = m.tensors[o.output];
    WindowTables t;
    const Spans rows = spans(o, 0, in.height, out.height), columns = spans(o, 1, in.width, out.width);
    for (const zob_span &v : rows.kinds) {
        for (const zob_span &h : columns.kinds) t.covers.push_back({v.begin, v.end, h.begin, h.end});
    }
    for (uint32_t y = 0; y < out.height; y++) {
        for (uint32_t x = 0; x < out.width; x++) {
            t.classes.push_back(static_cast<uint16_t>(rows.kind[y] * columns.kinds.size() + columns.kind[x]));
            t.starts.push_back(from.at(int64_t{y} * o.stride[0] - o.pad[0], int64_t{x} * o.stride[1] - o.pad[1]));
        }
    }
    return t;
}

WindowTables read_taps(const zob_model &m, const zob_op &o, const Place &from, uint32_t terms) {
    WindowTables t = cover_windows(m, o, from);
    for (uint32_t ky = 0; ky < o.kernel[0]; ky++) {
        for (uint32_t kx = 0; kx < o.kernel[1]; kx++) {
            const uint32_t tap = ky * std::max<uint32_t>(o.dilation[0], 1) * from.row() +
                                 kx * std::max<uint32_t>(o.dilation[1], 1) * from.cell;
            for (uint32_t k = 0; k < terms; k++) t.offsets.push_back(static_cast<int32_t>(tap + 4 * k));
        }
    }
    return t;
}

void read_groups(const zob_model &m, const zob_op &o, uint32_t terms, WindowTables &t) {
    const uint32_t filters = m.parameters[o.parameter].dims[0], in_group = filters / o.groups;
    t.groups.resize(padded(filters));
    for (uint32_t f = 0; f < filters; f++) t.groups[f] = static_cast<int32_t>(f / in_group * 4 * terms);
}

}  // namespace zob
