// The flow's loops for AVX2 and FMA.
#include "roi_flow_kernels.h"
#include "roi_flow_simd.h"
#include "simd_avx2.h"

namespace metst {

const FlowKernels& flow_kernels_avx2() { return FlowSimd<Avx2>::kKernels; }

}  // namespace metst
