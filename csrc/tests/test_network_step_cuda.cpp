// The fused steps' CUDA source against the CPU's steps, which tests/engine judges. Built twice: with the emulation of
// cuda_on_cpu.h, which needs no GPU and no nvcc, and, where METST_CUDA is on, for this machine's GPU (exit status 77
// where it has none).
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "device_array.h"
#include "drawn_weights.h"
#include "expect.h"
#include "metst/aligned_floats.h"
#include "metst/metst_network.h"
#include "metst/metst_plus_network.h"
#include "metst/network_step_cuda.h"

using metst::MetstPlusSizes;
using metst::MetstSizes;
using metst::cuda::NetworkStepBuffers;
using metst::cuda::NetworkStepFloats;
using metst::cuda::NetworkStepStatus;

namespace {

#ifdef METST_CUDA_ON_CPU
constexpr double kTolerance = 1e-5;
#else
constexpr double kTolerance = 1e-4;  // the exponential of the hardware is good to 2 units in the last place
#endif
double worst_difference = 0.0;

std::size_t count(std::int64_t n) { return static_cast<std::size_t>(n); }

template <class Sizes>
NetworkStepFloats floats_of(const Sizes& sizes) {
    NetworkStepFloats floats;
    EXPECT(metst::cuda::network_step_floats(sizes, &floats) == NetworkStepStatus::kOk, "the sizes");
    return floats;
}

DrawnMetst drawn_of(const MetstSizes& sizes) { return DrawnMetst(sizes, Fence::kAfter); }
DrawnMetstPlus drawn_of(const MetstPlusSizes& sizes) { return DrawnMetstPlus(sizes, Fence::kAfter); }

// A network on both sides, fed the same.
template <class Sizes>
class Pair {
public:
    Pair(const Sizes& sizes, std::int64_t lanes, int blocks)
        : sizes_(sizes),
          lanes_(lanes),
          blocks_(blocks),
          floats_(floats_of(sizes)),
          weights_(count(floats_.weights)),
          states_{std::make_unique<DeviceArray<float>>(count(lanes * floats_.state)),
                  std::make_unique<DeviceArray<float>>(count(lanes * floats_.state))},
          features_(count(lanes * sizes.channels)),
          reset_(count(lanes)),
          spot_(count(lanes)),
          emotion_(count(lanes * sizes.classes)),
          packed_(metst::packed_network_size(sizes, metst::MatrixFormat::kFloat32)),
          stream_(metst::network_stream_size(sizes, lanes)),
          expected_spot(count(lanes)),
          expected_emotion(count(lanes * sizes.classes)) {
        const auto drawn = drawn_of(sizes);
        metst::pack_network(sizes, drawn.weights, metst::MatrixFormat::kFloat32, packed_.data());
        FencedArray packed(count(floats_.weights), Fence::kAfter);
        for (std::size_t i = 0; i < packed.size(); ++i) packed[i] = std::numeric_limits<float>::quiet_NaN();
        EXPECT(metst::cuda::pack_network_step(sizes, drawn.weights, packed.data()) == NetworkStepStatus::kOk, "packed");
        weights_.upload(packed.data());
        states_[0]->upload(std::vector<float>(count(lanes * floats_.state)));
    }

    NetworkStepBuffers buffers() const {
        return {weights_.data(),    features_.data(), reset_.data(),  states_[0]->data(),
                states_[1]->data(), spot_.data(),     emotion_.data()};
    }

    void draw(std::mt19937& random, unsigned one_in) {
        const std::vector<float> features = drawn(random);
        std::vector<float> reset;
        for (int lane = 0; lane < static_cast<int>(lanes_); ++lane) {
            reset.push_back(random() % one_in == 0 ? 1.0f : 0.0f);
        }
        features_.upload(features);
        reset_.upload(reset);
    }
    void draw(std::mt19937& random, const std::vector<float>& reset) {
        features_.upload(drawn(random));
        reset_.upload(reset);
    }

    // What is drawn; the state that is written is NaN before.
    NetworkStepStatus run() {
        check(cudaMemset(states_[1]->data(), 0xff, states_[1]->bytes()), "cudaMemset");
        return enqueue(nullptr);
    }
    NetworkStepStatus enqueue(cudaStream_t stream) {
        return metst::cuda::network_step(sizes_, lanes_, buffers(), stream, blocks_);
    }

    void go_on() { std::swap(states_[0], states_[1]); }

