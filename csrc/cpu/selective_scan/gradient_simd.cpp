// The gradient of one row of a batch over a vector wrapper V: per channel, forward over time for states and decays, then back.
//
// What does not depend on N is vectorised over a block of channels, a cache line of them; the state over N, one channel
// at a time. The dot products over N leave one vector a step; those of kWidth steps are summed together by a transposing
// add. B, C and their gradients lie in the scratch, aligned and padded: half of the vectors that NumPy's arrays hold
// cross a cache line, which costs a third of the speed.
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
        for (std::int64_t t = 0; t < a_.length; ++t) {
            copy(s_.B + t * s_.stride, a_.B + t * a_.states, a_.states);
            copy(s_.C + t * s_.stride, a_.C + t * a_.states, a_.states);
        }
        for (std::int64_t d = 0; d < a_.channels; d += kChannels) {
            block(d, static_cast<int>(a_.channels - d < kChannels ? a_.channels - d : kChannels));
        }
        for (std::int64_t t = 0; t < a_.length; ++t) {
            copy(a_.grad_B + t * a_.states, s_.grad_B + t * s_.stride, a_.states);
            copy(a_.grad_C + t * a_.states, s_.grad_C + t * s_.stride, a_.states);
        }
    }

private:
    static constexpr int W = V::kWidth;
    static constexpr int kGroup = V::kGroup;
    static constexpr int kChannels = ScanGradientScratch::kChannels;
    static_assert(kGroup * W <= ScanGradientScratch::kState, "the scratch holds a walk's states");

    static void copy(float* to, const float* from, std::int64_t count) {
        for (std::int64_t i = 0; i < count; ++i) to[i] = from[i];
    }

    void block(std::int64_t d, int count) {
        prepare(d, count);
        for (int c = 0; c < count; ++c) {
            std::int64_t n = 0;
            for (; n + kGroup * W <= a_.states; n += kGroup * W) walk<kGroup>(d, c, n);
            for (; n < a_.states; n += W) walk<1>(d, c, n);
        }
        finish(d, count);
    }

    void prepare(std::int64_t d, int count) {
        for (std::int64_t t = 0; t < a_.length; ++t) {
            for (int c = 0; c < count; c += W) {
                const std::int64_t in_block = t * kChannels + c;
                const int lanes = count - c < W ? count - c : W;
                const auto load = [&](const float* p) { return V::load_first(p + t * a_.channels + d + c, lanes); };
                const V dt = softplus(V::add(load(a_.delta), V::load_first(a_.delta_bias + d + c, lanes)));
                V::store(s_.dt + in_block, dt);
                V::store(s_.x + in_block, V::mul(dt, load(a_.u)));
                V::store(s_.q + in_block, V::mul(load(a_.grad_y), silu(load(a_.z))));
                V::store(s_.h_c + in_block, V::zero());
                V::store(s_.g_b + in_block, V::zero());
                V::store(s_.p_a + in_block, V::zero());
            }
        }
    }

    void finish(std::int64_t d, int count) {
        const V one = V::set(1.0f);
        for (int c = 0; c < count; c += W) {
            const int lanes = count - c < W ? count - c : W;
            const V skip = V::load_first(a_.D + d + c, lanes), bias = V::load_first(a_.delta_bias + d + c, lanes);
            V by_skip = V::zero(), by_bias = V::zero();
            for (std::int64_t t = 0; t < a_.length; ++t) {
                const std::int64_t i = t * a_.channels + d + c, in_block = t * kChannels + c;
                const V u = V::load_first(a_.u + i, lanes), z = V::load_first(a_.z + i, lanes);
                const V q = V::load(s_.q + in_block), g_b = V::load(s_.g_b + in_block);

                const V open = sigmoid(z), ungated = V::fma(skip, u, V::load(s_.h_c + in_block));
                const V slope = V::mul(open, V::fma(z, V::sub(one, open), one));  // of silu
                const V by_z = V::mul(V::load_first(a_.grad_y + i, lanes), V::mul(ungated, slope));
                V::store_first(a_.grad_z + i, by_z, lanes);

                const V by_dt = V::fma(g_b, u, V::mul(V::load(s_.p_a + in_block), V::set(kLn2)));
                const V by_delta = V::mul(by_dt, sigmoid(V::add(V::load_first(a_.delta + i, lanes), bias)));
                V::store_first(a_.grad_delta + i, by_delta, lanes);
                V::store_first(a_.grad_u + i, V::fma(skip, q, V::mul(g_b, V::load(s_.dt + in_block))), lanes);
                by_skip = V::fma(q, u, by_skip);
                by_bias = V::add(by_bias, by_delta);
            }
            V::store_first(a_.grad_D + d + c, by_skip, lanes);
            V::store_first(a_.grad_delta_bias + d + c, by_bias, lanes);
        }
    }

    // Takes `Vectors` vectors of one channel's state, from n on, through time and back. Lanes behind the last state stay
    // at zero. Pointers are copied first: the compiler takes a stored vector for one that may change any member.
    template <int Vectors>
    void walk(std::int64_t d, int c, std::int64_t n) {
        const ScanGradientScratch s = s_;
        const std::int64_t length = a_.length, of_state = (d + c) * a_.states + n;
        const int lanes = static_cast<int>(a_.states - n < W ? a_.states - n : W);

        V rate[Vectors], h[Vectors];
        for (int k = 0; k < Vectors; ++k) {
            rate[k] = V::mul(V::load_first(a_.A + of_state + k * W, lanes), V::set(kLog2E));
            h[k] = a_.h0 ? V::load_first(a_.h0 + of_state + k * W, lanes) : V::zero();
            V::store(s.h + k * W, h[k]);
        }
        for (std::int64_t t = 0; t < length; ++t) {
            const V dt = V::set(s.dt[t * kChannels + c]), x = V::set(s.x[t * kChannels + c]);
            V h_c = V::zero();
            for (int k = 0; k < Vectors; ++k) {
                const std::int64_t in_row = t * s.stride + n + k * W, in_walk = (t * Vectors + k) * W;
                const V decay = exp2(V::mul(dt, rate[k]));
                h[k] = V::fma(decay, h[k], V::mul(x, V::load(s.B + in_row)));
                h_c = V::fma(h[k], V::load(s.C + in_row), h_c);
                V::store(s.decay + in_walk, decay);
                V::store(s.h + in_walk + Vectors * W, h[k]);
            }
            V::store(rows_[0][t % W], h_c);
            if (t % W == W - 1 || t == length - 1) add_rows(0, s.h_c + t / W * W * kChannels + c);
        }

        V g[Vectors], by_A[Vectors];
        for (int k = 0; k < Vectors; ++k) {
            g[k] = a_.grad_h ? V::load_first(a_.grad_h + of_state + k * W, lanes) : V::zero();
            by_A[k] = V::zero();
        }
        for (std::int64_t t = length - 1; t >= 0; --t) {
            const std::int64_t in_block = t * kChannels + c;
            const V dt = V::set(s.dt[in_block]), x = V::set(s.x[in_block]), q = V::set(s.q[in_block]);
            V g_b = V::zero(), p_a = V::zero();
            for (int k = 0; k < Vectors; ++k) {
                const std::int64_t in_row = t * s.stride + n + k * W, in_walk = (t * Vectors + k) * W;
                const V before = V::load(s.h + in_walk), after = V::load(s.h + in_walk + Vectors * W);
                g[k] = V::fma(q, V::load(s.C + in_row), g[k]);
                V::store(s.grad_C + in_row, V::fma(q, after, V::load(s.grad_C + in_row)));
                V::store(s.grad_B + in_row, V::fma(x, g[k], V::load(s.grad_B + in_row)));
                g_b = V::fma(g[k], V::load(s.B + in_row), g_b);
                g[k] = V::mul(g[k], V::load(s.decay + in_walk));
                const V p = V::mul(g[k], before);
                by_A[k] = V::fma(p, dt, by_A[k]);
                p_a = V::fma(p, rate[k], p_a);
            }
            V::store(rows_[0][t % W], g_b);
            V::store(rows_[1][t % W], p_a);
            if (t % W == 0) {
                add_rows(0, s.g_b + in_block);
                add_rows(1, s.p_a + in_block);
            }
        }
        for (int k = 0; k < Vectors; ++k) {
            V::store_first(a_.grad_A + of_state + k * W, by_A[k], lanes);
            if (a_.grad_h0) V::store_first(a_.grad_h0 + of_state + k * W, g[k], lanes);
        }
    }

    // The sums of steps behind the last one are of what was there before; nobody reads them.
    void add_rows(int which, float* sums) {
        float of_steps[W];
        V::store(of_steps, V::sum_rows(rows_[which][0]));
        for (int i = 0; i < W; ++i) sums[i * kChannels] += of_steps[i];
    }

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
