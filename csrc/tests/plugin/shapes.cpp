// Which types, formats and shapes the plugin takes and gives, when a network is made, configured and run; and the
// workspace that it asks for.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <deque>
#include <limits>
#include <string>
#include <vector>

#include "driver.h"
#include "tests.h"

namespace {

bool types_allowed(Types types) {
    return std::any_of(kTypes.begin(), kTypes.end(),
                       [types](Types t) { return t.data == types.data && t.delta == types.delta; });
}

// TensorRT asks position by position, with what the positions before it have been given; later ones hold rubbish.
void exactly_three_combinations_of_types_are_supported_all_linear() {
    for (std::int32_t optional = 0; optional <= kAll; ++optional) {
        const Plugin plugin = create(1, optional);
        const std::vector<Tensor> tensors = tensors_of(optional);
        const std::int32_t inputs = static_cast<std::int32_t>(tensors.size()) - 2;
        for (Types types : kTypes) {
            for (std::size_t position = 0; position < tensors.size(); ++position) {
                for (std::int32_t type = 0; type < nvinfer1::EnumMax<DataType>(); ++type) {
                    for (std::int32_t format = 0; format < nvinfer1::EnumMax<TensorFormat>(); ++format) {
                        std::vector<DynamicPluginTensorDesc> asked(tensors.size());
                        for (DynamicPluginTensorDesc& desc : asked) {
                            std::memset(static_cast<void*>(&desc), 0x5a, sizeof desc);
                        }
                        for (std::size_t i = 0; i < position; ++i) {
                            asked[i].desc.type = type_of(tensors[i], types);
                            asked[i].desc.format = TensorFormat::kLINEAR;
                        }
                        asked[position].desc.type = static_cast<DataType>(type);
                        asked[position].desc.format = static_cast<TensorFormat>(format);
                        const DataType t = static_cast<DataType>(type);
                        bool expected = t == type_of(tensors[position], types);
                        if (position == 0) expected = t == kFloat || t == kHalf;
                        if (position == 1) expected = types_allowed({types.data, t});
                        expected = expected && format == static_cast<std::int32_t>(TensorFormat::kLINEAR);
                        const bool supported = build(plugin).supportsFormatCombination(
                            static_cast<std::int32_t>(position), asked.data(), inputs, 2);
                        EXPECT(supported == expected, "optional %d %s type %d format %d", optional,
                               tensors[position].name, type, format);
                    }
                }
            }
        }
        const DescribedBounds fine(optional, kTypes[0], {1, 2, 3, 4}, {1, 2, 3, 4}, {1, 2, 3, 4});
        std::vector<DynamicPluginTensorDesc> all = fine.in;
        all.insert(all.end(), fine.out.begin(), fine.out.end());
        EXPECT(!build(plugin).supportsFormatCombination(-1, all.data(), inputs, 2), "position -1");
        EXPECT(!build(plugin).supportsFormatCombination(inputs + 2, all.data(), inputs, 2), "position too large");
        EXPECT(logger.messages.empty(), "%s", logger.messages.front().c_str());
        EXPECT_REFUSED(!build(plugin).supportsFormatCombination(0, all.data(), inputs - 1, 2), "inputs");
    }
}

void outputs_have_the_types_of_u_and_float32() {
    for (std::int32_t optional = 0; optional <= kAll; ++optional) {
        const Plugin plugin = create(1, optional);
        const std::vector<Tensor> tensors = inputs_of(optional);
        const std::int32_t count = static_cast<std::int32_t>(tensors.size());
        for (Types types : kTypes) {
            std::vector<DataType> in;
            for (const Tensor& tensor : tensors) in.push_back(type_of(tensor, types));
            DataType out[2] = {DataType::kBOOL, DataType::kBOOL};
            EXPECT(build(plugin).getOutputDataTypes(out, 2, in.data(), count) == 0, "optional %d", optional);
            EXPECT(out[0] == types.data && out[1] == kFloat, "optional %d", optional);
            EXPECT_REFUSED(build(plugin).getOutputDataTypes(out, 2, in.data(), count - 1) != 0, "inputs (u, delta, A");
            EXPECT_REFUSED(build(plugin).getOutputDataTypes(out, 1, in.data(), count) != 0,
                           "got " + std::to_string(count) + " and 1");
            for (std::size_t i = 0; i < in.size(); ++i) {
                std::vector<DataType> wrong = in;
                wrong[i] = DataType::kBF16;
                const char* expected =
                    i > 0 && type_of(tensors[i], {types.data, kFloat}) == kHalf ? "float16" : "float32";
                EXPECT_REFUSED(build(plugin).getOutputDataTypes(out, 2, wrong.data(), count) != 0,
                               std::string("input ") + tensors[i].name + " is bfloat16, expected " + expected);
            }
        }
        std::vector<DataType> in(tensors.size(), kFloat);
        DataType out[2];
        in[1] = kHalf;
        EXPECT_REFUSED(build(plugin).getOutputDataTypes(out, 2, in.data(), count) != 0, "input delta is float16");
    }
}

// A dimension of a network: a constant, or a value that is known to the test only.
class Expression final : public nvinfer1::IDimensionExpr {
public:
    Expression(std::int64_t value, bool constant) : impl_(value, constant) { mImpl = &impl_; }
    ~Expression() noexcept override = default;
    std::int64_t value() const { return impl_.value; }

private:
    struct Impl final : nvinfer1::apiv::VDimensionExpr {
        Impl(std::int64_t v, bool c) : value(v), constant(c) {}
        bool isConstant() const override { return constant; }
        std::int64_t getConstantValue() const override {
            return constant ? value : std::numeric_limits<std::int64_t>::min();
        }
        bool isSizeTensor() const override { return false; }
        std::int64_t value;
        bool constant;
    };
    Impl impl_;
};

class Expressions final : public nvinfer1::IExprBuilder {
public:
    Expressions() : impl_(*this) { mImpl = &impl_; }
    ~Expressions() noexcept override = default;
    const Expression* make(std::int64_t value, bool constant) { return &made_.emplace_back(value, constant); }

private:
    struct Impl final : nvinfer1::apiv::VExprBuilder {
        explicit Impl(Expressions& owner_) : owner(owner_) {}
        const nvinfer1::IDimensionExpr* constant(std::int64_t value) override { return owner.make(value, true); }
        const nvinfer1::IDimensionExpr* operation(nvinfer1::DimensionOperation op,
                                                  const nvinfer1::IDimensionExpr& first,
                                                  const nvinfer1::IDimensionExpr& second) override {
            const std::int64_t a = static_cast<const Expression&>(first).value();
            const std::int64_t b = static_cast<const Expression&>(second).value();
            const bool known = first.isConstant() && second.isConstant();
            switch (op) {
                case nvinfer1::DimensionOperation::kSUM: return owner.make(a + b, known);
                case nvinfer1::DimensionOperation::kPROD: return owner.make(a * b, known);
                case nvinfer1::DimensionOperation::kMAX: return owner.make(std::max(a, b), known);
                case nvinfer1::DimensionOperation::kMIN: return owner.make(std::min(a, b), known);
                default: return nullptr;
            }
        }
        const nvinfer1::IDimensionExpr* declareSizeTensor(std::int32_t, const nvinfer1::IDimensionExpr&,
                                                          const nvinfer1::IDimensionExpr&) override {
            return nullptr;
        }
        Expressions& owner;
    };
    Impl impl_;
    std::deque<Expression> made_;
};

struct NetworkShapes {
    Expressions expressions;
    std::vector<nvinfer1::DimsExprs> in;
    nvinfer1::DimsExprs out[2] = {};

