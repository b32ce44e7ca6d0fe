// The flow part of metst_edge._native: conversion around metst::Farneback and metst::RoiFlow. metst_edge.flow checks
// pictures and places rectangles; what is checked here is what would otherwise reach memory that is not ours.
#include "metst/roi_flow.h"
#include "metst/registration.h"

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "arrays.h"
#include "guarded.h"

#include "roi_flow_plan.h"

namespace py = pybind11;

namespace {

using namespace metst;
using namespace metst::python;

using Corners = std::array<int, 4>;  // top, bottom, left, right

Rect to_rect(const Corners& c) { return {c[0], c[1], c[2], c[3]}; }

Corners from_rect(const Rect& r) { return {r.top, r.bottom, r.left, r.right}; }

bool within(const Rect& rect, int height, int width) {
    return rect.empty() || (rect.top >= 0 && rect.left >= 0 && rect.bottom <= height && rect.right <= width);
}

// A gray picture and the array that keeps its pixels. Rows may lie apart; pixels of a row may not.
struct Picture {
    py::array array;
    Gray gray;

    explicit Picture(const py::array& given) : array(given) {
        if (!py::isinstance<py::array_t<std::uint8_t>>(given) || given.ndim() != 2 || given.size() == 0) {
            throw py::value_error("expected a gray picture, uint8 (H, W)");
        }
        if (array.strides(1) != 1 || array.strides(0) < array.shape(1)) {
            array = py::array_t<std::uint8_t, py::array::c_style | py::array::forcecast>(given);
        }
        for (int axis = 0; axis < 2; ++axis) {
            if (array.shape(axis) > std::numeric_limits<int>::max()) {
                throw py::value_error("expected a gray picture of at most 2^31 - 1 pixels a side");
            }
        }
        gray.pixels = static_cast<const std::uint8_t*>(array.data());
        gray.height = static_cast<int>(array.shape(0));
        gray.width = static_cast<int>(array.shape(1));
        gray.stride = array.strides(0);
    }
};

// Pixels a side: rows of floats and sums of them are counted in int.
constexpr int kLargestFlow = 1 << 20;

FarnebackParameters checked(const FarnebackParameters& p) {
    constexpr int kMost = 1 << 12;
    const bool good = p.pyramid_scale > 0.0 && p.pyramid_scale < 1.0 && p.levels >= 0 && p.window >= 1 &&
                      p.window <= kMost && p.iterations >= 1 && p.iterations <= kMost && p.reach >= 1 &&
                      p.reach <= ExpansionKernels::kMaxReach && p.sigma > 0.0 && std::isfinite(p.sigma);
    if (!good) {
        throw py::value_error("expected 0 < pyr_scale < 1, levels >= 0, winsize and iterations 1 to " +
                              std::to_string(kMost) + ", poly_n 1 to " + std::to_string(ExpansionKernels::kMaxReach) +
                              ", poly_sigma > 0");
    }
    const ExpansionKernels kernels = expansion_kernels(p.reach, p.sigma);
    for (float factor : {kernels.even[0], kernels.second[0], kernels.y, kernels.xy}) {
        if (!std::isfinite(factor)) throw py::value_error("expected poly_sigma of a fraction of a pixel at least");
    }
    return p;
}

const Gray& checked(const Gray& picture) {
    if (picture.height > kLargestFlow || picture.width > kLargestFlow) {
        throw py::value_error("expected a picture of at most " + std::to_string(kLargestFlow) + " pixels a side");
    }
    return picture;
}

class PyFarneback : public Guarded {
public:
    PyFarneback(const py::array& anchor, double pyramid_scale, int levels, int window, int iterations, int reach,
                double sigma, const std::string& path)
        : picture_(anchor),
          flow_(checked(picture_.gray), checked({pyramid_scale, levels, window, iterations, reach, sigma}),
                resolve_path(path)) {}

    // Of several threads at a time, too: each has its own working memory.
    FloatArray to(const py::array& frame) const {
        expect_made();
        const Picture picture(frame);
        if (picture.gray.height != picture_.gray.height || picture.gray.width != picture_.gray.width) {
            throw py::value_error("expected a picture of the anchor's size");
        }
        FloatArray out({static_cast<py::ssize_t>(picture.gray.height), static_cast<py::ssize_t>(picture.gray.width),
                        static_cast<py::ssize_t>(2)});
        float* const flow = out.mutable_data();
        const py::gil_scoped_release release;
        flow_.to(picture.gray, flow);
        return out;
    }

private:
    Picture picture_;
    Farneback flow_;
};

class PyRoiFlow : public Guarded {
public:
    static constexpr const char* kName = "RoiFlow";

