// simd.h over sixteen floats in an AVX-512 register (needs AVX-512 F, DQ and VL).
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace metst {
namespace {

struct Avx512 {
    static constexpr int kWidth = 16;
    static constexpr int kGroup = 4;

    __m512 v;

    static Avx512 zero() { return {_mm512_setzero_ps()}; }
    static Avx512 set(float x) { return {_mm512_set1_ps(x)}; }
    static Avx512 load(const float* p) { return {_mm512_loadu_ps(p)}; }
    static void store(float* p, Avx512 a) { _mm512_storeu_ps(p, a.v); }
    static Avx512 load_first(const float* p, int n) { return {_mm512_maskz_loadu_ps(first(n), p)}; }
    static void store_first(float* p, Avx512 a, int n) { _mm512_mask_storeu_ps(p, first(n), a.v); }

    static Avx512 add(Avx512 a, Avx512 b) { return {_mm512_add_ps(a.v, b.v)}; }
    static Avx512 sub(Avx512 a, Avx512 b) { return {_mm512_sub_ps(a.v, b.v)}; }
    static Avx512 mul(Avx512 a, Avx512 b) { return {_mm512_mul_ps(a.v, b.v)}; }
    static Avx512 div(Avx512 a, Avx512 b) { return {_mm512_div_ps(a.v, b.v)}; }
    static Avx512 fma(Avx512 a, Avx512 b, Avx512 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
    static Avx512 fmsub(Avx512 a, Avx512 b, Avx512 c) { return {_mm512_fmsub_ps(a.v, b.v, c.v)}; }
    // The instructions return their second operand where either is not a number.
    static Avx512 max(Avx512 a, Avx512 b) { return {_mm512_max_ps(b.v, a.v)}; }
    static Avx512 min(Avx512 a, Avx512 b) { return {_mm512_min_ps(b.v, a.v)}; }
    static Avx512 fnma(Avx512 a, Avx512 b, Avx512 c) { return {_mm512_fnmadd_ps(a.v, b.v, c.v)}; }
    static Avx512 floor(Avx512 a) { return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC)}; }
    static Avx512 count() { return {_mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)}; }
    static Avx512 load_bytes(const std::uint8_t* p) {
        return {_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))))};
    }
    static Avx512 load_halves(const std::uint16_t* p) {
        return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
    }
    static Avx512 negative_abs(Avx512 a) { return {_mm512_or_ps(a.v, _mm512_set1_ps(-0.0f))}; }
    static Avx512 sqrt(Avx512 a) { return {_mm512_sqrt_ps(a.v)}; }
    static float sum(Avx512 a) { return _mm512_reduce_add_ps(a.v); }

    // Not clamped: the scaling instruction underflows and overflows as it should.
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
    static Avx512 add_where(Mask m, Avx512 a, Avx512 b) { return {_mm512_mask_add_ps(a.v, m, a.v, b.v)}; }

    static void store_whole(std::int32_t* p, Avx512 a) { _mm512_storeu_si512(p, _mm512_cvttps_epi32(a.v)); }

    // What neighbouring lanes read lies close together: mostly two vectors of three rows hold it all, and permutations
    // pick it.
    static constexpr bool kReadsPlanes = true;

    // Where sixteen lanes read: the upper left neighbours' columns and rows, and the fractions to the next ones.
    struct Spot {
        __m512i column, line;
        __m512 fx, fy;
        const float* rows[3];  // from column `left` on
        int left;
        __mmask16 lower;   // the lanes that read the second and third row; the others read the first and second
        bool compact;      // whether all lanes do, in columns left .. left + 31
        __mmask16 inside;  // passed on
    };
    static Spot spot(const float* p, std::ptrdiff_t row, int last_row, Avx512 x, Avx512 y, Avx512 fx, Avx512 fy,
                     __mmask16 inside) {
        const __m512i column = _mm512_cvttps_epi32(x.v), line = _mm512_cvttps_epi32(y.v);
        const int left = _mm_cvtsi128_si32(_mm512_castsi512_si128(column)) - 7;
        int top = _mm_cvtsi128_si32(_mm512_castsi512_si128(line));
        top -= _mm512_cmplt_epi32_mask(line, _mm512_set1_epi32(top)) != 0;
        const __m512i along = _mm512_sub_epi32(column, _mm512_set1_epi32(left));
        const __m512i down = _mm512_sub_epi32(line, _mm512_set1_epi32(top));
        const __mmask16 far =
            _mm512_cmpgt_epu32_mask(along, _mm512_set1_epi32(30)) | _mm512_cmpgt_epu32_mask(down, _mm512_set1_epi32(1));
        const float* const first = p + top * row + left;
        return {column,
                line,
                fx.v,
                fy.v,
                {first, first + row, first + (top + 2 > last_row ? row : 2 * row)},
                left,
                _mm512_test_epi32_mask(down, down),
                far == 0,
                inside};
    }
    static void bilinear(const Spot& s, const float* p, std::ptrdiff_t row, std::ptrdiff_t plane, Avx512* out) {
        const __m512i here = _mm512_sub_epi32(s.column, _mm512_set1_epi32(s.left));
        const __m512i next = _mm512_add_epi32(here, _mm512_set1_epi32(1));
        const Avx512 fx = {s.fx}, fy = {s.fy}, one = set(1.0f), rest = sub(one, fx);
        for (int c = 0; c < 5; ++c) out[c] = zero();
        const auto add_row = [&](const float* q, Avx512 weight) __attribute__((always_inline)) {
            const Avx512 a = mul(weight, rest), b = mul(weight, fx);
            for (int c = 0; c < 5; ++c, q += plane) {
                const __m512 low = _mm512_loadu_ps(q), high = _mm512_loadu_ps(q + 16);
                out[c] = fma(a, {_mm512_permutex2var_ps(low, here, high)}, out[c]);
                out[c] = fma(b, {_mm512_permutex2var_ps(low, next, high)}, out[c]);
            }
        };
        if (s.compact) {
            const __mmask16 lower = s.lower, upper = static_cast<__mmask16>(~lower);
            const Avx512 above = sub(one, fy);
            add_row(s.rows[0], {_mm512_maskz_mov_ps(upper, above.v)});
            add_row(s.rows[1], {_mm512_mask_mov_ps(fy.v, lower, above.v)});
            add_row(s.rows[2], {_mm512_maskz_mov_ps(lower, s.fy)});
            return;
        }
        const int highest = _mm512_reduce_min_epi32(s.line), lowest = _mm512_reduce_max_epi32(s.line);
        if (_mm512_cmpgt_epu32_mask(here, _mm512_set1_epi32(30)) == 0 && lowest - highest < 7) {
            const Avx512 at = {_mm512_add_ps(_mm512_cvtepi32_ps(s.line), fy.v)};
            for (int i = highest; i <= lowest + 1; ++i) {
                const Avx512 distance = {_mm512_abs_ps(sub(at, set(static_cast<float>(i))).v)};
                add_row(p + i * row + s.left, max(sub(one, distance), zero()));
            }
            return;
        }
        const __m512i at =
            _mm512_add_epi32(_mm512_mullo_epi32(s.line, _mm512_set1_epi32(static_cast<int>(row))), s.column);
        for (int c = 0; c < 5; ++c, p += plane) {
            const auto between = [&](const float* q) {
                const Avx512 left = {_mm512_i32gather_ps(at, q, 4)}, right = {_mm512_i32gather_ps(at, q + 1, 4)};
                return fma(fx, sub(right, left), left);
            };
            const Avx512 upper = between(p), lower = between(p + row);
            out[c] = fma(fy, sub(lower, upper), upper);
        }
    }

    static constexpr bool kShifts = true;
    template <int n>
    static Avx512 shift(Avx512 a, Avx512 b) {
        return {_mm512_castsi512_ps(_mm512_alignr_epi32(_mm512_castps_si512(b.v), _mm512_castps_si512(a.v), n))};
    }

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