    void expect_scores_of_the_cpu(const char* what) {
        const std::vector<float> features = download(features_.data(), count(lanes_ * sizes_.channels));
        const std::vector<float> reset = download(reset_.data(), count(lanes_));
        const std::unique_ptr<bool[]> flags(new bool[count(lanes_)]);
        for (std::size_t i = 0; i < reset.size(); ++i) flags[i] = reset[i] != 0.0f;
        metst::NetworkStepArgs args;
        args.lanes = lanes_;
        args.packed = packed_.data();
        args.features = features.data();
        args.reset = flags.get();
        args.fed = fed_++;
        args.stream = stream_.data();
        args.spot = expected_spot.data();
        args.emotion = expected_emotion.data();
        EXPECT(metst::network_step(sizes_, args) == metst::Status::kOk, "the CPU's step");
        const double spot = difference(spots(), expected_spot), emotion = difference(emotions(), expected_emotion);
        worst_difference = std::max({worst_difference, spot, emotion});
        EXPECT(spot <= kTolerance && emotion <= kTolerance,
               "%s, dim %d lanes %d of %d blocks, step %d: spot %.2g emotion %.2g", what, static_cast<int>(sizes_.dim),
               static_cast<int>(lanes_), blocks_, static_cast<int>(fed_), spot, emotion);
    }

    std::vector<float> spots() const { return download(spot_.data(), count(lanes_)); }
    std::vector<float> emotions() const { return download(emotion_.data(), count(lanes_ * sizes_.classes)); }
    std::vector<float> written() const { return download(states_[1]->data(), count(lanes_ * floats_.state)); }

private:
    std::vector<float> drawn(std::mt19937& random) const {
        std::normal_distribution<float> values;
        std::vector<float> features;
        for (int i = 0; i < static_cast<int>(lanes_ * sizes_.channels); ++i) features.push_back(values(random));
        return features;
    }
    static double difference(const std::vector<float>& a, const std::vector<float>& b) {
        double largest = 0.0;
        for (std::size_t i = 0; i < a.size(); ++i) {
            if (!std::isfinite(a[i])) return std::numeric_limits<double>::infinity();
            largest = std::fmax(largest, std::fabs(static_cast<double>(a[i]) - b[i]));
        }
        return largest;
    }

