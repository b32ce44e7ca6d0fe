// The scan's CUDA source against the definition in double precision. Built twice: with the emulation of cuda_on_cpu.h,
// which needs no GPU and no nvcc, and, where METST_CUDA is on, for this machine's GPU (exit status 77 where it has
// none).
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <vector>

#include "device_array.h"
#include "expect.h"
#include "metst/selective_scan_cuda.h"
#include "scan_problem.h"
#include "selective_scan_reference.h"
#include "small_floats.h"

using metst::cuda::SelectiveScanArgs;
using metst::cuda::Status;

namespace {

#ifdef METST_CUDA_ON_CPU
constexpr double kTolerance = 1e-5;
#else
constexpr double kTolerance = 1e-4;  // the exponential of the hardware is good to 2 units in the last place
#endif

constexpr Type kTypes[] = {Type::kFloat32, Type::kFloat16, Type::kBFloat16};
const char* name(Type type) {
    return type == Type::kFloat32 ? "float32" : type == Type::kFloat16 ? "float16" : "bfloat16";
}

// Largest difference over the largest magnitude, beyond what rounding to the type and a sum of flushed subnormal
// numbers explain.
double error_of(const std::vector<float>& actual, const std::vector<double>& expected, Type type) {
    double difference = 0.0, scale = 0.0;
    for (std::size_t i = 0; i < expected.size(); ++i) {
        if (!std::isfinite(actual[i])) return std::numeric_limits<double>::infinity();
        const double rounding = type == Type::kFloat32 ? 0.0 : 0.5 * spacing(actual[i], type);
        difference = std::fmax(difference, std::fabs(actual[i] - expected[i]) - rounding - 1e-36);
        scale = std::fmax(scale, std::fabs(expected[i]));
    }
    return scale > 0.0 ? difference / scale : difference;
}

double worst_error = 0.0;

void expect_matches_reference(const Problem& p, const char* what) {
    const auto [y, h] = reference(widened(p));
    const Result result = run(p);
    EXPECT(result.status == Status::kOk, "%s: status %d", what, static_cast<int>(result.status));
    const double y_error = error_of(result.y, y, p.type), h_error = error_of(result.h, h, Type::kFloat32);
    worst_error = std::max({worst_error, y_error, h_error});
    EXPECT(y_error <= kTolerance && h_error <= kTolerance,
           "%s B%d L%d D%d N%d %s delta %s, D%d z%d bias%d h0%d softplus%d: y %.2g h %.2g", what,
           static_cast<int>(p.sizes.batch), static_cast<int>(p.sizes.length), static_cast<int>(p.sizes.channels),
           static_cast<int>(p.sizes.states), name(p.type), name(p.delta_type), p.with.D, p.with.z, p.with.delta_bias,
           p.with.h0, p.with.softplus, y_error, h_error);
}

// The ways of the kernel (selective_scan.cu), each at small sizes of its own.
enum class Way { kShort, kMedium, kWide, kChunked };
constexpr Way kWays[] = {Way::kShort, Way::kMedium, Way::kWide, Way::kChunked};
const char* name(Way way) {
    return way == Way::kShort ? "short" : way == Way::kMedium ? "medium" : way == Way::kWide ? "wide" : "chunked";
}

int multiprocessors() {
    int count = 0;
    check(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, 0), "cudaDeviceGetAttribute");
    return count;
}

Sizes sizes_for(Way way, std::int64_t states) {
    if (way == Way::kShort) return {2, 41, 9, states};
    if (way == Way::kChunked) return {2, 530, 5, states};
    if (way == Way::kMedium) return {3, 21, 9 * multiprocessors() + 6, states};
    return {3, 21, (states <= 16 ? 90 : 30) * multiprocessors() + 11, states};
}

