#include "network/pack.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "simd/math.h"

namespace metst {
namespace {

std::uint32_t bits_of(float x) {
    std::uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    return bits;
}

// The nearest half, of two the even one; infinity from 65,520 on.
std::uint16_t to_half(float x) {
    const std::uint32_t bits = bits_of(x), sign = bits >> 16 & 0x8000, size = bits & 0x7fffffff;
    std::uint32_t half;
    if (size > 0x7f800000) {  // not a number
        half = 0x7e00;
    } else if (size >= 0x477ff000) {
        half = 0x7c00;
    } else if (size < 0x38800000) {  // below 2^-14, where halves are 2^-24 apart, as floats are from 0.5 on
        float shifted;
        std::memcpy(&shifted, &size, sizeof shifted);
        half = bits_of(shifted + 0.5f) - bits_of(0.5f);
    } else {
        half = (size - 0x38000000 + 0xfff + (size >> 13 & 1)) >> 13;
    }
    return static_cast<std::uint16_t>(sign | half);
}

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

    void write(float* packed, MatrixFormat format) {
        for (std::int64_t first = 0; first < outputs_; first += kPad) {
            packed = std::copy_n(&at(0, first), kPad, packed);
            if (format == MatrixFormat::kFloat16) {
                packed = write_halves(first, packed);
            } else {
                for (std::int64_t i = 0; i < inputs_; ++i) packed = std::copy_n(&weight(i, first), kPad, packed);
            }
        }
    }

private:
    // The weights of a panel.
    float* write_halves(std::int64_t first, float* packed) {
        for (std::int64_t i = 0; i < inputs_; i += 2, packed += kPad) {
            std::uint16_t line[2 * kPad] = {};
            for (std::int64_t row = i; row < std::min(i + 2, inputs_); ++row) {
                for (int o = 0; o < kPad; ++o) line[(row - i) * kPad + o] = to_half(weight(row, first + o));
            }
            std::memcpy(packed, line, sizeof line);
        }
        return packed;
    }

    float& at(std::int64_t row, std::int64_t output) {
        return values_[static_cast<std::size_t>(row * outputs_ + output)];
    }

    std::int64_t inputs_, outputs_;
    std::vector<float> values_;
};

// `fill` puts what is not zero into the map.
template <class Fill>
void pack_linear(Packer& packer, std::int64_t inputs, std::int64_t outputs, MatrixFormat format, Fill&& fill) {
    if (packer.writes()) {
        LinearMap map(inputs, outputs);
        fill(map);
        map.write(packer.next(), format);
    }
    packer.skip(panel_size(inputs, format) * (padded(outputs) / kPad));
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

void pack_convolution(Packer& packer, std::int64_t inputs, std::int64_t outputs, const AffineWeights& weights,
                      MatrixFormat format) {
    pack_linear(packer, kFrames * inputs, outputs, format, [&](LinearMap& map) {
        for (std::int64_t o = 0; o < outputs; ++o) {
            map.bias(o) = weights.bias[o];
            for (std::int64_t i = 0; i < inputs; ++i) {
                for (std::int64_t frame = 0; frame < kFrames; ++frame) {
                    map.weight(frame * inputs + i, o) = weights.weight[(o * inputs + i) * kFrames + frame];
                }
            }
        }
    });
}

void pack_mamba_block(Packer& packer, const BlockSizes& s, const BlockWeights& w, MatrixFormat format) {
    pack_row(packer, w.norm_weight, s.dim);
    pack_row(packer, w.norm_bias, s.dim);

    pack_linear(packer, s.dim, 2 * padded(s.inner), format, [&](LinearMap& in_proj) {
        in_proj.put(w.in_proj, 2 * s.inner, 0, s.inner, 0);
        in_proj.put(w.in_proj, 2 * s.inner, s.inner, s.inner, padded(s.inner));
    });

    pack_row(packer, w.conv_bias, s.inner);
    for (std::int64_t tap = 0; tap < s.conv; ++tap) {
        pack_row(packer, packer.writes() ? w.conv_weight + tap : nullptr, s.inner, s.conv);
    }

    pack_linear(packer, s.inner, x_proj_outputs(s), format, [&](LinearMap& x_proj) {
        const std::int64_t width = s.rank + 2 * s.states;
        x_proj.put(w.x_proj, width, s.rank, s.states, 0);
        x_proj.put(w.x_proj, width, s.rank + s.states, s.states, padded(s.states));
        x_proj.put(w.x_proj, width, 0, s.rank, 2 * padded(s.states));
    });

    pack_linear(packer, s.rank, s.inner, MatrixFormat::kFloat32, [&](LinearMap& dt_proj) {
        dt_proj.put(w.dt_proj, s.inner, 0, s.inner, 0);
        for (std::int64_t d = 0; d < s.inner; ++d) dt_proj.bias(d) = w.dt_bias[d];
    });

    pack_row(packer, w.D, s.inner);
    for (std::int64_t d = 0; d < s.inner; ++d) {
        pack_row(packer, packer.writes() ? w.A + d * s.states : nullptr, s.states, 1, kLog2E);
    }
    pack_zeros(packer, (padded(s.inner) - s.inner) * padded(s.states));

    pack_linear(packer, s.inner, s.dim, format,
                [&](LinearMap& out_proj) { out_proj.put(w.out_proj, s.dim, 0, s.dim, 0); });

    pack_row(packer, w.post_norm_weight, s.dim);
    pack_row(packer, w.post_norm_bias, s.dim);
}

void pack_heads(Packer& packer, std::int64_t inputs, std::int64_t classes, const AffineWeights& spot,
                const AffineWeights& emotion) {
    const auto pack = [&](const AffineWeights& head, std::int64_t outputs) {
        pack_linear(packer, inputs, outputs, MatrixFormat::kFloat32, [&](LinearMap& map) {
            map.put(head.weight, outputs, 0, outputs, 0);
            for (std::int64_t o = 0; o < outputs; ++o) map.bias(o) = head.bias[o];
        });
    };
    pack(spot, 1);
    pack(emotion, classes);
}

}  // namespace metst
