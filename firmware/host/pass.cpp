#include "pass.hpp"

#include <algorithm>

#include "thresholds.hpp"
#include "windows.hpp"

namespace zob {

namespace {

constexpr float LEAST_STEP = 1e-30f;  // so that products with it keep their precision
constexpr uint32_t KEPT_BYTES = 4 * ZOB_TILE * ZOB_BLOCK;  // a tile kept for a later step

// Whether sums of products with bytes are floats exactly.
bool are_exact(const zob_parameter &weight) {
    const uint64_t greatest = weight.encoding == ZOB_ENCODING_BINARY ? 1 : MOST_WEIGHT;
    return 255 * greatest * (weight.count / weight.dims[0]) <= 1 << 24;
}

}  // namespace

PassWriter::PassWriter(const Parts &parts, const PixelTables *pixels, const Arrangement &places, size_t stage,
                       Program &out)
    : parts_(parts), pixels_(pixels), places_(places), stage_(stage), part_(parts.all()[stage - 1]), out_(out),
      shape_(parts.tensor(parts.op(part_.begin).output)) {}

void PassWriter::write() {
    ProgramStage &stage = out_.stages[stage_];
    for (size_t i = part_.begin; i < part_.end; i++) {
        const Place *bytes = places_.bytes_of(parts_.number(i));
        if (!bytes) continue;
        stage.actions.push_back(read_for(parts_.op(i), *bytes));
        out_.between[stage_].reads_input = true;
    }
    for (size_t i = part_.begin; i < part_.end; i++) {
        if (emit_with_next(i)) {
            i++;
        } else {
            emit_op(i);
        }
    }
    join_steps();
    out_.arena_bytes = std::max(out_.arena_bytes, places_.memory_bytes() + slots_.size() * KEPT_BYTES);
    out_.steps.push_back(std::move(steps_));
    out_.windows.push_back(std::move(windows_));
    zob_pass pass{};
    pass.steps = out_.steps.back().data();
    pass.count = static_cast<uint32_t>(out_.steps.back().size());
    pass.windows = out_.windows.back().data();
    pass.window_count = static_cast<uint32_t>(out_.windows.back().size());
    pass.width = shape_.width;
    pass.pixels = shape_.height * shape_.width;
    pass.channels = stage.channels = shape_.channels;
    out_.passes.push_back(pass);
    const zob_pass *kept = &out_.passes.back();
    stage.actions.push_back([kept](const Block &b) {
        b.kernels->run_pass(kept, b.arena, b.parameters, b.images, b.first_channel, b.end_channel);
    });
}

// Steps that often follow each other, in one.
void PassWriter::join_steps() {
    for (size_t i = 1; i < steps_.size(); i++) {
        zob_tile_step &first = steps_[i - 1];
        const zob_tile_step &second = steps_[i];
        if (first.kind == ZOB_STEP_AFFINE && second.kind == ZOB_STEP_PRELU) {
            first.kind = ZOB_STEP_AFFINE_PRELU;
            first.threshold = second.table;
        } else if (first.kind == ZOB_STEP_ADD && second.kind == ZOB_STEP_AFFINE) {
            first.kind = ZOB_STEP_ADD_AFFINE;
            first.table = second.table;
            first.bias = second.bias;
        } else {
            continue;
        }
        steps_.erase(steps_.begin() + static_cast<std::ptrdiff_t>(i));
    }
}

size_t PassWriter::reserve(size_t bytes) {
    const size_t at = out_.parameter_bytes;
    out_.parameter_bytes += aligned(bytes);
    return at;
}

uint32_t PassWriter::values(uint32_t index, uint32_t channels) {
    const zob_parameter &p = parts_.parameter(index);
    const size_t at = reserve(4 * size_t{padded(channels)} * (p.count / channels));
    prepare(prepare_values(p, channels, at));
    return static_cast<uint32_t>(at);
}

// Whole numbers made of a parameter's values, one a channel; without a parameter, of zeros, which make zeros.
uint32_t PassWriter::whole_values(uint32_t index, std::function<int32_t(float)> of) {
    const size_t at = reserve(4 * size_t{padded(shape_.channels)});
    if (index != ZOB_NONE) prepare(prepare_whole(parts_.parameter(index), std::move(of), at));
    return static_cast<uint32_t>(at);
}

const uint32_t *PassWriter::cells_of(uint32_t t) {
    const auto found = cells_.find(t);
    if (found != cells_.end()) return found->second;
    const Place &p = places_.place(t);
    std::vector<uint32_t> cells;
    for (uint32_t y = 0; y < p.height; y++) {
        for (uint32_t x = 0; x < p.width; x++) cells.push_back(static_cast<uint32_t>(p.at(y, x)));
    }
    out_.cells.push_back(std::move(cells));
    cells_[t] = out_.cells.back().data();
    return cells_[t];
}

zob_tile_step PassWriter::step(zob_step_kind kind) const {
    zob_tile_step s{};
    s.kind = kind;
    return s;
}

// Where a pass finds the tile of a real tensor: in the tensor, or kept by an earlier step.
void PassWriter::at_tensor(zob_tile_step &s, uint32_t t) const {
    if (places_.has(t)) {
        s.arena = places_.place(t).offset;
        s.a_position = s.a_vector = places_.place(t).cell;
        s.a_channel = 4;
    } else {
        s.arena = static_cast<uint32_t>(places_.memory_bytes()) + slots_.at(t) * KEPT_BYTES;
        s.a_vector = 4 * ZOB_BLOCK;
    }
}

// Where a pass finds, or puts, the bits of a tensor.
void PassWriter::at_bits(zob_tile_step &s, uint32_t t) {
    s.arena = places_.place(t).offset;
    s.cells = cells_of(t);
    s.image_bytes = places_.place(t).image_bytes();
    s.a_vector = places_.place(t).cell;
}

// Have a real tensor in the registers.
void PassWriter::load(uint32_t t) {
    if (current_ == t) return;
    const auto two = two_valued_.find(t);
    if (two != two_valued_.end()) {
        zob_tile_step s = step(ZOB_STEP_SELECT);
        s.mask = two->second.mask;
        s.low = two->second.set;
        s.high = two->second.clear;
        steps_.push_back(s);
    } else {
        zob_tile_step s = step(ZOB_STEP_LOAD);
        at_tensor(s, t);
        steps_.push_back(s);
    }
    current_ = t;
}

// The mask that holds a binary tensor.
uint32_t PassWriter::mask_of(uint32_t t) {
    const auto found = masks_.find(t);
    if (found != masks_.end()) return found->second;
    const uint32_t mask = static_cast<uint32_t>(masks_.size());
    masks_[t] = mask;
    if (parts_.is_written(t) && parts_.writer(t) + 1 == stage_) return mask;
    zob_tile_step s = step(ZOB_STEP_LOAD_BITS);
    s.mask = mask;
    at_bits(s, t);
    steps_.push_back(s);
    return mask;
}

// The levels that a convolution reads; or the bytes, `zero_of` above what they stand for.
Action PassWriter::read_for(const zob_op &o, const Place &to) const {
    if (const zob_op *coder = parts_.thermometer_of(o)) {
        const zob_tensor &pixels = parts_.tensor(coder->input);
        const uint32_t planes = parts_.tensor(o.input).channels / pixels.channels;
        return read_levels(*coder, pixels, planes, *pixels_->of(coder->input), to);
    }
    const zob_tensor &in = parts_.tensor(o.input);
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

int32_t PassWriter::zero_of(const zob_op &o) const {
    return parts_.tensor(o.input).kind == ZOB_KIND_INT8 ? 128 + parts_.tensor(o.input).zero_point : 128;
}

// A step that decides the bits of a tensor.
zob_tile_step PassWriter::decide(zob_step_kind kind, uint32_t t) {
    zob_tile_step s = step(kind);
    s.mask = is_read_here(t) ? mask_of(t) : ZOB_NO_MASK;
    if (places_.has(t)) at_bits(s, t);
    return s;
}

bool PassWriter::is_read_here(uint32_t t) const {
    for (size_t i = part_.begin; i < part_.end; i++) {
        const auto read = parts_.inputs(parts_.op(i));
        if (std::count(read.begin(), read.end(), t) > 0) return true;
    }
    return false;
}

// The next operation, where it is the only one ever to read this one's result, and reads it once.
const zob_op *PassWriter::sole_reader(size_t i) const {
    const uint32_t t = parts_.op(i).output;
    if (places_.has(t) || i + 1 == part_.end) return nullptr;
    for (size_t k = i + 1; k < part_.end; k++) {
        const auto read = parts_.inputs(parts_.op(k));
        if (std::count(read.begin(), read.end(), t) != (k == i + 1 ? 1 : 0)) return nullptr;
    }
    return &parts_.op(i + 1);
}

// Two operations in one step, where that gives the same bits.
bool PassWriter::emit_with_next(size_t i) {
    return emit_twins(i) || emit_signs(i) || emit_threshold(i);
}

bool PassWriter::emit_twins(size_t i) {
    const zob_op &o = parts_.op(i);
    if (parts_.second_of(o.output) == ZOB_NONE) return false;
    load(o.input);
    zob_tile_step s = step(ZOB_STEP_TWO_BITS);
    at_bits(s, o.output);
    s.low = parts_.op(i + 1).low;
    steps_.push_back(s);
    return true;
}

// A convolution whose sums are only compared, in whole numbers.
bool PassWriter::emit_signs(size_t i) {
    const zob_op &o = parts_.op(i), *next = sole_reader(i);
    if (!next || o.opcode != ZOB_OP_CONV || (next->opcode != ZOB_OP_SIGN && next->opcode != ZOB_OP_THRESHOLD)) return false;
    const zob_tensor &in = parts_.tensor(o.input);
    const zob_parameter &weight = parts_.parameter(o.parameter);
    if (in.kind == ZOB_KIND_BINARY && !parts_.thermometer_of(o)) {
        const bool any_parity = weight.dims[3] % 2 && o.pad_value != 1 && window_kinds(parts_.model(), o) > 1;
        if (any_parity) return false;
        const bool odd = weight.count / weight.dims[0] % 2;
        zob_tile_step s = decide(ZOB_STEP_SIGN_BITS, next->output);
        read_bits(s, o, Bases::COUNTS);
        s.threshold = whole_values(next->parameter, [odd](float x) { return most_differing(x, odd); });
        steps_.push_back(s);
        return true;
    }
    if (parts_.reads_bytes(o) && are_exact(weight) && step_of_sums(o) > LEAST_STEP) {
        const float step = step_of_sums(o);
        zob_tile_step s = decide(ZOB_STEP_SIGN_BYTES, next->output);
        read_products(s, o);
        s.threshold = whole_values(next->parameter, [step](float x) { return least_steps(x, step); });
        steps_.push_back(s);
        return true;
    }
    return false;
}

bool PassWriter::emit_threshold(size_t i) {
    const zob_op &o = parts_.op(i), *next = sole_reader(i);
    if (!next) return false;
    if (next->opcode == ZOB_OP_SIGN && o.opcode == ZOB_OP_AFFINE && o.bias != ZOB_NONE) {
        // x + b < 0 where x < -b: a sum of two floats is rounded to 0 only where it is 0; true of infinities and NaN.
        zob_op scale = o;
        scale.bias = ZOB_NONE;
        emit_affine(scale);
        if (o.parameter != ZOB_NONE || o.low != 1.0f) current_ = ZOB_NONE;
        zob_tile_step s = decide(ZOB_STEP_THRESHOLD, next->output);
        s.table = static_cast<uint32_t>(reserve(4 * size_t{padded(shape_.channels)}));
        prepare(prepare_negated(parts_.parameter(o.bias), s.table));
        steps_.push_back(s);
        return true;
    }
    return false;
}

void PassWriter::emit_op(size_t i) {
    const zob_op &o = parts_.op(i);
    switch (o.opcode) {
    case ZOB_OP_CONV:
    case ZOB_OP_GATED_CONV:
        if (parts_.thermometer_of(o)) {
            emit_level_conv(o);
        } else if (parts_.tensor(o.input).kind == ZOB_KIND_BINARY) {
            emit_bit_conv(o);
        } else if (parts_.reads_bytes(o)) {
            emit_byte_conv(o);
        } else {
            emit_real_conv(o);
        }
        break;
    case ZOB_OP_MAX_POOL:
    case ZOB_OP_AVERAGE_POOL:
        emit_pool(o);
        break;
    case ZOB_OP_UNPACK:
        two_valued_[o.output] = {mask_of(o.input), -1.0f, 1.0f};
        break;
    case ZOB_OP_SIGN:
        load(o.input);
        steps_.push_back(decide(ZOB_STEP_SIGN, o.output));
        return;
    case ZOB_OP_LOW_BIT:
        load(o.input);
        steps_.push_back(decide(ZOB_STEP_LOW_BIT, o.output));
        steps_.back().low = o.low;
        return;
    case ZOB_OP_THRESHOLD:
        load(o.input);
        steps_.push_back(decide(ZOB_STEP_THRESHOLD, o.output));
        steps_.back().table = values(o.parameter, shape_.channels);
        return;
    case ZOB_OP_AFFINE:
        if (!emit_two_valued(o)) emit_affine(o);
        break;
    case ZOB_OP_CLIP:
        if (!emit_two_valued(o)) {
            load(o.input);
            zob_tile_step s = step(ZOB_STEP_CLIP);
            s.low = o.low;
            s.high = o.high;
            steps_.push_back(s);
        }
        break;
    case ZOB_OP_PRELU: {
        const bool by_element = parts_.parameter(o.parameter).count != shape_.channels;
        load(o.input);
        zob_tile_step s = step(by_element ? ZOB_STEP_PRELU_ELEMENT : ZOB_STEP_PRELU);
        s.table = values(o.parameter, shape_.channels);
        s.a_position = 4 * padded(shape_.channels);
        steps_.push_back(s);
        break;
    }
    default:
        emit_sum_or_product(o);
        break;
    }
    finish(i, o.output);
}

// The registers hold a real tensor, unless it is two-valued: keep it where anyone but the next step reads it.
void PassWriter::finish(size_t i, uint32_t t) {
    const bool two = two_valued_.count(t) != 0;
    if (!two) current_ = t;
    bool again = false;
    for (size_t k = i + 1; k < part_.end; k++) {
        const auto read = parts_.inputs(parts_.op(k));
        again = again || std::count(read.begin(), read.end(), t) > (k == i + 1 ? 1 : 0);
    }
    if (places_.has(t)) {
        load(t);
    } else if (!again || two) {
        return;
    } else {
        slots_.emplace(t, static_cast<uint32_t>(slots_.size()));
    }
    zob_tile_step s = step(ZOB_STEP_STORE);
    at_tensor(s, t);
    steps_.push_back(s);
}

// Operations with constants on a value of two constants give two constants.
bool PassWriter::emit_two_valued(const zob_op &o) {
    const auto two = two_valued_.find(o.input);
    if (two == two_valued_.end() || o.parameter != ZOB_NONE || o.bias != ZOB_NONE) return false;
    const auto apply = [&](float x) {
        if (o.opcode == ZOB_OP_AFFINE) return x * o.low;
        x = x < o.low ? o.low : x;
        return x > o.high ? o.high : x;
    };
    const TwoValued v = two->second;
    two_valued_[o.output] = {v.mask, apply(v.set), apply(v.clear)};
    return true;
}

zob_tile_step PassWriter::scale_by(float factor, uint32_t channels) {
    zob_tile_step s = step(ZOB_STEP_SCALE);
    s.table = static_cast<uint32_t>(reserve(4 * size_t{padded(channels)}));
    prepare(prepare_constant(factor, channels, s.table));
    return s;
}

void PassWriter::emit_affine(const zob_op &o) {
    const uint32_t channels = shape_.channels;
    const bool scaled = o.parameter != ZOB_NONE || o.low != 1.0f, shifted = o.bias != ZOB_NONE;
    load(o.input);
    if (!scaled && !shifted) return;
    zob_tile_step s = step(scaled && shifted ? ZOB_STEP_AFFINE : scaled ? ZOB_STEP_SCALE : ZOB_STEP_BIAS);
    if (o.parameter != ZOB_NONE) {
        s.table = values(o.parameter, channels);
    } else if (scaled) {
        s.table = scale_by(o.low, channels).table;
    }
    if (shifted) s.bias = values(o.bias, channels);
    steps_.push_back(s);
}

void PassWriter::emit_sum_or_product(const zob_op &o) {
    const bool sum = o.opcode == ZOB_OP_ADD;
    if (!same_shape(parts_.tensor(o.other), shape_)) {
        load(o.input);
        zob_tile_step s = step(ZOB_STEP_MUL_CHANNEL);
        s.arena = places_.place(o.other).offset;
        s.image_bytes = places_.place(o.other).image_bytes();
        steps_.push_back(s);
        return;
    }
    uint32_t first = o.input, second = o.other;  // both orders give the same bits
    if (current_ == second || (two_valued_.count(first) && !two_valued_.count(second))) std::swap(first, second);
    load(first);
    const auto two = two_valued_.find(second);
    zob_tile_step s = step(sum ? ZOB_STEP_ADD : ZOB_STEP_MUL);
    if (two != two_valued_.end()) {
        s.kind = sum ? ZOB_STEP_ADD_SELECT : ZOB_STEP_MUL_SELECT;
        s.mask = two->second.mask;
        s.low = two->second.set;
        s.high = two->second.clear;
    } else {
        at_tensor(s, second);
    }
    steps_.push_back(s);
}

}  // namespace zob
