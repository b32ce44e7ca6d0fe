// What run.py calls through ctypes: the scan as it is, the few kernels that a network's step needs between library
// matrix products and the scan, and two that measure the machine. A C interface; pointers are device memory, `stream`
// is a cudaStream_t. Every function enqueues one set of launches and returns 0, or what went wrong: a CUDA error, or a
// status of the scan.
//
// Compiles with a C++ compiler too (METST_CUDA_ON_CPU, csrc/testing/cuda_on_cpu.h), for tests without a GPU.
#include <cstddef>
#include <cstdint>

#include "launch.h"
#include "metst/selective_scan_cuda.h"

namespace {

constexpr int kWarpSize = 32;
constexpr int kThreads = 128;
constexpr unsigned kAllLanes = 0xffffffffu;
constexpr float kLog2E = 1.44269504088896341f;

unsigned blocks_for(std::int64_t items) { return static_cast<unsigned>((items + kThreads - 1) / kThreads); }

int launched() { return static_cast<int>(cudaGetLastError()); }

__device__ inline int item() { return static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x); }

// Chains of dependent exponentials, enough of them side by side that their latency does not show. 2^-x settles at 0.64.
constexpr int kChains = 8;

__global__ void __launch_bounds__(kThreads) exponentials(float* out, int rounds) {
    float x[kChains];
#pragma unroll
    for (int i = 0; i < kChains; ++i) x[i] = 0.1f * static_cast<float>(i) + 0.001f * static_cast<float>(threadIdx.x);
    for (int round = 0; round < rounds; ++round) {
#pragma unroll
        for (int i = 0; i < kChains; ++i) x[i] = exp2f(-x[i]);
    }
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < kChains; ++i) sum += x[i];
    out[item()] = sum;
}

__global__ void nothing() {}

// Windows of three frames for a convolution of the stem: `seen` moves on by the newest frame, whose negative values are
// cut where it is the output of a layer before. Frames of another window count as zero.
__global__ void __launch_bounds__(kThreads)
    stem_window(int lanes, int width, const float* newest, bool relu, const std::uint8_t* first,
                const std::uint8_t* after_last, float* seen, float* window) {
    const int i = item();
    if (i >= lanes * width) return;
    const int lane = i / width;
    const float one = seen[3 * i + 1], two = seen[3 * i + 2];
    const float three = relu ? fmaxf(newest[i], 0.0f) : newest[i];
    seen[3 * i] = one;
    seen[3 * i + 1] = two;
    seen[3 * i + 2] = three;
    window[3 * i] = first[lane] ? 0.0f : one;
    window[3 * i + 1] = two;
    window[3 * i + 2] = after_last[lane] ? 0.0f : three;
}

// Cuts negative values of x (lanes, dim) and empties the states (layers, lanes, state) of lanes that begin a window.
__global__ void __launch_bounds__(kThreads)
    begin(int lanes, int dim, float* x, const std::uint8_t* begins, float* states, int state, int layers) {
    const int i = item();
    if (i < lanes * dim) x[i] = fmaxf(x[i], 0.0f);
    if (i < layers * lanes * state && begins[i / state % lanes]) states[i] = 0.0f;
}

__device__ inline float sum_of_block(float value, float* shared) {
    const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
#pragma unroll
    for (int apart = kWarpSize / 2; apart > 0; apart /= 2) value += __shfl_xor_sync(kAllLanes, value, apart);
    __syncthreads();  // what was shared before has been read
    if (threadIdx.x % kWarpSize == 0) shared[warp] = value;
    __syncthreads();
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < kThreads / kWarpSize; ++i) sum += shared[i];
    return sum;
}

// x (lanes, dim) += norm(branch) where there is a branch; out = norm(x) where there is a place for it. One block a lane.
__global__ void __launch_bounds__(kThreads)
    norms(int dim, float epsilon, float* x, const float* branch, const float* branch_weight, const float* branch_bias,
          const float* weight, const float* bias, float* out) {
    METST_SHARED(float, shared, [kThreads / kWarpSize]);
    const std::size_t row = static_cast<std::size_t>(blockIdx.x) * static_cast<std::size_t>(dim);
    for (int pass = branch ? 0 : 1; pass < (out ? 2 : 1); ++pass) {
        const float* in = (pass == 0 ? branch : x) + row;
        float sum = 0.0f, squares = 0.0f;
        for (int i = static_cast<int>(threadIdx.x); i < dim; i += kThreads) sum += in[i];
        const float mean = sum_of_block(sum, shared) / static_cast<float>(dim);
        for (int i = static_cast<int>(threadIdx.x); i < dim; i += kThreads) {
            squares += (in[i] - mean) * (in[i] - mean);
        }
        const float variance = sum_of_block(squares, shared) / static_cast<float>(dim);
        const float scale = 1.0f / sqrtf(variance + epsilon);
        for (int i = static_cast<int>(threadIdx.x); i < dim; i += kThreads) {  // its own elements only, as above
            const float normal = (in[i] - mean) * scale;
            if (pass == 0) {
                x[row + static_cast<std::size_t>(i)] += normal * branch_weight[i] + branch_bias[i];
            } else {
                out[row + static_cast<std::size_t>(i)] = normal * weight[i] + bias[i];
            }
        }
    }
}

