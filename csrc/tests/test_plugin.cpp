// Drives the TensorRT plugin through its interfaces as TensorRT would, without TensorRT: a library is loaded, its
// creator found, and everything below goes through that.
//
//   test_plugin LIBRARY CONTRACT.json
//
// With the library that has the fake of the kernel, enqueue is checked on the host. With the real one it is checked on
// the GPU; where there is none the process ends with 77 (skipped) once everything else has passed.
#include <NvInferRuntime.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <fstream>
#include <iterator>
#include <limits>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "selective_scan_cuda_fake.h"
#include "testing.h"

using nvinfer1::DataType;
using nvinfer1::DynamicPluginTensorDesc;
using nvinfer1::IPluginV3;
using nvinfer1::IPluginV3OneBuild;
using nvinfer1::IPluginV3OneCore;
using nvinfer1::IPluginV3OneRuntime;
using nvinfer1::PluginCapabilityType;
using nvinfer1::PluginField;
using nvinfer1::PluginFieldCollection;
using nvinfer1::PluginFieldType;
using nvinfer1::PluginTensorDesc;
using nvinfer1::TensorFormat;
using nvinfer1::TensorRTPhase;

namespace {

constexpr int kSkipped = 77;
constexpr DataType kFloat = DataType::kFLOAT, kHalf = DataType::kHALF;
constexpr std::int32_t kAll = 15;

// What the README says, written down a second time.
struct Tensor {
    const char* name;
    const char* axes;
    char type;  // T: as u; d: of delta; f: float32
    int bit;    // of optional_inputs
};
const std::vector<Tensor> kInputs = {{"u", "BLD", 'T', 0}, {"delta", "BLD", 'd', 0},    {"A", "DN", 'f', 0},
                                     {"B", "BLN", 'T', 0}, {"C", "BLN", 'T', 0},        {"D", "D", 'f', 1},
                                     {"z", "BLD", 'T', 2}, {"delta_bias", "D", 'f', 4}, {"h0", "BDN", 'f', 8}};
const std::vector<Tensor> kOutputs = {{"y", "BLD", 'T', 0}, {"h", "BDN", 'f', 0}};

struct Types {
    DataType data, delta;
};
const std::vector<Types> kTypes = {{kFloat, kFloat}, {kHalf, kFloat}, {kHalf, kHalf}};

std::vector<Tensor> inputs_of(int optional_inputs) {
    std::vector<Tensor> present;
    for (const Tensor& tensor : kInputs) {
        if (tensor.bit == 0 || (optional_inputs & tensor.bit) != 0) present.push_back(tensor);
    }
    return present;
}

std::vector<Tensor> tensors_of(int optional_inputs) {
    std::vector<Tensor> tensors = inputs_of(optional_inputs);
    tensors.insert(tensors.end(), kOutputs.begin(), kOutputs.end());
    return tensors;
}

DataType type_of(const Tensor& tensor, Types types) {
    return tensor.type == 'T' ? types.data : tensor.type == 'd' ? types.delta : kFloat;
}

struct Sizes {
    std::int64_t B, L, D, N;

