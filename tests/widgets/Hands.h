#pragma once

#include <QCoreApplication>
#include <QMouseEvent>
#include <QPointF>
#include <QWheelEvent>
#include <QWidget>

/// Mouse events as hands make them, sent at once.
namespace patchlight::test {

inline void moveMouse(QWidget* widget, const QPointF& at, Qt::MouseButtons buttons = Qt::NoButton) {
    QMouseEvent event(QEvent::MouseMove, at, widget->mapToGlobal(at), Qt::NoButton, buttons, Qt::NoModifier);
    QCoreApplication::sendEvent(widget, &event);
}

/// @param turned  120 a notch
inline void wheel(QWidget* widget, const QPointF& at, int turned, Qt::KeyboardModifiers modifiers = Qt::NoModifier) {
    QWheelEvent event(at, widget->mapToGlobal(at), QPoint(), QPoint(0, turned), Qt::NoButton, modifiers,
                      Qt::NoScrollPhase, false);
    QCoreApplication::sendEvent(widget, &event);
}

} // namespace patchlight::test
