// The implementations behind metst::network_step, one per instruction set. Arguments have been checked.
#pragma once

#include "metst/network_step.h"

namespace metst {

void network_step_scalar(const NetworkStepArgs& args);
void network_step_avx2(const NetworkStepArgs& args);
void network_step_avx512(const NetworkStepArgs& args);
void network_step_neon(const NetworkStepArgs& args);

}  // namespace metst
