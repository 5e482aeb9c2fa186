#include "core/analysis/TruthSpectra.h"
#include "core/base/Error.h"
#include "core/cpu/CpuBackend.h"
#include "core/engine/Engine.h"
#include "core/image/CcdImage.h"
#include "core/psf/Psf.h"
#include "tests/support/SmallExposure.h"
#include "tests/widgets/Hands.h"
#include "widgets/patch/MaskEditor.h"
#include "widgets/patch/PatchBinModel.h"
#include "widgets/patch/PatchImages.h"
#include "widgets/patch/PatchInspector.h"
#include "widgets/patch/PatchSpots.h"
#include "widgets/spectrum/SpectrumData.h"
#include "widgets/vtk/SurfaceCanvas.h"

#include <QAbstractItemModelTester>
#include <QAction>
#include <QElapsedTimer>
#include <QFile>
#include <QMouseEvent>
#include <QSignalSpy>
#include <QSpinBox>
#include <QTableView>
#include <QTemporaryDir>
#include <QTest>
#include <QUndoStack>
#include <QWheelEvent>

#include <cmath>
#include <memory>

using namespace patchlight;
using namespace patchlight::widgets;
using patchlight::test::moveMouse;
using patchlight::test::wheel;

namespace {

/// A small exposure with one patch of it.
struct Exposure {
    test::SmallExposure small = test::smallExposure();
    std::shared_ptr<Psf> psf = std::make_shared<Psf>(small.psf);
    std::shared_ptr<CcdImage> image = std::make_shared<CcdImage>();
    std::shared_ptr<Plan> plan;
    std::unique_ptr<Backend> backend = makeCpuBackend();

    Exposure() {
        psf->pack();
        plan = std::make_shared<Plan>(makePlan(*psf, test::smallPatches(small)));
        image->nx = small.pixels.nx;
        image->ny = small.pixels.ny;
        image->pixels = small.pixels.pixels;
        image->ivar = small.pixels.weights;
        image->mask.assign(image->pixels.size(), 0);
    }
    [[nodiscard]] PatchInput extract(const QHash<int, bool>& edits = {}, int subbundle = 0, int step = 1) const {
        WeightedPixels pixels = small.pixels;
        for (auto edit = edits.constBegin(); edit != edits.constEnd(); ++edit)
            if (*edit) pixels.weights[static_cast<std::size_t>(edit.key())] = 0;
        PatchInput out;
        out.plan = plan;
        out.psf = psf;
        out.image = image;
        out.detail = std::make_shared<PatchDetail>(
            extractPatch(*backend, pixels.view(), *psf, *plan, plan->patch(subbundle, step)));
        return out;
    }
};

QAction* actionOf(QWidget& widget, const QString& text) {
    for (QAction* action : widget.findChildren<QAction*>())
        if (action->text() == text) return action;
    return nullptr;
}

} // namespace

class TestPatchInspector : public QObject {
    Q_OBJECT

private:
    std::unique_ptr<Exposure> exposure_;

private Q_SLOTS:
    void initTestCase() { exposure_ = std::make_unique<Exposure>(); }
    void cleanupTestCase() { exposure_.reset(); }

    void spotsAgreeWithTheEngine() {
        // A xflux from the spots is the patch's model.
        const PatchInput input = exposure_->extract();
        const PatchDetail& d = *input.detail;
        const PatchSpots spots(*input.psf, *input.plan, d.patch);
        QCOMPARE(static_cast<std::size_t>(spots.bins()), d.xflux.size());
        double largest = 0;
        for (int y = d.window.y.first; y < d.window.y.last; y += 3)
            for (int x = d.window.x.first; x < d.window.x.last; ++x) {
                double model = 0;
                for (const PatchSpots::Bin& bin : spots.binsAt(x, y))
                    model += bin.weight * d.xflux.values()[static_cast<std::size_t>(bin.bin)];
                const double engine = d.model(static_cast<std::size_t>(y - d.window.y.first),
                                              static_cast<std::size_t>(x - d.window.x.first));
                largest = std::max(largest, std::abs(model - engine));
            }
        QVERIFY2(largest < 1e-8, qPrintable(QString::number(largest)));
        double sum = 0;
        for (const PatchSpots::Pixel& pixel : spots.pixelsOf(3)) {
            sum += pixel.weight;
            QCOMPARE(spots.weight(3, pixel.x, pixel.y), pixel.weight);
        }
        QVERIFY(std::abs(sum - 1) < 1e-12);
        const auto bins = spots.binsAt(d.window.x.first + 20, d.window.y.first + 20);
        for (std::size_t i = 1; i < bins.size(); ++i) QVERIFY(bins[i - 1].weight >= bins[i].weight);
        QCOMPARE(spots.weight(0, -1000, 0), 0.0);
    }

