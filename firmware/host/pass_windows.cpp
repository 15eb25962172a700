// The steps of a pass that read windows: convolutions and pools.
#include <algorithm>

#include "pass.hpp"
#include "thresholds.hpp"
#include "windows.hpp"

namespace zob {

namespace {

uint32_t terms_of(const zob_window &w, const WindowTables &t) {
    const uint32_t a_word = w.slot ? 32 / w.slot : 1;
    return (static_cast<uint32_t>(t.offsets.size()) + a_word - 1) / a_word;
}

// The bits of the last word of so many channels.
uint32_t bits_below(uint32_t channels) { return 0xFFFFFFFFu >> (31 - (channels + 31) % 32); }

}  // namespace

// Tables get an address that stays.
uint32_t PassWriter::add_window(const zob_op &o, const Place &from, WindowTables &&tables, zob_window w) {
    out_.tables.push_back(std::move(tables));
    WindowTables &t = out_.tables.back();
    t.groups.resize(padded(shape_.channels));
    for (const uint16_t c : t.classes) t.borders.push_back(c * 4 * padded(shape_.channels));
    t.borders.resize(t.borders.size() + ZOB_TILE);
    w.source = from.offset;
    w.image_bytes = from.image_bytes();
    w.step = o.stride[1] * from.cell;
    w.starts = t.starts.data();
    w.classes = t.classes.data();
    w.covers = t.covers.data();
    w.borders = t.borders.data();
    w.offsets = t.offsets.data();
    w.link_offsets = t.links.data();
    w.loose = static_cast<uint32_t>(t.loose.size()) / 4;
    w.loose_offsets = t.loose.data();
    w.groups = t.groups.data();
    w.taps = uint32_t{o.kernel[0]} * o.kernel[1];
    w.terms = terms_of(w, t) + w.loose;
    w.kernel[0] = o.kernel[0];
    w.kernel[1] = o.kernel[1];
    w.pad_value = o.pad_value;
    windows_.push_back(w);
    return static_cast<uint32_t>(windows_.size() - 1);
}

void PassWriter::emit_real_conv(const zob_op &o) {
    const zob_parameter &weight = parts_.parameter(o.parameter);
    zob_tile_step s = step(ZOB_STEP_CONV_REAL);
    zob_window w{};
    w.read = read_of(parts_.model(), o);
    w.terms_a_tap = weight.dims[3];
    WindowTables t = read_taps(parts_.model(), o, places_.place(o.input), w.terms_a_tap);
    if (w.read != ZOB_READ_OWN) read_groups(parts_.model(), o, w.terms_a_tap, t);
    const size_t bytes = 4 * size_t{padded(weight.dims[0])} * t.offsets.size();
    const zob_tensor &in = parts_.tensor(o.input);
    s.window = add_window(o, places_.place(o.input), std::move(t), w);
    s.table = static_cast<uint32_t>(reserve(bytes));
    if (in.kind == ZOB_KIND_INT8) {
        emit_whole_sums(s, weight, *split_of(in, weight), bytes);
        steps_.push_back(scale_by(in.scale, weight.dims[0]));
    } else {
        prepare(prepare_weights(weight, [](float x) { return x; }, s.table));
        steps_.push_back(s);
    }
}

// Floats add up whole numbers exactly up to 2^24. Where sums are larger, those of coarse and fine parts of the weights
// are not, and their sum is rounded once.
void PassWriter::emit_whole_sums(zob_tile_step s, const zob_parameter &weight, Split split, size_t bytes) {
    prepare(prepare_weights(weight, [split](float x) { return split.coarse(x); }, s.table));
    steps_.push_back(s);
    if (split.bits == 0) return;
    s.kind = ZOB_STEP_ADD_CONV_REAL;
    s.table = static_cast<uint32_t>(reserve(bytes));
    prepare(prepare_weights(weight, [split](float x) { return split.fine(x); }, s.table));
    steps_.push_back(s);
}

void PassWriter::emit_bit_conv(const zob_op &o) {
    const bool gated = o.opcode == ZOB_OP_GATED_CONV, twins = gated && parts_.second_of(o.input) != ZOB_NONE;
    zob_tile_step s = step(twins ? ZOB_STEP_GATED_TWINS : gated ? ZOB_STEP_GATED_CONV : ZOB_STEP_CONV_BITS);
    read_bits(s, o, twins ? Bases::TWINS : Bases::SUMS);
    if (twins) {
        // Of counts in the upper half of a word, whatever the lower one is.
        s.threshold = whole_values(o.bias, [](float x) {
            return std::clamp(most_differing(x, false), int32_t{INT16_MIN}, int32_t{INT16_MAX}) * 0x10000 + 0xFFFF;
        });
    } else if (gated) {
        s.threshold = values(o.bias, shape_.channels);
    }
    steps_.push_back(s);
}

// One window over bits, or two over two tensors of them, with the weights of a convolution.
void PassWriter::read_bits(zob_tile_step &s, const zob_op &o, Bases bases) {
    const bool gated = o.opcode == ZOB_OP_GATED_CONV, twins = bases == Bases::TWINS;
    const zob_parameter &weight = parts_.parameter(o.parameter);
    const uint32_t slot = twins ? 32 : slot_of(parts_.model(), o);
    const uint32_t words = twins ? half_words(weight.dims[3]) : zob_words(weight.dims[3]);
    zob_window w{};
    w.read = read_of(parts_.model(), o);
    w.slot = slot < 32 ? slot : 0;
    w.chains = twins ? 0 : chains_of(o, slot, words);
    s.window = static_cast<uint32_t>(windows_.size());
    std::vector<uint32_t> planes{o.input};
    if (gated && !twins) planes.push_back(o.other);
    for (const uint32_t plane : planes) {
        WindowTables t = read_taps(parts_.model(), o, places_.place(plane), words);
        if (w.chains) link_taps(w.chains, t);
        read_groups(parts_.model(), o, words, t);
        add_window(o, places_.place(plane), std::move(t), w);
    }
    const std::vector<zob_cover> &covers = out_.tables.back().covers;
    s.table = static_cast<uint32_t>(reserve(4 * size_t{padded(weight.dims[0])} * windows_.back().terms));
    s.bias = static_cast<uint32_t>(reserve(4 * size_t{padded(weight.dims[0])} * covers.size()));
    const uint32_t last = slot < 32 ? bits_below(weight.dims[3]) : twins && words % 2 ? 0xFFFFu : 0xFFFFFFFFu;
    prepare(prepare_bits({weight, words, slot, w.chains, bases, last, o.pad_value == 1, covers}, s.table, s.bias));
}

// A term is a channel of the pixels in a tap.
void PassWriter::emit_level_conv(const zob_op &o) {
    const zob_parameter &weight = parts_.parameter(o.parameter);
    const Place &from = *places_.bytes_of(static_cast<uint32_t>(&o - parts_.model().ops));
    const uint32_t channels = parts_.tensor(parts_.thermometer_of(o)->input).channels;
    WindowTables t = cover_windows(parts_.model(), o, from);
    for (uint32_t ky = 0; ky < o.kernel[0]; ky++) {
        for (uint32_t kx = 0; kx < o.kernel[1]; kx++) {
            const uint32_t tap = ky * o.dilation[0] * from.row() + kx * o.dilation[1] * from.cell;
            for (uint32_t c = 0; c < channels; c++) t.offsets.push_back(static_cast<int32_t>(tap + c * from.plane_bytes()));
        }
    }
    zob_tile_step s = step(ZOB_STEP_CONV_LEVELS);
    s.a_vector = LEVEL_BYTES * (weight.dims[3] / channels + 1);
    s.terms = MOST_BYTE / (weight.dims[3] / channels);
    s.table = static_cast<uint32_t>(reserve(s.a_vector * t.offsets.size() * (padded(weight.dims[0]) / ZOB_BLOCK)));
    s.bias = static_cast<uint32_t>(reserve(4 * size_t{padded(weight.dims[0])} * t.covers.size()));
    const uint32_t bits = weight.dims[3];
    const BitWeights levels{weight, zob_words(bits), 32, 0, Bases::SUMS, bits_below(bits), o.pad_value == 1, t.covers};
    prepare(prepare_levels(levels, channels, s.table, s.bias));
    s.window = add_window(o, from, std::move(t), {});
    steps_.push_back(s);
}

void PassWriter::emit_byte_conv(const zob_op &o) {
    zob_tile_step s = step(ZOB_STEP_CONV_BYTES);
    s.low = step_of_sums(o);
    read_products(s, o);
    steps_.push_back(s);
}

// What one more in the bytes, or in a sum of their products, stands for.
float PassWriter::step_of_sums(const zob_op &o) const {
    const zob_tensor &in = parts_.tensor(o.input);
    return in.kind == ZOB_KIND_INT8 ? in.scale : *step_of(*pixels_->of(o.input));
}

// Pixels as bytes, four to a term; those side by side in a kernel's row without a gap. What is left of rows makes terms of
// its own, where these are fewer by two or more.
void PassWriter::read_products(zob_tile_step &s, const zob_op &o) {
    const zob_parameter &weight = parts_.parameter(o.parameter);
    const uint32_t channels = weight.dims[3], filters = padded(weight.dims[0]);
    const Place &from = *places_.bytes_of(static_cast<uint32_t>(&o - parts_.model().ops));
    const uint32_t runs = o.dilation[1] == 1 ? 1 : o.kernel[1], run = channels * o.kernel[1] / runs;
    const uint32_t rows = o.kernel[0] * runs, left = rows * (run % 4), loose = (left + 3) / 4;
    const uint32_t whole = left > 0 && loose + 2 <= rows && loose <= ZOB_MAX_PACKED ? run / 4 * 4 : run;
    std::vector<int32_t> elements, last;  // of a filter, for each byte of each term
    WindowTables t = cover_windows(parts_.model(), o, from);
    std::fill(t.classes.begin(), t.classes.end(), uint16_t{0});
    for (uint32_t row = 0; row < rows; row++) {
        const uint32_t begin = row / runs * o.dilation[0] * from.row() + row % runs * o.dilation[1] * from.cell;
        const int32_t element = static_cast<int32_t>(row * run);
        for (uint32_t k = 0; k < whole; k += 4) t.offsets.push_back(static_cast<int32_t>(begin + k));
        for (uint32_t k = 0; k < (whole + 3) / 4 * 4; k++) {
            elements.push_back(k < whole ? element + static_cast<int32_t>(k) : -1);
        }
        for (uint32_t k = whole; k < run; k++) {
            t.loose.push_back(static_cast<int32_t>(begin + k));
            last.push_back(element + static_cast<int32_t>(k));
        }
    }
    last.resize((last.size() + 3) / 4 * 4, -1);
    t.loose.resize(last.size(), 0);
    elements.insert(elements.end(), last.begin(), last.end());
    s.table = static_cast<uint32_t>(reserve(size_t{filters} * elements.size()));
    s.bias = static_cast<uint32_t>(reserve(4 * size_t{filters}));
    prepare(prepare_bytes(weight, elements, zero_of(o), s.table, s.bias));
    s.window = add_window(o, from, std::move(t), {});
}

void PassWriter::emit_pool(const zob_op &o) {
    zob_tile_step s = step(o.opcode == ZOB_OP_MAX_POOL ? ZOB_STEP_MAX_POOL : ZOB_STEP_AVERAGE_POOL);
    s.window = add_window(o, places_.place(o.input), read_taps(parts_.model(), o, places_.place(o.input), 1), {});
    steps_.push_back(s);
}

}  // namespace zob
