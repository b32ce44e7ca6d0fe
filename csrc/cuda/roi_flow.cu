// The ROI flow on the GPU. roi_flow_cuda.h says what it computes and csrc/cpu/roi_flow*.cpp by which arithmetic; this
// is how it is laid over a device, and what bounds it.
//
// A frame is 18 launches, whatever the lanes and patches:
//   follow    one block per lane: aligns the crop by the nose bridge, all rounds of it
//   crop      tiles of the patches, at full size; also the means of the thumbnail, one block per row of it
//   smooth    tiles of all levels of the patches' pyramids
//   expand    the same
//   coarse    one block per patch: all iterations of the levels below half size
//   begin     tiles at half size: the normal equations where the level above has gone, enlarged
//   improve   five of these, one per iteration, tiles at half size
//   begin, five of improve   the same at full size
//   finish    one block per region for its mean; one per lane for the likeness
// of which lanes that are not asked for take nothing but the launch.
//
// One improve is a whole iteration: box sums of the equations, the 2x2 solution, and at once the equations at the new
// flow, which need nothing but the pixel's own displacement. They go to another array than they came from, so nothing
// is sampled twice and tiles need no halo of samples; launches are the barriers between iterations.
//
// Tiles are 32 columns wide, a warp per row. The box sums of a tile are taken in two passes, down its columns and along
// its rows. A thread makes kSegment sums of 15 neighbours from the eight values that all of them share, sums of what
// lies before these and sums of what lies after: four additions a sum, and none that cancels what another one added.
//
// Why this split. One face of ME-TST+ has six patches, 30500 pixels in all, the mouth (77x183) with a half size level,
// and a nose bridge of 45x27: 68 tiles of 32x16 at full size. A pixel takes about 490 instructions per iteration
// (counted in the SASS of sm_90), so all iterations of two lanes are 5 million warp instructions: 6 us of an H100 (132
// multiprocessors, 4 instructions per cycle each, 1.755 GHz), 60 us of an AGX Orin (16, 1.3 GHz). An H100 is bound by
// latency alone. Counted, not measured:
//   - one block per patch throughout would be two launches, but the mouth is then 5 x 14100 x 490 / 32 = 1.1 million
//     instructions of one multiprocessor, 150 us at the very best, while ten times as many idle.
//   - spread over tiles, the 136 of two lanes are one wave: an iteration takes what one tile takes, 2000 cycles of
//     instructions and about as many of latency, 2.3 us, and a launch within a graph about 1 us. Six launches at full
//     size are 20 us; at half size as many, for 40 us in one block.
//   - the nose bridge is two tiles of a block of 1024 threads: nothing to spread. All it needs in one block is about
//     55000 cycles, 30 us per measurement, of which a frame has one or two, four at most. As launches, the rounds that
//     a frame does not need would still cost 10 launches each.
// Working memory is read from L2: 40 MB a frame, out of 6 MB that are in use.
#include "metst/roi_flow_cuda.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <new>
#include <type_traits>
#include <utility>
#include <vector>

#include "launch.h"
#include "rect.h"
#include "roi_flow_plan.h"

namespace metst::cuda {
namespace {

constexpr FarnebackParameters kParameters{};
constexpr int kRadius = kParameters.window / 2;
constexpr int kReach = kParameters.reach;
constexpr int kHalo = kRadius;
static_assert(kReach == kHalo, "tiles are read with one halo");
constexpr int kLevels = kParameters.levels + 1;
constexpr int kIterations = kParameters.iterations;

constexpr int kSpreadLevels = 2;  // the largest, solved tile by tile: coarser ones are rare and small

constexpr int kWarpSize = 32;
constexpr unsigned kAllLanes = 0xffffffffu;
constexpr int kColumns = 32;                    // of a tile
constexpr int kSpan = kColumns + 2 * kHalo;     // columns that a tile reads
constexpr int kPitch = kSpan + 1;               // odd: rows begin in different banks
constexpr int kSegment = kRadius + 1;           // sums that one thread makes
constexpr int kBlockRows = 32;                  // of a tile of the kernels with one block per lane or patch
constexpr int kSpreadRows = 16;                 // of the others
static_assert(kColumns % kSegment == 0 && kBlockRows % kSegment == 0 && kSpreadRows % kSegment == 0, "");
constexpr int kBlockThreads = kColumns * kBlockRows;
constexpr int kSpreadThreads = kColumns * kSpreadRows;
constexpr int kMaxWarps = kBlockThreads / kWarpSize;
constexpr int kBlendThreads = 2 * RoiFlowLayout::kMaxRegions;  // a lane's channels

constexpr int kNose = RoiFlowLayout::kMaxPatches;  // among the pictures of a lane
constexpr int kPictures = kNose + 1;
constexpr int kCells = kThumbnail * kThumbnail;

// One level of a picture. Tables are indices into the lane's ints and floats; `at` is its first pixel in the planes.
struct LevelSetup {
    int height, width, area, at;
    int tiles_down, tiles_across;  // of kBlockRows
    int row_taps, radius;
    int rows, columns, enlarge_rows, enlarge_columns;                         // ints
    int row_weights, column_weights, column_fractions;                        // floats
    int enlarge_row_fractions, enlarge_column_fractions, border_x, border_y;  // floats
};

struct PictureSetup {
    Rect rect;    // of the crop
    Rect needed;  // of the picture: around its regions
    int levels;   // 0 where it is empty
    int still;    // too thin to have flow
    LevelSetup level[kLevels];
};

struct RegionSetup {
    int patch;
    Rect rect;
    int count;  // of the longest vectors: 0 where there is nothing to average
    int empty;  // no flow then, nor the head's taken out
};

struct Tile {
    std::int16_t picture, level, row, column;  // the last two in tiles of kSpreadRows
};

// What start() leaves on the device for a lane, followed by its tiles, ints and floats.
struct alignas(16) LaneSetup {
    int active;
    int compat;
    int nose_full;           // its first tile at full size; those of its other levels come before it
    int tiles[kLevels + 1];  // the first tile of each level of the patches, and the end
    int tiles_at, ints_at, floats_at;  // bytes
    RegionSetup nose_inside;
    PictureSetup pictures[kPictures];
    RegionSetup regions[RoiFlowLayout::kMaxRegions];
};

// How a row or column of the crop reads the box.
struct alignas(16) CropTap {
    int at, next, weight, next_weight;  // weights of 2048
};

struct Batch {
    int height, width, lanes, regions;
    std::size_t pixels;       // of one lane's planes
    std::size_t setup_bytes;  // of one lane
    ExpansionKernels kernels;
    float regularisation, enlarge_factor;

