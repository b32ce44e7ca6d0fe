// Run-time choice of the vector path. METST_HAVE_* say what CMake compiled in; the CPU says what it can run.
#include "metst/cpu_features.h"

#include <initializer_list>

#ifdef METST_HAVE_AVX2
#include <cpuid.h>
#endif

namespace metst {

#ifdef METST_HAVE_AVX2
// Conversion of halves, which compilers before GCC 11 cannot ask for by name.
static bool has_f16c() {
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
#endif

bool simd_available(SimdPath path) {
    switch (path) {
        case SimdPath::kAvx512:
#ifdef METST_HAVE_AVX512
            return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                   __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
#else
            return false;
#endif
        case SimdPath::kAvx2:
#ifdef METST_HAVE_AVX2
            return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
#else
            return false;
#endif
        case SimdPath::kNeon:
#ifdef METST_HAVE_NEON
            return true;  // part of the base instruction set of aarch64
#else
            return false;
#endif
        case SimdPath::kAuto:
        case SimdPath::kScalar: return true;
    }
    return false;
}

SimdPath best_simd_path() {
    for (SimdPath path : {SimdPath::kAvx512, SimdPath::kAvx2, SimdPath::kNeon}) {
        if (simd_available(path)) return path;
    }
    return SimdPath::kScalar;
}

}  // namespace metst
