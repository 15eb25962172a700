/* The kernels for x86-64 with AVX-512 (Ice Lake, Zen 4 and later). */
#include "tile.h"

#if defined(__AVX512VPOPCNTDQ__) && defined(__AVX512BITALG__) && defined(__AVX512VNNI__) && defined(__AVX512VBMI__)
#include "lanes_avx512.h"
#include "tile_kernels.h"
static const zob_kernels kernels = {run_pass, map_bytes};
const zob_kernels *const zob_kernels_avx512 = &kernels;
#else
const zob_kernels *const zob_kernels_avx512 = 0;
#endif