    PyRoiFlow(const py::array& anchor, const Corners& box, const std::vector<Corners>& patches,
              const std::vector<std::tuple<int, Corners, double>>& regions, const Corners& nose,
              const Corners& nose_inside, double nose_share, bool compat, const std::string& path) {
        const Picture picture(anchor);
        height_ = picture.gray.height;
        width_ = picture.gray.width;
        if (patches.size() > RoiFlowLayout::kMaxPatches || regions.size() > RoiFlowLayout::kMaxRegions) {
            throw py::value_error("expected at most " + std::to_string(RoiFlowLayout::kMaxPatches) + " patches and " +
                                  std::to_string(RoiFlowLayout::kMaxRegions) + " regions");
        }
        check_box(to_rect(box));
        RoiFlowLayout layout;
        layout.compat = compat;
        layout.nose = to_rect(nose);
        layout.nose_inside = to_rect(nose_inside);
        layout.nose_share = nose_share;
        const auto is_share = [](double share) { return share >= 0.0 && share <= 1.0; };
        bool shares_good = is_share(nose_share);
        bool good = within(layout.nose, RoiFlow::kCropSize, RoiFlow::kCropSize) &&
                    within(layout.nose_inside, layout.nose.height(), layout.nose.width());
        for (const Corners& patch : patches) {
            layout.patches[layout.patch_count++] = to_rect(patch);
            good = good && within(to_rect(patch), RoiFlow::kCropSize, RoiFlow::kCropSize);
        }
        for (const auto& [patch, rect, share] : regions) {
            if (patch < 0 || patch >= layout.patch_count) throw py::value_error("expected a region of a patch");
            shares_good = shares_good && is_share(share);
            layout.regions[layout.region_count++] = {patch, to_rect(rect), share};
            const Rect& around = layout.patches[patch];
            good = good && (to_rect(rect).empty() ||
                            (!around.empty() && within(to_rect(rect), around.height(), around.width())));
        }
        if (!shares_good) throw py::value_error("expected shares of the vectors from 0 to 1");
        if (!good) throw py::value_error("expected patches inside the crop, regions inside their patches");
        patches_ = patches;
        regions_ = regions;
        has_nose_ = !layout.nose.empty();
        path_ = resolve_path(path);
        flow_ = std::make_unique<RoiFlow>(picture.gray, to_rect(box), layout, path_);
    }

    RoiFlow& flow() const { return *flow_; }  // within a Use
    void set_box(const Corners& box) {
        const Use use(*this, kName);
        check_box(to_rect(box));
        flow_->set_box(to_rect(box));
    }
    Corners box() const {
        const Use use(*this, kName);
        return from_rect(flow_->box());
    }
    std::pair<double, double> motion() const {
        const Use use(*this, kName);
        return {flow_->motion()[0], flow_->motion()[1]};
    }
    double likeness() const {
        const Use use(*this, kName);
        return flow_->likeness();
    }
    bool fits(const Picture& picture) const { return picture.gray.height == height_ && picture.gray.width == width_; }
    bool has_nose() const { return has_nose_; }
    bool same_layout(const PyRoiFlow& other) const {  // and of memory, which differs from path to path
        return patches_ == other.patches_ && regions_ == other.regions_ && path_ == other.path_;
    }

private:
    void check_box(const Rect& box) const {
        if (box.empty() || !within(box, height_, width_)) {
            throw py::value_error("expected a crop box on the picture");
        }
    }

    int height_, width_;
    std::vector<Corners> patches_;
    std::vector<std::tuple<int, Corners, double>> regions_;
    bool has_nose_;
    SimdPath path_;
    std::unique_ptr<RoiFlow> flow_;
};

class PyRegistration : public Guarded {
public:
    static constexpr const char* kName = "Registration";

