#include "core/image/CcdImage.h"
#include "core/psf/Psf.h"
#include "tests/widgets/Hands.h"
#include "tests/widgets/SmallWindow.h"
#include "widgets/control/Document.h"
#include "widgets/control/TraceMap.h"
#include "widgets/patch/PatchBinModel.h"
#include "widgets/patch/PatchImages.h"
#include "widgets/patch/PatchInspector.h"
#include "widgets/spectrum/SpectrumView.h"
#include "widgets/window/ActionList.h"
#include "widgets/window/LinkedViews.h"
#include "widgets/window/MainWindow.h"

#include <QAction>
#include <QDockWidget>
#include <QMouseEvent>
#include <QStandardPaths>
#include <QTableView>
#include <QTest>
#include <QUndoStack>

#include <cmath>
#include <memory>

using namespace patchlight;
using namespace patchlight::widgets;
using patchlight::test::moveMouse;
using Window = patchlight::test::SmallWindow;

class TestLinkedViews : public QObject {
    Q_OBJECT

private Q_SLOTS:
    void initTestCase() { QStandardPaths::setTestModeEnabled(true); }

    void aPatchAppearsInEveryView() {
        Window w;
        QVERIFY(w.document().plan());
        QVERIFY(w.select(2, 20));
        const PatchDetail& detail = *w.document().patchRun().detail;
        QCOMPARE(w.views().inspector()->patch().detail.get(), &detail);
        QCOMPARE(static_cast<std::size_t>(w.views().inspector()->model()->rowCount()), detail.flux.size());
        const SpectrumData& data = w.views().spectrum()->data();
        QCOMPARE(data.spectra.size(), std::size_t(1));
        QCOMPARE(data.spectra[0].spectrum, 2);
        const auto row = static_cast<std::size_t>(2 - detail.patch.spectra.first);
        QCOMPARE(data.spectra[0].flux[8], detail.flux(row, 8) / w.document().plan()->grid.step());
        w.views().setFibers(LinkedViews::Fibers::Subbundle);
        QCOMPARE(static_cast<int>(w.views().spectrum()->data().spectra.size()), detail.patch.spectra.count());
    }

    void theCursorLinksTheViews() {
        Window w;
        QVERIFY(w.select(2, 20));
        SpectrumPlot* plot = w.views().spectrum()->plot();
        // Mouse over the spectrum: the document knows where that is on the CCD.
        const double wavelength = w.document().plan()->grid.outputWavelength(18);
        moveMouse(plot, QPointF(plot->pixelOf(wavelength), plot->mainArea().center().y()));
        QCOMPARE(w.document().hover().spectrum, 2);
        QVERIFY(std::abs(w.document().hover().wavelength - wavelength) < 0.2);
        QVERIFY(std::abs(w.document().hover().y - w.psf->y(2, wavelength)) < 1.0);
        // Mouse over the patch: the spectrum reads that bin.
        PatchImages* images = w.views().inspector()->images();
        moveMouse(images, images->toWidget(1, w.psf->x(2, wavelength), w.psf->y(2, wavelength)));
        QCOMPARE(w.document().hover().spectrum, 2);
        QVERIFY(w.views().spectrum()->stripText().contains(QStringLiteral("fiber 2")));
        // A row of the table: the cursor goes there, and the patch stays.
        const auto selected = w.document().selectedPatch();
        QTableView* table = w.views().inspector()->table();
        table->selectRow(3);
        QVERIFY(w.document().cursor().hasBin());
        QCOMPARE(w.document().cursor().spectrum, table->model()->index(3, 0).data().toInt());
        QVERIFY(w.document().selectedPatch()->step == selected->step);
    }

