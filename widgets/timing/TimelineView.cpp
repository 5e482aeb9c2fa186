#include "widgets/timing/TimelineView.h"

#include "widgets/plot/Colours.h"

#include <QFileInfo>
#include <QHelpEvent>
#include <QKeyEvent>
#include <QMouseEvent>
#include <QPainter>
#include <QScrollBar>
#include <QToolTip>
#include <QWheelEvent>

#include <algorithm>
#include <cmath>

namespace patchlight::widgets {

namespace {

constexpr int rowHeight = 17;
constexpr int laneGap = 4;
constexpr double labelWidth = 170;
constexpr double timeWheelFactor = 1.25;
constexpr double shortestView = 200; // ns

QString describeRange(const Trace& trace, std::size_t range) {
    const TraceRange& r = trace.ranges[range];
    const TraceLane& lane = trace.lanes[static_cast<std::size_t>(r.lane)];
    QString text = TimelineView::tr("%1: %2, from %3 on %4, %5")
                       .arg(QString::fromStdString(trace.names[static_cast<std::size_t>(r.name)]),
                            durationText(1e-9 * static_cast<double>(r.duration)),
                            durationText(1e-9 * static_cast<double>(r.start - trace.begin)),
                            QString::fromStdString(lane.processName), QString::fromStdString(lane.name));
    for (const auto& [key, value] : {std::pair{"frame", r.tags.frame},
                                     {"bundle", r.tags.bundle},
                                     {"step", r.tags.step},
                                     {"patches", r.tags.patches}})
        if (value >= 0) text += QStringLiteral(", %1 %2").arg(QLatin1String(key)).arg(value);
    return text;
}

} // namespace

QString durationText(double seconds) {
    const double size = std::abs(seconds);
    if (size >= 1) return QStringLiteral("%1 s").arg(seconds, 0, 'f', 3);
    if (size >= 1e-3) return QStringLiteral("%1 ms").arg(1e3 * seconds, 0, 'f', 3);
    if (size >= 1e-6) return QStringLiteral("%1 \u00b5s").arg(1e6 * seconds, 0, 'f', 3);
    return QStringLiteral("%1 ns").arg(1e9 * seconds, 0, 'f', 0);
}

TimelineView::TimelineView(QWidget* parent) : QAbstractScrollArea(parent) {
    setHorizontalScrollBarPolicy(Qt::ScrollBarAlwaysOff);
    setVerticalScrollBarPolicy(Qt::ScrollBarAsNeeded);
    setFocusPolicy(Qt::StrongFocus);
    setFrameShape(QFrame::NoFrame);
    viewport()->setMouseTracking(true);
    setAccessibleName(tr("Timeline"));
}

void TimelineView::setTrace(std::shared_ptr<const Trace> trace) {
    trace_ = std::move(trace);
    selected_ = -1;
    window_ = {0, 0};
    makeLanes();
}

void TimelineView::setOther(std::shared_ptr<const Trace> other) {
    if (other == other_) return;
    other_ = std::move(other);
    makeLanes();
}

void TimelineView::makeLanes() {
    lanes_.clear();
    otherNames_.clear();
    if (trace_)
        for (int lane = 0; lane < static_cast<int>(trace_->lanes.size()); ++lane) lanes_.emplace_back(*trace_, lane);
    if (trace_ && other_) {
        for (int lane = 0; lane < static_cast<int>(other_->lanes.size()); ++lane) lanes_.emplace_back(*other_, lane);
        auto next = static_cast<int>(trace_->names.size());
        for (const std::string& name : other_->names) {
            const auto found = std::find(trace_->names.begin(), trace_->names.end(), name);
            otherNames_.push_back(found == trace_->names.end() ? next++
                                                               : static_cast<int>(found - trace_->names.begin()));
        }
    }
    layoutLanes();
    showAll();
}

std::size_t TimelineView::ownLanes() const { return trace_ ? trace_->lanes.size() : 0; }

const Trace& TimelineView::traceOfLane(std::size_t lane) const { return lane < ownLanes() ? *trace_ : *other_; }

std::int64_t TimelineView::shiftOfLane(std::size_t lane) const {
    return lane < ownLanes() ? 0 : trace_->begin - other_->begin;
}

void TimelineView::layoutLanes() {
    tops_.assign(1, 0);
    for (std::size_t lane = 0; lane < lanes_.size(); ++lane) {
        const int depths = lanes_[lane].depths();
        const bool lastOwn = other_ && lane + 1 == ownLanes(); // room for the line that names the other run
        tops_.push_back(tops_.back() + (depths == 0 ? 0 : depths * rowHeight + laneGap) + (lastOwn ? rowHeight : 0));
    }
    const int hidden = tops_.back() - static_cast<int>(area().height());
    verticalScrollBar()->setRange(0, std::max(0, hidden));
    verticalScrollBar()->setPageStep(std::max(1, static_cast<int>(area().height())));
    verticalScrollBar()->setSingleStep(rowHeight);
}

QRectF TimelineView::area() const {
    const double top = QFontMetricsF(font()).height() + 8;
    return QRectF(viewport()->rect()).adjusted(labelWidth, top, 0, 0);
}

AxisMap TimelineView::times() const {
    const QRectF box = area();
    return {view_, box.left(), box.right()};
}

Interval TimelineView::limited(Interval view) const {
    if (!trace_ || trace_->empty()) return {0, 1};
    const std::int64_t longest =
        std::max(trace_->end - trace_->begin, other_ ? other_->end - other_->begin : std::int64_t{0});
    const double span = std::max(1.0, static_cast<double>(longest));
    if (view.span() < shortestView)
        view = {0.5 * (view.low + view.high - shortestView), 0.5 * (view.low + view.high + shortestView)};
    if (view.span() > 1.1 * span)
        view = {static_cast<double>(trace_->begin) - 0.02 * span, static_cast<double>(trace_->begin) + 1.02 * span};
    return view;
}

void TimelineView::setView(const Interval& view) {
    view_ = limited(view);
    viewport()->update();
}

void TimelineView::showAll() {
    if (trace_ && !trace_->empty()) {
        const auto longest = static_cast<double>(
            std::max(trace_->end - trace_->begin, other_ ? other_->end - other_->begin : std::int64_t{0}));
        const auto begin = static_cast<double>(trace_->begin);
        view_ = limited({begin - 0.01 * longest, begin + 1.01 * longest});
    }
    viewport()->update();
}

void TimelineView::focusRange(int range) {
    if (!trace_ || range < 0) return;
    const TraceRange& r = trace_->ranges[static_cast<std::size_t>(range)];
    const double margin = 0.1 * std::max(shortestView, static_cast<double>(r.duration));
    setView({static_cast<double>(r.start) - margin, static_cast<double>(r.end()) + margin});
    const int top = tops_[static_cast<std::size_t>(r.lane)] + r.depth * rowHeight;
    if (top < verticalScrollBar()->value() ||
        top + rowHeight > verticalScrollBar()->value() + static_cast<int>(area().height()))
        verticalScrollBar()->setValue(top - static_cast<int>(area().height()) / 2);
}

void TimelineView::select(int range) {
    if (range == selected_) return;
    selected_ = range;
    viewport()->update();
    Q_EMIT rangeSelected(range);
}

void TimelineView::setWindow(const Interval& window) {
    window_ = window;
    viewport()->update();
    Q_EMIT windowChanged();
}

QRgb TimelineView::colourOf(int name) const {
    PlotColours colours;
    colours.dark = true;
    colours.text = QColor(170, 170, 180);
    return colours.series(name).darker(110 + 25 * ((name / 8) % 4)).rgb();
}

std::pair<std::size_t, int> TimelineView::hit(const QPointF& place) const {
    const QRectF box = area();
    if (!trace_ || !box.contains(place)) return {0, -1};
    const int y = static_cast<int>(place.y() - box.top()) + verticalScrollBar()->value();
    const auto next = static_cast<std::size_t>(std::upper_bound(tops_.begin(), tops_.end(), y) - tops_.begin());
    if (next == 0 || next > lanes_.size()) return {0, -1};
    const std::size_t lane = next - 1;
    const LaneBoxes& boxes = lanes_[lane];
    const Trace& trace = traceOfLane(lane);
    const int depth = (y - tops_[lane]) / rowHeight;
    if (depth >= boxes.depths()) return {lane, -1};
    const auto time = [&](double x) { return static_cast<std::int64_t>(times().toData(x)) - shiftOfLane(lane); };
    // What is narrower than a pixel is found in the box that stands for it.
    const int exact = boxes.rangeAt(trace, depth, time(place.x()));
    if (exact >= 0) return {lane, exact};
    std::vector<TimelineBox> drawn;
    boxes.boxes(trace, depth, time(place.x() - 1.5), time(place.x() + 1.5) + 1, 3.0, drawn);
    return {lane, drawn.empty() ? -1 : drawn.front().range};
}

int TimelineView::rangeAt(const QPointF& place) const {
    const auto [lane, range] = hit(place);
    return lane < ownLanes() ? range : -1;
}

QString TimelineView::textAt(const QPointF& place) const {
    const auto [lane, range] = hit(place);
    if (range < 0) return {};
    return lane < ownLanes() ? describe(range)
                             : tr("the other run, %1").arg(describeRange(*other_, static_cast<std::size_t>(range)));
}

QRectF TimelineView::rectOf(int range) const {
    const TraceRange& r = trace_->ranges[static_cast<std::size_t>(range)];
    const QRectF box = area();
    const AxisMap x = times();
    const double x0 = x.toPixel(static_cast<double>(r.start));
    const double x1 = x.toPixel(static_cast<double>(r.end()));
    return {x0,
            box.top() + tops_[static_cast<std::size_t>(r.lane)] + r.depth * rowHeight - verticalScrollBar()->value(),
            x1 - x0, rowHeight - 1.0};
}

QString TimelineView::describe(int range) const {
    return !trace_ || range < 0 ? QString() : describeRange(*trace_, static_cast<std::size_t>(range));
}

void TimelineView::paintEvent(QPaintEvent*) {
    QPainter painter(viewport());
    const PlotColours colours = plotColours(palette());
    painter.fillRect(viewport()->rect(), colours.background);
    boxesDrawn_ = 0;
    if (!trace_ || trace_->empty()) {
        painter.setPen(colours.faint);
        painter.drawText(QRectF(viewport()->rect()).adjusted(16, 16, -16, -16), Qt::AlignCenter | Qt::TextWordWrap,
                         tr("No run to look at yet: extract a fiber, a bundle or the whole frame, or open a trace file "
                            "(extract --trace, batch --trace, nsys export --type sqlite)"));
        return;
    }
    const QRectF box = area();
    const QFontMetricsF metrics(font());
    const AxisMap x = times();
    const Ticks ticks = makeTicks({1e-9 * (view_.low - static_cast<double>(trace_->begin)),
                                   1e-9 * (view_.high - static_cast<double>(trace_->begin))},
                                  std::max(2, static_cast<int>(box.width() / 110)));
    for (const double value : ticks.values) {
        const double at = x.toPixel(1e9 * value + static_cast<double>(trace_->begin));
        painter.setPen(colours.grid);
        painter.drawLine(QPointF(at, box.top()), QPointF(at, box.bottom()));
        painter.setPen(colours.text);
        const double unit = ticks.step >= 0.1 ? 1 : ticks.step >= 1e-4 ? 1e3 : 1e6;
        const QString text = QString::number(value * unit, 'g', 7) + (unit == 1     ? QStringLiteral(" s")
                                                                      : unit == 1e3 ? QStringLiteral(" ms")
                                                                                    : QStringLiteral(" \u00b5s"));
        painter.drawText(QRectF(at - 60, 2, 120, metrics.height() + 2), Qt::AlignHCenter | Qt::AlignVCenter, text);
    }

    // Boxes of one row at a time into a line of pixels, copied to the row's height.
    const int width = static_cast<int>(box.width());
    const int height = static_cast<int>(box.height());
    if (width < 2 || height < 2) return;
    if (picture_.size() != QSize(width, height)) picture_ = QImage(width, height, QImage::Format_ARGB32_Premultiplied);
    picture_.fill(Qt::transparent);
    std::vector<QRgb> line(static_cast<std::size_t>(width));
    std::vector<TimelineBox> boxes;
    struct Label {
        QRectF place;
        std::size_t lane;
        int range;
    };
    const auto nameOf = [this](std::size_t lane, int name) {
        return lane < ownLanes() ? name : otherNames_[static_cast<std::size_t>(name)];
    };
    std::vector<Label> labels;
    const int scroll = verticalScrollBar()->value();
    const auto begin = static_cast<std::int64_t>(view_.low);
    const auto end = std::max(begin + 1, static_cast<std::int64_t>(view_.high));
    const QRgb merged = colours.dark ? qRgb(150, 150, 160) : qRgb(110, 110, 120);
    for (std::size_t lane = 0; lane < lanes_.size(); ++lane) {
        if (tops_[lane + 1] <= scroll || tops_[lane] >= scroll + height) continue;
        const Trace& trace = traceOfLane(lane);
        for (int depth = 0; depth < lanes_[lane].depths(); ++depth) {
            const int top = tops_[lane] + depth * rowHeight - scroll;
            if (top + rowHeight <= 0 || top >= height) continue;
            boxes.clear();
            lanes_[lane].boxes(trace, depth, begin - shiftOfLane(lane), end - shiftOfLane(lane), width, boxes);
            boxesDrawn_ += boxes.size();
            std::fill(line.begin(), line.end(), 0U);
            for (const TimelineBox& b : boxes) {
                const int first = std::clamp(static_cast<int>(b.x0), 0, width - 1);
                int last = std::clamp(static_cast<int>(std::ceil(b.x1)), first + 1, width);
                const bool wide = b.x1 - b.x0 > 4;
                if (wide && last < width) --last; // a gap between neighbours
                const QRgb colour =
                    b.count > 1 ? merged : colourOf(nameOf(lane, trace.ranges[static_cast<std::size_t>(b.range)].name));
                std::fill(line.begin() + first, line.begin() + std::max(first + 1, last), colour);
                constexpr double readable = 36;
                if (b.x1 - b.x0 > readable)
                    labels.push_back({QRectF(std::max(0.0, b.x0) + 3, top,
                                             std::min<double>(width, b.x1) - std::max(0.0, b.x0) - 6, rowHeight - 1),
                                      lane, b.range});
            }
            for (int y = std::max(0, top); y < std::min(height, top + rowHeight - 1); ++y)
                std::copy(line.begin(), line.end(), reinterpret_cast<QRgb*>(picture_.scanLine(y)));
        }
    }
    painter.drawImage(box.topLeft(), picture_);
    painter.setClipRect(box);
    painter.setPen(QColor(15, 15, 20));
    for (const Label& label : labels) {
        const Trace& trace = traceOfLane(label.lane);
        const TraceRange& r = trace.ranges[static_cast<std::size_t>(label.range)];
        const QString name = QString::fromStdString(trace.names[static_cast<std::size_t>(r.name)]);
        painter.drawText(
            label.place.translated(box.topLeft()), Qt::AlignLeft | Qt::AlignVCenter,
            metrics.elidedText(name + QStringLiteral("  ") + durationText(1e-9 * static_cast<double>(r.duration)),
                               Qt::ElideRight, label.place.width()));
    }
    if (window_.high > window_.low) {
        QColor shade = colours.accent;
        shade.setAlpha(50);
        painter.fillRect(
            QRectF(x.toPixel(window_.low), box.top(), x.toPixel(window_.high) - x.toPixel(window_.low), box.height()),
            shade);
        painter.setPen(colours.accent);
        painter.drawLine(QPointF(x.toPixel(window_.low), box.top()), QPointF(x.toPixel(window_.low), box.bottom()));
        painter.drawLine(QPointF(x.toPixel(window_.high), box.top()), QPointF(x.toPixel(window_.high), box.bottom()));
    }
    if (selected_ >= 0) {
        painter.setPen(QPen(colours.text, 2));
        QRectF rect = rectOf(selected_);
        rect.setWidth(std::max(2.0, rect.width()));
        painter.drawRect(rect);
    }

    // Names of lanes, with the process's where it changes.
    painter.setClipRect(QRectF(0, box.top(), labelWidth - 4, box.height()));
    std::int64_t process = -1;
    for (std::size_t lane = 0; lane < lanes_.size(); ++lane) {
        const bool own = lane < ownLanes();
        const TraceLane& mine = own ? trace_->lanes[lane] : other_->lanes[lane - ownLanes()];
        const bool first = mine.process != process || lane == ownLanes();
        process = mine.process;
        if (tops_[lane + 1] <= scroll || tops_[lane] >= scroll + height || lanes_[lane].depths() == 0) continue;
        const double top = box.top() + tops_[lane] - scroll;
        painter.setPen(colours.grid);
        painter.drawLine(QPointF(0, top - 2), QPointF(labelWidth, top - 2));
        const QString name = QString::fromStdString(mine.name);
        const QString processName = QString::fromStdString(mine.processName);
        const bool room = lanes_[lane].depths() > 1;
        painter.setPen(colours.text);
        const QString text = first && !room ? processName + QStringLiteral(", ") + name : name;
        painter.drawText(QRectF(6, top, labelWidth - 10, rowHeight), Qt::AlignLeft | Qt::AlignVCenter,
                         metrics.elidedText(text, Qt::ElideMiddle, labelWidth - 12));
        if (first && room) {
            painter.setPen(colours.faint);
            painter.drawText(QRectF(6, top + rowHeight, labelWidth - 10, rowHeight), Qt::AlignLeft | Qt::AlignVCenter,
                             metrics.elidedText(processName, Qt::ElideMiddle, labelWidth - 12));
        }
    }
    if (!other_ || lanes_.size() == ownLanes()) return;
    // Where the other run begins.
    painter.setClipRect(QRectF(0, box.top(), width + labelWidth, box.height()));
    const double seam = box.top() + tops_[ownLanes()] - scroll - rowHeight;
    painter.fillRect(QRectF(0, seam, width + labelWidth, rowHeight), colours.grid);
    painter.setPen(colours.text);
    painter.drawText(QRectF(6, seam, width + labelWidth - 12, rowHeight), Qt::AlignLeft | Qt::AlignVCenter,
                     tr("Below: %1, %2; above: %3")
                         .arg(QFileInfo(QString::fromStdString(other_->source)).fileName(),
                              durationText(1e-9 * static_cast<double>(other_->end - other_->begin)),
                              durationText(1e-9 * static_cast<double>(trace_->end - trace_->begin))));
}

void TimelineView::resizeEvent(QResizeEvent* event) {
    QAbstractScrollArea::resizeEvent(event);
    layoutLanes();
}

void TimelineView::scrollContentsBy(int, int) { viewport()->update(); }

void TimelineView::wheelEvent(QWheelEvent* event) {
    if ((event->modifiers() & Qt::ShiftModifier) != 0 || !trace_) {
        QAbstractScrollArea::wheelEvent(event);
        return;
    }
    setView(zoomed(view_, times().toData(event->position().x()),
                   std::pow(timeWheelFactor, event->angleDelta().y() / 120.0)));
    event->accept();
}

void TimelineView::mousePressEvent(QMouseEvent* event) {
    pressedAt_ = event->position();
    pressedView_ = view_;
    pressedScroll_ = verticalScrollBar()->value();
    selecting_ = false;
}

void TimelineView::mouseMoveEvent(QMouseEvent* event) {
    const QPointF moved = event->position() - pressedAt_;
    if ((event->buttons() & Qt::MiddleButton) != 0) {
        const double shift = -moved.x() * pressedView_.span() / area().width();
        setView({pressedView_.low + shift, pressedView_.high + shift});
        verticalScrollBar()->setValue(pressedScroll_ - static_cast<int>(moved.y()));
    } else if ((event->buttons() & Qt::LeftButton) != 0 && (selecting_ || std::abs(moved.x()) > 4) && trace_) {
        selecting_ = true;
        const double a = times().toData(pressedAt_.x());
        const double b = times().toData(event->position().x());
        window_ = {std::min(a, b), std::max(a, b)};
        viewport()->update();
    }
}

void TimelineView::mouseReleaseEvent(QMouseEvent* event) {
    if (event->button() != Qt::LeftButton) return;
    if (selecting_) {
        Q_EMIT windowChanged();
    } else {
        if (window_.high > window_.low && rangeAt(event->position()) < 0) setWindow({0, 0});
        select(rangeAt(event->position()));
    }
    selecting_ = false;
}

void TimelineView::mouseDoubleClickEvent(QMouseEvent* event) {
    const int range = rangeAt(event->position());
    if (range >= 0)
        focusRange(range);
    else
        showAll();
}

bool TimelineView::run(int key) {
    const double middle = 0.5 * (view_.low + view_.high);
    const double step = 0.2 * view_.span();
    switch (key) {
    case Qt::Key_W:
        setView(zoomed(view_, middle, 1.5));
        break;
    case Qt::Key_S:
        setView(zoomed(view_, middle, 1 / 1.5));
        break;
    case Qt::Key_A:
        setView({view_.low - step, view_.high - step});
        break;
    case Qt::Key_D:
        setView({view_.low + step, view_.high + step});
        break;
    case Qt::Key_F:
        if (selected_ >= 0)
            focusRange(selected_);
        else if (window_.high > window_.low)
            setView(window_);
        else
            showAll();
        break;
    case Qt::Key_Home:
        showAll();
        break;
    case Qt::Key_X:
        setWindow({0, 0});
        break;
    default:
        return false;
    }
    return true;
}

void TimelineView::keyPressEvent(QKeyEvent* event) {
    if (run(event->key()))
        event->accept();
    else
        QAbstractScrollArea::keyPressEvent(event);
}

bool TimelineView::viewportEvent(QEvent* event) {
    if (event->type() == QEvent::ToolTip) {
        const auto* help = static_cast<QHelpEvent*>(event);
        if (const QString text = textAt(help->pos()); !text.isEmpty())
            QToolTip::showText(help->globalPos(), text, viewport());
        else
            QToolTip::hideText();
        return true;
    }
    return QAbstractScrollArea::viewportEvent(event);
}

} // namespace patchlight::widgets
