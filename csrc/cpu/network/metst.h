// The ME-TST network's stream, and the step behind metst::network_step for every path (metst_simd.cpp).
//
// The stream has internal linkage, for the reason given in simd/simd.h.
#pragma once

#include "dispatch.h"
#include "metst/network_step.h"
#include "network/state.h"

namespace metst {
namespace {

struct MetstStream {
    Ring resets;         // (3, lanes): 1 where the frame began a window, else 0
    Ring stem_input[2];  // of the two convolutions
    float* blocks;       // BlockState of each
    BlockWork work;
    float* row;     // (lanes, 3 inputs) of either convolution
    float* x;       // (lanes, dim)
    float* scores;  // (lanes, 1 + classes)

    MetstStream(Pieces& memory, const NetworkSizes& s, std::int64_t lanes)
        : resets(memory, kStemTaps, lanes, 1),
          stem_input{{memory, kStemTaps, lanes, padded(s.channels)}, {memory, kStemTaps, lanes, padded(s.dim)}},
          blocks(memory.floats(s.depth * BlockState::size(s.block(), lanes))),
          work(memory, s.block(), lanes),
          row(memory.floats(lanes * padded(kStemTaps * (s.channels > s.dim ? s.channels : s.dim)))),
          x(memory.floats(lanes * padded(s.dim))),
          scores(memory.floats(lanes * padded(1 + s.classes))) {}
};

}  // namespace

METST_FOR_EVERY_PATH(void, network_step_on, const NetworkStepArgs& args);  // which have been checked

}  // namespace metst
