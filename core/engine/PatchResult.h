#pragma once

#include "core/base/Array.h"
#include "core/engine/Plan.h"

#include <cstdint>
#include <vector>

namespace patchlight {

/// What happened to a patch; bits of PatchReport::status.
enum class PatchStatus : std::uint32_t {
    Ok = 0,
    Regularized = 1U << 0, ///< the factorisation failed and was repeated with regularize = 1e-4
    NoPixels = 1U << 1,    ///< the whole patch lies off the CCD, or all of its pixels are masked
    Failed = 1U << 2,      ///< no factorisation even with regularisation: flux = ivar = 0
};

/// A patch in a line of the log.
struct PatchReport {
    std::uint32_t status = 0; ///< PatchStatus bits
    double condition =
        0; ///< largest over the core spectra of the condition number of S_s (signal), or that of iCov (noise)
};

/// Everything that was computed for one patch. Flux index = ispec * nwave + iwave over padded spectra and padded bins;
/// fluxes are photons per bin.
struct PatchDetail {
    Patch patch;
    PixelWindow window;
    PatchReport report;
    double condition = 0;          ///< of iCov, 2-norm
    Array2<double> image, pixivar; ///< [NY][NX], window
    Array2<double> model, chi;     ///< [NY][NX]: A xflux; (p - m) / sqrt(1/w + (psferr m)^2), 0 where not counted
    Array2<double> pixmask;        ///< [NY][NX], 1 where the pixel is masked
    Array2<double> icov;           ///< [n][n], prior included
    Array2<double> resolution;     ///< [n][n], block-diagonal for Decorrelate::Signal
    Array2<double> y, xflux, flux, ivar, fluxweight, chi2pix, pixmaskFraction; ///< [nspec][nwave]
};

} // namespace patchlight
