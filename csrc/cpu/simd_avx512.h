// Sixteen floats in an AVX-512 register (needs AVX-512 F, DQ and VL).
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "simd_avx2.h"

namespace metst {
namespace {

struct Avx512 {
    static constexpr int kWidth = 16;
    static constexpr int kGroup = 4;  // vectors of state that stay in registers together

    __m512 v;

    static Avx512 zero() { return {_mm512_setzero_ps()}; }
    static Avx512 set(float x) { return {_mm512_set1_ps(x)}; }
    static Avx512 load(const float* p) { return {_mm512_loadu_ps(p)}; }
    static void store(float* p, Avx512 a) { _mm512_storeu_ps(p, a.v); }
    // The first n lanes, 0 <= n <= 16; the others read as zero and are not written.
    static Avx512 load_first(const float* p, int n) { return {_mm512_maskz_loadu_ps(first(n), p)}; }
    static void store_first(float* p, Avx512 a, int n) { _mm512_mask_storeu_ps(p, first(n), a.v); }

    static Avx512 add(Avx512 a, Avx512 b) { return {_mm512_add_ps(a.v, b.v)}; }
    static Avx512 sub(Avx512 a, Avx512 b) { return {_mm512_sub_ps(a.v, b.v)}; }
    static Avx512 mul(Avx512 a, Avx512 b) { return {_mm512_mul_ps(a.v, b.v)}; }
    static Avx512 div(Avx512 a, Avx512 b) { return {_mm512_div_ps(a.v, b.v)}; }
    static Avx512 fma(Avx512 a, Avx512 b, Avx512 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
    static Avx512 fmsub(Avx512 a, Avx512 b, Avx512 c) { return {_mm512_fmsub_ps(a.v, b.v, c.v)}; }
    // A NaN in `a` is passed on, as std::fmax would not.
    static Avx512 max(Avx512 a, Avx512 b) { return {_mm512_max_ps(b.v, a.v)}; }
    static Avx512 min(Avx512 a, Avx512 b) { return {_mm512_min_ps(b.v, a.v)}; }
    // c - a b
    static Avx512 fnma(Avx512 a, Avx512 b, Avx512 c) { return {_mm512_fnmadd_ps(a.v, b.v, c.v)}; }
    static Avx512 floor(Avx512 a) { return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC)}; }
    // 0, 1, 2, ...
    static Avx512 count() {
        return {_mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)};
    }
    static Avx512 load_bytes(const std::uint8_t* p) {
        return {_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))))};
    }
    static Avx512 negative_abs(Avx512 a) { return {_mm512_or_ps(a.v, _mm512_set1_ps(-0.0f))}; }
    static Avx512 sqrt(Avx512 a) { return {_mm512_sqrt_ps(a.v)}; }
    static float sum(Avx512 a) { return _mm512_reduce_add_ps(a.v); }

    // x = whole + fraction, |fraction| <= 1/2; scale(p, split) = p 2^whole with clean underflow and overflow.
    struct Split {
        __m512 fraction;
        __m512 whole;
    };
    static Split split(Avx512 x) {
        constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        return {_mm512_reduce_ps(x.v, kNearest), _mm512_roundscale_ps(x.v, kNearest)};
    }
    static Avx512 scale(Avx512 p, const Split& s) { return {_mm512_scalef_ps(p.v, s.whole)}; }

    using Mask = __mmask16;
    static Mask whole_is_zero(const Split& s) { return _mm512_cmp_ps_mask(s.whole, _mm512_setzero_ps(), _CMP_EQ_OQ); }
    static Mask less(Avx512 a, Avx512 b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ); }
    static Mask equal(Avx512 a, Avx512 b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_EQ_OQ); }
    static Mask both(Mask a, Mask b) { return static_cast<Mask>(a & b); }
    static Avx512 select(Mask m, Avx512 a, Avx512 b) { return {_mm512_mask_blend_ps(m, b.v, a.v)}; }
    static Avx512 zero_where(Mask m, Avx512 a) { return {_mm512_mask_mov_ps(a.v, m, _mm512_setzero_ps())}; }
    // a + b where m is set, else a.
    static Avx512 add_where(Mask m, Avx512 a, Avx512 b) { return {_mm512_mask_add_ps(a.v, m, a.v, b.v)}; }

    static void store_whole(std::int32_t* p, Avx512 a) { _mm512_storeu_si512(p, _mm512_cvttps_epi32(a.v)); }

    // As in simd_avx2.h, for sixteen pixels: eight at a time, because a pixel is eight floats.
    static void interleave(float* p, const Avx512* c) {
        Avx2 low[5], high[5];
        for (int i = 0; i < 5; ++i) {
            low[i] = {_mm512_castps512_ps256(c[i].v)};
            high[i] = {_mm512_extractf32x8_ps(c[i].v, 1)};
        }
        Avx2::interleave(p, low);
        Avx2::interleave(p + 64, high);
    }
    static void bilinear(const float* p, std::ptrdiff_t row, const std::int32_t* offset, const float* fx,
                         const float* fy, float* out, std::ptrdiff_t out_row) {
        Avx2::bilinear(p, row, offset, fx, fy, out, out_row);
        Avx2::bilinear(p, row, offset + 8, fx + 8, fy + 8, out + 8, out_row);
    }

    // Sixteen rows of sixteen floats -> their sixteen sums.
    static Avx512 sum_rows(const float* rows) {
        __m512 q[4];  // q[i]: in each quarter, that quarter's part of the sums of rows 4i .. 4i+3
        for (int i = 0; i < 4; ++i) {
            const float* r = rows + 64 * i;
            const __m512 r0 = _mm512_loadu_ps(r), r1 = _mm512_loadu_ps(r + 16);
            const __m512 r2 = _mm512_loadu_ps(r + 32), r3 = _mm512_loadu_ps(r + 48);
            const __m512 a = _mm512_add_ps(_mm512_unpacklo_ps(r0, r1), _mm512_unpackhi_ps(r0, r1));
            const __m512 b = _mm512_add_ps(_mm512_unpacklo_ps(r2, r3), _mm512_unpackhi_ps(r2, r3));
            q[i] = _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x44), _mm512_shuffle_ps(a, b, 0xee));
        }
        const __m512 a = fold_quarters(q[0], q[1]), b = fold_quarters(q[2], q[3]);
        return {fold_quarters(a, b)};
    }

private:
    static __mmask16 first(int n) { return static_cast<__mmask16>((1u << n) - 1u); }

    // Quarters (0 + 1, 2 + 3) of a, then of b.
    static __m512 fold_quarters(__m512 a, __m512 b) {
        return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
    }
};

}  // namespace
}  // namespace metst
