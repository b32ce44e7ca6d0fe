// What a kernel sees of a batch: the lanes' setups and tables, their planes, and what of it belongs to one lane.
//
// Included by batch.cu alone, as all .cuh files here; everything in them has internal linkage.
#pragma once

#include <cstddef>
#include <cstdint>

#include "launch.h"
#include "metst/roi_flow_cuda.h"
#include "rect.h"
#include "roi_flow_plan.h"
#include "setup.h"

namespace metst::cuda::roi_flow {
namespace {

constexpr int kWarpSize = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

constexpr int kHalo = kParameters.window / 2;  // pixels that a tile reads beyond its sides
constexpr int kSpan = kColumns + 2 * kHalo;    // columns that a tile reads
constexpr int kPitch = kSpan + 1;              // odd: rows begin in different banks
constexpr int kBlockThreads = kColumns * kBlockRows;
constexpr int kSpreadThreads = kColumns * kSpreadRows;
constexpr int kMaxWarps = kBlockThreads / kWarpSize;
constexpr int kCells = kThumbnail * kThumbnail;

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
    float2* measured;   // (lanes, 2 regions): the value before the last, the last
    CropTap* taps;      // (lanes, 2, kCropSize): rows, columns
    float* thumbnails;  // (lanes, 2, kCells): means of the anchor's crop, of the frame's
    int* differs;       // (lanes, kPictures): does the frame's patch differ from the anchor's?
    std::uint8_t *anchor_crops, *crops;
    float* smoothed;
    float4 *anchor, *expansion;  // y, x, yy, xx
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
            reinterpret_cast<const float*>(memory + setup->floats_at), static_cast<std::size_t>(index) * b.pixels};
}

__device__ inline RoiFlowRequest request_of(const Batch& b, int index) {
    const float* const numbers = b.caller.requests + static_cast<std::ptrdiff_t>(index) * 3;
    return {numbers[0], numbers[1], numbers[2]};
}

// Is there anything to be measured in this lane?
__device__ inline bool wanted(const Batch& b, int index, const Lane& lane) {
    return lane.setup->active != 0 && request_of(b, index).measure != 0.0f;
}

}  // namespace
}  // namespace metst::cuda::roi_flow