    void fibersAndNeighboursAreWalked() {
        Window w;
        QVERIFY(w.select(2, 20));
        SpectrumPlot* plot = w.views().spectrum()->plot();
        plot->setFocus();
        plot->run(QStringLiteral("next"));
        QVERIFY(QTest::qWaitFor([&] { return w.window.controller().activeJobs() == 0; }));
        QCOMPARE(w.document().cursor().spectrum, 3);
        QCOMPARE(w.views().spectrum()->data().spectra.at(0).spectrum, 3);
        const int step = w.document().selectedPatch()->step;
        w.window.actionList().find(QStringLiteral("patch.up"))->trigger();
        QCOMPARE(w.document().selectedPatch()->step, step + 1);
        QVERIFY(QTest::qWaitFor([&] { return w.window.controller().activeJobs() == 0; }));
        QCOMPARE(w.views().inspector()->patch().detail->patch.step, step + 1);
    }

    void maskingByHandShowsBeforeAndAfterInSigma() {
        Window w;
        QVERIFY(w.select(2, 20));
        const std::shared_ptr<const PatchDetail> before = w.document().patchRun().detail;
        PatchInspector* inspector = w.views().inspector();
        PatchImages* images = inspector->images();
        inspector->brushAction()->setChecked(true);
        const double wavelength = w.document().plan()->grid.outputWavelength(20);
        const int x = static_cast<int>(std::lround(w.psf->x(2, wavelength)));
        const int y = static_cast<int>(std::lround(w.psf->y(2, wavelength)));
        QTest::mousePress(images, Qt::LeftButton, {}, images->toWidget(0, x, y).toPoint());
        moveMouse(images, images->toWidget(0, x + 1, y), Qt::LeftButton);
        QTest::mouseRelease(images, Qt::LeftButton, {}, images->toWidget(0, x + 1, y).toPoint());
        QCOMPARE(w.document().maskEdits().size(), 2);
        QVERIFY(QTest::qWaitFor([&] { return w.document().patchRun().detail != before; }));
        QVERIFY(QTest::qWaitFor([&] { return w.window.controller().activeJobs() == 0; }));
        const PatchDetail& after = *w.document().patchRun().detail;
        const PixelWindow& window = after.window;
        QCOMPARE(
            after.pixivar(static_cast<std::size_t>(y - window.y.first), static_cast<std::size_t>(x - window.x.first)),
            0.0);
        double worst = 0;
        for (int row = 0; row < inspector->model()->rowCount(); ++row)
            if (std::isfinite(inspector->model()->change(row)))
                worst = std::max(worst, std::abs(inspector->model()->change(row)));
        QVERIFY(worst > 0.05);
        // The spectrum has the run before over it, and the residual is against it.
        const SpectrumData& data = w.views().spectrum()->data();
        QCOMPARE(data.overlays.size(), std::size_t(1));
        QCOMPARE(data.overlays[0].kind, SpectrumOverlay::Kind::Previous);
        QVERIFY(!w.views().spectrum()->plot()->pulls().empty());
        // Undo takes the edit back in the document, too, and extracts again.
        w.window.actionList().find(QStringLiteral("patch.undo"))->trigger();
        QVERIFY(w.document().maskEdits().isEmpty());
        QVERIFY(QTest::qWaitFor([&] { return w.window.controller().activeJobs() == 0; }));
        QCOMPARE(w.document().patchRun().detail->flux.values(), before->flux.values());
        // Edits from elsewhere reach the inspector.
        w.document().setMaskEdits({{y * 120 + x, true}});
        QVERIFY(images->isMasked(x, y));
        QVERIFY(QTest::qWaitFor([&] { return w.window.controller().activeJobs() == 0; }));
    }

