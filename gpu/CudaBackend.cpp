#include "gpu/CudaBackend.h"

#include "gpu/CudaDevice.h"
#include "gpu/DeviceBackend.h"
#include "gpu/HostDevice.h"

#include <cstdlib>
#include <string_view>

#include <spdlog/spdlog.h>

namespace patchlight {

namespace {

/// For tests of the whole program on machines without a GPU: PATCHLIGHT_GPU_ON_HOST=1 runs the kernels on the host.
bool onHost() {
    const char* const text = std::getenv("PATCHLIGHT_GPU_ON_HOST");
    return text != nullptr && std::string_view(text) != "0";
}

} // namespace

std::unique_ptr<Backend> makeCudaBackend(const CudaOptions& options, std::string& why) {
    std::unique_ptr<gpu::Device> device;
    if (onHost()) {
        spdlog::warn("PATCHLIGHT_GPU_ON_HOST is set: the GPU's kernels run on the host, slowly");
        device = gpu::makeHostDevice();
    } else {
        device = gpu::makeCudaDevice(options.device, why);
    }
    if (!device) return nullptr;
    gpu::DeviceBackendOptions settings;
    settings.bounds = options.bounds;
    settings.memory = options.memory;
    return gpu::makeDeviceBackend(std::move(device), settings);
}

int cudaDeviceCount() {
    if (onHost()) return 1;
    std::string why;
    return gpu::cudaDeviceCount(why);
}

} // namespace patchlight
