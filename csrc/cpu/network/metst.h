// The ME-TST network's stream, and the step behind metst::network_step for every path (metst_simd.cpp).
//
// The stream has internal linkage, for the reason given in simd/simd.h.
#pragma once

#include "dispatch.h"
#include "metst/metst_network.h"
#include "network/state.h"

namespace metst {
namespace {

struct MetstStream {
    Ring resets;          // (3, lanes): 1 where the frame began a window, else 0
    Ring stem_input[2];   // of the two convolutions
    float* blocks;        // BlockState of each
    std::int32_t* lanes;  // 0, 1, ...
    BlockWork work;
    float* seen;    // (lanes, 3 inputs) of either convolution
    float* x;       // (lanes, dim)
    float* scores;  // (lanes, classes)

    MetstStream(Pieces& memory, const MetstSizes& s, std::int64_t count)
        : resets(memory, kFrames, count, 1),
          stem_input{{memory, kFrames, count, padded(s.channels)}, {memory, kFrames, count, padded(s.dim)}},
          blocks(memory.floats(s.depth * BlockState::size(s.block(), count))),
          lanes(memory.integers(count)),
          work(memory, s.block(), count),
          seen(memory.floats(count * padded(kFrames * (s.channels > s.dim ? s.channels : s.dim)))),
          x(memory.floats(count * padded(s.dim))),
          scores(memory.floats(count * padded(s.classes))) {}
};

}  // namespace

// Both have been checked.
METST_FOR_EVERY_PATH(void, metst_step_on, const MetstSizes& sizes, const NetworkStepArgs& args);

}  // namespace metst