// Makes a way the choice for a few channels, by claiming a device with as few multiprocessors; a GPU needs many.
class DeviceFor {
public:
#ifdef METST_CUDA_ON_CPU
    explicit DeviceFor(Way way) : DeviceFor(way == Way::kWide ? 0 : way == Way::kMedium ? 1 : 132) {}
    explicit DeviceFor(int multiprocessors) { cuda_on_cpu::multiprocessors = multiprocessors; }
    ~DeviceFor() { cuda_on_cpu::multiprocessors = 132; }
#else
    explicit DeviceFor(Way) {}
    explicit DeviceFor(int) {}
#endif
    DeviceFor(const DeviceFor&) = delete;
    DeviceFor& operator=(const DeviceFor&) = delete;
};

void every_combination_of_options_and_types_matches() {
    for (Way way : kWays) {
        const DeviceFor device(way);
        for (std::int64_t states : {16, 64, 100}) {
            for (unsigned bits = 0; bits < 32; ++bits) {
                const Type type = kTypes[bits % 3], delta_type = kTypes[bits / 3 % 3];
                const Problem p(sizes_for(way, states), options(bits), type, delta_type, bits);
                expect_matches_reference(p, name(way));
            }
        }
    }
    for (Way way : kWays) {
        const DeviceFor device(way);
        for (Type type : kTypes) {
            for (Type delta_type : kTypes) {
                expect_matches_reference(Problem(sizes_for(way, 64), kEverything, type, delta_type, 9), name(way));
            }
        }
    }
}

void every_way_matches() {
    for (Way way : kWays) {
        const DeviceFor device(way);
        for (std::int64_t states : {16, 64, 100}) {
            Sizes sizes = sizes_for(way, states);
            if (way != Way::kChunked) sizes.length = 9;
            expect_matches_reference(Problem(sizes, kEverything, Type::kFloat32, Type::kFloat32, 9), name(way));
        }
    }
}

void sizes_around_every_lane_round_and_tile_match() {
    unsigned seed = 0;
    for (std::int64_t states : {0, 1, 3, 16, 17, 64, 100, 256}) {
        for (std::int64_t length : {0, 1, 2, 9, 49, 64, 65, 300}) {
            for (std::int64_t channels : {1, 5, 33, 128}) {
                if (length == 300 && channels == 128 && states > 64) continue;  // long, and nothing new in it
                const std::int64_t batches[] = {1, 2, 5};
                ++seed;
                const Problem p({batches[seed % 3], length, channels, states}, options(seed * 7), kTypes[seed / 2 % 3],
                                kTypes[seed / 5 % 3], seed);
                expect_matches_reference(p, "grid");
                if (length > 65 || states > 64) continue;
                for (Way way : {Way::kMedium, Way::kWide}) {
                    const DeviceFor device(way);
                    expect_matches_reference(p, name(way));
                }
            }
        }
    }
    for (std::int64_t states : {1, 3, 16, 17, 64, 100}) {
        for (std::int64_t length : {512, 513, 640, 1025}) {
            ++seed;
            const Problem p({1 + seed % 2, length, 1 + seed % 7, states}, options(seed), kTypes[seed % 3],
                            kTypes[seed / 3 % 3], seed);
            expect_matches_reference(p, "chunks");
        }
        // Devices that the chunks fill, or that are full without them.
        for (int multiprocessors : {2, 1, 0}) {
            const DeviceFor device(multiprocessors);
            expect_matches_reference(Problem({2, 1300, 5, states}, kEverything, Type::kFloat32, Type::kFloat32, ++seed),
                                     multiprocessors ? "few multiprocessors" : "no chunks");
        }
    }
}

