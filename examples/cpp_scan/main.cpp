// One selective scan layer of a Mamba network, on random data: in one call, then in two with the state carried over.
// csrc/include/metst/selective_scan.h says what is computed.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <random>
#include <vector>

#include "metst/selective_scan.h"

namespace {

std::mt19937 generator(1);

std::vector<float> random(std::int64_t count, float low, float high) {
    std::uniform_real_distribution<float> draw(low, high);
    std::vector<float> values(static_cast<std::size_t>(count));
    for (float& value : values) value = draw(generator);
    return values;
}

}  // namespace

int main() {
    constexpr std::int64_t kBatch = 1, kLength = 30, kChannels = 128, kStates = 64;

    const auto u = random(kBatch * kLength * kChannels, -1, 1);
    const auto delta = random(kBatch * kLength * kChannels, -2, 0);
    const auto A = random(kChannels * kStates, -8, -0.1f);
    const auto B = random(kBatch * kLength * kStates, -1, 1);
    const auto C = random(kBatch * kLength * kStates, -1, 1);
    std::vector<float> y(u.size()), h(static_cast<std::size_t>(kBatch * kChannels * kStates));

    metst::SelectiveScanArgs args;
    args.batch = kBatch;
    args.length = kLength;
    args.channels = kChannels;
    args.states = kStates;
    args.u = u.data();
    args.delta = delta.data();
    args.A = A.data();
    args.B = B.data();
    args.C = C.data();
    args.y = y.data();
    args.h = h.data();  // h0 is left out: zero. So are D, z and delta_bias.
    if (metst::selective_scan(args) != metst::Status::kOk) {
        std::fprintf(stderr, "the scan was refused\n");
        return 1;
    }
    std::printf("y[0] = %.6f, y[last] = %.6f\n", static_cast<double>(y.front()), static_cast<double>(y.back()));

    // The same in two parts: the second starts from the state that the first has left, in place. With a batch of one, a
    // part of the time is a pointer and a length.
    constexpr std::int64_t kFirst = 12;
    std::vector<float> parts(y.size()), state(h.size());
    args.length = kFirst;
    args.y = parts.data();
    args.h = state.data();
    bool ok = metst::selective_scan(args) == metst::Status::kOk;
    args.length = kLength - kFirst;
    args.u += kFirst * kChannels;
    args.delta += kFirst * kChannels;
    args.B += kFirst * kStates;
    args.C += kFirst * kStates;
    args.y += kFirst * kChannels;
    args.h0 = state.data();
    ok = ok && metst::selective_scan(args) == metst::Status::kOk;

    float difference = 0;
    for (std::size_t i = 0; i < y.size(); ++i) difference = std::max(difference, std::abs(parts[i] - y[i]));
    std::printf("in two parts: at most %.1e from that\n", static_cast<double>(difference));
    return ok && difference < 1e-5f ? 0 : 1;
}
