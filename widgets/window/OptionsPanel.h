#pragma once

#include <QHash>
#include <QString>
#include <QWidget>

#include <functional>

class QComboBox;
class QLabel;
class QSpinBox;
class QToolButton;

namespace patchlight {
struct OptionSpec;
}

namespace patchlight::widgets {

class Document;
class ExtractionController;

/// Every option of an extraction, made from optionTable(), and how to run it.
class OptionsPanel : public QWidget {
    Q_OBJECT

public:
    OptionsPanel(Document& document, ExtractionController& controller, QWidget* parent = nullptr);
    /// Sets an option from text, as the command line does. @returns the error in one line; empty where it was taken
    QString setOption(const QString& name, const QString& text);
    void resetOption(const QString& name);
    void resetAll();
    /// The control of an option, for tests.
    [[nodiscard]] QWidget* editor(const QString& name) const { return rows_.value(name).editor; }
    /// The error that is shown; empty where there is none.
    [[nodiscard]] QString problem() const;
    /// Takes over what the controller has.
    void refreshRun();

Q_SIGNALS:
    void changed();

private:
    struct Row {
        QWidget* editor = nullptr;
        QToolButton* reset = nullptr;
        QLabel* name = nullptr;
    };
    void refresh();
    void showProblem(const QString& text);

    Document& document_;
    ExtractionController& controller_;
    QHash<QString, Row> rows_;
    QComboBox* backend_;
    QSpinBox* threads_;
    QLabel* problem_;
    bool refreshing_ = false;
};

} // namespace patchlight::widgets
