#pragma once

#include "widgets/plot/Axes.h"

#include <QColor>
#include <QRectF>

#include <cstddef>
#include <cstdint>
#include <span>

class QPainter;

namespace patchlight::widgets {

/// A curve of bins as steps. `edges` has one element more than `values`; NaN values leave a gap.
struct StepCurve {
    std::span<const double> edges;  ///< [n + 1], increasing
    std::span<const double> values; ///< [n]
    double scale = 1;               ///< values are multiplied by this
};

/// Bins that an interval of x touches: [first, last).
struct BinRange {
    std::size_t first = 0;
    std::size_t last = 0;
};
[[nodiscard]] BinRange visibleBins(std::span<const double> edges, const Interval& x);

/// Draws the bins for which `chosen` is `which` (all where it is empty) as steps. Where several bins share a column of pixels, what
/// the column shows is all between their smallest and largest value: no peak is ever lost, and the time depends on the width of
/// the window rather than on the number of bins.
void drawSteps(QPainter& painter, const StepCurve& curve, const AxisMap& x, const AxisMap& y, const QColor& colour,
               std::span<const std::uint8_t> chosen = {}, std::uint8_t which = 0);

/// Fills the band values +- errors, decimated in the same way. @param errors  [n]; NaN leaves a gap
void drawBand(QPainter& painter, const StepCurve& curve, std::span<const double> errors, const AxisMap& x,
              const AxisMap& y, const QColor& colour);

} // namespace patchlight::widgets
