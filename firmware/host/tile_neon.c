/* The kernels for AArch64. */
#include "tile.h"

#if defined(__ARM_NEON) && defined(__aarch64__)
#include "lanes_neon.h"
#include "tile_kernels.h"
const zob_run_pass zob_run_pass_neon = run_pass;
#else
const zob_run_pass zob_run_pass_neon = 0;
#endif
