// One float, for CPUs without a vector path: what the kernels written over a vector wrapper need of it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace metst {
namespace {

struct Scalar {
    static constexpr int kWidth = 1;

    float v;

    static Scalar zero() { return {0.0f}; }
    static Scalar set(float x) { return {x}; }
    static Scalar load(const float* p) { return {*p}; }
    static void store(float* p, Scalar a) { *p = a.v; }

    static Scalar add(Scalar a, Scalar b) { return {a.v + b.v}; }
    static Scalar sub(Scalar a, Scalar b) { return {a.v - b.v}; }
    static Scalar mul(Scalar a, Scalar b) { return {a.v * b.v}; }
    static Scalar div(Scalar a, Scalar b) { return {a.v / b.v}; }
    // Rounds twice: a library call for every multiply-add would cost far more than it gives.
    static Scalar fma(Scalar a, Scalar b, Scalar c) { return {a.v * b.v + c.v}; }
    static Scalar fmsub(Scalar a, Scalar b, Scalar c) { return {a.v * b.v - c.v}; }
    // c - a b
    static Scalar fnma(Scalar a, Scalar b, Scalar c) { return {c.v - a.v * b.v}; }
    // A NaN in `a` is passed on, one in `b` is not.
    static Scalar max(Scalar a, Scalar b) { return {b.v > a.v ? b.v : a.v}; }
    static Scalar min(Scalar a, Scalar b) { return {b.v < a.v ? b.v : a.v}; }
    static Scalar floor(Scalar a) { return {__builtin_floorf(a.v)}; }
    static Scalar count() { return zero(); }
    static Scalar load_bytes(const std::uint8_t* p) { return {static_cast<float>(*p)}; }

    using Mask = bool;
    static Mask less(Scalar a, Scalar b) { return a.v < b.v; }
    static Mask equal(Scalar a, Scalar b) { return a.v == b.v; }
    static Mask both(Mask a, Mask b) { return a && b; }
    static Scalar select(Mask m, Scalar a, Scalar b) { return m ? a : b; }
    static void store_whole(std::int32_t* p, Scalar a) { *p = static_cast<std::int32_t>(a.v); }

    // As in simd_avx2.h, for one pixel.
    static void interleave(float* p, const Scalar* c) {
        for (int i = 0; i < 5; ++i) p[i] = c[i].v;
    }
    static void bilinear(const float* p, std::ptrdiff_t row, const std::int32_t* offset, const float* fx,
                         const float* fy, float* out, std::ptrdiff_t out_row) {
        const float* const q = p + *offset;
        for (int i = 0; i < 5; ++i) {
            const float left = q[i] + *fy * (q[row + i] - q[i]);
            const float right = q[8 + i] + *fy * (q[row + 8 + i] - q[8 + i]);
            out[i * out_row] = left + *fx * (right - left);
        }
    }

    // a + b where m is set, else a.
    static Scalar add_where(Mask m, Scalar a, Scalar b) { return m ? add(a, b) : a; }
};

}  // namespace
}  // namespace metst
