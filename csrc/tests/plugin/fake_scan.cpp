// The fake is the definition in double precision. Linked into a copy of the plugin library that only test_plugin loads.
#include "fake_scan.h"

#include <cuda_fp16.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "selective_scan_reference.h"

namespace {

using metst::cuda::Type;

// Empty where the array is left out.
std::vector<double> read(const void* array, Type type, std::int64_t count) {
    std::vector<double> values(array == nullptr ? 0 : static_cast<std::size_t>(count));
    for (std::size_t i = 0; i < values.size(); ++i) {
        values[i] = static_cast<double>(type == Type::kFloat16 ? __half2float(static_cast<const __half*>(array)[i])
                                                               : static_cast<const float*>(array)[i]);
    }
    return values;
}

void write(void* array, Type type, const std::vector<double>& values) {
    for (std::size_t i = 0; i < values.size(); ++i) {
        const float value = static_cast<float>(values[i]);
        if (type == Type::kFloat16) {
            static_cast<__half*>(array)[i] = __float2half(value);
        } else {
            static_cast<float*>(array)[i] = value;
        }
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
    const std::int64_t of_steps = a.batch * a.length * a.channels, of_rows = a.batch * a.length * a.states;
    ScanInputs in;
    in.batch = static_cast<std::size_t>(a.batch);
    in.length = static_cast<std::size_t>(a.length);
    in.channels = static_cast<std::size_t>(a.channels);
    in.states = static_cast<std::size_t>(a.states);
    in.u = read(a.u, a.type, of_steps);
    in.delta = read(a.delta, a.delta_type, of_steps);
    in.A = read(a.A, Type::kFloat32, a.channels * a.states);
    in.B = read(a.B, a.type, of_rows);
    in.C = read(a.C, a.type, of_rows);
    in.D = read(a.D, Type::kFloat32, a.channels);
    in.z = read(a.z, a.type, of_steps);
    in.delta_bias = read(a.delta_bias, Type::kFloat32, a.channels);
    in.h0 = read(a.h0, Type::kFloat32, a.batch * a.channels * a.states);
    in.delta_softplus = a.delta_softplus;
    const ScanOutputs out = reference(in);
    write(a.y, a.type, out.y);
    write(a.h, Type::kFloat32, out.h);
    return Status::kOk;
}

}  // namespace metst::cuda
