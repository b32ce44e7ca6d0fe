// The vectorised scan for AVX-512 F, DQ and VL.
#include "selective_scan_paths.h"
#include "selective_scan_simd.h"
#include "simd_avx512.h"

namespace metst {

void selective_scan_avx512(const SelectiveScanArgs& args) { SimdScan<Avx512>(args).run(); }

}  // namespace metst
