// The network step over a vector wrapper V. Layers take their weights from one pointer that runs through the packed
// network, and the blocks their state from another that runs through the stream: both are read front to back.
//
// With two lanes the network of dim 64 reads 2.6 MB of weights and 0.8 MB of state a step, that of dim 128 7.7 and 1.6:
// more than a second-level cache holds, so the time is that of streaming them. A 2.5 GHz Cascade Lake core reads
// 22 GB/s from its last-level cache and 10 from memory: bounds of 0.15 and 0.42 ms, or 0.34 and 0.93. With AVX-512 a
// step takes 0.18 and 0.53 ms where the network stayed in the cache, 0.3 to 0.4 and 1.0 where other work displaced it.
#include <cstdint>

#include "network/layout.h"
#include "network/metst.h"
#include "simd/math.h"
#include "simd/simd.h"

namespace metst {
namespace {

template <class V>
class SimdNetworkStep {
public:
    explicit SimdNetworkStep(const NetworkStepArgs& args)
        : a_(args),
          s_(a_.sizes),
          dim_(padded(s_.dim)),
          inner_(padded(s_.inner)),
          states_(padded(s_.states)),
          weights_(args.packed),
          stream_(args.stream) {}

    void run() {
        workspace_ = a_.stream + remembered_size(s_, a_.lanes);
        float* const row = work(stem_row_size(s_));
        float* const x = work(dim_);
        float* const n = work(dim_);
        float* const uz = work(2 * inner_);
        float* const bc_dt = work(x_proj_outputs(s_));
        float* const y = work(inner_);
        float* const scores = work(padded(1 + s_.classes));

        float* const resets = remember(resets_size(a_.lanes));
        for (std::int64_t lane = 0; lane < a_.lanes; ++lane) {
            resets[slot(0, kStemTaps) * a_.lanes + lane] = a_.reset[lane] ? 1.0f : 0.0f;
        }
        const float* const now = resets + slot(0, kStemTaps) * a_.lanes;
        const float* const one_ago = resets + slot(1, kStemTaps) * a_.lanes;
        const float* const two_ago = resets + slot(2, kStemTaps) * a_.lanes;

        stem(a_.features, s_.channels, s_.channels, one_ago, now, row, x);
        stem(x, s_.dim, dim_, two_ago, one_ago, row, x);
        for (std::int64_t i = 0; i < s_.depth; ++i) {
            layer_norm(x, n);
            linear(n, dim_, s_.dim, uz, 2 * inner_);
            convolve(uz, two_ago);
            linear(uz, 2 * inner_, s_.inner, bc_dt, x_proj_outputs(s_));
            linear(bc_dt + 2 * states_, x_proj_outputs(s_), s_.rank, y, inner_);
            scan(uz, bc_dt, two_ago, y);
            linear(y, inner_, s_.inner, n, dim_);
            layer_norm(n, n);
            for (std::int64_t j = 0; j < a_.lanes * dim_; j += W) {
                V::store(x + j, V::add(V::load(x + j), V::load(n + j)));
            }
        }
        linear(x, dim_, s_.dim, scores, padded(1 + s_.classes));
        for (std::int64_t lane = 0; lane < a_.lanes; ++lane) {
            const float* of_lane = scores + lane * padded(1 + s_.classes);
            alignas(64) float spot[W];
            V::store(spot, sigmoid(V::load(of_lane)));
            a_.spot[lane] = spot[0];
            for (std::int64_t c = 0; c < s_.classes; ++c) a_.emotion[lane * s_.classes + c] = of_lane[1 + c];
        }
    }

private:
    static constexpr int W = V::kWidth;
    static_assert(kPad % W == 0, "no loop has a tail");

    const float* take(std::int64_t count) {
        const float* part = weights_;
        weights_ += count;
        return part;
    }
    float* remember(std::int64_t count) {
        float* part = stream_;
        stream_ += count;
        return part;
    }
    float* work(std::int64_t count_per_lane) {
        float* part = workspace_;
        workspace_ += a_.lanes * count_per_lane;
        return part;
    }

    // Where the frame of `age` steps ago lies in a ring.
    std::int64_t slot(std::int64_t age, std::int64_t length) const { return (a_.fed + length - age) % length; }

    // Pushes the newest frame and convolves around the one before it, with ReLU: newest (lanes, stride) -> y (lanes,
    // dim). Where that frame is the `first` of its window, the one before belongs to another window, and where the
    // newest comes `after_last`, so does that: both are the convolution's zero padding then.
    void stem(const float* newest, std::int64_t inputs, std::int64_t stride, const float* first,
              const float* after_last, float* row, float* y) {
        float* const ring = remember(stem_ring_size(a_.lanes, inputs));
        for (std::int64_t lane = 0; lane < a_.lanes; ++lane) {
            const auto frame = [&](std::int64_t age) {
                return ring + (slot(age, kStemTaps) * a_.lanes + lane) * padded(inputs);
            };
            float* const current = frame(0);
            const float* const one_ago = frame(1);
            const float* const two_ago = frame(2);
            float* const seen = row + lane * stem_row_size(s_);
            for (std::int64_t i = 0; i < inputs; ++i) {
                current[i] = newest[lane * stride + i];
                seen[i] = first[lane] != 0.0f ? 0.0f : two_ago[i];
                seen[inputs + i] = one_ago[i];
                seen[2 * inputs + i] = after_last[lane] != 0.0f ? 0.0f : current[i];
            }
        }
        linear(row, stem_row_size(s_), kStemTaps * inputs, y, dim_);
        for (std::int64_t i = 0; i < a_.lanes * dim_; i += W) V::store(y + i, V::max(V::load(y + i), V::zero()));
    }

