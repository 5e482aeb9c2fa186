#pragma once

#include "widgets/patch/PatchInput.h"

#include <QHash>
#include <QPoint>
#include <QWidget>

#include <memory>
#include <optional>

class QAction;
class QComboBox;
class QLabel;
class QSortFilterProxyModel;
class QSpinBox;
class QStackedWidget;
class QTableView;
class QUndoStack;

namespace patchlight::widgets {

class MaskEditor;
class PatchBinModel;
class PatchImages;
class PatchSpots;
class SurfaceCanvas;

/// One patch taken apart: data, model, residual and pull as pictures or surfaces, its bins in a table, which pixel feeds which bin, and
/// what a hand-made mask or another option changes, in sigma. It is given what was extracted and asks for extractions by signals.
class PatchInspector : public QWidget {
    Q_OBJECT

public:
    explicit PatchInspector(QWidget* parent = nullptr);
    ~PatchInspector() override;

    /// Shows a patch. @param before  what was there before a change, for the comparison; empty: none
    /// @param noBefore  why there is none, in a sentence, where one would be expected
    void setPatch(const PatchInput& input, const PatchInput& before = {}, const QString& noBefore = {});
    [[nodiscard]] const PatchInput& patch() const { return input_; }
    /// The window's common cursor, from outside. Emits nothing.
    void setCursor(int spectrum, double wavelength, double x, double y);
    using QWidget::setCursor;
    /// Selects a bin (zero-based spectrum, Angstrom) in the table and in the pictures; does nothing where the patch does not hold it.
    void selectBin(int spectrum, double wavelength);

    /// Hand-made mask, pixel index y * nx + x: true masked, false not masked.
    void setMaskEdits(const QHash<int, bool>& edits);
    [[nodiscard]] QUndoStack* undoStack() const;

    [[nodiscard]] PatchImages* images() const { return images_; }
    [[nodiscard]] SurfaceCanvas* surfaces() const { return surfaces_; }
    [[nodiscard]] PatchBinModel* model() const { return model_; }
    [[nodiscard]] QTableView* table() const { return table_; }
    /// The patch in a line: fibers, wavelengths, pixels, status, condition, largest change.
    [[nodiscard]] QString summary() const;
    [[nodiscard]] QString stripText() const;
    /// The selected bin in words: pixels, masked pixels with their share of its light, neighbours.
    [[nodiscard]] QString describeBin(int bin) const;
    /// The selected pixel in words: its numbers and the bins that it feeds.
    [[nodiscard]] QString describePixel(int x, int y) const;
    /// Switches of the tool bar.
    [[nodiscard]] QAction* surfacesAction() const { return showSurfaces_; }
    [[nodiscard]] QAction* brushAction() const { return paint_; }
    [[nodiscard]] QAction* keepBeforeAction() const { return pin_; }
    [[nodiscard]] QAction* paddingAction() const { return padding_; }
    [[nodiscard]] QAction* onlyAtPixelAction() const { return onlyAtPixel_; }
    /// Data and model in asinh steps instead of linear ones.
    void setAsinh(bool on);
    /// Side of the mask brush, pixels.
    void growBrush(int by);
    void showSurfaces(bool on);
    [[nodiscard]] bool showsSurfaces() const;

    /// Writes by the name's ending: .png or .pdf (the view), .csv (the table). @return an error in one line; empty where all went well
    [[nodiscard]] QString exportTo(const QString& path);

signals:
    /// Mouse over the pictures: CCD position, pixels.
    void cursorMoved(double x, double y);
    void cursorLeft();
    /// A row of the table was chosen.
    void binSelected(int spectrum, double wavelength);
    void pixelSelected(int x, int y);
    /// Arrow keys: the neighbouring patch, in subbundles and wavelength steps.
    void neighbourRequested(int subbundles, int steps);
    /// Edits after a finished stroke, undo, redo.
    void maskEdited(const QHash<int, bool>& edits);
    void extractRequested();

private:
    class BinFilter;
    void makeSpots() const;
    void pixelChosen(int x, int y);
    void rowChosen();
    void updateSurfaces();
    void updateSummary();
    [[nodiscard]] int selectedBin() const;

    PatchInput input_;
    PatchInput before_;
    QString noBefore_;
    mutable std::shared_ptr<const PatchSpots> spots_;
    MaskEditor* editor_;
    PatchImages* images_;
    SurfaceCanvas* surfaces_;
    QStackedWidget* pictures_;
    PatchBinModel* model_;
    BinFilter* filter_;
    QTableView* table_;
    QLabel* title_;
    QLabel* strip_;
    QAction* showSurfaces_;
    QAction* paint_;
    QAction* padding_;
    QAction* onlyAtPixel_;
    QAction* clear_;
    QAction* pin_;
    PatchInput pinned_;
    QSpinBox* brush_;
    QComboBox* stretch_;
    bool selecting_ = false;
};

} // namespace patchlight::widgets
