#pragma once

#include "widgets/spectrum/SpectrumData.h"
#include "widgets/spectrum/SpectrumPlot.h"

#include <QWidget>

class QAction;
class QComboBox;
class QDoubleSpinBox;
class QLabel;
class QMenu;
class QSpinBox;
class QToolBar;

namespace patchlight::widgets {

/// Spectra with everything around them: a SpectrumPlot, its tool bar, a strip that reads the values under the cursor, and export.
/// Knows nothing of files or of the engine: it is given SpectrumData.
class SpectrumView : public QWidget {
    Q_OBJECT

public:
    explicit SpectrumView(QWidget* parent = nullptr);

    void setData(SpectrumData data);
    [[nodiscard]] const SpectrumData& data() const { return plot_->data(); }
    /// The window's common cursor, from outside; spectrum -1: none. Emits nothing.
    void setCursor(int spectrum, double wavelength);
    using QWidget::setCursor;
    /// Tool bar, for what the window adds.
    [[nodiscard]] QToolBar* toolBar() const { return bar_; }
    [[nodiscard]] SpectrumPlot* plot() const { return plot_; }
    [[nodiscard]] const SpectrumSettings& settings() const { return plot_->settings(); }
    /// The MASK bits that shade a bin, as a menu.
    [[nodiscard]] QMenu* maskMenu() const { return maskMenu_; }
    /// Takes the residual against the next of the spectra drawn over this one.
    void nextOverlay();
    void setSettings(const SpectrumSettings& settings);
    /// The tool bar's switch of a setting.
    [[nodiscard]] QAction* toggle(bool SpectrumSettings::*field) const;
    [[nodiscard]] QString stripText() const;

    /// The spectra as text: one row a bin, with a header that says columns and units; overlays and pulls with them. What is on
    /// screen only (smoothing, units) does not change it.
    [[nodiscard]] QString csv() const;
    /// Writes by the name's ending: .csv, .png or .pdf. @return an error in one line; empty where all went well
    [[nodiscard]] QString exportTo(const QString& path) const;

signals:
    void cursorMoved(int spectrum, double wavelength);
    void binSelected(int spectrum, double wavelength);
    void fiberStepRequested(int step);
    void settingsChanged();

private:
    QAction* addToggle(QToolBar* bar, const QString& text, const QString& tip, bool SpectrumSettings::*field);
    template <class Change> void change(Change&& change);
    void showSettings();
    void fillMaskMenu();
    void fillOverlays();
    void askForExport();

    SpectrumPlot* plot_;
    QToolBar* bar_;
    QLabel* strip_;
    QMenu* maskMenu_;
    QAction* back_;
    QAction* forward_;
    QSpinBox* smoothing_;
    QComboBox* xUnit_;
    QComboBox* yUnit_;
    QDoubleSpinBox* redshift_;
    QComboBox* overlay_;
    std::vector<std::pair<QAction*, bool SpectrumSettings::*>> toggles_;
    QString residualAgainst_; ///< name of the overlay that was chosen by hand
    bool showing_ = false;
};

} // namespace patchlight::widgets