    // x (lanes, dim) -> y, which may be x.
    void layer_norm(const float* x, float* y) {
        const float* const weight = take(dim_);
        const float* const bias = take(dim_);
        const float size = static_cast<float>(s_.dim);
        for (std::int64_t lane = 0; lane < a_.lanes; ++lane, x += dim_, y += dim_) {
            V sum = V::zero();
            for (std::int64_t i = 0; i < dim_; i += W) sum = V::add(sum, V::load(x + i));
            const V mean = V::set(V::sum(sum) / size);
            for (std::int64_t i = 0; i < dim_; i += W) V::store(y + i, V::sub(V::load(x + i), mean));
            for (std::int64_t i = s_.dim; i < dim_; ++i) y[i] = 0.0f;
            V squares = V::zero();
            for (std::int64_t i = 0; i < dim_; i += W) squares = V::fma(V::load(y + i), V::load(y + i), squares);
            const V deviation = V::sqrt(V::set(V::sum(squares) / size + kLayerNormEps));
            for (std::int64_t i = 0; i < dim_; i += W) {
                V::store(y + i, V::fma(V::div(V::load(y + i), deviation), V::load(weight + i), V::load(bias + i)));
            }
        }
    }

    // x (lanes, x_stride), of which the first `inputs` are read -> y (lanes, outputs), with outputs padded.
    void linear(const float* x, std::int64_t x_stride, std::int64_t inputs, float* y, std::int64_t outputs) {
        for (std::int64_t first = 0; first < outputs; first += kPad) {
            const float* const panel = take((1 + inputs) * kPad);
            for (std::int64_t lane = 0; lane < a_.lanes; lane += 2) {
                const float* const in = x + lane * x_stride;
                float* const out = y + lane * outputs + first;
                if (lane + 1 < a_.lanes) {
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
    void convolve(float* uz, const float* begins) {
        const float* const bias = take(inner_);
        const float* const weights = take(s_.conv * inner_);  // oldest frame first
        float* const ring = remember(taps_size(s_, a_.lanes));
        for (std::int64_t lane = 0; lane < a_.lanes; ++lane) {
            float* const u = uz + lane * 2 * inner_;
            const auto frame = [&](std::int64_t age) {
                return ring + (slot(age, s_.conv) * a_.lanes + lane) * inner_;
            };
            float* const newest = frame(0);
            const float* const of_newest = weights + (s_.conv - 1) * inner_;
            for (std::int64_t d = 0; d < inner_; d += W) {
                V::store(newest + d, V::load(u + d));
                V::store(u + d, V::fma(V::load(u + d), V::load(of_newest + d), V::load(bias + d)));
            }
            for (std::int64_t age = 1; age < s_.conv; ++age) {
                float* const past = frame(age);
                const float* const weight = of_newest - age * inner_;
                if (begins[lane] != 0.0f) clear(past, inner_);
                for (std::int64_t d = 0; d < inner_; d += W) {
                    V::store(u + d, V::fma(V::load(past + d), V::load(weight + d), V::load(u + d)));
                }
            }
            for (std::int64_t d = 0; d < inner_; d += W) V::store(u + d, silu(V::load(u + d)));
        }
    }

    // The selective scan's one step with the arithmetic of SimdScan, the state in place.
    // uz (lanes, 2 inner), bc_dt (lanes, x_proj_outputs); y (lanes, inner) comes as delta and goes as the result.
    void scan(const float* uz, const float* bc_dt, const float* begins, float* y) {
        const float* const skip = take(inner_);
        const float* const rates = take(inner_ * states_);  // A log2(e)
        float* const state = remember(state_size(s_, a_.lanes));
        const std::int64_t states = states_;  // a local: a store could change a member
        alignas(64) float dt[W], dt_u[W], dot[W][W];
        for (std::int64_t d = 0; d < inner_; d += W) {
            for (std::int64_t lane = 0; lane < a_.lanes; ++lane) {
                const float* const u = uz + lane * 2 * inner_ + d;
                const float* const z = u + inner_;
                const float* const B = bc_dt + lane * x_proj_outputs(s_);
                const float* const C = B + states_;
                float* const delta = y + lane * inner_ + d;
                float* h = state + (lane * inner_ + d) * states_;
                if (begins[lane] != 0.0f) clear(h, W * states_);

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

    static constexpr std::int64_t kAhead = 1024;     // floats, a page
    static constexpr float kLayerNormEps = 1e-5f;  // torch's default, which the published networks use

    const NetworkStepArgs a_;
    const NetworkSizes& s_;
    const std::int64_t dim_, inner_, states_;  // padded
    const float* weights_;  // the next to be read
    float* stream_;         // the next part that is remembered
    float* workspace_ = nullptr;
};

}  // namespace

template <>
void network_step_on<kPath>(const NetworkStepArgs& args) {
    SimdNetworkStep<Simd>(args).run();
}

}  // namespace metst
