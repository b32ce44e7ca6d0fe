// RoiFlowBatch (roi_flow_cuda.h): its device memory, and what it launches. How the work is laid over a device is said
// in kernels.cuh; the arithmetic is that of csrc/cpu.
#include <algorithm>
#include <cstddef>
#include <new>
#include <type_traits>
#include <utility>
#include <vector>

#include "kernels.cuh"
#include "launch.h"
#include "metst/roi_flow_cuda.h"
#include "setup.h"

namespace metst::cuda {
namespace {

using namespace roi_flow;

constexpr std::size_t kAlignment = 256;

std::size_t aligned(std::size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

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

    bool inside_picture(const Rect& box) const { return !box.empty() && lies_in(box, batch.height, batch.width); }

    bool started(int lane) const {
        return lane >= 0 && lane < batch.lanes && setups[static_cast<std::size_t>(lane)].active;
    }

    // Walked twice: without memory, to count the bytes that the arrays need; with it, to hand them out.
    std::size_t lay_out(unsigned char* memory) {
        Batch& b = batch;
        const std::size_t lanes = static_cast<std::size_t>(b.lanes), planes = lanes * b.pixels;
        std::size_t bytes = 0;
        const auto take = [&](auto*& array, std::size_t count) {
            using Element = std::remove_reference_t<decltype(*array)>;
            if (memory) array = reinterpret_cast<Element*>(memory + bytes);
            bytes += aligned(count * sizeof(Element));
        };
        take(b.setups, lanes * b.setup_bytes);
        take(b.results, lanes);
        take(b.measured, lanes * static_cast<std::size_t>(std::max(b.regions, 1)) * 2);
        take(b.taps, lanes * 2 * RoiFlow::kCropSize);
        take(b.thumbnails, lanes * 2 * kCells);
        take(b.differs, lanes * kPictures);
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
        return bytes;
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
    int device = 0, multiprocessors = 0, at_once = 0;
    cudaError_t error = cudaGetDevice(&device);
    if (error == cudaSuccess) {
        error = cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
    }
    if (error == cudaSuccess) {
        error = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&at_once, improve, kSpreadThreads, 0);
    }
    if (error != cudaSuccess) return status_of(error);

    auto memory = std::make_unique<Memory>();
    memory->max_pixels = pixels;
    // As many as run at once of the kernel that is launched most: more would wait for others to end.
    memory->blocks = std::max(8, std::min(256, at_once * multiprocessors / lanes));
    memory->setups.assign(static_cast<std::size_t>(lanes), LaneSetup{});

    const Plan plan(kCrop, kCrop, kParameters);  // for what plans of all sizes have in common
    Batch& b = memory->batch;
    b.caller = buffers;
    b.height = height;
    b.width = width;
    b.lanes = lanes;
    b.regions = regions;
    b.setup_bytes = aligned(largest_setup());
    b.pixels = largest_plane(pixels);
    b.kernels = plan.kernels;
    b.regularisation = plan.regularisation();
    b.enlarge_factor = static_cast<float>(1.0 / kParameters.pyramid_scale);

    const std::size_t bytes = memory->lay_out(nullptr);
    error = cudaMalloc(&memory->device, bytes);
    if (error == cudaSuccess) {
        memory->lay_out(static_cast<unsigned char*>(memory->device));
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

RoiFlowStatus RoiFlowBatch::start(int lane, const Rect& box, const RoiFlowLayout& layout, CUstream_st* stream) noexcept
    try {
    Memory& m = *memory_;
    const Batch& b = m.batch;
    if (lane < 0 || lane >= b.lanes) return RoiFlowStatus::kBadLane;
    if (!m.inside_picture(box)) return RoiFlowStatus::kBadBox;
    if (!valid(layout, b.regions)) return RoiFlowStatus::kBadLayout;
    if (pixels_of(layout) > m.max_pixels) return RoiFlowStatus::kTooLarge;
    PreparedLane prepared = prepare(layout);

    // What was sent last may still be being read.
    cudaError_t error = cudaStreamSynchronize(stream);
    if (error != cudaSuccess) return status_of(error);
    m.outgoing = std::move(prepared.bytes);
    error = cudaMemcpyAsync(b.setups + static_cast<std::size_t>(lane) * b.setup_bytes, m.outgoing.data(),
                            m.outgoing.size(), cudaMemcpyHostToDevice, stream);
    if (error != cudaSuccess) return status_of(error);
    m.setups[static_cast<std::size_t>(lane)] = prepared.setup;
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
