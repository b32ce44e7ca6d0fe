// The network step for AVX-512 F, DQ and VL.
#include "network_step_paths.h"
#include "network_step_simd.h"
#include "simd_avx512.h"

namespace metst {

void network_step_avx512(const NetworkStepArgs& args) { SimdNetworkStep<Avx512>(args).run(); }

}  // namespace metst
