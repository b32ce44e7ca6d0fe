// One block of a Mamba network: x += norm(mamba(norm(x))), where mamba is
//
//   (u, z) = x in_proj;  u = silu(conv(u));  (dt, B, C) = u x_proj;
//   y = selective scan (selective_scan.h) with delta = dt dt_proj, gated by z;  y out_proj
#pragma once

#include <cstdint>

namespace metst {

// Every size at least 1.
struct BlockSizes {
    std::int64_t dim = 0;
    std::int64_t inner = 0;  // channels inside
    std::int64_t states = 0;
    std::int64_t conv = 0;  // taps
    std::int64_t rank = 0;  // factors of the time step
};

// Every array is float32, dense, last axis fastest; linear maps are (in, out).
struct BlockWeights {
    const float* norm_weight = nullptr;       // (dim)
    const float* norm_bias = nullptr;         // (dim)
    const float* in_proj = nullptr;           // (dim, 2 inner), u before z
    const float* conv_weight = nullptr;       // (inner, conv), oldest frame first
    const float* conv_bias = nullptr;         // (inner)
    const float* x_proj = nullptr;            // (inner, rank + 2 states), time step, B, C
    const float* dt_proj = nullptr;           // (rank, inner)
    const float* dt_bias = nullptr;           // (inner)
    const float* A = nullptr;                 // (inner, states)
    const float* D = nullptr;                 // (inner)
    const float* out_proj = nullptr;          // (inner, dim)
    const float* post_norm_weight = nullptr;  // (dim)
    const float* post_norm_bias = nullptr;    // (dim)
};

}  // namespace metst