    Sizes sizes_;
    std::int64_t lanes_, fed_ = 0;
    int blocks_;
    NetworkStepFloats floats_;
    DeviceArray<float> weights_;
    std::unique_ptr<DeviceArray<float>> states_[2];
    DeviceArray<float> features_, reset_, spot_, emotion_;
    metst::AlignedFloats packed_, stream_;
    std::vector<float> expected_spot, expected_emotion;
};

// channels, dim, depth, inner, states, conv, rank, classes
constexpr MetstSizes kSizes[] = {
    {10, 64, 2, 128, 64, 4, 4, 5},      // the published one, but for its depth
    {10, 128, 1, 256, 64, 4, 8, 3},     // the other
    {7, 23, 2, 69, 5, 3, 3, 4},         // nothing is a multiple of 4
    {36, 40, 1, 41, 16, 1, 17, 15},     // a convolution of one frame
    {1, 1, 1, 1, 1, 1, 1, 1},           //
    {10, 48, 0, 96, 64, 4, 3, 40},      // no block
    {2, 12, 1, 1100, 140, 2, 300, 2}};  // more channels than threads, and states than lanes hold eight each

// channels, dim, slow_dim, stages, depth, pathways, inner, slow_inner, states, conv, rank, slow_rank, classes
constexpr MetstPlusSizes kPlusSizes[] = {
    {36, 32, 64, 3, 1, 1, 64, 128, 64, 4, 2, 4, 5},      // the small one, but for its depth
    {36, 128, 256, 2, 1, 1, 256, 512, 64, 4, 8, 16, 5},  // the one with one pathway, but for stages and depth
    {7, 23, 31, 2, 2, 2, 46, 62, 5, 3, 3, 17, 4},        // nothing is a multiple of 4
    {5, 40, 8, 1, 1, 3, 40, 16, 16, 1, 1, 1, 20},     // a pathway that no head reads, no lateral, the slow one narrow
    {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1},          //
    {2, 3, 12, 2, 1, 1, 1100, 1040, 9, 2, 5, 3, 2}};  // more channels than threads

template <class Sizes>
void frames_are_those_of_the_cpu(const Sizes& sizes, std::int64_t lanes, int blocks, int steps) {
    Pair pair(sizes, lanes, blocks);
    std::mt19937 random(static_cast<unsigned>(lanes));
    for (int t = 0; t < steps; ++t) {
        pair.draw(random, 4);
        EXPECT(pair.run() == NetworkStepStatus::kOk, "step %d", t);
        pair.expect_scores_of_the_cpu("fed one frame after another");
        pair.go_on();
    }
}

// most: steps in two lanes.
template <class Sizes>
void scores_are_those_of_the_cpu(const Sizes& sizes, int blocks, int most) {
    for (std::int64_t lanes = 1; lanes <= 3; lanes += 1) {
#ifdef METST_TEST_QUICK
        const int steps = lanes == 2 ? std::min(most, 5) : 0;
#else
        const int steps = lanes == 2 ? most : 4;
#endif
        frames_are_those_of_the_cpu(sizes, lanes, blocks, steps);
    }
}

// Each lane's windows begin at every distance from the beginnings before.
template <class Sizes>
void windows_begin_anywhere(const Sizes& sizes, int blocks) {
    Pair pair(sizes, 3, blocks);
    std::mt19937 random(5);
    for (unsigned one_in : {1u, 2u, 3u, 8u}) {
        for (int t = 0; t < 24; ++t) {
            pair.draw(random, one_in);
            EXPECT(pair.run() == NetworkStepStatus::kOk, "step %d", t);
            pair.expect_scores_of_the_cpu("windows of every length");
            pair.go_on();
        }
    }
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
    return std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// pads: floats of a lane's state that only fill arrays up to multiples of 4.
template <class Sizes>
void a_step_writes_all_of_the_next_state_and_can_be_taken_back(const Sizes& sizes, std::size_t pads, int blocks) {
    Pair pair(sizes, 2, blocks);
    std::mt19937 random(3);
    for (int t = 0; t < 8; ++t) {
        pair.draw(random, 3);
        pair.run();  // to be taken back
        pair.draw(random, 3);
        pair.run();
        const std::vector<float> written = pair.written(), spots = pair.spots();
        pair.run();
        EXPECT(same_bits(pair.written(), written) && pair.spots() == spots, "once more in step %d", t);
        pair.expect_scores_of_the_cpu("after one that was taken back");
        std::size_t unwritten = 0;
        for (float value : written) unwritten += std::isnan(value);
        EXPECT(unwritten <= 2 * pads, "%zu values are not written", unwritten);
        pair.go_on();
    }
}

// A lane that has no slow step carries its slow blocks' state on, to the last bit.
void lanes_take_slow_steps_by_turns(int blocks) {
    const MetstPlusSizes sizes{3, 8, 12, 2, 1, 1, 8, 12, 4, 4, 1, 1, 2};
    Pair pair(sizes, 2, blocks);
    std::mt19937 random(9);
    const std::size_t lane = count(floats_of(sizes).state), slow = 2 * (3 * 12 + 12 * 4);  // floats, at a lane's end
    std::vector<float> before(2 * lane);
    int together = 0;
    for (int t = 0; t < 16; ++t) {
        pair.draw(random, {t == 0 ? 1.0f : 0.0f, t == 0 || t == 5 || t == 12 ? 1.0f : 0.0f});
        EXPECT(pair.run() == NetworkStepStatus::kOk, "step %d", t);
        pair.expect_scores_of_the_cpu("windows that begin an odd and an even number of frames apart");
        const std::vector<float> after = pair.written();
        bool due[2];
        for (std::size_t i : {0u, 1u}) {
            const std::size_t at = (i + 1) * lane - slow;
            due[i] = std::memcmp(before.data() + at, after.data() + at, slow * sizeof(float)) != 0;
        }
        const int e = t - static_cast<int>(metst::kMetstPlusLookAhead), second = e < 5 ? 0 : e < 12 ? 5 : 12;
        if (e >= 0) {
            EXPECT(due[0] == (e % 2 == 0) && due[1] == ((e - second) % 2 == 0), "slow steps of step %d", t);
            together += due[0] && due[1];
        }
        before = after;
        pair.go_on();
    }
    EXPECT(together > 0 && together < 7, "%d slow steps at the same time", together);
}

template <class Sizes>
void bad_arguments_are_refused(const Sizes& good, std::initializer_list<std::int64_t Sizes::*> least_one,
                               std::initializer_list<std::int64_t Sizes::*> bounded) {
    Pair pair(good, 2, 1);
    const auto status = [&](const Sizes& sizes, std::int64_t lanes, const NetworkStepBuffers& buffers) {
        return metst::cuda::network_step(sizes, lanes, buffers, nullptr);
    };
    NetworkStepFloats floats;
    for (std::int64_t Sizes::* member : least_one) {
        Sizes sizes = good;
        sizes.*member = 0;
        EXPECT(status(sizes, 2, pair.buffers()) == NetworkStepStatus::kBadSize, "a size of 0");
        EXPECT(metst::cuda::network_step_floats(sizes, &floats) == NetworkStepStatus::kBadSize, "a size of 0");
    }
    for (std::int64_t Sizes::* member : bounded) {
        for (std::int64_t value : {std::int64_t{1} << 20, std::numeric_limits<std::int64_t>::max()}) {
            Sizes sizes = good;
            sizes.*member = value;
            EXPECT(metst::cuda::network_step_floats(sizes, &floats) == NetworkStepStatus::kTooLarge, "a large size");
        }
    }
    for (std::int64_t lanes : {-1, 0, 65536}) {
        EXPECT(status(good, lanes, pair.buffers()) == NetworkStepStatus::kBadSize, "the number of lanes");
    }
    EXPECT(metst::cuda::network_step(good, 2, pair.buffers(), nullptr, 3) == NetworkStepStatus::kBadSize, "3 blocks");
    NetworkStepBuffers none = pair.buffers();
    none.reset = nullptr;
    EXPECT(status(good, 2, none) == NetworkStepStatus::kNullPointer, "no flags");
}

void bad_arguments_are_refused() {
    using A = MetstSizes;
    bad_arguments_are_refused<A>({7, 23, 1, 46, 5, 3, 3, 4},
                                 {&A::channels, &A::dim, &A::inner, &A::states, &A::conv, &A::rank, &A::classes},
                                 {&A::channels, &A::dim, &A::depth, &A::inner, &A::states, &A::conv, &A::rank});
    using B = MetstPlusSizes;
    const auto all = {&B::channels,   &B::dim,    &B::slow_dim, &B::stages, &B::depth,     &B::pathways, &B::inner,
                      &B::slow_inner, &B::states, &B::conv,     &B::rank,   &B::slow_rank, &B::classes};
    bad_arguments_are_refused<B>({7, 23, 31, 2, 1, 1, 46, 62, 5, 3, 3, 17, 4}, all, all);
    NetworkStepFloats floats;
    EXPECT(metst::cuda::network_step_floats(B{1, 1, 1, 3000, 3000, 3000, 1, 1, 1, 1, 1, 1, 1}, &floats) ==
               NetworkStepStatus::kTooLarge,
           "blocks whose number only is large");
}

#ifdef METST_CUDA_ON_CPU
bool has_clusters() { return true; }

template <class Sizes>
void a_step_is_one_launch(const Sizes& sizes, int blocks) {
    Pair pair(sizes, 3, blocks);
    std::mt19937 random(1);
    pair.draw(random, 3);
    cuda_on_cpu::launched_blocks.clear();
    pair.run();
    EXPECT(cuda_on_cpu::launched_blocks == std::vector<unsigned>{3u * static_cast<unsigned>(blocks)}, "%zu launches",
           cuda_on_cpu::launched_blocks.size());
}

// A block a lane where a cluster's blocks would not have room for what they copy: sm_120 has clusters and 99 KB.
void a_cluster_that_does_not_fit_is_not_chosen() {
    for (const MetstSizes& sizes : {kSizes[0], kSizes[1]}) {
        Pair pair(sizes, 1, metst::cuda::kFastestBlocks);
        std::mt19937 random(1);
        pair.draw(random, 3);
        cuda_on_cpu::most_shared_bytes = 99 * 1024;
        cuda_on_cpu::launched_blocks.clear();
        EXPECT(pair.run() == NetworkStepStatus::kOk, "where there is little room");
        cuda_on_cpu::most_shared_bytes = 227 * 1024;
        EXPECT(cuda_on_cpu::launched_blocks == std::vector<unsigned>{sizes.dim == 64 ? 8u : 1u}, "%u blocks of dim %d",
               cuda_on_cpu::launched_blocks.front(), static_cast<int>(sizes.dim));
        pair.expect_scores_of_the_cpu("where there is little room");
    }
}

// Clusters until their blocks fill the device.
void the_fastest_number_of_blocks_is_chosen() {
    for (std::int64_t lanes : {2, 3}) {
        Pair pair(MetstSizes{3, 8, 1, 8, 4, 4, 1, 2}, lanes, metst::cuda::kFastestBlocks);
        std::mt19937 random(1);
        pair.draw(random, 3);
        cuda_on_cpu::multiprocessors = 16;
        cuda_on_cpu::launched_blocks.clear();
        EXPECT(pair.run() == NetworkStepStatus::kOk, "the fastest");
        cuda_on_cpu::multiprocessors = 132;
        EXPECT(cuda_on_cpu::launched_blocks == std::vector<unsigned>{lanes == 2 ? 16u : 3u}, "%u blocks of %d lanes",
               cuda_on_cpu::launched_blocks.front(), static_cast<int>(lanes));
        pair.expect_scores_of_the_cpu("with the fastest number of blocks");
    }
}
#else
bool has_clusters() {
    int device = 0, there = 0;
    check(cudaGetDevice(&device), "cudaGetDevice");
    check(cudaDeviceGetAttribute(&there, cudaDevAttrClusterLaunch, device), "cudaDeviceGetAttribute");
    if (there == 0) std::printf("this device has no clusters\n");
    return there != 0;
}

// Captured once its kernel has run: drivers before CUDA 12.3 load none in a capture.
template <class Sizes>
void a_captured_step_is_the_same(const Sizes& sizes, int blocks) {
    Pair pair(sizes, 2, blocks);
    std::mt19937 random(1);
    cudaStream_t stream;
    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
    pair.draw(random, 3);
    pair.run();
    check(cudaDeviceSynchronize(), "wait");
    cudaGraph_t graph;
    cudaGraphExec_t executable;
    check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "begin");
    EXPECT(pair.enqueue(stream) == NetworkStepStatus::kOk, "captured");
    check(cudaStreamEndCapture(stream, &graph), "end");
    check(cudaGraphInstantiateWithFlags(&executable, graph, 0), "instantiate");
    check(cudaGraphLaunch(executable, stream), "launch");
    check(cudaStreamSynchronize(stream), "wait");
    pair.expect_scores_of_the_cpu("captured");
    cudaGraphExecDestroy(executable);
    cudaGraphDestroy(graph);
    cudaStreamDestroy(stream);
}
#endif

// small: quick to step. uneven: nothing in it is a multiple of 4; pads, as above.
template <class Sizes>
void a_network_is_stepped(const Sizes& published, const Sizes& small, const Sizes& uneven, std::size_t pads,
                          int blocks) {
    windows_begin_anywhere(small, blocks);
    a_step_writes_all_of_the_next_state_and_can_be_taken_back(uneven, pads, blocks);
#ifdef METST_CUDA_ON_CPU
    a_step_is_one_launch(published, blocks);
#else
    a_captured_step_is_the_same(published, blocks);
#endif
}

}  // namespace

