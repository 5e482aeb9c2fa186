#pragma once

#include "widgets/ccd/Display.h"
#include "widgets/control/Cursor.h"

#include <QDialog>
#include <QString>

#include <optional>

class QLabel;
class QLineEdit;
class QPushButton;

namespace patchlight::widgets {

class Document;

/// Where a text leads: "152, 6500" (fiber, wavelength), "x 2000 y 1500" or "2000, 1500" (a pixel; taken for one where the second number
/// is no wavelength of the PSF), "fiber 152 wave 6500". On failure the cursor is empty and `problem` says what would be right.
[[nodiscard]] Cursor parsePlace(const QString& text, const Document& document, QString& problem);

/// "fiber 152, 6500.00 Angstrom = x 1034.2, y 1877.1".
[[nodiscard]] QString describePlace(const Cursor& cursor);

/// Ctrl+G.
class GoToDialog : public QDialog {
    Q_OBJECT

public:
    explicit GoToDialog(const Document& document, QWidget* parent = nullptr);
    [[nodiscard]] const Cursor& place() const { return place_; }

private:
    void changed(const QString& text);
    const Document& document_;
    QLineEdit* edit_;
    QLabel* answer_;
    QPushButton* go_ = nullptr;
    Cursor place_;
};

/// "10 to 200", "10 200", "10, 200": the values that the darkest and the brightest colour stand for; nothing where that is not what the text says.
[[nodiscard]] std::optional<ValueRange> parseCuts(const QString& text);

} // namespace patchlight::widgets
