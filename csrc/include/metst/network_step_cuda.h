// What metst::network_step (metst_network.h, metst_plus_network.h) does, on an NVIDIA GPU: one frame through a whole
// network in one launch, a block of threads for every lane or, on sm_90 and later, a cluster of blocks. Needs no CUDA
// header and no engine that was built before; knows no framework. csrc/cuda/network_step_c.cpp is the same for other
// languages.
//
// Scores are within float32 rounding of the CPU's.
#pragma once

#include <cstdint>

#include "metst/metst_network.h"
#include "metst/metst_plus_network.h"

struct CUstream_st;  // what cudaStream_t points to

namespace metst::cuda {

enum class NetworkStepStatus : std::int32_t {
    kOk,
    kBadSize,      // a size or the number of lanes is out of range
    kNullPointer,  // an array is null
    kTooLarge,     // a frame's values do not fit into a multiprocessor's shared memory, or the weights into 2^31 floats
    kCudaError,    // the launch failed; cudaGetLastError() has been called
};

// Floats that a network takes. Both are multiples of 4.
struct NetworkStepFloats {
    std::int64_t weights = 0;  // packed
    std::int64_t state = 0;    // of one lane
};

// What CUDA said of this thread's last failure.
const char* last_network_step_error() noexcept;

// Sizes as MetstSizes and MetstPlusSizes say.
NetworkStepStatus network_step_floats(const MetstSizes& sizes, NetworkStepFloats* out) noexcept;
NetworkStepStatus network_step_floats(const MetstPlusSizes& sizes, NetworkStepFloats* out) noexcept;

// Writes the weights to `packed`, in the host's memory, as the step reads them from the device's.
NetworkStepStatus pack_network_step(const MetstSizes& sizes, const MetstWeights& weights, float* packed) noexcept;
NetworkStepStatus pack_network_step(const MetstPlusSizes& sizes, const MetstPlusWeights& weights,
                                    float* packed) noexcept;

// In device memory, aligned to 16 bytes; all that is written lies apart from all that is read.
struct NetworkStepBuffers {
    const float* weights = nullptr;   // packed
    const float* features = nullptr;  // (lanes, channels)
    const float* reset = nullptr;     // (lanes), not 0 where this frame is the first of the lane's next window
    const float* state = nullptr;     // (lanes, floats) that the step before has written; zeros before the first step
    float* next_state = nullptr;      // (lanes, floats), all of it written
    float* spot = nullptr;            // (lanes), 0 to 1, of the frame as many steps earlier as the network looks ahead
    float* emotion = nullptr;         // (lanes, classes), logits
};

constexpr int kClusterBlocks = 8;
constexpr int kFastestBlocks = 0;  // one or kClusterBlocks, whichever is faster on this device with so many lanes

// Enqueues a step on `stream` of the current device. Neither allocates nor waits, and its arguments may stay the same
// but for the two states that change places: it may be captured in a CUDA graph. What it has read is left as it was, so
// a step is taken back by stepping from the same state again. blocks: that a lane is spread over: 1, kClusterBlocks,
// which needs sm_90 or later, or kFastestBlocks.
NetworkStepStatus network_step(const MetstSizes& sizes, std::int64_t lanes, const NetworkStepBuffers& buffers,
                               CUstream_st* stream, int blocks = kFastestBlocks) noexcept;
NetworkStepStatus network_step(const MetstPlusSizes& sizes, std::int64_t lanes, const NetworkStepBuffers& buffers,
                               CUstream_st* stream, int blocks = kFastestBlocks) noexcept;

}  // namespace metst::cuda
