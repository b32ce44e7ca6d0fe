// From pixels to numbers, each by a whole block: the mean of a region's longest vectors, the correlation of two
// thumbnails.
#pragma once

#include "device.cuh"

namespace metst::cuda::roi_flow {
namespace {

// Block-wide sums; `memory` is one value per warp. Everybody gets the sum.
template <class T>
__device__ T block_sum(T value, T* memory) {
    for (int lanes = kWarpSize / 2; lanes > 0; lanes /= 2) value += __shfl_xor_sync(kAllLanes, value, lanes);
    const unsigned warps = blockDim.x / kWarpSize;
    if (threadIdx.x % kWarpSize == 0) memory[threadIdx.x / kWarpSize] = value;
    __syncthreads();
    T sum = 0;
    for (unsigned i = 0; i < warps; ++i) sum += memory[i];
    __syncthreads();
    return sum;
}

struct Reduction {
    int counts[8];
    double sums[kMaxWarps];
};

// Mean of the longest vectors of a part of a picture, by the whole block. The threshold is found by cutting the range
// of the floats' bits, which order like the floats, in eight, 11 times. Everybody gets the mean.
__device__ void longest_mean(const float* flow_x, const float* flow_y, int width, const RegionSetup& region,
                             Reduction& memory, double* mean) {
    constexpr int kCuts = 7;
    const int thread = static_cast<int>(threadIdx.x), warps = static_cast<int>(blockDim.x) / kWarpSize;
    const Rect rect = region.rect;
    const int n = (rect.bottom - rect.top) * (rect.right - rect.left);
    const auto for_vectors = [&](auto f) {
        for (int y = rect.top + thread / kWarpSize; y < rect.bottom; y += warps) {
            for (int x = rect.left + thread % kWarpSize; x < rect.right; x += kWarpSize) {
                const float dx = flow_x[y * width + x], dy = flow_y[y * width + x];
                f(dx, dy, static_cast<int>(__float_as_uint(fmaf(dx, dx, dy * dy))));
            }
        }
    };
    int low = -1, high = 0x7f800000;  // more than `count` lie above low, at most so many above high
    while (region.count < n && high - low > 1) {
        if (thread < kCuts) memory.counts[thread] = 0;
        __syncthreads();
        const int step = (high - low - 1) / (kCuts + 1) + 1;
        int above[kCuts] = {};
        for_vectors([&](float, float, int square) {
#pragma unroll
            for (int c = 0; c < kCuts; ++c) above[c] += square > low + (c + 1) * step;
        });
#pragma unroll
        for (int c = 0; c < kCuts; ++c) {
            const int of_warp = __reduce_add_sync(kAllLanes, above[c]);
            if (thread % kWarpSize == 0) atomicAdd(&memory.counts[c], of_warp);
        }
        __syncthreads();
        int cut = 0;
        while (cut < kCuts && memory.counts[cut] > region.count) ++cut;
        if (cut < kCuts) high = min(high, low + (cut + 1) * step);
        low += cut * step;
        __syncthreads();
    }
    const int threshold = region.count < n ? high : -1;
    float x = 0.0f, y = 0.0f, tied_x = 0.0f, tied_y = 0.0f;
    int above = 0, ties = 0;
    for_vectors([&](float dx, float dy, int square) {
        if (square > threshold) x += dx, y += dy, ++above;
        if (square == threshold) tied_x += dx, tied_y += dy, ++ties;
    });
    const double tie_count = block_sum(static_cast<double>(ties), memory.sums);
    const double missing = region.count - block_sum(static_cast<double>(above), memory.sums);
    // Of equally long vectors each counts the same share.
    const double share = tie_count > 0.0 ? missing / tie_count : 0.0;
    mean[0] = block_sum(static_cast<double>(x) + share * static_cast<double>(tied_x), memory.sums) / region.count;
    mean[1] = block_sum(static_cast<double>(y) + share * static_cast<double>(tied_y), memory.sums) / region.count;
}

__device__ void mean_of_region(const Batch& b, const Lane& lane, const PictureSetup& picture, const RegionSetup& region,
                               Reduction& memory, double* mean) {
    mean[0] = mean[1] = 0.0;
    if (region.count == 0) return;
    const std::size_t at = lane.pixels + static_cast<std::size_t>(picture.level[0].at);
    longest_mean(b.dx + at, b.dy + at, picture.level[0].width, region, memory, mean);
}

// The correlation of two thumbnails, from the means of their cells (thumbnail in csrc/cpu).
__device__ double correlation(const float* a, const float* b, double* memory) {
    const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
    const auto sum_over_cells = [&](auto f) {
        double sum = 0.0;
        for (int i = thread; i < kCells; i += threads) sum += f(i);
        return block_sum(sum, memory);
    };
    const float mean_a = static_cast<float>(sum_over_cells([&](int i) { return static_cast<double>(a[i]); }) / kCells);
    const float mean_b = static_cast<float>(sum_over_cells([&](int i) { return static_cast<double>(b[i]); }) / kCells);
    const auto product = [&](const float* p, float mean_p, const float* q, float mean_q) {
        return sum_over_cells(
            [&](int i) { return static_cast<double>(p[i] - mean_p) * static_cast<double>(q[i] - mean_q); });
    };
    const double length_a = sqrt(product(a, mean_a, a, mean_a)), length_b = sqrt(product(b, mean_b, b, mean_b));
    return product(a, mean_a, b, mean_b) / (fmax(length_a, 1e-6) * fmax(length_b, 1e-6));
}

}  // namespace
}  // namespace metst::cuda::roi_flow
