// Every path of the scan on this CPU against a double-precision reference, with each array fenced by inaccessible
// pages.
#include <cmath>
#include <cstdio>
#include <limits>
#include <random>
#include <vector>

#include "expect.h"
#include "fenced_array.h"
#include "metst/selective_scan.h"
#include "selective_scan_reference.h"
#include "simd_paths.h"

using metst::SelectiveScanArgs;
using metst::SimdPath;
using metst::Status;

namespace {

struct Sizes {
    std::int64_t batch, length, channels, states;
};

struct Optional {
    bool D, z, delta_bias, h0, softplus;
};

struct Problem {
    Sizes sizes;
    FencedArray u, delta, A, B, C, D, z, delta_bias, h0, y, h;
    SelectiveScanArgs args;

    Problem(Sizes s, Optional with, Fence fence, unsigned seed)
        : sizes(s),
          u(count(s.batch * s.length * s.channels), fence),
          delta(u.size(), fence),
          A(count(s.channels * s.states), fence),
          B(count(s.batch * s.length * s.states), fence),
          C(B.size(), fence),
          D(count(s.channels), fence),
          z(u.size(), fence),
          delta_bias(count(s.channels), fence),
          h0(count(s.batch * s.channels * s.states), fence),
          y(u.size(), fence),
          h(h0.size(), fence) {
        std::mt19937 generator(seed);
        std::normal_distribution<float> normal;
        for (FencedArray* array : {&u, &delta, &B, &C, &D, &z, &delta_bias, &h0}) {
            for (std::size_t i = 0; i < array->size(); ++i) (*array)[i] = normal(generator);
        }
        std::uniform_real_distribution<float> exponent(-4.0f, 3.0f);
        for (std::size_t i = 0; i < A.size(); ++i) A[i] = -std::pow(10.0f, exponent(generator));
        if (!with.softplus) {
            for (std::size_t i = 0; i < delta.size(); ++i) delta[i] = std::fabs(delta[i]) + 2.5f;  // dt stays positive
            for (std::size_t i = 0; i < delta_bias.size(); ++i) {
                delta_bias[i] = std::fmin(std::fabs(delta_bias[i]), 2.0f);
            }
        }
        for (std::size_t i = 0; i < y.size(); ++i) y[i] = std::numeric_limits<float>::quiet_NaN();
        for (std::size_t i = 0; i < h.size(); ++i) h[i] = std::numeric_limits<float>::quiet_NaN();

        args.batch = s.batch;
        args.length = s.length;
        args.channels = s.channels;
        args.states = s.states;
        args.u = u.data();
        args.delta = delta.data();
        args.A = A.data();
        args.B = B.data();
        args.C = C.data();
        args.D = with.D ? D.data() : nullptr;
        args.z = with.z ? z.data() : nullptr;
        args.delta_bias = with.delta_bias ? delta_bias.data() : nullptr;
        args.h0 = with.h0 ? h0.data() : nullptr;
        args.delta_softplus = with.softplus;
        args.y = y.data();
        args.h = h.data();
    }

