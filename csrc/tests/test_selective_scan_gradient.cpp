// Every path of the scan's gradient on this CPU against central differences of the double-precision scan, with each
// array fenced by inaccessible pages.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "expect.h"
#include "fenced_array.h"
#include "metst/selective_scan_gradient.h"
#include "selective_scan_reference.h"
#include "simd_paths.h"

using metst::SelectiveScanGradientArgs;
using metst::SimdPath;
using metst::Status;

namespace {

using Args = SelectiveScanGradientArgs;

struct Sizes {
    std::int64_t batch, length, channels, states;
};

// An input, the gradient by it and its place in the reference.
struct Pair {
    const char* name;
    const float* Args::* input;
    float* Args::* gradient;
    std::vector<double> ScanInputs::* reference;
};
constexpr int kPairs = 9;
const Pair kPair[kPairs] = {{"u", &Args::u, &Args::grad_u, &ScanInputs::u},
                            {"delta", &Args::delta, &Args::grad_delta, &ScanInputs::delta},
                            {"A", &Args::A, &Args::grad_A, &ScanInputs::A},
                            {"B", &Args::B, &Args::grad_B, &ScanInputs::B},
                            {"C", &Args::C, &Args::grad_C, &ScanInputs::C},
                            {"D", &Args::D, &Args::grad_D, &ScanInputs::D},
                            {"z", &Args::z, &Args::grad_z, &ScanInputs::z},
                            {"delta_bias", &Args::delta_bias, &Args::grad_delta_bias, &ScanInputs::delta_bias},
                            {"h0", &Args::h0, &Args::grad_h0, &ScanInputs::h0}};

struct Problem {
    Sizes sizes;
    std::vector<FencedArray*> inputs, gradients;  // in the order of kPair
    FencedArray grad_y, grad_h;
    Args args;

    Problem(Sizes s, Fence fence, unsigned seed)
        : sizes(s),
          grad_y(count(s.batch * s.length * s.channels), fence),
          grad_h(count(s.batch * s.channels * s.states), fence) {
        const std::int64_t steps = s.batch * s.length * s.channels, rows = s.batch * s.length * s.states;
        const std::int64_t counts[kPairs] = {steps, steps,      s.channels * s.states,          rows, rows, s.channels,
                                             steps, s.channels, s.batch * s.channels * s.states};
        std::mt19937 generator(seed);
        std::normal_distribution<float> normal;
        args.batch = s.batch;
        args.length = s.length;
        args.channels = s.channels;
        args.states = s.states;
        for (int i = 0; i < kPairs; ++i) {
            inputs.push_back(new FencedArray(count(counts[i]), fence));
            gradients.push_back(new FencedArray(count(counts[i]), fence));
            for (std::int64_t j = 0; j < counts[i]; ++j) {
                (*inputs[i])[count(j)] = normal(generator);
                (*gradients[i])[count(j)] = std::numeric_limits<float>::quiet_NaN();
            }
            args.*kPair[i].input = inputs[i]->data();
            args.*kPair[i].gradient = gradients[i]->data();
        }
        std::uniform_real_distribution<float> exponent(-3.0f, 1.0f);
        for (std::size_t i = 0; i < inputs[2]->size(); ++i) (*inputs[2])[i] = -std::pow(10.0f, exponent(generator));
        for (FencedArray* weights : {&grad_y, &grad_h}) {
            for (std::size_t i = 0; i < weights->size(); ++i) (*weights)[i] = normal(generator);
        }
        args.grad_y = grad_y.data();
        args.grad_h = grad_h.data();
    }
    ~Problem() {
        for (FencedArray* array : inputs) delete array;
        for (FencedArray* array : gradients) delete array;
    }
    Problem(const Problem&) = delete;
    Problem& operator=(const Problem&) = delete;

    static std::size_t count(std::int64_t n) { return static_cast<std::size_t>(n); }

