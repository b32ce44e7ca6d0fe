// Sizes of Mamba blocks that the step is compiled for, and what a block of threads has of one where several share it.
// Networks of other sizes run too, more slowly.
#pragma once

#include <algorithm>
#include <tuple>

#include "network_step/plan.h"

namespace metst::cuda::fused {

// Of any sizes.
struct AnyBlock {
    static constexpr bool kKnown = false;
    static constexpr int kDim = 4, kInner = 4, kStates = 4, kConv = 1, kRank = 1;  // of nothing
};

// The published ones have twice as many channels inside, 64 states and 4 taps.
template <int Dim, int Rank>
struct PublishedBlock {
    static constexpr bool kKnown = true;
    static constexpr int kDim = Dim, kInner = 2 * Dim, kStates = 64, kConv = 4, kRank = Rank;
};

template <class Sizes>
bool is(const BlockPlan& p) {
    return !Sizes::kKnown || (p.dim == Sizes::kDim && p.inner == Sizes::kInner && p.states == Sizes::kStates &&
                              p.conv == Sizes::kConv && p.rank == Sizes::kRank);
}

// Where everything lies of a block's share: BlockPlan's weights, of its own channels, and state. Of known sizes, which
// leave nothing to pad.
template <class Sizes, int Blocks>
struct Share {
    static constexpr int kOwn = Sizes::kInner / Blocks;
    static constexpr int kNorm = 0;
    static constexpr int kInProj = kNorm + 2 * Sizes::kDim;
    static constexpr int kConv = kInProj + 2 * kOwn * Sizes::kDim;
    static constexpr int kXProj = kConv + (1 + Sizes::kConv) * kOwn;
    static constexpr int kDtProj = kXProj + (2 * Sizes::kStates + Sizes::kRank) * kOwn;
    static constexpr int kRates = kDtProj + (1 + Sizes::kRank) * kOwn;
    static constexpr int kSkip = kRates + kOwn * Sizes::kStates;
    static constexpr int kOutProj = kSkip + kOwn;
    static constexpr int kPostNorm = kOutProj + Sizes::kDim * kOwn;
    static constexpr int kTaps = kPostNorm + 2 * Sizes::kDim;
    static constexpr int kScan = kTaps + (Sizes::kConv - 1) * kOwn;
    static constexpr int kFloats = kScan + kOwn * Sizes::kStates;
};

// Of a block of threads, beside kSharedFloats: what sm_90 and sm_110 have room for. On others (sm_120) there is a block
// a lane where it is too much.
constexpr int kStageFloats = (227 - 48) * 1024 / 4;

// Whether two such shares fit into the stage; all of a Mamba block never does.
template <class Sizes, int Blocks>
constexpr bool is_staged() {
    return Sizes::kKnown && Blocks > 1 && 2 * Share<Sizes, Blocks>::kFloats <= kStageFloats;
}
template <class Sizes, int Blocks>
constexpr int staged_floats() {
    return is_staged<Sizes, Blocks>() ? Share<Sizes, Blocks>::kFloats : 0;
}

// Those of the stem in front of blocks of these sizes.
template <class Sizes, int Channels>
struct StemSizes {
    static constexpr bool kKnown = Sizes::kKnown;
    static constexpr int kChannels = Channels, kDim = Sizes::kDim;
    static bool fit(const StemPlan& p) { return !kKnown || (p.channels == kChannels && p.dim == kDim); }
};

// What is known of a network: of ME-TST's blocks, or of ME-TST+'s two kinds.
template <class Sizes, int Channels>
struct OneStack {
    using Block = Sizes;
    using Stem = StemSizes<Sizes, Channels>;
    static bool fits(const MetstPlan& p) { return Stem::fit(p.stem) && is<Block>(p.block); }
    template <int Blocks>
    static constexpr int kStage = staged_floats<Block, Blocks>();
    // Of a block: where all of a lane's work is in one, as many as there can be with the registers they need.
    template <int Blocks>
    static constexpr int kThreads = Blocks > 1      ? 256
                                    : Sizes::kKnown ? 1024
                                                    : 512;
};
template <class FastSizes, class SlowSizes, int Channels>
struct TwoStacks {
    using Fast = FastSizes;
    using Slow = SlowSizes;
    using Stem = StemSizes<Fast, Channels>;
    static bool fits(const MetstPlusPlan& p) { return Stem::fit(p.stem) && is<Fast>(p.fast) && is<Slow>(p.slow); }
    template <int Blocks>
    static constexpr int kStage = std::max(staged_floats<Fast, Blocks>(), staged_floats<Slow, Blocks>());
    template <int Blocks>
    static constexpr int kThreads = Blocks > 1 && Slow::kDim < 256 ? 256 : 512;
};

// Those of a plan, the first that fits.
template <class Plan>
struct Knowledge;
template <>
struct Knowledge<MetstPlan> {
    using All =
        std::tuple<OneStack<PublishedBlock<64, 4>, 10>, OneStack<PublishedBlock<128, 8>, 10>, OneStack<AnyBlock, 0>>;
};
template <>
struct Knowledge<MetstPlusPlan> {
    using All =
        std::tuple<TwoStacks<PublishedBlock<32, 2>, PublishedBlock<64, 4>, 36>,
                   TwoStacks<PublishedBlock<128, 8>, PublishedBlock<256, 16>, 36>, TwoStacks<AnyBlock, AnyBlock, 0>>;
};

}  // namespace metst::cuda::fused
