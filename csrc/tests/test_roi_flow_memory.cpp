// When memory runs out in the middle of the flow, on whatever thread: the caller is told, and the next call is as ever.
// Under the sanitizers that shows what a block that was not had again would be used for.
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <thread>
#include <vector>

#include "expect.h"
#include "metst/roi_flow.h"
#include "waves.h"

namespace {

std::atomic<int> until_refused{-1};  // so many allocations of aligned floats are granted; below 0 all

}  // namespace

void* operator new(std::size_t size, std::align_val_t line) {
    if (until_refused.load() >= 0 && until_refused.fetch_sub(1) <= 0) {
        until_refused = 0;
        throw std::bad_alloc();
    }
    const std::size_t step = static_cast<std::size_t>(line);
    void* const memory = std::aligned_alloc(step, (size + step - 1) / step * step);
    if (memory == nullptr) throw std::bad_alloc();
    return memory;
}

void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

namespace {

using metst::Farneback;
using metst::Gray;
using metst::RoiFlow;

struct Picture {
    int height, width;
    std::vector<std::uint8_t> pixels;

    Picture(int height_, int width_, unsigned seed)
        : height(height_), width(width_), pixels(static_cast<std::size_t>(height_ * width_)) {
        draw_waves(height, width, 0.3, 0.2, seed, pixels.data());
    }
    Gray gray() const { return {pixels.data(), height, width, width}; }
};

template <class Call>
bool refused(Call&& call) {
    try {
        call();
    } catch (const std::bad_alloc&) {
        return true;
    }
    return false;
}

// On a thread of its own, whose working memory is yet to be had.
void flow_after_a_refusal() {
    const Picture anchor(200, 160, 1), frame(200, 160, 2), small_anchor(40, 40, 3), small(40, 40, 4);
    const Farneback flow(anchor.gray(), {}), small_flow(small_anchor.gray(), {});
    std::vector<float> expected(2 * anchor.pixels.size()), found(expected.size());
    flow.to(frame.gray(), expected.data());
    std::vector<float> small_out(2 * small.pixels.size());
    std::thread([&] {
        small_flow.to(small.gray(), small_out.data());  // some memory, too little for what comes
        for (int i = 0; i < 2; ++i) {
            until_refused = 0;
            EXPECT(refused([&] { flow.to(frame.gray(), found.data()); }), "try %d", i);
            EXPECT(refused([&] { Farneback(anchor.gray(), {}); }), "try %d, an anchor", i);
            EXPECT(refused([&] { small_flow.to(small.gray(), small_out.data()); }), "try %d, small", i);
            until_refused = -1;
        }
        flow.to(frame.gray(), found.data());
    }).join();
    EXPECT(found == expected, "after the refusal");
}

metst::RoiFlowLayout layout() {
    metst::RoiFlowLayout out;
    for (int i = 0; i < 6; ++i) {
        out.patches[out.patch_count++] = {20 + 40 * i, 60 + 40 * i, 30, 200 + 10 * i};
        out.regions[out.region_count++] = {i, {5, 35, 5, 100}, 0.5};
    }
    out.nose = {100, 140, 140, 180};
    out.nose_inside = {5, 35, 5, 35};
    return out;
}

// Whichever of the threads it is, at whichever of its allocations.
void lanes_after_a_refusal(int threads) {
    const Picture anchor(240, 320, 5), frame(240, 320, 6);
    int told = 0;
    for (int granted = 0; granted < 4; ++granted) {
        std::thread([&] {  // a caller without working memory of its own; the pool's threads may have some
            RoiFlow flow(anchor.gray(), {0, 240, 0, 320}, layout());
            RoiFlow* const lanes[] = {&flow};
            std::vector<float> features(static_cast<std::size_t>(flow.channels()));
            float* const out[] = {features.data()};
            std::thread([&] {
                until_refused = granted;
                told += refused([&] { metst::measure(lanes, 1, frame.gray(), out, threads); });
                until_refused = -1;
                metst::measure(lanes, 1, frame.gray(), out, threads);
            }).join();
            RoiFlow again(anchor.gray(), {0, 240, 0, 320}, layout());
            RoiFlow* const alone[] = {&again};
            std::vector<float> expected(features.size());
            float* const expected_out[] = {expected.data()};
            metst::measure(alone, 1, frame.gray(), expected_out, 1);
            EXPECT(features == expected, "%d threads, refused after %d", threads, granted);
        })
            .join();
    }
    EXPECT(told > 0, "%d threads: none was refused", threads);
}

}  // namespace

int main() {
    flow_after_a_refusal();
    for (int threads = 1; threads <= 3; ++threads) lanes_after_a_refusal(threads);
    if (failures) std::printf("%d failures\n", failures);
    return failures != 0;
}
