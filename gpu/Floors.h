#pragma once

#include "core/engine/Backend.h"
#include "gpu/BatchGeometry.h"
#include "gpu/Device.h"

#include <cstddef>
#include <vector>

/// How long stages must take at least on a device: what they compute and move, counted from where a batch's spots and patches lie, over the
/// device's own rates.
namespace patchlight::gpu {

struct DeviceRates {
    double operations = 0; ///< a second, additions and multiplications in double precision
    double bytes = 0;      ///< a second, device memory, read and written
    double in = 0;         ///< bytes a second from the host
    double out = 0;        ///< bytes a second to the host
    double step = 0;       ///< s, of a step that waits for the one before, with a barrier
};

/// Measures them, with small kernels and copies; some tens of milliseconds.
[[nodiscard]] DeviceRates measureRates(Device& device);

/// Work of a stage in one batch.
struct StageWork {
    const char* name = nullptr; ///< of its range
    double operations = 0;
    double bytes =
        0; ///< of device memory: each input once, each output once, and what one loop of the kernel leaves for the next
    double in = 0;    ///< bytes from the host
    double out = 0;   ///< bytes to the host
    double steps = 0; ///< that wait for each other, in one block
};

/// What the ladder did so far, on average: full blocks are counted by it.
struct FullBlockShare {
    double patches = 0;   ///< of all patches
    double corrected = 0; ///< corrected roots a patch that needs full blocks
    double spectra = 0;   ///< roots of full blocks a patch that needs them
};

/// Counts a batch's work, in the order of the launches. exp and erf count as 20 operations each. Of bands, the poles of the lowest rung are
/// counted. @param in, out bytes copied
[[nodiscard]] std::vector<StageWork> countWork(const BatchView& view, const BatchGeometry& geometry,
                                               const FullBlockShare& full, std::size_t in, std::size_t out);

/// Adds up batches, `streams` of them side by side.
[[nodiscard]] std::vector<StageFloor> floorsOf(const std::vector<std::vector<StageWork>>& batches,
                                               const DeviceRates& rates, int streams);

} // namespace patchlight::gpu
