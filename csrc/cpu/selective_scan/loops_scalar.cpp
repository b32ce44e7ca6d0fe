// The scan as the formula reads, one number at a time: the reference for the vector paths, and the path of CPUs
// without one.
#include <cmath>

#include "selective_scan/loops.h"

namespace metst {
namespace {

float softplus(float x) { return std::fmax(x, 0.0f) + std::log1p(std::exp(-std::fabs(x))); }

float silu(float x) { return x / (1.0f + std::exp(-x)); }

// e^x h + input. A float near 1 holds e^x only to 3e-8, an error that a slow decay repeats on every step.
float decay_and_add(float h, float x, float input) {
    if (std::fabs(x) < 0.34f) return h + (std::expm1(x) * h + input);
    return std::exp(x) * h + input;
}

}  // namespace

template <>
void selective_scan_on<SimdPath::kScalar>(const SelectiveScanArgs& a) {
    for (std::int64_t b = 0; b < a.batch; ++b) {
        for (std::int64_t t = 0; t < a.length; ++t) {
            const std::int64_t step = b * a.length + t;
            const float* B = a.B + step * a.states;
            const float* C = a.C + step * a.states;
            for (std::int64_t d = 0; d < a.channels; ++d) {
                const std::int64_t i = step * a.channels + d;
                const float* A = a.A + d * a.states;
                float* h = a.h + (b * a.channels + d) * a.states;

                float dt = a.delta[i] + (a.delta_bias ? a.delta_bias[d] : 0.0f);
                if (a.delta_softplus) dt = softplus(dt);
                const float dt_u = dt * a.u[i];

                float y = 0.0f;
                for (std::int64_t n = 0; n < a.states; ++n) {
                    h[n] = decay_and_add(h[n], dt * A[n], dt_u * B[n]);
                    y += h[n] * C[n];
                }
                if (a.D) y += a.D[d] * a.u[i];
                if (a.z) y *= silu(a.z[i]);
                a.y[i] = y;
            }
        }
    }
}

}  // namespace metst
