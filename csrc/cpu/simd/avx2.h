// simd.h over eight floats in an AVX register (needs AVX2, FMA and F16C).
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace metst {
namespace {

struct Avx2 {
    static constexpr int kWidth = 8;
    static constexpr int kGroup = 2;

    __m256 v;

    static Avx2 zero() { return {_mm256_setzero_ps()}; }
    static Avx2 set(float x) { return {_mm256_set1_ps(x)}; }
    static Avx2 load(const float* p) { return {_mm256_loadu_ps(p)}; }
    static void store(float* p, Avx2 a) { _mm256_storeu_ps(p, a.v); }
    static Avx2 load_first(const float* p, int n) { return {_mm256_maskload_ps(p, first(n))}; }
    static void store_first(float* p, Avx2 a, int n) { _mm256_maskstore_ps(p, first(n), a.v); }

    static Avx2 add(Avx2 a, Avx2 b) { return {_mm256_add_ps(a.v, b.v)}; }
    static Avx2 sub(Avx2 a, Avx2 b) { return {_mm256_sub_ps(a.v, b.v)}; }
    static Avx2 mul(Avx2 a, Avx2 b) { return {_mm256_mul_ps(a.v, b.v)}; }
    static Avx2 div(Avx2 a, Avx2 b) { return {_mm256_div_ps(a.v, b.v)}; }
    static Avx2 fma(Avx2 a, Avx2 b, Avx2 c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
    static Avx2 fmsub(Avx2 a, Avx2 b, Avx2 c) { return {_mm256_fmsub_ps(a.v, b.v, c.v)}; }
    // The instructions return their second operand where either is not a number.
    static Avx2 max(Avx2 a, Avx2 b) { return {_mm256_max_ps(b.v, a.v)}; }
    static Avx2 min(Avx2 a, Avx2 b) { return {_mm256_min_ps(b.v, a.v)}; }
    static Avx2 fnma(Avx2 a, Avx2 b, Avx2 c) { return {_mm256_fnmadd_ps(a.v, b.v, c.v)}; }
    static Avx2 floor(Avx2 a) { return {_mm256_floor_ps(a.v)}; }
    static Avx2 count() { return {_mm256_setr_ps(0, 1, 2, 3, 4, 5, 6, 7)}; }
    static Avx2 load_bytes(const std::uint8_t* p) {
        return {_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))))};
    }
    static Avx2 load_halves(const std::uint16_t* p) {
        return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
    }
    static Avx2 negative_abs(Avx2 a) { return {_mm256_or_ps(a.v, _mm256_set1_ps(-0.0f))}; }
    static Avx2 sqrt(Avx2 a) { return {_mm256_sqrt_ps(a.v)}; }
    static float sum(Avx2 a) {
        const __m128 four = _mm_add_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
        const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
    }

    // Clamped to [-127, 128]. Adding 1.5 2^23 rounds to a whole number and leaves it in the low bits; scale adds it to
    // the exponent of p. At the two clamps the fraction is 0 and p is 1: the result is exactly 0 and infinity.
    struct Split {
        __m256 fraction;
        __m256 shifted;
    };
    static Split split(Avx2 x) {
        const __m256 shift = _mm256_set1_ps(0x1.8p23f);
        const Avx2 clamped = min(max(x, set(-127.0f)), set(128.0f));
        const __m256 shifted = _mm256_add_ps(clamped.v, shift);
        return {_mm256_sub_ps(clamped.v, _mm256_sub_ps(shifted, shift)), shifted};
    }
    static Avx2 scale(Avx2 p, const Split& s) {
        const __m256i exponent = _mm256_slli_epi32(_mm256_castps_si256(s.shifted), 23);
        return {_mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p.v), exponent))};
    }

    using Mask = __m256;
    static Mask whole_is_zero(const Split& s) {
        return _mm256_cmp_ps(s.shifted, _mm256_set1_ps(0x1.8p23f), _CMP_EQ_OQ);
    }
    static Mask less(Avx2 a, Avx2 b) { return _mm256_cmp_ps(a.v, b.v, _CMP_LT_OQ); }
    static Mask equal(Avx2 a, Avx2 b) { return _mm256_cmp_ps(a.v, b.v, _CMP_EQ_OQ); }
    static Mask both(Mask a, Mask b) { return _mm256_and_ps(a, b); }
    static Avx2 select(Mask m, Avx2 a, Avx2 b) { return {_mm256_blendv_ps(b.v, a.v, m)}; }
    static Avx2 zero_where(Mask m, Avx2 a) { return {_mm256_andnot_ps(m, a.v)}; }
    static Avx2 add_where(Mask m, Avx2 a, Avx2 b) { return {_mm256_add_ps(a.v, _mm256_and_ps(m, b.v))}; }

    static void store_whole(std::int32_t* p, Avx2 a) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_cvttps_epi32(a.v));
    }

    static constexpr bool kReadsPlanes = false, kShifts = false;
    struct Spot {};
    static void interleave(float* p, const Avx2* c) {
        const __m256 a = _mm256_unpacklo_ps(c[0].v, c[1].v), b = _mm256_unpackhi_ps(c[0].v, c[1].v);
        const __m256 d = _mm256_unpacklo_ps(c[2].v, c[3].v), e = _mm256_unpackhi_ps(c[2].v, c[3].v);
        const __m256 pixels[4] = {_mm256_shuffle_ps(a, d, 0x44), _mm256_shuffle_ps(a, d, 0xee),
                                  _mm256_shuffle_ps(b, e, 0x44), _mm256_shuffle_ps(b, e, 0xee)};
        float last[8];
        _mm256_storeu_ps(last, c[4].v);
        for (int i = 0; i < 4; ++i) {
            _mm_storeu_ps(p + 8 * i, _mm256_castps256_ps128(pixels[i]));
            _mm_storeu_ps(p + 8 * (i + 4), _mm256_extractf128_ps(pixels[i], 1));
        }
        for (int i = 0; i < 8; ++i) p[8 * i + 4] = last[i];
    }

    static void bilinear(const float* p, std::ptrdiff_t row, const std::int32_t* offset, const float* fx,
                         const float* fy, float* out, std::ptrdiff_t out_row) {
        __m256 v[8];
        for (int i = 0; i < 8; ++i) {
            const float* const q = p + offset[i];
            const __m256 x = _mm256_broadcast_ss(fx + i), y = _mm256_broadcast_ss(fy + i);
            const __m256 top_left = _mm256_loadu_ps(q), top_right = _mm256_loadu_ps(q + 8);
            const __m256 left = _mm256_fmadd_ps(y, _mm256_sub_ps(_mm256_loadu_ps(q + row), top_left), top_left);
            const __m256 right = _mm256_fmadd_ps(y, _mm256_sub_ps(_mm256_loadu_ps(q + row + 8), top_right), top_right);
            v[i] = _mm256_fmadd_ps(x, _mm256_sub_ps(right, left), left);
        }
        __m256 low[4], high[4];
        for (int i = 0; i < 4; ++i) {
            low[i] = _mm256_permute2f128_ps(v[i], v[i + 4], 0x20);
            high[i] = _mm256_permute2f128_ps(v[i], v[i + 4], 0x31);
        }
        const __m256 a = _mm256_unpacklo_ps(low[0], low[1]), b = _mm256_unpackhi_ps(low[0], low[1]);
        const __m256 d = _mm256_unpacklo_ps(low[2], low[3]), e = _mm256_unpackhi_ps(low[2], low[3]);
        const __m256 f = _mm256_unpacklo_ps(high[0], high[1]), g = _mm256_unpacklo_ps(high[2], high[3]);
        _mm256_storeu_ps(out, _mm256_shuffle_ps(a, d, 0x44));
        _mm256_storeu_ps(out + out_row, _mm256_shuffle_ps(a, d, 0xee));
        _mm256_storeu_ps(out + 2 * out_row, _mm256_shuffle_ps(b, e, 0x44));
        _mm256_storeu_ps(out + 3 * out_row, _mm256_shuffle_ps(b, e, 0xee));
        _mm256_storeu_ps(out + 4 * out_row, _mm256_shuffle_ps(f, g, 0x44));
    }

    static Avx2 sum_rows(const float* rows) {
        const __m256 a = sum_four(rows), b = sum_four(rows + 32);
        return {_mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31))};
    }

private:
    static __m256i first(int n) {
        return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    }

    // In each half, that half's part of the sums of four rows.
    static __m256 sum_four(const float* r) {
        const __m256 a = _mm256_hadd_ps(_mm256_loadu_ps(r), _mm256_loadu_ps(r + 8));
        const __m256 b = _mm256_hadd_ps(_mm256_loadu_ps(r + 16), _mm256_loadu_ps(r + 24));
        return _mm256_hadd_ps(a, b);
    }
};

}  // namespace
}  // namespace metst
