// The portable engine a group of fused operations at a time.
#pragma once

#include <memory>

#include "staged.hpp"
#include "zob.h"

namespace zob {

// For inputs of one format (ZOB_INPUT_...). `model` must outlive it.
std::unique_ptr<Staged> portable_stages(const zob_model &model, uint32_t format);

}  // namespace zob
