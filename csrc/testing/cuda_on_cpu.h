// Runs a CUDA kernel source on the CPU, so that its indexing, barriers and shuffles are tested where there is no GPU.
// Compile the .cu file as C++ with METST_CUDA_ON_CPU defined; it launches through METST_LAUNCH and declares shared
// memory through METST_SHARED (csrc/cuda/launch.h), and is otherwise plain CUDA.
//
// A launch returns when the grid is done. Blocks run one after another; the threads of a block are fibers that switch
// at barriers and shuffles only; those of a cluster's blocks run together. A warp runs as far as it comes without the
// others. Blocks, warps and lanes take turns in ascending order, or, where METST_EMULATION_SEED is set, in an order that
// is drawn anew at every turn: what depends on it is a race, and shows as another result. A barrier that some thread
// misses ends the process with a message, and the address and undefined-behaviour sanitizers see every access to an
// array.
//
// Covered: 1-D to 3-D grids, clusters of blocks and the dynamic shared memory of each for all, shared memory (NaN when a
// block starts), asynchronous copies (done when they are waited for), __constant__, shuffles and sums over whole warps,
// 16-bit floats, fast divisions, atomicAdd, and of the run-time library what launchers and tests need. Shared and
// constant memory are static variables: launch from one host thread at a time.
#pragma once

#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <numeric>
#include <optional>
#include <random>
#include <utility>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

#ifndef METST_EMULATED_MULTIPROCESSORS
#define METST_EMULATED_MULTIPROCESSORS 132  // of the device that is emulated: an H100
#endif

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __constant__ static
#define METST_SHARED(type, name, ...)                                \
    static cuda_on_cpu::SharedArray<type __VA_ARGS__> name##_memory; \
    auto& name = name##_memory.array
#define METST_DYNAMIC_SHARED(type, name) \
    type* name = reinterpret_cast<type*>(cuda_on_cpu::dynamic_shared_of(cuda_on_cpu::rank_in_cluster()))
#define METST_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
    cuda_on_cpu::launch(grid, block, shared_bytes, stream, [&] { kernel(__VA_ARGS__); })
#define METST_ALLOW_SHARED(kernel, bytes) cuda_on_cpu::allowed_shared_bytes = (bytes)
#define METST_LAUNCH_CLUSTER(kernel, blocks_together, grid, block, shared_bytes, stream, ...) \
    cuda_on_cpu::launch(grid, block, shared_bytes, stream, [&] { kernel(__VA_ARGS__); }, blocks_together)

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
inline dim3 threadIdx, blockIdx, blockDim, gridDim;

struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

