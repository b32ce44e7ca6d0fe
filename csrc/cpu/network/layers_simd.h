// The layers of a network's step over a vector wrapper V, for several lanes at once. Which layers there are and in
// which order is a network's own (metst_simd.cpp).
//
// A layer takes its weights from one pointer that runs through the packed network front to back (layout.h); what it
// remembers is handed to it (state.h). Arrays of a layer are (lanes, values) with the values padded, unless said.
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
    // now: the index of the frame that is fed, for what is remembered in rings.
    Layers(const float* packed, std::int64_t lanes, std::int64_t now) : weights_(packed), lanes_(lanes), now_(now) {}

    // Pushes the newest frame and convolves around the one before it, with ReLU: newest (lanes, stride) -> y. Where
    // that frame is the `first` of its window (1, else 0; one a lane), the one before belongs to another window, and
    // where the newest comes `after_last`, so does that: both are the convolution's zero padding then. row: (lanes, 3
    // inputs), to work in. y may be newest.
    void stem_convolution(const Ring& remembered, const float* newest, std::int64_t stride, std::int64_t inputs,
                          const float* first, const float* after_last, float* row, float* y, std::int64_t outputs) {
        const std::int64_t row_size = padded(kStemTaps * inputs);
        for (std::int64_t lane = 0; lane < lanes_; ++lane) {
            float* const current = remembered.frame(now_, 0, lane);
            const float* const one_ago = remembered.frame(now_, 1, lane);
            const float* const two_ago = remembered.frame(now_, 2, lane);
            float* const seen = row + lane * row_size;
            for (std::int64_t i = 0; i < inputs; ++i) {
                current[i] = newest[lane * stride + i];
                seen[i] = first[lane] != 0.0f ? 0.0f : two_ago[i];
                seen[inputs + i] = one_ago[i];
                seen[2 * inputs + i] = after_last[lane] != 0.0f ? 0.0f : current[i];
            }
        }
        linear(row, row_size, kStemTaps * inputs, y, padded(outputs));
        for (std::int64_t i = 0; i < lanes_ * padded(outputs); i += W) {
            V::store(y + i, V::max(V::load(y + i), V::zero()));
        }
    }

    // x += norm(mamba(norm(x))), from a zero state in the lanes where the frame `begins` a window (1, else 0).
    void mamba_block(const BlockSizes& s, const BlockState& state, const BlockWork& work, const float* begins,
                     float* x) {
        const std::int64_t dim = padded(s.dim), inner = padded(s.inner), states = padded(s.states);
        layer_norm(x, s.dim, work.n);
        linear(work.n, dim, s.dim, work.uz, 2 * inner);
        convolve(s, state.taps, begins, work.uz);
        linear(work.uz, 2 * inner, s.inner, work.bc_dt, x_proj_outputs(s));
        linear(work.bc_dt + 2 * states, x_proj_outputs(s), s.rank, work.y, inner);
        scan(s, state.state, begins, work.uz, work.bc_dt, work.y);
        linear(work.y, inner, s.inner, work.n, dim);
        layer_norm(work.n, s.dim, work.n);
        for (std::int64_t i = 0; i < lanes_ * dim; i += W) {
            V::store(x + i, V::add(V::load(x + i), V::load(work.n + i)));
        }
    }

    // x -> spot (lanes), 0 to 1, and emotion (lanes, classes), not padded. scores: (lanes, 1 + classes), to work in.
    void heads(const float* x, std::int64_t inputs, std::int64_t classes, float* scores, float* spot, float* emotion) {
        const std::int64_t outputs = padded(1 + classes);
        linear(x, padded(inputs), inputs, scores, outputs);
        for (std::int64_t lane = 0; lane < lanes_; ++lane) {
            const float* const of_lane = scores + lane * outputs;
            alignas(64) float first[W];
            V::store(first, sigmoid(V::load(of_lane)));
            spot[lane] = first[0];
            for (std::int64_t c = 0; c < classes; ++c) emotion[lane * classes + c] = of_lane[1 + c];
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

    // x (lanes, size) -> y, which may be x.
    void layer_norm(const float* x, std::int64_t size, float* y) {
        const std::int64_t width = padded(size);
        const float* const weight = take(width);
        const float* const bias = take(width);
        const float count = static_cast<float>(size);
        for (std::int64_t lane = 0; lane < lanes_; ++lane, x += width, y += width) {
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

    // x (lanes, x_stride), of which the first `inputs` are read -> y (lanes, outputs), with outputs padded.
    void linear(const float* x, std::int64_t x_stride, std::int64_t inputs, float* y, std::int64_t outputs) {
        for (std::int64_t first = 0; first < outputs; first += kPad) {
            const float* const panel = take((1 + inputs) * kPad);
            for (std::int64_t lane = 0; lane < lanes_; lane += 2) {
                const float* const in = x + lane * x_stride;
                float* const out = y + lane * outputs + first;
                if (lane + 1 < lanes_) {
                    multiply<2>(panel, in, x_stride, inputs, out, outputs);
                } else {
                    multiply<1>(panel, in, x_stride, inputs, out, outputs);
                }
            }
        }
    }

    // One panel. Each weight is loaded once for both lanes. Sums stay in registers, several to an output: enough to
    // hide the latency of a multiply-add, and short enough to keep rounding errors down.
    template <int Lanes>
    static void multiply(const float* weights, const float* x, std::int64_t x_stride, std::int64_t inputs, float* y,
                         std::int64_t y_stride) {
        constexpr int Vectors = kPad / W;
        constexpr int kSums = Vectors * Lanes >= 4 ? 2 : 8 / (Vectors * Lanes);
        V sums[kSums][Lanes][Vectors];
        for (int k = 0; k < kSums; ++k) {
            for (int lane = 0; lane < Lanes; ++lane) {
                for (int v = 0; v < Vectors; ++v) sums[k][lane][v] = k ? V::zero() : V::load(weights + v * W);
            }
        }
        weights += Vectors * W;
        const auto add = [&](int k, std::int64_t i) {
            fetch_ahead(weights);
            V in[Lanes];
            for (int lane = 0; lane < Lanes; ++lane) in[lane] = V::set(x[lane * x_stride + i]);
            for (int v = 0; v < Vectors; ++v) {
                const V weight = V::load(weights + v * W);
                for (int lane = 0; lane < Lanes; ++lane) sums[k][lane][v] = V::fma(in[lane], weight, sums[k][lane][v]);
            }
            weights += Vectors * W;
        };
        std::int64_t i = 0;
        for (; i + kSums <= inputs; i += kSums) {
            for (int k = 0; k < kSums; ++k) add(k, i + k);
        }
        for (; i < inputs; ++i) add(0, i);
        for (int lane = 0; lane < Lanes; ++lane) {
            for (int v = 0; v < Vectors; ++v) {
                V sum = sums[0][lane][v];
                for (int k = 1; k < kSums; ++k) sum = V::add(sum, sums[k][lane][v]);
                V::store(y + lane * y_stride + v * W, sum);
            }
        }
    }

    // The causal depthwise convolution with SiLU, in place on u, the first half of uz (lanes, 2 inner).
    void convolve(const BlockSizes& s, const Ring& taps, const float* begins, float* uz) {
        const std::int64_t inner = padded(s.inner);
        const float* const bias = take(inner);
        const float* const weights = take(s.conv * inner);  // oldest frame first
        for (std::int64_t lane = 0; lane < lanes_; ++lane) {
            float* const u = uz + lane * 2 * inner;
            float* const newest = taps.frame(now_, 0, lane);
            const float* const of_newest = weights + (s.conv - 1) * inner;
            for (std::int64_t d = 0; d < inner; d += W) {
                V::store(newest + d, V::load(u + d));
                V::store(u + d, V::fma(V::load(u + d), V::load(of_newest + d), V::load(bias + d)));
            }
            for (std::int64_t age = 1; age < s.conv; ++age) {
                float* const past = taps.frame(now_, age, lane);
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
    // uz (lanes, 2 inner), bc_dt (lanes, x_proj_outputs); y (lanes, inner) comes as delta and goes as the result.
    void scan(const BlockSizes& s, float* state, const float* begins, const float* uz, const float* bc_dt, float* y) {
        const std::int64_t inner = padded(s.inner), states = padded(s.states);
        const float* const skip = take(inner);
        const float* const rates = take(inner * states);  // A log2(e)
        alignas(64) float dt[W], dt_u[W], dot[W][W];
        for (std::int64_t d = 0; d < inner; d += W) {
            for (std::int64_t lane = 0; lane < lanes_; ++lane) {
                const float* const u = uz + lane * 2 * inner + d;
                const float* const z = u + inner;
                const float* const B = bc_dt + lane * x_proj_outputs(s);
                const float* const C = B + states;
                float* const delta = y + lane * inner + d;
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
                        if (lane == 0) fetch_ahead(rate + line);
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
    const std::int64_t lanes_, now_;
};

}  // namespace
}  // namespace metst
