#include "widgets/resolution/ResolutionView.h"

#include "core/analysis/ResolutionFigures.h"
#include "core/analysis/Statistics.h"
#include "core/base/Error.h"
#include "core/base/Nan.h"
#include "core/engine/PatchResult.h"
#include "core/engine/Plan.h"
#include "core/frame/ExtractedFrame.h"
#include "widgets/control/Document.h"
#include "widgets/control/SeenRefresh.h"
#include "widgets/control/WorkerThread.h"
#include "widgets/plot/LinePlot.h"
#include "widgets/plot/MatrixView.h"
#include "widgets/window/ActionList.h"

#include <QAction>
#include <QComboBox>
#include <QGridLayout>
#include <QLabel>
#include <QSplitter>
#include <QToolBar>
#include <QVBoxLayout>

#include <algorithm>
#include <cmath>
#include <utility>

namespace patchlight::widgets {

namespace {} // namespace

QString ResolutionView::matrixName(Matrix matrix) {
    switch (matrix) {
    case Matrix::Band:
        return tr("stored band");
    case Matrix::Resolution:
        return tr("R of the patch");
    case Matrix::InverseCovariance:
        return tr("iCov of xflux");
    case Matrix::Covariance:
        return tr("covariance of xflux");
    case Matrix::Correlation:
        return tr("correlation of xflux");
    case Matrix::FluxCorrelation:
        return tr("correlation of flux");
    }
    return {};
}

ResolutionView::ResolutionView(Document& document, QWidget* parent)
    : QWidget(parent), document_(document), bar_(new QToolBar(tr("Resolution"), this)), matrixBox_(new QComboBox(bar_)),
      sourceBox_(new QComboBox(bar_)), testBox_(new QComboBox(bar_)), picture_(new MatrixView(this)),
      kernel_(new LinePlot(this)), sums_(new LinePlot(this)), widths_(new LinePlot(this)),
      testPlot_(new LinePlot(this)), strip_(new QLabel(this)), band_(std::make_unique<ResolutionBand>()),
      seen_(new SeenRefresh(this, [this] { refresh(); })), worker_(std::make_unique<WorkerThread>()) {
    auto* layout = new QVBoxLayout(this);
    layout->setContentsMargins(0, 0, 0, 0);
    layout->setSpacing(0);
    bar_->setToolButtonStyle(Qt::ToolButtonTextOnly);
    for (int i = 0; i < matrixCount; ++i) matrixBox_->addItem(matrixName(static_cast<Matrix>(i)));
    matrixBox_->setToolTip(tr("The picture: the band of the cursor's fiber, or a matrix of the selected patch"));
    matrixBox_->setAccessibleName(tr("Matrix shown"));
    bar_->addWidget(matrixBox_);
    symlogAction_ = bar_->addAction(tr("symlog"));
    symlogAction_->setCheckable(true);
    symlogAction_->setChecked(symlog_);
    symlogAction_->setToolTip(tr("Colours by the logarithm of the size, with the sign; off: linear"));
    bar_->addSeparator();
    sourceBox_->addItems({tr("auto"), tr("frame"), tr("patch")});
    sourceBox_->setToolTip(tr(
        "Band, sums and widths of the extracted frame or of the patch; auto: the frame's where it has a resolution"));
    sourceBox_->setAccessibleName(tr("Source of the resolution"));
    bar_->addWidget(sourceBox_);
    bar_->addSeparator();
    testBox_->addItems({tr("unit line through R"), tr("flat spectrum through R"), tr("eigenvalues of iCov")});
    testBox_->setToolTip(tr("What the fourth plot shows"));
    testBox_->setAccessibleName(tr("Fourth plot"));
    bar_->addWidget(testBox_);
    layout->addWidget(bar_);

    auto* plots = new QWidget(this);
    auto* grid = new QGridLayout(plots);
    grid->setContentsMargins(0, 0, 0, 0);
    grid->setSpacing(2);
    grid->addWidget(kernel_, 0, 0);
    grid->addWidget(sums_, 0, 1);
    grid->addWidget(testPlot_, 1, 0);
    grid->addWidget(widths_, 1, 1);
    auto* splitter = new QSplitter(Qt::Vertical, this);
    splitter->addWidget(picture_);
    splitter->addWidget(plots);
    splitter->setStretchFactor(0, 1);
    splitter->setStretchFactor(1, 1);
    layout->addWidget(splitter, 1);
    strip_->setContentsMargins(6, 2, 6, 2);
    strip_->setTextFormat(Qt::PlainText);
    strip_->setWordWrap(true);
    strip_->setTextInteractionFlags(Qt::TextSelectableByMouse);
    strip_->setAccessibleName(tr("The resolution at the cursor"));
    strip_->setSizePolicy(QSizePolicy::Ignored, QSizePolicy::Fixed);
    strip_->setFixedHeight(2 * fontMetrics().height() + 6);
    strip_->setAlignment(Qt::AlignLeft | Qt::AlignTop);
    layout->addWidget(strip_);
    setFocusProxy(picture_);

    connect(matrixBox_, &QComboBox::currentIndexChanged, this, [this](int i) { setMatrix(static_cast<Matrix>(i)); });
    connect(sourceBox_, &QComboBox::currentIndexChanged, this, [this](int i) { setSource(static_cast<Source>(i)); });
    connect(testBox_, &QComboBox::currentIndexChanged, this, [this](int i) { setTest(static_cast<Test>(i)); });
    connect(symlogAction_, &QAction::toggled, this, &ResolutionView::setSymlog);
    connect(picture_, &MatrixView::clicked, this, &ResolutionView::chooseCell);
    connect(picture_, &MatrixView::hovered, this, [this](int column, int row) {
        const MatrixContent& content = picture_->content();
        if (column < 0 || row < 0 || column >= static_cast<int>(content.values.columns()) ||
            row >= static_cast<int>(content.values.rows()))
            return;
        const double value =
            static_cast<double>(content.values(static_cast<std::size_t>(row), static_cast<std::size_t>(column)));
        if (matrix_ == Matrix::Band) {
            const double wavelength = band_->wavelength[static_cast<std::size_t>(column)];
            const int offset = row - static_cast<int>(band_->ndiag());
            strip_->setText(tr("R[bin %1 %2 %3, bin %1] = %4: light of fiber %5 at %6 \u00c5 that is found %7 bins %8")
                                .arg(column)
                                .arg(offset < 0 ? QStringLiteral("\u2212") : QStringLiteral("+"))
                                .arg(std::abs(offset))
                                .arg(value, 0, 'g', 4)
                                .arg(bandSpectrum_)
                                .arg(wavelength, 0, 'f', 2)
                                .arg(std::abs(offset))
                                .arg(offset < 0 ? tr("below") : tr("above")));
        } else {
            strip_->setText(
                tr("row %1; column %2: %3").arg(describeIndex(row), describeIndex(column)).arg(value, 0, 'g', 5));
        }
    });
    connect(picture_, &MatrixView::left, this, [this] { strip_->setText(summary()); });
    for (LinePlot* plot : {sums_, widths_}) {
        connect(plot, &LinePlot::clicked, this, [this](double wavelength) {
            const int bin = binInBand(wavelength);
            if (bin < 0) return;
            const Cursor cursor =
                document_.cursorAtBin(bandSpectrum_, band_->wavelength[static_cast<std::size_t>(bin)]);
            document_.setCursor(cursor);
            Q_EMIT placeChosen(cursor);
        });
        connect(plot, &LinePlot::hovered, this, [this, plot](double wavelength) {
            strip_->setText(tr("%1 \u00c5: %2").arg(wavelength, 0, 'f', 2).arg(plot->readout(wavelength)));
            document_.setHover(document_.cursorAtBin(bandSpectrum_, wavelength));
        });
        connect(plot, &LinePlot::left, this, [this] {
            strip_->setText(summary());
            document_.setHover({});
        });
    }
    for (LinePlot* plot : {kernel_, testPlot_}) {
        connect(plot, &LinePlot::hovered, this,
                [this, plot](double x) { strip_->setText(tr("%1: %2").arg(x, 0, 'f', 2).arg(plot->readout(x))); });
        connect(plot, &LinePlot::left, this, [this] { strip_->setText(summary()); });
    }
    connect(&document_, &Document::cursorChanged, this, [this](const Cursor& cursor) {
        kernelRow_ = -1;
        if (cursor.spectrum != bandSpectrum_)
            refreshSoon();
        else if (seen_->isSeen() && !seen_->isStale())
            placeCursor();
        else
            seen_->markStale();
    });
    connect(&document_, &Document::patchRunChanged, this, &ResolutionView::refreshSoon);
    connect(&document_, &Document::frameChanged, this, &ResolutionView::refreshSoon);
}

ResolutionView::~ResolutionView() = default;

void ResolutionView::addActions(ActionList& actions) {
    const QString menu = tr("Resolution");
    for (int i = 0; i < matrixCount; ++i) {
        const auto matrix = static_cast<Matrix>(i);
        actions.add({QStringLiteral("resolution.matrix.%1").arg(i + 1), menu, tr("Show %1").arg(matrixName(matrix)),
                     QString::number(i + 1), tr("In the resolution view"), false, false, this},
                    [this, matrix] { setMatrix(matrix); });
    }
    QAction* const symlog = actions.addToggle({"resolution.symlog", menu, tr("Colours by lo&garithm"), "S",
                                               symlogAction_->toolTip(), true, symlog_, this, true},
                                              [this](bool on) { setSymlog(on); });
    connect(symlogAction_, &QAction::toggled, symlog, &QAction::setChecked);
    actions.add({"resolution.source", menu, tr("Frame or pa&tch"), "P",
                 tr("Band, sums and widths of the extracted frame, of the patch, or of the frame where there is one"),
                 false, false, this},
                [this] { setSource(static_cast<Source>((static_cast<int>(source_) + 1) % 3)); });
    actions.add({"resolution.line", menu, tr("Send a unit &line through R"), "L", tr("At the cursor"), false, false,
                 this, true},
                [this] { setTest(Test::Line); });
    actions.add(
        {"resolution.flat", menu, tr("Send a &flat spectrum through R"), "F", tr("1 in every bin"), false, false, this},
        [this] { setTest(Test::Flat); });
    actions.add({"resolution.eigenvalues", menu, tr("&Eigenvalues of iCov"), "E", tr("Of the selected patch"), false,
                 false, this},
                [this] { setTest(Test::Eigenvalues); });
}

void ResolutionView::setMatrix(Matrix matrix) {
    if (matrix == matrix_) return;
    matrix_ = matrix;
    matrixBox_->setCurrentIndex(static_cast<int>(matrix));
    refreshSoon();
    Q_EMIT settingsChanged();
}

void ResolutionView::setSource(Source source) {
    if (source == source_) return;
    source_ = source;
    sourceBox_->setCurrentIndex(static_cast<int>(source));
    refreshSoon();
    Q_EMIT settingsChanged();
}

void ResolutionView::setTest(Test test) {
    if (test == test_) return;
    test_ = test;
    testBox_->setCurrentIndex(static_cast<int>(test));
    refreshSoon();
    Q_EMIT settingsChanged();
}

void ResolutionView::setSymlog(bool on) {
    if (on == symlog_) return;
    symlog_ = on;
    symlogAction_->setChecked(on);
    refreshSoon();
    Q_EMIT settingsChanged();
}

void ResolutionView::refreshSoon() { seen_->request(); }

void ResolutionView::refresh() {
    const PatchRun& run = document_.patchRun();
    if (figuresOf_ != run.detail.get()) {
        figures_.reset();
        figuresProblem_.clear();
        figuresOf_ = nullptr;
        kernelRow_ = -1;
    }
    refreshBand();
    refreshPicture();
    refreshPlots();
    placeCursor();
}

double ResolutionView::wavelengthOfBin(int bin) const {
    const WavelengthGrid& grid = document_.patchRun().plan->grid;
    const int core = bin - grid.pad;
    return core >= 0 && core < grid.nwave ? grid.outputWavelength(core) : grid.wavelength(bin) * grid.scale;
}

int ResolutionView::indexInPatch(int spectrum, double wavelength) const {
    const PatchRun& run = document_.patchRun();
    if (!run || !std::isfinite(wavelength)) return -1;
    const Patch& patch = run.detail->patch;
    const WavelengthGrid& grid = run.plan->grid;
    const double bin = std::round((wavelength - grid.wmin) / grid.dw) + grid.pad;
    if (!patch.spectra.contains(spectrum) || !(bin >= patch.bins.first && bin < patch.bins.last)) return -1;
    return (spectrum - patch.spectra.first) * patch.bins.count() + static_cast<int>(bin) - patch.bins.first;
}

int ResolutionView::binInBand(double wavelength) const {
    const std::vector<double>& waves = band_->wavelength;
    if (waves.size() < 2 || !std::isfinite(wavelength)) return -1;
    const auto after = std::lower_bound(waves.begin(), waves.end(), wavelength);
    auto bin = static_cast<int>(after - waves.begin());
    const auto at = [&](int i) { return waves[static_cast<std::size_t>(i)]; };
    if (bin > 0 && (bin == static_cast<int>(waves.size()) || wavelength - at(bin - 1) < at(bin) - wavelength)) --bin;
    return std::abs(at(bin) - wavelength) <= waves[1] - waves[0] ? bin : -1;
}

QString ResolutionView::describeIndex(int index) const {
    const Patch& patch = document_.patchRun().detail->patch;
    return tr("fiber %1, %2 \u00c5")
        .arg(patch.spectra.first + index / patch.bins.count())
        .arg(wavelengthOfBin(patch.bins.first + index % patch.bins.count()), 0, 'f', 2);
}

/// The resolution of the cursor's fiber, and the figures along wavelength.
void ResolutionView::refreshBand() {
    *band_ = {};
    bandOfPatch_ = false;
    const Cursor& cursor = document_.cursor();
    const OpenFrame& open = document_.frame();
    const PatchRun& run = document_.patchRun();
    int spectrum = cursor.spectrum;
    if (spectrum < 0 && open && source_ != Source::Patch) spectrum = open.frame->specmin;
    if (source_ != Source::Patch && open) {
        const int row = spectrum - open.frame->specmin;
        if (row >= 0 && row < static_cast<int>(open.frame->nspec()))
            *band_ = resolutionOf(*open.frame, static_cast<std::size_t>(row));
    }
    if (band_->empty() && source_ != Source::Frame && run && run.detail->patch.spectra.contains(spectrum)) {
        const Patch& patch = run.detail->patch;
        std::vector<double> wavelength;
        for (int bin = patch.bins.first; bin < patch.bins.last; ++bin) wavelength.push_back(wavelengthOfBin(bin));
        *band_ =
            resolutionOf(*run.detail, static_cast<std::size_t>(spectrum - patch.spectra.first), std::move(wavelength));
        bandOfPatch_ = !band_->empty();
    }
    bandSpectrum_ = spectrum;
    rowSums_ = rowSums(*band_);
    columnSums_ = columnSums(*band_);
    ResolutionWidths widths = columnWidths(*band_);
    fwhm_ = std::move(widths.fwhm);
    rms_ = std::move(widths.rms);
}

void ResolutionView::refreshPicture() {
    MatrixContent content;
    content.map = ColourMap::Kind::Diverging;
    content.symlog = symlog_;
    const auto setRange = [&](double most) {
        if (!(most > 0)) most = 1;
        content.low = -most;
        content.high = most;
        content.linear = 1e-4 * most;
    };
    if (matrix_ == Matrix::Band) {
        content.title = tr("%1 of fiber %2%3")
                            .arg(matrixName(matrix_))
                            .arg(bandSpectrum_)
                            .arg(bandOfPatch_ ? tr(", patch: all diagonals") : QString());
        content.rowsUpwards = true;
        content.square = false;
        if (band_->empty()) {
            content.problem =
                source_ == Source::Frame && document_.frame() && document_.frame().done
                    ? tr("The run goes on: the resolution comes with its end.")
                    : tr("No resolution for this fiber: extract a patch or a frame, or open a frame file with "
                         "the HDU RESOLUTION.");
        } else {
            content.values = toFloat(band_->values);
            const auto ndiag = static_cast<double>(band_->ndiag());
            setRange(largestMagnitude(band_->values.values()));
            content.x0 = band_->wavelength.front();
            content.dx = band_->nwave() > 1 ? (band_->wavelength.back() - band_->wavelength.front()) /
                                                  static_cast<double>(band_->nwave() - 1)
                                            : 1.0;
            content.y0 = -ndiag;
            content.dy = 1;
            content.xLabel = tr("wavelength of the light (\u00c5, vacuum)");
            content.yLabel = tr("found so many bins off");
        }
    } else if (const PatchRun& run = document_.patchRun()) {
        const PatchDetail& detail = *run.detail;
        const Patch& patch = detail.patch;
        const Array2<double>* values = nullptr;
        switch (matrix_) {
        case Matrix::Resolution:
            values = &detail.resolution;
            break;
        case Matrix::InverseCovariance:
            values = &detail.icov;
            break;
        case Matrix::Covariance:
            values = figures_ ? &figures_->covariance : nullptr;
            break;
        case Matrix::Correlation:
            values = figures_ ? &figures_->correlation : nullptr;
            break;
        case Matrix::FluxCorrelation:
            values = figures_ ? &figures_->fluxCorrelation : nullptr;
            break;
        default:
            break;
        }
        content.title = tr("%1: %2 spectra \u00d7 %3 bins")
                            .arg(matrixName(matrix_))
                            .arg(patch.spectra.count())
                            .arg(patch.bins.count());
        if (values != nullptr && !values->empty()) {
            content.values = toFloat(*values);
            const bool correlation = matrix_ == Matrix::Correlation || matrix_ == Matrix::FluxCorrelation;
            setRange(correlation ? 1.0 : largestMagnitude((*values).values()));
            content.unit = matrix_ == Matrix::InverseCovariance ? tr("photons\u207b\u00b2")
                           : matrix_ == Matrix::Covariance      ? tr("photons\u00b2")
                                                                : QString();
            for (int s = 1; s < patch.spectra.count(); ++s) {
                content.columnLines.push_back(s * patch.bins.count());
                content.rowLines.push_back(s * patch.bins.count());
            }
            content.xLabel = tr("column: bin of xflux, fiber by fiber");
            content.yLabel = tr("row");
        } else {
            content.problem = !figuresProblem_.isEmpty() ? figuresProblem_ : tr("Computing...");
            wantFigures();
        }
    } else {
        content.problem = tr("No patch: click into the CCD image to select and extract one.");
    }
    picture_->setContent(std::move(content));
}

/// Eigenvalues and covariance of the patch, on a thread of their own.
void ResolutionView::wantFigures() {
    const PatchRun& run = document_.patchRun();
    if (!run || figuresOf_ == run.detail.get()) return;
    figuresOf_ = run.detail.get();
    figures_.reset();
    figuresProblem_.clear();
    worker_->clear();
    worker_->post([this, detail = run.detail] {
        std::shared_ptr<const CovarianceFigures> figures;
        QString problem;
        try {
            figures = std::make_shared<const CovarianceFigures>(covarianceFigures(detail->icov, detail->resolution));
        } catch (const std::exception& error) {
            problem = QString::fromUtf8(error.what());
        }
        QMetaObject::invokeMethod(
            this,
            [this, detail, figures, problem] {
                if (figuresOf_ != detail.get()) return; // of a patch that nobody looks at any more
                figures_ = figures;
                figuresProblem_ = problem;
                refreshSoon();
                Q_EMIT figuresChanged();
            },
            Qt::QueuedConnection);
    });
}

void ResolutionView::refreshPlots() {
    const std::vector<double>& wave = band_->wavelength;
    const QString none = band_->empty() ? tr("No resolution for this fiber") : QString();
    const QString axis = tr("wavelength (\u00c5, vacuum)");
    for (LinePlot* plot : {sums_, widths_}) plot->setProblem(none);
    sums_->setLabels(tr("Sums"), axis, QString());
    sums_->setReference(1.0);
    widths_->setLabels(tr("Widths (\u00c5)"), axis, QString());
    if (band_->empty()) {
        sums_->setSeries({});
        widths_->setSeries({});
    } else {
        // Columns without light (masked bins) have no sum worth showing: 0 would squeeze the rest.
        std::vector<double> columns = columnSums_;
        std::vector<double> rows = rowSums_;
        for (std::size_t j = 0; j < columns.size(); ++j) {
            if (columns[j] == 0) columns[j] = nan;
            if (rows[j] == 0) rows[j] = nan;
        }
        sums_->setSeries({{tr("columns"), wave, columns, {}, 1, LineSeries::Style::Steps},
                          {tr("rows"), wave, rows, {}, 0, LineSeries::Style::Steps}});
        widths_->setSeries({{tr("FWHM"), wave, fwhm_, {}, 0, LineSeries::Style::Steps},
                            {tr("RMS"), wave, rms_, {}, 1, LineSeries::Style::Steps}});
    }
}

/// What follows the cursor.
void ResolutionView::placeCursor() {
    const Cursor& cursor = document_.cursor();
    sums_->setCursorX(cursor.wavelength);
    widths_->setCursorX(cursor.wavelength);
    if (matrix_ == Matrix::Band) {
        const int bin = binInBand(cursor.wavelength);
        picture_->setCell(bin >= 0 ? std::optional(QPoint(bin, static_cast<int>(band_->ndiag()))) : std::nullopt);
    } else {
        const int index = indexInPatch(cursor.spectrum, cursor.wavelength);
        picture_->setCell(index >= 0 ? std::optional(QPoint(index, kernelRow_ >= 0 ? kernelRow_ : index))
                                     : std::nullopt);
    }
    refreshKernel();
    refreshTest();
    strip_->setText(summary());
}

void ResolutionView::refreshKernel() {
    const Cursor& cursor = document_.cursor();
    std::vector<LineSeries> series;
    kernel_->setReference(0);
    const PatchRun& run = document_.patchRun();
    const bool ofPatch = matrix_ != Matrix::Band && matrix_ != Matrix::Resolution;
    const int index = indexInPatch(cursor.spectrum, cursor.wavelength);
    kernel_->setCursorX(0);
    if (matrix_ == Matrix::Band || (matrix_ == Matrix::Resolution && index < 0)) {
        const int bin = binInBand(cursor.wavelength);
        kernel_->setProblem(band_->empty() ? tr("No resolution for this fiber")
                            : bin < 0      ? tr("The cursor is outside the wavelengths of this resolution")
                                           : QString());
        kernel_->setLabels(tr("At the cursor"), tr("offset (\u00c5)"), QString());
        if (bin >= 0) {
            const auto j = static_cast<std::size_t>(bin);
            const std::vector<double> row = matrixRow(*band_, j);
            const std::vector<double> column = matrixColumn(*band_, j);
            std::vector<double> offset;
            const auto ndiag = static_cast<double>(band_->ndiag());
            const double step = band_->wavelength.size() > 1 ? band_->wavelength[1] - band_->wavelength[0] : 1.0;
            for (std::size_t m = 0; m < row.size(); ++m) offset.push_back((static_cast<double>(m) - ndiag) * step);
            series.push_back({tr("column"), offset, column, {}, 1, LineSeries::Style::Steps});
            series.push_back({tr("row"), offset, row, {}, 0, LineSeries::Style::Steps});
        }
    } else if (!run || index < 0) {
        kernel_->setProblem(run ? tr("The cursor is outside the patch") : tr("No patch"));
    } else {
        const PatchDetail& detail = *run.detail;
        const Array2<double>* values = matrix_ == Matrix::Resolution          ? &detail.resolution
                                       : matrix_ == Matrix::InverseCovariance ? &detail.icov
                                       : !figures_                            ? nullptr
                                       : matrix_ == Matrix::Covariance        ? &figures_->covariance
                                       : matrix_ == Matrix::Correlation       ? &figures_->correlation
                                                                              : &figures_->fluxCorrelation;
        kernel_->setProblem(values == nullptr ? tr("Computing...") : QString());
        const int row = kernelRow_ >= 0 ? kernelRow_ : index;
        const int nwave = detail.patch.bins.count();
        const int spectrum = index / nwave;
        kernel_->setLabels(ofPatch ? tr("Fiber %1 and beside").arg(detail.patch.spectra.first + spectrum)
                                   : tr("At the cursor"),
                           tr("offset (\u00c5)"), QString());
        const auto cut = [&](int which, bool isRow, int of, const QString& name, int colour) {
            LineSeries one{name, {}, {}, {}, colour, LineSeries::Style::Steps};
            // Only what is near: the rest is 0, or nearly.
            constexpr int around = 25;
            for (int j = std::max(0, index % nwave - around); j < std::min(nwave, index % nwave + around + 1); ++j) {
                const auto other = static_cast<std::size_t>(of * nwave + j);
                one.x.push_back((j - index % nwave) * run.plan->grid.dw);
                one.y.push_back(isRow ? (*values)(static_cast<std::size_t>(which), other)
                                      : (*values)(other, static_cast<std::size_t>(which)));
            }
            series.push_back(std::move(one));
        };
        if (values != nullptr && !values->empty()) {
            if (!ofPatch) {
                cut(index, false, spectrum, tr("column"), 1);
                cut(row, true, row / nwave, tr("row"), 0);
            } else {
                for (const int side : {-1, 1}) {
                    const int beside = spectrum + side;
                    if (beside < 0 || beside >= detail.patch.spectra.count()) continue;
                    cut(row, true, beside, tr("fiber %1").arg(detail.patch.spectra.first + beside), side < 0 ? 1 : 2);
                }
                cut(row, true, spectrum, QString(), 0);
            }
        }
    }
    kernel_->setSeries(std::move(series));
}

void ResolutionView::refreshTest() {
    std::vector<LineSeries> series;
    testPlot_->setLogY(test_ == Test::Eigenvalues, 12);
    testPlot_->setReference(test_ == Test::Flat ? 1.0 : nan);
    const int bin = binInBand(document_.cursor().wavelength);
    testPlot_->setCursorX(nan);
    if (test_ == Test::Eigenvalues) {
        testPlot_->setLabels(tr("Eigenvalues of iCov"), tr("number, largest first"), tr("photons\u207b\u00b2"));
        if (!document_.patchRun()) {
            testPlot_->setProblem(tr("No patch"));
        } else if (!figures_) {
            testPlot_->setProblem(figuresProblem_.isEmpty() ? tr("Computing...") : figuresProblem_);
            wantFigures();
        } else {
            testPlot_->setProblem({});
            LineSeries one{QString(), {}, {figures_->eigenvalues.rbegin(), figures_->eigenvalues.rend()}, {}, 0};
            for (std::size_t i = 0; i < one.y.size(); ++i) one.x.push_back(static_cast<double>(i + 1));
            one.name = tr("condition %1").arg(figures_->condition, 0, 'g', 4);
            series.push_back(std::move(one));
        }
    } else if (band_->empty() || (test_ == Test::Line && bin < 0)) {
        testPlot_->setProblem(band_->empty() ? tr("No resolution for this fiber")
                                             : tr("The cursor is outside the wavelengths of this resolution"));
    } else {
        testPlot_->setProblem({});
        const std::size_t nwave = band_->nwave();
        std::vector<double> in(nwave, test_ == Test::Flat ? 1.0 : 0.0);
        if (test_ == Test::Line) in[static_cast<std::size_t>(bin)] = 1.0;
        const std::vector<double> out = throughResolution(*band_, in);
        // Of a line only what is near it is drawn.
        constexpr int around = 25;
        const auto first = static_cast<std::size_t>(test_ == Test::Line ? std::max(0, bin - around) : 0);
        const std::size_t last =
            test_ == Test::Line ? std::min(nwave, static_cast<std::size_t>(bin + around + 1)) : nwave;
        const auto part = [&](const std::vector<double>& values) {
            return std::vector<double>(values.begin() + static_cast<std::ptrdiff_t>(first),
                                       values.begin() + static_cast<std::ptrdiff_t>(last));
        };
        double sum = 0;
        for (const double value : out) sum += value;
        testPlot_->setLabels(test_ == Test::Line ? tr("Unit line, %1 found").arg(sum, 0, 'f', 4) : tr("Flat spectrum"),
                             tr("wavelength (\u00c5, vacuum)"), QString());
        series.push_back({tr("sent"), part(band_->wavelength), part(in), {}, 0, LineSeries::Style::Steps, true});
        series.push_back({tr("found"), part(band_->wavelength), part(out), {}, 0, LineSeries::Style::Steps});
        testPlot_->setCursorX(document_.cursor().wavelength);
    }
    testPlot_->setSeries(std::move(series));
}

QString ResolutionView::summary() const {
    if (band_->empty()) return tr("No resolution for this fiber");
    const int bin = binInBand(document_.cursor().wavelength);
    QStringList parts;
    if (bin >= 0) {
        const auto j = static_cast<std::size_t>(bin);
        parts << tr("Fiber %1, %2 \u00c5 (%3): row sum %4, column sum %5, FWHM %6 \u00c5, RMS %7 \u00c5")
                     .arg(bandSpectrum_)
                     .arg(band_->wavelength[j], 0, 'f', 2)
                     .arg(bandOfPatch_ ? tr("patch") : document_.frame().label)
                     .arg(rowSums_[j], 0, 'f', 5)
                     .arg(columnSums_[j], 0, 'f', 5)
                     .arg(fwhm_[j], 0, 'f', 3)
                     .arg(rms_[j], 0, 'f', 3);
        if (!bandOfPatch_) parts << tr("band of %1 diagonals").arg(band_->values.rows());
    } else {
        parts << tr("Fiber %1: %2 bins, %3 diagonals").arg(bandSpectrum_).arg(band_->nwave()).arg(band_->values.rows());
    }
    if (figures_)
        parts << tr("iCov: eigenvalues %1 to %2, condition %3")
                     .arg(figures_->eigenvalues.front(), 0, 'g', 3)
                     .arg(figures_->eigenvalues.back(), 0, 'g', 3)
                     .arg(figures_->condition, 0, 'g', 4);
    else if (document_.patchRun())
        parts << tr("condition of the patch's iCov %1").arg(document_.patchRun().detail->condition, 0, 'g', 4);
    return parts.join(QStringLiteral("; "));
}

void ResolutionView::chooseCell(int column, int row) {
    Cursor cursor;
    int kernelRow = -1;
    if (matrix_ == Matrix::Band) {
        if (band_->empty()) return;
        cursor = document_.cursorAtBin(bandSpectrum_, band_->wavelength[static_cast<std::size_t>(column)]);
    } else {
        if (!document_.patchRun()) return;
        const Patch& patch = document_.patchRun().detail->patch;
        cursor = document_.cursorAtBin(patch.spectra.first + column / patch.bins.count(),
                                       wavelengthOfBin(patch.bins.first + column % patch.bins.count()));
        if (row != column) kernelRow = row;
    }
    document_.setCursor(cursor);
    kernelRow_ = kernelRow;
    placeCursor();
    Q_EMIT placeChosen(cursor);
}

QJsonObject ResolutionView::session() const {
    return {{QStringLiteral("matrix"), static_cast<int>(matrix_)},
            {QStringLiteral("source"), static_cast<int>(source_)},
            {QStringLiteral("test"), static_cast<int>(test_)},
            {QStringLiteral("symlog"), symlog_}};
}

void ResolutionView::restore(const QJsonObject& json) {
    if (json.isEmpty()) return;
    setMatrix(static_cast<Matrix>(std::clamp(json[QStringLiteral("matrix")].toInt(), 0, matrixCount - 1)));
    setSource(static_cast<Source>(std::clamp(json[QStringLiteral("source")].toInt(), 0, 2)));
    setTest(static_cast<Test>(std::clamp(json[QStringLiteral("test")].toInt(), 0, 2)));
    setSymlog(json[QStringLiteral("symlog")].toBool(true));
}

} // namespace patchlight::widgets