// Causal convolution over time and SiLU of the first half of both (lanes, 2 inner); the second half, the gate, is copied
// so that it is dense. seen (lanes, inner, taps - 1), weight (inner, taps), oldest first.
__global__ void __launch_bounds__(kThreads)
    causal_convolution(int lanes, int inner, int taps, const float* both, const float* weight, const float* bias,
                       float* seen, float* u, float* z) {
    const int i = item();
    if (i >= lanes * inner) return;
    const int lane = i / inner, channel = i % inner;
    const float newest = both[2 * lane * inner + channel];
    float* const past = seen + i * (taps - 1);
    float sum = bias[channel] + weight[channel * taps + taps - 1] * newest;
    for (int k = 0; k < taps - 1; ++k) {
        sum += weight[channel * taps + k] * past[k];
        past[k] = k + 1 < taps - 1 ? past[k + 1] : newest;
    }
    u[i] = sum / (1.0f + exp2f(-sum * kLog2E));
    z[i] = both[(2 * lane + 1) * inner + channel];
}

// Takes (lanes, rank + 2 states) apart: delta (lanes, inner) = the first `rank` columns times (rank, inner); B and C.
__global__ void __launch_bounds__(kThreads) split(int lanes, int inner, int rank, int states, const float* all,
                                                  const float* dt_weight, float* delta, float* B, float* C) {
    const int i = item();
    const int width = rank + 2 * states;
    if (i < lanes * inner) {
        const int lane = i / inner, channel = i % inner;
        float sum = 0.0f;
        for (int r = 0; r < rank; ++r) sum += all[lane * width + r] * dt_weight[r * inner + channel];
        delta[i] = sum;
    }
    if (i < lanes * states) {
        const int lane = i / states, n = i % states;
        B[i] = all[lane * width + rank + n];
        C[i] = all[lane * width + rank + states + n];
    }
}

}  // namespace

#define METST_API extern "C" __attribute__((visibility("default")))

METST_API std::size_t metst_scan_args_bytes() { return sizeof(metst::cuda::SelectiveScanArgs); }

METST_API std::size_t metst_scan_workspace(std::int64_t batch, std::int64_t length, std::int64_t channels,
                                           std::int64_t states) {
    return metst::cuda::selective_scan_workspace(batch, length, channels, states);
}

METST_API int metst_scan(const metst::cuda::SelectiveScanArgs* args, cudaStream_t stream) {
    return static_cast<int>(metst::cuda::selective_scan(*args, stream));
}

// `blocks` blocks of 128 threads take 8 exponentials each in every round. out: (128 blocks).
METST_API int metst_exponentials(float* out, int blocks, int rounds, cudaStream_t stream) {
    METST_LAUNCH(exponentials, dim3(static_cast<unsigned>(blocks)), dim3(kThreads), 0, stream, out, rounds);
    return launched();
}

METST_API int metst_nothing(cudaStream_t stream) {
    METST_LAUNCH(nothing, dim3(1), dim3(kWarpSize), 0, stream);
    return launched();
}

METST_API int metst_stem_window(int lanes, int width, const float* newest, int relu, const std::uint8_t* first,
                                const std::uint8_t* after_last, float* seen, float* window, cudaStream_t stream) {
    METST_LAUNCH(stem_window, dim3(blocks_for(lanes * width)), dim3(kThreads), 0, stream, lanes, width, newest,
                 relu != 0, first, after_last, seen, window);
    return launched();
}

METST_API int metst_begin(int lanes, int dim, float* x, const std::uint8_t* begins, float* states, int state,
                          int layers, cudaStream_t stream) {
    const std::int64_t values = std::int64_t{layers} * lanes * state, inputs = std::int64_t{lanes} * dim;
    METST_LAUNCH(begin, dim3(blocks_for(values > inputs ? values : inputs)), dim3(kThreads), 0, stream, lanes, dim, x,
                 begins, states, state, layers);
    return launched();
}

METST_API int metst_norms(int lanes, int dim, float epsilon, float* x, const float* branch, const float* branch_weight,
                          const float* branch_bias, const float* weight, const float* bias, float* out,
                          cudaStream_t stream) {
    METST_LAUNCH(norms, dim3(static_cast<unsigned>(lanes)), dim3(kThreads), 0, stream, dim, epsilon, x, branch,
                 branch_weight, branch_bias, weight, bias, out);
    return launched();
}

METST_API int metst_causal_convolution(int lanes, int inner, int taps, const float* both, const float* weight,
                                       const float* bias, float* seen, float* u, float* z, cudaStream_t stream) {
    METST_LAUNCH(causal_convolution, dim3(blocks_for(lanes * inner)), dim3(kThreads), 0, stream, lanes, inner, taps,
                 both, weight, bias, seen, u, z);
    return launched();
}

METST_API int metst_split(int lanes, int inner, int rank, int states, const float* all, const float* dt_weight,
                          float* delta, float* B, float* C, cudaStream_t stream) {
    const int most = inner > states ? inner : states;
    METST_LAUNCH(split, dim3(blocks_for(lanes * most)), dim3(kThreads), 0, stream, lanes, inner, rank, states, all,
                 dt_weight, delta, B, C);
    return launched();
}
