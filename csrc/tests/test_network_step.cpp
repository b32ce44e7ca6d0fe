// Every vector path of the networks' steps, in both formats of their matrices, against the path without vector instructions, with each array fenced by
// inaccessible pages. What the right scores are is for tests/engine to judge; this runs under sanitizers and emulation.
#include <cmath>
#include <cstdio>
#include <functional>
#include <initializer_list>
#include <limits>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "drawn_weights.h"
#include "expect.h"
#include "fenced_array.h"
#include "metst/metst_network.h"
#include "metst/metst_plus_network.h"
#include "simd_paths.h"
#include "thread_sanitizer.h"

using metst::MatrixFormat;
using metst::MetstPlusSizes;
using metst::MetstSizes;
using metst::SimdPath;
using metst::Status;

namespace {

std::size_t count(std::int64_t n) { return static_cast<std::size_t>(n); }

void pack(const MetstSizes& s, MatrixFormat format, Fence fence, float* packed) {
    const DrawnMetst drawn(s, fence);
    metst::pack_network(s, drawn.weights, format, packed);
}

void pack(const MetstPlusSizes& s, MatrixFormat format, Fence fence, float* packed) {
    const DrawnMetstPlus drawn(s, fence);
    metst::pack_network(s, drawn.weights, format, packed);
}

template <class Sizes>
struct Network {
    Sizes sizes;
    MatrixFormat format;
    FencedArray packed;

    Network(const Sizes& s, MatrixFormat f, Fence fence)
        : sizes(s), format(f), packed(count(metst::packed_network_size(s, f)), fence) {
        // Bits that no float or pair of halves here has.
        for (std::size_t i = 0; i < packed.size(); ++i) packed[i] = std::numeric_limits<float>::quiet_NaN();
        pack(s, f, fence, packed.data());
        for (std::size_t i = 0; i < packed.size(); ++i) EXPECT(!std::isnan(packed[i]), "packed[%zu] not written", i);
    }
};

template <class Sizes>
struct Stream {
    Sizes sizes;
    FencedArray features, stream, spot, emotion;
    std::unique_ptr<bool[]> reset;
    metst::NetworkStepArgs args;

