/* The kernels for x86-64 with AVX2. */
#include "tile.h"

#if defined(__AVX2__)
#include "lanes_avx2.h"
#include "tile_kernels.h"
static const zob_kernels kernels = {run_pass, map_bytes};
const zob_kernels *const zob_kernels_avx2 = &kernels;
#else
const zob_kernels *const zob_kernels_avx2 = 0;
#endif
