// The network step for CPUs without a vector path.
#include "network_step_paths.h"
#include "network_step_simd.h"
#include "simd_portable.h"

namespace metst {

void network_step_scalar(const NetworkStepArgs& args) { SimdNetworkStep<Portable>(args).run(); }

}  // namespace metst
