#include "gpu/CudaBackend.h"

#include "gpu/CudaDevice.h"
#include "gpu/DeviceBackend.h"

namespace patchlight {

std::unique_ptr<Backend> makeCudaBackend(const CudaOptions& options, std::string& why) {
    std::unique_ptr<gpu::Device> device = gpu::makeCudaDevice(options.device, why);
    if (!device) return nullptr;
    gpu::DeviceBackendOptions settings;
    settings.bounds = options.bounds;
    settings.memory = options.memory;
    return gpu::makeDeviceBackend(std::move(device), settings);
}

int cudaDeviceCount() {
    std::string why;
    return gpu::cudaDeviceCount(why);
}

} // namespace patchlight
