#pragma once

#include "core/engine/Backend.h"
#include "core/engine/Plan.h"
#include "core/image/CcdImage.h"
#include "core/psf/GaussHermite.h"

#include <Eigen/Core>

/// The equations of docs/method.md written down once more, as plainly as can be, with dense matrices: what every backend is
/// checked against. Nothing here is shared with the engine but the PSF's spots and the patch's index ranges.
namespace patchlight::test {

struct NaiveResult {
    int xmin = 0, xmax = 0, ymin = 0, ymax = 0;
    Eigen::MatrixXd icov, r;
    Eigen::VectorXd y, xflux, flux, ivar, fluxweight, chi2pix, pixmaskFraction;
    Eigen::VectorXd model; ///< window, row-major
};

/// fluxweight below which a bin gets the prior: 1e-4 of the largest of the patch; for the seamless method of the largest within half a padded patch,
/// over the padded spectra of the bin's subbundle.
Eigen::VectorXd naiveMinimumWeights(const Plan& plan, const Patch& patch, const Eigen::VectorXd& fluxweight);

/// Bin index ispec * nwave + iwave over padded spectra and bins.
NaiveResult naivePatch(const CcdView& ccd, const PsfView& psf, const Plan& plan, const Patch& patch, double regularize);

} // namespace patchlight::test
