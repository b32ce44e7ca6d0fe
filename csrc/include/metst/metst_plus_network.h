// The ME-TST+ network, frame by frame (network_step.h). With s the frame fed now:
//
//   stem      as ME-TST's: gives frame f = s-2
//   pathways  one or two, independent. A fast stack of blocks runs on every frame f. A slow one runs on every other
//             frame of a window from its first on, e = s-3: a convolution over the stem's e-1, e, e+1, ReLU, is its
//             input, and after every stage but the last another one over what the fast stack gave in that stage is
//             added. Its output holds for two frames.
//   heads     on frame e, of [slow, fast]: spot = sigmoid(spot's), emotion, both linear. The first pathway spots, the
//             last one names the emotion.
//
// The lanes that have a slow step at the same time share one pass over its weights; a step in which no lane has one
// does not read them.
#pragma once

#include <cstdint>

#include "metst/mamba_block.h"
#include "metst/network_step.h"

namespace metst {

constexpr std::int64_t kMetstPlusLookAhead = 3;  // frames

// Every size at least 1.
struct MetstPlusSizes {
    std::int64_t channels = 0;  // features a frame
    std::int64_t dim = 0;       // of the stem and the fast stack
    std::int64_t slow_dim = 0;
    std::int64_t stages = 0;
    std::int64_t depth = 0;  // blocks of a stage, in either stack
    std::int64_t pathways = 0;
    std::int64_t inner = 0;  // channels inside a fast block
    std::int64_t slow_inner = 0;
    std::int64_t states = 0;
    std::int64_t conv = 0;  // taps
    std::int64_t rank = 0;  // factors of a fast block's time step
    std::int64_t slow_rank = 0;
    std::int64_t classes = 0;

    BlockSizes fast_block() const { return {dim, inner, states, conv, rank}; }
    BlockSizes slow_block() const { return {slow_dim, slow_inner, states, conv, slow_rank}; }
};

struct PathwayWeights {
    AffineWeights entry;                      // dim to slow_dim
    const AffineWeights* laterals = nullptr;  // (stages - 1), dim to slow_dim
    const BlockWeights* fast = nullptr;       // (stages * depth)
    const BlockWeights* slow = nullptr;       // (stages * depth)
};

struct MetstPlusWeights {
    AffineWeights stem[2];                     // channels to dim, dim to dim
    const PathwayWeights* pathways = nullptr;  // (pathways)
    AffineWeights spot;                        // slow_dim + dim to 1
    AffineWeights emotion;                     // slow_dim + dim to classes
};

// As those of metst_network.h.
std::int64_t packed_network_size(const MetstPlusSizes& sizes, MatrixFormat format);
void pack_network(const MetstPlusSizes& sizes, const MetstPlusWeights& weights, MatrixFormat format, float* packed);
std::int64_t network_stream_size(const MetstPlusSizes& sizes, std::int64_t lanes);
Status network_step(const MetstPlusSizes& sizes, const NetworkStepArgs& args, SimdPath path = SimdPath::kAuto);

}  // namespace metst
