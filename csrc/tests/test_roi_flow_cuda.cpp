// The ROI flow's CUDA source against the CPU library. Built twice, like test_selective_scan_cuda.cpp: with the
// emulation of cuda_on_cpu.h, and, where METST_CUDA is on, for this machine's GPU (exit status 77 where it has none).
#include "metst/roi_flow_cuda.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <memory>
#include <tuple>
#include <utility>
#include <vector>

#include "device_array.h"
#include "expect.h"
#include "roi_flow_bench.h"

#ifdef METST_CUDA_ON_CPU
constexpr double kTolerance = 1e-3;  // pixels, of features
#else
constexpr double kTolerance = 2e-2;
#endif
#ifdef METST_TEST_QUICK  // under the sanitizers
constexpr bool kQuick = true;
#else
constexpr bool kQuick = false;
#endif

namespace {

using metst::FlowRegion;
using metst::Gray;
using metst::Rect;
using metst::RoiFlow;
using metst::RoiFlowLayout;

double worst_feature = 0.0, worst_mean_flow = 0.0;

void expect_zero(const std::vector<float>& features, const char* what) {
    for (float x : features) EXPECT(x == 0.0f, "%s: %g", what, static_cast<double>(x));
}

// OpenCV's bilinear resize of 8-bit pixels, one axis: the pixel, its neighbour and their weights of 2048. Columns stop
// at the border, rows are repeated there.
struct Reading {
    int at, next, weight, next_weight;

