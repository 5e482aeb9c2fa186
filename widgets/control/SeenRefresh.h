#pragma once

#include <QObject>

#include <functional>

class QTimer;
class QWidget;

namespace patchlight::widgets {

/// Brings a view up to date when it is seen, and not before: a dock behind another tab computes nothing. Such a dock is told nothing when it comes to
/// the front, but it is painted, which is what this waits for.
class SeenRefresh : public QObject {
    Q_OBJECT

public:
    /// @param view  owns this
    SeenRefresh(QWidget* view, std::function<void()> refresh);

    /// Refreshes now where the view is seen, else when it comes to sight.
    void request();
    /// As request(), at most once in so many milliseconds: for what changes many times a second.
    void requestWithin(int milliseconds);
    /// Out of date, but not to be refreshed before the view is painted or request() is called.
    void markStale() { stale_ = true; }
    void markFresh() { stale_ = false; }
    [[nodiscard]] bool isStale() const { return stale_; }
    /// On screen, and not behind another tab.
    [[nodiscard]] bool isSeen() const;

protected:
    bool eventFilter(QObject* watched, QEvent* event) override;

private:
    QWidget* view_;
    std::function<void()> refresh_;
    QTimer* timer_;
    bool stale_ = true;
};

} // namespace patchlight::widgets
