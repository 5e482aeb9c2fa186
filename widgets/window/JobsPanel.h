#pragma once

#include <QWidget>

class QLabel;
class QPlainTextEdit;
class QProgressBar;
class QPushButton;
class QTableView;

namespace patchlight::widgets {

class ExtractionController;

/// The jobs with progress, time left and a way to cancel them; the log; the last command.
class JobsPanel : public QWidget {
    Q_OBJECT

public:
    explicit JobsPanel(ExtractionController& controller, QWidget* parent = nullptr);
    void addLine(const QString& text, bool error);
    [[nodiscard]] QString log() const;

private:
    void refresh();
    ExtractionController& controller_;
    QTableView* table_;
    QPlainTextEdit* log_;
    QProgressBar* progress_;
    QLabel* what_;
    QPushButton* cancel_;
};

} // namespace patchlight::widgets
