// Where everything of the fused step lies: the packed weights, a lane's state, and what a block of threads keeps of a
// frame in shared memory. What packing (pack.cpp) and the kernel (step.cu) agree on. All numbers are floats, all places
// multiples of 4 of them, so that four are read at once.
//
// A linear map is a row for each output, its inputs one after the other and zeros up to a multiple of 4: the lanes of a
// warp read a row side by side. Arrays in shared memory are padded likewise; what pads them is zero always.
#pragma once

#include <cstdint>

#include "metst/metst_network.h"

namespace metst::cuda::fused {

constexpr int kFrames = 3;                    // that a convolution of the stem reads
constexpr int kSharedFloats = 48 * 1024 / 4;  // of a block, without asking for more

struct Plan {
    int channels, dim, depth, inner, states, conv, rank, classes;

    struct {
        int stem[2], stem_bias[2];  // (dim, kFrames inputs), oldest frame first; (dim)
        int blocks, block;          // the first, and from one to the next
        int heads, heads_bias;      // (1 + classes, dim): the spotting score's row first; (1 + classes)
        int total;
    } weight;
    struct {
        int norm;       // (2, dim): factors, summands
        int in_proj;    // (2 inner, dim)
        int conv;       // (1 + conv, inner): summands, then taps, the newest frame's first
        int x_proj;     // (2 states + rank, inner): B, C, time step
        int dt_proj;    // (1 + rank, inner): summands, then factors
        int rates;      // (inner, states): A log2(e), each row padded
        int skip;       // (inner)
        int out_proj;   // (dim, inner)
        int post_norm;  // as norm
    } in_block;
    struct {
        int resets;         // (2): of the frame before, of that before it
        int stem[2];        // (2, inputs): likewise
        int blocks, block;  // the first, and from one to the next
        int taps;           // in a block: (conv - 1, inner), the newest frame first
        int scan;           // in a block: (inner, states), each row padded
        int total;          // of a lane
    } state;
    struct {
        int seen[2];         // of the stem: (kFrames, inputs)
        int x;               // (dim), from block to block
        int normed;          // (dim)
        int u, gate;         // (inner)
        int b, c, dt;        // (states), (states), (rank)
        int y;               // (inner)
        int branch;          // (dim)
        int part_of_x;       // (2 states + rank): what x_proj gives of one block's channels, where several share a lane
        int part_of_branch;  // (dim): out_proj, likewise
        int total;
    } shared;
};

inline std::int64_t quads(std::int64_t floats) { return (floats + 3) / 4; }

// Fills the plan in; false where the sizes, which are at least 1, are too large for it.
bool make_plan(const MetstSizes& sizes, Plan* out);

}  // namespace metst::cuda::fused
