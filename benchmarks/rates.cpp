// What one core can do at best: multiply-adds and the project's own exp2 a second, for every vector unit the compiler
// was told of. scan.py builds and runs it; one line a unit: name, multiply-adds per second, exponentials per second
// (both count elements, not vectors).
#include <algorithm>
#include <chrono>
#include <cstdio>

#include "simd/math.h"
#if defined(__AVX2__) && defined(__FMA__)
#include "simd/avx2.h"
#endif
#if defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#include "simd/avx512.h"
#endif
#if defined(__aarch64__)
#include "simd/neon.h"
#endif

namespace {

constexpr int kRepeats = 600;  // the fastest counts: a peak is what nothing interrupted

volatile float sink;  // what is written here has to be computed

template <class Work>
double fastest_seconds(Work work) {
    using Clock = std::chrono::steady_clock;
    double best = 1e9;
    for (int i = 0; i < kRepeats; ++i) {
        const auto start = Clock::now();
        work();
        best = std::min(best, std::chrono::duration<double>(Clock::now() - start).count());
    }
    return best;
}

// Independent chains: a multiply-add takes about four cycles and two or more start in each, so eight chains are the
// least that keeps the unit busy. Twelve and two constants still fit sixteen registers.
template <class V>
double multiply_adds_per_second() {
    constexpr int kChains = 12, kSteps = 100000;
    const V factor = V::set(0.999f), step = V::set(0.001f);
    const double seconds = fastest_seconds([&] {
        V chain[kChains];
        for (int i = 0; i < kChains; ++i) chain[i] = V::set(static_cast<float>(i));
        for (int s = 0; s < kSteps; ++s) {
            for (int i = 0; i < kChains; ++i) chain[i] = V::fma(chain[i], factor, step);
        }
        V sum = chain[0];
        for (int i = 1; i < kChains; ++i) sum = V::add(sum, chain[i]);
        float lanes[V::kWidth];
        V::store(lanes, sum);
        sink = lanes[0];
    });
    return static_cast<double>(kChains) * kSteps * V::kWidth / seconds;
}

// Independent evaluations from and to the first-level cache, arguments as a decaying state has them.
template <class V>
double exponentials_per_second() {
    constexpr int kCount = 2048, kPasses = 200, kUnroll = 4;
    alignas(64) static float in[kCount], out[kCount];
    for (int i = 0; i < kCount; ++i) in[i] = -8.0f * static_cast<float>(i) / kCount;
    const double seconds = fastest_seconds([&] {
        for (int pass = 0; pass < kPasses; ++pass) {
            for (int i = 0; i < kCount; i += kUnroll * V::kWidth) {
                V x[kUnroll];
                for (int k = 0; k < kUnroll; ++k) x[k] = V::load(in + i + k * V::kWidth);
                for (int k = 0; k < kUnroll; ++k) V::store(out + i + k * V::kWidth, metst::exp2(x[k]));
            }
            sink = out[pass];
        }
    });
    return static_cast<double>(kCount) * kPasses / seconds;
}

template <class V>
void report(const char* name) {
    std::printf("%s %.6g %.6g\n", name, multiply_adds_per_second<V>(), exponentials_per_second<V>());
}

}  // namespace

int main() {
#if defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
    report<metst::Avx512>("avx512");
#endif
#if defined(__AVX2__) && defined(__FMA__)
    report<metst::Avx2>("avx2");
#endif
#if defined(__aarch64__)
    report<metst::Neon>("neon");
#endif
    return 0;
}
