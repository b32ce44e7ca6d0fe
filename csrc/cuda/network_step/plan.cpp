#include "network_step/plan.h"

#include <algorithm>
#include <limits>

namespace metst::cuda::fused {
namespace {

constexpr std::int64_t kMost = std::numeric_limits<int>::max();

// Hands out places one behind the other. Sizes of up to kSharedFloats each, so that no product overflows.
class Places {
public:
    int take(std::int64_t floats) {
        const std::int64_t place = end_;
        end_ += 4 * quads(floats);
        return static_cast<int>(std::min(place, kMost));
    }
    std::int64_t end() const { return end_; }

private:
    std::int64_t end_ = 0;
};

std::int64_t rows(std::int64_t outputs, std::int64_t inputs) { return outputs * 4 * quads(inputs); }

std::int64_t lay_out_shared(const MetstSizes& s, Plan& plan) {
    Places shared;
    plan.shared.seen[0] = shared.take(kFrames * s.channels);
    plan.shared.seen[1] = shared.take(kFrames * s.dim);
    plan.shared.x = shared.take(s.dim);
    plan.shared.normed = shared.take(s.dim);
    plan.shared.u = shared.take(s.inner);
    plan.shared.gate = shared.take(s.inner);
    plan.shared.b = shared.take(s.states);
    plan.shared.c = shared.take(s.states);
    plan.shared.dt = shared.take(s.rank);
    plan.shared.y = shared.take(s.inner);
    plan.shared.branch = shared.take(s.dim);
    plan.shared.part_of_x = shared.take(2 * s.states + s.rank);
    plan.shared.part_of_branch = shared.take(s.dim);
    return shared.end();
}

std::int64_t lay_out_weights(const MetstSizes& s, Plan& plan) {
    Places block;
    plan.in_block.norm = block.take(2 * s.dim);
    plan.in_block.in_proj = block.take(rows(2 * s.inner, s.dim));
    plan.in_block.conv = block.take((1 + s.conv) * s.inner);
    plan.in_block.x_proj = block.take(rows(2 * s.states + s.rank, s.inner));
    plan.in_block.dt_proj = block.take((1 + s.rank) * s.inner);
    plan.in_block.rates = block.take(rows(s.inner, s.states));
    plan.in_block.skip = block.take(s.inner);
    plan.in_block.out_proj = block.take(rows(s.dim, s.inner));
    plan.in_block.post_norm = block.take(2 * s.dim);
    plan.weight.block = static_cast<int>(std::min(block.end(), kMost));

    Places weights;
    for (int i = 0; i < 2; ++i) {
        plan.weight.stem[i] = weights.take(rows(s.dim, kFrames * (i == 0 ? s.channels : s.dim)));
        plan.weight.stem_bias[i] = weights.take(s.dim);
    }
    plan.weight.heads = weights.take(rows(1 + s.classes, s.dim));
    plan.weight.heads_bias = weights.take(1 + s.classes);
    plan.weight.blocks = weights.take(s.depth * block.end());
    return weights.end();
}

std::int64_t lay_out_state(const MetstSizes& s, Plan& plan) {
    Places block;
    plan.state.taps = block.take((s.conv - 1) * s.inner);
    plan.state.scan = block.take(rows(s.inner, s.states));
    plan.state.block = static_cast<int>(std::min(block.end(), kMost));

    Places lane;
    plan.state.resets = lane.take(2);
    plan.state.stem[0] = lane.take(2 * s.channels);
    plan.state.stem[1] = lane.take(2 * s.dim);
    plan.state.blocks = lane.take(s.depth * block.end());
    return lane.end();
}

}  // namespace

bool make_plan(const MetstSizes& s, Plan* out) {
    // `conv` and `depth` are in no array of shared memory.
    const std::int64_t largest = std::max({s.channels, s.dim, s.inner, s.states, s.rank, s.classes, s.conv, s.depth});
    if (largest > kSharedFloats) return false;
    const std::int64_t shared = lay_out_shared(s, *out), weights = lay_out_weights(s, *out);
    const std::int64_t state = lay_out_state(s, *out);
    if (shared > kSharedFloats || weights > kMost || state > kMost) return false;
    out->channels = static_cast<int>(s.channels);
    out->dim = static_cast<int>(s.dim);
    out->depth = static_cast<int>(s.depth);
    out->inner = static_cast<int>(s.inner);
    out->states = static_cast<int>(s.states);
    out->conv = static_cast<int>(s.conv);
    out->rank = static_cast<int>(s.rank);
    out->classes = static_cast<int>(s.classes);
    out->shared.total = static_cast<int>(shared);
    out->weight.total = static_cast<int>(weights);
    out->state.total = static_cast<int>(state);
    return true;
}

}  // namespace metst::cuda::fused