    void theTableHoldsTheBins() {
        PatchBinModel model;
        const QAbstractItemModelTester tester(&model, QAbstractItemModelTester::FailureReportingMode::QtTest);
        QCOMPARE(model.rowCount(), 0);
        const PatchInput input = exposure_->extract();
        const PatchDetail& d = *input.detail;
        model.setPatch(input);
        QCOMPARE(static_cast<std::size_t>(model.rowCount()), d.flux.size());
        const int row = d.patch.bins.count() + 7; // second spectrum
        QCOMPARE(model.spectrum(row), d.patch.spectra.first + 1);
        const int core = d.patch.bins.first + 7 - input.plan->grid.pad;
        QCOMPARE(model.wavelength(row), input.plan->grid.outputWavelength(core));
        const auto number = [&](int column) {
            return model.index(row, column).data(PatchBinModel::sortRole).toDouble();
        };
        QCOMPARE(number(PatchBinModel::Flux), d.flux(1, 7) / input.plan->grid.step());
        QCOMPARE(number(PatchBinModel::Ivar), d.ivar(1, 7) * std::pow(input.plan->grid.step(), 2));
        QCOMPARE(number(PatchBinModel::Chi2pix), d.chi2pix(1, 7));
        QVERIFY(std::isnan(number(PatchBinModel::Change)));
        QCOMPARE(model.rowOf(model.spectrum(row), model.wavelength(row) + 0.3), row);
        QCOMPARE(model.rowOf(model.spectrum(row), 1.0), -1);
        QCOMPARE(model.rowOf(9999, model.wavelength(row)), -1);
        // Padding: exactly the bins outside core and keepBins.
        int kept = 0;
        for (int r = 0; r < model.rowCount(); ++r) kept += model.isPadding(r) ? 0 : 1;
        QCOMPARE(kept, d.patch.core.count() * d.patch.keepBins.count());
        model.setAtPixel(std::vector<double>(d.flux.size(), 0.25));
        QCOMPARE(model.index(0, PatchBinModel::AtPixel).data().toString(), QStringLiteral("25.0 %"));
        model.setPatch({});
        QCOMPARE(model.rowCount(), 0);
    }

    void aChangeIsInSigmaOfBefore() {
        const PatchInput before = exposure_->extract();
        PatchInput after = before;
        auto changed = std::make_shared<PatchDetail>(*before.detail);
        changed->flux(1, 7) += 3.0 / std::sqrt(before.detail->ivar(1, 7));
        after.detail = changed;
        PatchBinModel model;
        model.setPatch(after);
        QVERIFY(model.setBefore(before));
        const int row = before.detail->patch.bins.count() + 7;
        QVERIFY(std::abs(model.change(row) - 3.0) < 1e-9);
        QCOMPARE(model.change(0), 0.0);
        // A patch of another place is no before.
        QVERIFY(!model.setBefore(exposure_->extract({}, 0, 2)));
        QVERIFY(std::isnan(model.change(row)));
    }

