#pragma once

#include "gpu/kernels/Dense.h"
#include "gpu/kernels/Eliminate.h"
#include "gpu/kernels/Finish.h"
#include "gpu/kernels/Gather.h"
#include "gpu/kernels/Model.h"
#include "gpu/kernels/Quality.h"
#include "gpu/kernels/Rates.h"
#include "gpu/kernels/Residual.h"
#include "gpu/kernels/Roots.h"
#include "gpu/kernels/Spots.h"
#include "gpu/kernels/Sums.h"

#include <variant>

namespace patchlight::gpu {

/// A kernel that works in teams (blocks): blocks(), threads(), sharedDoubles() and a body for each block.
using TeamKernel =
    std::variant<SpotsKernel, SumsKernel, GatherKernel, EliminateKernel<12>, ResidualKernel, DenseKernel,
                 DenseSolutionsKernel, WideDenseSolutionsKernel, DenseRootsKernel, WideDenseRootsKernel, FinishKernel,
                 PixelsKernel, BinsKernel, ModelKernel, ArithmeticKernel, CopyKernel, StepKernel>;
/// A kernel that works in groups of lanes, each with a piece of work memory: groups() and a body for each.
using GroupKernel = std::variant<RootsKernel<12>, CorrectedRootsKernel<12>>;

} // namespace patchlight::gpu
