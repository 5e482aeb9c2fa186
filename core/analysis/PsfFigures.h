#pragma once

#include "core/base/Array.h"
#include "core/psf/PsfView.h"

#include <string>
#include <vector>

namespace patchlight {

class Psf;

/// The PSF of one spectrum at one wavelength on its stamp of pixels.
struct SpotStamp {
    int cornerX = 0;       ///< CCD column of values(0, 0)
    int cornerY = 0;       ///< CCD row of values(0, 0)
    double x = 0;          ///< the trace, CCD pixels
    double y = 0;          ///< the trace, CCD pixels
    Array2<double> values; ///< [ny][nx], sums to 1; all 0 where the PSF has no light there
};

/// @param wavelength Angstrom, as the PSF has it (an extracted frame's divided by the barycentric factor)
[[nodiscard]] SpotStamp spotStamp(const PsfView& psf, int spectrum, double wavelength, bool withTail);
/// The shape of `psf` on the traces of `traces`: what differs from that PSF's spot is then shape alone.
[[nodiscard]] SpotStamp spotStampOnTrace(const PsfView& psf, const PsfView& traces, int spectrum, double wavelength,
                                         bool withTail);

/// Sums of a stamp over the other axis: light a column, light a row.
struct SpotProfiles {
    std::vector<double> x; ///< [nx], by column
    std::vector<double> y; ///< [ny], by row
};
[[nodiscard]] SpotProfiles spotProfiles(const SpotStamp& spot);

/// A spot in numbers, pixels.
struct SpotFigures {
    double peak = 0;                   ///< highest pixel, share of the light
    double offsetX = 0, offsetY = 0;   ///< centroid minus trace
    double rmsX = 0, rmsY = 0;         ///< square roots of the second moments about the centroid, pixel width included
    double fwhmX = 0, fwhmY = 0;       ///< of the profiles, linear interpolation; NaN where there is none
    double correlation = 0;            ///< of x and y: the tilt
    double radius50 = 0, radius90 = 0; ///< about the centroid, of 50 and 90 % of the light, by whole pixels
};
[[nodiscard]] SpotFigures spotFigures(const SpotStamp& spot);

/// b - a on the pixels of both.
[[nodiscard]] SpotStamp spotDifference(const SpotStamp& a, const SpotStamp& b);

/// A parameter of a PSF file at one place.
struct PsfParameterValue {
    std::string name;
    double value = 0;
};
/// All parameters that the file holds, in the order X, Y, GHSIGX, GHSIGY, the tail, the rest by name.
[[nodiscard]] std::vector<PsfParameterValue> psfParameters(const Psf& psf, int spectrum, double wavelength);

/// Traces of PSF b minus those of PSF a.
struct TraceOffsets {
    std::vector<double> wavelength; ///< [nwave], Angstrom: evenly over the domain that both have
    Array2<double> dx;              ///< [nspec][nwave], pixels
    Array2<double> dy;              ///< [nspec][nwave], pixels
    Array2<double>
        dwave; ///< [nspec][nwave], Angstrom: b's wavelength minus a's, at the pixel where a has that wavelength
    double rmsX = 0, rmsY = 0; ///< pixels
    double largestX = 0, largestY = 0;
};
/// Over the spectra that both have. @throws Error where they share no wavelengths
[[nodiscard]] TraceOffsets traceOffsets(const Psf& a, const Psf& b, int nwave = 64);

} // namespace patchlight
