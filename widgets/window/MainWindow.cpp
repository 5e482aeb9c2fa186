#include "widgets/window/MainWindow.h"

namespace patchlight::widgets {

MainWindow::MainWindow(QWidget* parent) : QMainWindow(parent) {
    setObjectName(QStringLiteral("MainWindow"));
    setWindowTitle(QStringLiteral("Patchlight"));
    resize(1600, 1000);
}

MainWindow::~MainWindow() = default;

} // namespace patchlight::widgets
