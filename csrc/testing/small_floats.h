// Floats of 16 bits by their definition: 1 sign bit, the exponent's bits, the rest significand. What a kernel reads and
// rounds to is judged by these, not by the conversions that it calls itself.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "metst/selective_scan_cuda.h"

using metst::cuda::Type;

inline int exponent_bits(Type type) { return type == Type::kFloat16 ? 5 : 8; }
inline int significand_bits(Type type) { return type == Type::kFloat32 ? 23 : 15 - exponent_bits(type); }
inline int lowest_exponent(Type type) { return 2 - (1 << (exponent_bits(type) - 1)); }
inline std::size_t size_of(Type type) { return type == Type::kFloat32 ? 4 : 2; }

// Spacing of the type's numbers around x.
inline double spacing(double x, Type type) {
    const int exponent = x == 0.0 ? lowest_exponent(type) : std::max(std::ilogb(x), lowest_exponent(type));
    return std::ldexp(1.0, exponent - significand_bits(type));
}

inline float rounded(float x, Type type) {
    if (type == Type::kFloat32) return x;
    const double step = spacing(x, type);
    return static_cast<float>(std::nearbyint(x / step) * step);
}

// Bits of a number that the type holds exactly.
inline std::uint16_t encoded(float x, Type type) {
    const int exponent = x == 0.0f ? lowest_exponent(type) : std::max(std::ilogb(x), lowest_exponent(type));
    const double significand = std::ldexp(std::fabs(static_cast<double>(x)), significand_bits(type) - exponent);
    const int bits = static_cast<int>(significand) + ((exponent - lowest_exponent(type)) << significand_bits(type));
    return static_cast<std::uint16_t>(bits | (std::signbit(x) ? 0x8000 : 0));
}

inline float decoded(std::uint16_t bits, Type type) {
    const int biased = (bits & 0x7fff) >> significand_bits(type);
    const int significand = bits & ((1 << significand_bits(type)) - 1);
    double x;
    if (biased == (1 << exponent_bits(type)) - 1) {
        x = significand ? std::numeric_limits<double>::quiet_NaN() : std::numeric_limits<double>::infinity();
    } else {
        const int whole = significand + (biased > 0 ? 1 << significand_bits(type) : 0);
        x = std::ldexp(whole, std::max(biased - 1, 0) + lowest_exponent(type) - significand_bits(type));
    }
    return static_cast<float>(bits & 0x8000 ? -x : x);
}
