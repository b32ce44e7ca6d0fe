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
#include "guarded.h"
#include "metst/aligned_floats.h"
#include "metst/metst_network.h"
#include "metst/metst_plus_network.h"

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

// The manifest's sizes by name.
class SizeReader {
public:
    explicit SizeReader(const py::dict& sizes) : sizes_(sizes) {}

    std::int64_t operator()(const char* name, std::int64_t least = 1) const {
        if (!sizes_.contains(name)) {
            throw py::value_error(std::string("sizes: expected ") + name + ", which is missing");
        }
        return checked_size(name, py::cast<std::int64_t>(sizes_[name]), least);
    }

private:
    const py::dict& sizes_;
};

metst::MetstSizes read_sizes(const SizeReader& get, metst::MetstSizes s) {
    s.channels = get("channels");
    s.dim = get("dim");
    s.depth = get("depth", 0);
    s.inner = checked_size("expand * dim", get("expand") * s.dim, 1);
    s.states = get("d_state");
    s.conv = get("d_conv");
    s.rank = get("dt_rank");
    s.classes = get("classes");
    return s;
}

metst::MetstPlusSizes read_sizes(const SizeReader& get, metst::MetstPlusSizes s) {
    s.channels = get("channels");
    s.dim = get("dim");
    s.slow_dim = get("slow_dim");
    s.stages = get("stages");
    s.depth = get("depth");
    s.pathways = get("pathways");
    const std::int64_t blocks = checked_size("stages * depth", s.stages * s.depth, 1);
    checked_size("pathways * stages * depth", s.pathways * blocks, 1);
    s.inner = checked_size("expand * dim", get("expand") * s.dim, 1);
    s.slow_inner = checked_size("expand * slow_dim", get("expand") * s.slow_dim, 1);
    s.states = get("d_state");
    s.conv = get("d_conv");
    s.rank = get("dt_rank");
    s.slow_rank = get("slow_dt_rank");
    s.classes = get("classes");
    return s;
}

// The bundle's weights by name, alive as long as this.
class WeightReader {
public:
    explicit WeightReader(const py::dict& weights) : weights_(weights) {}

    metst::AffineWeights convolution(const std::string& name, std::int64_t inputs, std::int64_t outputs) {
        return {get(name + ".weight", {outputs, inputs, 3}), get(name + ".bias", {outputs})};
    }

    metst::AffineWeights linear(const std::string& name, std::int64_t inputs, std::int64_t outputs) {
        return {get(name + ".weight", {inputs, outputs}), get(name + ".bias", {outputs})};
    }

    // Blocks first, first + 1 ...
    std::vector<metst::BlockWeights> blocks(std::int64_t first, std::int64_t count, const metst::BlockSizes& s) {
        std::vector<metst::BlockWeights> blocks;
        for (std::int64_t i = first; i < first + count; ++i) {
            blocks.push_back(block("blocks." + std::to_string(i) + ".", s));
        }
        return blocks;
    }

private:
    metst::BlockWeights block(const std::string& prefix, const metst::BlockSizes& s) {
        metst::BlockWeights b;
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
        return b;
    }

    const float* get(const std::string& name, const std::vector<py::ssize_t>& shape) {
        if (!weights_.contains(name)) throw py::value_error("weights: expected " + name + ", which is missing");
        kept_.push_back(to_float32(name.c_str(), weights_[name.c_str()]));
        check_shape(name.c_str(), kept_.back(), "of the sizes", shape);
        return kept_.back().data();
    }

    const py::dict& weights_;
    std::vector<FloatArray> kept_;
};

template <class Weights, class Sizes>
metst::AlignedFloats packed(const Sizes& sizes, const Weights& weights, metst::MatrixFormat format) {
    metst::AlignedFloats memory(metst::packed_network_size(sizes, format));
    metst::pack_network(sizes, weights, format, memory.data());
    return memory;
}

