// The selective scan on the GPU. selective_scan_cuda.h says what it computes; this is how, and what bounds it.
//
// One thread holds kStates states of one channel (or of kPerThread) in registers, `kLanes` threads of a warp hold the
// whole channel, and a warp holds 32 / kLanes neighbouring channels, or kPerThread times as many (the channel is the
// fastest index within the warp, so that loads along D coalesce and the threads that read the same B and C lie side by
// side). A block takes kWarps such warps of one sequence through time together, in rounds of kRound steps:
//   - each thread loads u, delta and z of kRound / kLanes steps, one round ahead, and works out dt and dt u for them;
//     the other lanes of its channel read those two from shared memory;
//   - rows of B and C are staged in shared memory for the whole block, one tile ahead, as float32;
//   - each step leaves a partial h . C per lane. They stay in registers until the round ends and are then summed by a
//     transposing butterfly: kLanes - 1 shuffles for kLanes steps, after which each lane owns whole steps, the ones
//     whose u and z it still holds, and finishes them (skip, gate, rounding, store).
//
// Three ways, by the sizes and the number of multiprocessors:
//   short    few channels (B D lanes / 32 <= 12 warps per multiprocessor, which is what fits at once): one launch, N
//            spread over as many lanes as it has (16 or 32), 1 or 2 states each. Such a call is made of latencies:
//            launch, one trip to memory, then 21 instructions per step and warp.
//   whole    more channels, or N > 64: one launch, sequential in time, every byte moved once. 16 or 32 states per
//            thread where that makes 6 warps per multiprocessor (wide), else 4 (medium): compiled for sm_90 an update
//            of a state takes 10.4 instructions instead of 7.7, but there are four times as many warps. An H200 takes
//            1.41 ms wide and 1.54 medium for (16, 4096, 2048) with 16 states, 8 warps of the former.
//            With METST_SCAN_PAIRED a thread of the wide layout for 16 < N <= 64 holds 8 states of two channels instead
//            of 16 of one, so that what is read of B and C serves two: compiled for sm_90, 32 loads of 16 bytes from
//            shared memory in 8 steps instead of 64, at 14 shuffles instead of 6. Whether such loads hold it back at
//            all is to be measured (benchmarks/gpu, part paired).
//   chunked  L >= 512, fewer than 8192 threads if it were wide, and less than a warp per scheduler if medium: time is
//            cut into chunks. Pass 1 leaves each chunk's end state from a zero start and its sum of dt (the product of
//            its decays is exp(A sum dt)), pass 2 carries the state over the chunks, pass 3 runs each chunk from its
//            right start. It costs every exponential twice, so what fills the device already stays in one launch.
//
// Bounds on an H100 (132 multiprocessors, 1.755 GHz, 3.35 TB/s), counted. (An H200 copies 4.29 TB/s and takes 4.08e12
// exponentials a second, measured.) A step of a channel moves 16
// bytes in float32 (u, delta, z, y; B and C are shared by the channels): at best 2.1e11 steps per second. It takes N
// exponentials, of which a multiprocessor does 16 per cycle, all of them 3.7e12 per second: 5.8e10 steps per second
// for N = 64. So with N = 64 the exponentials, not memory, set the pace: at most 28 % of the memory's rate in float32
// and 14 % in 16-bit types, and (64, 8192, 2048) takes at least 18.5 ms where its bytes would take 5.2. A is arbitrary,
// so no exponential can be shared. Nor is there room to compute some on the multiply-add pipes: 8 instructions may
// issue in an exponential's time, and compiled for sm_90 an update of a state takes 7.7 (2.1 multiplies, 2.1
// multiply-adds, the exponential, 0.6 loads of B and C, the rest bookkeeping). With N = 16 it is 10.4 instructions, 167
// per step: 1.8e11 steps per second, 85 % of the memory's rate.
#include "metst/selective_scan_cuda.h"

#include <cfloat>
#include <climits>

#include "activations.cuh"
#include "launch.h"

