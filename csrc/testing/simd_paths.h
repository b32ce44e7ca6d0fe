// The vector paths of the CPU that a test runs on.
#pragma once

#include <vector>

#include "metst/cpu_features.h"

struct NamedPath {
    const char* name;
    metst::SimdPath path;
};

// The widest first, the one without vector instructions last.
inline std::vector<NamedPath> available_paths() {
    std::vector<NamedPath> paths;
    for (const NamedPath& p :
         {NamedPath{"avx512", metst::SimdPath::kAvx512}, NamedPath{"avx2", metst::SimdPath::kAvx2},
          NamedPath{"neon", metst::SimdPath::kNeon}, NamedPath{"scalar", metst::SimdPath::kScalar}}) {
        if (metst::simd_available(p.path)) paths.push_back(p);
    }
    return paths;
}
