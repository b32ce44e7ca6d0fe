// The selective scan as metst/selective_scan.h defines it, in double precision, state by state: what every scan of csrc
// is held against. selective_scan_reference.py is the same for tests in Python.
#pragma once

#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

// Arrays in the order of axes of SelectiveScanArgs.
struct ScanInputs {
    std::size_t batch = 0, length = 0, channels = 0, states = 0;
    std::vector<double> u, delta, A, B, C;
    std::vector<double> D, z, delta_bias, h0;  // empty: left out
    bool delta_softplus = false;
};

struct ScanOutputs {
    std::vector<double> y, h;
};

inline ScanOutputs reference(const ScanInputs& in) {
    const std::size_t batch = in.batch, length = in.length, channels = in.channels, states = in.states;
    std::vector<double> y(batch * length * channels);
    std::vector<double> h = in.h0.empty() ? std::vector<double>(batch * channels * states) : in.h0;
    for (std::size_t b = 0; b < batch; ++b) {
        for (std::size_t d = 0; d < channels; ++d) {
            double* const state = h.data() + (b * channels + d) * states;
            for (std::size_t t = 0; t < length; ++t) {
                const std::size_t i = (b * length + t) * channels + d, j = (b * length + t) * states;
                double dt = in.delta[i] + (in.delta_bias.empty() ? 0.0 : in.delta_bias[d]);
                if (in.delta_softplus) dt = std::fmax(dt, 0.0) + std::log1p(std::exp(-std::fabs(dt)));
                double out = in.D.empty() ? 0.0 : in.D[d] * in.u[i];
                for (std::size_t n = 0; n < states; ++n) {
                    state[n] = std::exp(dt * in.A[d * states + n]) * state[n] + dt * in.u[i] * in.B[j + n];
                    out += state[n] * in.C[j + n];
                }
                if (!in.z.empty()) out *= in.z[i] / (1.0 + std::exp(-in.z[i]));
                y[i] = out;
            }
        }
    }
    return {y, h};
}

// Largest difference over the largest magnitude; infinity when a value is not a number.
template <class T>
double relative_error(const T* actual, const std::vector<double>& expected) {
    double difference = 0.0, scale = 0.0;
    for (std::size_t i = 0; i < expected.size(); ++i) {
        const double value = static_cast<double>(actual[i]);
        if (!std::isfinite(value)) return std::numeric_limits<double>::infinity();
        difference = std::fmax(difference, std::fabs(value - expected[i]));
        scale = std::fmax(scale, std::fabs(expected[i]));
    }
    return scale > 0.0 ? difference / scale : difference;
}
