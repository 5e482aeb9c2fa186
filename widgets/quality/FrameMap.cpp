#include "widgets/quality/FrameMap.h"

#include "widgets/plot/Colours.h"
#include "widgets/plot/Wheel.h"

#include <QKeyEvent>
#include <QMouseEvent>
#include <QPainter>
#include <QWheelEvent>

#include <algorithm>
#include <cmath>

namespace patchlight::widgets {

namespace {

constexpr double fewestBins = 8;
constexpr double fewestRows = 2;
constexpr double colourBarWidth = 12;

/// Which indices each pixel of an axis covers: [first, last), at least one.
std::vector<std::pair<int, int>> cells(const Interval& interval, int pixels, int count, bool upwards) {
    std::vector<std::pair<int, int>> out(static_cast<std::size_t>(pixels));
    for (int p = 0; p < pixels; ++p) {
        const int k = upwards ? pixels - 1 - p : p;
        const double a = interval.low + interval.span() * k / pixels;
        const double b = interval.low + interval.span() * (k + 1) / pixels;
        // Index i covers [i - 1/2, i + 1/2).
        int first = static_cast<int>(std::floor(a + 0.5));
        int last = static_cast<int>(std::ceil(b + 0.5) - 1) + 1;
        if (b - a < 1) last = first + 1;
        if (last <= 0 || first >= count) {
            out[static_cast<std::size_t>(p)] = {0, 0};
            continue;
        }
        first = std::clamp(first, 0, count - 1);
        last = std::clamp(last, first + 1, count);
        out[static_cast<std::size_t>(p)] = {first, last};
    }
    return out;
}

} // namespace

FrameMap::FrameMap(QWidget* parent) : QWidget(parent) {
    setMouseTracking(true);
    setFocusPolicy(Qt::ClickFocus);
    setBackgroundRole(QPalette::Base);
    setAutoFillBackground(true);
    setAccessibleName(tr("Map of fibers and wavelengths"));
    why_ = tr("No extracted frame yet: open one (Ctrl+O), or extract the whole frame");
}

void FrameMap::clear(const QString& why) {
    plane_ = {};
    why_ = why;
    sorted_.clear();
    update();
}

void FrameMap::setPlane(Plane plane, std::vector<double> wavelength, int specmin) {
    const bool sameShape = plane_.values && plane.values && plane_.values->rows() == plane.values->rows() &&
                           plane_.values->columns() == plane.values->columns();
    plane_ = std::move(plane);
    wavelength_ = std::move(wavelength);
    specmin_ = specmin;
    sorted_ = sampleValues(plane_.values->data(), static_cast<int>(plane_.values->columns()),
                           static_cast<int>(plane_.values->rows()));
    if (!sameShape) {
        view_ = whole();
        history_.reset(view_);
    }
    refreshTable();
    update();
}

void FrameMap::setDisplay(const DisplaySettings& display) {
    plane_.display = display;
    refreshTable();
    update();
}

void FrameMap::refreshTable() {
    DisplaySettings settings = plane_.display;
    if (settings.cuts != Cuts::Manual && settings.cuts != Cuts::Fixed && !sorted_.empty())
        settings.range = findRange(sorted_, settings.cuts);
    range_ = settings.range;
    table_ = ColorTable(settings, sorted_);
}

void FrameMap::setCursorBin(int row, int bin) {
    if (row == cursorRow_ && bin == cursorBin_) return;
    cursorRow_ = row;
    cursorBin_ = bin;
    update();
}

FrameMap::View FrameMap::whole() const {
    if (!plane_.values) return {};
    return {{-0.5, static_cast<double>(plane_.values->columns()) - 0.5},
            {-0.5, static_cast<double>(plane_.values->rows()) - 0.5}};
}

FrameMap::View FrameMap::limited(View view) const {
    const View all = whole();
    const auto limit = [](Interval& part, const Interval& most, double least) {
        if (part.span() < least) part = {0.5 * (part.low + part.high - least), 0.5 * (part.low + part.high + least)};
        if (part.span() >= most.span()) {
            part = most;
            return;
        }
        if (part.low < most.low) part = {most.low, most.low + part.span()};
        if (part.high > most.high) part = {most.high - part.span(), most.high};
    };
    limit(view.bins, all.bins, std::min(fewestBins, all.bins.span()));
    limit(view.rows, all.rows, std::min(fewestRows, all.rows.span()));
    return view;
}

void FrameMap::setView(const View& view, bool remember) {
    if (!plane_.values) return;
    view_ = limited(view);
    if (remember) history_.push(view_);
    update();
}

void FrameMap::showAll() { setView(whole()); }

void FrameMap::back() {
    if (!history_.canGoBack()) return;
    view_ = history_.back();
    update();
}

void FrameMap::forward() {
    if (!history_.canGoForward()) return;
    view_ = history_.forward();
    update();
}

void FrameMap::showBin(int row, int bin) {
    View view = view_;
    const double margin = 0.05;
    const auto bring = [margin](Interval& part, double at) {
        if (at > part.low + margin * part.span() && at < part.high - margin * part.span()) return;
        part = {at - 0.5 * part.span(), at + 0.5 * part.span()};
    };
    bring(view.bins, bin);
    bring(view.rows, row);
    if (!(view == view_)) setView(view);
}

QRectF FrameMap::area() const {
    const QFontMetricsF metrics(font());
    const double left = metrics.horizontalAdvance(QStringLiteral("0000")) + metrics.height() + 12;
    const double bottom = 2 * metrics.height() + 8;
    const double right = colourBarWidth + metrics.horizontalAdvance(QStringLiteral("-0.0000")) + 18;
    return QRectF(rect()).adjusted(left, metrics.height() + 10, -right, -bottom).toAlignedRect();
}

QPointF FrameMap::placeOf(double bin, double row) const {
    const QRectF box = area();
    return {AxisMap{view_.bins, box.left(), box.right()}.toPixel(bin),
            AxisMap{view_.rows, box.bottom(), box.top()}.toPixel(row)};
}

QPoint FrameMap::binAt(const QPointF& place) const {
    const QRectF box = area();
    if (!plane_.values || !box.contains(place)) return {-1, -1};
    const int bin = static_cast<int>(std::lround(AxisMap{view_.bins, box.left(), box.right()}.toData(place.x())));
    const int row = static_cast<int>(std::lround(AxisMap{view_.rows, box.bottom(), box.top()}.toData(place.y())));
    if (bin < 0 || row < 0 || bin >= static_cast<int>(plane_.values->columns()) ||
        row >= static_cast<int>(plane_.values->rows()))
        return {-1, -1};
    return {bin, row};
}

QString FrameMap::describe(int row, int bin) const {
    if (!plane_.values || row < 0 || bin < 0) return {};
    const float value = (*plane_.values)(static_cast<std::size_t>(row), static_cast<std::size_t>(bin));
    return tr("fiber %1, %2 \u00c5: %3 %4 %5")
        .arg(specmin_ + row)
        .arg(wavelength_[static_cast<std::size_t>(bin)], 0, 'f', 1)
        .arg(plane_.name, std::isfinite(value) ? QString::number(static_cast<double>(value), 'g', 4) : tr("unknown"),
             plane_.unit)
        .trimmed();
}

void FrameMap::drawPicture(const QSize& size) {
    if (picture_.size() != size) picture_ = QImage(size, QImage::Format_RGB32);
    const Array2<float>& values = *plane_.values;
    const auto columns = cells(view_.bins, size.width(), static_cast<int>(values.columns()), false);
    const auto rows = cells(view_.rows, size.height(), static_cast<int>(values.rows()), true);
    const bool mean = plane_.pooling == Pooling::Mean;
    const QRgb outside = palette().color(QPalette::Base).rgb();
    std::vector<float> sum(columns.size());
    std::vector<float> count(columns.size());
    std::vector<std::uint8_t> category(columns.size());
    for (int y = 0; y < size.height(); ++y) {
        auto* line = reinterpret_cast<QRgb*>(picture_.scanLine(y));
        const auto [firstRow, lastRow] = rows[static_cast<std::size_t>(y)];
        if (y > 0 && rows[static_cast<std::size_t>(y)] == rows[static_cast<std::size_t>(y - 1)]) {
            std::copy_n(reinterpret_cast<const QRgb*>(picture_.constScanLine(y - 1)), size.width(), line);
            continue;
        }
        std::fill(sum.begin(), sum.end(), mean ? 0.0F : -std::numeric_limits<float>::infinity());
        std::fill(count.begin(), count.end(), 0.0F);
        std::fill(category.begin(), category.end(), std::uint8_t{0});
        for (int row = firstRow; row < lastRow; ++row) {
            const float* from = values.data() + static_cast<std::size_t>(row) * values.columns();
            for (std::size_t p = 0; p < columns.size(); ++p)
                for (int j = columns[p].first; j < columns[p].second; ++j) {
                    const float value = from[j];
                    if (!(value == value)) continue;
                    if (mean)
                        sum[p] += value;
                    else
                        sum[p] = std::max(sum[p], value);
                    count[p] += 1;
                }
            if (plane_.categories) {
                const std::uint8_t* kinds =
                    plane_.categories->data() + static_cast<std::size_t>(row) * values.columns();
                for (std::size_t p = 0; p < columns.size(); ++p)
                    for (int j = columns[p].first; j < columns[p].second; ++j)
                        if (kinds[j] != 0 && (category[p] == 0 || kinds[j] < category[p])) category[p] = kinds[j];
            }
        }
        for (std::size_t p = 0; p < columns.size(); ++p) {
            if (columns[p].second <= columns[p].first || lastRow <= firstRow)
                line[p] = outside;
            else if (category[p] != 0 && category[p] < plane_.categoryColours.size())
                line[p] = plane_.categoryColours[category[p]];
            else
                line[p] = count[p] > 0 ? table_.color(mean ? sum[p] / count[p] : sum[p]) : table_.noValue;
        }
    }
}

void FrameMap::paintEvent(QPaintEvent*) {
    QPainter painter(this);
    const PlotColours colours = plotColours(palette());
    painter.fillRect(rect(), colours.background);
    const QFontMetricsF metrics(font());
    const QRectF box = area();
    if (!plane_.values || box.width() < 10 || box.height() < 10) {
        painter.setPen(colours.faint);
        painter.drawText(QRectF(rect()).adjusted(16, 16, -16, -16), Qt::AlignCenter | Qt::TextWordWrap, why_);
        return;
    }
    drawPicture(box.size().toSize());
    painter.drawImage(box.topLeft(), picture_);

    // Axes: wavelengths of bins, spectra of rows.
    const AxisMap bins{view_.bins, box.left(), box.right()};
    const AxisMap rows{view_.rows, box.bottom(), box.top()};
    painter.setPen(colours.text);
    const std::size_t n = wavelength_.size();
    const double step = n > 1 ? (wavelength_.back() - wavelength_.front()) / static_cast<double>(n - 1) : 1.0;
    const double origin = wavelength_.front();
    const Ticks waves = makeTicks({origin + view_.bins.low * step, origin + view_.bins.high * step},
                                  std::max(2, static_cast<int>(box.width() / 80)));
    for (const double value : waves.values) {
        const double at = bins.toPixel((value - origin) / step);
        painter.drawLine(QPointF(at, box.bottom()), QPointF(at, box.bottom() + 3));
        painter.drawText(QRectF(at - 40, box.bottom() + 3, 80, metrics.height() + 2), Qt::AlignHCenter | Qt::AlignTop,
                         waves.label(value));
    }
    const Ticks fibers = makeTicks({view_.rows.low + specmin_, view_.rows.high + specmin_},
                                   std::max(2, static_cast<int>(box.height() / 40)));
    for (const double value : fibers.values) {
        if (value != std::floor(value)) continue;
        const double at = rows.toPixel(value - specmin_);
        painter.drawLine(QPointF(box.left() - 3, at), QPointF(box.left(), at));
        painter.drawText(QRectF(0, at - metrics.height(), box.left() - 5, 2 * metrics.height()),
                         Qt::AlignRight | Qt::AlignVCenter, QString::number(value, 'f', 0));
    }
    painter.drawText(QRectF(box.left(), box.bottom() + metrics.height() + 4, box.width(), metrics.height() + 4),
                     Qt::AlignHCenter | Qt::AlignTop, tr("wavelength (\u00c5)"));
    painter.save();
    painter.translate(2, box.center().y());
    painter.rotate(-90);
    painter.drawText(QRectF(-box.height() / 2, 0, box.height(), metrics.height() + 2), Qt::AlignHCenter | Qt::AlignTop,
                     tr("fiber"));
    painter.restore();
    painter.drawText(QRectF(box.left(), 4, box.width(), metrics.height() + 4), Qt::AlignLeft | Qt::AlignVCenter,
                     plane_.unit.isEmpty() ? plane_.name : QStringLiteral("%1 (%2)").arg(plane_.name, plane_.unit));
    painter.setPen(colours.axis);
    painter.drawRect(box.adjusted(-1, -1, 0, 0));

    // Colour bar.
    const QRectF bar(box.right() + 8, box.top(), colourBarWidth, box.height());
    for (int y = 0; y < static_cast<int>(bar.height()); ++y) {
        const double share = 1.0 - (y + 0.5) / bar.height();
        painter.fillRect(QRectF(bar.left(), bar.top() + y, bar.width(), 1),
                         QColor(table_.color(static_cast<float>(range_.low + share * (range_.high - range_.low)))));
    }
    painter.setPen(colours.text);
    const Ticks marks = makeTicks({range_.low, range_.high}, std::max(2, static_cast<int>(bar.height() / 50)));
    for (const double value : marks.values) {
        const double at = AxisMap{{range_.low, range_.high}, bar.bottom(), bar.top()}.toPixel(value);
        painter.drawText(
            QRectF(bar.right() + 4, at - metrics.height(), width() - bar.right() - 4, 2 * metrics.height()),
            Qt::AlignLeft | Qt::AlignVCenter, marks.label(value));
    }

    if (cursorRow_ >= 0 && cursorBin_ >= 0) {
        painter.setClipRect(box);
        const double x0 = bins.toPixel(cursorBin_ - 0.5);
        const double x1 = bins.toPixel(cursorBin_ + 0.5);
        const double y0 = rows.toPixel(cursorRow_ + 0.5);
        const double y1 = rows.toPixel(cursorRow_ - 0.5);
        const QPointF middle(0.5 * (x0 + x1), 0.5 * (y0 + y1));
        const double halfX = std::max(5.0, 0.5 * (x1 - x0) + 2);
        const double halfY = std::max(5.0, 0.5 * (y1 - y0) + 2);
        for (const auto& [pen, color] : {std::pair{3.0, QColor(0, 0, 0)}, {1.4, QColor(255, 255, 255)}}) {
            painter.setPen(QPen(color, pen));
            painter.drawRect(QRectF(middle.x() - halfX, middle.y() - halfY, 2 * halfX, 2 * halfY));
            painter.drawLine(QPointF(box.left(), middle.y()), QPointF(box.left() + 10, middle.y()));
            painter.drawLine(QPointF(middle.x(), box.bottom()), QPointF(middle.x(), box.bottom() - 10));
        }
    }
}

void FrameMap::wheelEvent(QWheelEvent* event) {
    if (!plane_.values) return;
    const QRectF box = area();
    const double turn =
        event->angleDelta().y() != 0 ? event->angleDelta().y() : event->angleDelta().x(); // Alt swaps them
    const double factor = std::pow(wheelFactor, turn / 120.0);
    View view = view_;
    const double bin = AxisMap{view_.bins, box.left(), box.right()}.toData(event->position().x());
    const double row = AxisMap{view_.rows, box.bottom(), box.top()}.toData(event->position().y());
    if ((event->modifiers() & Qt::ShiftModifier) == 0) view.bins = zoomed(view.bins, bin, factor);
    if ((event->modifiers() & Qt::ControlModifier) == 0) view.rows = zoomed(view.rows, row, factor);
    setView(view);
    event->accept();
}

void FrameMap::mousePressEvent(QMouseEvent* event) {
    dragFrom_ = event->position();
    dragView_ = view_;
    dragDisplay_ = plane_.display;
    dragged_ = false;
    if (event->button() == Qt::LeftButton) {
        const QPoint at = binAt(event->position());
        if (at.x() >= 0) Q_EMIT binChosen(at.y(), at.x());
    }
}

void FrameMap::mouseMoveEvent(QMouseEvent* event) {
    const QPoint at = binAt(event->position());
    Q_EMIT binHovered(at.y(), at.x());
    if (!plane_.values) return;
    const QPointF moved = event->position() - dragFrom_;
    const QRectF box = area();
    if ((event->buttons() & Qt::MiddleButton) != 0) {
        const double dx = -moved.x() * dragView_.bins.span() / box.width();
        const double dy = moved.y() * dragView_.rows.span() / box.height();
        setView(
            {{dragView_.bins.low + dx, dragView_.bins.high + dx}, {dragView_.rows.low + dy, dragView_.rows.high + dy}},
            false);
        dragged_ = true;
    } else if ((event->buttons() & Qt::RightButton) != 0) {
        DisplaySettings display = dragDisplay_;
        display.contrast = std::clamp(dragDisplay_.contrast * std::pow(4.0, -moved.y() / box.height()), 0.05, 50.0);
        display.bias = std::clamp(dragDisplay_.bias + moved.x() / box.width(), -1.0, 2.0);
        setDisplay(display);
    }
}

void FrameMap::mouseReleaseEvent(QMouseEvent*) {
    if (dragged_) history_.push(view_);
    dragged_ = false;
}

void FrameMap::mouseDoubleClickEvent(QMouseEvent* event) {
    if (event->button() == Qt::RightButton) {
        DisplaySettings display = plane_.display;
        display.contrast = 1.0;
        display.bias = 0.5;
        setDisplay(display);
    } else {
        showAll();
    }
}

void FrameMap::leaveEvent(QEvent*) { Q_EMIT binHovered(-1, -1); }

void FrameMap::keyPressEvent(QKeyEvent* event) {
    if (!plane_.values || cursorRow_ < 0) {
        QWidget::keyPressEvent(event);
        return;
    }
    int row = cursorRow_;
    int bin = cursorBin_;
    switch (event->key()) {
    case Qt::Key_Left:
        --bin;
        break;
    case Qt::Key_Right:
        ++bin;
        break;
    case Qt::Key_Up:
        ++row;
        break;
    case Qt::Key_Down:
        --row;
        break;
    default:
        QWidget::keyPressEvent(event);
        return;
    }
    if (row < 0 || bin < 0 || row >= static_cast<int>(plane_.values->rows()) ||
        bin >= static_cast<int>(plane_.values->columns()))
        return;
    Q_EMIT binChosen(row, bin);
}

} // namespace patchlight::widgets
