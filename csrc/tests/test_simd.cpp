// Every operation that csrc/cpu/simd/simd.h promises, and the functions of simd/math.h, against scalar code: with
// ordinary numbers and with those that break things. Compiled once per path; skipped on a CPU that lacks it.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "expect.h"
#include "fenced_array.h"
#include "flush_subnormals.h"
#include "metst/cpu_features.h"
#include "simd/math.h"
#include "simd/simd.h"

namespace {

using V = metst::Simd;
constexpr int W = V::kWidth;
constexpr int kRounds = 2000;
constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kTiny = std::numeric_limits<float>::min();  // 2^-126, below which numbers are subnormal
constexpr float kLeast = std::numeric_limits<float>::denorm_min();
constexpr float kLargest = std::numeric_limits<float>::max();

constexpr bool kPlain = metst::kPath == metst::SimdPath::kScalar;  // a multiply-add may round twice

using Lanes = std::array<float, W>;

V vector(const Lanes& a) { return V::load(a.data()); }

Lanes lanes(V a) {
    Lanes out;
    V::store(out.data(), a);
    return out;
}

std::uint32_t bits(float x) {
    std::uint32_t out;
    std::memcpy(&out, &x, sizeof out);
    return out;
}

float from_bits(std::uint32_t b) {
    float out;
    std::memcpy(&out, &b, sizeof out);
    return out;
}

bool same(float a, float b) { return bits(a) == bits(b) || (std::isnan(a) && std::isnan(b)); }

// Rounded after each operation: what goes through memory cannot be fused.
float rounded(double x) {
    volatile float out = static_cast<float>(x);
    return out;
}
float product(float a, float b) {
    volatile float out = a * b;
    return out;
}
float sum(float a, float b) {
    volatile float out = a + b;
    return out;
}

class Numbers {
public:
    explicit Numbers(unsigned seed) : random_(seed) {}

    // Half of them ordinary, a quarter nasty, a quarter any bits.
    float any() {
        // Ties; what is not finite; the smallest; where fractions and integers end; where exponents do.
        static constexpr float kNasty[] = {
            0.0f,       -0.0f,   1.0f,    -1.0f,    0.5f,       -0.5f,       1.5f,    2.5f,     -2.5f,   kInf,
            -kInf,      kNan,    -kNan,   kLargest, -kLargest,  kTiny,       -kTiny,  kLeast,   -kLeast, 1e-40f,
            -3e-39f,    0x1p23f, 0x1p24f, -0x1p23f, 8388607.5f, -8388607.5f, 0x1p31f, -0x1p31f, 3e9f,    0.99999994f,
            1.0000001f, 127.0f,  128.0f,  -126.0f,  -127.0f,    127.5f,      -126.5f, -127.5f};
        switch (random_() % 4) {
            case 0: return kNasty[random_() % (sizeof kNasty / sizeof *kNasty)];
            case 1: {
                const float x = from_bits(static_cast<std::uint32_t>(random_()));
                return std::isnan(x) ? kNan : x;
            }
            default: return ordinary();
        }
    }
    float ordinary() { return std::normal_distribution<float>(0.0f, 3.0f)(random_); }
    float between(float low, float high) { return std::uniform_real_distribution<float>(low, high)(random_); }
    int below(int n) { return static_cast<int>(random_() % static_cast<unsigned>(n)); }

