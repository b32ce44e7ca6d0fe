// Floats on a cache line's boundary, zeros at first.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

namespace metst {

class AlignedFloats {
public:
    AlignedFloats() = default;
    explicit AlignedFloats(std::int64_t size)
        : size_(size),
          data_(static_cast<float*>(::operator new(static_cast<std::size_t>(size) * sizeof(float), kLine))) {
        clear();
    }

    void clear() { std::fill_n(data_.get(), size_, 0.0f); }
    std::int64_t size() const { return size_; }
    float* data() { return data_.get(); }
    const float* data() const { return data_.get(); }

private:
    static constexpr std::align_val_t kLine{64};
    struct Delete {
        void operator()(float* p) const { ::operator delete(p, kLine); }
    };

    std::int64_t size_ = 0;
    std::unique_ptr<float, Delete> data_;
};

}  // namespace metst
