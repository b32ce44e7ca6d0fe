// What estimate.py counts the instructions of: so many frames of one stage on the NEON path, two lanes, one thread.
//
//   work flow N      regions of ME-TST+ on a 1280x720 picture
//   work metst64 N   steps of a network; also metst128, metst_plus_small and metst_plus, and these with _half
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "drawn_weights.h"
#include "metst/metst_network.h"
#include "metst/metst_plus_network.h"
#include "metst/roi_flow.h"
#include "waves.h"

namespace {

constexpr int kLanes = 2;

std::size_t size(std::int64_t n) { return static_cast<std::size_t>(n); }

// Patches and regions of a real face's landmarks (skimage's astronaut), the crop's pixels and the patches'.
metst::RoiFlowLayout face() {
    metst::RoiFlowLayout layout;
    const metst::Rect patches[] = {{59, 93, 38, 134},   {69, 106, 197, 287}, {224, 301, 66, 249},
                                   {180, 228, 96, 220}, {132, 163, 62, 125}, {138, 169, 202, 265}};
    const metst::FlowRegion regions[] = {
        {0, {10, 24, 10, 86}, 0.3},  {0, {8, 28, 53, 73}, 0.2},    {0, {5, 25, 27, 47}, 0.2},
        {0, {9, 29, 8, 28}, 0.2},    {1, {10, 27, 10, 80}, 0.3},   {1, {5, 25, 23, 43}, 0.3},
        {1, {5, 25, 49, 69}, 0.3},   {1, {11, 31, 68, 88}, 0.3},   {2, {10, 67, 10, 173}, 0.3},
        {2, {7, 27, 10, 40}, 0.2},   {2, {16, 36, 143, 173}, 0.2}, {2, {10, 30, 81, 101}, 0.2},
        {2, {57, 77, 78, 98}, 0.2},  {2, {18, 38, 80, 100}, 0.2},  {3, {10, 35, 10, 40}, 0.2},
        {3, {13, 38, 84, 114}, 0.2}, {4, {5, 26, 5, 58}, 0.3},     {5, {5, 26, 5, 58}, 0.3}};
    for (const metst::Rect& patch : patches) layout.patches[layout.patch_count++] = patch;
    for (const metst::FlowRegion& region : regions) layout.regions[layout.region_count++] = region;
    layout.nose = {168, 213, 146, 173};
    layout.nose_inside = {15, 35, 5, 22};
    layout.nose_share = 0.7;
    return layout;
}

void flow(int frames) {
    constexpr int kHeight = 720, kWidth = 1280;
    const metst::Rect box{200, 500, 400, 700};
    std::vector<std::uint8_t> pictures[2];
    for (int i : {0, 1}) {
        pictures[i].resize(size(kHeight) * size(kWidth));
        draw_waves(kHeight, kWidth, 0.5 * i, 0.3 * i, static_cast<unsigned>(i), pictures[i].data());
    }
    const auto gray = [&](int i) { return metst::Gray{pictures[i].data(), kHeight, kWidth, kWidth}; };
    metst::RoiFlow first(gray(0), box, face()), second(gray(0), box, face());
    metst::RoiFlow* const lanes[] = {&first, &second};
    std::vector<float> features(kLanes * size(first.channels()));
    float* const rows[] = {features.data(), features.data() + first.channels()};
    for (int i = 0; i < frames; ++i) metst::measure(lanes, kLanes, gray(1), rows, 1);
}

template <class Sizes, class Weights>
void steps(const Sizes& sizes, const Weights& weights, metst::MatrixFormat format, int frames) {
    std::vector<float> packed(size(metst::packed_network_size(sizes, format)));
    metst::pack_network(sizes, weights, format, packed.data());
    std::vector<float> stream(size(metst::network_stream_size(sizes, kLanes)));
    std::vector<float> features(size(kLanes * sizes.channels), 0.3f), emotion(size(kLanes * sizes.classes));
    float spot[kLanes];
    bool reset[kLanes] = {};
    metst::NetworkStepArgs args;
    args.lanes = kLanes;
    args.packed = packed.data();
    args.format = format;
    args.features = features.data();
    args.reset = reset;
    args.stream = stream.data();
    args.spot = spot;
    args.emotion = emotion.data();
    for (; args.fed < frames; ++args.fed) {
        // Windows of 30 frames, an odd number apart as half a window is: the lanes have their slow steps alternately.
        reset[0] = args.fed % 30 == 0, reset[1] = args.fed % 30 == 1;
        if (metst::network_step(sizes, args) != metst::Status::kOk) std::exit(1);
    }
}

void metst_steps(std::int64_t dim, int frames) {
    const metst::MetstSizes sizes{10, dim, 12, 2 * dim, 64, 4, (dim + 15) / 16, 5};
    steps(sizes, DrawnMetst(sizes, Fence::kAfter).weights, metst::MatrixFormat::kFloat32, frames);
}

void metst_plus_steps(std::int64_t dim, std::int64_t slow, std::int64_t pathways, bool half, int frames) {
    const metst::MetstPlusSizes sizes{
        36, dim, slow, 3, 4, pathways, 2 * dim, 2 * slow, 64, 4, (dim + 15) / 16, (slow + 15) / 16, 5};
    const metst::MatrixFormat format = half ? metst::MatrixFormat::kFloat16 : metst::MatrixFormat::kFloat32;
    steps(sizes, DrawnMetstPlus(sizes, Fence::kAfter).weights, format, frames);
}

}  // namespace

int main(int count, char** arguments) {
    if (count != 3) return 2;
    const std::string what = arguments[1];
    const int frames = std::atoi(arguments[2]);
    const bool half = what.find("_half") != std::string::npos;
    if (what == "flow") {
        flow(frames);
    } else if (what == "metst64" || what == "metst128") {
        metst_steps(what == "metst64" ? 64 : 128, frames);
    } else if (what.find("metst_plus_small") == 0) {
        metst_plus_steps(32, 64, 1, half, frames);
    } else if (what.find("metst_plus") == 0) {
        metst_plus_steps(128, 256, 2, half, frames);
    } else {
        return 2;
    }
    return 0;
}