    template <class Draw>
    Lanes draw(Draw&& one) {
        Lanes out;
        for (float& x : out) x = one();
        return out;
    }
    Lanes any_lanes() {
        return draw([this] { return any(); });
    }

private:
    std::mt19937 random_;
};

// Calls operation with three vectors of any numbers, and right(a, b, c, result) for every lane.
template <class Operation, class Right>
void check_lanes(const char* name, Operation&& operation, Right&& right) {
    Numbers numbers(1);
    for (int round = 0; round < kRounds; ++round) {
        const Lanes a = numbers.any_lanes(), b = numbers.any_lanes(), c = numbers.any_lanes();
        const Lanes found = lanes(operation(vector(a), vector(b), vector(c)));
        for (std::size_t i = 0; i < W; ++i) {
            EXPECT(right(a[i], b[i], c[i], found[i]), "%s(%a, %a, %a) = %a", name, a[i], b[i], c[i], found[i]);
        }
    }
}

void arithmetic() {
    const auto exactly = [](auto&& expected) {
        return [expected](float a, float b, float c, float found) { return same(found, expected(a, b, c)); };
    };
    const auto check = [&](const char* name, auto&& operation, auto&& expected) {
        check_lanes(name, operation, exactly(expected));
    };
    using F = float;
    check("zero", [](V, V, V) { return V::zero(); }, [](F, F, F) { return 0.0f; });
    check("add", [](V a, V b, V) { return V::add(a, b); }, [](F a, F b, F) { return a + b; });
    check("sub", [](V a, V b, V) { return V::sub(a, b); }, [](F a, F b, F) { return a - b; });
    check("mul", [](V a, V b, V) { return V::mul(a, b); }, [](F a, F b, F) { return a * b; });
    check("div", [](V a, V b, V) { return V::div(a, b); }, [](F a, F b, F) { return a / b; });
    check("sqrt", [](V a, V, V) { return V::sqrt(a); }, [](F a, F, F) { return std::sqrt(a); });
    check("floor", [](V a, V, V) { return V::floor(a); }, [](F a, F, F) { return std::floor(a); });
    check("negative_abs", [](V a, V, V) { return V::negative_abs(a); }, [](F a, F, F) { return -std::fabs(a); });
    // Once or twice rounded.
    const auto fused = [](float a, float b, float c, float found) {
        return same(found, std::fma(a, b, c)) || (kPlain && same(found, sum(product(a, b), c)));
    };
    check_lanes("fma", [](V a, V b, V c) { return V::fma(a, b, c); }, fused);
    check_lanes(
        "fmsub", [](V a, V b, V c) { return V::fmsub(a, b, c); },
        [&](F a, F b, F c, F found) { return fused(a, b, -c, found); });
    check_lanes(
        "fnma", [](V a, V b, V c) { return V::fnma(a, b, c); },
        [&](F a, F b, F c, F found) { return fused(-a, b, c, found); });
    const auto extreme = [](auto&& beats) {
        return [beats](float a, float b, float, float found) {
            if (std::isnan(a)) return std::isnan(found);
            if (std::isnan(b)) return std::isnan(found) || same(found, a);
            return a == b ? same(found, a) || same(found, b) : same(found, beats(a, b) ? a : b);
        };
    };
    check_lanes("max", [](V a, V b, V) { return V::max(a, b); }, extreme([](float a, float b) { return a > b; }));
    check_lanes("min", [](V a, V b, V) { return V::min(a, b); }, extreme([](float a, float b) { return a < b; }));
}

void masks() {
    // Bit for bit, whatever a number is.
    const auto chosen = [](auto&& rule) {
        return [rule](float a, float b, float c, float found) { return bits(found) == bits(rule(a, b, c)); };
    };
    check_lanes(
        "select(less)", [](V a, V b, V c) { return V::select(V::less(a, b), b, c); },
        chosen([](float a, float b, float c) { return a < b ? b : c; }));
    check_lanes(
        "select(equal)", [](V a, V b, V c) { return V::select(V::equal(a, b), a, c); },
        chosen([](float a, float b, float c) { return a == b ? a : c; }));
    check_lanes(
        "select(both)", [](V a, V b, V c) { return V::select(V::both(V::less(a, b), V::less(b, c)), a, c); },
        chosen([](float a, float b, float c) { return a < b && b < c ? a : c; }));
    check_lanes(
        "equal to itself", [](V a, V b, V) { return V::select(V::equal(a, a), a, b); },
        chosen([](float a, float b, float) { return std::isnan(a) ? b : a; }));
    check_lanes(
        "zeros are equal", [](V a, V, V) { return V::select(V::equal(V::zero(), V::set(-0.0f)), a, V::zero()); },
        chosen([](float a, float, float) { return a; }));
    check_lanes(
        "zero_where", [](V a, V b, V c) { return V::zero_where(V::less(a, b), c); },
        chosen([](float a, float b, float c) { return a < b ? 0.0f : c; }));
    check_lanes(
        "add_where", [](V a, V b, V c) { return V::add_where(V::less(a, b), c, b); },
        [](float a, float b, float c, float found) {
            if (a < b) return same(found, c + b);
            return same(found, c) || (c == 0.0f && found == 0.0f);
        });
}

void memory() {
    Numbers numbers(2);
    const Lanes counted = lanes(V::count());
    for (std::size_t i = 0; i < W; ++i) EXPECT(counted[i] == static_cast<float>(i), "count %zu", i);
    for (int round = 0; round < 50; ++round) {
        const float x = numbers.any();
        for (float lane : lanes(V::set(x))) EXPECT(bits(lane) == bits(x), "set(%a)", x);
    }
    // From every address of a float, up to the fences on both sides.
    for (Fence fence : {Fence::kBefore, Fence::kAfter}) {
        for (int n = 0; n <= W; ++n) {
            const std::size_t size = static_cast<std::size_t>(n);
            FencedArray from(size, fence), to(size, fence);
            const Lanes values = numbers.any_lanes();
            for (std::size_t i = 0; i < size; ++i) from[i] = values[i];
            const Lanes first = lanes(V::load_first(from.data(), n));
            for (std::size_t i = 0; i < W; ++i) {
                EXPECT(bits(first[i]) == bits(i < size ? values[i] : 0.0f), "load_first %d at %zu", n, i);
            }
            V::store_first(to.data(), vector(values), n);
            for (std::size_t i = 0; i < size; ++i)
                EXPECT(bits(to[i]) == bits(values[i]), "store_first %d at %zu", n, i);
        }
        for (std::size_t offset = 0; offset < W; ++offset) {
            FencedArray from(W + offset, fence), to(W + offset, fence);
            const std::size_t at = fence == Fence::kBefore ? offset : 0;  // so that one end touches the fence
            for (std::size_t i = 0; i < W; ++i) from[at + i] = numbers.any();
            V::store(to.data() + at, V::load(from.data() + at));
            for (std::size_t i = 0; i < W; ++i) EXPECT(bits(to[at + i]) == bits(from[at + i]), "load and store %zu", i);
        }
    }
    // store_first leaves what lies behind alone.
    for (int n = 0; n <= W; ++n) {
        Lanes to;
        to.fill(-7.0f);
        V::store_first(to.data(), V::set(1.0f), n);
        for (std::size_t i = 0; i < W; ++i)
            EXPECT(to[i] == (static_cast<int>(i) < n ? 1.0f : -7.0f), "%d at %zu", n, i);
    }
    FencedArray bytes(W / 4, Fence::kAfter);
    std::uint8_t* const p = reinterpret_cast<std::uint8_t*>(bytes.data());
    for (int first = 0; first < 256; ++first) {
        for (int i = 0; i < W; ++i) p[i] = static_cast<std::uint8_t>(first + 37 * i);
        const Lanes found = lanes(V::load_bytes(p));
        for (std::size_t i = 0; i < W; ++i) EXPECT(found[i] == static_cast<float>(p[i]), "load_bytes %d", p[i]);
    }
    constexpr float kWhole[] = {0.0f, -0.0f,      0.99f,   -0.99f,        1.0f,           -1.5f,
                                2.5f, 8388607.5f, 0x1p24f, 2147483520.0f, -2147483520.0f, 1e-40f};
    for (int round = 0; round < kRounds; ++round) {
        const Lanes a = numbers.draw(
            [&] { return round % 2 ? kWhole[numbers.below(12)] : numbers.between(-2147483520.0f, 2147483520.0f); });
        std::int32_t found[W];
        V::store_whole(found, vector(a));
        for (std::size_t i = 0; i < W; ++i) {
            EXPECT(found[i] == static_cast<std::int32_t>(a[i]), "store_whole(%a) = %d", a[i],
                   static_cast<int>(found[i]));
        }
    }
}

void expect_sum(const char* name, const float* values, float found) {
    double expected = 0.0, size = 0.0;
    for (int i = 0; i < W; ++i) {
        expected += static_cast<double>(values[i]);
        size += std::fabs(static_cast<double>(values[i]));
    }
    if (std::isfinite(expected)) {
        EXPECT(std::fabs(static_cast<double>(found) - expected) <= 5e-7 * size, "%s: %g, expected %g", name, found,
               expected);
    } else {
        EXPECT(same(found, static_cast<float>(expected)), "%s: %g, expected %g", name, found, expected);
    }
}

void sums() {
    Numbers numbers(3);
    for (int round = 0; round < kRounds; ++round) {
        std::array<float, W * W + 1> rows;
        for (float& x : rows) {
            x = round % 4 ? numbers.ordinary() : static_cast<float>(numbers.below(1000));
        }
        if (round % 10 == 0) rows[1 + static_cast<std::size_t>(numbers.below(W * W))] = kInf;
        if (round % 10 <= 1) rows[1 + static_cast<std::size_t>(numbers.below(W * W))] = round % 20 ? -kInf : kNan;
        const float* const first = rows.data() + 1;  // unaligned
        const Lanes found = lanes(V::sum_rows(first));
        for (int i = 0; i < W; ++i) {
            expect_sum("sum_rows", first + i * W, found[static_cast<std::size_t>(i)]);
            expect_sum("sum", first + i * W, V::sum(V::load(first + i * W)));
        }
    }
}

void splitting() {
    Numbers numbers(4);
    for (int round = 0; round < kRounds; ++round) {
        const Lanes x = numbers.draw([&] {
            if (round % 4 == 0) return numbers.any();
            if (round % 4 == 1) return static_cast<float>(numbers.below(600) - 300) * 0.5f;
            return numbers.between(-130.0f, 130.0f);
        });
        const V::Split split = V::split(vector(x));
        const Lanes fraction = lanes(V{split.fraction});
        const Lanes zero = lanes(V::zero_where(V::whole_is_zero(split), V::set(1.0f)));
        const Lanes base = numbers.draw([&] { return numbers.any(); });
        const Lanes power = lanes(V::scale(
            V::load(numbers.draw([i = 0u, &fraction]() mutable { return std::exp2(fraction[i++]); }).data()), split));
        const Lanes scaled = lanes(V::scale(vector(base), split));
        for (std::size_t i = 0; i < W; ++i) {
            if (std::isnan(x[i])) {
                EXPECT(std::isnan(fraction[i]) && std::isnan(power[i]), "split(nan): %a", fraction[i]);
                continue;
            }
            const bool is_zero = std::fabs(x[i]) <= 0.5f;
            EXPECT((zero[i] == 0.0f) == is_zero, "whole_is_zero(split(%a))", x[i]);
            if (is_zero) EXPECT(same(scaled[i], base[i]), "scale(%a) = %a", base[i], scaled[i]);
            const double whole = std::nearbyint(static_cast<double>(x[i]));
            if (x[i] >= -127.0f && x[i] <= 128.0f) {
                EXPECT(static_cast<double>(fraction[i]) == static_cast<double>(x[i]) - whole, "split(%a)", x[i]);
            }
            const double expected = std::exp2(static_cast<double>(x[i]));
            if (x[i] >= 128.0f) {
                EXPECT(power[i] == kInf, "2^%a = %a", x[i], power[i]);
            } else if (expected < static_cast<double>(kTiny)) {
                EXPECT(power[i] >= 0.0f && power[i] < kTiny, "2^%a = %a", x[i], power[i]);
            } else {
                EXPECT(std::fabs(static_cast<double>(power[i]) / expected - 1.0) <= 1.2e-7, "2^%a = %a", x[i],
                       power[i]);
            }
        }
    }
}

// A picture of five planes, a number at every place that is drawn once and read in either layout.
struct Planes {
    static constexpr int kHeight = 23, kWidth = 61, kPlanes = 5;
    std::vector<float> values;

