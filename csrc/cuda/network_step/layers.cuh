// The layers of the fused step, of which a network is a chain (networks.cuh); they know none.
//
// A linear map: 8, 16 or 32 lanes of a warp read a row together, four inputs each, several rows at once, and sum their
// products by shuffles that leave each row's sum with another lane. That lane goes on with it. A scan: some lanes hold
// the states of a channel, as many as give each of them up to eight.
//
// Where several blocks of threads share a lane, each has a part of the inner channels of every Mamba block, whole fours
// of them, and all of everything else: two barriers of the cluster a Mamba block.
//
// Included by step.cu alone; internal linkage.
#pragma once

#include "activations.cuh"
#include "cluster.cuh"
#include "launch.h"
#include "network_step/plan.h"

namespace metst::cuda {
namespace {

using fused::kFrames;

// Those who work on a lane: how many blocks of how many threads. One of several blocks has few channels, and needs few
// threads to keep loads under way.
template <int Blocks, int Threads>
struct Team {
    static constexpr int kBlocks = Blocks, kThreads = Threads;
};
constexpr int kWarpSize = 32;
constexpr unsigned kAllLanes = 0xffffffffu;
constexpr float kLayerNormEps = 1e-5f;  // torch's default, which the published networks use

__device__ inline int quads_of(int floats) { return (floats + 3) / 4; }

__device__ inline float dot(const float4& a, const float4& b, float sum) {
    return fmaf(a.w, b.w, fmaf(a.z, b.z, fmaf(a.y, b.y, fmaf(a.x, b.x, sum))));
}

// The sum of x over neighbouring lanes, in all of them.
__device__ inline float sum_of(float x, int lanes) {
    for (int mask = lanes / 2; mask > 0; mask /= 2) x += __shfl_xor_sync(kAllLanes, x, mask);
    return x;
}

// Sums each of p[0 .. Count) over neighbouring lanes: lane number k lanes / Count, and those behind it up to the next
// such, get the sum of p[k].
template <int Count>
__device__ inline float sum_transposed(const float (&p)[Count], int lanes, int lane) {
    if constexpr (Count == 1) {
        return sum_of(p[0], lanes);
    } else {
        const int mask = lanes / 2;
        const bool upper = (lane & mask) != 0;
        float kept[Count / 2];
#pragma unroll
        for (int k = 0; k < Count / 2; ++k) {
            const float sent = upper ? p[k] : p[k + Count / 2];
            kept[k] = (upper ? p[k + Count / 2] : p[k]) + __shfl_xor_sync(kAllLanes, sent, mask);
        }
        return sum_transposed<Count / 2>(kept, mask, lane);
    }
}

// Some inputs of a linear map: from number 4 `first` on, `width` times four; each row has `stride` times four.
struct Inputs {
    int first, width, stride;
};

// Calls done(o, sum) in one thread for every output o of a linear map, whose weights are in row row_of(o). x, in shared
// memory, is all inputs, padded with zeros. Rows: those that lanes read at once.
template <int Threads, int Rows, class RowOf, class Done>
__device__ inline void linear(const float* weights, const Inputs& in, int outputs, const float* x, RowOf&& row_of,
                              Done&& done) {
    const int lanes = in.width <= 8 ? 8 : in.width <= 16 ? 16 : 32;
    const int group = static_cast<int>(threadIdx.x) / lanes, lane = static_cast<int>(threadIdx.x) % lanes;
    const int each = (outputs + Threads / lanes - 1) / (Threads / lanes);
    const float4* const rows = reinterpret_cast<const float4*>(weights) + in.first;
    const float4* const x4 = reinterpret_cast<const float4*>(x) + in.first;
    for (int base = 0; base < each; base += Rows) {
        const int first = group * each + base;
        const int count = min(min(Rows, each - base), outputs - first);
        float sums[Rows] = {};
        for (int k = lane; k < in.width; k += lanes) {
            const float4 value = x4[k];
#pragma unroll
            for (int some = 0; some < Rows; some += 4) {  // under way at once: more would not fit the registers
                float4 row[4];
#pragma unroll
                for (int r = 0; r < 4; ++r) {
                    const bool there = some + r < count;
                    row[r] = there ? __ldg(rows + row_of(first + some + r) * in.stride + k)
                                   : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
                }
#pragma unroll
                for (int r = 0; r < 4; ++r) sums[some + r] = dot(row[r], value, sums[some + r]);
            }
        }
        const float sum = sum_transposed<Rows>(sums, lanes, lane);
        const int r = lane / (lanes / Rows);
        if (lane % (lanes / Rows) == 0 && r < count) done(first + r, sum);
    }
}

// Layer norm by one warp: done(i, value) for every i, each in the lane that has read x[i]. of_norm: factors, summands.
template <class Done>
__device__ inline void norm(const float* of_norm, int size, const float* x, Done&& done) {
    const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
    float sum = 0.0f, squares = 0.0f;
    for (int i = lane; i < size; i += kWarpSize) sum += x[i];
    const float mean = sum_of(sum, kWarpSize) / static_cast<float>(size);
    for (int i = lane; i < size; i += kWarpSize) squares = fmaf(x[i] - mean, x[i] - mean, squares);
    const float deviation = sqrtf(sum_of(squares, kWarpSize) / static_cast<float>(size) + kLayerNormEps);
    for (int i = lane; i < size; i += kWarpSize) {
        done(i, fmaf((x[i] - mean) / deviation, __ldg(of_norm + i), __ldg(of_norm + size + i)));
    }
}

// What a block of threads has at hand of its lane's frame.
struct Frame {
    const float* weights;
    const float* state;
    float* next_state;
    float* shared;
    int rank;  // among the blocks of the lane
};

// A linear map of all of its inputs; outputs `first` to `end` of it.
template <class Team, int Rows, class Done>
__device__ inline void every_input(const float* map, int inputs, int first, int end, const float* x, Done&& done) {
    const int width = quads_of(inputs);
    linear<Team::kThreads, Rows>(
        map, {0, width, width}, end - first, x, [=](int o) { return first + o; },
        [&](int o, float sum) { done(first + o, sum); });
}

// Convolves the frames that are `seen`, with ReLU: done(o, value).
template <class Team, class Done>
__device__ inline void convolve(const float* map, const float* bias, int inputs, int outputs, const float* seen,
                                Done&& done) {
    every_input<Team, 4>(map, kFrames * inputs, 0, outputs, seen,
                         [&](int o, float sum) { done(o, fmaxf(sum + __ldg(bias + o), 0.0f)); });
}

// Value i of the newest frame of a convolution's input: keeps it behind `past_at`, lays out the frames that are seen.
// Where the frame before is the `first` of its window, the one before that belongs to another, and where the newest
// comes `after_last`, so does that: both are the convolution's zero padding then.
__device__ inline void see(const Frame& f, int past_at, int seen_at, int inputs, int i, float newest, bool first,
                           bool after_last) {
    const float* const past = f.state + past_at;
    float* const kept = f.next_state + past_at;
    float* const seen = f.shared + seen_at;
    const float one_ago = __ldg(past + i);
    seen[i] = first ? 0.0f : __ldg(past + inputs + i);
    seen[inputs + i] = one_ago;
    seen[2 * inputs + i] = after_last ? 0.0f : newest;
    if (f.rank > 0) return;
    kept[i] = newest;
    kept[inputs + i] = one_ago;
}

// The stem's two convolutions: done(o, value). Flags: does this frame, the one before, and the one before that begin a
// window?
template <class Team, class Done>
__device__ inline void stem(const Frame& f, const fused::StemPlan& p, const float* features, bool now, bool one_ago,
                            bool two_ago, Done&& done) {
    for (int i = static_cast<int>(threadIdx.x); i < p.channels; i += Team::kThreads) {
        see(f, p.past[0], p.seen[0], p.channels, i, features[i], one_ago, now);
    }
    __syncthreads();
    convolve<Team>(f.weights + p.weight[0], f.weights + p.bias[0], p.channels, p.dim, f.shared + p.seen[0],
                   [&](int o, float value) { see(f, p.past[1], p.seen[1], p.dim, o, value, two_ago, one_ago); });
    __syncthreads();
    convolve<Team>(f.weights + p.weight[1], f.weights + p.bias[1], p.dim, p.dim, f.shared + p.seen[1], done);
    __syncthreads();
}

// x -> the scores that are rows `first` to `end` of the heads.
template <class Team>
__device__ inline void heads(const Frame& f, const fused::HeadsPlan& p, int first, int end, const float* x, float* spot,
                             float* emotion) {
    every_input<Team, 4>(f.weights + p.weight, p.inputs, first, end, x, [&](int o, float sum) {
        const float score = sum + __ldg(f.weights + p.bias + o);
        if (o == 0) {
            *spot = 1.0f / (1.0f + exp2f(-score * kLog2E));
        } else {
            emotion[o - 1] = score;
        }
    });
}

// Mamba blocks of the same sizes, of one lane in one block of threads.
template <class Team>
struct MambaBlocks {
    static constexpr int kSize = Team::kThreads;

