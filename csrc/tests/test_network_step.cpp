// Every vector path of the network step against the path without vector instructions, with each array fenced by
// inaccessible pages. What the right scores are is for tests/engine to judge; this runs under sanitizers and emulation.
#include <cmath>
#include <cstdio>
#include <functional>
#include <limits>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "expect.h"
#include "fenced_array.h"
#include "metst/network_step.h"
#include "simd_paths.h"
#include "thread_sanitizer.h"

using metst::NetworkSizes;
using metst::SimdPath;
using metst::Status;

namespace {

std::size_t count(std::int64_t n) { return static_cast<std::size_t>(n); }

struct Network {
    NetworkSizes sizes;
    std::vector<std::unique_ptr<FencedArray>> arrays;
    FencedArray packed;

    Network(NetworkSizes s, Fence fence) : sizes(s), packed(count(metst::packed_network_size(s)), fence) {
        std::mt19937 random(1);
        const auto draw = [&](std::int64_t size, float low, float high) -> const float* {
            std::uniform_real_distribution<float> values(low, high);
            arrays.push_back(std::make_unique<FencedArray>(count(size), fence));
            for (std::size_t i = 0; i < count(size); ++i) (*arrays.back())[i] = values(random);
            return arrays.back()->data();
        };
        const auto linear = [&](std::int64_t inputs, std::int64_t outputs) {
            const float bound = 1.0f / std::sqrt(static_cast<float>(inputs));
            return draw(inputs * outputs, -bound, bound);
        };
        metst::NetworkWeights w;
        for (int i : {0, 1}) {
            w.stem_weight[i] = linear(3 * (i ? s.dim : s.channels), s.dim);
            w.stem_bias[i] = draw(s.dim, -0.3f, 0.3f);
        }
        std::vector<metst::BlockWeights> blocks(count(s.depth));
        for (metst::BlockWeights& b : blocks) {
            b.norm_weight = draw(s.dim, 0.8f, 1.2f);
            b.norm_bias = draw(s.dim, -0.3f, 0.3f);
            b.in_proj = linear(s.dim, 2 * s.inner);
            b.conv_weight = linear(s.conv, s.inner);
            b.conv_bias = draw(s.inner, -0.3f, 0.3f);
            b.x_proj = linear(s.inner, s.rank + 2 * s.states);
            b.dt_proj = linear(s.rank, s.inner);
            b.dt_bias = draw(s.inner, -5.0f, 0.0f);
            b.A = draw(s.inner * s.states, -20.0f, -0.01f);
            b.D = draw(s.inner, -2.0f, 2.0f);
            b.out_proj = linear(s.inner, s.dim);
            b.post_norm_weight = draw(s.dim, 0.8f, 1.2f);
            b.post_norm_bias = draw(s.dim, -0.3f, 0.3f);
        }
        w.blocks = blocks.data();
        w.spot_weight = linear(s.dim, 1);
        w.spot_bias = draw(1, -0.3f, 0.3f);
        w.emotion_weight = linear(s.dim, s.classes);
        w.emotion_bias = draw(s.classes, -0.3f, 0.3f);
        for (std::size_t i = 0; i < packed.size(); ++i) packed[i] = std::numeric_limits<float>::quiet_NaN();
        metst::pack_network(s, w, packed.data());
        for (std::size_t i = 0; i < packed.size(); ++i) EXPECT(!std::isnan(packed[i]), "packed[%zu] not written", i);
    }
};

struct Stream {
    FencedArray features, stream, spot, emotion;
    std::unique_ptr<bool[]> reset;
    metst::NetworkStepArgs args;

    Stream(Network& network, std::int64_t lanes, Fence fence)
        : features(count(lanes * network.sizes.channels), fence),
          stream(count(metst::network_stream_size(network.sizes, lanes)), fence),
          spot(count(lanes), fence),
          emotion(count(lanes * network.sizes.classes), fence),
          reset(new bool[count(lanes)]()) {
        args.sizes = network.sizes;
        args.lanes = lanes;
        args.packed = network.packed.data();
        args.features = features.data();
        args.reset = reset.get();
        args.stream = stream.data();
        args.spot = spot.data();
        args.emotion = emotion.data();
    }

    void step(SimdPath path, std::mt19937& random) {
        std::normal_distribution<float> values;
        for (std::size_t i = 0; i < features.size(); ++i) features[i] = values(random);
        for (std::int64_t lane = 0; lane < args.lanes; ++lane) reset[count(lane)] = random() % 6 == 0;
        EXPECT(metst::network_step(args, path) == Status::kOk, "step %d", static_cast<int>(args.fed));
        ++args.fed;
    }
};

double largest_difference(FencedArray& a, FencedArray& b) {
    double difference = 0.0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        if (!std::isfinite(a[i])) return std::numeric_limits<double>::infinity();
        difference = std::fmax(difference, std::fabs(static_cast<double>(a[i]) - b[i]));
    }
    return difference;
}

