// The gradient of one row of a batch over a vector wrapper V: per channel, forward over time for states and decays, then back.
//
// Channels come in blocks of 16, a cache line of u, delta, z and grad_y, which are turned there so that a channel's time
// is contiguous: what does not depend on N is vectorised over time, the state over N. The dot products over N leave one
// vector a step; those of kWidth steps are summed together by a transposing add.
#include <cstdint>

#include "selective_scan/loops.h"
#include "simd/math.h"
#include "simd/simd.h"

namespace metst {
namespace {

template <class V>
class ScanGradient {
public:
    ScanGradient(const SelectiveScanGradientArgs& args, const ScanGradientScratch& scratch) : a_(args), s_(scratch) {}

    void run() {
        clear(a_.grad_B, a_.length * a_.states);
        clear(a_.grad_C, a_.length * a_.states);
        for (std::int64_t d = 0; d < a_.channels; d += kChannels) {
            block(d, a_.channels - d < kChannels ? a_.channels - d : kChannels);
        }
    }

private:
    static constexpr int W = V::kWidth;
    static constexpr int kGroup = V::kGroup;
    static constexpr std::int64_t kChannels = ScanGradientScratch::kChannels;
    static_assert(kGroup * W <= ScanGradientScratch::kState, "the scratch holds a walk's states");

    static void clear(float* p, std::int64_t count) {
        for (std::int64_t i = 0; i < count; ++i) p[i] = 0.0f;
    }

    void block(std::int64_t d, std::int64_t count) {
        const auto turn = [&](float* to, const float* from) {
            for (std::int64_t t = 0; t < a_.length; ++t) {
                for (std::int64_t c = 0; c < count; ++c) to[c * a_.length + t] = from[t * a_.channels + d + c];
            }
        };
        const auto turn_back = [&](float* to, const float* from) {
            for (std::int64_t t = 0; t < a_.length; ++t) {
                for (std::int64_t c = 0; c < count; ++c) to[t * a_.channels + d + c] = from[c * a_.length + t];
            }
        };
        turn(s_.u, a_.u);
        turn(s_.delta, a_.delta);
        turn(s_.z, a_.z);
        turn(s_.grad_y, a_.grad_y);
        for (std::int64_t c = 0; c < count; ++c) channel(d + c, c * a_.length);
        turn_back(a_.grad_u, s_.u);
        turn_back(a_.grad_delta, s_.delta);
        turn_back(a_.grad_z, s_.z);
    }

    // `row`: where the channel's time begins in s_.u, s_.delta, s_.z and s_.grad_y. The first three become their gradients.
    void channel(std::int64_t d, std::int64_t row) {
        prepare(d, row);
        std::int64_t n = 0;
        for (; n + kGroup * W <= a_.states; n += kGroup * W) walk<kGroup, false>(d, n, W);
        for (; n + W <= a_.states; n += W) walk<1, false>(d, n, W);
        if (n < a_.states) walk<1, true>(d, n, static_cast<int>(a_.states - n));
        finish(d, row);
    }

    int lanes_from(std::int64_t t) const { return static_cast<int>(a_.length - t < W ? a_.length - t : W); }

    void prepare(std::int64_t d, std::int64_t row) {
        for (std::int64_t t = 0; t < a_.length; t += W) {
            const int lanes = lanes_from(t);
            const auto load = [&](const float* p) { return V::load_first(p + row + t, lanes); };
            const V dt = softplus(V::add(load(s_.delta), V::set(a_.delta_bias[d])));
            V::store(s_.dt + t, dt);
            V::store(s_.x + t, V::mul(dt, load(s_.u)));
            V::store(s_.q + t, V::mul(load(s_.grad_y), silu(load(s_.z))));
            V::store(s_.h_c + t, V::zero());
            V::store(s_.g_b + t, V::zero());
            V::store(s_.p_a + t, V::zero());
        }
    }

    void finish(std::int64_t d, std::int64_t row) {
        const V skip = V::set(a_.D[d]), one = V::set(1.0f);
        V by_skip = V::zero(), by_bias = V::zero();
        for (std::int64_t t = 0; t < a_.length; t += W) {
            const int lanes = lanes_from(t);
            const auto load = [&](const float* p) { return V::load_first(p + t, lanes); };
            const V u = load(s_.u + row), z = load(s_.z + row), q = load(s_.q), g_b = load(s_.g_b);
            const V s = V::add(load(s_.delta + row), V::set(a_.delta_bias[d]));
            by_skip = V::fma(q, u, by_skip);
            const V by_delta = V::mul(V::fma(g_b, u, V::mul(load(s_.p_a), V::set(kLn2))), sigmoid(s));
            by_bias = V::add(by_bias, by_delta);
            const V open = sigmoid(z);
            const V slope = V::mul(open, V::fma(z, V::sub(one, open), one));  // of silu
            const V ungated = V::fma(skip, u, load(s_.h_c));
            V::store_first(s_.u + row + t, V::fma(skip, q, V::mul(g_b, load(s_.dt))), lanes);
            V::store_first(s_.delta + row + t, by_delta, lanes);
            V::store_first(s_.z + row + t, V::mul(load(s_.grad_y + row), V::mul(ungated, slope)), lanes);
        }
        a_.grad_D[d] = V::sum(by_skip);
        a_.grad_delta_bias[d] = V::sum(by_bias);
    }

