// The flow on every vector path against the portable one; sizes from one pixel; lanes on threads; memory, together with
// the sanitizers. That the numbers are OpenCV's is shown in tests/flow.
#include "metst/roi_flow.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

#include "expect.h"
#include "fenced_array.h"
#include "simd_paths.h"
#include "thread_sanitizer.h"
#include "waves.h"

namespace {

using metst::Farneback;
using metst::Gray;
using metst::Rect;
using metst::RoiFlow;

// A picture between inaccessible pages, so that reading past its last byte ends the process.
class Picture {
public:
    Picture(int height, int width, double dx, double dy, unsigned seed)
        : memory_((static_cast<std::size_t>(height) * static_cast<std::size_t>(width) + 3) / 4, Fence::kAfter),
          height_(height),
          width_(width) {
        const std::size_t bytes = static_cast<std::size_t>(height) * static_cast<std::size_t>(width);
        pixels_ = reinterpret_cast<std::uint8_t*>(memory_.data() + memory_.size()) - bytes;
        draw_waves(height, width, dx, dy, seed, pixels_);
    }
    Gray gray() const { return {pixels_, height_, width_, width_}; }

private:
    FencedArray memory_;
    int height_, width_;
    std::uint8_t* pixels_;
};

std::vector<float> flow_of(const Picture& anchor, const Picture& frame, metst::SimdPath path,
                           const metst::FarnebackParameters& parameters = {}) {
    const Gray gray = anchor.gray();
    std::vector<float> flow(2 * static_cast<std::size_t>(gray.height) * static_cast<std::size_t>(gray.width));
    Farneback(gray, parameters, path).to(frame.gray(), flow.data());
    return flow;
}

void test_paths_agree() {
    const int sizes[][2] = {{1, 1},   {1, 40},  {40, 1},  {2, 2},   {3, 17},
                            {16, 16}, {27, 54}, {33, 33}, {64, 65}, {90, 131}};
    for (const auto& size : sizes) {
        const Picture anchor(size[0], size[1], 0.0, 0.0, 1), frame(size[0], size[1], 0.6, -0.4, 2);
        const std::vector<float> expected = flow_of(anchor, frame, metst::SimdPath::kScalar);
        for (const NamedPath& path : available_paths()) {
            const std::vector<float> flow = flow_of(anchor, frame, path.path);
            double sum = 0.0;
            for (std::size_t i = 0; i < flow.size(); ++i) sum += std::fabs(static_cast<double>(flow[i] - expected[i]));
            const double mean = sum / static_cast<double>(flow.size());
            EXPECT(mean <= 1e-4, "%s, %d x %d: mean difference %g", path.name, size[0], size[1], mean);
            for (float still : flow_of(anchor, anchor, path.path)) EXPECT(still == 0.0f, "%s: %g", path.name, still);
        }
    }
}

void test_parameters() {
    metst::FarnebackParameters parameters;
    parameters.pyramid_scale = 0.8;
    parameters.levels = 5;
    parameters.window = 12;
    parameters.reach = 5;
    const Picture anchor(77, 93, 0.0, 0.0, 1), frame(77, 93, 0.6, -0.4, 2);
    for (const NamedPath& path : available_paths()) {
        for (float x : flow_of(anchor, frame, path.path, parameters)) EXPECT(std::isfinite(x), "%s", path.name);
    }
}

metst::RoiFlowLayout layout() {
    metst::RoiFlowLayout layout;
    layout.patches[layout.patch_count++] = {40, 90, 30, 110};
    layout.patches[layout.patch_count++] = {200, 300, 80, 240};
    layout.patches[layout.patch_count++] = {10, 10, 5, 5};  // empty
    layout.regions[layout.region_count++] = {0, {10, 40, 10, 70}, 0.3};
    layout.regions[layout.region_count++] = {1, {0, 100, 0, 160}, 1.0};
    layout.regions[layout.region_count++] = {1, {90, 100, 150, 160}, 0.2};
    layout.regions[layout.region_count++] = {2, {0, 0, 0, 0}, 0.5};
    layout.nose = {100, 150, 140, 180};
    layout.nose_inside = {5, 45, 5, 35};
    layout.nose_share = 0.5;
    return layout;
}

void test_lanes_on_threads() {
    const Picture anchor(240, 320, 0.0, 0.0, 1), other(240, 320, 0.4, 0.4, 2);
    for (bool compat : {false, true}) {
        metst::RoiFlowLayout where = layout();
        where.compat = compat;
        const auto lanes = [&] {
            std::vector<RoiFlow> all;
            all.emplace_back(anchor.gray(), Rect{0, 200, 0, 200}, where);
            all.emplace_back(other.gray(), Rect{0, 200, 0, 200}, where);
            all.emplace_back(anchor.gray(), Rect{40, 240, 100, 320}, where);
            return all;
        };
        std::vector<RoiFlow> alone = lanes(), together = lanes();
        // Far enough that the boxes are pushed against the picture's edges.
        for (int i = 1; i < (kThreadsOnly ? 3 : 8); ++i) {
            const Picture frame(240, 320, -5.0 * i, 4.0 * i, static_cast<unsigned>(i));
            float expected[3][8], got[3][8];
            RoiFlow* pointers[3];
            float* rows[3];
            for (std::size_t k = 0; k < 3; ++k) {
                RoiFlow* one = &alone[k];
                float* row = expected[k];
                metst::measure(&one, 1, frame.gray(), &row, 1);
                pointers[k] = &together[k];
                rows[k] = got[k];
            }
            metst::measure(pointers, 3, frame.gray(), rows, 1 + i % 4);
            EXPECT(std::memcmp(expected, got, sizeof got) == 0, "frame %d", i);
            for (std::size_t k = 0; k < 3; ++k) {
                for (float x : got[k]) EXPECT(std::isfinite(x), "frame %d", i);
                for (int axis = 0; axis < 2; ++axis) {
                    const double head = compat ? together[k].motion()[axis] : 0.0;
                    EXPECT(got[k][6 + axis] == static_cast<float>(0.0 - head), "an empty region has no flow");
                }
            }
        }
    }
}

// Lanes that take the frame in after them, and are measured from those that took the one before, as a face held steady
// has them: what each of those gives when it is opened on its frame and measures the next.
void test_steps(int threads) {
    constexpr int kLanes = 3, kPictures = 5;
    const Picture pictures[kPictures] = {{240, 320, 0.0, 0.0, 1},
                                         {240, 320, 1.3, -0.8, 1},
                                         {240, 320, 2.6, -1.6, 1},
                                         {240, 320, 3.9, -2.4, 1},
                                         {240, 320, 5.2, -3.2, 1}};
    const Rect boxes[kLanes] = {{0, 200, 0, 200}, {0, 200, 0, 200}, {40, 240, 100, 320}};
    metst::RoiFlowLayout where = layout();
    where.nose = where.nose_inside = {};
    const auto at = [&](int i) { return pictures[i % kPictures].gray(); };
    const auto lanes = [&](int first) {
        std::vector<RoiFlow> all;
        for (int k = 0; k < kLanes; ++k) all.emplace_back(at(first + k), boxes[k], where);
        return all;
    };
    std::vector<RoiFlow> now = lanes(3), last = lanes(0);  // what they were opened on is forgotten
    for (int i = 1; i < (kThreadsOnly ? 3 : 7); ++i) {
        Gray frames[kLanes];
        RoiFlow *lane[kLanes], *before[kLanes];
        float got[kLanes][8], expected[kLanes][8], from_now[kLanes][8];
        float* rows[kLanes];
        for (int k = 0; k < kLanes; ++k) {
            const std::size_t at_lane = static_cast<std::size_t>(k);
            frames[k] = at(i + k);
            lane[k] = &now[at_lane];
            before[k] = i % 3 == k ? nullptr : &last[at_lane];
            rows[k] = got[k];
            std::fill_n(got[k], 8, NAN);
            std::fill_n(expected[k], 8, 0.0f);
            if (before[k]) {
                RoiFlow opened(at(i - 1 + k), boxes[k], where);
                RoiFlow* one = &opened;
                float* row = expected[k];
                metst::measure(&one, 1, frames[k], &row, 1);
                float most = 0.0f;
                for (float x : expected[k]) most = std::max(most, std::fabs(x));
                EXPECT(most > 0.1f, "frame %d, lane %d moves", i, k);
            }
        }
        metst::step(lane, before, kLanes, frames, rows, threads);
        EXPECT(std::memcmp(expected, got, sizeof got) == 0, "frame %d, %d threads", i, threads);
        for (int k = 0; k < kLanes; ++k) {
            EXPECT(lane[k]->box() == boxes[k] && lane[k]->likeness() == 1.0, "frame %d, lane %d", i, k);
            RoiFlow opened(frames[k], boxes[k], where);
            RoiFlow* const two[] = {lane[k], &opened};
            float* const of_two[] = {from_now[k], expected[k]};
            for (std::size_t j = 0; j < 2; ++j) metst::measure(two + j, 1, at(i + k + 2), of_two + j, 1);
            EXPECT(std::memcmp(expected[k], from_now[k], sizeof expected[k]) == 0, "frame %d, lane %d", i, k);
            EXPECT(lane[k]->likeness() == opened.likeness(), "frame %d, lane %d", i, k);
        }
        std::swap(now, last);
    }
    metst::step(nullptr, nullptr, 0, nullptr, nullptr, threads);
}

void test_callers_on_threads() {
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) threads.emplace_back(test_lanes_on_threads);
    for (int i = 0; i < 2; ++i) threads.emplace_back(test_steps, 2);
    for (std::thread& thread : threads) thread.join();
}

void test_thumbnails() {
    for (const auto& size : {std::pair<int, int>{1, 1}, {5, 100}, {32, 32}, {241, 319}}) {
        const Picture picture(size.first, size.second, 0.0, 0.0, 1);
        float out[metst::kThumbnail * metst::kThumbnail];
        metst::thumbnail(picture.gray(), {0, size.first, 0, size.second}, out);
        double sum = 0.0, squares = 0.0;
        for (float x : out) {
            sum += static_cast<double>(x);
            squares += static_cast<double>(x) * static_cast<double>(x);
        }
        EXPECT(std::fabs(sum) < 1e-3 && (squares < 1e-9 || std::fabs(squares - 1.0) < 1e-3), "%g %g", sum, squares);
    }
}

}  // namespace

int main() {
    if (!kThreadsOnly) {
        test_paths_agree();
        test_parameters();
        test_thumbnails();
    }
    test_lanes_on_threads();
    for (int threads : {1, 2, 5}) test_steps(threads);
    test_callers_on_threads();
    if (failures) std::printf("%d failures\n", failures);
    return failures != 0;
}
