// metst::SelectiveScan for TensorRT 10 and 11: the scan of csrc/cuda as an IPluginV3, and its creator.
//
// What it takes and gives: README.md and selective_scan.json. Nothing here throws, allocates on the device or keeps a
// pointer of TensorRT's; a refusal is a non-zero status, false or null, and one message to TensorRT's logger.
#pragma once

#include <NvInferRuntime.h>

#include <array>
#include <cstddef>
#include <cstdint>

#if NV_TENSORRT_MAJOR < 10
#error "IPluginV3 needs TensorRT 10.0 or newer: set TENSORRT_ROOT or TENSORRT_INCLUDE_DIR to one"
#endif

namespace metst::tensorrt {

// A bit for each input that may be left out; inputs that are left out take no position.
enum OptionalInput : std::int32_t { kD = 1, kZ = 2, kDeltaBias = 4, kH0 = 8, kAllOptionalInputs = 15 };

struct SelectiveScanAttributes {
    std::int32_t delta_softplus = 1;
    std::int32_t optional_inputs = kAllOptionalInputs;
};

class SelectiveScanPlugin final : public nvinfer1::IPluginV3,
                                  public nvinfer1::IPluginV3OneCore,
                                  public nvinfer1::IPluginV3OneBuild,
                                  public nvinfer1::IPluginV3OneRuntime {
public:
    static constexpr std::int32_t kMaxInputs = 9;
    static constexpr std::int32_t kOutputs = 2;
    static constexpr std::int32_t kMaxTensors = kMaxInputs + kOutputs;
    static constexpr std::int64_t kMaxStates = 256;

    explicit SelectiveScanPlugin(const SelectiveScanAttributes& attributes) noexcept;

    // IPluginV3
    nvinfer1::IPluginCapability* getCapabilityInterface(nvinfer1::PluginCapabilityType type) noexcept override;
    nvinfer1::IPluginV3* clone() noexcept override;

    // IPluginV3OneCore
    const char* getPluginName() const noexcept override;
    const char* getPluginVersion() const noexcept override;
    const char* getPluginNamespace() const noexcept override;

    // IPluginV3OneBuild
    std::int32_t configurePlugin(const nvinfer1::DynamicPluginTensorDesc* in, std::int32_t inputs,
                                 const nvinfer1::DynamicPluginTensorDesc* out, std::int32_t outputs) noexcept override;
    std::int32_t getOutputDataTypes(nvinfer1::DataType* output_types, std::int32_t outputs,
                                    const nvinfer1::DataType* input_types, std::int32_t inputs) const noexcept override;
    std::int32_t getOutputShapes(const nvinfer1::DimsExprs* in, std::int32_t inputs,
                                 const nvinfer1::DimsExprs* shape_in, std::int32_t shape_inputs,
                                 nvinfer1::DimsExprs* out, std::int32_t outputs,
                                 nvinfer1::IExprBuilder& builder) noexcept override;
    bool supportsFormatCombination(std::int32_t position, const nvinfer1::DynamicPluginTensorDesc* in_out,
                                   std::int32_t inputs, std::int32_t outputs) noexcept override;
    std::int32_t getNbOutputs() const noexcept override;
    std::size_t getWorkspaceSize(const nvinfer1::DynamicPluginTensorDesc* in, std::int32_t inputs,
                                 const nvinfer1::DynamicPluginTensorDesc* out,
                                 std::int32_t outputs) const noexcept override;
    const char* getTimingCacheID() noexcept override;

    // IPluginV3OneRuntime
    std::int32_t onShapeChange(const nvinfer1::PluginTensorDesc* in, std::int32_t inputs,
                               const nvinfer1::PluginTensorDesc* out, std::int32_t outputs) noexcept override;
    std::int32_t enqueue(const nvinfer1::PluginTensorDesc* in_desc, const nvinfer1::PluginTensorDesc* out_desc,
                         const void* const* in, void* const* out, void* workspace,
                         cudaStream_t stream) noexcept override;
    nvinfer1::IPluginV3* attachToContext(nvinfer1::IPluginResourceContext* context) noexcept override;
    const nvinfer1::PluginFieldCollection* getFieldsToSerialize() noexcept override;

private:
    bool counts_match(std::int32_t inputs, std::int32_t outputs) const noexcept;
    bool types_match(const nvinfer1::DataType* types, std::int32_t tensors) const noexcept;
    // Sizes of B, L, D, N. Dimensions of -1 are not known yet, and neither is a size that no tensor tells.
    bool shapes_match(const nvinfer1::Dims* dims, std::int32_t tensors,
                      std::array<std::int64_t, 4>& sizes) const noexcept;
    bool ready_to_run(const nvinfer1::PluginTensorDesc* in, const nvinfer1::PluginTensorDesc* out,
                      std::array<std::int64_t, 4>& sizes) const noexcept;

    SelectiveScanAttributes attributes_;
    std::int32_t inputs_ = 0;                         // that this plugin has
    std::array<std::int32_t, kMaxTensors> tensor_{};  // of each position, inputs then outputs: index into the contract
    std::array<char, 64> timing_cache_id_{};
    std::array<nvinfer1::PluginField, 2> fields_{};
    nvinfer1::PluginFieldCollection field_collection_{};
};

class SelectiveScanCreator final : public nvinfer1::IPluginCreatorV3One {
public:
    SelectiveScanCreator() noexcept;

    nvinfer1::IPluginV3* createPlugin(const char* name, const nvinfer1::PluginFieldCollection* fields,
                                      nvinfer1::TensorRTPhase phase) noexcept override;
    const nvinfer1::PluginFieldCollection* getFieldNames() noexcept override;
    const char* getPluginName() const noexcept override;
    const char* getPluginVersion() const noexcept override;
    const char* getPluginNamespace() const noexcept override;

private:
    std::array<nvinfer1::PluginField, 2> fields_{};
    nvinfer1::PluginFieldCollection field_collection_{};
};

}  // namespace metst::tensorrt
