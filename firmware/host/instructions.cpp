#include "instructions.hpp"

namespace zob {

namespace {

struct Kernels {
    const char *name;
    const zob_kernels *kernels;
    bool present;
};

std::vector<Kernels> known() {
#if defined(__x86_64__)
    __builtin_cpu_init();
    const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                        __builtin_cpu_supports("avx512vpopcntdq") && __builtin_cpu_supports("avx512bitalg") &&
                        __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vbmi");
    const bool avx2 = __builtin_cpu_supports("avx2");
#else
    const bool avx512 = false, avx2 = false;
#endif
    return {{"avx512", zob_kernels_avx512, avx512},
            {"avx2", zob_kernels_avx2, avx2},
            {"neon", zob_kernels_neon, true}};
}

}  // namespace

std::vector<std::string> instruction_sets() {
    std::vector<std::string> names;
    for (const Kernels &k : known()) {
        if (k.kernels && k.present) names.emplace_back(k.name);
    }
    names.emplace_back("portable");
    return names;
}

const zob_kernels *kernels_of(const std::string &instructions) {
    for (const Kernels &k : known()) {
        if (k.present && instructions == k.name) return k.kernels;
    }
    return nullptr;
}

}  // namespace zob
