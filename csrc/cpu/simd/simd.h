// The contract of the vector wrappers, and the one that the file is compiled for. Kernels are written over a wrapper V
// and use nothing else of the CPU's vectors; every operation here is tested on every path (csrc/tests/test_simd.cpp).
//
// A wrapper is a struct that holds one register of kWidth floats, V{v}, and static functions. Below, a, b and c are
// vectors, m is a mask, p a pointer, "lane" one of the kWidth numbers. Pointers need no alignment beyond their type's.
// Arithmetic is IEEE single precision, rounded to nearest; not a number comes out where it goes in unless said
// otherwise. Subnormal numbers are the calling thread's business (flush_subnormals.h): as exact as everything else, or
// zeros.
//
//   kWidth                          lanes: 4, 8 or 16, so that 16 floats are always whole vectors
//   kGroup                          how many vectors of state a loop best keeps in registers together
//   zero()                          +0 in every lane
//   set(x)                          x in every lane
//   count()                         0, 1, 2, ...
//   load(p), store(p, a)            kWidth floats
//   load_first(p, n)                the first n lanes, 0 <= n <= kWidth; the others are +0, their memory is not read
//   store_first(p, a, n)            the same; the memory of the others is not written
//   load_bytes(p)                   kWidth bytes, 0 to 255, as floats; no byte more is read
//   load_halves(p)                  kWidth finite halves, by their bits; exact, subnormal ones too
//   store_whole(p, a)               as std::int32_t, towards zero; anything where |a| >= 2^31 or a is not a number
//
//   add, sub, mul, div (a, b)       of each lane
//   fma(a, b, c)                    a b + c; rounded once, or (portable.h) once or twice
//   fmsub(a, b, c)                  a b - c, the same
//   fnma(a, b, c)                   c - a b, the same
//   sqrt(a)                         sqrt(-0) is -0, below that not a number
//   floor(a)                        infinities, -0 and whole numbers stay
//   negative_abs(a)                 -|a|, the sign bit set whatever it was
//   max(a, b), min(a, b)            not a number where a is; where only b is, that or a. Of zeros, either one
//   sum(a)                          float: of all lanes, added in any order
//   sum_rows(p)                     kWidth rows of kWidth floats, dense -> lane i is the sum of row i, in any order
//
//   Mask                            one truth value a lane
//   less(a, b), equal(a, b)         false where either is not a number; -0 equals +0
//   both(m, m')                     and
//   select(m, a, b)                 bit for bit, a where m is true, else b
//   zero_where(m, a)                +0 where m is true, else a
//   add_where(m, a, b)              a + b where m is true, else a, whose zero may lose its sign
//
// Splitting numbers for an exponential:
//
//   Split                           has `fraction`, of the register's type
//   split(a)                        a = whole + fraction, |fraction| <= 1/2, halves to the even whole, for a in
//                                   [-127, 128]. Beyond, scale makes 2^a of it as below. Not a number (the quiet one,
//                                   without a payload): nor is the fraction
//   whole_is_zero(split)            Mask: |a| <= 1/2
//   scale(b, split)                 b 2^whole, for b = 2^fraction but for rounding, or for any b where whole is zero:
//                                   infinity from a = 128 on, anything below 2^-126 where that is below 2^-126. Not a
//                                   number where a and b are not
//
// Sampling between four neighbours (roi_flow/iteration_simd.h), in one of two ways; a pixel is 8 floats, 5 of them used:
//
//   kReadsPlanes                    false: from pixels, with
//     interleave(p, c)              five vectors c[5] -> kWidth pixels; floats 5 to 7 of a pixel stay as they were
//     bilinear(p, row, offset, fx, fy, out, out_row)
//                                   lane i from the pixel at p + offset[i], the one to its right and those `row`
//                                   floats below, by the fractions fx[i] and fy[i], 0 to 1: left = upper left + fy
//                                   (lower left - upper left), right likewise, then left + fx (right - left). Five
//                                   vectors to out, out_row floats apart. All 8 floats of a pixel may be read
//   kReadsPlanes                    true: from five planes, `plane` floats apart, each of rows `row` floats apart,
//                                   with
//     Spot                          where a vector's lanes read (an empty struct in the other wrappers)
//     spot(p, row, last_row, x, y, fx, fy, inside)
//                                   p: column 0 of row 0 of the first plane. x, y: whole numbers, the upper left
//                                   neighbour, on the picture and y < last_row, also in lanes that are not `inside`,
//                                   which is only kept
//     bilinear(spot, p, row, plane, out)
//                                   five vectors to out, the same but for rounding, that of y + fy too. What the
//                                   planes hold is finite; 8 floats before a row's first column and 32 behind its
//                                   last can be read
//   kShifts                         whether there is
//     shift<n>(a, b)                lanes n .. n + kWidth - 1 of the 2 kWidth in a and b
//
// The files that include this are compiled once for every path, for different instruction sets, and the linker must
// never pick one's copy of a function for another. So everything in this folder has internal linkage and uses nothing
// from the standard library that is more than a type.
#pragma once

#include "metst/cpu_features.h"

#if defined(METST_PATH_AVX512)
#include "simd/avx512.h"
#elif defined(METST_PATH_AVX2)
#include "simd/avx2.h"
#elif defined(METST_PATH_NEON)
#include "simd/neon.h"
#elif defined(METST_PATH_SCALAR)
#include "simd/portable.h"
#else
#error "CMake says which path a file is compiled for: see metst_add_path"
#endif

namespace metst {
namespace {

#if defined(METST_PATH_AVX512)
constexpr SimdPath kPath = SimdPath::kAvx512;
using Simd = Avx512;
#elif defined(METST_PATH_AVX2)
constexpr SimdPath kPath = SimdPath::kAvx2;
using Simd = Avx2;
#elif defined(METST_PATH_NEON)
constexpr SimdPath kPath = SimdPath::kNeon;
using Simd = Neon;
#else
constexpr SimdPath kPath = SimdPath::kScalar;
using Simd = Portable;
#endif

}  // namespace
}  // namespace metst
