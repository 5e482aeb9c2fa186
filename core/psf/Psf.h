#pragma once

#include "core/io/FitsHeader.h"
#include "core/psf/PsfView.h"

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace patchlight {

/// One PSF parameter as a Legendre series in wavelength, a row of coefficients per spectrum.
struct LegendreSeries {
    double wavemin = 0;        ///< Angstrom; u = -1
    double wavemax = 0;        ///< Angstrom; u = +1
    int ncoeff = 0;            ///< degree + 1
    std::vector<double> coeff; ///< [nspec][ncoeff]
};

/// INTOFF or EXTOFF table of a PSF file: wavelength offsets measured on sky lines.
struct WavelengthOffsets {
    std::string name; ///< "INTOFF" or "EXTOFF"
    std::vector<std::int64_t> fiber;
    std::vector<double> wave;       ///< Angstrom
    std::vector<double> dwave;      ///< Angstrom
    std::vector<double> dwaveError; ///< Angstrom
};

/// How a bundle's fit went, from the keywords BnnRCHI2 and the STATUS parameter; a bundle with rchi2 = 0 or status < 0 was not fitted.
struct BundleFit {
    int bundle = 0;
    double rchi2 = 0;
    int status = 0;
    [[nodiscard]] bool fitted() const { return rchi2 > 0 && status >= 0; }
};

/// A Gauss-Hermite PSF: everything a PSF file holds, and the packed form that the engine evaluates.
class Psf {
public:
    std::string path;
    PsfType type = PsfType::GaussHermite;
    int version = 3; ///< PSFVER
    int nspec = 0;
    int fibermin = 0;                             ///< FIBERMIN
    int nx = 0;                                   ///< NPIX_X, CCD columns
    int ny = 0;                                   ///< NPIX_Y, CCD rows
    int hsizeX = 0;                               ///< HSIZEX, pixels
    int hsizeY = 0;                               ///< HSIZEY, pixels
    int degX = 0;                                 ///< GHDEGX
    int degY = 0;                                 ///< GHDEGY
    int degX2 = -1;                               ///< GHDEGX2 (GAUSS-HERMITE2), else -1
    int degY2 = -1;                               ///< GHDEGY2 (GAUSS-HERMITE2), else -1
    double psferr = 0.01;                         ///< PSFERR, else PSFERROR where above 0, else 0.01
    std::map<std::string, LegendreSeries> series; ///< by parameter: "X", "Y", "GHSIGX", ..., "GH-i-j", "TAILAMP", ...
    std::vector<WavelengthOffsets> offsets;       ///< INTOFF / EXTOFF, in file order
    std::vector<BundleFit> bundleFits;
    FitsHeader primaryHeader;
    FitsHeader header; ///< of the PSF table

    /// Packs the series for evaluation; call after the fields above are set or changed. @throws Error naming a missing parameter.
    void pack();
    /// The packed PSF, valid as long as this object is neither changed nor moved. pack() must have been called.
    [[nodiscard]] PsfView view() const;
    /// Wavelength domain of the PSF core, Angstrom.
    [[nodiscard]] double wavemin() const;
    [[nodiscard]] double wavemax() const;
    /// Column and row of the trace, pixels (zero-based, pixel centres are integers).
    [[nodiscard]] double x(int spectrum, double wavelength) const;
    [[nodiscard]] double y(int spectrum, double wavelength) const;
    /// Wavelength at which a spectrum's trace crosses row y (Newton on the trace); Angstrom.
    [[nodiscard]] double wavelengthAt(int spectrum, double y) const;

private:
    /// What the traces alone need.
    [[nodiscard]] PsfView traceView() const;

    std::vector<double> packed_; ///< [nspec][nparam][ncoeff], core and tail parameters
    std::vector<double> domain_; ///< [nparam][2], Angstrom
    int ncoeff_ = 0;
    int nparam_ = 0;
};

/// Reads a PSF: GAUSS-HERMITE PSFVER 1, 2, 3 and GAUSS-HERMITE2. @throws Error naming file, HDU, keyword or parameter.
[[nodiscard]] Psf readPsf(const std::string& path);

/// Writes a PSFVER 3 GAUSS-HERMITE file: XTRACE, YTRACE, PSF table; atomic, with checksums. @throws Error
void writePsf(const std::string& path, const Psf& psf);

} // namespace patchlight
