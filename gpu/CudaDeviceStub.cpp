#include "gpu/CudaDevice.h"

namespace patchlight::gpu {

namespace {
constexpr const char* reason = "this program was built without CUDA";
}

std::unique_ptr<Device> makeCudaDevice(int /*number*/, std::string& why) {
    why = reason;
    return nullptr;
}

int cudaDeviceCount(std::string& why) {
    why = reason;
    return 0;
}

} // namespace patchlight::gpu
