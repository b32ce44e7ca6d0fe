// The fused step (network_step_cuda.h) as C functions, for metst_edge, which calls them by ctypes. The plugin's library
// has them. A status is 0 or another NetworkStepStatus. Compiles with a C++ compiler too, for the emulation of the
// tests.
#include <cstddef>
#include <cstdint>
#include <new>
#include <utility>
#include <vector>

#include "metst/network_step_cuda.h"

namespace {

using metst::BlockWeights;
using metst::MetstPlusSizes;
using metst::MetstSizes;
using metst::cuda::NetworkStepBuffers;
using metst::cuda::NetworkStepFloats;
using metst::cuda::NetworkStepStatus;

int number(NetworkStepStatus status) { return static_cast<int>(status); }

// Eight numbers: channels, dim, depth, inner, states, conv, rank, classes.
MetstSizes metst_sizes(const std::int64_t* n) { return {n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7]}; }

// Thirteen: channels, dim, slow_dim, stages, depth, pathways, inner, slow_inner, states, conv, rank, slow_rank and
// classes.
MetstPlusSizes plus_sizes(const std::int64_t* n) {
    return {n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8], n[9], n[10], n[11], n[12]};
}

// The arrays of a bundle in its order.
class Arrays {
public:
    Arrays(const float* const* arrays, std::size_t count) : next_(arrays), left_(count) {}

    bool are(std::int64_t affine, std::int64_t blocks) const {
        return left_ == static_cast<std::size_t>(2 * affine + kOfBlock * blocks);
    }
    metst::AffineWeights affine() {
        const float* const* const a = take(2);
        return {a[0], a[1]};
    }
    std::vector<metst::AffineWeights> affines(std::int64_t count) {
        std::vector<metst::AffineWeights> maps;
        for (std::int64_t i = 0; i < count; ++i) maps.push_back(affine());
        return maps;
    }
    std::vector<BlockWeights> blocks(std::int64_t count) {
        std::vector<BlockWeights> blocks;
        for (std::int64_t i = 0; i < count; ++i) {
            const float* const* const a = take(kOfBlock);  // in the order of BlockWeights
            blocks.push_back({a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11], a[12]});
        }
        return blocks;
    }

private:
    static constexpr int kOfBlock = 13;

    const float* const* take(int count) {
        const float* const* const taken = next_;
        next_ += count;
        return taken;
    }

    const float* const* next_;
    std::size_t left_;
};

template <class Sizes>
int floats_of(const Sizes& sizes, std::int64_t* floats) {
    NetworkStepFloats found;
    const NetworkStepStatus status = metst::cuda::network_step_floats(sizes, &found);
    floats[0] = found.weights;
    floats[1] = found.state;
    return number(status);
}

// Of sizes that fit, no product below overflows.
template <class Sizes>
NetworkStepStatus checked(const Sizes& sizes) {
    NetworkStepFloats floats;
    return metst::cuda::network_step_floats(sizes, &floats);
}

int pack(const MetstSizes& s, Arrays arrays, float* packed) {
    if (const auto status = checked(s); status != NetworkStepStatus::kOk) return number(status);
    if (!arrays.are(4, s.depth)) return number(NetworkStepStatus::kBadSize);
    metst::MetstWeights weights;
    weights.stem[0] = arrays.affine();
    weights.stem[1] = arrays.affine();
    const std::vector<BlockWeights> blocks = arrays.blocks(s.depth);
    weights.blocks = blocks.data();
    weights.spot = arrays.affine();
    weights.emotion = arrays.affine();
    return number(metst::cuda::pack_network_step(s, weights, packed));
}

