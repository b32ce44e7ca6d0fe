#include "messages.h"

#include <atomic>
#include <cstdarg>
#include <cstdio>

namespace metst::tensorrt {
namespace {

std::atomic<nvinfer1::ILoggerFinder*> logger_finder{nullptr};

nvinfer1::ILogger* find_logger() noexcept {
    nvinfer1::ILoggerFinder* finder = logger_finder.load();
    if (finder == nullptr) return nullptr;
    try {
        return finder->findLogger();  // not declared noexcept
    } catch (...) {
        return nullptr;
    }
}

}  // namespace

void set_logger_finder(nvinfer1::ILoggerFinder* finder) noexcept { logger_finder.store(finder); }

void report(const char* format, ...) noexcept {
    char text[512];
    const int prefix = std::snprintf(text, sizeof text, "%s::%s: ", kNamespace, kName);
    std::va_list values;
    va_start(values, format);
    std::vsnprintf(text + prefix, sizeof text - static_cast<std::size_t>(prefix), format, values);
    va_end(values);
    if (nvinfer1::ILogger* logger = find_logger()) {
        logger->log(nvinfer1::ILogger::Severity::kERROR, text);
    } else {
        std::fprintf(stderr, "%s\n", text);
    }
}

void Text::add(const char* format, ...) noexcept {
    std::va_list values;
    va_start(values, format);
    const int written = std::vsnprintf(text_ + used_, sizeof text_ - used_, format, values);
    va_end(values);
    if (written > 0) used_ += static_cast<std::size_t>(written);
    if (used_ >= sizeof text_) used_ = sizeof text_ - 1;
}

}  // namespace metst::tensorrt
