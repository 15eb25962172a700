#include "program.hpp"

#include <algorithm>

#include "parallel.hpp"

namespace zob {

void Program::run(const zob_kernels &kernels, const uint8_t *image, const void *inputs, size_t n, unsigned threads,
                  float *scores) const {
    const Memory parameters(parameter_bytes + 64);
    for (const ProgramStage &stage : stages) {
        for (const Preparation &p : stage.preparations) p.fill(image, parameters.data());
    }
    // Small batches are dealt out evenly.
    const size_t share = (n + threads - 1) / threads, block = std::clamp<size_t>(share, 1, images);
    const auto make = [&] {
        return [&, arena = Memory(arena_bytes + 64)](size_t i) {
            const size_t first = i * block;
            const Block b{&kernels,
                          arena.data(),
                          parameters.data(),
                          static_cast<const uint8_t *>(inputs) + first * input_bytes,
                          scores + first * output_count,
                          static_cast<uint32_t>(std::min(block, n - first))};
            for (const ProgramStage &stage : stages) {
                for (const Action &act : stage.actions) act(b);
            }
        };
    };
    share_out((n + block - 1) / block, threads, make);
}

class ProgramStages final : public Staged {
public:
    ProgramStages(const Program &program, const zob_kernels &kernels)
        : p_(program), kernels_(kernels), parameters_(program.parameter_bytes + 64) {}

    const std::vector<Stage> &stages() const override { return p_.between; }
    uint32_t images() const override { return p_.images; }
    size_t memory_bytes() const override { return p_.arena_bytes; }
    size_t input_bytes() const override { return p_.input_bytes; }
    size_t output_count() const override { return p_.output_count; }
    const std::vector<Change> &changes() const override { return changes_; }
    void prepare(const uint8_t *image) override;
    void run(size_t stage, uint8_t *memory, const uint8_t *inputs, uint32_t images, float *scores,
             bool changed_only) const override;

private:
    void prepare_golden(const uint8_t *image);
    void compare(const Preparation &p, Change &change) const;

    const Program &p_;
    const zob_kernels &kernels_;
    Memory parameters_;
    std::vector<uint8_t> image_, golden_parameters_;
    std::vector<Change> changes_;
};

std::unique_ptr<Staged> Program::staged(const zob_kernels &kernels) const {
    return std::make_unique<ProgramStages>(*this, kernels);
}

void ProgramStages::prepare_golden(const uint8_t *image) {
    for (const ProgramStage &stage : p_.stages) {
        for (const Preparation &p : stage.preparations) p.fill(image, parameters_.data());
        changes_.push_back({false, std::vector<bool>((stage.channels + ZOB_BLOCK - 1) / ZOB_BLOCK)});
    }
    image_.assign(image, image + p_.image_bytes);
    golden_parameters_.assign(parameters_.data(), parameters_.data() + p_.parameter_bytes);
}

// Blocks of channels whose parameters, as kernels read them, are not the golden ones.
void ProgramStages::compare(const Preparation &p, Change &change) const {
    for (const Table &t : p.tables) {
        for (size_t i = 0; i < t.rows * t.blocks; i++) {
            const size_t at = t.at + i * t.block_bytes;
            if (std::memcmp(&golden_parameters_[at], parameters_.data() + at, t.block_bytes) != 0) {
                change.any = change.blocks[i % t.blocks] = true;
            }
        }
    }
}

// Stages whose bits are as before need nothing.
void ProgramStages::prepare(const uint8_t *image) {
    if (image_.empty()) return prepare_golden(image);
    for (size_t k = 0; k < p_.stages.size(); k++) {
        const auto &preparations = p_.stages[k].preparations;
        bool changed = false;
        for (const Preparation &p : preparations) {
            if (std::memcmp(&image_[p.offset], image + p.offset, p.bytes) == 0) continue;
            p.fill(image, parameters_.data());
            changed = true;
        }
        if (!changed) continue;
        changes_[k] = {false, std::vector<bool>(changes_[k].blocks.size())};
        for (const Preparation &p : preparations) compare(p, changes_[k]);
    }
    image_.assign(image, image + p_.image_bytes);
}

void ProgramStages::run(size_t stage, uint8_t *memory, const uint8_t *inputs, uint32_t images, float *scores,
                        bool changed_only) const {
    Block b{&kernels_, memory, parameters_.data(), inputs, scores, images};
    const auto act = [&] {
        for (const Action &action : p_.stages[stage].actions) action(b);
    };
    if (!changed_only) return act();
    const std::vector<bool> &blocks = changes_[stage].blocks;
    for (auto first = blocks.begin(); (first = std::find(first, blocks.end(), true)) != blocks.end();) {
        const auto end = std::find(first, blocks.end(), false);
        b.first_channel = ZOB_BLOCK * static_cast<uint32_t>(first - blocks.begin());
        b.end_channel = ZOB_BLOCK * static_cast<uint32_t>(end - blocks.begin());
        act();
        first = end;
    }
}

}  // namespace zob
