#pragma once

#include "core/cpu/InverseSquareRoot.h"
#include "gpu/kernels/BatchView.h"

#include <vector>

namespace patchlight::gpu {

/// Rational approximations as the kernels read them. @throws Error where they have more rungs or poles than there is room for
[[nodiscard]] Ladder ladderOf(const std::vector<InverseSquareRoot>& rungs);

} // namespace patchlight::gpu
