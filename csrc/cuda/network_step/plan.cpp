#include "network_step/plan.h"

#include <algorithm>
#include <initializer_list>
#include <limits>

namespace metst::cuda::fused {
namespace {

constexpr std::int64_t kMost = std::numeric_limits<int>::max();

int as_int(std::int64_t n) { return static_cast<int>(std::min(n, kMost)); }

// Hands out places one behind the other. Sizes of up to kSharedFloats each, so that no product overflows.
class Places {
public:
    int take(std::int64_t floats) {
        const std::int64_t place = end_;
        end_ += 4 * quads(floats);
        return as_int(place);
    }
    std::int64_t end() const { return end_; }

private:
    std::int64_t end_ = 0;
};

struct AllPlaces {
    Places weights, state, shared;

    // False where something is too large.
    bool total(Totals* out) const {
        *out = {as_int(weights.end()), as_int(state.end()), as_int(shared.end())};
        return shared.end() <= kSharedFloats && weights.end() <= kMost && state.end() <= kMost;
    }
};

bool fit(std::initializer_list<std::int64_t> sizes) { return std::max(sizes) <= kSharedFloats; }

std::int64_t rows(std::int64_t outputs, std::int64_t inputs) { return outputs * 4 * quads(inputs); }

StemPlan lay_out_stem(std::int64_t channels, std::int64_t dim, AllPlaces& places) {
    StemPlan plan{};
    plan.channels = as_int(channels);
    plan.dim = as_int(dim);
    for (int i = 0; i < 2; ++i) {
        const std::int64_t inputs = i == 0 ? channels : dim;
        plan.weight[i] = places.weights.take(rows(dim, kFrames * inputs));
        plan.bias[i] = places.weights.take(dim);
        plan.past[i] = places.state.take(2 * inputs);
        plan.seen[i] = places.shared.take(kFrames * inputs);
    }
    return plan;
}

// Blocks themselves are laid out where their plan's totals say.
BlockPlan lay_out_block(const BlockSizes& s, Places& shared) {
    BlockPlan plan{};
    plan.dim = as_int(s.dim);
    plan.inner = as_int(s.inner);
    plan.states = as_int(s.states);
    plan.conv = as_int(s.conv);
    plan.rank = as_int(s.rank);

    Places weights;
    plan.weight.norm = weights.take(2 * s.dim);
    plan.weight.in_proj = weights.take(rows(2 * s.inner, s.dim));
    plan.weight.conv = weights.take((1 + s.conv) * s.inner);
    plan.weight.x_proj = weights.take(rows(2 * s.states + s.rank, s.inner));
    plan.weight.dt_proj = weights.take((1 + s.rank) * s.inner);
    plan.weight.rates = weights.take(rows(s.inner, s.states));
    plan.weight.skip = weights.take(s.inner);
    plan.weight.out_proj = weights.take(rows(s.dim, s.inner));
    plan.weight.post_norm = weights.take(2 * s.dim);
    plan.weight.total = as_int(weights.end());

    Places state;
    plan.state.taps = state.take((s.conv - 1) * s.inner);
    plan.state.scan = state.take(rows(s.inner, s.states));
    plan.state.total = as_int(state.end());

    plan.shared.normed = shared.take(s.dim);
    plan.shared.u = shared.take(s.inner);
    plan.shared.gate = shared.take(s.inner);
    plan.shared.b = shared.take(s.states);
    plan.shared.c = shared.take(s.states);
    plan.shared.dt = shared.take(s.rank);
    plan.shared.y = shared.take(s.inner);
    plan.shared.branch = shared.take(s.dim);
    plan.shared.other_x = shared.take(s.dim);
    plan.shared.parts_of_x = shared.take(kClusterBlocks * (2 * s.states + s.rank));
    plan.shared.parts_of_branch = shared.take(kClusterBlocks * s.dim);
    return plan;
}

HeadsPlan lay_out_heads(std::int64_t inputs, std::int64_t classes, Places& weights) {
    HeadsPlan plan{};
    plan.inputs = as_int(inputs);
    plan.classes = as_int(classes);
    plan.weight = weights.take(rows(1 + classes, inputs));
    plan.bias = weights.take(1 + classes);
    return plan;
}

// Of one pathway.
AllPlaces lay_out_pathway(const MetstPlusSizes& s, MetstPlusPlan& plan) {
    AllPlaces places;
    const std::int64_t blocks = s.stages * s.depth;
    Places convolution;
    convolution.take(rows(s.slow_dim, kFrames * s.dim));
    plan.weight.bias = convolution.take(s.slow_dim);
    plan.weight.convolution = as_int(convolution.end());
    places.weights.take(s.stages * convolution.end());
    plan.weight.fast = places.weights.take(blocks * plan.fast.weight.total);
    plan.weight.slow = places.weights.take(blocks * plan.slow.weight.total);

    Places lateral;
    lateral.take(2 * s.dim);
    plan.state.lateral = as_int(lateral.end());
    plan.state.laterals = places.state.take((s.stages - 1) * lateral.end());
    plan.state.fast_given = places.state.take(s.dim);
    plan.state.slow_given = places.state.take(s.slow_dim);
    plan.state.fast = places.state.take(blocks * plan.fast.state.total);
    plan.state.slow = places.state.take(blocks * plan.slow.state.total);

    plan.weight.pathway = as_int(places.weights.end());
    plan.state.pathway = as_int(places.state.end());
    return places;
}

}  // namespace

bool make_plan(const MetstSizes& s, MetstPlan* out) {
    // `conv` and `depth` are in no array of shared memory.
    if (!fit({s.channels, s.dim, s.inner, s.states, s.rank, s.classes, s.conv, s.depth})) return false;
    AllPlaces places;
    out->resets = places.state.take(2);
    out->stem = lay_out_stem(s.channels, s.dim, places);
    out->x = places.shared.take(s.dim);
    out->block = lay_out_block(s.block(), places.shared);
    out->heads = lay_out_heads(s.dim, s.classes, places.weights);
    out->depth = as_int(s.depth);
    out->weights = places.weights.take(s.depth * out->block.weight.total);
    out->state = places.state.take(s.depth * out->block.state.total);
    return places.total(&out->total);
}

bool make_plan(const MetstPlusSizes& s, MetstPlusPlan* out) {
    if (!fit({s.channels, s.dim, s.slow_dim, s.inner, s.slow_inner, s.states, s.rank, s.slow_rank, s.classes, s.conv,
              s.stages, s.depth, s.pathways}) ||
        !fit({s.stages * s.depth * s.pathways})) {
        return false;
    }
    AllPlaces places;
    out->state.flags = places.state.take(4);
    out->stem = lay_out_stem(s.channels, s.dim, places);
    out->shared.given = places.shared.take(s.dim);
    out->shared.seen_given = places.shared.take(kFrames * s.dim);
    out->shared.seen_stage = places.shared.take(kFrames * s.dim);
    out->shared.x = places.shared.take(s.dim);
    out->shared.of_heads = places.shared.take(s.slow_dim + s.dim);
    out->fast = lay_out_block(s.fast_block(), places.shared);
    out->slow = lay_out_block(s.slow_block(), places.shared);
    out->heads = lay_out_heads(s.slow_dim + s.dim, s.classes, places.weights);
    out->stages = as_int(s.stages);
    out->depth = as_int(s.depth);
    out->pathways = as_int(s.pathways);

    const AllPlaces pathway = lay_out_pathway(s, *out);
    out->weight.pathways = places.weights.take(s.pathways * pathway.weights.end());
    out->state.given = places.state.take(2 * s.dim);
    out->state.pathways = places.state.take(s.pathways * pathway.state.end());
    return places.total(&out->total);
}

}  // namespace metst::cuda::fused
