// From a plan to a program. The plan's operations, fused or not, are dealt out again: those that work element by element
// on positions of one shape form a pass, together with the convolutions and pools that begin them, as long as nobody
// reads across positions what the pass itself writes. A tensor that only its own pass reads never leaves the tile.
#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "moves.hpp"
#include "pixels.hpp"
#include "program.hpp"
#include "weights.hpp"

namespace zob {

namespace {

constexpr size_t ARENA_AIMED_AT = 640 * 1024;  // a block of images and weights fit a core's second-level cache
constexpr uint32_t MOST_IMAGES = 32;
constexpr uint32_t KEPT_BYTES = 4 * ZOB_TILE * ZOB_BLOCK;  // a tile kept for a later step
constexpr size_t NEVER = SIZE_MAX;
constexpr uint32_t MOST_BYTE_PRODUCTS = 32768;  // a sum; their sums stay below 2^31
constexpr int32_t MOST_WEIGHT = 64;  // of a byte, so that two products stay below 2^15
constexpr size_t MOST_KINDS = 4096;  // of windows over the border
constexpr size_t MOST_BYTES = size_t{1} << 30;  // offsets in an arena are 32 bits wide

size_t aligned(size_t bytes) { return (bytes + 63) / 64 * 64; }

bool takes_mask(const zob_op &o) {
    return o.opcode == ZOB_OP_SIGN || o.opcode == ZOB_OP_LOW_BIT || o.opcode == ZOB_OP_THRESHOLD ||
           o.opcode == ZOB_OP_UNPACK;
}

bool same_shape(const zob_tensor &a, const zob_tensor &b) {
    return a.height == b.height && a.width == b.width && a.channels == b.channels;
}

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

uint32_t terms_of(const zob_window &w, const WindowTables &t) {
    const uint32_t a_word = w.slot ? 32 / w.slot : 1;
    return (static_cast<uint32_t>(t.offsets.size()) + a_word - 1) / a_word;
}

}  // namespace

class Compiler {
public:
    Compiler(const zob_model &model, uint32_t format) : m_(model), format_(format), out_(new Program) {
        if (format == ZOB_INPUT_UINT8) pixels_ = std::make_unique<PixelTables>(model);
    }

    std::unique_ptr<Program> compile();

private:
    // Operations [begin, end) among `live_`: a pass, or one that moves data.
    struct Part {
        size_t begin, end;
        bool tiles;
    };
    // A value of a pass: two constants, chosen by a mask.
    struct TwoValued {
        uint32_t mask;
        float set, clear;
    };

    const zob_tensor &tensor(uint32_t t) const { return m_.tensors[t]; }
    const zob_op &op(size_t i) const { return m_.ops[live_[i]]; }
    const zob_parameter &parameter(uint32_t p) const { return m_.parameters[p]; }

    bool known() const;
    bool reads_pixels(const zob_op &o) const;
    bool reads_bytes(const zob_op &o) const;
    std::vector<uint32_t> inputs(const zob_op &o) const;
    void find_live();
    bool on_tiles(const zob_op &o) const;
    uint32_t windows(const zob_op &o) const;
    bool joins(const Part &part, const zob_op &o) const;
    void deal_out();
    void find_places();
    void lay_out();
    double work(size_t stage) const;
    void emit();

    void emit_move(size_t stage, const zob_op &o);
    void emit_pass(size_t stage, const Part &part);
    uint32_t slot_of(const zob_op &o) const;
    size_t reserve(size_t bytes);
    const Place &place(uint32_t t) const { return places_.at(t); }
    void act(size_t stage, Action a) { out_->stages[stage].actions.push_back(std::move(a)); }
    void read(size_t stage, Action a) {
        out_->between[stage].reads_input = true;
        act(stage, std::move(a));
    }
    void prepare(Preparation p) { out_->stages[stage_].preparations.push_back(std::move(p)); }

    // A pass as it is written down.
    struct Pass {
        const Part *part;
        std::vector<zob_tile_step> steps;
        std::vector<zob_window> windows;
        std::map<uint32_t, uint32_t> slots;       // real tensors kept for later steps
        std::map<uint32_t, uint32_t> masks;       // binary tensors
        std::map<uint32_t, TwoValued> two_valued;
        uint32_t current = ZOB_NONE;              // the tensor in the tile's registers
        zob_tensor shape;
    };
    Action read_for(const zob_op &o, const Place &to) const;
    int32_t zero_of(const zob_op &o) const;
    zob_tile_step step(zob_step_kind kind) const;
    void at_tensor(const Pass &p, zob_tile_step &s, uint32_t t) const;
    void at_bits(zob_tile_step &s, uint32_t t);
    void load(Pass &p, uint32_t t);
    uint32_t mask_of(Pass &p, uint32_t t);
    void finish(Pass &p, size_t i, uint32_t t);
    const zob_op *sole_reader(const Pass &p, size_t i) const;
    zob_tile_step decide(Pass &p, zob_step_kind kind, uint32_t t);
    bool emit_with_next(Pass &p, size_t i);
    void emit_op(Pass &p, size_t i);
    WindowTables read_taps(const zob_op &o, const Place &from, uint32_t terms) const;
    void read_groups(const zob_op &o, uint32_t terms, WindowTables &t) const;
    zob_read read_of(const zob_op &o) const;
    void emit_real_conv(Pass &p, const zob_op &o);
    void emit_bit_conv(Pass &p, const zob_op &o);
    void emit_byte_conv(Pass &p, const zob_op &o);
    void emit_pool(Pass &p, const zob_op &o);
    zob_tile_step scale_by(float factor, uint32_t channels);
    void emit_affine(Pass &p, const zob_op &o);
    void emit_sum_or_product(Pass &p, const zob_op &o);
    bool emit_two_valued(Pass &p, const zob_op &o);
    uint32_t add_window(Pass &p, const zob_op &o, const Place &from, WindowTables &&tables, zob_window w);
    WindowTables cover_windows(const zob_op &o, const Place &from) const;
    uint32_t values(uint32_t parameter_index, uint32_t channels);
    const std::vector<uint32_t> &cells_of(uint32_t t);

