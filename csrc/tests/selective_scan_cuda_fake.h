// What the fake of the CUDA scan remembers, for the driver test of the TensorRT plugin.
#pragma once

#include "metst/selective_scan_cuda.h"

struct FakeScan {
    int calls = 0;
    metst::cuda::SelectiveScanArgs args;                    // of the last call
    CUstream_st* stream = nullptr;                          // of the last call
    metst::cuda::Status answer = metst::cuda::Status::kOk;  // anything but kOk: returned without computing
};

// Exported by a plugin library that was linked with the fake; the library's own.
extern "C" FakeScan* metst_fake_scan();
