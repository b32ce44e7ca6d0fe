// A scan of drawn values and its run on the device, for test_selective_scan_cuda.cpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

#include "device_array.h"
#include "metst/selective_scan_cuda.h"
#include "selective_scan_reference.h"
#include "small_floats.h"

struct Sizes {
    std::int64_t batch, length, channels, states;
};

struct Optional {
    bool D, z, delta_bias, h0, softplus;
};
constexpr Optional kEverything{true, true, true, true, true};

inline Optional options(unsigned bits) {
    return {(bits & 1) != 0, (bits & 2) != 0, (bits & 4) != 0, (bits & 8) != 0, (bits & 16) != 0};
}

inline std::size_t product(std::int64_t a, std::int64_t b, std::int64_t c = 1) {
    return static_cast<std::size_t>(a * b * c);
}

// Host values, representable in their types.
struct Problem {
    Sizes sizes;
    Optional with;
    Type type, delta_type;
    std::vector<float> u, delta, A, B, C, D, z, delta_bias, h0;

    Problem(Sizes s, Optional options, Type t, Type delta_t, unsigned seed)
        : sizes(s),
          with(options),
          type(t),
          delta_type(delta_t),
          u(product(s.batch, s.length, s.channels)),
          delta(u.size()),
          A(product(s.channels, s.states)),
          B(product(s.batch, s.length, s.states)),
          C(B.size()),
          D(product(s.channels, 1)),
          z(u.size()),
          delta_bias(D.size()),
          h0(product(s.batch, s.channels, s.states)) {
        std::mt19937 generator(seed);
        std::normal_distribution<float> normal;
        for (auto* array : {&u, &delta, &B, &C, &D, &z, &delta_bias, &h0}) {
            for (float& x : *array) x = normal(generator);
        }
        std::uniform_real_distribution<float> exponent(-4.0f, 3.0f);
        for (float& x : A) x = -std::pow(10.0f, exponent(generator));
        if (!with.softplus) {
            for (float& x : delta) x = std::fabs(x) + 2.5f;  // dt stays positive
            for (float& x : delta_bias) x = std::fmin(std::fabs(x), 2.0f);
        }
        for (auto* array : {&u, &B, &C, &z}) {
            for (float& x : *array) x = rounded(x, type);
        }
        for (float& x : delta) x = rounded(x, delta_type);
    }
};

// The same in double precision, for what the definition gives.
inline ScanInputs widened(const Problem& p) {
    const auto wide = [](const std::vector<float>& array, bool there = true) {
        return there ? std::vector<double>(array.begin(), array.end()) : std::vector<double>();
    };
    ScanInputs in;
    in.batch = product(p.sizes.batch, 1);
    in.length = product(p.sizes.length, 1);
    in.channels = product(p.sizes.channels, 1);
    in.states = product(p.sizes.states, 1);
    in.u = wide(p.u);
    in.delta = wide(p.delta);
    in.A = wide(p.A);
    in.B = wide(p.B);
    in.C = wide(p.C);
    in.D = wide(p.D, p.with.D);
    in.z = wide(p.z, p.with.z);
    in.delta_bias = wide(p.delta_bias, p.with.delta_bias);
    in.h0 = wide(p.h0, p.with.h0);
    in.delta_softplus = p.with.softplus;
    return in;
}

struct Result {
    metst::cuda::Status status;
    std::vector<float> y, h;
};

// Numbers of one of the types in device memory, NaN at first.
struct DeviceNumbers {
    Type type;
    std::size_t count;
    DeviceArray<unsigned char> memory;

    DeviceNumbers(Type type_, std::size_t count_) : type(type_), count(count_), memory(count * size_of(type)) {}
    DeviceNumbers(Type type_, const std::vector<float>& values) : DeviceNumbers(type_, values.size()) {
        if (type == Type::kFloat32) {
            memory.upload(values.data());
            return;
        }
        std::vector<std::uint16_t> bits(count);
        std::transform(values.begin(), values.end(), bits.begin(), [this](float x) { return encoded(x, type); });
        memory.upload(bits.data());
    }
    void* data() const { return memory.data(); }
    float* floats() const { return reinterpret_cast<float*>(memory.data()); }
    std::vector<float> values() const {
        if (type == Type::kFloat32) return download(floats(), count);
        const auto bits = download(reinterpret_cast<const std::uint16_t*>(memory.data()), count);
        std::vector<float> out(count);
        std::transform(bits.begin(), bits.end(), out.begin(), [this](std::uint16_t x) { return decoded(x, type); });
        return out;
    }
};

// `in_place`: h0 and h are one array.
inline Result run(const Problem& p, bool in_place = false) {
    constexpr Type kFloat = Type::kFloat32;
    const DeviceNumbers u(p.type, p.u), delta(p.delta_type, p.delta), B(p.type, p.B), C(p.type, p.C), z(p.type, p.z);
    const DeviceNumbers A(kFloat, p.A), D(kFloat, p.D), bias(kFloat, p.delta_bias), h0(kFloat, p.h0);
    const DeviceNumbers y(p.type, p.u.size()), h(kFloat, p.h0.size());
    const DeviceArray<unsigned char> workspace(
        metst::cuda::selective_scan_workspace(p.sizes.batch, p.sizes.length, p.sizes.channels, p.sizes.states));

    metst::cuda::SelectiveScanArgs args;
    args.batch = p.sizes.batch;
    args.length = p.sizes.length;
    args.channels = p.sizes.channels;
    args.states = p.sizes.states;
    args.type = p.type;
    args.delta_type = p.delta_type;
    args.u = u.data();
    args.delta = delta.data();
    args.A = A.floats();
    args.B = B.data();
    args.C = C.data();
    args.D = p.with.D ? D.floats() : nullptr;
    args.z = p.with.z ? z.data() : nullptr;
    args.delta_bias = p.with.delta_bias ? bias.floats() : nullptr;
    args.h0 = p.with.h0 ? h0.floats() : nullptr;
    args.delta_softplus = p.with.softplus;
    args.y = y.data();
    args.h = (in_place ? h0 : h).floats();
    args.workspace = workspace.bytes() > 0 ? workspace.data() : nullptr;
    args.workspace_bytes = workspace.bytes();

    const metst::cuda::Status status = metst::cuda::selective_scan(args, nullptr);
    check(cudaDeviceSynchronize(), "the kernel");
    return {status, y.values(), (in_place ? h0 : h).values()};
}
