// What the flow of pictures of one size needs that does not depend on their pixels: pyramid levels, the tables of blurs
// and resizes, the kernels of the expansion. For the host, of the CPU flow and the CUDA flow alike.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>
#include <vector>

#include "expansion.h"
#include "metst/roi_flow.h"

namespace metst {

constexpr int kSmallest = 32;  // pixels a side of the smallest pyramid level
constexpr int kMaxLevels = 16;
constexpr int kBorder = 5;
constexpr float kBorderTrust[kBorder] = {0.14f, 0.14f, 0.4472f, 0.4472f, 0.4472f};  // OpenCV's, from the edge inwards
constexpr double kRegularisation = 1e-3;                                            // OpenCV's

template <class T>
T rounded_up(T n) {
    return (n + kRowAlignment - 1) / kRowAlignment * kRowAlignment;
}

inline std::size_t size(int n) { return static_cast<std::size_t>(n); }

// How a bilinear resize from one length to another reads: at `first` and the pixel after it, which counts `fraction`.
struct Resize {
    std::vector<int> first;
    std::vector<float> fraction;

    Resize() = default;
    Resize(int from, int to) : first(size(to)), fraction(size(to)) {
        for (int i = 0; i < to; ++i) {
            auto [at, rest] = position(i, from, to);
            if (at < 0) at = 0, rest = 0.0f;
            if (at >= from - 1) at = std::max(from - 2, 0), rest = from > 1 ? 1.0f : 0.0f;
            first[size(i)] = at;
            fraction[size(i)] = rest;
        }
    }

    // Pixel centres are mapped onto each other, in OpenCV's arithmetic.
    static std::pair<int, float> position(int i, int from, int to) {
        const double scale = 1.0 / (static_cast<double>(to) / from);
        const float at = static_cast<float>((i + 0.5) * scale - 0.5);
        const float whole = std::floor(at);
        return {static_cast<int>(whole), at - whole};
    }
};

inline int reflected(int i, int length) {
    if (length == 1) return 0;
    while (i < 0 || i >= length) i = i < 0 ? -i : 2 * length - 2 - i;
    return i;
}

inline std::vector<float> gaussian(int taps, double sigma) {
    if (sigma <= 0.0) return {0.25f, 0.5f, 0.25f};  // OpenCV's for three taps without a sigma
    std::vector<double> weights;
    double sum = 0.0;
    for (int i = 0; i < taps; ++i) {
        const double x = i - (taps - 1) / 2;
        weights.push_back(std::exp(-x * x / (2.0 * sigma * sigma)));
        sum += weights.back();
    }
    std::vector<float> out;
    for (double w : weights) out.push_back(static_cast<float>(w / sum));
    return out;
}

struct Level {
    int height = 0, width = 0, stride = 0;
    int row_taps = 0, radius = 0;
    std::vector<int> rows;
    std::vector<float> row_weights, column_weights;
    Resize columns;                        // empty at full size
    Resize enlarge_rows, enlarge_columns;  // from the level above; empty at the top
    std::vector<float> border_x, border_y;

    // Of an expansion in planes. Samples of a frame's last row read whole vectors, beyond it too.
    std::size_t plane_floats() const { return floats() * kPlanes + 2 * kRowAlignment; }
    // Two rows 4096 bytes apart would push each other out of the cache.
    std::ptrdiff_t pixel_stride() const {
        return static_cast<std::ptrdiff_t>(rounded_up(width)) * kPixel + kRowAlignment;
    }
    // Of a frame's expansion, in pixels or in planes.
    std::size_t frame_floats() const {
        return std::max(static_cast<std::size_t>(pixel_stride()) * size(height), plane_floats());
    }
    std::size_t floats() const { return static_cast<std::size_t>(stride) * size(height); }
};

// The kernels of the weighted least-squares fit, with the entries of the inverse Gram matrix folded in.
inline ExpansionKernels expansion_kernels(int reach, double sigma) {
    ExpansionKernels k;
    k.reach = reach;
    double g[ExpansionKernels::kMaxReach + 1];
    double sum = 0.0;
    for (int x = 0; x <= reach; ++x) {
        g[x] = static_cast<double>(static_cast<float>(std::exp(-x * x / (2.0 * sigma * sigma))));
        sum += x == 0 ? g[x] : 2.0 * g[x];
    }
    for (int x = 0; x <= reach; ++x) g[x] = static_cast<double>(static_cast<float>(g[x] / sum));
    // Moments of the separable weight: 1, x^2, x^4, x^2 y^2.
    double m0 = 0.0, m2 = 0.0, m4 = 0.0;
    for (int x = -reach; x <= reach; ++x) {
        const double w = g[std::abs(x)], square = static_cast<double>(x) * x;
        m0 += w;
        m2 += w * square;
        m4 += w * square * square;
    }
    const double one = m0 * m0, x2 = m0 * m2, x4 = m0 * m4, x2y2 = m2 * m2;
    // The Gram matrix couples 1, x^2 and y^2: [[one, x2, x2], [x2, x4, x2y2], [x2, x2y2, x4]]; x, y, xy stand alone.
    const double mean = 1.0 / (one - 2.0 * x2 * x2 / (x4 + x2y2));
    const double i03 = -x2 / (x4 + x2y2) * mean;
    const double i33 = 0.5 * (1.0 / (x4 - x2y2) + (1.0 - 2.0 * x2 * i03) / (x4 + x2y2));
    const double i11 = 1.0 / x2, i55 = 1.0 / x2y2;
    for (int x = 0; x <= reach; ++x) {
        k.even[x] = static_cast<float>(g[x]);
        k.odd[x] = static_cast<float>(x * g[x]);
        k.second[x] = static_cast<float>((i03 + i33 * x * x) * g[x]);
    }
    k.y = k.x = static_cast<float>(0.5 * i11);
    k.yy = k.xx = 0.5f;
    k.xy = static_cast<float>(0.25 * i55);
    return k;
}

// Everything about the flow of pictures of one size that does not depend on their pixels. Level 0 is the full size.
struct Plan {
    FarnebackParameters parameters;
    int height, width;
    int radius;  // of the averaging box
    int margin;
    int blur_margin = kRowAlignment;
    std::vector<Level> levels;
    ExpansionKernels kernels;

