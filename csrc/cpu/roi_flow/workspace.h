// The working memory of the flow: one block a thread, cut into pieces for the picture at hand.
#pragma once

#include <algorithm>
#include <cstdint>

#include "expansion.h"
#include "metst/aligned_floats.h"
#include "pieces.h"
#include "roi_flow_plan.h"

namespace metst {

// Grows to the largest plan seen and stays.
class Scratch {
public:
    static Scratch& of_this_thread() {
        thread_local Scratch scratch;
        return scratch;
    }

    float* at_least(std::int64_t floats) {
        if (floats > floats_.size()) {
            floats_ = AlignedFloats();
            floats_ = AlignedFloats(floats);
        }
        return floats_.data();
    }

private:
    AlignedFloats floats_;
};

struct FlowField {
    float* dx;
    float* dy;
    int stride;
};

// What measuring one picture of a plan needs; valid until this thread makes another.
struct Workspace {
    std::uint8_t* pixels;  // (height) rows of plan.pixel_stride()
    std::int16_t* resized[2];
    float *blurred, *picture, *rows, *ring, *zeros, *sums, *thirds, *samples, *fraction_x, *fraction_y;
    std::int32_t* offsets;
    FlowField flow[2];
    float* expansion[kMaxLevels];  // pixels, or planes where the loops read these
    float *squares, *x, *y;

    explicit Workspace(const Plan& plan) {
        Pieces counted;
        cut(counted, plan);
        Pieces memory(Scratch::of_this_thread().at_least(counted.used()));
        cut(memory, plan);
        std::fill_n(zeros - plan.margin, kPlanes * size(plan.levels[0].stride), 0.0f);
    }

private:
    void cut(Pieces& memory, const Plan& p) {
        const int margin = p.margin;
        const std::int64_t row = p.levels[0].stride, plane = static_cast<std::int64_t>(p.levels[0].floats());
        pixels = reinterpret_cast<std::uint8_t*>(memory.floats(static_cast<std::int64_t>(p.pixel_floats())));
        for (auto& r : resized) r = reinterpret_cast<std::int16_t*>(memory.floats(row));
        blurred = memory.floats(2 * p.blurred_stride(), p.blur_margin);
        picture = memory.floats(plane, margin);
        rows = memory.floats(3 * row, margin);
        ring = memory.floats(static_cast<std::int64_t>(p.ring_rows()) * kPlanes * row, margin);
        zeros = memory.floats(kPlanes * row, margin);
        // Whole vectors are written beyond the last plane's last column, more than its margin.
        sums = memory.floats((kPlanes + 1) * row, margin);
        thirds = memory.floats((kPlanes + 1) * row, margin);
        samples = memory.floats(kPlanes * row, margin);
        fraction_x = memory.floats(row);
        fraction_y = memory.floats(row);
        offsets = reinterpret_cast<std::int32_t*>(memory.floats(row));
        for (FlowField& f : flow) {
            f.dx = memory.floats(plane + row, margin);
            f.dy = memory.floats(plane + row, margin);
        }
        for (std::size_t k = 0; k < p.levels.size(); ++k) {
            expansion[k] = memory.floats(static_cast<std::int64_t>(p.levels[k].frame_floats()));
        }
        const std::int64_t longest = static_cast<std::int64_t>(p.height) * p.width + kRowAlignment;
        squares = memory.floats(longest);
        x = memory.floats(longest);
        y = memory.floats(longest);
    }
};

}  // namespace metst
