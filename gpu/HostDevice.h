#pragma once

#include "gpu/Device.h"

#include <memory>

namespace patchlight::gpu {

struct HostDeviceOptions {
    /// Threads that are a team's members. One runs the bodies as plain loops; more, with real barriers, show what a barrier misses.
    int members = 1;
    /// Bytes that allocate() gives in all; 0: any.
    std::size_t memory = 0;
    /// Fills memory with NaN when it is allocated, so that reading what nobody wrote does not go unseen.
    bool poison = true;
    /// Shared memory of a block.
    std::size_t sharedBytes = std::size_t{200} << 10;
};

/// Runs the kernels' bodies on the host, on the thread that launches them: the same sources and the same orchestration as on a GPU, for
/// tests on machines without one. Not fast.
[[nodiscard]] std::unique_ptr<Device> makeHostDevice(const HostDeviceOptions& options = {});

} // namespace patchlight::gpu
