// Means of the longest vectors and correlations (csrc/cuda/roi_flow/means.cuh) in the emulation of cuda_on_cpu.h,
// against sorting in double: vectors of equal length, of none, of any number, with room for all squares or for a few.
#include "roi_flow/means.cuh"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>
#include <limits>
#include <random>
#include <vector>

#include "expect.h"

namespace metst::cuda::roi_flow {
namespace {

std::mt19937 random_numbers(1);

int below(int end) { return static_cast<int>(random_numbers() % static_cast<unsigned>(end)); }

constexpr int kHeight = 40, kWidth = 90, kRoom = 1500;

struct Flow {
    std::vector<float> dx, dy;
    explicit Flow(const std::function<float()>& draw) : dx(kHeight * kWidth), dy(kHeight * kWidth) {
        for (std::size_t i = 0; i < dx.size(); ++i) dx[i] = draw(), dy[i] = draw();
    }
};

struct Means {
    double x, y;
};

__global__ void mean_kernel(const float* dx, const float* dy, const RegionSetup region, int room, Means* out) {
    METST_SHARED(Reduction, reduction, [1]);
    METST_SHARED(float, held, [kRoom]);
    longest_mean(dx, dy, kWidth, region, held, room, reduction[0]);
    out[threadIdx.x] = {reduction[0].means[0], reduction[0].means[1]};
}

// Of equally long vectors each counts the same share.
Means expected_mean(const Flow& flow, const RegionSetup& region) {
    struct Vector {
        float square, x, y;
    };
    std::vector<Vector> all;
    for (int y = region.rect.top; y < region.rect.bottom; ++y) {
        for (int x = region.rect.left; x < region.rect.right; ++x) {
            const std::size_t i = static_cast<std::size_t>(y * kWidth + x);
            all.push_back({fmaf(flow.dx[i], flow.dx[i], flow.dy[i] * flow.dy[i]), flow.dx[i], flow.dy[i]});
        }
    }
    std::sort(all.begin(), all.end(), [](const Vector& a, const Vector& b) { return a.square > b.square; });
    const float last = all[static_cast<std::size_t>(region.count) - 1].square;
    double ties = 0.0, missing = region.count, x = 0.0, y = 0.0, tied_x = 0.0, tied_y = 0.0;
    for (const Vector& v : all) {
        if (v.square > last) x += static_cast<double>(v.x), y += static_cast<double>(v.y), --missing;
        if (v.square == last) tied_x += static_cast<double>(v.x), tied_y += static_cast<double>(v.y), ++ties;
    }
    return {(x + missing / ties * tied_x) / region.count, (y + missing / ties * tied_y) / region.count};
}

void means_are_those_of_the_sorted_vectors(const Flow& flow, const char* what) {
    const double scale = static_cast<double>(*std::max_element(flow.dx.begin(), flow.dx.end())) + 1e-30;
    for (int i = 0; i < 60; ++i) {
        RegionSetup region{};
        const int top = below(kHeight), left = below(kWidth);
        region.rect = {top, top + 1 + below(kHeight - top), left, left + 1 + below(kWidth - left)};
        if (i % 4 == 0) region.rect = {0, kHeight, 0, kWidth};
        const int n = region.rect.height() * region.rect.width();
        region.count = i % 5 == 0 ? n : i % 5 == 1 ? 1 : 1 + below(n);
        const int room = i % 3 == 0 ? 0 : i % 3 == 1 ? below(kRoom) : kRoom;
        const int threads = i % 2 ? 1024 : 512;
        std::vector<Means> found(static_cast<std::size_t>(threads));
        METST_LAUNCH(mean_kernel, dim3(1), dim3(static_cast<unsigned>(threads)), 0, nullptr, flow.dx.data(),
                     flow.dy.data(), region, room, found.data());
        const Means expected = expected_mean(flow, region);
        for (const Means& mean : found) {  // everybody gets it
            const double error = std::max(std::fabs(mean.x - expected.x), std::fabs(mean.y - expected.y));
            EXPECT(error <= 1e-6 * scale, "%s, the %d longest of %d: (%g, %g), not (%g, %g)", what, region.count, n,
                   mean.x, mean.y, expected.x, expected.y);
            if (!(error <= 1e-6 * scale)) break;
        }
    }
}

__global__ void correlation_kernel(const float* a, const float* b, double* out) {
    METST_SHARED(Reduction, reduction, [1]);
    const double value = correlation(a, b, reduction[0]);
    if (threadIdx.x == 0) *out = value;
}

void correlations_are_those_in_double() {
    std::normal_distribution<float> normal;
    for (const float likeness : {-1.0f, -0.3f, 0.0f, 0.5f, 1.0f}) {
        std::vector<float> a(kCells), b(kCells);
        for (std::size_t i = 0; i < a.size(); ++i) {
            a[i] = 128.0f + 30.0f * normal(random_numbers);
            b[i] = 90.0f + likeness * (a[i] - 128.0f) + (1.0f - std::fabs(likeness)) * 30.0f * normal(random_numbers);
        }
        double sum_a = 0.0, sum_b = 0.0, aa = 0.0, bb = 0.0, ab = 0.0, found = 0.0;
        for (std::size_t i = 0; i < a.size(); ++i)
            sum_a += static_cast<double>(a[i]), sum_b += static_cast<double>(b[i]);
        for (std::size_t i = 0; i < a.size(); ++i) {
            const double of_a = static_cast<double>(a[i]) - sum_a / kCells,
                         of_b = static_cast<double>(b[i]) - sum_b / kCells;
            aa += of_a * of_a, bb += of_b * of_b, ab += of_a * of_b;
        }
        METST_LAUNCH(correlation_kernel, dim3(1), dim3(512), 0, nullptr, a.data(), b.data(), &found);
        EXPECT(std::fabs(found - ab / std::sqrt(aa * bb)) <= 1e-6, "%g, not %g", found, ab / std::sqrt(aa * bb));
    }
    const std::vector<float> even(kCells, 7.0f);  // nothing to correlate
    double found = 1.0;
    METST_LAUNCH(correlation_kernel, dim3(1), dim3(512), 0, nullptr, even.data(), even.data(), &found);
    EXPECT(found == 0.0, "an even thumbnail: %g", found);
}

}  // namespace
}  // namespace metst::cuda::roi_flow

int main() {
    using namespace metst::cuda::roi_flow;
    std::normal_distribution<float> normal(0.0f, 0.4f);
    means_are_those_of_the_sorted_vectors(Flow([&] { return normal(random_numbers); }), "drawn");
    means_are_those_of_the_sorted_vectors(Flow([] { return static_cast<float>(below(5) - 2); }), "many ties");
    means_are_those_of_the_sorted_vectors(Flow([] { return 0.25f; }), "all alike");
    means_are_those_of_the_sorted_vectors(Flow([] { return 0.0f; }), "still");
    means_are_those_of_the_sorted_vectors(Flow([&] { return 1e-17f * normal(random_numbers); }),
                                          "squares next to nothing");
    means_are_those_of_the_sorted_vectors(Flow([&] { return 1e9f * normal(random_numbers); }), "far");
    correlations_are_those_in_double();
    std::printf("%d failures\n", failures);
    return failures != 0;
}
