// Optical flow of the facial regions of a frame from an anchor frame, on the CPU: dense flow by polynomial expansion
// (Farneback, "Two-Frame Motion Estimation Based on Polynomial Expansion", SCIA 2003) with the numbers of OpenCV's
// calcOpticalFlowFarneback, and everything that ME-TST (arXiv 2409.09707, 2508.08082) does with it for one frame.
// Raw pointers and sizes only; knows no Python.
//
// Pictures are gray, one byte per pixel, rows `stride` bytes apart. Nothing here is thread-safe but different objects
// are independent. After construction nothing is allocated but working memory, once per thread and largest size.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "metst/cpu_features.h"

namespace metst {

struct Gray {
    const std::uint8_t* pixels = nullptr;
    int height = 0;
    int width = 0;
    std::ptrdiff_t stride = 0;  // bytes from one row to the next
};

struct FarnebackParameters {
    double pyramid_scale = 0.5;  // of each level to the one below it, in (0, 1)
    int levels = 3;              // at most, besides the full size; a level is at least 32 pixels high and wide
    int window = 15;             // side of the averaging box, pixels
    int iterations = 5;          // per level
    int reach = 7;               // OpenCV's poly_n: the expansion sees 2 reach + 1 pixels a side
    double sigma = 1.5;          // of the expansion's Gaussian weight, pixels
};

// Rows top .. bottom-1 and columns left .. right-1, in pixels.
struct Rect {
    int top = 0;
    int bottom = 0;
    int left = 0;
    int right = 0;

    int height() const { return bottom - top; }
    int width() const { return right - left; }
    bool empty() const { return bottom <= top || right <= left; }
    bool operator==(const Rect& o) const {
        return top == o.top && bottom == o.bottom && left == o.left && right == o.right;
    }
};

// Flow from one anchor picture to others of its size. The anchor's expansion is computed once, here.
class Farneback {
public:
    // height, width, iterations, window, reach >= 1, levels >= 0, 0 < pyramid_scale < 1, sigma > 0.
    Farneback(Gray anchor, const FarnebackParameters& parameters, SimdPath path = SimdPath::kAuto);
    ~Farneback();
    Farneback(Farneback&&) noexcept;

    // flow: (height, width, 2) floats, dx then dy in pixels. Identical pictures give exactly zero.
    void to(Gray frame, float* flow) const;

    struct Anchor;  // of this library

private:
    std::unique_ptr<Anchor> anchor_;
};

// A part of a patch over whose longest flow vectors the mean is taken.
struct FlowRegion {
    int patch = 0;       // index
    Rect rect;           // pixels of the patch, inside it; may be empty
    double share = 1.0;  // of the vectors, 0 to 1
};

struct RoiFlowLayout {
    static constexpr int kMaxPatches = 16;
    static constexpr int kMaxRegions = 64;

    Rect patches[kMaxPatches];  // pixels of the crop, inside it; may be empty
    int patch_count = 0;
    FlowRegion regions[kMaxRegions];
    int region_count = 0;
    Rect nose;         // the nose bridge, pixels of the crop; may be empty
    Rect nose_inside;  // the part of it that is averaged, pixels of the nose bridge
    double nose_share = 1.0;
    bool compat = false;  // as the published code: move the crop box, and take the head's motion off empty regions too
};

// Measures frames against one anchor frame. The crop is the picture's `box` resized (bilinear) to kCropSize square.
class RoiFlow {
public:
    static constexpr int kCropSize = 320;
    static constexpr int kMaxAlignments = 3;

    // The box lies in the picture.
    RoiFlow(Gray anchor, Rect box, const RoiFlowLayout& layout, SimdPath path = SimdPath::kAuto);
    ~RoiFlow();
    RoiFlow(RoiFlow&&) noexcept;

    int channels() const;
    Rect box() const;               // where the crop is now; it follows the head
    void set_box(const Rect& box);  // in the picture
    const double* motion() const;   // dx, dy of the head left over in the last frame, pixels of the crop
    double likeness() const;        // correlation of the last crop with the anchor's, -1 to 1

    struct Lane;  // of this library
    Lane& lane() { return *lane_; }

private:
    std::unique_ptr<Lane> lane_;
};

// Measures one frame, of the anchors' size, in several lanes on up to `threads` threads (at least 1). What lanes have
// in common is computed once. features[i]: channels() floats of lane i, dx and dy per region in pixels of the crop.
void measure(RoiFlow* const* lanes, int count, Gray frame, float* const* features, int threads);

// Makes each frame the anchor of its lane, as if that had been opened on it, and measures the frame from the anchor of
// before[i]: a lane of the same layout, without a nose, box and path; or null, where features[i] are zeros. What either
// needs of a frame is computed once. No lane is among them twice.
void step(RoiFlow* const* lanes, RoiFlow* const* before, int count, const Gray* frames, float* const* features,
          int threads);

constexpr int kThumbnail = 32;

// Reduces a part of a picture to 32x32 means of its pixels, free of mean and scale: unit length, or zero where the
// part shows nothing. thumbnail: 1024 floats. A part smaller than 32 pixels repeats pixels.
void thumbnail(Gray picture, Rect part, float* thumbnail);

}  // namespace metst