    Reading(int i, int length, bool column) {
        const double scale = 1.0 / (320.0 / length);
        const volatile double scaled = (i + 0.5) * scale;  // rounded before the sum, on every machine
        const float position = static_cast<float>(scaled - 0.5);
        const int first = static_cast<int>(std::floor(position));
        float fraction = position - static_cast<float>(first);
        if (column && (first < 0 || first + 1 >= length)) fraction = 0.0f;
        at = std::max(0, std::min(first, length - 1));
        next = std::max(0, std::min(first + 1, length - 1));
        weight = static_cast<int>(std::nearbyint((1.0f - fraction) * 2048.0f));
        next_weight = static_cast<int>(std::nearbyint(fraction * 2048.0f));
    }
};

void crops_are_opencv_s() {
    const Picture picture(241, 517, 0.0, 0.0, 1);
    RoiFlowLayout layout;
    layout.patches[layout.patch_count++] = {0, 320, 0, 320};
    Bench bench(picture, 1, 0);
    for (const Rect& box :
         {Rect{0, 241, 0, 517}, Rect{3, 238, 11, 250}, Rect{50, 57, 200, 500}, Rect{9, 10, 516, 517}}) {
        bench.start(0, picture, box, layout);
        check(cudaDeviceSynchronize(), "start");
        const std::vector<std::uint8_t> crop = download(bench.batch->flow(0, 0).pixels, 320 * 320);
        int wrong = 0;
        for (int y = 0; y < 320; ++y) {
            const Reading row(y, box.height(), false);
            for (int x = 0; x < 320; ++x) {
                const Reading column(x, box.width(), true);
                const auto along = [&](int of_row) {
                    const std::uint8_t* const pixels =
                        picture.pixels.data() + (box.top + of_row) * picture.width + box.left;
                    return (pixels[column.at] * column.weight + pixels[column.next] * column.next_weight) >> 4;
                };
                const int sum = ((along(row.at) * row.weight) >> 16) + ((along(row.next) * row.next_weight) >> 16);
                wrong += crop[static_cast<std::size_t>(y * 320 + x)] != (sum + 2) >> 2;
            }
        }
        EXPECT(wrong == 0, "box of %d x %d: %d pixels differ", box.height(), box.width(), wrong);
    }
}

// Patches of the crop of a picture that is shown as it is, each measured as a whole.
void dense_flow_is_the_cpu_s(const std::vector<Rect>& patches) {
    const Picture anchor(320, 320, 0.0, 0.0, 1), frame(320, 320, 0.6, -0.4, 2);
    RoiFlowLayout layout;
    for (const Rect& rect : patches) {
        layout.regions[layout.region_count++] = {layout.patch_count, {0, rect.height(), 0, rect.width()}, 0.5};
        layout.patches[layout.patch_count++] = rect;
    }
    const Rect whole{0, 320, 0, 320};
    Bench bench(anchor, 1, layout.region_count);
    bench.start(0, anchor, whole, layout);

    bench.measure(anchor);
    for (int i = 0; i < layout.patch_count; ++i) expect_zero(interleaved(bench.batch->flow(0, i)), "a still patch");
    expect_zero(bench.features_of(0), "a still feature");

    bench.measure(frame);
    for (int i = 0; i < layout.patch_count; ++i) {
        const Rect& rect = layout.patches[i];
        const std::ptrdiff_t corner = rect.top * 320 + rect.left;
        const Gray from{anchor.pixels.data() + corner, rect.height(), rect.width(), 320};
        const Gray to{frame.pixels.data() + corner, rect.height(), rect.width(), 320};
        const std::vector<float> flow = interleaved(bench.batch->flow(0, i));
        std::vector<float> expected(flow.size());
        metst::Farneback(from, {}).to(to, expected.data());
        std::vector<double> errors;
        double sum = 0.0, length = 0.0;
        for (std::size_t k = 0; k < flow.size(); ++k) {
            errors.push_back(std::fabs(static_cast<double>(flow[k]) - static_cast<double>(expected[k])));
            sum += errors.back();
            length += std::fabs(static_cast<double>(expected[k]));
        }
        const auto most = errors.begin() + static_cast<std::ptrdiff_t>(static_cast<double>(errors.size()) * 0.999);
        std::nth_element(errors.begin(), most, errors.end());
        const double count = static_cast<double>(flow.size());
        worst_mean_flow = std::max(worst_mean_flow, sum / count);
        EXPECT(sum / count <= 1e-4, "%d x %d: mean error %g", rect.height(), rect.width(), sum / count);
        EXPECT(*most <= 2e-2, "%d x %d: 99.9 %% of the errors are up to %g", rect.height(), rect.width(), *most);
        const bool small = rect.height() < 16 || rect.width() < 16;  // barely moves at the border
        EXPECT(small || length / count > 0.1, "%d x %d: nothing moves", rect.height(), rect.width());
    }
}

RoiFlowLayout face_layout(bool compat) {
    RoiFlowLayout layout;
    layout.patches[layout.patch_count++] = {40, 90, 30, 110};
    layout.patches[layout.patch_count++] = {200, 300, 80, 240};
    layout.patches[layout.patch_count++] = {10, 10, 5, 5};  // empty
    layout.patches[layout.patch_count++] = {280, 320, 250, 320};
    layout.regions[layout.region_count++] = {0, {10, 40, 10, 70}, 0.3};
    layout.regions[layout.region_count++] = {1, {10, 90, 10, 150}, 0.3};
    layout.regions[layout.region_count++] = {1, {90, 100, 140, 160}, 0.2};
    layout.regions[layout.region_count++] = {2, {0, 0, 0, 0}, 0.5};
    layout.regions[layout.region_count++] = {3, {5, 6, 60, 70}, 1.0};
    layout.regions[layout.region_count++] = {3, {5, 30, 20, 60}, 0.0};
    layout.nose = {100, 139, 140, 168};
    layout.nose_inside = {15, 29, 5, 23};
    layout.nose_share = 0.7;
    layout.compat = compat;
    return layout;
}

// ME-TST+'s eighteen regions in six patches, as landmarks of a face (skimage's astronaut) place them.
RoiFlowLayout eighteen_regions(bool compat) {
    RoiFlowLayout layout;
    for (const Rect& patch : {Rect{59, 93, 38, 134}, Rect{69, 106, 197, 287}, Rect{224, 301, 66, 249},
                              Rect{180, 228, 96, 220}, Rect{132, 163, 62, 125}, Rect{138, 169, 202, 265}}) {
        layout.patches[layout.patch_count++] = patch;
    }
    for (const FlowRegion& region : {FlowRegion{0, {10, 24, 10, 86}, 0.3}, FlowRegion{0, {8, 28, 53, 73}, 0.2},
                                     FlowRegion{0, {5, 25, 27, 47}, 0.2}, FlowRegion{0, {9, 29, 8, 28}, 0.2},
                                     FlowRegion{1, {10, 27, 10, 80}, 0.3}, FlowRegion{1, {5, 25, 23, 43}, 0.3},
                                     FlowRegion{1, {5, 25, 49, 69}, 0.3}, FlowRegion{1, {11, 31, 68, 88}, 0.3},
                                     FlowRegion{2, {10, 67, 10, 173}, 0.3}, FlowRegion{2, {7, 27, 10, 40}, 0.2},
                                     FlowRegion{2, {16, 36, 143, 173}, 0.2}, FlowRegion{2, {10, 30, 81, 101}, 0.2},
                                     FlowRegion{2, {57, 77, 78, 98}, 0.2}, FlowRegion{2, {18, 38, 80, 100}, 0.2},
                                     FlowRegion{3, {10, 35, 10, 40}, 0.2}, FlowRegion{3, {13, 38, 84, 114}, 0.2},
                                     FlowRegion{4, {5, 26, 5, 58}, 0.3}, FlowRegion{5, {5, 26, 5, 58}, 0.3}}) {
        layout.regions[layout.region_count++] = region;
    }
    layout.nose = {168, 213, 146, 173};
    layout.nose_inside = {15, 35, 5, 22};
    layout.nose_share = 0.7;
    layout.compat = compat;
    return layout;
}

// Lane by lane what the CPU library says.
struct Reference {
    std::vector<std::unique_ptr<RoiFlow>> lanes;