int pack(const MetstPlusSizes& s, Arrays arrays, float* packed) {
    if (const auto status = checked(s); status != NetworkStepStatus::kOk) return number(status);
    const std::int64_t blocks = s.stages * s.depth;
    if (!arrays.are(4 + s.pathways * s.stages, 2 * s.pathways * blocks)) return number(NetworkStepStatus::kBadSize);
    struct Pathway {
        std::vector<metst::AffineWeights> laterals;
        std::vector<BlockWeights> fast, slow;
    };
    metst::MetstPlusWeights weights;
    weights.stem[0] = arrays.affine();
    weights.stem[1] = arrays.affine();
    std::vector<Pathway> parts;
    std::vector<metst::PathwayWeights> pathways;
    for (std::int64_t i = 0; i < s.pathways; ++i) {
        const metst::AffineWeights entry = arrays.affine();
        Pathway part;
        part.laterals = arrays.affines(s.stages - 1);
        part.fast = arrays.blocks(blocks);
        part.slow = arrays.blocks(blocks);
        parts.push_back(std::move(part));  // the vectors' memory stays where it is
        const Pathway& kept = parts.back();
        pathways.push_back({entry, kept.laterals.data(), kept.fast.data(), kept.slow.data()});
    }
    weights.pathways = pathways.data();
    weights.spot = arrays.affine();
    weights.emotion = arrays.affine();
    return number(metst::cuda::pack_network_step(s, weights, packed));
}

}  // namespace

#define METST_API extern "C" __attribute__((visibility("default")))

// Changes whenever a caller compiled against these functions would no longer fit.
METST_API int metst_network_step_version() { return 3; }

// What a status that this thread has just got means, to follow "but".
METST_API const char* metst_network_step_text(int status) {
    switch (static_cast<NetworkStepStatus>(status)) {
        case NetworkStepStatus::kOk: return "nothing is wrong";
        case NetworkStepStatus::kBadSize: return "a size or the number of lanes is out of range";
        case NetworkStepStatus::kNullPointer: return "an array is missing";
        case NetworkStepStatus::kTooLarge: return "the network is larger than one multiprocessor can step";
        case NetworkStepStatus::kCudaError: return metst::cuda::last_network_step_error();
    }
    return "unknown";
}

// ME-TST. floats: two numbers, those of the packed weights and of a lane's state.
METST_API int metst_network_step_floats(const std::int64_t* sizes, std::int64_t* floats) {
    return floats_of(metst_sizes(sizes), floats);
}

// arrays: weight and bias of the stem's two convolutions, then 13 of each block, then weight and bias of the spotting
// and of the emotion head: in the shapes, and each block's in the order, of a bundle.
METST_API int metst_network_step_pack(const std::int64_t* sizes, const float* const* arrays, std::size_t count,
                                      float* packed) try {
    return pack(metst_sizes(sizes), Arrays(arrays, count), packed);
} catch (const std::bad_alloc&) {
    return number(NetworkStepStatus::kTooLarge);
}

// Addresses in device memory; see NetworkStepBuffers. blocks: 1, 8 where the device has clusters of blocks, or 0
// for whichever is faster.
METST_API int metst_network_step(const std::int64_t* sizes, std::int64_t lanes, const float* weights,
                                 const float* features, const float* reset, const float* state, float* next_state,
                                 float* spot, float* emotion, int blocks, CUstream_st* stream) {
    const NetworkStepBuffers buffers{weights, features, reset, state, next_state, spot, emotion};
    return number(metst::cuda::network_step(metst_sizes(sizes), lanes, buffers, stream, blocks));
}

// ME-TST+, likewise.
METST_API int metst_plus_network_step_floats(const std::int64_t* sizes, std::int64_t* floats) {
    return floats_of(plus_sizes(sizes), floats);
}

// arrays: weight and bias of the stem's two convolutions; of each pathway weight and bias of the entry and of each
// lateral, 13 of each fast block and 13 of each slow one; weight and bias of either head.
METST_API int metst_plus_network_step_pack(const std::int64_t* sizes, const float* const* arrays, std::size_t count,
                                           float* packed) try {
    return pack(plus_sizes(sizes), Arrays(arrays, count), packed);
} catch (const std::bad_alloc&) {
    return number(NetworkStepStatus::kTooLarge);
}

METST_API int metst_plus_network_step(const std::int64_t* sizes, std::int64_t lanes, const float* weights,
                                      const float* features, const float* reset, const float* state, float* next_state,
                                      float* spot, float* emotion, int blocks, CUstream_st* stream) {
    const NetworkStepBuffers buffers{weights, features, reset, state, next_state, spot, emotion};
    return number(metst::cuda::network_step(plus_sizes(sizes), lanes, buffers, stream, blocks));
}
