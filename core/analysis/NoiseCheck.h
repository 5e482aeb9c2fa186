#pragma once

#include "core/analysis/FrameQuality.h"

#include <span>
#include <vector>

namespace patchlight {

/// Counts of values in equal intervals.
struct Histogram {
    double low = 0;
    double high = 0;
    std::vector<std::int64_t>
        counts; ///< [n]: interval i is [low + i w, low + (i + 1) w), the last one with its end, w = (high - low)/n
    std::int64_t below = 0, above = 0, notFinite = 0;
};
/// As numpy.histogram counts, with what lies outside counted too. high must be above low.
[[nodiscard]] Histogram makeHistogram(std::span<const float> values, double low, double high, int intervals);

/// Light across the traces at one place, averaged over some rows.
struct CrossProfile {
    std::vector<int> column;   ///< CCD columns
    std::vector<double> data;  ///< electrons a pixel; NaN where all rows are masked
    std::vector<double> error; ///< 1 sigma of data
    std::vector<double> model;
    int y0 = 0, y1 = 0; ///< rows [y0, y1)
};
/// The mean over unmasked pixels of rows y - halfRows .. y + halfRows, columns x - halfColumns .. x + halfColumns, of image and model.
/// @param model [ny][nx], electrons
[[nodiscard]] CrossProfile crossProfile(const CcdImage& image, std::span<const float> model, int x, int y, int halfRows,
                                        int halfColumns);

/// chi2pix of all bins, were the PSF's error another one: [nspec][nwave], NaN where the light of a bin's rows is not all known.
/// Needs image and PSF, and quality.model. @throws Cancelled
[[nodiscard]] Array2<float> chi2pixWith(const QualityInput& input, const FrameQuality& quality, double psferr);

} // namespace patchlight
