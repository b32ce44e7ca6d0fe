// Checks the arguments of the scan, sets up the state and hands over to the implementation for this CPU.
#include "metst/selective_scan.h"

#include <cstddef>
#include <cstring>

#include "dispatch.h"
#include "flush_subnormals.h"
#include "selective_scan/loops.h"

namespace metst {
namespace {

bool any_size_negative(const SelectiveScanArgs& a) {
    return a.batch < 0 || a.length < 0 || a.channels < 0 || a.states < 0;
}

bool required_array_missing(const SelectiveScanArgs& a) {
    const bool channel_data = a.batch > 0 && a.length > 0 && a.channels > 0;
    const bool state_data = a.batch > 0 && a.length > 0 && a.states > 0;
    const bool state = a.batch > 0 && a.channels > 0 && a.states > 0;
    return (channel_data && (!a.u || !a.delta || !a.y)) || (state_data && (!a.B || !a.C)) || (state && (!a.A || !a.h));
}

void set_initial_state(const SelectiveScanArgs& a) {
    const std::size_t bytes = static_cast<std::size_t>(a.batch * a.channels * a.states) * sizeof(float);
    if (bytes == 0 || a.h == a.h0) return;
    if (a.h0) {
        std::memcpy(a.h, a.h0, bytes);
    } else {
        std::memset(a.h, 0, bytes);
    }
}

}  // namespace

Status selective_scan(const SelectiveScanArgs& args, SimdPath path) {
    if (any_size_negative(args)) return Status::kBadSize;
    if (required_array_missing(args)) return Status::kNullPointer;
    if (!simd_available(path)) return Status::kUnavailablePath;
    set_initial_state(args);
    if (args.batch == 0 || args.length == 0 || args.channels == 0) return Status::kOk;

    const FlushSubnormals flush;
    on_path(path, [&](auto chosen) { selective_scan_on<chosen>(args); });
    return Status::kOk;
}

}  // namespace metst
