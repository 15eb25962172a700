// Where the tensors of a block of images lie in a thread's memory.
#pragma once

#include "parts.hpp"
#include "place.hpp"
#include "staged.hpp"

namespace zob {

constexpr size_t NEVER = SIZE_MAX;

// Stages: the input is read in stage 0, part i runs in stage i + 1, scores are written in the last. A tensor that only
// its own pass reads has no place: it never leaves the tile.
class Arrangement {
public:
    explicit Arrangement(const Parts &parts);

    bool has(uint32_t tensor) const { return places_.count(tensor) != 0; }
    const Place &place(uint32_t tensor) const { return places_.at(tensor); }
    // The pixels that an operation reads as bytes, or as levels of half a word; or null.
    const Place *bytes_of(uint32_t op) const;
    uint32_t images() const { return images_; }     // a block: as many as fit the cache
    size_t memory_bytes() const { return bytes_in_all_; }  // NEVER where it would be too much
    // What a stage or a later one reads of what earlier ones wrote.
    std::vector<Extent> live(size_t stage) const;

private:
    void find_places();
    void lay_out();

    const Parts &parts_;
    std::map<uint32_t, Place> places_;  // by tensor
    std::map<uint32_t, Place> bytes_;   // by operation
    uint32_t images_ = 1;
    size_t bytes_in_all_ = 0;
};

}  // namespace zob
