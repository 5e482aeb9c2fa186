#include "widgets/plot/SeriesPlot.h"

#include "widgets/plot/Colours.h"
#include "widgets/plot/Wheel.h"

#include <QMouseEvent>
#include <QPainter>
#include <QPainterPath>
#include <QWheelEvent>

#include <algorithm>
#include <cmath>

namespace patchlight::widgets {

namespace {

double shown(double value, bool log) { return !log ? value : value > 0 ? std::log10(value) : std::nan(""); }

} // namespace

QRgb ColourScale::at(double value) const {
    const double share = high > low ? (value - low) / (high - low) : 0.0;
    return colours[static_cast<std::size_t>(std::clamp(share, 0.0, 1.0) * 255.0)];
}

SeriesPlot::SeriesPlot(QWidget* parent) : QWidget(parent) {
    setBackgroundRole(QPalette::Base);
    setAutoFillBackground(true);
    setFocusPolicy(Qt::ClickFocus);
}

void SeriesPlot::setContent(PlotContent content, bool keepView) {
    content_ = std::move(content);
    setAccessibleName(content_.title);
    if (!keepView) view_ = wholeX();
    update();
}

void SeriesPlot::setMarker(double x) {
    if (content_.marker == x) return;
    content_.marker = x;
    update();
}

void SeriesPlot::setView(const Interval& view) {
    if (!(view.span() > 0)) return;
    view_ = view;
    update();
}

void SeriesPlot::showAll() { setView(wholeX()); }

Interval SeriesPlot::wholeX() const {
    Interval whole{std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity()};
    for (const PlotSeries& series : content_.series) {
        if (series.x.empty()) continue;
        const double pad =
            series.style == PlotSeries::Style::Bars && series.x.size() > 1 ? 0.5 * (series.x[1] - series.x[0]) : 0;
        whole.low = std::min(whole.low, series.x.front() - pad);
        whole.high = std::max(whole.high, series.x.back() + pad);
    }
    if (!(whole.high >= whole.low)) return {0, 1};
    if (whole.high == whole.low) return {whole.low - 0.5, whole.high + 0.5};
    const double margin = 0.01 * whole.span();
    return {whole.low - margin, whole.high + margin};
}

Interval SeriesPlot::yRange() const {
    const bool log = content_.logY;
    if (content_.y) return {shown(content_.y->low, log), shown(content_.y->high, log)};
    Interval range{std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity()};
    for (const PlotSeries& series : content_.series)
        for (std::size_t i = 0; i < series.x.size(); ++i) {
            if (!view_.contains(series.x[i])) continue;
            const double error =
                i < series.error.size() && std::isfinite(series.error[i]) && !log ? series.error[i] : 0;
            for (const double value : {shown(series.y[i] - error, log), shown(series.y[i] + error, log)}) {
                if (!std::isfinite(value)) continue;
                range.low = std::min(range.low, value);
                range.high = std::max(range.high, value);
            }
            if (series.style == PlotSeries::Style::Bars && !log) range.low = std::min(range.low, 0.0);
        }
    for (const double value : content_.horizontals) {
        const double y = shown(value, log);
        if (!std::isfinite(y)) continue;
        range.low = std::min(range.low, y);
        range.high = std::max(range.high, y);
    }
    if (!(range.high >= range.low)) return {0, 1};
    if (range.high == range.low) return {range.low - 0.5, range.high + 0.5};
    const double margin = 0.06 * range.span();
    const bool bars = !log && std::all_of(content_.series.begin(), content_.series.end(), [](const PlotSeries& series) {
        return series.style == PlotSeries::Style::Bars;
    });
    return {bars && range.low == 0 ? 0 : range.low - margin, range.high + margin};
}

QRectF SeriesPlot::area() const {
    const QFontMetricsF metrics(font());
    const double left = metrics.horizontalAdvance(QStringLiteral("-00000")) + metrics.height() + 12;
    const double bottom = 2 * metrics.height() + 10;
    const double top = content_.title.isEmpty() ? 8 : metrics.height() + 10;
    return QRectF(rect()).adjusted(left, top, -10, -bottom);
}

void SeriesPlot::paintEvent(QPaintEvent*) {
    QPainter painter(this);
    const PlotColours colours = plotColours(palette());
    const QFontMetricsF metrics(font());
    painter.fillRect(rect(), colours.background);
    const QRectF box = area();
    painter.setPen(colours.text);
    painter.drawText(QRectF(box.left(), 4, box.width(), metrics.height() + 2), Qt::AlignLeft | Qt::AlignVCenter,
                     metrics.elidedText(content_.title, Qt::ElideRight, box.width()));
    const bool nothing = std::all_of(content_.series.begin(), content_.series.end(),
                                     [](const PlotSeries& series) { return series.x.empty(); });
    if (nothing || box.width() < 20 || box.height() < 20) {
        painter.setPen(colours.faint);
        painter.drawText(QRectF(rect()).adjusted(12, 12, -12, -12), Qt::AlignCenter | Qt::TextWordWrap, content_.empty);
        return;
    }
    const Interval yData = yRange();
    const AxisMap x{view_, box.left(), box.right()};
    const AxisMap y{yData, box.bottom(), box.top()};

    const Ticks xTicks = makeTicks(view_, std::max(2, static_cast<int>(box.width() / 80)));
    for (const double value : xTicks.values) {
        const double at = x.toPixel(value);
        painter.setPen(colours.grid);
        painter.drawLine(QPointF(at, box.top()), QPointF(at, box.bottom()));
        painter.setPen(colours.text);
        painter.drawText(QRectF(at - 40, box.bottom() + 2, 80, metrics.height() + 2), Qt::AlignHCenter | Qt::AlignTop,
                         xTicks.label(value));
    }
    Ticks yTicks = makeTicks(yData, std::max(2, static_cast<int>(box.height() / 32)));
    for (const double value : yTicks.values) {
        if (content_.logY && yTicks.step < 1 && std::abs(value - std::round(value)) > 1e-9) continue;
        const double at = y.toPixel(value);
        painter.setPen(colours.grid);
        painter.drawLine(QPointF(box.left(), at), QPointF(box.right(), at));
        painter.setPen(colours.text);
        const QString text = content_.logY ? QString::number(std::pow(10.0, value), 'g', 3) : yTicks.label(value);
        painter.drawText(QRectF(0, at - metrics.height(), box.left() - 4, 2 * metrics.height()),
                         Qt::AlignRight | Qt::AlignVCenter, text);
    }
    painter.setPen(colours.text);
    painter.drawText(QRectF(box.left(), box.bottom() + metrics.height() + 4, box.width(), metrics.height() + 4),
                     Qt::AlignHCenter | Qt::AlignTop, content_.xLabel);
    painter.save();
    painter.translate(metrics.height() * 0.2, box.center().y());
    painter.rotate(-90);
    painter.drawText(QRectF(-box.height() / 2, 0, box.height(), metrics.height() + 2), Qt::AlignHCenter | Qt::AlignTop,
                     content_.yLabel);
    painter.restore();

    painter.save();
    painter.setClipRect(box);
    painter.setPen(QPen(colours.faint, 1, Qt::DashLine));
    for (const double value : content_.verticals)
        painter.drawLine(QPointF(x.toPixel(value), box.top()), QPointF(x.toPixel(value), box.bottom()));
    for (const double value : content_.horizontals) {
        const double at = y.toPixel(shown(value, content_.logY));
        painter.drawLine(QPointF(box.left(), at), QPointF(box.right(), at));
    }
    painter.setRenderHint(QPainter::Antialiasing);
    for (const PlotSeries& series : content_.series) {
        const QColor colour = colours.series(series.colour);
        painter.setPen(QPen(colour, 1.2));
        // First and last that can be seen, with one beyond on each side for lines.
        const auto first = std::lower_bound(series.x.begin(), series.x.end(), view_.low) - series.x.begin();
        const auto last = std::upper_bound(series.x.begin(), series.x.end(), view_.high) - series.x.begin();
        const std::size_t begin = static_cast<std::size_t>(std::max<std::ptrdiff_t>(0, first - 1));
        const std::size_t end = std::min(series.x.size(), static_cast<std::size_t>(last) + 1);
        if (series.style == PlotSeries::Style::Line) {
            QPainterPath path;
            bool pen = false;
            for (std::size_t i = begin; i < end; ++i) {
                const double value = shown(series.y[i], content_.logY);
                if (!std::isfinite(value)) {
                    pen = false;
                    continue;
                }
                const QPointF at(x.toPixel(series.x[i]), y.toPixel(value));
                if (pen)
                    path.lineTo(at);
                else
                    path.moveTo(at);
                pen = true;
            }
            painter.drawPath(path);
        } else if (series.style == PlotSeries::Style::Bars) {
            painter.setRenderHint(QPainter::Antialiasing, false);
            const double half = series.x.size() > 1 ? 0.5 * (series.x[1] - series.x[0]) : 0.5;
            for (std::size_t i = begin; i < end; ++i) {
                const double value = shown(series.y[i], content_.logY);
                if (!std::isfinite(value) || (series.y[i] == 0)) continue;
                const double left = x.toPixel(series.x[i] - half);
                const double right = x.toPixel(series.x[i] + half);
                const double base = content_.logY ? box.bottom() : y.toPixel(0);
                painter.fillRect(QRectF(left, std::min(base, y.toPixel(value)),
                                        std::max(1.0, right - left - (right - left > 4 ? 1 : 0)),
                                        std::abs(base - y.toPixel(value))),
                                 i < series.colours.size() ? QColor(series.colours[i]) : colour);
            }
            painter.setRenderHint(QPainter::Antialiasing);
        } else {
            for (std::size_t i = begin; i < end; ++i) {
                const double value = shown(series.y[i], content_.logY);
                if (!std::isfinite(value)) continue;
                const QPointF at(x.toPixel(series.x[i]), y.toPixel(value));
                if (i < series.error.size() && std::isfinite(series.error[i])) {
                    QColor faint = colour;
                    faint.setAlpha(130);
                    painter.setPen(QPen(faint, 1));
                    const double low = shown(series.y[i] - series.error[i], content_.logY);
                    const double high = shown(series.y[i] + series.error[i], content_.logY);
                    painter.drawLine(QPointF(at.x(), std::isfinite(low) ? y.toPixel(low) : box.bottom()),
                                     QPointF(at.x(), y.toPixel(high)));
                }
                painter.setPen(Qt::NoPen);
                painter.setBrush(colour);
                painter.drawEllipse(at, 2.0, 2.0);
                painter.setBrush(Qt::NoBrush);
            }
        }
    }
    if (std::isfinite(content_.marker)) {
        painter.setRenderHint(QPainter::Antialiasing, false);
        painter.setPen(QPen(colours.cursor, 1));
        painter.drawLine(QPointF(x.toPixel(content_.marker), box.top()),
                         QPointF(x.toPixel(content_.marker), box.bottom()));
    }
    painter.restore();
    painter.setPen(colours.axis);
    painter.drawRect(box);

    // Names, right-aligned on the title's line.
    double right = box.right();
    if (content_.scale) {
        const ColourScale& scale = *content_.scale;
        constexpr double length = 90;
        const double highWidth = metrics.horizontalAdvance(scale.highText);
        const double lowWidth = metrics.horizontalAdvance(scale.lowText);
        const QRectF bar(right - highWidth - length - 10, box.top() + 6, length, metrics.height() - 4);
        QColor back = colours.background;
        back.setAlpha(200);
        painter.fillRect(bar.adjusted(-lowWidth - 10, -3, highWidth + 8, 3), back);
        for (int i = 0; i < static_cast<int>(length); ++i)
            painter.fillRect(QRectF(bar.left() + i, bar.top(), 1, bar.height()),
                             QColor(scale.colours[static_cast<std::size_t>(i * 255 / static_cast<int>(length))]));
        painter.setPen(colours.text);
        painter.drawText(QRectF(bar.left() - lowWidth - 6, bar.top(), lowWidth + 2, bar.height()),
                         Qt::AlignLeft | Qt::AlignVCenter, scale.lowText);
        painter.drawText(QRectF(bar.right() + 5, bar.top(), highWidth + 4, bar.height()),
                         Qt::AlignLeft | Qt::AlignVCenter, scale.highText);
        right = bar.left() - lowWidth - 24;
    }
    for (auto at = content_.series.rbegin(); at != content_.series.rend(); ++at) {
        if (at->name.isEmpty() || content_.series.size() < 2) continue;
        const double width = metrics.horizontalAdvance(at->name);
        const QRectF name(right - width, box.top() + 3, width, metrics.height() + 2);
        QColor back = colours.background;
        back.setAlpha(200);
        painter.fillRect(name.adjusted(-20, 0, 2, 0), back);
        painter.setPen(colours.text);
        painter.drawText(name, Qt::AlignLeft | Qt::AlignVCenter, at->name);
        painter.fillRect(QRectF(name.left() - 16, name.center().y() - 2, 12, 4), colours.series(at->colour));
        right -= width + 28;
    }
}

void SeriesPlot::wheelEvent(QWheelEvent* event) {
    const QRectF box = area();
    const AxisMap x{view_, box.left(), box.right()};
    setView(zoomed(view_, x.toData(event->position().x()), std::pow(wheelFactor, event->angleDelta().y() / 120.0)));
    event->accept();
}

void SeriesPlot::mousePressEvent(QMouseEvent* event) {
    const QRectF box = area();
    if (event->button() == Qt::MiddleButton) {
        dragFrom_ = event->position();
        dragView_ = view_;
    } else if (event->button() == Qt::LeftButton && box.contains(event->position())) {
        const AxisMap x{view_, box.left(), box.right()};
        Q_EMIT picked(x.toData(event->position().x()));
    }
}

void SeriesPlot::mouseMoveEvent(QMouseEvent* event) {
    if ((event->buttons() & Qt::MiddleButton) == 0) return;
    const double shift = (dragFrom_.x() - event->position().x()) * dragView_.span() / area().width();
    setView({dragView_.low + shift, dragView_.high + shift});
}

void SeriesPlot::mouseDoubleClickEvent(QMouseEvent*) { showAll(); }

} // namespace patchlight::widgets
