#pragma once

#include <QString>

#include <vector>

namespace patchlight::widgets {

/// A spectral line to mark.
struct MarkedLine {
    QString name;
    double wavelength = 0; ///< Angstrom, vacuum; at rest, or of the sky as the CCD sees it
    double strength = 0;   ///< relative, for choosing which labels to draw where there is no room for all; 0 to 1
};

/// Lines of the night sky (core/simulate/SkyLines.h), in vacuum.
[[nodiscard]] const std::vector<MarkedLine>& skyLineList();

/// Lines of galaxies and quasars at rest, in vacuum: NIST Atomic Spectra Database, with the usual blends as their mean.
[[nodiscard]] const std::vector<MarkedLine>& galaxyLineList();

/// A line at redshift z: wavelength (1 + z).
[[nodiscard]] inline double redshifted(double restWavelength, double redshift) {
    return restWavelength * (1.0 + redshift);
}

} // namespace patchlight::widgets
