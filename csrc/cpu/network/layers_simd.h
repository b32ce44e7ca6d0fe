// The layers of a network's step over a vector wrapper V, for several lanes at once. Which layers there are and in
// which order is a network's own (metst_simd.cpp, metst_plus_simd.cpp).
//
// A layer takes its weights from one pointer that runs through the packed network front to back (layout.h); what it
// remembers is handed to it (state.h). Arrays of a layer are (rows, values) with the values padded, unless said: a row
// for each lane that the layers run for. Flags (1, else 0) and what is remembered are of all lanes. `now` counts the
// steps of a layer, or from anywhere so long as it grows by one a step: it says where rings stand.
#pragma once

#include <cstdint>

#include "metst/mamba_block.h"
#include "network/layout.h"
#include "network/state.h"
#include "simd/math.h"

namespace metst {
namespace {

template <class V>
class Layers {
public:
    Layers(const float* packed, MatrixFormat format, const Rows& rows)
        : weights_(packed), format_(format), rows_(rows) {}

    void run_for(const Rows& rows) { rows_ = rows; }

    // Leaves weights out: floats of packed layers that do not run.
    void skip(std::int64_t count) { weights_ += count; }

    // Remembers a frame of a convolution's input: x (rows, stride), of which `inputs` are kept.
    void remember(const Ring& frames, std::int64_t now, const float* x, std::int64_t stride, std::int64_t inputs) {
        for (std::int64_t row = 0; row < rows_.count; ++row) {
            float* const newest = frames.frame(now, 0, rows_.lanes[row]);
            for (std::int64_t i = 0; i < inputs; ++i) newest[i] = x[row * stride + i];
        }
    }

    // Convolves around the frame before the last one remembered, with ReLU -> y. Where that frame is the `first` of its
    // window, the one before belongs to another window, and where the last comes `after_last`, so does that: both are
    // the convolution's zero padding then. seen: (rows, 3 inputs), to work in.
    void convolution(const Ring& frames, std::int64_t now, std::int64_t inputs, const float* first,
                     const float* after_last, MatrixFormat format, float* seen, float* y, std::int64_t outputs) {
        const std::int64_t size = padded(kFrames * inputs);
        for (std::int64_t row = 0; row < rows_.count; ++row) {
            const std::int64_t lane = rows_.lanes[row];
            const float* const newest = frames.frame(now, 0, lane);
            const float* const one_ago = frames.frame(now, 1, lane);
            const float* const two_ago = frames.frame(now, 2, lane);
            float* const of_row = seen + row * size;
            for (std::int64_t i = 0; i < inputs; ++i) {
                of_row[i] = first[lane] != 0.0f ? 0.0f : two_ago[i];
                of_row[inputs + i] = one_ago[i];
                of_row[2 * inputs + i] = after_last[lane] != 0.0f ? 0.0f : newest[i];
            }
        }
        linear(seen, size, kFrames * inputs, y, padded(outputs), format);
        for (std::int64_t i = 0; i < rows_.count * padded(outputs); i += W) {
            V::store(y + i, V::max(V::load(y + i), V::zero()));
        }
    }

    // x += norm(mamba(norm(x))), from a zero state in the lanes where the frame `begins` a window.
    void mamba_block(const BlockSizes& s, const BlockState& state, const BlockWork& work, std::int64_t now,
                     const float* begins, float* x) {
        const std::int64_t dim = padded(s.dim), inner = padded(s.inner), states = padded(s.states);
        layer_norm(x, s.dim, work.n);
        linear(work.n, dim, s.dim, work.uz, 2 * inner, format_);
        convolve(s, state.taps, now, begins, work.uz);
        linear(work.uz, 2 * inner, s.inner, work.bc_dt, x_proj_outputs(s), format_);
        linear(work.bc_dt + 2 * states, x_proj_outputs(s), s.rank, work.y, inner, MatrixFormat::kFloat32);
        scan(s, state.state, begins, work.uz, work.bc_dt, work.y);
        linear(work.y, inner, s.inner, work.n, dim, format_);
        layer_norm(work.n, s.dim, work.n);
        add(work.n, s.dim, x);
    }

    // x += y.
    void add(const float* y, std::int64_t size, float* x) {
        for (std::int64_t i = 0; i < rows_.count * padded(size); i += W) {
            V::store(x + i, V::add(V::load(x + i), V::load(y + i)));
        }
    }

    // of_spot and of_emotion, `inputs` both -> spot (rows), 0 to 1, and emotion (rows, classes), not padded. scores:
    // (rows, classes), to work in.
    void heads(const float* of_spot, const float* of_emotion, std::int64_t inputs, std::int64_t classes, float* scores,
               float* spot, float* emotion) {
        linear(of_spot, padded(inputs), inputs, scores, kPad, MatrixFormat::kFloat32);
        for (std::int64_t row = 0; row < rows_.count; ++row) {
            alignas(64) float first[W];
            V::store(first, sigmoid(V::load(scores + row * kPad)));
            spot[row] = first[0];
        }
        const std::int64_t outputs = padded(classes);
        linear(of_emotion, padded(inputs), inputs, scores, outputs, MatrixFormat::kFloat32);
        for (std::int64_t row = 0; row < rows_.count; ++row) {
            for (std::int64_t c = 0; c < classes; ++c) emotion[row * classes + c] = scores[row * outputs + c];
        }
    }

private:
    static constexpr int W = V::kWidth;
    static_assert(kPad % W == 0, "no loop has a tail");

