// Working memory and order of work of the ROI flow; plans are in roi_flow_plan.h, the loops in loops_simd.cpp.
#include "metst/roi_flow.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>
#include <utility>
#include <vector>

#include "dispatch.h"
#include "roi_flow/loops.h"
#include "roi_flow_plan.h"
#include "task_pool.h"

namespace metst {
namespace {

const FlowKernels& kernels_for(SimdPath path) {
    if (!simd_available(path)) path = SimdPath::kAuto;
    return on_path(path, [](auto chosen) -> const FlowKernels& { return flow_kernels_on<chosen>(); });
}

// Zeroed floats at a multiple of 64 bytes.
class Floats {
public:
    Floats() = default;
    explicit Floats(std::size_t count) : data_(static_cast<float*>(::operator new(count * sizeof(float), kAlign))) {
        std::fill(data_, data_ + count, 0.0f);
    }
    Floats(Floats&& o) noexcept : data_(std::exchange(o.data_, nullptr)) {}
    Floats& operator=(Floats&& o) noexcept {
        std::swap(data_, o.data_);
        return *this;
    }
    ~Floats() { ::operator delete(data_, kAlign); }
    float* get() const { return data_; }

private:
    static constexpr std::align_val_t kAlign{64};
    float* data_ = nullptr;
};

// Working memory of one thread: grows to the largest plan seen and stays.
class Scratch {
public:
    static Scratch& of_this_thread() {
        thread_local Scratch scratch;
        return scratch;
    }

    // Forgets what was handed out.
    void start(std::size_t floats) {
        if (floats > capacity_) {
            floats_ = Floats();
            floats_ = Floats(floats);
            capacity_ = floats;
        }
        used_ = 0;
    }

    float* take(std::size_t floats) {
        float* const out = floats_.get() + used_;
        used_ += rounded_up(floats);
        return out;
    }

    std::vector<std::uint32_t> column_sums;  // for thumbnails

private:
    Floats floats_;
    std::size_t capacity_ = 0;
    std::size_t used_ = 0;
};

struct Flow {
    float* dx;
    float* dy;
    int stride;
};

// The working memory of one picture of a plan, cut out of a thread's scratch.
struct Workspace {
    std::uint8_t* pixels;  // (height) rows of plan.pixel_stride()
    std::int16_t* resized[2];
    float *blurred, *picture, *rows, *ring, *zeros, *sums, *thirds, *samples, *fraction_x, *fraction_y;
    std::int32_t* offsets;
    Flow flow[2];
    float* expansion[kMaxLevels];  // pixels, or planes where the kernels read these
    float *squares, *x, *y;

    static std::size_t floats(const Plan& p) {
        const Level& full = p.levels[0];
        const std::size_t row = size(full.stride);
        std::size_t sum = p.pixel_floats() + 2 * row + 2 * size(static_cast<int>(p.blurred_stride()));
        sum += full.floats() + 3 * row + (p.ring_rows() + 4) * kPlanes * row + 4 * full.floats() + 11 * row;
        for (const Level& level : p.levels) sum += level.frame_floats();
        sum += 3 * (size(p.height) * size(p.width) + kRowAlignment);
        return sum + 64 * kRowAlignment;  // each piece is rounded up
    }