metst::AlignedFloats pack(const metst::MetstSizes& s, WeightReader read, metst::MatrixFormat format) {
    metst::MetstWeights w;
    w.stem[0] = read.convolution("stem.0", s.channels, s.dim);
    w.stem[1] = read.convolution("stem.1", s.dim, s.dim);
    const std::vector<metst::BlockWeights> blocks = read.blocks(0, s.depth, s.block());
    w.blocks = blocks.data();
    w.spot = read.linear("spot", s.dim, 1);
    w.emotion = read.linear("emotion", s.dim, s.classes);
    return packed(s, w, format);
}

metst::AlignedFloats pack(const metst::MetstPlusSizes& s, WeightReader read, metst::MatrixFormat format) {
    struct Pathway {
        std::vector<metst::AffineWeights> laterals;
        std::vector<metst::BlockWeights> fast, slow;
    };
    metst::MetstPlusWeights w;
    w.stem[0] = read.convolution("stem.0", s.channels, s.dim);
    w.stem[1] = read.convolution("stem.1", s.dim, s.dim);
    std::vector<Pathway> parts;
    std::vector<metst::PathwayWeights> pathways;
    for (std::int64_t p = 0; p < s.pathways; ++p) {
        const std::string name = "pathway_" + std::to_string(p);
        const std::int64_t count = s.stages * s.depth;
        metst::PathwayWeights pathway;
        pathway.entry = read.convolution(name + ".entry", s.dim, s.slow_dim);
        Pathway part;
        for (std::int64_t i = 0; i + 1 < s.stages; ++i) {
            part.laterals.push_back(read.convolution(name + ".laterals." + std::to_string(i), s.dim, s.slow_dim));
        }
        part.fast = read.blocks(2 * p * count, count, s.fast_block());
        part.slow = read.blocks((2 * p + 1) * count, count, s.slow_block());
        parts.push_back(std::move(part));  // the vectors' memory stays where it is
        pathway.laterals = parts.back().laterals.data();
        pathway.fast = parts.back().fast.data();
        pathway.slow = parts.back().slow.data();
        pathways.push_back(pathway);
    }
    w.pathways = pathways.data();
    w.spot = read.linear("spot", s.slow_dim + s.dim, 1);
    w.emotion = read.linear("emotion", s.slow_dim + s.dim, s.classes);
    return packed(s, w, format);
}

// Whichever network it is.
class Network {
public:
    virtual ~Network() = default;
    virtual std::int64_t channels() const = 0;
    virtual std::int64_t classes() const = 0;
    virtual std::int64_t stream_size(std::int64_t lanes) const = 0;
    // Fills in what is the network's.
    virtual metst::Status step(metst::NetworkStepArgs args) const = 0;
};

template <class Sizes>
class NetworkOf : public Network {
public:
    NetworkOf(const py::dict& sizes, const py::dict& weights, bool half, const std::string& path)
        : sizes_(read_sizes(SizeReader(sizes), Sizes())),
          format_(half ? metst::MatrixFormat::kFloat16 : metst::MatrixFormat::kFloat32),
          path_(resolve_path(path)),
          packed_(pack(sizes_, WeightReader(weights), format_)) {}

    std::int64_t channels() const override { return sizes_.channels; }
    std::int64_t classes() const override { return sizes_.classes; }
    std::int64_t stream_size(std::int64_t lanes) const override { return metst::network_stream_size(sizes_, lanes); }
    metst::Status step(metst::NetworkStepArgs args) const override {
        args.packed = packed_.data();
        args.format = format_;
        return metst::network_step(sizes_, args, path_);
    }

private:
    Sizes sizes_;
    metst::MatrixFormat format_;
    metst::SimdPath path_;
    metst::AlignedFloats packed_;
};

class NetworkStream : public Guarded {
public:
    NetworkStream(std::shared_ptr<const Network> network, std::int64_t lanes)
        : network_(std::move(network)),
          lanes_(checked_size("lanes", lanes, 1)),
          memory_(network_->stream_size(lanes_)) {}

