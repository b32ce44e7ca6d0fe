// A picture's thumbnail, by which crops are compared.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "metst/roi_flow.h"
#include "roi_flow/farneback.h"

namespace metst {

void thumbnail(Gray picture, Rect part, float* out) {
    const FlowLoops& loops = flow_loops(SimdPath::kAuto);
    thread_local std::vector<std::uint32_t> sums;  // of columns
    sums.resize(std::max(sums.size(), size(part.width())));
    // In 64 bits: 32 times a side is more than an int holds from 67 million pixels on.
    const auto edge = [](std::int64_t i, int length) { return static_cast<int>(i * length / kThumbnail); };
    double mean = 0.0;
    for (int i = 0; i < kThumbnail; ++i) {
        const int top = edge(i, part.height()), bottom = std::max(edge(i + 1, part.height()), top + 1);
        std::fill(sums.begin(), sums.begin() + part.width(), 0u);
        for (int y = top; y < bottom; ++y) {
            loops.add_bytes(picture.pixels + (part.top + y) * picture.stride + part.left, part.width(), sums.data());
        }
        for (int j = 0; j < kThumbnail; ++j) {
            const int left = edge(j, part.width()), right = std::max(edge(j + 1, part.width()), left + 1);
            std::uint64_t cell = 0;
            for (int x = left; x < right; ++x) cell += sums[size(x)];
            const std::int64_t pixels = static_cast<std::int64_t>(bottom - top) * (right - left);
            out[i * kThumbnail + j] = static_cast<float>(cell) / static_cast<float>(pixels);
            mean += static_cast<double>(out[i * kThumbnail + j]);
        }
    }
    mean /= kThumbnail * kThumbnail;
    double squares = 0.0;
    for (int i = 0; i < kThumbnail * kThumbnail; ++i) {
        out[i] -= static_cast<float>(mean);
        squares += static_cast<double>(out[i]) * static_cast<double>(out[i]);
    }
    const float scale = static_cast<float>(1.0 / std::max(std::sqrt(squares), 1e-6));
    for (int i = 0; i < kThumbnail * kThumbnail; ++i) out[i] *= scale;
}

}  // namespace metst
