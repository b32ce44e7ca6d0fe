// The ME-TST+ network's stream, and the step behind metst::network_step for every path (metst_plus_simd.cpp).
//
// The stream has internal linkage, for the reason given in simd/simd.h.
#pragma once

#include "dispatch.h"
#include "metst/metst_plus_network.h"
#include "network/state.h"

namespace metst {
namespace {

struct PathwayState {
    float* laterals;     // ring of the fast stack's outputs after each stage but the last: (3, lanes, dim)
    Ring fast;           // the fast stack's outputs: (2, lanes, dim)
    float* slow;         // the slow stack's last output: (lanes, slow_dim)
    float* fast_blocks;  // BlockState of each
    float* slow_blocks;

    PathwayState(Pieces& memory, const MetstPlusSizes& s, std::int64_t lanes)
        : laterals(memory.floats((s.stages - 1) * lateral_size(s, lanes))),
          fast(memory, 2, lanes, padded(s.dim)),
          slow(memory.floats(lanes * padded(s.slow_dim))),
          fast_blocks(memory.floats(s.stages * s.depth * BlockState::size(s.fast_block(), lanes))),
          slow_blocks(memory.floats(s.stages * s.depth * BlockState::size(s.slow_block(), lanes))) {}

    Ring lateral(const MetstPlusSizes& s, std::int64_t lanes, std::int64_t stage) const {
        Pieces of_stage(laterals + stage * lateral_size(s, lanes));
        return Ring(of_stage, kFrames, lanes, padded(s.dim));
    }

    static std::int64_t size(const MetstPlusSizes& s, std::int64_t lanes) {
        Pieces counted;
        PathwayState(counted, s, lanes);
        return counted.used();
    }

private:
    static std::int64_t lateral_size(const MetstPlusSizes& s, std::int64_t lanes) {
        Pieces counted;
        Ring(counted, kFrames, lanes, padded(s.dim));
        return counted.used();
    }
};

struct MetstPlusStream {
    Ring resets;         // (4, lanes): 1 where the frame began a window, else 0
    float* odd;          // (lanes): 1 where the frame scored last has an odd number in its window, else 0
    Ring stem_input[2];  // of the two convolutions
    Ring stem;           // what they give: (3, lanes, dim)
    float* pathways;     // PathwayState of each

    std::int32_t* lanes;  // 0, 1, ...
    std::int32_t* due;    // those of them that have a slow step
    BlockWork fast_work, slow_work;
    float* seen;           // (lanes, 3 inputs) of any convolution
    float* x;              // (lanes, dim)
    float* slow;           // (lanes, slow_dim)
    float* lateral;        // likewise
    float* head_input[2];  // (lanes, slow_dim + dim), of spot and emotion
    float* scores;         // (lanes, classes)

    MetstPlusStream(Pieces& memory, const MetstPlusSizes& s, std::int64_t count)
        : resets(memory, kMetstPlusLookAhead + 1, count, 1),
          odd(memory.floats(count)),
          stem_input{{memory, kFrames, count, padded(s.channels)}, {memory, kFrames, count, padded(s.dim)}},
          stem(memory, kFrames, count, padded(s.dim)),
          pathways(memory.floats(s.pathways * PathwayState::size(s, count))),
          lanes(memory.integers(count)),
          due(memory.integers(count)),
          fast_work(memory, s.fast_block(), count),
          slow_work(memory, s.slow_block(), count),
          seen(memory.floats(count * padded(kFrames * (s.channels > s.dim ? s.channels : s.dim)))),
          x(memory.floats(count * padded(s.dim))),
          slow(memory.floats(count * padded(s.slow_dim))),
          lateral(memory.floats(count * padded(s.slow_dim))),
          head_input{memory.floats(count * padded(s.slow_dim + s.dim)),
                     memory.floats(count * padded(s.slow_dim + s.dim))},
          scores(memory.floats(count * padded(s.classes))) {}
};

}  // namespace

// Both have been checked. slow_size: floats that the slow stacks of all pathways take in the packed network.
METST_FOR_EVERY_PATH(void, metst_plus_step_on, const MetstPlusSizes& sizes, const NetworkStepArgs& args,
                     std::int64_t slow_size);

}  // namespace metst
