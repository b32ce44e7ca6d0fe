// Stands in for the CUDA scan where there is no GPU: the same functions, on host memory. What it remembers of its calls
// is for the plugin's driver test.
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