void both_tails_of_delta_match() {
    for (float delta : {-1e4f, -100.0f, -88.0f, -70.0f, -30.0f, -16.0f, -5.0f, 0.0f, 5.0f, 16.0f, 30.0f, 88.0f, 1e4f}) {
        Problem p({1, 40, 3, 64}, {true, true, false, false, true}, Type::kFloat32, Type::kFloat32, 3);
        std::fill(p.delta.begin(), p.delta.end(), delta);
        expect_matches_reference(p, "delta");
        p.with.D = p.with.z = false;  // nothing but dt B u C, so that a tiny dt is not hidden
        expect_matches_reference(p, "delta alone");
    }
    for (float z : {-1e4f, -100.0f, -88.0f, -20.0f, 20.0f, 100.0f, 1e4f}) {
        Problem p({1, 40, 3, 64}, kEverything, Type::kFloat32, Type::kFloat32, 4);
        std::fill(p.z.begin(), p.z.end(), z);
        expect_matches_reference(p, "z");
    }
}

void stays_accurate_over_2048_equal_slow_steps() {
    for (float delta : {-30.0f, -5.0f, 0.5f, 30.0f}) {
        Problem p({1, 2048, 3, 64}, {true, true, false, true, true}, Type::kFloat32, Type::kFloat32, 5);
        std::fill(p.delta.begin(), p.delta.end(), delta);
        expect_matches_reference(p, "equal steps");
    }
}

void state_may_be_updated_in_place() {
    for (Way way : kWays) {
        const DeviceFor device(way);
        const Problem p(sizes_for(way, 64), kEverything, Type::kFloat32, Type::kFloat32, 1);
        const Result apart = run(p), in_place = run(p, true);
        EXPECT(apart.y == in_place.y && apart.h == in_place.h, "%s", name(way));
    }
}

std::vector<float> steps_of(const std::vector<float>& array, const Sizes& s, std::int64_t first, std::int64_t last) {
    const std::size_t row = array.size() / product(s.batch, s.length);
    std::vector<float> part;
    for (std::int64_t b = 0; b < s.batch; ++b) {
        const float* sequence = array.data() + product(b, s.length) * row;
        part.insert(part.end(), sequence + product(first, 1) * row, sequence + product(last, 1) * row);
    }
    return part;
}

void two_calls_equal_one() {
    for (std::int64_t length : {300, 1100}) {
        for (std::int64_t split : {1, 37, 256, 299}) {
            const Problem whole({2, length, 5, 64}, kEverything, Type::kFloat32, Type::kFloat32, 8);
            Problem part = whole;
            const auto cut = [&](std::int64_t first, std::int64_t last) {
                part.sizes.length = last - first;
                part.u = steps_of(whole.u, whole.sizes, first, last);
                part.delta = steps_of(whole.delta, whole.sizes, first, last);
                part.B = steps_of(whole.B, whole.sizes, first, last);
                part.C = steps_of(whole.C, whole.sizes, first, last);
                part.z = steps_of(whole.z, whole.sizes, first, last);
                return run(part);
            };
            const Result one = run(whole), early = cut(0, split);
            part.h0 = early.h;
            const Result late = cut(split, length);
            const auto expect_same = [&](const std::vector<float>& actual, const std::vector<float>& expected) {
                const double error = error_of(actual, {expected.begin(), expected.end()}, Type::kFloat32);
                EXPECT(error <= (length < 512 ? 0.0 : kTolerance), "L%d split at %d: %g", static_cast<int>(length),
                       static_cast<int>(split), error);
            };
            expect_same(early.y, steps_of(one.y, whole.sizes, 0, split));
            expect_same(late.y, steps_of(one.y, whole.sizes, split, length));
            expect_same(late.h, one.h);
        }
    }
}