    ScanInputs reference_inputs() const {
        ScanInputs in;
        in.batch = count(sizes.batch);
        in.length = count(sizes.length);
        in.channels = count(sizes.channels);
        in.states = count(sizes.states);
        in.delta_softplus = true;
        for (int i = 0; i < kPairs; ++i) {
            if (args.*kPair[i].input) {
                (in.*kPair[i].reference).assign(inputs[i]->data(), inputs[i]->data() + inputs[i]->size());
            }
        }
        return in;
    }

    double loss(const ScanInputs& in) {
        const ScanOutputs out = reference(in);
        double sum = 0.0;
        for (std::size_t i = 0; i < out.y.size(); ++i) sum += out.y[i] * static_cast<double>(grad_y[i]);
        if (!args.grad_h) return sum;
        for (std::size_t i = 0; i < out.h.size(); ++i) sum += out.h[i] * static_cast<double>(grad_h[i]);
        return sum;
    }

    std::vector<float> outputs() const {
        std::vector<float> all;
        for (FencedArray* array : gradients) all.insert(all.end(), array->data(), array->data() + array->size());
        return all;
    }
};

// Some elements of each gradient, drawn, and the last one, against differences; all of them are numbers.
void expect_matches_differences(Problem& p, const NamedPath& path, std::mt19937& generator) {
    EXPECT(metst::selective_scan_gradient(p.args, 1, path.path) == Status::kOk, "%s", path.name);
    ScanInputs in = p.reference_inputs();
    constexpr double kStep = 1e-4;
    for (int i = 0; i < kPairs; ++i) {
        FencedArray& found = *p.gradients[static_cast<std::size_t>(i)];
        if (found.size() == 0 || !(p.args.*kPair[i].gradient)) continue;
        float largest = 0.0f;
        for (std::size_t j = 0; j < found.size(); ++j) {
            EXPECT(std::isfinite(found[j]), "%s %s[%zu]", path.name, kPair[i].name, j);
            largest = std::fmax(largest, std::fabs(found[j]));
        }
        std::uniform_int_distribution<std::size_t> any(0, found.size() - 1);
        for (const std::size_t j : {any(generator), any(generator), found.size() - 1}) {
            double& value = (in.*kPair[i].reference)[j];
            const double kept = value;
            value = kept + kStep;
            const double above = p.loss(in);
            value = kept - kStep;
            const double expected = (above - p.loss(in)) / (2.0 * kStep);
            value = kept;
            const double error = std::fabs(static_cast<double>(found[j]) - expected);
            EXPECT(error <= 1e-5 * static_cast<double>(largest) + 1e-6, "%s %s[%zu] B%d L%d D%d N%d: %.8g, not %.8g",
                   path.name, kPair[i].name, j, static_cast<int>(p.sizes.batch), static_cast<int>(p.sizes.length),
                   static_cast<int>(p.sizes.channels), static_cast<int>(p.sizes.states), static_cast<double>(found[j]),
                   expected);
        }
    }
}

// Sizes around every vector width (4, 8, 16), register group, tile of time steps and block of channels.
void matches_differences_inside_its_fences(const NamedPath& path) {
    std::mt19937 generator(1);
    unsigned seed = 0;
    for (std::int64_t length : {1, 4, 7, 16, 17}) {
        for (std::int64_t channels : {1, 5, 8, 17}) {
            for (std::int64_t states : {1, 3, 4, 9, 16, 33, 65}) {
                const Fence fence = ++seed % 2 ? Fence::kBefore : Fence::kAfter;
                Problem p({1 + seed % 3, length, channels, states}, fence, seed);
                if (seed % 5 == 0) p.args.h0 = nullptr;
                if (seed % 5 == 0 || seed % 7 == 0) p.args.grad_h0 = nullptr;
                if (seed % 3 == 0) p.args.grad_h = nullptr;
                expect_matches_differences(p, path, generator);
            }
        }
    }
}

void equal_calls_give_equal_bits_whatever_the_threads(const NamedPath& path) {
    Problem p({5, 30, 33, 64}, Fence::kAfter, 2);
    std::vector<float> first;
    for (int threads : {1, 1, 2, 3, 8}) {
        EXPECT(metst::selective_scan_gradient(p.args, threads, path.path) == Status::kOk, "%s", path.name);
        const std::vector<float> now = p.outputs();
        if (first.empty()) first = now;
        EXPECT(std::memcmp(now.data(), first.data(), now.size() * sizeof(float)) == 0, "%s %d", path.name, threads);
    }
}

void floating_point_mode_is_put_back(const NamedPath& path) {
    Problem p({1, 2, 3, 5}, Fence::kAfter, 4);
    metst::selective_scan_gradient(p.args, 1, path.path);
    volatile float smallest = std::numeric_limits<float>::min();
    volatile float half = smallest * 0.5f;
    EXPECT(half > 0.0f, "%s left subnormals flushed", path.name);
}

void empty_sizes_have_no_gradient(const NamedPath& path) {
    Problem none({0, 3, 4, 5}, Fence::kAfter, 5);
    EXPECT(metst::selective_scan_gradient(none.args, 2, path.path) == Status::kOk, "B = 0");
    for (float x : none.outputs()) EXPECT(x == 0.0f, "%s %g", path.name, static_cast<double>(x));
    Problem still({2, 0, 4, 5}, Fence::kAfter, 6);
    EXPECT(metst::selective_scan_gradient(still.args, 2, path.path) == Status::kOk, "L = 0");
    for (std::size_t i = 0; i < still.grad_h.size(); ++i) EXPECT((*still.gradients[8])[i] == still.grad_h[i], "%zu", i);
    Problem stateless({2, 3, 4, 0}, Fence::kAfter, 7);
    EXPECT(metst::selective_scan_gradient(stateless.args, 1, path.path) == Status::kOk, "N = 0");
    for (float x : stateless.outputs()) EXPECT(std::isfinite(x), "%s %g", path.name, static_cast<double>(x));
    EXPECT(metst::selective_scan_gradient(Args{}, 1, path.path) == Status::kOk, "all sizes 0");
}

void bad_arguments_are_refused() {
    Problem p({1, 2, 3, 5}, Fence::kAfter, 8);
    Args args = p.args;
    args.states = -1;
    EXPECT(metst::selective_scan_gradient(args) == Status::kBadSize, "negative size");
    args = p.args;
    args.batch = std::int64_t{1} << 31;
    EXPECT(metst::selective_scan_gradient(args) == Status::kBadSize, "batch of 2^31");
    for (int i = 0; i < kPairs - 1; ++i) {
        args = p.args;
        args.*kPair[i].input = nullptr;
        EXPECT(metst::selective_scan_gradient(args) == Status::kNullPointer, "%s", kPair[i].name);
        args = p.args;
        args.*kPair[i].gradient = nullptr;
        EXPECT(metst::selective_scan_gradient(args) == Status::kNullPointer, "by %s", kPair[i].name);
    }
    args = p.args;
    args.grad_y = nullptr;
    EXPECT(metst::selective_scan_gradient(args) == Status::kNullPointer, "grad_y");
#if defined(__aarch64__)
    const SimdPath foreign = SimdPath::kAvx2;
#else
    const SimdPath foreign = SimdPath::kNeon;
#endif
    EXPECT(metst::selective_scan_gradient(p.args, 1, foreign) == Status::kUnavailablePath, "another architecture's");
}

}  // namespace

int main() {
    for (const NamedPath& path : available_paths()) {
        std::printf("path %s\n", path.name);
        matches_differences_inside_its_fences(path);
        equal_calls_give_equal_bits_whatever_the_threads(path);
        floating_point_mode_is_put_back(path);
        empty_sizes_have_no_gradient(path);
    }
    bad_arguments_are_refused();
    std::printf("%d failures\n", failures);
    return failures != 0;
}
