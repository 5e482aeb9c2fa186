#pragma once

#include "core/base/Array.h"
#include "core/engine/PatchStatus.h"
#include "core/engine/Plan.h"

#include <cstdint>
#include <vector>

namespace patchlight {

/// A patch in a line of the log.
struct PatchReport {
    std::uint32_t status = 0; ///< PatchStatus bits
    double error = 0;         ///< estimate of what the fast path left out, relative to Q; 0: nothing
    /// Largest over the core spectra of the condition number of S_s (signal), or that of iCov (noise); the fast path's bound of it.
    double condition = 0;
};

/// Everything that was computed for one patch. Flux index = ispec * nwave + iwave over padded spectra and padded bins;
/// fluxes are photons per bin.
struct PatchDetail {
    Patch patch;
    PixelWindow window;
    PatchReport report;
    double error = 0;              ///< estimate of what the fast path left out, relative to Q; 0: exact
    double condition = 0;          ///< of iCov, 2-norm
    Array2<double> image, pixivar; ///< [NY][NX], window
    Array2<double> model, chi;     ///< [NY][NX]: A xflux; (p - m) / sqrt(1/w + (psferr m)^2), 0 where not counted
    Array2<double> pixmask;        ///< [NY][NX], 1 where the pixel is masked
    Array2<double> icov;           ///< [n][n], prior included
    Array2<double> resolution;     ///< [n][n], block-diagonal for Decorrelate::Signal
    Array2<double> y, xflux, flux, ivar, fluxweight, chi2pix, pixmaskFraction; ///< [nspec][nwave]
};

} // namespace patchlight
