// Checks the arguments of the scan, sets up the state and hands over to the implementation for this CPU.
#include "metst/selective_scan.h"

#include <cstddef>
#include <cstring>

#include "flush_subnormals.h"
#include "selective_scan_paths.h"

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

    if (path == SimdPath::kAuto) path = best_simd_path();
    const FlushSubnormals flush;
    switch (path) {
#ifdef METST_HAVE_AVX512
        case SimdPath::kAvx512: selective_scan_avx512(args); break;
#endif
#ifdef METST_HAVE_AVX2
        case SimdPath::kAvx2: selective_scan_avx2(args); break;
#endif
#ifdef METST_HAVE_NEON
        case SimdPath::kNeon: selective_scan_neon(args); break;
#endif
        default: selective_scan_scalar(args);
    }
    return Status::kOk;
}

}  // namespace metst