    void maskEditsUndoAndRedo() {
        MaskEditor editor;
        QSignalSpy committed(&editor, &MaskEditor::committed);
        editor.beginStroke(true);
        editor.paint(5);
        editor.paint(6);
        editor.paint(5);
        QCOMPARE(editor.edits().size(), 2); // shows at once
        QCOMPARE(committed.size(), 0);
        editor.endStroke();
        QCOMPARE(committed.size(), 1);
        QCOMPARE(editor.undoStack()->count(), 1);
        editor.beginStroke(false);
        editor.paint(6);
        editor.endStroke();
        QCOMPARE(editor.edits().value(6), false);
        editor.beginStroke(true);
        editor.endStroke(); // nothing painted: no step
        QCOMPARE(editor.undoStack()->count(), 2);
        editor.undoStack()->undo();
        QCOMPARE(editor.edits().value(6), true);
        editor.undoStack()->undo();
        QVERIFY(editor.edits().isEmpty());
        editor.undoStack()->redo();
        QCOMPARE(editor.edits(), (QHash<int, bool>{{5, true}, {6, true}}));
        editor.clear();
        QVERIFY(editor.edits().isEmpty());
        editor.undoStack()->undo();
        QCOMPARE(editor.edits().size(), 2);
        editor.reset({{1, true}});
        QVERIFY(!editor.undoStack()->canUndo());
        QCOMPARE(editor.edits().size(), 1);
    }

    void picturesShowTheNumbers() {
        PatchInspector view;
        view.resize(1000, 700);
        view.show();
        const PatchInput input = exposure_->extract();
        view.setPatch(input);
        PatchImages* images = view.images();
        QCOMPARE(images->panels().size(), std::size_t(4));
        const PatchDetail& d = *input.detail;
        const int x = d.window.x.first + 10;
        const int y = d.window.y.first + 12;
        QCOMPARE(images->value(PatchImages::Panel::Model, x, y), d.model(12, 10));
        QCOMPARE(images->value(PatchImages::Panel::Pull, x, y), d.chi(12, 10));
        QCOMPARE(images->value(PatchImages::Panel::Residual, x, y), d.image(12, 10) - d.model(12, 10));
        QVERIFY(std::isnan(images->value(PatchImages::Panel::Data, -1, y)));
        // The colour painted at a pixel is that of its value: white is 0 in the pull, blue below, orange above.
        const QImage picture = images->grab().toImage();
        int checked = 0;
        for (int row = d.window.y.first; row < d.window.y.last; ++row)
            for (int column = d.window.x.first; column < d.window.x.last; ++column) {
                const double pull = images->value(PatchImages::Panel::Pull, column, row);
                if (!(std::abs(pull) > 3)) continue;
                const QPointF at = images->toWidget(3, column + 0.2, row + 0.2);
                const QColor colour = picture.pixelColor(at.toPoint());
                if (colour.red() + colour.blue() > 440) continue; // an overlay
                ++checked;
                QVERIFY((colour.red() > colour.blue()) == (pull > 0));
            }
        QVERIFY(checked > 3);
        // Light of the patch's fibers is held, that of the next fiber of the bundle is not: its pulls are dimmed.
        const Patch& patch = d.patch;
        const int middle = (d.window.y.first + d.window.y.last) / 2;
        const auto column = [&](int s) {
            return static_cast<int>(std::lround(input.psf->x(s, input.psf->wavelengthAt(s, middle))));
        };
        for (int s = patch.spectra.first; s < patch.spectra.last; ++s) QVERIFY(images->isHeld(column(s), middle));
        QVERIFY(patch.spectra.last < 5); // there is a next one in the bundle
        const int beside = std::min(column(patch.spectra.last), d.window.x.last - 1);
        QVERIFY(beside > column(patch.spectra.last - 1));
        QVERIFY(!images->isHeld(beside, middle));
        const QColor dim = picture.pixelColor(images->toWidget(3, beside + 0.2, middle + 0.2).toPoint());
        QVERIFY2(dim.red() < 140 && dim.green() < 140 && dim.blue() < 140, qPrintable(dim.name()));
        // Masked pixels keep their data to look at.
        QVERIFY(view.summary().contains(QStringLiteral("ok")));
    }

