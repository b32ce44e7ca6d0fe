// Lays weights out for the network step, checks its arguments and hands over to the implementation for this CPU.
#include "metst/network_step.h"

#include <algorithm>
#include <vector>

#include "dispatch.h"
#include "flush_subnormals.h"
#include "network/layout.h"
#include "network/metst.h"
#include "simd/math.h"

namespace metst {
namespace {

// A linear map before it is cut into panels: row 0 its biases, row 1 + i the weights of input i.
class LinearMap {
public:
    LinearMap(std::int64_t inputs, std::int64_t outputs)
        : inputs_(inputs), outputs_(padded(outputs)), values_(static_cast<std::size_t>((1 + inputs) * outputs_)) {}

    float& bias(std::int64_t output) { return at(0, output); }
    float& weight(std::int64_t input, std::int64_t output) { return at(1 + input, output); }

    // Columns [first, first + count) of weights (inputs, width) go to the outputs from `output` on.
    void put(const float* weights, std::int64_t width, std::int64_t first, std::int64_t count, std::int64_t output) {
        for (std::int64_t i = 0; i < inputs_; ++i) {
            for (std::int64_t o = 0; o < count; ++o) weight(i, output + o) = weights[i * width + first + o];
        }
    }

    float* write(float* packed) {
        for (std::int64_t first = 0; first < outputs_; first += kPad) {
            for (std::int64_t row = 0; row <= inputs_; ++row) packed = std::copy_n(&at(row, first), kPad, packed);
        }
        return packed;
    }

private:
    float& at(std::int64_t row, std::int64_t output) {
        return values_[static_cast<std::size_t>(row * outputs_ + output)];
    }

    std::int64_t inputs_, outputs_;
    std::vector<float> values_;
};

// All of these return where the next weights go.
float* pack_row(const float* row, std::int64_t count, float* packed) {
    std::fill_n(std::copy_n(row, count, packed), padded(count) - count, 0.0f);
    return packed + padded(count);
}

float* pack_stem(const float* weight, const float* bias, std::int64_t inputs, std::int64_t outputs, float* packed) {
    LinearMap map(kStemTaps * inputs, outputs);
    for (std::int64_t o = 0; o < outputs; ++o) {
        map.bias(o) = bias[o];
        for (std::int64_t i = 0; i < inputs; ++i) {
            for (std::int64_t tap = 0; tap < kStemTaps; ++tap) {
                map.weight(tap * inputs + i, o) = weight[(o * inputs + i) * kStemTaps + tap];
            }
        }
    }
    return map.write(packed);
}

float* pack_block(const NetworkSizes& s, const BlockWeights& w, float* packed) {
    packed = pack_row(w.norm_weight, s.dim, packed);
    packed = pack_row(w.norm_bias, s.dim, packed);

    LinearMap in_proj(s.dim, 2 * padded(s.inner));
    in_proj.put(w.in_proj, 2 * s.inner, 0, s.inner, 0);
    in_proj.put(w.in_proj, 2 * s.inner, s.inner, s.inner, padded(s.inner));
    packed = in_proj.write(packed);

    packed = pack_row(w.conv_bias, s.inner, packed);
    std::vector<float> row(static_cast<std::size_t>(std::max(s.inner, s.states)));
    for (std::int64_t tap = 0; tap < s.conv; ++tap) {
        for (std::int64_t d = 0; d < s.inner; ++d) row[static_cast<std::size_t>(d)] = w.conv_weight[d * s.conv + tap];
        packed = pack_row(row.data(), s.inner, packed);
    }

    const std::int64_t width = s.rank + 2 * s.states;
    LinearMap x_proj(s.inner, x_proj_outputs(s));
    x_proj.put(w.x_proj, width, s.rank, s.states, 0);
    x_proj.put(w.x_proj, width, s.rank + s.states, s.states, padded(s.states));
    x_proj.put(w.x_proj, width, 0, s.rank, 2 * padded(s.states));
    packed = x_proj.write(packed);

    LinearMap dt_proj(s.rank, s.inner);
    dt_proj.put(w.dt_proj, s.inner, 0, s.inner, 0);
    for (std::int64_t d = 0; d < s.inner; ++d) dt_proj.bias(d) = w.dt_bias[d];
    packed = dt_proj.write(packed);

    packed = pack_row(w.D, s.inner, packed);
    for (std::int64_t d = 0; d < s.inner; ++d) {
        for (std::int64_t n = 0; n < s.states; ++n) row[static_cast<std::size_t>(n)] = kLog2E * w.A[d * s.states + n];
        packed = pack_row(row.data(), s.states, packed);
    }
    const std::int64_t unused = (padded(s.inner) - s.inner) * padded(s.states);
    packed = std::fill_n(packed, unused, 0.0f);

    LinearMap out_proj(s.inner, s.dim);
    out_proj.put(w.out_proj, s.dim, 0, s.dim, 0);
    packed = out_proj.write(packed);

    packed = pack_row(w.post_norm_weight, s.dim, packed);
    return pack_row(w.post_norm_bias, s.dim, packed);
}

std::int64_t linear_size(std::int64_t inputs, std::int64_t outputs) { return (1 + inputs) * padded(outputs); }

bool any_size_bad(const NetworkStepArgs& a) {
    const NetworkSizes& s = a.sizes;
    return std::min({s.channels, s.dim, s.inner, s.states, s.conv, s.rank, s.classes, a.lanes}) < 1 || s.depth < 0 ||
           a.fed < 0;
}

}  // namespace

std::int64_t packed_network_size(const NetworkSizes& s) {
    const std::int64_t block = 4 * padded(s.dim) + linear_size(s.dim, 2 * padded(s.inner)) +
                               (1 + s.conv) * padded(s.inner) + linear_size(s.inner, x_proj_outputs(s)) +
                               linear_size(s.rank, s.inner) + (1 + padded(s.states)) * padded(s.inner) +
                               linear_size(s.inner, s.dim);
    return linear_size(kStemTaps * s.channels, s.dim) + linear_size(kStemTaps * s.dim, s.dim) + s.depth * block +
           linear_size(s.dim, 1 + s.classes);
}

void pack_network(const NetworkSizes& s, const NetworkWeights& w, float* packed) {
    packed = pack_stem(w.stem_weight[0], w.stem_bias[0], s.channels, s.dim, packed);
    packed = pack_stem(w.stem_weight[1], w.stem_bias[1], s.dim, s.dim, packed);
    for (std::int64_t i = 0; i < s.depth; ++i) packed = pack_block(s, w.blocks[i], packed);
    LinearMap heads(s.dim, 1 + s.classes);
    heads.put(w.spot_weight, 1, 0, 1, 0);
    heads.bias(0) = w.spot_bias[0];
    heads.put(w.emotion_weight, s.classes, 0, s.classes, 1);
    for (std::int64_t c = 0; c < s.classes; ++c) heads.bias(1 + c) = w.emotion_bias[c];
    heads.write(packed);
}

std::int64_t network_stream_size(const NetworkSizes& s, std::int64_t lanes) {
    return remembered_size(s, lanes) + workspace_size(s, lanes);
}

Status network_step(const NetworkStepArgs& args, SimdPath path) {
    if (any_size_bad(args)) return Status::kBadSize;
    if (!args.packed || !args.features || !args.reset || !args.stream || !args.spot || !args.emotion) {
        return Status::kNullPointer;
    }
    if (!simd_available(path)) return Status::kUnavailablePath;
    const FlushSubnormals flush;
    on_path(path, [&](auto chosen) { network_step_on<chosen>(args); });
    return Status::kOk;
}

}  // namespace metst
