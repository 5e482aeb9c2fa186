#include "widgets/plot/MatrixView.h"

#include <QFontMetricsF>
#include <QKeyEvent>
#include <QMouseEvent>
#include <QPainter>
#include <QWheelEvent>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <utility>

namespace patchlight::widgets {

namespace {

QString entryText(double value) {
    const double size = std::abs(value);
    if (value == 0) return QStringLiteral("0");
    if (size >= 0.01 && size < 1e5) return QString::number(value, 'g', 3);
    return QString::number(value, 'g', 2);
}

} // namespace

MatrixView::MatrixView(QWidget* parent) : QWidget(parent) {
    setMouseTracking(true);
    setFocusPolicy(Qt::StrongFocus);
    setSizePolicy(QSizePolicy::Expanding, QSizePolicy::Expanding);
    setAccessibleDescription(tr("Wheel zooms, drag pans, double click or Home shows all, a click selects"));
}

void MatrixView::setContent(MatrixContent content) {
    const bool sameSize = content.values.rows() == content_.values.rows() &&
                          content.values.columns() == content_.values.columns() &&
                          content.rowsUpwards == content_.rowsUpwards && content.square == content_.square;
    content_ = std::move(content);
    setAccessibleName(content_.title);
    makeImage();
    if (!sameSize || all_)
        showAll();
    else
        update();
}

void MatrixView::setCell(std::optional<QPoint> cell) {
    if (cell == cell_) return;
    cell_ = cell;
    update();
}

/// Position of a value between the ends of the map, 0 .. 1.
double MatrixView::share(double value) const {
    if (!content_.symlog) return (value - content_.low) / (content_.high - content_.low);
    const double most = std::max(std::abs(content_.low), std::abs(content_.high));
    const double t = std::log1p(std::abs(value) / content_.linear) / std::log1p(most / content_.linear);
    if (content_.low >= 0) return value > 0 ? t : 0.0;
    return 0.5 + 0.5 * std::copysign(std::min(1.0, t), value);
}

/// Where many cells fall on one pixel of the screen, the one furthest from the middle of the colours is seen: a thin diagonal, one bad bin.
void MatrixView::reduce(const QSize& size) {
    if (reduced_.size() == size && reducedPart_ == shown_) return;
    reducedPart_ = shown_;
    const auto rows = static_cast<int>(content_.values.rows());
    const auto columns = static_cast<int>(content_.values.columns());
    reduced_ = QImage(size, QImage::Format_RGB32);
    const auto cut = [](double low, double span, int pixels, int cells) {
        std::vector<std::pair<int, int>> out;
        for (int i = 0; i < pixels; ++i) {
            const int first = std::clamp(static_cast<int>(std::floor(low + 0.5 + span * i / pixels)), 0, cells - 1);
            const int last = std::clamp(static_cast<int>(std::floor(low + 0.5 + span * (i + 1) / pixels)), first + 1,
                                        std::max(cells, first + 1));
            out.emplace_back(first, last);
        }
        return out;
    };
    const auto across = cut(shown_.left(), shown_.width(), size.width(), columns);
    const auto down = cut(shown_.top(), shown_.height(), size.height(), rows);
    const ColourMap map(content_.map);
    const auto middle = static_cast<float>(
        content_.map == ColourMap::Kind::Diverging ? 0.5 * (content_.low + content_.high) : content_.low);
    for (int y = 0; y < size.height(); ++y) {
        auto* const line = reinterpret_cast<QRgb*>(reduced_.scanLine(content_.rowsUpwards ? size.height() - 1 - y : y));
        for (int x = 0; x < size.width(); ++x) {
            float best = std::numeric_limits<float>::quiet_NaN();
            for (int r = down[static_cast<std::size_t>(y)].first; r < down[static_cast<std::size_t>(y)].second; ++r) {
                const auto values = content_.values.row(static_cast<std::size_t>(r));
                for (int c = across[static_cast<std::size_t>(x)].first; c < across[static_cast<std::size_t>(x)].second;
                     ++c) {
                    const float value = values[static_cast<std::size_t>(c)];
                    if (!(std::abs(value - middle) <= std::abs(best - middle)) && std::isfinite(value)) best = value;
                }
            }
            line[x] = std::isfinite(best)
                          ? map.at(std::clamp(static_cast<int>(share(static_cast<double>(best)) * 256.0), 0, 255))
                          : map.notFinite();
        }
    }
}

void MatrixView::makeImage() {
    reduced_ = {};
    const auto rows = static_cast<int>(content_.values.rows());
    const auto columns = static_cast<int>(content_.values.columns());
    if (rows == 0 || columns == 0) {
        image_ = {};
        return;
    }
    const ColourMap map(content_.map);
    if (image_.width() != columns || image_.height() != rows) image_ = QImage(columns, rows, QImage::Format_RGB32);
    for (int r = 0; r < rows; ++r) {
        const auto values = content_.values.row(static_cast<std::size_t>(r));
        auto* const line = reinterpret_cast<QRgb*>(image_.scanLine(content_.rowsUpwards ? rows - 1 - r : r));
        for (int c = 0; c < columns; ++c) {
            const float value = values[static_cast<std::size_t>(c)];
            if (!std::isfinite(value)) {
                line[c] = map.notFinite();
                continue;
            }
            const double t = share(static_cast<double>(value));
            line[c] = map.at(std::clamp(static_cast<int>(t * 256.0), 0, 255));
        }
    }
}

QColor MatrixView::colourAt(int column, int row) const {
    const int y = content_.rowsUpwards ? image_.height() - 1 - row : row;
    return image_.valid(column, y) ? QColor(image_.pixel(column, y)) : QColor();
}

// Geometry

std::vector<double> MatrixView::barValues() const {
    std::vector<double> values{content_.low, content_.high};
    if (content_.low < 0 && content_.high > 0) values.push_back(0);
    if (content_.symlog) {
        const double most = std::max(std::abs(content_.low), std::abs(content_.high));
        for (double decade = most * 0.01; decade >= 0.99 * content_.linear; decade *= 0.01)
            for (const double value : {decade, -decade})
                if (value >= content_.low) values.push_back(value);
    } else {
        values.push_back(0.5 * (content_.low + content_.high));
    }
    std::sort(values.begin(), values.end(), std::greater<>());
    values.erase(std::unique(values.begin(), values.end()), values.end());
    return values;
}

QRectF MatrixView::plotArea() const {
    const QFontMetricsF metrics(font());
    const double line = metrics.height();
    const double left = content_.yLabel.isEmpty() ? 6 : metrics.horizontalAdvance(QStringLiteral("00000")) + line + 4;
    const double bottom = content_.xLabel.isEmpty() ? 6 : 2.3 * line;
    double right = 0;
    for (const double value : barValues()) right = std::max(right, metrics.horizontalAdvance(entryText(value)));
    right += 22;
    const double top = content_.title.isEmpty() ? 4 : 1.3 * line;
    return {left, top, std::max(20.0, width() - left - right), std::max(20.0, height() - top - bottom)};
}

QRectF MatrixView::pictureArea() const {
    const QRectF area = plotArea();
    if (!content_.square || shown_.isEmpty()) return area;
    const double cell = std::min(area.width() / shown_.width(), area.height() / shown_.height());
    const QSizeF size(cell * shown_.width(), cell * shown_.height());
    return {area.left() + 0.5 * (area.width() - size.width()), area.top() + 0.5 * (area.height() - size.height()),
            size.width(), size.height()};
}

QPointF MatrixView::toWidget(double column, double row) const {
    const QRectF area = pictureArea();
    const double x = area.left() + (column - shown_.left()) / shown_.width() * area.width();
    const double t = (row - shown_.top()) / shown_.height();
    return {x, content_.rowsUpwards ? area.bottom() - t * area.height() : area.top() + t * area.height()};
}

QPointF MatrixView::toCell(const QPointF& position) const {
    const QRectF area = pictureArea();
    const double column = shown_.left() + (position.x() - area.left()) / area.width() * shown_.width();
    const double t = content_.rowsUpwards ? (area.bottom() - position.y()) / area.height()
                                          : (position.y() - area.top()) / area.height();
    return {column, shown_.top() + t * shown_.height()};
}

void MatrixView::showAll() {
    all_ = true;
    shown_ =
        QRectF(-0.5, -0.5, static_cast<double>(content_.values.columns()), static_cast<double>(content_.values.rows()));
    update();
}

void MatrixView::setShown(const QRectF& part) {
    const auto columns = static_cast<double>(content_.values.columns());
    const auto rows = static_cast<double>(content_.values.rows());
    if (columns == 0 || rows == 0) return;
    QRectF next = part;
    next.setSize({std::clamp(next.width(), std::min(2.0, columns), columns),
                  std::clamp(next.height(), std::min(2.0, rows), rows)});
    next.moveLeft(std::clamp(next.left(), -0.5, columns - 0.5 - next.width()));
    next.moveTop(std::clamp(next.top(), -0.5, rows - 0.5 - next.height()));
    shown_ = next;
    all_ = next.width() >= columns && next.height() >= rows;
    update();
}

void MatrixView::zoom(double factor, const QPointF& about) {
    if (image_.isNull()) return;
    const QPointF at = toCell(about);
    QRectF next = shown_;
    next.setSize(shown_.size() / factor);
    next.moveLeft(at.x() - (at.x() - shown_.left()) * next.width() / shown_.width());
    next.moveTop(at.y() - (at.y() - shown_.top()) * next.height() / shown_.height());
    setShown(next);
}

// Painting

void MatrixView::paintEvent(QPaintEvent* /*event*/) {
    QPainter painter(this);
    const PlotColours colours = plotColours(palette());
    painter.fillRect(rect(), colours.background);
    const QFontMetricsF metrics(font());
    const double line = metrics.height();
    painter.setPen(colours.text);
    if (image_.isNull() || shown_.isEmpty()) {
        painter.drawText(rect().adjusted(12, 6, -12, -6), Qt::AlignCenter | Qt::TextWordWrap,
                         content_.problem.isEmpty() ? tr("Nothing to show") : content_.problem);
        return;
    }
    const QRectF area = pictureArea();
    painter.drawText(QRectF(0, 0, width(), 1.3 * line), Qt::AlignCenter,
                     metrics.elidedText(content_.title, Qt::ElideRight, width() - 8));
    QRectF source(shown_.left() + 0.5, shown_.top() + 0.5, shown_.width(), shown_.height());
    if (content_.rowsUpwards) source.moveTop(image_.height() - source.bottom());
    painter.save();
    painter.setClipRect(area);
    painter.setRenderHint(QPainter::SmoothPixmapTransform, false);
    const QSize pixels = (area.size() * devicePixelRatioF()).toSize().expandedTo({1, 1});
    if (shown_.width() > pixels.width() || shown_.height() > pixels.height()) {
        reduce({std::min(pixels.width(), static_cast<int>(std::ceil(shown_.width()))),
                std::min(pixels.height(), static_cast<int>(std::ceil(shown_.height())))});
        painter.drawImage(area, reduced_);
    } else {
        painter.drawImage(area, image_, source);
    }
    painter.setPen(QPen(QColor(90, 160, 90, 200), 1, Qt::DotLine));
    for (const double at : content_.columnLines) {
        const double x = std::round(toWidget(at - 0.5, 0).x()) + 0.5;
        painter.drawLine(QPointF(x, area.top()), QPointF(x, area.bottom()));
    }
    for (const double at : content_.rowLines) {
        const double y = std::round(toWidget(0, at - 0.5).y()) + 0.5;
        painter.drawLine(QPointF(area.left(), y), QPointF(area.right(), y));
    }
    if (cell_) {
        const QPointF at = toWidget(cell_->x(), cell_->y());
        painter.setPen(QPen(QColor(20, 20, 20, 160), 3));
        painter.drawLine(QPointF(at.x(), area.top()), QPointF(at.x(), area.bottom()));
        painter.drawLine(QPointF(area.left(), at.y()), QPointF(area.right(), at.y()));
        painter.setPen(QPen(QColor(240, 228, 66), 1));
        painter.drawLine(QPointF(at.x(), area.top()), QPointF(at.x(), area.bottom()));
        painter.drawLine(QPointF(area.left(), at.y()), QPointF(area.right(), at.y()));
    }
    if (content_.mark) {
        const QPointF at = toWidget(content_.mark->x(), content_.mark->y());
        for (const QPen& pen : {QPen(QColor(20, 20, 20), 3), QPen(QColor(240, 228, 66), 1.4)}) {
            painter.setPen(pen);
            painter.drawLine(at - QPointF(6, 0), at + QPointF(6, 0));
            painter.drawLine(at - QPointF(0, 6), at + QPointF(0, 6));
        }
    }
    painter.restore();
    painter.setPen(colours.axis);
    painter.setBrush(Qt::NoBrush);
    painter.drawRect(area);

    painter.setPen(colours.text);
    if (!content_.xLabel.isEmpty()) {
        const AxisMap map{{content_.x0 + shown_.left() * content_.dx, content_.x0 + shown_.right() * content_.dx},
                          area.left(),
                          area.right()};
        const Interval inside{std::min(map.data.low, map.data.high), std::max(map.data.low, map.data.high)};
        const Ticks ticks = makeTicks(inside, std::max(4, static_cast<int>(area.width() / 60)));
        for (const double value : ticks.values) {
            const double x = map.toPixel(value);
            painter.drawLine(QPointF(x, area.bottom()), QPointF(x, area.bottom() + 3));
            painter.drawText(QRectF(x - 50, area.bottom() + 3, 100, line), Qt::AlignHCenter, ticks.label(value));
        }
        painter.drawText(QRectF(area.left() - 40, area.bottom() + 3 + line, area.width() + 80, line), Qt::AlignCenter,
                         content_.xLabel);
    }
    if (!content_.yLabel.isEmpty()) {
        const double low = content_.y0 + shown_.top() * content_.dy;
        const double high = content_.y0 + shown_.bottom() * content_.dy;
        const AxisMap map{{low, high},
                          content_.rowsUpwards ? area.bottom() : area.top(),
                          content_.rowsUpwards ? area.top() : area.bottom()};
        const Ticks ticks = makeTicks({std::min(low, high), std::max(low, high)},
                                      std::max(2, static_cast<int>(area.height() / (2.2 * line))));
        for (const double value : ticks.values) {
            const double y = map.toPixel(value);
            painter.drawLine(QPointF(area.left() - 3, y), QPointF(area.left(), y));
            painter.drawText(QRectF(area.left() - 105, y - 0.5 * line, 100, line), Qt::AlignRight | Qt::AlignVCenter,
                             ticks.label(value));
        }
        painter.save();
        painter.translate(area.left() - metrics.horizontalAdvance(QStringLiteral("00000")) - line - 2,
                          area.center().y());
        painter.rotate(-90);
        painter.drawText(QRectF(-0.5 * area.height() - 40, 0, area.height() + 80, line), Qt::AlignCenter,
                         content_.yLabel);
        painter.restore();
    }
    // The colour bar.
    const ColourMap map(content_.map);
    const QRectF bar(area.right() + 6, area.top(), 9, area.height());
    QImage ramp(1, 256, QImage::Format_RGB32);
    for (int i = 0; i < 256; ++i) ramp.setPixel(0, i, map.at(255 - i));
    painter.drawImage(bar, ramp);
    double lastY = -1e9;
    for (const double value : barValues()) {
        const double t = std::clamp(share(value), 0.0, 1.0);
        const double y = std::clamp(bar.bottom() - t * bar.height(), bar.top() + 0.4 * line, bar.bottom() - 0.4 * line);
        if (y - lastY < 0.9 * line) continue;
        lastY = y;
        painter.drawText(QRectF(bar.right() + 3, y - 0.5 * line, 80, line), Qt::AlignLeft | Qt::AlignVCenter,
                         entryText(value));
    }
    if (hasFocus()) {
        painter.setPen(QPen(colours.accent, 1));
        painter.drawRect(QRectF(rect()).adjusted(0.5, 0.5, -0.5, -0.5));
    }
}

// Hands

void MatrixView::wheelEvent(QWheelEvent* event) {
    if (event->angleDelta().y() == 0 || !pictureArea().contains(event->position())) return;
    zoom(std::pow(1.2, event->angleDelta().y() / 120.0), event->position());
    event->accept();
}

void MatrixView::mousePressEvent(QMouseEvent* event) {
    setFocus(Qt::MouseFocusReason);
    if (event->button() != Qt::LeftButton && event->button() != Qt::MiddleButton) return;
    dragFrom_ = event->position();
    dragShown_ = shown_;
    dragged_ = false;
}

void MatrixView::mouseMoveEvent(QMouseEvent* event) {
    if (image_.isNull()) return;
    const QPointF at = event->position();
    if (dragFrom_) {
        const QPointF moved = at - *dragFrom_;
        if (!dragged_ && moved.manhattanLength() < 4) return;
        dragged_ = true;
        const QRectF area = pictureArea();
        QRectF next = dragShown_;
        const double up = content_.rowsUpwards ? 1 : -1;
        next.translate(-moved.x() / area.width() * next.width(), up * moved.y() / area.height() * next.height());
        setShown(next);
        return;
    }
    if (!pictureArea().contains(at)) {
        Q_EMIT left();
        return;
    }
    const QPointF cell = toCell(at);
    Q_EMIT hovered(static_cast<int>(std::lround(cell.x())), static_cast<int>(std::lround(cell.y())));
}

void MatrixView::mouseReleaseEvent(QMouseEvent* event) {
    if (!dragFrom_) return;
    dragFrom_.reset();
    if (dragged_ || event->button() != Qt::LeftButton || image_.isNull()) return;
    if (!pictureArea().contains(event->position())) return;
    const QPointF cell = toCell(event->position());
    Q_EMIT clicked(std::clamp(static_cast<int>(std::lround(cell.x())), 0, image_.width() - 1),
                   std::clamp(static_cast<int>(std::lround(cell.y())), 0, image_.height() - 1));
}

void MatrixView::mouseDoubleClickEvent(QMouseEvent* /*event*/) { showAll(); }

void MatrixView::leaveEvent(QEvent* event) {
    QWidget::leaveEvent(event);
    Q_EMIT left();
}

void MatrixView::keyPressEvent(QKeyEvent* event) {
    switch (event->key()) {
    case Qt::Key_Home:
        showAll();
        return;
    case Qt::Key_Plus:
    case Qt::Key_Equal:
        zoom(1.5, pictureArea().center());
        return;
    case Qt::Key_Minus:
        zoom(1 / 1.5, pictureArea().center());
        return;
    default:
        QWidget::keyPressEvent(event);
    }
}

} // namespace patchlight::widgets