    void zoomAndCursorAreLinked() {
        PatchInspector view;
        view.resize(1000, 700);
        view.show();
        view.setPatch(exposure_->extract());
        PatchImages* images = view.images();
        QSignalSpy moved(&view, &PatchInspector::cursorMoved);
        const QPointF at = images->panelArea(1).center() + QPointF(10, 5);
        const QPointF ccd = images->toCcd(at).value();
        moveMouse(images, at);
        QCOMPARE(moved.size(), 1);
        QCOMPARE(moved[0][0].toDouble(), ccd.x());
        const double zoom = images->zoom();
        wheel(images, at, 120);
        QVERIFY(std::abs(images->zoom() / zoom - 1.2) < 1e-9);
        const QPointF same = images->toCcd(at).value();
        QVERIFY(std::abs(same.x() - ccd.x()) < 1e-9 && std::abs(same.y() - ccd.y()) < 1e-9);
        // All panels show the same place.
        const QPointF shift = images->panelArea(3).topLeft() - images->panelArea(1).topLeft();
        const QPointF other = images->toCcd(at + shift).value();
        QVERIFY(std::abs(other.x() - ccd.x()) < 1e-6 && std::abs(other.y() - ccd.y()) < 1e-6);
        // A new extraction of the same patch keeps the zoom; the double click shows all.
        view.setPatch(exposure_->extract());
        QVERIFY(std::abs(images->zoom() / zoom - 1.2) < 1e-9);
        QTest::mouseDClick(images, Qt::LeftButton, {}, at.toPoint());
        QVERIFY(std::abs(images->zoom() - zoom) < 1e-9);
        moved.clear();
        view.setCursor(1, 6000, ccd.x(), ccd.y());
        QVERIFY(moved.isEmpty());
    }

    void zoomHasAHistory() {
        const PatchInput input = exposure_->extract();
        PatchInspector inspector;
        inspector.resize(700, 600);
        inspector.setPatch(input);
        PatchImages* images = inspector.images();
        images->resize(700, 320);
        images->showAll();
        const double fitted = images->zoom();
        QVERIFY(!images->canGoBack());
        wheel(images, images->panelArea(0).center(), 120);
        wheel(images, images->panelArea(0).center(), 120);
        const double close = images->zoom();
        QVERIFY(close > 1.3 * fitted);
        images->back();
        QCOMPARE(images->zoom(), fitted);
        QVERIFY(!images->canGoBack());
        images->forward();
        QCOMPARE(images->zoom(), close);
        // Another patch begins anew.
        images->back();
        inspector.setPatch(exposure_->extract({}, 0, 2));
        QVERIFY(!images->canGoBack() && !images->canGoForward());
    }

    void aPixelSaysItsBinsAndABinItsPixels() {
        PatchInspector view;
        view.resize(1000, 700);
        view.show();
        const PatchInput input = exposure_->extract();
        view.setPatch(input);
        const Patch& patch = input.detail->patch;
        const PatchSpots spots(*input.psf, *input.plan, patch);
        const int bin = patch.bins.count() * (patch.core.first - patch.spectra.first) +
                        (patch.keepBins.first - patch.bins.first) + 4;
        const PatchSpots::Point centre = spots.centre(bin);
        const QPoint pixel(static_cast<int>(std::lround(centre.x)), static_cast<int>(std::lround(centre.y)));
        QSignalSpy pixels(&view, &PatchInspector::pixelSelected);
        QTest::mouseClick(view.images(), Qt::LeftButton, {},
                          view.images()->toWidget(0, pixel.x(), pixel.y()).toPoint());
        QCOMPARE(pixels.size(), 1);
        QCOMPARE(pixels[0][0].toInt(), pixel.x());
        QVERIFY2(
            view.stripText().contains(QStringLiteral("Fed by %1 bins").arg(spots.binsAt(pixel.x(), pixel.y()).size())),
            qPrintable(view.stripText()));
        // The table can be cut down to those bins.
        const int all = view.table()->model()->rowCount();
        QCOMPARE(all, patch.core.count() * patch.keepBins.count());
        actionOf(view, QStringLiteral("Padding"))->setChecked(true);
        QCOMPARE(view.table()->model()->rowCount(), view.model()->rowCount());
        actionOf(view, QStringLiteral("Only this pixel"))->setChecked(true);
        QCOMPARE(static_cast<std::size_t>(view.table()->model()->rowCount()),
                 spots.binsAt(pixel.x(), pixel.y()).size());
        actionOf(view, QStringLiteral("Only this pixel"))->setChecked(false);

        QSignalSpy bins(&view, &PatchInspector::binSelected);
        view.table()->selectRow(bin + 1);
        QCOMPARE(bins.size(), 1);
        QCOMPARE(bins[0][0].toInt(), patch.core.first);
        QCOMPARE(view.images()->selectedBin(), bin + 1);
        QVERIFY(view.stripText().contains(QStringLiteral("0 masked")));
        bins.clear();
        view.selectBin(patch.core.first, view.model()->wavelength(bin)); // from outside: no echo
        QVERIFY(bins.isEmpty());
        QCOMPARE(view.images()->selectedBin(), bin);
    }