    explicit Planes(Numbers& numbers) : values(kPlanes * kHeight * kWidth) {
        for (float& x : values) x = numbers.ordinary();
    }
    float at(int plane, int y, int x) const {
        return values[static_cast<std::size_t>((plane * kHeight + y) * kWidth + x)];
    }
    double between(int plane, int y, int x, float fy, float fx) const {
        const double u = static_cast<double>(fx), v = static_cast<double>(fy);
        return (1 - v) * ((1 - u) * at(plane, y, x) + u * at(plane, y, x + 1)) +
               v * ((1 - u) * at(plane, y + 1, x) + u * at(plane, y + 1, x + 1));
    }
};

// Where the lanes of a vector read: close together, over some rows, far apart in one, or anywhere.
struct Places {
    std::array<int, W> x, y;
    Lanes fx, fy;

    Places(Numbers& numbers, int kind) {
        const int high = kind == 3 ? Planes::kHeight - 1 : kind == 1 ? 6 : 2;
        const int wide = kind == 3 ? Planes::kWidth - 1 : kind == 2 ? 20 + numbers.below(24) : 8;
        const int top = numbers.below(Planes::kHeight - 1 - high + 1);
        const int left = numbers.below(Planes::kWidth - 1 - wide + 1);
        for (std::size_t i = 0; i < W; ++i) {
            x[i] = left + numbers.below(i == 0 && kind == 2 ? 8 : wide);  // most of them right of the first
            y[i] = top + numbers.below(high);
        }
        const auto fraction = [&] {
            return numbers.below(4) ? numbers.between(0.0f, 1.0f) : static_cast<float>(numbers.below(2));
        };
        fx = numbers.draw(fraction);
        fy = numbers.draw(fraction);
    }
};

void expect_sample(const Planes& picture, const Places& at, std::size_t lane, int plane, float found) {
    const double expected = picture.between(plane, at.y[lane], at.x[lane], at.fy[lane], at.fx[lane]);
    const double bound = V::kReadsPlanes ? 2e-5 : 4e-6;  // the row's number and fy may have been added up
    EXPECT(std::fabs(static_cast<double>(found) - expected) <= bound, "plane %d at %d, %d: %g, expected %g", plane,
           at.y[lane], at.x[lane], found, expected);
}

template <class Vector>
void sampling_from_pixels() {
    Numbers numbers(5);
    const Planes picture(numbers);
    constexpr int kPixel = 8, kRow = (Planes::kWidth + W) * kPixel;
    // Interleaved vector by vector; the last row ends with its last pixel, at the fence.
    FencedArray pixels(static_cast<std::size_t>((Planes::kHeight - 1) * kRow + Planes::kWidth * kPixel), Fence::kAfter);
    for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = -7.0f;
    for (int y = 0; y < Planes::kHeight; ++y) {
        for (int first = 0; first < Planes::kWidth; first += W) {
            const int x = std::min(first, Planes::kWidth - W);
            Vector columns[5];
            for (int c = 0; c < 5; ++c) {
                Lanes values;
                for (int i = 0; i < W; ++i) values[static_cast<std::size_t>(i)] = picture.at(c, y, x + i);
                columns[c] = vector(values);
            }
            Vector::interleave(pixels.data() + y * kRow + x * kPixel, columns);
        }
        for (int x = 0; x < Planes::kWidth; ++x) {
            for (int c = 0; c < kPixel; ++c) {
                const float found = pixels[static_cast<std::size_t>(y * kRow + x * kPixel + c)];
                EXPECT(bits(found) == bits(c < 5 ? picture.at(c, y, x) : -7.0f), "interleave %d, %d, %d", y, x, c);
            }
        }
    }
    for (int round = 0; round < kRounds; ++round) {
        const Places at(numbers, round % 4);
        std::int32_t offsets[W];
        for (std::size_t i = 0; i < W; ++i) offsets[i] = at.y[i] * kRow + at.x[i] * kPixel;
        constexpr int kOut = W + 3;
        FencedArray out(4 * kOut + W, round % 2 ? Fence::kBefore : Fence::kAfter);
        Vector::bilinear(pixels.data(), kRow, offsets, at.fx.data(), at.fy.data(), out.data(), kOut);
        for (std::size_t i = 0; i < W; ++i) {
            for (int c = 0; c < 5; ++c) expect_sample(picture, at, i, c, out[static_cast<std::size_t>(c) * kOut + i]);
        }
    }
}

template <class Vector>
void sampling_from_planes() {
    Numbers numbers(5);
    const Planes picture(numbers);
    constexpr int kBefore = 8, kPlane = kBefore + Planes::kWidth + 32, kRow = 5 * kPlane;
    FencedArray memory(Planes::kHeight * kRow, Fence::kAfter);
    for (std::size_t i = 0; i < memory.size(); ++i) memory[i] = kLargest;  // to be read at most, never used
    float* const first = memory.data() + kBefore;
    for (int y = 0; y < Planes::kHeight; ++y) {
        for (int c = 0; c < 5; ++c) {
            for (int x = 0; x < Planes::kWidth; ++x) first[y * kRow + c * kPlane + x] = picture.at(c, y, x);
        }
    }
    for (int round = 0; round < kRounds; ++round) {
        const Places at(numbers, round % 4);
        Lanes x, y;
        for (std::size_t i = 0; i < W; ++i) {
            x[i] = static_cast<float>(at.x[i]);
            y[i] = static_cast<float>(at.y[i]);
        }
        const typename Vector::Mask inside = Vector::less(vector(x), Vector::set(30.0f));
        const typename Vector::Spot spot =
            Vector::spot(first, kRow, Planes::kHeight - 1, vector(x), vector(y), vector(at.fx), vector(at.fy), inside);
        Vector out[5];
        Vector::bilinear(spot, first, kRow, kPlane, out);
        const Lanes kept = lanes(Vector::zero_where(spot.inside, Vector::set(1.0f)));
        for (std::size_t i = 0; i < W; ++i) {
            EXPECT((kept[i] == 0.0f) == (x[i] < 30.0f), "inside %zu", i);
            for (int c = 0; c < 5; ++c) expect_sample(picture, at, i, c, lanes(out[c])[i]);
        }
    }
}

template <class Vector, int n>
void shift_by() {
    Lanes low, high;
    for (std::size_t i = 0; i < W; ++i) {
        low[i] = static_cast<float>(i);
        high[i] = static_cast<float>(W + i);
    }
    const Lanes found = lanes(Vector::template shift<n>(vector(low), vector(high)));
    for (std::size_t i = 0; i < W; ++i)
        EXPECT(found[i] == static_cast<float>(n) + static_cast<float>(i), "shift<%d>", n);
}

template <class Vector>
void shifts() {
    shift_by<Vector, 1>();
    shift_by<Vector, 3>();
    shift_by<Vector, 6>();
    shift_by<Vector, W - 6>();
    shift_by<Vector, W - 3>();
    shift_by<Vector, W - 1>();
}

// What a wrapper does not have must not be compiled for it.
template <class Vector>
void sampling() {
    if constexpr (Vector::kReadsPlanes) {
        sampling_from_planes<Vector>();
    } else {
        sampling_from_pixels<Vector>();
    }
    if constexpr (Vector::kShifts) shifts<Vector>();
}

// Relative to the true value; near 2^-126 and below, where kernels flush to zero, only that it is as small.
template <class Function, class True>
void check_function(const char* name, Function&& function, True&& truth, float low, float high, double bound) {
    Numbers numbers(6);
    const metst::FlushSubnormals flush;
    constexpr double kSmall = 4.0 * static_cast<double>(kTiny);
    double worst = 0.0;
    for (int round = 0; round < 10 * kRounds; ++round) {
        const Lanes x = numbers.draw([&] {
            const float any = numbers.any();
            if (round % 2 == 0 && any >= low && any <= high) return any;
            return numbers.between(std::fmax(low, -150.0f), std::fmin(high, 150.0f));
        });
        const Lanes found = lanes(function(vector(x)));
        for (std::size_t i = 0; i < W; ++i) {
            const double expected = truth(static_cast<double>(x[i])), actual = static_cast<double>(found[i]);
            if (std::isinf(rounded(expected))) {
                EXPECT(same(found[i], rounded(expected)), "%s(%a) = %a", name, x[i], found[i]);
            } else if (std::fabs(expected) < kSmall) {
                EXPECT(std::fabs(actual) < kSmall, "%s(%a) = %a", name, x[i], found[i]);
            } else {
                const double error = std::fabs(actual / expected - 1.0);
                EXPECT(error <= bound, "%s(%a) = %a, relative error %.2g", name, x[i], found[i], error);
                worst = std::fmax(worst, error);
            }
        }
    }
    for (float lane : lanes(function(V::set(kNan)))) EXPECT(std::isnan(lane), "%s(nan) = %a", name, lane);
    std::printf("%-11s relative error up to %.2g\n", name, worst);
}

void functions() {
    // Without a multiply-add that rounds once, exp loses what it would have multiplied in afterwards.
    constexpr double kExp = kPlain ? 6e-6 : 4e-7, kOfExp = kPlain ? 6e-6 : 6e-7;
    constexpr float kHuge = 1e38f;  // times log2(e) still a number
    check_function(
        "exp2", [](V x) { return metst::exp2(x); }, [](double x) { return std::exp2(x); }, -kInf, kInf, 2.5e-7);
    check_function("exp", [](V x) { return metst::exp(x); }, [](double x) { return std::exp(x); }, -kHuge, 88.0f, kExp);
    check_function(
        "log1p_unit", [](V x) { return metst::log1p_unit(x); }, [](double x) { return std::log1p(x); }, 0.0f, 1.0f,
        3e-7);
    check_function(
        "softplus", [](V x) { return metst::softplus(x); },
        [](double x) { return std::fmax(x, 0.0) + std::log1p(std::exp(-std::fabs(x))); }, -kInf, kInf, kOfExp);
    check_function(
        "sigmoid", [](V x) { return metst::sigmoid(x); }, [](double x) { return 1.0 / (1.0 + std::exp(-x)); }, -87.0f,
        kHuge, kOfExp);
    check_function(
        "silu", [](V x) { return metst::silu(x); }, [](double x) { return x / (1.0 + std::exp(-x)); }, -87.0f, kHuge,
        kOfExp);
}

// Relative to what is added: the state may cancel against the input.
void decays() {
    Numbers numbers(7);
    const metst::FlushSubnormals flush;
    for (int round = 0; round < 10 * kRounds; ++round) {
        const Lanes h = numbers.draw([&] { return numbers.ordinary(); });
        const Lanes input = numbers.draw([&] { return numbers.ordinary(); });
        const float widest = round % 3 ? round % 2 ? 0.6f : 1e-6f : 140.0f;
        const Lanes x = numbers.draw([&] { return numbers.between(-widest, 0.0f); });
        const Lanes found = lanes(metst::decay_and_add(vector(h), vector(x), vector(input)));
        for (std::size_t i = 0; i < W; ++i) {
            const double decay = std::exp2(static_cast<double>(x[i]));
            const double kept = decay * static_cast<double>(h[i]), added = static_cast<double>(input[i]);
            // A slow decay rounds what it takes off, a fast one what it leaves, and both the sum.
            const double least = std::fabs(x[i]) < 0.5f ? 1.0 - decay : decay;
            const double bound = 7e-7 * least * std::fabs(static_cast<double>(h[i])) + 1.2e-7 * std::fabs(added) +
                                 6e-8 * (std::fabs(kept) + std::fabs(added)) + static_cast<double>(kTiny);
            EXPECT(std::fabs(static_cast<double>(found[i]) - (kept + added)) <= bound, "2^%a %a + %a = %a", x[i], h[i],
                   input[i], found[i]);
        }
    }
}

// Every finite half, whatever the thread does with subnormal floats.
void halves() {
    FencedArray memory(W / 2, Fence::kAfter);
    std::uint16_t half[W];
    const auto check = [&] {
        for (std::uint32_t first = 0; first < 0x10000; first += W) {
            for (std::uint32_t i = 0; i < W; ++i) half[i] = static_cast<std::uint16_t>(first + i);
            std::memcpy(memory.data(), half, sizeof half);
            const Lanes found = lanes(V::load_halves(reinterpret_cast<const std::uint16_t*>(memory.data())));
            for (std::size_t i = 0; i < W; ++i) {
                const int exponent = half[i] >> 10 & 0x1f, fraction = half[i] & 0x3ff;
                if (exponent == 0x1f) continue;
                const float size = exponent ? std::ldexp(1024.0f + static_cast<float>(fraction), exponent - 25)
                                            : std::ldexp(static_cast<float>(fraction), -24);
                EXPECT(same(found[i], half[i] & 0x8000 ? -size : size), "half %#x is %a", half[i], found[i]);
            }
        }
    };
    check();
    const metst::FlushSubnormals flush;
    check();
}

int run() {
    arithmetic();
    masks();
    memory();
    halves();
    sums();
    splitting();
    sampling<V>();
    functions();
    decays();
    std::printf("%d failures\n", failures);
    return failures != 0;
}

}  // namespace

int main() {
    if (!metst::simd_available(metst::kPath)) {
        std::printf("skipped: this CPU lacks the path\n");
        return 77;
    }
    return run();
}
