// The scan's CUDA source against a double-precision reference. Built twice: with the emulation of cuda_on_cpu.h, which
// needs no GPU and no nvcc, and, where METST_CUDA is on, for this machine's GPU (exit status 77 where it has none).
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "metst/selective_scan_cuda.h"
#include "testing.h"

#ifdef METST_CUDA_ON_CPU
#include "cuda_on_cpu.h"
constexpr double kTolerance = 1e-5;
#else
#include <cuda_runtime.h>
constexpr double kTolerance = 1e-4;  // the exponential of the hardware is good to 2 units in the last place
#endif

using metst::cuda::SelectiveScanArgs;
using metst::cuda::Status;
using metst::cuda::Type;

namespace {

constexpr Type kTypes[] = {Type::kFloat32, Type::kFloat16, Type::kBFloat16};
const char* name(Type type) {
    return type == Type::kFloat32 ? "float32" : type == Type::kFloat16 ? "float16" : "bfloat16";
}

void check(cudaError_t error, const char* what) {
    if (error == cudaSuccess) return;
    std::printf("%s failed with CUDA error %d\n", what, static_cast<int>(error));
    std::exit(1);
}

class DeviceArray {
public:
    explicit DeviceArray(std::size_t bytes) : bytes_(bytes) {
        check(cudaMalloc(&data_, std::max<std::size_t>(bytes, 1)), "cudaMalloc");
    }
    ~DeviceArray() { cudaFree(data_); }
    DeviceArray(const DeviceArray&) = delete;
    DeviceArray& operator=(const DeviceArray&) = delete;
    void upload(const void* from) { check(cudaMemcpy(data_, from, bytes_, cudaMemcpyHostToDevice), "upload"); }
    void download(void* to) const { check(cudaMemcpy(to, data_, bytes_, cudaMemcpyDeviceToHost), "download"); }
    void* data() const { return data_; }
    std::size_t bytes() const { return bytes_; }

private:
    void* data_ = nullptr;
    std::size_t bytes_;
};

// The 16-bit types by their definition: 1 sign bit, `exponent` bits, the rest significand.
int exponent_bits(Type type) { return type == Type::kFloat16 ? 5 : 8; }
int significand_bits(Type type) { return type == Type::kFloat32 ? 23 : 15 - exponent_bits(type); }
int lowest_exponent(Type type) { return 2 - (1 << (exponent_bits(type) - 1)); }
std::size_t size_of(Type type) { return type == Type::kFloat32 ? 4 : 2; }

// Spacing of the type's numbers around x.
double spacing(double x, Type type) {
    const int exponent = x == 0.0 ? lowest_exponent(type) : std::max(std::ilogb(x), lowest_exponent(type));
    return std::ldexp(1.0, exponent - significand_bits(type));
}

float rounded(float x, Type type) {
    if (type == Type::kFloat32) return x;
    const double step = spacing(x, type);
    return static_cast<float>(std::nearbyint(x / step) * step);
}

// Bits of a number that the type holds exactly.
std::uint16_t encoded(float x, Type type) {
    const int exponent = x == 0.0f ? lowest_exponent(type) : std::max(std::ilogb(x), lowest_exponent(type));
    const double significand = std::ldexp(std::fabs(static_cast<double>(x)), significand_bits(type) - exponent);
    const int bits = static_cast<int>(significand) + ((exponent - lowest_exponent(type)) << significand_bits(type));
    return static_cast<std::uint16_t>(bits | (std::signbit(x) ? 0x8000 : 0));
}

float decoded(std::uint16_t bits, Type type) {
    const int biased = (bits & 0x7fff) >> significand_bits(type);
    const int significand = bits & ((1 << significand_bits(type)) - 1);
    double x;
    if (biased == (1 << exponent_bits(type)) - 1) {
        x = significand ? std::numeric_limits<double>::quiet_NaN() : std::numeric_limits<double>::infinity();
    } else {
        const int whole = significand + (biased > 0 ? 1 << significand_bits(type) : 0);
        x = std::ldexp(whole, std::max(biased - 1, 0) + lowest_exponent(type) - significand_bits(type));
    }
    return static_cast<float>(bits & 0x8000 ? -x : x);
}

struct Sizes {
    std::int64_t batch, length, channels, states;
};

struct Optional {
    bool D, z, delta_bias, h0, softplus;
};
constexpr Optional kEverything{true, true, true, true, true};

Optional options(unsigned bits) {
    return {(bits & 1) != 0, (bits & 2) != 0, (bits & 4) != 0, (bits & 8) != 0, (bits & 16) != 0};
}

std::size_t product(std::int64_t a, std::int64_t b, std::int64_t c = 1) { return static_cast<std::size_t>(a * b * c); }

// Host values, representable in their types.
struct Problem {
    Sizes sizes;
    Optional with;
    Type type, delta_type;
    std::vector<float> u, delta, A, B, C, D, z, delta_bias, h0;