    std::int64_t operator[](char axis) const { return axis == 'B' ? B : axis == 'L' ? L : axis == 'D' ? D : N; }
};

nvinfer1::Dims dims_of(const Tensor& tensor, Sizes sizes) {
    nvinfer1::Dims dims{};
    for (const char* axis = tensor.axes; *axis != '\0'; ++axis) dims.d[dims.nbDims++] = sizes[*axis];
    return dims;
}

class Logger final : public nvinfer1::ILogger {
public:
    void log(Severity severity, const char* message) noexcept override {
        EXPECT(severity == Severity::kERROR, "severity %d", static_cast<int>(severity));
        messages.emplace_back(message);
    }
    std::vector<std::string> messages;
};

class Finder final : public nvinfer1::ILoggerFinder {
public:
    explicit Finder(Logger& logger) : logger_(logger) {}
    ~Finder() override = default;
    nvinfer1::ILogger* findLogger() override {
        if (throws) throw std::runtime_error("no logger on this thread");
        return &logger_;
    }
    bool throws = false;

private:
    Logger& logger_;
};

Logger logger;
Finder finder(logger);

// The message of the one refusal since the last call; a failure when there was none or more than one.
std::string message_of(const char* what) {
    EXPECT(logger.messages.size() == 1, "%s: %d messages", what, static_cast<int>(logger.messages.size()));
    std::string message = logger.messages.empty() ? "" : logger.messages.front();
    EXPECT(message.rfind("metst::SelectiveScan: ", 0) == 0, "%s: %s", what, message.c_str());
    logger.messages.clear();
    return message;
}

#define EXPECT_REFUSED(refused, part)                                                   \
    do {                                                                                \
        EXPECT(refused, "was accepted");                                                \
        const std::string message_ = message_of(#refused);                              \
        EXPECT(message_.find(part) != std::string::npos, "says: %s", message_.c_str()); \
    } while (false)

struct Library {
    nvinfer1::IPluginCreatorV3One* creator = nullptr;
    void (*set_logger_finder)(nvinfer1::ILoggerFinder*) = nullptr;
    FakeScan* fake = nullptr;  // null: the real kernel
};
Library library;

bool load(const char* path) {
    void* handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) {
        std::printf("%s\n", dlerror());
        return false;
    }
    using GetCreators = nvinfer1::IPluginCreatorInterface* const* (*)(std::int32_t&);
    const auto get_creators = reinterpret_cast<GetCreators>(dlsym(handle, "getCreators"));
    library.set_logger_finder = reinterpret_cast<void (*)(nvinfer1::ILoggerFinder*)>(dlsym(handle, "setLoggerFinder"));
    EXPECT(get_creators != nullptr && library.set_logger_finder != nullptr, "an export is missing");
    if (failures > 0) return false;
    library.set_logger_finder(&finder);
    std::int32_t count = 0;
    nvinfer1::IPluginCreatorInterface* const* creators = get_creators(count);
    EXPECT(count == 1, "%d creators", count);
    EXPECT(std::strcmp(creators[0]->getInterfaceInfo().kind, "PLUGIN CREATOR_V3ONE") == 0, "%s",
           creators[0]->getInterfaceInfo().kind);
    library.creator = static_cast<nvinfer1::IPluginCreatorV3One*>(creators[0]);
    if (const auto fake = reinterpret_cast<FakeScan* (*)()>(dlsym(handle, "metst_fake_scan"))) library.fake = fake();
    return true;
}

using Plugin = std::unique_ptr<IPluginV3>;

template <typename Interface>
Interface& capability(IPluginV3& plugin, PluginCapabilityType type) {
    return *static_cast<Interface*>(plugin.getCapabilityInterface(type));
}
IPluginV3OneBuild& build(const Plugin& plugin) {
    return capability<IPluginV3OneBuild>(*plugin, PluginCapabilityType::kBUILD);
}
IPluginV3OneRuntime& runtime(const Plugin& plugin) {
    return capability<IPluginV3OneRuntime>(*plugin, PluginCapabilityType::kRUNTIME);
}

Plugin create(const std::vector<PluginField>& fields, TensorRTPhase phase = TensorRTPhase::kBUILD) {
    const PluginFieldCollection collection{static_cast<std::int32_t>(fields.size()), fields.data()};
    return Plugin(library.creator->createPlugin("layer", &collection, phase));
}

Plugin create(std::int32_t delta_softplus, std::int32_t optional_inputs) {
    Plugin plugin = create({{"delta_softplus", &delta_softplus, PluginFieldType::kINT32, 1},
                            {"optional_inputs", &optional_inputs, PluginFieldType::kINT32, 1}});
    EXPECT(plugin != nullptr, "softplus %d optional %d", delta_softplus, optional_inputs);
    return plugin;
}

struct Attributes {
    std::int32_t delta_softplus = -1, optional_inputs = -1;

    bool operator==(const Attributes& other) const {
        return delta_softplus == other.delta_softplus && optional_inputs == other.optional_inputs;
    }
};

Attributes serialised(const Plugin& plugin) {
    Attributes attributes;
    const PluginFieldCollection* fields = runtime(plugin).getFieldsToSerialize();
    EXPECT(fields != nullptr && fields->nbFields == 2, "not two fields");
    for (std::int32_t i = 0; i < fields->nbFields; ++i) {
        const PluginField& field = fields->fields[i];
        EXPECT(field.type == PluginFieldType::kINT32 && field.length == 1, "%s", field.name);
        std::int32_t& value =
            std::strcmp(field.name, "delta_softplus") == 0 ? attributes.delta_softplus : attributes.optional_inputs;
        std::memcpy(&value, field.data, sizeof value);
    }
    return attributes;
}

// As TensorRT keeps a plugin in an engine: names and bytes copied, then given back when the engine is loaded.
class StoredFields {
public:
    explicit StoredFields(const PluginFieldCollection& fields) {
        for (std::int32_t i = 0; i < fields.nbFields; ++i) {
            const char* bytes = static_cast<const char*>(fields.fields[i].data);
            names_.emplace_back(fields.fields[i].name);
            data_.emplace_back(bytes, bytes + sizeof(std::int32_t));
            fields_.emplace_back(names_.back().c_str(), data_.back().data(), fields.fields[i].type,
                                 fields.fields[i].length);
        }
    }
    const std::vector<PluginField>& fields() const { return fields_; }

private:
    std::deque<std::string> names_;
    std::deque<std::vector<char>> data_;
    std::vector<PluginField> fields_;
};

struct Described {
    std::vector<PluginTensorDesc> in, out;

    Described(int optional_inputs, Types types, Sizes sizes) {
        for (const Tensor& tensor : inputs_of(optional_inputs)) in.push_back(describe(tensor, types, sizes));
        for (const Tensor& tensor : kOutputs) out.push_back(describe(tensor, types, sizes));
    }
    static PluginTensorDesc describe(const Tensor& tensor, Types types, Sizes sizes) {
        return {dims_of(tensor, sizes), type_of(tensor, types), TensorFormat::kLINEAR, 1.0f};
    }
    PluginTensorDesc& operator[](std::size_t i) { return i < in.size() ? in[i] : out[i - in.size()]; }
    std::size_t size() const { return in.size() + out.size(); }
    bool accepted_by(const Plugin& plugin) const {
        return runtime(plugin).onShapeChange(in.data(), static_cast<std::int32_t>(in.size()), out.data(),
                                             static_cast<std::int32_t>(out.size())) == 0;
    }
};

struct DescribedBounds {
    std::vector<DynamicPluginTensorDesc> in, out;

