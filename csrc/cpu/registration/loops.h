// The loops of the registration, one set for each path. Plain loops: the compiler's own vectors do.
#pragma once

#include <cstddef>
#include <cstdint>

#include "dispatch.h"

namespace metst {

constexpr int kTerms = 10;  // unknowns of a step: 8 parameters, contrast, brightness
constexpr int kSums = kTerms * (kTerms + 1) / 2;

// One row of the crop read from a picture: at[i] = shift + slope i + depth[i] toward, along x and y.
struct SampleRowArgs {
    const std::uint8_t* pixels;
    std::ptrdiff_t pixel_stride;
    int height, width;             // of the picture
    const float *columns, *depth;  // of the crop, `count` each
    float x0, x1, x2, y0, y1, y2;  // x = x0 + x1 columns[i] + x2 depth[i], y likewise
    float* out;
    int count;
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
    const float* basis;  // 4 rows of `stride`
    const float *x, *y;  // of the cells, in cells
    const float* anchor;
    const float* step;  // 8, in cells
    float* residual;
    int count;
    std::ptrdiff_t stride;
};

// The normal equations: sums[] of weight jacobian_i jacobian_j, i <= j, and of weight jacobian_i residual.
struct NormalArgs {
    const float* jacobian;  // kTerms rows of `stride`
    const float *weights, *residual;
    float tolerance;  // a residual this large counts half
    int count;        // a multiple of 16; what is beyond the cells has weight 0
    std::ptrdiff_t stride;
    float *sums, *right;  // kSums, kTerms
};

struct RegistrationLoops {
    void (*sample_row)(const SampleRowArgs&);
    void (*reduce)(const ReduceArgs&);
    void (*residual)(const ResidualArgs&);
    void (*normal)(const NormalArgs&);
};

METST_FOR_EVERY_PATH(const RegistrationLoops&, registration_loops_on);

}  // namespace metst
