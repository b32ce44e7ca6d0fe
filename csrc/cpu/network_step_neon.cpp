// The network step for NEON.
#include "network_step_paths.h"
#include "network_step_simd.h"
#include "simd_neon.h"

namespace metst {

void network_step_neon(const NetworkStepArgs& args) { SimdNetworkStep<Neon>(args).run(); }

}  // namespace metst
