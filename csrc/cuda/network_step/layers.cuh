// The layers of the fused step, of which a network is a chain (networks.cuh); they know none.
//
// A linear map: 2 to 32 neighbouring lanes of a warp read a row together, four inputs each, several rows one after the
// other, and sum their products by shuffles that leave each row's sum with another lane. That lane goes on with it. A
// scan: some lanes hold the states of a channel. A layer norm is worked out by every warp for itself.
//
// Where several blocks of threads share a lane, each has a part of the inner channels of every Mamba block, whole fours
// of them, and all of everything else. Two barriers of the cluster a Mamba block: before each, all write their part of
// every output into the others' shared memory.
//
// Sizes that the compiler knows (known.h) make loops and divisions go away, a third of all instructions, and the blocks
// of a cluster then have their share of a Mamba block's weights and state copied into shared memory while they work on
// the one before.
//
// Included by step.cu alone; internal linkage.
#pragma once

#include "activations.cuh"
#include "async_copy.cuh"
#include "cluster.cuh"
#include "launch.h"
#include "network_step/known.h"
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

// Calls f(i) for every i from `first` below `end` in steps. How often does not depend on `first`, which is less than
// Step: where the compiler knows `end` there is no loop.
template <class F>
__device__ inline void for_steps(int first, int step, int end, F&& f) {
#pragma unroll
    for (int i = first, j = 0; j < end; i += step, j += step) {
        if (end % step == 0 || i < end) f(i);
    }
}

// How many lanes read a row of `width` times four inputs together: few, as long as no thread is left without a row.
__host__ __device__ constexpr int lanes_for(int threads, int width, int outputs) {
    int lanes = width >= 8 ? 8 : width >= 4 ? 4 : 2;
    while (lanes < kWarpSize && lanes < width && 2 * lanes * outputs <= threads) lanes *= 2;
    return lanes;
}

// Rows that lanes read one after the other before they sum: `most`, or fewer where that is known to do.
template <class Sizes>
__host__ __device__ constexpr int rows_for(int threads, int width, int outputs, int most) {
    if (!Sizes::kKnown) return most;
    int rows = 1;
    const int lanes = lanes_for(threads, width, outputs);
    while (rows < most && rows < lanes && rows * (threads / lanes) < outputs) rows *= 2;
    return rows;
}

// Calls done(o, sum) in one thread for every output o of a linear map. Input k of `width` times four is x(k), times
// weight(o, k); `lanes` read a row together, Rows one after the other, at most as many.
template <int Threads, int Rows, class X, class Weight, class Done>
__device__ inline void linear(int lanes, int width, int outputs, X&& x, Weight&& weight, Done&& done) {
    const int groups = Threads / lanes;
    const int group = static_cast<int>(threadIdx.x) / lanes, lane = static_cast<int>(threadIdx.x) % lanes;
    constexpr int kAtOnce = Rows < 4 ? Rows : 4;
    for (int first = 0; first < outputs; first += Rows * groups) {
        float sums[Rows] = {};
#pragma unroll 2  // as many loads under way as fit the registers
        for (int k = lane, j = 0; j < width; k += lanes, j += lanes) {
            if (width % lanes != 0 && k >= width) break;
            const float4 value = x(k);
#pragma unroll
            for (int some = 0; some < Rows; some += kAtOnce) {
                float4 row[kAtOnce];
#pragma unroll
                for (int r = 0; r < kAtOnce; ++r) {
                    const int o = first + (some + r) * groups + group;
                    row[r] = o < outputs ? weight(o, k) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
                }
#pragma unroll
                for (int r = 0; r < kAtOnce; ++r) sums[some + r] = dot(row[r], value, sums[some + r]);
            }
        }
        const float sum = sum_transposed<Rows>(sums, lanes, lane);
        const int o = first + lane / (lanes / Rows) * groups + group;
        if (lane % (lanes / Rows) == 0 && o < outputs) done(o, sum);
    }
}

