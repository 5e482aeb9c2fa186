#include "core/analysis/PsfFigures.h"
#include "core/analysis/ResolutionFigures.h"
#include "core/image/CcdImage.h"
#include "core/psf/GaussHermite.h"
#include "core/psf/Psf.h"
#include "tests/widgets/Hands.h"
#include "tests/widgets/SmallWindow.h"
#include "widgets/control/Document.h"
#include "widgets/plot/LinePlot.h"
#include "widgets/plot/MatrixView.h"
#include "widgets/psf/PsfInspector.h"
#include "widgets/resolution/ResolutionView.h"
#include "widgets/vtk/SurfaceCanvas.h"
#include "widgets/window/ActionList.h"
#include "widgets/window/MainWindow.h"

#include <QAction>
#include <QDockWidget>
#include <QMouseEvent>
#include <QSignalSpy>
#include <QStandardPaths>
#include <QTableWidget>
#include <QTest>
#include <QWheelEvent>

#include <cmath>
#include <memory>
#include <numeric>

using namespace patchlight;
using namespace patchlight::widgets;
using patchlight::test::wheel;
using Window = patchlight::test::SmallWindow;

namespace {

constexpr int patience = 20000;

} // namespace

/// The resolution and the PSF views: what they show, and how they follow the window's cursor.
class TestResolutionPsf : public QObject {
    Q_OBJECT

private Q_SLOTS:
    void initTestCase() { QStandardPaths::setTestModeEnabled(true); }

    void aMatrixIsAPicture() {
        MatrixContent content;
        content.values = Array2<float>(3, 4);
        for (std::size_t i = 0; i < 12; ++i) content.values.values()[i] = static_cast<float>(i) - 5.5F;
        content.values(1, 1) = std::numeric_limits<float>::quiet_NaN();
        content.low = -6;
        content.high = 6;
        content.xLabel = "x";
        MatrixView view;
        view.resize(400, 320);
        view.setContent(content);
        view.show();
        QVERIFY(QTest::qWaitForWindowExposed(&view));
        const ColourMap map(ColourMap::Kind::Diverging);
        QCOMPARE(view.colourAt(0, 0).rgb(), QColor(map.colour(-5.5, -6, 6)).rgb());
        QCOMPARE(view.colourAt(3, 2).rgb(), QColor(map.colour(5.5, -6, 6)).rgb());
        QCOMPARE(view.colourAt(1, 1).rgb(), QColor(map.notFinite()).rgb());
        // The same colours on screen, row 0 above.
        const QImage picture = view.grab().toImage();
        QCOMPARE(picture.pixel(view.toWidget(3.2, 2.2).toPoint()), QColor(map.colour(5.5, -6, 6)).rgb());
        QCOMPARE(picture.pixel(view.toWidget(-0.3, 0.3).toPoint()), QColor(map.colour(-5.5, -6, 6)).rgb());
        QVERIFY(view.toWidget(0, 2).y() > view.toWidget(0, 0).y());
        const QPointF back = view.toCell(view.toWidget(2.25, 0.5));
        QVERIFY(std::abs(back.x() - 2.25) < 1e-9 && std::abs(back.y() - 0.5) < 1e-9);
        // A click says the cell; the wheel zooms at it and it stays where it was; double click shows all.
        QSignalSpy clicked(&view, &MatrixView::clicked);
        QTest::mouseClick(&view, Qt::LeftButton, {}, view.toWidget(2, 1).toPoint());
        QCOMPARE(clicked.count(), 1);
        QCOMPARE(clicked[0][0].toInt(), 2);
        QCOMPARE(clicked[0][1].toInt(), 1);
        const QPointF at = view.toWidget(1, 1);
        wheel(&view, at, 240);
        QVERIFY(view.shown().width() < 4);
        QVERIFY((view.toWidget(1, 1) - at).manhattanLength() < 0.4 * view.width() / view.shown().width());
        QTest::mouseDClick(&view, Qt::LeftButton, {}, at.toPoint());
        QCOMPARE(view.shown().width(), 4.0);
        // Logarithmic colours keep the sign; a symmetric range has 0 in the middle.
        content.symlog = true;
        content.linear = 1e-3;
        view.setContent(content);
        const int middle = qRed(map.at(128));
        QVERIFY(view.colourAt(0, 0).blue() > view.colourAt(0, 0).red());
        QVERIFY(view.colourAt(3, 2).red() > view.colourAt(3, 2).blue());
        QVERIFY(middle > 200);
    }

