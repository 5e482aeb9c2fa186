#pragma once

#include "gpu/Device.h"

#include <memory>
#include <string>

namespace patchlight::gpu {

/// The CUDA device of that number among those that are visible; null where it cannot be used: `why` then says the reason in words for a
/// person (no driver, driver too old, no device, no such device, built without CUDA).
[[nodiscard]] std::unique_ptr<Device> makeCudaDevice(int number, std::string& why);

/// How many CUDA devices are visible; 0 where there is none or where `why` says why they cannot be used.
[[nodiscard]] int cudaDeviceCount(std::string& why);

} // namespace patchlight::gpu
