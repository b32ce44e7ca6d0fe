// From a frame to the expansions of its patches: crop, pyramid, polynomial expansion; and the thumbnail of the crop. A
// thread makes one pixel of a tile.
#pragma once

#include "device.cuh"

namespace metst::cuda::roi_flow {
namespace {

constexpr int kReach = kParameters.reach;
static_assert(kReach == kHalo, "tiles are read with one halo");

// OpenCV's tables for a part of the picture (CropAxis in csrc/cpu). A product and a sum in double that
// nvcc may not fuse: the CPU rounds twice.
__device__ inline CropTap crop_tap(int i, int length, bool stop) {
    const double scale = 1.0 / (static_cast<double>(RoiFlow::kCropSize) / length);
    const float at = static_cast<float>(__dadd_rn(__dmul_rn(i + 0.5, scale), -0.5));
    const float whole = floorf(at);
    const int first = static_cast<int>(whole);
    float rest = at - whole;
    if (stop && (first < 0 || first >= length - 1)) rest = 0.0f;
    return {clamped(first, 0, length - 1), clamped(first + 1, 0, length - 1),
            static_cast<int>(rintf((1.0f - rest) * 2048.0f)), static_cast<int>(rintf(rest * 2048.0f))};
}

__device__ void set_taps(const Batch& b, int lane, const Rect& visible) {
    CropTap* const taps = b.taps + static_cast<std::ptrdiff_t>(lane) * 2 * RoiFlow::kCropSize;
    for (int i = static_cast<int>(threadIdx.x); i < 2 * RoiFlow::kCropSize; i += static_cast<int>(blockDim.x)) {
        const bool column = i >= RoiFlow::kCropSize;
        taps[i] = column ? crop_tap(i - RoiFlow::kCropSize, visible.right - visible.left, true)
                         : crop_tap(i, visible.bottom - visible.top, false);
    }
}

// One pixel of the crop.
__device__ inline std::uint8_t cropped(const Batch& b, int lane, const Rect& visible, int y, int x) {
    const CropTap* const taps = b.taps + static_cast<std::ptrdiff_t>(lane) * 2 * RoiFlow::kCropSize;
    const CropTap row = taps[y], column = taps[RoiFlow::kCropSize + x];
    const std::uint8_t* const corner =
        b.caller.frame + static_cast<std::ptrdiff_t>(visible.top) * b.width + visible.left;
    const auto resized = [&](int of_row) {
        const std::uint8_t* const pixels = corner + static_cast<std::ptrdiff_t>(of_row) * b.width;
        return (pixels[column.at] * column.weight + pixels[column.next] * column.next_weight) >> 4;
    };
    const int upper = (resized(row.at) * row.weight) >> 16, lower = (resized(row.next) * row.next_weight) >> 16;
    return static_cast<std::uint8_t>((upper + lower + 2) >> 2);
}

// Crops this thread's pixel of a picture; is it another than the anchor's?
__device__ inline bool crop_pixel(const Batch& b, const Lane& lane, int index, const PictureSetup& picture,
                                  const Rect& visible, int y, int x, bool anchor) {
    const LevelSetup& full = picture.level[0];
    if (y >= full.height || x >= full.width) return false;
    const std::uint8_t value = cropped(b, index, visible, picture.rect.top + y, picture.rect.left + x);
    const std::size_t at = lane.pixels + static_cast<std::size_t>(full.at + y * full.width + x);
    b.crops[at] = value;
    if (anchor) b.anchor_crops[at] = value;
    return value != b.anchor_crops[at];
}

// Reflected at the border's centre.
__device__ inline int mirrored(int i, int length) {
    const int low = i < 0 ? -i : i;
    const int high = low >= length ? 2 * length - 2 - low : low;
    return clamped(high, 0, length - 1);
}

// This thread's pixel of a level: blurred, resized, 128 subtracted.
__device__ inline void smooth_pixel(const Batch& b, const Lane& lane, const PictureSetup& picture, int k, int y,
                                    int x) {
    const LevelSetup& level = picture.level[k];
    if (y >= level.height || x >= level.width) return;
    const int full_width = picture.level[0].width, taps = level.row_taps, radius = level.radius;
    const std::uint8_t* const pixels = b.crops + lane.pixels + picture.level[0].at;
    const int* const rows = lane.ints + level.rows + y * taps;
    const float* const weights = lane.floats + level.row_weights + y * taps;
    const float* const blur = lane.floats + level.column_weights;
    const auto vertical = [&](int column) {
        const std::uint8_t* const top = pixels + mirrored(column, full_width);
        float sum = -128.0f;
        for (int i = 0; i < taps; ++i) sum = fmaf(weights[i], static_cast<float>(top[rows[i] * full_width]), sum);
        return sum;
    };
    float out;
    if (k == 0) {
        out = blur[radius] * vertical(x);
        for (int i = 1; i <= radius; ++i) out = fmaf(blur[radius + i], vertical(x - i) + vertical(x + i), out);
    } else {
        const int first = lane.ints[level.columns + x] - radius;
        float left = 0.0f, right = 0.0f;
        for (int i = 0; i <= 2 * radius + 1; ++i) {
            const float value = vertical(first + i);
            if (i <= 2 * radius) left = fmaf(blur[i], value, left);
            if (i > 0) right = fmaf(blur[i - 1], value, right);
        }
        out = left + (right - left) * lane.floats[level.column_fractions + x];
    }
    b.smoothed[lane.pixels + static_cast<std::size_t>(level.at + y * level.width + x)] = out;
}

// A tile's expansion. Ends with a barrier: `memory` is free again.
template <int kRows>
__device__ void expand_tile(const Batch& b, const Lane& lane, const LevelSetup& level, bool anchor, int first_row,
                            int first_column, float (*memory)[kRows][kPitch]) {
    const int thread = static_cast<int>(threadIdx.x);
    const int height = level.height, width = level.width;
    const std::size_t at = lane.pixels + static_cast<std::size_t>(level.at);
    const float* const picture = b.smoothed + at;
    for (int i = thread; i < kRows * kSpan; i += kColumns * kRows) {
        const int row = i / kSpan, column = i - row * kSpan, y = first_row + row;
        if (y >= height) break;
        const float* const pixels = picture + clamped(first_column - kHalo + column, 0, width - 1);
        const float centre = pixels[y * width];
        float even = b.kernels.even[0] * centre, second = b.kernels.second[0] * centre, odd = 0.0f;
#pragma unroll
        for (int k = 1; k <= kReach; ++k) {
            const float up = pixels[(y > k ? y - k : 0) * width];
            const float down = pixels[(y + k < height ? y + k : height - 1) * width];
            even = fmaf(b.kernels.even[k], up + down, even);
            second = fmaf(b.kernels.second[k], up + down, second);
            odd = fmaf(b.kernels.odd[k], down - up, odd);
        }
        memory[0][row][column] = even;
        memory[1][row][column] = odd;
        memory[2][row][column] = second;
    }
    __syncthreads();
    const int row = thread / kColumns, column = thread % kColumns;
    const int y = first_row + row, x = first_column + column;
    if (y < height && x < width) {
        const float* const even = memory[0][row] + column + kHalo;
        const float* const odd = memory[1][row] + column + kHalo;
        const float* const second = memory[2][row] + column + kHalo;
        float dx = 0.0f, xy = 0.0f, dy = b.kernels.even[0] * odd[0];
        float xx = b.kernels.second[0] * even[0], yy = b.kernels.even[0] * second[0];
#pragma unroll
        for (int k = 1; k <= kReach; ++k) {
            xx = fmaf(b.kernels.second[k], even[-k] + even[k], xx);
            dx = fmaf(b.kernels.odd[k], even[k] - even[-k], dx);
            dy = fmaf(b.kernels.even[k], odd[-k] + odd[k], dy);
            xy = fmaf(b.kernels.odd[k], odd[k] - odd[-k], xy);
            yy = fmaf(b.kernels.even[k], second[-k] + second[k], yy);
        }
        const std::size_t pixel = at + static_cast<std::size_t>(y * width + x);
        (anchor ? b.anchor : b.expansion)[pixel] =
            make_float4(b.kernels.y * dy, b.kernels.x * dx, b.kernels.yy * yy, b.kernels.xx * xx);
        (anchor ? b.anchor_xy : b.expansion_xy)[pixel] = b.kernels.xy * xy;
    }
    __syncthreads();
}

// Means of the pixels of one row of a thumbnail's cells; a warp per cell.
__device__ void thumbnail_row(const Batch& b, const Rect& part, int i, float* out) {
    const int thread = static_cast<int>(threadIdx.x), warps = static_cast<int>(blockDim.x) / kWarpSize;
    const auto edge = [](int cell, int length) { return cell * length / kThumbnail; };
    const int height = part.bottom - part.top, width = part.right - part.left;
    const int top = edge(i, height), rows = max(edge(i + 1, height), top + 1) - top;
    for (int j = thread / kWarpSize; j < kThumbnail; j += warps) {
        const int left = edge(j, width), columns = max(edge(j + 1, width), left + 1) - left;
        const std::uint8_t* const pixels =
            b.caller.frame + static_cast<std::ptrdiff_t>(part.top + top) * b.width + part.left + left;
        unsigned sum = 0;
        for (int at = thread % kWarpSize; at < rows * columns; at += kWarpSize) {
            const int y = at / columns;
            sum += pixels[static_cast<std::ptrdiff_t>(y) * b.width + at - y * columns];
        }
        sum = __reduce_add_sync(kAllLanes, sum);
        if (thread % kWarpSize == 0) {
            out[i * kThumbnail + j] = static_cast<float>(sum) / static_cast<float>(rows * columns);
        }
    }
}

}  // namespace
}  // namespace metst::cuda::roi_flow