    Workspace(Scratch& scratch, const Plan& p) {
        scratch.start(floats(p));
        const Level& full = p.levels[0];
        const std::size_t row = size(full.stride);
        pixels = reinterpret_cast<std::uint8_t*>(scratch.take(p.pixel_floats()));
        for (auto& r : resized) r = reinterpret_cast<std::int16_t*>(scratch.take(row));
        blurred = scratch.take(2 * size(static_cast<int>(p.blurred_stride()))) + p.blur_margin;
        picture = scratch.take(full.floats()) + p.margin;
        rows = scratch.take(3 * row) + p.margin;
        ring = scratch.take(p.ring_rows() * kPlanes * row) + p.margin;
        float* const nothing = scratch.take(kPlanes * row);
        std::fill(nothing, nothing + kPlanes * row, 0.0f);
        zeros = nothing + p.margin;
        // Whole vectors are written beyond the last plane's last column, more than its margin.
        sums = scratch.take((kPlanes + 1) * row) + p.margin;
        thirds = scratch.take((kPlanes + 1) * row) + p.margin;
        samples = scratch.take(kPlanes * row) + p.margin;
        fraction_x = scratch.take(row);
        fraction_y = scratch.take(row);
        offsets = reinterpret_cast<std::int32_t*>(scratch.take(row));
        for (Flow& f : flow) {
            f.dx = scratch.take(full.floats() + row) + p.margin;
            f.dy = scratch.take(full.floats() + row) + p.margin;
        }
        for (std::size_t k = 0; k < p.levels.size(); ++k) expansion[k] = scratch.take(p.levels[k].frame_floats());
        const std::size_t longest = size(p.height) * size(p.width) + kRowAlignment;
        squares = scratch.take(longest);
        x = scratch.take(longest);
        y = scratch.take(longest);
    }
};

// Computes the expansions of a frame, level by level, into work.expansion[k]; of an anchor into its planes[k].
enum class Of { kFrame, kAnchor };
void expand(const FlowKernels& kernels, const Plan& plan, const std::uint8_t* pixels, const Workspace& work,
            float* const* planes, Of of) {
    for (std::size_t k = 0; k < plan.levels.size(); ++k) {
        const Level& level = plan.levels[k];
        SmoothArgs smooth;
        smooth.pixels = pixels;
        smooth.pixel_stride = plan.pixel_stride();
        smooth.full_width = plan.width;
        smooth.height = level.height;
        smooth.width = level.width;
        smooth.stride = level.stride;
        smooth.row_taps = level.row_taps;
        smooth.rows = level.rows.data();
        smooth.row_weights = level.row_weights.data();
        smooth.radius = level.radius;
        smooth.column_weights = level.column_weights.data();
        smooth.columns = k > 0 ? level.columns.first.data() : nullptr;
        smooth.column_fractions = k > 0 ? level.columns.fraction.data() : nullptr;
        smooth.blurred = work.blurred;
        smooth.blurred_stride = plan.blurred_stride();
        smooth.out = work.picture;
        kernels.smooth(smooth);
        float* const anchor = planes[k] + plan.margin;
        ExpandArgs expand{work.picture, level.height, level.width, level.stride, &plan.kernels, work.rows,
                          nullptr, nullptr, level.pixel_stride(), nullptr};
        if (of == Of::kAnchor) {
            expand.planes = anchor;
        } else {
            expand.anchor = anchor;
            if (kernels.reads_planes) {
                expand.planes = work.expansion[k] + plan.margin;
            } else {
                expand.pixels = work.expansion[k];
            }
        }
        kernels.expand(expand);
    }
}

void copy_pixels(const Gray& from, std::uint8_t* to, std::ptrdiff_t stride) {
    for (int y = 0; y < from.height; ++y) {
        std::memcpy(to + y * stride, from.pixels + y * from.stride, size(from.width));
    }
}

}  // namespace

struct Farneback::Anchor {
    const FlowKernels& kernels;
    Plan plan;
    std::vector<std::uint8_t> pixels;  // dense
    Floats memory;
    float* planes[kMaxLevels] = {};

    Anchor(Gray anchor, const FarnebackParameters& parameters, SimdPath path)
        : kernels(kernels_for(path)), plan(anchor.height, anchor.width, parameters) {
        pixels.resize(size(plan.height) * size(plan.width));
        copy_pixels(anchor, pixels.data(), plan.width);
        std::size_t floats = 0;
        for (const Level& level : plan.levels) floats += level.plane_floats();
        memory = Floats(floats);
        float* next = memory.get();
        for (std::size_t k = 0; k < plan.levels.size(); ++k) {
            planes[k] = next;
            next += plan.levels[k].plane_floats();
        }
        const Workspace work(Scratch::of_this_thread(), plan);
        copy_pixels(anchor, work.pixels, plan.pixel_stride());
        expand(kernels, plan, work.pixels, work, planes, Of::kAnchor);
    }

