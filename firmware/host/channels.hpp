// One output channel of a convolution and the operations fused with it, by a plan of its own.
//
// A parameter of such a group belongs to one output channel. The plan computes a single channel; which one it is, only
// the parameters say, which are copied out of the whole image.
#ifndef ZOB_CHANNELS_HPP
#define ZOB_CHANNELS_HPP

#include <cstdint>
#include <cstring>
#include <set>
#include <stdexcept>
#include <utility>
#include <vector>

#include "zob.h"

struct ChannelPlan {
    struct Slice { // of channel c: `bits` bits of the whole image from bit source + c * bits on, to bit `target`
        uint32_t source, bits, target;
    };
    std::vector<uint32_t> plan;
    std::vector<Slice> slices;
    uint32_t first_op, end_op;                   // the group, in the plan
    uint32_t input, output;                      // arena offsets of what the group reads and writes, in the plan
    uint32_t whole_input, input_bytes;           // the same input in the arena of the whole network
    uint32_t whole_output, pixels, channels;     // the whole output there
    uint32_t words;                              // words a pixel of a binary output; 0: it is real
};

class Channels {
public:
    explicit Channels(ChannelPlan plan) : p_(std::move(plan)) {
        uint32_t where = 0;
        if (zob_load(&model_, p_.plan.data(), static_cast<uint32_t>(4 * p_.plan.size()), &where) != ZOB_OK) {
            throw std::runtime_error("the plan of a channel is refused");
        }
        arena_.assign(zob_arena_bytes(&model_) / 8 + 1, 0);
    }
    Channels(const Channels &) = delete;
    Channels &operator=(const Channels &) = delete;
    Channels(Channels &&) = default;

    uint32_t all() const { return p_.channels; }
    size_t chosen() const { return chosen_.size(); }

    // Take the channels whose parameters differ between two images.
    void choose(const uint8_t *golden, const uint8_t *image) {
        std::set<uint32_t> found;
        for (const ChannelPlan::Slice &s : p_.slices) {
            const uint64_t begin = s.source, end = begin + static_cast<uint64_t>(s.bits) * p_.channels;
            for (uint64_t byte = begin / 8; 8 * byte < end; byte++) {
                const uint8_t differs = golden[byte] ^ image[byte];
                for (uint32_t bit = 0; bit < 8 && differs >> bit; bit++) {
                    const uint64_t at = 8 * byte + bit;
                    if ((differs >> bit & 1u) && at >= begin && at < end) found.insert(static_cast<uint32_t>((at - begin) / s.bits));
                }
            }
        }
        chosen_.assign(found.begin(), found.end());
        images_.clear();
        for (uint32_t channel : chosen_) images_.push_back(image_of(channel, image));
    }

    // Compute the chosen channels from the group's input in the arena of the whole network.
    void compute(const uint8_t *arena) {
        uint8_t *mine = reinterpret_cast<uint8_t *>(arena_.data());
        std::memcpy(mine + p_.input, arena + p_.whole_input, p_.input_bytes);
        results_.clear();
        for (const std::vector<uint32_t> &image : images_) {
            const zob_status status = zob_run_ops(&model_, image.data(), zob_image_bytes(&model_), arena_.data(),
                                                  static_cast<uint32_t>(8 * arena_.size()), p_.first_op, p_.end_op);
            if (status != ZOB_OK) throw std::runtime_error(zob_status_text(status));
            const uint32_t *out = reinterpret_cast<const uint32_t *>(mine + p_.output);
            results_.insert(results_.end(), out, out + p_.pixels);
        }
    }

    // Put the chosen channels into the group's output in the arena of the whole network; true if that changes it.
    bool put(uint8_t *arena) const {
        uint32_t *out = reinterpret_cast<uint32_t *>(arena + p_.whole_output);
        const uint32_t *result = results_.data();
        bool changed = false;
        for (uint32_t channel : chosen_) {
            for (uint32_t pixel = 0; pixel < p_.pixels; pixel++, result++) {
                uint32_t *word = out + pixel * (p_.words ? p_.words : p_.channels) + (p_.words ? channel / 32 : channel);
                const uint32_t bit = channel % 32;
                const uint32_t value = p_.words ? (*word & ~(1u << bit)) | (*result & 1u) << bit : *result;
                changed |= value != *word;
                *word = value;
            }
        }
        return changed;
    }

private:
    std::vector<uint32_t> image_of(uint32_t channel, const uint8_t *image) const {
        std::vector<uint32_t> out(zob_image_bytes(&model_) / 4 + 1);
        uint8_t *bytes = reinterpret_cast<uint8_t *>(out.data());
        for (const ChannelPlan::Slice &s : p_.slices) {
            const uint64_t from = s.source + static_cast<uint64_t>(s.bits) * channel;
            for (uint32_t i = 0; i < s.bits; i++) {
                const uint32_t bit = image[(from + i) / 8] >> ((from + i) % 8) & 1u;
                bytes[(s.target + i) / 8] = static_cast<uint8_t>(bytes[(s.target + i) / 8] | bit << ((s.target + i) % 8));
            }
        }
        return out;
    }

    ChannelPlan p_;
    zob_model model_{};
    std::vector<uint64_t> arena_;
    std::vector<uint32_t> chosen_, results_;
    std::vector<std::vector<uint32_t>> images_;
};

#endif
