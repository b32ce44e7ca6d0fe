// metst::cuda::RoiFlowBatch for run.py, which calls it through ctypes. Every function but the constants gives 0, or the
// RoiFlowStatus that says what went wrong. Compiles with a C++ compiler too, as kernels.cu does.
#include <cstddef>
#include <cstdint>
#include <memory>

#include "launch.h"
#include "metst/roi_flow_cuda.h"

namespace {

using metst::Rect;
using metst::RoiFlowLayout;
using metst::cuda::RoiFlowBatch;
using metst::cuda::RoiFlowStatus;

// Four numbers: top, bottom, left, right.
Rect rect_of(const int* corners) { return {corners[0], corners[1], corners[2], corners[3]}; }

int number(RoiFlowStatus status) { return static_cast<int>(status); }

int copied(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
    const bool good = cudaMemcpyAsync(to, from, bytes, kind, stream) == cudaSuccess;
    return number(good ? RoiFlowStatus::kOk : RoiFlowStatus::kCudaError);
}

}  // namespace

#define METST_API extern "C" __attribute__((visibility("default")))

METST_API int metst_flow_launches() { return RoiFlowBatch::kLaunches; }

METST_API int metst_flow_create(int height, int width, int lanes, int regions, RoiFlowBatch** out) {
    std::unique_ptr<RoiFlowBatch> batch;
    const RoiFlowStatus status =
        RoiFlowBatch::create(height, width, lanes, regions, RoiFlowBatch::kDefaultPixels, &batch);
    *out = batch.release();
    return number(status);
}

METST_API void metst_flow_destroy(RoiFlowBatch* batch) { delete batch; }

// patches: (patch_count, 4); regions: (region_count, 5), the patch and then its corners; shares: (region_count).
METST_API int metst_flow_start(RoiFlowBatch* batch, int lane, const int* box, int patch_count, const int* patches,
                               int region_count, const int* regions, const double* shares, const int* nose,
                               const int* nose_inside, double nose_share, cudaStream_t stream) {
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
    return number(batch->start(lane, rect_of(box), layout, stream));
}

// picture: (height, width) in device memory.
METST_API int metst_flow_show(RoiFlowBatch* batch, const std::uint8_t* picture, std::size_t bytes,
                              cudaStream_t stream) {
    return copied(batch->frame(), picture, bytes, cudaMemcpyDeviceToDevice, stream);
}

METST_API int metst_flow_measure(RoiFlowBatch* batch, cudaStream_t stream) { return number(batch->measure(stream)); }

// out: (lanes, 2 regions) in device memory.
METST_API int metst_flow_features(const RoiFlowBatch* batch, float* out, std::size_t bytes, cudaStream_t stream) {
    return copied(out, batch->features(), bytes, cudaMemcpyDeviceToDevice, stream);
}
