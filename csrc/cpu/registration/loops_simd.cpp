// The loops of loops.h, compiled for one path.
#include <cstddef>
#include <cstdint>

#include "registration/loops.h"
#include "simd/simd.h"

namespace metst {
namespace {

// Where along one axis vectors of places read: at a whole pixel and the one after it, which counts `fraction`. Never
// beyond the last pixel, which is the one after another where there is one.
struct Axis {
    Simd last, last_corner;

    explicit Axis(int length)
        : last(Simd::set(static_cast<float>(length - 1))),
          last_corner(Simd::set(static_cast<float>(length > 1 ? length - 2 : 0))) {}

    void place(Simd at, std::int32_t* corner, float* fraction) const {
        const Simd zero = Simd::zero();
        const Simd inside = Simd::min(Simd::select(Simd::less(zero, at), at, zero), last);  // not a number: 0
        const Simd whole = Simd::min(Simd::floor(inside), last_corner);
        Simd::store_whole(corner, whole);
        Simd::store(fraction, Simd::sub(inside, whole));
    }
};

// In three turns: what is read between them, a byte at a time, is all that vectors cannot do.
void sample_row(const SampleRowArgs& args) {
    using V = Simd;
    const SampleRowArgs a = args;
    std::int32_t left[kLongestRow], top[kLongestRow];
    float fraction_x[kLongestRow], fraction_y[kLongestRow];
    std::uint8_t corners[4][kLongestRow];
    const Axis along(a.width), down(a.height);
    for (int i = 0; i < a.count; i += V::kWidth) {
        const V column = V::load(a.columns + i);
        const V depth = V::fma(V::set(a.nose_share), V::load(a.nose + i), V::load(a.depth + i));
        along.place(V::fma(V::set(a.x2), depth, V::fma(V::set(a.x1), column, V::set(a.x0))), left + i, fraction_x + i);
        down.place(V::fma(V::set(a.y2), depth, V::fma(V::set(a.y1), column, V::set(a.y0))), top + i, fraction_y + i);
    }
    const std::ptrdiff_t right = a.width > 1 ? 1 : 0, below = a.height > 1 ? a.pixel_stride : 0;
    for (int i = 0; i < a.count; ++i) {
        const std::uint8_t* const p = a.pixels + top[i] * a.pixel_stride + left[i];
        corners[0][i] = p[0];
        corners[1][i] = p[right];
        corners[2][i] = p[below];
        corners[3][i] = p[below + right];
    }
    for (int i = 0; i < a.count; i += V::kWidth) {
        const V fx = V::load(fraction_x + i);
        const auto between = [&](const std::uint8_t* here, const std::uint8_t* next) {
            const V value = V::load_bytes(here + i);
            return V::fma(fx, V::sub(V::load_bytes(next + i), value), value);
        };
        const V upper = between(corners[0], corners[1]), lower = between(corners[2], corners[3]);
        V::store(a.out + i, V::fma(V::load(fraction_y + i), V::sub(lower, upper), upper));
    }
}

void round_row(const float* row, int count, std::uint8_t* out) {
    for (int i = 0; i < count; ++i) out[i] = static_cast<std::uint8_t>(static_cast<std::int32_t>(row[i] + 0.5f));
}

void halve(const float* upper, const float* lower, int count, float* out) {
    for (int i = 0; i < count; ++i) {
        out[i] = 0.25f * ((upper[2 * i] + upper[2 * i + 1]) + (lower[2 * i] + lower[2 * i + 1]));
    }
}

// By bisection over the floats' bits, which order like them where there is no sign.
float median(const float* values, int count) {
    constexpr std::int32_t kNoSign = 0x7fffffff, kInfinity = 0x7f800000;
    std::int32_t low = -1, high = kInfinity;
    while (high - low > 1) {
        const std::int32_t middle = low + (high - low) / 2;
        int within = 0;
        for (int i = 0; i < count; ++i) {
            std::int32_t bits;
            __builtin_memcpy(&bits, values + i, sizeof bits);
            within += (bits & kNoSign) <= middle;
        }
        (within > count / 2 ? high : low) = middle;
    }
    float found;
    __builtin_memcpy(&found, &high, sizeof found);
    return found;
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
    using V = Simd;
    const ResidualArgs a = args;
    constexpr int kLanes = 16;
    const Axis axis(a.size);
    for (int i = 0; i < a.count; i += kLanes) {
        std::int32_t left[kLanes], top[kLanes];
        float fraction_x[kLanes], fraction_y[kLanes], corners[4][kLanes];
        for (int k = 0; k < kLanes; k += V::kWidth) {
            V u = V::load(a.x + i + k), v = V::load(a.y + i + k);
            for (int j = 0; j < a.functions; ++j) {
                const V basis = V::load(a.basis + j * a.stride + i + k);
                u = V::fma(V::set(a.step[j]), basis, u);
                v = V::fma(V::set(a.step[a.functions + j]), basis, v);
            }
            axis.place(u, left + k, fraction_x + k);
            axis.place(v, top + k, fraction_y + k);
        }
        for (int k = 0; k < kLanes; ++k) {
            const float* const p = a.picture + top[k] * a.size + left[k];
            corners[0][k] = p[0];
            corners[1][k] = p[1];
            corners[2][k] = p[a.size];
            corners[3][k] = p[a.size + 1];
        }
        for (int k = 0; k < kLanes; k += V::kWidth) {
            const V fx = V::load(fraction_x + k), fy = V::load(fraction_y + k);
            const V upper_left = V::load(corners[0] + k), lower_left = V::load(corners[2] + k);
            const V upper = V::fma(fx, V::sub(V::load(corners[1] + k), upper_left), upper_left);
            const V lower = V::fma(fx, V::sub(V::load(corners[3] + k), lower_left), lower_left);
            const V here = V::fma(fy, V::sub(lower, upper), upper);
            V::store(a.residual + i + k, V::sub(here, V::load(a.anchor + i + k)));
        }
    }
}

// kBlock x kBlock sums of products of two groups of rows.
void block(const float* left, const float* right, int count, std::ptrdiff_t stride, float* out, int out_stride) {
    using V = Simd;
    V sums[kBlock][kBlock];
    for (V(&row)[kBlock] : sums) {
        for (V& sum : row) sum = V::zero();
    }
    for (int i = 0; i < count; i += V::kWidth) {
        V columns[kBlock];
        for (int l = 0; l < kBlock; ++l) columns[l] = V::load(right + l * stride + i);
        for (int j = 0; j < kBlock; ++j) {
            const V row = V::load(left + j * stride + i);
            for (int l = 0; l < kBlock; ++l) sums[j][l] = V::fma(row, columns[l], sums[j][l]);
        }
    }
    for (int j = 0; j < kBlock; ++j) {
        for (int l = 0; l < kBlock; ++l) out[j * out_stride + l] = V::sum(sums[j][l]);
    }
}

void normal(const NormalArgs& args) {
    using V = Simd;
    const NormalArgs a = args;
    const V one = V::set(1.0f), scale = V::set(1.0f / (a.tolerance * a.tolerance));
    // Of all cells, where rows of those that are summed go afterwards: the weights in place of row 0, times the
    // residual in place of row 1.
    float* const weights = a.weighted;
    float* const pulls = a.weighted + a.stride;
    for (int i = 0; i < a.count; i += V::kWidth) {
        const V residual = V::load(a.residual + i);
        const V doubt = V::fma(scale, V::mul(residual, residual), one);
        const V weight = V::div(V::load(a.weights + i), doubt);
        V::store(weights + i, weight);
        V::store(pulls + i, V::mul(weight, residual));
    }
    for (int j = 0; j < a.terms; ++j) {
        const float* const jacobian = a.jacobian + j * a.stride;
        V sum = V::zero();
        for (int i = 0; i < a.count; i += V::kWidth) {
            sum = V::fma(V::load(pulls + i), V::load(jacobian + i), sum);
        }
        a.right[j] = V::sum(sum);
    }
    for (int j = a.terms - 1; j >= 0; --j) {  // the last one takes the place of the weights
        const float* const jacobian = a.jacobian + j * a.stride;
        float* const out = a.weighted + j * a.stride;
        for (int i = 0; i < a.sum_count; i += V::kWidth) {
            V::store(out + i, V::mul(V::load(weights + i), V::load(jacobian + i)));
        }
    }
    for (int j = 0; j < a.terms; j += kBlock) {
        for (int l = 0; l <= j; l += kBlock) {
            block(a.weighted + j * a.stride, a.jacobian + l * a.stride, a.sum_count, a.stride, a.sums + j * a.terms + l,
                  a.terms);
        }
    }
}

}  // namespace

template <>
const RegistrationLoops& registration_loops_on<kPath>() {
    static constexpr RegistrationLoops kLoops = {sample_row, round_row, halve, median, reduce, residual, normal};
    return kLoops;
}

}  // namespace metst
