#include "network/pack.h"

#include <algorithm>
#include <vector>

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

    void write(float* packed) {
        for (std::int64_t first = 0; first < outputs_; first += kPad) {
            for (std::int64_t row = 0; row <= inputs_; ++row) packed = std::copy_n(&at(row, first), kPad, packed);
        }
    }

private:
    float& at(std::int64_t row, std::int64_t output) {
        return values_[static_cast<std::size_t>(row * outputs_ + output)];
    }

    std::int64_t inputs_, outputs_;
    std::vector<float> values_;
};

// `fill` puts what is not zero into the map.
template <class Fill>
void pack_linear(Packer& packer, std::int64_t inputs, std::int64_t outputs, Fill&& fill) {
    if (packer.writes()) {
        LinearMap map(inputs, outputs);
        fill(map);
        map.write(packer.next());
    }
    packer.skip((1 + inputs) * padded(outputs));
}

// `count` values, `step` floats apart, each times `factor`.
void pack_row(Packer& packer, const float* values, std::int64_t count, std::int64_t step = 1, float factor = 1.0f) {
    if (packer.writes()) {
        float* const row = packer.next();
        for (std::int64_t i = 0; i < count; ++i) row[i] = factor * values[i * step];
        std::fill_n(row + count, padded(count) - count, 0.0f);
    }
    packer.skip(padded(count));
}

void pack_zeros(Packer& packer, std::int64_t count) {
    if (packer.writes()) std::fill_n(packer.next(), count, 0.0f);
    packer.skip(count);
}

}  // namespace

void pack_stem_convolution(Packer& packer, std::int64_t inputs, std::int64_t outputs, const float* weight,
                           const float* bias) {
    pack_linear(packer, kStemTaps * inputs, outputs, [&](LinearMap& map) {
        for (std::int64_t o = 0; o < outputs; ++o) {
            map.bias(o) = bias[o];
            for (std::int64_t i = 0; i < inputs; ++i) {
                for (std::int64_t tap = 0; tap < kStemTaps; ++tap) {
                    map.weight(tap * inputs + i, o) = weight[(o * inputs + i) * kStemTaps + tap];
                }
            }
        }
    });
}

void pack_mamba_block(Packer& packer, const BlockSizes& s, const BlockWeights& w) {
    pack_row(packer, w.norm_weight, s.dim);
    pack_row(packer, w.norm_bias, s.dim);

    pack_linear(packer, s.dim, 2 * padded(s.inner), [&](LinearMap& in_proj) {
        in_proj.put(w.in_proj, 2 * s.inner, 0, s.inner, 0);
        in_proj.put(w.in_proj, 2 * s.inner, s.inner, s.inner, padded(s.inner));
    });

    pack_row(packer, w.conv_bias, s.inner);
    for (std::int64_t tap = 0; tap < s.conv; ++tap) {
        pack_row(packer, packer.writes() ? w.conv_weight + tap : nullptr, s.inner, s.conv);
    }

    pack_linear(packer, s.inner, x_proj_outputs(s), [&](LinearMap& x_proj) {
        const std::int64_t width = s.rank + 2 * s.states;
        x_proj.put(w.x_proj, width, s.rank, s.states, 0);
        x_proj.put(w.x_proj, width, s.rank + s.states, s.states, padded(s.states));
        x_proj.put(w.x_proj, width, 0, s.rank, 2 * padded(s.states));
    });

    pack_linear(packer, s.rank, s.inner, [&](LinearMap& dt_proj) {
        dt_proj.put(w.dt_proj, s.inner, 0, s.inner, 0);
        for (std::int64_t d = 0; d < s.inner; ++d) dt_proj.bias(d) = w.dt_bias[d];
    });

    pack_row(packer, w.D, s.inner);
    for (std::int64_t d = 0; d < s.inner; ++d) {
        pack_row(packer, packer.writes() ? w.A + d * s.states : nullptr, s.states, 1, kLog2E);
    }
    pack_zeros(packer, (padded(s.inner) - s.inner) * padded(s.states));

    pack_linear(packer, s.inner, s.dim, [&](LinearMap& out_proj) { out_proj.put(w.out_proj, s.dim, 0, s.dim, 0); });

    pack_row(packer, w.post_norm_weight, s.dim);
    pack_row(packer, w.post_norm_bias, s.dim);
}

void pack_heads(Packer& packer, std::int64_t inputs, std::int64_t classes, const float* spot_weight,
                const float* spot_bias, const float* emotion_weight, const float* emotion_bias) {
    pack_linear(packer, inputs, 1 + classes, [&](LinearMap& heads) {
        heads.put(spot_weight, 1, 0, 1, 0);
        heads.bias(0) = spot_bias[0];
        heads.put(emotion_weight, classes, 0, classes, 1);
        for (std::int64_t c = 0; c < classes; ++c) heads.bias(1 + c) = emotion_bias[c];
    });
}

}  // namespace metst
