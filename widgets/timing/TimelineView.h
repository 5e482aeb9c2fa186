#pragma once

#include "core/analysis/Trace.h"
#include "widgets/plot/Axes.h"

#include <QAbstractScrollArea>
#include <QImage>

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

namespace patchlight::widgets {

/// A trace as lanes of nested boxes. W and S zoom, A and D move, F goes to the selected range, the wheel zooms (with Shift it scrolls), a middle drag
/// moves, a left drag selects a time window, a click selects a range, a double click shows all.
class TimelineView : public QAbstractScrollArea {
    Q_OBJECT

public:
    explicit TimelineView(QWidget* parent = nullptr);

    void setTrace(std::shared_ptr<const Trace> trace);
    /// A run to compare with: its lanes are drawn under those of the trace, both beginning at 0; null: none.
    void setOther(std::shared_ptr<const Trace> other);
    [[nodiscard]] const std::shared_ptr<const Trace>& trace() const { return trace_; }
    /// Time shown, ns.
    [[nodiscard]] Interval view() const { return view_; }
    void setView(const Interval& view);
    void showAll();
    /// Zooms to a range so that it fills the middle.
    void focusRange(int range);
    void select(int range);
    [[nodiscard]] int selected() const { return selected_; }
    /// The selected time window, ns; empty where there is none.
    [[nodiscard]] Interval window() const { return window_; }
    void setWindow(const Interval& window);
    /// The range at a place of the viewport; -1: none.
    [[nodiscard]] int rangeAt(const QPointF& place) const;
    [[nodiscard]] QString describe(int range) const;
    /// As the keys do: W, S, A, D, F, Home, X. @returns whether it is one of them
    bool run(int key);
    /// What is said of a place: a range of either run; empty: none.
    [[nodiscard]] QString textAt(const QPointF& place) const;
    /// Where a range is drawn in the viewport.
    [[nodiscard]] QRectF rectOf(int range) const;
    /// Boxes drawn last, and how many ranges they stand for.
    [[nodiscard]] std::size_t boxesDrawn() const { return boxesDrawn_; }
    [[nodiscard]] QSize sizeHint() const override { return {800, 300}; }
    [[nodiscard]] QSize minimumSizeHint() const override { return {200, 120}; }
    [[nodiscard]] QRgb colourOf(int name) const;

Q_SIGNALS:
    void rangeSelected(int range);
    void windowChanged();

protected:
    void paintEvent(QPaintEvent* event) override;
    void resizeEvent(QResizeEvent* event) override;
    void wheelEvent(QWheelEvent* event) override;
    void mousePressEvent(QMouseEvent* event) override;
    void mouseMoveEvent(QMouseEvent* event) override;
    void mouseReleaseEvent(QMouseEvent* event) override;
    void mouseDoubleClickEvent(QMouseEvent* event) override;
    void keyPressEvent(QKeyEvent* event) override;
    void scrollContentsBy(int dx, int dy) override;
    bool viewportEvent(QEvent* event) override;

private:
    [[nodiscard]] QRectF area() const;
    [[nodiscard]] AxisMap times() const;
    void makeLanes();
    void layoutLanes();
    [[nodiscard]] std::size_t ownLanes() const;
    [[nodiscard]] const Trace& traceOfLane(std::size_t lane) const;
    /// What is added to times of a lane's ranges to have those of the view, ns.
    [[nodiscard]] std::int64_t shiftOfLane(std::size_t lane) const;
    /// Lane and range at a place; the range is -1 where there is none.
    [[nodiscard]] std::pair<std::size_t, int> hit(const QPointF& place) const;
    [[nodiscard]] Interval limited(Interval view) const;

    std::shared_ptr<const Trace> trace_;
    std::shared_ptr<const Trace> other_;
    std::vector<int> otherNames_;  ///< of the other's names, those of the trace, so that colours are the same
    std::vector<LaneBoxes> lanes_; ///< of the trace, then of the other
    std::vector<int> tops_;        ///< of the lanes, pixels from the first one's; one more for the end
    Interval view_;
    Interval window_{0, 0};
    int selected_ = -1;
    QImage picture_;
    std::size_t boxesDrawn_ = 0;
    QPointF pressedAt_;
    Interval pressedView_;
    int pressedScroll_ = 0;
    bool selecting_ = false;
};

/// A duration in its best unit: "12.3 ms".
[[nodiscard]] QString durationText(double seconds);

} // namespace patchlight::widgets