    const float* take(std::int64_t count) {
        const float* const part = weights_;
        weights_ += count;
        return part;
    }

    // x (rows, size) -> y, which may be x.
    void layer_norm(const float* x, std::int64_t size, float* y) {
        const std::int64_t width = padded(size);
        const float* const weight = take(width);
        const float* const bias = take(width);
        const float count = static_cast<float>(size);
        for (std::int64_t row = 0; row < rows_.count; ++row, x += width, y += width) {
            V sum = V::zero();
            for (std::int64_t i = 0; i < width; i += W) sum = V::add(sum, V::load(x + i));
            const V mean = V::set(V::sum(sum) / count);
            for (std::int64_t i = 0; i < width; i += W) V::store(y + i, V::sub(V::load(x + i), mean));
            for (std::int64_t i = size; i < width; ++i) y[i] = 0.0f;
            V squares = V::zero();
            for (std::int64_t i = 0; i < width; i += W) squares = V::fma(V::load(y + i), V::load(y + i), squares);
            const V deviation = V::sqrt(V::set(V::sum(squares) / count + kLayerNormEps));
            for (std::int64_t i = 0; i < width; i += W) {
                V::store(y + i, V::fma(V::div(V::load(y + i), deviation), V::load(weight + i), V::load(bias + i)));
            }
        }
    }

    // x (rows, x_stride), of which the first `inputs` are read -> y (rows, outputs), with outputs padded.
    void linear(const float* x, std::int64_t x_stride, std::int64_t inputs, float* y, std::int64_t outputs,
                MatrixFormat format) {
        if (format == MatrixFormat::kFloat16) {
            linear<MatrixFormat::kFloat16>(x, x_stride, inputs, y, outputs);
        } else {
            linear<MatrixFormat::kFloat32>(x, x_stride, inputs, y, outputs);
        }
    }

    template <MatrixFormat Format>
    void linear(const float* x, std::int64_t x_stride, std::int64_t inputs, float* y, std::int64_t outputs) {
        for (std::int64_t first = 0; first < outputs; first += kPad) {
            const float* const panel = take(panel_size(inputs, Format));
            for (std::int64_t row = 0; row < rows_.count; row += 2) {
                const float* const in = x + row * x_stride;
                float* const out = y + row * outputs + first;
                if (row + 1 < rows_.count) {
                    multiply<2, Format>(panel, in, x_stride, inputs, out, outputs);
                } else {
                    multiply<1, Format>(panel, in, x_stride, inputs, out, outputs);
                }
            }
        }
    }

    // One panel. Each weight is loaded once for both rows. Sums stay in registers, several to an output: enough to
    // hide the latency of a multiply-add, and short enough to keep rounding errors down.
    template <int Count, MatrixFormat Format>
    static void multiply(const float* weights, const float* x, std::int64_t x_stride, std::int64_t inputs, float* y,
                         std::int64_t y_stride) {
        constexpr bool kHalves = Format == MatrixFormat::kFloat16;
        constexpr int Vectors = kPad / W;
        constexpr int kSums = Vectors * Count >= 4 ? 2 : 8 / (Vectors * Count);
        V sums[kSums][Count][Vectors];
        for (int k = 0; k < kSums; ++k) {
            for (int row = 0; row < Count; ++row) {
                for (int v = 0; v < Vectors; ++v) sums[k][row][v] = k ? V::zero() : V::load(weights + v * W);
            }
        }
        weights += kPad;
        const auto add = [&](int k, std::int64_t i) {
            if (!kHalves || k % 2 == 0) fetch_ahead(weights);
            V in[Count];
            for (int row = 0; row < Count; ++row) in[row] = V::set(x[row * x_stride + i]);
            for (int v = 0; v < Vectors; ++v) {
                const V weight = load_weights<kHalves>(weights, v);
                for (int row = 0; row < Count; ++row) sums[k][row][v] = V::fma(in[row], weight, sums[k][row][v]);
            }
            weights += kHalves ? kPad / 2 : kPad;
        };
        std::int64_t i = 0;
        for (; i + kSums <= inputs; i += kSums) {
            for (int k = 0; k < kSums; ++k) add(k, i + k);
        }
        for (; i < inputs; ++i) add(0, i);
        for (int row = 0; row < Count; ++row) {
            for (int v = 0; v < Vectors; ++v) {
                V sum = sums[0][row][v];
                for (int k = 1; k < kSums; ++k) sum = V::add(sum, sums[k][row][v]);
                V::store(y + row * y_stride + v * W, sum);
            }
        }
    }

