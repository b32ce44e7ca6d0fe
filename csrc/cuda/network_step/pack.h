// Packs ME-TST's weights as plan.h says, on the host.
#pragma once

#include "metst/metst_network.h"
#include "network_step/plan.h"

namespace metst::cuda::fused {

// packed: plan.weight.total floats, all written.
void pack(const Plan& plan, const MetstWeights& weights, float* packed);

}  // namespace metst::cuda::fused