    void expect_same(const Bench& bench, const Picture& frame, const std::vector<int>& where, int number) {
        const std::size_t channels = static_cast<std::size_t>(lanes[0]->channels());
        for (std::size_t i = 0; i < lanes.size(); ++i) {
            std::vector<float> expected(channels);
            RoiFlow* lane = lanes[i].get();
            float* row = expected.data();
            metst::measure(&lane, 1, frame.gray(), &row, 1);
            const std::vector<float> features = bench.features_of(where[i]);
            const RoiFlowResult result = bench.result_of(where[i]);
            const double likeness = bench.likeness_of(where[i]);
            const Rect a = result.box, b = lane->box();
            EXPECT(a == b, "frame %d lane %zu: box %d %d %d %d, not %d %d %d %d", number, i, a.top, a.bottom, a.left,
                   a.right, b.top, b.bottom, b.left, b.right);
            for (int axis = 0; axis < 2; ++axis) {
                EXPECT(std::fabs(result.motion[axis] - lane->motion()[axis]) <= kTolerance, "frame %d lane %zu: %g, %g",
                       number, i, result.motion[axis], lane->motion()[axis]);
            }
            EXPECT(std::fabs(likeness - lane->likeness()) <= 1e-5, "frame %d lane %zu: likeness %g, not %g", number, i,
                   likeness, lane->likeness());
            for (std::size_t c = 0; c < channels; ++c) {
                const double error = std::fabs(static_cast<double>(features[c]) - static_cast<double>(expected[c]));
                worst_feature = std::max(worst_feature, error);
                EXPECT(error <= kTolerance, "frame %d lane %zu channel %zu: %g, not %g", number, i, c,
                       static_cast<double>(features[c]), static_cast<double>(expected[c]));
            }
        }
    }
};

// Two lanes in slots 0 and 2 of three, on frames that push their boxes about and against the picture's edges.
void lanes_are_the_cpu_s(const RoiFlowLayout& layout, int frames) {
    const Picture first(240, 320, 0.0, 0.0, 1), second(240, 320, -2.0, 1.5, 2);
    const Rect near{20, 220, 40, 240}, far{40, 240, 100, 320};
    Bench bench(first, 3, layout.region_count);
    bench.start(0, first, near, layout);
    bench.start(2, second, far, layout);
    Reference reference;
    reference.lanes.push_back(std::make_unique<RoiFlow>(first.gray(), near, layout));
    reference.lanes.push_back(std::make_unique<RoiFlow>(second.gray(), far, layout));
    bool moved = false, still = false;
    for (int i = 1; i < frames; ++i) {
        // The second and third frame differ by a fraction of a pixel.
        const double step = i < 3 ? 0.3 * i : 5.0 * i - 13.0;
        const Picture frame(240, 320, -step, 0.8 * step, static_cast<unsigned>(i));
        const Rect before = reference.lanes[0]->box();
        bench.measure(frame);
        reference.expect_same(bench, frame, {0, 2}, i);
        (reference.lanes[0]->box() == before ? still : moved) = true;
        expect_zero(bench.features_of(1), "lane 1 is not started");
        if (i == 2) {  // from here on another window
            bench.start(2, frame, near, layout);
            reference.lanes[1] = std::make_unique<RoiFlow>(frame.gray(), near, layout);
        }
    }
    EXPECT(moved && still, "boxes should move on some frames and stay on others");
}

// A lane is measured when it is asked for and then only; features are what is asked for of its last two.
void lanes_do_as_they_are_asked() {
    const RoiFlowLayout layout = face_layout(false);
    const Picture anchor(240, 320, 0.0, 0.0, 1), near(240, 320, 0.6, -0.4, 2), far(240, 320, 9.0, -7.0, 3);
    const Rect box{20, 220, 40, 240};
    Bench bench(anchor, 2, layout.region_count);
    for (int lane : {0, 1}) bench.start(lane, anchor, box, layout);
    bench.blend();
    for (int lane : {0, 1}) expect_zero(bench.features_of(lane), "a lane that has just been started");
    EXPECT(bench.likeness_of(0) == 1.0, "a fresh lane is its anchor: %g", bench.likeness_of(0));

    bench.measure(near);
    const std::vector<float> at_near = bench.features_of(1);
    const double likeness = bench.likeness_of(1);
    const Rect box_near = bench.result_of(1).box;
    bench.ask({{1.0f, 0.0f, 1.0f}, {0.0f, 0.0f, 1.0f}});
    bench.measure(far);
    const std::vector<float> at_far = bench.features_of(0);
    EXPECT(at_far != at_near && !(bench.result_of(0).box == box_near), "lane 0 has followed the head");
    EXPECT(bench.features_of(1) == at_near && bench.result_of(1).box == box_near, "lane 1 is as it was");
    EXPECT(bench.likeness_of(1) == likeness && bench.likeness_of(0) != likeness, "so is its likeness");

    bench.ask({{1.0f, 0.75f, 0.25f}, {1.0f, 1.0f, 0.0f}});
    bench.blend();
    const std::vector<float> between = bench.features_of(0);
    for (std::size_t i = 0; i < between.size(); ++i) {
        const double expected = 0.75 * static_cast<double>(at_near[i]) + 0.25 * static_cast<double>(at_far[i]);
        EXPECT(std::fabs(static_cast<double>(between[i]) - expected) <= 1e-5, "channel %zu: %g, not %g", i,
               static_cast<double>(between[i]), expected);
    }
    expect_zero(bench.features_of(1), "before lane 1's only frame was its anchor");
    bench.ask({{}, {0.0f, 0.0f, 1.0f}});
    bench.blend();
    expect_zero(bench.features_of(0), "nothing was asked of lane 0");
    EXPECT(bench.features_of(1) == at_near, "a blend measures nothing");

    bench.ask({{1.0f, 0.0f, 1.0f}, {0.0f, 0.0f, 1.0f}});
    bench.start(0, far, box, layout);
    bench.measure(far);
    expect_zero(bench.features_of(0), "the new window's anchor");
    bench.ask({{0.0f, 1.0f, 0.0f}, {}});
    bench.blend();
    expect_zero(bench.features_of(0), "the old window is forgotten");
}

#ifndef METST_CUDA_ON_CPU
// A graph that was captured once measures whatever `frame` holds, against whatever was started last.
void a_captured_frame_is_the_same() {
    const RoiFlowLayout layout = face_layout(false);
    const Picture anchor(240, 320, 0.0, 0.0, 1), other(240, 320, 1.0, -1.5, 2), frame(240, 320, 2.4, -1.3, 3);
    const Rect box{20, 220, 40, 240};
    Bench bench(anchor, 2, layout.region_count);
    cudaStream_t stream;
    cudaGraph_t graph;
    cudaGraphExec_t executable;
    check(cudaStreamCreate(&stream), "cudaStreamCreate");
    check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
    expect(bench.batch->measure(stream), RoiFlowStatus::kOk, "measure, captured");
    check(cudaStreamEndCapture(stream, &graph), "cudaStreamEndCapture");
    check(cudaGraphInstantiate(&executable, graph, 0), "cudaGraphInstantiate");
    for (const Picture* from : {&anchor, &other}) {
        std::vector<std::vector<float>> features;
        for (bool captured : {false, true}) {
            bench.start(1, *from, box, layout);
            check(cudaDeviceSynchronize(), "start");
            if (captured) {
                bench.frame.upload(frame.pixels);
                check(cudaGraphLaunch(executable, stream), "cudaGraphLaunch");
                check(cudaStreamSynchronize(stream), "a captured frame");
            } else {
                bench.measure(frame);
            }
            features.push_back(bench.features_of(1));
        }
        EXPECT(features[0] == features[1], "first channel %g, captured %g", static_cast<double>(features[0][0]),
               static_cast<double>(features[1][0]));
        EXPECT(features[0][0] != 0.0f, "the frame has moved");
    }
    check(cudaGraphExecDestroy(executable), "cudaGraphExecDestroy");
    check(cudaGraphDestroy(graph), "cudaGraphDestroy");
    check(cudaStreamDestroy(stream), "cudaStreamDestroy");
}
#endif

#ifdef METST_CUDA_ON_CPU
// The kernels that a frame launches most are one wave, whatever the device has room for.
void tiles_are_spread_over_what_runs_at_once() {
    const RoiFlowLayout layout = face_layout(false);
    const Picture anchor(240, 320, 0.0, 0.0, 1);
    const auto before = std::make_pair(cuda_on_cpu::multiprocessors, cuda_on_cpu::blocks_at_once);
    for (const auto& [multiprocessors, at_once, blocks] : {std::array{16, 2, 32}, {16, 3, 48}, {1, 2, 16}}) {
        cuda_on_cpu::multiprocessors = multiprocessors, cuda_on_cpu::blocks_at_once = at_once;
        Bench bench(anchor, 2, layout.region_count);
        for (int lane : {0, 1}) bench.start(lane, anchor, {20, 220, 40, 240}, layout);
        cuda_on_cpu::launched_blocks.clear();
        bench.measure(anchor);
        const std::vector<unsigned>& launched = cuda_on_cpu::launched_blocks;
        EXPECT(launched.size() == RoiFlowBatch::kLaunches, "%zu launches", launched.size());
        const auto iterations = std::count(launched.begin(), launched.end(), static_cast<unsigned>(blocks));
        EXPECT(iterations >= 12, "%d multiprocessors, %d blocks each: %td launches", multiprocessors, at_once,
               iterations);
    }
    std::tie(cuda_on_cpu::multiprocessors, cuda_on_cpu::blocks_at_once) = before;
}
#endif

// Stripes have no motion along themselves; rounding must not divide by what is left of it.
void stripes_give_finite_flow() {
    Picture anchor(320, 320, 0.0, 0.0, 1), frame = anchor;
    for (std::size_t i = 0; i < anchor.pixels.size(); ++i) {
        const double along = static_cast<double>(i % 320 + i / 320) / std::sqrt(2.0);
        const auto stripe = [&](double shift) {
            return static_cast<std::uint8_t>(127.5 + 127.5 * std::sin((along - shift) * std::acos(-1.0) / 4.0));
        };
        anchor.pixels[i] = stripe(0.0);
        frame.pixels[i] = stripe(0.7);
    }
    RoiFlowLayout layout;
    layout.patches[layout.patch_count++] = {0, 100, 0, 100};
    layout.regions[layout.region_count++] = {0, {0, 100, 0, 100}, 0.3};
    Bench bench(anchor, 1, 1);
    bench.start(0, anchor, {0, 320, 0, 320}, layout);
    bench.measure(frame);
    for (float x : interleaved(bench.batch->flow(0, 0))) EXPECT(std::isfinite(x), "flow of stripes");
    for (float x : bench.features_of(0)) EXPECT(std::isfinite(x) && x != 0.0f, "features of stripes: %g", x);
}

// A face that stays where it was gives exactly zero, whatever its box is resized from.
void an_anchor_has_not_moved() {
    const RoiFlowLayout layout = face_layout(false);
    const Picture anchor(241, 317, 0.0, 0.0, 1);
    Bench bench(anchor, 1, layout.region_count);
    bench.start(0, anchor, {3, 238, 11, 250}, layout);
    bench.measure(anchor);
    expect_zero(bench.features_of(0), "a face that stays where it was");
    const RoiFlowResult result = bench.result_of(0);
    EXPECT(result.motion[0] == 0.0 && result.motion[1] == 0.0, "%g %g", result.motion[0], result.motion[1]);
    EXPECT(std::fabs(bench.likeness_of(0) - 1.0) < 1e-6, "%g", bench.likeness_of(0));
}

void bad_arguments_are_refused() {
    const Picture picture(240, 320, 0.0, 0.0, 1);
    const RoiFlowLayout good = face_layout(false);
    const Rect box{0, 200, 0, 200};
    Bench bench(picture, 2, good.region_count, 50 * 80 + 100 * 160 + 40 * 70 + 39 * 28);
    RoiFlowBatch* const batch = bench.batch.get();

    std::unique_ptr<RoiFlowBatch> none;
    RoiFlowBuffers buffers = bench.buffers();
    const auto create = [&](int height, int width, int lanes, int regions, std::int64_t pixels) {
        return RoiFlowBatch::create(height, width, lanes, regions, pixels, buffers, &none);
    };
    expect(create(0, 320, 1, 1, 100), RoiFlowStatus::kBadSize, "no rows");
    expect(create(240, 40000, 1, 1, 100), RoiFlowStatus::kBadSize, "40000 columns");
    expect(create(240, 320, 0, 1, 100), RoiFlowStatus::kBadSize, "no lanes");
    expect(create(240, 320, 1, 65, 100), RoiFlowStatus::kBadSize, "65 regions");
    expect(create(240, 320, 1, 1, 0), RoiFlowStatus::kBadSize, "no pixels");
    for (auto** buffer : {&buffers.features, &buffers.likeness}) {
        buffers = bench.buffers();
        *buffer = nullptr;
        expect(create(240, 320, 1, 1, 100), RoiFlowStatus::kBadSize, "a buffer that is null");
    }
    EXPECT(!none, "nothing was made");

    const auto expect_layout = [&](RoiFlowStatus status, const char* what, auto change) {
        RoiFlowLayout layout = good;
        change(layout);
        expect(batch->start(0, box, layout, nullptr), status, what);
    };
    const RoiFlowStatus bad = RoiFlowStatus::kBadLayout;
    expect_layout(bad, "17 patches", [](RoiFlowLayout& l) { l.patch_count = 17; });
    expect_layout(bad, "a region less", [](RoiFlowLayout& l) { --l.region_count; });
    expect_layout(bad, "a patch outside the crop", [](RoiFlowLayout& l) { l.patches[0].right = 321; });
    expect_layout(bad, "a patch that does not exist", [](RoiFlowLayout& l) { l.regions[0].patch = 4; });
    expect_layout(bad, "a negative patch", [](RoiFlowLayout& l) { l.regions[0].patch = -1; });
    expect_layout(bad, "a region outside its patch", [](RoiFlowLayout& l) { l.regions[0].rect.bottom = 51; });
    expect_layout(bad, "a share of 1.5", [](RoiFlowLayout& l) { l.regions[0].share = 1.5; });
    expect_layout(bad, "a share of NaN",
                  [](RoiFlowLayout& l) { l.nose_share = std::numeric_limits<double>::quiet_NaN(); });
    expect_layout(bad, "a nose outside the crop", [](RoiFlowLayout& l) { l.nose.left = -1; });
    expect_layout(bad, "the nose's part outside it", [](RoiFlowLayout& l) { l.nose_inside.right = 29; });
    expect_layout(RoiFlowStatus::kTooLarge, "a row too many", [](RoiFlowLayout& l) { l.patches[0].bottom += 1; });
    for (const Rect& outside :
         {Rect{0, 241, 0, 200}, Rect{-1, 200, 0, 200}, Rect{0, 200, 0, 321}, Rect{5, 5, 0, 200}}) {
        expect(batch->start(0, outside, good, nullptr), RoiFlowStatus::kBadBox, "a box outside the picture");
    }
    for (int lane : {-1, 2}) expect(batch->start(lane, box, good, nullptr), RoiFlowStatus::kBadLane, "no such lane");
    EXPECT(!batch->flow(0, 0).dx, "a lane that was not started has no flow");

    expect(batch->start(0, box, good, nullptr), RoiFlowStatus::kOk, "as many pixels as were asked for");
    EXPECT(batch->flow(0, 1).height == 100 && batch->flow(0, 1).width == 160, "the flow of a patch");
    EXPECT(!batch->flow(0, 2).dx && !batch->flow(0, 4).dx, "a patch that is empty or does not exist");
    check(cudaDeviceSynchronize(), "start");
}

}  // namespace