namespace cuda_on_cpu {

constexpr unsigned kWarpSize = 32;
constexpr std::size_t kStackBytes = 256 * 1024;

struct Barrier {
    unsigned expected = 0, arrived = 0, passed = 0;
    void pass_if_all_there() {
        if (arrived > 0 && arrived >= expected) arrived = 0, ++passed;
    }
};

struct Warp {
    Barrier barrier;
    std::uint64_t values[2][kWarpSize];  // what the lanes offer, alternately: the last exchange may still be being read
};

struct Fiber {
    std::unique_ptr<char[]> stack{new char[kStackBytes]};
    void* context[5];
    dim3 index, block;
    bool started, finished;
};

inline std::vector<Fiber> fibers;
inline std::vector<unsigned> warp_turns, lane_turns;  // who runs after whom
inline unsigned finished;
inline unsigned long progress;  // barriers that threads have come to, and threads that have finished
inline std::vector<Warp> warps;
inline std::vector<Barrier> block_barriers;  // of the blocks that run together
inline Barrier cluster_barrier;
inline unsigned threads, current, idle_switches;  // threads of a block; a fiber's number among those that run together
inline unsigned cluster = 1;                      // blocks that run together
inline std::size_t shared_quads;                  // of a block's dynamic shared memory
inline std::size_t allowed_shared_bytes;          // beyond what any kernel may have; of all kernels here
inline int most_shared_bytes = 227 * 1024;        // that may be allowed; a test may change it
inline void* scheduler[5];
inline std::function<void()> body;
inline std::vector<float4> dynamic_shared;
inline std::vector<std::pair<void*, std::size_t>> static_shared;  // every array that a kernel has declared so far
inline int multiprocessors = METST_EMULATED_MULTIPROCESSORS;      // a test may change it
inline int blocks_at_once = 2;                                    // on a multiprocessor, of any kernel; a test may, too
inline std::vector<unsigned> launched_blocks;                     // of each launch so far; a test may clear it

constexpr char kUndefined = '\xff';  // in every byte: NaN
template <class Array>
struct SharedArray {
    alignas(16) Array array;
    SharedArray() {
        std::memset(&array, kUndefined, sizeof(array));
        static_shared.emplace_back(&array, sizeof(array));
    }
};

// Draws the order in which threads and blocks take turns; a test may change it.
inline std::optional<std::mt19937> random_order = [] {
    const char* const seed = std::getenv("METST_EMULATION_SEED");
    return seed ? std::optional(std::mt19937(static_cast<unsigned>(std::atoi(seed)))) : std::nullopt;
}();

inline void draw_order(std::vector<unsigned>& order, unsigned count) {
    order.resize(count);
    std::iota(order.begin(), order.end(), 0u);
    if (random_order) std::shuffle(order.begin(), order.end(), *random_order);
}

// ASan must be told which stack runs. Null as `fake_stack` says that the present fiber ends.
inline void before_switch([[maybe_unused]] void** fake_stack, [[maybe_unused]] const void* bottom,
                          [[maybe_unused]] std::size_t size) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(fake_stack, bottom, size);
#endif
}
inline const void* scheduler_stack = nullptr;
inline std::size_t scheduler_stack_size = 0;
inline void after_switch([[maybe_unused]] void* fake_stack, [[maybe_unused]] bool from_scheduler) {
#if defined(__SANITIZE_ADDRESS__)
    const void* bottom;
    std::size_t size;
    __sanitizer_finish_switch_fiber(fake_stack, &bottom, &size);
    if (from_scheduler) scheduler_stack = bottom, scheduler_stack_size = size;
#endif
}

// The compiler's own jumps: the library's cost a system call each under ASan, which need not clean up behind these.
__attribute__((noinline, no_sanitize("address"))) inline void jump(void** to) { __builtin_longjmp(to, 1); }
__attribute__((noinline, no_sanitize("address"))) inline void switch_context(void** from, void** to) {
    if (__builtin_setjmp(from) == 0) jump(to);
}

inline unsigned rank_in_cluster() { return current / threads; }
inline float4* dynamic_shared_of(unsigned rank) { return dynamic_shared.data() + rank * shared_quads; }

// Lets the other threads of the block run.
inline void yield() {
    void* fake_stack = nullptr;
    before_switch(&fake_stack, scheduler_stack, scheduler_stack_size);
    switch_context(fibers[current].context, scheduler);
    after_switch(fake_stack, true);
}

inline void wait(Barrier& barrier) {
    const unsigned passed = barrier.passed;
    ++barrier.arrived, ++progress;
    barrier.pass_if_all_there();
    idle_switches = 0;
    while (barrier.passed == passed) {
        if (++idle_switches > 4 * threads * cluster) {
            std::fprintf(stderr, "cuda_on_cpu: not every thread of block (%u, %u, %u) reaches a barrier or shuffle\n",
                         blockIdx.x, blockIdx.y, blockIdx.z);
            std::abort();
        }
        yield();
    }
}

inline void fiber_main() {
    after_switch(nullptr, true);
    body();
    Fiber& fiber = fibers[current];
    fiber.finished = true;
    ++finished, ++progress;
    idle_switches = 0;
    Barrier& of_warp = warps[current / kWarpSize].barrier;
    Barrier& of_block = block_barriers[rank_in_cluster()];
    --of_warp.expected, --of_block.expected, --cluster_barrier.expected;  // who has returned is not waited for
    for (Barrier* barrier : {&of_warp, &of_block, &cluster_barrier}) barrier->pass_if_all_there();
    if (of_block.expected == 0) {  // its shared memory goes with a block: no other of the cluster may read it any more
        std::fill_n(reinterpret_cast<char*>(dynamic_shared_of(rank_in_cluster())), shared_quads * sizeof(float4),
                    kUndefined);
    }
    before_switch(nullptr, scheduler_stack, scheduler_stack_size);
    jump(scheduler);
}

__attribute__((noinline, no_sanitize("address"))) inline void start(Fiber& fiber) {
    ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = fiber.stack.get();
    context.uc_stack.ss_size = kStackBytes;
    context.uc_link = nullptr;
    makecontext(&context, fiber_main, 0);
    if (__builtin_setjmp(scheduler) == 0) setcontext(&context);
}

