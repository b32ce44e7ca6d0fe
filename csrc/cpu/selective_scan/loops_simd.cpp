// The scan over a vector wrapper V: one fused pass, state contiguous in N and held in registers over a run of steps.
//
// Work is cut into blocks of kWidth channels by kSteps time steps. Per block dt, dt*u and the gate are vectorised
// over channels; the state over N, one channel at a time. The dot product with C leaves one vector per (step,
// channel); those of kWidth channels are summed together by a transposing add, a third of the work of one by one.
//
// Cost per vector of state: 9 multiplies and multiply-adds (5 of them the polynomial) and 6 other operations for range
// reduction and slow decays, with loads of B and C. On a Zen 5 core the AVX-512 loop sustains about two of these per
// cycle, 7 cycles per vector; the multiply-adds alone would allow 4.5. Without the care for slow decays it takes 6.
#include <cstdint>

#include "selective_scan/loops.h"
#include "simd/math.h"
#include "simd/simd.h"

namespace metst {
namespace {

template <class V>
class SimdScan {
public:
    explicit SimdScan(const SelectiveScanArgs& args) : a_(args) {}

    void run() {
        for (std::int64_t b = 0; b < a_.batch; ++b) {
            for (std::int64_t d = 0; d < a_.channels; d += W) {
                const int lanes = static_cast<int>(a_.channels - d < W ? a_.channels - d : W);
                for (std::int64_t t = 0; t < a_.length; t += kSteps) {
                    const int steps = static_cast<int>(a_.length - t < kSteps ? a_.length - t : kSteps);
                    block(b, t, steps, d, lanes);
                }
            }
        }
    }

private:
    static constexpr int W = V::kWidth;
    static constexpr int kSteps = 8;

    void block(std::int64_t b, std::int64_t t, int steps, std::int64_t d, int lanes) {
        const std::int64_t first = (b * a_.length + t) * a_.channels + d;  // of this block in u, delta, z and y
        const V bias = a_.delta_bias ? V::load_first(a_.delta_bias + d, lanes) : V::zero();
        for (int s = 0; s < steps; ++s) {
            const std::int64_t i = first + s * a_.channels;
            V dt = V::add(V::load_first(a_.delta + i, lanes), bias);
            if (a_.delta_softplus) dt = softplus(dt);
            V::store(dt_[s], dt);
            V::store(dt_u_[s], V::mul(dt, V::load_first(a_.u + i, lanes)));
            for (int lane = 0; lane < W; ++lane) V::store(dot_[s][lane], V::zero());
        }

        const std::int64_t step = b * a_.length + t;
        const float* B = a_.B + step * a_.states;
        const float* C = a_.C + step * a_.states;
        for (int lane = 0; lane < lanes; ++lane) {
            const float* A = a_.A + (d + lane) * a_.states;
            float* h = a_.h + (b * a_.channels + d + lane) * a_.states;
            std::int64_t n = 0;
            for (; n + V::kGroup * W <= a_.states; n += V::kGroup * W) {
                advance<V::kGroup, false>(lane, steps, A + n, B + n, C + n, h + n, W);
            }
            for (; n + W <= a_.states; n += W) {
                advance<1, false>(lane, steps, A + n, B + n, C + n, h + n, W);
            }
            if (n < a_.states) {
                advance<1, true>(lane, steps, A + n, B + n, C + n, h + n, static_cast<int>(a_.states - n));
            }
        }

        const V skip = a_.D ? V::load_first(a_.D + d, lanes) : V::zero();
        for (int s = 0; s < steps; ++s) {
            const std::int64_t i = first + s * a_.channels;
            V y = V::sum_rows(dot_[s][0]);
            if (a_.D) y = V::fma(skip, V::load_first(a_.u + i, lanes), y);
            if (a_.z) y = V::mul(y, silu(V::load_first(a_.z + i, lanes)));
            V::store_first(a_.y + i, y, lanes);
        }
    }

    // Takes `Vectors` vectors of one channel's state through the block's steps and adds to its dot products with C.
    // With Tail, only the first `count` lanes of the (single) vector exist; the others stay at zero.
    template <int Vectors, bool Tail>
    void advance(int lane, int steps, const float* A, const float* B, const float* C, float* h, int count) {
        static_assert(!Tail || Vectors == 1, "a tail is one vector");
        const auto load = [count](const float* p) { return Tail ? V::load_first(p, count) : V::load(p); };

        V state[Vectors], rate[Vectors];
        for (int k = 0; k < Vectors; ++k) {
            state[k] = load(h + k * W);
            rate[k] = V::mul(load(A + k * W), V::set(kLog2E));
        }
        for (int s = 0; s < steps; ++s) {
            const V dt = V::set(dt_[s][lane]);
            const V dt_u = V::set(dt_u_[s][lane]);
            V dot = V::load(dot_[s][lane]);
            for (int k = 0; k < Vectors; ++k) {
                state[k] = decay_and_add(state[k], V::mul(dt, rate[k]), V::mul(dt_u, load(B + k * W)));
                dot = V::fma(state[k], load(C + k * W), dot);
            }
            V::store(dot_[s][lane], dot);
            B += a_.states;
            C += a_.states;
        }
        for (int k = 0; k < Vectors; ++k) {
            if (Tail) {
                V::store_first(h + k * W, state[k], count);
            } else {
                V::store(h + k * W, state[k]);
            }
        }
    }

    const SelectiveScanArgs a_;
    alignas(64) float dt_[kSteps][W];
    alignas(64) float dt_u_[kSteps][W];
    alignas(64) float dot_[kSteps][W][W];  // still to be summed over the last axis
};

}  // namespace

template <>
void selective_scan_on<kPath>(const SelectiveScanArgs& args) {
    SimdScan<Simd>(args).run();
}

}  // namespace metst
