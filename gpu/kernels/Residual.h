#pragma once

#include "gpu/kernels/BatchView.h"
#include "gpu/kernels/Team.h"

namespace patchlight::gpu {

/// What a patch's xflux leaves of its right-hand sides, y - A x, with all that couples (docs/method.md, "The fast path", 3). A block a patch.
struct ResidualKernel {
    static constexpr const char* name = "gpu residual";
    BatchView b;

    [[nodiscard]] int blocks() const { return b.patches; }
    [[nodiscard]] int threads() const { return 256; }
    [[nodiscard]] std::size_t itemBytes() const { return 0; }
    [[nodiscard]] std::size_t sharedDoubles() const { return 0; }

    template <class Team> PATCHLIGHT_HOST_DEVICE void operator()(Team& team, int patch) const {
        if (b.states[patch].open == 0) return;
        const PatchTask& task = b.tasks[patch];
        const int n = task.nwave;
        for (int item = team.rank(); item < task.nspec * n; item += team.size()) {
            const int s = item / n;
            const int i = item % n;
            const std::size_t at = b.flat(patch, s, i);
            double rest = b.patchY[at];
            for (int d = 0; d < b.ownWidth; ++d) {
                if (i + d < n) rest -= own(at, d) * b.x[at + static_cast<std::size_t>(d)];
                if (d > 0 && i - d >= 0)
                    rest -= own(at - static_cast<std::size_t>(d), d) * b.x[at - static_cast<std::size_t>(d)];
            }
            for (int j = larger(0, i - b.reach); j <= smaller(n - 1, i + b.reach); ++j) {
                if (s + 1 < task.nspec) rest -= next(at, j - i) * b.x[b.flat(patch, s + 1, j)];
                if (s > 0) {
                    const std::size_t before = b.flat(patch, s - 1, j);
                    rest -= next(before, i - j) * b.x[before];
                }
            }
            b.residual[at] = rest;
        }
    }

private:
    [[nodiscard]] PATCHLIGHT_HOST_DEVICE double own(std::size_t at, int d) const {
        return b.patchOwn[at * static_cast<std::size_t>(b.ownWidth) + static_cast<std::size_t>(d)];
    }
    [[nodiscard]] PATCHLIGHT_HOST_DEVICE double next(std::size_t at, int d) const {
        return b.patchNext[at * static_cast<std::size_t>(b.nextWidth()) + static_cast<std::size_t>(d + b.reach)];
    }
};

} // namespace patchlight::gpu
