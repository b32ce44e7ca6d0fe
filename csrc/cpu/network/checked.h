// What every network's step does around its layers.
#pragma once

#include "dispatch.h"
#include "flush_subnormals.h"
#include "metst/network_step.h"

namespace metst {

// Calls step(path), the path a constant, unless the arguments are bad. `sizes_bad`: the network's own are.
template <class Step>
Status checked_step(const NetworkStepArgs& args, bool sizes_bad, SimdPath path, Step&& step) {
    if (sizes_bad || args.lanes < 1 || args.fed < 0) return Status::kBadSize;
    if (!args.packed || !args.features || !args.reset || !args.stream || !args.spot || !args.emotion) {
        return Status::kNullPointer;
    }
    if (!simd_available(path)) return Status::kUnavailablePath;
    const FlushSubnormals flush;
    on_path(path, step);
    return Status::kOk;
}

}  // namespace metst
