#include "network_step/pack.h"

#include <algorithm>
#include <limits>

namespace metst::cuda::fused {
namespace {

constexpr float kLog2E = 1.44269504088896341f;

// `outputs` columns, from `first` on, of a map (inputs, width) become rows.
void put_columns(const float* map, int inputs, int width, int first, int outputs, float* rows) {
    const std::int64_t stride = 4 * quads(inputs);
    for (int o = 0; o < outputs; ++o) {
        for (int i = 0; i < inputs; ++i) rows[o * stride + i] = map[std::int64_t{i} * width + first + o];
    }
}

// Weights (outputs, inputs, kFrames) of a convolution become rows of the frames' inputs one after the other.
void put_convolution(const AffineWeights& from, int inputs, int outputs, float* rows, float* bias) {
    const std::int64_t stride = 4 * quads(std::int64_t{kFrames} * inputs);
    for (int o = 0; o < outputs; ++o) {
        for (int i = 0; i < inputs; ++i) {
            for (int frame = 0; frame < kFrames; ++frame) {
                rows[o * stride + frame * inputs + i] = from.weight[(std::int64_t{o} * inputs + i) * kFrames + frame];
            }
        }
    }
    std::copy_n(from.bias, outputs, bias);
}

// Finite, so that a time step of 0 decays nothing.
float rate_of(float a) {
    constexpr float kLargest = std::numeric_limits<float>::max();
    return std::clamp(a * kLog2E, -kLargest, kLargest);
}

void pack_block(const BlockPlan& p, const BlockWeights& w, float* block) {
    const auto& at = p.weight;
    std::copy_n(w.norm_weight, p.dim, block + at.norm);
    std::copy_n(w.norm_bias, p.dim, block + at.norm + p.dim);
    put_columns(w.in_proj, p.dim, 2 * p.inner, 0, 2 * p.inner, block + at.in_proj);
    std::copy_n(w.conv_bias, p.inner, block + at.conv);
    for (int age = 0; age < p.conv; ++age) {
        float* const tap = block + at.conv + (1 + age) * p.inner;
        for (int d = 0; d < p.inner; ++d) tap[d] = w.conv_weight[d * p.conv + p.conv - 1 - age];
    }

    const int width = p.rank + 2 * p.states;
    const std::int64_t stride = 4 * quads(p.inner);
    put_columns(w.x_proj, p.inner, width, p.rank, 2 * p.states, block + at.x_proj);
    put_columns(w.x_proj, p.inner, width, 0, p.rank, block + at.x_proj + 2 * p.states * stride);
    std::copy_n(w.dt_bias, p.inner, block + at.dt_proj);
    std::copy_n(w.dt_proj, p.rank * p.inner, block + at.dt_proj + p.inner);

    for (int d = 0; d < p.inner; ++d) {
        float* const row = block + at.rates + d * 4 * quads(p.states);
        for (int n = 0; n < p.states; ++n) row[n] = rate_of(w.A[d * p.states + n]);
    }
    std::copy_n(w.D, p.inner, block + at.skip);
    put_columns(w.out_proj, p.inner, p.dim, 0, p.dim, block + at.out_proj);
    std::copy_n(w.post_norm_weight, p.dim, block + at.post_norm);
    std::copy_n(w.post_norm_bias, p.dim, block + at.post_norm + p.dim);
}

void pack_blocks(const BlockPlan& p, const BlockWeights* blocks, int count, float* first) {
    for (int i = 0; i < count; ++i) pack_block(p, blocks[i], first + std::int64_t{i} * p.weight.total);
}

void pack_stem(const StemPlan& p, const AffineWeights* stem, float* packed) {
    for (int i = 0; i < 2; ++i) {
        put_convolution(stem[i], i == 0 ? p.channels : p.dim, p.dim, packed + p.weight[i], packed + p.bias[i]);
    }
}

void pack_heads(const HeadsPlan& p, const AffineWeights& spot, const AffineWeights& emotion, float* packed) {
    put_columns(spot.weight, p.inputs, 1, 0, 1, packed + p.weight);
    put_columns(emotion.weight, p.inputs, p.classes, 0, p.classes, packed + p.weight + 4 * quads(p.inputs));
    packed[p.bias] = spot.bias[0];
    std::copy_n(emotion.bias, p.classes, packed + p.bias + 1);
}

}  // namespace

void pack(const MetstPlan& p, const MetstWeights& w, float* packed) {
    std::fill_n(packed, p.total.weights, 0.0f);
    pack_stem(p.stem, w.stem, packed);
    pack_blocks(p.block, w.blocks, p.depth, packed + p.weights);
    pack_heads(p.heads, w.spot, w.emotion, packed);
}

void pack(const MetstPlusPlan& p, const MetstPlusWeights& w, float* packed) {
    std::fill_n(packed, p.total.weights, 0.0f);
    pack_stem(p.stem, w.stem, packed);
    for (int i = 0; i < p.pathways; ++i) {
        const PathwayWeights& pathway = w.pathways[i];
        float* const at = packed + p.weight.pathways + std::int64_t{i} * p.weight.pathway;
        for (int stage = 0; stage < p.stages; ++stage) {
            float* const map = at + std::int64_t{stage} * p.weight.convolution;
            put_convolution(stage == 0 ? pathway.entry : pathway.laterals[stage - 1], p.fast.dim, p.slow.dim, map,
                            map + p.weight.bias);
        }
        pack_blocks(p.fast, pathway.fast, p.stages * p.depth, at + p.weight.fast);
        pack_blocks(p.slow, pathway.slow, p.stages * p.depth, at + p.weight.slow);
    }
    pack_heads(p.heads, w.spot, w.emotion, packed);
}

}  // namespace metst::cuda::fused
