// The loops of loops.h over a vector wrapper V.
//
// Time goes to `iterate`, five times a level: sampling the frame's expansion at the displaced position, the matrices,
// their box sums and the 2x2 solution, all in one pass over the rows. How a sample is taken depends on the vectors:
// where they can be permuted (AVX-512), the rows around are read whole and each lane picks its own; elsewhere pixels
// are read one by one, four straight loads each, whatever the flow of the neighbours. Reading whole vectors by the
// shared part of their displacement alone was tried: real flow changes its whole part within a quarter of all vectors.

#include <cstddef>
#include <cstdint>

#include "roi_flow/loops.h"
#include "simd/simd.h"

namespace metst {
namespace {

template <class V>
class FlowSimd {
public:
    static const FlowKernels kKernels;

private:
    static constexpr int W = V::kWidth;
    using Mask = typename V::Mask;

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

    // Repeats the first and last value of a row for so many columns beyond it, at least.
    static void replicate(float* row, int width, int before, int after) {
        const V first = V::set(row[0]), last = V::set(row[width - 1]);
        for (int x = 0; x < before; x += W) V::store(row - x - W, first);
        for (int x = 0; x < after; x += W) V::store(row + width + x, last);
    }

    static void expand(const ExpandArgs& a) {
        if (a.kernels->reach == 7) {
            expand_reach<7>(a);
        } else {
            expand_reach<0>(a);
        }
    }

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
            replicate(even, a.width, reach, reach);
            replicate(odd, a.width, reach, reach);
            replicate(second, a.width, reach, reach);

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

