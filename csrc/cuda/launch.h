// What a kernel source needs from its compiler: nvcc, or a C++ compiler with the emulation of the tests.
#pragma once

#ifdef METST_CUDA_ON_CPU
#include "cuda_on_cpu.h"
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

// METST_SHARED(float, tile, [4][8]) declares the array `tile`, METST_DYNAMIC_SHARED(float, tile) a pointer to as much
// as the launch asks for.
#define METST_SHARED(type, name, ...) __shared__ type name __VA_ARGS__
#define METST_DYNAMIC_SHARED(type, name)      \
    extern __shared__ float4 name##_memory[]; \
    type* const name = reinterpret_cast<type*>(name##_memory)
#define METST_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
    kernel<<<grid, block, shared_bytes, stream>>>(__VA_ARGS__)
// Lets a kernel be launched with more than 48 KB of dynamic shared memory, from now on; may be called in a capture.
#define METST_ALLOW_SHARED(kernel, bytes) \
    cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes))
// A launch with so many neighbouring blocks in a cluster (sm_90 and later; cluster.cuh).
#define METST_LAUNCH_CLUSTER(kernel, blocks_together, grid, block, shared_bytes, stream, ...) \
    do {                                                                                      \
        cudaLaunchAttribute cluster_attribute{};                                              \
        cluster_attribute.id = cudaLaunchAttributeClusterDimension;                           \
        cluster_attribute.val.clusterDim = {static_cast<unsigned>(blocks_together), 1, 1};    \
        cudaLaunchConfig_t cluster_launch{};                                                  \
        cluster_launch.gridDim = grid;                                                        \
        cluster_launch.blockDim = block;                                                      \
        cluster_launch.dynamicSmemBytes = shared_bytes;                                       \
        cluster_launch.stream = stream;                                                       \
        cluster_launch.attrs = &cluster_attribute;                                            \
        cluster_launch.numAttrs = 1;                                                          \
        cudaLaunchKernelEx(&cluster_launch, kernel, __VA_ARGS__);                             \
    } while (false)
#endif
