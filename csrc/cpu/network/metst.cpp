// ME-TST's weights and stream, and the checks before a step.
#include "network/metst.h"

#include <algorithm>

#include "network/checked.h"
#include "network/pack.h"

namespace metst {
namespace {

// In the order of the step (metst_simd.cpp). Without weights when only counting.
void pack(Packer& packer, const MetstSizes& s, const MetstWeights& w, MatrixFormat format) {
    pack_convolution(packer, s.channels, s.dim, w.stem[0], MatrixFormat::kFloat32);
    pack_convolution(packer, s.dim, s.dim, w.stem[1], MatrixFormat::kFloat32);
    for (std::int64_t i = 0; i < s.depth; ++i) {
        pack_mamba_block(packer, s.block(), packer.writes() ? w.blocks[i] : BlockWeights(), format);
    }
    pack_heads(packer, s.dim, s.classes, w.spot, w.emotion);
}

bool bad(const MetstSizes& s) {
    return std::min({s.channels, s.dim, s.inner, s.states, s.conv, s.rank, s.classes}) < 1 || s.depth < 0;
}

}  // namespace

std::int64_t packed_network_size(const MetstSizes& s, MatrixFormat format) {
    Packer counted;
    pack(counted, s, MetstWeights(), format);
    return counted.size();
}

void pack_network(const MetstSizes& s, const MetstWeights& w, MatrixFormat format, float* packed) {
    Packer packer(packed);
    pack(packer, s, w, format);
}

std::int64_t network_stream_size(const MetstSizes& s, std::int64_t lanes) {
    Pieces counted;
    MetstStream(counted, s, lanes);
    return counted.used();
}

Status network_step(const MetstSizes& s, const NetworkStepArgs& args, SimdPath path) {
    return checked_step(args, bad(s), path, [&](auto chosen) { metst_step_on<chosen>(s, args); });
}

}  // namespace metst
