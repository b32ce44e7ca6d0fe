// What the layers of a stream remember from step to step, and where they work. All of it starts at zero. Knows no
// network.
//
// Internal linkage, for the reason given in simd/simd.h.
#pragma once

#include <cstdint>

#include "metst/mamba_block.h"
#include "network/layout.h"
#include "pieces.h"

namespace metst {
namespace {

// The last `length` frames of a layer's input. Frame t has slot t mod length: (length, lanes, width).
class Ring {
public:
    Ring(Pieces& memory, std::int64_t length, std::int64_t lanes, std::int64_t width)
        : frames_(memory.floats(length * lanes * width)), length_(length), lanes_(lanes), width_(width) {}

    // The frame of `age` steps before frame `now`, from this lane on.
    float* frame(std::int64_t now, std::int64_t age, std::int64_t lane) const {
        return frames_ + ((now + length_ - age) % length_ * lanes_ + lane) * width_;
    }

private:
    float* frames_;
    std::int64_t length_, lanes_, width_;
};

// For which of the stream's lanes layers run: row i of their arrays is of lane lanes[i].
struct Rows {
    const std::int32_t* lanes;
    std::int64_t count;
};

// Of one block.
struct BlockState {
    Ring taps;     // of the convolution's input: (conv, lanes, inner)
    float* state;  // (lanes, inner, states)

    BlockState(Pieces& memory, const BlockSizes& s, std::int64_t lanes)
        : taps(memory, s.conv, lanes, padded(s.inner)),
          state(memory.floats(lanes * padded(s.inner) * padded(s.states))) {}

    static std::int64_t size(const BlockSizes& s, std::int64_t lanes) {
        Pieces counted;
        BlockState(counted, s, lanes);
        return counted.used();
    }
};

// What a block's layers hand to each other, for blocks of the same sizes one after the other.
struct BlockWork {
    float* n;      // (lanes, dim)
    float* uz;     // (lanes, 2 inner)
    float* bc_dt;  // (lanes, x_proj_outputs)
    float* y;      // (lanes, inner)

    BlockWork(Pieces& memory, const BlockSizes& s, std::int64_t lanes)
        : n(memory.floats(lanes * padded(s.dim))),
          uz(memory.floats(lanes * 2 * padded(s.inner))),
          bc_dt(memory.floats(lanes * x_proj_outputs(s))),
          y(memory.floats(lanes * padded(s.inner))) {}
};

}  // namespace
}  // namespace metst
