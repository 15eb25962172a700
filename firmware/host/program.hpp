// A checked plan made ready for this machine's vector instructions: the same scores as zob_run, many images at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "tile.h"
#include "zob.h"

namespace zob {

// Memory aligned to whole vectors, zero at first.
class Memory {
public:
    explicit Memory(size_t bytes) : bytes_(new (std::align_val_t{64}) uint8_t[bytes]()) {}
    uint8_t *data() const { return bytes_.get(); }

private:
    struct Free {
        void operator()(uint8_t *p) const { ::operator delete[](p, std::align_val_t{64}); }
    };
    std::unique_ptr<uint8_t[], Free> bytes_;
};

// One block of images on one thread.
struct Block {
    const zob_kernels *kernels;
    uint8_t *arena;
    const uint8_t *parameters;
    const void *inputs;  // the block's first image
    float *scores;
    uint32_t images;
};

using Action = std::function<void(const Block &)>;
using Preparation = std::function<void(const uint8_t *image, uint8_t *parameters)>;

// Tables that kernels point to; their addresses stay.
struct WindowTables {
    std::vector<int32_t> starts, offsets, groups;
    std::vector<uint16_t> classes;
    std::vector<zob_cover> covers;
};

class Program {
public:
    // The program for inputs of one format (ZOB_INPUT_...), or null where the plan has operations that only the
    // portable engine knows. `model` must outlive it.
    static std::unique_ptr<Program> of(const zob_model &model, uint32_t format);

    // Scores of n inputs with the parameters of an image. The same whatever the number of threads (at least 1).
    void run(const zob_kernels &kernels, const uint8_t *image, const void *inputs, size_t n, unsigned threads,
             float *scores) const;

private:
    friend class Compiler;
    Program() = default;

    std::vector<Preparation> preparations;
    std::vector<Action> actions;
    size_t parameter_bytes = 0, arena_bytes = 0, input_bytes = 0, output_count = 0;
    uint32_t images = 1;  // a block

    std::deque<WindowTables> tables;
    std::deque<std::vector<zob_window>> windows;
    std::deque<std::vector<zob_tile_step>> steps;
    std::deque<std::vector<uint32_t>> cells;
    std::deque<zob_pass> passes;
};

}  // namespace zob
