// The implementations behind metst::selective_scan, one per instruction set. Arguments have been checked; h already
// holds the initial state and batch, length and channels are at least 1.
#pragma once

#include "metst/selective_scan.h"

namespace metst {

void selective_scan_scalar(const SelectiveScanArgs& args);
void selective_scan_avx2(const SelectiveScanArgs& args);
void selective_scan_avx512(const SelectiveScanArgs& args);
void selective_scan_neon(const SelectiveScanArgs& args);

}  // namespace metst
