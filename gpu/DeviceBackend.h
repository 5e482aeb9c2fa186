#pragma once

#include "core/engine/Backend.h"
#include "core/engine/ErrorBounds.h"
#include "gpu/Device.h"

#include <cstddef>
#include <memory>

namespace patchlight::gpu {

struct DeviceBackendOptions {
    ErrorBounds bounds;
    std::size_t memory = 0; ///< bytes of the device's memory to use at most; 0: most of what is free
    int streams = 4;        ///< batches at work at a time, at most
};

/// The engine on a device. Batches of patches are solved by the kernels in gpu/kernels; the CPU backend takes what they do not do (patches
/// beyond their ladder, layouts that do not fit, --decorrelate noise, --method seamless, single patches with all their intermediates).
[[nodiscard]] std::unique_ptr<Backend> makeDeviceBackend(std::unique_ptr<Device> device,
                                                         const DeviceBackendOptions& options = {});

} // namespace patchlight::gpu
