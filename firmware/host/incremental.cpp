#include "incremental.hpp"

#include <algorithm>
#include <cstring>

namespace zob {

Incremental::Incremental(std::unique_ptr<Staged> network, const uint8_t *golden, size_t budget, Shortcuts shortcuts)
    : network_(std::move(network)), shortcuts_(shortcuts), budget_(budget), memory_(network_->memory_bytes() + 64),
      gathered_(network_->images() * network_->input_bytes()), scores_(network_->images() * network_->output_count()) {
    network_->prepare(golden);
}

// Keep what lies before every n-th stage, n the least that fits the budget; before the first one, nothing, in any case.
void Incremental::choose_kept() {
    for (size_t n = 1;; n++) {
        offset_.assign(stages(), NOT_KEPT);
        kept_bytes_ = 0;
        for (size_t k = 0; k < stages(); k += n) {
            offset_[k] = kept_bytes_;
            for (const Extent &e : network_->stages()[k].live) kept_bytes_ += e.bytes;
        }
        if (kept_bytes_ * count_ <= budget_ || n >= stages()) return;
    }
}

template <class Visit>
bool Incremental::each_live(size_t input, size_t slot, size_t stage, Visit visit) {
    uint8_t *kept = kept_.data() + input * kept_bytes_ + offset_[stage];
    for (const Extent &e : network_->stages()[stage].live) {
        if (!visit(kept, memory_.data() + e.offset + slot * e.bytes, e.bytes)) return false;
        kept += e.bytes;
    }
    return true;
}

void Incremental::keep(size_t input, size_t slot, size_t stage) {
    each_live(input, slot, stage, [](uint8_t *kept, const uint8_t *memory, size_t n) {
        std::memcpy(kept, memory, n);
        return true;
    });
}

void Incremental::bring_back(size_t input, size_t slot, size_t stage) {
    each_live(input, slot, stage, [](const uint8_t *kept, uint8_t *memory, size_t n) {
        std::memcpy(memory, kept, n);
        return true;
    });
}

bool Incremental::is_golden(size_t input, size_t slot, size_t stage) {
    return each_live(input, slot, stage, [](const uint8_t *kept, const uint8_t *memory, size_t n) {
        return std::memcmp(memory, kept, n) == 0;
    });
}

void Incremental::move(size_t from, size_t to, size_t stage) {
    if (from == to) return;
    for (const Extent &e : network_->stages()[stage].live) {
        std::memcpy(memory_.data() + e.offset + to * e.bytes, memory_.data() + e.offset + from * e.bytes, e.bytes);
    }
}

void Incremental::put_inputs(const uint8_t *inputs, size_t count) {
    const size_t outputs = network_->output_count();
    count_ = count;
    inputs_.assign(inputs, inputs + count * network_->input_bytes());
    golden_scores_.assign(count * outputs, 0.0f);
    choose_kept();
    kept_.assign(count * kept_bytes_, 0);
    for (size_t first = 0; first < count; first += network_->images()) {
        slots_.clear();
        for (size_t i = first; i < std::min<size_t>(count, first + network_->images()); i++) slots_.push_back(i);
        for (size_t k = 0; k < stages(); k++) {
            for (size_t slot = 0; kept(k) && slot < slots_.size(); slot++) keep(slots_[slot], slot, k);
            run_stage(k, false);
        }
        std::copy_n(scores_.data(), slots_.size() * outputs, &golden_scores_[first * outputs]);
    }
}

double Incremental::plain_work() const {
    double work = 0;
    for (const Stage &s : network_->stages()) work += s.work;
    return work * static_cast<double>(count_);
}

// Before each stage with other parameters all inputs have to be brought back, from where they were kept last.
void Incremental::plan_joins() {
    joins_.assign(stages(), false);
    for (size_t k = 0; k < stages(); k++) {
        if (!network_->changes()[k].any) continue;
        size_t from = k;
        while (!kept(from)) from--;
        joins_[from] = true;
    }
}

void Incremental::join(size_t first, size_t images, size_t stage) {
    std::vector<bool> there(images, false);
    for (const size_t input : slots_) there[input - first] = true;
    for (size_t i = 0; i < images; i++) {
        if (there[i]) continue;
        bring_back(first + i, slots_.size(), stage);
        slots_.push_back(first + i);
    }
}

// Those that equal the golden run before a stage leave; the last one takes the place.
void Incremental::leave(size_t stage) {
    for (size_t slot = slots_.size(); slot-- > 0;) {
        if (!is_golden(slots_[slot], slot, stage)) continue;
        move(slots_.size() - 1, slot, stage);
        slots_[slot] = slots_.back();
        slots_.pop_back();
    }
}

void Incremental::run_stage(size_t stage, bool changed_only) {
    const size_t size = network_->input_bytes();
    if (network_->stages()[stage].reads_input) {
        for (size_t slot = 0; slot < slots_.size(); slot++) {
            std::copy_n(&inputs_[slots_[slot] * size], size, &gathered_[slot * size]);
        }
    }
    const uint32_t images = static_cast<uint32_t>(slots_.size());
    network_->run(stage, memory_.data(), gathered_.data(), images, scores_.data(), changed_only);
}

// Blocks of channels that changed can be put into the golden output, where that was kept.
bool Incremental::runs_by_blocks(size_t stage) const {
    const std::vector<bool> &blocks = network_->changes()[stage].blocks;
    const bool some = std::count(blocks.begin(), blocks.end(), false) > 0;
    return shortcuts_.by_blocks && kept(stage) && kept(stage + 1) && some;
}

double Incremental::share_changed(size_t stage) const {
    const std::vector<bool> &blocks = network_->changes()[stage].blocks;
    return static_cast<double>(std::count(blocks.begin(), blocks.end(), true)) / static_cast<double>(blocks.size());
}

double Incremental::run_block(size_t first, size_t images, float *scores) {
    const size_t outputs = network_->output_count();
    double work = 0;
    slots_.clear();
    for (size_t k = 0; k < stages(); k++) {
        const bool golden = slots_.empty();
        if (joins_[k]) join(first, images, k);
        if (slots_.empty()) continue;
        const bool by_blocks = golden && runs_by_blocks(k);
        for (size_t slot = 0; by_blocks && slot < slots_.size(); slot++) bring_back(slots_[slot], slot, k + 1);
        run_stage(k, by_blocks);
        work += network_->stages()[k].work * (by_blocks ? share_changed(k) : 1.0) * static_cast<double>(slots_.size());
        if (shortcuts_.leave && kept(k + 1)) leave(k + 1);
    }
    std::copy_n(&golden_scores_[first * outputs], images * outputs, scores);
    for (size_t slot = 0; slot < slots_.size(); slot++) {
        std::copy_n(&scores_[slot * outputs], outputs, scores + (slots_[slot] - first) * outputs);
    }
    return work;
}

double Incremental::run(const uint8_t *image, float *scores) {
    network_->prepare(image);
    plan_joins();
    const size_t block = network_->images();
    double work = 0;
    for (size_t first = 0; first < count_; first += block) {
        work += run_block(first, std::min(block, count_ - first), scores + first * network_->output_count());
    }
    return work;
}

}  // namespace zob
