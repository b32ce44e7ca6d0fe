// The mean of the longest vectors of a region, over a vector wrapper V.
//
// Internal linkage, for the reason given in simd/simd.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "roi_flow/loops.h"

namespace metst {
namespace {

template <class V>
class Longest {
public:
    static void average(const LongestArgs& a, double mean[2]) {
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

private:
    static constexpr int W = V::kWidth;
    using Mask = typename V::Mask;

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
};

}  // namespace
}  // namespace metst
