#pragma once

#include "core/cpu/InverseSquareRoot.h"
#include "gpu/kernels/BatchView.h"

#include <vector>

namespace patchlight::gpu {

/// Rational approximations as the kernels read them. @throws Error where they have more rungs or poles than there is room for
[[nodiscard]] Ladder ladderOf(const std::vector<InverseSquareRoot>& rungs);

/// inverseSquareRootFineLadder(), and what the ends of a bundle need besides, whose bins hang on the prior: condition numbers up to 1e15, with errors of at
/// most 1e-10 there, which bins with light do not feel.
[[nodiscard]] const std::vector<InverseSquareRoot>& deepLadder();

} // namespace patchlight::gpu
