#pragma once

#include "core/engine/Options.h"
#include "core/psf/Psf.h"

#include <optional>
#include <string>

namespace patchlight::simulate {

/// One of the spectrographs' cameras: arm b, r or z, spectrograph 0 to 9.
struct Camera {
    char arm = 'r';
    int spectrograph = 0;

    [[nodiscard]] std::string name() const { return std::string(1, arm) + std::to_string(spectrograph); }
};

/// Parses "r0", or "r" for spectrograph 0. @throws UsageError naming the option
[[nodiscard]] Camera parseCamera(const std::string& text, const std::string& option);

/// Shape of a spectrograph's PSF. Values of 0 mean: as the camera has it.
struct InstrumentOptions {
    Camera camera;
    int nspec = 500;
    int bundlesize = 25;        ///< fibers
    int nx = 0;                 ///< CCD columns; 0: 4096 (b) or 4114 (r, z)
    int ny = 0;                 ///< CCD rows; 0: 4096 (b) or 4128 (r, z)
    double fiberSpacing = 7.27; ///< pixels between the traces of a bundle
    double bundleGap = 12.5;    ///< pixels more than that between the last trace of a bundle and the first of the next
    double pixelScale = 0;      ///< Angstrom a pixel in the middle of the CCD; 0: 0.59 (b), 0.54 (r), 0.60 (z)
    double waveCentre = 0;      ///< Angstrom in the middle row; 0: 4700 (b), 6690 (r), 8672 (z)
    int hsizeX = 8;             ///< half size of the spot's stamp, pixels
    int hsizeY = 5;             ///< pixels
    int hermiteDegree = 6;      ///< GHDEGX = GHDEGY
    int legendreDegree = 3;     ///< LEGDEG
    int traceDegree = 6;
    double tail = 0; ///< TAILAMP: amplitude of the power-law tail (index 2, core 1 pixel); 0: none
};

/// Fills in the values that were left to the camera. @throws UsageError naming the option that makes no sense
[[nodiscard]] InstrumentOptions completed(InstrumentOptions options);

/// A PSF of DESI's shape from formulas of our own: fibers in bundles, traces curved as those of a spectrograph are, spot widths
/// and Gauss-Hermite terms that vary over the CCD. It depends on the options alone: a camera has the same PSF in every exposure.
/// @param options  completed
[[nodiscard]] Psf makePsf(const InstrumentOptions& options);

/// The extraction grid that suits a camera: b 3600-5800, r 5760-7620, z 7520-9824 in steps of 0.8 Angstrom where all spectra of
/// the PSF have that range on the CCD, else the whole Angstroms that they have.
[[nodiscard]] WavelengthRange defaultWavelengthRange(const Psf& psf, char arm);

} // namespace patchlight::simulate
