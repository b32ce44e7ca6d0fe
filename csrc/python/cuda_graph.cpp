// Python's way to metst/cuda_graph.h: streams are the numbers that pycuda calls handles, failures are RuntimeError.
#include "metst/cuda_graph.h"

#include <pybind11/pybind11.h>

#include <cstdint>
#include <stdexcept>
#include <string>

#include "guarded.h"

namespace py = pybind11;

namespace {

const metst::cuda::GraphDriver& driver() {
    const metst::cuda::GraphDriver* found = metst::cuda::graph_driver();
    if (found == nullptr) throw std::runtime_error("libcuda.so.1 cannot be loaded, or is older than CUDA 11.4");
    return *found;
}

CUstream_st* stream_of(std::uintptr_t handle) { return reinterpret_cast<CUstream_st*>(handle); }

class CudaGraph : public metst::python::Guarded {
public:
    CudaGraph() : graph_(driver()) {}

    void begin(std::uintptr_t stream) {
        expect_made();
        check(graph_.begin(stream_of(stream)), "the stream cannot be recorded");
    }
    void end() {
        expect_made();
        check(graph_.end(), "the recording failed");
    }
    void launch(std::uintptr_t stream) {
        expect_made();
        check(graph_.launch(stream_of(stream)), "the graph cannot be launched");
    }
    void close() {
        expect_made();
        graph_.close();
    }

private:
    void check(int status, const char* what) const {
        if (status == 0) return;
        throw std::runtime_error(std::string(what) + ": " + graph_.text(status) +
                                 (status > 0 ? " (CUDA error " + std::to_string(status) + ")" : ""));
    }

    metst::cuda::Graph graph_;
};

}  // namespace

void define_cuda_graph(py::module_& m) {
    py::class_<CudaGraph>(m, "CudaGraph", R"(What was enqueued on a CUDA stream, to be enqueued again with one call.

The context of the stream must be current in every call; begin and end belong to one thread. A stream is its raw handle.

Raises:
    RuntimeError: there is no CUDA driver; or, of any method, what the driver refuses and why.)")
        .def(py::init<>())
        .def("begin", &CudaGraph::begin, py::arg("stream"),
             "Record what is enqueued from now on instead of running it.")
        .def("end", &CudaGraph::end, "End the recording, whatever happened in it.")
        .def("launch", &CudaGraph::launch, py::arg("stream"), "Enqueue all that was recorded.")
        .def("close", &CudaGraph::close, "Forget what was recorded; what was launched still runs.");
}
