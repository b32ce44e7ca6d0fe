// Lays the weights of layers out as layout.h says, one behind the other. Knows no network.
#pragma once

#include <cstdint>

#include "metst/mamba_block.h"
#include "network/layout.h"

namespace metst {

// Where the next layer goes. Without memory it only counts, and no weight is read.
class Packer {
public:
    explicit Packer(float* packed = nullptr) : packed_(packed) {}

    // A layer's function reads weights only while this holds.
    bool writes() const { return packed_ != nullptr; }
    // The next `count` floats; only while it writes.
    float* next() const { return packed_ + size_; }
    void skip(std::int64_t count) { size_ += count; }
    std::int64_t size() const { return size_; }  // floats so far

private:
    float* packed_;
    std::int64_t size_ = 0;
};

void pack_convolution(Packer& packer, std::int64_t inputs, std::int64_t outputs, const AffineWeights& weights,
                      MatrixFormat format);

void pack_mamba_block(Packer& packer, const BlockSizes& sizes, const BlockWeights& weights, MatrixFormat format);

// Both heads, of as many inputs.
void pack_heads(Packer& packer, std::int64_t inputs, std::int64_t classes, const AffineWeights& spot,
                const AffineWeights& emotion);

}  // namespace metst
