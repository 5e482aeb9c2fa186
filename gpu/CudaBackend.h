#pragma once

#include "core/engine/Backend.h"

#include <memory>
#include <string>

namespace patchlight {

/// The engine on a CUDA device, or nothing where that cannot be; `why` then says the reason in words for a person.
[[nodiscard]] std::unique_ptr<Backend> makeCudaBackend(std::string& why);

} // namespace patchlight
