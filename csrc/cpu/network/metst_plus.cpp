// ME-TST+'s weights and stream, and the checks before a step.
#include "network/metst_plus.h"

#include <algorithm>

#include "network/checked.h"
#include "network/pack.h"

namespace metst {
namespace {

// In the order of the step (metst_plus_simd.cpp). Without weights when only counting.
void pack_stem_and_fast(Packer& packer, const MetstPlusSizes& s, const MetstPlusWeights& w, MatrixFormat format) {
    pack_convolution(packer, s.channels, s.dim, w.stem[0], MatrixFormat::kFloat32);
    pack_convolution(packer, s.dim, s.dim, w.stem[1], MatrixFormat::kFloat32);
    for (std::int64_t p = 0; p < s.pathways; ++p) {
        for (std::int64_t i = 0; i < s.stages * s.depth; ++i) {
            pack_mamba_block(packer, s.fast_block(), packer.writes() ? w.pathways[p].fast[i] : BlockWeights(), format);
        }
    }
}

void pack_slow(Packer& packer, const MetstPlusSizes& s, const MetstPlusWeights& w, MatrixFormat format) {
    for (std::int64_t p = 0; p < s.pathways; ++p) {
        const PathwayWeights of_pathway = packer.writes() ? w.pathways[p] : PathwayWeights();
        pack_convolution(packer, s.dim, s.slow_dim, of_pathway.entry, format);
        for (std::int64_t i = 0; i < s.stages * s.depth; ++i) {
            pack_mamba_block(packer, s.slow_block(), packer.writes() ? of_pathway.slow[i] : BlockWeights(), format);
            const std::int64_t stage = i / s.depth;
            if ((i + 1) % s.depth == 0 && stage + 1 < s.stages) {
                const AffineWeights lateral = packer.writes() ? of_pathway.laterals[stage] : AffineWeights();
                pack_convolution(packer, s.dim, s.slow_dim, lateral, format);
            }
        }
    }
}

void pack(Packer& packer, const MetstPlusSizes& s, const MetstPlusWeights& w, MatrixFormat format) {
    pack_stem_and_fast(packer, s, w, format);
    pack_slow(packer, s, w, format);
    pack_heads(packer, s.slow_dim + s.dim, s.classes, w.spot, w.emotion);
}

bool bad(const MetstPlusSizes& s) {
    return std::min({s.channels, s.dim, s.slow_dim, s.stages, s.depth, s.pathways, s.inner, s.slow_inner, s.states,
                     s.conv, s.rank, s.slow_rank, s.classes}) < 1;
}

}  // namespace

std::int64_t packed_network_size(const MetstPlusSizes& s, MatrixFormat format) {
    Packer counted;
    pack(counted, s, MetstPlusWeights(), format);
    return counted.size();
}

void pack_network(const MetstPlusSizes& s, const MetstPlusWeights& w, MatrixFormat format, float* packed) {
    Packer packer(packed);
    pack(packer, s, w, format);
}

std::int64_t network_stream_size(const MetstPlusSizes& s, std::int64_t lanes) {
    Pieces counted;
    MetstPlusStream(counted, s, lanes);
    return counted.used();
}

Status network_step(const MetstPlusSizes& s, const NetworkStepArgs& args, SimdPath path) {
    return checked_step(args, bad(s), path, [&](auto chosen) {
        Packer slow;
        pack_slow(slow, s, MetstPlusWeights(), args.format);
        metst_plus_step_on<chosen>(s, args, slow.size());
    });
}

}  // namespace metst
