#pragma once

#include "widgets/control/Cursor.h"

#include <QJsonObject>
#include <QWidget>

#include <memory>
#include <vector>

class QComboBox;
class QLabel;
class QToolBar;

namespace patchlight {
struct CovarianceFigures;
struct ResolutionBand;
} // namespace patchlight

namespace patchlight::widgets {

class ActionList;
class Document;
class LinePlot;
class MatrixView;
class SeenRefresh;
class WorkerThread;

/// What the resolution does at the cursor: the stored band or a patch's matrices as a picture; the row and the column there, sums and widths along
/// wavelength, and what becomes of a line or a flat spectrum.
class ResolutionView : public QWidget {
    Q_OBJECT

public:
    enum class Matrix { Band, Resolution, InverseCovariance, Covariance, Correlation, FluxCorrelation };
    static constexpr int matrixCount = 6;
    [[nodiscard]] static QString matrixName(Matrix matrix);
    /// Where the resolution of the cursor's fiber is taken from; Auto: the extracted frame where it has one, else the patch.
    enum class Source { Auto, Frame, Patch };
    /// What the fourth plot shows.
    enum class Test { Line, Flat, Eigenvalues };

    explicit ResolutionView(Document& document, QWidget* parent = nullptr);
    ~ResolutionView() override;

    void addActions(ActionList& actions);
    void setMatrix(Matrix matrix);
    [[nodiscard]] Matrix matrix() const { return matrix_; }
    void setSource(Source source);
    [[nodiscard]] Source source() const { return source_; }
    void setTest(Test test);
    [[nodiscard]] Test test() const { return test_; }
    void setSymlog(bool on);
    [[nodiscard]] bool symlog() const { return symlog_; }

    [[nodiscard]] MatrixView* picture() const { return picture_; }
    [[nodiscard]] LinePlot* kernel() const { return kernel_; }
    [[nodiscard]] LinePlot* sums() const { return sums_; }
    [[nodiscard]] LinePlot* widths() const { return widths_; }
    [[nodiscard]] LinePlot* testPlot() const { return testPlot_; }
    /// The cursor's bin in words.
    [[nodiscard]] QString summary() const;
    /// The resolution of the cursor's fiber; empty where there is none.
    [[nodiscard]] const ResolutionBand& band() const { return *band_; }
    /// Of the patch; null until they are computed.
    [[nodiscard]] const CovarianceFigures* figures() const { return figures_.get(); }

    [[nodiscard]] QJsonObject session() const;
    void restore(const QJsonObject& json);

Q_SIGNALS:
    /// A bin was chosen here.
    void placeChosen(const patchlight::widgets::Cursor& cursor);
    void figuresChanged();
    void settingsChanged();

private:
    void refresh();
    void refreshSoon();
    void refreshBand();
    void refreshPicture();
    void refreshPlots();
    void refreshKernel();
    void refreshTest();
    void placeCursor();
    void wantFigures();
    void chooseCell(int column, int row);
    [[nodiscard]] double wavelengthOfBin(int bin) const;
    /// Row or column of the patch's matrices for a place; -1: not in the patch.
    [[nodiscard]] int indexInPatch(int spectrum, double wavelength) const;
    [[nodiscard]] int binInBand(double wavelength) const;
    [[nodiscard]] QString describeIndex(int index) const;

    Document& document_;
    QToolBar* bar_;
    QComboBox* matrixBox_;
    QComboBox* sourceBox_;
    QComboBox* testBox_;
    QAction* symlogAction_;
    MatrixView* picture_;
    LinePlot* kernel_;
    LinePlot* sums_;
    LinePlot* widths_;
    LinePlot* testPlot_;
    QLabel* strip_;
    Matrix matrix_ = Matrix::Band;
    Source source_ = Source::Auto;
    Test test_ = Test::Line;
    bool symlog_ = true;
    std::unique_ptr<ResolutionBand> band_;
    bool bandOfPatch_ = false;
    int bandSpectrum_ = -1;
    std::vector<double> rowSums_, columnSums_, fwhm_, rms_;
    int kernelRow_ = -1; ///< of the patch's matrices, where one was clicked off the diagonal
    std::shared_ptr<const CovarianceFigures> figures_;
    QString figuresProblem_;
    const void* figuresOf_ = nullptr; ///< the patch that figures_ belong to, or are being computed for
    SeenRefresh* seen_;
    std::unique_ptr<WorkerThread> worker_; ///< last: joined before the rest goes
};

} // namespace patchlight::widgets
