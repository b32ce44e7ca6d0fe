// Device memory for the tests of CUDA code: a GPU's, or the host's with the emulation of cuda_on_cpu.h.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#ifdef METST_CUDA_ON_CPU
#include "cuda_on_cpu.h"
#else
#include <cuda_runtime.h>
#endif

// Ends the process where CUDA refuses something that a test only needs.
inline void check(cudaError_t error, const char* what) {
    if (error == cudaSuccess) return;
    std::printf("%s failed with CUDA error %d\n", what, static_cast<int>(error));
    std::exit(1);
}

// Says so where there is no device to test on; the process then ends with kSkipped.
constexpr int kSkipped = 77;
inline bool has_device() {
    int devices = 0;
    if (cudaGetDeviceCount(&devices) == cudaSuccess && devices > 0) return true;
    std::printf("skipped: no CUDA device\n");
    return false;
}

// Whether every kernel is to run once or twice and no more: compute-sanitizer makes a test many times as slow. As a
// test is told by the argument "briefly".
inline bool briefly(int argc, char** argv) { return argc > 1 && std::string(argv[1]) == "briefly"; }

template <class T>
std::vector<T> download(const T* from, std::size_t count) {
    std::vector<T> out(count);
    check(cudaMemcpy(out.data(), from, count * sizeof(T), cudaMemcpyDeviceToHost), "download");
    return out;
}

// Every byte is 0xff at first: NaN in every type of float.
template <class T>
class DeviceArray {
public:
    explicit DeviceArray(std::size_t size) : size_(size) {
        check(cudaMalloc(reinterpret_cast<void**>(&data_), std::max<std::size_t>(bytes(), 1)), "cudaMalloc");
        check(cudaMemset(data_, 0xff, bytes()), "cudaMemset");
    }
    ~DeviceArray() { cudaFree(data_); }
    DeviceArray(const DeviceArray&) = delete;
    DeviceArray& operator=(const DeviceArray&) = delete;

    T* data() const { return data_; }
    std::size_t bytes() const { return size_ * sizeof(T); }
    void upload(const std::vector<T>& values) { upload(values.data()); }  // as many as the array has
    void upload(const void* from) { check(cudaMemcpy(data_, from, bytes(), cudaMemcpyHostToDevice), "upload"); }

private:
    T* data_ = nullptr;
    std::size_t size_;
};
