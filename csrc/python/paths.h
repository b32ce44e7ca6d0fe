#pragma once

#include <string>

#include "metst/cpu_features.h"

namespace metst::python {

// "auto" or the name of a vector path of this machine; throws ValueError for others.
SimdPath resolve_path(const std::string& name);

}  // namespace metst::python
