// Python classes around the network step: packed weights, and streams that share them.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "arrays.h"
#include "metst/aligned_floats.h"
#include "metst/network_step.h"

namespace py = pybind11;

namespace {

using namespace metst::python;

constexpr std::int64_t kLargest = 1 << 20;  // of any size, so that no product of theirs overflows

std::int64_t checked_size(const char* name, std::int64_t value, std::int64_t least) {
    if (value < least || value > kLargest) {
        throw py::value_error(std::string(name) + ": expected " + std::to_string(least) + " to " +
                              std::to_string(kLargest) + ", got " + std::to_string(value));
    }
    return value;
}

class Network {
public:
    Network(const py::dict& sizes, const py::dict& weights, const std::string& path)
        : sizes_(read_sizes(sizes)), path_(resolve_path(path)), packed_(pack(sizes_, weights)) {}

    const metst::NetworkSizes& sizes() const { return sizes_; }
    metst::SimdPath path() const { return path_; }
    const float* packed() const { return packed_.data(); }

private:
    static metst::NetworkSizes read_sizes(const py::dict& sizes) {
        const auto get = [&](const char* name, std::int64_t least) {
            if (!sizes.contains(name)) {
                throw py::value_error(std::string("sizes: expected ") + name + ", which is missing");
            }
            return checked_size(name, py::cast<std::int64_t>(sizes[name]), least);
        };
        metst::NetworkSizes s;
        s.channels = get("channels", 1);
        s.dim = get("dim", 1);
        s.depth = get("depth", 0);
        s.inner = checked_size("expand * dim", get("expand", 1) * s.dim, 1);
        s.states = get("d_state", 1);
        s.conv = get("d_conv", 1);
        s.rank = get("dt_rank", 1);
        s.classes = get("classes", 1);
        return s;
    }

    static metst::AlignedFloats pack(const metst::NetworkSizes& s, const py::dict& weights) {
        std::vector<FloatArray> kept;  // alive until they are packed
        const auto get = [&](const std::string& name, const std::vector<py::ssize_t>& shape) {
            if (!weights.contains(name)) throw py::value_error("weights: expected " + name + ", which is missing");
            kept.push_back(to_float32(name.c_str(), weights[name.c_str()]));
            check_shape(name.c_str(), kept.back(), "of the sizes", shape);
            return kept.back().data();
        };
        metst::NetworkWeights w;
        for (int i : {0, 1}) {
            const std::string stem = "stem." + std::to_string(i);
            w.stem_weight[i] = get(stem + ".weight", {s.dim, i ? s.dim : s.channels, 3});
            w.stem_bias[i] = get(stem + ".bias", {s.dim});
        }
        std::vector<metst::BlockWeights> blocks(static_cast<std::size_t>(s.depth));
        for (std::size_t i = 0; i < blocks.size(); ++i) {
            const std::string prefix = "blocks." + std::to_string(i) + ".";
            metst::BlockWeights& b = blocks[i];
            b.norm_weight = get(prefix + "norm.weight", {s.dim});
            b.norm_bias = get(prefix + "norm.bias", {s.dim});
            b.in_proj = get(prefix + "in_proj", {s.dim, 2 * s.inner});
            b.conv_weight = get(prefix + "conv.weight", {s.inner, 1, s.conv});
            b.conv_bias = get(prefix + "conv.bias", {s.inner});
            b.x_proj = get(prefix + "x_proj", {s.inner, s.rank + 2 * s.states});
            b.dt_proj = get(prefix + "dt_proj", {s.rank, s.inner});
            b.dt_bias = get(prefix + "dt_bias", {s.inner});
            b.A = get(prefix + "A", {s.inner, s.states});
            b.D = get(prefix + "D", {s.inner});
            b.out_proj = get(prefix + "out_proj", {s.inner, s.dim});
            b.post_norm_weight = get(prefix + "post_norm.weight", {s.dim});
            b.post_norm_bias = get(prefix + "post_norm.bias", {s.dim});
        }
        w.blocks = blocks.data();
        w.spot_weight = get("spot.weight", {s.dim, 1});
        w.spot_bias = get("spot.bias", {1});
        w.emotion_weight = get("emotion.weight", {s.dim, s.classes});
        w.emotion_bias = get("emotion.bias", {s.classes});

        metst::AlignedFloats packed(metst::packed_network_size(s));
        metst::pack_network(s, w, packed.data());
        return packed;
    }

