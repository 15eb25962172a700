#include "arrangement.hpp"

#include <algorithm>

namespace zob {

namespace {

constexpr size_t ARENA_AIMED_AT = 640 * 1024;  // a block of images and weights fit a core's second-level cache
constexpr uint32_t MOST_IMAGES = 32;

}  // namespace

Arrangement::Arrangement(const Parts &parts) : parts_(parts) {
    find_places();
    lay_out();
}

const Place *Arrangement::bytes_of(uint32_t op) const {
    const auto found = bytes_.find(op);
    return found == bytes_.end() ? nullptr : &found->second;
}

void Arrangement::find_places() {
    const auto keep = [&](uint32_t t, size_t born, size_t dies) {
        if (parts_.first_of(t) != ZOB_NONE) return;  // lies with the other one
        Place &p = places_[t];
        if (p.cell == 0) {
            p.height = parts_.tensor(t).height;
            p.width = parts_.tensor(t).width;
            const bool twin = parts_.second_of(t) != ZOB_NONE;
            p.cell = twin ? 4 * half_words(parts_.tensor(t).channels) : cell_bytes(parts_.tensor(t));
            p.born = born;
        }
        p.dies = std::max(p.dies, dies);
    };
    for (size_t k = 0; k < parts_.all().size(); k++) {
        for (size_t i = parts_.all()[k].begin; i < parts_.all()[k].end; i++) {
            const zob_op &o = parts_.op(i);
            for (const uint32_t t : parts_.inputs(o)) {
                const bool written = parts_.is_written(t);
                if (written && parts_.writer(t) == k) continue;
                keep(t, written ? parts_.writer(t) + 1 : 0, k + 1);
            }
            if (o.opcode == ZOB_OP_GATED_CONV) {
                places_.at(o.input).widen(o, parts_.tensor(o.output));
                if (parts_.second_of(o.input) == ZOB_NONE) places_.at(o.other).widen(o, parts_.tensor(o.output));
            }
            if (o.opcode != ZOB_OP_CONV) continue;
            Place extra;
            extra.born = extra.dies = k + 1;
            const zob_op *coder = parts_.thermometer_of(o);
            if (coder || parts_.reads_bytes(o)) {
                const zob_tensor &pixels = parts_.tensor(coder ? coder->input : o.input);
                extra.height = pixels.height;
                extra.width = pixels.width;
                extra.planes = coder ? pixels.channels : 1;  // tiles then read levels side by side
                extra.cell = coder ? 2 : pixels.channels;
                extra.widen(o, parts_.tensor(o.output));
                bytes_[parts_.number(i)] = extra;
            } else if (parts_.tensor(o.input).kind == ZOB_KIND_BINARY) {
                places_.at(o.input).widen(o, parts_.tensor(o.output));
            }
        }
    }
    keep(parts_.model().header->output, parts_.writer(parts_.model().header->output) + 1, parts_.all().size() + 1);
    for (auto &[t, p] : places_) p.for_good = parts_.tensor(t).kind == ZOB_KIND_BINARY;
}

// Each place at the lowest offset free during its life, the largest first; as many images as fit the cache.
void Arrangement::lay_out() {
    std::vector<Place *> order;
    for (auto *places : {&places_, &bytes_}) {
        for (auto &entry : *places) order.push_back(&entry.second);
    }
    std::stable_sort(order.begin(), order.end(),
                     [](const Place *a, const Place *b) { return a->image_bytes() > b->image_bytes(); });
    const auto place_all = [&](uint32_t images) {
        size_t total = 0;
        const auto bytes = [&](const Place *p) {
            return aligned(size_t{images} * p->image_bytes() + ZOB_TILE * p->cell + SLACK);
        };
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
    images_ = static_cast<uint32_t>(std::clamp<size_t>(ARENA_AIMED_AT / std::max<size_t>(one, 1), 1, MOST_IMAGES));
    bytes_in_all_ = place_all(images_);
}

std::vector<Extent> Arrangement::live(size_t stage) const {
    std::vector<Extent> out;
    for (const auto &[t, p] : places_) {
        if (p.born < stage && stage <= p.dies) out.push_back({p.offset, p.image_bytes()});
    }
    return out;
}

}  // namespace zob
