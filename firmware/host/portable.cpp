#include "portable.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "records.hpp"

namespace zob {

namespace {

void check(zob_status status) {
    if (status != ZOB_OK) throw std::runtime_error(zob_status_text(status));
}

size_t tensor_bytes(const zob_tensor &t) {
    const size_t pixels = size_t{t.height} * t.width;
    switch (t.kind) {
    case ZOB_KIND_REAL:
        return 4 * pixels * t.channels;
    case ZOB_KIND_BINARY:
        return 4 * pixels * zob_words(t.channels);
    default:
        return pixels * t.channels;
    }
}

class PortableStages final : public Staged {
public:
    PortableStages(const zob_model &model, uint32_t format);

    const std::vector<Stage> &stages() const override { return stages_; }
    uint32_t images() const override { return 1; }
    size_t memory_bytes() const override { return m_.header->arena_bytes; }
    size_t input_bytes() const override { return size_t{zob_input_count(&m_)} * (format_ == ZOB_INPUT_UINT8 ? 1 : 4); }
    size_t output_count() const override { return zob_output_count(&m_); }
    const std::vector<Change> &changes() const override { return changes_; }
    void prepare(const uint8_t *image) override;
    void run(size_t stage, uint8_t *memory, const uint8_t *inputs, uint32_t images, float *scores,
             bool changed_only) const override;

private:
    void find_live();
    bool is_golden(uint32_t parameter) const;

    const zob_model &m_;
    uint32_t format_;
    std::vector<uint32_t> first_;  // operation of each stage; and the number of all
    std::vector<Stage> stages_;
    std::vector<Change> changes_;
    std::vector<uint32_t> golden_, image_;
};

PortableStages::PortableStages(const zob_model &model, uint32_t format) : m_(model), format_(format) {
    const uint32_t ops = zob_op_count(&m_);
    for (uint32_t i = 0; i < ops; i++) {
        const zob_op &o = m_.ops[i];
        if (!(o.flags & ZOB_FLAG_FUSED)) {
            first_.push_back(i);
            stages_.push_back({{}, 0.0, stages_.empty()});
        }
        stages_.back().work += work_of(m_, o);
    }
    first_.push_back(ops);
    changes_.resize(stages_.size());
    find_live();
}

void PortableStages::find_live() {
    const size_t never = SIZE_MAX;
    std::vector<size_t> written(m_.header->tensors, never), read(m_.header->tensors, 0);
    read[m_.header->output] = stages_.size();
    for (size_t k = 0; k < stages_.size(); k++) {
        for (uint32_t i = first_[k]; i < first_[k + 1]; i++) {
            const zob_op &o = m_.ops[i];
            if (i + 1 == first_[k + 1]) written[o.output] = k;
            for (const uint32_t t : {o.input, o.other}) {
                if (t != ZOB_NONE) read[t] = std::max(read[t], k);
            }
        }
    }
    for (uint32_t t = 0; t < m_.header->tensors; t++) {
        const Extent extent{m_.tensors[t].offset, tensor_bytes(m_.tensors[t])};
        const size_t born = t == m_.header->input ? 0 : written[t];
        for (size_t k = born; born != never && k++ < read[t];) {
            if (k < stages_.size()) stages_[k].live.push_back(extent);
        }
    }
}

bool PortableStages::is_golden(uint32_t parameter) const {
    if (parameter == ZOB_NONE) return true;
    const zob_parameter &p = m_.parameters[parameter];
    return std::memcmp(&golden_[p.offset / 4], &image_[p.offset / 4], parameter_bytes(p)) == 0;
}

void PortableStages::prepare(const uint8_t *image) {
    image_.resize(m_.header->image_bytes / 4 + 1);
    std::memcpy(image_.data(), image, m_.header->image_bytes);
    if (golden_.empty()) golden_ = image_;
    for (size_t k = 0; k < stages_.size(); k++) {
        changes_[k].any = false;
        for (uint32_t i = first_[k]; i < first_[k + 1]; i++) {
            const zob_op &o = m_.ops[i];
            const bool golden = is_golden(o.parameter) && is_golden(o.bias) && is_golden(o.multiplier);
            changes_[k].any = changes_[k].any || !golden;
        }
    }
}

void PortableStages::run(size_t stage, uint8_t *memory, const uint8_t *inputs, uint32_t, float *scores, bool) const {
    const uint32_t arena = m_.header->arena_bytes;
    if (stage == 0) check(zob_put_input(&m_, inputs, format_, memory, arena));
    check(zob_run_ops(&m_, image_.data(), m_.header->image_bytes, memory, arena, first_[stage], first_[stage + 1]));
    if (stage + 1 == stages_.size()) check(zob_get_scores(&m_, memory, arena, scores));
}

}  // namespace

std::unique_ptr<Staged> portable_stages(const zob_model &model, uint32_t format) {
    return std::make_unique<PortableStages>(model, format);
}

}  // namespace zob