inline void resume(Fiber& fiber) {
    void* fake_stack = nullptr;
    threadIdx = fiber.index, blockIdx = fiber.block;
    before_switch(&fake_stack, fiber.stack.get(), kStackBytes);
    if (fiber.started) {
        switch_context(scheduler, fiber.context);
    } else {
        fiber.started = true;
        start(fiber);
    }
    after_switch(fake_stack, false);
}

// Runs a warp as far as it comes without the others.
inline void run_warp(unsigned warp) {
    const unsigned first = warp * kWarpSize, lanes = std::min(kWarpSize, threads * cluster - first);
    for (unsigned long before = ~0ul; before != progress;) {
        before = progress;
        draw_order(lane_turns, lanes);
        for (unsigned lane : lane_turns) {
            current = first + lane;
            if (!fibers[current].finished) resume(fibers[current]);
        }
    }
}

// Runs the blocks of a cluster, mostly one, from number `first` on.
inline void run_blocks(unsigned first) {
    const unsigned all = threads * cluster;
    block_barriers.assign(cluster, Barrier{});
    for (Barrier& barrier : block_barriers) barrier.expected = threads;
    cluster_barrier = Barrier{};
    cluster_barrier.expected = all;
    warps.assign((all + kWarpSize - 1) / kWarpSize, Warp{});
    for (unsigned i = 0; i < all; ++i) {
        ++warps[i / kWarpSize].barrier.expected;
        const unsigned thread = i % threads, block = first + i / threads;
        fibers[i].index = dim3(thread % blockDim.x, thread / blockDim.x % blockDim.y, thread / blockDim.x / blockDim.y);
        fibers[i].block = dim3(block % gridDim.x, block / gridDim.x % gridDim.y, block / gridDim.x / gridDim.y);
        fibers[i].started = fibers[i].finished = false;
    }
    for (const auto& [memory, bytes] : static_shared) std::memset(memory, kUndefined, bytes);
    std::fill_n(reinterpret_cast<char*>(dynamic_shared.data()), dynamic_shared.size() * sizeof(float4), kUndefined);
    idle_switches = finished = 0;
    while (finished < all) {
        draw_order(warp_turns, static_cast<unsigned>(warps.size()));
        // In a drawn order the other blocks of a cluster go as far as they come without the one that is held back.
        const unsigned held =
            random_order && cluster > 1 ? static_cast<unsigned>((*random_order)()) % cluster : cluster;
        const auto is_held = [&](unsigned warp) { return warp * kWarpSize / threads == held; };
        unsigned long before;
        do {
            before = progress;
            for (unsigned warp : warp_turns) {
                if (!is_held(warp)) run_warp(warp);
            }
        } while (held < cluster && before != progress);
        for (unsigned warp : warp_turns) {
            if (is_held(warp)) run_warp(warp);
        }
    }
}

inline int last_error = 0;

inline std::size_t most_shared() {
    return std::max(48 * std::size_t{1024}, std::min(allowed_shared_bytes, std::size_t(most_shared_bytes)));
}

inline void launch(dim3 grid, dim3 block, std::size_t shared_bytes, const void*, std::function<void()> kernel,
                   unsigned blocks_together = 1) {
    threads = block.x * block.y * block.z;
    cluster = blocks_together;
    if (cluster == 0 || cluster > 8 || grid.x % cluster != 0 || (cluster > 1 && threads % kWarpSize != 0) ||
        threads == 0 || threads > 1024 || shared_bytes > most_shared() || grid.x == 0 || grid.x > 0x7fffffffu ||
        grid.y == 0 || grid.y > 65535 || grid.z == 0 || grid.z > 65535) {
        last_error = 9;  // cudaErrorInvalidConfiguration
        return;
    }
    if (fibers.size() < threads * cluster) fibers.resize(threads * cluster);
    shared_quads = (shared_bytes + sizeof(float4) - 1) / sizeof(float4);
    dynamic_shared.resize(cluster * shared_quads);
    body = std::move(kernel);
    gridDim = grid, blockDim = block;
    launched_blocks.push_back(grid.x * grid.y * grid.z);
    std::vector<unsigned> blocks;
    draw_order(blocks, launched_blocks.back() / cluster);
    for (unsigned number : blocks) run_blocks(number * cluster);
}

