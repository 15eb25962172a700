// A network as stages that run one after the other on a block of images, with known memory between them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace zob {

// Bytes of one tensor in the memory of a block: image i's begin at offset + i * bytes.
struct Extent {
    size_t offset, bytes;
};

struct Stage {
    std::vector<Extent> live;  // what it or a later stage reads of what earlier ones wrote
    double work;               // of one image: multiply-adds and elements written
    bool reads_input;          // of the network
};

// What a stage's parameters are, compared with those that were called golden.
struct Change {
    bool any = false;
    // Of a stage whose blocks of output channels can be run by themselves: whether each one's parameters differ.
    std::vector<bool> blocks;
};

class Staged {
public:
    virtual ~Staged() = default;
    virtual const std::vector<Stage> &stages() const = 0;
    virtual uint32_t images() const = 0;  // a block at most
    virtual size_t memory_bytes() const = 0;
    virtual size_t input_bytes() const = 0;
    virtual size_t output_count() const = 0;

    // Take up an image of parameters; the first one is the golden one.
    virtual void prepare(const uint8_t *image) = 0;
    virtual const std::vector<Change> &changes() const = 0;

    // Run one stage on the first `images` of a block whose memory holds what is live before it. Stages that say so read
    // `inputs`, the last one writes `scores`. With `changed_only` only the blocks of channels that changed are run, the
    // others are left as they lie in memory.
    virtual void run(size_t stage, uint8_t *memory, const uint8_t *inputs, uint32_t images, float *scores,
                     bool changed_only) const = 0;
};

}  // namespace zob