    void paintingAMaskExtractsAndCompares() {
        PatchInspector view;
        view.resize(1000, 700);
        view.show();
        const PatchInput before = exposure_->extract();
        view.setPatch(before);
        QHash<int, bool> edits;
        connect(&view, &PatchInspector::maskEdited, this, [&](const QHash<int, bool>& e) { edits = e; });
        actionOf(view, QStringLiteral("Mask brush"))->setChecked(true);
        view.findChild<QSpinBox*>()->setValue(3);
        const PixelWindow& window = before.detail->window;
        const int x = (window.x.first + window.x.last) / 2;
        const int y = (window.y.first + window.y.last) / 2;
        PatchImages* images = view.images();
        const QPointF from = images->toWidget(0, x, y);
        QTest::mousePress(images, Qt::LeftButton, {}, from.toPoint());
        moveMouse(images, images->toWidget(0, x + 1, y), Qt::LeftButton);
        QTest::mouseRelease(images, Qt::LeftButton, {}, images->toWidget(0, x + 1, y).toPoint());
        QCOMPARE(edits.size(), 12); // 3 x 3 and one more column
        QVERIFY(images->isMasked(x, y));
        QVERIFY(images->isMasked(x + 2, y - 1));
        QVERIFY(!images->isMasked(x + 3, y));

        const PatchInput after = exposure_->extract(edits);
        view.setPatch(after, before);
        QCOMPARE(images->panels().size(), std::size_t(5));
        double worst = 0;
        for (int row = 0; row < view.model()->rowCount(); ++row)
            if (std::isfinite(view.model()->change(row))) worst = std::max(worst, std::abs(view.model()->change(row)));
        QVERIFY(worst > 0.1);
        QVERIFY(view.summary().contains(QStringLiteral("against before")));
        QVERIFY(view.summary().contains(QStringLiteral("12 pixels")));
        view.grab();

        view.undoStack()->undo();
        QVERIFY(edits.isEmpty());
        QVERIFY(!images->isMasked(x, y));
        view.undoStack()->redo();
        QCOMPARE(edits.size(), 12);
    }

    void aPixelWithoutWeightCannotBeUnmasked() {
        PatchInput input = exposure_->extract();
        auto image = std::make_shared<CcdImage>(*exposure_->image);
        const PixelWindow& window = input.detail->window;
        const int x = window.x.first + 12;
        const int y = window.y.first + 12;
        const int cosmic = y * image->nx + x;
        const int dead = cosmic + 1;
        image->mask[static_cast<std::size_t>(cosmic)] = 1 << 4;
        image->ivar[static_cast<std::size_t>(dead)] = 0;
        input.image = image;
        PatchInspector view;
        view.setPatch(input);
        QVERIFY(view.images()->isMasked(x, y));
        QVERIFY(view.images()->readout(x, y).contains(QStringLiteral("COSMIC")));
        QVERIFY(view.images()->isMasked(x + 1, y));
        view.setMaskEdits({{cosmic, false}, {dead, false}});
        QVERIFY(!view.images()->isMasked(x, y));
        QVERIFY(view.images()->isMasked(x + 1, y));
        QVERIFY(view.images()->readout(x + 1, y).contains(QStringLiteral("cannot be unmasked")));
    }