namespace metst::cuda {
namespace {

constexpr int kWarpSize = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

constexpr std::int64_t kMaxStates = 256;
constexpr std::int64_t kChunkedLength = 512;  // shorter: two more launches cost more than they save
constexpr std::int64_t kFewThreads = 8192;    // of a wide launch; with more, no device gains by chunks
constexpr std::int64_t kManyThreads = 65536;  // what chunking aims at: four warps per scheduler
constexpr std::int64_t kShortestChunk = 64;
// Warps per multiprocessor, counted.
constexpr std::int64_t kShortWarps = 12;  // more do not fit at once
constexpr std::int64_t kWideWarps = 6;    // in blocks of 8: fewer leave too many multiprocessors without one
constexpr std::int64_t kWholeWarps = 4;   // of the medium layout: one per scheduler is as good as chunks

struct Job {
    int length, channels, states;
    int groups;  // blocks that cover the channels of one sequence
    int chunks;  // of the grid: all of them, less the last one in pass 1
    int chunk_length;
    Type delta_type;
    bool delta_softplus;
    const void *u, *delta, *B, *C, *z;
    const float *A, *D, *delta_bias, *h0;
    void* y;
    float* h;
    float* carry;   // (chunks, B, N, D)  pass 1: the end of each chunk at its successor's place; pass 2: each start
    float* sum_dt;  // (chunks - 1, B, D); both are null where there is one chunk
    int batch;
};

// How a channel is laid over threads. kTile is the number of rows of B and C staged at once.
template <int Lanes, int States, int Warps, int StepsPerLane, int Tile, int PerThread = 1>
struct Layout {
    static constexpr int kLanes = Lanes, kStates = States, kWarps = Warps, kStepsPerLane = StepsPerLane, kTile = Tile;
    static constexpr int kPerThread = PerThread;      // channels, each with as many states
    static constexpr int kApart = kWarpSize / Lanes;  // how far apart they are
    static constexpr int kPadded = Lanes * States;    // N, rounded up
    static constexpr int kThreads = Warps * kWarpSize;
    static constexpr int kWarpChannels = kApart * PerThread;
    static constexpr int kChannels = Warps * kWarpChannels;
    static constexpr int kRound = Lanes * StepsPerLane;
    static constexpr int kBurst = kRound < 8 ? kRound : 8;  // steps without a branch; a short round skips whole bursts
    static constexpr int kStaged = Tile * kPadded / kThreads;  // values of B, and of C, that a thread stages
    static constexpr int kRowsAtOnce = kThreads / kPadded;
    static_assert(Tile % kRound == 0 && kRound % kBurst == 0 && kThreads % kPadded == 0 && Tile % kRowsAtOnce == 0, "");
};

// A 16-bit or 32-bit float as loaded: converting later keeps the load in flight.
__device__ inline std::uint32_t load_bits(const void* array, std::size_t i, Type type) {
    if (type == Type::kFloat32) return __ldg(static_cast<const std::uint32_t*>(array) + i);
    return __ldg(static_cast<const std::uint16_t*>(array) + i);
}

__device__ inline float to_float(std::uint32_t bits, Type type) {
    if (type == Type::kFloat32) return __uint_as_float(bits);
    if (type == Type::kBFloat16) return __uint_as_float(bits << 16);
    return __half2float(__ushort_as_half(static_cast<std::uint16_t>(bits)));
}

__device__ inline void store(void* array, std::size_t i, float value, Type type) {
    if (type == Type::kFloat32) {
        static_cast<float*>(array)[i] = value;
    } else if (type == Type::kBFloat16) {
        static_cast<__nv_bfloat16*>(array)[i] = __float2bfloat16_rn(value);
    } else {
        static_cast<__half*>(array)[i] = __float2half_rn(value);
    }
}

// What dt is multiplied by for the decay 2^(dt rate); finite, so that dt = 0 decays nothing.
__device__ inline float decay_rate(float a) {
    const float rate = a * kLog2E;
    return rate < -FLT_MAX ? -FLT_MAX : rate > FLT_MAX ? FLT_MAX : rate;
}

// Sums p[0 .. kLanes) over the lanes of a channel; the lane of number k gets the sum of p[k].
template <class L, int kWidth = L::kLanes / 2>
__device__ inline float sum_transposed(float* p, int lane) {
    if constexpr (kWidth == 0) {
        return p[0];
    } else {
        const bool upper = (lane & kWidth) != 0;
#pragma unroll
        for (int k = 0; k < kWidth; ++k) {
            const float sent = upper ? p[k] : p[k + kWidth];
            const float kept = upper ? p[k + kWidth] : p[k];
            p[k] = kept + __shfl_xor_sync(kAllLanes, sent, kWidth * L::kApart);
        }
        return sum_transposed<L, kWidth / 2>(p, lane);
    }
}

// Blocks per multiprocessor to leave registers for; 0 leaves it to ptxas. Tried with CUDA 13.0: these spill nothing on
// sm_87, sm_90 and sm_110.
template <class L, bool kEndsOnly>
constexpr int kBlocksAtOnce = L::kStates * L::kPerThread > 16                  ? 1
                              : L::kStates * L::kPerThread == 16 && !kEndsOnly ? 0
                                                                               : 2;

// Pass 1 of the chunked way (kEndsOnly: the end state and the sum of dt, no y), its pass 3, or the whole scan.
template <Type kType, class L, bool kEndsOnly>
__global__ void __launch_bounds__(L::kThreads, kBlocksAtOnce<L, kEndsOnly>) scan(const Job job) {
    METST_SHARED(float, tile_B, [2][L::kTile][L::kPadded]);
    METST_SHARED(float, tile_C, [kEndsOnly ? 1 : 2][kEndsOnly ? 1 : L::kTile][L::kPadded]);
    METST_SHARED(float2, shared_steps, [L::kWarps][L::kRound][L::kWarpChannels]);

    const int thread = static_cast<int>(threadIdx.x);
    const int warp = thread / kWarpSize;
    const int lane = thread % kWarpSize / L::kApart;  // of the channel
    const int channel_of_warp = thread % L::kApart;   // this thread's first; the next ones kApart after each other

    const int block = static_cast<int>(blockIdx.x);
    const int chunk = block / job.groups % job.chunks;
    const int b = block / job.groups / job.chunks;
    const int d = block % job.groups * L::kChannels + warp * L::kWarpChannels + channel_of_warp;
    const auto live = [&](int c) { return d + c * L::kApart < job.channels; };
    const bool warp_live = d - channel_of_warp < job.channels;  // otherwise it only helps with B and C
    const int first = chunk * job.chunk_length;
    const int end = min(job.length, first + job.chunk_length);
    // B and C are staged as 0 from `end` to here: a burst reads them.
    const int burst_end = first + (end - first + L::kBurst - 1) / L::kBurst * L::kBurst;
    const std::size_t sequence = static_cast<std::size_t>(b) * static_cast<std::size_t>(job.length);
    const std::size_t row = static_cast<std::size_t>(job.channels);

    // u, delta and z of the round that starts at `t`: this thread's steps are t + lane, t + lane + kLanes, ...
    int live_end[L::kPerThread];
#pragma unroll
    for (int c = 0; c < L::kPerThread; ++c) live_end[c] = live(c) ? end : 0;
    const std::size_t lanes_apart = L::kLanes * row;
    std::uint32_t u_bits[L::kPerThread][L::kStepsPerLane], delta_bits[L::kPerThread][L::kStepsPerLane];
    std::uint32_t z_bits[L::kPerThread][L::kStepsPerLane];
    std::size_t load_at = (sequence + static_cast<std::size_t>(first + lane)) * row + static_cast<std::size_t>(d);
    std::size_t y_at = load_at;
    const auto load_round = [&](int t) {
#pragma unroll
        for (int i = 0; i < L::kStepsPerLane; ++i, load_at += lanes_apart) {
#pragma unroll
            for (int c = 0; c < L::kPerThread; ++c) {
                u_bits[c][i] = delta_bits[c][i] = z_bits[c][i] = 0;
                if (t + i * L::kLanes + lane >= live_end[c]) continue;
                const std::size_t at = load_at + static_cast<std::size_t>(c * L::kApart);
                u_bits[c][i] = load_bits(job.u, at, kType);
                delta_bits[c][i] = load_bits(job.delta, at, job.delta_type);
                if (!kEndsOnly && job.z) z_bits[c][i] = load_bits(job.z, at, kType);
            }
        }
    };

    // B and C of the tile that starts at `t`, in the order in which the block's threads share a tile.
    std::uint32_t B_bits[L::kStaged] = {}, C_bits[L::kStaged] = {};
    const int n_staged = thread % L::kPadded, row_staged = thread / L::kPadded;
    const int staged_end = n_staged < job.states ? end : 0;
    const std::size_t rows_apart = L::kRowsAtOnce * static_cast<std::size_t>(job.states);
    std::size_t tile_at =
        (sequence + static_cast<std::size_t>(first + row_staged)) * static_cast<std::size_t>(job.states) +
        static_cast<std::size_t>(n_staged);
    const auto load_tile = [&](int t) {
#pragma unroll
        for (int i = 0; i < L::kStaged; ++i, tile_at += rows_apart) {
            if (t + i * L::kRowsAtOnce >= burst_end) break;  // never in a tile that another one follows
            B_bits[i] = C_bits[i] = 0;
            if (t + i * L::kRowsAtOnce + row_staged >= staged_end) continue;
            B_bits[i] = load_bits(job.B, tile_at, kType);
            if (!kEndsOnly) C_bits[i] = load_bits(job.C, tile_at, kType);
        }
    };
    const auto store_tile = [&](int t, int buffer) {
#pragma unroll
        for (int i = 0; i < L::kStaged; ++i) {
            if (t + i * L::kRowsAtOnce >= burst_end) break;
            const int r = i * L::kRowsAtOnce + row_staged;
            tile_B[buffer][r][n_staged] = to_float(B_bits[i], kType);
            if constexpr (!kEndsOnly) tile_C[buffer][r][n_staged] = to_float(C_bits[i], kType);
        }
    };

    load_round(first);
    load_tile(first);

    // Where the states of a channel of this thread's begin in an array that ends in (D, N), and in one that ends in
    // (N, D).
    const int n0 = lane * L::kStates;
    const auto channel = [&](int c) { return static_cast<std::size_t>(d + c * L::kApart); };
    const std::size_t state_at =
        (static_cast<std::size_t>(b) * row + static_cast<std::size_t>(d)) * static_cast<std::size_t>(job.states) +
        static_cast<std::size_t>(n0);
    const std::size_t channels_apart = L::kApart * static_cast<std::size_t>(job.states);
    const auto carry_at = [&](int of_chunk, int c, int s) {
        const std::size_t sequences =
            static_cast<std::size_t>(of_chunk) * static_cast<std::size_t>(job.batch) + static_cast<std::size_t>(b);
        return (sequences * static_cast<std::size_t>(job.states) + static_cast<std::size_t>(n0 + s)) * row + channel(c);
    };

    float rate[L::kPerThread][L::kStates], h[L::kPerThread][L::kStates];
    float bias[L::kPerThread], skip[L::kPerThread], sum_dt[L::kPerThread];
#pragma unroll
    for (int c = 0; c < L::kPerThread; ++c) {
#pragma unroll
        for (int s = 0; s < L::kStates; ++s) {
            rate[c][s] = h[c][s] = 0.0f;  // a state that does not exist stays 0
            if (!live(c) || n0 + s >= job.states) continue;
            rate[c][s] =
                decay_rate(job.A[channel(c) * static_cast<std::size_t>(job.states) + static_cast<std::size_t>(n0 + s)]);
            if (kEndsOnly) continue;
            if (job.carry) {
                h[c][s] = job.carry[carry_at(chunk, c, s)];
            } else if (job.h0) {
                h[c][s] = job.h0[state_at + static_cast<std::size_t>(c) * channels_apart + static_cast<std::size_t>(s)];
            }
        }
        bias[c] = live(c) && job.delta_bias ? job.delta_bias[channel(c)] : 0.0f;
        skip[c] = live(c) && job.D ? job.D[channel(c)] : 0.0f;
        sum_dt[c] = 0.0f;
    }

    int buffer = 0;
    for (int tile = first; tile < end; tile += L::kTile, buffer ^= 1) {
        store_tile(tile, buffer);
        __syncthreads();  // also: no thread is still reading the tile before last, which the next one overwrites
        if (tile + L::kTile < end) load_tile(tile + L::kTile);

        for (int t = tile; warp_live && t < tile + L::kTile && t < end; t += L::kRound) {
            float u[L::kPerThread][L::kStepsPerLane], z[L::kPerThread][L::kStepsPerLane];
            float2 own[L::kPerThread][L::kStepsPerLane];  // dt and dt u
#pragma unroll
            for (int i = 0; i < L::kStepsPerLane; ++i) {
#pragma unroll
                for (int c = 0; c < L::kPerThread; ++c) {
                    u[c][i] = to_float(u_bits[c][i], kType);
                    z[c][i] = to_float(z_bits[c][i], kType);
                    float dt = to_float(delta_bits[c][i], job.delta_type) + bias[c];
                    if (job.delta_softplus) dt = softplus(dt);
                    // A step that does not exist leaves the state alone.
                    if (t + i * L::kLanes + lane >= end) dt = 0.0f;
                    own[c][i] = make_float2(dt, dt * u[c][i]);
                    if (kEndsOnly) sum_dt[c] += dt;
                    if constexpr (L::kLanes > 1) {
                        shared_steps[warp][i * L::kLanes + lane][channel_of_warp + c * L::kApart] = own[c][i];
                    }
                }
            }
            if constexpr (L::kLanes > 1) __syncwarp();
            if (t + L::kRound < end) load_round(t + L::kRound);

            float partial[L::kPerThread][L::kRound];
#pragma unroll
            for (int burst = 0; burst < L::kRound; burst += L::kBurst) {
                if (t + burst >= end) {
#pragma unroll
                    for (int j = burst; j < burst + L::kBurst; ++j) {
#pragma unroll
                        for (int c = 0; c < L::kPerThread; ++c) partial[c][j] = 0.0f;
                    }
                    continue;
                }
#pragma unroll
                for (int j = burst; j < burst + L::kBurst; ++j) {
                    float2 step[L::kPerThread];
                    float dot[L::kPerThread];
#pragma unroll
                    for (int c = 0; c < L::kPerThread; ++c) {
                        if constexpr (L::kLanes > 1) {
                            step[c] = shared_steps[warp][j][channel_of_warp + c * L::kApart];
                        } else {
                            step[c] = own[c][j];
                        }
                        dot[c] = 0.0f;
                    }
                    const int r = t - tile + j;
#pragma unroll
                    for (int s = 0; s < L::kStates; ++s) {
                        const float of_B = tile_B[buffer][r][n0 + s];
#pragma unroll
                        for (int c = 0; c < L::kPerThread; ++c) {
                            h[c][s] = fmaf(exp2f(step[c].x * rate[c][s]), h[c][s], step[c].y * of_B);
                            if constexpr (!kEndsOnly) dot[c] = fmaf(h[c][s], tile_C[buffer][r][n0 + s], dot[c]);
                        }
                    }
#pragma unroll
                    for (int c = 0; c < L::kPerThread; ++c) partial[c][j] = dot[c];
                }
            }
            if constexpr (L::kLanes > 1) __syncwarp();  // shared_steps has been read

            if constexpr (!kEndsOnly) {
#pragma unroll
                for (int i = 0; i < L::kStepsPerLane; ++i, y_at += lanes_apart) {
#pragma unroll
                    for (int c = 0; c < L::kPerThread; ++c) {
                        float y = fmaf(skip[c], u[c][i], sum_transposed<L>(partial[c] + i * L::kLanes, lane));
                        if (job.z) y *= silu(z[c][i]);
                        if (t + i * L::kLanes + lane >= live_end[c]) continue;
                        store(job.y, y_at + static_cast<std::size_t>(c * L::kApart), y, kType);
                    }
                }
            }
        }
    }

#pragma unroll
    for (int c = 0; c < L::kPerThread; ++c) {
        if constexpr (kEndsOnly) {
#pragma unroll
            for (int width = kWarpSize / 2; width >= L::kApart; width /= 2) {
                sum_dt[c] += __shfl_xor_sync(kAllLanes, sum_dt[c], width);
            }
            if (live(c) && lane == 0) {
                job.sum_dt[(static_cast<std::size_t>(chunk) * static_cast<std::size_t>(job.batch) +
                            static_cast<std::size_t>(b)) *
                               row +
                           channel(c)] = sum_dt[c];
            }
        }
        if (!live(c) || (!kEndsOnly && end < job.length)) continue;
#pragma unroll
        for (int s = 0; s < L::kStates; ++s) {
            if (n0 + s >= job.states) continue;
            if constexpr (kEndsOnly) {
                job.carry[carry_at(chunk + 1, c, s)] = h[c][s];
            } else {
                job.h[state_at + static_cast<std::size_t>(c) * channels_apart + static_cast<std::size_t>(s)] = h[c][s];
            }
        }
    }
}

// Pass 2: one thread per state walks the chunks. job.chunks counts them all.
constexpr int kCarryThreads = 128;
constexpr int kCarryBatch = 16;  // chunks

__global__ void __launch_bounds__(kCarryThreads) carry_over_chunks(const Job job) {
    const std::size_t row = static_cast<std::size_t>(job.channels), states = static_cast<std::size_t>(job.states);
    const std::size_t channels = static_cast<std::size_t>(job.batch) * row;
    const std::size_t i = static_cast<std::size_t>(blockIdx.x) * kCarryThreads + threadIdx.x;  // of (B, N, D)
    if (i >= channels * states) return;
    const std::size_t d = i % row, n = i / row % states, b = i / row / states;
    const float rate = decay_rate(job.A[d * states + n]);
    float h = job.h0 ? job.h0[(b * row + d) * states + n] : 0.0f;
    job.carry[i] = h;
    // Loads of a batch are all under way before the first of them is needed.
    for (int first = 1; first < job.chunks; first += kCarryBatch) {
        float dt[kCarryBatch], end[kCarryBatch];
#pragma unroll
        for (int k = 0; k < kCarryBatch; ++k) {
            dt[k] = end[k] = 0.0f;
            if (first + k >= job.chunks) continue;
            dt[k] = job.sum_dt[static_cast<std::size_t>(first + k - 1) * channels + b * row + d];
            end[k] = job.carry[static_cast<std::size_t>(first + k) * channels * states + i];
        }
#pragma unroll
        for (int k = 0; k < kCarryBatch; ++k) {
            h = fmaf(exp2f(dt[k] * rate), h, end[k]);
            if (first + k < job.chunks) job.carry[static_cast<std::size_t>(first + k) * channels * states + i] = h;
        }
    }
}

// N <= 16, 64 or 256, with few channels, more, and many. Above 64 states one layout serves all.
using Short16 = Layout<16, 1, 4, 1, 32>;
using Short64 = Layout<32, 2, 4, 1, 32>;
using Medium16 = Layout<4, 4, 4, 4, 32>;
using Medium64 = Layout<16, 4, 8, 1, 32>;
using Wide16 = Layout<1, 16, 8, 4, 16>;
#ifdef METST_SCAN_PAIRED
using Wide64 = Layout<8, 8, 8, 1, 16, 2>;
#else
using Wide64 = Layout<4, 16, 8, 2, 16>;
#endif
using Wide256 = Layout<8, 32, 8, 1, 8>;

std::int64_t short_lanes(std::int64_t states) { return states <= 16 ? Short16::kLanes : Short64::kLanes; }

std::int64_t medium_lanes(std::int64_t states) {
    return states <= 16 ? Medium16::kLanes : states <= 64 ? Medium64::kLanes : Wide256::kLanes;
}

std::int64_t wide_lanes(std::int64_t states) {
    return states <= 16 ? Wide16::kLanes : states <= 64 ? Wide64::kLanes / Wide64::kPerThread : Wide256::kLanes;
}

// The rule that tells chunked from the other two. Sizes only: a workspace may be asked for on another device.
struct Chunks {
    std::int64_t count, length;
};

Chunks cut_into_chunks(std::int64_t batch, std::int64_t length, std::int64_t channels, std::int64_t states) {
    const Chunks one{1, length};
    if (length < kChunkedLength || batch == 0 || channels == 0 || states == 0) return one;
    if (batch >= kFewThreads || channels >= kFewThreads) return one;  // so that the product below cannot overflow
    const std::int64_t threads = batch * channels * wide_lanes(states);
    if (threads >= kFewThreads) return one;
    const std::int64_t wanted = kManyThreads / threads;
    const std::int64_t even = (length + wanted - 1) / wanted;
    const std::int64_t whole = (even + kShortestChunk - 1) / kShortestChunk * kShortestChunk;
    const std::int64_t count = (length + whole - 1) / whole;
    return count > 1 ? Chunks{count, whole} : one;
}

bool too_large(const SelectiveScanArgs& a) {
    // Blocks are counted in an int, with at least Short64::kChannels channels each. Sizes below 2^30 leave room for
    // what the kernels add to them.
    return a.length >= INT_MAX / 2 || a.channels >= INT_MAX / 2 || a.batch >= INT_MAX / 2 ||
           (a.channels + Short64::kChannels - 1) / Short64::kChannels * a.batch > INT_MAX;
}

bool required_array_missing(const SelectiveScanArgs& a) {
    const bool channel_data = a.batch > 0 && a.length > 0 && a.channels > 0;
    const bool state_data = a.batch > 0 && a.length > 0 && a.states > 0;
    const bool state = a.batch > 0 && a.channels > 0 && a.states > 0;
    return (channel_data && (!a.u || !a.delta || !a.y)) || (state_data && (!a.B || !a.C)) || (state && (!a.A || !a.h));
}

bool known(Type type) { return type == Type::kFloat32 || type == Type::kFloat16 || type == Type::kBFloat16; }

Status launched() { return cudaGetLastError() == cudaSuccess ? Status::kOk : Status::kCudaError; }

template <Type kType, class L, bool kEndsOnly>
Status launch(Job job, int chunks, cudaStream_t stream) {
    job.groups = (job.channels + L::kChannels - 1) / L::kChannels;
    job.chunks = chunks;
    const auto blocks =
        static_cast<unsigned>(job.groups) * static_cast<unsigned>(chunks) * static_cast<unsigned>(job.batch);
    const auto kernel = scan<kType, L, kEndsOnly>;
    METST_LAUNCH(kernel, dim3(blocks), dim3(L::kThreads), 0, stream, job);
    return launched();
}

// In how many warps a launch is, at so many lanes a channel.
std::int64_t warps_of(const Job& job, int chunks, std::int64_t lanes) {
    return std::int64_t{job.batch} * job.channels * chunks * lanes / kWarpSize;
}

template <Type kType, bool kEndsOnly>
Status launch_filled(const Job& job, int chunks, int multiprocessors, cudaStream_t stream) {
    if (job.states > Wide64::kPadded) return launch<kType, Wide256, kEndsOnly>(job, chunks, stream);
    const bool wide = warps_of(job, chunks, wide_lanes(job.states)) >= kWideWarps * multiprocessors;
    if (job.states <= Wide16::kPadded) {
        return wide ? launch<kType, Wide16, kEndsOnly>(job, chunks, stream)
                    : launch<kType, Medium16, kEndsOnly>(job, chunks, stream);
    }
    return wide ? launch<kType, Wide64, kEndsOnly>(job, chunks, stream)
                : launch<kType, Medium64, kEndsOnly>(job, chunks, stream);
}

template <Type kType>
Status launch_chunked(Job job, int chunks, int multiprocessors, cudaStream_t stream) {
    const Status ends = launch_filled<kType, true>(job, chunks - 1, multiprocessors, stream);
    if (ends != Status::kOk) return ends;
    job.chunks = chunks;
    const std::int64_t states = std::int64_t{job.batch} * job.states * job.channels;
    const auto blocks = static_cast<unsigned>((states + kCarryThreads - 1) / kCarryThreads);
    METST_LAUNCH(carry_over_chunks, dim3(blocks), dim3(kCarryThreads), 0, stream, job);
    const Status carried = launched();
    return carried == Status::kOk ? launch_filled<kType, false>(job, chunks, multiprocessors, stream) : carried;
}

template <Type kType>
Status launch_whole(Job job, int multiprocessors, cudaStream_t stream) {
    job.chunk_length = job.length;
    job.carry = nullptr;
    if (job.states > Short64::kPadded || warps_of(job, 1, short_lanes(job.states)) > kShortWarps * multiprocessors) {
        return launch_filled<kType, false>(job, 1, multiprocessors, stream);
    }
    if (job.states <= Short16::kPadded) return launch<kType, Short16, false>(job, 1, stream);
    return launch<kType, Short64, false>(job, 1, stream);
}

template <Type kType>
Status run(const Job& job, int chunks, cudaStream_t stream) {
    int device = 0, multiprocessors = 0;
    if (cudaGetDevice(&device) != cudaSuccess ||
        cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device) != cudaSuccess) {
        return launched();
    }
    const bool chunked = chunks > 1 && warps_of(job, 1, medium_lanes(job.states)) < kWholeWarps * multiprocessors;
    return chunked ? launch_chunked<kType>(job, chunks, multiprocessors, stream)
                   : launch_whole<kType>(job, multiprocessors, stream);
}

}  // namespace