    const zob_model &m_;
    uint32_t format_;
    std::unique_ptr<Program> out_;
    std::unique_ptr<PixelTables> pixels_;
    std::vector<uint32_t> live_;             // operations whose results are read
    std::vector<Part> parts_;
    std::map<uint32_t, size_t> written_;     // tensor -> part
    std::map<uint32_t, Place> places_;       // tensors that lie in memory
    std::map<uint32_t, Place> bytes_;        // operation -> the pixels it reads, as bytes
    std::map<uint32_t, const std::vector<uint32_t> *> cells_;
    uint32_t scratch_ = 0;                   // where tiles are kept
    size_t stage_ = 0;                       // being written
};

// -- what there is to do

bool Compiler::known() const {
    for (uint32_t i = 0; i < m_.header->ops; i++) {
        const zob_op &o = m_.ops[i];
        switch (o.opcode) {
        case ZOB_OP_CONV: case ZOB_OP_MAX_POOL: case ZOB_OP_AVERAGE_POOL: case ZOB_OP_AFFINE: case ZOB_OP_PRELU:
        case ZOB_OP_CLIP: case ZOB_OP_SIGN: case ZOB_OP_THRESHOLD: case ZOB_OP_UNPACK: case ZOB_OP_ADD:
        case ZOB_OP_SOFTMAX: case ZOB_OP_RESHAPE: case ZOB_OP_MUL: case ZOB_OP_CONCAT: case ZOB_OP_PAD:
        case ZOB_OP_THERMOMETER: case ZOB_OP_DYNAMIC_RANGE: case ZOB_OP_LOW_BIT: case ZOB_OP_GATED_CONV:
            break;
        default:
            return false;
        }
        const zob_tensor &in = tensor(o.input), &out = tensor(o.output);
        const bool codes = o.opcode == ZOB_OP_CONV && o.input == m_.header->input;  // whole inputs, real sums
        if ((in.kind == ZOB_KIND_INT8 && !codes) || out.kind == ZOB_KIND_INT8) return false;
        if (windows(o) && spans(o, 0, in.height, out.height).kinds.size() *
                            spans(o, 1, in.width, out.width).kinds.size() > MOST_KINDS) return false;
    }
    return m_.header->arena_bytes <= MOST_BYTES / 4;
}

// A thermometer of pixels.
bool Compiler::reads_pixels(const zob_op &o) const {
    return o.opcode == ZOB_OP_THERMOMETER && pixels_ && pixels_->of(o.input);
}

// A convolution over bytes: of codes, or of pixels that stand for whole numbers of steps.
bool Compiler::reads_bytes(const zob_op &o) const {
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

std::vector<uint32_t> Compiler::inputs(const zob_op &o) const {
    if (reads_pixels(o) || reads_bytes(o)) return {};
    std::vector<uint32_t> read{o.input};
    if (o.other != ZOB_NONE) read.push_back(o.other);
    return read;
}

void Compiler::find_live() {
    std::set<uint32_t> wanted{m_.header->output};
    for (uint32_t i = m_.header->ops; i-- > 0;) {
        if (!wanted.count(m_.ops[i].output)) continue;
        live_.push_back(i);
        for (const uint32_t t : inputs(m_.ops[i])) wanted.insert(t);
    }
    std::reverse(live_.begin(), live_.end());
}

// How many tensors an operation reads through windows.
uint32_t Compiler::windows(const zob_op &o) const {
    switch (o.opcode) {
    case ZOB_OP_GATED_CONV:
        return 2;
    case ZOB_OP_CONV: case ZOB_OP_AVERAGE_POOL:
        return 1;
    default:
        return o.opcode == ZOB_OP_MAX_POOL && tensor(o.input).kind == ZOB_KIND_REAL;
    }
}

bool Compiler::on_tiles(const zob_op &o) const {
    switch (o.opcode) {
    case ZOB_OP_AFFINE: case ZOB_OP_PRELU: case ZOB_OP_CLIP: case ZOB_OP_SIGN: case ZOB_OP_THRESHOLD:
    case ZOB_OP_UNPACK: case ZOB_OP_ADD: case ZOB_OP_MUL: case ZOB_OP_LOW_BIT:
        return true;
    default:
        return windows(o) > 0;
    }
}

bool Compiler::joins(const Part &part, const zob_op &o) const {
    if (!part.tiles || !on_tiles(o) || !same_shape(tensor(op(part.begin).output), tensor(o.output))) return false;
    uint32_t all_windows = windows(o), masks = 1;
    for (size_t i = part.begin; i < part.end; i++) {
        all_windows += windows(op(i));
        masks += takes_mask(op(i));
    }
    if (all_windows > ZOB_MAX_WINDOWS || masks > ZOB_MAX_MASKS) return false;
    for (const uint32_t t : inputs(o)) {
        const auto writer = written_.find(t);
        const bool here = writer != written_.end() && writer->second == parts_.size() - 1;
        if (here && (windows(o) || !same_shape(tensor(t), tensor(o.output)))) return false;
    }
    return true;
}

void Compiler::deal_out() {
    for (size_t i = 0; i < live_.size(); i++) {
        if (!parts_.empty() && joins(parts_.back(), op(i))) {
            parts_.back().end = i + 1;
        } else {
            parts_.push_back({i, i + 1, on_tiles(op(i))});
        }
        written_[op(i).output] = parts_.size() - 1;
    }
}

// -- memory

// Taps of a convolution over few channels are packed, several to a word: bits a tap, or 32.
uint32_t Compiler::slot_of(const zob_op &o) const {
    const uint32_t channels = tensor(o.input).channels;
    const uint32_t taps = uint32_t(o.kernel[0]) * o.kernel[1];
    if (o.groups != 1 || channels > 16 || taps == 1) return 32;
    uint32_t slot = 1;
    while (slot < channels) slot *= 2;
    return (taps + 32 / slot - 1) / (32 / slot) <= ZOB_MAX_PACKED ? slot : 32;
}

// Stages: the input is read in stage 0, part i runs in stage i + 1, scores are written in the last.
void Compiler::find_places() {
    const auto keep = [&](uint32_t t, size_t born, size_t dies) {
        Place &p = places_[t];
        if (p.cell == 0) {
            p.height = tensor(t).height;
            p.width = tensor(t).width;
            p.cell = cell_bytes(tensor(t));
            p.born = born;
        }
        p.dies = std::max(p.dies, dies);
    };
    for (size_t k = 0; k < parts_.size(); k++) {
        for (size_t i = parts_[k].begin; i < parts_[k].end; i++) {
            const zob_op &o = op(i);
            for (const uint32_t t : inputs(o)) {
                const auto writer = written_.find(t);
                if (writer != written_.end() && writer->second == k) continue;
                keep(t, writer == written_.end() ? 0 : writer->second + 1, k + 1);
            }
            if (o.opcode == ZOB_OP_GATED_CONV) {
                places_.at(o.input).widen(o, tensor(o.output));
                places_.at(o.other).widen(o, tensor(o.output));
            }
            if (o.opcode != ZOB_OP_CONV) continue;
            Place extra;
            extra.born = extra.dies = k + 1;
            if (reads_bytes(o)) {
                extra.height = tensor(o.input).height;
                extra.width = tensor(o.input).width;
                extra.cell = tensor(o.input).channels;
                extra.widen(o, tensor(o.output));
                bytes_[live_[i]] = extra;
            } else if (tensor(o.input).kind == ZOB_KIND_BINARY) {
                places_.at(o.input).widen(o, tensor(o.output));
            }
        }
    }
    keep(m_.header->output, written_.at(m_.header->output) + 1, parts_.size() + 1);
    for (auto &[t, p] : places_) p.for_good = tensor(t).kind == ZOB_KIND_BINARY;
}

// Each place at the lowest offset free during its life, the largest first; as many images as fit the cache.
void Compiler::lay_out() {
    std::vector<Place *> order;
    for (auto *places : {&places_, &bytes_}) {
        for (auto &entry : *places) order.push_back(&entry.second);
    }
    std::stable_sort(order.begin(), order.end(),
                     [](const Place *a, const Place *b) { return a->image_bytes() > b->image_bytes(); });
    const auto place_all = [&](uint32_t images) {
        size_t total = 0;
        const auto bytes = [&](const Place *p) { return aligned(size_t{images} * p->image_bytes() + ZOB_TILE * p->cell + SLACK); };
        for (auto p = order.begin(); p != order.end(); p++) {
            std::vector<std::pair<size_t, size_t>> busy;
            for (auto q = order.begin(); q != p; q++) {
                if ((*p)->meets(**q)) {
                    busy.emplace_back((*q)->offset, (*q)->offset + bytes(*q));
                }
            }
            std::sort(busy.begin(), busy.end());
            size_t at = 0;
            for (const auto &[begin, end] : busy) {
                if (at + bytes(*p) <= begin) break;
                at = std::max(at, end);
            }
            if (at + bytes(*p) > MOST_BYTES) return NEVER;
            (*p)->offset = static_cast<uint32_t>(at);
            total = std::max(total, at + bytes(*p));
        }
        return total;
    };
    const size_t one = place_all(1);
    out_->images = static_cast<uint32_t>(std::clamp<size_t>(ARENA_AIMED_AT / std::max<size_t>(one, 1), 1, MOST_IMAGES));
    const size_t total = place_all(out_->images);
    scratch_ = static_cast<uint32_t>(total);
    out_->arena_bytes = total;
    for (size_t k = 0; k < parts_.size() + 2; k++) {
        Stage before{{}, work(k), false};
        for (const auto &[t, p] : places_) {
            if (p.born < k && k <= p.dies) before.live.push_back({p.offset, p.image_bytes()});
        }
        out_->between.push_back(std::move(before));
    }
}

double Compiler::work(size_t stage) const {
    double total = 0;
    if (stage == 0 || stage > parts_.size()) return total;
    for (size_t i = parts_[stage - 1].begin; i < parts_[stage - 1].end; i++) total += work_of(m_, op(i));
    return total;
}

// -- writing the program

size_t Compiler::reserve(size_t bytes) {
    const size_t at = out_->parameter_bytes;
    out_->parameter_bytes += aligned(bytes);
    return at;
}

uint32_t Compiler::values(uint32_t index, uint32_t channels) {
    const zob_parameter &p = parameter(index);
    const size_t at = reserve(4 * size_t{padded(channels)} * (p.count / channels));
    prepare(prepare_values(p, channels, at));
    return static_cast<uint32_t>(at);
}

const std::vector<uint32_t> &Compiler::cells_of(uint32_t t) {
    const auto found = cells_.find(t);
    if (found != cells_.end()) return *found->second;
    const Place &p = place(t);
    std::vector<uint32_t> cells;
    for (uint32_t y = 0; y < p.height; y++) {
        for (uint32_t x = 0; x < p.width; x++) cells.push_back(static_cast<uint32_t>(p.at(y, x)));
    }
    out_->cells.push_back(std::move(cells));
    cells_[t] = &out_->cells.back();
    return *cells_[t];
}

void Compiler::emit() {
    const zob_tensor &input = tensor(m_.header->input), &output = tensor(m_.header->output);
    out_->stages.resize(parts_.size() + 2);
    out_->image_bytes = m_.header->image_bytes;
    if (places_.count(m_.header->input)) {
        const Place &to = place(m_.header->input);
        const bool codes = input.kind == ZOB_KIND_INT8;
        if (pixels_) {
            const PixelTable &table = *pixels_->of(m_.header->input);
            read(0, codes ? read_pixel_codes(input, table, to) : read_pixels(input, table, to));
        } else {
            read(0, codes ? read_codes(input, to) : read_floats(input, to));
        }
    }
    for (size_t k = 0; k < parts_.size(); k++) {
        if (parts_[k].tiles) {
            emit_pass(k + 1, parts_[k]);
        } else {
            emit_move(k + 1, op(parts_[k].begin));
        }
    }
    act(parts_.size() + 1, write_scores(output, place(m_.header->output)));
    out_->input_bytes = size_t{input.height} * input.width * input.channels * (format_ == ZOB_INPUT_UINT8 ? 1 : 4);
    out_->output_count = size_t{output.height} * output.width * output.channels;
}

void Compiler::emit_move(size_t stage, const zob_op &o) {
    const zob_tensor &in = tensor(o.input), &out = tensor(o.output);
    const Place &to = place(o.output);
    switch (o.opcode) {
    case ZOB_OP_THERMOMETER:
        if (reads_pixels(o)) {
            read(stage, thermometer_of_pixels(o, in, out, *pixels_->of(o.input), to));
        } else {
            act(stage, thermometer(o, in, out, place(o.input), to));
        }
        break;
    case ZOB_OP_MAX_POOL:
        act(stage, pool_bits(o, in, out, place(o.input), to));
        break;
    case ZOB_OP_CONCAT:
        act(stage, concat(in, tensor(o.other), place(o.input), place(o.other), to));
        break;
    case ZOB_OP_PAD:
        act(stage, pad(o, in, out, place(o.input), to));
        break;
    case ZOB_OP_RESHAPE:
        act(stage, reshape(in, out, place(o.input), to));
        break;
    case ZOB_OP_DYNAMIC_RANGE:
        act(stage, dynamic_range(m_, o, in, place(o.input), to));
        break;
    default:
        act(stage, softmax(m_, out, place(o.input), to));
        break;
    }
}

zob_tile_step Compiler::step(zob_step_kind kind) const {
    zob_tile_step s{};
    s.kind = kind;
    return s;
}

// Where a pass finds the tile of a real tensor: in the tensor, or kept by an earlier step.
void Compiler::at_tensor(const Pass &p, zob_tile_step &s, uint32_t t) const {
    const auto stored = places_.find(t);
    if (stored != places_.end()) {
        s.arena = stored->second.offset;
        s.a_position = s.a_vector = stored->second.cell;
        s.a_channel = 4;
    } else {
        s.arena = scratch_ + p.slots.at(t) * KEPT_BYTES;
        s.a_vector = 4 * ZOB_BLOCK;
    }
}

// Where a pass finds, or puts, the bits of a tensor.
void Compiler::at_bits(zob_tile_step &s, uint32_t t) {
    s.arena = place(t).offset;
    s.cells = cells_of(t).data();
    s.image_bytes = place(t).image_bytes();
    s.a_vector = place(t).cell;
}

// Have a real tensor in the registers.
void Compiler::load(Pass &p, uint32_t t) {
    if (p.current == t) return;
    const auto two = p.two_valued.find(t);
    if (two != p.two_valued.end()) {
        zob_tile_step s = step(ZOB_STEP_SELECT);
        s.mask = two->second.mask;
        s.low = two->second.set;
        s.high = two->second.clear;
        p.steps.push_back(s);
    } else {
        zob_tile_step s = step(ZOB_STEP_LOAD);
        at_tensor(p, s, t);
        p.steps.push_back(s);
    }
    p.current = t;
}

// The mask that holds a binary tensor.
uint32_t Compiler::mask_of(Pass &p, uint32_t t) {
    const auto found = p.masks.find(t);
    if (found != p.masks.end()) return found->second;
    const uint32_t mask = static_cast<uint32_t>(p.masks.size());
    p.masks[t] = mask;
    if (written_.count(t) && &parts_[written_.at(t)] == p.part) return mask;
    zob_tile_step s = step(ZOB_STEP_LOAD_BITS);
    s.mask = mask;
    at_bits(s, t);
    p.steps.push_back(s);
    return mask;
}

// The bytes that a convolution reads, `zero_of` above what they stand for.
Action Compiler::read_for(const zob_op &o, const Place &to) const {
    const zob_tensor &in = tensor(o.input);
    const bool codes = in.kind == ZOB_KIND_INT8;
    if (!pixels_) return read_code_bytes(in, to);
    const PixelTable &table = *pixels_->of(o.input);
    const float step = codes ? 1.0f : *step_of(table);
    ByteTable bytes;
    for (size_t p = 0; p < 256; p++) {
        bytes[p] = static_cast<uint8_t>(128 + (codes ? code_of(in, table[p]) : static_cast<int>(table[p] / step)));
    }
    const int outside = o.pad_value ? static_cast<int>(1.0f / step) : 0;
    return read_bytes(in, bytes, static_cast<uint8_t>(zero_of(o) + outside), to);
}

int32_t Compiler::zero_of(const zob_op &o) const {
    return tensor(o.input).kind == ZOB_KIND_INT8 ? 128 + tensor(o.input).zero_point : 128;
}

void Compiler::emit_pass(size_t stage, const Part &part) {
    Pass p{};
    stage_ = stage;
    p.part = &part;
    p.shape = tensor(op(part.begin).output);
    for (size_t i = part.begin; i < part.end; i++) {
        const auto extra = bytes_.find(live_[i]);
        if (extra == bytes_.end()) continue;
        read(stage, read_for(op(i), extra->second));
    }
    for (size_t i = part.begin; i < part.end; i++) {
        if (emit_with_next(p, i)) {
            i++;
        } else {
            emit_op(p, i);
        }
    }
    out_->arena_bytes = std::max(out_->arena_bytes, scratch_ + p.slots.size() * KEPT_BYTES);
    out_->steps.push_back(std::move(p.steps));
    out_->windows.push_back(std::move(p.windows));
    zob_pass pass{};
    pass.steps = out_->steps.back().data();
    pass.count = static_cast<uint32_t>(out_->steps.back().size());
    pass.windows = out_->windows.back().data();
    pass.window_count = static_cast<uint32_t>(out_->windows.back().size());
    pass.width = p.shape.width;
    pass.pixels = p.shape.height * p.shape.width;
    pass.channels = p.shape.channels;
    out_->passes.push_back(pass);
    const zob_pass *kept = &out_->passes.back();
    act(stage, [kept](const Block &b) { 
        b.kernels->run_pass(kept, b.arena, b.parameters, b.images, b.first_channel, b.end_channel);
    });
    out_->stages[stage].channels = pass.channels;
}

// A step that decides the bits of a tensor.
zob_tile_step Compiler::decide(Pass &p, zob_step_kind kind, uint32_t t) {
    zob_tile_step s = step(kind);
    s.mask = mask_of(p, t);
    if (places_.count(t)) at_bits(s, t);
    return s;
}

// The next operation, where it is the only one ever to read this one's result, and reads it once.
const zob_op *Compiler::sole_reader(const Pass &p, size_t i) const {
    const uint32_t t = op(i).output;
    if (places_.count(t) || i + 1 == p.part->end) return nullptr;
    for (size_t k = i + 1; k < p.part->end; k++) {
        const auto read = inputs(op(k));
        if (std::count(read.begin(), read.end(), t) != (k == i + 1 ? 1 : 0)) return nullptr;
    }
    return &op(i + 1);
}

// Two operations in one step, where that gives the same bits.
bool Compiler::emit_with_next(Pass &p, size_t i) {
    const zob_op &o = op(i), *next = sole_reader(p, i);
    if (!next) return false;
    if (next->opcode == ZOB_OP_SIGN && o.opcode == ZOB_OP_AFFINE && o.bias != ZOB_NONE) {
        // x + b < 0 where x < -b: a sum of two floats is rounded to 0 only where it is 0; true of infinities and NaN too.
        zob_op scale = o;
        scale.bias = ZOB_NONE;
        emit_affine(p, scale);
        if (o.parameter != ZOB_NONE || o.low != 1.0f) p.current = ZOB_NONE;
        zob_tile_step s = decide(p, ZOB_STEP_THRESHOLD, next->output);
        s.table = static_cast<uint32_t>(reserve(4 * size_t{padded(p.shape.channels)}));
        prepare(prepare_negated(parameter(o.bias), s.table));
        p.steps.push_back(s);
        return true;
    }
    return false;
}

void Compiler::emit_op(Pass &p, size_t i) {
    const zob_op &o = op(i);
    switch (o.opcode) {
    case ZOB_OP_CONV:
    case ZOB_OP_GATED_CONV:
        if (tensor(o.input).kind == ZOB_KIND_BINARY) {
            emit_bit_conv(p, o);
        } else if (reads_bytes(o)) {
            emit_byte_conv(p, o);
        } else {
            emit_real_conv(p, o);
        }
        break;
    case ZOB_OP_MAX_POOL:
    case ZOB_OP_AVERAGE_POOL:
        emit_pool(p, o);
        break;
    case ZOB_OP_UNPACK:
        p.two_valued[o.output] = {mask_of(p, o.input), -1.0f, 1.0f};
        break;
    case ZOB_OP_SIGN:
        load(p, o.input);
        p.steps.push_back(decide(p, ZOB_STEP_SIGN, o.output));
        return;
    case ZOB_OP_LOW_BIT:
        load(p, o.input);
        p.steps.push_back(decide(p, ZOB_STEP_LOW_BIT, o.output));
        p.steps.back().low = o.low;
        return;
    case ZOB_OP_THRESHOLD:
        load(p, o.input);
        p.steps.push_back(decide(p, ZOB_STEP_THRESHOLD, o.output));
        p.steps.back().table = values(o.parameter, p.shape.channels);
        return;
    case ZOB_OP_AFFINE:
        if (!emit_two_valued(p, o)) emit_affine(p, o);
        break;
    case ZOB_OP_CLIP:
        if (!emit_two_valued(p, o)) {
            load(p, o.input);
            zob_tile_step s = step(ZOB_STEP_CLIP);
            s.low = o.low;
            s.high = o.high;
            p.steps.push_back(s);
        }
        break;
    case ZOB_OP_PRELU: {
        const bool by_element = parameter(o.parameter).count != p.shape.channels;
        load(p, o.input);
        zob_tile_step s = step(by_element ? ZOB_STEP_PRELU_ELEMENT : ZOB_STEP_PRELU);
        s.table = values(o.parameter, p.shape.channels);
        s.a_position = 4 * padded(p.shape.channels);
        p.steps.push_back(s);
        break;
    }
    default:
        emit_sum_or_product(p, o);
        break;
    }
    finish(p, i, o.output);
}

// The registers hold a real tensor, unless it is two-valued: keep it where anyone but the next step reads it.
void Compiler::finish(Pass &p, size_t i, uint32_t t) {
    const bool two = p.two_valued.count(t) != 0;
    if (!two) p.current = t;
    bool again = false;
    for (size_t k = i + 1; k < p.part->end; k++) {
        const auto read = inputs(op(k));
        again = again || std::count(read.begin(), read.end(), t) > (k == i + 1 ? 1 : 0);
    }
    if (places_.count(t)) {
        load(p, t);
    } else if (!again || two) {
        return;
    } else {
        p.slots.emplace(t, static_cast<uint32_t>(p.slots.size()));
    }
    zob_tile_step s = step(ZOB_STEP_STORE);
    at_tensor(p, s, t);
    p.steps.push_back(s);
}

// Operations with constants on a value of two constants give two constants.
bool Compiler::emit_two_valued(Pass &p, const zob_op &o) {
    const auto two = p.two_valued.find(o.input);
    if (two == p.two_valued.end() || o.parameter != ZOB_NONE || o.bias != ZOB_NONE) return false;
    const auto apply = [&](float x) {
        if (o.opcode == ZOB_OP_AFFINE) return x * o.low;
        x = x < o.low ? o.low : x;
        return x > o.high ? o.high : x;
    };
    const TwoValued v = two->second;
    p.two_valued[o.output] = {v.mask, apply(v.set), apply(v.clear)};
    return true;
}

zob_tile_step Compiler::scale_by(float factor, uint32_t channels) {
    zob_tile_step s = step(ZOB_STEP_SCALE);
    s.table = static_cast<uint32_t>(reserve(4 * size_t{padded(channels)}));
    prepare(prepare_constant(factor, channels, s.table));
    return s;
}

void Compiler::emit_affine(Pass &p, const zob_op &o) {
    const uint32_t channels = p.shape.channels;
    const bool scaled = o.parameter != ZOB_NONE || o.low != 1.0f, shifted = o.bias != ZOB_NONE;
    load(p, o.input);
    if (!scaled && !shifted) return;
    zob_tile_step s = step(scaled && shifted ? ZOB_STEP_AFFINE : scaled ? ZOB_STEP_SCALE : ZOB_STEP_BIAS);
    if (o.parameter != ZOB_NONE) {
        s.table = values(o.parameter, channels);
    } else if (scaled) {
        s.table = scale_by(o.low, channels).table;
    }
    if (shifted) s.bias = values(o.bias, channels);
    p.steps.push_back(s);
}

void Compiler::emit_sum_or_product(Pass &p, const zob_op &o) {
    const bool sum = o.opcode == ZOB_OP_ADD;
    if (!same_shape(tensor(o.other), p.shape)) {
        load(p, o.input);
        zob_tile_step s = step(ZOB_STEP_MUL_CHANNEL);
        s.arena = place(o.other).offset;
        s.image_bytes = place(o.other).image_bytes();
        p.steps.push_back(s);
        return;
    }
    uint32_t first = o.input, second = o.other;  // both orders give the same bits
    if (p.current == second || (p.two_valued.count(first) && !p.two_valued.count(second))) std::swap(first, second);
    load(p, first);
    const auto two = p.two_valued.find(second);
    zob_tile_step s = step(sum ? ZOB_STEP_ADD : ZOB_STEP_MUL);
    if (two != p.two_valued.end()) {
        s.kind = sum ? ZOB_STEP_ADD_SELECT : ZOB_STEP_MUL_SELECT;
        s.mask = two->second.mask;
        s.low = two->second.set;
        s.high = two->second.clear;
    } else {
        at_tensor(p, s, second);
    }
    p.steps.push_back(s);
}

// Where each output pixel's window begins, and how it lies over the border; class 0 is wholly inside.
WindowTables Compiler::cover_windows(const zob_op &o, const Place &from) const {
    const zob_tensor &in = tensor(o.input), &out = tensor(o.output);
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

// Tables get an address that stays.
uint32_t Compiler::add_window(Pass &p, const zob_op &o, const Place &from, WindowTables &&tables, zob_window w) {
    out_->tables.push_back(std::move(tables));
    WindowTables &t = out_->tables.back();
    t.groups.resize(padded(p.shape.channels));
    w.source = from.offset;
    w.image_bytes = from.image_bytes();
    w.step = o.stride[1] * from.cell;
    w.starts = t.starts.data();
    w.classes = t.classes.data();
    w.covers = t.covers.data();
    w.offsets = t.offsets.data();
    w.groups = t.groups.data();
    w.taps = uint32_t{o.kernel[0]} * o.kernel[1];
    w.terms = terms_of(w, t);
    w.kernel[0] = o.kernel[0];
    w.kernel[1] = o.kernel[1];
    w.pad_value = o.pad_value;
    p.windows.push_back(w);
    return static_cast<uint32_t>(p.windows.size() - 1);
}

// Words, or floats, of every tap: `terms` of them, 4 bytes each.
WindowTables Compiler::read_taps(const zob_op &o, const Place &from, uint32_t terms) const {
    WindowTables t = cover_windows(o, from);
    for (uint32_t ky = 0; ky < o.kernel[0]; ky++) {
        for (uint32_t kx = 0; kx < o.kernel[1]; kx++) {
            const uint32_t tap = ky * std::max<uint32_t>(o.dilation[0], 1) * from.row() +
                                 kx * std::max<uint32_t>(o.dilation[1], 1) * from.cell;
            for (uint32_t k = 0; k < terms; k++) t.offsets.push_back(static_cast<int32_t>(tap + 4 * k));
        }
    }
    return t;
}

// Where each filter's group of input channels begins.
void Compiler::read_groups(const zob_op &o, uint32_t terms, WindowTables &t) const {
    const uint32_t filters = parameter(o.parameter).dims[0], in_group = filters / o.groups;
    t.groups.resize(padded(filters));
    for (uint32_t f = 0; f < filters; f++) t.groups[f] = static_cast<int32_t>(f / in_group * 4 * terms);
}

zob_read Compiler::read_of(const zob_op &o) const {
    const zob_parameter &weight = parameter(o.parameter);
    const uint32_t in_group = weight.dims[0] / o.groups;
    if (o.groups == 1 || in_group % ZOB_BLOCK == 0) return ZOB_READ_SHARED;
    const bool own = tensor(o.input).kind == ZOB_KIND_REAL && weight.dims[3] == 1 && in_group == 1;
    return own ? ZOB_READ_OWN : ZOB_READ_SCATTERED;
}

void Compiler::emit_real_conv(Pass &p, const zob_op &o) {
    const zob_parameter &weight = parameter(o.parameter);
    zob_tile_step s = step(ZOB_STEP_CONV_REAL);
    zob_window w{};
    w.read = read_of(o);
    w.terms_a_tap = weight.dims[3];
    WindowTables t = read_taps(o, place(o.input), w.terms_a_tap);
    if (w.read != ZOB_READ_OWN) read_groups(o, w.terms_a_tap, t);
    s.table = static_cast<uint32_t>(reserve(4 * size_t{padded(weight.dims[0])} * t.offsets.size()));
    prepare(prepare_reals(weight, s.table));
    s.window = add_window(p, o, place(o.input), std::move(t), w);
    p.steps.push_back(s);
    if (tensor(o.input).kind == ZOB_KIND_INT8) p.steps.push_back(scale_by(tensor(o.input).scale, weight.dims[0]));
}

// One window over bits, or two over two tensors of them.
void Compiler::emit_bit_conv(Pass &p, const zob_op &o) {
    const bool gated = o.opcode == ZOB_OP_GATED_CONV;
    const zob_parameter &weight = parameter(o.parameter);
    const uint32_t slot = slot_of(o), words = zob_words(weight.dims[3]);
    zob_tile_step s = step(gated ? ZOB_STEP_GATED_CONV : ZOB_STEP_CONV_BITS);
    zob_window w{};
    w.read = read_of(o);
    w.slot = slot < 32 ? slot : 0;
    s.window = static_cast<uint32_t>(p.windows.size());
    for (const uint32_t plane : gated ? std::vector<uint32_t>{o.input, o.other} : std::vector<uint32_t>{o.input}) {
        WindowTables t = read_taps(o, place(plane), words);
        read_groups(o, words, t);
        add_window(p, o, place(plane), std::move(t), w);
    }
    const std::vector<zob_cover> &covers = out_->tables.back().covers;
    s.table = static_cast<uint32_t>(reserve(4 * size_t{padded(weight.dims[0])} * p.windows.back().terms));
    s.bias = static_cast<uint32_t>(reserve(4 * size_t{padded(weight.dims[0])} * covers.size()));
    prepare(prepare_bits({weight, words, slot, o.pad_value == 1, covers}, s.table, s.bias));
    if (gated) s.threshold = values(o.bias, weight.dims[0]);
    p.steps.push_back(s);
}

// Pixels as bytes, four to a term; those side by side in a kernel's row without a gap.
void Compiler::emit_byte_conv(Pass &p, const zob_op &o) {
    const zob_parameter &weight = parameter(o.parameter);
    const uint32_t channels = weight.dims[3], filters = padded(weight.dims[0]);
    const Place &from = bytes_.at(static_cast<uint32_t>(&o - m_.ops));
    const uint32_t runs = o.dilation[1] == 1 ? 1 : o.kernel[1], run = channels * o.kernel[1] / runs;
    std::vector<int32_t> elements;  // of a filter, for each byte of each term
    WindowTables t = cover_windows(o, from);
    std::fill(t.classes.begin(), t.classes.end(), uint16_t{0});
    for (uint32_t ky = 0; ky < o.kernel[0]; ky++) {
        for (uint32_t r = 0; r < runs; r++) {
            const uint32_t begin = ky * o.dilation[0] * from.row() + r * o.dilation[1] * from.cell;
            for (uint32_t k = 0; k < run; k += 4) t.offsets.push_back(static_cast<int32_t>(begin + k));
            for (uint32_t k = 0; k < (run + 3) / 4 * 4; k++) {
                elements.push_back(k < run ? static_cast<int32_t>((ky * runs + r) * run + k) : -1);
            }
        }
    }
    zob_tile_step s = step(ZOB_STEP_CONV_BYTES);
    s.low = tensor(o.input).kind == ZOB_KIND_INT8 ? tensor(o.input).scale : *step_of(*pixels_->of(o.input));
    s.table = static_cast<uint32_t>(reserve(4 * size_t{filters} * t.offsets.size()));
    s.bias = static_cast<uint32_t>(reserve(4 * size_t{filters}));
    prepare(prepare_bytes(weight, elements, zero_of(o), s.table, s.bias));
    s.window = add_window(p, o, from, std::move(t), {});
    p.steps.push_back(s);
}

void Compiler::emit_pool(Pass &p, const zob_op &o) {
    zob_tile_step s = step(o.opcode == ZOB_OP_MAX_POOL ? ZOB_STEP_MAX_POOL : ZOB_STEP_AVERAGE_POOL);
    s.window = add_window(p, o, place(o.input), read_taps(o, place(o.input), 1), {});
    p.steps.push_back(s);
}

std::unique_ptr<Program> Compiler::compile() {
    if (!known()) return nullptr;
    find_live();
    deal_out();
    find_places();
    lay_out();
    if (out_->arena_bytes == NEVER) return nullptr;
    emit();
    return std::move(out_);
}

std::unique_ptr<Program> Program::of(const zob_model &model, uint32_t format) { return Compiler(model, format).compile(); }

}  // namespace zob
