/* The kernels for x86-64 with AVX-512 (Ice Lake, Zen 4 and later). */
#include "tile.h"

#if defined(__AVX512VPOPCNTDQ__) && defined(__AVX512VNNI__)
#include "lanes_avx512.h"
#include "tile_kernels.h"
const zob_run_pass zob_run_pass_avx512 = run_pass;
#else
const zob_run_pass zob_run_pass_avx512 = 0;
#endif
