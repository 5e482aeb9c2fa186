#pragma once

#include "core/engine/Backend.h"

#include <memory>
#include <string>

namespace patchlight::commands {

/// The backend of that name: "auto", "cpu" or "cuda". @throws UsageError naming why CUDA cannot be used
[[nodiscard]] std::unique_ptr<Backend> makeBackend(const std::string& name);

} // namespace patchlight::commands
