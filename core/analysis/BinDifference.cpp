#include "core/analysis/BinDifference.h"

#include "core/frame/ExtractedFrame.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

namespace patchlight {

namespace {

/// Index in b of the first wavelength of a that both have, as index of a minus index of b. @returns false where the grids do not coincide
bool gridOffset(const std::vector<double>& a, const std::vector<double>& b, std::ptrdiff_t& offset) {
    if (a.size() < 2 || b.size() < 2) return false;
    const double step = a[1] - a[0];
    constexpr double tolerance = 1e-6;
    if (!(step > 0) || std::abs((b[1] - b[0]) / step - 1.0) > tolerance) return false;
    const double shift = (b[0] - a[0]) / step;
    if (std::abs(shift - std::round(shift)) > tolerance * static_cast<double>(a.size())) return false;
    offset = static_cast<std::ptrdiff_t>(std::llround(shift));
    return true;
}

} // namespace

BinDifference differenceInSigma(const ExtractedFrame& a, const ExtractedFrame& b) {
    BinDifference result;
    std::ptrdiff_t offset = 0; // column of a = column of b + offset
    if (!gridOffset(a.wavelength, b.wavelength, offset)) return result;
    const std::ptrdiff_t firstColumn = std::max<std::ptrdiff_t>(0, offset);
    const std::ptrdiff_t lastColumn =
        std::min(static_cast<std::ptrdiff_t>(a.nwave()), static_cast<std::ptrdiff_t>(b.nwave()) + offset);
    const int firstSpectrum = std::max(a.specmin, b.specmin);
    const int lastSpectrum = std::min(a.specmin + static_cast<int>(a.nspec()), b.specmin + static_cast<int>(b.nspec()));
    if (firstColumn >= lastColumn || firstSpectrum >= lastSpectrum) return result;
    result.specmin = firstSpectrum;
    result.wavelength.assign(a.wavelength.begin() + firstColumn, a.wavelength.begin() + lastColumn);
    result.sigma = Array2<float>(static_cast<std::size_t>(lastSpectrum - firstSpectrum), result.wavelength.size());
    double sum = 0;
    for (int s = firstSpectrum; s < lastSpectrum; ++s)
        for (std::ptrdiff_t j = firstColumn; j < lastColumn; ++j) {
            const auto rowA = static_cast<std::size_t>(s - a.specmin);
            const auto rowB = static_cast<std::size_t>(s - b.specmin);
            const auto columnA = static_cast<std::size_t>(j);
            const auto columnB = static_cast<std::size_t>(j - offset);
            const double ivar = std::min(a.ivar(rowA, columnA), b.ivar(rowB, columnB));
            double value = std::numeric_limits<double>::quiet_NaN();
            if (ivar > 0) value = (a.flux(rowA, columnA) - b.flux(rowB, columnB)) * std::sqrt(ivar);
            result.sigma(static_cast<std::size_t>(s - firstSpectrum), static_cast<std::size_t>(j - firstColumn)) =
                static_cast<float>(value);
            if (!std::isfinite(value)) continue;
            ++result.bins;
            sum += value * value;
            result.largest = std::max(result.largest, std::abs(value));
        }
    if (result.bins > 0) result.rms = std::sqrt(sum / static_cast<double>(result.bins));
    return result;
}

} // namespace patchlight
