// The flow's loops for AVX-512 F, DQ and VL.
#include "roi_flow_kernels.h"
#include "roi_flow_simd.h"
#include "simd_avx512.h"

namespace metst {

const FlowKernels& flow_kernels_avx512() { return FlowSimd<Avx512>::kKernels; }

}  // namespace metst