    void arrowsAskForNeighbours() {
        PatchInspector view;
        view.setPatch(exposure_->extract());
        view.show();
        QSignalSpy asked(&view, &PatchInspector::neighbourRequested);
        QSignalSpy again(&view, &PatchInspector::extractRequested);
        QTest::keyClick(view.images(), Qt::Key_Left);
        QTest::keyClick(view.images(), Qt::Key_Up);
        QTest::keyClick(view.images(), Qt::Key_Return);
        QCOMPARE(asked.size(), 2);
        QCOMPARE(asked[0], (QList<QVariant>{-1, 0}));
        QCOMPARE(asked[1], (QList<QVariant>{0, 1}));
        QCOMPARE(again.size(), 1);
    }

    void nothingToShowIsNoFault() {
        PatchInspector view;
        view.resize(800, 600);
        view.grab();
        view.selectBin(3, 6000);
        QCOMPARE(view.summary(), QStringLiteral("No patch"));
        QVERIFY(view.exportTo(QStringLiteral("x.png")).contains(QStringLiteral("no patch")));
        auto empty = std::make_shared<PatchDetail>(*exposure_->extract().detail);
        empty->window = {};
        empty->image = empty->pixivar = empty->model = empty->chi = empty->pixmask = {};
        PatchInput input = exposure_->extract();
        input.detail = empty;
        view.setPatch(input);
        view.showSurfaces(true);
        view.grab();
        view.showSurfaces(false);
        view.grab();
        view.setPatch({});
        view.grab();
    }

    void exportsTableAndPicture() {
        PatchInspector view;
        view.resize(900, 600);
        view.show();
        const PatchInput input = exposure_->extract();
        view.setPatch(input);
        const QTemporaryDir folder;
        QCOMPARE(view.exportTo(folder.filePath(QStringLiteral("p.csv"))), QString());
        QFile file(folder.filePath(QStringLiteral("p.csv")));
        QVERIFY(file.open(QIODevice::ReadOnly));
        const QStringList lines = QString::fromUtf8(file.readAll()).split('\n', Qt::SkipEmptyParts);
        QCOMPARE(lines.size(), view.model()->rowCount() + 1);
        QVERIFY(std::abs(lines[1].split(',')[2].toDouble() / (input.detail->flux(0, 0) / input.plan->grid.step()) - 1) <
                1e-8);
        for (const char* name : {"p.png", "p.pdf"}) {
            QCOMPARE(view.exportTo(folder.filePath(QLatin1String(name))), QString());
            QVERIFY(QFileInfo(folder.filePath(QLatin1String(name))).size() > 1000);
        }
        QVERIFY(!view.exportTo(folder.filePath(QStringLiteral("p.doc"))).isEmpty());
    }

    void curvesOfAPatchAreItsBins() {
        const PatchInput input = exposure_->extract();
        const PatchDetail& d = *input.detail;
        const SpectrumCurve curve = curveOfPatch(d, *input.plan, d.patch.core.first);
        const auto row = static_cast<std::size_t>(d.patch.core.first - d.patch.spectra.first);
        QCOMPARE(curve.size(), static_cast<std::size_t>(d.patch.bins.count()));
        QCOMPARE(curve.flux[9], d.flux(row, 9) / input.plan->grid.step());
        QCOMPARE(curve.padding[0], std::uint8_t(1));
        int kept = 0;
        for (const std::uint8_t padding : curve.padding) kept += padding == 0 ? 1 : 0;
        QCOMPARE(kept, d.patch.keepBins.count());
        const std::vector<double> seams = patchSeams(*input.plan);
        QCOMPARE(static_cast<int>(seams.size()), input.plan->nsteps - 1);
        QVERIFY(std::abs(seams[0] - (input.plan->grid.wmin + 14.5 * input.plan->grid.dw)) < 1e-9);
    }