// What lane `source(lane)` of the warp offers; every lane of the warp that has not returned must take part.
template <class T, class Source>
T exchange(unsigned mask, T value, Source source) {
    static_assert(sizeof(T) <= sizeof(std::uint64_t), "a shuffle moves at most 8 bytes");
    Warp& warp = warps[current / kWarpSize];
    if (mask != 0xffffffffu) {
        std::fprintf(stderr, "cuda_on_cpu: only whole warps are emulated, not mask %08x\n", mask);
        std::abort();
    }
    const unsigned lane = current % kWarpSize;
    std::uint64_t (&values)[kWarpSize] = warp.values[warp.barrier.passed % 2];
    std::memcpy(&values[lane], &value, sizeof(T));
    wait(warp.barrier);
    std::memcpy(&value, &values[source(lane) % kWarpSize], sizeof(T));
    return value;
}

// Copies that a thread has begun are done when it waits for them and no sooner: what it does not wait for is missing.
inline std::vector<std::vector<std::pair<float4*, const float4*>>> copies;
inline void copy_later(float4* to, const float4* from) {
    if (copies.size() < fibers.size()) copies.resize(fibers.size());
    copies[current].emplace_back(to, from);
}
inline void copy_now() {
    if (current >= copies.size()) return;
    for (const auto& [to, from] : copies[current]) *to = *from;
    copies[current].clear();
}

}  // namespace cuda_on_cpu

inline void __syncthreads() { cuda_on_cpu::wait(cuda_on_cpu::block_barriers[cuda_on_cpu::rank_in_cluster()]); }
inline void __syncwarp(unsigned mask = 0xffffffffu) {
    cuda_on_cpu::exchange(mask, 0, [](unsigned lane) { return lane; });
}
template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
    const unsigned w = static_cast<unsigned>(width);
    return cuda_on_cpu::exchange(mask, value,
                                 [=](unsigned lane) { return lane / w * w + static_cast<unsigned>(source) % w; });
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32) {
    const unsigned w = static_cast<unsigned>(width);
    return cuda_on_cpu::exchange(mask, value, [=](unsigned lane) {
        const unsigned source = lane ^ static_cast<unsigned>(lanes);
        return source / w <= lane / w ? source : lane;
    });
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32) {
    const unsigned w = static_cast<unsigned>(width);
    return cuda_on_cpu::exchange(mask, value, [=](unsigned lane) { return lane % w + by < w ? lane + by : lane; });
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32) {
    const unsigned w = static_cast<unsigned>(width);
    return cuda_on_cpu::exchange(mask, value, [=](unsigned lane) { return lane % w >= by ? lane - by : lane; });
}
template <class T>
T __reduce_add_sync(unsigned mask, T value) {
    for (int lanes = 16; lanes > 0; lanes /= 2) value += __shfl_xor_sync(mask, value, lanes);
    return value;
}

template <class T>
T __ldg(const T* p) {
    return *p;
}
template <class T>
T atomicAdd(T* p, T value) {
    const T old = *p;
    *p += value;
    return old;
}

template <class To, class From>
To cuda_on_cpu_bits(From from) {
    static_assert(sizeof(To) == sizeof(From), "");
    To to;
    std::memcpy(&to, &from, sizeof(To));
    return to;
}
inline float __uint_as_float(unsigned bits) { return cuda_on_cpu_bits<float>(bits); }
inline unsigned __float_as_uint(float x) { return cuda_on_cpu_bits<unsigned>(x); }
inline double __dmul_rn(double x, double y) {
    const volatile double product = x * y;  // not to be fused with a sum
    return product;
}
inline double __dadd_rn(double x, double y) { return x + y; }
// As the hardware has it, by the reciprocal, which is subnormal and so 0 where y is large.
inline float __fdividef(float x, float y) {
    const float size = std::fabs(y);
    return size > 0x1p126f && size <= std::numeric_limits<float>::max() ? x * 0.0f : x / y;
}
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline float exp2f_flushed(float x) { return x < -126.0f ? 0.0f : std::exp2(x); }  // as nvcc -ftz=true has it
#define exp2f exp2f_flushed
using std::max;
using std::min;

