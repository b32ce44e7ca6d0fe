// Stands in for the CUDA scan where there is no GPU: the same functions on host memory, in double precision. Linked
// into a copy of the plugin library that only the driver test loads.
#include "selective_scan_cuda_fake.h"

#include <cuda_fp16.h>

#include <cmath>
#include <vector>

namespace {

double read(const void* array, metst::cuda::Type type, std::int64_t i) {
    if (type == metst::cuda::Type::kFloat16)
        return static_cast<double>(__half2float(static_cast<const __half*>(array)[i]));
    return static_cast<double>(static_cast<const float*>(array)[i]);
}

void write(void* array, metst::cuda::Type type, std::int64_t i, double value) {
    if (type == metst::cuda::Type::kFloat16) {
        static_cast<__half*>(array)[i] = __float2half(static_cast<float>(value));
    } else {
        static_cast<float*>(array)[i] = static_cast<float>(value);
    }
}

}  // namespace

extern "C" __attribute__((visibility("default"))) FakeScan* metst_fake_scan() {
    static FakeScan fake;
    return &fake;
}

namespace metst::cuda {

std::size_t selective_scan_workspace(std::int64_t batch, std::int64_t length, std::int64_t channels,
                                     std::int64_t states) noexcept {
    return static_cast<std::size_t>(batch * (length + 1) * channels * states) * sizeof(float);
}

Status selective_scan(const SelectiveScanArgs& a, CUstream_st* stream) noexcept {
    FakeScan& fake = *metst_fake_scan();
    ++fake.calls;
    fake.args = a;
    fake.stream = stream;
    if (fake.answer != Status::kOk) return fake.answer;
    if (a.workspace_bytes < selective_scan_workspace(a.batch, a.length, a.channels, a.states)) {
        return Status::kWorkspaceTooSmall;
    }
    std::vector<double> h(static_cast<std::size_t>(a.states));
    for (std::int64_t b = 0; b < a.batch; ++b) {
        for (std::int64_t d = 0; d < a.channels; ++d) {
            const std::int64_t row = (b * a.channels + d) * a.states;
            for (std::int64_t n = 0; n < a.states; ++n) {
                h[static_cast<std::size_t>(n)] = a.h0 != nullptr ? static_cast<double>(a.h0[row + n]) : 0.0;
            }
            for (std::int64_t t = 0; t < a.length; ++t) {
                const std::int64_t i = (b * a.length + t) * a.channels + d;
                const std::int64_t j = (b * a.length + t) * a.states;
                const double u = read(a.u, a.type, i);
                double dt = read(a.delta, a.delta_type, i);
                if (a.delta_bias != nullptr) dt += static_cast<double>(a.delta_bias[d]);
                if (a.delta_softplus) dt = std::log1p(std::exp(-std::fabs(dt))) + std::fmax(dt, 0.0);
                double y = a.D != nullptr ? static_cast<double>(a.D[d]) * u : 0.0;
                for (std::int64_t n = 0; n < a.states; ++n) {
                    double& state = h[static_cast<std::size_t>(n)];
                    state = std::exp(dt * static_cast<double>(a.A[d * a.states + n])) * state +
                            dt * read(a.B, a.type, j + n) * u;
                    y += state * read(a.C, a.type, j + n);
                }
                if (a.z != nullptr) {
                    const double z = read(a.z, a.type, i);
                    y *= z / (1.0 + std::exp(-z));
                }
                write(a.y, a.type, i, y);
            }
            for (std::int64_t n = 0; n < a.states; ++n)
                a.h[row + n] = static_cast<float>(h[static_cast<std::size_t>(n)]);
        }
    }
    return Status::kOk;
}

}  // namespace metst::cuda
