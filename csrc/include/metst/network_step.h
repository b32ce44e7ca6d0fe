// What the networks' steps have in common: one frame through a whole network on the CPU, stem to heads in one call, for
// several independent lanes at once. The networks are in metst_network.h and metst_plus_network.h. Raw pointers and
// sizes only; knows no Python and no bundle.
//
// A lane's reset flag says that the frame fed now is the first of its next window. Convolutions then see zeros beyond
// both windows' ends, and blocks start the window from a zero state.
//
// The weights are packed once, in the order a step reads them: a step is bound by how fast they stream from the cache,
// and all lanes share one pass over them. Packed, the large matrices may be in half precision: half as much to read.
// What is multiplied with them and all sums stay in single precision.
#pragma once

#include <cstdint>

#include "metst/cpu_features.h"
#include "metst/selective_scan.h"

namespace metst {

// Of the large matrices: those of the blocks but for the time step's, and the convolutions of every other frame.
enum class MatrixFormat { kFloat32, kFloat16 };

// Of a convolution over three frames, (outputs, inputs, 3), oldest frame first, or of a linear map, (inputs, outputs);
// and its bias (outputs). float32, dense.
struct AffineWeights {
    const float* weight = nullptr;
    const float* bias = nullptr;
};

struct NetworkStepArgs {
    std::int64_t lanes = 0;  // at least 1; pairs are the fast case

    const float* packed = nullptr;                 // by pack_network; best aligned to 64 bytes
    MatrixFormat format = MatrixFormat::kFloat32;  // that they were packed in
    const float* features = nullptr;               // (lanes, channels)
    const bool* reset = nullptr;                   // (lanes)
    std::int64_t fed = 0;                          // steps done since `stream` was all zeros
    float* stream = nullptr;  // network_stream_size floats, zeros at first; best aligned to 64 bytes

    float* spot = nullptr;     // (lanes), 0 to 1; of no frame in the first steps, as many as the network looks ahead
    float* emotion = nullptr;  // (lanes, classes), logits
};

}  // namespace metst
