// Packs a network's weights as plan.h says, on the host.
#pragma once

#include "metst/metst_network.h"
#include "metst/metst_plus_network.h"
#include "network_step/plan.h"

namespace metst::cuda::fused {

// packed: plan.total.weights floats, all written.
void pack(const MetstPlan& plan, const MetstWeights& weights, float* packed);
void pack(const MetstPlusPlan& plan, const MetstPlusWeights& weights, float* packed);

}  // namespace metst::cuda::fused