    py::tuple step(const FloatArray& features, const py::array_t<bool, py::array::c_style>& reset) {
        const Use use(*this, "NetworkStream");
        check_shape("features", features, "(lanes, channels)", {lanes_, network_->channels()});
        check_shape("reset", reset, "(lanes,)", {lanes_});
        py::array_t<float> spot(lanes_);
        py::array_t<float> emotion({lanes_, network_->classes()});
        metst::NetworkStepArgs args;
        args.lanes = lanes_;
        args.features = features.data();
        args.reset = reset.data();
        args.fed = fed_++;
        args.stream = memory_.data();
        args.spot = spot.mutable_data();
        args.emotion = emotion.mutable_data();
        metst::Status status;
        {
            const py::gil_scoped_release release;
            status = network_->step(args);
        }
        if (status != metst::Status::kOk) {  // every cause was ruled out above
            throw std::runtime_error("network_step: unexpected status " + std::to_string(static_cast<int>(status)));
        }
        return py::make_tuple(std::move(spot), std::move(emotion));
    }

    void reset() {
        const Use use(*this, "NetworkStream");
        memory_.clear();
        fed_ = 0;
    }

private:
    std::shared_ptr<const Network> network_;
    std::int64_t lanes_;
    metst::AlignedFloats memory_;
    std::int64_t fed_ = 0;
};

constexpr const char* kMetstDoc = R"(The weights of an ME-TST network, packed for `NetworkStream`.

Args:
    sizes: channels, dim, depth, d_state, d_conv, expand, dt_rank, classes.
    weights: float32 arrays by the names and in the shapes of a bundle; copied.
    half: keep the large matrices in half precision, rounded to the nearest.
    path: "auto" or one of simd_paths().

Raises:
    ValueError: a size or weight is missing or does not fit, or the path is not available here.)";

constexpr const char* kMetstPlusDoc = R"(The weights of an ME-TST+ network, packed for `NetworkStream`.

Args:
    sizes: channels, dim, slow_dim, stages, depth, pathways, d_state, d_conv, expand, dt_rank, slow_dt_rank, classes.
    weights: as of `MetstNetwork`.
    half: likewise.
    path: likewise.

Raises:
    ValueError: likewise.)";

constexpr const char* kStepDoc = R"(Feed one frame to every lane.

Args:
    features: float32 (lanes, channels).
    reset: bool (lanes,), True where the frame is the first of the lane's next window.

Returns:
    spot float32 (lanes,), 0 to 1, and emotion float32 (lanes, classes), logits, of the frame fed as many steps
    earlier as the network looks ahead; of no frame in the first steps.

Raises:
    ValueError: a shape does not fit.)";

}  // namespace

template <class Sizes>
void define_network(py::module_& m, const char* name, const char* doc) {
    py::class_<NetworkOf<Sizes>, Network, std::shared_ptr<NetworkOf<Sizes>>>(m, name, doc)
        .def(py::init<const py::dict&, const py::dict&, bool, const std::string&>(), py::arg("sizes"),
             py::arg("weights"), py::kw_only(), py::arg("half") = false, py::arg("path") = "auto");
}

void define_network_step(py::module_& m) {
    py::class_<Network, std::shared_ptr<Network>>(m, "Network", "Packed weights of a network, for `NetworkStream`.");
    define_network<metst::MetstSizes>(m, "MetstNetwork", kMetstDoc);
    define_network<metst::MetstPlusSizes>(m, "MetstPlusNetwork", kMetstPlusDoc);
    py::class_<NetworkStream>(m, "NetworkStream", "A network fed frame by frame in independent lanes, and its state.")
        .def(py::init<std::shared_ptr<const Network>, std::int64_t>(), py::arg("network"), py::arg("lanes"))
        .def("step", &NetworkStream::step, kStepDoc, py::arg("features"), py::arg("reset"))
        .def("reset", &NetworkStream::reset, "Forget everything, as if just made.");
}
