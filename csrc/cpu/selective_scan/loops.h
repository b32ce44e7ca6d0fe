// The loops behind metst::selective_scan, for every path: over a vector wrapper in loops_simd.cpp, the formula as it
// reads in loops_scalar.cpp. Arguments have been checked; h already holds the initial state and batch, length and
// channels are at least 1.
#pragma once

#include "dispatch.h"
#include "metst/selective_scan.h"

namespace metst {

METST_FOR_EVERY_PATH(void, selective_scan_on, const SelectiveScanArgs& args);

}  // namespace metst
