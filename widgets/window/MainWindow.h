#pragma once

#include <QMainWindow>

namespace patchlight::widgets {

/// The window: docks around the CCD view.
class MainWindow : public QMainWindow {
    Q_OBJECT

public:
    explicit MainWindow(QWidget* parent = nullptr);
    ~MainWindow() override;
};

} // namespace patchlight::widgets
