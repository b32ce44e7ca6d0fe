// The selective scan of selective_scan.h on a CUDA device. Raw pointers, sizes and a stream only; knows no Python, no
// TensorRT, and needs no CUDA header to be included.
#pragma once

#include <cstddef>
#include <cstdint>

struct CUstream_st;  // what cudaStream_t points to

namespace metst::cuda {

enum class Type : std::int32_t { kFloat32, kFloat16, kBFloat16 };

// Every array is dense, last axis fastest, in memory the device can read. State and arithmetic are float32 throughout.
struct SelectiveScanArgs {
    std::int64_t batch = 0, length = 0, channels = 0, states = 0;  // B, L, D, N; N at most 256; any may be 0

    Type type = Type::kFloat32;        // of u, B, C, z and y
    Type delta_type = Type::kFloat32;  // of delta

    const void* u = nullptr;            // (B, L, D)
    const void* delta = nullptr;        // (B, L, D)
    const float* A = nullptr;           // (D, N)
    const void* B = nullptr;            // (B, L, N)
    const void* C = nullptr;            // (B, L, N)
    const float* D = nullptr;           // (D)        null: no skip term
    const void* z = nullptr;            // (B, L, D)  null: no gate
    const float* delta_bias = nullptr;  // (D)        null: zero
    const float* h0 = nullptr;          // (B, D, N)  null: zero
    bool delta_softplus = true;

    void* y = nullptr;   // (B, L, D)
    float* h = nullptr;  // (B, D, N)

    void* workspace = nullptr;
    std::size_t workspace_bytes = 0;
};

enum class Status : std::int32_t { kOk, kBadSize, kNullPointer, kUnsupported, kWorkspaceTooSmall, kCudaError };

// Bytes of device memory that selective_scan needs for these sizes.
std::size_t selective_scan_workspace(std::int64_t batch, std::int64_t length, std::int64_t channels,
                                     std::int64_t states);

// Enqueues the scan on the stream; never allocates or synchronises, so that it can be captured in a CUDA graph.
Status selective_scan(const SelectiveScanArgs& args, CUstream_st* stream);

}  // namespace metst::cuda