    bool same_picture(const std::uint8_t* frame) const {
        for (int y = 0; y < plan.height; ++y) {
            const std::uint8_t* const row = pixels.data() + static_cast<std::ptrdiff_t>(y) * plan.width;
            if (std::memcmp(row, frame + y * plan.pixel_stride(), size(plan.width)) != 0) return false;
        }
        return true;
    }

    // Flow to the picture that work.pixels shows and work.expansion expands. It stays valid until work is used again.
    // Only rows top .. bottom-1 are sure to be finished: the last iteration needs no more than the window around them
    // from the one before.
    Flow flow(Workspace& work, int top_row, int bottom_row) const {
        Flow *current = &work.flow[0], *coarser = &work.flow[1];
        const int top = static_cast<int>(plan.levels.size()) - 1;
        // Where nothing has changed nothing has moved. OpenCV's answer there is rounding noise, more so at the border.
        // A single row or column has no flow to speak of.
        const bool same = plan.height < 2 || plan.width < 2 || same_picture(work.pixels);
        for (int k = same ? 0 : top; k >= 0; --k) {
            const Level& level = plan.levels[size(k)];
            std::swap(current, coarser);
            current->stride = level.stride;
            if (same || (k == top && !kernels.reads_planes)) {
                std::fill(current->dx - plan.margin, current->dx - plan.margin + level.floats(), 0.0f);
                std::fill(current->dy - plan.margin, current->dy - plan.margin + level.floats(), 0.0f);
                if (same) break;
            } else if (k < top) {
                enlarge(level, plan.levels[size(k) + 1], coarser->dx, current->dx, work);
                enlarge(level, plan.levels[size(k) + 1], coarser->dy, current->dy, work);
            }
            IterateArgs args;
            args.anchor = planes[k] + plan.margin;
            args.frame = work.expansion[k] + (kernels.reads_planes ? plan.margin : 0);
            args.frame_stride = kernels.reads_planes ? kPlanes * level.stride : level.pixel_stride();
            args.dx = current->dx;
            args.dy = current->dy;
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
                args.still = k == top && i == 0;
                const int needed = (plan.parameters.iterations - 1 - i) * plan.radius;
                args.first_row = k == 0 ? std::max(top_row - needed, 0) : 0;
                args.end_row = k == 0 ? std::min(bottom_row + needed, level.height) : level.height;
                kernels.iterate(args);
            }
        }
        return *current;
    }

private:
    void enlarge(const Level& level, const Level& above, const float* from, float* to, const Workspace& work) const {
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
        kernels.enlarge(args);
    }
};

Farneback::Farneback(Gray anchor, const FarnebackParameters& parameters, SimdPath path)
    : anchor_(std::make_unique<Anchor>(anchor, parameters, path)) {}
Farneback::~Farneback() = default;
Farneback::Farneback(Farneback&&) noexcept = default;

