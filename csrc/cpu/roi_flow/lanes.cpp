// Lanes: where the crop of each has gone, and the features of all of them from one frame.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "metst/roi_flow.h"
#include "rect.h"
#include "roi_flow/crop.h"
#include "roi_flow/farneback.h"
#include "roi_flow/workspace.h"
#include "task_pool.h"

namespace metst {

struct RoiFlow::Lane {
    RoiFlowLayout layout;
    Rect box;
    Crop crop;
    double motion[2] = {0.0, 0.0};
    double likeness = 1.0;
    std::vector<std::unique_ptr<Farneback::Anchor>> patches;  // null where empty

    Lane(const Gray& anchor, const Rect& box_, const RoiFlowLayout& layout_, SimdPath path)
        : layout(layout_), box(box_) {
        look_first(anchor);
        for (int i = 0; i < layout.patch_count; ++i) patches.push_back(expansion(anchor, layout.patches[i], path));
        nose_ = expansion(anchor, layout.nose, path);
    }

    // Takes in of an anchor what is not in a patch.
    void look_first(const Gray& anchor) {
        crop.look_at(box, anchor.height, anchor.width);
        thumbnail(anchor, crop.visible(), anchor_thumbnail_);
        likeness = 1.0;
    }

    // Moves the box until the nose bridge lies where it lay on the anchor, to a pixel.
    void follow(const Gray& frame) {
        crop.look_at(box, frame.height, frame.width);
        measure_nose(frame);
        for (int i = 0; i < kMaxAlignments; ++i) {
            if (motion[0] * motion[0] + motion[1] * motion[1] <= 1.0) break;
            const Rect next = moved(box, motion, layout.compat, frame.height, frame.width);
            if (next == box) break;
            box = next;
            crop.look_at(box, frame.height, frame.width);
            measure_nose(frame);
        }
        Thumbnail now;
        thumbnail(frame, crop.visible(), now);
        likeness = 0.0;
        for (int i = 0; i < kThumbnail * kThumbnail; ++i) {
            likeness += static_cast<double>(now[i]) * static_cast<double>(anchor_thumbnail_[i]);
        }
    }

    // Expands a rectangle of the crop, for anchors of that size.
    void look(const Gray& frame, const Rect& rect, const Farneback::Anchor& anchor, const Workspace& work) const {
        cut(frame, rect, anchor, work);
        anchor.expand_frame(work);
    }

    // The same of a patch, which is the anchor from now on.
    void take(const Gray& anchor, int patch, Workspace& work) {
        cut(anchor, layout.patches[patch], *patches[size(patch)], work);
        patches[size(patch)]->take(work);
    }

    // Regions in which there is no flow: nothing; in the published code no flow less the head's motion.
    void still(float* features) const {
        for (int i = 0; i < 2 * layout.region_count; ++i) {
            features[i] = layout.compat ? static_cast<float>(0.0 - motion[i % 2]) : 0.0f;
        }
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
        const FlowField flow = anchor.flow(work, top, bottom);
        for (int i = 0; i < layout.region_count; ++i) {
            const FlowRegion& region = layout.regions[i];
            if (region.patch != patch || region.rect.empty()) continue;
            double mean[2];
            longest_mean(anchor, flow, region.rect, region.share, work, mean);
            features[2 * i] = static_cast<float>(mean[0] - motion[0]);
            features[2 * i + 1] = static_cast<float>(mean[1] - motion[1]);
        }
    }

private:
    using Thumbnail = float[kThumbnail * kThumbnail];

    std::unique_ptr<Farneback::Anchor> expansion(const Gray& anchor, const Rect& rect, SimdPath path) const {
        if (rect.empty()) return nullptr;
        std::vector<std::uint8_t> pixels(size(rect.height()) * size(rect.width()));
        std::vector<std::int16_t> resized(2 * size(rect.width()));
        std::int16_t* const rows[2] = {resized.data(), resized.data() + rect.width()};
        crop.cut(flow_loops(path), anchor, rect, rows, pixels.data(), rect.width());
        const Gray patch = {pixels.data(), rect.height(), rect.width(), rect.width()};
        return std::make_unique<Farneback::Anchor>(patch, FarnebackParameters(), path);
    }

    void cut(const Gray& frame, const Rect& rect, const Farneback::Anchor& anchor, const Workspace& work) const {
        crop.cut(anchor.loops, frame, rect, work.resized, work.pixels, anchor.plan.pixel_stride());
    }

    void measure_nose(const Gray& frame) {
        motion[0] = motion[1] = 0.0;
        if (!nose_) return;
        Workspace work(nose_->plan);
        look(frame, layout.nose, *nose_, work);
        const FlowField flow = nose_->flow(work, layout.nose_inside.top, layout.nose_inside.bottom);
        longest_mean(*nose_, flow, layout.nose_inside, layout.nose_share, work, motion);
    }