    /// What-if: any option, or another PSF, and the patch before and after in sigma.
    void anOptionShowsBeforeAndAfterInSigma_data() {
        QTest::addColumn<QString>("option");
        QTest::addColumn<QString>("value");
        QTest::newRow("method") << "method"
                                << "seamless"; // other padding, another window
        QTest::newRow("padding") << "wavepad"
                                 << "8";
        QTest::newRow("decorrelation") << "decorrelate"
                                       << "noise";
        QTest::newRow("tail") << "no-psf-tail"
                              << "true";
        QTest::newRow("shorter patches") << "nwavestep"
                                         << "10";
        QTest::newRow("wider patches") << "nsubbundles"
                                       << "1";
    }
    void anOptionShowsBeforeAndAfterInSigma() {
        QFETCH(QString, option);
        QFETCH(QString, value);
        Window w;
        QVERIFY(w.select(2, 20));
        const std::shared_ptr<const PatchDetail> before = w.document().patchRun().detail;
        const double wavelength = w.document().plan()->grid.outputWavelength(20);
        ExtractionOptions options = w.document().options();
        findOption(option.toStdString()).set(options, value.toStdString());
        w.document().setOptions(options);
        QVERIFY(QTest::qWaitFor([&] { return w.document().patchRun().detail != before; }));
        QVERIFY(QTest::qWaitFor([&] { return w.window.controller().activeJobs() == 0; }));
        QVERIFY(w.document().previousPatchRun().detail == before);
        const PatchRun& now = w.document().patchRun();
        const PatchBinModel& model = *w.views().inspector()->model();
        const int row = model.rowOf(2, wavelength);
        QVERIFY(row >= 0);
        const auto at = [&](const PatchDetail& detail, const Array2<double>& values, int pad) {
            return values(static_cast<std::size_t>(2 - detail.patch.spectra.first),
                          static_cast<std::size_t>(20 + pad - detail.patch.bins.first));
        };
        const int padBefore = w.document().previousPatchRun().plan->grid.pad;
        const double expected =
            (at(*now.detail, now.detail->flux, now.plan->grid.pad) - at(*before, before->flux, padBefore)) *
            std::sqrt(at(*before, before->ivar, padBefore));
        QVERIFY(std::abs(model.change(row) - expected) < 1e-12 * std::max(1.0, std::abs(expected)));
        QVERIFY2(w.views().inspector()->summary().contains(QStringLiteral("against before")),
                 qPrintable(w.views().inspector()->summary()));
        QCOMPARE(w.views().inspector()->images()->panels().size(), std::size_t(5));
    }

    /// Options that cut patches otherwise: bins are matched by fiber and wavelength.
    void anotherCutComparesWhatBothKeep() {
        Window w;
        QVERIFY(w.select(2, 20)); // wavelengths 15 to 29
        const PatchRun before = w.document().patchRun();
        ExtractionOptions options = w.document().options();
        options.nwavestep = 12; // wavelengths 12 to 23
        w.document().setOptions(options);
        QVERIFY(QTest::qWaitFor([&] { return w.document().patchRun().detail != before.detail; }));
        QVERIFY(QTest::qWaitFor([&] { return w.window.controller().activeJobs() == 0; }));
        const PatchBinModel& model = *w.views().inspector()->model();
        const PatchRun& now = w.document().patchRun();
        QCOMPARE(now.detail->patch.keepBins.count(), 12);
        const WavelengthGrid& grid = now.plan->grid;
        const auto change = [&](int core) { return model.change(model.rowOf(2, grid.outputWavelength(core))); };
        QVERIFY(std::isnan(change(14))); // of another patch before
        const auto at = [](const PatchRun& run, const Array2<double>& values, int core) {
            return values(static_cast<std::size_t>(2 - run.detail->patch.spectra.first),
                          static_cast<std::size_t>(core + run.plan->grid.pad - run.detail->patch.bins.first));
        };
        for (const int core : {15, 19, 23}) {
            const double expected = (at(now, now.detail->flux, core) - at(before, before.detail->flux, core)) *
                                    std::sqrt(at(before, before.detail->ivar, core));
            QVERIFY(std::abs(change(core) - expected) < 1e-12 * std::max(1.0, std::abs(expected)));
        }
        const int fibers = now.detail->patch.core.count();
        QCOMPARE(model.shared().kept, 12 * fibers);
        QCOMPARE(model.shared().before, 9 * fibers);
        QVERIFY2(w.views().inspector()->summary().contains(
                     QStringLiteral("has %1 of these %2 bins").arg(9 * fibers).arg(12 * fibers)),
                 qPrintable(w.views().inspector()->summary()));
        // Wavelengths between the old ones cannot be compared, which is said.
        options.wavelength->dw *= 0.75;
        w.document().setOptions(options);
        const auto cut = now.detail;
        QVERIFY(QTest::qWaitFor([&] { return w.document().patchRun().detail != cut; }));
        QVERIFY(QTest::qWaitFor([&] { return w.window.controller().activeJobs() == 0; }));
        QVERIFY(!w.document().previousPatchRun());
        QVERIFY2(w.views().inspector()->summary().contains(QStringLiteral("no comparison with the patch before")),
                 qPrintable(w.views().inspector()->summary()));
        QCOMPARE(w.views().inspector()->images()->panels().size(), std::size_t(4));
    }

