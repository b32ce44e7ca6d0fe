// One iteration of the flow of a level, over a vector wrapper V: sampling the frame's expansion at the displaced
// position, the matrices, their box sums and the 2x2 solution, all in one pass over the rows. The time of a flow goes
// here, five times a level.
//
// How a sample is taken depends on the vectors: where they can be permuted (AVX-512), the rows around are read whole
// and each lane picks its own; elsewhere pixels are read one by one, four straight loads each, whatever the flow of the
// neighbours. Reading whole vectors by the shared part of their displacement alone was tried: real flow changes its
// whole part within a quarter of all vectors.
//
// Internal linkage, for the reason given in simd/simd.h.
#pragma once

#include <cstddef>

#include "roi_flow/loops.h"
#include "roi_flow/rows_simd.h"

namespace metst {
namespace {

template <class V>
class Iteration {
public:
    static void iterate(const IterateArgs& args) {
        const IterateArgs a = args;  // stores of floats could change what a reference refers to
        if (V::kReadsPlanes && a.still) {
            iterate_from<true>(a);
        } else {
            iterate_from<false>(a);
        }
    }

private:
    static constexpr int W = V::kWidth;
    using Mask = typename V::Mask;

    // Still: the flow so far is zero, and need not be read.
    template <bool Still>
    static void iterate_from(const IterateArgs& a) {
        const std::ptrdiff_t row = static_cast<std::ptrdiff_t>(kPlanes) * a.stride;
        const int slots = 2 * a.radius + 1;  // so that a row is written where the one leaving has just been read
        const auto slot = [&](int y) { return a.ring + y % slots * row; };
        for_each_vector(a, [&](std::ptrdiff_t i) { V::store(a.sums + i, V::zero()); });
        // Row r joins the sums and the one 2 radius + 1 before it leaves them; then row r - radius can be solved. The
        // first and last row stand for those beyond. What one pass writes in pieces the next would read in others, and
        // wait until it has left the store buffer; so the next row is sampled in between.
        const int first = a.first_row - a.radius > 0 ? a.first_row - a.radius : 0;
        [[maybe_unused]] const int end = a.end_row + a.radius < a.height ? a.end_row + a.radius : a.height;
        if constexpr (!V::kReadsPlanes) sample(a, first);
        for (int r = first; r < a.end_row + a.radius; ++r) {
            const int oldest = r - 2 * a.radius - 1;
            const bool zero_leaves = oldest < 0 && r > a.radius && first == 0;
            const float* const leaving = oldest >= first ? slot(oldest) : zero_leaves ? slot(0) : a.zeros;
            if (r < a.height) {
                matrices<Still>(a, r, leaving, slot(r));
            } else {
                const float* const last = slot(a.height - 1);
                for_each_vector(a, [&](std::ptrdiff_t i) {
                    const V change = V::sub(V::load(last + i), V::load(leaving + i));
                    V::store(a.sums + i, V::add(V::load(a.sums + i), change));
                });
            }
            if (r == 0) {
                const V copies = V::set(static_cast<float>(a.radius + 1));
                for_each_vector(a,
                                [&](std::ptrdiff_t i) { V::store(a.sums + i, V::mul(copies, V::load(a.sums + i))); });
            }
            if constexpr (!V::kReadsPlanes) {
                if (r + 1 < end) sample(a, r + 1);
            }
            if (r - a.radius < a.first_row) continue;
            const std::ptrdiff_t row_start = static_cast<std::ptrdiff_t>(r - a.radius) * a.stride;
            const bool shifts = V::kShifts && a.radius == 7;  // whole vectors then, and none before the first
            for (int c = 0; c < kPlanes; ++c) {
                float* const sums = a.sums + static_cast<std::ptrdiff_t>(c) * a.stride;
                replicate<V>(sums, a.width, shifts ? 0 : a.radius, shifts ? W + a.radius : a.radius);
            }
            if (a.radius != 7) {
                solve(a, a.dx + row_start, a.dy + row_start);
            } else if constexpr (V::kShifts) {
                solve_fifteen_by_shifts(a, a.dx + row_start, a.dy + row_start);
            } else {
                solve_fifteen(a, a.dx + row_start, a.dy + row_start);
            }
        }
    }

    template <class F>
    static void for_each_vector(const IterateArgs& a, F&& f) {
        for (int c = 0; c < kPlanes; ++c) {
            const std::ptrdiff_t first = static_cast<std::ptrdiff_t>(c) * a.stride;
            for (int x = 0; x < a.width; x += W) f(first + x);
        }
    }

