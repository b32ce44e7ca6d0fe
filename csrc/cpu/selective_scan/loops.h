// The loops behind metst::selective_scan, for every path: over a vector wrapper in loops_simd.cpp, the formula as it
// reads in loops_scalar.cpp. Arguments have been checked; h already holds the initial state and batch, length and
// channels are at least 1. Those of its gradient are over a wrapper on every path, in gradient_simd.cpp, and take
// one row of the batch: `batch` is 1, grad_A, grad_D and grad_delta_bias are that row's share. Other sizes may be 0.
#pragma once

#include "dispatch.h"
#include "metst/selective_scan.h"
#include "metst/selective_scan_gradient.h"

namespace metst {

METST_FOR_EVERY_PATH(void, selective_scan_on, const SelectiveScanArgs& args);

// What the gradient's loops write while they run, on a cache line's boundary, zeros at first.
struct ScanGradientScratch {
    static constexpr int kChannels = 16;  // of a block
    static constexpr int kState = 64;     // floats of state that a loop holds in registers, at most

    std::int64_t stride;             // N and room for a vector's rest
    float *B, *C, *grad_B, *grad_C;  // (L, stride)
    float *dt, *x, *q;               // (L and room for a vector's rest, kChannels) of a block; q: gradient by h . C
    float *h_c, *g_b, *p_a;          // likewise, sums over N; p_a with A log2(e) in place of A
    float *decay, *h;                // (L, kState), (L + 1, kState) of a channel's states
};

METST_FOR_EVERY_PATH(void, selective_scan_gradient_on, const SelectiveScanGradientArgs& args,
                     const ScanGradientScratch& scratch);

}  // namespace metst
