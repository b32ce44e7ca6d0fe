// From expansions to flow: the normal equations of a level, and the iterations that solve them.
//
// One iteration is one pass: box sums of the equations, the 2x2 solution, and at once the equations at the new flow,
// which need nothing but the pixel's own displacement. They go to another array than they came from, so nothing is
// sampled twice and tiles need no halo of samples; launches are the barriers between iterations.
//
// Tiles are 32 columns wide, a warp per row. The box sums of a tile are taken in two passes, down its columns and along
// its rows. A thread makes kSegment sums of 15 neighbours from the eight values that all of them share, sums of what
// lies before these and sums of what lies after: four additions a sum, and none that cancels what another one added.
#pragma once

#include "device.cuh"

namespace metst::cuda::roi_flow {
namespace {

constexpr int kRadius = kParameters.window / 2;
constexpr int kIterations = kParameters.iterations;
static_assert(kRadius == kHalo, "tiles are read with one halo");
constexpr int kSegment = kRadius + 1;  // sums that one thread makes
static_assert(kColumns % kSegment == 0 && kBlockRows % kSegment == 0 && kSpreadRows % kSegment == 0, "");

// What an iteration needs to know of a level.
struct View {
    int height, width, area;
    const float4 *anchor, *frame;
    const float *anchor_xy, *frame_xy, *border_x, *border_y;
};

__device__ inline View view_of(const Batch& b, const Lane& lane, const LevelSetup& level) {
    const std::size_t at = lane.pixels + static_cast<std::size_t>(level.at);
    return {level.height,
            level.width,
            level.area,
            b.anchor + at,
            b.expansion + at,
            b.anchor_xy + at,
            b.expansion_xy + at,
            lane.floats + level.border_x,
            lane.floats + level.border_y};
}

__device__ inline float* equations_of(const Batch& b, const Lane& lane, const LevelSetup& level, int which) {
    return b.equations[which] + kPlanes * (lane.pixels + static_cast<std::size_t>(level.at));
}

__device__ inline float4 between(float4 a, float4 b, float f) {
    return make_float4(fmaf(f, b.x - a.x, a.x), fmaf(f, b.y - a.y, a.y), fmaf(f, b.z - a.z, a.z),
                       fmaf(f, b.w - a.w, a.w));
}
__device__ inline float between(float a, float b, float f) { return fmaf(f, b - a, a); }

// One pixel's normal equations, where the flow is (dx, dy).
__device__ inline void write_equations(const View& v, int y, int x, float dx, float dy, float* out) {
    // Rounded to float before anything else, as OpenCV does: it decides what lies outside. NaN does.
    const float to_x = static_cast<float>(x) + dx, to_y = static_cast<float>(y) + dy;
    const float floor_x = floorf(to_x), floor_y = floorf(to_y);
    const float corner_x = fmaxf(fminf(static_cast<float>(v.width - 2), floor_x), 0.0f);
    const float corner_y = fmaxf(fminf(static_cast<float>(v.height - 2), floor_y), 0.0f);
    const int pixel = y * v.width + x;
    const float4 reference = v.anchor[pixel];
    const float reference_xy = v.anchor_xy[pixel];
    // Outside a pixel has only its own equation: no gradient to compare with, its own curvature.
    float4 sample = make_float4(0.0f, 0.0f, reference.z, reference.w);
    float sample_xy = reference_xy;
    if (floor_x == corner_x && floor_y == corner_y) {
        const float fx = to_x - floor_x, fy = to_y - floor_y;
        const int corner = static_cast<int>(corner_y) * v.width + static_cast<int>(corner_x);
        const float4* const p = v.frame + corner;
        const float* const q = v.frame_xy + corner;
        sample = between(between(p[0], p[v.width], fy), between(p[1], p[v.width + 1], fy), fx);
        sample_xy = between(between(q[0], q[v.width], fy), between(q[1], q[v.width + 1], fy), fx);
    }
    // Curvature: the mean of both pictures'. Displacement: half the difference of the gradients. Both are halved in the
    // expansions.
    const float yy = reference.z + sample.z, xx = reference.w + sample.w, xy = reference_xy + sample_xy;
    const float ey = fmaf(yy, dy, fmaf(xy, dx, reference.x - sample.x));
    const float ex = fmaf(xy, dy, fmaf(xx, dx, reference.y - sample.y));
    const float border = v.border_x[x] * v.border_y[y];
    const float trust = border * border, square = xy * xy;
    out += pixel;
    out[0] = trust * fmaf(yy, yy, square);
    out[v.area] = trust * ((yy + xx) * xy);
    out[2 * v.area] = trust * fmaf(xx, xx, square);
    out[3 * v.area] = trust * fmaf(yy, ey, xy * ex);
    out[4 * v.area] = trust * fmaf(xy, ey, xx * ex);
}

// kSegment sums of 2 kRadius + 1 neighbours each, the first one of value(0) and its successors.
template <class Value>
__device__ inline void window_sums(Value value, float* sums) {
    float shared = 0.0f, after = 0.0f;
#pragma unroll
    for (int i = 0; i < kRadius; ++i) sums[i] = value(i);
#pragma unroll
    for (int i = kRadius - 2; i >= 0; --i) sums[i] += sums[i + 1];
#pragma unroll
    for (int i = kRadius; i <= 2 * kRadius; ++i) shared += value(i);
#pragma unroll
    for (int i = 0; i < kRadius; ++i) sums[i] += shared;
    sums[kRadius] = shared;
#pragma unroll
    for (int i = 1; i <= kRadius; ++i) {
        after += value(2 * kRadius + i);
        sums[i] += after;
    }
}

// The part of a level whose flow is asked for.
__device__ inline Rect needed_of(const PictureSetup& picture, int k) {
    if (k == 0) return picture.needed;
    return {0, picture.level[k].height, 0, picture.level[k].width};
}

// The part of a level that iteration `i` must improve, so that the last one has all it needs for `needed`.
__device__ inline Rect improved_at(const LevelSetup& level, const Rect& needed, int i) {
    const int by = (kIterations - 1 - i) * kRadius;
    return inside({needed.top - by, needed.bottom + by, needed.left - by, needed.right + by}, level.height,
                  level.width);
}

__device__ inline bool meets(const Rect& rect, int first_row, int rows, int first_column) {
    return first_row < rect.bottom && first_row + rows > rect.top && first_column < rect.right &&
           first_column + kColumns > rect.left;
}

__device__ inline bool within(const Rect& rect, int y, int x) {
    return y >= rect.top && y < rect.bottom && x >= rect.left && x < rect.right;
}

// Iteration `i` of a tile, but for the pixels outside `part`. Ends with a barrier: `memory` is free again.
template <int kRows>
__device__ void improve_tile(const Batch& b, const Lane& lane, const LevelSetup& level, const Rect& part, int i,
                             int first_row, int first_column, float (*memory)[kRows][kPitch]) {
    const int thread = static_cast<int>(threadIdx.x);
    const View v = view_of(b, lane, level);
    const float* const in = equations_of(b, lane, level, i % 2);
    for (int item = thread; item < kRows / kSegment * kPlanes * kSpan; item += kColumns * kRows) {
        const int column = item % kSpan, plane = item / kSpan % kPlanes;
        const int row = item / kSpan / kPlanes * kSegment, y = first_row + row - kRadius;
        if (y + kRadius >= v.height) break;
        const float* const values = in + plane * v.area + clamped(first_column - kHalo + column, 0, v.width - 1);
        float sums[kSegment];
        if (y >= 0 && y + 3 * kRadius < v.height) {  // one instruction per address instead of five
            const float* const first = values + y * v.width;
            window_sums([&](int k) { return first[k * v.width]; }, sums);
        } else {
            window_sums([&](int k) { return values[clamped(y + k, 0, v.height - 1) * v.width]; }, sums);
        }
#pragma unroll
        for (int k = 0; k < kSegment; ++k) memory[plane][row + k][column] = sums[k];
    }
    __syncthreads();
    constexpr int kPieces = kColumns / kSegment;  // of a row
    static_assert(kPieces * kPlanes <= kColumns, "one piece a thread");
    const bool sums_rows = thread < kPieces * kPlanes * kRows;
    float* const piece =
        memory[thread / kRows / kPieces % kPlanes][thread % kRows] + thread / kRows % kPieces * kSegment;
    float sums[kSegment] = {};
    if (sums_rows) window_sums([&](int k) { return piece[k]; }, sums);
    __syncthreads();
    if (sums_rows) {
#pragma unroll
        for (int k = 0; k < kSegment; ++k) piece[k] = sums[k];
    }
    __syncthreads();
    const int row = thread / kColumns, column = thread % kColumns, y = first_row + row, x = first_column + column;
    if (within(part, y, x)) {
        float g[kPlanes];
#pragma unroll
        for (int c = 0; c < kPlanes; ++c) g[c] = memory[c][row][column];
        // Never less than what was added, but for rounding: gradients of one direction leave nothing else of it.
        const float inverse = 1.0f / fmaxf(fmaf(-g[1], g[1], fmaf(g[0], g[2], b.regularisation)), b.regularisation);
        const float dx = fmaf(-g[1], g[3], g[0] * g[4]) * inverse;
        const float dy = fmaf(-g[1], g[4], g[2] * g[3]) * inverse;
        if (i + 1 < kIterations) {
            write_equations(v, y, x, dx, dy, equations_of(b, lane, level, (i + 1) % 2));
        } else {
            const std::size_t at = lane.pixels + static_cast<std::size_t>(level.at + y * v.width + x);
            b.dx[at] = dx;
            b.dy[at] = dy;
        }
    }
    __syncthreads();
}

// The equations at one pixel of level k before its first iteration: still at the top, else where the level above went.
__device__ inline void begin_pixel(const Batch& b, const Lane& lane, const PictureSetup& picture, int k, int y, int x) {
    const LevelSetup& level = picture.level[k];
    float flow[2] = {0.0f, 0.0f};
    if (k + 1 < picture.levels) {
        const LevelSetup& above = picture.level[k + 1];
        const float row_fraction = lane.floats[level.enlarge_row_fractions + y];
        const float column_fraction = lane.floats[level.enlarge_column_fractions + x];
        const std::size_t at =
            lane.pixels + static_cast<std::size_t>(above.at + lane.ints[level.enlarge_rows + y] * above.width +
                                                   lane.ints[level.enlarge_columns + x]);
#pragma unroll
        for (int c = 0; c < 2; ++c) {
            const float* const p = (c == 0 ? b.dx : b.dy) + at;
            const float left = b.enlarge_factor * between(p[0], p[above.width], row_fraction);
            const float right = b.enlarge_factor * between(p[1], p[above.width + 1], row_fraction);
            flow[c] = left + (right - left) * column_fraction;
        }
    }
    write_equations(view_of(b, lane, level), y, x, flow[0], flow[1], equations_of(b, lane, level, 0));
}

// Calls f(row, column) for the first pixel of every tile of a level; for the kernels with one block per picture.
template <class F>
__device__ void for_tiles(const LevelSetup& level, F f) {
    for (int row = 0; row < level.tiles_down; ++row) {
        for (int column = 0; column < level.tiles_across; ++column) f(row * kBlockRows, column * kColumns);
    }
}

// All iterations of one level by one block.
__device__ void solve_level(const Batch& b, const Lane& lane, const PictureSetup& picture, int k,
                            float (*memory)[kBlockRows][kPitch]) {
    const LevelSetup& level = picture.level[k];
    const int row = static_cast<int>(threadIdx.x) / kColumns, column = static_cast<int>(threadIdx.x) % kColumns;
    const Rect needed = needed_of(picture, k);
    const Rect first = improved_at(level, needed, -1);
    for_tiles(level, [&](int first_row, int first_column) {
        const int y = first_row + row, x = first_column + column;
        if (within(first, y, x)) begin_pixel(b, lane, picture, k, y, x);
    });
    __syncthreads();
    for (int i = 0; i < kIterations; ++i) {
        const Rect part = improved_at(level, needed, i);
        for_tiles(level, [&](int first_row, int first_column) {
            if (!meets(part, first_row, kBlockRows, first_column)) return;
            improve_tile<kBlockRows>(b, lane, level, part, i, first_row, first_column, memory);
        });
    }
}

}  // namespace
}  // namespace metst::cuda::roi_flow
