// What the plugin tells: one error a refusal, to TensorRT's logger. Messages live in fixed buffers and nothing here
// throws or allocates: a refusal must not be able to fail.
#pragma once

#include <NvInferRuntime.h>

#include <cstddef>

namespace metst::tensorrt {

constexpr char kName[] = "SelectiveScan";
constexpr char kNamespace[] = "metst";

// Where report() finds TensorRT's logger from now on; null: nowhere.
void set_logger_finder(nvinfer1::ILoggerFinder* finder) noexcept;

// Sends one error to TensorRT's logger; to stderr when TensorRT gave none, so that it is never lost.
__attribute__((format(printf, 1, 2))) void report(const char* format, ...) noexcept;

// A part of a message, put together piece by piece; what does not fit is cut off.
class Text {
public:
    __attribute__((format(printf, 2, 3))) void add(const char* format, ...) noexcept;
    const char* get() const noexcept { return text_; }

private:
    char text_[192] = "";
    std::size_t used_ = 0;
};

}  // namespace metst::tensorrt