// The mean of values, and one over their deviation, by every warp for itself. About the first value, so that one pass
// loses nothing. Done in every lane.
struct Spread {
    float mean, scale;
    __device__ float of(float x) const { return (x - mean) * scale; }
};
template <class Value>
__device__ inline Spread spread_of(int size, Value&& value) {
    const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
    const float first = value(0);
    float sum = 0.0f, squares = 0.0f;
    for_steps(lane, kWarpSize, size, [&](int i) {
        const float x = value(i) - first;
        sum += x;
        squares = fmaf(x, x, squares);
    });
#pragma unroll
    for (int mask = kWarpSize / 2; mask > 0; mask /= 2) {
        sum += __shfl_xor_sync(kAllLanes, sum, mask);
        squares += __shfl_xor_sync(kAllLanes, squares, mask);
    }
    const float over = 1.0f / static_cast<float>(size), mean = sum * over;
    return {first + mean, rsqrtf(fmaxf(squares * over - mean * mean, 0.0f) + kLayerNormEps)};
}

// What a block of threads has at hand of its lane's frame.
struct Frame {
    const float* weights;
    const float* state;
    float* next_state;
    float* shared;
    int rank;  // among the blocks of the lane
};

// Where Mamba blocks are copied to, one while the one before is worked on.
struct Stage {
    float* memory;
    int floats;  // of one of the two
    int fetched = 0, taken = 0;

    __device__ float* next() { return memory + fetched++ % 2 * floats; }
    __device__ float* take() { return memory + taken++ % 2 * floats; }
};

// A linear map of all of its inputs; outputs `first` to `end` of it.
template <class Team, class Done>
__device__ inline void every_input(const float* map, int inputs, int first, int end, const float* x, Done&& done) {
    const int width = quads_of(inputs), lanes = lanes_for(Team::kThreads, max(width, 4), end - first);
    const float4* const x4 = reinterpret_cast<const float4*>(x);
    const float4* const rows = reinterpret_cast<const float4*>(map) + first * width;
    linear<Team::kThreads, 4>(
        lanes, width, end - first, [=](int k) { return x4[k]; },
        [=](int o, int k) { return __ldg(rows + o * width + k); }, [&](int o, float sum) { done(first + o, sum); });
}