    void aThinLineIsSeenFromFarAway() {
        // 2000 x 2000 cells on 200 pixels: a diagonal of one cell must not be missed.
        MatrixContent content;
        content.values = Array2<float>(2000, 2000);
        for (std::size_t i = 0; i < 2000; ++i) content.values(i, i) = 1;
        MatrixView view;
        view.resize(260, 230);
        view.setContent(content);
        const QImage picture = view.grab().toImage();
        const ColourMap map(ColourMap::Kind::Diverging);
        int seen = 0;
        for (int i = 100; i < 1900; i += 50) {
            const QPoint at = view.toWidget(i, i).toPoint();
            bool found = false;
            for (int dx = -1; dx <= 1; ++dx) found = found || picture.pixel(at + QPoint(dx, 0)) == map.at(255);
            seen += found ? 1 : 0;
        }
        QCOMPARE(seen, 36);
    }

    void thePatchesMatrices() {
        Window w;
        w.raise("resolution");
        QTRY_VERIFY(!w.resolution().picture()->content().problem.isEmpty()); // nothing yet, and it says why
        QVERIFY(w.select(2, 20));
        const PatchDetail& detail = *w.document().patchRun().detail;
        ResolutionView& view = w.resolution();
        view.setMatrix(ResolutionView::Matrix::Resolution);
        const MatrixContent* content = &view.picture()->content();
        QCOMPARE(content->values.rows(), detail.resolution.rows());
        QCOMPARE(content->values(7, 9), static_cast<float>(detail.resolution(7, 9)));
        QVERIFY(content->symlog && content->low == -content->high);
        const int nwave = detail.patch.bins.count();
        QCOMPARE(content->columnLines.size(), std::size_t(detail.patch.spectra.count() - 1));
        // The cell of the cursor's bin.
        const int bin = 20 + w.document().plan()->grid.pad - detail.patch.bins.first;
        const int index = (2 - detail.patch.spectra.first) * nwave + bin;
        QCOMPARE(view.picture()->cell(), std::optional(QPoint(index, index)));
        // Row and column there.
        const auto& series = view.kernel()->series();
        QCOMPARE(series.size(), std::size_t(2));
        const auto peak = [&](const LineSeries& s) {
            for (std::size_t i = 0; i < s.x.size(); ++i)
                if (std::abs(s.x[i]) < 1e-9) return s.y[i];
            return std::nan("");
        };
        QCOMPARE(peak(series[0]), detail.resolution(std::size_t(index), std::size_t(index)));
        view.setMatrix(ResolutionView::Matrix::InverseCovariance);
        QCOMPARE(view.picture()->content().values(3, 3), static_cast<float>(detail.icov(3, 3)));
        // What is computed beside: covariance, correlation, eigenvalues.
        view.setMatrix(ResolutionView::Matrix::Correlation);
        QTRY_VERIFY_WITH_TIMEOUT(view.figures() != nullptr, patience);
        const CovarianceFigures expected = covarianceFigures(detail.icov, detail.resolution);
        QCOMPARE(view.picture()->content().values(4, 6), static_cast<float>(expected.correlation(4, 6)));
        QCOMPARE(view.picture()->content().values(4, 4), 1.0F);
        view.setTest(ResolutionView::Test::Eigenvalues);
        QCOMPARE(view.testPlot()->series()[0].y.front(), expected.eigenvalues.back());
        QCOMPARE(view.testPlot()->series()[0].y.size(), expected.eigenvalues.size());
        QVERIFY(view.summary().contains(QStringLiteral("condition")));
        view.setMatrix(ResolutionView::Matrix::FluxCorrelation);
        QCOMPARE(view.picture()->content().values(5, 5), static_cast<float>(expected.fluxCorrelation(5, 5)));
        // A click takes the window's cursor to the column's bin and keeps the row apart.
        MatrixView* picture = view.picture();
        const int column = (3 - detail.patch.spectra.first) * nwave + 8;
        QTest::mouseClick(picture, Qt::LeftButton, {}, picture->toWidget(column, index).toPoint());
        QCOMPARE(w.document().cursor().spectrum, 3);
        const int clicked = picture->cell()->x() % nwave; // a pixel of the screen may hold several cells
        QVERIFY(std::abs(clicked - 8) <= 1);
        QVERIFY(std::abs(picture->cell()->y() - index) <= 1);
        const WavelengthGrid& grid = w.document().plan()->grid;
        QCOMPARE(w.document().cursor().wavelength, grid.outputWavelength(detail.patch.bins.first + clicked - grid.pad));
    }

