// Copies from global to shared memory that go on while the thread does other work (cp.async, sm_80 and later). What a
// thread has copied it can read behind wait_for_copies(), the block's others behind a barrier after that.
//
// Included by .cu files alone; internal linkage.
#pragma once

#include "launch.h"

namespace metst::cuda {
namespace {

// Begins to copy four floats. Of global memory that nobody writes meanwhile.
__device__ inline void copy_async(float4* shared, const float4* global) {
#ifdef METST_CUDA_ON_CPU
    cuda_on_cpu::copy_later(shared, global);
#else
    const auto to = static_cast<unsigned>(__cvta_generic_to_shared(shared));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(global) : "memory");
#endif
}

// Waits for all that this thread has begun.
__device__ inline void wait_for_copies() {
#ifdef METST_CUDA_ON_CPU
    cuda_on_cpu::copy_now();
#else
    asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}

}  // namespace
}  // namespace metst::cuda