    // Where W pixels of a row have gone in the frame: the upper left of four neighbours, and how far from it.
    struct Place {
        V corner_x, corner_y, fraction_x, fraction_y;
        Mask inside;
    };
    static Place place(const IterateArgs& a, V x, V y, V dx, V dy) {
        const V last_x = V::set(static_cast<float>(a.width - 2)), last_y = V::set(static_cast<float>(a.height - 2));
        // Rounded to float before anything else, as OpenCV does: it decides what lies outside.
        const V to_x = V::add(x, dx), to_y = V::add(y, dy);
        const V floor_x = V::floor(to_x), floor_y = V::floor(to_y);
        // Beyond the last column there may be anything, not a number too: it ends at the last corner.
        const V corner_x = V::max(V::min(last_x, floor_x), V::zero());
        const V corner_y = V::max(V::min(last_y, floor_y), V::zero());
        const Mask inside = V::both(V::equal(floor_x, corner_x), V::equal(floor_y, corner_y));
        return {corner_x, corner_y, V::sub(to_x, floor_x), V::sub(to_y, floor_y), inside};
    }

    // Samples the frame where the pixels of a row have gone. A fraction_x of -1 says outside.
    static void sample(const IterateArgs& a, int y) {
        const float* const flow_x = a.dx + static_cast<std::ptrdiff_t>(y) * a.stride;
        const float* const flow_y = a.dy + static_cast<std::ptrdiff_t>(y) * a.stride;
        const V row = V::set(static_cast<float>(y));
        const V stride = V::set(static_cast<float>(a.frame_stride)), pixel = V::set(static_cast<float>(kPixel));
        for (int x = 0; x < a.width; x += W) {
            const V column = V::add(V::count(), V::set(static_cast<float>(x)));
            const Place p = place(a, column, row, V::load(flow_x + x), V::load(flow_y + x));
            V::store(a.fraction_x + x, V::select(p.inside, p.fraction_x, V::set(-1.0f)));
            V::store(a.fraction_y + x, p.fraction_y);
            V::store_whole(a.offsets + x, V::fma(p.corner_y, stride, V::mul(p.corner_x, pixel)));
        }
        for (int x = 0; x < a.width; x += W) {
            V::bilinear(a.frame, a.frame_stride, a.offsets + x, a.fraction_x + x, a.fraction_y + x, a.samples + x,
                        a.stride);
        }
    }

    // One row of the normal equations, gyy, gxy, gxx, hy, hx: to `out`, and to the sums instead of those `leaving`.
    template <bool Still>
    static void matrices(const IterateArgs& args, int y, const float* leaving, float* out) {
        const IterateArgs a = args;  // as in iterate
        const std::ptrdiff_t s = a.stride;
        const float* const anchor = a.anchor + y * kPlanes * s;
        const float* const flow_x = a.dx + y * s;
        const float* const flow_y = a.dy + y * s;
        const V row = V::set(static_cast<float>(y)), row_border = V::set(a.border_y[y]);
        V columns = V::count();  // of the next vector that is placed
        const auto next_spot = [&](auto vector, int x) {
            const Place p = place(a, columns, row, V::load(flow_x + x), V::load(flow_y + x));
            columns = V::add(columns, V::set(static_cast<float>(W)));
            return decltype(vector)::spot(a.frame, a.frame_stride, a.height - 1, p.corner_x, p.corner_y, p.fraction_x,
                                          p.fraction_y, p.inside);
        };
        [[maybe_unused]] typename V::Spot ahead;  // of the next vector, so that nothing waits for an address
        if constexpr (V::kReadsPlanes && !Still) ahead = next_spot(V::zero(), 0);
        for (int x = 0; x < a.width; x += W) {
            const V dx = Still ? V::zero() : V::load(flow_x + x), dy = Still ? V::zero() : V::load(flow_y + x);
            V samples[kPlanes], reference[kPlanes];
            Mask inside;
            if constexpr (Still) {
                const float* const frame = a.frame + y * a.frame_stride + x;
                for (int c = 0; c < kPlanes; ++c) samples[c] = V::load(frame + c * s);
                // The last row and column have no neighbour to be between.
                inside = V::less(columns, V::set(static_cast<float>(y < a.height - 1 ? a.width - 1 : 0)));
                columns = V::add(columns, V::set(static_cast<float>(W)));
            } else if constexpr (V::kReadsPlanes) {
                const typename V::Spot here = ahead;
                ahead = next_spot(V::zero(), x + W);
                inside = here.inside;
                V::bilinear(here, a.frame, a.frame_stride, s, samples);
            } else {
                inside = V::less(V::set(-0.5f), V::load(a.fraction_x + x));
                for (int c = 0; c < kPlanes; ++c) samples[c] = V::load(a.samples + c * s + x);
            }
            for (int c = 0; c < kPlanes; ++c) {
                reference[c] = V::load(anchor + c * s + x);
                // Outside a pixel has only its own equation: no gradient to compare with, its own curvature.
                samples[c] = V::select(inside, samples[c], c < 2 ? V::zero() : reference[c]);
            }
            // Curvature: the mean of both pictures'. Displacement: half the difference of the gradients.
            // Both halved in the expansions.
            const V yy = V::add(reference[2], samples[2]);
            const V xx = V::add(reference[3], samples[3]);
            const V xy = V::add(reference[4], samples[4]);
            V ey = V::sub(reference[0], samples[0]);
            V ex = V::sub(reference[1], samples[1]);
            if constexpr (!Still) {
                ey = V::fma(yy, dy, V::fma(xy, dx, ey));
                ex = V::fma(xy, dy, V::fma(xx, dx, ex));
            }
            const V border = V::mul(V::load(a.border_x + x), row_border);
            const V trust = V::mul(border, border);
            const V square = V::mul(xy, xy);
            const V equations[kPlanes] = {V::fma(yy, yy, square), V::mul(V::add(yy, xx), xy), V::fma(xx, xx, square),
                                          V::fma(yy, ey, V::mul(xy, ex)), V::fma(xy, ey, V::mul(xx, ex))};
            for (int c = 0; c < kPlanes; ++c) {
                const V equation = V::mul(trust, equations[c]);
                float* const sum = a.sums + c * s + x;
                V::store(sum, V::add(V::load(sum), V::sub(equation, V::load(leaving + c * s + x))));
                V::store(out + c * s + x, equation);  // perhaps where it was read
            }
        }
    }

