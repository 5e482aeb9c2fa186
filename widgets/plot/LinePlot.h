#pragma once

#include "widgets/plot/Axes.h"

#include <QString>
#include <QWidget>

#include <limits>
#include <optional>
#include <vector>

class QPainter;

namespace patchlight::widgets {

/// One curve of a LinePlot; NaN leaves a gap.
struct LineSeries {
    QString name;
    std::vector<double> x;
    std::vector<double> y;
    std::vector<double> error; ///< bars of plus and minus this; empty: none
    int colour = 0;            ///< PlotColours::series
    enum class Style { Line, Steps, Points } style = Style::Line;
    bool faint = false;
};

/// A few curves over one axis: wheel zooms along x at the cursor, drag pans, double click shows all; y follows what is shown.
class LinePlot : public QWidget {
    Q_OBJECT

public:
    explicit LinePlot(QWidget* parent = nullptr);

    /// The range of x stays where the old one is inside the new data's.
    void setSeries(std::vector<LineSeries> series);
    [[nodiscard]] const std::vector<LineSeries>& series() const { return series_; }
    void setLabels(const QString& title, const QString& x, const QString& y);
    /// A sentence where there is nothing to draw.
    void setProblem(const QString& problem);
    [[nodiscard]] const QString& problem() const { return problem_; }
    /// Values of y on a log scale; those not above 0 are left out, and decades below `decades` of the largest are cut.
    void setLogY(bool on, double decades = 6);
    /// A horizontal line, such as 1 for sums; NaN: none.
    void setReference(double y);
    /// A vertical line; NaN: none.
    void setCursorX(double x);
    void showAll();
    [[nodiscard]] const Interval& shown() const { return shown_; }
    [[nodiscard]] QString readout(double x) const;

    [[nodiscard]] QSize sizeHint() const override { return {320, 220}; }
    [[nodiscard]] QSize minimumSizeHint() const override { return {140, 90}; }

Q_SIGNALS:
    void hovered(double x);
    void left();
    void clicked(double x);

protected:
    void paintEvent(QPaintEvent* event) override;
    void wheelEvent(QWheelEvent* event) override;
    void mousePressEvent(QMouseEvent* event) override;
    void mouseMoveEvent(QMouseEvent* event) override;
    void mouseReleaseEvent(QMouseEvent* event) override;
    void mouseDoubleClickEvent(QMouseEvent* event) override;
    void leaveEvent(QEvent* event) override;
    void keyPressEvent(QKeyEvent* event) override;

private:
    [[nodiscard]] QRectF plotArea() const;
    [[nodiscard]] Interval dataX() const;
    [[nodiscard]] Interval dataY() const;
    void setShown(const Interval& x);

    std::vector<LineSeries> series_;
    QString title_, xLabel_, yLabel_, problem_;
    bool log_ = false;
    double decades_ = 6;
    double reference_ = std::numeric_limits<double>::quiet_NaN();
    double cursor_ = std::numeric_limits<double>::quiet_NaN();
    Interval shown_{0, 1};
    bool all_ = true;
    std::optional<QPointF> dragFrom_;
    Interval dragShown_;
    bool dragged_ = false;
};

} // namespace patchlight::widgets
