// metst::cuda::RoiFlowBatch (roi_flow_cuda.h) as C functions, for metst_edge, which calls them by ctypes. The plugin's
// library has them. A status is 0 or another RoiFlowStatus. Compiles with a C++ compiler too, for the emulation of the
// tests.
#include <cstdint>
#include <memory>

#include "metst/roi_flow_cuda.h"

namespace {

using metst::Rect;
using metst::RoiFlowLayout;
using metst::cuda::RoiFlowBatch;
using metst::cuda::RoiFlowBuffers;
using metst::cuda::RoiFlowStatus;

// Four numbers: top, bottom, left, right.
Rect rect_of(const int* corners) { return {corners[0], corners[1], corners[2], corners[3]}; }

int number(RoiFlowStatus status) { return static_cast<int>(status); }

}  // namespace

#define METST_API extern "C" __attribute__((visibility("default")))

// Changes whenever a caller compiled against these functions would no longer fit.
METST_API int metst_roi_flow_version() { return 1; }

// What the library's kernels are compiled for, as CMake has it ("87 90"); empty where another build does not say.
METST_API const char* metst_cuda_architectures() {
#ifdef METST_CUDA_ARCHITECTURES
    return METST_CUDA_ARCHITECTURES;
#else
    return "";
#endif
}

METST_API int metst_roi_flow_launches() { return RoiFlowBatch::kLaunches; }

// What a status that this thread has just got means, to follow "but".
METST_API const char* metst_roi_flow_text(int status) {
    switch (static_cast<RoiFlowStatus>(status)) {
        case RoiFlowStatus::kOk: return "nothing is wrong";
        case RoiFlowStatus::kBadSize: return "the pictures, lanes or regions are too many, too large or none";
        case RoiFlowStatus::kBadLane: return "there is no such lane";
        case RoiFlowStatus::kBadBox: return "the crop box is empty or not on the picture";
        case RoiFlowStatus::kBadLayout: return "the regions do not lie on the crop";
        case RoiFlowStatus::kTooLarge: return "the regions have more pixels than two crops";
        case RoiFlowStatus::kOutOfMemory: return "its memory is short";
        case RoiFlowStatus::kCudaError: return metst::cuda::last_cuda_error();
    }
    return "unknown";
}

// Addresses in device memory; see RoiFlowBuffers.
METST_API int metst_roi_flow_create(int height, int width, int lanes, int regions, const std::uint8_t* frame,
                                    const float* requests, float* features, float* likeness, RoiFlowBatch** out) {
    std::unique_ptr<RoiFlowBatch> batch;
    const RoiFlowStatus status = RoiFlowBatch::create(height, width, lanes, regions, RoiFlowBatch::kDefaultPixels,
                                                      {frame, requests, features, likeness}, &batch);
    *out = batch.release();
    return number(status);
}

METST_API void metst_roi_flow_destroy(RoiFlowBatch* batch) { delete batch; }

// box, nose, nose_inside: 4 numbers each; patches: (patch_count, 4); regions: (region_count, 5), the patch and then its
// corners; shares: (region_count).
METST_API int metst_roi_flow_start(RoiFlowBatch* batch, int lane, const int* box, int patch_count, const int* patches,
                                   int region_count, const int* regions, const double* shares, const int* nose,
                                   const int* nose_inside, double nose_share, int compat, CUstream_st* stream) {
    if (patch_count > RoiFlowLayout::kMaxPatches || region_count > RoiFlowLayout::kMaxRegions) {
        return number(RoiFlowStatus::kBadLayout);
    }
    RoiFlowLayout layout;
    for (int i = 0; i < patch_count; ++i) layout.patches[i] = rect_of(patches + 4 * i);
    for (int i = 0; i < region_count; ++i) {
        layout.regions[i] = {regions[5 * i], rect_of(regions + 5 * i + 1), shares[i]};
    }
    layout.patch_count = patch_count;
    layout.region_count = region_count;
    layout.nose = rect_of(nose);
    layout.nose_inside = rect_of(nose_inside);
    layout.nose_share = nose_share;
    layout.compat = compat != 0;
    return number(batch->start(lane, rect_of(box), layout, stream));
}

METST_API int metst_roi_flow_measure(RoiFlowBatch* batch, CUstream_st* stream) {
    return number(batch->measure(stream));
}

METST_API int metst_roi_flow_blend(RoiFlowBatch* batch, CUstream_st* stream) { return number(batch->blend(stream)); }
