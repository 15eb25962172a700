// Runs a network again and again on the same inputs, with images that differ from a golden one in a few parameters.
//
// What the golden run held before each stage is kept. An image (an input of the network) joins a run at the first stage
// with other parameters, of which only the blocks of channels that changed are run; it leaves as soon as all that is
// still to be read equals what was kept, until another stage with other parameters. Every byte that counts is compared,
// so scores are bit-identical to those of a run of everything.
#pragma once

#include <memory>

#include "memory.hpp"
#include "staged.hpp"

namespace zob {

class Incremental {
public:
    // What may be left out to see what it is worth.
    struct Shortcuts {
        bool by_blocks = true;  // of the first stage with other parameters only blocks of channels that changed are run
        bool leave = true;      // inputs leave where all is golden
    };

    // `budget` limits the bytes kept: where they would be more, those before some stages only are kept.
    Incremental(std::unique_ptr<Staged> network, const uint8_t *golden, size_t budget, Shortcuts shortcuts);

    void put_inputs(const uint8_t *inputs, size_t count);

    // Scores of all inputs with another image; returns the work done.
    double run(const uint8_t *image, float *scores);

    size_t inputs() const { return count_; }
    double plain_work() const;

private:
    static constexpr size_t NOT_KEPT = SIZE_MAX;

    size_t stages() const { return network_->stages().size(); }
    bool kept(size_t stage) const { return stage < stages() && offset_[stage] != NOT_KEPT; }
    bool runs_by_blocks(size_t stage) const;
    double share_changed(size_t stage) const;
    void choose_kept();
    void plan_joins();
    template <class Visit> bool each_live(size_t input, size_t slot, size_t stage, Visit visit);
    void keep(size_t input, size_t slot, size_t stage);
    void bring_back(size_t input, size_t slot, size_t stage);
    bool is_golden(size_t input, size_t slot, size_t stage);
    void move(size_t from, size_t to, size_t stage);
    void join(size_t first, size_t images, size_t stage);
    void leave(size_t stage);
    void run_stage(size_t stage, bool changed_only);
    double run_block(size_t first, size_t images, float *scores);

    std::unique_ptr<Staged> network_;
    Shortcuts shortcuts_;
    size_t budget_, count_ = 0, kept_bytes_ = 0;
    std::vector<size_t> offset_;         // of what is kept before a stage, in what is kept of an input
    std::vector<uint8_t> kept_, inputs_;
    std::vector<float> golden_scores_;
    std::vector<bool> joins_;            // stages at which all inputs have to be there
    // A block: its memory, and which input lies in each place.
    Memory memory_;
    std::vector<size_t> slots_;
    std::vector<uint8_t> gathered_;
    std::vector<float> scores_;
};

}  // namespace zob
