// The selective scan of a Mamba layer on an NVIDIA GPU: axes, formula and optional inputs are those of
// selective_scan.h. Raw device pointers, sizes and a stream only; needs no CUDA header, knows no framework.
//
// State and arithmetic are float32 whatever the type of the inputs. A decay below 2^-126 counts as zero. A decay near 1
// is a float32, so it is wrong by up to 2^-23: with equal steps that drifts a slowly fading state by up to L 2^-23 of
// itself (within a chunk only, where a long sequence is cut into chunks); with steps that vary the errors cancel, unless
// those of the GPU's own exponential share a sign, which has not been measured.
#pragma once

#include <cstddef>
#include <cstdint>

struct CUstream_st;  // what cudaStream_t points to

namespace metst::cuda {

enum class Type : std::int32_t { kFloat32, kFloat16, kBFloat16 };

// Every array is dense, last axis fastest, and lies in memory that the current device can reach.
struct SelectiveScanArgs {
    std::int64_t batch = 0;     // B >= 0
    std::int64_t length = 0;    // L >= 0; with 0 the state passes through and y is empty
    std::int64_t channels = 0;  // D >= 0
    std::int64_t states = 0;    // N, 0 to 256

    Type type = Type::kFloat32;        // of u, B, C, z and y
    Type delta_type = Type::kFloat32;  // of delta

    const void* u = nullptr;      // (B, L, D)
    const void* delta = nullptr;  // (B, L, D)
    const float* A = nullptr;     // (D, N)
    const void* B = nullptr;      // (B, L, N)
    const void* C = nullptr;      // (B, L, N)

    const float* D = nullptr;           // (D)        null: no skip term
    const void* z = nullptr;            // (B, L, D)  null: no gate
    const float* delta_bias = nullptr;  // (D)        null: zero
    const float* h0 = nullptr;          // (B, D, N)  null: zero; may be h itself, for a state updated in place
    bool delta_softplus = true;

    void* y = nullptr;   // (B, L, D)  overlaps no input
    float* h = nullptr;  // (B, D, N)  the state after the last step; overlaps no input but h0

    void* workspace = nullptr;  // aligned to 4 bytes; used until the enqueued work has finished
    std::size_t workspace_bytes = 0;
};

enum class Status : std::int32_t {
    kOk,
    kBadSize,            // a size is negative, or N is above 256
    kNullPointer,        // a required array of non-zero size, or a workspace of non-zero size, is null
    kUnsupported,        // a type that is not one of Type, or a size that one launch cannot cover (2^31 or more)
    kWorkspaceTooSmall,  // fewer bytes than selective_scan_workspace says
    kCudaError,          // a CUDA call or launch failed; cudaGetLastError() has been called
};

// Bytes of workspace that are enough for these sizes and for every smaller batch and length; 0 where all of them take one
// launch, and for sizes that selective_scan refuses. The same on every device.
std::size_t selective_scan_workspace(std::int64_t batch, std::int64_t length, std::int64_t channels,
                                     std::int64_t states) noexcept;

// Enqueues the scan on `stream` of the current device. Neither allocates nor waits, so it may be captured in a CUDA
// graph. When it returns anything but kOk, nothing useful is in y and h.
Status selective_scan(const SelectiveScanArgs& args, CUstream_st* stream) noexcept;

}  // namespace metst::cuda
