#pragma once

#include <vector>

namespace patchlight {

/// legendreSum() of `count` spectra at many wavelengths, with the same roundings.
/// @param coeff [count][ncoeff]; @param domain WAVEMIN, WAVEMAX, Angstrom; @param wavelength Angstrom; @param out [count][wavelengths]
void legendreSums(const double* coeff, int ncoeff, const double domain[2], int count,
                  const std::vector<double>& wavelength, double* out);

} // namespace patchlight
