// Which vector instruction sets the CPU kernels may use on the machine they run on.
#pragma once

namespace metst {

enum class SimdPath { kAuto, kAvx512, kAvx2, kNeon, kScalar };

// Compiled in and supported by this CPU and its operating system. kAuto and kScalar always are.
bool simd_available(SimdPath path);

// The fastest available path; kScalar when there is no other.
SimdPath best_simd_path();

}  // namespace metst
