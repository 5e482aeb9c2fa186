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

/// PatchStatus bits that say why a spectrum whose Q is wrong by `error`, relative to its norm, may not be kept; 0: it may
/// (docs/method.md, "The fast path").
/// @param contrast what the relative error of ivar is worse by in the darkest bin, where pixels are masked; @param snr largest signal to
/// noise ratio of a bin, with its neighbours' signal
[[nodiscard]] PATCHLIGHT_HOST_DEVICE inline std::uint32_t refusal(const ErrorBounds& bounds, double error,
                                                                  double contrast, double snr) {
    std::uint32_t why = 0;
    if (!(error <= bounds.resolution && error * contrast <= bounds.ivar))
        why |= static_cast<std::uint32_t>(PatchStatus::Leaking);
    if (!(error * snr <= bounds.flux)) why |= static_cast<std::uint32_t>(PatchStatus::Bright);
    return why;
}

} // namespace patchlight