    void alongWavelength() {
        Window w;
        w.raise("resolution");
        QVERIFY(w.select(2, 20));
        ResolutionView& view = w.resolution();
        // Without a frame: the patch's own, all diagonals; rows sum to 1.
        QVERIFY(!view.band().empty());
        for (const double sum : view.sums()->series()[1].y) QVERIFY(std::abs(sum - 1.0) < 1e-9);
        // With one: its stored band over all wavelengths.
        w.window.controller().extract(ExtractionController::Scope::Frame);
        QTRY_COMPARE_WITH_TIMEOUT(w.window.controller().activeJobs(), 0, patience);
        const ExtractedFrame& frame = *w.document().frame().frame;
        QCOMPARE(view.band().nwave(), frame.nwave());
        QCOMPARE(view.picture()->content().values.rows(), 2 * frame.ndiag() + 1);
        QCOMPARE(view.band().values(4, 50), frame.resolution(2, 4, 50));
        const ResolutionWidths widths = columnWidths(resolutionOf(frame, 2));
        QCOMPARE(view.widths()->series()[0].y[50], widths.fwhm[50]);
        QCOMPARE(view.widths()->series()[1].y[50], widths.rms[50]);
        QCOMPARE(view.sums()->series()[0].y[50], columnSums(resolutionOf(frame, 2))[50]);
        // A line through R is its column; a flat spectrum gives the row sums.
        view.setTest(ResolutionView::Test::Line);
        const LineSeries& found = view.testPlot()->series()[1];
        const auto at = static_cast<std::size_t>(std::max_element(found.y.begin(), found.y.end()) - found.y.begin());
        QCOMPARE(found.x[at], frame.wavelength[20]);
        QCOMPARE(found.y[at + 1], frame.resolution(2, frame.ndiag() + 1, 20));
        view.setTest(ResolutionView::Test::Flat);
        QCOMPARE(view.testPlot()->series()[1].y, rowSums(resolutionOf(frame, 2)));
        // Other fiber: other band. A fiber that nobody has: a sentence.
        w.document().setCursor(w.document().cursorAtBin(4, frame.wavelength[60]));
        QCOMPARE(view.band().values(4, 50), frame.resolution(4, 4, 50));
        QVERIFY2(view.summary().startsWith(QStringLiteral("Fiber 4, ")), qPrintable(view.summary()));
        view.setSource(ResolutionView::Source::Patch);
        QVERIFY(w.document().patchRun().detail->patch.spectra.contains(4) == !view.band().empty());
        // The plot takes the cursor along.
        view.setSource(ResolutionView::Source::Frame);
        QSignalSpy chosen(&view, &ResolutionView::placeChosen);
        QTest::mouseClick(view.sums(), Qt::LeftButton, {}, view.sums()->rect().center());
        QCOMPARE(chosen.count(), 1);
        QCOMPARE(w.document().cursor().spectrum, 4);
        QVERIFY(std::find(frame.wavelength.begin(), frame.wavelength.end(), w.document().cursor().wavelength) !=
                frame.wavelength.end());
    }

