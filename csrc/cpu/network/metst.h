// The step behind metst::network_step, for every path (metst_simd.cpp). Arguments have been checked.
#pragma once

#include "dispatch.h"
#include "metst/network_step.h"

namespace metst {

METST_FOR_EVERY_PATH(void, network_step_on, const NetworkStepArgs& args);

}  // namespace metst