    Plan(int height_, int width_, const FarnebackParameters& p)
        : parameters(p),
          height(height_),
          width(width_),
          radius(p.window / 2),
          margin(rounded_up(std::max({kRowAlignment, radius + 1, p.reach}))),
          kernels(expansion_kernels(p.reach, p.sigma)) {
        double scale = 1.0;
        int top = 0;
        for (; top < std::min(p.levels, kMaxLevels - 1); ++top) {
            scale *= p.pyramid_scale;
            if (width * scale < kSmallest || height * scale < kSmallest) break;
        }
        scale = 1.0;
        for (int k = 0; k <= top; ++k, scale *= p.pyramid_scale) levels.push_back(level(k, scale));
        for (int k = 0; k < top; ++k) {
            Level& l = levels[size(k)];
            const Level& above = levels[size(k) + 1];
            l.enlarge_rows = Resize(above.height, l.height);
            l.enlarge_columns = Resize(above.width, l.width);
        }
    }

    // Added to the determinant of the equations, for sums over the averaging box instead of means.
    float regularisation() const {
        const double area = static_cast<double>(parameters.window) * parameters.window;
        return static_cast<float>(kRegularisation * area * area);
    }

    std::ptrdiff_t pixel_stride() const { return rounded_up(width) + kRowAlignment; }
    std::size_t pixel_floats() const {
        return (static_cast<std::size_t>(pixel_stride()) * size(height) + kRowAlignment) / sizeof(float) + 1;
    }
    std::ptrdiff_t blurred_stride() const { return rounded_up(width) + 2 * blur_margin; }
    std::size_t ring_rows() const { return size(2 * radius + 1); }

private:
    Level level(int k, double scale) {
        Level l;
        l.height = static_cast<int>(std::lrint(height * scale));
        l.width = static_cast<int>(std::lrint(width * scale));
        l.stride = rounded_up(l.width) + 2 * margin;

        const double sigma = (1.0 / scale - 1.0) * 0.5;
        const int taps = std::max(static_cast<int>(std::lrint(sigma * 5.0)) | 1, 3);
        l.radius = taps / 2;
        l.column_weights = gaussian(taps, sigma);
        blur_margin = std::max(blur_margin, rounded_up(l.radius));
        l.row_taps = k == 0 ? taps : taps + 1;
        if (k > 0) l.columns = Resize(width, l.width);
        const Resize resize = k > 0 ? Resize(height, l.height) : Resize();
        for (int y = 0; y < l.height; ++y) {
            const int first = k > 0 ? resize.first[size(y)] : y;
            const float fraction = k > 0 ? resize.fraction[size(y)] : 0.0f;
            for (int t = 0; t < l.row_taps; ++t) {
                l.rows.push_back(reflected(first - l.radius + t, height));
                const float upper = t < taps ? l.column_weights[size(t)] : 0.0f;
                const float lower = t > 0 ? l.column_weights[size(t) - 1] : 0.0f;
                l.row_weights.push_back((1.0f - fraction) * upper + fraction * lower);
            }
        }
        l.border_x.assign(size(l.stride), 1.0f);
        l.border_y.assign(size(l.height), 1.0f);
        for (int i = 0; i < kBorder; ++i) {
            const auto distrust = [i](std::vector<float>& border, int length) {
                if (i >= length) return;
                border[size(i)] *= kBorderTrust[i];
                border[size(length - 1 - i)] *= kBorderTrust[i];
            };
            distrust(l.border_x, l.width);
            distrust(l.border_y, l.height);
        }
        return l;
    }
};

}  // namespace metst
