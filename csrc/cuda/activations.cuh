// Functions of one value that several kernels need. Included by .cu files alone; internal linkage.
#pragma once

#include "launch.h"

namespace metst::cuda {
namespace {

constexpr float kLog2E = 1.44269504088896341f;

// log(1 + e^x) without loss at either end: max(x, 0) + log(1 + e), e = e^-|x|, the logarithm as 2 artanh(e / (2 + e))
// with a minimax series of relative error 4e-9.
__device__ inline float softplus(float x) {
    const float e = exp2f(-fabsf(x) * kLog2E);
    const float s = __fdividef(e, 2.0f + e);
    const float s2 = s * s;
    float p = 0.281783351f;
    p = fmaf(p, s2, 0.279606027f);
    p = fmaf(p, s2, 0.400249103f);
    p = fmaf(p, s2, 0.666663147f);
    p = fmaf(p, s2, 2.00000001f);
    return fmaxf(x, 0.0f) + s * p;
}

// x / (1 + e^-x). By h = e^-|x|/2, so that nothing is large: a fast division by more than 2^126 is 0.
__device__ inline float silu(float x) {
    const float h = exp2f(-0.5f * kLog2E * fabsf(x));
    return __fdividef(x < 0.0f ? x * h * h : x, fmaf(h, h, 1.0f));
}

}  // namespace
}  // namespace metst::cuda
