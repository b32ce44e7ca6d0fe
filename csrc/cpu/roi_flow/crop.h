// The crop of a picture: a box of it resized to RoiFlow::kCropSize square, of which any rectangle can be cut. OpenCV's
// fixed-point bilinear resize, bit for bit.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "metst/roi_flow.h"
#include "rect.h"
#include "roi_flow/loops.h"
#include "roi_flow_plan.h"

namespace metst {

// How the crop's pixels along one axis read a box of a given length.
struct CropAxis {
    static constexpr int kSize = RoiFlow::kCropSize;

    int length = 0;
    int at[kSize], next[kSize];
    std::int16_t weight[kSize], next_weight[kSize];

    // OpenCV stops columns at the border and repeats rows there, which rounds differently.
    void set(int length_, bool stop) {
        if (length == length_) return;
        length = length_;
        for (int i = 0; i < kSize; ++i) {
            auto [first, rest] = Resize::position(i, length, kSize);
            if (stop && (first < 0 || first >= length - 1)) rest = 0.0f;
            at[i] = std::clamp(first, 0, length - 1);
            next[i] = std::clamp(first + 1, 0, length - 1);
            weight[i] = static_cast<std::int16_t>(std::lrint((1.0f - rest) * 2048.0f));
            next_weight[i] = static_cast<std::int16_t>(std::lrint(rest * 2048.0f));
        }
    }
};

class Crop {
public:
    // The part of the box that lies in the picture is what the crop shows.
    void look_at(const Rect& box, int height, int width) {
        visible_ = inside(box, height, width);
        rows_.set(visible_.height(), false);
        columns_.set(visible_.width(), true);
    }

    const Rect& visible() const { return visible_; }

    // Cuts a rectangle out of the crop of `frame`. resized: working memory, two rows of the rectangle's width.
    void cut(const FlowLoops& loops, const Gray& frame, const Rect& rect, std::int16_t* const* resized,
             std::uint8_t* out, std::ptrdiff_t out_stride) const {
        if (visible_.height() == CropAxis::kSize && visible_.width() == CropAxis::kSize) {  // as it is
            const std::uint8_t* const corner = frame.pixels + visible_.top * frame.stride + visible_.left;
            for (int y = rect.top; y < rect.bottom; ++y, out += out_stride) {
                std::copy_n(corner + y * frame.stride + rect.left, rect.width(), out);
            }
            return;
        }
        CropArgs args;
        args.pixels = frame.pixels + visible_.top * frame.stride + visible_.left;
        args.pixel_stride = frame.stride;
        args.rows = rows_.at + rect.top;
        args.next_rows = rows_.next + rect.top;
        args.row_weights = rows_.weight + rect.top;
        args.next_row_weights = rows_.next_weight + rect.top;
        args.columns = columns_.at + rect.left;
        args.next_columns = columns_.next + rect.left;
        args.column_weights = columns_.weight + rect.left;
        args.next_column_weights = columns_.next_weight + rect.left;
        args.height = rect.height();
        args.width = rect.width();
        args.resized[0] = resized[0];
        args.resized[1] = resized[1];
        args.out = out;
        args.out_stride = out_stride;
        loops.crop(args);
    }

private:
    CropAxis rows_, columns_;
    Rect visible_;  // rows and columns are set for it
};

}  // namespace metst
