#pragma once

#include "core/engine/Plan.h"
#include "core/image/CcdImage.h"
#include "core/psf/Psf.h"

/// A CCD image small enough for dense algebra: a few fibers of a PSF of DESI's shape with lines, a continuum and noise.
namespace patchlight::test {

struct SmallExposure {
    Psf psf;
    WeightedPixels pixels;
    WavelengthRange range;
};

/// @param nspec, bundlesize  fibers; @param arm of the camera: b, r or z
SmallExposure smallExposure(int nspec = 10, int bundlesize = 5, int nx = 120, int ny = 200, unsigned seed = 1,
                            char arm = 'r');

/// Options that cut it into patches of 2 or 3 fibers by 15 wavelengths.
ExtractionOptions smallPatches(const SmallExposure& exposure);

/// Makes a PSF one of two cores (GAUSS-HERMITE2): a wide second one, the first cut at 3 sigma. To be packed.
void giveSecondCore(Psf& psf);

/// Masks the pixels [x0, x1) x [y0, y1).
void maskPixels(WeightedPixels& image, int x0, int x1, int y0, int y1);

} // namespace patchlight::test
