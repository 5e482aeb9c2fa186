#pragma once

#include "core/analysis/BinDiagnosis.h"
#include "core/analysis/FrameQuality.h"
#include "widgets/control/Cursor.h"
#include "widgets/quality/FrameMap.h"

#include <QWidget>

#include <memory>
#include <vector>

class QCheckBox;
class QComboBox;
class QDoubleSpinBox;
class QLabel;
class QLineEdit;
class QSlider;
class QSortFilterProxyModel;
class QTabWidget;
class QTableView;
class QTimer;

namespace patchlight {
struct CcdImage;
struct ExtractedFrame;
struct PatchReport;
struct Plan;
class Psf;
} // namespace patchlight

namespace patchlight::widgets {

class ActionList;
class Document;
class ExtractionController;
class FiberFilter;
class FiberModel;
class FindingModel;
class SeenRefresh;
class SeriesPlot;

/// Where in the extracted frame is it bad, and why: maps, findings, fibers, noise. Measured in the background when the panel is seen
/// and the frame, the image or the PSF is new.
class FrameQualityPanel : public QWidget {
    Q_OBJECT

public:
    enum class Map {
        Cause,
        Flux,
        Ivar,
        Snr,
        Chi2pix,
        Chi2Ratio,
        Masked,
        Mask,
        RowSum,
        Fluxweight,
        Neighbour,
        PeakPull,
        WhatIf
    };
    static constexpr int mapCount = 13;
    /// What was measured, with what it was measured from.
    struct Measurement {
        std::shared_ptr<const ExtractedFrame> frame;
        std::shared_ptr<const CcdImage> image; ///< may be null
        std::shared_ptr<const Psf> psf;        ///< may be null
        std::shared_ptr<const Plan> plan;      ///< of a run of this window, else null, and so are the reports
        std::shared_ptr<const std::vector<PatchReport>> reports;
        std::shared_ptr<const FrameQuality> quality;
        [[nodiscard]] QualityInput input() const;
    };

    FrameQualityPanel(Document& document, ExtractionController& controller, QWidget* parent = nullptr);
    ~FrameQualityPanel() override;

    /// Puts what can be done here into the window's one list: menu Frame.
    void addActions(ActionList& actions);
    /// To the next finding of the table, or the one before.
    void walkFindings(int step);
    /// Measures now if what there is has not been measured, whether the panel is seen or not. @returns the job; 0: none needed or possible
    int measure();
    [[nodiscard]] const Measurement& measurement() const { return measurement_; }
    [[nodiscard]] FrameMap& map() { return *map_; }
    [[nodiscard]] SeriesPlot& histogram() { return *histogram_; }
    [[nodiscard]] SeriesPlot& profile() { return *profile_; }
    [[nodiscard]] const SeriesPlot& pulls() const { return *pulls_; }
    [[nodiscard]] const SeriesPlot& columnMedians() const { return *columns_; }
    [[nodiscard]] const SeriesPlot& rowMedians() const { return *rows_; }
    [[nodiscard]] const SeriesPlot& offsets() const { return *offsets_; }
    [[nodiscard]] const SeriesPlot& shifts() const { return *shifts_; }
    [[nodiscard]] QTableView& findingTable() { return *findingTable_; }
    [[nodiscard]] QTableView& fiberTable() { return *fiberTable_; }
    [[nodiscard]] QTabWidget& tabs() { return *tabs_; }
    void setMap(Map map);
    [[nodiscard]] Map currentMap() const;
    /// By their names, as the boxes and tabs have them, in any case. @returns whether there is one
    bool showMapNamed(const QString& name);
    bool showTabNamed(const QString& name);
    [[nodiscard]] static QStringList mapNames();
    /// As the slider does; a what-if: the frame's own mask stays.
    void setBad2dFactor(double factor);
    void setPsferr(double psferr);
    /// Bins that would be BAD2DFIT with the sliders as they are.
    [[nodiscard]] std::int64_t whatIfCount() const;
    [[nodiscard]] QString sentence() const;
    [[nodiscard]] static QColor kindColour(BadBinKind kind);
    /// The plane of a map, for reports; values null where it is not known.
    [[nodiscard]] FrameMap::Plane plane(Map map) const;
    [[nodiscard]] static QString mapName(Map map);

Q_SIGNALS:
    void measured();
    /// A place was chosen here: it should be seen in the other views.
    void placeChosen(const patchlight::widgets::Cursor& cursor);

private:
    int measureNow();
    void take(Measurement measurement);
    void showMap();
    void chooseBin(int row, int bin);
    void chooseFinding(const QModelIndex& index);
    void cursorMoved();
    void refreshPlots();
    void refreshHistogram();
    void refreshProfile();
    void refreshSentence();
    [[nodiscard]] QString describe(int row, int bin) const;
    void startPsferr();
    void refreshWhatIf();

    Document& document_;
    ExtractionController& controller_;
    Measurement measurement_;
    std::shared_ptr<const Array2<float>>
        whatIfRatio_; ///< chi2pix over its medians, with the psferr of the slider; null: the frame's
    int serial_ = 0;  ///< of the newest request; results of older ones are dropped
    int job_ = 0;
    int row_ = -1;
    int bin_ = -1;

    QComboBox* mapBox_;
    QComboBox* cutsBox_;
    QLabel* status_;
    FrameMap* map_;
    QLabel* legend_;
    QLabel* sentence_;
    QTabWidget* tabs_;
    FindingModel* findings_;
    QSortFilterProxyModel* findingFilter_;
    QTableView* findingTable_ = nullptr;
    QComboBox* kindBox_;
    FiberModel* fibers_;
    FiberFilter* fiberFilter_;
    QLineEdit* fiberWords_;
    QCheckBox* alarmsOnly_;
    QTableView* fiberTable_ = nullptr;
    SeriesPlot* histogram_;
    SeriesPlot* pulls_;
    SeriesPlot* columns_;
    SeriesPlot* rows_;
    SeriesPlot* offsets_;
    SeriesPlot* shifts_;
    SeriesPlot* profile_;
    QSlider* factorSlider_;
    QDoubleSpinBox* factorBox_;
    QDoubleSpinBox* psferrBox_;
    QLabel* whatIf_;
    QTimer* psferrTimer_;
    SeenRefresh* seen_;
    SeenRefresh* cursorSeen_;
};

} // namespace patchlight::widgets
