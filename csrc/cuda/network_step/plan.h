// Where everything of the fused step lies: the packed weights, a lane's state, and what a block of threads keeps of a
// frame in shared memory. What packing (pack.cpp) and the kernel (step.cu) agree on. All numbers are floats, all places
// multiples of 4 of them, so that four are read at once.
//
// A linear map is a row for each output, its inputs one after the other and zeros up to a multiple of 4: the lanes of a
// warp read a row side by side. Arrays in shared memory are padded likewise; what pads them is zero always, so no two
// layers of different widths share one.
#pragma once

#include <cstdint>

#include "metst/metst_network.h"
#include "metst/metst_plus_network.h"
#include "metst/network_step_cuda.h"

namespace metst::cuda::fused {

constexpr int kFrames = 3;                    // that a convolution over time reads
constexpr int kSharedFloats = 48 * 1024 / 4;  // of a block, without asking for more

// The two convolutions in front.
struct StemPlan {
    int channels, dim;
    int weight[2], bias[2];  // weights: (dim, kFrames inputs), oldest frame first; (dim)
    int past[2];             // state: (2, inputs), the newest frame first
    int seen[2];             // shared: (kFrames, inputs), the oldest first
};

// A Mamba block, of as many of the same sizes as there are.
struct BlockPlan {
    int dim, inner, states, conv, rank;

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
        int total;      // from one block to the next
    } weight;           // in a block's
    struct {
        int taps;   // (conv - 1, inner), the newest frame first
        int scan;   // (inner, states), each row padded
        int total;  // from one block to the next
    } state;        // in a block's
    struct {
        int normed;           // (dim)
        int u, gate;          // (inner)
        int b, c, dt;         // (states), (states), (rank)
        int y;                // (inner)
        int branch;           // (dim)
        int other_x;          // (dim): what a block gives, where the next must not yet write what it reads
        int parts_of_x;       // (kClusterBlocks, 2 states + rank): what x_proj gives of the channels of every block of
                              // threads, where several share a lane
        int parts_of_branch;  // (kClusterBlocks, dim): out_proj, likewise
    } shared;                 // of all blocks, one after the other
};

struct HeadsPlan {
    int inputs, classes;
    int weight, bias;  // (1 + classes, inputs): the spotting score's row first; (1 + classes)
};

struct Totals {
    int weights, state, shared;  // state: of a lane
};

struct MetstPlan {
    StemPlan stem;
    BlockPlan block;
    HeadsPlan heads;
    int depth;
    int weights;  // of the first block
    int resets;   // state: (2), of the frame before, of that before it
    int state;    // of the first block
    int x;        // shared: (dim), from block to block
    Totals total;
};

// Fast and slow blocks of all pathways have the same sizes.
struct MetstPlusPlan {
    StemPlan stem;
    BlockPlan fast, slow;
    HeadsPlan heads;
    int stages, depth, pathways;

    struct {
        int pathways, pathway;  // the first, and from one to the next
        int convolution, bias;  // in a pathway: the entry first, then the laterals, (slow_dim, kFrames dim) and the
                                // biases behind it, (slow_dim); from one to the next
        int fast, slow;         // in a pathway: the first blocks
    } weight;
    struct {
        int flags;              // (4): resets of the three frames before, the newest first; then 1 where the frame
                                // scored last has an odd number in its window
        int given;              // (2, dim): what the stem gave, the newest frame first
        int pathways, pathway;  // the first, and from one to the next
        int laterals, lateral;  // in a pathway: (2, dim), what the fast stack gave in a stage; from one to the next
        int fast_given;         // in a pathway: (dim), of the frame before
        int slow_given;         // in a pathway: (slow_dim), of the last slow step
        int fast, slow;         // in a pathway: the first blocks
    } state;
    struct {
        int given;                   // (dim): what the stem gives
        int seen_given, seen_stage;  // (kFrames, dim): of it, and of what the fast stack gives in a stage
        int x;                       // (dim), from one fast block to the next
        int of_heads;                // (slow_dim + dim): the slow stack's, from block to block, then the fast one's
    } shared;
    Totals total;
};

inline std::int64_t quads(std::int64_t floats) { return (floats + 3) / 4; }

// Fill the plan in; false where the sizes, which are at least 1, are too large for it.
bool make_plan(const MetstSizes& sizes, MetstPlan* out);
bool make_plan(const MetstPlusSizes& sizes, MetstPlusPlan* out);

}  // namespace metst::cuda::fused