// With B = 0 and no gate the state after one step is exp(dt A) h0: what the exponential does at its limits.
void decay_underflows_to_zero_and_overflows_to_infinity() {
    struct Case {
        float dt_a;
        float low, high;  // bounds on the decay of a state of 1
    };
    const float inf = std::numeric_limits<float>::infinity();
    const Case cases[] = {{0.0f, 1.0f, 1.0f},       {-1e-8f, 1.0f - 1e-6f, 1.0f}, {-87.0f, 1.6e-38f, 1.7e-38f},
                          {-89.0f, 0.0f, 1.2e-38f}, {-104.0f, 0.0f, 0.0f},        {-1e30f, 0.0f, 0.0f},
                          {-inf, 0.0f, 0.0f},       {88.0f, 1.6e38f, 1.7e38f},    {89.0f, inf, inf}};
    for (const Case& c : cases) {
        Problem p({1, 1, 3, 64}, {false, false, false, true, false}, Type::kFloat32, Type::kFloat32, 2);
        std::fill(p.delta.begin(), p.delta.end(), 1.0f);
        std::fill(p.A.begin(), p.A.end(), c.dt_a);
        std::fill(p.B.begin(), p.B.end(), 0.0f);
        std::fill(p.h0.begin(), p.h0.end(), 1.0f);
        for (float h : run(p).h) EXPECT(h >= c.low && h <= c.high, "exp(%g) = %g", c.dt_a, h);
    }
}

void a_nan_stays_in_its_channel() {
    for (Way way : kWays) {
        const DeviceFor device(way);
        Problem p(sizes_for(way, 64), kEverything, Type::kFloat32, Type::kFloat32, 3);
        const std::size_t row = product(p.sizes.channels, 1), sequence = product(p.sizes.length, p.sizes.channels);
        p.delta[row + 3] = std::numeric_limits<float>::quiet_NaN();  // sequence 0, step 1, channel 3
        const Result result = run(p);
        for (std::size_t i = 0; i < result.y.size(); ++i) {
            const bool expected = i < sequence && i % row == 3 && i >= row;
            EXPECT(std::isnan(result.y[i]) == expected, "%s y[%zu] = %g", name(way), i, result.y[i]);
        }
    }
}

void bad_arguments_are_refused() {
    float value = 0.0f;
    SelectiveScanArgs good;  // refused calls read nothing, so that one value may stand for every array
    good.batch = 1, good.length = 2, good.channels = 3, good.states = 5;
    good.u = good.delta = good.A = &value;
    good.B = good.C = good.y = good.h = &value;
    const auto expect = [](const SelectiveScanArgs& args, Status expected, const char* what) {
        const Status actual = metst::cuda::selective_scan(args, nullptr);
        EXPECT(actual == expected, "%s: %d, not %d", what, static_cast<int>(actual), static_cast<int>(expected));
    };
    using Args = SelectiveScanArgs;
    for (std::int64_t Args::* size : {&Args::batch, &Args::length, &Args::channels, &Args::states}) {
        Args args = good;
        args.*size = -1;
        expect(args, Status::kBadSize, "a negative size");
        const std::size_t bytes =
            metst::cuda::selective_scan_workspace(args.batch, args.length, args.channels, args.states);
        EXPECT(bytes == 0, "workspace %zu of a negative size", bytes);
    }
    Args args = good;
    args.states = 257;
    expect(args, Status::kBadSize, "N = 257");
    for (const void* Args::* input : {&Args::u, &Args::delta, &Args::B, &Args::C}) {
        args = good;
        args.*input = nullptr;
        expect(args, Status::kNullPointer, "a missing input");
    }
    args = good;
    args.A = nullptr;
    expect(args, Status::kNullPointer, "no A");
    args = good;
    args.y = nullptr;
    expect(args, Status::kNullPointer, "no y");
    args = good;
    args.h = nullptr;
    expect(args, Status::kNullPointer, "no h");
    args = good;
    args.type = static_cast<Type>(3);
    expect(args, Status::kUnsupported, "an unknown type");
    args = good;
    args.delta_type = static_cast<Type>(-1);
    expect(args, Status::kUnsupported, "an unknown type of delta");
    for (std::int64_t Args::* size : {&Args::batch, &Args::length, &Args::channels}) {
        for (std::int64_t huge : {std::int64_t{1} << 31, std::numeric_limits<std::int64_t>::max()}) {
            args = good;
            args.*size = huge;
            args.workspace = &value;
            args.workspace_bytes = std::numeric_limits<std::size_t>::max();
            expect(args, Status::kUnsupported, "a huge size");
        }
    }
    args = good;
    args.length = 1024;
    const std::size_t bytes = metst::cuda::selective_scan_workspace(1, 1024, 3, 5);
    EXPECT(bytes > 0, "1024 steps of 3 channels are cut into chunks");
    args.workspace = &value;
    args.workspace_bytes = sizeof value;
    expect(args, Status::kWorkspaceTooSmall, "a workspace of one float");
    args.workspace = nullptr;
    args.workspace_bytes = bytes;
    expect(args, Status::kNullPointer, "no workspace");
}

