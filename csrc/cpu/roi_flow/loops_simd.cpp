// The loops of loops.h over the vectors of one path: those of the flow itself in headers, the short ones here.
#include <cstddef>
#include <cstdint>

#include "roi_flow/expansion_simd.h"
#include "roi_flow/iteration_simd.h"
#include "roi_flow/longest_simd.h"
#include "roi_flow/loops.h"
#include "simd/simd.h"

namespace metst {
namespace {

template <class V>
void enlarge(const EnlargeArgs& a) {
    for (int y = 0; y < a.height; ++y) {
        const float* const upper = a.in + a.rows[y] * a.in_stride;
        const float* const lower = upper + a.in_stride;
        const V fraction = V::set(a.row_fractions[y]), factor = V::set(a.factor);
        for (int x = 0; x < a.in_width; x += V::kWidth) {
            const V u = V::load(upper + x);
            V::store(a.row + x, V::mul(factor, V::fma(V::sub(V::load(lower + x), u), fraction, u)));
        }
        float* const out = a.out + static_cast<std::ptrdiff_t>(y) * a.stride;
        const float* const row = a.row;
        for (int x = 0; x < a.width; ++x) {
            const float left = row[a.columns[x]], right = row[a.columns[x] + 1];
            out[x] = left + (right - left) * a.column_fractions[x];
        }
        // Vectors that reach beyond the last column then read nothing far away.
        V::store(out + a.width, V::set(out[a.width - 1]));
    }
}

void crop(const CropArgs& a) {
    int held[2] = {-1, -1};  // the row of the box that each buffer holds
    const auto fill = [&](int buffer, int row) {
        const std::uint8_t* const in = a.pixels + row * a.pixel_stride;
        std::int16_t* const out = a.resized[buffer];
        for (int x = 0; x < a.width; ++x) {
            const int here = in[a.columns[x]] * a.column_weights[x];
            const int next = in[a.next_columns[x]] * a.next_column_weights[x];
            out[x] = static_cast<std::int16_t>((here + next) >> 4);
        }
        held[buffer] = row;
    };
    for (int y = 0; y < a.height; ++y) {
        const int upper = a.rows[y], lower = a.next_rows[y];
        int u = held[0] == upper ? 0 : 1;
        if (held[u] != upper) {
            u = held[0] == lower ? 1 : 0;
            fill(u, upper);
        }
        const int l = held[u] == lower ? u : 1 - u;
        if (held[l] != lower) fill(l, lower);
        const std::int16_t* const p = a.resized[u];
        const std::int16_t* const q = a.resized[l];
        const int pw = a.row_weights[y], qw = a.next_row_weights[y];
        std::uint8_t* const out = a.out + y * a.out_stride;
        for (int x = 0; x < a.width; ++x) {
            out[x] = static_cast<std::uint8_t>((((p[x] * pw) >> 16) + ((q[x] * qw) >> 16) + 2) >> 2);
        }
    }
}

void add_bytes(const std::uint8_t* row, int count, std::uint32_t* sums) {
    for (int i = 0; i < count; ++i) sums[i] += row[i];
}

}  // namespace

template <>
const FlowLoops& flow_loops_on<kPath>() {
    static constexpr FlowLoops kLoops = {Simd::kReadsPlanes,      Expansion<Simd>::smooth,
                                         Expansion<Simd>::expand, Iteration<Simd>::iterate,
                                         enlarge<Simd>,           crop,
                                         Longest<Simd>::average,  add_bytes};
    return kLoops;
}

}  // namespace metst
