#pragma once

#include "core/engine/Backend.h"
#include "core/engine/ErrorBounds.h"

#include <cstddef>
#include <memory>
#include <string>

namespace patchlight {

struct CudaOptions {
    int device = 0;         ///< among the visible ones
    std::size_t memory = 0; ///< bytes of its memory to use at most; 0: most of what is free
    ErrorBounds bounds;     ///< beyond which a patch climbs
};

/// The engine on a CUDA device, or nothing where that cannot be; `why` then says the reason in words for a person.
[[nodiscard]] std::unique_ptr<Backend> makeCudaBackend(const CudaOptions& options, std::string& why);

/// CUDA devices that are visible; 0 where CUDA cannot be used.
[[nodiscard]] int cudaDeviceCount();

} // namespace patchlight
