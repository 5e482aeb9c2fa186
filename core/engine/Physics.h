#pragma once

#include "core/base/HostDevice.h"
#include "core/frame/SpecMask.h"

#include <cstdint>

/// Small rules with physical meaning, written once for every backend (docs/method.md gives the equations).
namespace patchlight {

/// fluxweight below which a bin gets the weak flux = 0 prior: 1e-4 of the largest in the patch.
PATCHLIGHT_HOST_DEVICE inline double minimumWeight(double largestFluxweight) { return 1e-4 * largestFluxweight; }

/// What the prior adds to a bin's diagonal element of iCov: alpha^2 + 1e-15.
PATCHLIGHT_HOST_DEVICE inline double priorDiagonal(double fluxweight, double minweight, double regularize) {
    const double alpha = fluxweight < minweight ? minweight - fluxweight : regularize;
    return alpha * alpha + 1e-15;
}

/// The regularisation of the one retry after a failed factorisation.
inline constexpr double retryRegularize = 1e-4;

/// chi^2 of a pixel against the model, with the PSF's fractional error added to the pixel's variance.
/// Counts only where `pixelCounts` says so.
PATCHLIGHT_HOST_DEVICE inline double pixelChi2(double pixel, double weight, double model, double psferr) {
    const double difference = pixel - model;
    const double modelError = psferr * model;
    return difference * difference / (1.0 / weight + modelError * modelError);
}

PATCHLIGHT_HOST_DEVICE inline bool pixelCounts(double weight, double model) { return weight > 0.0 && model != 0.0; }

/// MASK bits of a bin that follow from the bin alone (BAD2DFIT needs the whole frame).
PATCHLIGHT_HOST_DEVICE inline std::uint32_t binMask(double pixmaskFraction, double fluxweight, bool spotOnCcd) {
    std::uint32_t mask = 0;
    if (pixmaskFraction > 0.5) mask |= static_cast<std::uint32_t>(SpecMaskBit::SomeBadPix);
    if (fluxweight == 0.0 || pixmaskFraction > 1.0 - 1e-6) mask |= static_cast<std::uint32_t>(SpecMaskBit::AllBadPix);
    if (!spotOnCcd) mask |= static_cast<std::uint32_t>(SpecMaskBit::NoData);
    return mask;
}

} // namespace patchlight