    PyRegistration(const py::array& anchor, const Corners& box, float middle, float half_width, float nose_row,
                   const FloatArray& weights, const std::vector<std::array<float, 3>>& spots, const std::string& path) {
        const Picture picture(anchor);
        height_ = picture.gray.height;
        width_ = picture.gray.width;
        const Rect rect = to_rect(box);
        if (rect.empty() || !within(rect, height_, width_)) throw py::value_error("expected a crop box on the picture");
        if (!(half_width > 0.0f) || !std::isfinite(half_width + middle + nose_row)) {
            throw py::value_error("expected a head of some width, and finite places");
        }
        check_shape("weights", weights, "(80, 80)", {Registration::kGrid, Registration::kGrid});
        if (spots.size() > Registration::kMostSpots) {
            throw py::value_error("expected at most " + std::to_string(Registration::kMostSpots) + " spots");
        }
        std::vector<Spot> places;
        for (const auto& [x, y, reach] : spots) {
            if (!(reach > 0.0f) || !std::isfinite(x + y + reach)) {
                throw py::value_error("expected spots of finite places and some reach");
            }
            places.push_back({x, y, reach});
        }
        registration_ =
            std::make_unique<Registration>(picture.gray, rect, HeadShape{middle, half_width, nose_row}, weights.data(),
                                           places.data(), static_cast<int>(places.size()), resolve_path(path));
    }

    Registration& registration() const { return *registration_; }  // within a Use
    bool fits(const Picture& picture) const { return picture.gray.height == height_ && picture.gray.width == width_; }
    std::array<double, Registration::kParameters> parameters() const {
        const Use use(*this, kName);
        std::array<double, Registration::kParameters> out;
        std::copy_n(registration_->parameters(), out.size(), out.begin());
        return out;
    }
    void set_parameters(const std::array<double, Registration::kParameters>& given) {
        const Use use(*this, kName);
        for (double each : given) {
            if (!std::isfinite(each)) throw py::value_error("expected finite parameters");
        }
        registration_->set_parameters(given.data());
    }

private:
    int height_, width_;
    std::unique_ptr<Registration> registration_;
};

std::vector<FloatArray> measure_lanes(const std::vector<PyRoiFlow*>& lanes, const py::array& frame, int threads) {
    const Picture picture(frame);
    std::vector<RoiFlow*> flows;
    std::vector<std::unique_ptr<Guarded::Use>> uses;
    std::vector<FloatArray> out;
    std::vector<float*> features;
    for (PyRoiFlow* lane : lanes) {
        if (lane == nullptr) throw py::value_error("expected lanes, got None among them");
        uses.push_back(std::make_unique<Guarded::Use>(*lane, PyRoiFlow::kName));  // twice of one is refused, too
        if (!lane->fits(picture)) throw py::value_error("expected a picture of the anchors' size");
        flows.push_back(&lane->flow());
        out.emplace_back(static_cast<py::ssize_t>(lane->flow().channels()));
        features.push_back(out.back().mutable_data());
    }
    const py::gil_scoped_release release;
    measure(flows.data(), static_cast<int>(flows.size()), picture.gray, features.data(), threads < 1 ? 1 : threads);
    return out;
}

// Makes each frame the anchor of a lane and measures it from the anchor of another.
std::vector<FloatArray> step_lanes(const std::vector<PyRoiFlow*>& lanes, const std::vector<PyRoiFlow*>& before,
                                   const std::vector<py::array>& frames, int threads) {
    if (frames.size() != lanes.size() || before.size() != lanes.size()) {
        throw py::value_error("expected a picture for each lane, and a lane before it or None");
    }
    std::vector<Picture> pictures(frames.begin(), frames.end());
    std::vector<RoiFlow*> flows, befores;
    std::vector<std::unique_ptr<Guarded::Use>> uses;
    std::vector<FloatArray> out;
    std::vector<float*> features;
    std::vector<Gray> grays;
    for (std::size_t i = 0; i < lanes.size(); ++i) {
        if (lanes[i] == nullptr) throw py::value_error("expected lanes, got None among them");
        for (const PyRoiFlow* lane : {lanes[i], before[i]}) {
            if (lane) uses.push_back(std::make_unique<Guarded::Use>(*lane, PyRoiFlow::kName));
        }
        if (!lanes[i]->fits(pictures[i])) throw py::value_error("expected a picture of the anchor's size");
        if (lanes[i]->has_nose() || (before[i] && !lanes[i]->same_layout(*before[i]))) {
            throw py::value_error("expected lanes without a nose, and of the same layout and path as the one before");
        }
        flows.push_back(&lanes[i]->flow());
        befores.push_back(before[i] ? &before[i]->flow() : nullptr);
        grays.push_back(pictures[i].gray);
        out.emplace_back(static_cast<py::ssize_t>(flows[i]->channels()));
        features.push_back(out.back().mutable_data());
    }
    const py::gil_scoped_release release;
    step(flows.data(), befores.data(), static_cast<int>(flows.size()), grays.data(), features.data(),
         threads < 1 ? 1 : threads);
    return out;
}

using Pixels = py::array_t<std::uint8_t>;

// Fits the motion of each head to a frame and draws its crop without it.
std::vector<Pixels> follow_heads(const std::vector<PyRegistration*>& heads, const py::array& frame, int threads) {
    const Picture picture(frame);
    std::vector<Registration*> registrations;
    std::vector<std::uint8_t*> crops;
    std::vector<std::unique_ptr<Guarded::Use>> uses;
    std::vector<Pixels> out;
    for (PyRegistration* head : heads) {
        if (head == nullptr) throw py::value_error("expected heads, got None among them");
        uses.push_back(std::make_unique<Guarded::Use>(*head, PyRegistration::kName));
        if (!head->fits(picture)) throw py::value_error("expected a picture of the anchors' size");
        out.emplace_back(std::vector<py::ssize_t>{Registration::kCropSize, Registration::kCropSize});
        registrations.push_back(&head->registration());
        crops.push_back(out.back().mutable_data());
    }
    const py::gil_scoped_release release;
    follow(registrations.data(), static_cast<int>(registrations.size()), picture.gray, crops.data(),
           threads < 1 ? 1 : threads);
    return out;
}

FloatArray py_thumbnail(const py::array& given) {
    const Picture picture(given);
    FloatArray out(static_cast<py::ssize_t>(kThumbnail * kThumbnail));
    float* const values = out.mutable_data();
    const py::gil_scoped_release release;
    thumbnail(picture.gray, {0, picture.gray.height, 0, picture.gray.width}, values);
    return out;
}

}  // namespace

