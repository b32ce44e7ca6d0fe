// The step of ME-TST+: the order of its layers (layers_simd.h), which lanes and frames each of them is for, and which
// window's end it is at.
//
// The published network reads 66 MB of weights a frame, in half precision 36, three quarters of them the slow stacks',
// and 13 MB of state with two lanes: the time is that of streaming them. A Zen 5 core that reads 37 GB/s takes 1.8 ms
// and 1.2 of them where it has the caches to itself (AVX-512). With windows half of which is an odd number of frames,
// as published, every frame has one lane's slow step, so that all frames cost the same. Were both lanes' steps on the
// same frames, which an even half shows, a frame would take 1.48 times less on average, in half precision 1.35, and the
// dearer ones no less; it would cost a frame of delay in every engine.
#include "network/layers_simd.h"
#include "network/metst_plus.h"
#include "simd/simd.h"

namespace metst {
namespace {

class MetstPlusStep {
public:
    MetstPlusStep(const MetstPlusSizes& sizes, const NetworkStepArgs& args)
        : s_(sizes),
          a_(args),
          memory_(args.stream),
          stream_(memory_, sizes, args.lanes),
          layers_(args.packed, args.format, {stream_.lanes, args.lanes}) {}

    void run(std::int64_t slow_size) {
        const std::int64_t due = note_resets();
        run_stem();
        for (std::int64_t p = 0; p < s_.pathways; ++p) run_fast(pathway(p));
        if (due == 0) {
            layers_.skip(slow_size);
        } else {
            layers_.run_for({stream_.due, due});
            for (std::int64_t p = 0; p < s_.pathways; ++p) run_slow(pathway(p), due);
            layers_.run_for({stream_.lanes, a_.lanes});
        }
        run_heads();
    }

private:
    // Writes down which lanes there are and which have a slow step now; returns how many have.
    std::int64_t note_resets() {
        float* const now = reset(0);
        std::int64_t due = 0;
        for (std::int64_t lane = 0; lane < a_.lanes; ++lane) {
            now[lane] = a_.reset[lane] ? 1.0f : 0.0f;
            stream_.lanes[lane] = static_cast<std::int32_t>(lane);
            stream_.odd[lane] = reset(kScored)[lane] != 0.0f ? 0.0f : 1.0f - stream_.odd[lane];
            if (stream_.odd[lane] == 0.0f) stream_.due[due++] = static_cast<std::int32_t>(lane);
        }
        return due;
    }

    void run_stem() {
        const Ring* const inputs = stream_.stem_input;
        constexpr MatrixFormat kFormat = MatrixFormat::kFloat32;
        layers_.remember(inputs[0], a_.fed, a_.features, s_.channels, s_.channels);
        layers_.convolution(inputs[0], a_.fed, s_.channels, reset(1), reset(0), kFormat, stream_.seen, stream_.x,
                            s_.dim);
        layers_.remember(inputs[1], a_.fed, stream_.x, padded(s_.dim), s_.dim);
        layers_.convolution(inputs[1], a_.fed, s_.dim, reset(2), reset(1), kFormat, stream_.seen, stream_.x, s_.dim);
        layers_.remember(stream_.stem, a_.fed, stream_.x, padded(s_.dim), s_.dim);
    }

    // On the stem's newest frame, in all lanes.
    void run_fast(const PathwayState& state) {
        const float* const from_stem = stream_.stem.frame(a_.fed, 0, 0);
        for (std::int64_t i = 0; i < a_.lanes * padded(s_.dim); ++i) stream_.x[i] = from_stem[i];
        for (std::int64_t stage = 0; stage < s_.stages; ++stage) {
            run_stage(stage, s_.fast_block(), state.fast_blocks, stream_.fast_work, a_.fed, reset(kFast), stream_.x);
            const bool last = stage + 1 == s_.stages;
            const Ring& kept = last ? state.fast : state.lateral(s_, a_.lanes, stage);
            layers_.remember(kept, a_.fed, stream_.x, padded(s_.dim), s_.dim);
        }
    }

    // Around the frame before, in the lanes that are due. Within a window such steps are two frames apart, so half the
    // frames' count moves the blocks' rings on; where a window begins they are cleared.
    void run_slow(const PathwayState& state, std::int64_t due) {
        const auto around = [&](const Ring& frames, float* y) {
            layers_.convolution(frames, a_.fed, s_.dim, reset(kScored), reset(kFast), a_.format, stream_.seen, y,
                                s_.slow_dim);
        };
        around(stream_.stem, stream_.slow);
        for (std::int64_t stage = 0; stage < s_.stages; ++stage) {
            run_stage(stage, s_.slow_block(), state.slow_blocks, stream_.slow_work, a_.fed / 2, reset(kScored),
                      stream_.slow);
            if (stage + 1 < s_.stages) {
                around(state.lateral(s_, a_.lanes, stage), stream_.lateral);
                layers_.add(stream_.lateral, s_.slow_dim, stream_.slow);
            }
        }
        const std::int64_t width = padded(s_.slow_dim);
        for (std::int64_t row = 0; row < due; ++row) {
            float* const kept = state.slow + stream_.due[row] * width;
            for (std::int64_t i = 0; i < width; ++i) kept[i] = stream_.slow[row * width + i];
        }
    }

    void run_stage(std::int64_t stage, const BlockSizes& block, float* blocks, const BlockWork& work, std::int64_t now,
                   const float* begins, float* x) {
        const std::int64_t size = BlockState::size(block, a_.lanes);
        for (std::int64_t i = stage * s_.depth; i < (stage + 1) * s_.depth; ++i) {
            Pieces of_block(blocks + i * size);
            layers_.mamba_block(block, BlockState(of_block, block, a_.lanes), work, now, begins, x);
        }
    }

    void run_heads() {
        const std::int64_t inputs = s_.slow_dim + s_.dim;
        for (int head = 0; head < 2; ++head) {
            const PathwayState state = pathway(head == 0 ? 0 : s_.pathways - 1);
            for (std::int64_t lane = 0; lane < a_.lanes; ++lane) {
                float* const input = stream_.head_input[head] + lane * padded(inputs);
                const float* const slow = state.slow + lane * padded(s_.slow_dim);
                const float* const fast = state.fast.frame(a_.fed, 1, lane);
                for (std::int64_t i = 0; i < s_.slow_dim; ++i) input[i] = slow[i];
                for (std::int64_t i = 0; i < s_.dim; ++i) input[s_.slow_dim + i] = fast[i];
            }
        }
        layers_.heads(stream_.head_input[0], stream_.head_input[1], inputs, s_.classes, stream_.scores, a_.spot,
                      a_.emotion);
    }

    // The flags of the frame fed `age` steps ago.
    float* reset(std::int64_t age) const { return stream_.resets.frame(a_.fed, age, 0); }

    PathwayState pathway(std::int64_t p) const {
        Pieces of_pathway(stream_.pathways + p * PathwayState::size(s_, a_.lanes));
        return PathwayState(of_pathway, s_, a_.lanes);
    }

    static constexpr std::int64_t kFast = 2;    // age of the frame that the stem gives
    static constexpr std::int64_t kScored = 3;  // of the one whose scores are given

    const MetstPlusSizes& s_;
    const NetworkStepArgs& a_;
    Pieces memory_;
    const MetstPlusStream stream_;
    Layers<Simd> layers_;
};

}  // namespace

template <>
void metst_plus_step_on<kPath>(const MetstPlusSizes& sizes, const NetworkStepArgs& args, std::int64_t slow_size) {
    MetstPlusStep(sizes, args).run(slow_size);
}

}  // namespace metst
