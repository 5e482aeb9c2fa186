#pragma once

#include "widgets/spectrum/SpectrumData.h"

#include <cstddef>
#include <vector>

namespace patchlight::widgets {

/// Flux and ivar averaged over `width` bins (odd; 1: unchanged) about each, weighted by ivar where there are errors: for display
/// only. Bins without data do not count; where none counts, flux is NaN and ivar 0. The ivar is the sum, as of independent bins.
struct Smoothed {
    std::vector<double> flux;
    std::vector<double> ivar;
};
[[nodiscard]] Smoothed smoothed(const std::vector<double>& flux, const std::vector<double>& ivar, int width);

/// What `m` says of a region: bins with data whose centre lies in it.
struct RegionStatistics {
    std::size_t count = 0;
    double mean = 0;     ///< per Angstrom
    double rms = 0;      ///< about the mean, count - 1
    double snr = 0;      ///< mean / rms, as splot has it
    double binSnr = 0;   ///< median of flux / sigma of the bins; NaN without errors
    double integral = 0; ///< sum of flux times bin width
};
[[nodiscard]] RegionStatistics regionStatistics(const SpectrumCurve& curve, double low, double high);

/// What `e` says of a line above or below a straight continuum between two points.
struct EquivalentWidth {
    std::size_t count = 0;
    double continuum = 0; ///< in the middle of the region
    double flux = 0;      ///< sum of (flux - continuum) width: positive in emission
    double fluxError = 0; ///< from ivar, without the continuum's own error; NaN without errors
    double width = 0;     ///< Angstrom; sum of (1 - flux/continuum) width: positive in absorption, as splot has it
    double widthError = 0;
    double centre = 0; ///< Angstrom, weighted by flux - continuum
};
[[nodiscard]] EquivalentWidth equivalentWidth(const SpectrumCurve& curve, double low, double continuumLow, double high,
                                              double continuumHigh);

/// (curve - other) / sigma by bins of `curve`; sigma is the smaller of both where both have errors. NaN where a bin has no data or
/// the other spectrum has no bin at that wavelength (to a hundredth of a bin), or where only one of the two bins is a patch's padding.
[[nodiscard]] std::vector<double> pullsAgainst(const SpectrumCurve& curve, const SpectrumCurve& other);

/// Counts of values in equal bins; values outside fall into the first and last.
struct Histogram {
    double low = 0;
    double high = 0;
    std::vector<std::size_t> counts;
    std::size_t total = 0;
    double mean = 0;
    double sigma = 0;         ///< standard deviation about the mean
    std::size_t outliers = 0; ///< outside [low, high]
};
/// @param values NaN are left out
[[nodiscard]] Histogram histogram(const std::vector<double>& values, double low, double high, std::size_t bins);

} // namespace patchlight::widgets