void one_launch_needs_no_workspace() {
    for (const Sizes& s : {Sizes{2, 1, 128, 64}, Sizes{4, 64, 256, 64}, Sizes{64, 8192, 2048, 64}, Sizes{1, 511, 1, 16},
                           Sizes{1, 4096, 8, 0}, Sizes{0, 4096, 8, 16}}) {
        const std::size_t bytes = metst::cuda::selective_scan_workspace(s.batch, s.length, s.channels, s.states);
        EXPECT(bytes == 0, "B%d L%d D%d N%d: %zu bytes", static_cast<int>(s.batch), static_cast<int>(s.length),
               static_cast<int>(s.channels), static_cast<int>(s.states), bytes);
    }
}

// TensorRT asks once, for the largest sizes, and then scans smaller ones.
void smaller_sizes_need_no_more_workspace() {
    for (std::int64_t channels : {1, 8, 96, 512, 1024, 2048, 8192}) {
        for (std::int64_t states : {1, 16, 17, 64, 65, 256}) {
            std::size_t before = 0;
            for (std::int64_t size = 1; size <= 1 << 14; size *= 2) {
                const std::size_t longer = metst::cuda::selective_scan_workspace(4, size, channels, states);
                EXPECT(longer >= before, "D%d N%d: less for L%d", static_cast<int>(channels), static_cast<int>(states),
                       static_cast<int>(size));
                before = longer;
            }
            before = 0;
            for (std::int64_t size = 1; size <= 1 << 14; size *= 2) {
                const std::size_t more = metst::cuda::selective_scan_workspace(size, 4096, channels, states);
                EXPECT(more >= before, "D%d N%d: less for B%d", static_cast<int>(channels), static_cast<int>(states),
                       static_cast<int>(size));
                before = more;
            }
        }
    }
}

void empty_sizes_need_no_arrays() {
    SelectiveScanArgs args;
    EXPECT(metst::cuda::selective_scan(args, nullptr) == Status::kOk, "all sizes 0");
    args.length = 5, args.channels = 3, args.states = 7;
    EXPECT(metst::cuda::selective_scan(args, nullptr) == Status::kOk, "B = 0");
    args.batch = 3, args.channels = 0;
    args.B = args.C = &args;
    EXPECT(metst::cuda::selective_scan(args, nullptr) == Status::kOk, "D = 0");
}

}  // namespace

int main(int argc, char** argv) {
    if (!has_device()) return kSkipped;
    if (briefly(argc, argv)) {
        every_way_matches();
        std::printf("largest error %.2g\n%d failures\n", worst_error, failures);
        return failures != 0;
    }
    bad_arguments_are_refused();
    one_launch_needs_no_workspace();
    smaller_sizes_need_no_more_workspace();
    empty_sizes_need_no_arrays();
    every_combination_of_options_and_types_matches();
    sizes_around_every_lane_round_and_tile_match();
    both_tails_of_delta_match();
    stays_accurate_over_2048_equal_slow_steps();
    state_may_be_updated_in_place();
    two_calls_equal_one();
    decay_underflows_to_zero_and_overflows_to_infinity();
    a_nan_stays_in_its_channel();
    std::printf("largest error %.2g\n%d failures\n", worst_error, failures);
    return failures != 0;
}
