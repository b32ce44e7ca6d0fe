#include "roi_flow_kernels.h"
#include "roi_flow_simd.h"
#include "simd_scalar.h"

namespace metst {

const FlowKernels& flow_kernels_scalar() { return FlowSimd<Scalar>::kKernels; }

}  // namespace metst
