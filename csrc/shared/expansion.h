// The polynomial expansion of a picture: five coefficients a pixel, as kPlanes rows per picture row where they are read
// in order, as pixels of kPixel floats where they are sampled. Types only: files for every instruction set include it.
#pragma once

namespace metst {

constexpr int kPlanes = 5;         // y, x, yy, xx, xy
constexpr int kPixel = 8;          // five coefficients, three floats unused
constexpr int kRowAlignment = 16;  // floats: the widest vector

// Separable kernels of the polynomial expansion, index 0 the centre; odd ones are antisymmetric about it.
struct ExpansionKernels {
    static constexpr int kMaxReach = 32;

    int reach;
    float even[kMaxReach + 1];    // g
    float odd[kMaxReach + 1];     // x g
    float second[kMaxReach + 1];  // the second derivative's: no response to a constant
    // Of the coefficients. Halved, and xy's once more: the equations take means of two pictures'.
    float y, x, yy, xx, xy;
};

}  // namespace metst
