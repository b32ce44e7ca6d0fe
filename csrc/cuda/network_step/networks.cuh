// A frame of each network as a chain of layers (layers.cuh), by a block of threads or those of a cluster.
//
// Included by step.cu alone; internal linkage.
#pragma once

#include "metst/network_step_cuda.h"
#include "network_step/layers.cuh"

namespace metst::cuda {
namespace {

// Makes a block's shared memory what the layers expect it to be.
template <class Team>
__device__ inline void clear(const Frame& f, int floats) {
    for (int i = static_cast<int>(threadIdx.x); i < floats; i += Team::kThreads) f.shared[i] = 0.0f;
    if constexpr (Team::kBlocks > 1) {
        sync_cluster();  // before others write into it
    } else {
        __syncthreads();
    }
}

// metst_network.h. Known: of known.h.
template <class Team, class Known>
__device__ inline void step_network(const fused::MetstPlan& p, const Frame& f, Stage stage,
                                    const NetworkStepBuffers& at, std::ptrdiff_t lane) {
    const MambaBlocks<Team, typename Known::Block> blocks(p.block, f);
    if (p.depth > 0) blocks.fetch(stage, p.weights, p.state, 0);
    clear<Team>(f, p.total.shared);
    const bool now = at.reset[lane] != 0.0f;
    const bool one_ago = f.state[p.resets] != 0.0f, two_ago = f.state[p.resets + 1] != 0.0f;
    if (threadIdx.x == 0 && f.rank == 0) {
        f.next_state[p.resets] = now ? 1.0f : 0.0f;
        f.next_state[p.resets + 1] = one_ago ? 1.0f : 0.0f;
    }
    float* const x = f.shared + p.x;
    stem<Team, typename Known::Stem>(f, p.stem, at.features, lane, now, one_ago, two_ago,
                                     [&](int o, float value) { x[o] = value; });
    blocks.run(p.depth, p.weights, p.state, two_ago, x, stage, [] {});
    if (f.rank == 0) {
        heads<Team>(f, p.heads, 0, 1 + p.heads.classes, x, at.spot + lane, at.emotion + lane * p.heads.classes);
    }
}

// metst_plus_network.h, with its names: s is the frame fed, f = s-2 the fast stack's, e = s-3 the slow one's and the
// heads'.
template <class Team, class Known>
struct MetstPlusFrame {
    static constexpr int kSize = Team::kThreads;
    using Fast = MambaBlocks<Team, typename Known::Fast>;
    using Slow = MambaBlocks<Team, typename Known::Slow>;

    const fused::MetstPlusPlan& p;
    const Frame& f;
    const NetworkStepBuffers& at;
    std::ptrdiff_t lane;
    bool f_begins, e_begins;  // a window
    bool due;                 // a slow step

    // The stem's newest output, in `given`, and the frames around e.
    __device__ void run_stem(bool now, bool one_ago) const {
        float* const given = f.shared + p.shared.given;
        stem<Team, typename Known::Stem>(f, p.stem, at.features, lane, now, one_ago, f_begins, [&](int o, float value) {
            given[o] = value;
            see(f, p.state.given, p.shared.seen_given, dim(), o, value, e_begins, f_begins);
        });
    }

    __device__ int dim() const { return Fast::known(Known::Fast::kDim, p.fast.dim); }
    __device__ int slow_dim() const { return Slow::known(Known::Slow::kDim, p.slow.dim); }
    __device__ int weights_of(int pathway) const { return p.weight.pathways + pathway * p.weight.pathway; }
    __device__ int state_of(int pathway) const { return p.state.pathways + pathway * p.state.pathway; }

    // Begins to copy the first block of the fast stack's turn in that stage, the first of the next pathway's behind the
    // last stage.
    __device__ void fetch_fast(const Fast& fast, Stage& copies, int pathway, int stage) const {
        if (stage == p.stages) stage = 0, ++pathway;
        if (pathway == p.pathways) return;
        fast.fetch(copies, weights_of(pathway) + p.weight.fast, state_of(pathway) + p.state.fast, stage * p.depth);
    }

