// Which kernels this processor can run.
#pragma once

#include <string>
#include <vector>

#include "tile.h"

namespace zob {

// The instruction sets there are kernels for and this processor has, the fastest first; "portable" is always the last.
std::vector<std::string> instruction_sets();

// The kernels of one of them; null for "portable" and for unknown ones.
const zob_kernels *kernels_of(const std::string &instructions);

}  // namespace zob