int main(int argc, char** argv) {
    if (!has_device()) return kSkipped;
    const bool brief = briefly(argc, argv);
#ifdef METST_CUDA_ON_CPU
    cuda_on_cpu::multiprocessors = 2;  // a block takes several tiles then, and fewer blocks that find none are emulated
    tiles_are_spread_over_what_runs_at_once();
#endif
    if (brief) {
        lanes_are_the_cpu_s(eighteen_regions(false), 4);
        std::printf("worst feature %.2g, worst mean flow %.2g pixels\n%d failures\n", worst_feature, worst_mean_flow,
                    failures);
        return failures != 0;
    }
    bad_arguments_are_refused();
    crops_are_opencv_s();
    dense_flow_is_the_cpu_s({{1, 34, 2, 35},
                             {40, 67, 7, 61},
                             {70, 71, 0, 40},
                             {80, 120, 319, 320},
                             {80, 82, 9, 11},
                             {100, 103, 20, 37},
                             {120, 184, 3, 68}});
    an_anchor_has_not_moved();
    lanes_do_as_they_are_asked();
    stripes_give_finite_flow();
    for (bool compat : {false, true}) {
        lanes_are_the_cpu_s(face_layout(compat), kQuick ? 4 : 8);
        if (!kQuick || !compat) lanes_are_the_cpu_s(eighteen_regions(compat), 4);
    }
    dense_flow_is_the_cpu_s({{0, 130, 0, 160}});
    if (!kQuick) {
        dense_flow_is_the_cpu_s({{200, 290, 180, 311}});
        dense_flow_is_the_cpu_s({{0, 320, 0, 320}});
    }
#ifndef METST_CUDA_ON_CPU
    a_captured_frame_is_the_same();  // last: drivers before CUDA 12.3 refuse to capture what they have not loaded yet
#endif
    std::printf("worst feature %.2g, worst mean flow %.2g pixels\n%d failures\n", worst_feature, worst_mean_flow,
                failures);
    return failures != 0;
}