    void whatNobodySeesWaits() {
        Window w;
        QVERIFY(w.select(2, 20));
        w.raise("resolution"); // in front of the patch's dock
        const PatchDetail* const shown = w.views().inspector()->patch().detail.get();
        QVERIFY(w.select(2, 40));
        QVERIFY(w.views().inspector()->patch().detail.get() == shown);
        w.raise("patch");
        QCOMPARE(w.views().inspector()->patch().detail.get(), w.document().patchRun().detail.get());
        // The cursor's bin is chosen in the table, as if it had been seen all the time.
        QVERIFY(w.views().inspector()->images()->selectedBin() >= 0);
    }

    void anotherPsfShowsBeforeAndAfterInSigma() {
        Window w;
        QVERIFY(w.select(2, 20));
        const std::shared_ptr<const PatchDetail> before = w.document().patchRun().detail;
        // Half a pixel to the right: columns of the window change, and every flux.
        auto moved = std::make_shared<Psf>(*w.psf);
        LegendreSeries& x = moved->series["X"];
        for (std::size_t s = 0; s < static_cast<std::size_t>(moved->nspec); ++s)
            x.coeff[s * static_cast<std::size_t>(x.ncoeff)] += 0.5;
        moved->pack();
        w.document().setPsf(moved, std::make_shared<TraceMap>(*moved, 120, 200));
        QVERIFY(QTest::qWaitFor([&] { return w.document().patchRun().detail != before; }));
        QVERIFY(QTest::qWaitFor([&] { return w.window.controller().activeJobs() == 0; }));
        QVERIFY(w.document().previousPatchRun().detail == before);
        const PatchBinModel& model = *w.views().inspector()->model();
        double worst = 0;
        for (int row = 0; row < model.rowCount(); ++row)
            if (std::isfinite(model.change(row))) worst = std::max(worst, std::abs(model.change(row)));
        QVERIFY2(worst > 3, qPrintable(QString::number(worst)));
        QVERIFY(w.views().inspector()->summary().contains(QStringLiteral("against before")));
    }

    /// The second PSF in the first one's place, and back.
    void twoPsfsAreSwapped() {
        Window w;
        QVERIFY(w.select(2, 20));
        const std::shared_ptr<const PatchDetail> before = w.document().patchRun().detail;
        auto wider = std::make_shared<Psf>(*w.psf);
        for (double& coefficient : wider->series["GHSIGX"].coeff) coefficient *= 1.05;
        wider->pack();
        w.document().setSecondPsf(wider);
        w.window.actionList().find(QStringLiteral("psf.swap"))->trigger();
        QVERIFY(QTest::qWaitFor([&] { return w.document().patchRun().detail != before; }));
        QVERIFY(QTest::qWaitFor([&] { return w.window.controller().activeJobs() == 0; }));
        QCOMPARE(w.document().psf().get(), wider.get());
        QVERIFY(w.document().previousPatchRun().detail == before);
        QVERIFY(w.document().patchRun().detail->flux.values() != before->flux.values());
        QVERIFY(w.views().inspector()->summary().contains(QStringLiteral("against before")));
        const PatchDetail* const with = w.document().patchRun().detail.get();
        w.window.actionList().find(QStringLiteral("psf.swap"))->trigger();
        QVERIFY(QTest::qWaitFor([&] { return w.document().patchRun().detail.get() != with; }));
        QCOMPARE(w.document().patchRun().detail->flux.values(), before->flux.values());
    }

