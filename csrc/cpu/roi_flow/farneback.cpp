#include "roi_flow/farneback.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>

#include "dispatch.h"

namespace metst {

const FlowLoops& flow_loops(SimdPath path) {
    if (!simd_available(path)) path = SimdPath::kAuto;
    return on_path(path, [](auto chosen) -> const FlowLoops& { return flow_loops_on<chosen>(); });
}

void copy_pixels(const Gray& from, std::uint8_t* to, std::ptrdiff_t stride) {
    for (int y = 0; y < from.height; ++y) {
        std::memcpy(to + y * stride, from.pixels + y * from.stride, size(from.width));
    }
}

Farneback::Anchor::Anchor(Gray anchor, const FarnebackParameters& parameters, SimdPath path)
    : loops(flow_loops(path)), plan(anchor.height, anchor.width, parameters) {
    pixels_.resize(size(plan.height) * size(plan.width));
    Pieces counted;
    cut(counted);
    memory_ = AlignedFloats(counted.used());
    Pieces memory(memory_.data());
    cut(memory);
    Workspace work(plan);
    copy_pixels(anchor, work.pixels, plan.pixel_stride());
    take(work);
}

void Farneback::Anchor::take(Workspace& work) {
    copy_pixels({work.pixels, plan.height, plan.width, plan.pixel_stride()}, pixels_.data(), plan.width);
    expand(work, Of::kAnchor);
    if (!loops.reads_planes) return;
    for (std::size_t k = 0; k < plan.levels.size(); ++k) work.expansion[k] = planes_[k];
}

void Farneback::Anchor::cut(Pieces& memory) {
    for (std::size_t k = 0; k < plan.levels.size(); ++k) {
        planes_[k] = memory.floats(static_cast<std::int64_t>(plan.levels[k].plane_floats()));
    }
}

bool Farneback::Anchor::same_picture(const std::uint8_t* frame) const {
    for (int y = 0; y < plan.height; ++y) {
        const std::uint8_t* const row = pixels_.data() + static_cast<std::ptrdiff_t>(y) * plan.width;
        if (std::memcmp(row, frame + y * plan.pixel_stride(), size(plan.width)) != 0) return false;
    }
    return true;
}

void Farneback::Anchor::expand_frame(const Workspace& work) const { expand(work, Of::kFrame); }

// An anchor's expansion goes to its own planes; that of any picture to the workspace, in the layout that the loops read,
// unless it is there already.
void Farneback::Anchor::expand(const Workspace& work, Of of) const {
    for (int k = 0; k < static_cast<int>(plan.levels.size()); ++k) {
        const Level& level = plan.levels[size(k)];
        smooth(work, k);
        float* const anchor = planes_[k] + plan.margin;
        ExpandArgs args{work.picture, level.height, level.width, level.stride,         &plan.kernels,
                        work.rows,    nullptr,      nullptr,     level.pixel_stride(), nullptr};
        if (!loops.reads_planes) args.pixels = work.expansion[k];
        if (of == Of::kAnchor) {
            args.planes = anchor;
        } else {
            args.anchor = anchor;
            if (loops.reads_planes) args.planes = work.expansion[k] + plan.margin;
        }
        loops.expand(args);
    }
}

void Farneback::Anchor::smooth(const Workspace& work, int k) const {
    const Level& level = plan.levels[size(k)];
    SmoothArgs args;
    args.pixels = work.pixels;
    args.pixel_stride = plan.pixel_stride();
    args.full_width = plan.width;
    args.height = level.height;
    args.width = level.width;
    args.stride = level.stride;
    args.row_taps = level.row_taps;
    args.rows = level.rows.data();
    args.row_weights = level.row_weights.data();
    args.radius = level.radius;
    args.column_weights = level.column_weights.data();
    args.columns = k > 0 ? level.columns.first.data() : nullptr;
    args.column_fractions = k > 0 ? level.columns.fraction.data() : nullptr;
    args.blurred = work.blurred;
    args.blurred_stride = plan.blurred_stride();
    args.out = work.picture;
    loops.smooth(args);
}

FlowField Farneback::Anchor::flow(Workspace& work, int top, int bottom) const {
    FlowField *current = &work.flow[0], *coarser = &work.flow[1];
    const auto clear = [&](float* field, const Level& level) {
        std::fill_n(field - plan.margin, level.floats(), 0.0f);
    };
    // Where nothing has changed nothing has moved. OpenCV's answer there is rounding noise, more so at the border. A
    // single row or column has no flow to speak of.
    if (plan.height < 2 || plan.width < 2 || same_picture(work.pixels)) {
        const Level& full = plan.levels[0];
        clear(current->dx, full);
        clear(current->dy, full);
        current->stride = full.stride;
        return *current;
    }
    const int smallest = static_cast<int>(plan.levels.size()) - 1;
    for (int k = smallest; k >= 0; --k) {
        const Level& level = plan.levels[size(k)];
        std::swap(current, coarser);
        current->stride = level.stride;
        if (k < smallest) {
            enlarge(work, k, coarser->dx, current->dx);
            enlarge(work, k, coarser->dy, current->dy);
        } else if (!loops.reads_planes) {
            clear(current->dx, level);
            clear(current->dy, level);
        }
        iterate(work, *current, k, top, bottom);
    }
    return *current;
}

// All iterations of a level.
void Farneback::Anchor::iterate(const Workspace& work, const FlowField& flow, int k, int top, int bottom) const {
    const Level& level = plan.levels[size(k)];
    IterateArgs args;
    args.anchor = planes_[k] + plan.margin;
    args.frame = work.expansion[k] + (loops.reads_planes ? plan.margin : 0);
    args.frame_stride = loops.reads_planes ? kPlanes * level.stride : level.pixel_stride();
    args.dx = flow.dx;
    args.dy = flow.dy;
    args.height = level.height;
    args.width = level.width;
    args.stride = level.stride;
    args.border_x = level.border_x.data();
    args.border_y = level.border_y.data();
    args.radius = plan.radius;
    args.regularisation = plan.regularisation();
    args.ring = work.ring;
    args.zeros = work.zeros;
    args.sums = work.sums;
    args.thirds = work.thirds;
    args.samples = work.samples;
    args.fraction_x = work.fraction_x;
    args.fraction_y = work.fraction_y;
    args.offsets = work.offsets;
    for (int i = 0; i < plan.parameters.iterations; ++i) {
        args.still = k == static_cast<int>(plan.levels.size()) - 1 && i == 0;
        const int needed = (plan.parameters.iterations - 1 - i) * plan.radius;
        args.first_row = k == 0 ? std::max(top - needed, 0) : 0;
        args.end_row = k == 0 ? std::min(bottom + needed, level.height) : level.height;
        loops.iterate(args);
    }
}

// The flow of a level from that of the one above it.
void Farneback::Anchor::enlarge(const Workspace& work, int k, const float* from, float* to) const {
    const Level &level = plan.levels[size(k)], &above = plan.levels[size(k) + 1];
    EnlargeArgs args;
    args.in = from;
    args.in_width = above.width;
    args.in_stride = above.stride;
    args.height = level.height;
    args.width = level.width;
    args.stride = level.stride;
    args.rows = level.enlarge_rows.first.data();
    args.columns = level.enlarge_columns.first.data();
    args.row_fractions = level.enlarge_rows.fraction.data();
    args.column_fractions = level.enlarge_columns.fraction.data();
    args.factor = static_cast<float>(1.0 / plan.parameters.pyramid_scale);
    args.row = work.rows;
    args.out = to;
    loops.enlarge(args);
}

Farneback::Farneback(Gray anchor, const FarnebackParameters& parameters, SimdPath path)
    : anchor_(std::make_unique<Anchor>(anchor, parameters, path)) {}
Farneback::~Farneback() = default;
Farneback::Farneback(Farneback&&) noexcept = default;

void Farneback::to(Gray frame, float* flow) const {
    const Plan& plan = anchor_->plan;
    Workspace work(plan);
    copy_pixels(frame, work.pixels, plan.pixel_stride());
    anchor_->expand_frame(work);
    const FlowField result = anchor_->flow(work, 0, plan.height);
    for (int y = 0; y < plan.height; ++y) {
        const float* const dx = result.dx + static_cast<std::ptrdiff_t>(y) * result.stride;
        const float* const dy = result.dy + static_cast<std::ptrdiff_t>(y) * result.stride;
        for (int x = 0; x < plan.width; ++x) {
            flow[2 * x] = dx[x];
            flow[2 * x + 1] = dy[x];
        }
        flow += 2 * plan.width;
    }
}

}  // namespace metst
