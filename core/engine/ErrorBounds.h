#pragma once

#include "core/base/HostDevice.h"
#include "core/engine/PatchStatus.h"

#include <cstdint>

namespace patchlight {

/// What a patch's result may be wrong by because of what a fast path leaves out. A spectrum that cannot promise this climbs a rung.
struct ErrorBounds {
    double flux = 1e-6;       ///< sigma
    double ivar = 1e-8;       ///< relative
    double resolution = 1e-8; ///< absolute
};

/// Share of a spot's light on masked pixels from which a bin counts as masked.
inline constexpr double maskedShare = 1e-6;

/// What the relative error of a rational square root is below (InverseSquareRoot). Large condition numbers come with masks, and bins whose
/// row sums of Q are small beside the others': there more is asked for.
[[nodiscard]] PATCHLIGHT_HOST_DEVICE constexpr double inverseSquareRootError(double kappa) {
    return kappa <= 2000.0 ? 1e-10 : 1e-12;
}

/// What the diagonals of the root of a band, of `band` off-diagonals, are wrong by for what lies beyond it: at most this times that's largest element over
/// sqrt(lmin lmax) (docs/method.md, "The seamless method").
[[nodiscard]] PATCHLIGHT_HOST_DEVICE constexpr double rootDiagonalError(int band) {
    return band < 12 ? 0.1 : band < 14 ? 0.05 : band < 16 ? 0.03 : band < 20 ? 0.02 : 0.01;
}

/// Signal to noise ratio of a bin whose light, its own and what comes over from neighbours, enters relativeFluxError(). A line shares the error of
/// Q's row; a neighbour's errors come over with its light. @param rowSum of Q; xflux deconvolved fluxes
[[nodiscard]] PATCHLIGHT_HOST_DEVICE inline double lightInDoubt(double rowSum, double xflux, double before,
                                                                double after) {
    const double own = 0.5 * (xflux < 0 ? -xflux : xflux);
    const double left = before < 0 ? -before : before;
    const double right = after < 0 ? -after : after;
    const double beside = left > right ? left : right;
    return rowSum * (own > beside ? own : beside);
}

/// Error of the flux, in sigma, over the relative error of Q: the noise of xflux grows with sqrt(kappa), and so does what an error of Q makes of
/// it; then what light adds. The factors are the largest that were measured (docs/method.md, "The fast path").
/// @param root sqrt(kappa); @param light largest lightInDoubt()
[[nodiscard]] PATCHLIGHT_HOST_DEVICE constexpr double relativeFluxError(double root, double light) {
    return 4.0 * root + light;
}

/// PatchStatus bits that say why a spectrum whose Q is wrong by `error`, relative to its norm, may not be kept; 0: it may
/// (docs/method.md, "The fast path").
/// @param contrast what the relative error of ivar is worse by in the darkest bin, where pixels are masked; @param flux relativeFluxError()
[[nodiscard]] PATCHLIGHT_HOST_DEVICE inline std::uint32_t refusal(const ErrorBounds& bounds, double error,
                                                                  double contrast, double flux) {
    std::uint32_t why = 0;
    if (!(error <= bounds.resolution && error * contrast <= bounds.ivar))
        why |= static_cast<std::uint32_t>(PatchStatus::Leaking);
    if (!(error * flux <= bounds.flux)) why |= static_cast<std::uint32_t>(PatchStatus::Bright);
    return why;
}

} // namespace patchlight
