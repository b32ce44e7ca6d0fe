// From pixels to numbers, each by a whole block: the mean of a region's longest vectors, the correlation of two
// thumbnails.
//
// Sums over a block are in double, of which Orin and GeForce add two a cycle and multiprocessor: a warp adds its own by
// shuffles, one warp adds what the warps have, and one thread divides.
#pragma once

#include "device.cuh"

namespace metst::cuda::roi_flow {
namespace {

constexpr int kMaxSums = 3;  // at once

// The bits of a square, which order as the squares do, are cut into digits: the exponent, then 8, 8 and 7 bits.
constexpr int kDigits = 4;
constexpr int kBins = 256;
__host__ __device__ constexpr int digit_shift(int digit) { return digit < 3 ? 23 - 8 * digit : 0; }
__host__ __device__ constexpr int digit_bits(int digit) { return digit < 3 ? 8 : 7; }
constexpr int kBinsPerLane = kBins / kWarpSize;

struct Reduction {
    double of_warps[kMaxSums][kMaxWarps], means[kMaxSums];
    int histograms[kDigits][kBins];
    // Of the longest vectors that are still to be found: the bits that begin their squares, how many they are, how many
    // vectors begin so. At last all bits are known: of so many ties so many count, each `share` of its length.
    int threshold, missing, ties;
    float share;
};

template <class T>
__device__ T warp_sum(T value) {
    for (int lanes = kWarpSize / 2; lanes > 0; lanes /= 2) value += __shfl_xor_sync(kAllLanes, value, lanes);
    return value;
}

// The block's sums of each of the values, divided by `count`. Everybody gets them, in memory.means, until the next call.
template <int kCount>
__device__ void block_means(const double (&values)[kCount], int count, Reduction& memory) {
    static_assert(kCount <= kMaxSums, "");
    const int warp = static_cast<int>(threadIdx.x) / kWarpSize, lane = static_cast<int>(threadIdx.x) % kWarpSize;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
        const double of_warp = warp_sum(values[i]);
        if (lane == 0) memory.of_warps[i][warp] = of_warp;
    }
    __syncthreads();  // also: nobody still reads the means of the call before
    if (warp < kCount) {
        const int warps = static_cast<int>(blockDim.x) / kWarpSize;
        const double sum = warp_sum(lane < warps ? memory.of_warps[warp][lane] : 0.0);
        if (lane == 0) memory.means[warp] = sum / count;
    }
    __syncthreads();
}

// The vectors of a part of a picture in turn, one a thread: where they lie, and what they are in order.
class Vectors {
public:
    __device__ Vectors(const Rect& rect, int width) : rect_(rect), width_(width) {
        const int threads = static_cast<int>(blockDim.x), thread = static_cast<int>(threadIdx.x);
        across_ = rect.right - rect.left;
        count_ = (rect.bottom - rect.top) * across_;
        rows_ = threads / across_;
        columns_ = threads - rows_ * across_;
        row_ = thread / across_;
        column_ = thread - row_ * across_;
    }

    __device__ int count() const { return count_; }

