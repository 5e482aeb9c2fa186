#pragma once

#include "core/base/Array.h"

#include <string>
#include <vector>

namespace patchlight {

struct ExtractedFrame;

/// Two frames, bin by bin.
struct BinDifference {
    int specmin = 0;                ///< spectrum of row 0
    std::vector<double> wavelength; ///< [nwave], Angstrom
    Array2<float> sigma;  ///< [nspec][nwave], (flux A - flux B) sqrt(smaller ivar); NaN where either has no ivar
    std::size_t bins = 0; ///< that have a value
    double rms = 0;       ///< of the values
    double largest = 0;   ///< the largest absolute value
};

/// The difference of two frames in units of the larger of their two errors, over the spectra and wavelengths they share (grids that agree to 1e-6
/// of a step). What they do not share is left out; nothing shared: no rows.
[[nodiscard]] BinDifference differenceInSigma(const ExtractedFrame& a, const ExtractedFrame& b);

} // namespace patchlight
