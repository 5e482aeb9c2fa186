#pragma once

#include <cmath>
#include <limits>

namespace patchlight::widgets {

/// A place in the data that all views share: (spectrum, wavelength) <-> (x, y).
struct Cursor {
    int spectrum = -1;                                            ///< row of the PSF, zero-based; -1: none
    double wavelength = std::numeric_limits<double>::quiet_NaN(); ///< Angstrom, as an extracted frame has it
    double x = std::numeric_limits<double>::quiet_NaN();          ///< CCD column, pixels; pixel centres are integers
    double y = std::numeric_limits<double>::quiet_NaN();          ///< CCD row, pixels

    [[nodiscard]] bool hasBin() const { return spectrum >= 0 && std::isfinite(wavelength); }
    [[nodiscard]] bool hasPixel() const { return std::isfinite(x) && std::isfinite(y); }
    /// The same place; NaN equals NaN.
    bool operator==(const Cursor& other) const {
        const auto same = [](double a, double b) { return a == b || (std::isnan(a) && std::isnan(b)); };
        return spectrum == other.spectrum && same(wavelength, other.wavelength) && same(x, other.x) && same(y, other.y);
    }
};

} // namespace patchlight::widgets
