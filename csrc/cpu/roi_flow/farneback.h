// The flow from one anchor picture to others, in the order of its levels and iterations. Knows no crop, no region.
#pragma once

#include <cstdint>
#include <vector>

#include "metst/aligned_floats.h"
#include "metst/roi_flow.h"
#include "roi_flow/loops.h"
#include "roi_flow/workspace.h"
#include "roi_flow_plan.h"

namespace metst {

// The loops of a path, or of the best one where that is not available.
const FlowLoops& flow_loops(SimdPath path);

void copy_pixels(const Gray& from, std::uint8_t* to, std::ptrdiff_t stride);

struct Farneback::Anchor {
    const FlowLoops& loops;
    Plan plan;

    Anchor(Gray anchor, const FarnebackParameters& parameters, SimdPath path);

    // Computes the expansions of the picture in work.pixels, level by level, into work.expansion.
    void expand_frame(const Workspace& work) const;

    // The same of a picture that from now on is the anchor: what anchors of its size measure to it by `work` is read
    // here, as long as it stays so.
    void take(Workspace& work);

    // Flow to the picture that work.pixels shows and work.expansion expands. It stays valid until work is used again.
    // Only rows top .. bottom-1 are sure to be finished: the last iteration needs no more than the window around them
    // from the one before.
    FlowField flow(Workspace& work, int top, int bottom) const;

private:
    enum class Of { kFrame, kAnchor };

    void expand(const Workspace& work, Of of) const;
    void smooth(const Workspace& work, int k) const;
    void iterate(const Workspace& work, const FlowField& flow, int k, int top, int bottom) const;
    void enlarge(const Workspace& work, int k, const float* from, float* to) const;
    bool same_picture(const std::uint8_t* frame) const;
    void cut(Pieces& memory);

    std::vector<std::uint8_t> pixels_;  // dense
    AlignedFloats memory_;
    float* planes_[kMaxLevels] = {};  // of the expansions, with their margins
};

}  // namespace metst
