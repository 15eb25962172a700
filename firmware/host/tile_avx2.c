/* The kernels for x86-64 with AVX2. */
#include "tile.h"

#if defined(__AVX2__)
#include "lanes_avx2.h"
#include "tile_kernels.h"
const zob_run_pass zob_run_pass_avx2 = run_pass;
#else
const zob_run_pass zob_run_pass_avx2 = 0;
#endif
