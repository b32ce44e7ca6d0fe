// Cuts one block of memory into pieces, front to back. Without memory it only counts: what is handed out and how much
// of it there must be is then one list, walked twice.
//
// Internal linkage, for the reason given in simd/simd.h.
#pragma once

#include <cstdint>

namespace metst {
namespace {

class Pieces {
public:
    static constexpr std::int64_t kAlignment = 16;  // floats: a cache line, the widest vector

    explicit Pieces(float* memory = nullptr) : memory_(memory) {}

    // Of `count` floats, the pointer behind the first `before`; null when only counting. Pieces start as far into a
    // cache line as the memory does.
    float* floats(std::int64_t count, std::int64_t before = 0) {
        float* const piece = memory_ ? memory_ + used_ + before : nullptr;
        used_ += (count + kAlignment - 1) / kAlignment * kAlignment;
        return piece;
    }

    // The same of integers, which are to be written before they are read.
    std::int32_t* integers(std::int64_t count) {
        static_assert(sizeof(std::int32_t) == sizeof(float), "they take a float's place");
        return reinterpret_cast<std::int32_t*>(floats(count));
    }

    std::int64_t used() const { return used_; }  // floats

private:
    float* memory_;
    std::int64_t used_ = 0;
};

}  // namespace
}  // namespace metst
