/* The kernels for AArch64. */
#include "tile.h"

#if defined(__ARM_NEON) && defined(__aarch64__)
#include "lanes_neon.h"
#include "tile_kernels.h"
static const zob_kernels kernels = {run_pass, map_bytes};
const zob_kernels *const zob_kernels_neon = &kernels;
#else
const zob_kernels *const zob_kernels_neon = 0;
#endif
