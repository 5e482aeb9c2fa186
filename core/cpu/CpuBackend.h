#pragma once

#include "core/cpu/FastPath.h"
#include "core/engine/Backend.h"

#include <memory>

namespace patchlight {

/// How the CPU backend solves patches. The defaults are what everybody wants; tests ask for more.
struct CpuOptions {
    bool exact = false; ///< the exact path for every patch: the reference
    ErrorBounds bounds; ///< beyond which a patch leaves the fast path
};

/// The engine on the CPU: batches on as many lanes as there are threads; in a batch, patches side by side in vectors (FastPath), and the
/// exact path (PatchSolver) for what that does not suit.
[[nodiscard]] std::unique_ptr<Backend> makeCpuBackend(const CpuOptions& options = {});

} // namespace patchlight
