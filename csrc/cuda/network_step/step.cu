// The fused step of network_step_cuda.h: all layers in one kernel, a block of threads for every lane or a cluster of
// eight of them, so that a layer waits for the one before at a barrier and not for another launch.
//
// A layer is a chain: norm, in_proj, the time convolution on what comes out of it, x_proj, scan, out_proj, norm and
// sum. What one link hands to the next lies in shared memory, weights come from the second-level cache and are read
// once, the state is read and written once. With dim 64 a layer reads 205 KB of weights and state, which one
// multiprocessor gets in 3,200 cycles: predicted from that and the trips to memory, 45 us a step on an H100 and on an
// Orin, 100 with dim 128. Nothing of it has been measured.
//
// In a cluster each block has an eighth of the inner channels: of in_proj's outputs, of the scan, and of the inputs of
// x_proj and out_proj, whose partial sums all blocks read from each other's shared memory. Two barriers of the cluster
// a layer; stem, norms and the convolutions between ME-TST+'s stacks are done by every block for itself. Predicted:
// 1.5 us a layer of dim 64, a third of the above.
//
// ME-TST+: whether its lane has a slow step now is the same for all of a lane's threads, so a lane without one skips
// its layers and barriers. A step lasts as long as that of a lane which has one, predicted 80 us for metst_plus_small
// and 350 for metst_plus_shared, of which the slow layers take 45 and 250; in clusters 45 and 95.
//
// Counted since: a warp executes about 1,000 instructions a layer, 1,700 where its block has half the threads and dim
// is 64. On four schedulers 32 warps take 8,000 cycles then, more than the bytes, and 16 of the latter 6,600; each
// norm, by one warp, adds about 1,000. That is 75 us for metst64 and 120 for metst_plus_small on an H100.
#include <algorithm>
#include <type_traits>

#include "launch.h"
#include "metst/network_step_cuda.h"
#include "network_step/networks.cuh"
#include "network_step/pack.h"
#include "network_step/plan.h"