    // Sums along a row, then the 2x2 equations.
    static void solve(const IterateArgs& a, float* dx, float* dy) {
        for (int x = 0; x < a.width; x += W) {
            V g[kPlanes];
            for (int c = 0; c < kPlanes; ++c) {
                const float* const p = a.sums + c * static_cast<std::ptrdiff_t>(a.stride) + x;
                g[c] = V::load(p);
                for (int k = 1; k <= a.radius; ++k) g[c] = V::add(g[c], V::add(V::load(p - k), V::load(p + k)));
            }
            solve_vector(a, g, dx + x, dy + x);
        }
    }

    // The same for 15 columns: five sums of three instead of fifteen of one.
    static void solve_fifteen(const IterateArgs& a, float* dx, float* dy) {
        for (int c = 0; c < kPlanes; ++c) {
            const float* const p = a.sums + c * static_cast<std::ptrdiff_t>(a.stride);
            float* const t = a.thirds + c * static_cast<std::ptrdiff_t>(a.stride);
            const int first = W >= 8 ? -8 : -8 / W * W;
            for (int x = first; x < a.width + 6; x += W) {
                V::store(t + x, V::add(V::add(V::load(p + x - 1), V::load(p + x + 1)), V::load(p + x)));
            }
        }
        for (int x = 0; x < a.width; x += W) {
            V g[kPlanes];
            for (int c = 0; c < kPlanes; ++c) {
                const float* const t = a.thirds + c * static_cast<std::ptrdiff_t>(a.stride) + x;
                const V outer = V::add(V::load(t - 6), V::load(t + 6)), inner = V::add(V::load(t - 3), V::load(t + 3));
                g[c] = V::add(V::add(outer, inner), V::load(t));
            }
            solve_vector(a, g, dx + x, dy + x);
        }
    }

    // The same where a vector's neighbours can be shifted in: reading across two lines of the cache takes longer.
    static void solve_fifteen_by_shifts(const IterateArgs& args, float* dx, float* dy) {
        const IterateArgs a = args;  // as in iterate
        for (int c = 0; c < kPlanes; ++c) {
            const float* const p = a.sums + c * static_cast<std::ptrdiff_t>(a.stride);
            float* const out = a.thirds + c * static_cast<std::ptrdiff_t>(a.stride);
            const auto sum_three = [](V before, V here, V after) {
                return V::add(V::add(V::template shift<W - 1>(before, here), V::template shift<1>(here, after)), here);
            };
            const V first = V::set(p[0]);
            V before = V::load(p), here = V::load(p + W);
            V thirds_before = V::mul(V::set(3.0f), first), thirds = sum_three(first, before, here);
            for (int x = 0; x < a.width; x += W) {
                const V after = V::load(p + x + 2 * W);
                const V thirds_after = sum_three(before, here, after);
                const V six = V::template shift<6>(thirds, thirds_after);
                const V three = V::template shift<3>(thirds, thirds_after);
                const V outer = V::add(V::template shift<W - 6>(thirds_before, thirds), six);
                const V inner = V::add(V::template shift<W - 3>(thirds_before, thirds), three);
                V::store(out + x, V::add(V::add(outer, inner), thirds));
                before = here;
                here = after;
                thirds_before = thirds;
                thirds = thirds_after;
            }
        }
        for (int x = 0; x < a.width; x += W) {
            V g[kPlanes];
            for (int c = 0; c < kPlanes; ++c) g[c] = V::load(a.thirds + c * static_cast<std::ptrdiff_t>(a.stride) + x);
            solve_vector(a, g, dx + x, dy + x);
        }
    }

    static void solve_vector(const IterateArgs& a, const V* g, float* dx, float* dy) {
        // Never less than what was added, but for rounding: gradients of one direction leave nothing else of it.
        const V regularisation = V::set(a.regularisation);
        const V determinant = V::max(V::fnma(g[1], g[1], V::fma(g[0], g[2], regularisation)), regularisation);
        const V inverse = V::div(V::set(1.0f), determinant);
        V::store(dx, V::mul(V::fnma(g[1], g[3], V::mul(g[0], g[4])), inverse));
        V::store(dy, V::mul(V::fnma(g[1], g[4], V::mul(g[2], g[3])), inverse));
    }
};

}  // namespace
}  // namespace metst
