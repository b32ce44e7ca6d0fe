// The vectorised scan for AVX2 and FMA.
#include "selective_scan_paths.h"
#include "selective_scan_simd.h"
#include "simd_avx2.h"

namespace metst {

void selective_scan_avx2(const SelectiveScanArgs& args) { SimdScan<Avx2>(args).run(); }

}  // namespace metst
