#pragma once

#include "gpu/Device.h"
#include "gpu/kernels/AnyKernel.h"

namespace patchlight::gpu {

struct TeamLaunch {
    TeamKernel kernel;
};

struct GroupLaunch {
    GroupKernel kernel;
    std::size_t pieces = 1; ///< of work memory: groups that may be at work at a time
};

} // namespace patchlight::gpu