struct __half {
    std::uint16_t bits;
};
struct __nv_bfloat16 {
    std::uint16_t bits;
};
inline __half __ushort_as_half(std::uint16_t bits) { return {bits}; }
inline float __half2float(__half half) {
    const std::uint32_t magnitude = half.bits & 0x7fffu;
    float x;
    if (magnitude >= 0x7c00u) {  // infinity, NaN
        x = __uint_as_float(0x7f800000u | (magnitude & 0x3ffu) << 13);
    } else if (magnitude < 0x400u) {  // zero, subnormal
        x = static_cast<float>(magnitude) * 0x1p-24f;
    } else {
        x = __uint_as_float((magnitude << 13) + ((127u - 15u) << 23));
    }
    return half.bits & 0x8000u ? -x : x;
}
inline __half __float2half_rn(float x) {
    const std::uint32_t sign = __float_as_uint(x) >> 16 & 0x8000u;
    const float a = std::fabs(x);
    std::uint32_t bits;
    if (std::isnan(x)) {
        bits = 0x7fffu;
    } else if (a >= 65520.0f) {
        bits = 0x7c00u;
    } else if (a < 0x1p-14f) {
        bits = static_cast<std::uint32_t>(std::nearbyint(a * 0x1p24f));
    } else {
        const std::uint32_t wide = __float_as_uint(a) - ((127u - 15u) << 23);
        bits = (wide + 0xfffu + (wide >> 13 & 1u)) >> 13;
    }
    return {static_cast<std::uint16_t>(sign | bits)};
}
inline __nv_bfloat16 __float2bfloat16_rn(float x) {
    const std::uint32_t wide = __float_as_uint(x);
    if (std::isnan(x)) return {0x7fff};
    return {static_cast<std::uint16_t>((wide + 0x7fffu + (wide >> 16 & 1u)) >> 16)};
}

// The run-time library: device memory is the heap, streams are ignored.
using cudaStream_t = struct CUstream_st*;
enum cudaError_t { cudaSuccess = 0, cudaErrorMemoryAllocation = 2, cudaErrorInvalidConfiguration = 9 };
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2, cudaMemcpyDeviceToDevice = 3 };
enum cudaDeviceAttr {
    cudaDevAttrMultiProcessorCount = 16,
    cudaDevAttrMaxSharedMemoryPerBlockOptin = 97,
    cudaDevAttrClusterLaunch = 120
};
inline cudaError_t cudaGetLastError() { return static_cast<cudaError_t>(std::exchange(cuda_on_cpu::last_error, 0)); }
inline cudaError_t cudaGetDevice(int* device) {
    *device = 0;
    return cudaSuccess;
}
inline cudaError_t cudaGetDeviceCount(int* count) {
    *count = 1;
    return cudaSuccess;
}
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
    *value = attribute == cudaDevAttrClusterLaunch                  ? 1
             : attribute == cudaDevAttrMaxSharedMemoryPerBlockOptin ? cuda_on_cpu::most_shared_bytes
                                                                    : cuda_on_cpu::multiprocessors;
    return cudaSuccess;
}
template <class Kernel>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, Kernel, int, std::size_t) {
    *blocks = cuda_on_cpu::blocks_at_once;
    return cudaSuccess;
}
inline cudaError_t cudaMalloc(void** p, std::size_t bytes) {
    *p = std::malloc(bytes);
    return *p || bytes == 0 ? cudaSuccess : cudaErrorMemoryAllocation;
}
inline cudaError_t cudaFree(void* p) {
    std::free(p);
    return cudaSuccess;
}
inline cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind) {
    if (bytes > 0) std::memcpy(to, from, bytes);
    return cudaSuccess;
}
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t) {
    return cudaMemcpy(to, from, bytes, kind);
}
inline cudaError_t cudaMemsetAsync(void* p, int value, std::size_t bytes, cudaStream_t) {
    if (bytes > 0) std::memset(p, value, bytes);
    return cudaSuccess;
}
inline cudaError_t cudaMemset(void* p, int value, std::size_t bytes) {
    return cudaMemsetAsync(p, value, bytes, nullptr);
}
template <class T>
cudaError_t cudaMemcpyToSymbol(T& symbol, const void* from, std::size_t bytes) {
    std::memcpy(&symbol, from, bytes);
    return cudaSuccess;
}
inline cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }
constexpr cudaStream_t cudaStreamPerThread = nullptr;
inline cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
inline const char* cudaGetErrorString(cudaError_t error) {
    if (error == cudaErrorInvalidConfiguration) return "invalid configuration";
    return error == cudaSuccess ? "no error" : "error";
}
