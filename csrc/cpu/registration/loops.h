// The loops of the registration, one set for each path. Those that read where they are told to, and the sums, are written
// over the vector wrapper (simd/simd.h); for the others the compiler's own vectors do.
#pragma once

#include <cstddef>
#include <cstdint>

#include "dispatch.h"

namespace metst {

constexpr int kLongestRow = 320;

// One row of the crop, or of places between its pixels, read from a picture between four of its pixels. Beyond its
// border it goes on as there.
struct SampleRowArgs {
    const std::uint8_t* pixels;
    std::ptrdiff_t pixel_stride;
    int height, width;          // of the picture
    const float* columns;       // of the crop, `count` each
    const float *depth, *nose;  // the depth there: depth[i] + nose_share nose[i]
    float nose_share;
    float x0, x1, x2, y0, y1, y2;  // x = x0 + x1 columns[i] + x2 depth, y likewise; of any size, or not numbers
    float* out;
    int count;  // a multiple of 16, kLongestRow at most
};

// The reduced picture of kGrid x kGrid, less its mean of 17 x 17 around each cell, smoothed by 1 4 6 4 1.
struct ReduceArgs {
    float* picture;  // in and out
    float* scratch;  // as large
    int size;
};

// The difference to the anchor at the cells that count, moved by a step.
struct ResidualArgs {
    const float* picture;  // size x size
    int size;
    const float* basis;  // rows of `stride`, `functions` of them
    int functions;
    const float *x, *y;  // of the cells, in cells
    const float* anchor;
    const float* step;  // along x of each function, then along y, in cells
    float* residual;
    int count;  // a multiple of 16
    std::ptrdiff_t stride;
};

// The normal equations: sums of weight jacobian_i jacobian_j over the first `sum_count` cells, a matrix of terms x terms
// of which the lower triangle is written, and of weight jacobian_i residual over all.
struct NormalArgs {
    const float* jacobian;  // `terms` rows of `stride`
    int terms;              // a multiple of kBlock
    const float *weights, *residual;
    float tolerance;       // a residual this large counts half
    int count, sum_count;  // multiples of 16; what is beyond the cells has weight 0
    std::ptrdiff_t stride;
    float* weighted;  // working memory: terms x stride
    float *sums, *right;
};
constexpr int kBlock = 4;  // rows of the matrix that are summed together

struct RegistrationLoops {
    void (*sample_row)(const SampleRowArgs&);
    void (*round_row)(const float* row, int count, std::uint8_t* out);             // 0 to 255, to the nearest
    void (*halve)(const float* upper, const float* lower, int count, float* out);  // means of 2 x 2, `count` of them
    float (*median)(const float* values, int count);  // of how large they are without their signs, the upper of two
    void (*reduce)(const ReduceArgs&);
    void (*residual)(const ResidualArgs&);
    void (*normal)(const NormalArgs&);
};

METST_FOR_EVERY_PATH(const RegistrationLoops&, registration_loops_on);

}  // namespace metst
