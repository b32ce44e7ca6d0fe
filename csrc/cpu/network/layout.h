// What packing, sizing and running the network step agree on: how arrays are padded, how a linear map lies in memory
// and what a stream holds.
//
// Rows are padded with zeros to a whole number of the widest vectors, so no loop has a tail: zero weights keep padded
// values at zero through every layer. A linear map is cut into panels of kPad outputs, a cache line for each input; a
// panel is its biases, then for each input the weights to its outputs, all contiguous.
//
// Internal linkage, for the reason given in simd/simd.h.
#pragma once

#include <cstdint>

#include "metst/network_step.h"

namespace metst {
namespace {

constexpr int kPad = 16;  // floats in the widest vector
constexpr int kStemTaps = 3;

inline std::int64_t padded(std::int64_t n) { return (n + kPad - 1) / kPad * kPad; }

// B, C, then the factors of the time step, each padded.
inline std::int64_t x_proj_outputs(const NetworkSizes& s) { return 2 * padded(s.states) + padded(s.rank); }

// The parts of a stream, in this order. Rings hold one entry a frame; frame t has slot t mod their length.
//   resets  (3, lanes)              1 where the frame began a window, else 0
//   inputs  (3, lanes, channels)    of the first stem convolution
//   middle  (3, lanes, dim)         of the second
//   per block: taps (conv, lanes, inner) and state (lanes, inner, states)
inline std::int64_t resets_size(std::int64_t lanes) { return padded(kStemTaps * lanes); }
inline std::int64_t stem_ring_size(std::int64_t lanes, std::int64_t inputs) {
    return kStemTaps * lanes * padded(inputs);
}
inline std::int64_t taps_size(const NetworkSizes& s, std::int64_t lanes) { return s.conv * lanes * padded(s.inner); }
inline std::int64_t state_size(const NetworkSizes& s, std::int64_t lanes) {
    return lanes * padded(s.inner) * padded(s.states);
}
inline std::int64_t remembered_size(const NetworkSizes& s, std::int64_t lanes) {
    return resets_size(lanes) + stem_ring_size(lanes, s.channels) + stem_ring_size(lanes, s.dim) +
           s.depth * (taps_size(s, lanes) + state_size(s, lanes));
}

// Behind them, for each lane: what a layer takes and gives.
inline std::int64_t stem_row_size(const NetworkSizes& s) {
    return padded(kStemTaps * (s.channels > s.dim ? s.channels : s.dim));
}
inline std::int64_t workspace_size(const NetworkSizes& s, std::int64_t lanes) {
    return lanes * (stem_row_size(s) + 2 * padded(s.dim) + 3 * padded(s.inner) + x_proj_outputs(s) +
                    padded(1 + s.classes));
}

}  // namespace
}  // namespace metst
