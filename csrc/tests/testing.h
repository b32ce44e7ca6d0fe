// What the C++ tests share: a check that counts, arrays between inaccessible pages, an error's size, the
// paths of this CPU.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <limits>
#include <vector>

#include "metst/cpu_features.h"

namespace {

int failures = 0;

#define EXPECT(condition, ...)                                       \
    do {                                                             \
        if (!(condition)) {                                          \
            std::printf("%s:%d: %s  ", __FILE__, __LINE__, #condition); \
            std::printf(__VA_ARGS__);                                \
            std::printf("\n");                                       \
            ++failures;                                              \
        }                                                            \
    } while (false)

// Where an array touches its fence: reading or writing one float past that side ends the process.
enum class Fence { kBefore, kAfter };

class FencedArray {
public:
    FencedArray(std::size_t size, Fence fence) : size_(size) {
        const std::size_t page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
        const std::size_t inside = (size * sizeof(float) + page - 1) / page * page + page;
        mapped_ = inside + 2 * page;
        base_ = static_cast<char*>(mmap(nullptr, mapped_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        if (base_ == MAP_FAILED || mprotect(base_ + page, inside, PROT_READ | PROT_WRITE) != 0) std::abort();
        data_ = reinterpret_cast<float*>(fence == Fence::kBefore ? base_ + page
                                                                 : base_ + page + inside - size * sizeof(float));
    }
    ~FencedArray() { munmap(base_, mapped_); }
    FencedArray(const FencedArray&) = delete;
    FencedArray& operator=(const FencedArray&) = delete;

    float* data() { return data_; }
    float& operator[](std::size_t i) { return data_[i]; }
    std::size_t size() const { return size_; }

private:
    char* base_;
    std::size_t mapped_;
    float* data_;
    std::size_t size_;
};

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

struct NamedPath {
    const char* name;
    metst::SimdPath path;
};

inline std::vector<NamedPath> available_paths() {
    std::vector<NamedPath> paths;
    for (const NamedPath& p :
         {NamedPath{"avx512", metst::SimdPath::kAvx512}, NamedPath{"avx2", metst::SimdPath::kAvx2},
          NamedPath{"neon", metst::SimdPath::kNeon}, NamedPath{"scalar", metst::SimdPath::kScalar}}) {
        if (metst::simd_available(p.path)) paths.push_back(p);
    }
    return paths;
}

}  // namespace
