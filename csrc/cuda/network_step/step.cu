// The fused step of network_step_cuda.h: all layers in one kernel, a block of threads for every lane or a cluster of eight
// of them, so that a layer waits for the one before at a barrier and not for another launch.
//
// A layer is a chain: norm, in_proj, the time convolution on what comes out of it, x_proj, scan, out_proj, norm and sum.
// What one link hands to the next lies in shared memory, weights come from the second-level cache and are read once, the
// state is read and written once. With dim 64 a layer reads 205 KB of weights and state, which one multiprocessor gets
// in 3,200 cycles: predicted from that and the trips to memory, 45 us a step on an H100 and on an Orin, 100 with dim
// 128. Nothing of it has been measured.
//
// In a cluster each block has an eighth of the inner channels: of in_proj's outputs, of the scan, and of the inputs of
// x_proj and out_proj, whose partial sums all blocks read from each other's shared memory. Two barriers of the cluster a
// layer; stem and norms are done by every block for itself. Predicted: 1.5 us a layer of dim 64, a third of the above.
//
// A linear map: 8, 16 or 32 lanes of a warp read a row together, four inputs each, several rows at once, and sum their
// products by shuffles that leave each row's sum with another lane. That lane goes on with it. A scan: some lanes hold
// the states of a channel, as many as give each of them up to eight.
#include <algorithm>

#include "activations.cuh"
#include "cluster.cuh"
#include "launch.h"
#include "metst/network_step_cuda.h"
#include "network_step/pack.h"
#include "network_step/plan.h"

namespace metst::cuda {
namespace {

using fused::kFrames;
using fused::Plan;

// Of a block. One of several that share a lane has few channels, and needs no more to keep loads under way.
template <int Blocks>
constexpr int kThreads = Blocks == 1 ? 1024 : 256;
constexpr int kWarpSize = 32;
constexpr unsigned kAllLanes = 0xffffffffu;
constexpr float kLayerNormEps = 1e-5f;  // torch's default, which the published networks use

thread_local cudaError_t last_error = cudaSuccess;

struct Job {
    Plan plan;
    NetworkStepBuffers at;
};

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

// What is at hand of a lane's step in one of its blocks. Each of several has a part of the inner channels, whole fours of
// them, and all of everything else.
template <int Blocks>
struct Frame {
    static constexpr int kSize = kThreads<Blocks>;

    const Plan& p;
    const float* weights;
    const float* state;
    float* next_state;
    float* shared;
    int rank;       // of the block
    int first_own;  // of its channels
    int own;        // how many

    // The stem's two convolutions -> x. Flags: does this frame, the one before, and the one before that begin a window?
    __device__ void stem(const float* features, bool now, bool one_ago, bool two_ago) const {
        for (int i = static_cast<int>(threadIdx.x); i < p.channels; i += kSize) {
            see(0, p.channels, i, features[i], one_ago, now);
        }
        __syncthreads();
        every_input<4>(weights + p.weight.stem[0], kFrames * p.channels, p.dim, shared + p.shared.seen[0],
                       [&](int o, float sum) {
                           const float newest = fmaxf(sum + __ldg(weights + p.weight.stem_bias[0] + o), 0.0f);
                           see(1, p.dim, o, newest, two_ago, one_ago);
                       });
        __syncthreads();
        every_input<4>(weights + p.weight.stem[1], kFrames * p.dim, p.dim, shared + p.shared.seen[1],
                       [&](int o, float sum) {
                           shared[p.shared.x + o] = fmaxf(sum + __ldg(weights + p.weight.stem_bias[1] + o), 0.0f);
                       });
        __syncthreads();
    }

    // A linear map of all of its inputs.
    template <int Rows, class Done>
    __device__ void every_input(const float* map, int inputs, int outputs, const float* x, Done&& done) const {
        const int width = quads_of(inputs);
        linear<kSize, Rows>(map, {0, width, width}, outputs, x, [](int o) { return o; }, done);
    }

    // A linear map of the inner channels. Of several blocks each works out its own channels' part of every output into
    // `part`, and once all have, sums the parts of all.
    template <int Rows, class Done>
    __device__ void inner_channels(const float* map, int outputs, const float* x, float* part, Done&& done) const {
        const Inputs in{first_own / 4, quads_of(own), quads_of(p.inner)};
        const auto row_of = [](int o) { return o; };
        if constexpr (Blocks == 1) {
            linear<kSize, Rows>(map, in, outputs, x, row_of, done);
        } else {
            linear<kSize, Rows>(map, in, outputs, x, row_of, [&](int o, float sum) { part[o] = sum; });
            sync_cluster();
            for (int o = static_cast<int>(threadIdx.x); o < outputs; o += kSize) {
                float sum = 0.0f;
#pragma unroll
                for (int other = 0; other < Blocks; ++other) sum += of_rank(part, other)[o];
                done(o, sum);
            }
        }
    }

