// Runs a network again and again on the same inputs, with images that differ from a golden one in a few parameters.
//
// What the golden run held before each group of fused operations is kept. A run begins at the first group with another
// parameter, and ends as soon as what is still to be read equals what was kept and no later group has another
// parameter. Of the first one, if it is a convolution, only the output channels whose parameters differ are computed.
// Every byte that counts is compared, so scores are bit-identical to those of zob_run.
#ifndef ZOB_INCREMENTAL_HPP
#define ZOB_INCREMENTAL_HPP

#include <cstdint>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <utility>
#include <vector>

#include "channels.hpp"
#include "zob.h"

class Incremental {
public:
    struct Range {
        uint32_t first, bytes;
    };
    struct Group {
        uint32_t op;                   // its first operation
        std::vector<Range> live;       // bytes of the arena that it or a later group reads from earlier ones
        std::vector<Range> parameters; // bytes of the image that it reads
        double work;                   // what running it once costs, in any unit
        std::unique_ptr<Channels> channels; // how to compute some of its channels only; may be null
    };

    // `budget` limits the bytes kept: where they would be more, those before some groups only are kept.
    Incremental(const zob_model &model, std::vector<Group> groups, const uint8_t *golden, size_t budget)
        : model_(model), groups_(std::move(groups)), golden_(words(golden)), image_(golden_), budget_(budget),
          arena_(zob_arena_bytes(&model) / 8 + 1) {}

    Incremental(const Incremental &) = delete;
    Incremental &operator=(const Incremental &) = delete;

    void put_inputs(const uint8_t *inputs, size_t count, size_t bytes, uint32_t format) {
        count_ = count;
        choose_kept();
        kept_.assign(count * kept_bytes_, 0);
        scores_.assign(count * zob_output_count(&model_), 0.0f);
        for (size_t i = 0; i < count; i++) {
            check(zob_put_input(&model_, inputs + i * bytes, format, arena_.data(), arena_bytes()));
            for (size_t g = 0; g < groups_.size(); g++) {
                if (offset_[g] != NOT_KEPT) keep(i, g);
                run_group(g, golden_);
            }
            check(zob_get_scores(&model_, arena_.data(), arena_bytes(), golden_scores(i)));
        }
    }

    // Scores of all inputs with another image; returns the work done.
    double run(const uint8_t *image, float *scores) {
        std::memcpy(image_.data(), image, zob_image_bytes(&model_));
        find_faulty();
        double work = 0;
        for (size_t i = 0; i < count_; i++) work += run_one(i, scores + i * zob_output_count(&model_));
        return work;
    }

    size_t inputs() const { return count_; }

    double plain_work() const {
        double work = 0;
        for (const Group &g : groups_) work += g.work;
        return work * static_cast<double>(count_);
    }

private:
    static constexpr size_t NOT_KEPT = SIZE_MAX;

    std::vector<uint32_t> words(const uint8_t *image) const {
        std::vector<uint32_t> copy(zob_image_bytes(&model_) / 4 + 1);
        std::memcpy(copy.data(), image, zob_image_bytes(&model_));
        return copy;
    }

    uint32_t arena_bytes() const { return static_cast<uint32_t>(8 * arena_.size()); }

    float *golden_scores(size_t input) { return scores_.data() + input * zob_output_count(&model_); }

    static void check(zob_status status) {
        if (status != ZOB_OK) throw std::runtime_error(zob_status_text(status));
    }

    // Keep what lies before every n-th group, n the least that fits the budget; before the first one in any case.
    void choose_kept() {
        for (size_t n = 1;; n++) {
            offset_.assign(groups_.size(), NOT_KEPT);
            kept_bytes_ = 0;
            for (size_t g = 0; g < groups_.size(); g += n) {
                offset_[g] = kept_bytes_;
                for (const Range &r : groups_[g].live) kept_bytes_ += r.bytes;
            }
            if (kept_bytes_ * count_ <= budget_ || n >= groups_.size()) return;
        }
    }

    template <class Visit> bool each_kept(size_t input, size_t group, Visit visit) {
        uint8_t *kept = kept_.data() + input * kept_bytes_ + offset_[group];
        uint8_t *arena = reinterpret_cast<uint8_t *>(arena_.data());
        for (const Range &r : groups_[group].live) {
            if (!visit(kept, arena + r.first, r.bytes)) return false;
            kept += r.bytes;
        }
        return true;
    }

