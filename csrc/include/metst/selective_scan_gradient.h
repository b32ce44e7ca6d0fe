// The gradient of metst/selective_scan.h on the CPU, for training. Raw pointers and sizes only; knows no Python and no
// framework.
//
// With s = delta + delta_bias, dt = softplus(s), x = dt u, and q_t = grad_y_t silu(z_t), the loss's gradient by the dot
// product h_t . C_t, what reaches the state is
//
//   g_t = q_t C_t + exp(dt_(t+1) A) g_(t+1),  from g_(L-1) = q_(L-1) C_(L-1) + grad_h  back to grad_h0 = exp(dt_0 A) g_0
//
// and with p_t = g_t exp(dt_t A) h_(t-1), the gradient by dt_t A, sums over the axes that are not the result's:
//
//   C_t: q_t h_t    B_t: x_t g_t    A: dt_t p_t    D: q_t u_t    u_t: D q_t + dt_t (g_t . B_t)
//   delta_t, delta_bias: (u_t (g_t . B_t) + A . p_t) sigmoid(s_t)    z_t: grad_y_t (h_t . C_t + D u_t) silu'(z_t)
#pragma once

#include <cstdint>

#include "metst/selective_scan.h"

namespace metst {

// Every array is float32, dense, last axis fastest. No output overlaps anything else.
struct SelectiveScanGradientArgs {
    std::int64_t batch = 0;     // B >= 0, below 2^31
    std::int64_t length = 0;    // L >= 0
    std::int64_t channels = 0;  // D >= 0
    std::int64_t states = 0;    // N >= 0

    const float* u = nullptr;           // (B, L, D)  as they went into the scan
    const float* delta = nullptr;       // (B, L, D)  before its bias and the softplus
    const float* A = nullptr;           // (D, N)
    const float* B = nullptr;           // (B, L, N)
    const float* C = nullptr;           // (B, L, N)
    const float* D = nullptr;           // (D)
    const float* z = nullptr;           // (B, L, D)
    const float* delta_bias = nullptr;  // (D)
    const float* h0 = nullptr;          // (B, D, N)  null: zero
    const float* grad_y = nullptr;      // (B, L, D)  of the loss, by y
    const float* grad_h = nullptr;      // (B, D, N)  by the last state; null: zero

    float* grad_u = nullptr;           // (B, L, D)
    float* grad_delta = nullptr;       // (B, L, D)
    float* grad_A = nullptr;           // (D, N)
    float* grad_B = nullptr;           // (B, L, N)
    float* grad_C = nullptr;           // (B, L, N)
    float* grad_D = nullptr;           // (D)
    float* grad_z = nullptr;           // (B, L, D)
    float* grad_delta_bias = nullptr;  // (D)
    float* grad_h0 = nullptr;          // (B, D, N)  null: not wanted
};

// Runs on the calling thread and up to threads - 1 others, in float32; the bits do not depend on how many. States and
// decays are computed again, one channel at a time, since they then stay in the cache; those of a whole batch would come
// from memory. Throws std::bad_alloc.
Status selective_scan_gradient(const SelectiveScanGradientArgs& args, int threads = 1, SimdPath path = SimdPath::kAuto);

}  // namespace metst