    const fused::BlockPlan& p;
    const Frame& f;
    int first_own;  // of the channels inside a Mamba block, those of this block of threads
    int own;        // how many

    __device__ MambaBlocks(const fused::BlockPlan& plan, const Frame& frame) : p(plan), f(frame) {
        const int share = Team::kBlocks == 1 ? p.inner : 4 * ((quads_of(p.inner) + Team::kBlocks - 1) / Team::kBlocks);
        first_own = Team::kBlocks == 1 ? 0 : min(f.rank * share, p.inner);
        own = min(share, p.inner - first_own);
    }

    // x += norm(mamba(norm(x))) of `count` blocks, the first behind these places, from a zero state where the frame
    // `begins` a window. All threads have written x before, and can read it then.
    __device__ void run(int count, int weights_at, int state_at, bool begins, float* x) const {
        const bool of_first_warp = threadIdx.x < kWarpSize;
        for (int i = 0; i < count; ++i) {
            const float* const block = f.weights + weights_at + i * p.weight.total;
            const int of_state = state_at + i * p.state.total;
            if (of_first_warp) {
                norm(block + p.weight.norm, p.dim, x, [&](int d, float y) { f.shared[p.shared.normed + d] = y; });
            }
            __syncthreads();
            project_in(block, of_state + p.state.taps, begins);
            __syncthreads();
            project_x(block);
            __syncthreads();
            scan(block, of_state + p.state.scan, begins);
            __syncthreads();
            float* const branch = f.shared + p.shared.branch;
            inner_channels<4>(block + p.weight.out_proj, p.dim, f.shared + p.shared.y,
                              f.shared + p.shared.part_of_branch, [&](int o, float sum) { branch[o] = sum; });
            __syncthreads();
            if (of_first_warp) {
                norm(block + p.weight.post_norm, p.dim, branch, [&](int d, float y) { x[d] += y; });
            }
        }
        __syncthreads();
    }