    Problem(Sizes s, Optional options, Type t, Type delta_t, unsigned seed)
        : sizes(s), with(options), type(t), delta_type(delta_t),
          u(product(s.batch, s.length, s.channels)), delta(u.size()), A(product(s.channels, s.states)),
          B(product(s.batch, s.length, s.states)), C(B.size()), D(product(s.channels, 1)), z(u.size()),
          delta_bias(D.size()), h0(product(s.batch, s.channels, s.states)) {
        std::mt19937 generator(seed);
        std::normal_distribution<float> normal;
        for (auto* array : {&u, &delta, &B, &C, &D, &z, &delta_bias, &h0}) {
            for (float& x : *array) x = normal(generator);
        }
        std::uniform_real_distribution<float> exponent(-4.0f, 3.0f);
        for (float& x : A) x = -std::pow(10.0f, exponent(generator));
        if (!with.softplus) {
            for (float& x : delta) x = std::fabs(x) + 2.5f;  // dt stays positive
            for (float& x : delta_bias) x = std::fmin(std::fabs(x), 2.0f);
        }
        for (auto* array : {&u, &B, &C, &z}) {
            for (float& x : *array) x = rounded(x, type);
        }
        for (float& x : delta) x = rounded(x, delta_type);
    }
};

struct Result {
    Status status;
    std::vector<float> y, h;
};

void upload(DeviceArray& array, const std::vector<float>& values, Type type) {
    if (type == Type::kFloat32) return array.upload(values.data());
    std::vector<std::uint16_t> bits(values.size());
    std::transform(values.begin(), values.end(), bits.begin(), [=](float x) { return encoded(x, type); });
    array.upload(bits.data());
}

// `in_place`: h0 and h are one array.
Result run(const Problem& p, bool in_place = false) {
    DeviceArray u(p.u.size() * size_of(p.type)), delta(p.delta.size() * size_of(p.delta_type));
    DeviceArray B(p.B.size() * size_of(p.type)), C(B.bytes()), z(u.bytes()), y(u.bytes());
    DeviceArray A(p.A.size() * 4), D(p.D.size() * 4), bias(D.bytes()), h0(p.h0.size() * 4), h(h0.bytes());
    upload(u, p.u, p.type);
    upload(delta, p.delta, p.delta_type);
    upload(B, p.B, p.type);
    upload(C, p.C, p.type);
    upload(z, p.z, p.type);
    A.upload(p.A.data());
    D.upload(p.D.data());
    bias.upload(p.delta_bias.data());
    h0.upload(p.h0.data());
    const std::vector<unsigned char> nan(std::max(y.bytes(), h.bytes()), 0xff);  // in every type
    y.upload(nan.data());
    h.upload(nan.data());
    const std::size_t workspace_bytes =
        metst::cuda::selective_scan_workspace(p.sizes.batch, p.sizes.length, p.sizes.channels, p.sizes.states);
    DeviceArray workspace(workspace_bytes);
    workspace.upload(std::vector<unsigned char>(workspace_bytes, 0xff).data());

    SelectiveScanArgs args;
    args.batch = p.sizes.batch;
    args.length = p.sizes.length;
    args.channels = p.sizes.channels;
    args.states = p.sizes.states;
    args.type = p.type;
    args.delta_type = p.delta_type;
    args.u = u.data();
    args.delta = delta.data();
    args.A = static_cast<const float*>(A.data());
    args.B = B.data();
    args.C = C.data();
    args.D = p.with.D ? static_cast<const float*>(D.data()) : nullptr;
    args.z = p.with.z ? z.data() : nullptr;
    args.delta_bias = p.with.delta_bias ? static_cast<const float*>(bias.data()) : nullptr;
    args.h0 = p.with.h0 ? static_cast<const float*>(h0.data()) : nullptr;
    args.delta_softplus = p.with.softplus;
    args.y = y.data();
    args.h = static_cast<float*>(in_place ? h0.data() : h.data());
    args.workspace = workspace_bytes > 0 ? workspace.data() : nullptr;
    args.workspace_bytes = workspace_bytes;

    Result result{metst::cuda::selective_scan(args, nullptr), std::vector<float>(p.u.size()),
                  std::vector<float>(p.h0.size())};
    check(cudaDeviceSynchronize(), "the kernel");
    if (p.type == Type::kFloat32) {
        y.download(result.y.data());
    } else {
        std::vector<std::uint16_t> bits(p.u.size());
        y.download(bits.data());
        std::transform(bits.begin(), bits.end(), result.y.begin(), [&](std::uint16_t x) { return decoded(x, p.type); });
    }
    (in_place ? h0 : h).download(result.h.data());
    return result;
}

// The definition in double precision, state by state.
void reference(const Problem& p, std::vector<double>& y, std::vector<double>& h) {
    const Sizes& s = p.sizes;
    y.assign(p.u.size(), 0.0);
    h.assign(p.h0.size(), 0.0);
    if (p.with.h0) std::copy(p.h0.begin(), p.h0.end(), h.begin());
    for (std::int64_t b = 0; b < s.batch; ++b) {
        for (std::int64_t d = 0; d < s.channels; ++d) {
            const std::size_t channel = product(d, 1);
            double* state = h.data() + product(b * s.channels + d, s.states);
            for (std::int64_t t = 0; t < s.length; ++t) {
                const std::size_t i = product(b * s.length + t, s.channels) + channel;
                const float* B = p.B.data() + product(b * s.length + t, s.states);
                const float* C = p.C.data() + product(b * s.length + t, s.states);
                double dt = static_cast<double>(p.delta[i]) + (p.with.delta_bias ? p.delta_bias[channel] : 0.0);
                if (p.with.softplus) dt = std::fmax(dt, 0.0) + std::log1p(std::exp(-std::fabs(dt)));
                double out = p.with.D ? static_cast<double>(p.D[channel]) * p.u[i] : 0.0;
                for (std::int64_t n = 0; n < s.states; ++n) {
                    const double decay = std::exp(dt * p.A[product(d, s.states) + product(n, 1)]);
                    state[n] = decay * state[n] + dt * p.u[i] * B[n];
                    out += state[n] * C[n];
                }
                if (p.with.z) out *= p.z[i] / (1.0 + std::exp(-static_cast<double>(p.z[i])));
                y[i] = out;
            }
        }
    }
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
    std::vector<double> y, h;
    reference(p, y, h);
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

void sizes_around_every_lane_round_and_tile_match() {
    unsigned seed = 0;
    for (std::int64_t states : {0, 1, 3, 16, 17, 64, 100, 256}) {
        for (std::int64_t length : {0, 1, 2, 9, 49, 64, 65, 300}) {
            for (std::int64_t channels : {1, 5, 33, 128}) {
                if (length == 300 && channels == 128 && states > 64) continue;  // long, and nothing new in it
                const std::int64_t batches[] = {1, 2, 5};
                ++seed;
                const Problem p({batches[seed % 3], length, channels, states}, options(seed * 7),
                                kTypes[seed / 2 % 3], kTypes[seed / 5 % 3], seed);
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
    for (std::int64_t Args::*size : {&Args::batch, &Args::length, &Args::channels, &Args::states}) {
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
    for (const void* Args::*input : {&Args::u, &Args::delta, &Args::B, &Args::C}) {
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
    for (std::int64_t Args::*size : {&Args::batch, &Args::length, &Args::channels}) {
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

int main() {
    int devices = 0;
    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
        std::printf("skipped: no CUDA device\n");
        return 77;
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