    // Calls f(number, index) for each of this thread's: the number in the part, the index in the picture.
    template <class F>
    __device__ void each(F f) const {
        int row = row_, column = column_;
        for (int i = static_cast<int>(threadIdx.x); i < count_; i += static_cast<int>(blockDim.x)) {
            f(i, (rect_.top + row) * width_ + rect_.left + column);
            row += rows_;
            column += columns_;
            if (column >= across_) column -= across_, ++row;
        }
    }

private:
    Rect rect_;
    int width_, across_, count_, rows_, columns_, row_, column_;
};

// Takes the next digit off the search, by one warp: which bin of the histogram holds the vector that is the `missing`th
// longest of those counted in it.
template <int kDigit>
__device__ void find_digit(Reduction& memory) {
    constexpr int kShift = digit_shift(kDigit);
    const int lane = static_cast<int>(threadIdx.x);
    const int missing = memory.missing;
    const int* const bins = memory.histograms[kDigit] + lane * kBinsPerLane;
    int counts[kBinsPerLane], sum = 0;
#pragma unroll
    for (int i = 0; i < kBinsPerLane; ++i) sum += counts[i] = bins[i];
    int above = sum;  // of this lane's bins and all higher ones
    for (int lanes = 1; lanes < kWarpSize; lanes *= 2) {
        const int higher = __shfl_down_sync(kAllLanes, above, static_cast<unsigned>(lanes));
        if (lane + lanes < kWarpSize) above += higher;
    }
    above -= sum;
    __syncwarp();  // everybody has read what one lane now writes
    if (missing <= above || missing > above + sum) return;
#pragma unroll
    for (int i = kBinsPerLane - 1; i >= 0; --i) {
        if (missing > above && missing <= above + counts[i]) {
            memory.threshold |= (lane * kBinsPerLane + i) << kShift;
            memory.missing = missing - above;
            memory.ties = counts[i];
        }
        above += counts[i];
    }
}

// Counts the digits of the squares that begin with the digits found so far, and finds the next one.
template <int kDigit = 0, class Squares>
__device__ void find_digits(const Squares& for_squares, Reduction& memory) {
    if constexpr (kDigit < kDigits) {
        constexpr int kShift = digit_shift(kDigit), kBits = digit_bits(kDigit);
        const int found = memory.threshold >> (kShift + kBits);
        for_squares([&](int square) {
            if (square >> (kShift + kBits) != found) return;
            atomicAdd(&memory.histograms[kDigit][square >> kShift & ((1 << kBits) - 1)], 1);
        });
        __syncthreads();
        if (threadIdx.x < kWarpSize) find_digit<kDigit>(memory);
        __syncthreads();
        find_digits<kDigit + 1>(for_squares, memory);
    }
}

// Mean of the longest vectors of a part of a picture, by the whole block; everybody gets it, in memory.means. Of equally
// long ones each counts the same share. `held` is shared memory for so many squares; those that it has no room for are worked
// out anew for every digit.
__device__ void longest_mean(const float* flow_x, const float* flow_y, int width, const RegionSetup& region,
                             float* held, int room, Reduction& memory) {
    const int thread = static_cast<int>(threadIdx.x);
    const Vectors vectors(region.rect, width);
    const auto square_at = [&](int at) {
        const float dx = flow_x[at], dy = flow_y[at];
        return fmaf(dx, dx, dy * dy);
    };
    const auto bits_of = [&](int i, int at) {  // of this thread's own: no barrier is needed
        return static_cast<int>(__float_as_uint(i < room ? held[i] : square_at(at)));
    };
    const bool all = region.count >= vectors.count();
    if (!all) {
        for (int i = thread; i < kDigits * kBins; i += static_cast<int>(blockDim.x)) {
            memory.histograms[i / kBins][i % kBins] = 0;
        }
        if (thread == 0) memory.threshold = 0, memory.missing = region.count;
        vectors.each([&](int i, int at) {
            if (i < room) held[i] = square_at(at);
        });
        __syncthreads();
        find_digits([&](auto f) { vectors.each([&](int i, int at) { f(bits_of(i, at)); }); }, memory);
        if (thread == 0) memory.share = static_cast<float>(memory.missing) / static_cast<float>(memory.ties);
        __syncthreads();
    }
    const int threshold = all ? -1 : memory.threshold;
    const float share = all ? 0.0f : memory.share;
    float x = 0.0f, y = 0.0f, tied_x = 0.0f, tied_y = 0.0f;
    vectors.each([&](int i, int at) {
        const int square = all ? 0 : bits_of(i, at);
        if (square > threshold) x += flow_x[at], y += flow_y[at];
        if (square == threshold) tied_x += flow_x[at], tied_y += flow_y[at];
    });
    const double sums[2] = {static_cast<double>(fmaf(share, tied_x, x)), static_cast<double>(fmaf(share, tied_y, y))};
    block_means(sums, region.count, memory);
}

// Everybody gets it, in memory.means. The region has something to average.
__device__ void mean_of_region(const Batch& b, const Lane& lane, const PictureSetup& picture, const RegionSetup& region,
                               float* held, int room, Reduction& memory) {
    const std::size_t at = lane.pixels + static_cast<std::size_t>(picture.level[0].at);
    longest_mean(b.dx + at, b.dy + at, picture.level[0].width, region, held, room, memory);
}

// The correlation of two thumbnails, from the means of their cells (thumbnail in csrc/cpu). The first thread gets it.
__device__ double correlation(const float* a, const float* b, Reduction& memory) {
    const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
    float sum_a = 0.0f, sum_b = 0.0f;  // of two cells
    for (int i = thread; i < kCells; i += threads) sum_a += a[i], sum_b += b[i];
    const double sums[2] = {static_cast<double>(sum_a), static_cast<double>(sum_b)};
    block_means(sums, kCells, memory);
    const float mean_a = static_cast<float>(memory.means[0]), mean_b = static_cast<float>(memory.means[1]);
    float aa = 0.0f, bb = 0.0f, ab = 0.0f;
    for (int i = thread; i < kCells; i += threads) {
        const float of_a = a[i] - mean_a, of_b = b[i] - mean_b;
        aa = fmaf(of_a, of_a, aa);
        bb = fmaf(of_b, of_b, bb);
        ab = fmaf(of_a, of_b, ab);
    }
    const double products[3] = {static_cast<double>(aa), static_cast<double>(bb), static_cast<double>(ab)};
    block_means(products, kCells, memory);
    if (thread > 0) return 0.0;
    constexpr double kCount = kCells;
    const double length_a = sqrt(kCount * memory.means[0]), length_b = sqrt(kCount * memory.means[1]);
    return kCount * memory.means[2] / (fmax(length_a, 1e-6) * fmax(length_b, 1e-6));
}

}  // namespace
}  // namespace metst::cuda::roi_flow