    // Value i of the newest frame of a convolution's input: keeps it, and lays out the frames that are seen. Where the
    // frame before is the `first` of its window, the one before that belongs to another, and where the newest comes
    // `after_last`, so does that: both are the convolution's zero padding then.
    __device__ void see(int convolution, int inputs, int i, float newest, bool first, bool after_last) const {
        const float* const past = state + p.state.stem[convolution];
        float* const kept = next_state + p.state.stem[convolution];
        float* const seen = shared + p.shared.seen[convolution];
        const float one_ago = __ldg(past + i);
        seen[i] = first ? 0.0f : __ldg(past + inputs + i);
        seen[inputs + i] = one_ago;
        seen[2 * inputs + i] = after_last ? 0.0f : newest;
        if (rank > 0) return;
        kept[i] = newest;
        kept[inputs + i] = one_ago;
    }

    // x += norm(mamba(norm(x))) of all blocks, from a zero state where the frame `begins` a window.
    __device__ void blocks(bool begins) const {
        float* const x = shared + p.shared.x;
        const bool of_first_warp = threadIdx.x < kWarpSize;
        for (int i = 0; i < p.depth; ++i) {
            const float* const block = weights + p.weight.blocks + static_cast<std::ptrdiff_t>(i) * p.weight.block;
            const int of_state = p.state.blocks + i * p.state.block;
            if (of_first_warp) {
                norm(block + p.in_block.norm, p.dim, x, [&](int d, float y) { shared[p.shared.normed + d] = y; });
            }
            __syncthreads();
            project_in(block, of_state + p.state.taps, begins);
            __syncthreads();
            project_x(block);
            __syncthreads();
            scan(block, of_state + p.state.scan, begins);
            __syncthreads();
            float* const branch = shared + p.shared.branch;
            inner_channels<4>(block + p.in_block.out_proj, p.dim, shared + p.shared.y, shared + p.shared.part_of_branch,
                              [&](int o, float sum) { branch[o] = sum; });
            __syncthreads();
            if (of_first_warp) {
                norm(block + p.in_block.post_norm, p.dim, branch, [&](int d, float y) { x[d] += y; });
            }
        }
        __syncthreads();
    }