    void keep(size_t input, size_t group) {
        each_kept(input, group, [](uint8_t *kept, uint8_t *arena, size_t n) { return std::memcpy(kept, arena, n) != nullptr; });
    }

    void bring_back(size_t input, size_t group) {
        each_kept(input, group, [](uint8_t *kept, uint8_t *arena, size_t n) { return std::memcpy(arena, kept, n) != nullptr; });
    }

    bool is_golden(size_t input, size_t group) {
        return each_kept(input, group, [](uint8_t *kept, uint8_t *arena, size_t n) { return std::memcmp(arena, kept, n) == 0; });
    }

    double run_group(size_t group, const std::vector<uint32_t> &image) {
        const uint32_t end = group + 1 < groups_.size() ? groups_[group + 1].op : zob_op_count(&model_);
        check(zob_run_ops(&model_, image.data(), zob_image_bytes(&model_), arena_.data(), arena_bytes(), groups_[group].op, end));
        return groups_[group].work;
    }

    // next_faulty_[g]: the first group from g on that has another parameter.
    void find_faulty() {
        const uint8_t *golden = reinterpret_cast<const uint8_t *>(golden_.data());
        const uint8_t *image = reinterpret_cast<const uint8_t *>(image_.data());
        next_faulty_.assign(groups_.size() + 1, groups_.size());
        for (size_t g = groups_.size(); g-- > 0;) {
            next_faulty_[g] = next_faulty_[g + 1];
            for (const Range &r : groups_[g].parameters) {
                if (std::memcmp(golden + r.first, image + r.first, r.bytes) != 0) next_faulty_[g] = g;
            }
            if (next_faulty_[g] == g && has_golden_output(g)) groups_[g].channels->choose(golden, image);
        }
    }

    // True where channels computed anew can be put into the golden output.
    bool has_golden_output(size_t group) const {
        return groups_[group].channels && group + 1 < groups_.size() && offset_[group] != NOT_KEPT && offset_[group + 1] != NOT_KEPT;
    }

    // Compute a faulty group after golden ones; returns the work, and whether its output is golden nevertheless.
    std::pair<double, bool> run_first(size_t input, size_t group) {
        bring_back(input, group);
        Channels *const some = has_golden_output(group) ? groups_[group].channels.get() : nullptr;
        if (some && 2 * some->chosen() <= some->all()) {
            uint8_t *arena = reinterpret_cast<uint8_t *>(arena_.data());
            some->compute(arena);
            bring_back(input, group + 1);
            const bool changed = some->put(arena);
            return {groups_[group].work * static_cast<double>(some->chosen()) / some->all(), !changed};
        }
        const double work = run_group(group, image_);
        return {work, group + 1 < groups_.size() && offset_[group + 1] != NOT_KEPT && is_golden(input, group + 1)};
    }

    double run_one(size_t input, float *scores) {
        double work = 0;
        size_t group = 0;
        bool golden = true; // everything before `group` is as in the golden run
        while (group < groups_.size()) {
            if (golden) {
                group = next_faulty_[group];
                if (group == groups_.size()) {
                    std::memcpy(scores, golden_scores(input), 4 * zob_output_count(&model_));
                    return work;
                }
                while (offset_[group] == NOT_KEPT) group--;
                const auto [cost, unchanged] = run_first(input, group++);
                work += cost;
                golden = unchanged;
            } else {
                work += run_group(group++, image_);
                golden = group < groups_.size() && offset_[group] != NOT_KEPT && is_golden(input, group);
            }
        }
        check(zob_get_scores(&model_, arena_.data(), arena_bytes(), scores));
        return work;
    }

    zob_model model_;
    std::vector<Group> groups_;
    std::vector<uint32_t> golden_, image_;
    size_t budget_, count_ = 0, kept_bytes_ = 0;
    std::vector<size_t> offset_; // of what is kept before a group, in what is kept of an input
    std::vector<uint8_t> kept_;
    std::vector<float> scores_;
    std::vector<size_t> next_faulty_;
    std::vector<uint64_t> arena_;
};

#endif