std::size_t selective_scan_workspace(std::int64_t batch, std::int64_t length, std::int64_t channels,
                                     std::int64_t states) noexcept {
    if (batch < 0 || length < 0 || channels < 0 || states < 0 || states > kMaxStates) return 0;
    if (length < kChunkedLength || batch == 0 || channels == 0 || states == 0) return 0;
    const std::int64_t lanes = wide_lanes(states);
    if (channels >= kFewThreads || channels * lanes >= kFewThreads) return 0;
    // Chunks of all channels of all sequences are kManyThreads / lanes at most.
    return static_cast<std::size_t>(kManyThreads / lanes * (states + 1)) * sizeof(float);
}

Status selective_scan(const SelectiveScanArgs& a, CUstream_st* stream) noexcept {
    if (a.batch < 0 || a.length < 0 || a.channels < 0 || a.states < 0 || a.states > kMaxStates) {
        return Status::kBadSize;
    }
    if (!known(a.type) || !known(a.delta_type)) return Status::kUnsupported;
    if (a.batch == 0 || a.channels == 0) return Status::kOk;
    if (too_large(a)) return Status::kUnsupported;
    if (required_array_missing(a)) return Status::kNullPointer;
    const Chunks chunks = cut_into_chunks(a.batch, a.length, a.channels, a.states);
    if (chunks.count > 1) {
        const std::int64_t floats = a.batch * a.channels * (chunks.count * a.states + chunks.count - 1);
        if (a.workspace_bytes < static_cast<std::size_t>(floats) * sizeof(float)) return Status::kWorkspaceTooSmall;
        if (!a.workspace) return Status::kNullPointer;
    }
    Job job{};
    job.batch = static_cast<int>(a.batch);
    job.length = static_cast<int>(a.length);
    job.channels = static_cast<int>(a.channels);
    job.states = static_cast<int>(a.states);
    job.chunk_length = static_cast<int>(chunks.length);
    job.delta_type = a.delta_type;
    job.delta_softplus = a.delta_softplus;
    job.u = a.u;
    job.delta = a.delta;
    job.B = a.B;
    job.C = a.C;
    job.z = a.z;
    job.A = a.A;
    job.D = a.D;
    job.delta_bias = a.delta_bias;
    job.h0 = a.h0;
    job.y = a.y;
    job.h = a.h;
    if (chunks.count > 1) {
        job.carry = static_cast<float*>(a.workspace);
        job.sum_dt = job.carry + chunks.count * a.batch * a.channels * a.states;
    }
    const int count = static_cast<int>(chunks.count);
    switch (a.type) {
        case Type::kFloat32: return run<Type::kFloat32>(job, count, stream);
        case Type::kFloat16: return run<Type::kFloat16>(job, count, stream);
        case Type::kBFloat16: return run<Type::kBFloat16>(job, count, stream);
    }
    return Status::kUnsupported;
}

}  // namespace metst::cuda
