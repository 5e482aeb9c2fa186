#pragma once

#include "core/engine/Backend.h"

#include <cstdint>
#include <memory>
#include <string>

namespace CLI { // NOLINT(readability-identifier-naming): CLI11's
class App;
}

namespace patchlight::commands {

/// What to compute on.
struct BackendChoice {
    std::string name = "auto";   ///< auto, cpu or cuda
    int device = -1;             ///< CUDA device; -1: PATCHLIGHT_DEVICE, else the first
    std::uint64_t gpuMemory = 0; ///< bytes of its memory to use at most; 0: most of what is free
};

/// Adds --backend, --device and --gpu-memory to a subcommand.
void addBackendOptions(CLI::App& command, BackendChoice& choice, const std::string& group);

/// The device that --device or else PATCHLIGHT_DEVICE names; -1 where neither does. @throws UsageError
[[nodiscard]] int chosenDevice(const BackendChoice& choice);

/// The backend asked for. @throws UsageError naming why CUDA cannot be used
[[nodiscard]] std::unique_ptr<Backend> makeBackend(const BackendChoice& choice);

} // namespace patchlight::commands
