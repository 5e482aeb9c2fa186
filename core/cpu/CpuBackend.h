#pragma once

#include "core/engine/Backend.h"

#include <memory>

namespace patchlight {

/// The engine on the CPU: patches of a batch one after the other, batches on as many lanes as there are threads.
[[nodiscard]] std::unique_ptr<Backend> makeCpuBackend();

} // namespace patchlight
