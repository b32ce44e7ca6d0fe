// The kernels of a frame: what each stage does for which lanes, pictures and tiles.
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
//
// An H200 takes 149 us for two lanes where the head is still and 191 where it moves, 42 for one more measurement of the
// nose bridge; the other 17 launches 6 us each.
#pragma once

#include "device.cuh"
#include "means.cuh"
#include "pictures.cuh"
#include "solve.cuh"

namespace metst::cuda::roi_flow {
namespace {

constexpr int kSpreadLevels = 2;  // the largest, solved tile by tile: coarser ones are rare and small
constexpr int kBlendThreads = 2 * RoiFlowLayout::kMaxRegions;  // a lane's channels

__device__ inline bool same(const Rect& a, const Rect& b) {
    return a.top == b.top && a.bottom == b.bottom && a.left == b.left && a.right == b.right;
}

constexpr int kHeldSquares = 10240;  // of a region's vectors: ME-TST+'s mouth has 9222

// The nose bridge's motion; the first thread gets it.
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
    const RegionSetup& inside_it = lane.setup->nose_inside;
    if (inside_it.count == 0) return;
    // The tile is free again.
    mean_of_region(b, lane, nose, inside_it, tile[0][0], kPlanes * kBlockRows * kPitch, memory);
    if (threadIdx.x == 0) motion[0] = memory.means[0], motion[1] = memory.means[1];
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
    for_level_tiles(
        b, k, [&](const Lane& lane, const PictureSetup& picture, bool differs, int first_row, int first_column) {
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
    for_level_tiles(b, k,
                    [&](const Lane& lane, const PictureSetup& picture, bool differs, int first_row, int first_column) {
                        const Rect part = improved_at(picture.level[k], needed_of(picture, k), i);
                        if (!differs || !meets(part, first_row, kSpreadRows, first_column)) return;
                        improve_tile<kSpreadRows>(b, lane, picture.level[k], part, i, first_row, first_column, memory);
                    });
}

// What the lane asks for, of one channel that has been measured.
__device__ inline float blended(const RoiFlowRequest& request, float2 measured) {
    return request.previous * measured.x + request.latest * measured.y;
}

__global__ void __launch_bounds__(kSpreadThreads) finish(const Batch b) {
    METST_SHARED(Reduction, reduction, [1]);
    METST_SHARED(float, held, [kHeldSquares]);
    const int index = static_cast<int>(blockIdx.z), number = static_cast<int>(blockIdx.x);
    const Lane lane = lane_of(b, index);
    const bool measure = wanted(b, index, lane);
    if (number == b.regions) {
        if (!measure) return;
        const float* const anchor = b.thumbnails + static_cast<std::ptrdiff_t>(index) * 2 * kCells;
        const double likeness = correlation(anchor, anchor + kCells, reduction[0]);
        if (threadIdx.x == 0) b.caller.likeness[index] = static_cast<float>(likeness);
        return;
    }
    const RegionSetup& region = lane.setup->regions[number];
    const bool moved = measure && region.count > 0 && b.differs[index * kPictures + region.patch];
    if (moved) mean_of_region(b, lane, lane.setup->pictures[region.patch], region, held, kHeldSquares, reduction[0]);
    if (threadIdx.x >= 2) return;
    const int axis = static_cast<int>(threadIdx.x);
    const std::ptrdiff_t channel = (static_cast<std::ptrdiff_t>(index) * b.regions + number) * 2 + axis;
    float2 measured = b.measured[channel];
    if (measure) {
        const bool still = region.empty && !lane.setup->compat;
        const double value = still ? 0.0 : (moved ? reduction[0].means[axis] : 0.0) - b.results[index].motion[axis];
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

}  // namespace
}  // namespace metst::cuda::roi_flow
