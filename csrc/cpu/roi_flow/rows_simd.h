// What the flow's loops over a vector wrapper V share.
//
// Internal linkage, for the reason given in simd/simd.h.
#pragma once

namespace metst {
namespace {

// Repeats the first and last value of a row for so many columns beyond it, at least.
template <class V>
inline void replicate(float* row, int width, int before, int after) {
    const V first = V::set(row[0]), last = V::set(row[width - 1]);
    for (int x = 0; x < before; x += V::kWidth) V::store(row - x - V::kWidth, first);
    for (int x = 0; x < after; x += V::kWidth) V::store(row + width + x, last);
}

}  // namespace
}  // namespace metst
