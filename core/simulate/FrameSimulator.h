#pragma once

#include "core/base/Array.h"
#include "core/image/CcdImage.h"
#include "core/simulate/Instrument.h"
#include "core/simulate/PlantedFault.h"
#include "core/simulate/Scene.h"

#include <cstdint>
#include <string>
#include <vector>

namespace patchlight::simulate {

/// What a simulated frame is like. Values below 0 mean: in proportion to the frame.
struct FrameOptions {
    Camera camera;
    WavelengthRange grid; ///< grid that the frame is meant to be extracted on, Angstrom
    bool truthOnGrid =
        false;             ///< all light lies at this grid's wavelengths (and its continuation up to the CCD's edges)
    std::int64_t seed = 1; ///< 0 or above
    std::int64_t expid = 1;
    std::int64_t night = 20251014; ///< YYYYMMDD
    double exptime = 900.0;        ///< s
    int skyFibers = -1;            ///< default: 8 % of the fibers
    int deadFibers = -1;           ///< default: 0.4 % of the fibers
    double skyScale = 1.0;         ///< brightness of the sky
    double objectScale = 1.0;      ///< brightness of the objects
    bool noise = true;             ///< Poisson and read noise
    double readnoise = 3.0;        ///< electrons, mean of the four amplifiers
    int cosmics = -1;              ///< default: 100 a million pixels and 900 s
    double unmaskedCosmics = 0.0;  ///< fraction of them that MASK does not know
    int badColumns = -1;           ///< default: one a thousand columns
    double saturation = 120000.0;  ///< electrons; 0: none
    bool ivarFromData = false;     ///< variance from the noisy pixels, as pipelines have it, instead of from the model
    std::vector<PlantedFault> faults; ///< unknown to MASK and PSF
    bool keepModel = false;           ///< return the noiseless image too
    int threads = 0;                  ///< 0: all cores; the result does not depend on it
};

/// True spectra of a frame.
struct Truth {
    std::vector<double> wavelength; ///< [nwave], Angstrom, vacuum, uniform, covers all light on the CCD
    double step = 0;                ///< Angstrom between them
    Array2<double>
        flux; ///< [nspec][nwave], detected photons/Angstrom; an unresolved line is photons/step in one element
    bool onGrid = false;
    WavelengthRange grid; ///< of the extraction
    FitsHeader header;
    FitsTable targets; ///< table TRUTH: what each fiber looks at
};

struct SimulatedFrame {
    CcdImage image;
    Truth truth;
    std::vector<float> model; ///< [ny][nx], electrons: the noiseless light without cosmic rays; empty unless asked for
    int cosmics = 0;          ///< cosmic rays
    int badColumns = 0;
    std::int64_t saturatedPixels = 0;
};

/// Simulates a frame through a PSF.
///
/// On the grid, every spectrum is a comb of spots at the extraction's wavelengths, each with flux*dw photons: what the
/// extraction assumes. Off the grid, unresolved sky lines lie where they are, to dw/8, and everything else (continua and
/// resolved lines, whose sigma is at least 0.7 Angstrom) is painted in steps of 3/4 dw at wavelengths that the extraction does
/// not use. Such a comb shows a ripple of at most 8e-5 of the continuum, nearly all of it from the edges of the spots' stamps (in
/// steps of dw/2: 6e-5); in steps of dw it would be 2.4e-3 at the red end of r, where a step is widest (docs/method.md). Finer
/// steps would change nothing but the time, as evaluating spots is most of the work.
///
/// @param given  options; those left to the program are filled in
/// @throws UsageError naming the option that makes no sense
[[nodiscard]] SimulatedFrame simulateFrame(const Psf& psf, const FrameOptions& given);

/// Writes the truth file: primary FLUX float32 [nspec][nwave] (photons/Angstrom), WAVELENGTH float64 [nwave], table TRUTH; the
/// extraction grid in EXTWMIN, EXTWMAX, EXTDW. Atomic, with checksums. @throws Error
void writeTruth(const std::string& path, const Truth& truth);

} // namespace patchlight::simulate