    // A linear map of the inner channels. Of several blocks each works out its own channels' part of every output into
    // `part`, and once all have, sums the parts of all.
    template <int Rows, class Done>
    __device__ void inner_channels(const float* map, int outputs, const float* x, float* part, Done&& done) const {
        const Inputs in{first_own / 4, quads_of(own), quads_of(p.inner)};
        const auto row_of = [](int o) { return o; };
        if constexpr (Team::kBlocks == 1) {
            linear<kSize, Rows>(map, in, outputs, x, row_of, done);
        } else {
            linear<kSize, Rows>(map, in, outputs, x, row_of, [&](int o, float sum) { part[o] = sum; });
            sync_cluster();
            for (int o = static_cast<int>(threadIdx.x); o < outputs; o += kSize) {
                float sum = 0.0f;
#pragma unroll
                for (int other = 0; other < Team::kBlocks; ++other) sum += of_rank(part, other)[o];
                done(o, sum);
            }
        }
    }

    // normed -> u, through the causal convolution with SiLU, and the gate.
    __device__ void project_in(const float* block, int taps_at, bool begins) const {
        const float* const conv = block + p.weight.conv;
        const float* const past = f.state + taps_at;
        float* const kept = f.next_state + taps_at;
        const int width = quads_of(p.dim);
        const auto row_of = [&](int o) { return first_own + (o < own ? o : p.inner - own + o); };
        const auto done = [&](int o, float sum) {
            if (o >= own) {
                f.shared[p.shared.gate + first_own + o - own] = silu(sum);
                return;
            }
            const int d = first_own + o;
            float u = fmaf(sum, __ldg(conv + p.inner + d), __ldg(conv + d)), newer = sum;
            for (int age = 1; age < p.conv; ++age) {
                const float older = begins ? 0.0f : __ldg(past + (age - 1) * p.inner + d);
                u = fmaf(older, __ldg(conv + (1 + age) * p.inner + d), u);
                kept[(age - 1) * p.inner + d] = newer;
                newer = older;
            }
            f.shared[p.shared.u + d] = silu(u);
        };
        linear<kSize, 4>(block + p.weight.in_proj, {0, width, width}, 2 * own, f.shared + p.shared.normed, row_of,
                         done);
    }

