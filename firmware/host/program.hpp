// A checked plan made ready for this machine's vector instructions: the same scores as zob_run, many images at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "memory.hpp"
#include "staged.hpp"
#include "tile.h"
#include "zob.h"

namespace zob {

// One block of images on one thread.
struct Block {
    const zob_kernels *kernels;
    uint8_t *arena;
    const uint8_t *parameters;
    const void *inputs;  // the block's first image
    float *scores;
    uint32_t images;
    uint32_t first_channel = 0, end_channel = UINT32_MAX;  // what a pass computes, in whole blocks
};

using Action = std::function<void(const Block &)>;

// Rows of blocks of channels, among the prepared parameters.
struct Table {
    size_t at, rows, blocks, block_bytes;
};

// How one parameter is laid out for the kernels.
struct Preparation {
    size_t offset, bytes;  // in the image of parameters
    std::vector<Table> tables;
    std::function<void(const uint8_t *image, uint8_t *parameters)> fill;
};

// One pass, or one operation that moves data, after what has to be read for it.
struct ProgramStage {
    std::vector<Action> actions;
    std::vector<Preparation> preparations;
    uint32_t channels = 0;  // of a pass
};

// Tables that kernels point to; their addresses stay.
struct WindowTables {
    std::vector<int32_t> starts, offsets, links, loose, groups;
    std::vector<uint16_t> classes;
    std::vector<uint32_t> borders;
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

    // The same a stage at a time. The program must outlive it.
    std::unique_ptr<Staged> staged(const zob_kernels &kernels) const;

private:
    friend class Compiler;
    friend class PassWriter;
    friend class ProgramStages;
    Program() = default;

    std::vector<ProgramStage> stages;
    std::vector<Stage> between;  // what lies before each of them
    size_t parameter_bytes = 0, arena_bytes = 0, input_bytes = 0, output_count = 0, image_bytes = 0;
    uint32_t images = 1;  // a block

    std::deque<WindowTables> tables;
    std::deque<std::vector<zob_window>> windows;
    std::deque<std::vector<zob_tile_step>> steps;
    std::deque<std::vector<uint32_t>> cells;
    std::deque<zob_pass> passes;
};

}  // namespace zob
