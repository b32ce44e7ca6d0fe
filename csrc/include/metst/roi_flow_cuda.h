// What metst::RoiFlow and metst::measure (roi_flow.h) do, for all lanes of a frame at once on an NVIDIA GPU: one set of
// launches per frame, nothing fetched in between, so that its output can feed the network's step on the device. Needs
// no CUDA header, knows no framework. csrc/cuda/roi_flow_c.cpp is the same for other languages.
//
// Crops are those of the CPU library bit for bit, flow is within float32 rounding of it (features within 0.02 pixels),
// identical patches give exactly zero. Parameters are the models' (FarnebackParameters as they are by default).
#pragma once

#include <cstdint>
#include <memory>

#include "metst/roi_flow.h"

struct CUstream_st;  // what cudaStream_t points to

namespace metst::cuda {

enum class RoiFlowStatus : std::int32_t {
    kOk,
    kBadSize,      // a picture's side or the number of lanes, regions or pixels is out of range, or a buffer is null
    kBadLane,      // no such lane
    kBadBox,       // empty, or not inside the picture
    kBadLayout,    // too many patches, another number of regions, a rectangle or index out of range, a bad share
    kTooLarge,     // the layout's patches and nose bridge have more pixels in all than the batch was made for
    kOutOfMemory,  // of the host or the device
    kCudaError,    // a CUDA call or launch failed; cudaGetLastError() has been called
};

// What CUDA said of this thread's last failure.
const char* last_cuda_error() noexcept;

// The caller's device memory, at the same addresses as long as the batch lives.
struct RoiFlowBuffers {
    const std::uint8_t* frame = nullptr;  // (height, width): the gray picture that start() and measure() read
    const float* requests = nullptr;      // (lanes, 3): RoiFlowRequest of each lane
    float* features = nullptr;            // (lanes, 2 regions): dx and dy per region, pixels of the crop
    float* likeness = nullptr;            // (lanes): of the last crop measured with the anchor's, -1 to 1; 1 from start
};

// What is wanted of a lane. Its features are previous * those measured last but one + latest * those measured last,
// both zero from start() on: the frame's with (1, 0, 1), any moment's between two frames, nothing with (0, 0, 0).
struct RoiFlowRequest {
    float measure = 0.0f;  // not 0: measure the frame in this lane, first
    float previous = 0.0f;
    float latest = 0.0f;
};

// Of one lane, after a frame: what RoiFlow::box and motion say.
struct RoiFlowResult {
    Rect box;
    double motion[2];
};

// One patch in device memory, (height, width) each: its gray pixels, and the dense flow to it in pixels of the crop.
struct PatchFlow {
    const std::uint8_t* pixels = nullptr;
    const float* dx = nullptr;
    const float* dy = nullptr;
    int height = 0;
    int width = 0;
};

// Not thread-safe; different objects are independent. Work on one object goes to one stream at a time.
class RoiFlowBatch {
public:
    static constexpr int kMaxSide = 32767;  // pixels of a picture
    static constexpr int kMaxLanes = 4096;
    static constexpr std::int64_t kDefaultPixels = 2 * RoiFlow::kCropSize * RoiFlow::kCropSize;

    // Lanes for gray pictures of one size, each with `regions` regions and up to `pixels` pixels in all its patches.
    // Takes all the device memory it will ever need: about 125 bytes per lane and pixel, 26 MB a lane by default.
    static RoiFlowStatus create(int height, int width, int lanes, int regions, std::int64_t pixels,
                                const RoiFlowBuffers& buffers, std::unique_ptr<RoiFlowBatch>* out) noexcept;
    ~RoiFlowBatch();
    RoiFlowBatch(const RoiFlowBatch&) = delete;
    RoiFlowBatch& operator=(const RoiFlowBatch&) = delete;

    // Makes the picture in `frame` the lane's anchor, with the crop at `box`. Once per window: prepares tables on the
    // host and waits for the stream, so it cannot be captured, but a captured measure() goes on with what was started
    // last.
    RoiFlowStatus start(int lane, const Rect& box, const RoiFlowLayout& layout, CUstream_st* stream) noexcept;

    // Enqueues the measurement of the picture in `frame` in every started lane that `requests` names, and the features
    // of all lanes: kLaunches launches whatever the lanes. Neither allocates nor waits, and its arguments never change:
    // it may be captured in a CUDA graph.
    RoiFlowStatus measure(CUstream_st* stream) noexcept;
    static constexpr int kLaunches = 18;

    // Enqueues the features alone, in one launch: nothing is measured, whatever `requests` says.
    RoiFlowStatus blend(CUstream_st* stream) noexcept;

    // (lanes), in device memory of this object.
    const RoiFlowResult* results() const;
    // Where start() and measure() leave the pixels of a patch, and measure() its flow, finished in the rectangle around
    // its regions; all null for a patch that is empty or does not exist.
    PatchFlow flow(int lane, int patch) const noexcept;

private:
    struct Memory;
    explicit RoiFlowBatch(std::unique_ptr<Memory> memory) noexcept;
    std::unique_ptr<Memory> memory_;
};

}  // namespace metst::cuda