    metst::NetworkSizes sizes_;
    metst::SimdPath path_;
    metst::AlignedFloats packed_;
};

class NetworkStream {
public:
    NetworkStream(std::shared_ptr<const Network> network, std::int64_t lanes)
        : network_(std::move(network)),
          lanes_(checked_size("lanes", lanes, 1)),
          memory_(metst::network_stream_size(network_->sizes(), lanes_)) {}

    py::tuple step(const FloatArray& features, const py::array_t<bool, py::array::c_style>& reset) {
        const metst::NetworkSizes& sizes = network_->sizes();
        check_shape("features", features, "(lanes, channels)", {lanes_, sizes.channels});
        check_shape("reset", reset, "(lanes,)", {lanes_});
        py::array_t<float> spot(lanes_);
        py::array_t<float> emotion({lanes_, sizes.classes});
        metst::NetworkStepArgs args;
        args.sizes = sizes;
        args.lanes = lanes_;
        args.packed = network_->packed();
        args.features = features.data();
        args.reset = reset.data();
        args.fed = fed_++;
        args.stream = memory_.data();
        args.spot = spot.mutable_data();
        args.emotion = emotion.mutable_data();
        metst::Status status;
        {
            const py::gil_scoped_release release;
            status = metst::network_step(args, network_->path());
        }
        if (status != metst::Status::kOk) {  // every cause was ruled out above
            throw std::runtime_error("network_step: unexpected status " + std::to_string(static_cast<int>(status)));
        }
        return py::make_tuple(std::move(spot), std::move(emotion));
    }

    void reset() {
        memory_.clear();
        fed_ = 0;
    }

private:
    std::shared_ptr<const Network> network_;
    std::int64_t lanes_;
    metst::AlignedFloats memory_;
    std::int64_t fed_ = 0;
};

constexpr const char* kNetworkDoc = R"(The weights of an ME-TST network, packed for `NetworkStream`.

Args:
    sizes: channels, dim, depth, d_state, d_conv, expand, dt_rank, classes.
    weights: float32 arrays by the names and in the shapes of a bundle; copied.
    path: "auto" or one of simd_paths().

Raises:
    ValueError: a size or weight is missing or does not fit, or the path is not available here.)";

constexpr const char* kStepDoc = R"(Feed one frame to every lane.

Args:
    features: float32 (lanes, channels).
    reset: bool (lanes,), True where the frame is the first of the lane's next window.

Returns:
    spot float32 (lanes,), 0 to 1, and emotion float32 (lanes, classes), logits, of the frame fed two steps earlier;
    of no frame in the first two steps.

Raises:
    ValueError: a shape does not fit.)";

}  // namespace

void define_network_step(py::module_& m) {
    py::class_<Network, std::shared_ptr<Network>>(m, "Network", kNetworkDoc)
        .def(py::init<const py::dict&, const py::dict&, const std::string&>(), py::arg("sizes"), py::arg("weights"),
             py::kw_only(), py::arg("path") = "auto");
    py::class_<NetworkStream>(m, "NetworkStream", "A network fed frame by frame in independent lanes, and its state.")
        .def(py::init<std::shared_ptr<const Network>, std::int64_t>(), py::arg("network"), py::arg("lanes"))
        .def("step", &NetworkStream::step, kStepDoc, py::arg("features"), py::arg("reset"))
        .def("reset", &NetworkStream::reset, "Forget everything, as if just made.");
}
