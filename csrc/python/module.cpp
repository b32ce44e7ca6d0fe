// The Python module metst_edge._native: what its parts define, and which vector path they take.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "arrays.h"

namespace py = pybind11;

void define_cuda_graph(py::module_& m);               // cuda_graph.cpp
void define_network_step(py::module_& m);             // network_step.cpp
void define_roi_flow(py::module_& m);                 // roi_flow.cpp
void define_selective_scan(py::module_& m);           // selective_scan.cpp
void define_selective_scan_gradient(py::module_& m);  // selective_scan_gradient.cpp

namespace {

using metst::SimdPath;
using namespace metst::python;

const char* auto_path_name() {
    const SimdPath path = resolve_path("auto");
    for (const NamedPath& p : kPaths) {
        if (p.path == path) return p.name;
    }
    return "scalar";
}

}  // namespace

PYBIND11_MODULE(_native, m) {
    m.doc() = "The compiled part of metst_edge: CPU kernels, and CUDA graphs.";
    m.def(
        "simd_paths", []() { return py::tuple(py::cast(available_paths())); },
        "The vector paths this machine can run, best first; \"scalar\" is always the last.");
    m.def("simd_path", &auto_path_name,
          "The path that \"auto\" takes: the best one, unless the environment variable METST_EDGE_SIMD names another.");
    define_cuda_graph(m);
    define_network_step(m);
    define_roi_flow(m);
    define_selective_scan(m);
    define_selective_scan_gradient(m);
}
