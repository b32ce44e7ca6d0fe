// What the bindings share: NumPy arrays in, checked, and the choice of the vector path.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

#include "metst/cpu_features.h"

namespace metst::python {

namespace py = pybind11;

using FloatArray = py::array_t<float, py::array::c_style | py::array::forcecast>;

constexpr const char* kSimdVariable = "METST_EDGE_SIMD";

struct NamedPath {
    const char* name;
    SimdPath path;
};
constexpr NamedPath kPaths[] = {// best first
                                {"avx512", SimdPath::kAvx512},
                                {"avx2", SimdPath::kAvx2},
                                {"neon", SimdPath::kNeon},
                                {"scalar", SimdPath::kScalar}};

inline std::vector<std::string> available_paths() {
    std::vector<std::string> names;
    for (const NamedPath& p : kPaths) {
        if (simd_available(p.path)) names.emplace_back(p.name);
    }
    return names;
}

// `origin` says where the name came from, for the error message.
inline SimdPath find_path(const std::string& name, const std::string& origin) {
    for (const NamedPath& p : kPaths) {
        if (name == p.name && simd_available(p.path)) return p.path;
    }
    std::string choice = "auto";
    for (const std::string& n : available_paths()) choice += ", " + n;
    throw py::value_error(origin + ": expected one of " + choice + " on this machine, got '" + name + "'");
}

inline SimdPath resolve_path(const std::string& name) {
    if (name != "auto") return find_path(name, "path");
    const char* wanted = std::getenv(kSimdVariable);
    if (wanted && *wanted && std::string(wanted) != "auto") {
        return find_path(wanted, std::string("environment variable ") + kSimdVariable);
    }
    return best_simd_path();
}

inline std::string shape_text(const std::vector<py::ssize_t>& shape) {
    std::string text = "(";
    for (std::size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
    return text + (shape.size() == 1 ? ",)" : ")");
}

// Any array-like of real numbers as dense float32; one that is so already is used where it lies.
inline FloatArray to_float32(const char* name, const py::object& value) {
    if (FloatArray::check_(value)) return py::reinterpret_borrow<FloatArray>(value);
    const py::array array = py::array::ensure(value);
    const char kind = array ? array.dtype().kind() : '?';
    if (kind != 'f' && kind != 'i' && kind != 'u') {
        PyErr_Clear();
        throw py::value_error(std::string(name) + ": expected an array of real numbers (float32 for speed), got " +
                              (array ? "dtype " + py::str(array.dtype()).cast<std::string>()
                                     : py::str(py::type::of(value)).cast<std::string>()));
    }
    return FloatArray(array);
}

// `axes` names the expected axes, "(B, L, D)".
inline void check_shape(const char* name, const py::array& array, const char* axes,
                        const std::vector<py::ssize_t>& expected) {
    const std::vector<py::ssize_t> actual(array.shape(), array.shape() + array.ndim());
    if (actual != expected) {
        throw py::value_error(std::string(name) + ": expected shape " + axes + " = " + shape_text(expected) + ", got " +
                              shape_text(actual));
    }
}

inline void check_rank(const char* name, const py::array& array, const char* axes, py::ssize_t rank) {
    if (array.ndim() != rank) {
        throw py::value_error(std::string(name) + ": expected " + std::to_string(rank) + " axes " + axes +
                              ", got shape " +
                              shape_text(std::vector<py::ssize_t>(array.shape(), array.shape() + array.ndim())));
    }
}

inline FloatArray checked_array(const char* name, const py::object& value, const char* axes,
                                const std::vector<py::ssize_t>& expected) {
    FloatArray array = to_float32(name, value);
    check_shape(name, array, axes, expected);
    return array;
}

inline std::optional<FloatArray> optional_array(const char* name, const py::object& value, const char* axes,
                                                const std::vector<py::ssize_t>& expected) {
    if (value.is_none()) return std::nullopt;
    return checked_array(name, value, axes, expected);
}

inline const float* data_or_null(const std::optional<FloatArray>& array) { return array ? array->data() : nullptr; }

}  // namespace metst::python
