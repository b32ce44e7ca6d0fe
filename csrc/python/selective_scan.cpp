// The scan's part of metst_edge._native: argument checks and array conversion around metst::selective_scan.
#include "metst/selective_scan.h"

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "arrays.h"

namespace py = pybind11;

namespace {

using metst::SimdPath;
using namespace metst::python;

py::tuple selective_scan(const py::object& u_, const py::object& delta_, const py::object& A_, const py::object& B_,
                         const py::object& C_, const py::object& D_, const py::object& z_,
                         const py::object& delta_bias_, const py::object& h0_, bool delta_softplus,
                         const std::string& path) {
    const SimdPath simd = resolve_path(path);
    const FloatArray u = to_float32("u", u_);
    const FloatArray A = to_float32("A", A_);
    check_rank("u", u, "(B, L, D)", 3);
    check_rank("A", A, "(D, N)", 2);
    const py::ssize_t batch = u.shape(0), length = u.shape(1), channels = u.shape(2), states = A.shape(1);
    check_shape("A", A, "(D, N)", {channels, states});
    const FloatArray delta = checked_array("delta", delta_, "(B, L, D)", {batch, length, channels});
    const FloatArray B = checked_array("B", B_, "(B, L, N)", {batch, length, states});
    const FloatArray C = checked_array("C", C_, "(B, L, N)", {batch, length, states});
    const auto D = optional_array("D", D_, "(D,)", {channels});
    const auto z = optional_array("z", z_, "(B, L, D)", {batch, length, channels});
    const auto delta_bias = optional_array("delta_bias", delta_bias_, "(D,)", {channels});
    const auto h0 = optional_array("h0", h0_, "(B, D, N)", {batch, channels, states});

    FloatArray y({batch, length, channels});
    FloatArray h({batch, channels, states});
    metst::SelectiveScanArgs args;
    args.batch = batch;
    args.length = length;
    args.channels = channels;
    args.states = states;
    args.u = u.data();
    args.delta = delta.data();
    args.A = A.data();
    args.B = B.data();
    args.C = C.data();
    args.D = data_or_null(D);
    args.z = data_or_null(z);
    args.delta_bias = data_or_null(delta_bias);
    args.h0 = data_or_null(h0);
    args.delta_softplus = delta_softplus;
    args.y = y.mutable_data();
    args.h = h.mutable_data();

    metst::Status status;
    {
        const py::gil_scoped_release release;
        status = metst::selective_scan(args, simd);
    }
    if (status != metst::Status::kOk) {  // every cause was ruled out above
        throw std::runtime_error("selective_scan: unexpected status " + std::to_string(static_cast<int>(status)));
    }
    return py::make_tuple(std::move(y), std::move(h));
}

constexpr const char* kSelectiveScanDoc = R"(The selective scan of a Mamba layer.

dt = softplus(delta + delta_bias);  h_t = exp(dt_t A) h_(t-1) + dt_t B_t u_t;  y_t = (h_t . C_t + D u_t) silu(z_t)

Args:
    u, delta: float32 (B, L, D). Other real dtypes and strides are converted.
    A: float32 (D, N), negative.
    B, C: float32 (B, L, N).
    D: float32 (D,), or None for no skip term.
    z: float32 (B, L, D), or None for no gate.
    delta_bias: float32 (D,), or None for zero.
    h0: float32 (B, D, N), the state before the first step, or None for zero.
    delta_softplus: False takes delta + delta_bias itself as dt.
    path: "auto" or one of simd_paths().

Returns:
    y float32 (B, L, D) and the state after the last step, h float32 (B, D, N).

Raises:
    ValueError: a shape or dtype does not fit, or the path is not available here.)";

}  // namespace

void define_selective_scan(py::module_& m) {
    m.def("selective_scan", &selective_scan, kSelectiveScanDoc, py::arg("u"), py::arg("delta"), py::arg("A"),
          py::arg("B"), py::arg("C"), py::arg("D") = py::none(), py::arg("z") = py::none(),
          py::arg("delta_bias") = py::none(), py::arg("h0") = py::none(), py::kw_only(),
          py::arg("delta_softplus") = true, py::arg("path") = "auto");
}