    // The stacks take turns stage by stage: after each the slow one gets what the fast one gave around e.
    __device__ void run_pathway(const Fast& fast, const Slow& slow, Stage& copies, int number) const {
        const int weights = weights_of(number), state = state_of(number);
        float* const x = f.shared + p.shared.x;
        float* const slow_x = f.shared + p.shared.of_heads;
        for (int i = static_cast<int>(threadIdx.x); i < p.stem.dim; i += kSize) x[i] = f.shared[p.shared.given + i];
        if (due) around_e(weights, p.shared.seen_given, [&](int o, float value) { slow_x[o] = value; });
        __syncthreads();
        for (int stage = 0; stage < p.stages; ++stage) {
            const int first = stage * p.depth;
            const int fast_weights = weights + p.weight.fast + first * p.fast.weight.total;
            const int fast_state = state + p.state.fast + first * p.fast.state.total;
            const int slow_weights = weights + p.weight.slow + first * p.slow.weight.total;
            const int slow_state = state + p.state.slow + first * p.slow.state.total;
            fast.run(p.depth, fast_weights, fast_state, f_begins, x, copies, [&] {
                if (due) {
                    slow.fetch(copies, slow_weights, slow_state, 0);
                } else {
                    fetch_fast(fast, copies, number, stage + 1);
                }
            });
            keep_fast(stage, state, x);
            if (!due) continue;
            slow.run(p.depth, slow_weights, slow_state, e_begins, slow_x, copies,
                     [&] { fetch_fast(fast, copies, number, stage + 1); });
            if (stage + 1 == p.stages) break;
            around_e(weights + (1 + stage) * p.weight.convolution, p.shared.seen_stage,
                     [&](int o, float value) { slow_x[o] += value; });  // read behind the fast stack's barriers
        }
        keep_slow(state, slow_x);
        __syncthreads();
        const int first = number == 0 ? 0 : 1, end = number + 1 == p.pathways ? 1 + p.heads.classes : 1;
        if (f.rank == 0) {
            heads<Team>(f, p.heads, first, end, slow_x, at.spot + lane, at.emotion + lane * p.heads.classes);
        }
        __syncthreads();  // before the next pathway writes what the heads read
    }

    // The convolution behind this place, over what is seen of dim channels.
    template <class Done>
    __device__ void around_e(int convolution, int seen, Done&& done) const {
        const float* const map = f.weights + convolution;
        convolve<Team>(map, map + p.weight.bias, dim(), slow_dim(), f.shared + seen, done);
    }

    // What the fast stack gave: in the last stage for the heads of the next frame, else for the slow stack.
    __device__ void keep_fast(int stage, int state, const float* x) const {
        float* const of_heads = f.shared + p.shared.of_heads + p.slow.dim;
        for (int i = static_cast<int>(threadIdx.x); i < p.fast.dim; i += kSize) {
            if (stage + 1 < p.stages) {
                see(f, state + p.state.laterals + stage * p.state.lateral, p.shared.seen_stage, p.fast.dim, i, x[i],
                    e_begins, f_begins);
            } else {
                of_heads[i] = __ldg(f.state + state + p.state.fast_given + i);
                if (f.rank == 0) f.next_state[state + p.state.fast_given + i] = x[i];
            }
        }
    }

    // What the slow stack gave holds for the next frame too. All of a state is written: where no step is due the states
    // of its blocks are copied, in less time than the step of a lane beside that is due.
    __device__ void keep_slow(int state, float* slow_x) const {
        const float* const past = f.state + state;
        float* const kept = f.next_state + state;
        for (int i = static_cast<int>(threadIdx.x); i < p.slow.dim; i += kSize) {
            if (!due) slow_x[i] = __ldg(past + p.state.slow_given + i);
            if (f.rank == 0) kept[p.state.slow_given + i] = slow_x[i];
        }
        if (due) return;
        const float4* const from = reinterpret_cast<const float4*>(past + p.state.slow);
        float4* const to = reinterpret_cast<float4*>(kept + p.state.slow);
        const int count = p.stages * p.depth * (p.slow.state.total / 4);
        for (int i = f.rank * kSize + static_cast<int>(threadIdx.x); i < count; i += Team::kBlocks * kSize) {
            to[i] = __ldg(from + i);
        }
    }
};

template <class Team, class Known>
__device__ inline void step_network(const fused::MetstPlusPlan& p, const Frame& f, Stage stage,
                                    const NetworkStepBuffers& at, std::ptrdiff_t lane) {
    using Network = MetstPlusFrame<Team, Known>;
    const typename Network::Fast fast(p.fast, f);
    const typename Network::Slow slow(p.slow, f);
    const float* const flags = f.state + p.state.flags;
    const bool now = at.reset[lane] != 0.0f;
    const bool one_ago = flags[0] != 0.0f, two_ago = flags[1] != 0.0f, three_ago = flags[2] != 0.0f;
    const bool odd = !three_ago && flags[3] == 0.0f;
    if (threadIdx.x == 0 && f.rank == 0) {
        float* const next = f.next_state + p.state.flags;
        next[0] = now ? 1.0f : 0.0f;
        next[1] = one_ago ? 1.0f : 0.0f;
        next[2] = two_ago ? 1.0f : 0.0f;
        next[3] = odd ? 1.0f : 0.0f;
    }
    const Network frame{p, f, at, lane, two_ago, three_ago, !odd};
    frame.fetch_fast(fast, stage, 0, 0);
    clear<Team>(f, p.total.shared);
    frame.run_stem(now, one_ago);
    for (int pathway = 0; pathway < p.pathways; ++pathway) frame.run_pathway(fast, slow, stage, pathway);
}

}  // namespace
}  // namespace metst::cuda
