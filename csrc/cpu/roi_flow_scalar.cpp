// The flow's loops for four floats of the compiler's own.
#include "roi_flow_kernels.h"
#include "roi_flow_simd.h"
#include "simd_portable.h"

namespace metst {

const FlowKernels& flow_kernels_scalar() { return FlowSimd<Portable>::kKernels; }

}  // namespace metst
