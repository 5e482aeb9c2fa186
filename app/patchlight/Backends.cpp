#include "app/patchlight/Backends.h"

#include "core/base/Error.h"
#include "core/cpu/CpuBackend.h"
#include "gpu/CudaBackend.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <charconv>
#include <cstdlib>
#include <string_view>

namespace patchlight::commands {

void addBackendOptions(CLI::App& command, BackendChoice& choice, const std::string& group) {
    command.add_option("--backend", choice.name, "what to compute on; auto: the GPU where there is one (default auto)")
        ->check(CLI::IsMember({"auto", "cpu", "cuda"}))
        ->group(group);
    command
        .add_option("--device", choice.device,
                    "number of the CUDA device (default: PATCHLIGHT_DEVICE, else the first; of several ranks on a node "
                    "each its own)")
        ->check(CLI::Range(0, 1023))
        ->type_name("INT")
        ->group(group);
    command
        .add_option(
            "--gpu-memory", choice.gpuMemory,
            "how much of the device's memory to use at most, such as 4G or 500M (default: 9/10 of what is free)")
        ->transform(CLI::AsSizeValue(false))
        ->type_name("SIZE")
        ->group(group);
}

int chosenDevice(const BackendChoice& choice) {
    if (choice.device >= 0) return choice.device;
    const char* const text = std::getenv("PATCHLIGHT_DEVICE");
    if (text == nullptr || *text == '\0') return -1;
    const std::string_view word = text;
    int number = -1;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), number);
    if (error != std::errc() || end != word.data() + word.size() || number < 0)
        throw UsageError(
            fmt::format("PATCHLIGHT_DEVICE is '{}'; it names a CUDA device by its number, 0 or more", word));
    return number;
}

std::unique_ptr<Backend> makeBackend(const BackendChoice& choice) {
    if (choice.name == "cpu") return makeCpuBackend();
    CudaOptions options;
    const int device = chosenDevice(choice);
    options.device = device < 0 ? 0 : device;
    options.memory = choice.gpuMemory;
    std::string why;
    if (std::unique_ptr<Backend> cuda = makeCudaBackend(options, why)) return cuda;
    // A device that was asked for by number must be there, unless no CUDA is at all.
    if (choice.name == "auto" && (device < 0 || cudaDeviceCount() == 0)) return makeCpuBackend();
    throw UsageError(fmt::format("--backend {}: {}; --backend cpu gives the same results", choice.name, why));
}

} // namespace patchlight::commands