    static void iterate(const IterateArgs& args) {
        const IterateArgs a = args;  // stores of floats could change what a reference refers to
        if (V::kReadsPlanes && a.still) {
            iterate_from<true>(a);
        } else {
            iterate_from<false>(a);
        }
    }

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
                for_each_vector(
                    a, [&](std::ptrdiff_t i) { V::store(a.sums + i, V::mul(copies, V::load(a.sums + i))); });
            }
            if constexpr (!V::kReadsPlanes) {
                if (r + 1 < end) sample(a, r + 1);
            }
            if (r - a.radius < a.first_row) continue;
            const std::ptrdiff_t row_start = static_cast<std::ptrdiff_t>(r - a.radius) * a.stride;
            const bool shifts = V::kShifts && a.radius == 7;  // whole vectors then, and none before the first
            for (int c = 0; c < kPlanes; ++c) {
                float* const sums = a.sums + static_cast<std::ptrdiff_t>(c) * a.stride;
                replicate(sums, a.width, shifts ? 0 : a.radius, shifts ? W + a.radius : a.radius);
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

    static void enlarge(const EnlargeArgs& a) {
        for (int y = 0; y < a.height; ++y) {
            const float* const upper = a.in + a.rows[y] * a.in_stride;
            const float* const lower = upper + a.in_stride;
            const V fraction = V::set(a.row_fractions[y]), factor = V::set(a.factor);
            for (int x = 0; x < a.in_width; x += W) {
                const V u = V::load(upper + x);
                V::store(a.row + x, V::mul(factor, V::fma(V::sub(V::load(lower + x), u), fraction, u)));
            }
            float* const out = a.out + static_cast<std::ptrdiff_t>(y) * a.stride;
            const float* const row = a.row;
            for (int x = 0; x < a.width; ++x) {
                const float left = row[a.columns[x]], right = row[a.columns[x] + 1];
                out[x] = left + (right - left) * a.column_fractions[x];
            }
            // Vectors that reach beyond the last column then read nothing far away.
            V::store(out + a.width, V::set(out[a.width - 1]));
        }
    }

    static void crop(const CropArgs& a) {
        int held[2] = {-1, -1};  // the row of the box that each buffer holds
        const auto fill = [&](int buffer, int row) {
            const std::uint8_t* const in = a.pixels + row * a.pixel_stride;
            std::int16_t* const out = a.resized[buffer];
            for (int x = 0; x < a.width; ++x) {
                const int here = in[a.columns[x]] * a.column_weights[x];
                const int next = in[a.next_columns[x]] * a.next_column_weights[x];
                out[x] = static_cast<std::int16_t>((here + next) >> 4);
            }
            held[buffer] = row;
        };
        for (int y = 0; y < a.height; ++y) {
            const int upper = a.rows[y], lower = a.next_rows[y];
            int u = held[0] == upper ? 0 : 1;
            if (held[u] != upper) {
                u = held[0] == lower ? 1 : 0;
                fill(u, upper);
            }
            const int l = held[u] == lower ? u : 1 - u;
            if (held[l] != lower) fill(l, lower);
            const std::int16_t* const p = a.resized[u];
            const std::int16_t* const q = a.resized[l];
            const int pw = a.row_weights[y], qw = a.next_row_weights[y];
            std::uint8_t* const out = a.out + y * a.out_stride;
            for (int x = 0; x < a.width; ++x) {
                out[x] = static_cast<std::uint8_t>((((p[x] * pw) >> 16) + ((q[x] * qw) >> 16) + 2) >> 2);
            }
        }
    }

    static void longest(const LongestArgs& a, double mean[2]) {
        const int n = a.height * a.width;
        V longest_square = V::zero();
        for (int y = 0; y < a.height; ++y) {
            // Whole vectors: what is written beyond a row's end is the next row's, or padding.
            const std::ptrdiff_t in = y * a.stride;
            const std::ptrdiff_t out = static_cast<std::ptrdiff_t>(y) * a.width;
            for (int x = 0; x < a.width; x += W) {
                const V dx = V::load(a.dx + in + x), dy = V::load(a.dy + in + x);
                V::store(a.x + out + x, dx);
                V::store(a.y + out + x, dy);
                V::store(a.squares + out + x, V::fma(dx, dx, V::mul(dy, dy)));
            }
        }
        for (int i = n; i % W != 0; ++i) a.squares[i] = -1.0f;
        for (int i = 0; i < n; i += W) longest_square = V::max(longest_square, V::load(a.squares + i));

        // The count-th largest square, by bisection over the floats, which order like the integers of their bits.
        float threshold = -0.5f;
        int above = n;
        if (a.count < n) {
            std::int32_t low = -1, high = bits_of(maximum(longest_square));
            while (high - low > 1) {
                const std::int32_t middle = low + (high - low) / 2;
                above = count_above(a.squares, n, float_of(middle));
                if (above == a.count) {
                    high = middle;
                    break;
                }
                (above < a.count ? high : low) = middle;
            }
            threshold = float_of(high);
            above = count_above(a.squares, n, threshold);
        }
        V x = V::zero(), y = V::zero(), tied_x = V::zero(), tied_y = V::zero(), ties = V::zero();
        const V bound = V::set(threshold);
        for (int i = 0; i < n; i += W) {
            const V square = V::load(a.squares + i), dx = V::load(a.x + i), dy = V::load(a.y + i);
            const Mask over = V::less(bound, square);
            const Mask tied = V::equal(bound, square);
            x = V::add_where(over, x, dx);
            y = V::add_where(over, y, dy);
            tied_x = V::add_where(tied, tied_x, dx);
            tied_y = V::add_where(tied, tied_y, dy);
            ties = V::add_where(tied, ties, V::set(1.0f));
        }
        // Of equally long vectors each counts the same share.
        const double tie_count = total(ties);
        const double share = tie_count > 0 ? (a.count - above) / tie_count : 0.0;
        mean[0] = (total(x) + share * total(tied_x)) / a.count;
        mean[1] = (total(y) + share * total(tied_y)) / a.count;
    }

    static int count_above(const float* squares, int n, float threshold) {
        const V bound = V::set(threshold), one = V::set(1.0f);
        V first = V::zero(), second = V::zero();
        int i = 0;
        for (; i + 2 * W <= n; i += 2 * W) {
            first = V::add_where(V::less(bound, V::load(squares + i)), first, one);
            second = V::add_where(V::less(bound, V::load(squares + i + W)), second, one);
        }
        for (; i < n; i += W) first = V::add_where(V::less(bound, V::load(squares + i)), first, one);
        return static_cast<int>(total(V::add(first, second)));
    }

    static double total(V v) {
        float lanes[W];
        V::store(lanes, v);
        double sum = 0.0;
        for (int i = 0; i < W; ++i) sum += static_cast<double>(lanes[i]);
        return sum;
    }

    static float maximum(V v) {
        float lanes[W];
        V::store(lanes, v);
        float most = lanes[0];
        for (int i = 1; i < W; ++i) most = lanes[i] > most ? lanes[i] : most;
        return most;
    }

    static std::int32_t bits_of(float x) {
        std::int32_t bits;
        __builtin_memcpy(&bits, &x, sizeof bits);
        return bits;
    }

    static float float_of(std::int32_t bits) {
        float x;
        __builtin_memcpy(&x, &bits, sizeof x);
        return x;
    }

    static void add_bytes(const std::uint8_t* row, int count, std::uint32_t* sums) {
        for (int i = 0; i < count; ++i) sums[i] += row[i];
    }
};

template <class V>
const FlowKernels FlowSimd<V>::kKernels = {V::kReadsPlanes, smooth, expand, iterate, enlarge, crop, longest, add_bytes};

}  // namespace

template <>
const FlowKernels& flow_kernels_on<kPath>() {
    return FlowSimd<Simd>::kKernels;
}

}  // namespace metst