namespace metst::cuda {
namespace {

using fused::MetstPlan;
using fused::MetstPlusPlan;

thread_local cudaError_t last_error = cudaSuccess;

template <class Plan>
struct Job {
    Plan plan;
    NetworkStepBuffers at;
};

// A lane as one block, and as a cluster. Two stacks do not fit the 64 registers that each of a thousand threads can
// have: ME-TST+ would spill.
template <class Plan>
using Alone = Team<1, std::is_same_v<Plan, MetstPlan> ? 1024 : 512>;
using Cluster = Team<kClusterBlocks, 256>;

template <class Team, class Plan>
__global__ void __launch_bounds__(Team::kThreads, 1) step_lanes(const Job<Plan> job) {
    METST_DYNAMIC_SHARED(float, shared);
    const Plan& p = job.plan;
    const std::ptrdiff_t lane = static_cast<std::ptrdiff_t>(blockIdx.x) / Team::kBlocks;
    for (int i = static_cast<int>(threadIdx.x); i < p.total.shared; i += Team::kThreads) shared[i] = 0.0f;
    __syncthreads();
    const Frame frame{job.at.weights, job.at.state + lane * p.total.state, job.at.next_state + lane * p.total.state,
                      shared, static_cast<int>(blockIdx.x) % Team::kBlocks};
    step_network<Team>(p, frame, job.at, lane);
}

bool too_small(const MetstSizes& s) {
    return std::min({s.channels, s.dim, s.inner, s.states, s.conv, s.rank, s.classes}) < 1 || s.depth < 0;
}

bool too_small(const MetstPlusSizes& s) {
    return std::min({s.channels, s.dim, s.slow_dim, s.stages, s.depth, s.pathways, s.inner, s.slow_inner, s.states,
                     s.conv, s.rank, s.slow_rank, s.classes}) < 1;
}

template <class Sizes, class Plan>
NetworkStepStatus checked_plan(const Sizes& sizes, Plan* plan) {
    if (too_small(sizes)) return NetworkStepStatus::kBadSize;
    return fused::make_plan(sizes, plan) ? NetworkStepStatus::kOk : NetworkStepStatus::kTooLarge;
}

template <class Plan, class Sizes>
NetworkStepStatus floats_of(const Sizes& sizes, NetworkStepFloats* out) {
    Plan plan;
    const NetworkStepStatus status = checked_plan(sizes, &plan);
    if (status == NetworkStepStatus::kOk) *out = {plan.total.weights, plan.total.state};
    return status;
}

template <class Plan, class Sizes, class Weights>
NetworkStepStatus pack(const Sizes& sizes, const Weights& weights, float* packed) {
    Plan plan;
    const NetworkStepStatus status = checked_plan(sizes, &plan);
    if (status == NetworkStepStatus::kOk) fused::pack(plan, weights, packed);
    return status;
}

template <class Plan, class Sizes>
NetworkStepStatus step(const Sizes& sizes, std::int64_t lanes, const NetworkStepBuffers& buffers, CUstream_st* stream,
                       int blocks) {
    constexpr std::int64_t kMostLanes = 65535;
    Job<Plan> job{{}, buffers};
    const NetworkStepStatus status = checked_plan(sizes, &job.plan);
    if (status != NetworkStepStatus::kOk) return status;
    if (lanes < 1 || lanes > kMostLanes || (blocks != 1 && blocks != kClusterBlocks))
        return NetworkStepStatus::kBadSize;
    if (!buffers.weights || !buffers.features || !buffers.reset || !buffers.state || !buffers.next_state ||
        !buffers.spot || !buffers.emotion) {
        return NetworkStepStatus::kNullPointer;
    }
    const std::size_t bytes = static_cast<std::size_t>(job.plan.total.shared) * sizeof(float);
    const dim3 grid(static_cast<unsigned>(lanes * blocks));
    const auto alone = step_lanes<Alone<Plan>, Plan>, in_cluster = step_lanes<Cluster, Plan>;
    if (blocks == 1) {
        METST_LAUNCH(alone, grid, dim3(Alone<Plan>::kThreads), bytes, stream, job);
    } else {
        METST_LAUNCH_CLUSTER(in_cluster, kClusterBlocks, grid, dim3(Cluster::kThreads), bytes, stream, job);
    }
    const cudaError_t error = cudaGetLastError();
    if (error == cudaSuccess) return NetworkStepStatus::kOk;
    last_error = error;
    return NetworkStepStatus::kCudaError;
}

}  // namespace

const char* last_network_step_error() noexcept { return cudaGetErrorString(last_error); }

NetworkStepStatus network_step_floats(const MetstSizes& sizes, NetworkStepFloats* out) noexcept {
    return floats_of<MetstPlan>(sizes, out);
}

NetworkStepStatus network_step_floats(const MetstPlusSizes& sizes, NetworkStepFloats* out) noexcept {
    return floats_of<MetstPlusPlan>(sizes, out);
}

NetworkStepStatus pack_network_step(const MetstSizes& sizes, const MetstWeights& weights, float* packed) noexcept {
    return pack<MetstPlan>(sizes, weights, packed);
}

NetworkStepStatus pack_network_step(const MetstPlusSizes& sizes, const MetstPlusWeights& weights,
                                    float* packed) noexcept {
    return pack<MetstPlusPlan>(sizes, weights, packed);
}

NetworkStepStatus network_step(const MetstSizes& sizes, std::int64_t lanes, const NetworkStepBuffers& buffers,
                               CUstream_st* stream, int blocks) noexcept {
    return step<MetstPlan>(sizes, lanes, buffers, stream, blocks);
}

NetworkStepStatus network_step(const MetstPlusSizes& sizes, std::int64_t lanes, const NetworkStepBuffers& buffers,
                               CUstream_st* stream, int blocks) noexcept {
    return step<MetstPlusPlan>(sizes, lanes, buffers, stream, blocks);
}

}  // namespace metst::cuda
