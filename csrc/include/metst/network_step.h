// One frame through a whole ME-TST network on the CPU: stem, blocks and heads in one call, for several independent
// lanes at once. Raw pointers and sizes only; knows no Python and no bundle.
//
//   stem     two convolutions over time, 3 taps, ReLU. Each waits for the frame after, so scores are of the frame fed
//            kNetworkLookAhead steps earlier.
//   blocks   one after the other (mamba_block.h)
//   heads    spot = sigmoid(x spot), emotion = x emotion: both linear
//
// A lane's reset flag says that the frame fed now is the first of its next window. The convolutions then see zeros
// beyond both windows' ends, and the blocks start the window from a zero state.
//
// The weights are packed once, in the order a step reads them: a step is bound by how fast they stream from the cache,
// and all lanes share one pass over them.
#pragma once

#include <cstdint>

#include "metst/cpu_features.h"
#include "metst/mamba_block.h"
#include "metst/selective_scan.h"

namespace metst {

constexpr std::int64_t kNetworkLookAhead = 2;  // frames

// Every size at least 1, but for depth, which may be 0.
struct NetworkSizes {
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

// Every array is float32, dense, last axis fastest; linear maps are (in, out).
struct NetworkWeights {
    const float* stem_weight[2] = {};       // (dim, channels, 3) and (dim, dim, 3), oldest frame first
    const float* stem_bias[2] = {};         // (dim)
    const BlockWeights* blocks = nullptr;   // (depth)
    const float* spot_weight = nullptr;     // (dim, 1)
    const float* spot_bias = nullptr;       // (1)
    const float* emotion_weight = nullptr;  // (dim, classes)
    const float* emotion_bias = nullptr;    // (classes)
};

// Floats that the packed weights take.
std::int64_t packed_network_size(const NetworkSizes& sizes);

// Writes the weights to `packed` as network_step reads them, the same for every vector path. Sizes and pointers are the
// caller's to check.
void pack_network(const NetworkSizes& sizes, const NetworkWeights& weights, float* packed);

// Floats that a stream of `lanes` lanes needs for what it remembers and for its intermediate values.
std::int64_t network_stream_size(const NetworkSizes& sizes, std::int64_t lanes);

struct NetworkStepArgs {
    NetworkSizes sizes;
    std::int64_t lanes = 0;  // at least 1; pairs are the fast case

    const float* packed = nullptr;    // packed_network_size floats, by pack_network; best aligned to 64 bytes
    const float* features = nullptr;  // (lanes, channels)
    const bool* reset = nullptr;      // (lanes)
    std::int64_t fed = 0;             // steps done since `stream` was all zeros
    float* stream = nullptr;          // network_stream_size floats, zeros at first; best aligned to 64 bytes

    float* spot = nullptr;     // (lanes), 0 to 1; of no frame in the first kNetworkLookAhead steps
    float* emotion = nullptr;  // (lanes, classes), logits
};

// Runs the step on the calling thread, without allocating. Float32 throughout; subnormal numbers count as zero.
Status network_step(const NetworkStepArgs& args, SimdPath path = SimdPath::kAuto);

}  // namespace metst