// Convolves the frames that are `seen`, with ReLU: done(o, value).
template <class Team, class Done>
__device__ inline void convolve(const float* map, const float* bias, int inputs, int outputs, const float* seen,
                                Done&& done) {
    every_input<Team>(map, kFrames * inputs, 0, outputs, seen,
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

// The stem's two convolutions of the lane's features (lanes, channels): done(o, value). Sizes: StemSizes. Flags: does
// this frame, the one before, and the one before that begin a window?
template <class Team, class Sizes, class Done>
__device__ inline void stem(const Frame& f, const fused::StemPlan& p, const float* features, std::ptrdiff_t lane,
                            bool now, bool one_ago, bool two_ago, Done&& done) {
    const int channels = Sizes::kKnown ? Sizes::kChannels : p.channels, dim = Sizes::kKnown ? Sizes::kDim : p.dim;
    for_steps(static_cast<int>(threadIdx.x), Team::kThreads, channels,
              [&](int i) { see(f, p.past[0], p.seen[0], channels, i, features[lane * channels + i], one_ago, now); });
    __syncthreads();
    convolve<Team>(f.weights + p.weight[0], f.weights + p.bias[0], channels, dim, f.shared + p.seen[0],
                   [&](int o, float value) { see(f, p.past[1], p.seen[1], dim, o, value, two_ago, one_ago); });
    __syncthreads();
    convolve<Team>(f.weights + p.weight[1], f.weights + p.bias[1], dim, dim, f.shared + p.seen[1], done);
    __syncthreads();
}

// x -> the scores that are rows `first` to `end` of the heads.
template <class Team>
__device__ inline void heads(const Frame& f, const fused::HeadsPlan& p, int first, int end, const float* x, float* spot,
                             float* emotion) {
    every_input<Team>(f.weights + p.weight, p.inputs, first, end, x, [&](int o, float sum) {
        const float score = sum + __ldg(f.weights + p.bias + o);
        if (o == 0) {
            *spot = 1.0f / (1.0f + exp2f(-score * kLog2E));
        } else {
            emotion[o - 1] = score;
        }
    });
}

// Mamba blocks of the same sizes, of one lane in one block of threads. Sizes: as known.h has them.
template <class Team, class Sizes>
struct MambaBlocks {
    static constexpr int kThreads = Team::kThreads, kBlocks = Team::kBlocks;
    static constexpr bool kStaged = fused::is_staged<Sizes, kBlocks>();
    using Share = fused::Share<Sizes, kBlocks>;

    const fused::BlockPlan& p;
    const Frame& f;
    int first_own;  // of the channels inside a Mamba block, those of this block of threads

    // Those of one block that are its own: in place, or in the stage.
    struct Weights {
        const float *norm, *in_proj, *gate_proj, *conv, *x_proj, *dt_proj, *rates, *skip, *out_proj, *post_norm;
        const float *taps, *scan;      // of the state
        float *next_taps, *next_scan;  // where the next is written; in the stage that is where this one was read
    };

    __device__ MambaBlocks(const fused::BlockPlan& plan, const Frame& frame) : p(plan), f(frame), first_own(0) {
        if constexpr (kBlocks > 1) first_own = min(f.rank * share(), inner());
    }

    __device__ int dim() const { return known(Sizes::kDim, p.dim); }
    __device__ int inner() const { return known(Sizes::kInner, p.inner); }
    __device__ int states() const { return known(Sizes::kStates, p.states); }
    __device__ int conv() const { return known(Sizes::kConv, p.conv); }
    __device__ int rank() const { return known(Sizes::kRank, p.rank); }
    __device__ static int known(int at_compile_time, int planned) { return Sizes::kKnown ? at_compile_time : planned; }
    // Of the inner channels: what a block has, all of them but in the last blocks.
    __device__ int share() const { return 4 * ((quads_of(inner()) + kBlocks - 1) / kBlocks); }
    __device__ int own() const {
        if constexpr (Sizes::kKnown) return Sizes::kInner / kBlocks;
        return kBlocks == 1 ? inner() : min(share(), inner() - first_own);
    }
    // From one row of inner channels to the next, and of the taps and factors of the time step.
    __device__ int stride() const { return kStaged ? own() : 4 * quads_of(inner()); }
    __device__ int tap_stride() const { return kStaged ? own() : inner(); }

    __device__ static float load(const float* from) {
        if constexpr (kStaged) return *from;
        return __ldg(from);
    }
    __device__ static float4 load4(const float* from) {
        if constexpr (kStaged) return *reinterpret_cast<const float4*>(from);
        return __ldg(reinterpret_cast<const float4*>(from));
    }

    __device__ const float* block_of(int weights_at, int i) const {
        return f.weights + weights_at + i * p.weight.total;
    }

    // Begins to copy a block's weights and state to where they are read next.
    __device__ void fetch(Stage& stage, int weights_at, int state_at, int i) const {
        if constexpr (kStaged) {
            constexpr int kOwn = Sizes::kInner / kBlocks;
            float* const to = stage.next();
            const float* const block = block_of(weights_at, i);
            const float* const state = f.state + state_at + i * p.state.total;
            const auto rows = [](float* to_rows, const float* from, int count, int floats, int from_stride) {
                const int width = floats / 4;
                for_steps(static_cast<int>(threadIdx.x), kThreads, count * width, [&](int q) {
                    copy_async(reinterpret_cast<float4*>(to_rows) + q,
                               reinterpret_cast<const float4*>(from + q / width * from_stride) + q % width);
                });
            };
            const auto row = [&](float* to_row, const float* from, int floats) { rows(to_row, from, 1, floats, 0); };
            constexpr int kGate = kOwn * Sizes::kDim;
            row(to + Share::kInProj, block + p.weight.in_proj + first_own * Sizes::kDim, kGate);
            row(to + Share::kInProj + kGate, block + p.weight.in_proj + (Sizes::kInner + first_own) * Sizes::kDim,
                kGate);
            row(to + Share::kScan, state + p.state.scan + first_own * Sizes::kStates, kOwn * Sizes::kStates);
            row(to + Share::kRates, block + p.weight.rates + first_own * Sizes::kStates, kOwn * Sizes::kStates);
            rows(to + Share::kXProj, block + p.weight.x_proj + first_own, 2 * Sizes::kStates + Sizes::kRank, kOwn,
                 Sizes::kInner);
            rows(to + Share::kOutProj, block + p.weight.out_proj + first_own, Sizes::kDim, kOwn, Sizes::kInner);
            rows(to + Share::kConv, block + p.weight.conv + first_own, 1 + Sizes::kConv, kOwn, Sizes::kInner);
            rows(to + Share::kDtProj, block + p.weight.dt_proj + first_own, 1 + Sizes::kRank, kOwn, Sizes::kInner);
            rows(to + Share::kTaps, state + p.state.taps + first_own, Sizes::kConv - 1, kOwn, Sizes::kInner);
            row(to + Share::kSkip, block + p.weight.skip + first_own, kOwn);
            row(to + Share::kNorm, block + p.weight.norm, 2 * Sizes::kDim);
            row(to + Share::kPostNorm, block + p.weight.post_norm, 2 * Sizes::kDim);
        }
    }

    __device__ Weights weights_of(Stage& stage, int weights_at, int state_at, int i) const {
        if constexpr (kStaged) {
            float* const at = stage.take();
            const float* const in_proj = at + Share::kInProj;
            return {at + Share::kNorm,       in_proj,
                    in_proj + own() * dim(), at + Share::kConv,
                    at + Share::kXProj,      at + Share::kDtProj,
                    at + Share::kRates,      at + Share::kSkip,
                    at + Share::kOutProj,    at + Share::kPostNorm,
                    at + Share::kTaps,       at + Share::kScan,
                    at + Share::kTaps,       at + Share::kScan};
        } else {
            const float* const at = block_of(weights_at, i);
            const int state = state_at + i * p.state.total;
            const float* const in_proj = at + p.weight.in_proj;
            const int row = 4 * quads_of(dim()), of_states = 4 * quads_of(states());
            return {at + p.weight.norm,
                    in_proj + first_own * row,
                    in_proj + (inner() + first_own) * row,
                    at + p.weight.conv + first_own,
                    at + p.weight.x_proj + first_own,
                    at + p.weight.dt_proj + first_own,
                    at + p.weight.rates + first_own * of_states,
                    at + p.weight.skip + first_own,
                    at + p.weight.out_proj + first_own,
                    at + p.weight.post_norm,
                    f.state + state + p.state.taps + first_own,
                    f.state + state + p.state.scan + first_own * of_states,
                    f.next_state + state + p.state.taps + first_own,
                    f.next_state + state + p.state.scan + first_own * of_states};
        }
    }

    // x += norm(mamba(norm(x))) of `count` blocks, the first behind these places, from a zero state where the frame
    // `begins` a window. All threads have written x before, and can read it then. The first block has been fetched;
    // fetch_next() fetches what comes behind the last.
    template <class Next>
    __device__ void run(int count, int weights_at, int state_at, bool begins, float* x, Stage& stage,
                        Next&& fetch_next) const {
        float* const branch = f.shared + p.shared.branch;
        float* const normed = f.shared + p.shared.normed;
        float *from = x, *to = f.shared + p.shared.other_x;
        const float* post_norm = nullptr;
        if constexpr (kStaged) {
            wait_for_copies();
            __syncthreads();
        }
        for (int i = 0; i < count; ++i) {
            const Weights w = weights_of(stage, weights_at, state_at, i);
            const Spread before = i == 0 ? Spread{} : spread_of(dim(), [&](int d) { return branch[d]; });
            const auto x_at = [&](int d) { return i == 0 ? from[d] : from[d] + normal(before, branch, post_norm, d); };
            const Spread now = spread_of(dim(), x_at);
            for_steps(static_cast<int>(threadIdx.x), kThreads, dim(), [&](int d) {
                const float value = x_at(d);
                to[d] = value;
                normed[d] = fmaf(now.of(value), load(w.norm + d), load(w.norm + dim() + d));
            });
            float* const read = from;  // this block's other threads may still be at it
            from = to;
            to = read;
            __syncthreads();
            project_in(w, begins);
            __syncthreads();
            if (i + 1 < count) {  // into what the block before had
                fetch(stage, weights_at, state_at, i + 1);
            } else {
                fetch_next();
            }
            project_x(w);
            scan(w, begins);
            __syncthreads();
            project_out(w);
            write_back(w, f.next_state + state_at + i * p.state.total);
            if constexpr (kStaged) wait_for_copies();
            __syncthreads();
            post_norm = w.post_norm;
        }
        if (count > 0) {
            const Spread last = spread_of(dim(), [&](int d) { return branch[d]; });
            for_steps(static_cast<int>(threadIdx.x), kThreads, dim(),
                      [&](int d) { x[d] = from[d] + normal(last, branch, post_norm, d); });
        }
        __syncthreads();
    }

    // The next state from the stage to where it belongs. Behind the second of a block's barriers of the cluster: the next
    // one, which waits for what has been written, is far.
    __device__ void write_back(const Weights& w, float* next_state) const {
        if constexpr (kStaged) {
            constexpr int kTaps = Sizes::kConv - 1, kWidth = Sizes::kInner / kBlocks / 4;
            const int thread = static_cast<int>(threadIdx.x);
            const float4* const scan4 = reinterpret_cast<const float4*>(w.next_scan);
            const float4* const taps4 = reinterpret_cast<const float4*>(w.next_taps);
            float4* const to_scan = reinterpret_cast<float4*>(next_state + p.state.scan + first_own * Sizes::kStates);
            float4* const to_taps = reinterpret_cast<float4*>(next_state + p.state.taps + first_own);
            for_steps(thread, kThreads, kWidth * Sizes::kStates, [&](int q) { to_scan[q] = scan4[q]; });
            for_steps(thread, kThreads, kTaps * kWidth,
                      [&](int q) { to_taps[q / kWidth * (Sizes::kInner / 4) + q % kWidth] = taps4[q]; });
        }
    }

    __device__ float normal(const Spread& spread, const float* values, const float* of_norm, int d) const {
        return fmaf(spread.of(values[d]), load(of_norm + d), load(of_norm + dim() + d));
    }

    // normed -> u, through the causal convolution with SiLU, and the gate.
    __device__ void project_in(const Weights& w, bool begins) const {
        constexpr int kRows = rows_for<Sizes>(kThreads, Sizes::kDim / 4, 2 * Sizes::kInner / kBlocks, 4);
        const int width = quads_of(dim()), mine = own(), step = tap_stride();
        const float4* const x4 = reinterpret_cast<const float4*>(f.shared + p.shared.normed);
        const auto weight = [&](int o, int k) {
            const float* const rows = kStaged || o < mine ? w.in_proj : w.gate_proj - mine * 4 * width;
            return load4(rows + 4 * (o * width + k));
        };
        const auto done = [&](int o, float sum) {
            if (o >= mine) {
                f.shared[p.shared.gate + first_own + o - mine] = silu(sum);
                return;
            }
            float u = fmaf(sum, load(w.conv + step + o), load(w.conv + o)), newer = sum;
            for (int age = 1; age < conv(); ++age) {
                const float older = begins ? 0.0f : load(w.taps + (age - 1) * step + o);
                u = fmaf(older, load(w.conv + (1 + age) * step + o), u);
                w.next_taps[(age - 1) * step + o] = newer;
                newer = older;
            }
            f.shared[p.shared.u + first_own + o] = silu(u);
        };
        linear<kThreads, kRows>(lanes_of(width, 2 * mine), width, 2 * mine, [=](int k) { return x4[k]; }, weight, done);
    }

    // u -> B, C and the factors of the time step. All threads can read them then.
    __device__ void project_x(const Weights& w) const {
        constexpr int kRows =
            rows_for<Sizes>(kThreads, Sizes::kInner / kBlocks / 4, 2 * Sizes::kStates + Sizes::kRank, 8);
        inner_channels<kRows>(w.x_proj, 2 * states() + rank(), p.shared.u, p.shared.parts_of_x, [&](int o, float sum) {
            const int of = o / states();
            const int at = of == 0 ? p.shared.b : of == 1 ? p.shared.c : p.shared.dt;
            f.shared[at + o - min(of, 2) * states()] = sum;
        });
        __syncthreads();
    }

    // y -> the branch.
    __device__ void project_out(const Weights& w) const {
        constexpr int kRows = rows_for<Sizes>(kThreads, Sizes::kInner / kBlocks / 4, Sizes::kDim, 4);
        inner_channels<kRows>(w.out_proj, dim(), p.shared.y, p.shared.parts_of_branch,
                              [&](int o, float sum) { f.shared[p.shared.branch + o] = sum; });
    }

    // A linear map of the inner channels. Of several blocks each works out its own channels' part of every output for
    // all, and once all have, sums the parts.
    template <int Rows, class Done>
    __device__ void inner_channels(const float* map, int outputs, int x_at, int parts_at, Done&& done) const {
        const int width = quads_of(own()), step = stride();
        const float4* const x4 = reinterpret_cast<const float4*>(f.shared + x_at + first_own);
        const auto x = [=](int k) { return x4[k]; };
        const auto weight = [=](int o, int k) { return load4(map + o * step + 4 * k); };
        const int lanes = lanes_of(width, outputs);
        if constexpr (kBlocks == 1) {
            linear<kThreads, Rows>(lanes, width, outputs, x, weight, done);
        } else {
            float* const parts = f.shared + parts_at;
            float* const part = parts + f.rank * outputs;
            linear<kThreads, Rows>(lanes, width, outputs, x, weight, [&](int o, float sum) {
#pragma unroll
                for (int other = 0; other < kBlocks; ++other) *of_rank(part + o, other) = sum;
            });
            sync_cluster();
            for_steps(static_cast<int>(threadIdx.x), kThreads, outputs, [&](int o) {
                float sum = 0.0f;
#pragma unroll
                for (int other = 0; other < kBlocks; ++other) sum += parts[other * outputs + o];
                done(o, sum);
            });
        }
    }

    __device__ static int lanes_of(int width, int outputs) {
        return lanes_for(kThreads, Sizes::kKnown ? width : max(width, 8), outputs);  // as many as rows, at least
    }

    // One step of the selective scan -> y.
    __device__ void scan(const Weights& w, bool begins) const {
        const int width = quads_of(states()), mine = own();
        const int lanes = lanes_for(kThreads, width, mine);
        const int lane = static_cast<int>(threadIdx.x) % lanes;
        const float4* const B = reinterpret_cast<const float4*>(f.shared + p.shared.b);
        const float4* const C = reinterpret_cast<const float4*>(f.shared + p.shared.c);
        float4* const kept = reinterpret_cast<float4*>(w.next_scan);
        for (int first = 0; first < mine; first += kThreads / lanes) {
            const int o = first + static_cast<int>(threadIdx.x) / lanes;
            float y = 0.0f;
            if (o < mine) {
                const float dt = time_step(w, o), dt_u = dt * f.shared[p.shared.u + first_own + o];
                for_steps(lane, lanes, width, [&](int n) {
                    const float4 rate = load4(w.rates + 4 * (o * width + n)), b = B[n];
                    float4 h = begins ? make_float4(0.0f, 0.0f, 0.0f, 0.0f) : load4(w.scan + 4 * (o * width + n));
                    h.x = fmaf(exp2f(dt * rate.x), h.x, dt_u * b.x);
                    h.y = fmaf(exp2f(dt * rate.y), h.y, dt_u * b.y);
                    h.z = fmaf(exp2f(dt * rate.z), h.z, dt_u * b.z);
                    h.w = fmaf(exp2f(dt * rate.w), h.w, dt_u * b.w);
                    kept[o * width + n] = h;
                    y = dot(h, C[n], y);
                });
            }
            y = sum_of(y, lanes);
            if (lane == 0 && o < mine) {
                const int d = first_own + o;
                y = fmaf(load(w.skip + o), f.shared[p.shared.u + d], y);
                f.shared[p.shared.y + d] = y * f.shared[p.shared.gate + d];
            }
        }
    }

    __device__ float time_step(const Weights& w, int o) const {
        float sum = load(w.dt_proj + o);
        for (int r = 0; r < rank(); ++r) {
            sum = fmaf(f.shared[p.shared.dt + r], load(w.dt_proj + (1 + r) * tap_stride() + o), sum);
        }
        return softplus(sum);
    }
};

}  // namespace
}  // namespace metst::cuda
