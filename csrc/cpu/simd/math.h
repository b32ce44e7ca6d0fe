// exp2, softplus, silu and the like over a vector wrapper V (simd.h, which says too why this has internal linkage).
#pragma once

namespace metst {
namespace {

constexpr float kLog2E = 1.44269504088896341f;
constexpr float kLog2ERest = 1.92596299e-8f;  // log2(e) - kLog2E
constexpr float kLn2 = 0.693147180559945309f;

// q(f) = (2^f - 1) / f for |f| <= 1/2, relative error 4.4e-7 (minimax, Remez exchange in 40 digits).
template <class V>
inline V exp2_slope(V f) {
    V q = V::set(1.3333539e-3f);
    q = V::fma(q, f, V::set(9.666245e-3f));
    q = V::fma(q, f, V::set(5.5505004e-2f));
    q = V::fma(q, f, V::set(2.4022351e-1f));
    return V::fma(q, f, V::set(6.931471e-1f));
}

// 2^x within 2.5e-7 for every float: 0 below 2^-126, infinity above the range.
template <class V>
inline V exp2(V x) {
    const typename V::Split s = V::split(x);
    const V f{s.fraction};
    return V::scale(V::fma(exp2_slope(f), f, V::set(1.0f)), s);
}

// 2^x h + input, the step of a decaying state. Where |x| < 1/2 it is computed as h + ((2^x - 1) h + input): a float
// near 1 holds 2^x only to 3e-8, an error that a slow decay repeats on every step (6e-5 of the state after 2048 equal
// ones).
template <class V>
inline V decay_and_add(V h, V x, V input) {
    const typename V::Split s = V::split(x);
    const typename V::Mask slow = V::whole_is_zero(s);
    const V f{s.fraction};
    const V factor = V::scale(V::fma(exp2_slope(f), f, V::zero_where(slow, V::set(1.0f))), s);
    return V::add_where(slow, V::fma(factor, h, input), h);
}

// e^x for -1e38 <= x <= 88. The part of x log2(e) that rounding loses is multiplied in afterwards, so the relative
// error does not grow with |x| (but where fmsub rounds twice, as it may in portable.h, nothing of it is left to
// multiply in).
template <class V>
inline V exp(V x) {
    const V log2_e = V::set(kLog2E);
    const V rounded = V::mul(x, log2_e);
    const V lost = V::fma(x, V::set(kLog2ERest), V::fmsub(x, log2_e, rounded));
    const V e = exp2(rounded);
    return V::fma(e, V::mul(lost, V::set(kLn2)), e);
}

// log(1 + e) for 0 <= e <= 1 as 2 artanh(s), s = e / (2 + e) <= 1/3; relative error of the series 4e-9.
template <class V>
inline V log1p_unit(V e) {
    const V s = V::div(e, V::add(V::set(2.0f), e));
    const V s2 = V::mul(s, s);
    V p = V::set(0.281783351f);
    p = V::fma(p, s2, V::set(0.279606027f));
    p = V::fma(p, s2, V::set(0.400249103f));
    p = V::fma(p, s2, V::set(0.666663147f));
    p = V::fma(p, s2, V::set(2.00000001f));
    return V::mul(s, p);
}

// log(1 + e^x). Below -128 e^x is zero already; the clamp keeps exp in its range.
template <class V>
inline V softplus(V x) {
    const V e = exp(V::max(V::negative_abs(x), V::set(-128.0f)));
    return V::add(V::max(x, V::zero()), log1p_unit(e));
}

// 1 / (1 + e^-x).
template <class V>
inline V sigmoid(V x) {
    const V e = exp(V::min(V::sub(V::zero(), x), V::set(88.0f)));
    return V::div(V::set(1.0f), V::add(V::set(1.0f), e));
}

// x / (1 + e^-x). Below -88 the true value is subnormal; the clamp keeps e^-x finite there.
template <class V>
inline V silu(V x) {
    const V e = exp(V::min(V::sub(V::zero(), x), V::set(88.0f)));
    return V::div(x, V::add(V::set(1.0f), e));
}

}  // namespace
}  // namespace metst
