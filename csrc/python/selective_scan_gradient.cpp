// The part of metst_edge._native that training needs: argument checks around metst::selective_scan_gradient.
#include "metst/selective_scan_gradient.h"

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <optional>
#include <stdexcept>
#include <string>

#include "arrays.h"

namespace py = pybind11;

namespace {

using namespace metst::python;

py::tuple selective_scan_gradient(const py::object& u_, const py::object& delta_, const py::object& A_,
                                  const py::object& B_, const py::object& C_, const py::object& D_,
                                  const py::object& z_, const py::object& delta_bias_, const py::object& h0_,
                                  const py::object& grad_y_, const py::object& grad_h_, int threads,
                                  const std::string& path) {
    const metst::SimdPath simd = resolve_path(path);
    const FloatArray u = to_float32("u", u_);
    const FloatArray A = to_float32("A", A_);
    check_rank("u", u, "(B, L, D)", 3);
    check_rank("A", A, "(D, N)", 2);
    const py::ssize_t batch = u.shape(0), length = u.shape(1), channels = u.shape(2), states = A.shape(1);
    const std::vector<py::ssize_t> of_steps = {batch, length, channels}, of_rows = {batch, length, states};
    const std::vector<py::ssize_t> of_states = {batch, channels, states};
    check_shape("A", A, "(D, N)", {channels, states});
    const FloatArray delta = checked_array("delta", delta_, "(B, L, D)", of_steps);
    const FloatArray B = checked_array("B", B_, "(B, L, N)", of_rows);
    const FloatArray C = checked_array("C", C_, "(B, L, N)", of_rows);
    const FloatArray D = checked_array("D", D_, "(D,)", {channels});
    const FloatArray z = checked_array("z", z_, "(B, L, D)", of_steps);
    const FloatArray delta_bias = checked_array("delta_bias", delta_bias_, "(D,)", {channels});
    const auto h0 = optional_array("h0", h0_, "(B, D, N)", of_states);
    const FloatArray grad_y = checked_array("grad_y", grad_y_, "(B, L, D)", of_steps);
    const auto grad_h = optional_array("grad_h", grad_h_, "(B, D, N)", of_states);

    FloatArray grad_u(of_steps), grad_delta(of_steps), grad_A({channels, states}), grad_B(of_rows), grad_C(of_rows);
    FloatArray grad_D(channels), grad_z(of_steps), grad_delta_bias(channels);
    std::optional<FloatArray> grad_h0;
    if (h0) grad_h0 = FloatArray(of_states);

    metst::SelectiveScanGradientArgs args;
    args.batch = batch;
    args.length = length;
    args.channels = channels;
    args.states = states;
    args.u = u.data();
    args.delta = delta.data();
    args.A = A.data();
    args.B = B.data();
    args.C = C.data();
    args.D = D.data();
    args.z = z.data();
    args.delta_bias = delta_bias.data();
    args.h0 = data_or_null(h0);
    args.grad_y = grad_y.data();
    args.grad_h = data_or_null(grad_h);
    args.grad_u = grad_u.mutable_data();
    args.grad_delta = grad_delta.mutable_data();
    args.grad_A = grad_A.mutable_data();
    args.grad_B = grad_B.mutable_data();
    args.grad_C = grad_C.mutable_data();
    args.grad_D = grad_D.mutable_data();
    args.grad_z = grad_z.mutable_data();
    args.grad_delta_bias = grad_delta_bias.mutable_data();
    args.grad_h0 = grad_h0 ? grad_h0->mutable_data() : nullptr;

    metst::Status status;
    {
        const py::gil_scoped_release release;
        status = metst::selective_scan_gradient(args, threads, simd);
    }
    if (status != metst::Status::kOk) {  // every cause was ruled out above
        throw std::runtime_error("selective_scan_gradient: unexpected status " +
                                 std::to_string(static_cast<int>(status)));
    }
    return py::make_tuple(std::move(grad_u), std::move(grad_delta), std::move(grad_A), std::move(grad_B),
                          std::move(grad_C), std::move(grad_D), std::move(grad_z), std::move(grad_delta_bias),
                          grad_h0 ? py::object(std::move(*grad_h0)) : py::none());
}

constexpr const char* kDoc = R"(The gradient of selective_scan, with softplus, skip and gate, for training.

Args:
    u, delta, A, B, C, D, z, delta_bias, h0: what selective_scan got; only h0 may be None.
    grad_y: float32 (B, L, D), the loss's gradient by y.
    grad_h: float32 (B, D, N), by the last state, or None for zero.
    threads: how many may share the work, by rows of the batch; the bits do not depend on it.
    path: "auto" or one of simd_paths().

Returns:
    The gradients by u, delta, A, B, C, D, z, delta_bias and h0, each of its shape; None for h0 where h0 is None.

Raises:
    ValueError: a shape or dtype does not fit, or the path is not available here.)";

}  // namespace

void define_selective_scan_gradient(py::module_& m) {
    m.def("selective_scan_gradient", &selective_scan_gradient, kDoc, py::arg("u"), py::arg("delta"), py::arg("A"),
          py::arg("B"), py::arg("C"), py::arg("D"), py::arg("z"), py::arg("delta_bias"), py::arg("h0"),
          py::arg("grad_y"), py::arg("grad_h") = py::none(), py::kw_only(), py::arg("threads") = 1,
          py::arg("path") = "auto");
}
