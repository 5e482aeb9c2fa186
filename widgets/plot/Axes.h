#pragma once

#include <QRectF>
#include <QString>

#include <cstddef>
#include <vector>

class QPainter;

namespace patchlight::widgets {

/// A closed interval of an axis.
struct Interval {
    double low = 0;
    double high = 1;
    [[nodiscard]] double span() const { return high - low; }
    [[nodiscard]] bool contains(double value) const { return value >= low && value <= high; }
    bool operator==(const Interval&) const = default;
};

/// Round numbers inside an interval, at most `most` (at least two where the interval has any width), 1, 2 or 5 times a power of ten apart.
struct Ticks {
    std::vector<double> values;
    double step = 0;
    /// A tick in as few digits as tell it from its neighbours.
    [[nodiscard]] QString label(double value) const;
};
[[nodiscard]] Ticks makeTicks(const Interval& interval, int most);

/// A straight line from data to pixels, and back.
struct AxisMap {
    Interval data;
    double from = 0; ///< pixel of data.low
    double to = 1;   ///< pixel of data.high
    [[nodiscard]] double toPixel(double value) const { return from + (value - data.low) * (to - from) / data.span(); }
    [[nodiscard]] double toData(double pixel) const { return data.low + (pixel - from) * data.span() / (to - from); }
};

/// What a view showed before and after: back and forward as in a browser.
template <class View> class ViewHistory {
public:
    /// Starts anew with one view.
    void reset(const View& view) {
        views_.assign(1, view);
        current_ = 0;
    }
    /// Adds a view behind the current one; those that were ahead are forgotten. The same view again changes nothing.
    void push(const View& view) {
        if (!views_.empty() && views_[current_] == view) return;
        if (!views_.empty()) views_.resize(current_ + 1);
        views_.push_back(view);
        constexpr std::size_t longest = 200;
        if (views_.size() > longest) views_.erase(views_.begin());
        current_ = views_.size() - 1;
    }
    [[nodiscard]] bool canGoBack() const { return current_ > 0; }
    [[nodiscard]] bool canGoForward() const { return current_ + 1 < views_.size(); }
    /// The view before; call only where canGoBack().
    const View& back() { return views_[--current_]; }
    /// The view after; call only where canGoForward().
    const View& forward() { return views_[++current_]; }

private:
    std::vector<View> views_;
    std::size_t current_ = 0;
};

/// Zooms an interval about a value by a factor (above 1: closer).
[[nodiscard]] Interval zoomed(const Interval& interval, double about, double factor);

} // namespace patchlight::widgets