    RoiFlowBuffers caller;
    unsigned char* setups;
    RoiFlowResult* results;
    float2* measured;          // (lanes, 2 regions): the value before the last, the last
    CropTap* taps;             // (lanes, 2, kCropSize): rows, columns
    float* thumbnails;         // (lanes, 2, kCells): means of the anchor's crop, of the frame's
    int* differs;              // (lanes, kPictures): does the frame's patch differ from the anchor's?
    std::uint8_t *anchor_crops, *crops;
    float* smoothed;
    float4 *anchor, *expansion;      // y, x, yy, xx
    float *anchor_xy, *expansion_xy;
    float *dx, *dy;
    float* equations[2];  // five planes per level of a picture: gyy, gxy, gxx, hy, hx
};

struct Lane {
    const LaneSetup* setup;
    const Tile* tiles;
    const int* ints;
    const float* floats;
    std::size_t pixels;  // before its own
};

__device__ inline Lane lane_of(const Batch& b, int index) {
    const unsigned char* const memory = b.setups + static_cast<std::size_t>(index) * b.setup_bytes;
    const auto* const setup = reinterpret_cast<const LaneSetup*>(memory);
    return {setup, reinterpret_cast<const Tile*>(memory + setup->tiles_at),
            reinterpret_cast<const int*>(memory + setup->ints_at),
            reinterpret_cast<const float*>(memory + setup->floats_at),
            static_cast<std::size_t>(index) * b.pixels};
}

__device__ inline RoiFlowRequest request_of(const Batch& b, int index) {
    const float* const numbers = b.caller.requests + static_cast<std::ptrdiff_t>(index) * 3;
    return {numbers[0], numbers[1], numbers[2]};
}

// Is there anything to be measured in this lane?
__device__ inline bool wanted(const Batch& b, int index, const Lane& lane) {
    return lane.setup->active != 0 && request_of(b, index).measure != 0.0f;
}

__device__ inline bool same(const Rect& a, const Rect& b) {
    return a.top == b.top && a.bottom == b.bottom && a.left == b.left && a.right == b.right;
}

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

// OpenCV's tables for a part of the picture (CropAxis in csrc/cpu/roi_flow.cpp). A product and a sum in double that
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

// What an iteration needs to know of a level.
struct View {
    int height, width, area;
    const float4 *anchor, *frame;
    const float *anchor_xy, *frame_xy, *border_x, *border_y;
};

__device__ inline View view_of(const Batch& b, const Lane& lane, const LevelSetup& level) {
    const std::size_t at = lane.pixels + static_cast<std::size_t>(level.at);
    return {level.height,       level.width,        level.area,
            b.anchor + at,      b.expansion + at,   b.anchor_xy + at,
            b.expansion_xy + at, lane.floats + level.border_x, lane.floats + level.border_y};
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
        const std::size_t at = lane.pixels + static_cast<std::size_t>(above.at + lane.ints[level.enlarge_rows + y] *
                                                                                     above.width +
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

__device__ void mean_of_region(const Batch& b, const Lane& lane, const PictureSetup& picture,
                               const RegionSetup& region, Reduction& memory, double* mean) {
    mean[0] = mean[1] = 0.0;
    if (region.count == 0) return;
    const std::size_t at = lane.pixels + static_cast<std::size_t>(picture.level[0].at);
    longest_mean(b.dx + at, b.dy + at, picture.level[0].width, region, memory, mean);
}

// The nose bridge's motion. Everybody gets it.
__device__ void measure_nose(const Batch& b, const Lane& lane, int index, const Rect& visible,
                             float (*tile)[kBlockRows][kPitch], Reduction& memory, int* differs, double* motion) {
    const PictureSetup& nose = lane.setup->pictures[kNose];
    motion[0] = motion[1] = 0.0;
    if (nose.levels == 0) return;
    const int row = static_cast<int>(threadIdx.x) / kColumns, column = static_cast<int>(threadIdx.x) % kColumns;
    if (threadIdx.x == 0) *differs = 0;
    __syncthreads();
    for_tiles(nose.level[0], [&](int first_row, int first_column) {
        if (crop_pixel(b, lane, index, nose, visible, first_row + row, first_column + column, false)) *differs = 1;
    });
    __syncthreads();
    if (*differs == 0 || nose.still) return;
    for (int k = 0; k < nose.levels; ++k) {
        for_tiles(nose.level[k], [&](int first_row, int first_column) {
            smooth_pixel(b, lane, nose, k, first_row + row, first_column + column);
        });
    }
    __syncthreads();
    for (int k = 0; k < nose.levels; ++k) {
        for_tiles(nose.level[k], [&](int first_row, int first_column) {
            expand_tile<kBlockRows>(b, lane, nose.level[k], false, first_row, first_column, tile);
        });
    }
    for (int k = nose.levels - 1; k >= 0; --k) solve_level(b, lane, nose, k, tile);
    mean_of_region(b, lane, nose, lane.setup->nose_inside, memory, motion);
}

// Puts the box of a lane that has just been started where it belongs.
__global__ void __launch_bounds__(kSpreadThreads) place(const Batch b, int index, Rect box) {
    const int thread = static_cast<int>(threadIdx.x);
    if (thread == 0) {
        b.results[index] = {box, {0.0, 0.0}};
        b.caller.likeness[index] = 1.0f;
    }
    if (thread < 2 * b.regions) {
        b.measured[static_cast<std::ptrdiff_t>(index) * 2 * b.regions + thread] = make_float2(0.0f, 0.0f);
    }
    set_taps(b, index, box);
}

// Moves each lane's box until the nose bridge lies where it lay on the anchor, to a pixel.
__global__ void __launch_bounds__(kBlockThreads) follow(const Batch b) {
    METST_SHARED(float, tile, [kPlanes][kBlockRows][kPitch]);
    METST_SHARED(Reduction, reduction, [1]);
    METST_SHARED(int, differs, [1]);
    METST_SHARED(int, goes_on, [1]);
    const int index = static_cast<int>(blockIdx.x);
    if (threadIdx.x < kPictures) b.differs[index * kPictures + static_cast<int>(threadIdx.x)] = 0;
    const Lane lane = lane_of(b, index);
    if (!wanted(b, index, lane)) return;
    RoiFlowResult& result = b.results[index];
    for (int round = 0;; ++round) {
        const Rect box = result.box;
        const Rect visible = inside(box, b.height, b.width);
        set_taps(b, index, visible);
        __syncthreads();
        double motion[2];
        measure_nose(b, lane, index, visible, tile, reduction[0], differs, motion);
        if (threadIdx.x == 0) {
            result.motion[0] = motion[0];
            result.motion[1] = motion[1];
            const bool far = motion[0] * motion[0] + motion[1] * motion[1] > 1.0;
            const Rect next = far ? moved(box, motion, lane.setup->compat != 0, b.height, b.width) : box;
            goes_on[0] = round < RoiFlow::kMaxAlignments && !same(next, box);
            if (goes_on[0]) result.box = next;
        }
        __syncthreads();
        if (!goes_on[0]) break;
    }
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

// Calls f(tile, first row, first column) for the block's share of some of a lane's tiles.
template <class F>
__device__ void for_listed_tiles(const Lane& lane, int begin, int end, int block, int blocks, F f) {
    for (int i = begin + block; i < end; i += blocks) {
        const Tile tile = lane.tiles[i];
        f(tile, tile.row * kSpreadRows, tile.column * kColumns);
    }
}

// One lane only, for its anchor, or all of them.
struct Lanes {
    int first;
    bool anchor;
};

__global__ void __launch_bounds__(kSpreadThreads) crop(const Batch b, Lanes lanes) {
    const int index = lanes.first + static_cast<int>(blockIdx.z), block = static_cast<int>(blockIdx.x);
    const Lane lane = lane_of(b, index);
    if (!lanes.anchor && !wanted(b, index, lane)) return;
    const Rect visible = inside(b.results[index].box, b.height, b.width);
    if (block < kThumbnail) {
        return thumbnail_row(b, visible, block, b.thumbnails + (index * 2 + !lanes.anchor) * kCells);
    }
    const LaneSetup& setup = *lane.setup;
    const int row = static_cast<int>(threadIdx.x) / kColumns, column = static_cast<int>(threadIdx.x) % kColumns;
    for_listed_tiles(lane, lanes.anchor ? setup.nose_full : setup.tiles[0], setup.tiles[1], block - kThumbnail,
                     static_cast<int>(gridDim.x) - kThumbnail, [&](const Tile& tile, int first_row, int first_column) {
                         const PictureSetup& picture = setup.pictures[tile.picture];
                         const bool differs = crop_pixel(b, lane, index, picture, visible, first_row + row,
                                                         first_column + column, lanes.anchor);
                         // A picture that is too thin to have flow is as if it never changed.
                         if (differs && !picture.still) b.differs[index * kPictures + tile.picture] = 1;
                     });
}

// Calls f(tile, first row, first column) for the block's share of the tiles of pictures that must be expanded.
template <class F>
__device__ void for_changed_tiles(const Batch& b, const Lanes& lanes, F f) {
    const int index = lanes.first + static_cast<int>(blockIdx.z);
    const Lane lane = lane_of(b, index);
    if (!lanes.anchor && !wanted(b, index, lane)) return;
    for_listed_tiles(lane, lanes.anchor ? 0 : lane.setup->tiles[0], lane.setup->tiles[kLevels],
                     static_cast<int>(blockIdx.x), static_cast<int>(gridDim.x),
                     [&](const Tile& tile, int first_row, int first_column) {
                         if (!lanes.anchor && !b.differs[index * kPictures + tile.picture]) return;
                         f(lane, tile, first_row, first_column);
                     });
}

__global__ void __launch_bounds__(kSpreadThreads) smooth(const Batch b, Lanes lanes) {
    const int row = static_cast<int>(threadIdx.x) / kColumns, column = static_cast<int>(threadIdx.x) % kColumns;
    for_changed_tiles(b, lanes, [&](const Lane& lane, const Tile& tile, int first_row, int first_column) {
        smooth_pixel(b, lane, lane.setup->pictures[tile.picture], tile.level, first_row + row, first_column + column);
    });
}

__global__ void __launch_bounds__(kSpreadThreads) expand(const Batch b, Lanes lanes) {
    METST_SHARED(float, memory, [3][kSpreadRows][kPitch]);
    for_changed_tiles(b, lanes, [&](const Lane& lane, const Tile& tile, int first_row, int first_column) {
        expand_tile<kSpreadRows>(b, lane, lane.setup->pictures[tile.picture].level[tile.level], lanes.anchor, first_row,
                                 first_column, memory);
    });
}

// All levels that are not spread over tiles.
__global__ void __launch_bounds__(kBlockThreads) coarse(const Batch b) {
    METST_SHARED(float, tile, [kPlanes][kBlockRows][kPitch]);
    const int index = static_cast<int>(blockIdx.z), patch = static_cast<int>(blockIdx.x);
    const Lane lane = lane_of(b, index);
    if (!wanted(b, index, lane) || !b.differs[index * kPictures + patch]) return;
    const PictureSetup& picture = lane.setup->pictures[patch];
    for (int k = picture.levels - 1; k >= kSpreadLevels; --k) solve_level(b, lane, picture, k, tile);
}

// Calls f(lane, picture, does it differ, first row, first column) for the block's share of a level's tiles.
template <class F>
__device__ void for_level_tiles(const Batch& b, int k, F f) {
    const int index = static_cast<int>(blockIdx.z);
    const Lane lane = lane_of(b, index);
    if (!wanted(b, index, lane)) return;
    for_listed_tiles(lane, lane.setup->tiles[k], lane.setup->tiles[k + 1], static_cast<int>(blockIdx.x),
                     static_cast<int>(gridDim.x), [&](const Tile& tile, int first_row, int first_column) {
                         f(lane, lane.setup->pictures[tile.picture], b.differs[index * kPictures + tile.picture] != 0,
                           first_row, first_column);
                     });
}

__global__ void __launch_bounds__(kSpreadThreads) begin(const Batch b, int k) {
    const int row = static_cast<int>(threadIdx.x) / kColumns, column = static_cast<int>(threadIdx.x) % kColumns;
    for_level_tiles(b, k, [&](const Lane& lane, const PictureSetup& picture, bool differs, int first_row,
                              int first_column) {
        const LevelSetup& level = picture.level[k];
        const int y = first_row + row, x = first_column + column;
        if (!within(improved_at(level, needed_of(picture, k), -1), y, x)) return;
        if (differs) {
            begin_pixel(b, lane, picture, k, y, x);
        } else {  // where nothing has changed nothing has moved
            const std::size_t at = lane.pixels + static_cast<std::size_t>(level.at + y * level.width + x);
            b.dx[at] = b.dy[at] = 0.0f;
        }
    });
}

__global__ void __launch_bounds__(kSpreadThreads) improve(const Batch b, int k, int i) {
    METST_SHARED(float, memory, [kPlanes][kSpreadRows][kPitch]);
    for_level_tiles(b, k, [&](const Lane& lane, const PictureSetup& picture, bool differs, int first_row,
                              int first_column) {
        const Rect part = improved_at(picture.level[k], needed_of(picture, k), i);
        if (!differs || !meets(part, first_row, kSpreadRows, first_column)) return;
        improve_tile<kSpreadRows>(b, lane, picture.level[k], part, i, first_row, first_column, memory);
    });
}

// The correlation of two thumbnails, from the means of their cells (thumbnail in csrc/cpu/roi_flow.cpp).
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

// What the lane asks for, of one channel that has been measured.
__device__ inline float blended(const RoiFlowRequest& request, float2 measured) {
    return request.previous * measured.x + request.latest * measured.y;
}

__global__ void __launch_bounds__(kSpreadThreads) finish(const Batch b) {
    METST_SHARED(Reduction, reduction, [1]);
    const int index = static_cast<int>(blockIdx.z), number = static_cast<int>(blockIdx.x);
    const Lane lane = lane_of(b, index);
    const bool measure = wanted(b, index, lane);
    if (number == b.regions) {
        if (!measure) return;
        const float* const anchor = b.thumbnails + static_cast<std::ptrdiff_t>(index) * 2 * kCells;
        const double likeness = correlation(anchor, anchor + kCells, reduction[0].sums);
        if (threadIdx.x == 0) b.caller.likeness[index] = static_cast<float>(likeness);
        return;
    }
    const RegionSetup& region = lane.setup->regions[number];
    double mean[2] = {0.0, 0.0};
    if (measure && !region.empty && b.differs[index * kPictures + region.patch]) {
        mean_of_region(b, lane, lane.setup->pictures[region.patch], region, reduction[0], mean);
    }
    if (threadIdx.x >= 2) return;
    const int axis = static_cast<int>(threadIdx.x);
    const std::ptrdiff_t channel = (static_cast<std::ptrdiff_t>(index) * b.regions + number) * 2 + axis;
    float2 measured = b.measured[channel];
    if (measure) {
        const double value = region.empty ? 0.0 : mean[axis] - b.results[index].motion[axis];
        measured = make_float2(measured.y, static_cast<float>(value));
        b.measured[channel] = measured;
    }
    b.caller.features[channel] = blended(request_of(b, index), measured);
}

__global__ void __launch_bounds__(kBlendThreads) blend_lane(const Batch b) {
    const int index = static_cast<int>(blockIdx.x), number = static_cast<int>(threadIdx.x);
    if (number >= 2 * b.regions) return;
    const std::ptrdiff_t channel = static_cast<std::ptrdiff_t>(index) * 2 * b.regions + number;
    b.caller.features[channel] = blended(request_of(b, index), b.measured[channel]);
}

constexpr std::size_t kAlignment = 256;

std::size_t aligned(std::size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

int in_tiles(int length, int of) { return (length + of - 1) / of; }

bool lies_in(const Rect& rect, int height, int width) {
    return rect.top >= 0 && rect.left >= 0 && rect.bottom <= height && rect.right <= width;
}

// What start() sends to the device, as it is put together.
struct Tables {
    std::vector<Tile> tiles;
    std::vector<int> ints;
    std::vector<float> floats;

    int add(const std::vector<int>& table) {
        ints.insert(ints.end(), table.begin(), table.end());
        return static_cast<int>(ints.size() - table.size());
    }
    int add(const std::vector<float>& table) {
        floats.insert(floats.end(), table.begin(), table.end());
        return static_cast<int>(floats.size() - table.size());
    }

    // The levels of a picture; `at` is the first pixel of the lane's planes that is free.
    void add(const Plan& plan, int& at, PictureSetup& picture) {
        picture.levels = static_cast<int>(plan.levels.size());
        picture.still = plan.height < 2 || plan.width < 2;
        for (std::size_t k = 0; k < plan.levels.size(); ++k) {
            const Level& from = plan.levels[k];
            LevelSetup& to = picture.level[k];
            to.height = from.height;
            to.width = from.width;
            to.area = from.height * from.width;
            to.at = at;
            at += rounded_up(to.area);
            to.tiles_down = in_tiles(from.height, kBlockRows);
            to.tiles_across = in_tiles(from.width, kColumns);
            to.row_taps = from.row_taps;
            to.radius = from.radius;
            to.rows = add(from.rows);
            to.row_weights = add(from.row_weights);
            to.column_weights = add(from.column_weights);
            to.columns = add(from.columns.first);
            to.column_fractions = add(from.columns.fraction);
            to.enlarge_rows = add(from.enlarge_rows.first);
            to.enlarge_row_fractions = add(from.enlarge_rows.fraction);
            to.enlarge_columns = add(from.enlarge_columns.first);
            to.enlarge_column_fractions = add(from.enlarge_columns.fraction);
            to.border_x = add(from.border_x);
            to.border_y = add(from.border_y);
        }
    }

    void add_tiles(int number, const PictureSetup& picture, int first_level, int end_level) {
        for (int k = first_level; k < std::min(end_level, picture.levels); ++k) {
            const int across = in_tiles(picture.level[k].width, kColumns);
            const int down = in_tiles(picture.level[k].height, kSpreadRows);
            for (int i = 0; i < down * across; ++i) {
                tiles.push_back({static_cast<std::int16_t>(number), static_cast<std::int16_t>(k),
                                 static_cast<std::int16_t>(i / across), static_cast<std::int16_t>(i % across)});
            }
        }
    }

    // Room is kept between them for what follows to be aligned.
    std::size_t bytes() const {
        return sizeof(LaneSetup) + (tiles.size() + 2) * sizeof(Tile) + (ints.size() + floats.size()) * sizeof(float);
    }
};

RegionSetup region_setup(int patch, const Rect& rect, double share) {
    RegionSetup region{};
    region.patch = patch;
    region.rect = rect;
    region.empty = rect.empty();
    if (region.empty) return region;
    const int n = rect.height() * rect.width();
    region.count = std::max(n - static_cast<int>(n * (1.0 - share)), 0);
    return region;
}

bool valid_share(double share) { return share >= 0.0 && share <= 1.0; }

bool valid(const RoiFlowLayout& layout, int regions) {
    constexpr int kCrop = RoiFlow::kCropSize;
    if (layout.patch_count < 0 || layout.patch_count > RoiFlowLayout::kMaxPatches) return false;
    if (layout.region_count != regions) return false;
    for (int i = 0; i < layout.patch_count; ++i) {
        if (!layout.patches[i].empty() && !lies_in(layout.patches[i], kCrop, kCrop)) return false;
    }
    for (int i = 0; i < regions; ++i) {
        const FlowRegion& region = layout.regions[i];
        if (region.patch < 0 || region.patch >= layout.patch_count || !valid_share(region.share)) return false;
        const Rect& patch = layout.patches[region.patch];
        if (!region.rect.empty() && !patch.empty() && !lies_in(region.rect, patch.height(), patch.width())) {
            return false;
        }
    }
    if (!valid_share(layout.nose_share)) return false;
    if (layout.nose.empty()) return true;
    return lies_in(layout.nose, kCrop, kCrop) &&
           (layout.nose_inside.empty() || lies_in(layout.nose_inside, layout.nose.height(), layout.nose.width()));
}

std::int64_t area(const Rect& rect) {
    return rect.empty() ? 0 : std::int64_t{rect.height()} * rect.width();
}

thread_local cudaError_t last_error = cudaSuccess;

RoiFlowStatus status_of(cudaError_t error) {
    if (error == cudaSuccess) return RoiFlowStatus::kOk;
    last_error = error;
    cudaGetLastError();  // it is not to be reported once more by the next call that looks
    return error == cudaErrorMemoryAllocation ? RoiFlowStatus::kOutOfMemory : RoiFlowStatus::kCudaError;
}

}  // namespace

const char* last_cuda_error() noexcept { return cudaGetErrorString(last_error); }

struct RoiFlowBatch::Memory {
    Batch batch{};
    std::int64_t max_pixels = 0;
    int blocks = 0;  // per lane, of the kernels that are spread over tiles
    void* device = nullptr;
    std::vector<LaneSetup> setups;        // as they are on the device
    std::vector<unsigned char> outgoing;  // one lane's, being sent

    ~Memory() { cudaFree(device); }

    bool inside_picture(const Rect& box) const {
        return !box.empty() && lies_in(box, batch.height, batch.width);
    }

    bool started(int lane) const {
        return lane >= 0 && lane < batch.lanes && setups[static_cast<std::size_t>(lane)].active;
    }

    RoiFlowStatus expand_pictures(Lanes lanes, int count, cudaStream_t stream) {
        const dim3 threads(kSpreadThreads);
        const dim3 tiles(static_cast<unsigned>(blocks), 1, static_cast<unsigned>(count));
        const dim3 tiles_and_rows(static_cast<unsigned>(blocks + kThumbnail), 1, static_cast<unsigned>(count));
        METST_LAUNCH(crop, tiles_and_rows, threads, 0, stream, batch, lanes);
        METST_LAUNCH(smooth, tiles, threads, 0, stream, batch, lanes);
        METST_LAUNCH(expand, tiles, threads, 0, stream, batch, lanes);
        return status_of(cudaGetLastError());
    }
};

RoiFlowBatch::RoiFlowBatch(std::unique_ptr<Memory> memory) noexcept : memory_(std::move(memory)) {}
RoiFlowBatch::~RoiFlowBatch() = default;

RoiFlowStatus RoiFlowBatch::create(int height, int width, int lanes, int regions, std::int64_t pixels,
                                   const RoiFlowBuffers& buffers, std::unique_ptr<RoiFlowBatch>* out) noexcept try {
    constexpr int kCrop = RoiFlow::kCropSize;
    if (height < 1 || width < 1 || height > kMaxSide || width > kMaxSide || lanes < 1 || lanes > kMaxLanes ||
        regions < 0 || regions > RoiFlowLayout::kMaxRegions || pixels < 1 ||
        pixels > std::int64_t{kPictures} * kCrop * kCrop || !buffers.frame || !buffers.requests || !buffers.features ||
        !buffers.likeness) {
        return RoiFlowStatus::kBadSize;
    }
    int device = 0, multiprocessors = 0;
    cudaError_t error = cudaGetDevice(&device);
    if (error == cudaSuccess) {
        error = cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
    }
    if (error != cudaSuccess) return status_of(error);

    auto memory = std::make_unique<Memory>();
    memory->max_pixels = pixels;
    memory->blocks = std::max(8, std::min(256, 4 * multiprocessors / lanes));
    memory->setups.assign(static_cast<std::size_t>(lanes), LaneSetup{});

    // No picture has longer tables or more tiles than one of the whole crop.
    const Plan largest(kCrop, kCrop, kParameters);
    Tables tables;
    PictureSetup picture{};
    int at = 0;
    tables.add(largest, at, picture);
    tables.add_tiles(0, picture, 0, kLevels);
    Batch& b = memory->batch;
    b.setup_bytes = aligned(sizeof(LaneSetup) + kPictures * tables.bytes());
    memory->outgoing.reserve(b.setup_bytes);
    b.caller = buffers;
    b.height = height;
    b.width = width;
    b.lanes = lanes;
    b.regions = regions;
    // A level is a quarter of the one below but for half a pixel a side, and starts at a multiple of kRowAlignment.
    b.pixels = static_cast<std::size_t>(pixels + pixels / 3 + kPictures * (kCrop + kLevels * kRowAlignment));
    b.kernels = largest.kernels;
    b.regularisation = largest.regularisation();
    b.enlarge_factor = static_cast<float>(1.0 / kParameters.pyramid_scale);

    // Twice: to count the bytes, and to hand them out.
    const std::size_t of_lanes = static_cast<std::size_t>(lanes), planes = of_lanes * b.pixels;
    std::size_t bytes = 0;
    const auto take = [&](auto*& array, std::size_t count) {
        using Element = std::remove_reference_t<decltype(*array)>;
        if (memory->device) array = reinterpret_cast<Element*>(static_cast<unsigned char*>(memory->device) + bytes);
        bytes += aligned(count * sizeof(Element));
    };
    const auto lay_out = [&] {
        bytes = 0;
        take(b.setups, of_lanes * b.setup_bytes);
        take(b.results, of_lanes);
        take(b.measured, of_lanes * static_cast<std::size_t>(std::max(regions, 1)) * 2);
        take(b.taps, of_lanes * 2 * kCrop);
        take(b.thumbnails, of_lanes * 2 * kCells);
        take(b.differs, of_lanes * kPictures);
        take(b.anchor_crops, planes);
        take(b.crops, planes);
        take(b.smoothed, planes);
        take(b.anchor, planes);
        take(b.expansion, planes);
        take(b.anchor_xy, planes);
        take(b.expansion_xy, planes);
        take(b.dx, planes);
        take(b.dy, planes);
        for (float*& equations : b.equations) take(equations, kPlanes * planes);
    };
    lay_out();
    error = cudaMalloc(&memory->device, bytes);
    if (error == cudaSuccess) {
        lay_out();
        error = cudaMemsetAsync(memory->device, 0, bytes, cudaStreamPerThread);  // no lane is active
    }
    // For whatever stream is given later. All of the device must not be waited for: that would end other threads'
    // captures.
    if (error == cudaSuccess) error = cudaStreamSynchronize(cudaStreamPerThread);
    if (error != cudaSuccess) return status_of(error);
    out->reset(new RoiFlowBatch(std::move(memory)));
    return RoiFlowStatus::kOk;
} catch (const std::bad_alloc&) {
    return RoiFlowStatus::kOutOfMemory;
}

const RoiFlowResult* RoiFlowBatch::results() const { return memory_->batch.results; }

RoiFlowStatus RoiFlowBatch::start(int lane, const Rect& box, const RoiFlowLayout& layout,
                                  CUstream_st* stream) noexcept try {
    Memory& m = *memory_;
    const Batch& b = m.batch;
    if (lane < 0 || lane >= b.lanes) return RoiFlowStatus::kBadLane;
    if (!m.inside_picture(box)) return RoiFlowStatus::kBadBox;
    if (!valid(layout, b.regions)) return RoiFlowStatus::kBadLayout;
    std::int64_t pixels = area(layout.nose);
    for (int i = 0; i < layout.patch_count; ++i) pixels += area(layout.patches[i]);
    if (pixels > m.max_pixels) return RoiFlowStatus::kTooLarge;

    LaneSetup setup{};
    Tables tables;
    int at = 0;
    setup.active = 1;
    setup.compat = layout.compat;
    for (int i = 0; i < kPictures; ++i) {
        if (i >= layout.patch_count && i != kNose) continue;
        const Rect& rect = i == kNose ? layout.nose : layout.patches[i];
        if (rect.empty()) continue;
        setup.pictures[i].rect = rect;
        tables.add(Plan(rect.height(), rect.width(), kParameters), at, setup.pictures[i]);
    }
    for (int i = 0; i < layout.region_count; ++i) {
        const FlowRegion& region = layout.regions[i];
        setup.regions[i] = region_setup(region.patch, region.rect, region.share);
        PictureSetup& picture = setup.pictures[region.patch];
        if (picture.levels == 0) setup.regions[i].empty = 1, setup.regions[i].count = 0;
        if (setup.regions[i].empty) continue;
        Rect& needed = picture.needed;
        needed = needed.empty() ? region.rect
                                : Rect{std::min(needed.top, region.rect.top),
                                       std::max(needed.bottom, region.rect.bottom),
                                       std::min(needed.left, region.rect.left),
                                       std::max(needed.right, region.rect.right)};
    }
    if (setup.pictures[kNose].levels > 0) {
        setup.nose_inside = region_setup(kNose, layout.nose_inside, layout.nose_share);
        setup.pictures[kNose].needed = layout.nose_inside;
    }
    tables.add_tiles(kNose, setup.pictures[kNose], 1, kLevels);
    setup.nose_full = static_cast<int>(tables.tiles.size());
    tables.add_tiles(kNose, setup.pictures[kNose], 0, 1);
    for (int k = 0; k <= kLevels; ++k) {
        setup.tiles[k] = static_cast<int>(tables.tiles.size());
        for (int i = 0; i < kNose && k < kLevels; ++i) tables.add_tiles(i, setup.pictures[i], k, k + 1);
    }
    setup.tiles_at = static_cast<int>(sizeof(LaneSetup));
    setup.ints_at = setup.tiles_at + static_cast<int>(tables.tiles.size() * sizeof(Tile));
    setup.floats_at = setup.ints_at + static_cast<int>(tables.ints.size() * sizeof(int));

    // What was sent last may still be being read.
    cudaError_t error = cudaStreamSynchronize(stream);
    if (error != cudaSuccess) return status_of(error);
    m.outgoing.resize(tables.bytes());
    const auto pack = [&](int to, const void* from, std::size_t bytes) {
        if (bytes > 0) std::memcpy(m.outgoing.data() + to, from, bytes);
    };
    pack(0, &setup, sizeof(setup));
    pack(setup.tiles_at, tables.tiles.data(), tables.tiles.size() * sizeof(Tile));
    pack(setup.ints_at, tables.ints.data(), tables.ints.size() * sizeof(int));
    pack(setup.floats_at, tables.floats.data(), tables.floats.size() * sizeof(float));
    error = cudaMemcpyAsync(b.setups + static_cast<std::size_t>(lane) * b.setup_bytes, m.outgoing.data(),
                            m.outgoing.size(), cudaMemcpyHostToDevice, stream);
    if (error != cudaSuccess) return status_of(error);
    m.setups[static_cast<std::size_t>(lane)] = setup;
    METST_LAUNCH(place, dim3(1), dim3(kSpreadThreads), 0, stream, b, lane, box);
    return m.expand_pictures({lane, true}, 1, stream);
} catch (const std::bad_alloc&) {
    return RoiFlowStatus::kOutOfMemory;
}

RoiFlowStatus RoiFlowBatch::measure(CUstream_st* stream) noexcept {
    Memory& m = *memory_;
    const Batch& b = m.batch;
    const auto lanes = static_cast<unsigned>(b.lanes);
    METST_LAUNCH(follow, dim3(lanes), dim3(kBlockThreads), 0, stream, b);
    const RoiFlowStatus expanded = m.expand_pictures({0, false}, b.lanes, stream);
    if (expanded != RoiFlowStatus::kOk) return expanded;
    const dim3 tiles(static_cast<unsigned>(m.blocks), 1, lanes);
    METST_LAUNCH(coarse, dim3(RoiFlowLayout::kMaxPatches, 1, lanes), dim3(kBlockThreads), 0, stream, b);
    for (int k = kSpreadLevels - 1; k >= 0; --k) {
        METST_LAUNCH(begin, tiles, dim3(kSpreadThreads), 0, stream, b, k);
        for (int i = 0; i < kIterations; ++i) {
            METST_LAUNCH(improve, tiles, dim3(kSpreadThreads), 0, stream, b, k, i);
        }
    }
    static_assert(6 + kSpreadLevels * (1 + kIterations) == kLaunches, "");
    METST_LAUNCH(finish, dim3(static_cast<unsigned>(b.regions) + 1, 1, lanes), dim3(kSpreadThreads), 0, stream, b);
    return status_of(cudaGetLastError());
}

RoiFlowStatus RoiFlowBatch::blend(CUstream_st* stream) noexcept {
    const Batch& b = memory_->batch;
    METST_LAUNCH(blend_lane, dim3(static_cast<unsigned>(b.lanes)), dim3(kBlendThreads), 0, stream, b);
    return status_of(cudaGetLastError());
}

PatchFlow RoiFlowBatch::flow(int lane, int patch) const noexcept {
    const Memory& m = *memory_;
    if (!m.started(lane) || patch < 0 || patch >= RoiFlowLayout::kMaxPatches) return {};
    const PictureSetup& picture = m.setups[static_cast<std::size_t>(lane)].pictures[patch];
    if (picture.levels == 0) return {};
    const std::size_t at =
        static_cast<std::size_t>(lane) * m.batch.pixels + static_cast<std::size_t>(picture.level[0].at);
    return {m.batch.crops + at, m.batch.dx + at, m.batch.dy + at, picture.level[0].height, picture.level[0].width};
}

}  // namespace metst::cuda