    // Vector v of the weights of one input.
    template <bool Halves>
    static V load_weights(const float* weights, int v) {
        if constexpr (Halves) {
            return V::load_halves(reinterpret_cast<const std::uint16_t*>(weights) + v * W);
        } else {
            return V::load(weights + v * W);
        }
    }

    // The causal depthwise convolution with SiLU, in place on u, the first half of uz (rows, 2 inner).
    void convolve(const BlockSizes& s, const Ring& taps, std::int64_t now, const float* begins, float* uz) {
        const std::int64_t inner = padded(s.inner);
        const float* const bias = take(inner);
        const float* const weights = take(s.conv * inner);  // oldest frame first
        for (std::int64_t row = 0; row < rows_.count; ++row) {
            const std::int64_t lane = rows_.lanes[row];
            float* const u = uz + row * 2 * inner;
            float* const newest = taps.frame(now, 0, lane);
            const float* const of_newest = weights + (s.conv - 1) * inner;
            for (std::int64_t d = 0; d < inner; d += W) {
                V::store(newest + d, V::load(u + d));
                V::store(u + d, V::fma(V::load(u + d), V::load(of_newest + d), V::load(bias + d)));
            }
            for (std::int64_t age = 1; age < s.conv; ++age) {
                float* const past = taps.frame(now, age, lane);
                const float* const weight = of_newest - age * inner;
                if (begins[lane] != 0.0f) clear(past, inner);
                for (std::int64_t d = 0; d < inner; d += W) {
                    V::store(u + d, V::fma(V::load(past + d), V::load(weight + d), V::load(u + d)));
                }
            }
            for (std::int64_t d = 0; d < inner; d += W) V::store(u + d, silu(V::load(u + d)));
        }
    }

    // The selective scan's one step with the arithmetic of SimdScan, the state in place.
    // uz (rows, 2 inner), bc_dt (rows, x_proj_outputs); y (rows, inner) comes as delta and goes as the result.
    void scan(const BlockSizes& s, float* state, const float* begins, const float* uz, const float* bc_dt, float* y) {
        const std::int64_t inner = padded(s.inner), states = padded(s.states);
        const float* const skip = take(inner);
        const float* const rates = take(inner * states);  // A log2(e)
        alignas(64) float dt[W], dt_u[W], dot[W][W];
        for (std::int64_t d = 0; d < inner; d += W) {
            for (std::int64_t row = 0; row < rows_.count; ++row) {
                const std::int64_t lane = rows_.lanes[row];
                const float* const u = uz + row * 2 * inner + d;
                const float* const z = u + inner;
                const float* const B = bc_dt + row * x_proj_outputs(s);
                const float* const C = B + states;
                float* const delta = y + row * inner + d;
                float* h = state + (lane * inner + d) * states;
                if (begins[lane] != 0.0f) clear(h, W * states);

                V::store(dt, softplus(V::load(delta)));
                V::store(dt_u, V::mul(V::load(dt), V::load(u)));
                for (int channel = 0; channel < W; ++channel, h += states) {
                    const float* const rate = rates + (d + channel) * states;
                    const V dt_of_channel = V::set(dt[channel]), dt_u_of_channel = V::set(dt_u[channel]);
                    V sum = V::zero();
                    for (std::int64_t line = 0; line < states; line += kPad) {
                        fetch_ahead(h + line);
                        if (row == 0) fetch_ahead(rate + line);
                        for (std::int64_t n = line; n < line + kPad; n += W) {
                            const V next = decay_and_add(V::load(h + n), V::mul(dt_of_channel, V::load(rate + n)),
                                                         V::mul(dt_u_of_channel, V::load(B + n)));
                            V::store(h + n, next);
                            sum = V::fma(next, V::load(C + n), sum);
                        }
                    }
                    V::store(dot[channel], sum);
                }
                const V sum = V::fma(V::load(skip + d), V::load(u), V::sum_rows(dot[0]));
                V::store(delta, V::mul(sum, silu(V::load(z))));
            }
        }
    }

    // Brings a cache line towards the core before it is needed. Hardware prefetch stops at every page and between
    // layers: without this a step takes 1.1 to 1.4 times as long, the more of the network has left the last-level
    // cache. It may point past the end: prefetching never faults.
    static void fetch_ahead(const float* p) { __builtin_prefetch(p + kAhead); }

    static void clear(float* p, std::int64_t count) {
        for (std::int64_t i = 0; i < count; i += W) V::store(p + i, V::zero());
    }

    static constexpr std::int64_t kAhead = 1024;   // floats, a page
    static constexpr float kLayerNormEps = 1e-5f;  // torch's default, which the published networks use

    const float* weights_;  // the next to be read
    const MatrixFormat format_;
    Rows rows_;
};

}  // namespace
}  // namespace metst