void Farneback::to(Gray frame, float* flow) const {
    const Plan& plan = anchor_->plan;
    Workspace work(Scratch::of_this_thread(), plan);
    copy_pixels(frame, work.pixels, plan.pixel_stride());
    expand(anchor_->kernels, plan, work.pixels, work, anchor_->planes, Of::kFrame);
    const Flow result = anchor_->flow(work, 0, plan.height);
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

namespace {

// How the crop's pixels along one axis read a box of a given length, in OpenCV's fixed-point arithmetic.
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

using Thumbnail = float[kThumbnail * kThumbnail];

}  // namespace

void thumbnail(Gray picture, Rect part, float* out) {
    const FlowKernels& kernels = kernels_for(SimdPath::kAuto);
    std::vector<std::uint32_t>& sums = Scratch::of_this_thread().column_sums;
    sums.resize(std::max(sums.size(), size(part.width())));
    const auto edge = [](int i, int length) { return i * length / kThumbnail; };
    double mean = 0.0;
    for (int i = 0; i < kThumbnail; ++i) {
        const int top = edge(i, part.height()), bottom = std::max(edge(i + 1, part.height()), top + 1);
        std::fill(sums.begin(), sums.begin() + part.width(), 0u);
        for (int y = top; y < bottom; ++y) {
            kernels.add_bytes(picture.pixels + (part.top + y) * picture.stride + part.left, part.width(), sums.data());
        }
        for (int j = 0; j < kThumbnail; ++j) {
            const int left = edge(j, part.width()), right = std::max(edge(j + 1, part.width()), left + 1);
            std::uint64_t cell = 0;
            for (int x = left; x < right; ++x) cell += sums[size(x)];
            out[i * kThumbnail + j] = static_cast<float>(cell) / static_cast<float>((bottom - top) * (right - left));
            mean += static_cast<double>(out[i * kThumbnail + j]);
        }
    }
    mean /= kThumbnail * kThumbnail;
    double squares = 0.0;
    for (int i = 0; i < kThumbnail * kThumbnail; ++i) {
        out[i] -= static_cast<float>(mean);
        squares += static_cast<double>(out[i]) * static_cast<double>(out[i]);
    }
    const float scale = static_cast<float>(1.0 / std::max(std::sqrt(squares), 1e-6));
    for (int i = 0; i < kThumbnail * kThumbnail; ++i) out[i] *= scale;
}

struct RoiFlow::Lane {
    RoiFlowLayout layout;
    SimdPath path;
    int height, width;  // of the picture
    Rect box;
    double motion[2] = {0.0, 0.0};
    double likeness = 1.0;
    std::vector<std::unique_ptr<Farneback::Anchor>> patches;  // null where empty
    std::unique_ptr<Farneback::Anchor> nose;
    Thumbnail anchor_thumbnail;
    CropAxis rows, columns;
    Rect visible;  // the part of the box that lies in the picture; rows and columns are set for it

    Lane(const Gray& anchor, const Rect& box_, const RoiFlowLayout& layout_, SimdPath path_)
        : layout(layout_), path(path_), height(anchor.height), width(anchor.width), box(box_) {
        look_at(anchor);
        thumbnail(anchor, visible, anchor_thumbnail);
        for (int i = 0; i < layout.patch_count; ++i) patches.push_back(expansion(anchor, layout.patches[i]));
        nose = expansion(anchor, layout.nose);
    }

    std::unique_ptr<Farneback::Anchor> expansion(const Gray& anchor, const Rect& rect) {
        if (rect.empty()) return nullptr;
        std::vector<std::uint8_t> pixels(size(rect.height()) * size(rect.width()));
        std::vector<std::int16_t> resized(2 * size(rect.width()));
        std::int16_t* const buffers[2] = {resized.data(), resized.data() + rect.width()};
        crop(kernels_for(path), anchor, rect, buffers, pixels.data(), rect.width());
        const Gray patch = {pixels.data(), rect.height(), rect.width(), rect.width()};
        return std::make_unique<Farneback::Anchor>(patch, FarnebackParameters(), path);
    }

    void look_at(const Gray& frame) {
        visible = inside(box, frame.height, frame.width);
        rows.set(visible.height(), false);
        columns.set(visible.width(), true);
    }

    // Cuts a rectangle out of the crop.
    void crop(const FlowKernels& kernels, const Gray& frame, const Rect& rect, std::int16_t* const* buffers,
              std::uint8_t* out, std::ptrdiff_t out_stride) const {
        CropArgs args;
        args.pixels = frame.pixels + visible.top * frame.stride + visible.left;
        args.pixel_stride = frame.stride;
        args.rows = rows.at + rect.top;
        args.next_rows = rows.next + rect.top;
        args.row_weights = rows.weight + rect.top;
        args.next_row_weights = rows.next_weight + rect.top;
        args.columns = columns.at + rect.left;
        args.next_columns = columns.next + rect.left;
        args.column_weights = columns.weight + rect.left;
        args.next_column_weights = columns.next_weight + rect.left;
        args.height = rect.height();
        args.width = rect.width();
        args.resized[0] = buffers[0];
        args.resized[1] = buffers[1];
        args.out = out;
        args.out_stride = out_stride;
        kernels.crop(args);
    }

    // Moves the box until the nose bridge lies where it lay on the anchor, to a pixel.
    void follow(const Gray& frame) {
        look_at(frame);
        measure_nose(frame);
        for (int i = 0; i < kMaxAlignments; ++i) {
            if (motion[0] * motion[0] + motion[1] * motion[1] <= 1.0) break;
            const Rect next = moved(box, motion, layout.compat, height, width);
            if (next == box) break;
            box = next;
            look_at(frame);
            measure_nose(frame);
        }
        Thumbnail now;
        thumbnail(frame, visible, now);
        likeness = 0.0;
        for (int i = 0; i < kThumbnail * kThumbnail; ++i) {
            likeness += static_cast<double>(now[i]) * static_cast<double>(anchor_thumbnail[i]);
        }
    }

    // Expands a rectangle of the crop, for anchors of that size.
    void look(const Gray& frame, const Rect& rect, const Farneback::Anchor& anchor, Workspace& work) const {
        crop(anchor.kernels, frame, rect, work.resized, work.pixels, anchor.plan.pixel_stride());
        expand(anchor.kernels, anchor.plan, work.pixels, work, anchor.planes, Of::kFrame);
    }

private:
    void measure_nose(const Gray& frame) {
        motion[0] = motion[1] = 0.0;
        if (!nose) return;
        Workspace work(Scratch::of_this_thread(), nose->plan);
        look(frame, layout.nose, *nose, work);
        const Flow flow = nose->flow(work, layout.nose_inside.top, layout.nose_inside.bottom);
        longest_mean(*nose, flow, layout.nose_inside, layout.nose_share, work, motion);
    }

public:
    static void longest_mean(const Farneback::Anchor& anchor, const Flow& flow, const Rect& rect, double share,
                             const Workspace& work, double mean[2]) {
        mean[0] = mean[1] = 0.0;
        if (rect.empty()) return;
        const int n = rect.height() * rect.width();
        const int first = static_cast<int>(n * (1.0 - share));
        if (first >= n) return;
        const std::ptrdiff_t corner = static_cast<std::ptrdiff_t>(rect.top) * flow.stride + rect.left;
        anchor.kernels.longest({flow.dx + corner, flow.dy + corner, flow.stride, rect.height(), rect.width(), n - first,
                                work.squares, work.x, work.y},
                               mean);
    }

    // The regions of one patch, out of the flow to what `work` shows.
    void regions(int patch, Workspace& work, float* features) const {
        const Farneback::Anchor& anchor = *patches[size(patch)];
        int top = anchor.plan.height, bottom = 0;
        for (int i = 0; i < layout.region_count; ++i) {
            const FlowRegion& region = layout.regions[i];
            if (region.patch != patch || region.rect.empty()) continue;
            top = std::min(top, region.rect.top);
            bottom = std::max(bottom, region.rect.bottom);
        }
        if (top >= bottom) return;
        const Flow flow = anchor.flow(work, top, bottom);
        for (int i = 0; i < layout.region_count; ++i) {
            const FlowRegion& region = layout.regions[i];
            if (region.patch != patch || region.rect.empty()) continue;
            double mean[2];
            longest_mean(anchor, flow, region.rect, region.share, work, mean);
            features[2 * i] = static_cast<float>(mean[0] - motion[0]);
            features[2 * i + 1] = static_cast<float>(mean[1] - motion[1]);
        }
    }
};

RoiFlow::RoiFlow(Gray anchor, Rect box, const RoiFlowLayout& layout, SimdPath path)
    : lane_(std::make_unique<Lane>(anchor, box, layout, path)) {}
RoiFlow::~RoiFlow() = default;
RoiFlow::RoiFlow(RoiFlow&&) noexcept = default;
int RoiFlow::channels() const { return 2 * lane_->layout.region_count; }
Rect RoiFlow::box() const { return lane_->box; }
void RoiFlow::set_box(const Rect& box) { lane_->box = box; }
const double* RoiFlow::motion() const { return lane_->motion; }
double RoiFlow::likeness() const { return lane_->likeness; }

namespace {

// One patch of the frame, and the lanes that look at it.
struct PatchTask {
    RoiFlow::Lane* lane;
    int lane_index, patch;
    int shared_with;  // index of the task that does this one too, or -1
};

struct FrameTask {
    RoiFlow* const* lanes;
    Gray frame;
    float* const* features;
    std::vector<PatchTask>* patches;

    static void follow(void* context, int i) {
        const FrameTask& self = *static_cast<FrameTask*>(context);
        self.lanes[i]->lane().follow(self.frame);
    }

    static void measure_patch(void* context, int i) {
        const FrameTask& self = *static_cast<FrameTask*>(context);
        const std::vector<PatchTask>& patches = *self.patches;
        const PatchTask& task = patches[size(i)];
        if (task.shared_with >= 0) return;
        const Farneback::Anchor& anchor = *task.lane->patches[size(task.patch)];
        Workspace work(Scratch::of_this_thread(), anchor.plan);
        task.lane->look(self.frame, task.lane->layout.patches[task.patch], anchor, work);
        for (std::size_t j = size(i); j < patches.size(); ++j) {
            const PatchTask& other = patches[j];
            if (j != size(i) && other.shared_with != i) continue;
            other.lane->regions(other.patch, work, self.features[other.lane_index]);
        }
    }
};

}  // namespace

void measure(RoiFlow* const* lanes, int count, Gray frame, float* const* features, int threads) {
    thread_local std::vector<PatchTask> patches;
    FrameTask task{lanes, frame, features, &patches};
    run_tasks(FrameTask::follow, &task, count, threads);
    patches.clear();
    for (int i = 0; i < count; ++i) {
        RoiFlow::Lane& lane = lanes[i]->lane();
        std::fill(features[i], features[i] + lanes[i]->channels(), 0.0f);
        for (int p = 0; p < lane.layout.patch_count; ++p) {
            if (lane.patches[size(p)]) patches.push_back({&lane, i, p, -1});
        }
    }
    const auto rect = [](const PatchTask& t) -> const Rect& { return t.lane->layout.patches[t.patch]; };
    const auto area = [&](const PatchTask& t) { return rect(t).height() * rect(t).width(); };
    // Largest first: the threads then end together.
    std::sort(patches.begin(), patches.end(),
              [&](const PatchTask& a, const PatchTask& b) { return area(a) > area(b); });
    for (std::size_t i = 0; i < patches.size(); ++i) {
        for (std::size_t j = 0; j < i && patches[i].shared_with < 0; ++j) {
            const PatchTask &a = patches[i], &b = patches[j];
            if (b.shared_with < 0 && rect(a) == rect(b) && a.lane->visible == b.lane->visible && a.lane != b.lane) {
                patches[i].shared_with = static_cast<int>(j);
            }
        }
    }
    run_tasks(FrameTask::measure_patch, &task, static_cast<int>(patches.size()), threads);
}

}  // namespace metst