void paths_agree_inside_their_fences(const NamedPath& path) {
    const NetworkSizes all[] = {// channels, dim, depth, inner, states, conv, rank, classes
                                {10, 64, 2, 128, 64, 4, 4, 5},
                                {7, 23, 2, 69, 5, 3, 3, 4},
                                {36, 40, 1, 40, 16, 4, 17, 15},
                                {1, 1, 1, 1, 1, 1, 1, 1},
                                {10, 48, 0, 96, 64, 4, 3, 40}};
    for (const NetworkSizes& sizes : all) {
        for (Fence fence : {Fence::kBefore, Fence::kAfter}) {
            Network network(sizes, fence);
            for (std::int64_t lanes = 1; lanes <= 4; ++lanes) {
                Stream found(network, lanes, fence), expected(network, lanes, fence);
                std::mt19937 random(static_cast<unsigned>(lanes)), same(random);
                for (int t = 0; t < 30; ++t) {
                    found.step(path.path, random);
                    expected.step(SimdPath::kScalar, same);
                    const double spot = largest_difference(found.spot, expected.spot);
                    const double emotion = largest_difference(found.emotion, expected.emotion);
                    EXPECT(spot <= 1e-5 && emotion <= 1e-5, "%s dim %d lanes %d step %d: spot %.2g emotion %.2g",
                           path.name, static_cast<int>(sizes.dim), static_cast<int>(lanes), t, spot, emotion);
                }
            }
        }
    }
}

// The network is read by all of them, a stream is written by its own thread.
void streams_of_one_network_step_on_threads(const NamedPath& path) {
    Network network({7, 23, 2, 46, 5, 3, 3, 4}, Fence::kAfter);
    const auto run = [&](Stream& stream) {
        std::mt19937 random(1);
        for (int t = 0; t < 20; ++t) stream.step(path.path, random);
    };
    Stream alone(network, 2, Fence::kAfter);
    run(alone);
    std::vector<std::unique_ptr<Stream>> streams;
    std::vector<std::thread> threads;
    for (int i = 0; i < 3; ++i) streams.push_back(std::make_unique<Stream>(network, 2, Fence::kAfter));
    for (const auto& stream : streams) threads.emplace_back(run, std::ref(*stream));
    for (std::thread& thread : threads) thread.join();
    for (const auto& stream : streams) {
        EXPECT(largest_difference(stream->spot, alone.spot) == 0.0, "%s spot", path.name);
        EXPECT(largest_difference(stream->emotion, alone.emotion) == 0.0, "%s emotion", path.name);
    }
}

void bad_arguments_are_refused() {
    Network network({7, 23, 1, 46, 5, 3, 3, 4}, Fence::kAfter);
    Stream stream(network, 2, Fence::kAfter);
    using Sizes = NetworkSizes;
    for (std::int64_t Sizes::* size :
         {&Sizes::channels, &Sizes::dim, &Sizes::inner, &Sizes::states, &Sizes::conv, &Sizes::rank, &Sizes::classes}) {
        metst::NetworkStepArgs args = stream.args;
        args.sizes.*size = 0;
        EXPECT(metst::network_step(args) == Status::kBadSize, "a size of 0");
    }
    metst::NetworkStepArgs args = stream.args;
    args.lanes = 0;
    EXPECT(metst::network_step(args) == Status::kBadSize, "no lane");
    args = stream.args;
    args.fed = -1;
    EXPECT(metst::network_step(args) == Status::kBadSize, "a negative number of steps");
    args = stream.args;
    args.features = nullptr;
    EXPECT(metst::network_step(args) == Status::kNullPointer, "no features");
#if defined(__aarch64__)
    const SimdPath foreign = SimdPath::kAvx2;
#else
    const SimdPath foreign = SimdPath::kNeon;
#endif
    EXPECT(metst::network_step(stream.args, foreign) == Status::kUnavailablePath, "path of another architecture");
}

}  // namespace

int main() {
    for (const NamedPath& path : available_paths()) {
        std::printf("path %s\n", path.name);
        if (!kThreadsOnly) paths_agree_inside_their_fences(path);
        streams_of_one_network_step_on_threads(path);
    }
    bad_arguments_are_refused();
    std::printf("%d failures\n", failures);
    return failures != 0;
}