    // normed -> u, through the causal convolution with SiLU, and the gate.
    __device__ void project_in(const float* block, int taps_at, bool begins) const {
        const float* const conv = block + p.in_block.conv;
        const float* const past = state + taps_at;
        float* const kept = next_state + taps_at;
        const int width = quads_of(p.dim);
        const auto row_of = [&](int o) { return first_own + (o < own ? o : p.inner - own + o); };
        const auto done = [&](int o, float sum) {
            if (o >= own) {
                shared[p.shared.gate + first_own + o - own] = silu(sum);
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
            shared[p.shared.u + d] = silu(u);
        };
        linear<kSize, 4>(block + p.in_block.in_proj, {0, width, width}, 2 * own, shared + p.shared.normed, row_of,
                         done);
    }

    // u -> B, C and the factors of the time step.
    __device__ void project_x(const float* block) const {
        inner_channels<8>(block + p.in_block.x_proj, 2 * p.states + p.rank, shared + p.shared.u,
                          shared + p.shared.part_of_x, [&](int o, float sum) {
                              const int of = o / p.states;
                              const int at = of == 0 ? p.shared.b : of == 1 ? p.shared.c : p.shared.dt;
                              shared[at + o - min(of, 2) * p.states] = sum;
                          });
    }

    // One step of the selective scan -> y.
    __device__ void scan(const float* block, int scan_at, bool begins) const {
        const int width = quads_of(p.states);
        int lanes = 1;
        while (2 * lanes < width && lanes < kWarpSize) lanes *= 2;
        const int lane = static_cast<int>(threadIdx.x) % lanes;
        const float4* const B = reinterpret_cast<const float4*>(shared + p.shared.b);
        const float4* const C = reinterpret_cast<const float4*>(shared + p.shared.c);
        const float4* const rates = reinterpret_cast<const float4*>(block + p.in_block.rates);
        const float4* const past = reinterpret_cast<const float4*>(state + scan_at);
        float4* const kept = reinterpret_cast<float4*>(next_state + scan_at);
        const int end = first_own + own;
        for (int first = first_own; first < end; first += kSize / lanes) {
            const int d = first + static_cast<int>(threadIdx.x) / lanes;
            float y = 0.0f;
            if (d < end) {
                const float dt = time_step(block + p.in_block.dt_proj, d), dt_u = dt * shared[p.shared.u + d];
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
                y = fmaf(__ldg(block + p.in_block.skip + d), shared[p.shared.u + d], y);
                shared[p.shared.y + d] = y * shared[p.shared.gate + d];
            }
        }
    }

    __device__ float time_step(const float* dt_proj, int d) const {
        float sum = __ldg(dt_proj + d);
        for (int r = 0; r < p.rank; ++r)
            sum = fmaf(shared[p.shared.dt + r], __ldg(dt_proj + (1 + r) * p.inner + d), sum);
        return softplus(sum);
    }

    // x -> scores.
    __device__ void heads(float* spot, float* emotion) const {
        every_input<4>(weights + p.weight.heads, p.dim, 1 + p.classes, shared + p.shared.x, [&](int o, float sum) {
            const float score = sum + __ldg(weights + p.weight.heads_bias + o);
            if (o == 0) {
                *spot = 1.0f / (1.0f + exp2f(-score * kLog2E));
            } else {
                emotion[o - 1] = score;
            }
        });
    }
};

template <int Blocks>
__global__ void __launch_bounds__(kThreads<Blocks>, 1) step_lanes(const Job job) {
    METST_DYNAMIC_SHARED(float, shared);
    const Plan& p = job.plan;
    const int rank = static_cast<int>(blockIdx.x) % Blocks;
    const std::ptrdiff_t lane = static_cast<std::ptrdiff_t>(blockIdx.x) / Blocks;
    const float* const state = job.at.state + lane * p.state.total;
    float* const next_state = job.at.next_state + lane * p.state.total;
    const bool now = job.at.reset[lane] != 0.0f;
    const bool one_ago = state[p.state.resets] != 0.0f, two_ago = state[p.state.resets + 1] != 0.0f;
    for (int i = static_cast<int>(threadIdx.x); i < p.shared.total; i += kThreads<Blocks>) shared[i] = 0.0f;
    if (threadIdx.x == 0 && rank == 0) {
        next_state[p.state.resets] = now ? 1.0f : 0.0f;
        next_state[p.state.resets + 1] = one_ago ? 1.0f : 0.0f;
    }
    __syncthreads();
    const int share = Blocks == 1 ? p.inner : 4 * ((quads_of(p.inner) + Blocks - 1) / Blocks);
    const int first_own = Blocks == 1 ? 0 : min(rank * share, p.inner);
    const Frame<Blocks> frame{p,      job.at.weights, state,     next_state,
                              shared, rank,           first_own, min(share, p.inner - first_own)};
    frame.stem(job.at.features + lane * p.channels, now, one_ago, two_ago);
    frame.blocks(two_ago);
    if constexpr (Blocks > 1) sync_cluster();  // nobody leaves while others read its shared memory
    if (rank == 0) frame.heads(job.at.spot + lane, job.at.emotion + lane * p.classes);
}

NetworkStepStatus checked_plan(const MetstSizes& s, Plan* plan) {
    const bool positive = std::min({s.channels, s.dim, s.inner, s.states, s.conv, s.rank, s.classes}) >= 1;
    if (!positive || s.depth < 0) return NetworkStepStatus::kBadSize;
    return fused::make_plan(s, plan) ? NetworkStepStatus::kOk : NetworkStepStatus::kTooLarge;
}

}  // namespace

const char* last_network_step_error() noexcept { return cudaGetErrorString(last_error); }

NetworkStepStatus network_step_floats(const MetstSizes& sizes, NetworkStepFloats* out) noexcept {
    Plan plan;
    const NetworkStepStatus status = checked_plan(sizes, &plan);
    if (status == NetworkStepStatus::kOk) *out = {plan.weight.total, plan.state.total};
    return status;
}

NetworkStepStatus pack_network_step(const MetstSizes& sizes, const MetstWeights& weights, float* packed) noexcept {
    Plan plan;
    const NetworkStepStatus status = checked_plan(sizes, &plan);
    if (status == NetworkStepStatus::kOk) fused::pack(plan, weights, packed);
    return status;
}

NetworkStepStatus network_step(const MetstSizes& sizes, std::int64_t lanes, const NetworkStepBuffers& buffers,
                               CUstream_st* stream, int blocks) noexcept {
    constexpr std::int64_t kMostLanes = 65535;
    Job job{{}, buffers};
    const NetworkStepStatus status = checked_plan(sizes, &job.plan);
    if (status != NetworkStepStatus::kOk) return status;
    if (lanes < 1 || lanes > kMostLanes || (blocks != 1 && blocks != kClusterBlocks))
        return NetworkStepStatus::kBadSize;
    if (!buffers.weights || !buffers.features || !buffers.reset || !buffers.state || !buffers.next_state ||
        !buffers.spot || !buffers.emotion) {
        return NetworkStepStatus::kNullPointer;
    }
    const std::size_t bytes = static_cast<std::size_t>(job.plan.shared.total) * sizeof(float);
    const dim3 grid(static_cast<unsigned>(lanes * blocks));
    if (blocks == 1) {
        METST_LAUNCH(step_lanes<1>, grid, dim3(kThreads<1>), bytes, stream, job);
    } else {
        METST_LAUNCH_CLUSTER(step_lanes<kClusterBlocks>, kClusterBlocks, grid, dim3(kThreads<kClusterBlocks>), bytes,
                             stream, job);
    }
    const cudaError_t error = cudaGetLastError();
    if (error == cudaSuccess) return NetworkStepStatus::kOk;
    last_error = error;
    return NetworkStepStatus::kCudaError;
}

}  // namespace metst::cuda