    void theSpotAtTheCursor() {
        Window w;
        w.raise("psf");
        PsfInspector& view = w.inspector();
        QTRY_VERIFY(view.spotPicture()->content().problem.contains(QStringLiteral("Ctrl+G")));
        const double wavelength = w.document().plan()->grid.outputWavelength(40);
        w.document().setCursor(w.document().cursorAtBin(6, wavelength));
        const SpotStamp spot = spotStamp(w.psf->view(), 6, wavelength, true);
        const MatrixContent& content = view.spotPicture()->content();
        QCOMPARE(content.values.rows(), spot.values.rows());
        QCOMPARE(content.values(5, 8), static_cast<float>(spot.values(5, 8)));
        QCOMPARE(content.x0, double(spot.cornerX));
        QVERIFY(content.rowsUpwards);
        const SpotProfiles profiles = spotProfiles(spot);
        QCOMPARE(view.profileX()->series()[0].y, profiles.x);
        QCOMPARE(view.profileY()->series()[0].y, profiles.y);
        QVERIFY(!view.secondPicture()->isVisible());
        QCOMPARE(view.parameters()->item(0, 0)->text(), QStringLiteral("X"));
        QVERIFY(std::abs(view.parameters()->item(0, 1)->text().toDouble() - w.psf->x(6, wavelength)) < 1e-3);
        QCOMPARE(view.parameters()->columnCount(), 2);
        QVERIFY2(view.summary().contains(QStringLiteral("FWHM")), qPrintable(view.summary()));
        // Under the mouse: the pixel's own place goes to all views.
        QSignalSpy hover(&w.document(), &Document::hoverChanged);
        const QPointF at = view.spotPicture()->toWidget(8, 5);
        QMouseEvent move(QEvent::MouseMove, at, view.spotPicture()->mapToGlobal(at), Qt::NoButton, Qt::NoButton,
                         Qt::NoModifier);
        QCoreApplication::sendEvent(view.spotPicture(), &move);
        QTRY_VERIFY(hover.count() > 0);
        QCOMPARE(w.document().hover().x, double(spot.cornerX + 8));
    }

    void theSpotUnderTheMouse() {
        Window w;
        w.raise("psf");
        PsfInspector& view = w.inspector();
        const WavelengthGrid& grid = w.document().plan()->grid;
        w.document().setCursor(w.document().cursorAtBin(6, grid.outputWavelength(40)));
        const Cursor under = w.document().cursorAtBin(3, grid.outputWavelength(20));
        w.document().setHover(under);
        QVERIFY(view.summary().startsWith(QStringLiteral("Fiber 6,")));
        w.window.actionList().find(QStringLiteral("psf.follow"))->setChecked(true);
        QVERIFY2(view.summary().startsWith(QStringLiteral("Fiber 3,")), qPrintable(view.summary()));
        const SpotStamp spot = spotStamp(w.psf->view(), 3, under.wavelength, true);
        QCOMPARE(view.spotPicture()->content().values(5, 8), static_cast<float>(spot.values(5, 8)));
        w.document().setHover({});
        QVERIFY(view.summary().startsWith(QStringLiteral("Fiber 6,")));
    }

