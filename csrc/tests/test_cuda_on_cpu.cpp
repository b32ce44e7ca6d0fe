// The emulation itself: what a kernel sees of its grid, memory, barriers and shuffles is what CUDA documents.
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <limits>
#include <optional>
#include <random>
#include <vector>

#include "cuda_on_cpu.h"
#include "expect.h"

namespace {

__constant__ int offset;

// Every thread writes its own number, by way of a neighbour's slot of dynamic shared memory.
__global__ void number_threads(int* out) {
    METST_DYNAMIC_SHARED(int, passed);
    const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
    const unsigned threads = blockDim.x * blockDim.y * blockDim.z;
    const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    passed[(thread + 1) % threads] = static_cast<int>(thread);
    __syncthreads();
    const unsigned from = static_cast<unsigned>(passed[thread]);
    out[block * threads + from] = static_cast<int>(block * threads + from) + offset;
}

void grids_and_blocks_have_three_dimensions() {
    const int ten = 10;
    cudaMemcpyToSymbol(offset, &ten, sizeof(ten));
    const dim3 grid(2, 3, 2), block(5, 4, 3);
    std::vector<int> out(12 * 60, -1);
    METST_LAUNCH(number_threads, grid, block, 60 * sizeof(int), nullptr, out.data());
    EXPECT(cudaGetLastError() == cudaSuccess, "launch");
    for (std::size_t i = 0; i < out.size(); ++i) EXPECT(out[i] == static_cast<int>(i) + 10, "%zu: %d", i, out[i]);
}

__global__ void shuffle(int* out) {
    const int lane = static_cast<int>(threadIdx.x % 32);
    int* row = out + threadIdx.x;
    const int threads = static_cast<int>(blockDim.x);
    row[0] = __shfl_sync(0xffffffffu, lane, 5);
    row[threads] = __shfl_sync(0xffffffffu, lane, 5, 8);
    row[2 * threads] = __shfl_xor_sync(0xffffffffu, lane, 3);
    row[3 * threads] = __shfl_down_sync(0xffffffffu, lane, 1u, 8);
    row[4 * threads] = __shfl_up_sync(0xffffffffu, lane, 2u);
    row[5 * threads] = __reduce_add_sync(0xffffffffu, lane);
}

void shuffles_move_values_within_their_width() {
    std::vector<int> out(6 * 64);
    METST_LAUNCH(shuffle, 1, 64, 0, nullptr, out.data());
    for (int thread = 0; thread < 64; ++thread) {
        const int lane = thread % 32;
        const int down = lane % 8 < 7 ? lane + 1 : lane, up = lane < 2 ? lane : lane - 2;
        const int expected[] = {5, lane / 8 * 8 + 5, lane ^ 3, down, up, 31 * 32 / 2};
        for (int i = 0; i < 6; ++i) {
            const int actual = out[static_cast<std::size_t>(i * 64 + thread)];
            EXPECT(actual == expected[i], "row %d lane %d: %d, not %d", i, lane, actual, expected[i]);
        }
    }
}

__global__ void read_what_nobody_wrote(float* out) {
    METST_SHARED(float, values, [2][32]);
    out[threadIdx.x] = values[1][threadIdx.x];
    values[1][threadIdx.x] = 0.0f;  // must not be there for the next block
}

void shared_memory_starts_as_nan_in_every_block() {
    std::vector<float> out(32);
    METST_LAUNCH(read_what_nobody_wrote, 2, 32, 0, nullptr, out.data());
    for (float x : out) EXPECT(std::isnan(x), "%g", x);
}

__global__ void some_threads_leave_early(int* out) {
    if (threadIdx.x % 2 == 1) return;
    __syncthreads();
    atomicAdd(out, 1);
}

__global__ void one_lane_waits_for_the_block_and_the_others_for_it() {
    if (threadIdx.x % 32 == 0) __syncthreads();
    __syncwarp();
}

template <class Kernel>
bool ends_the_process(Kernel kernel) {
    std::fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        if (!std::freopen("/dev/null", "w", stderr)) _exit(0);
        METST_LAUNCH(kernel, 1, 64, 0, nullptr);
        _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFSIGNALED(status);
}

void a_missed_barrier_ends_the_process_and_a_returned_thread_does_not() {
    int count = 0;
    METST_LAUNCH(some_threads_leave_early, 3, 64, 0, nullptr, &count);
    EXPECT(count == 96, "%d", count);
    EXPECT(ends_the_process(one_lane_waits_for_the_block_and_the_others_for_it), "two barriers, each missed by some");
}

// Thread 0 writes for all, and block 0 for all others, with no barrier before the others read.
__global__ void a_race(float* out, float* of_all_blocks) {
    METST_SHARED(float, value, [1]);
    if (threadIdx.x == 0) value[0] = 1.0f;
    if (threadIdx.x == 0 && blockIdx.x == 0) *of_all_blocks = 1.0f;
    out[2 * (blockIdx.x * blockDim.x + threadIdx.x)] = value[0];
    out[2 * (blockIdx.x * blockDim.x + threadIdx.x) + 1] = *of_all_blocks;
}

void races_show_when_the_order_is_drawn() {
    const auto before = cuda_on_cpu::random_order;
    for (bool drawn : {false, true}) {
        cuda_on_cpu::random_order = drawn ? std::optional(std::mt19937(1)) : std::nullopt;
        int between_threads = 0, between_blocks = 0;
        std::vector<float> out(2 * 8 * 64);
        float of_all_blocks = 0.0f;
        METST_LAUNCH(a_race, 8, 64, 0, nullptr, out.data(), &of_all_blocks);
        for (std::size_t i = 0; i < out.size(); i += 2) {
            between_threads += out[i] != 1.0f;
            between_blocks += out[i + 1] != 1.0f;
        }
        EXPECT((between_threads > 0) == drawn && (between_blocks > 0) == drawn, "drawn %d: %d, %d", drawn,
               between_threads, between_blocks);
    }
    cuda_on_cpu::random_order = before;
}

// Every block gives what its threads have summed to all blocks of its cluster.
__global__ void sum_over_the_cluster(int* out) {
    METST_DYNAMIC_SHARED(int, sum);
    const int block = static_cast<int>(blockIdx.x);
    if (threadIdx.x == 0) sum[0] = 0;
    __syncthreads();
    atomicAdd(&sum[0], block);
    cuda_on_cpu::wait(cuda_on_cpu::cluster_barrier);
    int of_all = 0;
    for (unsigned rank = 0; rank < 4; ++rank) of_all += *reinterpret_cast<int*>(cuda_on_cpu::dynamic_shared_of(rank));
    out[block * 64 + static_cast<int>(threadIdx.x)] = of_all;
    cuda_on_cpu::wait(cuda_on_cpu::cluster_barrier);
}

void blocks_of_a_cluster_run_together_and_see_each_others_shared_memory() {
    std::vector<int> out(12 * 64);
    METST_LAUNCH_CLUSTER(sum_over_the_cluster, 4, 12, 64, sizeof(int), nullptr, out.data());
    for (int i = 0; i < 12 * 64; ++i) {
        const int first = i / 64 / 4 * 4;
        EXPECT(out[static_cast<std::size_t>(i)] == 64 * (4 * first + 6), "%d: %d", i, out[static_cast<std::size_t>(i)]);
    }
    METST_LAUNCH_CLUSTER(sum_over_the_cluster, 4, 6, 64, sizeof(int), nullptr, out.data());
    EXPECT(cudaGetLastError() == cudaErrorInvalidConfiguration, "half a cluster");
}

void a_launch_that_cuda_refuses_is_refused() {
    int count = 0;
    METST_LAUNCH(some_threads_leave_early, 1, 1025, 0, nullptr, &count);
    EXPECT(cudaGetLastError() == cudaErrorInvalidConfiguration, "1025 threads");
    METST_LAUNCH(some_threads_leave_early, dim3(1, 65536), 32, 0, nullptr, &count);
    EXPECT(cudaGetLastError() == cudaErrorInvalidConfiguration, "65536 blocks in y");
    EXPECT(cudaGetLastError() == cudaSuccess && count == 0, "count %d", count);
}

// The definition of binary16: 5 bits of exponent, 10 of significand.
double half_value(int bits) {
    const int exponent = bits >> 10 & 31, significand = bits & 1023;
    const double x = exponent ? std::ldexp(1024 + significand, exponent - 25) : std::ldexp(significand, -24);
    return bits & 0x8000 ? -x : x;
}

void sixteen_bit_floats_convert_and_round_to_nearest_even() {
    for (int bits = 0; bits < 0x7c00; ++bits) {
        const float x = __half2float(__ushort_as_half(static_cast<std::uint16_t>(bits)));
        EXPECT(x == half_value(bits), "half %04x is %g", bits, x);
        EXPECT(__float2half_rn(-x).bits == (bits | 0x8000), "half %04x", bits);
        const double next = bits == 0x7bff ? 65536.0 : half_value(bits + 1), middle = (half_value(bits) + next) / 2;
        const int even = bits % 2 == 0 ? bits : bits + 1;
        EXPECT(__float2half_rn(static_cast<float>(middle)).bits == even, "middle above half %04x", bits);
        const float below = std::nextafter(static_cast<float>(middle), 0.0f);
        EXPECT(__float2half_rn(below).bits == bits, "just below the middle above half %04x", bits);
    }
    for (std::uint32_t bits = 0; bits < 0x7f80; ++bits) {
        const std::uint32_t wide = bits << 16, even = bits % 2 == 0 ? bits : bits + 1;
        EXPECT(__float2bfloat16_rn(__uint_as_float(wide)).bits == bits, "bfloat %04x", bits);
        EXPECT(__float2bfloat16_rn(__uint_as_float(wide + 0x8000u)).bits == even, "middle above bfloat %04x", bits);
        EXPECT(__float2bfloat16_rn(__uint_as_float(wide + 0x7fffu)).bits == bits, "below the middle, %04x", bits);
    }
    const float nan = std::numeric_limits<float>::quiet_NaN();
    EXPECT(std::isnan(__half2float(__float2half_rn(nan))), "NaN");
    EXPECT(std::isnan(__uint_as_float(std::uint32_t{__float2bfloat16_rn(nan).bits} << 16)), "NaN");
    EXPECT(std::isinf(__half2float(__float2half_rn(65520.0f))), "65520 rounds to infinity");
}

}  // namespace

int main() {
    grids_and_blocks_have_three_dimensions();
    shuffles_move_values_within_their_width();
    shared_memory_starts_as_nan_in_every_block();
    a_missed_barrier_ends_the_process_and_a_returned_thread_does_not();
    blocks_of_a_cluster_run_together_and_see_each_others_shared_memory();
    races_show_when_the_order_is_drawn();
    a_launch_that_cuda_refuses_is_refused();
    sixteen_bit_floats_convert_and_round_to_nearest_even();
    std::printf("%d failures\n", failures);
    return failures != 0;
}
