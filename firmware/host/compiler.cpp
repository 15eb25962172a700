// From a plan to a program: operations are dealt out to stages (parts.hpp), what lies between these is given its place
// (arrangement.hpp), and each stage is written: a pass (pass.hpp), or an operation that moves data (moves.hpp).
#include "arrangement.hpp"
#include "pass.hpp"
#include "program.hpp"

namespace zob {

class Compiler {
public:
    Compiler(const zob_model &model, uint32_t format)
        : m_(model), format_(format),
          pixels_(format == ZOB_INPUT_UINT8 ? std::make_unique<PixelTables>(model) : nullptr), parts_(model, pixels_.get()), places_(parts_), out_(new Program) {}

    std::unique_ptr<Program> compile();

private:
    void emit();
    void emit_move(size_t stage, const zob_op &o);
    double work(size_t stage) const;
    void act(size_t stage, Action a) { out_->stages[stage].actions.push_back(std::move(a)); }
    void read(size_t stage, Action a) {
        out_->between[stage].reads_input = true;
        act(stage, std::move(a));
    }

    const zob_model &m_;
    uint32_t format_;
    std::unique_ptr<PixelTables> pixels_;
    Parts parts_;
    Arrangement places_;
    std::unique_ptr<Program> out_;
};

void Compiler::emit() {
    const zob_tensor &input = parts_.tensor(m_.header->input), &output = parts_.tensor(m_.header->output);
    out_->stages.resize(parts_.all().size() + 2);
    for (size_t k = 0; k < out_->stages.size(); k++) out_->between.push_back({places_.live(k), work(k), false});
    out_->images = places_.images();
    out_->arena_bytes = places_.memory_bytes();
    out_->image_bytes = m_.header->image_bytes;
    if (places_.has(m_.header->input)) {
        const Place &to = places_.place(m_.header->input);
        const bool codes = input.kind == ZOB_KIND_INT8;
        if (pixels_) {
            const PixelTable &table = *pixels_->of(m_.header->input);
            read(0, codes ? read_pixel_codes(input, table, to) : read_pixels(input, table, to));
        } else {
            read(0, codes ? read_codes(input, to) : read_floats(input, to));
        }
    }
    for (size_t k = 0; k < parts_.all().size(); k++) {
        if (parts_.all()[k].tiles) {
            PassWriter(parts_, pixels_.get(), places_, k + 1, *out_).write();
        } else {
            emit_move(k + 1, parts_.op(parts_.all()[k].begin));
        }
    }
    act(parts_.all().size() + 1, write_scores(output, places_.place(m_.header->output)));
    out_->input_bytes = size_t{input.height} * input.width * input.channels * (format_ == ZOB_INPUT_UINT8 ? 1 : 4);
    out_->output_count = size_t{output.height} * output.width * output.channels;
}

void Compiler::emit_move(size_t stage, const zob_op &o) {
    const zob_tensor &in = parts_.tensor(o.input), &out = parts_.tensor(o.output);
    const Place &to = places_.place(o.output);
    switch (o.opcode) {
    case ZOB_OP_THERMOMETER:
        if (parts_.reads_pixels(o)) {
            read(stage, thermometer_of_pixels(o, in, out, *pixels_->of(o.input), to));
        } else {
            act(stage, thermometer(o, in, out, places_.place(o.input), to));
        }
        break;
    case ZOB_OP_MAX_POOL:
        act(stage, pool_bits(o, in, out, places_.place(o.input), to));
        break;
    case ZOB_OP_CONCAT:
        act(stage, concat(in, places_.place(o.input), places_.place(o.other), to));
        break;
    case ZOB_OP_PAD:
        act(stage, pad(o, in, out, places_.place(o.input), to));
        break;
    case ZOB_OP_RESHAPE:
        act(stage, reshape(in, out, places_.place(o.input), to));
        break;
    case ZOB_OP_DYNAMIC_RANGE:
        act(stage, dynamic_range(m_, o, in, places_.place(o.input), to));
        break;
    default:
        act(stage, softmax(m_, out, places_.place(o.input), to));
        break;
    }
}

// Of one image.
double Compiler::work(size_t stage) const {
    double total = 0;
    if (stage == 0 || stage > parts_.all().size()) return total;
    const Part &part = parts_.all()[stage - 1];
    for (size_t i = part.begin; i < part.end; i++) total += work_of(m_, parts_.op(i));
    return total;
}

std::unique_ptr<Program> Compiler::compile() {
    if (places_.memory_bytes() == NEVER) return nullptr;
    emit();
    return std::move(out_);
}

std::unique_ptr<Program> Program::of(const zob_model &model, uint32_t format) {
    return Parts::known(model) ? Compiler(model, format).compile() : nullptr;
}

}  // namespace zob
