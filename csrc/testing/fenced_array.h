// Arrays between inaccessible pages: what reads or writes beyond their ends ends the process, in every build.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdlib>

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
