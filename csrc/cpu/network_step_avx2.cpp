// The network step for AVX2 and FMA.
#include "network_step_paths.h"
#include "network_step_simd.h"
#include "simd_avx2.h"

namespace metst {

void network_step_avx2(const NetworkStepArgs& args) { SimdNetworkStep<Avx2>(args).run(); }

}  // namespace metst
