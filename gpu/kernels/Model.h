#pragma once

#include "gpu/kernels/BatchView.h"
#include "gpu/kernels/Team.h"

namespace patchlight::gpu {

/// The model image of some spectra: a pixel is the sum of the spots that cover it times their fluxes, in their order. A block a row.
struct ModelKernel {
    static constexpr const char* name = "gpu model image";
    BatchView b;

    [[nodiscard]] int blocks() const { return b.stripNx > 0 ? b.stripNy : 0; }
    [[nodiscard]] int threads() const { return 128; }
    [[nodiscard]] std::size_t itemBytes() const { return 0; }
    [[nodiscard]] std::size_t sharedDoubles() const { return 0; }

    template <class Team> PATCHLIGHT_HOST_DEVICE void operator()(Team& team, int line) const {
        const int y = b.stripY + line;
        for (int column = team.rank(); column < b.stripNx; column += team.size()) {
            const int x = b.stripX + column;
            double sum = 0.0;
            for (int s = 0; s < b.nspec; ++s) {
                const int* active = b.active + (static_cast<std::size_t>(s) * static_cast<std::size_t>(b.stripNy) +
                                                static_cast<std::size_t>(line)) *
                                                   2;
                for (int bin = active[0]; bin < active[1]; ++bin) {
                    const std::size_t at = b.spot(s, bin);
                    const int dx = x - b.cornerX[at];
                    if (dx < 0 || dx >= b.stampX) continue;
                    sum += b.paint[at] * b.stamp(s, bin)[(y - b.cornerY[at]) * b.stampX + dx];
                }
            }
            b.strip[b.pixel(x, y)] = static_cast<float>(sum);
        }
    }
};

} // namespace patchlight::gpu
