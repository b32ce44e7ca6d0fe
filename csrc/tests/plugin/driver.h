// How the tests drive the plugin: a library is loaded, its creator found, and everything goes through that, as TensorRT
// would. No TensorRT, only its interfaces.
#pragma once

#include <NvInferRuntime.h>
#include <dlfcn.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "expect.h"
#include "fake_scan.h"

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

constexpr DataType kFloat = DataType::kFLOAT, kHalf = DataType::kHALF;
constexpr std::int32_t kAll = 15;

// What the README says, written down a second time.
struct Tensor {
    const char* name;
    const char* axes;
    char type;  // T: as u; d: of delta; f: float32
    int bit;    // of optional_inputs
};
inline const std::vector<Tensor> kInputs = {
    {"u", "BLD", 'T', 0}, {"delta", "BLD", 'd', 0},    {"A", "DN", 'f', 0},
    {"B", "BLN", 'T', 0}, {"C", "BLN", 'T', 0},        {"D", "D", 'f', 1},
    {"z", "BLD", 'T', 2}, {"delta_bias", "D", 'f', 4}, {"h0", "BDN", 'f', 8},
};
inline const std::vector<Tensor> kOutputs = {{"y", "BLD", 'T', 0}, {"h", "BDN", 'f', 0}};

struct Types {
    DataType data, delta;
};
inline const std::vector<Types> kTypes = {{kFloat, kFloat}, {kHalf, kFloat}, {kHalf, kHalf}};

inline std::vector<Tensor> inputs_of(int optional_inputs) {
    std::vector<Tensor> present;
    for (const Tensor& tensor : kInputs) {
        if (tensor.bit == 0 || (optional_inputs & tensor.bit) != 0) present.push_back(tensor);
    }
    return present;
}

inline std::vector<Tensor> tensors_of(int optional_inputs) {
    std::vector<Tensor> tensors = inputs_of(optional_inputs);
    tensors.insert(tensors.end(), kOutputs.begin(), kOutputs.end());
    return tensors;
}

inline DataType type_of(const Tensor& tensor, Types types) {
    return tensor.type == 'T' ? types.data : tensor.type == 'd' ? types.delta : kFloat;
}

struct Sizes {
    std::int64_t B, L, D, N;

    std::int64_t operator[](char axis) const { return axis == 'B' ? B : axis == 'L' ? L : axis == 'D' ? D : N; }
};

inline nvinfer1::Dims dims_of(const Tensor& tensor, Sizes sizes) {
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

inline Logger logger;
inline Finder finder(logger);

// The message of the one refusal since the last call; a failure when there was none or more than one.
inline std::string message_of(const char* what) {
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
inline Library library;

inline bool load(const char* path) {
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
inline IPluginV3OneBuild& build(const Plugin& plugin) {
    return capability<IPluginV3OneBuild>(*plugin, PluginCapabilityType::kBUILD);
}
inline IPluginV3OneRuntime& runtime(const Plugin& plugin) {
    return capability<IPluginV3OneRuntime>(*plugin, PluginCapabilityType::kRUNTIME);
}

inline Plugin create(const std::vector<PluginField>& fields, TensorRTPhase phase = TensorRTPhase::kBUILD) {
    const PluginFieldCollection collection{static_cast<std::int32_t>(fields.size()), fields.data()};
    return Plugin(library.creator->createPlugin("layer", &collection, phase));
}

inline Plugin create(std::int32_t delta_softplus, std::int32_t optional_inputs) {
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

inline Attributes serialised(const Plugin& plugin) {
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
