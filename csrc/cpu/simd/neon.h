// simd.h over four floats in a NEON register (aarch64).
#pragma once

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

namespace metst {
namespace {

struct Neon {
    static constexpr int kWidth = 4;
    static constexpr int kGroup = 4;

    float32x4_t v;

    static Neon zero() { return {vdupq_n_f32(0.0f)}; }
    static Neon set(float x) { return {vdupq_n_f32(x)}; }
    static Neon load(const float* p) { return {vld1q_f32(p)}; }
    static void store(float* p, Neon a) { vst1q_f32(p, a.v); }
    static Neon load_first(const float* p, int n) {
        float lanes[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        for (int i = 0; i < n; ++i) lanes[i] = p[i];
        return load(lanes);
    }
    static void store_first(float* p, Neon a, int n) {
        float lanes[4];
        store(lanes, a);
        for (int i = 0; i < n; ++i) p[i] = lanes[i];
    }

    static Neon add(Neon a, Neon b) { return {vaddq_f32(a.v, b.v)}; }
    static Neon sub(Neon a, Neon b) { return {vsubq_f32(a.v, b.v)}; }
    static Neon mul(Neon a, Neon b) { return {vmulq_f32(a.v, b.v)}; }
    static Neon div(Neon a, Neon b) { return {vdivq_f32(a.v, b.v)}; }
    static Neon fma(Neon a, Neon b, Neon c) { return {vfmaq_f32(c.v, a.v, b.v)}; }
    static Neon fmsub(Neon a, Neon b, Neon c) { return {vfmaq_f32(vnegq_f32(c.v), a.v, b.v)}; }
    static Neon max(Neon a, Neon b) { return {vmaxq_f32(a.v, b.v)}; }
    static Neon min(Neon a, Neon b) { return {vminq_f32(a.v, b.v)}; }
    static Neon fnma(Neon a, Neon b, Neon c) { return {vfmsq_f32(c.v, a.v, b.v)}; }
    static Neon floor(Neon a) { return {vrndmq_f32(a.v)}; }
    static Neon count() {
        constexpr float lanes[4] = {0.0f, 1.0f, 2.0f, 3.0f};
        return load(lanes);
    }
    static Neon load_bytes(const std::uint8_t* p) {
        std::uint32_t four;
        __builtin_memcpy(&four, p, 4);
        const uint16x8_t wide = vmovl_u8(vcreate_u8(four));
        return {vcvtq_f32_u32(vmovl_u16(vget_low_u16(wide)))};
    }
    static Neon load_halves(const std::uint16_t* p) {
        return {vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(reinterpret_cast<const std::uint8_t*>(p))))};
    }
    static Neon negative_abs(Neon a) { return {vnegq_f32(vabsq_f32(a.v))}; }
    static Neon sqrt(Neon a) { return {vsqrtq_f32(a.v)}; }
    static float sum(Neon a) { return vaddvq_f32(a.v); }

    // As in avx2.h.
    struct Split {
        float32x4_t fraction;
        float32x4_t shifted;
    };
    static Split split(Neon x) {
        const float32x4_t shift = vdupq_n_f32(0x1.8p23f);
        const Neon clamped = min(max(x, set(-127.0f)), set(128.0f));
        const float32x4_t shifted = vaddq_f32(clamped.v, shift);
        return {vsubq_f32(clamped.v, vsubq_f32(shifted, shift)), shifted};
    }
    static Neon scale(Neon p, const Split& s) {
        const int32x4_t exponent = vshlq_n_s32(vreinterpretq_s32_f32(s.shifted), 23);
        return {vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(p.v), exponent))};
    }

    using Mask = uint32x4_t;
    static Mask whole_is_zero(const Split& s) { return vceqq_f32(s.shifted, vdupq_n_f32(0x1.8p23f)); }
    static Mask less(Neon a, Neon b) { return vcltq_f32(a.v, b.v); }
    static Mask equal(Neon a, Neon b) { return vceqq_f32(a.v, b.v); }
    static Mask both(Mask a, Mask b) { return vandq_u32(a, b); }
    static Neon select(Mask m, Neon a, Neon b) { return {vbslq_f32(m, a.v, b.v)}; }
    static Neon zero_where(Mask m, Neon a) { return {vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(a.v), m))}; }
    static Neon add_where(Mask m, Neon a, Neon b) {
        return add(a, {vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(b.v), m))});
    }

    static void store_whole(std::int32_t* p, Neon a) { vst1q_s32(p, vcvtq_s32_f32(a.v)); }

    static constexpr bool kReadsPlanes = false, kShifts = false;
    struct Spot {};
    static void interleave(float* p, const Neon* c) {
        float four[16], last[4];
        vst4q_f32(four, (float32x4x4_t{{c[0].v, c[1].v, c[2].v, c[3].v}}));
        store(last, c[4]);
        for (int i = 0; i < 4; ++i) {
            vst1q_f32(p + 8 * i, vld1q_f32(four + 4 * i));
            p[8 * i + 4] = last[i];
        }
    }

    static void bilinear(const float* p, std::ptrdiff_t row, const std::int32_t* offset, const float* fx,
                         const float* fy, float* out, std::ptrdiff_t out_row) {
        float four[16], corner[4][4];
        for (int i = 0; i < 4; ++i) {
            const float* const q = p + offset[i];
            const float32x4_t top_left = vld1q_f32(q), top_right = vld1q_f32(q + 8);
            const float32x4_t left = vfmaq_n_f32(top_left, vsubq_f32(vld1q_f32(q + row), top_left), fy[i]);
            const float32x4_t right = vfmaq_n_f32(top_right, vsubq_f32(vld1q_f32(q + row + 8), top_right), fy[i]);
            vst1q_f32(four + 4 * i, vfmaq_n_f32(left, vsubq_f32(right, left), fx[i]));
            corner[0][i] = q[4];
            corner[1][i] = q[12];
            corner[2][i] = q[row + 4];
            corner[3][i] = q[row + 12];
        }
        const float32x4x4_t columns = vld4q_f32(four);
        for (int i = 0; i < 4; ++i) vst1q_f32(out + i * out_row, columns.val[i]);
        const Neon x = load(fx), y = load(fy), top_left = load(corner[0]), top_right = load(corner[1]);
        const Neon left = fma(y, sub(load(corner[2]), top_left), top_left);
        const Neon right = fma(y, sub(load(corner[3]), top_right), top_right);
        store(out + 4 * out_row, fma(x, sub(right, left), left));
    }

    static Neon sum_rows(const float* r) {
        const float32x4_t a = vpaddq_f32(vld1q_f32(r), vld1q_f32(r + 4));
        const float32x4_t b = vpaddq_f32(vld1q_f32(r + 8), vld1q_f32(r + 12));
        return {vpaddq_f32(a, b)};
    }
};

}  // namespace
}  // namespace metst
