#include "widgets/control/SeenRefresh.h"

#include <QEvent>
#include <QTimer>
#include <QWidget>

#include <utility>

namespace patchlight::widgets {

SeenRefresh::SeenRefresh(QWidget* view, std::function<void()> refresh)
    : QObject(view), view_(view), refresh_(std::move(refresh)), timer_(new QTimer(this)) {
    timer_->setSingleShot(true);
    connect(timer_, &QTimer::timeout, this, [this] {
        if (stale_) request();
    });
    view_->installEventFilter(this);
}

bool SeenRefresh::isSeen() const { return view_->isVisible() && !view_->visibleRegion().isEmpty(); }

void SeenRefresh::request() {
    stale_ = true;
    if (!isSeen()) return;
    timer_->stop();
    stale_ = false; // before: what it calls may ask for another
    refresh_();
}

void SeenRefresh::requestWithin(int milliseconds) {
    stale_ = true;
    if (!timer_->isActive()) timer_->start(milliseconds);
}

bool SeenRefresh::eventFilter(QObject* watched, QEvent* event) {
    // After the painting: a refresh changes what is being painted.
    if (event->type() == QEvent::Paint && stale_ && !timer_->isActive()) timer_->start(0);
    return QObject::eventFilter(watched, event);
}

} // namespace patchlight::widgets
