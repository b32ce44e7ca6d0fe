// From a picture to its expansion, over a vector wrapper V: a level of the pyramid, and the fit of a polynomial around
// each of its pixels.
//
// Internal linkage, for the reason given in simd/simd.h.
#pragma once

#include <cstddef>

#include "roi_flow/loops.h"
#include "roi_flow/rows_simd.h"

namespace metst {
namespace {

template <class V>
class Expansion {
public:
    static void smooth(const SmoothArgs& a) {
        const int radius = a.radius, width = a.full_width;
        float* const row = a.blurred;
        float* const whole = a.blurred + a.blurred_stride;
        for (int y = 0; y < a.height; ++y) {
            const int* const rows = a.rows + static_cast<std::ptrdiff_t>(y) * a.row_taps;
            const float* const weights = a.row_weights + static_cast<std::ptrdiff_t>(y) * a.row_taps;
            for (int x = 0; x < width; x += W) {
                V sum = V::set(-128.0f);
                for (int k = 0; k < a.row_taps; ++k) {
                    sum = V::fma(V::set(weights[k]), V::load_bytes(a.pixels + rows[k] * a.pixel_stride + x), sum);
                }
                V::store(row + x, sum);
            }
            for (int k = 1; k <= radius; ++k) {  // reflected at the border's centre: OpenCV's default for blurs
                row[-k] = row[k < width ? k : width - 1];
                row[width - 1 + k] = row[k < width ? width - 1 - k : 0];
            }
            float* const out = a.out + static_cast<std::ptrdiff_t>(y) * a.stride;
            float* const blurred = a.columns ? whole : out;
            for (int x = 0; x < width; x += W) {
                V sum = V::mul(V::set(a.column_weights[radius]), V::load(row + x));
                for (int k = 1; k <= radius; ++k) {
                    const V pair = V::add(V::load(row + x - k), V::load(row + x + k));
                    sum = V::fma(V::set(a.column_weights[radius + k]), pair, sum);
                }
                V::store(blurred + x, sum);
            }
            if (!a.columns) continue;
            for (int x = 0; x < a.width; ++x) {
                const float left = whole[a.columns[x]], right = whole[a.columns[x] + 1];
                out[x] = left + (right - left) * a.column_fractions[x];
            }
        }
    }

    static void expand(const ExpandArgs& a) {
        if (a.kernels->reach == 7) {
            expand_reach<7>(a);
        } else {
            expand_reach<0>(a);
        }
    }

private:
    static constexpr int W = V::kWidth;

    // With Reach known the taps are unrolled; 0 takes it from the arguments.
    template <int Reach>
    static void expand_reach(const ExpandArgs& args) {
        const ExpandArgs a = args;  // stores of floats could change what a reference refers to
        const ExpansionKernels kernels = *a.kernels;
        const int reach = Reach ? Reach : kernels.reach;
        float* const even = a.rows;
        float* const odd = a.rows + a.stride;
        float* const second = a.rows + 2 * static_cast<std::ptrdiff_t>(a.stride);
        for (int y = 0; y < a.height; ++y) {
            const float* above[ExpansionKernels::kMaxReach + 1];
            const float* below[ExpansionKernels::kMaxReach + 1];
            for (int k = 0; k <= reach; ++k) {
                above[k] = a.picture + static_cast<std::ptrdiff_t>(y < k ? 0 : y - k) * a.stride;
                below[k] = a.picture + static_cast<std::ptrdiff_t>(y + k < a.height ? y + k : a.height - 1) * a.stride;
            }
            for (int x = 0; x < a.width; x += W) {
                const V centre = V::load(above[0] + x);
                V e = V::mul(V::set(kernels.even[0]), centre);
                V s = V::mul(V::set(kernels.second[0]), centre);
                V o = V::zero();
                for (int k = 1; k <= reach; ++k) {
                    const V up = V::load(above[k] + x), down = V::load(below[k] + x);
                    const V both = V::add(up, down);
                    e = V::fma(V::set(kernels.even[k]), both, e);
                    s = V::fma(V::set(kernels.second[k]), both, s);
                    o = V::fma(V::set(kernels.odd[k]), V::sub(down, up), o);
                }
                V::store(even + x, e);
                V::store(odd + x, o);
                V::store(second + x, s);
            }
            replicate<V>(even, a.width, reach, reach);
            replicate<V>(odd, a.width, reach, reach);
            replicate<V>(second, a.width, reach, reach);

            float* const planes = a.planes + static_cast<std::ptrdiff_t>(y) * kPlanes * a.stride;
            float* const pixels = a.pixels + y * a.pixel_stride;
            for (int x = 0; x < a.width; x += W) {
                const V o0 = V::load(odd + x);
                V dx = V::zero(), xy = V::zero();
                V dy = V::mul(V::set(kernels.even[0]), o0);
                V xx = V::mul(V::set(kernels.second[0]), V::load(even + x));
                V yy = V::mul(V::set(kernels.even[0]), V::load(second + x));
                for (int k = 1; k <= reach; ++k) {
                    const V e_left = V::load(even + x - k), e_right = V::load(even + x + k);
                    const V o_left = V::load(odd + x - k), o_right = V::load(odd + x + k);
                    const V s_both = V::add(V::load(second + x - k), V::load(second + x + k));
                    xx = V::fma(V::set(kernels.second[k]), V::add(e_left, e_right), xx);
                    dx = V::fma(V::set(kernels.odd[k]), V::sub(e_right, e_left), dx);
                    dy = V::fma(V::set(kernels.even[k]), V::add(o_left, o_right), dy);
                    xy = V::fma(V::set(kernels.odd[k]), V::sub(o_right, o_left), xy);
                    yy = V::fma(V::set(kernels.even[k]), s_both, yy);
                }
                const V all[kPlanes] = {V::mul(V::set(kernels.y), dy), V::mul(V::set(kernels.x), dx),
                                        V::mul(V::set(kernels.yy), yy), V::mul(V::set(kernels.xx), xx),
                                        V::mul(V::set(kernels.xy), xy)};
                if constexpr (!V::kReadsPlanes) {
                    if (a.pixels) V::interleave(pixels + x * kPixel, all);
                }
                if (a.anchor) {
                    const float* const next = a.anchor + static_cast<std::ptrdiff_t>(y) * kPlanes * a.stride + x;
                    for (int c = 0; c < kPlanes; ++c) __builtin_prefetch(next + c * a.stride, 0, 2);
                }
                if (!a.planes) continue;
                for (int c = 0; c < kPlanes; ++c) V::store(planes + c * a.stride + x, all[c]);
            }
        }
    }
};

}  // namespace
}  // namespace metst
