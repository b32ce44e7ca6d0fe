// The loops of loops.h, compiled for one path.
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "registration/loops.h"
#include "simd/simd.h"

namespace metst {
namespace {

float held(float x, float last) { return x > 0.0f ? (x < last ? x : last) : 0.0f; }

void sample_row(const SampleRowArgs& args) {
    const SampleRowArgs a = args;
    const float last_x = static_cast<float>(a.width - 1), last_y = static_cast<float>(a.height - 1);
    const int stride = static_cast<int>(a.pixel_stride), end_x = a.width - 1, end_y = a.height - 1;
    for (int i = 0; i < a.count; ++i) {
        const float x = held(a.x0 + a.x1 * a.columns[i] + a.x2 * a.depth[i], last_x);
        const float y = held(a.y0 + a.y1 * a.columns[i] + a.y2 * a.depth[i], last_y);
        const int left = static_cast<int>(x), top = static_cast<int>(y);
        const float fx = x - static_cast<float>(left), fy = y - static_cast<float>(top);
        const int right = left < end_x ? 1 : 0, below = top < end_y ? stride : 0;
        const std::uint8_t* const p = a.pixels + static_cast<std::ptrdiff_t>(top) * stride + left;
        const float upper = static_cast<float>(p[0]) + fx * static_cast<float>(p[right] - p[0]);
        const float lower = static_cast<float>(p[below]) + fx * static_cast<float>(p[below + right] - p[below]);
        a.out[i] = upper + fy * (lower - upper);
    }
}

constexpr int kReach = 8;  // of the mean that is taken away, cells

int border(int i, int size) { return i < 0 ? 0 : i < size ? i : size - 1; }

void reduce(const ReduceArgs& args) {
    const ReduceArgs a = args;
    const int n = a.size;
    const auto row = [&](float* p, int y) { return p + static_cast<std::ptrdiff_t>(border(y, n)) * n; };
    // Smoothed: rows to scratch, columns back.
    for (int y = 0; y < n; ++y) {
        const float* const in = row(a.picture, y);
        float* const out = row(a.scratch, y);
        for (int x = 0; x < n; ++x) {
            const float near = in[border(x - 1, n)] + in[border(x + 1, n)];
            const float far = in[border(x - 2, n)] + in[border(x + 2, n)];
            out[x] = 0.375f * in[x] + 0.25f * near + 0.0625f * far;
        }
    }
    for (int y = 0; y < n; ++y) {
        const float *const p = row(a.scratch, y), *const p1 = row(a.scratch, y - 1), *const q1 = row(a.scratch, y + 1);
        const float *const p2 = row(a.scratch, y - 2), *const q2 = row(a.scratch, y + 2);
        float* const out = row(a.picture, y);
        for (int x = 0; x < n; ++x) {
            out[x] = 0.375f * p[x] + 0.25f * (p1[x] + q1[x]) + 0.0625f * (p2[x] + q2[x]);
        }
    }
    // Less the mean around: sums along rows to scratch, running sums of those down the columns.
    constexpr float kShare = 1.0f / ((2 * kReach + 1) * (2 * kReach + 1));
    for (int y = 0; y < n; ++y) {
        const float* const in = row(a.picture, y);
        float* const out = row(a.scratch, y);
        float sum = 0.0f;
        for (int x = -kReach; x <= kReach; ++x) sum += in[border(x, n)];
        for (int x = 0; x < n; ++x) {
            out[x] = sum;
            sum += in[border(x + kReach + 1, n)] - in[border(x - kReach, n)];
        }
    }
    float sums[256];
    for (int x = 0; x < n; ++x) sums[x] = 0.0f;
    for (int y = -kReach; y <= kReach; ++y) {
        const float* const in = row(a.scratch, y);
        for (int x = 0; x < n; ++x) sums[x] += in[x];
    }
    for (int y = 0; y < n; ++y) {
        const float *const next = row(a.scratch, y + kReach + 1), *const gone = row(a.scratch, y - kReach);
        float* const out = row(a.picture, y);
        for (int x = 0; x < n; ++x) {
            out[x] -= kShare * sums[x];
            sums[x] += next[x] - gone[x];
        }
    }
}

void residual(const ResidualArgs& args) {
    const ResidualArgs a = args;
    const float last = static_cast<float>(a.size - 1);
    const int end = a.size - 2;
    for (int i = 0; i < a.count; ++i) {
        float u = a.x[i], v = a.y[i];
        for (int j = 0; j < 4; ++j) {
            u += a.step[j] * a.basis[j * a.stride + i];
            v += a.step[4 + j] * a.basis[j * a.stride + i];
        }
        u = held(u, last);
        v = held(v, last);
        int left = static_cast<int>(u), top = static_cast<int>(v);
        left = left < end ? left : end;
        top = top < end ? top : end;
        const float fx = u - static_cast<float>(left), fy = v - static_cast<float>(top);
        const float* const p = a.picture + top * a.size + left;
        const float upper = p[0] + fx * (p[1] - p[0]);
        const float lower = p[a.size] + fx * (p[a.size + 1] - p[a.size]);
        a.residual[i] = upper + fy * (lower - upper) - a.anchor[i];
    }
}

void normal(const NormalArgs& args) {
    const NormalArgs a = args;
    constexpr int kLanes = 16;
    float sums[kSums][kLanes] = {}, right[kTerms][kLanes] = {};
    const float scale = 1.0f / (a.tolerance * a.tolerance);
    for (int i = 0; i < a.count; i += kLanes) {
        float weighted[kTerms][kLanes], rest[kLanes];
        for (int k = 0; k < kLanes; ++k) {
            const float r = a.residual[i + k];
            rest[k] = a.weights[i + k] / (1.0f + scale * r * r);
        }
        for (int j = 0; j < kTerms; ++j) {
            for (int k = 0; k < kLanes; ++k) weighted[j][k] = rest[k] * a.jacobian[j * a.stride + i + k];
            for (int k = 0; k < kLanes; ++k) right[j][k] += weighted[j][k] * a.residual[i + k];
        }
        int s = 0;
        for (int j = 0; j < kTerms; ++j) {
            for (int l = 0; l <= j; ++l, ++s) {
                for (int k = 0; k < kLanes; ++k) sums[s][k] += weighted[j][k] * a.jacobian[l * a.stride + i + k];
            }
        }
    }
    for (int s = 0; s < kSums; ++s) {
        a.sums[s] = 0.0f;
        for (int k = 0; k < kLanes; ++k) a.sums[s] += sums[s][k];
    }
    for (int j = 0; j < kTerms; ++j) {
        a.right[j] = 0.0f;
        for (int k = 0; k < kLanes; ++k) a.right[j] += right[j][k];
    }
}

}  // namespace

template <>
const RegistrationLoops& registration_loops_on<kPath>() {
    static constexpr RegistrationLoops kLoops = {sample_row, reduce, residual, normal};
    return kLoops;
}

}  // namespace metst