    static std::size_t count(std::int64_t n) { return static_cast<std::size_t>(n); }
};

ScanOutputs reference(const Problem& p) {
    const SelectiveScanArgs& a = p.args;
    const auto wide = [](const float* array, std::int64_t size) {
        return array ? std::vector<double>(array, array + size) : std::vector<double>();
    };
    const std::int64_t of_steps = a.batch * a.length * a.channels, of_rows = a.batch * a.length * a.states;
    ScanInputs in;
    in.batch = Problem::count(a.batch);
    in.length = Problem::count(a.length);
    in.channels = Problem::count(a.channels);
    in.states = Problem::count(a.states);
    in.u = wide(a.u, of_steps);
    in.delta = wide(a.delta, of_steps);
    in.A = wide(a.A, a.channels * a.states);
    in.B = wide(a.B, of_rows);
    in.C = wide(a.C, of_rows);
    in.D = wide(a.D, a.channels);
    in.z = wide(a.z, of_steps);
    in.delta_bias = wide(a.delta_bias, a.channels);
    in.h0 = wide(a.h0, a.batch * a.channels * a.states);
    in.delta_softplus = a.delta_softplus;
    return reference(in);
}

void expect_matches_reference(Problem& p, const NamedPath& path, const char* what) {
    const auto [y, h] = reference(p);
    EXPECT(metst::selective_scan(p.args, path.path) == Status::kOk, "%s %s", path.name, what);
    const double y_error = relative_error(p.y.data(), y), h_error = relative_error(p.h.data(), h);
    EXPECT(y_error <= 1e-5 && h_error <= 1e-5, "%s %s B%d L%d D%d N%d: y %.2g h %.2g", path.name, what,
           static_cast<int>(p.sizes.batch), static_cast<int>(p.sizes.length), static_cast<int>(p.sizes.channels),
           static_cast<int>(p.sizes.states), y_error, h_error);
}

// Sizes around every vector width (4, 8, 16), register group and block of time steps.
void matches_reference_inside_its_fences(const NamedPath& path) {
    const std::vector<std::int64_t> lengths = {1, 2, 7, 8, 9, 33}, channels = {1, 3, 4, 5, 8, 9, 16, 17, 33};
    const std::vector<std::int64_t> states = {0, 1, 3, 4, 5, 7, 8, 15, 16, 17, 31, 33, 63, 64, 65, 100};
    unsigned seed = 0;
    for (std::int64_t length : lengths) {
        for (std::int64_t channel : channels) {
            for (std::int64_t state : states) {
                const Fence fence = ++seed % 2 ? Fence::kBefore : Fence::kAfter;
                const Optional with = {seed % 3 != 0, seed % 5 != 0, seed % 7 != 0, seed % 2 != 0, seed % 11 != 0};
                Problem p({1 + seed % 2, length, channel, state}, with, fence, seed);
                expect_matches_reference(p, path, "grid");
            }
        }
    }
}

void stays_accurate_over_2048_equal_slow_steps(const NamedPath& path) {
    for (float delta : {-30.0f, -5.0f, 0.5f, 30.0f}) {
        Problem p({1, 2048, 16, 64}, {true, true, false, true, true}, Fence::kAfter, 5);
        for (std::size_t i = 0; i < p.delta.size(); ++i) p.delta[i] = delta;
        expect_matches_reference(p, path, "equal steps");
    }
}

void state_may_be_updated_in_place(const NamedPath& path) {
    Problem apart({2, 5, 19, 64}, {true, true, true, true, true}, Fence::kAfter, 1);
    Problem in_place({2, 5, 19, 64}, {true, true, true, true, true}, Fence::kAfter, 1);
    in_place.args.h = in_place.h0.data();
    metst::selective_scan(apart.args, path.path);
    metst::selective_scan(in_place.args, path.path);
    for (std::size_t i = 0; i < apart.h.size(); ++i) EXPECT(apart.h[i] == in_place.h0[i], "%s at %zu", path.name, i);
    for (std::size_t i = 0; i < apart.y.size(); ++i) EXPECT(apart.y[i] == in_place.y[i], "%s at %zu", path.name, i);
}

// With B = 0 and no gate the state after one step is exp(dt A) h0: what the exponential does at its limits.
void decay_underflows_to_zero_and_overflows_to_infinity(const NamedPath& path) {
    struct Case {
        float dt_a;
        float low, high;  // bounds on the decay of a state of 1
    };
    const float inf = std::numeric_limits<float>::infinity();
    const Case cases[] = {{0.0f, 1.0f, 1.0f},
                          {-1e-8f, 1.0f - 1e-7f, 1.0f},
                          {-87.0f, 1.6e-38f, 1.7e-38f},
                          {-89.0f, 0.0f, 1.2e-38f},
                          {-104.0f, 0.0f, 0.0f},
                          {-1e4f, 0.0f, 0.0f},
                          {-1e30f, 0.0f, 0.0f},
                          {-inf, 0.0f, 0.0f},
                          {88.0f, 1.6e38f, 1.7e38f},
                          {89.0f, inf, inf},
                          {1e4f, inf, inf},
                          {1e30f, inf, inf}};
    for (const Case& c : cases) {
        Problem p({1, 1, 3, 67}, {false, false, false, true, false}, Fence::kAfter, 2);
        for (std::size_t i = 0; i < p.delta.size(); ++i) p.delta[i] = 1.0f;
        for (std::size_t i = 0; i < p.A.size(); ++i) p.A[i] = c.dt_a;
        for (std::size_t i = 0; i < p.B.size(); ++i) p.B[i] = 0.0f;
        for (std::size_t i = 0; i < p.h0.size(); ++i) p.h0[i] = 1.0f;
        metst::selective_scan(p.args, path.path);
        for (std::size_t i = 0; i < p.h.size(); ++i) {
            EXPECT(p.h[i] >= c.low && p.h[i] <= c.high, "%s exp(%g) = %g at %zu", path.name, c.dt_a, p.h[i], i);
        }
    }
}

void a_nan_stays_in_its_channel(const NamedPath& path) {
    Problem p({1, 3, 20, 64}, {true, true, true, true, true}, Fence::kAfter, 3);
    p.delta[20 + 6] = std::numeric_limits<float>::quiet_NaN();  // step 1, channel 6
    metst::selective_scan(p.args, path.path);
    for (std::size_t i = 0; i < p.y.size(); ++i) {
        const bool expected = i % 20 == 6 && i >= 20;
        EXPECT(std::isnan(p.y[i]) == expected, "%s y[%zu] = %g", path.name, i, p.y[i]);
    }
}

// Flushing subnormals is the kernel's own business: the caller's arithmetic must not change.
void floating_point_mode_is_put_back(const NamedPath& path) {
    Problem p({1, 2, 3, 5}, {true, true, true, true, true}, Fence::kAfter, 4);
    metst::selective_scan(p.args, path.path);
    volatile float smallest = std::numeric_limits<float>::min();
    volatile float half = smallest * 0.5f;
    EXPECT(half > 0.0f, "%s left subnormals flushed", path.name);
}

void bad_arguments_are_refused() {
    Problem p({1, 2, 3, 5}, {true, true, true, true, true}, Fence::kAfter, 6);
    SelectiveScanArgs args = p.args;
    args.channels = -1;
    EXPECT(metst::selective_scan(args) == Status::kBadSize, "negative size");
    using Args = SelectiveScanArgs;
    for (const float* Args::* input : {&Args::u, &Args::delta, &Args::A, &Args::B, &Args::C}) {
        args = p.args;
        args.*input = nullptr;
        EXPECT(metst::selective_scan(args) == Status::kNullPointer, "required input");
    }
    for (float* Args::* output : {&Args::y, &Args::h}) {
        args = p.args;
        args.*output = nullptr;
        EXPECT(metst::selective_scan(args) == Status::kNullPointer, "required output");
    }
#if defined(__aarch64__)
    const SimdPath foreign = SimdPath::kAvx2;
#else
    const SimdPath foreign = SimdPath::kNeon;
#endif
    EXPECT(metst::selective_scan(p.args, foreign) == Status::kUnavailablePath, "path of another architecture");
}

void empty_sizes_pass_the_state_through() {
    Problem p({2, 0, 3, 5}, {true, true, true, true, true}, Fence::kAfter, 7);
    EXPECT(metst::selective_scan(p.args) == Status::kOk, "L = 0");
    for (std::size_t i = 0; i < p.h.size(); ++i) EXPECT(p.h[i] == p.h0[i], "at %zu", i);
    EXPECT(metst::selective_scan(SelectiveScanArgs{}) == Status::kOk, "all sizes 0");
}

}  // namespace

int main() {
    for (const NamedPath& path : available_paths()) {
        std::printf("path %s\n", path.name);
        matches_reference_inside_its_fences(path);
        stays_accurate_over_2048_equal_slow_steps(path);
        state_may_be_updated_in_place(path);
        decay_underflows_to_zero_and_overflows_to_infinity(path);
        a_nan_stays_in_its_channel(path);
        floating_point_mode_is_put_back(path);
    }
    bad_arguments_are_refused();
    empty_sizes_pass_the_state_through();
    std::printf("%d failures\n", failures);
    return failures != 0;
}
