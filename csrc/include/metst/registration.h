// Where a head has gone from an anchor frame to others, and the face drawn as if it had stayed: on the CPU.
//
// What moves is the whole head, so its motion is fitted to the picture, not read off one place: displacements of the
// crop, u(x) = sum_j p_j f_j(x) and likewise v, with f = 1, x, y and the head's depth, so that turning and nodding are
// in it as well as shifts, tilts and coming near. Gauss-Newton on the difference of two reduced pictures (Lucas and
// Kanade, IJCAI 1981, in the inverse form of Baker and Matthews, IJCV 56, 2004), robust. What the face does by itself is
// fitted along with it, as shifts of spots of skin that are held small, and thrown away: else a raised brow would be
// taken for a nod. Flow of a face that was put back is small, and measured where flow
// measures best. Raw pointers and sizes only; knows no Python.
//
// Nothing here is thread-safe but different objects are independent. Nothing is allocated after construction.
#pragma once

#include <cstdint>
#include <memory>

#include "metst/roi_flow.h"

namespace metst {

// What is known of a head, in pixels of the crop. Depth is a cylinder with a nose.
struct HeadShape {
    float middle = 159.5f;      // column of the nose tip, where the cylinder is nearest
    float half_width = 100.0f;  // of the head; > 0
    float nose_row = 180.0f;    // of the nose tip
};

// A place of the crop, in its pixels, around which skin moves by itself.
struct Spot {
    float x = 0.0f;
    float y = 0.0f;
    float reach = 1.0f;  // the standard deviation of a Gaussian; > 0
};

class Registration {
public:
    static constexpr int kCropSize = RoiFlow::kCropSize;
    static constexpr int kGrid = 80;       // cells along a side of the reduced picture
    static constexpr int kParameters = 8;  // of u: 1, x, y, depth; then of v
    static constexpr int kMostSpots = 32;

    // The box lies in the picture. weights: kGrid x kGrid, 0 or more; where it is 0 nothing is looked at.
    Registration(Gray anchor, Rect box, const HeadShape& shape, const float* weights, const Spot* spots, int spot_count,
                 SimdPath path = SimdPath::kAuto);
    ~Registration();
    Registration(Registration&&) noexcept;

    // As of the last frame: pixels of the crop, of u and then of v, for 1, x, y and depth; the last three in hundreds of
    // pixels from its middle.
    const double* parameters() const;
    void set_parameters(const double* parameters);

    struct State;  // of this library
    State& state() { return *state_; }

private:
    std::unique_ptr<State> state_;
};

// Fits the motion of each head to a frame of its anchor's size, from where it was in the last one, and draws the crop as
// it would be, had the head not moved: kCropSize squared, dense. On up to `threads` threads (at least 1).
void follow(Registration* const* heads, int count, Gray frame, std::uint8_t* const* crops, int threads);

}  // namespace metst