    // Takes `Vectors` vectors of one channel's state from n on through time and back. With Tail, only the first `count`
    // lanes of the (single) vector exist; the others stay at zero.
    template <int Vectors, bool Tail>
    void walk(std::int64_t d, std::int64_t n, int count) {
        static_assert(!Tail || Vectors == 1, "a tail is one vector");
        const auto load = [count](const float* p) { return Tail ? V::load_first(p, count) : V::load(p); };
        const auto store = [count](float* p, V a) { Tail ? V::store_first(p, a, count) : V::store(p, a); };
        const std::int64_t of_state = d * a_.states + n;

        V rate[Vectors], h[Vectors];
        for (int k = 0; k < Vectors; ++k) {
            rate[k] = V::mul(load(a_.A + of_state + k * W), V::set(kLog2E));
            h[k] = a_.h0 ? load(a_.h0 + of_state + k * W) : V::zero();
            V::store(s_.h + k * W, h[k]);
        }
        for (std::int64_t t = 0; t < a_.length; ++t) {
            const V dt = V::set(s_.dt[t]), x = V::set(s_.x[t]);
            const float *B = a_.B + t * a_.states + n, *C = a_.C + t * a_.states + n;
            V h_c = V::zero();
            for (int k = 0; k < Vectors; ++k) {
                const V decay = exp2(V::mul(dt, rate[k]));
                h[k] = V::fma(decay, h[k], V::mul(x, load(B + k * W)));
                h_c = V::fma(h[k], load(C + k * W), h_c);
                V::store(s_.decay + (t * Vectors + k) * W, decay);
                V::store(s_.h + ((t + 1) * Vectors + k) * W, h[k]);
            }
            V::store(rows_[0][t % W], h_c);
            if (t % W == W - 1 || t == a_.length - 1) add_rows(s_.h_c + t / W * W, 0);
        }

        V g[Vectors], by_A[Vectors];
        for (int k = 0; k < Vectors; ++k) {
            g[k] = a_.grad_h ? load(a_.grad_h + of_state + k * W) : V::zero();
            by_A[k] = V::zero();
        }
        for (std::int64_t t = a_.length - 1; t >= 0; --t) {
            const V dt = V::set(s_.dt[t]), x = V::set(s_.x[t]), q = V::set(s_.q[t]);
            const std::int64_t step = t * a_.states + n;
            V g_b = V::zero(), p_a = V::zero();
            for (int k = 0; k < Vectors; ++k) {
                const float *before = s_.h + (t * Vectors + k) * W, *after = before + Vectors * W;
                float *grad_B = a_.grad_B + step + k * W, *grad_C = a_.grad_C + step + k * W;
                g[k] = V::fma(q, load(a_.C + step + k * W), g[k]);
                store(grad_C, V::fma(q, V::load(after), load(grad_C)));
                store(grad_B, V::fma(x, g[k], load(grad_B)));
                g_b = V::fma(g[k], load(a_.B + step + k * W), g_b);
                g[k] = V::mul(g[k], V::load(s_.decay + (t * Vectors + k) * W));
                const V p = V::mul(g[k], V::load(before));
                by_A[k] = V::fma(p, dt, by_A[k]);
                p_a = V::fma(p, rate[k], p_a);
            }
            V::store(rows_[0][t % W], g_b);
            V::store(rows_[1][t % W], p_a);
            if (t % W == 0) {
                add_rows(s_.g_b + t, 0);
                add_rows(s_.p_a + t, 1);
            }
        }
        for (int k = 0; k < Vectors; ++k) {
            store(a_.grad_A + of_state + k * W, by_A[k]);
            if (a_.grad_h0) store(a_.grad_h0 + of_state + k * W, g[k]);
        }
    }

    // Sums of steps behind the last one are of what was there before; nobody reads them.
    void add_rows(float* sums, int which) { V::store(sums, V::add(V::load(sums), V::sum_rows(rows_[which][0]))); }

    const SelectiveScanGradientArgs a_;
    const ScanGradientScratch s_;
    alignas(64) float rows_[2][W][W] = {};  // steps of a tile, still to be summed over the last axis
};

}  // namespace

template <>
void selective_scan_gradient_on<kPath>(const SelectiveScanGradientArgs& args, const ScanGradientScratch& scratch) {
    ScanGradient<Simd>(args, scratch).run();
}

}  // namespace metst
