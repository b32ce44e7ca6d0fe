// What the blocks of a cluster do together: wait for each other, and write into each other's shared memory. A GPU
// before sm_90 has no clusters; what needs them must not be launched there.
//
// Included by .cu files alone; internal linkage.
#pragma once

#include "launch.h"

namespace metst::cuda {
namespace {

// Waits for every thread of the cluster, which must all come here; what they have written can be read then.
__device__ inline void sync_cluster() {
#ifdef METST_CUDA_ON_CPU
    cuda_on_cpu::wait(cuda_on_cpu::cluster_barrier);
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.arrive.release;\n\tbarrier.cluster.wait.acquire;" ::: "memory");
#else
    __trap();
#endif
}

// Where the block of that rank has what `own` points to in this block's dynamic shared memory. That block must have
// begun, and must not have ended.
__device__ inline float* of_rank(float* own, int rank) {
#ifdef METST_CUDA_ON_CPU
    using namespace cuda_on_cpu;
    auto* const base = reinterpret_cast<float*>(dynamic_shared_of(rank_in_cluster()));
    return reinterpret_cast<float*>(dynamic_shared_of(static_cast<unsigned>(rank))) + (own - base);
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    float* theirs;
    asm("mapa.u64 %0, %1, %2;" : "=l"(theirs) : "l"(own), "r"(rank));
    return theirs;
#else
    return own + rank;  // never run
#endif
}

}  // namespace
}  // namespace metst::cuda
