#pragma once

#include "widgets/control/Cursor.h"

#include <QJsonObject>
#include <QWidget>

#include <memory>
#include <optional>

class QAction;
class QComboBox;
class QLabel;
class QStackedWidget;
class QTableWidget;
class QTabWidget;

namespace patchlight {
struct SpotStamp;
struct TraceOffsets;
} // namespace patchlight

namespace patchlight::widgets {

class ActionList;
class Document;
class LinePlot;
class MatrixView;
class SeenRefresh;
class SurfaceCanvas;

/// The PSF at the cursor: its spot as picture or surface, its profiles, its parameters; a second PSF beside it and their difference; where the traces
/// of the two differ; the wavelength offsets that the file brings along.
class PsfInspector : public QWidget {
    Q_OBJECT

public:
    /// Differences of traces.
    enum class Offset { X, Y, Wavelength };

    explicit PsfInspector(Document& document, QWidget* parent = nullptr);
    ~PsfInspector() override;

    void addActions(ActionList& actions);
    /// The second PSF's shape on the first one's traces, so that only shapes are compared.
    void setSameTrace(bool on);
    /// Extracts with the second PSF in the first one's place.
    void swap();
    [[nodiscard]] bool sameTrace() const { return sameTrace_; }
    void setLog(bool on);
    void showSurfaces(bool on);
    [[nodiscard]] QAction* followAction() const { return followAction_; }
    void setOffset(Offset offset);
    void showPage(int page);

    [[nodiscard]] MatrixView* spotPicture() const { return spot_; }
    [[nodiscard]] MatrixView* secondPicture() const { return second_; }
    [[nodiscard]] MatrixView* differencePicture() const { return difference_; }
    [[nodiscard]] SurfaceCanvas* surfaces() const { return surfaces_; }
    [[nodiscard]] LinePlot* profileX() const { return profileX_; }
    [[nodiscard]] LinePlot* profileY() const { return profileY_; }
    [[nodiscard]] QTableWidget* parameters() const { return table_; }
    [[nodiscard]] MatrixView* offsetMap() const { return offsetMap_; }
    [[nodiscard]] LinePlot* offsetPlot() const { return offsetPlot_; }
    [[nodiscard]] LinePlot* waveOffsetPlot() const { return waveOffsets_; }
    [[nodiscard]] const TraceOffsets* offsets() const { return offsets_.get(); }
    /// The spot in words.
    [[nodiscard]] QString summary() const;

    [[nodiscard]] QJsonObject session() const;
    void restore(const QJsonObject& json);

Q_SIGNALS:
    void placeChosen(const patchlight::widgets::Cursor& cursor);
    void openSecondRequested();
    /// Something cannot be done, in a sentence.
    void message(const QString& text);

private:
    [[nodiscard]] const Cursor& place() const;
    void refreshSoon();
    void refresh();
    void refreshSpot();
    void refreshParameters();
    void refreshOffsets();
    void refreshOffsetPlots();
    void refreshWaveOffsets();

    Document& document_;
    QAction* sameTraceAction_;
    QAction* logAction_;
    QAction* surfacesAction_;
    QAction* followAction_;
    QStackedWidget* pictures_;
    MatrixView* spot_;
    MatrixView* second_;
    MatrixView* difference_;
    SurfaceCanvas* surfaces_;
    LinePlot* profileX_;
    LinePlot* profileY_;
    QTabWidget* pages_;
    QTableWidget* table_;
    QComboBox* offsetBox_;
    QLabel* offsetText_;
    MatrixView* offsetMap_;
    LinePlot* offsetPlot_;
    LinePlot* waveOffsets_;
    QLabel* strip_;
    bool sameTrace_ = false;
    bool log_ = false;
    Offset offset_ = Offset::X;
    std::unique_ptr<SpotStamp> stamp_;       ///< of the cursor; null: none
    std::unique_ptr<SpotStamp> secondStamp_; ///< null: none
    std::unique_ptr<TraceOffsets> offsets_;
    QString offsetsProblem_;
    bool offsetsStale_ = true;
    SeenRefresh* seen_;
};

} // namespace patchlight::widgets
