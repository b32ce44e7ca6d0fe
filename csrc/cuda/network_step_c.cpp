// The fused step (network_step_cuda.h) as C functions, for metst_edge, which calls them by ctypes. The plugin's library
// has them. A status is 0 or another NetworkStepStatus. Compiles with a C++ compiler too, for the emulation of the
// tests.
#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

#include "metst/network_step_cuda.h"

namespace {

using metst::BlockWeights;
using metst::MetstSizes;
using metst::cuda::NetworkStepBuffers;
using metst::cuda::NetworkStepFloats;
using metst::cuda::NetworkStepStatus;

int number(NetworkStepStatus status) { return static_cast<int>(status); }

// Eight numbers: channels, dim, depth, inner, states, conv, rank, classes.
MetstSizes sizes_of(const std::int64_t* n) { return {n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7]}; }

constexpr std::size_t kArraysOfBlock = 13;
constexpr std::size_t kOtherArrays = 8;

// Their order: that of BlockWeights.
BlockWeights block_of(const float* const* a) {
    return {a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11], a[12]};
}

}  // namespace

#define METST_API extern "C" __attribute__((visibility("default")))

// Changes whenever a caller compiled against these functions would no longer fit.
METST_API int metst_network_step_version() { return 1; }

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

// floats: two numbers, those of the packed weights and of a lane's state.
METST_API int metst_network_step_floats(const std::int64_t* sizes, std::int64_t* floats) {
    NetworkStepFloats found;
    const NetworkStepStatus status = metst::cuda::network_step_floats(sizes_of(sizes), &found);
    floats[0] = found.weights;
    floats[1] = found.state;
    return number(status);
}

// arrays: weight and bias of the stem's two convolutions, then 13 of each block, then weight and bias of the spotting
// and of the emotion head: in the shapes, and each block's in the order, of a bundle.
METST_API int metst_network_step_pack(const std::int64_t* sizes, const float* const* arrays, std::size_t count,
                                      float* packed) try {
    const MetstSizes s = sizes_of(sizes);
    if (s.depth < 0 || count < kOtherArrays ||
        count - kOtherArrays != static_cast<std::size_t>(s.depth) * kArraysOfBlock) {
        return number(NetworkStepStatus::kBadSize);
    }
    std::vector<BlockWeights> blocks;
    for (std::size_t i = 0; i < static_cast<std::size_t>(s.depth); ++i) {
        blocks.push_back(block_of(arrays + 4 + i * kArraysOfBlock));
    }
    const float* const* const heads = arrays + count - 4;
    metst::MetstWeights weights;
    weights.stem[0] = {arrays[0], arrays[1]};
    weights.stem[1] = {arrays[2], arrays[3]};
    weights.blocks = blocks.data();
    weights.spot = {heads[0], heads[1]};
    weights.emotion = {heads[2], heads[3]};
    return number(metst::cuda::pack_network_step(s, weights, packed));
} catch (const std::bad_alloc&) {
    return number(NetworkStepStatus::kTooLarge);
}

// Addresses in device memory; see NetworkStepBuffers. blocks: 1, or 8 where the device has clusters of blocks.
METST_API int metst_network_step(const std::int64_t* sizes, std::int64_t lanes, const float* weights,
                                 const float* features, const float* reset, const float* state, float* next_state,
                                 float* spot, float* emotion, int blocks, CUstream_st* stream) {
    const NetworkStepBuffers buffers{weights, features, reset, state, next_state, spot, emotion};
    return number(metst::cuda::network_step(sizes_of(sizes), lanes, buffers, stream, blocks));
}