    // u -> B, C and the factors of the time step.
    __device__ void project_x(const float* block) const {
        inner_channels<8>(block + p.weight.x_proj, 2 * p.states + p.rank, f.shared + p.shared.u,
                          f.shared + p.shared.part_of_x, [&](int o, float sum) {
                              const int of = o / p.states;
                              const int at = of == 0 ? p.shared.b : of == 1 ? p.shared.c : p.shared.dt;
                              f.shared[at + o - min(of, 2) * p.states] = sum;
                          });
    }

    // One step of the selective scan -> y.
    __device__ void scan(const float* block, int scan_at, bool begins) const {
        const int width = quads_of(p.states);
        int lanes = 1;
        while (2 * lanes < width && lanes < kWarpSize) lanes *= 2;
        const int lane = static_cast<int>(threadIdx.x) % lanes;
        const float4* const B = reinterpret_cast<const float4*>(f.shared + p.shared.b);
        const float4* const C = reinterpret_cast<const float4*>(f.shared + p.shared.c);
        const float4* const rates = reinterpret_cast<const float4*>(block + p.weight.rates);
        const float4* const past = reinterpret_cast<const float4*>(f.state + scan_at);
        float4* const kept = reinterpret_cast<float4*>(f.next_state + scan_at);
        const int end = first_own + own;
        for (int first = first_own; first < end; first += kSize / lanes) {
            const int d = first + static_cast<int>(threadIdx.x) / lanes;
            float y = 0.0f;
            if (d < end) {
                const float dt = time_step(block + p.weight.dt_proj, d), dt_u = dt * f.shared[p.shared.u + d];
#pragma unroll 2
                for (int n = lane; n < width; n += lanes) {
                    const float4 rate = __ldg(rates + d * width + n), b = B[n];
                    float4 h = begins ? make_float4(0.0f, 0.0f, 0.0f, 0.0f) : __ldg(past + d * width + n);
                    h.x = fmaf(exp2f(dt * rate.x), h.x, dt_u * b.x);
                    h.y = fmaf(exp2f(dt * rate.y), h.y, dt_u * b.y);
                    h.z = fmaf(exp2f(dt * rate.z), h.z, dt_u * b.z);
                    h.w = fmaf(exp2f(dt * rate.w), h.w, dt_u * b.w);
                    kept[d * width + n] = h;
                    y = dot(h, C[n], y);
                }
            }
            y = sum_of(y, lanes);
            if (lane == 0 && d < end) {
                y = fmaf(__ldg(block + p.weight.skip + d), f.shared[p.shared.u + d], y);
                f.shared[p.shared.y + d] = y * f.shared[p.shared.gate + d];
            }
        }
    }

    __device__ float time_step(const float* dt_proj, int d) const {
        float sum = __ldg(dt_proj + d);
        for (int r = 0; r < p.rank; ++r)
            sum = fmaf(f.shared[p.shared.dt + r], __ldg(dt_proj + (1 + r) * p.inner + d), sum);
        return softplus(sum);
    }
};

}  // namespace
}  // namespace metst::cuda
