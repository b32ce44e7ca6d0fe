// Records what is enqueued on a CUDA stream once, and enqueues all of it with one call from then on.
//
// For the Python engine: pycuda has no stream capture. The driver's functions are looked up when they are first asked
// for, so this needs no CUDA to be compiled or linked, and every installation has it.
#pragma once

struct CUstream_st;     // what CUstream and cudaStream_t point to
struct CUgraph_st;      // CUgraph
struct CUgraphExec_st;  // CUgraphExec

namespace metst::cuda {

// What is needed of the driver, under the names that libcuda exports. All return a CUresult, 0 for success.
struct GraphDriver {
    int (*cuStreamBeginCapture_v2)(CUstream_st* stream, int mode);
    int (*cuStreamEndCapture)(CUstream_st* stream, CUgraph_st** graph);
    int (*cuGraphInstantiateWithFlags)(CUgraphExec_st** executable, CUgraph_st* graph, unsigned long long flags);
    int (*cuGraphLaunch)(CUgraphExec_st* executable, CUstream_st* stream);
    int (*cuGraphExecDestroy)(CUgraphExec_st* executable);
    int (*cuGraphDestroy)(CUgraph_st* graph);
    int (*cuGetErrorString)(int error, const char** text);
};

// The installed driver's; null where there is none, or one older than CUDA 11.4. Safe to call from any thread.
const GraphDriver* graph_driver() noexcept;

// A recorded graph. The context of the stream must be current in every call, and `begin` and `end` be called by the
// same thread; meanwhile what other threads ask of the GPU is not restricted. The driver must outlive it.
class Graph {
public:
    static constexpr int kNothingRecorded = -1;  // among the CUresults, which are not negative
    static constexpr int kRecording = -2;

    explicit Graph(const GraphDriver& driver) noexcept : driver_(driver) {}
    ~Graph() { close(); }
    Graph(const Graph&) = delete;
    Graph& operator=(const Graph&) = delete;

    // Forgets what was recorded before; from now on, what is enqueued on the stream is recorded and not run.
    int begin(CUstream_st* stream) noexcept;
    // Ends the recording, whatever happened in it; what was recorded can be launched if this is 0.
    int end() noexcept;
    // Enqueues everything recorded.
    int launch(CUstream_st* stream) const noexcept;
    // Forgets what was recorded, and ends a recording under way. Launches that have not run yet still do.
    void close() noexcept;

    // What a status that is not 0 means.
    const char* text(int status) const noexcept;

private:
    const GraphDriver& driver_;
    CUstream_st* recorded_ = nullptr;  // being recorded
    CUgraphExec_st* executable_ = nullptr;
};

}  // namespace metst::cuda
