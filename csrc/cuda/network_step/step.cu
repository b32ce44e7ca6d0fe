// The fused step of network_step_cuda.h: all layers in one kernel, a block of threads for every lane or a cluster of
// eight of them, so that a layer waits for the one before at a barrier and not for another launch.
//
// A layer is a chain: norm, in_proj, the time convolution on what comes out of it, x_proj, scan, out_proj, norm and
// sum. What one link hands to the next lies in shared memory, the state is read and written once.
//
// In a cluster each block has an eighth of the inner channels: of in_proj's outputs, of the scan, and of the inputs of
// x_proj and out_proj, whose partial sums all blocks write into each other's shared memory. Two barriers of the cluster
// a layer; stem, norms and the convolutions between ME-TST+'s stacks are done by every block for itself.
//
// ME-TST+: whether its lane has a slow step now is the same for all of a lane's threads, so a lane without one skips
// its layers and barriers. A step lasts as long as that of a lane which has one.
//
// An H200 takes 76 us for two lanes of metst64 as one block each and 42 as clusters, 108 and 80 for metst_plus_small,
// 1,220 and 530 for metst_plus; of 8 lanes metst64 and metst_plus_small take no longer, of 32 clusters take 1.3 times
// as long as blocks and more. It took 126 and 95, 216 and 181, 2,700 and 1,100 before the compiler knew the sizes, when
// one warp did the norms and weights came from the second-level cache as they were needed: samples (ncu) gave a fifth
// of a layer to the norms and their barriers, a third to waiting for weights, and a warp executed 1,300 instructions a
// layer, which are 840 now. Copying into the stage is worth a tenth of metst_plus_small and 2 % of metst64; writing the
// state behind the barrier 5 % of metst_plus and nothing of others. What is left of 3.5 us a layer: the two barriers of
// the cluster a fifth, shuffles and shared memory most.
#include <algorithm>
#include <tuple>

#include "launch.h"
#include "metst/network_step_cuda.h"
#include "network_step/known.h"
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

// Those who work on a lane of a network of which so much is known.
template <class Known, int Blocks>
using TeamOf = Team<Blocks, Known::template kThreads<Blocks>>;

template <class Team, class Plan, class Known>
__global__ void __launch_bounds__(Team::kThreads, 1) step_lanes(const Job<Plan> job) {
    METST_DYNAMIC_SHARED(float, shared);
    const Plan& p = job.plan;
    const std::ptrdiff_t lane = static_cast<std::ptrdiff_t>(blockIdx.x) / Team::kBlocks;
    const Frame frame{job.at.weights, job.at.state + lane * p.total.state, job.at.next_state + lane * p.total.state,
                      shared, static_cast<int>(blockIdx.x) % Team::kBlocks};
    const Stage stage{shared + p.total.shared, Known::template kStage<Team::kBlocks>};
    step_network<Team, Known>(p, frame, stage, job.at, lane);
}

// Clusters where the device has them and room for so many bytes of each block, until their blocks fill it.
cudaError_t fastest(std::int64_t lanes, std::size_t bytes_in_cluster, int* blocks) {
    int device = 0, clusters = 0, multiprocessors = 0, bytes = 0;
    cudaError_t error = cudaGetDevice(&device);
    if (error == cudaSuccess) error = cudaDeviceGetAttribute(&clusters, cudaDevAttrClusterLaunch, device);
    if (error == cudaSuccess) {
        error = cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
    }
    if (error == cudaSuccess) error = cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
    const bool fits = clusters != 0 && bytes_in_cluster <= static_cast<std::size_t>(bytes);
    *blocks = fits && lanes * kClusterBlocks <= multiprocessors ? kClusterBlocks : 1;
    return error;
}

template <class Known, class Plan>
cudaError_t launch(const Job<Plan>& job, std::int64_t lanes, int blocks, CUstream_st* stream) {
    const std::size_t bytes = static_cast<std::size_t>(job.plan.total.shared) * sizeof(float);
    const std::size_t in_cluster = bytes + 2 * sizeof(float) * Known::template kStage<kClusterBlocks>;
    if (blocks == kFastestBlocks) {
        const cudaError_t error = fastest(lanes, in_cluster, &blocks);
        if (error != cudaSuccess) return error;
    }
    const dim3 grid(static_cast<unsigned>(lanes * blocks));
    if (blocks == 1) {
        using Alone = TeamOf<Known, 1>;
        const auto kernel = step_lanes<Alone, Plan, Known>;
        METST_LAUNCH(kernel, grid, dim3(Alone::kThreads), bytes, stream, job);
    } else {
        using Cluster = TeamOf<Known, kClusterBlocks>;
        const auto kernel = step_lanes<Cluster, Plan, Known>;
        METST_ALLOW_SHARED(kernel, in_cluster);
        METST_LAUNCH_CLUSTER(kernel, kClusterBlocks, grid, dim3(Cluster::kThreads), in_cluster, stream, job);
    }
    return cudaGetLastError();
}

// With what is known first of all that fits.
template <class Plan, class... Known>
cudaError_t launch(std::tuple<Known...>, const Job<Plan>& job, std::int64_t lanes, int blocks, CUstream_st* stream) {
    cudaError_t error = cudaSuccess;
    (void)((Known::fits(job.plan) && (error = launch<Known>(job, lanes, blocks, stream), true)) || ...);
    return error;
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
    if (lanes < 1 || lanes > kMostLanes || (blocks != 1 && blocks != kClusterBlocks && blocks != kFastestBlocks))
        return NetworkStepStatus::kBadSize;
    if (!buffers.weights || !buffers.features || !buffers.reset || !buffers.state || !buffers.next_state ||
        !buffers.spot || !buffers.emotion) {
        return NetworkStepStatus::kNullPointer;
    }
    const cudaError_t error = launch(typename fused::Knowledge<Plan>::All{}, job, lanes, blocks, stream);
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
