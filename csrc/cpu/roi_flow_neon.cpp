// The flow's loops for NEON.
#include "roi_flow_kernels.h"
#include "roi_flow_simd.h"
#include "simd_neon.h"

namespace metst {

const FlowKernels& flow_kernels_neon() { return FlowSimd<Neon>::kKernels; }

}  // namespace metst
