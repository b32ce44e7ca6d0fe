#include "selective_scan_plugin.h"

#include <cstdio>
#include <cstring>
#include <new>

#include "messages.h"
#include "metst/selective_scan_cuda.h"

namespace metst::tensorrt {
namespace {

using nvinfer1::DataType;
using nvinfer1::Dims;
using nvinfer1::PluginField;
using nvinfer1::PluginFieldType;
using nvinfer1::TensorFormat;

constexpr char kVersion[] = "1";
constexpr char kSoftplusField[] = "delta_softplus";
constexpr char kOptionalField[] = "optional_inputs";

constexpr char kAxes[] = "BLDN";  // the order of sizes
constexpr std::int32_t kAxisCount = 4;

enum class TypeRule {
    kData,   // float32 or float16: u decides
    kDelta,  // as u, or float32
    kFloat32,
};

struct Tensor {
    const char* name;
    const char* axes;
    TypeRule type;
    std::int32_t optional;  // bit, 0: always there
};

// Order of the inputs, then of the outputs.
enum { kInU, kInDelta, kInA, kInB, kInC, kInD, kInZ, kInDeltaBias, kInH0, kOutY, kOutH };
constexpr Tensor kTensors[SelectiveScanPlugin::kMaxTensors] = {
    {"u", "BLD", TypeRule::kData, 0},       {"delta", "BLD", TypeRule::kDelta, 0},
    {"A", "DN", TypeRule::kFloat32, 0},     {"B", "BLN", TypeRule::kData, 0},
    {"C", "BLN", TypeRule::kData, 0},       {"D", "D", TypeRule::kFloat32, kD},
    {"z", "BLD", TypeRule::kData, kZ},      {"delta_bias", "D", TypeRule::kFloat32, kDeltaBias},
    {"h0", "BDN", TypeRule::kFloat32, kH0}, {"y", "BLD", TypeRule::kData, 0},
    {"h", "BDN", TypeRule::kFloat32, 0},
};

bool is_input(std::int32_t tensor) { return tensor < SelectiveScanPlugin::kMaxInputs; }

const char* type_name(DataType type) {
    switch (type) {
        case DataType::kFLOAT: return "float32";
        case DataType::kHALF: return "float16";
        case DataType::kBF16: return "bfloat16";
        case DataType::kINT8: return "int8";
        case DataType::kINT32: return "int32";
        case DataType::kINT64: return "int64";
        default: return "another type";
    }
}

const char* expected_type(TypeRule rule, DataType data) {
    switch (rule) {
        case TypeRule::kData: return data == DataType::kHALF ? "float16, as u" : "float32, as u";
        case TypeRule::kDelta: return data == DataType::kHALF ? "float32 or float16" : "float32, as u";
        default: return "float32";
    }
}

Text describe(const Dims& dims) {
    Text text;
    for (std::int32_t i = 0; i < dims.nbDims; ++i) {
        text.add(i > 0 ? ",%lld" : "%lld", static_cast<long long>(dims.d[i]));
    }
    return text;
}

bool type_allowed(TypeRule rule, DataType type, DataType data) {
    if (rule == TypeRule::kFloat32) return type == DataType::kFLOAT;
    return type == data || (rule == TypeRule::kDelta && type == DataType::kFLOAT);
}

bool data_type_allowed(DataType type) { return type == DataType::kFLOAT || type == DataType::kHALF; }

cuda::Type kernel_type(DataType type) { return type == DataType::kHALF ? cuda::Type::kFloat16 : cuda::Type::kFloat32; }

std::int32_t axis_index(char axis) { return static_cast<std::int32_t>(std::strchr(kAxes, axis) - kAxes); }

bool refuse_shape(const Tensor& tensor, bool input, const Dims& dims, const std::array<std::int64_t, 4>& sizes) {
    Text letters, values;
    for (const char* axis = tensor.axes; *axis != '\0'; ++axis) {
        const std::int64_t size = sizes[static_cast<std::size_t>(axis_index(*axis))];
        letters.add(axis == tensor.axes ? "%c" : ",%c", *axis);
        if (size < 0) {
            values.add(axis == tensor.axes ? "%s" : ",%s", "any");
        } else {
            values.add(axis == tensor.axes ? "%lld" : ",%lld", static_cast<long long>(size));
        }
    }
    report("%s %s has the shape (%s), expected (%s) = (%s)", input ? "input" : "output", tensor.name,
           describe(dims).get(), letters.get(), values.get());
    return false;
}

const char* explain(cuda::Status status) {
    switch (status) {
        case cuda::Status::kBadSize: return "a size is out of range";
        case cuda::Status::kNullPointer: return "a tensor that is not empty has no memory";
        case cuda::Status::kUnsupported: return "this combination of types is not compiled in";
        case cuda::Status::kWorkspaceTooSmall:
            return "the workspace is too small: was the engine built with another version of this plugin? "
                   "Build it again";
        case cuda::Status::kCudaError: return "CUDA refused the launch: was the plugin compiled for this GPU?";
        default: return "unknown status";
    }
}

// False, with a message, when the field is not one int32 in [0, high].
bool read_field(const PluginField& field, std::int32_t high, std::int32_t& value) {
    if (field.type != PluginFieldType::kINT32 || field.length != 1 || field.data == nullptr) {
        report("attribute %s must be one int32, got %d values of PluginFieldType %d", field.name,
               field.data == nullptr ? 0 : static_cast<int>(field.length), static_cast<int>(field.type));
        return false;
    }
    std::memcpy(&value, field.data, sizeof value);
    if (value < 0 || value > high) {
        report("attribute %s must be 0 to %d, got %d", field.name, static_cast<int>(high), static_cast<int>(value));
        return false;
    }
    return true;
}

}  // namespace

SelectiveScanPlugin::SelectiveScanPlugin(const SelectiveScanAttributes& attributes) noexcept : attributes_(attributes) {
    std::int32_t position = 0;
    for (std::int32_t i = 0; i < kMaxTensors; ++i) {
        const std::int32_t bit = kTensors[i].optional;
        if (bit != 0 && (attributes.optional_inputs & bit) == 0) continue;
        tensor_[static_cast<std::size_t>(position++)] = i;
    }
    inputs_ = position - kOutputs;
    std::snprintf(timing_cache_id_.data(), timing_cache_id_.size(), "%s=%d,%s=%d", kSoftplusField,
                  static_cast<int>(attributes.delta_softplus), kOptionalField,
                  static_cast<int>(attributes.optional_inputs));
}

nvinfer1::IPluginCapability* SelectiveScanPlugin::getCapabilityInterface(nvinfer1::PluginCapabilityType type) noexcept {
    switch (type) {
        case nvinfer1::PluginCapabilityType::kCORE: return static_cast<nvinfer1::IPluginV3OneCore*>(this);
        case nvinfer1::PluginCapabilityType::kBUILD: return static_cast<nvinfer1::IPluginV3OneBuild*>(this);
        case nvinfer1::PluginCapabilityType::kRUNTIME: return static_cast<nvinfer1::IPluginV3OneRuntime*>(this);
        default: return nullptr;
    }
}

nvinfer1::IPluginV3* SelectiveScanPlugin::clone() noexcept {
    return new (std::nothrow) SelectiveScanPlugin(attributes_);
}

const char* SelectiveScanPlugin::getPluginName() const noexcept { return kName; }
const char* SelectiveScanPlugin::getPluginVersion() const noexcept { return kVersion; }
const char* SelectiveScanPlugin::getPluginNamespace() const noexcept { return kNamespace; }

bool SelectiveScanPlugin::counts_match(std::int32_t inputs, std::int32_t outputs) const noexcept {
    if (inputs == inputs_ && outputs == kOutputs) return true;
    Text names;
    for (std::int32_t i = 0; i < inputs_; ++i) {
        names.add(i > 0 ? ", %s" : "%s", kTensors[tensor_[static_cast<std::size_t>(i)]].name);
    }
    report("expected %d inputs (%s; optional_inputs is %d) and 2 outputs, got %d and %d", static_cast<int>(inputs_),
           names.get(), static_cast<int>(attributes_.optional_inputs), static_cast<int>(inputs),
           static_cast<int>(outputs));
    return false;
}

bool SelectiveScanPlugin::types_match(const DataType* types, std::int32_t tensors) const noexcept {
    if (!data_type_allowed(types[0])) {
        report("input u is %s, expected float32 or float16", type_name(types[0]));
        return false;
    }
    for (std::int32_t i = 0; i < tensors; ++i) {
        const std::int32_t index = tensor_[static_cast<std::size_t>(i)];
        if (type_allowed(kTensors[index].type, types[i], types[0])) continue;
        report("%s %s is %s, expected %s", is_input(index) ? "input" : "output", kTensors[index].name,
               type_name(types[i]), expected_type(kTensors[index].type, types[0]));
        return false;
    }
    return true;
}

bool SelectiveScanPlugin::shapes_match(const Dims* dims, std::int32_t tensors,
                                       std::array<std::int64_t, 4>& sizes) const noexcept {
    sizes.fill(-1);
    for (std::int32_t i = 0; i < tensors; ++i) {
        const std::int32_t index = tensor_[static_cast<std::size_t>(i)];
        const Tensor& tensor = kTensors[index];
        const std::int32_t rank = static_cast<std::int32_t>(std::strlen(tensor.axes));
        if (dims[i].nbDims != rank) return refuse_shape(tensor, is_input(index), dims[i], sizes);
        for (std::int32_t axis = 0; axis < rank; ++axis) {
            std::int64_t& known = sizes[static_cast<std::size_t>(axis_index(tensor.axes[axis]))];
            const std::int64_t size = dims[i].d[axis];
            if (size < 0) continue;
            if (known >= 0 && size != known) return refuse_shape(tensor, is_input(index), dims[i], sizes);
            known = size;
        }
    }
    if (sizes[3] > kMaxStates) {
        report("input A has N = %lld states, at most %lld are supported", static_cast<long long>(sizes[3]),
               static_cast<long long>(kMaxStates));
        return false;
    }
    return true;
}

std::int32_t SelectiveScanPlugin::configurePlugin(const nvinfer1::DynamicPluginTensorDesc* in, std::int32_t inputs,
                                                  const nvinfer1::DynamicPluginTensorDesc* out,
                                                  std::int32_t outputs) noexcept {
    if (!counts_match(inputs, outputs)) return 1;
    // Only what the network fixes has to agree: the bounds of two dynamic dimensions may differ and their values not.
    Dims dims[kMaxTensors];
    DataType types[kMaxTensors];
    for (std::int32_t i = 0; i < inputs + outputs; ++i) {
        const nvinfer1::DynamicPluginTensorDesc& tensor = i < inputs ? in[i] : out[i - inputs];
        dims[i] = tensor.desc.dims;
        types[i] = tensor.desc.type;
    }
    std::array<std::int64_t, 4> sizes;
    if (!types_match(types, inputs + outputs) || !shapes_match(dims, inputs + outputs, sizes)) return 1;
    if (sizes[2] >= 0 && sizes[3] >= 0) return 0;
    report("the network must fix D and N, as the weight A (D,N) does: only B and L may be dynamic");
    return 1;
}

std::int32_t SelectiveScanPlugin::getOutputDataTypes(DataType* output_types, std::int32_t outputs,
                                                     const DataType* input_types, std::int32_t inputs) const noexcept {
    if (!counts_match(inputs, outputs) || !types_match(input_types, inputs)) return 1;
    output_types[0] = input_types[0];
    output_types[1] = DataType::kFLOAT;
    return 0;
}

std::int32_t SelectiveScanPlugin::getOutputShapes(const nvinfer1::DimsExprs* in, std::int32_t inputs,
                                                  const nvinfer1::DimsExprs*, std::int32_t shape_inputs,
                                                  nvinfer1::DimsExprs* out, std::int32_t outputs,
                                                  nvinfer1::IExprBuilder&) noexcept {
    if (!counts_match(inputs, outputs)) return 1;
    if (shape_inputs != 0) {
        report("expected no shape inputs, got %d", static_cast<int>(shape_inputs));
        return 1;
    }
    Dims dims[kMaxInputs];
    for (std::int32_t i = 0; i < inputs; ++i) {
        dims[i].nbDims = in[i].nbDims;
        for (std::int32_t axis = 0; axis < in[i].nbDims; ++axis) {
            dims[i].d[axis] = in[i].d[axis]->isConstant() ? in[i].d[axis]->getConstantValue() : -1;
        }
    }
    std::array<std::int64_t, 4> sizes;
    if (!shapes_match(dims, inputs, sizes)) return 1;
    out[0] = in[kInU];
    out[1].nbDims = 3;
    out[1].d[0] = in[kInU].d[0];
    out[1].d[1] = in[kInU].d[2];
    out[1].d[2] = in[kInA].d[1];
    return 0;
}

bool SelectiveScanPlugin::supportsFormatCombination(std::int32_t position,
                                                    const nvinfer1::DynamicPluginTensorDesc* in_out,
                                                    std::int32_t inputs, std::int32_t outputs) noexcept {
    if (!counts_match(inputs, outputs) || position < 0 || position >= inputs + outputs) return false;
    const nvinfer1::PluginTensorDesc& asked = in_out[position].desc;
    if (asked.format != TensorFormat::kLINEAR) return false;
    if (position == kInU) return data_type_allowed(asked.type);
    const Tensor& tensor = kTensors[tensor_[static_cast<std::size_t>(position)]];
    return type_allowed(tensor.type, asked.type, in_out[kInU].desc.type);
}

std::int32_t SelectiveScanPlugin::getNbOutputs() const noexcept { return kOutputs; }

std::size_t SelectiveScanPlugin::getWorkspaceSize(const nvinfer1::DynamicPluginTensorDesc* in, std::int32_t inputs,
                                                  const nvinfer1::DynamicPluginTensorDesc*,
                                                  std::int32_t outputs) const noexcept {
    if (!counts_match(inputs, outputs)) return 0;
    // Enough for every smaller batch and length too; D and N are fixed.
    const Dims& u = in[kInU].max;
    return cuda::selective_scan_workspace(u.d[0], u.d[1], u.d[2], in[kInA].max.d[1]);
}

const char* SelectiveScanPlugin::getTimingCacheID() noexcept { return timing_cache_id_.data(); }

bool SelectiveScanPlugin::ready_to_run(const nvinfer1::PluginTensorDesc* in, const nvinfer1::PluginTensorDesc* out,
                                       std::array<std::int64_t, 4>& sizes) const noexcept {
    Dims dims[kMaxTensors];
    DataType types[kMaxTensors];
    for (std::int32_t i = 0; i < inputs_ + kOutputs; ++i) {
        const nvinfer1::PluginTensorDesc& tensor = i < inputs_ ? in[i] : out[i - inputs_];
        dims[i] = tensor.dims;
        types[i] = tensor.type;
        const std::int32_t index = tensor_[static_cast<std::size_t>(i)];
        if (tensor.format != TensorFormat::kLINEAR) {
            report("%s %s has the TensorFormat %d, expected kLINEAR", is_input(index) ? "input" : "output",
                   kTensors[index].name, static_cast<int>(tensor.format));
            return false;
        }
    }
    if (!types_match(types, inputs_ + kOutputs) || !shapes_match(dims, inputs_ + kOutputs, sizes)) return false;
    for (std::int32_t i = 0; i < kAxisCount; ++i) {
        if (sizes[static_cast<std::size_t>(i)] >= 0) continue;
        report("the size %c is not known when the scan should run", kAxes[i]);
        return false;
    }
    return true;
}

std::int32_t SelectiveScanPlugin::onShapeChange(const nvinfer1::PluginTensorDesc* in, std::int32_t inputs,
                                                const nvinfer1::PluginTensorDesc* out, std::int32_t outputs) noexcept {
    std::array<std::int64_t, 4> sizes;
    return counts_match(inputs, outputs) && ready_to_run(in, out, sizes) ? 0 : 1;
}

std::int32_t SelectiveScanPlugin::enqueue(const nvinfer1::PluginTensorDesc* in_desc,
                                          const nvinfer1::PluginTensorDesc* out_desc, const void* const* in,
                                          void* const* out, void* workspace, cudaStream_t stream) noexcept {
    std::array<std::int64_t, 4> sizes;
    if (!ready_to_run(in_desc, out_desc, sizes)) return 1;
    const void* data[kMaxInputs] = {};
    for (std::int32_t i = 0; i < inputs_; ++i) data[tensor_[static_cast<std::size_t>(i)]] = in[i];

    cuda::SelectiveScanArgs args;
    args.batch = sizes[0];
    args.length = sizes[1];
    args.channels = sizes[2];
    args.states = sizes[3];
    args.type = kernel_type(in_desc[kInU].type);
    args.delta_type = kernel_type(in_desc[kInDelta].type);
    args.u = data[kInU];
    args.delta = data[kInDelta];
    args.A = static_cast<const float*>(data[kInA]);
    args.B = data[kInB];
    args.C = data[kInC];
    args.D = static_cast<const float*>(data[kInD]);
    args.z = data[kInZ];
    args.delta_bias = static_cast<const float*>(data[kInDeltaBias]);
    args.h0 = static_cast<const float*>(data[kInH0]);
    args.delta_softplus = attributes_.delta_softplus != 0;
    args.y = out[0];
    args.h = static_cast<float*>(out[1]);
    // TensorRT does not say how much it gave: it is what getWorkspaceSize asked for, hence enough for these sizes.
    args.workspace = workspace;
    args.workspace_bytes =
        workspace == nullptr ? 0 : cuda::selective_scan_workspace(sizes[0], sizes[1], sizes[2], sizes[3]);
    const cuda::Status status = cuda::selective_scan(args, stream);
    if (status == cuda::Status::kOk) return 0;
    report("the scan of (B,L,D,N) = (%lld,%lld,%lld,%lld) failed: %s", static_cast<long long>(sizes[0]),
           static_cast<long long>(sizes[1]), static_cast<long long>(sizes[2]), static_cast<long long>(sizes[3]),
           explain(status));
    return 1;
}

nvinfer1::IPluginV3* SelectiveScanPlugin::attachToContext(nvinfer1::IPluginResourceContext*) noexcept {
    return clone();
}

const nvinfer1::PluginFieldCollection* SelectiveScanPlugin::getFieldsToSerialize() noexcept {
    fields_[0] = PluginField(kSoftplusField, &attributes_.delta_softplus, PluginFieldType::kINT32, 1);
    fields_[1] = PluginField(kOptionalField, &attributes_.optional_inputs, PluginFieldType::kINT32, 1);
    field_collection_.nbFields = static_cast<std::int32_t>(fields_.size());
    field_collection_.fields = fields_.data();
    return &field_collection_;
}

SelectiveScanCreator::SelectiveScanCreator() noexcept {
    fields_[0] = PluginField(kSoftplusField, nullptr, PluginFieldType::kINT32, 1);
    fields_[1] = PluginField(kOptionalField, nullptr, PluginFieldType::kINT32, 1);
    field_collection_.nbFields = static_cast<std::int32_t>(fields_.size());
    field_collection_.fields = fields_.data();
}

nvinfer1::IPluginV3* SelectiveScanCreator::createPlugin(const char*, const nvinfer1::PluginFieldCollection* fields,
                                                        nvinfer1::TensorRTPhase phase) noexcept {
    SelectiveScanAttributes attributes;
    bool found_softplus = false, found_optional = false;
    const std::int32_t count = fields == nullptr || fields->fields == nullptr ? 0 : fields->nbFields;
    for (std::int32_t i = 0; i < count; ++i) {
        const PluginField& field = fields->fields[i];
        const char* name = field.name == nullptr ? "(no name)" : field.name;
        if (std::strcmp(name, kSoftplusField) == 0) {
            if (!read_field(field, 1, attributes.delta_softplus)) return nullptr;
            found_softplus = true;
        } else if (std::strcmp(name, kOptionalField) == 0) {
            if (!read_field(field, kAllOptionalInputs, attributes.optional_inputs)) return nullptr;
            found_optional = true;
        } else {
            report("unknown attribute %s, expected %s and %s", name, kSoftplusField, kOptionalField);
            return nullptr;
        }
    }
    if (phase == nvinfer1::TensorRTPhase::kRUNTIME && !(found_softplus && found_optional)) {
        report("the engine lacks the attribute %s: it was built with another plugin of this name. Build it again",
               found_softplus ? kOptionalField : kSoftplusField);
        return nullptr;
    }
    nvinfer1::IPluginV3* plugin = new (std::nothrow) SelectiveScanPlugin(attributes);
    if (plugin == nullptr) report("out of memory");
    return plugin;
}

const nvinfer1::PluginFieldCollection* SelectiveScanCreator::getFieldNames() noexcept { return &field_collection_; }
const char* SelectiveScanCreator::getPluginName() const noexcept { return kName; }
const char* SelectiveScanCreator::getPluginVersion() const noexcept { return kVersion; }
const char* SelectiveScanCreator::getPluginNamespace() const noexcept { return kNamespace; }

}  // namespace metst::tensorrt

// What IPluginRegistry::loadLibrary looks for. There is no static registration: it would call into libnvinfer while
// this library loads, which then could not be loaded without it.
#define METST_EXPORT extern "C" __attribute__((visibility("default")))

METST_EXPORT nvinfer1::IPluginCreatorInterface* const* getCreators(std::int32_t& count) {
    static metst::tensorrt::SelectiveScanCreator creator;
    static nvinfer1::IPluginCreatorInterface* const creators[] = {&creator};
    count = 1;
    return creators;
}

METST_EXPORT void setLoggerFinder(nvinfer1::ILoggerFinder* finder) { metst::tensorrt::set_logger_finder(finder); }
