// The ME-TST network, frame by frame (network_step.h):
//
//   stem     two convolutions over time, 3 taps, ReLU. Each waits for the frame after, so scores are of the frame fed
//            kMetstLookAhead steps earlier.
//   blocks   one after the other (mamba_block.h)
//   heads    spot = sigmoid(x spot), emotion = x emotion: both linear
#pragma once

#include <cstdint>

#include "metst/mamba_block.h"
#include "metst/network_step.h"

namespace metst {

constexpr std::int64_t kMetstLookAhead = 2;  // frames

// Every size at least 1, but for depth, which may be 0.
struct MetstSizes {
    std::int64_t channels = 0;  // features a frame
    std::int64_t dim = 0;
    std::int64_t depth = 0;  // blocks
    std::int64_t inner = 0;  // channels inside a block
    std::int64_t states = 0;
    std::int64_t conv = 0;  // taps
    std::int64_t rank = 0;  // factors of the time step
    std::int64_t classes = 0;

    BlockSizes block() const { return {dim, inner, states, conv, rank}; }
};

struct MetstWeights {
    AffineWeights stem[2];                 // channels to dim, dim to dim
    const BlockWeights* blocks = nullptr;  // (depth)
    AffineWeights spot;                    // dim to 1
    AffineWeights emotion;                 // dim to classes
};

// Floats that the packed weights take.
std::int64_t packed_network_size(const MetstSizes& sizes, MatrixFormat format);

// Writes the weights to `packed` as network_step reads them, the same for every vector path. Sizes and pointers are the
// caller's to check.
void pack_network(const MetstSizes& sizes, const MetstWeights& weights, MatrixFormat format, float* packed);

// Floats that a stream of `lanes` lanes needs for what it remembers and for its intermediate values.
std::int64_t network_stream_size(const MetstSizes& sizes, std::int64_t lanes);

// Runs the step on the calling thread, without allocating. Subnormal numbers count as zero.
Status network_step(const MetstSizes& sizes, const NetworkStepArgs& args, SimdPath path = SimdPath::kAuto);

}  // namespace metst