    static void longest_mean(const Farneback::Anchor& anchor, const FlowField& flow, const Rect& rect, double share,
                             const Workspace& work, double mean[2]) {
        mean[0] = mean[1] = 0.0;
        if (rect.empty()) return;
        const int n = rect.height() * rect.width();
        const int first = static_cast<int>(n * (1.0 - share));
        if (first >= n) return;
        const std::ptrdiff_t corner = static_cast<std::ptrdiff_t>(rect.top) * flow.stride + rect.left;
        anchor.loops.longest({flow.dx + corner, flow.dy + corner, flow.stride, rect.height(), rect.width(), n - first,
                              work.squares, work.x, work.y},
                             mean);
    }

    std::unique_ptr<Farneback::Anchor> nose_;
    Thumbnail anchor_thumbnail_;
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
        Workspace work(anchor.plan);
        task.lane->look(self.frame, task.lane->layout.patches[task.patch], anchor, work);
        for (std::size_t j = size(i); j < patches.size(); ++j) {
            const PatchTask& other = patches[j];
            if (j != size(i) && other.shared_with != i) continue;
            other.lane->regions(other.patch, work, self.features[other.lane_index]);
        }
    }
};

struct StepTask {
    RoiFlow* const* lanes;
    RoiFlow* const* before;
    const Gray* frames;
    float* const* features;
    const std::vector<PatchTask>* patches;

    static void take_patch(void* context, int i) {
        const StepTask& self = *static_cast<StepTask*>(context);
        const PatchTask& task = (*self.patches)[size(i)];
        Workspace work(task.lane->patches[size(task.patch)]->plan);
        task.lane->take(self.frames[task.lane_index], task.patch, work);
        RoiFlow* const before = self.before[task.lane_index];
        if (before) before->lane().regions(task.patch, work, self.features[task.lane_index]);
    }
};

// The patches of all lanes, the largest first: threads that share them out then end together.
void list_patches(RoiFlow* const* lanes, int count, std::vector<PatchTask>& patches) {
    patches.clear();
    for (int i = 0; i < count; ++i) {
        RoiFlow::Lane& lane = lanes[i]->lane();
        for (int p = 0; p < lane.layout.patch_count; ++p) {
            if (lane.patches[size(p)]) patches.push_back({&lane, i, p, -1});
        }
    }
    const auto area = [](const PatchTask& t) {
        const Rect& rect = t.lane->layout.patches[t.patch];
        return rect.height() * rect.width();
    };
    std::sort(patches.begin(), patches.end(),
              [&](const PatchTask& a, const PatchTask& b) { return area(a) > area(b); });
}

}  // namespace

void measure(RoiFlow* const* lanes, int count, Gray frame, float* const* features, int threads) {
    thread_local std::vector<PatchTask> patches;
    FrameTask task{lanes, frame, features, &patches};
    run_tasks(FrameTask::follow, &task, count, threads);
    for (int i = 0; i < count; ++i) lanes[i]->lane().still(features[i]);
    list_patches(lanes, count, patches);
    const auto rect = [](const PatchTask& t) -> const Rect& { return t.lane->layout.patches[t.patch]; };
    // What is expanded for one path is laid out otherwise than for another.
    const auto path = [](const PatchTask& t) { return &t.lane->patches[size(t.patch)]->loops; };
    for (std::size_t i = 0; i < patches.size(); ++i) {
        for (std::size_t j = 0; j < i && patches[i].shared_with < 0; ++j) {
            const PatchTask &a = patches[i], &b = patches[j];
            const bool same_crop = a.lane->crop.visible() == b.lane->crop.visible();
            const bool same = rect(a) == rect(b) && same_crop && path(a) == path(b);
            if (b.shared_with < 0 && same && a.lane != b.lane) {
                patches[i].shared_with = static_cast<int>(j);
            }
        }
    }
    run_tasks(FrameTask::measure_patch, &task, static_cast<int>(patches.size()), threads);
}

void step(RoiFlow* const* lanes, RoiFlow* const* before, int count, const Gray* frames, float* const* features,
          int threads) {
    thread_local std::vector<PatchTask> patches;
    for (int i = 0; i < count; ++i) {
        lanes[i]->lane().look_first(frames[i]);
        std::fill_n(features[i], lanes[i]->channels(), 0.0f);
    }
    list_patches(lanes, count, patches);
    StepTask task{lanes, before, frames, features, &patches};
    run_tasks(StepTask::take_patch, &task, static_cast<int>(patches.size()), threads);
}

}  // namespace metst