    // Axes in `dynamic` have no constant value.
    NetworkShapes(int optional_inputs, Sizes sizes, const std::string& dynamic) {
        for (const Tensor& tensor : inputs_of(optional_inputs)) {
            nvinfer1::DimsExprs dims{};
            for (const char* axis = tensor.axes; *axis != '\0'; ++axis) {
                dims.d[dims.nbDims++] = expressions.make(sizes[*axis], dynamic.find(*axis) == std::string::npos);
            }
            in.push_back(dims);
        }
    }
    bool accepted_by(const Plugin& plugin, std::int32_t shape_inputs = 0, std::int32_t outputs = 2) {
        return build(plugin).getOutputShapes(in.data(), static_cast<std::int32_t>(in.size()), in.data(), shape_inputs,
                                             out, outputs, expressions) == 0;
    }
    std::int64_t output(std::size_t index, std::int32_t axis) const {
        return static_cast<const Expression*>(out[index].d[axis])->value();
    }
};

void outputs_have_the_shapes_of_u_and_of_the_state() {
    for (std::int32_t optional = 0; optional <= kAll; ++optional) {
        const Plugin plugin = create(1, optional);
        for (const char* dynamic : {"", "B", "L", "BL", "BLDN"}) {
            NetworkShapes shapes(optional, {2, 50, 128, 64}, dynamic);
            EXPECT(shapes.accepted_by(plugin), "optional %d dynamic %s", optional, dynamic);
            EXPECT(shapes.out[0].nbDims == 3 && shapes.out[1].nbDims == 3, "ranks");
            EXPECT(shapes.output(0, 0) == 2 && shapes.output(0, 1) == 50 && shapes.output(0, 2) == 128, "y");
            EXPECT(shapes.output(1, 0) == 2 && shapes.output(1, 1) == 128 && shapes.output(1, 2) == 64, "h");
        }
    }
    NetworkShapes empty(kAll, {0, 0, 0, 0}, "");
    EXPECT(empty.accepted_by(create(1, kAll)), "empty tensors");
}

void shapes_that_do_not_fit_are_refused_when_the_network_is_made() {
    for (std::int32_t optional = 0; optional <= kAll; ++optional) {
        const Plugin plugin = create(1, optional);
        const std::vector<Tensor> tensors = inputs_of(optional);
        for (std::size_t i = 0; i < tensors.size(); ++i) {
            const std::string name = std::string("input ") + tensors[i].name + " has the shape (";
            for (std::int32_t rank : {-1, 0, 1, 2, 3, 4, 8}) {
                if (rank == static_cast<std::int32_t>(std::strlen(tensors[i].axes))) continue;
                NetworkShapes shapes(optional, {2, 5, 3, 4}, "");
                for (std::int32_t axis = 0; axis < rank; ++axis)
                    shapes.in[i].d[axis] = shapes.expressions.make(7, true);
                shapes.in[i].nbDims = rank;
                EXPECT_REFUSED(!shapes.accepted_by(plugin), name);
            }
            if (i == 0) continue;  // the others are compared with u
            for (std::int32_t axis = 0; tensors[i].axes[axis] != '\0'; ++axis) {
                NetworkShapes shapes(optional, {2, 5, 3, 4}, "");
                shapes.in[i].d[axis] = shapes.expressions.make(6, true);
                // A alone tells N until B does.
                const std::size_t refused = i == 2 && axis == 1 ? 3 : i;
                EXPECT_REFUSED(!shapes.accepted_by(plugin), std::string("input ") + tensors[refused].name + " has the");
            }
        }
    }
    const Plugin plugin = create(1, kAll);
    NetworkShapes fine(kAll, {2, 5, 3, 256}, ""), large(kAll, {2, 5, 3, 257}, "");
    EXPECT(fine.accepted_by(plugin), "256 states");
    EXPECT_REFUSED(!large.accepted_by(plugin), "N = 257 states, at most 256");
    EXPECT_REFUSED(!fine.accepted_by(plugin, 1), "no shape inputs, got 1");
    EXPECT_REFUSED(!fine.accepted_by(plugin, 0, 1), "expected 9 inputs (u, delta, A, B, C, D, z, delta_bias, h0;");
    fine.in.pop_back();
    EXPECT_REFUSED(!fine.accepted_by(plugin), "got 8 and 2");
    EXPECT_REFUSED(!NetworkShapes(kAll, {2, 5, 3, 4}, "").accepted_by(create(1, 0)),
                   "expected 5 inputs (u, delta, A, B, C; optional_inputs is 0) and 2 outputs, got 9 and 2");
}

void a_network_is_configured_by_what_it_fixes() {
    const Sizes low = {1, 1, 3, 4}, high = {8, 64, 3, 4}, network = {-1, -1, 3, 4};
    for (std::int32_t optional = 0; optional <= kAll; ++optional) {
        const Plugin plugin = create(1, optional);
        for (Types types : kTypes) {
            EXPECT(DescribedBounds(optional, types, network, low, high).accepted_by(plugin), "optional %d", optional);
        }
        DescribedBounds bounds(optional, kTypes[0], network, low, high);
        bounds.in[1].max.d[1] = 65;  // a looser bound of the same unknown length
        EXPECT(bounds.accepted_by(plugin), "looser bound");
        bounds.in[1].desc.dims.d[2] = 5;
        EXPECT_REFUSED(!bounds.accepted_by(plugin),
                       "input delta has the shape (-1,-1,5), expected (B,L,D) = (any,any,3)");
        DescribedBounds half(optional, kTypes[0], network, low, high);
        half.out[1].desc.type = kHalf;
        EXPECT_REFUSED(!half.accepted_by(plugin), "output h is float16, expected float32");
        half.in.pop_back();
        EXPECT_REFUSED(!half.accepted_by(plugin), "expected");
    }
    for (Sizes unknown : {Sizes{-1, -1, -1, 4}, Sizes{-1, -1, 3, -1}}) {
        EXPECT_REFUSED(!DescribedBounds(kAll, kTypes[0], unknown, low, high).accepted_by(create(1, kAll)),
                       "must fix D and N");
    }
    EXPECT_REFUSED(!DescribedBounds(kAll, kTypes[0], {-1, -1, 3, 300}, low, high).accepted_by(create(1, kAll)),
                   "N = 300");
}

void shapes_types_and_formats_that_do_not_fit_are_refused_before_a_run() {
    for (std::int32_t optional = 0; optional <= kAll; ++optional) {
        const Plugin plugin = create(1, optional);
        const std::vector<Tensor> tensors = tensors_of(optional);
        for (Types types : kTypes) {
            const Described fine(optional, types, {2, 5, 3, 4});
            EXPECT(fine.accepted_by(plugin), "optional %d", optional);
            EXPECT(Described(optional, types, {0, 0, 0, 0}).accepted_by(plugin), "empty");
            for (std::size_t i = 0; i < tensors.size(); ++i) {
                for (std::int32_t axis = 0; tensors[i].axes[axis] != '\0'; ++axis) {
                    Described wrong = fine;
                    ++wrong[i].dims.d[axis];
                    EXPECT_REFUSED(!wrong.accepted_by(plugin), "has the shape (");
                }
                Described deeper = fine, other = fine, blocked = fine;
                deeper[i].dims.d[deeper[i].dims.nbDims++] = 1;
                EXPECT_REFUSED(!deeper.accepted_by(plugin), std::string(tensors[i].name) + " has the shape (");
                other[i].type = DataType::kINT32;
                EXPECT_REFUSED(!other.accepted_by(plugin), std::string(tensors[i].name) + " is int32");
                blocked[i].format = TensorFormat::kCHW4;
                EXPECT_REFUSED(!blocked.accepted_by(plugin), std::string(tensors[i].name) + " has the TensorFormat 3");
            }
        }
        EXPECT_REFUSED(!Described(optional, kTypes[0], {-1, 5, 3, 4}).accepted_by(plugin), "size B is not known");
        EXPECT_REFUSED(!Described(optional, kTypes[0], {2, 5, 3, 257}).accepted_by(plugin), "at most 256");
        Described fewer(optional, kTypes[0], {2, 5, 3, 4});
        fewer.in.pop_back();
        EXPECT_REFUSED(!fewer.accepted_by(plugin), "expected");
        fewer.out.pop_back();
        EXPECT_REFUSED(!fewer.accepted_by(plugin), "and 1");
    }
}

// TensorRT keeps what the largest batch and length need, and the plugin tells the kernel that the present ones have
// what they need: so no smaller batch or length may need more.
void the_workspace_of_the_largest_sizes_is_enough_for_all() {
    const Plugin plugin = create(1, kAll);
    const auto workspace = [&](Sizes sizes) {
        return DescribedBounds(kAll, kTypes[0], {-1, -1, sizes.D, sizes.N}, {0, 0, sizes.D, sizes.N}, sizes)
            .workspace(plugin);
    };
    const std::vector<std::int64_t> batches = {1, 2, 3, 4, 5, 8, 16, 31, 64, 200};
    const std::vector<std::int64_t> lengths = {1,   50,   64,   65,   128,  511,  512, 513,
                                               600, 1000, 1024, 1025, 4096, 5000, 8192};
    for (std::int64_t channels : {1, 8, 64, 128, 129, 256, 2048}) {
        for (std::int64_t states : {1, 4, 16, 17, 64, 65, 256}) {
            for (std::size_t b = 0; b < batches.size(); ++b) {
                for (std::size_t l = 0; l < lengths.size(); ++l) {
                    const std::size_t here = workspace({batches[b], lengths[l], channels, states});
                    if (b + 1 < batches.size()) {
                        const std::size_t more = workspace({batches[b + 1], lengths[l], channels, states});
                        EXPECT(here <= more, "B %d needs %zu bytes, B %d only %zu (L %d D %d N %d)",
                               static_cast<int>(batches[b]), here, static_cast<int>(batches[b + 1]), more,
                               static_cast<int>(lengths[l]), static_cast<int>(channels), static_cast<int>(states));
                    }
                    if (l + 1 < lengths.size()) {
                        const std::size_t more = workspace({batches[b], lengths[l + 1], channels, states});
                        EXPECT(here <= more, "L %d needs %zu bytes, L %d only %zu (B %d D %d N %d)",
                               static_cast<int>(lengths[l]), here, static_cast<int>(lengths[l + 1]), more,
                               static_cast<int>(batches[b]), static_cast<int>(channels), static_cast<int>(states));
                    }
                }
            }
        }
    }
    if (library.fake != nullptr) {
        const std::size_t asked = workspace({2, 3, 4, 5}),
                          expected = 2 * (3 + 1) * 4 * 5 * sizeof(float);  // the fake's
        EXPECT(asked == expected, "%zu bytes, expected %zu", asked, expected);
    }
    DescribedBounds fewer(kAll, kTypes[0], {1, 2, 3, 4}, {1, 2, 3, 4}, {1, 2, 3, 4});
    fewer.in.pop_back();
    EXPECT_REFUSED(fewer.workspace(plugin) == 0, "expected 9 inputs");
}

}  // namespace

void test_types_and_shapes() {
    exactly_three_combinations_of_types_are_supported_all_linear();
    outputs_have_the_types_of_u_and_float32();
    outputs_have_the_shapes_of_u_and_of_the_state();
    shapes_that_do_not_fit_are_refused_when_the_network_is_made();
    a_network_is_configured_by_what_it_fixes();
    shapes_types_and_formats_that_do_not_fit_are_refused_before_a_run();
    the_workspace_of_the_largest_sizes_is_enough_for_all();
}