    void theTruthIsThatOfItsOwnFiber() {
        // xflux itself as the truth, in a file whose first row is spectrum 1: convolved with R it is the flux.
        const PatchInput input = exposure_->extract();
        const PatchDetail& d = *input.detail;
        const auto nwave = static_cast<std::size_t>(d.patch.bins.count());
        TruthSpectra truth;
        truth.specmin = 1;
        truth.path = "truth.fits";
        constexpr std::size_t beyond = 15; // dark wavelengths on both sides, for the interpolation
        for (int bin = d.patch.bins.first - 15; bin < d.patch.bins.last + 15; ++bin)
            truth.wavelength.push_back(input.plan->grid.wavelength(bin));
        truth.flux = Array2<double>(2, nwave + 2 * beyond);
        for (std::size_t row = 0; row < 2; ++row)
            for (std::size_t i = 0; i < nwave; ++i)
                truth.flux(row, beyond + i) = d.xflux(row + 1, i) / input.plan->grid.step();
        QVERIFY(curveOfTruth(truth, d, *input.plan, 0).empty());
        const SpectrumCurve curve = curveOfTruth(truth, d, *input.plan, 2);
        QCOMPARE(curve.size(), nwave);
        QVERIFY(std::isnan(curve.flux[0]));
        const std::size_t middle = nwave / 2;
        QVERIFY(std::isfinite(curve.flux[middle]));
        QVERIFY(std::abs(curve.flux[middle] / (d.flux(2, middle) / input.plan->grid.step()) - 1) < 1e-6);
        // By fiber number, and not at all where the file does not say.
        truth.specmin.reset();
        QVERIFY_EXCEPTION_THROWN(static_cast<void>(curveOfTruth(truth, d, *input.plan, 2, 1002)), Error);
        truth.fiber = {1001, 1002};
        QCOMPARE(curveOfTruth(truth, d, *input.plan, 2, 1002).flux[middle], curve.flux[middle]);
        QVERIFY(curveOfTruth(truth, d, *input.plan, 2, 1005).empty());
    }

    void surfacesAreDrawnOrSayWhyNot() {
        PatchInspector view;
        view.resize(1000, 700);
        view.show();
        view.setPatch(exposure_->extract());
        view.showSurfaces(true);
        view.grab();
        const QString reason = SurfaceCanvas::unavailableReason();
        if (!reason.isEmpty()) {
            QVERIFY(view.surfaces()->picture().isNull());
            if (qEnvironmentVariable("PATCHLIGHT_REQUIRE_DISPLAY", "0") != "0") QFAIL(qPrintable(reason));
            QSKIP(qPrintable(reason));
        }
        SurfaceCanvas* canvas = view.surfaces();
        const QImage first = canvas->picture();
        QCOMPARE(first.size(), (QSizeF(canvas->size()) * canvas->devicePixelRatioF()).toSize());
        // Something stands in every quarter, and it is no flat colour.
        const QRgb background = first.pixel(1, 1);
        for (int quarter = 0; quarter < 4; ++quarter) {
            int drawn = 0;
            for (int y = 0; y < first.height(); y += 2)
                for (int x = quarter * first.width() / 4; x < (quarter + 1) * first.width() / 4; x += 2)
                    drawn += first.pixel(x, y) != background ? 1 : 0;
            QVERIFY2(drawn > 500, qPrintable(QString::number(drawn)));
        }
        // The mouse turns it, the wheel zooms, Home returns to the first view.
        const QPointF middle = QRectF(canvas->rect()).center();
        QTest::mousePress(canvas, Qt::LeftButton, {}, middle.toPoint());
        moveMouse(canvas, middle + QPointF(40, 0), Qt::LeftButton);
        QTest::mouseRelease(canvas, Qt::LeftButton, {}, middle.toPoint());
        wheel(canvas, middle, 120);
        canvas->grab();
        QVERIFY(canvas->picture() != first);
        QVERIFY(canvas->zoom() > 1);
        QTest::keyClick(canvas, Qt::Key_Home);
        canvas->grab();
        QCOMPARE(canvas->picture(), first);
    }

    void aNewPatchShowsQuickly() {
        PatchInspector view;
        view.resize(1000, 700);
        view.show();
        const PatchInput a = exposure_->extract({}, 0, 1);
        const PatchInput b = exposure_->extract({}, 0, 2);
        view.setPatch(a);
        view.grab();
        QElapsedTimer timer;
        timer.start();
        for (int i = 0; i < 6; ++i) {
            view.setPatch(i % 2 == 0 ? b : a);
            view.grab();
        }
        qInfo("%.1f ms a patch", static_cast<double>(timer.elapsed()) / 6);
    }
};

QTEST_MAIN(TestPatchInspector)
#include "TestPatchInspector.moc"
