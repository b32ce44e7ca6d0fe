// From a SimdPath, known when the program runs, to what was compiled for it.
//
// A kernel's function is declared once for all paths, in a header:
//
//     METST_FOR_EVERY_PATH(void, scan_on, const SelectiveScanArgs& args);
//
// defined in a file that is compiled once per path (simd/simd.h says which, CMake's METST_LOOPS lists them):
//
//     template <>
//     void scan_on<kPath>(const SelectiveScanArgs& args) { SimdScan<Simd>(args).run(); }
//
// and called:
//
//     on_path(path, [&](auto chosen) { scan_on<chosen>(args); });
#pragma once

#include <type_traits>

#include "metst/cpu_features.h"

#define METST_FOR_EVERY_PATH(Result, function, ...)  \
    template <SimdPath>                              \
    Result function(__VA_ARGS__);                    \
    template <>                                      \
    Result function<SimdPath::kAvx512>(__VA_ARGS__); \
    template <>                                      \
    Result function<SimdPath::kAvx2>(__VA_ARGS__);   \
    template <>                                      \
    Result function<SimdPath::kNeon>(__VA_ARGS__);   \
    template <>                                      \
    Result function<SimdPath::kScalar>(__VA_ARGS__)

namespace metst {

// Calls `function` with the path as a constant; it must be available, kAuto is the best one.
template <class Function>
decltype(auto) on_path(SimdPath path, Function&& function) {
    if (path == SimdPath::kAuto) path = best_simd_path();
    switch (path) {
#ifdef METST_HAVE_AVX512
        case SimdPath::kAvx512: return function(std::integral_constant<SimdPath, SimdPath::kAvx512>());
#endif
#ifdef METST_HAVE_AVX2
        case SimdPath::kAvx2: return function(std::integral_constant<SimdPath, SimdPath::kAvx2>());
#endif
#ifdef METST_HAVE_NEON
        case SimdPath::kNeon: return function(std::integral_constant<SimdPath, SimdPath::kNeon>());
#endif
        default: return function(std::integral_constant<SimdPath, SimdPath::kScalar>());
    }
}

}  // namespace metst
