#pragma once

#include "widgets/ccd/CcdImageView.h"

#include <QWidget>

class QCheckBox;
class QComboBox;
class QLabel;
class QLineEdit;
class QSlider;

namespace patchlight::widgets {

/// The colours of the layer shown and the values they stand for.
class ColorBar : public QWidget {
    Q_OBJECT

public:
    explicit ColorBar(CcdImageView& view, QWidget* parent = nullptr);
    [[nodiscard]] QSize sizeHint() const override { return {200, 34}; }
    [[nodiscard]] QSize minimumSizeHint() const override { return {120, 34}; }

protected:
    void paintEvent(QPaintEvent* event) override;

private:
    CcdImageView& view_;
};

/// The fixed strip that says what is under the mouse (or under the cursor, where the mouse is elsewhere).
class ReadoutStrip : public QWidget {
    Q_OBJECT

public:
    ReadoutStrip(Document& document, CcdImageView& view, QWidget* parent = nullptr);
    /// As shown: "x", "y", "value", "ivar", "mask", "fiber", "wavelength", "patch".
    [[nodiscard]] QString text(const QString& field) const;

private:
    void refresh();
    Document& document_;
    CcdImageView& view_;
    QList<QPair<QString, QLabel*>> fields_;
};

/// The CCD view with its controls, colour bar and readout strip.
class CcdPanel : public QWidget {
    Q_OBJECT

public:
    explicit CcdPanel(Document& document, QWidget* parent = nullptr);
    [[nodiscard]] CcdImageView& view() { return *view_; }
    [[nodiscard]] ReadoutStrip& readout() { return *readout_; }

private:
    void refresh();
    void apply();

    Document& document_;
    CcdImageView* view_;
    ReadoutStrip* readout_;
    ColorBar* bar_;
    QComboBox* layer_;
    QComboBox* cuts_;
    QLineEdit* low_;
    QLineEdit* high_;
    QComboBox* scaling_;
    QComboBox* map_;
    QCheckBox* invert_;
    QSlider* fade_;
    QComboBox* fadeLayer_;
    bool refreshing_ = false;
};

} // namespace patchlight::widgets