    // Sizes of -1 in `network` are dynamic.
    DescribedBounds(int optional_inputs, Types types, Sizes network, Sizes low, Sizes high) {
        for (const Tensor& tensor : inputs_of(optional_inputs)) {
            in.push_back({Described::describe(tensor, types, network), dims_of(tensor, low), dims_of(tensor, high),
                          dims_of(tensor, high)});
        }
        for (const Tensor& tensor : kOutputs) {
            out.push_back({Described::describe(tensor, types, network), dims_of(tensor, low), dims_of(tensor, high),
                           dims_of(tensor, high)});
        }
    }
    bool accepted_by(const Plugin& plugin) const {
        return build(plugin).configurePlugin(in.data(), static_cast<std::int32_t>(in.size()), out.data(),
                                             static_cast<std::int32_t>(out.size())) == 0;
    }
    std::size_t workspace(const Plugin& plugin) const {
        return build(plugin).getWorkspaceSize(in.data(), static_cast<std::int32_t>(in.size()), out.data(),
                                              static_cast<std::int32_t>(out.size()));
    }
};

void the_creator_is_metst_selective_scan_1_with_two_fields() {
    EXPECT(std::strcmp(library.creator->getPluginName(), "SelectiveScan") == 0, "%s", library.creator->getPluginName());
    EXPECT(std::strcmp(library.creator->getPluginVersion(), "1") == 0, "%s", library.creator->getPluginVersion());
    EXPECT(std::strcmp(library.creator->getPluginNamespace(), "metst") == 0, "%s",
           library.creator->getPluginNamespace());
    const PluginFieldCollection* fields = library.creator->getFieldNames();
    EXPECT(fields->nbFields == 2, "%d fields", fields->nbFields);
    EXPECT(std::strcmp(fields->fields[0].name, "delta_softplus") == 0, "%s", fields->fields[0].name);
    EXPECT(std::strcmp(fields->fields[1].name, "optional_inputs") == 0, "%s", fields->fields[1].name);
    for (std::int32_t i = 0; i < fields->nbFields; ++i) {
        EXPECT(fields->fields[i].type == PluginFieldType::kINT32 && fields->fields[i].length == 1, "field %d", i);
    }
}

void a_plugin_offers_its_three_capabilities_and_no_other() {
    const Plugin plugin = create(1, kAll);
    const auto& core = capability<IPluginV3OneCore>(*plugin, PluginCapabilityType::kCORE);
    EXPECT(std::strcmp(core.getInterfaceInfo().kind, "PLUGIN_V3ONE_CORE") == 0, "%s", core.getInterfaceInfo().kind);
    EXPECT(std::strcmp(core.getPluginName(), "SelectiveScan") == 0, "%s", core.getPluginName());
    EXPECT(std::strcmp(core.getPluginVersion(), "1") == 0, "%s", core.getPluginVersion());
    EXPECT(std::strcmp(core.getPluginNamespace(), "metst") == 0, "%s", core.getPluginNamespace());
    const nvinfer1::InterfaceInfo info = build(plugin).getInterfaceInfo();
    EXPECT(std::strcmp(info.kind, "PLUGIN_V3ONE_BUILD") == 0 && info.major == 1, "%s %d", info.kind, info.major);
    EXPECT(std::strcmp(runtime(plugin).getInterfaceInfo().kind, "PLUGIN_V3ONE_RUNTIME") == 0, "runtime");
    EXPECT(plugin->getCapabilityInterface(static_cast<PluginCapabilityType>(99)) == nullptr, "capability 99");
    EXPECT(build(plugin).getNbOutputs() == 2, "%d outputs", build(plugin).getNbOutputs());
}

void attributes_survive_serialisation_cloning_and_attaching() {
    for (std::int32_t softplus : {0, 1}) {
        for (std::int32_t optional = 0; optional <= kAll; ++optional) {
            const Attributes expected = {softplus, optional};
            Plugin built = create(softplus, optional);
            EXPECT(serialised(built) == expected, "built %d %d", softplus, optional);
            const std::string timing = build(built).getTimingCacheID();
            const StoredFields stored(*runtime(built).getFieldsToSerialize());
            const Plugin clone(built->clone());
            built.reset();
            EXPECT(serialised(clone) == expected, "clone %d %d", softplus, optional);

            Plugin loaded = create(stored.fields(), TensorRTPhase::kRUNTIME);
            EXPECT(loaded != nullptr && serialised(loaded) == expected, "loaded %d %d", softplus, optional);
            EXPECT(build(loaded).getTimingCacheID() == timing, "%s", timing.c_str());
            const Plugin attached(runtime(loaded).attachToContext(nullptr));
            EXPECT(attached != nullptr && attached != loaded, "attached %d %d", softplus, optional);
            loaded.reset();
            EXPECT(serialised(attached) == expected, "attached %d %d", softplus, optional);
            EXPECT(Described(optional, kTypes[0], {1, 2, 3, 4}).accepted_by(attached), "attached %d", optional);
        }
    }
}

void the_timing_cache_tells_different_attributes_apart() {
    std::vector<std::string> identifiers;
    for (std::int32_t softplus : {0, 1}) {
        for (std::int32_t optional = 0; optional <= kAll; ++optional) {
            identifiers.emplace_back(build(create(softplus, optional)).getTimingCacheID());
        }
    }
    std::sort(identifiers.begin(), identifiers.end());
    EXPECT(std::unique(identifiers.begin(), identifiers.end()) == identifiers.end(), "two are the same");
}

void attributes_default_to_softplus_and_all_inputs_when_building() {
    const Attributes expected = {1, kAll};
    EXPECT(serialised(create({})) == expected, "no fields");
    const Plugin plugin(library.creator->createPlugin("layer", nullptr, TensorRTPhase::kBUILD));
    EXPECT(plugin != nullptr && serialised(plugin) == expected, "no collection");
}

void bad_attributes_are_refused() {
    const std::int32_t one = 1, two = 2, sixteen = 16, minus = -1, ones[2] = {1, 1};
    const float real = 1.0f;
    const std::int64_t wide = 1;
    constexpr PluginFieldType kInt = PluginFieldType::kINT32;
    EXPECT_REFUSED(create({{"delta_softplus", &two, kInt, 1}}) == nullptr, "delta_softplus must be 0 to 1, got 2");
    EXPECT_REFUSED(create({{"delta_softplus", &minus, kInt, 1}}) == nullptr, "must be 0 to 1, got -1");
    EXPECT_REFUSED(create({{"optional_inputs", &sixteen, kInt, 1}}) == nullptr, "must be 0 to 15, got 16");
    EXPECT_REFUSED(create({{"optional_inputs", &minus, kInt, 1}}) == nullptr, "must be 0 to 15, got -1");
    EXPECT_REFUSED(create({{"delta_softplus", ones, kInt, 2}}) == nullptr, "one int32, got 2 values");
    EXPECT_REFUSED(create({{"delta_softplus", ones, kInt, 0}}) == nullptr, "one int32, got 0 values");
    EXPECT_REFUSED(create({{"delta_softplus", nullptr, kInt, 1}}) == nullptr, "one int32, got 0 values");
    EXPECT_REFUSED(create({{"delta_softplus", &real, PluginFieldType::kFLOAT32, 1}}) == nullptr, "one int32");
    EXPECT_REFUSED(create({{"optional_inputs", &wide, PluginFieldType::kINT64, 1}}) == nullptr, "one int32");
    EXPECT_REFUSED(create({{"softplus", &one, kInt, 1}}) == nullptr, "unknown attribute softplus, expected delta_soft");
    EXPECT_REFUSED(create({{nullptr, &one, kInt, 1}}) == nullptr, "unknown attribute (no name)");
    EXPECT_REFUSED(create({}, TensorRTPhase::kRUNTIME) == nullptr, "lacks the attribute delta_softplus");
    EXPECT_REFUSED(create({{"delta_softplus", &one, kInt, 1}}, TensorRTPhase::kRUNTIME) == nullptr,
                   "lacks the attribute optional_inputs");
    EXPECT_REFUSED(library.creator->createPlugin("layer", nullptr, TensorRTPhase::kRUNTIME) == nullptr,
                   "Build it again");
}

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

// What goes to stderr while `body` runs.
template <typename Body>
std::string stderr_of(Body body) {
    std::FILE* file = std::tmpfile();
    std::fflush(stderr);
    const int kept = dup(STDERR_FILENO);
    dup2(fileno(file), STDERR_FILENO);
    body();
    std::fflush(stderr);
    dup2(kept, STDERR_FILENO);
    close(kept);
    std::rewind(file);
    char text[1024] = "";
    const std::size_t read = std::fread(text, 1, sizeof text - 1, file);
    std::fclose(file);
    return std::string(text, read);
}

void messages_go_to_stderr_when_there_is_no_logger() {
    const std::int32_t two = 2;
    const auto refused = [&] {
        EXPECT(create({{"delta_softplus", &two, PluginFieldType::kINT32, 1}}) == nullptr, "was accepted");
    };
    const std::string expected = "metst::SelectiveScan: attribute delta_softplus must be 0 to 1, got 2\n";
    library.set_logger_finder(nullptr);
    EXPECT(stderr_of(refused) == expected, "no finder");
    library.set_logger_finder(&finder);
    finder.throws = true;
    EXPECT(stderr_of(refused) == expected, "a finder that throws");
    finder.throws = false;
    EXPECT(logger.messages.empty(), "the logger got %s", logger.messages.front().c_str());
}

// The contract as the plugin itself shows it, in the order and the words of selective_scan.json, without spaces.
std::string contract() {
    const Plugin plugin = create(1, kAll);
    const auto quoted = [](const std::string& text) { return "\"" + text + "\""; };
    const auto list = [](const std::vector<std::string>& items) {
        std::string text;
        for (const std::string& item : items) text += (text.empty() ? "" : ",") + item;
        return "[" + text + "]";
    };
    const auto type_name = [](DataType type) {
        return std::string(type == kFloat ? "float32" : type == kHalf ? "float16" : "?");
    };
    const auto supports = [&](std::size_t position, Types types, DataType asked) {
        DescribedBounds bounds(kAll, types, {1, 2, 3, 4}, {1, 2, 3, 4}, {1, 2, 3, 4});
        std::vector<DynamicPluginTensorDesc> all = bounds.in;
        all.insert(all.end(), bounds.out.begin(), bounds.out.end());
        all[position].desc.type = asked;
        return build(plugin).supportsFormatCombination(static_cast<std::int32_t>(position), all.data(), 9, 2);
    };

    std::vector<std::string> types;
    std::vector<Types> found;
    for (DataType data : {kFloat, kHalf, DataType::kBF16}) {
        for (DataType delta : {kFloat, kHalf, DataType::kBF16}) {
            if (!supports(0, {data, delta}, data) || !supports(1, {data, delta}, delta)) continue;
            found.push_back({data, delta});
            types.push_back("{\"T\":" + quoted(type_name(data)) + ",\"T_delta\":" + quoted(type_name(delta)) + "}");
        }
    }
    const auto rule = [&](std::size_t position) {
        if (position == 1) return "T_delta";
        const bool always_float =
            std::all_of(found.begin(), found.end(), [&](Types t) { return supports(position, t, kFloat); });
        const bool as_u =
            std::all_of(found.begin(), found.end(), [&](Types t) { return supports(position, t, t.data); });
        return as_u ? "T" : always_float ? "float32" : "?";
    };

    // A tensor of a rank that nothing has is refused by name, with the shape it should have.
    const auto between = [](const std::string& text, const std::string& start, const std::string& end) {
        const std::size_t from = text.find(start);
        const std::size_t to = from == std::string::npos ? from : text.find(end, from + start.size());
        EXPECT(to != std::string::npos, "no %s ... %s in %s", start.c_str(), end.c_str(), text.c_str());
        return to == std::string::npos ? "" : text.substr(from + start.size(), to - from - start.size());
    };
    const auto name_and_shape = [&](int optional, std::size_t position) {
        Described wrong(optional, kTypes[0], {1, 2, 3, 4});
        wrong[position].dims.nbDims = 7;
        std::fill(wrong[position].dims.d, wrong[position].dims.d + 7, 1);
        EXPECT(!wrong.accepted_by(create(1, optional)), "rank 7 was accepted");
        const std::string message = message_of("rank 7");
        return std::array<std::string, 2>{between(message, "put ", " has the shape"),
                                          between(message, "expected ", " = ")};
    };
    const auto bit_of = [&](const std::string& name) {
        int bits = 0;
        for (int bit : {1, 2, 4, 8}) {
            bool there = false;
            for (std::size_t i = 0; i < 8; ++i) there = there || name_and_shape(kAll - bit, i)[0] == name;
            if (!there) bits += bit;
        }
        return bits;
    };
    std::vector<std::string> inputs, outputs;
    for (std::size_t i = 0; i < 11; ++i) {
        const auto [name, shape] = name_and_shape(kAll, i);
        std::string text = "{\"name\":" + quoted(name) + ",\"shape\":" + quoted(shape) + ",\"type\":" + quoted(rule(i));
        if (i < 9) text += ",\"optional\":" + std::to_string(bit_of(name));
        (i < 9 ? inputs : outputs).push_back(text + "}");
    }

    std::vector<std::string> attributes;
    const PluginFieldCollection* fields = library.creator->getFieldNames();
    const Attributes defaults = serialised(create({}));
    for (std::int32_t i = 0; i < fields->nbFields; ++i) {
        std::vector<std::int32_t> accepted;
        for (std::int32_t value = -300; value <= 300; ++value) {
            if (create({{fields->fields[i].name, &value, PluginFieldType::kINT32, 1}}) != nullptr)
                accepted.push_back(value);
        }
        logger.messages.clear();
        EXPECT(accepted.back() - accepted.front() + 1 == static_cast<std::int32_t>(accepted.size()), "a hole");
        const std::string name = fields->fields[i].name;
        const std::int32_t value = name == "delta_softplus" ? defaults.delta_softplus : defaults.optional_inputs;
        attributes.push_back(
            "{\"name\":" + quoted(name) + ",\"type\":\"int32\",\"minimum\":" + std::to_string(accepted.front()) +
            ",\"maximum\":" + std::to_string(accepted.back()) + ",\"default\":" + std::to_string(value) + "}");
    }

    std::int64_t most = 0;
    while (most < 1024 && Described(kAll, kTypes[0], {1, 2, 3, most + 1}).accepted_by(plugin)) ++most;
    logger.messages.clear();

    return "{\"name\":" + quoted(library.creator->getPluginName()) +
           ",\"namespace\":" + quoted(library.creator->getPluginNamespace()) +
           ",\"version\":" + quoted(library.creator->getPluginVersion()) +
           ",\"format\":\"linear\",\"types\":" + list(types) + ",\"inputs\":" + list(inputs) +
           ",\"outputs\":" + list(outputs) + ",\"attributes\":" + list(attributes) +
           ",\"maximum_states\":" + std::to_string(most) + "}";
}

void the_contract_file_says_what_the_plugin_does(const char* path) {
    std::ifstream file(path);
    std::string written((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    written.erase(std::remove_if(written.begin(), written.end(), [](char c) { return c == ' ' || c == '\n'; }),
                  written.end());
    const std::string shown = contract();
    EXPECT(written == shown, "%s\n  file   %s\n  plugin %s", path, written.c_str(), shown.c_str());
}

// Arrays where the kernel can read them: on the GPU for the real library, on the host for the fake.
class Memory {
public:
    ~Memory() {
        for (void* array : arrays_) release(array);
    }
    void* upload(const void* bytes, std::size_t size) {
        void* array = allocate(size);
        arrays_.push_back(array);
        copy(array, bytes, size, cudaMemcpyHostToDevice);
        return array;
    }
    void download(void* bytes, const void* array, std::size_t size) {
        copy(bytes, array, size, cudaMemcpyDeviceToHost);
    }

private:
#ifdef METST_TEST_CUDA
    static bool on_host() { return library.fake != nullptr; }
    static void* allocate(std::size_t size) {
        if (on_host()) return std::malloc(size + 1);
        void* array = nullptr;
        EXPECT(cudaMalloc(&array, size + 1) == cudaSuccess, "cudaMalloc of %zu bytes", size);
        return array;
    }
    static void copy(void* to, const void* from, std::size_t size, cudaMemcpyKind kind) {
        if (on_host()) {
            std::memcpy(to, from, size);
        } else {
            EXPECT(cudaMemcpy(to, from, size, kind) == cudaSuccess, "cudaMemcpy of %zu bytes", size);
        }
    }
    static void release(void* array) { on_host() ? std::free(array) : static_cast<void>(cudaFree(array)); }
#else
    static void* allocate(std::size_t size) { return std::malloc(size + 1); }
    static void copy(void* to, const void* from, std::size_t size, cudaMemcpyKind) { std::memcpy(to, from, size); }
    static void release(void* array) { std::free(array); }
#endif
    std::vector<void*> arrays_;
};

std::size_t count_of(const Tensor& tensor, Sizes sizes) {
    std::size_t count = 1;
    for (const char* axis = tensor.axes; *axis != '\0'; ++axis) count *= static_cast<std::size_t>(sizes[*axis]);
    return count;
}

double rounded(double value, DataType type) {
    const float single = static_cast<float>(value);
    return static_cast<double>(type == kHalf ? __half2float(__float2half(single)) : single);
}

std::vector<char> as_bytes(const std::vector<double>& values, DataType type) {
    std::vector<char> bytes(values.size() * (type == kHalf ? 2 : 4));
    for (std::size_t i = 0; i < values.size(); ++i) {
        const float single = static_cast<float>(values[i]);
        const __half half = __float2half(single);
        if (type == kHalf) {
            std::memcpy(bytes.data() + 2 * i, &half, 2);
        } else {
            std::memcpy(bytes.data() + 4 * i, &single, 4);
        }
    }
    return bytes;
}

// A scan with arrays in the order of kInputs, as a network would hold them.
struct Problem {
    int optional;
    Types types;
    Sizes sizes;
    bool softplus;
    Memory memory;
    std::vector<std::vector<double>> values;  // of kInputs, rounded to their types; empty: left out
    std::vector<const void*> in;              // of those that are there
    std::vector<void*> out;
    void* workspace;
    Described described;

    Problem(int optional_, Types types_, Sizes sizes_, bool softplus_, unsigned seed)
        : optional(optional_), types(types_), sizes(sizes_), softplus(softplus_), described(optional_, types_, sizes_) {
        std::mt19937 generator(seed);
        std::normal_distribution<double> normal;
        for (const Tensor& tensor : kInputs) {
            values.emplace_back();
            if (tensor.bit != 0 && (optional & tensor.bit) == 0) continue;
            const std::string name = tensor.name;
            for (std::size_t i = 0; i < count_of(tensor, sizes); ++i) {
                double value = normal(generator);
                if (name == "A") value = -std::exp(value);
                if (!softplus && (name == "delta" || name == "delta_bias")) value = 0.1 + std::fabs(value);
                values.back().push_back(rounded(value, type_of(tensor, types)));
            }
            const std::vector<char> bytes = as_bytes(values.back(), type_of(tensor, types));
            in.push_back(memory.upload(bytes.data(), bytes.size()));
        }
        for (const Tensor& tensor : kOutputs) {
            const std::vector<double> nothing(count_of(tensor, sizes), std::numeric_limits<double>::quiet_NaN());
            const std::vector<char> bytes = as_bytes(nothing, type_of(tensor, types));
            out.push_back(memory.upload(bytes.data(), bytes.size()));
        }
        const std::vector<char> space(
            DescribedBounds(optional, types, sizes, sizes, sizes).workspace(create(softplus, optional)));
        workspace = memory.upload(space.data(), space.size());
    }
    int enqueue(const Plugin& plugin, cudaStream_t stream) {
        return runtime(plugin).enqueue(described.in.data(), described.out.data(), in.data(), out.data(), workspace,
                                       stream);
    }
    const std::vector<double>& value(const char* name) const {
        for (std::size_t i = 0; i < kInputs.size(); ++i) {
            if (std::strcmp(kInputs[i].name, name) == 0) return values[i];
        }
        std::abort();
    }
    std::vector<double> output(std::size_t index) {
        const DataType type = type_of(kOutputs[index], types);
        std::vector<char> bytes(count_of(kOutputs[index], sizes) * (type == kHalf ? 2 : 4));
        memory.download(bytes.data(), out[index], bytes.size());
        std::vector<double> result;
        for (std::size_t i = 0; i < count_of(kOutputs[index], sizes); ++i) {
            float single;
            __half half;
            std::memcpy(type == kHalf ? static_cast<void*>(&half) : &single, bytes.data() + i * (type == kHalf ? 2 : 4),
                        type == kHalf ? 2 : 4);
            result.push_back(static_cast<double>(type == kHalf ? __half2float(half) : single));
        }
        return result;
    }
};

// The definition in double precision, with the named arrays.
std::array<std::vector<double>, 2> reference(const Problem& p) {
    const std::size_t B = static_cast<std::size_t>(p.sizes.B), L = static_cast<std::size_t>(p.sizes.L);
    const std::size_t D = static_cast<std::size_t>(p.sizes.D), N = static_cast<std::size_t>(p.sizes.N);
    const auto &u = p.value("u"), &delta = p.value("delta"), &a = p.value("A"), &bs = p.value("B"), &cs = p.value("C");
    const auto &skip = p.value("D"), &z = p.value("z"), &bias = p.value("delta_bias"), &h0 = p.value("h0");
    std::vector<double> y(B * L * D), h = h0.empty() ? std::vector<double>(B * D * N) : h0;
    for (std::size_t b = 0; b < B; ++b) {
        for (std::size_t t = 0; t < L; ++t) {
            for (std::size_t d = 0; d < D; ++d) {
                const std::size_t i = (b * L + t) * D + d;
                double dt = delta[i] + (bias.empty() ? 0.0 : bias[d]);
                if (p.softplus) dt = std::log1p(std::exp(dt));
                y[i] = skip.empty() ? 0.0 : skip[d] * u[i];
                for (std::size_t n = 0; n < N; ++n) {
                    double& state = h[(b * D + d) * N + n];
                    state = std::exp(dt * a[d * N + n]) * state + dt * bs[(b * L + t) * N + n] * u[i];
                    y[i] += state * cs[(b * L + t) * N + n];
                }
                if (!z.empty()) y[i] *= z[i] / (1.0 + std::exp(-z[i]));
            }
        }
    }
    return {y, h};
}

void expect_matches_reference(Problem& p, const char* what) {
    const auto [y, h] = reference(p);
    const double y_error = relative_error(p.output(0).data(), y), h_error = relative_error(p.output(1).data(), h);
    const double tolerance = p.types.data == kHalf ? 1e-3 : 1e-4;  // half rounds y to 11 bits
    EXPECT(y_error <= tolerance && h_error <= 1e-4, "%s optional %d types %d %d softplus %d: y %.2g h %.2g", what,
           p.optional, static_cast<int>(p.types.data), static_cast<int>(p.types.delta), p.softplus, y_error, h_error);
}

void every_input_reaches_the_kernel(cudaStream_t stream) {
    unsigned seed = 0;
    for (std::int32_t optional = 0; optional <= kAll; ++optional) {
        for (Types types : kTypes) {
            for (bool softplus : {false, true}) {
                Problem p(optional, types, {2, 5, 6, 7}, softplus, ++seed);
                const Plugin plugin = create(softplus, optional);
                EXPECT(p.described.accepted_by(plugin), "optional %d", optional);
                EXPECT(p.enqueue(plugin, stream) == 0, "optional %d", optional);
#ifdef METST_TEST_CUDA
                if (library.fake == nullptr)
                    EXPECT(cudaStreamSynchronize(stream) == cudaSuccess, "optional %d", optional);
#endif
                expect_matches_reference(p, "inputs");
            }
        }
    }
}

void the_kernel_is_called_once_with_tensorrts_own_pointers() {
    FakeScan& fake = *library.fake;
    int mark = 0;
    cudaStream_t stream = reinterpret_cast<cudaStream_t>(&mark);
    for (std::int32_t optional = 0; optional <= kAll; ++optional) {
        for (Types types : kTypes) {
            Problem p(optional, types, {2, 3, 4, 5}, false, 1);
            const int before = fake.calls;
            EXPECT(p.enqueue(create(0, optional), stream) == 0, "optional %d", optional);
            const metst::cuda::SelectiveScanArgs& args = fake.args;
            EXPECT(fake.calls == before + 1 && fake.stream == stream, "calls %d", fake.calls - before);
            EXPECT(args.batch == 2 && args.length == 3 && args.channels == 4 && args.states == 5, "sizes");
            EXPECT(args.type == (types.data == kHalf ? metst::cuda::Type::kFloat16 : metst::cuda::Type::kFloat32), "T");
            EXPECT(
                args.delta_type == (types.delta == kHalf ? metst::cuda::Type::kFloat16 : metst::cuda::Type::kFloat32),
                "T_delta");
            const void* given[] = {args.u, args.delta, args.A,          args.B, args.C,
                                   args.D, args.z,     args.delta_bias, args.h0};
            std::size_t next = 0;
            for (std::size_t i = 0; i < kInputs.size(); ++i) {
                const bool there = kInputs[i].bit == 0 || (optional & kInputs[i].bit) != 0;
                EXPECT(given[i] == (there ? p.in[next] : nullptr), "optional %d %s", optional, kInputs[i].name);
                if (there) ++next;
            }
            EXPECT(args.y == p.out[0] && args.h == p.out[1] && args.workspace == p.workspace, "outputs");
            EXPECT(args.workspace_bytes ==
                       DescribedBounds(optional, types, p.sizes, p.sizes, p.sizes).workspace(create(0, optional)),
                   "workspace of %zu bytes", args.workspace_bytes);
            EXPECT(!args.delta_softplus, "softplus");
        }
    }
    EXPECT(Problem(kAll, kTypes[0], {2, 3, 4, 5}, true, 1).enqueue(create(1, kAll), stream) == 0, "softplus");
    EXPECT(fake.args.delta_softplus, "no softplus");
}

void failures_of_the_kernel_are_reported() {
    const std::vector<std::pair<metst::cuda::Status, const char*>> answers = {
        {metst::cuda::Status::kBadSize, "(2,3,4,5) failed: a size is out of range"},
        {metst::cuda::Status::kNullPointer, "has no memory"},
        {metst::cuda::Status::kUnsupported, "not compiled in"},
        {metst::cuda::Status::kWorkspaceTooSmall, "workspace is too small"},
        {metst::cuda::Status::kCudaError, "CUDA refused the launch"},
        {static_cast<metst::cuda::Status>(99), "unknown status"}};
    const Plugin plugin = create(1, kAll);
    Problem p(kAll, kTypes[0], {2, 3, 4, 5}, true, 1);
    for (const auto& [status, part] : answers) {
        library.fake->answer = status;
        EXPECT_REFUSED(p.enqueue(plugin, nullptr) != 0, part);
    }
    library.fake->answer = metst::cuda::Status::kOk;
    p.workspace = nullptr;
    EXPECT_REFUSED(p.enqueue(plugin, nullptr) != 0, "workspace is too small");
    const int before = library.fake->calls;
    ++p.described.in[3].dims.d[2];
    EXPECT_REFUSED(p.enqueue(plugin, nullptr) != 0, "input B has the shape (2,3,6), expected (B,L,N) = (2,3,5)");
    EXPECT(library.fake->calls == before, "the kernel was called with shapes that do not fit");
}

#ifdef METST_TEST_CUDA
bool has_gpu() {
    int devices = 0;
    return cudaGetDeviceCount(&devices) == cudaSuccess && devices > 0;
}

void enqueue_is_captured_and_replayed(cudaStream_t stream) {
    for (Sizes sizes : {Sizes{2, 1, 128, 64}, Sizes{2, 50, 128, 64}, Sizes{1, 2048, 32, 64}}) {
        Problem p(kAll, kTypes[0], sizes, true, 7);
        const Plugin plugin = create(1, kAll);
        EXPECT(p.described.accepted_by(plugin), "shapes");
        cudaGraph_t graph = nullptr;
        cudaGraphExec_t executable = nullptr;
        EXPECT(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess, "begin");
        EXPECT(p.enqueue(plugin, stream) == 0, "enqueue");
        EXPECT(cudaStreamEndCapture(stream, &graph) == cudaSuccess && graph != nullptr, "end");
        if (graph == nullptr) return;
        EXPECT(cudaGraphInstantiateWithFlags(&executable, graph, 0) == cudaSuccess, "instantiate");
        for (int i = 0; i < 2; ++i) EXPECT(cudaGraphLaunch(executable, stream) == cudaSuccess, "launch %d", i);
        EXPECT(cudaStreamSynchronize(stream) == cudaSuccess, "replay");
        cudaGraphExecDestroy(executable);
        cudaGraphDestroy(graph);
        expect_matches_reference(p, "replayed");
    }
}
#endif

}  // namespace

int main(int argc, char** argv) {
    if (argc != 3) {
        std::printf("usage: test_plugin LIBRARY CONTRACT.json\n");
        return 2;
    }
    if (!load(argv[1])) return 1;
    the_creator_is_metst_selective_scan_1_with_two_fields();
    a_plugin_offers_its_three_capabilities_and_no_other();
    attributes_survive_serialisation_cloning_and_attaching();
    the_timing_cache_tells_different_attributes_apart();
    attributes_default_to_softplus_and_all_inputs_when_building();
    bad_attributes_are_refused();
    exactly_three_combinations_of_types_are_supported_all_linear();
    outputs_have_the_types_of_u_and_float32();
    outputs_have_the_shapes_of_u_and_of_the_state();
    shapes_that_do_not_fit_are_refused_when_the_network_is_made();
    a_network_is_configured_by_what_it_fixes();
    shapes_types_and_formats_that_do_not_fit_are_refused_before_a_run();
    the_workspace_of_the_largest_sizes_is_enough_for_all();
    messages_go_to_stderr_when_there_is_no_logger();
    the_contract_file_says_what_the_plugin_does(argv[2]);

    bool skipped = false;
    if (library.fake != nullptr) {
        every_input_reaches_the_kernel(nullptr);
        the_kernel_is_called_once_with_tensorrts_own_pointers();
        failures_of_the_kernel_are_reported();
    } else {
        skipped = true;
#ifdef METST_TEST_CUDA
        if (has_gpu()) {
            skipped = false;
            cudaStream_t stream = nullptr;
            EXPECT(cudaStreamCreate(&stream) == cudaSuccess, "stream");
            every_input_reaches_the_kernel(stream);
            enqueue_is_captured_and_replayed(stream);
            cudaStreamDestroy(stream);
        }
#endif
    }
    EXPECT(logger.messages.empty(), "a message that nothing explains: %s", logger.messages.front().c_str());
    if (failures == 0 && skipped) {
        std::printf("no GPU: enqueue was not run, the rest passed\n");
        return kSkipped;
    }
    std::printf(failures == 0 ? "passed\n" : "%d failures\n", failures);
    return failures == 0 ? 0 : 1;
}
