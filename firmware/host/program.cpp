#include "program.hpp"

#include <algorithm>

#include "parallel.hpp"

namespace zob {

void Program::run(const zob_kernels &kernels, const uint8_t *image, const void *inputs, size_t n, unsigned threads,
                  float *scores) const {
    const Memory parameters(parameter_bytes + 64);
    for (const Preparation &prepare : preparations) prepare(image, parameters.data());
    // Small batches are dealt out evenly.
    const size_t share = (n + threads - 1) / threads, block = std::clamp<size_t>(share, 1, images);
    const auto make = [&] {
        return [&, arena = Memory(arena_bytes + 64)](size_t i) {
            const size_t first = i * block;
            const Block b{&kernels,
                          arena.data(),
                          parameters.data(),
                          static_cast<const uint8_t *>(inputs) + first * input_bytes,
                          scores + first * output_count,
                          static_cast<uint32_t>(std::min(block, n - first))};
            for (const Action &act : actions) act(b);
        };
    };
    share_out((n + block - 1) / block, threads, make);
}

}  // namespace zob
