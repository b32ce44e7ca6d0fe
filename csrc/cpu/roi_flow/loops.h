// The loops behind metst::Farneback and metst::RoiFlow, one set for every path (loops_simd.cpp).
//
// A row is `stride` floats, its column 0 at a multiple of 64 bytes, with at least `margin` floats before column 0 and
// after the last column that may be read and written. Expansions come in the two layouts of expansion.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "dispatch.h"
#include "expansion.h"

namespace metst {

// One level of a picture's pyramid: blurred, resized, 128 subtracted.
struct SmoothArgs {
    const std::uint8_t* pixels;  // rows of the full size, each readable 16 bytes beyond its end
    std::ptrdiff_t pixel_stride;
    int full_width;
    int height, width, stride;      // of the level
    int row_taps;                   // of blur and vertical resize together
    const int* rows;                // (height, row_taps): rows of the full size
    const float* row_weights;       // (height, row_taps)
    int radius;                     // of the horizontal blur
    const float* column_weights;    // (2 radius + 1)
    const int* columns;             // (width): where the resize reads its left pixel, null at full size
    const float* column_fractions;  // (width): weight of the pixel right of it
    float* blurred;                 // working memory: two rows of the full width and its margins
    std::ptrdiff_t blurred_stride;
    float* out;  // (height) rows
};

struct ExpandArgs {
    const float* picture;  // (height) rows
    int height, width, stride;
    const ExpansionKernels* kernels;
    float* rows;                  // working memory: three rows
    float* planes;                // out: (height) rows of planes: y, x, yy, xx, xy; or null
    float* pixels;                // out: the same, (height) rows of pixels at pixel_stride; or null
    std::ptrdiff_t pixel_stride;  // floats
    const float* anchor;          // (height) rows of planes that are read next, to be fetched meanwhile; or null
};

struct IterateArgs {
    const float* anchor;          // (height) rows of planes
    const float* frame;           // (height) rows of pixels, or of planes
    std::ptrdiff_t frame_stride;  // floats
    float* dx;                    // (height) rows: flow so far, improved in place
    float* dy;
    int height, width, stride;
    int first_row, end_row;          // the rows to improve
    bool still;                      // the flow so far is zero, dx and dy need not be set
    const float* border_x;           // (stride): how far a column counts; OpenCV trusts the outer five pixels less
    const float* border_y;           // (height)
    int radius;                      // of the averaging box
    float regularisation;            // added to the determinant, for sums instead of means
    const float* zeros;              // one row of planes
    float* ring;                     // working memory: 2 radius + 1 rows of planes
    float* sums;                     // one row of planes
    float* thirds;                   // one row of planes
    float* samples;                  // one row of planes
    float *fraction_x, *fraction_y;  // one row each
    std::int32_t* offsets;           // one row
};

// Bilinear resize of one plane, times `factor`.
struct EnlargeArgs {
    const float* in;
    int in_width;
    std::ptrdiff_t in_stride;
    int height, width, stride;  // of the result
    const int *rows, *columns;  // upper row, left column
    const float *row_fractions, *column_fractions;
    float factor;
    float* row;  // working memory: one row of the input
    float* out;
};

// A rectangle of the crop: OpenCV's fixed-point bilinear resize, bit for bit.
struct CropArgs {
    const std::uint8_t* pixels;  // of the box's first pixel
    std::ptrdiff_t pixel_stride;
    const int *rows, *next_rows;                               // (height): rows of the box
    const int *columns, *next_columns;                         // (width)
    const std::int16_t *row_weights, *next_row_weights;        // (height), of 2048
    const std::int16_t *column_weights, *next_column_weights;  // (width), of 2048
    int height, width;
    std::int16_t* resized[2];  // working memory: (width) each
    std::uint8_t* out;
    std::ptrdiff_t out_stride;
};

struct LongestArgs {
    const float *dx, *dy;  // first pixel of the region
    std::ptrdiff_t stride;
    int height, width;
    int count;       // of vectors to average, 1 .. height * width
    float* squares;  // working memory: height * width + 16 floats each
    float* x;
    float* y;
};

struct FlowLoops {
    bool reads_planes;  // the frame's expansion is read as planes like the anchor's, not as pixels
    void (*smooth)(const SmoothArgs&);
    void (*expand)(const ExpandArgs&);
    void (*iterate)(const IterateArgs&);
    void (*enlarge)(const EnlargeArgs&);
    void (*crop)(const CropArgs&);
    void (*longest)(const LongestArgs&, double mean[2]);
    void (*add_bytes)(const std::uint8_t* row, int count, std::uint32_t* sums);
};

METST_FOR_EVERY_PATH(const FlowLoops&, flow_loops_on);

}  // namespace metst