    Stream(Network<Sizes>& network, std::int64_t lanes, Fence fence)
        : sizes(network.sizes),
          features(count(lanes * sizes.channels), fence),
          stream(count(metst::network_stream_size(sizes, lanes)), fence),
          spot(count(lanes), fence),
          emotion(count(lanes * sizes.classes), fence),
          reset(new bool[count(lanes)]()) {
        args.lanes = lanes;
        args.packed = network.packed.data();
        args.format = network.format;
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
        EXPECT(metst::network_step(sizes, args, path) == Status::kOk, "step %d", static_cast<int>(args.fed));
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

constexpr MatrixFormat kFormats[] = {MatrixFormat::kFloat32, MatrixFormat::kFloat16};

template <class Sizes>
void paths_agree_inside_their_fences(const NamedPath& path, const Sizes& sizes) {
    for (MatrixFormat format : kFormats) {
        for (Fence fence : {Fence::kBefore, Fence::kAfter}) {
            Network<Sizes> network(sizes, format, fence);
            for (std::int64_t lanes = 1; lanes <= 4; ++lanes) {
                Stream<Sizes> found(network, lanes, fence), expected(network, lanes, fence);
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

void paths_agree_inside_their_fences(const NamedPath& path) {
    const MetstSizes metst[] = {// channels, dim, depth, inner, states, conv, rank, classes
                                {10, 64, 2, 128, 64, 4, 4, 5},
                                {7, 23, 2, 69, 5, 3, 3, 4},
                                {36, 40, 1, 40, 16, 4, 17, 15},
                                {1, 1, 1, 1, 1, 1, 1, 1},
                                {10, 48, 0, 96, 64, 4, 3, 40}};
    for (const MetstSizes& sizes : metst) paths_agree_inside_their_fences(path, sizes);
    // channels, dim, slow_dim, stages, depth, pathways, inner, slow_inner, states, conv, rank, slow_rank, classes
    const MetstPlusSizes plus[] = {{36, 32, 64, 3, 1, 2, 64, 128, 64, 4, 2, 4, 5},
                                   {7, 23, 31, 2, 2, 1, 46, 62, 5, 3, 3, 17, 4},
                                   {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1},
                                   {5, 40, 8, 1, 1, 3, 40, 16, 16, 5, 1, 1, 20}};
    for (const MetstPlusSizes& sizes : plus) paths_agree_inside_their_fences(path, sizes);
}

// The network is read by all of them, a stream is written by its own thread.
template <class Sizes>
void streams_of_one_network_step_on_threads(const NamedPath& path, const Sizes& sizes) {
    Network<Sizes> network(sizes, MatrixFormat::kFloat16, Fence::kAfter);
    const auto run = [&](Stream<Sizes>& stream) {
        std::mt19937 random(1);
        for (int t = 0; t < 20; ++t) stream.step(path.path, random);
    };
    Stream<Sizes> alone(network, 2, Fence::kAfter);
    run(alone);
    std::vector<std::unique_ptr<Stream<Sizes>>> streams;
    std::vector<std::thread> threads;
    for (int i = 0; i < 3; ++i) streams.push_back(std::make_unique<Stream<Sizes>>(network, 2, Fence::kAfter));
    for (const auto& stream : streams) threads.emplace_back(run, std::ref(*stream));
    for (std::thread& thread : threads) thread.join();
    for (const auto& stream : streams) {
        EXPECT(largest_difference(stream->spot, alone.spot) == 0.0, "%s spot", path.name);
        EXPECT(largest_difference(stream->emotion, alone.emotion) == 0.0, "%s emotion", path.name);
    }
}

template <class Sizes>
void bad_arguments_are_refused(const Sizes& good, std::initializer_list<std::int64_t Sizes::*> members) {
    Network<Sizes> network(good, MatrixFormat::kFloat32, Fence::kAfter);
    Stream<Sizes> stream(network, 2, Fence::kAfter);
    for (std::int64_t Sizes::* member : members) {
        Sizes sizes = good;
        sizes.*member = 0;
        EXPECT(metst::network_step(sizes, stream.args) == Status::kBadSize, "a size of 0");
    }
    metst::NetworkStepArgs args = stream.args;
    args.lanes = 0;
    EXPECT(metst::network_step(good, args) == Status::kBadSize, "no lane");
    args = stream.args;
    args.fed = -1;
    EXPECT(metst::network_step(good, args) == Status::kBadSize, "a negative number of steps");
    args = stream.args;
    args.features = nullptr;
    EXPECT(metst::network_step(good, args) == Status::kNullPointer, "no features");
#if defined(__aarch64__)
    const SimdPath foreign = SimdPath::kAvx2;
#else
    const SimdPath foreign = SimdPath::kNeon;
#endif
    EXPECT(metst::network_step(good, stream.args, foreign) == Status::kUnavailablePath, "path of another architecture");
}

void bad_arguments_are_refused() {
    using A = MetstSizes;
    bad_arguments_are_refused<A>({7, 23, 1, 46, 5, 3, 3, 4},
                                 {&A::channels, &A::dim, &A::inner, &A::states, &A::conv, &A::rank, &A::classes});
    using B = MetstPlusSizes;
    bad_arguments_are_refused<B>({7, 23, 31, 2, 1, 1, 46, 62, 5, 3, 3, 17, 4},
                                 {&B::channels, &B::dim, &B::slow_dim, &B::stages, &B::depth, &B::pathways, &B::inner,
                                  &B::slow_inner, &B::states, &B::conv, &B::rank, &B::slow_rank, &B::classes});
}

}  // namespace

int main() {
    for (const NamedPath& path : available_paths()) {
        std::printf("path %s\n", path.name);
        if (!kThreadsOnly) paths_agree_inside_their_fences(path);
        streams_of_one_network_step_on_threads<MetstSizes>(path, {7, 23, 2, 46, 5, 3, 3, 4});
        streams_of_one_network_step_on_threads<MetstPlusSizes>(path, {7, 23, 31, 2, 1, 2, 46, 62, 5, 3, 3, 17, 4});
    }
    bad_arguments_are_refused();
    std::printf("%d failures\n", failures);
    return failures != 0;
}
