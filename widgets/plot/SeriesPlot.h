#pragma once

#include "widgets/plot/Axes.h"

#include <QRgb>
#include <QString>
#include <QWidget>

#include <array>
#include <limits>
#include <optional>
#include <vector>

namespace patchlight::widgets {

/// One series of a plot. NaN leaves a gap.
struct PlotSeries {
    enum class Style { Line, Points, Bars };
    QString name;
    std::vector<double> x;     ///< increasing
    std::vector<double> y;     ///< as many
    std::vector<double> error; ///< empty: none
    Style style = Style::Line;
    int colour = 0;              ///< PlotColours::series
    std::vector<QRgb> colours{}; ///< one a bar, in place of `colour`; PlotContent::scale says what they mean
};

/// What the colours of bars stand for.
struct ColourScale {
    double low = 0, high = 1;
    QString lowText, highText;
    std::array<QRgb, 256> colours{};
    [[nodiscard]] QRgb at(double value) const;
};

/// What a plot shows.
struct PlotContent {
    QString title;
    QString xLabel;
    QString yLabel;
    std::vector<PlotSeries> series;
    std::optional<Interval> y;        ///< default: what the series need; with logY powers of ten are added
    bool logY = false;                ///< values that are not above 0 are left out
    std::vector<double> verticals;    ///< dashed lines at these x
    std::vector<double> horizontals;  ///< and at these y
    std::optional<ColourScale> scale; ///< drawn in the upper right corner
    double marker = std::numeric_limits<double>::quiet_NaN(); ///< x of the cursor
    QString empty;                                            ///< said where there is nothing to draw
};

/// A plot of a few series: lines, points with errors, bars. The wheel zooms along x, a middle drag moves, a double click shows all, a click
/// tells x.
class SeriesPlot : public QWidget {
    Q_OBJECT

public:
    explicit SeriesPlot(QWidget* parent = nullptr);

    /// Keeps the view's x where `keepView`.
    void setContent(PlotContent content, bool keepView = false);
    [[nodiscard]] const PlotContent& content() const { return content_; }
    void setMarker(double x);
    [[nodiscard]] Interval view() const { return view_; }
    void setView(const Interval& view);
    void showAll();
    [[nodiscard]] QSize sizeHint() const override { return {420, 240}; }
    [[nodiscard]] QSize minimumSizeHint() const override { return {160, 100}; }
    /// The y axis for the present view.
    [[nodiscard]] Interval yRange() const;

Q_SIGNALS:
    void picked(double x);

protected:
    void paintEvent(QPaintEvent* event) override;
    void wheelEvent(QWheelEvent* event) override;
    void mousePressEvent(QMouseEvent* event) override;
    void mouseMoveEvent(QMouseEvent* event) override;
    void mouseDoubleClickEvent(QMouseEvent* event) override;

private:
    [[nodiscard]] QRectF area() const;
    [[nodiscard]] Interval wholeX() const;

    PlotContent content_;
    Interval view_;
    QPointF dragFrom_;
    Interval dragView_;
};

} // namespace patchlight::widgets