    void aFrameComesBeforeThePatch() {
        Window w;
        QVERIFY(w.select(2, 20));
        auto backend = makeCpuBackend();
        auto frame = std::make_shared<ExtractedFrame>(
            extractFrame(*backend, w.document().pixels()->view(), *w.psf, *w.document().plan()).frame);
        OpenFrame open;
        open.frame = frame;
        open.label = QStringLiteral("run");
        w.document().setFrame(open);
        const SpectrumView* spectrum = w.views().spectrum();
        QCOMPARE(spectrum->data().source, QStringLiteral("run"));
        QCOMPARE(spectrum->data().spectra.at(0).size(), frame->nwave());
        QCOMPARE(spectrum->data().overlays.size(), std::size_t(1)); // the patch
        w.views().setFibers(LinkedViews::Fibers::Bundle);
        QCOMPARE(spectrum->data().spectra.size(), std::size_t(5));
        w.views().setSource(LinkedViews::Source::Patch);
        QCOMPARE(spectrum->data().source, QStringLiteral("patch"));
    }

    void aHiddenViewWaits() {
        Window w;
        QDockWidget* dock = w.window.dock(QStringLiteral("patch"));
        dock->hide();
        QVERIFY(w.select(2, 20));
        QVERIFY(!w.views().inspector()->patch());
        dock->show();
        dock->raise();
        QVERIFY(QTest::qWaitFor([&] { return static_cast<bool>(w.views().inspector()->patch()); }));
    }

    void settingsTravelInASession() {
        Window a;
        SpectrumSettings s = a.views().spectrum()->settings();
        s.nanometres = true;
        s.skyLines = true;
        s.smoothing = 5;
        s.shadedBits = 0x80000001;
        a.views().spectrum()->setSettings(s);
        a.views().setFibers(LinkedViews::Fibers::Bundle);
        Window b;
        b.views().restore(a.views().session());
        QCOMPARE(b.views().spectrum()->settings(), s);
        QCOMPARE(b.views().fibers(), LinkedViews::Fibers::Bundle);
    }

    void keysAreInTheOneListAndCanBeRebound() {
        Window w;
        ActionList& actions = w.window.actionList();
        for (const SpectrumPlot::Command& command : SpectrumPlot::commands())
            QVERIFY(actions.find(QStringLiteral("spectrum.") + QLatin1String(command.id)) != nullptr);
        QVERIFY(w.select(2, 20));
        QVERIFY(actions.rebind(QStringLiteral("spectrum.smooth"), {QKeySequence(QStringLiteral("T"))}) == nullptr);
        SpectrumView* view = w.views().spectrum();
        view->plot()->setFocus();
        QTest::keyClick(view->plot(), 'S');
        QCOMPARE(view->settings().smoothing, 1);
        actions.find(QStringLiteral("spectrum.smooth"))->trigger();
        QCOMPARE(view->settings().smoothing, 3);
        actions.resetKeys();
        // Switches follow each other.
        actions.find(QStringLiteral("spectrum.xflux"))->setChecked(true);
        QVERIFY(view->settings().xflux);
        SpectrumSettings s = view->settings();
        s.xflux = false;
        view->setSettings(s);
        QVERIFY(!actions.find(QStringLiteral("spectrum.xflux"))->isChecked());
        // No key means two things in one view.
        for (const ActionList::Entry& one : actions.entries())
            for (const ActionList::Entry& other : actions.entries()) {
                if (&one >= &other || (one.scope && other.scope && one.scope != other.scope)) continue;
                for (const QKeySequence& key : one.action->shortcuts())
                    QVERIFY2(!other.action->shortcuts().contains(key),
                             qPrintable(one.id + QStringLiteral(" and ") + other.id + QStringLiteral(": ") +
                                        key.toString()));
            }
    }
};

QTEST_MAIN(TestLinkedViews)
#include "TestLinkedViews.moc"
