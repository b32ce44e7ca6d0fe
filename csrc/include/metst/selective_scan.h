// The selective scan of a Mamba layer on the CPU: the one definition of its axes, optional inputs and state.
// Raw pointers and sizes only; knows no Python and no framework.
//
//   dt[b,t,d]  = softplus(delta[b,t,d] + delta_bias[d])                       (softplus only when delta_softplus)
//   h[b,d,n]   = exp(dt[b,t,d] * A[d,n]) * h[b,d,n] + dt[b,t,d] * B[b,t,n] * u[b,t,d]          for t = 0 .. L-1
//   y[b,t,d]   = (sum_n h[b,d,n] * C[b,t,n] + D[d] * u[b,t,d]) * silu(z[b,t,d])
//
// Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", arXiv 2312.00752, algorithm 2, with
// the simplified discretisation of B that the published implementation uses.
#pragma once

#include <cstdint>

#include "metst/cpu_features.h"

namespace metst {

// Every array is float32, dense, last axis fastest.
struct SelectiveScanArgs {
    std::int64_t batch = 0;     // B >= 0
    std::int64_t length = 0;    // L >= 0; with 0 the state passes through and y is empty
    std::int64_t channels = 0;  // D >= 0
    std::int64_t states = 0;    // N >= 0

    const float* u = nullptr;           // (B, L, D)
    const float* delta = nullptr;       // (B, L, D)
    const float* A = nullptr;           // (D, N), negative in every model; other values follow the formula too
    const float* B = nullptr;           // (B, L, N)
    const float* C = nullptr;           // (B, L, N)
    const float* D = nullptr;           // (D)        null: no skip term
    const float* z = nullptr;           // (B, L, D)  null: no gate
    const float* delta_bias = nullptr;  // (D)        null: zero
    const float* h0 = nullptr;          // (B, D, N)  null: zero; may be h itself, for a state updated in place
    bool delta_softplus = true;

    float* y = nullptr;  // (B, L, D)  overlaps no input
    float* h = nullptr;  // (B, D, N)  the state after the last step; overlaps no input but h0
};

enum class Status {
    kOk,
    kBadSize,          // a size is negative
    kNullPointer,      // a required array of non-zero size is null
    kUnavailablePath,  // the path was not compiled in, or this CPU lacks it
};

// Runs the scan on the calling thread, without allocating. Float32 throughout, the state included. Decays below 2^-126
// count as zero, and subnormal numbers are flushed, so a fading state never slows the loop down.
Status selective_scan(const SelectiveScanArgs& args, SimdPath path = SimdPath::kAuto);

}  // namespace metst
