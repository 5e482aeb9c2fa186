#include "widgets/plot/Steps.h"

#include <QPainter>
#include <QVarLengthArray>

#include <algorithm>
#include <cmath>
#include <limits>

namespace patchlight::widgets {

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

/// Smallest and largest pixel of each column of a plot.
class Columns {
public:
    explicit Columns(const AxisMap& x) : first_(static_cast<int>(std::floor(std::min(x.from, x.to)))) {
        const int last = static_cast<int>(std::ceil(std::max(x.from, x.to)));
        const auto count = static_cast<qsizetype>(last - first_ + 1);
        low_.resize(count);
        high_.resize(count);
        std::fill(low_.begin(), low_.end(), infinity);
        std::fill(high_.begin(), high_.end(), -infinity);
    }

    void add(double pixel, double low, double high) {
        const auto i = static_cast<qsizetype>(std::floor(pixel)) - first_;
        if (i < 0 || i >= low_.size()) return;
        low_[i] = std::min(low_[i], low);
        high_[i] = std::max(high_[i], high);
    }
    void addRange(double from, double to, double low, double high) {
        const double begin = std::max(std::floor(from), static_cast<double>(first_));
        const double end = std::min(std::floor(to), static_cast<double>(first_) + static_cast<double>(low_.size()) - 1);
        for (double pixel = begin; pixel <= end; ++pixel) add(pixel, low, high);
    }

    /// Columns as rectangles, at least `thickness` high, cut to [top, bottom]; neighbours of the same height are joined.
    void fill(QPainter& painter, const QColor& colour, double thickness, double top, double bottom) const {
        QVarLengthArray<QRectF, 2048> rectangles;
        for (qsizetype i = 0; i < low_.size(); ++i) {
            if (!(low_[i] <= high_[i])) continue;
            double a = low_[i];
            double b = high_[i];
            if (b - a < thickness) {
                a = std::floor(0.5 * (a + b));
                b = a + thickness;
            }
            if (b < top || a > bottom) continue;
            a = std::max(a, top);
            b = std::min(b, bottom);
            const double left = static_cast<double>(first_) + static_cast<double>(i);
            if (!rectangles.isEmpty()) {
                QRectF& previous = rectangles.last();
                if (previous.right() == left && previous.top() == a && previous.bottom() == b) {
                    previous.setRight(left + 1);
                    continue;
                }
            }
            rectangles.push_back(QRectF(left, a, 1, b - a));
        }
        painter.save();
        painter.setRenderHint(QPainter::Antialiasing, false);
        painter.setPen(Qt::NoPen);
        painter.setBrush(colour);
        painter.drawRects(rectangles.constData(), static_cast<int>(rectangles.size()));
        painter.restore();
    }

private:
    int first_;
    QVarLengthArray<double, 2048> low_;
    QVarLengthArray<double, 2048> high_;
};

} // namespace

BinRange visibleBins(std::span<const double> edges, const Interval& x) {
    if (edges.size() < 2) return {};
    const auto first = std::upper_bound(edges.begin(), edges.end(), x.low);
    const auto last = std::lower_bound(edges.begin(), edges.end(), x.high);
    const auto bins = static_cast<std::ptrdiff_t>(edges.size()) - 1;
    const std::ptrdiff_t from = std::clamp<std::ptrdiff_t>(first - edges.begin() - 1, 0, bins);
    const std::ptrdiff_t to = std::clamp<std::ptrdiff_t>(last - edges.begin(), from, bins);
    return {static_cast<std::size_t>(from), static_cast<std::size_t>(to)};
}

void drawSteps(QPainter& painter, const StepCurve& curve, const AxisMap& x, const AxisMap& y, const QColor& colour,
               std::span<const std::uint8_t> chosen, std::uint8_t which) {
    const BinRange range = visibleBins(curve.edges, x.data);
    Columns columns(x);
    double previous = std::numeric_limits<double>::quiet_NaN();
    bool previousChosen = false;
    for (std::size_t i = range.first; i < range.last; ++i) {
        const double pixel = y.toPixel(curve.values[i] * curve.scale);
        const bool own = chosen.empty() || (chosen[i] != 0) == (which != 0);
        if (std::isfinite(pixel)) {
            const double left = x.toPixel(curve.edges[i]);
            if (own) columns.addRange(left, x.toPixel(curve.edges[i + 1]), pixel, pixel);
            // The riser belongs to the chosen bins of a faint pass (which = 1), and to a normal pass only between two normal bins.
            if (std::isfinite(previous) && ((own && previousChosen) || (which != 0 && (own || previousChosen))))
                columns.add(left, std::min(pixel, previous), std::max(pixel, previous));
        }
        previous = pixel;
        previousChosen = own;
    }
    columns.fill(painter, colour, 1.0, std::min(y.from, y.to) - 1, std::max(y.from, y.to) + 1);
}

void drawBand(QPainter& painter, const StepCurve& curve, std::span<const double> errors, const AxisMap& x,
              const AxisMap& y, const QColor& colour) {
    const BinRange range = visibleBins(curve.edges, x.data);
    Columns columns(x);
    for (std::size_t i = range.first; i < range.last; ++i) {
        const double a = y.toPixel((curve.values[i] - errors[i]) * curve.scale);
        const double b = y.toPixel((curve.values[i] + errors[i]) * curve.scale);
        if (!std::isfinite(a) || !std::isfinite(b)) continue;
        columns.addRange(x.toPixel(curve.edges[i]), x.toPixel(curve.edges[i + 1]), std::min(a, b), std::max(a, b));
    }
    columns.fill(painter, colour, 0.0, std::min(y.from, y.to) - 1, std::max(y.from, y.to) + 1);
}

} // namespace patchlight::widgets
