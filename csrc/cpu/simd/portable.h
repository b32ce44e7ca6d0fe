// simd.h over four floats in whatever the compiler has for them, by its vector extension: for CPUs without a vector
// path.
#pragma once

#include <cstddef>
#include <cstdint>

namespace metst {
namespace {

struct Portable {
    static constexpr int kWidth = 4;
    static constexpr int kGroup = 1;

    using Floats = float __attribute__((vector_size(16)));
    using Ints = std::int32_t __attribute__((vector_size(16)));
    using Bits = std::uint32_t __attribute__((vector_size(16)));

    Floats v;

    static Portable zero() { return set(0.0f); }
    static Portable set(float x) { return {Floats{x, x, x, x}}; }
    static Portable load(const float* p) { return {Floats{p[0], p[1], p[2], p[3]}}; }
    static void store(float* p, Portable a) {
        for (int i = 0; i < 4; ++i) p[i] = a.v[i];
    }
    static Portable load_first(const float* p, int n) {
        Portable a = zero();
        for (int i = 0; i < n; ++i) a.v[i] = p[i];
        return a;
    }
    static void store_first(float* p, Portable a, int n) {
        for (int i = 0; i < n; ++i) p[i] = a.v[i];
    }

    static Portable add(Portable a, Portable b) { return {a.v + b.v}; }
    static Portable sub(Portable a, Portable b) { return {a.v - b.v}; }
    static Portable mul(Portable a, Portable b) { return {a.v * b.v}; }
    static Portable div(Portable a, Portable b) { return {a.v / b.v}; }
    static Portable fma(Portable a, Portable b, Portable c) { return {a.v * b.v + c.v}; }
    static Portable fmsub(Portable a, Portable b, Portable c) { return {a.v * b.v - c.v}; }
    static Portable max(Portable a, Portable b) { return select(b.v > a.v, b, a); }
    static Portable min(Portable a, Portable b) { return select(b.v < a.v, b, a); }
    static Portable fnma(Portable a, Portable b, Portable c) { return {c.v - a.v * b.v}; }
    static Portable floor(Portable a) {
        for (int i = 0; i < 4; ++i) a.v[i] = __builtin_floorf(a.v[i]);
        return a;
    }
    static Portable count() { return {Floats{0.0f, 1.0f, 2.0f, 3.0f}}; }
    static Portable load_bytes(const std::uint8_t* p) {
        return {Floats{static_cast<float>(p[0]), static_cast<float>(p[1]), static_cast<float>(p[2]),
                       static_cast<float>(p[3])}};
    }
    // A half's bits, moved to a float's, are it times 2^-112. Those below 2^-14 have no leading one: it is put before
    // them and taken away again, since as floats they would be subnormal.
    static Portable load_halves(const std::uint16_t* p) {
        std::uint16_t four[4];
        __builtin_memcpy(four, p, sizeof four);
        const Bits bits = {four[0], four[1], four[2], four[3]};
        const Bits size = (bits & 0x7fff) << 13;
        const Portable ordinary = {reinterpret_cast<Floats>(size + (112u << 23))};
        const Portable least = set(0x1p-14f);
        const Portable small = sub({reinterpret_cast<Floats>(size + (113u << 23))}, least);
        const Portable positive = select(less(ordinary, least), small, ordinary);
        return {reinterpret_cast<Floats>(reinterpret_cast<Bits>(positive.v) | (bits & 0x8000) << 16)};
    }
    static void store_whole(std::int32_t* p, Portable a) {
        for (int i = 0; i < 4; ++i) p[i] = static_cast<std::int32_t>(a.v[i]);
    }
    static Portable negative_abs(Portable a) {
        return {reinterpret_cast<Floats>(reinterpret_cast<Ints>(a.v) | reinterpret_cast<Ints>(set(-0.0f).v))};
    }
    static Portable sqrt(Portable a) {
        for (int i = 0; i < 4; ++i) a.v[i] = __builtin_sqrtf(a.v[i]);
        return a;
    }
    static float sum(Portable a) { return (a.v[0] + a.v[1]) + (a.v[2] + a.v[3]); }

    // As in avx2.h.
    struct Split {
        Floats fraction;
        Floats shifted;
    };
    static Split split(Portable x) {
        const Floats shift = set(0x1.8p23f).v;
        const Floats clamped = min(max(x, set(-127.0f)), set(128.0f)).v;
        const Floats shifted = clamped + shift;
        return {clamped - (shifted - shift), shifted};
    }
    static Portable scale(Portable p, const Split& s) {
        return {reinterpret_cast<Floats>(reinterpret_cast<Bits>(p.v) + (reinterpret_cast<Bits>(s.shifted) << 23))};
    }

    using Mask = Ints;
    static Mask less(Portable a, Portable b) { return a.v < b.v; }
    static Mask equal(Portable a, Portable b) { return a.v == b.v; }
    static Mask both(Mask a, Mask b) { return a & b; }
    static Portable select(Mask m, Portable a, Portable b) {
        return {reinterpret_cast<Floats>((m & reinterpret_cast<Ints>(a.v)) | (~m & reinterpret_cast<Ints>(b.v)))};
    }
    static Mask whole_is_zero(const Split& s) { return s.shifted == set(0x1.8p23f).v; }
    static Portable zero_where(Mask m, Portable a) {
        return {reinterpret_cast<Floats>(~m & reinterpret_cast<Ints>(a.v))};
    }
    static Portable add_where(Mask m, Portable a, Portable b) { return add(a, zero_where(~m, b)); }

    static Portable sum_rows(const float* r) {
        return {Floats{sum(load(r)), sum(load(r + 4)), sum(load(r + 8)), sum(load(r + 12))}};
    }

    static constexpr bool kReadsPlanes = false, kShifts = false;
    struct Spot {};
    static void interleave(float* p, const Portable* c) {
        for (int i = 0; i < 4; ++i) {
            for (int k = 0; k < 5; ++k) p[8 * i + k] = c[k].v[i];
        }
    }
    static void bilinear(const float* p, std::ptrdiff_t row, const std::int32_t* offset, const float* fx,
                         const float* fy, float* out, std::ptrdiff_t out_row) {
        for (int i = 0; i < 4; ++i) {
            const float* const q = p + offset[i];
            const auto between = [&](int k) {
                const Portable top_left = load(q + k), top_right = load(q + 8 + k);
                const Portable left = fma(set(fy[i]), sub(load(q + row + k), top_left), top_left);
                const Portable right = fma(set(fy[i]), sub(load(q + row + 8 + k), top_right), top_right);
                return fma(set(fx[i]), sub(right, left), left);
            };
            const Portable four = between(0), fifth = between(4);
            for (int k = 0; k < 4; ++k) out[k * out_row + i] = four.v[k];
            out[4 * out_row + i] = fifth.v[0];
        }
    }
};

}  // namespace
}  // namespace metst
