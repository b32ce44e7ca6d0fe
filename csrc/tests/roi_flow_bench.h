// The GPU's flow and the memory that it works on, for test_roi_flow_cuda.cpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>

#include "device_array.h"
#include "expect.h"
#include "metst/roi_flow_cuda.h"
#include "waves.h"

using metst::cuda::RoiFlowBatch;
using metst::cuda::RoiFlowBuffers;
using metst::cuda::RoiFlowRequest;
using metst::cuda::RoiFlowResult;
using metst::cuda::RoiFlowStatus;

// Waves that have moved by (dx, dy), and noise.
struct Picture {
    int height, width;
    std::vector<std::uint8_t> pixels;

    Picture(int height_, int width_, double dx, double dy, unsigned seed)
        : height(height_), width(width_), pixels(static_cast<std::size_t>(height) * static_cast<std::size_t>(width)) {
        draw_waves(height, width, dx, dy, seed, pixels.data());
    }
    metst::Gray gray() const { return {pixels.data(), height, width, width}; }
};

inline void expect(RoiFlowStatus actual, RoiFlowStatus expected, const char* what) {
    EXPECT(actual == expected, "%s: %d, not %d", what, static_cast<int>(actual), static_cast<int>(expected));
}

// A batch and the memory it works on. Every lane is measured, and its features are the frame's, unless told otherwise.
struct Bench {
    int lanes, channels;
    DeviceArray<std::uint8_t> frame;
    DeviceArray<float> requests, features, likeness;
    std::unique_ptr<RoiFlowBatch> batch;

    Bench(const Picture& like, int lanes_, int regions, std::int64_t pixels = RoiFlowBatch::kDefaultPixels)
        : lanes(lanes_),
          channels(2 * regions),
          frame(like.pixels.size()),
          requests(3 * static_cast<std::size_t>(lanes)),
          features(static_cast<std::size_t>(lanes * channels)),
          likeness(static_cast<std::size_t>(lanes)) {
        expect(RoiFlowBatch::create(like.height, like.width, lanes, regions, pixels, buffers(), &batch),
               RoiFlowStatus::kOk, "create");
        if (!batch) std::exit(1);
        ask(std::vector<RoiFlowRequest>(static_cast<std::size_t>(lanes), {1.0f, 0.0f, 1.0f}));
    }

    RoiFlowBuffers buffers() const { return {frame.data(), requests.data(), features.data(), likeness.data()}; }

    void ask(const std::vector<RoiFlowRequest>& wanted) {
        std::vector<float> numbers;
        for (const RoiFlowRequest& r : wanted) numbers.insert(numbers.end(), {r.measure, r.previous, r.latest});
        requests.upload(numbers);
    }
    void start(int lane, const Picture& anchor, const metst::Rect& box, const metst::RoiFlowLayout& layout) {
        frame.upload(anchor.pixels);
        expect(batch->start(lane, box, layout, nullptr), RoiFlowStatus::kOk, "start");
    }
    void measure(const Picture& picture) {
        frame.upload(picture.pixels);
        expect(batch->measure(nullptr), RoiFlowStatus::kOk, "measure");
        check(cudaDeviceSynchronize(), "measure");
    }
    void blend() {
        expect(batch->blend(nullptr), RoiFlowStatus::kOk, "blend");
        check(cudaDeviceSynchronize(), "blend");
    }
    std::vector<float> features_of(int lane) const {
        const float* const row = features.data() + static_cast<std::ptrdiff_t>(lane) * channels;
        return download(row, static_cast<std::size_t>(channels));
    }
    double likeness_of(int lane) const { return static_cast<double>(download(likeness.data() + lane, 1)[0]); }
    RoiFlowResult result_of(int lane) const { return download(batch->results() + lane, 1)[0]; }
};

// A patch's flow as the CPU library lays it out: dx and dy of each pixel.
inline std::vector<float> interleaved(const metst::cuda::PatchFlow& flow) {
    const std::size_t count = static_cast<std::size_t>(flow.height) * static_cast<std::size_t>(flow.width);
    const std::vector<float> dx = download(flow.dx, count), dy = download(flow.dy, count);
    std::vector<float> out;
    for (std::size_t i = 0; i < count; ++i) out.insert(out.end(), {dx[i], dy[i]});
    return out;
}