void define_roi_flow(py::module_& m) {
    py::class_<PyFarneback>(m, "Farneback", "See metst_edge.flow.Farneback.")
        .def(py::init<const py::array&, double, int, int, int, int, double, const std::string&>(), py::arg("anchor"),
             py::arg("pyr_scale"), py::arg("levels"), py::arg("winsize"), py::arg("iterations"), py::arg("poly_n"),
             py::arg("poly_sigma"), py::arg("path") = "auto")
        .def("to", &PyFarneback::to, py::arg("frame"), "uint8 (H, W) -> float32 (H, W, 2)");
    py::class_<PyRoiFlow>(m, "RoiFlow", "See metst_edge.flow.RoiFlow.")
        .def(py::init<const py::array&, const Corners&, const std::vector<Corners>&,
                      const std::vector<std::tuple<int, Corners, double>>&, const Corners&, const Corners&, double,
                      bool, const std::string&>(),
             py::arg("anchor"), py::arg("box"), py::arg("patches"), py::arg("regions"), py::arg("nose"),
             py::arg("nose_inside"), py::arg("nose_share"), py::arg("compat"), py::arg("path") = "auto")
        .def_property("box", &PyRoiFlow::box, &PyRoiFlow::set_box)
        .def_property_readonly("motion", &PyRoiFlow::motion)
        .def_property_readonly("likeness", &PyRoiFlow::likeness);
    py::class_<PyRegistration>(m, "Registration", "See metst_edge.flow.SteadyFlow.")
        .def(py::init<const py::array&, const Corners&, float, float, float, const FloatArray&,
                      const std::vector<std::array<float, 3>>&, const std::string&>(),
             py::arg("anchor"), py::arg("box"), py::arg("middle"), py::arg("half_width"), py::arg("nose_row"),
             py::arg("weights"), py::arg("spots"), py::arg("path") = "auto")
        .def_property("parameters", &PyRegistration::parameters, &PyRegistration::set_parameters);
    m.def("follow", &follow_heads, py::arg("heads"), py::arg("frame"), py::arg("threads"),
          "Fit several Registration to a frame: a list of uint8 (320, 320), each head's crop as if it had not moved.");
    m.def("measure", &measure_lanes, py::arg("lanes"), py::arg("frame"), py::arg("threads"),
          "Measure one frame in several RoiFlow: a list of float32 (C,).");
    m.def("step", &step_lanes, py::arg("lanes"), py::arg("before"), py::arg("frames"), py::arg("threads"),
          "Make each frame a RoiFlow's anchor and measure it from that of another, or None: a list of float32 (C,).");
    m.def("thumbnail", &py_thumbnail, py::arg("picture"), "uint8 (H, W) -> float32 (1024,), free of mean and scale.");
}
