// The step of ME-TST: the order of its layers (layers_simd.h), and which window's end each of them is at.
//
// With two lanes the network of dim 64 reads 2.6 MB of weights and 0.8 MB of state a step, that of dim 128 7.7 and 1.6:
// more than a second-level cache holds, so the time is that of streaming them. A 2.5 GHz Cascade Lake core reads
// 22 GB/s from its last-level cache and 10 from memory: bounds of 0.15 and 0.42 ms, or 0.34 and 0.93. With AVX-512 a
// step takes 0.18 and 0.53 ms where the network stayed in the cache, 0.3 to 0.4 and 1.0 where other work displaced it.
#include "network/layers_simd.h"
#include "network/metst.h"
#include "simd/simd.h"

namespace metst {

template <>
void metst_step_on<kPath>(const MetstSizes& s, const NetworkStepArgs& a) {
    const BlockSizes block = s.block();
    Pieces memory(a.stream);
    const MetstStream stream(memory, s, a.lanes);
    const std::int64_t block_size = BlockState::size(block, a.lanes);

    float* const now = stream.resets.frame(a.fed, 0, 0);
    for (std::int64_t lane = 0; lane < a.lanes; ++lane) {
        now[lane] = a.reset[lane] ? 1.0f : 0.0f;
        stream.lanes[lane] = static_cast<std::int32_t>(lane);
    }
    const float* const one_ago = stream.resets.frame(a.fed, 1, 0);
    const float* const two_ago = stream.resets.frame(a.fed, 2, 0);
    constexpr MatrixFormat kStem = MatrixFormat::kFloat32;

    Layers<Simd> layers(a.packed, a.format, {stream.lanes, a.lanes});
    layers.remember(stream.stem_input[0], a.fed, a.features, s.channels, s.channels);
    layers.convolution(stream.stem_input[0], a.fed, s.channels, one_ago, now, kStem, stream.seen, stream.x, s.dim);
    layers.remember(stream.stem_input[1], a.fed, stream.x, padded(s.dim), s.dim);
    layers.convolution(stream.stem_input[1], a.fed, s.dim, two_ago, one_ago, kStem, stream.seen, stream.x, s.dim);
    for (std::int64_t i = 0; i < s.depth; ++i) {
        Pieces of_block(stream.blocks + i * block_size);
        layers.mamba_block(block, BlockState(of_block, block, a.lanes), stream.work, a.fed, two_ago, stream.x);
    }
    layers.heads(stream.x, stream.x, s.dim, s.classes, stream.scores, a.spot, a.emotion);
}

}  // namespace metst
