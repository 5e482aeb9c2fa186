#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <vector>

namespace patchlight {

/// Median, the mean of the two middle values of an even number; NaN of none. Reorders the values, which must not hold NaN.
template <class T> [[nodiscard]] double medianInPlace(std::span<T> values) {
    if (values.empty()) return std::numeric_limits<double>::quiet_NaN();
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    const double upper = static_cast<double>(*middle);
    if (values.size() % 2 == 1) return upper;
    return 0.5 * (static_cast<double>(*std::max_element(values.begin(), middle)) + upper);
}

/// Median of a copy. Values must not hold NaN.
[[nodiscard]] inline double median(std::vector<double> values) { return medianInPlace(std::span<double>(values)); }

/// Standard deviation that outliers hardly move: 1.4826 times the median distance from the median (exact for a normal
/// distribution); NaN of none. Reorders and overwrites the values, which must not hold NaN.
[[nodiscard]] inline double robustSigmaInPlace(std::span<double> values) {
    const double centre = medianInPlace(values);
    for (double& value : values) value = std::abs(value - centre);
    return 1.482602218505602 * medianInPlace(values);
}

/// Largest magnitude of those that are finite; 0 of none.
[[nodiscard]] inline double largestMagnitude(std::span<const double> values) {
    double largest = 0.0;
    for (const double value : values)
        if (std::isfinite(value)) largest = std::max(largest, std::abs(value));
    return largest;
}

} // namespace patchlight
