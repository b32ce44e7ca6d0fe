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

// weight (outputs, inputs, 3), oldest frame first; bias (outputs).
void pack_stem_convolution(Packer& packer, std::int64_t inputs, std::int64_t outputs, const float* weight,
                           const float* bias);

void pack_mamba_block(Packer& packer, const BlockSizes& sizes, const BlockWeights& weights);

// spot_weight (inputs, 1), spot_bias (1), emotion_weight (inputs, classes), emotion_bias (classes).
void pack_heads(Packer& packer, std::int64_t inputs, std::int64_t classes, const float* spot_weight,
                const float* spot_bias, const float* emotion_weight, const float* emotion_bias);

}  // namespace metst
