// How the layers of a network's step lie in memory: what packing them (pack.h), their state (state.h) and running them
// (layers_simd.h) agree on.
//
// Rows are padded with zeros to a whole number of the widest vectors, so no loop has a tail: zero weights keep padded
// values at zero through every layer. A linear map is cut into panels of kPad outputs, a cache line for each input; a
// panel is its biases, then for each input the weights to its outputs, all contiguous. In half precision two inputs
// share a line, and behind an odd number of them the last line's second half is zeros; biases stay floats. Layers lie
// one behind the other in the order of the step, which reads them front to back:
//
//   linear map          its panels
//   layer norm          row of weights, row of biases
//   convolution         linear map of 3 x inputs: the frames' inputs one after the other, oldest first
//   Mamba block         layer norm; linear map to u and z, padded each; row of the convolution's biases, a row for each
//                       of its taps, oldest first; linear map to B, C and the factors of the time step, padded each;
//                       linear map of these factors; row of skips; a row of A log2(e) for each inner channel; linear
//                       map; layer norm
//   heads               linear map to the spotting score, another to the classes
//
// Internal linkage, for the reason given in simd/simd.h.
#pragma once

#include <cstdint>

#include "metst/mamba_block.h"
#include "metst/network_step.h"

namespace metst {
namespace {

constexpr int kPad = 16;    // floats in the widest vector
constexpr int kFrames = 3;  // that a convolution over time reads

inline std::int64_t padded(std::int64_t n) { return (n + kPad - 1) / kPad * kPad; }

// Floats' worth of a panel.
inline std::int64_t panel_size(std::int64_t inputs, MatrixFormat format) {
    return kPad + (format == MatrixFormat::kFloat16 ? (inputs + 1) / 2 : inputs) * kPad;
}

// B, C, then the factors of the time step, each padded.
inline std::int64_t x_proj_outputs(const BlockSizes& s) { return 2 * padded(s.states) + padded(s.rank); }

}  // namespace
}  // namespace metst
