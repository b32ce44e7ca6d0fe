// The vectorised scan for NEON.
#include "selective_scan_paths.h"
#include "selective_scan_simd.h"
#include "simd_neon.h"

namespace metst {

void selective_scan_neon(const SelectiveScanArgs& args) { SimdScan<Neon>(args).run(); }

}  // namespace metst
