#include "widgets/plot/LinePlot.h"

#include "widgets/plot/Colours.h"

#include <QFontMetricsF>
#include <QKeyEvent>
#include <QMouseEvent>
#include <QPainter>
#include <QWheelEvent>

#include <algorithm>
#include <cmath>
#include <utility>

namespace patchlight::widgets {

LinePlot::LinePlot(QWidget* parent) : QWidget(parent) {
    setMouseTracking(true);
    setFocusPolicy(Qt::StrongFocus);
    setSizePolicy(QSizePolicy::Expanding, QSizePolicy::Expanding);
    setAccessibleDescription(tr("Wheel zooms, drag pans, double click or Home shows all"));
}

void LinePlot::setSeries(std::vector<LineSeries> series) {
    series_ = std::move(series);
    const Interval all = dataX();
    if (all_ || !(shown_.low < all.high && shown_.high > all.low))
        showAll();
    else
        setShown(shown_);
}

void LinePlot::setLabels(const QString& title, const QString& x, const QString& y) {
    title_ = title;
    xLabel_ = x;
    yLabel_ = y;
    setAccessibleName(title);
    update();
}

void LinePlot::setProblem(const QString& problem) {
    problem_ = problem;
    update();
}

void LinePlot::setLogY(bool on, double decades) {
    log_ = on;
    decades_ = decades;
    update();
}

void LinePlot::setReference(double y) {
    reference_ = y;
    update();
}

void LinePlot::setCursorX(double x) {
    if (x == cursor_ || (std::isnan(x) && std::isnan(cursor_))) return;
    cursor_ = x;
    update();
}

Interval LinePlot::dataX() const {
    Interval out{std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity()};
    for (const LineSeries& series : series_)
        for (const double x : series.x)
            if (std::isfinite(x)) {
                out.low = std::min(out.low, x);
                out.high = std::max(out.high, x);
            }
    if (!(out.high >= out.low)) return {0, 1};
    if (out.high == out.low) return {out.low - 0.5, out.high + 0.5};
    // Points at the ends are seen whole.
    if (std::any_of(series_.begin(), series_.end(),
                    [](const LineSeries& s) { return s.style == LineSeries::Style::Points; }))
        return {out.low - 0.03 * out.span(), out.high + 0.03 * out.span()};
    return out;
}

Interval LinePlot::dataY() const {
    double low = std::numeric_limits<double>::infinity();
    double high = -low;
    for (const LineSeries& series : series_)
        for (std::size_t i = 0; i < series.x.size() && i < series.y.size(); ++i) {
            if (!shown_.contains(series.x[i]) || !std::isfinite(series.y[i])) continue;
            if (log_ && !(series.y[i] > 0)) continue;
            const double error = series.error.empty() || log_ || !std::isfinite(series.error[i]) ? 0 : series.error[i];
            low = std::min(low, series.y[i] - error);
            high = std::max(high, series.y[i] + error);
        }
    if (!(high >= low)) return log_ ? Interval{0, 1} : Interval{-1, 1};
    if (log_) {
        const double top = std::log10(high);
        return {std::max(std::log10(low), top - decades_) - 0.1, top + 0.15};
    }
    if (std::isfinite(reference_)) {
        low = std::min(low, reference_);
        high = std::max(high, reference_);
    }
    // Rounding is not worth a picture.
    if (const double least = 1e-6 * std::max(std::abs(low), std::abs(high)); high - low < least) {
        low -= 1000 * least;
        high += 1000 * least;
    }
    double room = 0.06 * (high - low);
    if (!(room > 0)) room = std::max(1e-12, 0.05 * std::abs(high));
    return {low - room, high + room};
}

void LinePlot::showAll() {
    all_ = true;
    shown_ = dataX();
    update();
}

void LinePlot::setShown(const Interval& x) {
    const Interval all = dataX();
    const double span = std::clamp(x.span(), 1e-9 * all.span(), all.span());
    const double low = std::clamp(x.low, all.low, all.high - span);
    shown_ = {low, low + span};
    all_ = span >= all.span();
    update();
}

QRectF LinePlot::plotArea() const {
    const QFontMetricsF metrics(font());
    const double line = metrics.height();
    const double left = metrics.horizontalAdvance(QStringLiteral("-0.0000")) + line + 6;
    return {left, 1.35 * line, std::max(10.0, width() - left - 10.0),
            std::max(10.0, height() - 1.35 * line - 2.3 * line)};
}

QString LinePlot::readout(double x) const {
    QStringList parts;
    for (const LineSeries& series : series_) {
        if (series.x.empty()) continue;
        std::size_t best = 0;
        for (std::size_t i = 1; i < series.x.size(); ++i)
            if (std::abs(series.x[i] - x) < std::abs(series.x[best] - x)) best = i;
        if (best < series.y.size() && std::isfinite(series.y[best]))
            parts << tr("%1 %2").arg(series.name).arg(series.y[best], 0, 'g', 5);
    }
    return parts.join(QStringLiteral("   "));
}

void LinePlot::paintEvent(QPaintEvent* /*event*/) {
    QPainter painter(this);
    const PlotColours colours = plotColours(palette());
    painter.fillRect(rect(), colours.background);
    const QFontMetricsF metrics(font());
    const double line = metrics.height();
    const QRectF area = plotArea();
    const bool any = std::any_of(series_.begin(), series_.end(), [](const LineSeries& s) { return !s.x.empty(); });
    painter.setPen(colours.text);
    if (!any || !problem_.isEmpty()) {
        painter.drawText(rect().adjusted(10, 4, -10, -4), Qt::AlignCenter | Qt::TextWordWrap,
                         problem_.isEmpty() ? tr("Nothing to show") : problem_);
        return;
    }
    // Title, then names in their colours.
    double at = 6;
    painter.drawText(QRectF(at, 0, width() - at, 1.35 * line), Qt::AlignLeft | Qt::AlignVCenter,
                     metrics.elidedText(title_, Qt::ElideRight, width() - at - 4));
    at += metrics.horizontalAdvance(title_) + 14;
    for (const LineSeries& series : series_) {
        if (series.name.isEmpty() || series.x.empty()) continue;
        const double need = metrics.horizontalAdvance(series.name) + 22;
        if (at + need > width()) break;
        painter.setPen(QPen(series.faint ? colours.faint : colours.series(series.colour), 2));
        painter.drawLine(QPointF(at, 0.68 * line), QPointF(at + 12, 0.68 * line));
        painter.setPen(colours.text);
        painter.drawText(QRectF(at + 15, 0, need, 1.35 * line), Qt::AlignLeft | Qt::AlignVCenter, series.name);
        at += need + 4;
    }

    const AxisMap x{shown_, area.left(), area.right()};
    const AxisMap y{dataY(), area.bottom(), area.top()};
    const auto rowOf = [&](double value) { return y.toPixel(log_ ? std::log10(value) : value); };
    const Ticks xTicks = makeTicks(shown_, std::max(5, static_cast<int>(area.width() / 60)));
    for (const double value : xTicks.values) {
        const double pixel = std::floor(x.toPixel(value)) + 0.5;
        painter.setPen(colours.grid);
        painter.drawLine(QPointF(pixel, area.top()), QPointF(pixel, area.bottom()));
        painter.setPen(colours.text);
        const QString label = xTicks.label(value);
        QRectF box(pixel - 50, area.bottom() + 2, 100, line);
        const double half = 0.5 * metrics.horizontalAdvance(label) + 1;
        box.moveCenter({std::clamp(pixel, half, std::max(half, width() - half)), box.center().y()});
        painter.drawText(box, Qt::AlignHCenter, label);
    }
    painter.drawText(QRectF(area.left(), area.bottom() + 2 + line, area.width(), line), Qt::AlignCenter,
                     metrics.elidedText(xLabel_, Qt::ElideRight, area.width()));
    const auto yTick = [&](double value, const QString& text) {
        const double pixel = std::floor(y.toPixel(value)) + 0.5;
        painter.setPen(colours.grid);
        painter.drawLine(QPointF(area.left(), pixel), QPointF(area.right(), pixel));
        painter.setPen(colours.text);
        painter.drawText(QRectF(area.left() - 105, pixel - 0.5 * line, 100, line), Qt::AlignRight | Qt::AlignVCenter,
                         text);
    };
    if (log_) {
        const int every = std::max(1, static_cast<int>(std::ceil(y.data.span() * 1.6 * line / area.height())));
        for (int decade = static_cast<int>(std::ceil(y.data.low)); decade <= y.data.high; ++decade)
            if (decade % every == 0) yTick(decade, QString::number(std::pow(10.0, decade), 'g', 2));
    } else {
        const Ticks ticks = makeTicks(y.data, std::max(2, static_cast<int>(area.height() / (1.9 * line))));
        for (const double value : ticks.values) yTick(value, ticks.label(value));
    }
    painter.save();
    painter.translate(0, area.center().y());
    painter.rotate(-90);
    painter.drawText(QRectF(-0.5 * height(), 1, height(), line), Qt::AlignCenter,
                     metrics.elidedText(yLabel_, Qt::ElideRight, height()));
    painter.restore();

    painter.save();
    painter.setClipRect(area);
    if (std::isfinite(reference_) && !log_) {
        painter.setPen(QPen(colours.faint, 1, Qt::DashLine));
        painter.drawLine(QPointF(area.left(), rowOf(reference_)), QPointF(area.right(), rowOf(reference_)));
    }
    for (const LineSeries& series : series_) {
        painter.setRenderHint(QPainter::Antialiasing, series.style != LineSeries::Style::Steps);
        QColor colour = series.faint ? colours.faint : colours.series(series.colour);
        painter.setPen(QPen(colour, series.style == LineSeries::Style::Points ? 1.0 : 1.3));
        QPolygonF run;
        const auto flush = [&] {
            if (run.size() == 1)
                painter.drawPoint(run.front());
            else if (run.size() > 1)
                painter.drawPolyline(run);
            run.clear();
        };
        const std::size_t count = std::min(series.x.size(), series.y.size());
        for (std::size_t i = 0; i < count; ++i) {
            const double value = series.y[i];
            if (!std::isfinite(series.x[i]) || !std::isfinite(value) || (log_ && !(value > 0))) {
                flush();
                continue;
            }
            const double px = x.toPixel(series.x[i]);
            // Far outside, QPainter's own clipping loses its numbers.
            const double py = std::clamp(rowOf(value), area.top() - 1e4, area.bottom() + 1e4);
            if (series.style == LineSeries::Style::Points) {
                if (px < area.left() - 4 || px > area.right() + 4) continue;
                if (!series.error.empty() && std::isfinite(series.error[i]))
                    painter.drawLine(QPointF(px, rowOf(value - series.error[i])),
                                     QPointF(px, rowOf(value + series.error[i])));
                painter.setBrush(colour);
                painter.drawEllipse(QPointF(px, py), 2.2, 2.2);
                painter.setBrush(Qt::NoBrush);
            } else if (series.style == LineSeries::Style::Steps) {
                const double before = i > 0 ? x.toPixel(0.5 * (series.x[i - 1] + series.x[i]))
                                            : px - 0.5 * (count > 1 ? x.toPixel(series.x[1]) - px : 1.0);
                const double after = i + 1 < count ? x.toPixel(0.5 * (series.x[i + 1] + series.x[i]))
                                                   : px + 0.5 * (count > 1 ? px - x.toPixel(series.x[i - 1]) : 1.0);
                run << QPointF(before, py) << QPointF(after, py);
            } else {
                run << QPointF(px, py);
            }
        }
        flush();
    }
    painter.setRenderHint(QPainter::Antialiasing, false);
    if (std::isfinite(cursor_) && shown_.contains(cursor_)) {
        painter.setPen(QPen(colours.cursor, 1, Qt::DotLine));
        const double pixel = std::floor(x.toPixel(cursor_)) + 0.5;
        painter.drawLine(QPointF(pixel, area.top()), QPointF(pixel, area.bottom()));
    }
    painter.restore();
    painter.setPen(hasFocus() ? colours.accent : colours.axis);
    painter.setBrush(Qt::NoBrush);
    painter.drawRect(area);
}

// Hands

void LinePlot::wheelEvent(QWheelEvent* event) {
    const QRectF area = plotArea();
    if (event->angleDelta().y() == 0) return;
    const AxisMap x{shown_, area.left(), area.right()};
    const double at = x.toData(std::clamp(event->position().x(), area.left(), area.right()));
    setShown(zoomed(shown_, at, std::pow(1.2, event->angleDelta().y() / 120.0)));
    event->accept();
}

void LinePlot::mousePressEvent(QMouseEvent* event) {
    setFocus(Qt::MouseFocusReason);
    dragFrom_ = event->position();
    dragShown_ = shown_;
    dragged_ = false;
}

void LinePlot::mouseMoveEvent(QMouseEvent* event) {
    const QRectF area = plotArea();
    if (dragFrom_) {
        const double moved = event->position().x() - dragFrom_->x();
        if (!dragged_ && std::abs(moved) < 4) return;
        dragged_ = true;
        const double by = -moved / area.width() * dragShown_.span();
        setShown({dragShown_.low + by, dragShown_.high + by});
        return;
    }
    if (area.contains(event->position()))
        Q_EMIT hovered(AxisMap{shown_, area.left(), area.right()}.toData(event->position().x()));
    else
        Q_EMIT left();
}

void LinePlot::mouseReleaseEvent(QMouseEvent* event) {
    if (!dragFrom_) return;
    dragFrom_.reset();
    const QRectF area = plotArea();
    if (!dragged_ && event->button() == Qt::LeftButton && area.contains(event->position()))
        Q_EMIT clicked(AxisMap{shown_, area.left(), area.right()}.toData(event->position().x()));
}

void LinePlot::mouseDoubleClickEvent(QMouseEvent* /*event*/) { showAll(); }

void LinePlot::leaveEvent(QEvent* event) {
    QWidget::leaveEvent(event);
    Q_EMIT left();
}

void LinePlot::keyPressEvent(QKeyEvent* event) {
    if (event->key() == Qt::Key_Home) {
        showAll();
        return;
    }
    QWidget::keyPressEvent(event);
}

} // namespace patchlight::widgets