    void twoPsfsBesideEachOther() {
        Window w;
        w.raise("psf");
        PsfInspector& view = w.inspector();
        const double wavelength = w.document().plan()->grid.outputWavelength(40);
        w.document().setCursor(w.document().cursorAtBin(6, wavelength));
        const auto other = w.otherPsf();
        w.document().setSecondPsf(other);
        QTRY_VERIFY(view.secondPicture()->isVisible() && view.differencePicture()->isVisible());
        const SpotStamp first = spotStamp(w.psf->view(), 6, wavelength, true);
        const SpotStamp second = spotStamp(other->view(), 6, wavelength, true);
        const SpotStamp difference = spotDifference(first, second);
        QCOMPARE(view.differencePicture()->content().values(5, 7), static_cast<float>(difference.values(5, 7)));
        QCOMPARE(view.profileX()->series().size(), std::size_t(2));
        QCOMPARE(view.parameters()->columnCount(), 5);
        QVERIFY(std::abs(view.parameters()->item(0, 3)->text().toDouble() - 0.25) < 1e-6);
        QCOMPARE(view.parameters()->item(2, 0)->text(), QStringLiteral("GHSIGX"));
        QVERIFY(view.parameters()->item(2, 4)->text().startsWith(QStringLiteral("5.000")));
        // Shape alone.
        view.setSameTrace(true);
        const SpotStamp shape = spotStampOnTrace(other->view(), w.psf->view(), 6, wavelength, true);
        QCOMPARE(view.secondPicture()->content().values(5, 7), static_cast<float>(shape.values(5, 7)));
        QVERIFY2(view.summary().contains(QStringLiteral("(same trace)")), qPrintable(view.summary()));
        // Trace offsets, over all fibers and for this one.
        view.showPage(1);
        QVERIFY(view.offsets() != nullptr);
        for (const float dx : view.offsetMap()->content().values.values()) QVERIFY(std::abs(dx - 0.25F) < 1e-6F);
        QCOMPARE(view.offsetPlot()->series()[0].name, QStringLiteral("fiber 6"));
        view.setOffset(PsfInspector::Offset::Y);
        for (const float dy : view.offsetMap()->content().values.values()) QVERIFY(std::abs(dy) < 1e-6F);
        QSignalSpy chosen(&view, &PsfInspector::placeChosen);
        QTest::mouseClick(view.offsetMap(), Qt::LeftButton, {}, view.offsetMap()->toWidget(32, 3).toPoint());
        QCOMPARE(chosen.count(), 1);
        QCOMPARE(w.document().cursor().spectrum, 3);
        // Surfaces are drawn or say why not.
        view.showSurfaces(true);
        if (SurfaceCanvas::unavailableReason().isEmpty()) QTRY_VERIFY(!view.surfaces()->picture().isNull());
        // Without the second one all is as before.
        w.document().setSecondPsf(nullptr);
        QVERIFY(!view.offsetMap()->content().problem.isEmpty());
        view.showSurfaces(false);
        QTRY_VERIFY(!view.differencePicture()->isVisible());
    }

    void offsetsThatTheFileBrings() {
        Window w;
        w.raise("psf");
        PsfInspector& view = w.inspector();
        view.showPage(2);
        QTRY_VERIFY(view.waveOffsetPlot()->problem().contains(QStringLiteral("INTOFF")));
        auto psf = std::make_shared<Psf>(*w.psf);
        psf->offsets = {{"INTOFF", {5, 6, 6}, {6000, 6000, 6100}, {0.01, 0.02, -0.03}, {0.001, 0.002, 0.003}}};
        psf->pack();
        w.document().setPsf(psf, std::make_shared<TraceMap>(*psf, 120, 200));
        w.document().setCursor(w.document().cursorAtBin(6, w.document().plan()->grid.outputWavelength(40)));
        QCOMPARE(view.waveOffsetPlot()->problem(), QString());
        const auto& series = view.waveOffsetPlot()->series();
        QCOMPARE(series.size(), std::size_t(2));
        QCOMPARE(series[0].y, std::vector<double>{0.01});
        QCOMPARE(series[1].y, (std::vector<double>{0.02, -0.03}));
        QCOMPARE(series[1].error, (std::vector<double>{0.002, 0.003}));
    }

    void hiddenViewsWaitAndSettingsTravel() {
        Window w;
        w.raise("patch");
        QVERIFY(w.select(2, 20));
        QVERIFY(w.resolution().band().empty()); // hidden: nothing was computed
        w.raise("resolution");
        QTRY_VERIFY(!w.resolution().band().empty());
        w.resolution().setMatrix(ResolutionView::Matrix::Covariance);
        w.resolution().setSymlog(false);
        w.inspector().setSameTrace(true);
        w.inspector().showPage(1);
        const QJsonObject session = w.window.session(QStringLiteral("/tmp"));
        Window other;
        other.resolution().restore(session[QStringLiteral("resolution")].toObject());
        other.inspector().restore(session[QStringLiteral("psf view")].toObject());
        QCOMPARE(other.resolution().matrix(), ResolutionView::Matrix::Covariance);
        QVERIFY(!other.resolution().symlog());
        QVERIFY(other.inspector().sameTrace());
        // Every switch is an action of the one list.
        other.window.actionList().find(QStringLiteral("resolution.matrix.1"))->trigger();
        QCOMPARE(other.resolution().matrix(), ResolutionView::Matrix::Band);
        other.window.actionList().find(QStringLiteral("psf.sametrace"))->setChecked(false);
        QVERIFY(!other.inspector().sameTrace());
    }
};

QTEST_MAIN(TestResolutionPsf)
#include "TestResolutionPsf.moc"
