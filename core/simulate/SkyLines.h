#pragma once

#include <span>

namespace patchlight::simulate {

/// An emission line of the night sky.
struct SkyLine {
    double airWavelength; ///< Angstrom, in air
    double strength;      ///< Rayleigh, of a plausible dark night
};

/// Lines of the night sky between 3600 and 10100 Angstrom, by wavelength.
///
/// Wavelengths: OH from Osterbrock et al. 1996, PASP 108, 277 and 1997, PASP 109, 614 (the two components of a lambda doublet
/// closer than 0.5 Angstrom as one), [O I], [N I], Na I and Hg I from the NIST Atomic Spectra Database. Strengths: our own
/// round numbers, in proportions as seen on a moonless night; nothing is calibrated with them.
[[nodiscard]] std::span<const SkyLine> skyLines();

/// Vacuum wavelength of an air wavelength, both Angstrom (Ciddor 1996, Applied Optics 35, 1566, standard air).
[[nodiscard]] double vacuumWavelength(double airWavelength);

} // namespace patchlight::simulate
