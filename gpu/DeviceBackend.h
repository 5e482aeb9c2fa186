#pragma once

#include "core/engine/Backend.h"
#include "core/engine/ErrorBounds.h"
#include "gpu/Device.h"

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>

namespace patchlight::gpu {

struct BatchView;

/// What a backend has done so far.
struct DeviceCounts {
    std::atomic<long> batches{0};
    std::atomic<long> patches{0};
    std::atomic<long> onCpu{0};     ///< of them, handed over to the CPU backend
    std::atomic<long> corrected{0}; ///< spectra that were given corrected roots of full blocks' bands
    std::atomic<long> rooted{0};    ///< of them, those that were given roots of full blocks then
};

struct DeviceBackendOptions {
    ErrorBounds bounds;
    std::size_t memory = 0;               ///< bytes of the device's memory to use at most; 0: most of what is free
    int streams = 4;                      ///< batches at work at a time, at most
    std::shared_ptr<DeviceCounts> counts; ///< may be null
    std::function<void(const BatchView&, Device&, Stream&)>
        observer; ///< for tests: sees each batch's arrays on the device once it is solved
};

/// The engine on a device. Batches of patches are solved by the kernels in gpu/kernels; the CPU backend takes what they do not do (patches
/// beyond their ladder, layouts that do not fit, --decorrelate noise, single patches with all their intermediates).
[[nodiscard]] std::unique_ptr<Backend> makeDeviceBackend(std::unique_ptr<Device> device,
                                                         const DeviceBackendOptions& options = {});

} // namespace patchlight::gpu
