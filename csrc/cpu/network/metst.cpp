// ME-TST's weights and stream, and the checks before a step.
#include <algorithm>

#include "dispatch.h"
#include "flush_subnormals.h"
#include "metst/network_step.h"
#include "network/metst.h"
#include "network/pack.h"

namespace metst {
namespace {

// In the order of the step (metst_simd.cpp). Without weights when only counting.
void pack(Packer& packer, const NetworkSizes& s, const NetworkWeights& w) {
    pack_stem_convolution(packer, s.channels, s.dim, w.stem_weight[0], w.stem_bias[0]);
    pack_stem_convolution(packer, s.dim, s.dim, w.stem_weight[1], w.stem_bias[1]);
    for (std::int64_t i = 0; i < s.depth; ++i) {
        pack_mamba_block(packer, s.block(), packer.writes() ? w.blocks[i] : BlockWeights());
    }
    pack_heads(packer, s.dim, s.classes, w.spot_weight, w.spot_bias, w.emotion_weight, w.emotion_bias);
}

bool any_size_bad(const NetworkStepArgs& a) {
    const NetworkSizes& s = a.sizes;
    return std::min({s.channels, s.dim, s.inner, s.states, s.conv, s.rank, s.classes, a.lanes}) < 1 || s.depth < 0 ||
           a.fed < 0;
}

}  // namespace

std::int64_t packed_network_size(const NetworkSizes& s) {
    Packer counted;
    pack(counted, s, NetworkWeights());
    return counted.size();
}

void pack_network(const NetworkSizes& s, const NetworkWeights& w, float* packed) {
    Packer packer(packed);
    pack(packer, s, w);
}

std::int64_t network_stream_size(const NetworkSizes& s, std::int64_t lanes) {
    Pieces counted;
    MetstStream(counted, s, lanes);
    return counted.used();
}

Status network_step(const NetworkStepArgs& args, SimdPath path) {
    if (any_size_bad(args)) return Status::kBadSize;
    if (!args.packed || !args.features || !args.reset || !args.stream || !args.spot || !args.emotion) {
        return Status::kNullPointer;
    }
    if (!simd_available(path)) return Status::kUnavailablePath;
    const FlushSubnormals flush;
    on_path(path, [&](auto chosen) { network_step_on<chosen>(args); });
    return Status::kOk;
}

}  // namespace metst