int main(int argc, char** argv) {
    if (!has_device()) return kSkipped;
    const bool brief = briefly(argc, argv);
    for (int blocks : {1, metst::cuda::kClusterBlocks}) {
        if (blocks > 1 && !has_clusters()) continue;
        if (brief) {  // two frames, so that ME-TST+ has a slow step and has none
            for (const MetstSizes& sizes : kSizes) frames_are_those_of_the_cpu(sizes, 2, blocks, 2);
            for (const MetstPlusSizes& sizes : kPlusSizes) frames_are_those_of_the_cpu(sizes, 2, blocks, 2);
            continue;
        }
        for (const MetstSizes& sizes : kSizes) scores_are_those_of_the_cpu(sizes, blocks, 24);
        for (const MetstPlusSizes& sizes : kPlusSizes) scores_are_those_of_the_cpu(sizes, blocks, 10);
        // resets, the two rings of the stem, and of each block taps and scan
        a_network_is_stepped<MetstSizes>(kSizes[0], {3, 8, 2, 8, 4, 4, 1, 2}, {7, 23, 2, 69, 5, 3, 3, 4},
                                         2 + 2 + 2 + 2 * 2, blocks);
        // rings of the stem and of what it gives; of each pathway a lateral and what its stacks gave, and of each block
        // taps; a row of 5 states has 3 pads, which are written
        a_network_is_stepped<MetstPlusSizes>(kPlusSizes[0], {3, 8, 12, 2, 1, 1, 8, 12, 4, 4, 1, 1, 2},
                                             {7, 23, 31, 2, 1, 2, 46, 62, 5, 3, 3, 17, 4}, 2 + 2 + 2 + 2 * (2 + 1 + 1),
                                             blocks);
        lanes_take_slow_steps_by_turns(blocks);
    }
    if (!brief) bad_arguments_are_refused();
#ifdef METST_CUDA_ON_CPU
    the_fastest_number_of_blocks_is_chosen();
    a_cluster_that_does_not_fit_is_not_chosen();
#endif
    std::printf("largest difference %.2g, %d failures\n", worst_difference, failures);
    return failures != 0;
}
