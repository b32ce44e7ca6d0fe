// Weights of random networks, between fences (fenced_array.h): variance is kept, and every part has an effect.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include "fenced_array.h"
#include "metst/metst_network.h"
#include "metst/metst_plus_network.h"

// Weights that stay where they are.
class DrawnWeights {
public:
    explicit DrawnWeights(Fence fence) : fence_(fence), random_(1) {}

    const float* draw(std::int64_t size, float low, float high) {
        std::uniform_real_distribution<float> values(low, high);
        arrays_.push_back(std::make_unique<FencedArray>(static_cast<std::size_t>(size), fence_));
        for (std::size_t i = 0; i < static_cast<std::size_t>(size); ++i) (*arrays_.back())[i] = values(random_);
        return arrays_.back()->data();
    }
    const float* matrix(std::int64_t inputs, std::int64_t outputs) {
        const float bound = 1.0f / std::sqrt(static_cast<float>(inputs));
        return draw(inputs * outputs, -bound, bound);
    }
    metst::AffineWeights affine(std::int64_t inputs, std::int64_t outputs) {
        return {matrix(inputs, outputs), draw(outputs, -0.3f, 0.3f)};
    }
    std::vector<metst::BlockWeights> blocks(std::int64_t number, const metst::BlockSizes& s) {
        std::vector<metst::BlockWeights> blocks(static_cast<std::size_t>(number));
        for (metst::BlockWeights& b : blocks) {
            b.norm_weight = draw(s.dim, 0.8f, 1.2f);
            b.norm_bias = draw(s.dim, -0.3f, 0.3f);
            b.in_proj = matrix(s.dim, 2 * s.inner);
            b.conv_weight = matrix(s.conv, s.inner);
            b.conv_bias = draw(s.inner, -0.3f, 0.3f);
            b.x_proj = matrix(s.inner, s.rank + 2 * s.states);
            b.dt_proj = matrix(s.rank, s.inner);
            b.dt_bias = draw(s.inner, -5.0f, 0.0f);
            b.A = draw(s.inner * s.states, -20.0f, -0.01f);
            b.D = draw(s.inner, -2.0f, 2.0f);
            b.out_proj = matrix(s.inner, s.dim);
            b.post_norm_weight = draw(s.dim, 0.8f, 1.2f);
            b.post_norm_bias = draw(s.dim, -0.3f, 0.3f);
        }
        return blocks;
    }

private:
    Fence fence_;
    std::mt19937 random_;
    std::vector<std::unique_ptr<FencedArray>> arrays_;
};

// ME-TST's, the same for the same sizes.
struct DrawnMetst {
    DrawnWeights drawn;
    std::vector<metst::BlockWeights> blocks;
    metst::MetstWeights weights;

    DrawnMetst(const metst::MetstSizes& s, Fence fence) : drawn(fence), blocks(drawn.blocks(s.depth, s.block())) {
        weights.stem[0] = drawn.affine(3 * s.channels, s.dim);
        weights.stem[1] = drawn.affine(3 * s.dim, s.dim);
        weights.blocks = blocks.data();
        weights.spot = drawn.affine(s.dim, 1);
        weights.emotion = drawn.affine(s.dim, s.classes);
    }
    DrawnMetst(const DrawnMetst&) = delete;
    DrawnMetst& operator=(const DrawnMetst&) = delete;
};

// ME-TST+'s, likewise.
struct DrawnMetstPlus {
    DrawnWeights drawn;
    std::vector<std::vector<metst::BlockWeights>> blocks;
    std::vector<std::vector<metst::AffineWeights>> laterals;
    std::vector<metst::PathwayWeights> pathways;
    metst::MetstPlusWeights weights;

    DrawnMetstPlus(const metst::MetstPlusSizes& s, Fence fence) : drawn(fence) {
        for (std::int64_t p = 0; p < s.pathways; ++p) {
            metst::PathwayWeights pathway;
            pathway.entry = drawn.affine(3 * s.dim, s.slow_dim);
            laterals.emplace_back();
            for (std::int64_t i = 1; i < s.stages; ++i) laterals.back().push_back(drawn.affine(3 * s.dim, s.slow_dim));
            pathway.laterals = laterals.back().data();
            blocks.push_back(drawn.blocks(s.stages * s.depth, s.fast_block()));
            pathway.fast = blocks.back().data();
            blocks.push_back(drawn.blocks(s.stages * s.depth, s.slow_block()));
            pathway.slow = blocks.back().data();
            pathways.push_back(pathway);
        }
        weights.stem[0] = drawn.affine(3 * s.channels, s.dim);
        weights.stem[1] = drawn.affine(3 * s.dim, s.dim);
        weights.pathways = pathways.data();
        weights.spot = drawn.affine(s.slow_dim + s.dim, 1);
        weights.emotion = drawn.affine(s.slow_dim + s.dim, s.classes);
    }
    DrawnMetstPlus(const DrawnMetstPlus&) = delete;
    DrawnMetstPlus& operator=(const DrawnMetstPlus&) = delete;
};
