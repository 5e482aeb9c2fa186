// The Frame dock: maps, findings, fibers, the sentence, what-ifs, plots, and how they follow the window's cursor.

#include "core/analysis/FrameQuality.h"
#include "core/analysis/NoiseCheck.h"
#include "core/cpu/CpuBackend.h"
#include "core/engine/Engine.h"
#include "core/frame/ExtractedFrame.h"
#include "core/psf/Psf.h"
#include "core/simulate/FrameSimulator.h"
#include "widgets/control/Document.h"
#include "widgets/plot/SeriesPlot.h"
#include "widgets/quality/FrameQualityPanel.h"
#include "widgets/quality/QualityModels.h"
#include "widgets/quality/QualityReportPdf.h"
#include "widgets/window/MainWindow.h"

#include <QAbstractItemModelTester>
#include <QApplication>
#include <QDockWidget>
#include <QSettings>
#include <QSignalSpy>
#include <QTableView>
#include <QTemporaryDir>
#include <QTest>
#include <QWheelEvent>

#include <cmath>
#include <memory>

using namespace patchlight;
using namespace patchlight::widgets;

namespace {

/// image.fits, psf.fits and frame.fits of 20 fibers with a cosmic ray and a moved trace.
struct Files {
    QTemporaryDir folder;
    QString image = folder.filePath("image.fits");
    QString psf = folder.filePath("psf.fits");
    QString frame = folder.filePath("frame.fits");
    ExtractionOptions extraction;

    Files() {
        simulate::InstrumentOptions instrument;
        instrument.nspec = 20;
        instrument.bundlesize = 10;
        instrument.nx = 220;
        instrument.ny = 300;
        instrument.waveCentre = 6330.0;
        const Psf made = simulate::makePsf(simulate::completed(instrument));
        simulate::FrameOptions options;
        options.grid = {6280.0, 6380.0, 0.8};
        options.cosmics = 0;
        options.badColumns = 0;
        options.faults = {simulate::parsePlantedFault("cosmic:12,6320"), simulate::parsePlantedFault("trace:4,0.3")};
        const CcdImage ccd = simulate::simulateFrame(made, options).image;
        extraction.wavelength = options.grid;
        extraction.bundlesize = instrument.bundlesize;
        const Plan plan = makePlan(made, extraction);
        const auto backend = makeCpuBackend();
        ExtractionResult result = extractFrame(*backend, weightedPixels(ccd).view(), made, plan);
        result.frame.fibermap = ccd.fibermap;
        writeOptions(result.frame.header, extraction);
        writeCcdImage(image.toStdString(), ccd);
        writePsf(psf.toStdString(), made);
        writeFrame(frame.toStdString(), result.frame);
    }
};

} // namespace

class TestFramePanel : public QObject {
    Q_OBJECT

private slots:
    void initTestCase() {
        QSettings::setPath(QSettings::NativeFormat, QSettings::UserScope, home_.path());
        QApplication::setOrganizationName(QStringLiteral("patchlight-test"));
        files_ = std::make_unique<Files>();
    }

    void init() {
        window_ = std::make_unique<MainWindow>([](const std::string&) { return makeCpuBackend(); });
        window_->resize(1600, 1000);
        window_->document().setOptions(files_->extraction);
        window_->show();
    }

    void cleanup() { window_.reset(); }

    void measuresWhenSeen() {
        FrameQualityPanel& panel = window_->frameQuality();
        window_->openFiles({files_->image, files_->psf, files_->frame});
        QTRY_VERIFY_WITH_TIMEOUT(
            window_->document().frame() && window_->document().image() && window_->document().psf(), 10000);
        QTest::qWait(300);
        QVERIFY(!panel.measurement().quality); // nobody sees it yet
        window_->dock(QStringLiteral("frame"))->raise();
        QTRY_VERIFY_WITH_TIMEOUT(panel.measurement().quality != nullptr, 20000);
        QVERIFY(panel.measurement().quality->pixels);
        QVERIFY2(window_->problem().isEmpty(), qPrintable(window_->problem()));
    }

    void findingsAndSentence() {
        open();
        FrameQualityPanel& panel = window_->frameQuality();
        QTableView& table = panel.findingTable();
        QAbstractItemModelTester tester(table.model(), QAbstractItemModelTester::FailureReportingMode::QtTest);
        int cosmic = -1;
        for (int row = 0; row < table.model()->rowCount(); ++row)
            if (table.model()->index(row, FindingModel::Kind).data().toString() == QStringLiteral("cosmic ray")) {
                cosmic = row;
                break;
            }
        QVERIFY(cosmic >= 0);
        QSignalSpy chosen(&panel, &FrameQualityPanel::placeChosen);
        const QModelIndex index = table.model()->index(cosmic, FindingModel::Fiber);
        table.scrollTo(index);
        QTest::mouseClick(table.viewport(), Qt::LeftButton, Qt::NoModifier, table.visualRect(index).center());
        QCOMPARE(chosen.size(), 1);
        QCOMPARE(window_->document().cursor().spectrum, 12);
        QVERIFY(std::abs(window_->document().cursor().wavelength - 6320) < 2.5);
        QVERIFY(window_->document().selectedPatch().has_value()); // every other view goes there
        QVERIFY2(panel.sentence().contains(QStringLiteral("cosmic ray")), qPrintable(panel.sentence()));
        // The cursor of the other views moves this one.
        window_->document().setCursor(window_->document().cursorAtBin(4, 6340));
        QVERIFY2(panel.sentence().contains(QStringLiteral("right of the trace")), qPrintable(panel.sentence()));
        window_->document().setCursor(window_->document().cursorAtBin(8, 6340));
        QVERIFY2(panel.sentence().contains(QStringLiteral("nothing found")), qPrintable(panel.sentence()));
    }

    void mapShowsItsNumbers() {
        open();
        FrameQualityPanel& panel = window_->frameQuality();
        FrameMap& map = panel.map();
        panel.setMap(FrameQualityPanel::Map::Cause);
        map.repaint();
        // The pixel of a bin has the colour of its cause.
        const auto colourOf = [&](int row, int bin) {
            const QPointF at = map.placeOf(bin, row) - map.area().topLeft();
            return map.picture().pixel(static_cast<int>(at.x()), static_cast<int>(at.y()));
        };
        QCOMPARE(colourOf(4, 60), FrameQualityPanel::kindColour(BadBinKind::TraceOffset).rgb());
        QVERIFY(colourOf(9, 60) != FrameQualityPanel::kindColour(BadBinKind::TraceOffset).rgb());
        // A place on screen is a bin, and the other way round.
        QCOMPARE(map.binAt(map.placeOf(33, 7)), QPoint(33, 7));
        QCOMPARE(map.binAt({0, 0}), QPoint(-1, -1));
        // A click takes the cursor there.
        QTest::mouseClick(&map, Qt::LeftButton, Qt::NoModifier, map.placeOf(33, 7).toPoint());
        QCOMPARE(window_->document().cursor().spectrum, 7);
        QVERIFY(std::abs(window_->document().cursor().wavelength - (6280 + 33 * 0.8)) < 1e-6);
        // The wheel keeps what is under it; Ctrl and Shift zoom one axis.
        const FrameMap::View whole = map.view();
        const QPointF at = map.placeOf(40, 12);
        wheel(map, at, Qt::NoModifier);
        QVERIFY(map.view().bins.span() < whole.bins.span() && map.view().rows.span() < whole.rows.span());
        QVERIFY(std::abs(map.placeOf(40, 12).x() - at.x()) < 1.5 && std::abs(map.placeOf(40, 12).y() - at.y()) < 1.5);
        const FrameMap::View closer = map.view();
        wheel(map, at, Qt::ControlModifier);
        QVERIFY(map.view().bins.span() < closer.bins.span());
        QCOMPARE(map.view().rows.span(), closer.rows.span());
        map.back();
        QVERIFY(map.view() == closer);
        map.forward();
        QTest::mouseDClick(&map, Qt::LeftButton, Qt::NoModifier, at.toPoint());
        QVERIFY(map.view() == whole);
        // Arrow keys walk from bin to bin.
        window_->document().setCursor(window_->document().cursorAtBin(7, 6300));
        QTest::keyClick(&map, Qt::Key_Up);
        QCOMPARE(window_->document().cursor().spectrum, 8);
        QTest::keyClick(&map, Qt::Key_Right);
        QVERIFY(std::abs(window_->document().cursor().wavelength - 6300.8) < 1e-6);
        for (int i = 0; i < FrameQualityPanel::mapCount; ++i) {
            panel.setMap(static_cast<FrameQualityPanel::Map>(i));
            map.repaint();
            QVERIFY2(map.plane().values != nullptr,
                     qPrintable(FrameQualityPanel::mapName(static_cast<FrameQualityPanel::Map>(i))));
            double counted = 0;
            for (const double count : panel.histogram().content().series.at(0).y) counted += count;
            QVERIFY(counted > 0.5 * 20 * 126);
        }
    }

    void whatIfs() {
        open();
        FrameQualityPanel& panel = window_->frameQuality();
        const Array2<float>& ratio = panel.measurement().quality->chi2Ratio;
        for (const double factor : {2.0, 5.0, 9.5}) {
            panel.setBad2dFactor(factor);
            const auto expected = std::count_if(ratio.values().begin(), ratio.values().end(),
                                                [&](float r) { return r > static_cast<float>(factor); });
            QCOMPARE(panel.whatIfCount(), static_cast<std::int64_t>(expected));
        }
        // With a larger psferr the moved trace fits better in its bright lines: fewer bins stand out.
        panel.setBad2dFactor(3.0);
        const std::int64_t before = panel.whatIfCount();
        panel.setPsferr(0.3);
        QTRY_VERIFY_WITH_TIMEOUT(panel.whatIfCount() != before, 10000);
        QVERIFY(panel.whatIfCount() < before);
    }

    void chi2WithTheSamePsferrIsTheFramesOwn() {
        open();
        const FrameQualityPanel::Measurement& m = window_->frameQuality().measurement();
        const Array2<float> chi2 = chi2pixWith(m.input(), *m.quality, m.quality->psferr);
        int compared = 0;
        for (std::size_t s = 0; s < m.frame->nspec(); ++s)
            for (std::size_t j = 0; j < m.frame->nwave(); ++j) {
                if (std::isnan(chi2(s, j)) || !(m.frame->ivar(s, j) > 0)) continue;
                const double own = m.frame->chi2pix(s, j);
                QVERIFY2(std::abs(static_cast<double>(chi2(s, j)) - own) < 0.05 + 0.1 * own,
                         qPrintable(QString("%1 %2: %3 %4").arg(s).arg(j).arg(chi2(s, j)).arg(own)));
                ++compared;
            }
        QVERIFY(compared > 1500);
    }

    void fibers() {
        open();
        QTableView& table = window_->frameQuality().fiberTable();
        QAbstractItemModelTester tester(table.model(), QAbstractItemModelTester::FailureReportingMode::QtTest);
        auto* filter = qobject_cast<FiberFilter*>(table.model());
        QAbstractItemModelTester sourceTester(filter->sourceModel(),
                                              QAbstractItemModelTester::FailureReportingMode::QtTest);
        QCOMPARE(table.model()->rowCount(), 20);
        // Target ids are 64-bit integers to the last digit.
        const auto ids = window_->document().frame().frame->fibermap->integers("TARGETID");
        const QModelIndex id = filter->sourceModel()->index(3, FiberModel::TargetId);
        QCOMPARE(id.data().toString(), QString::number(ids[3]));
        QCOMPARE(id.data(FiberModel::sortRole).typeId(), QMetaType::LongLong);
        QVERIFY(ids[3] > (1LL << 53)); // what a double would round
        filter->setWords(QString::number(ids[3]));
        QCOMPARE(table.model()->rowCount(), 1);
        filter->setWords(QStringLiteral("4"));
        QCOMPARE(table.model()->rowCount(), 1);
        filter->setWords({});
        filter->setAlarmsOnly(true);
        QVERIFY(table.model()->rowCount() >= 2 && table.model()->rowCount() < 20);
        filter->setAlarmsOnly(false);
        table.sortByColumn(FiberModel::Offset, Qt::DescendingOrder);
        QCOMPARE(table.model()->index(0, FiberModel::Spectrum).data().toInt(), 4);
        table.sortByColumn(FiberModel::Alarms, Qt::DescendingOrder);
        QCOMPARE(table.model()->index(0, FiberModel::Spectrum).data().toInt(), 4);
        QTest::mouseClick(table.viewport(), Qt::LeftButton, Qt::NoModifier,
                          table.visualRect(table.model()->index(0, 0)).center());
        QCOMPARE(window_->document().cursor().spectrum, 4);
    }

    void plots() {
        open();
        FrameQualityPanel& panel = window_->frameQuality();
        window_->document().setCursor(window_->document().cursorAtBin(12, 6320));
        const PlotContent& profile = panel.profile().content();
        QCOMPARE(profile.series.size(), 2U);
        // The middle column of the profile, by hand.
        const Cursor& cursor = window_->document().cursor();
        const int x = static_cast<int>(std::lround(cursor.x));
        const int y = static_cast<int>(std::lround(cursor.y));
        const CcdImage& image = *window_->document().image();
        double sum = 0;
        for (int row = y - 10; row <= y + 10; ++row)
            sum += image.pixels[static_cast<std::size_t>(row) * static_cast<std::size_t>(image.nx) +
                                static_cast<std::size_t>(x)];
        const std::size_t middle = static_cast<std::size_t>(
            std::find(profile.series[0].x.begin(), profile.series[0].x.end(), x) - profile.series[0].x.begin());
        QVERIFY(std::abs(profile.series[0].y[middle] - sum / 21) < 1e-3);
        SeriesPlot& plot = panel.profile();
        plot.resize(500, 300);
        const Interval whole = plot.view();
        QWheelEvent event({250, 150}, plot.mapToGlobal(QPointF(250, 150)), {}, {0, 120}, Qt::NoButton, Qt::NoModifier,
                          Qt::NoScrollPhase, false);
        QApplication::sendEvent(&plot, &event);
        QVERIFY(plot.view().span() < whole.span());
        QTest::mouseDClick(&plot, Qt::LeftButton, Qt::NoModifier, {250, 150});
        QVERIFY(plot.view() == whole);
    }

    void report() {
        open();
        const QString path = files_->folder.filePath("report.pdf");
        QCOMPARE(writeQualityReport(window_->frameQuality(), path), QString());
        QFile file(path);
        QVERIFY(file.open(QIODevice::ReadOnly));
        const QByteArray bytes = file.readAll();
        QVERIFY(bytes.startsWith("%PDF-"));
        QVERIFY(bytes.count("/Type /Page\n") >= 5);
        QVERIFY(bytes.size() > 50000);
        QVERIFY(writeQualityReport(window_->frameQuality(), QStringLiteral("/nowhere/report.pdf"))
                    .startsWith(QStringLiteral("/nowhere/report.pdf: ")));
    }

    void frameAlone() {
        window_->dock(QStringLiteral("frame"))->raise();
        window_->openFiles({files_->frame});
        FrameQualityPanel& panel = window_->frameQuality();
        QTRY_VERIFY_WITH_TIMEOUT(panel.measurement().quality != nullptr, 20000);
        QVERIFY(!panel.measurement().quality->pixels);
        panel.setMap(FrameQualityPanel::Map::Neighbour);
        QVERIFY(!panel.map().plane().values); // and the view says why
        panel.setMap(FrameQualityPanel::Map::Chi2pix);
        QVERIFY(panel.map().plane().values != nullptr);
        QTest::mouseClick(&panel.map(), Qt::LeftButton, Qt::NoModifier, panel.map().placeOf(50, 12).toPoint());
        QVERIFY(!panel.sentence().isEmpty());
    }

    void imageOfAnotherCamera() {
        // A frame whose spectra the PSF does not hold is measured without it, and the reason is said.
        ExtractedFrame other = readFrame(files_->frame.toStdString());
        for (double& wavelength : other.wavelength) wavelength += 2000;
        const QString path = files_->folder.filePath("other.fits");
        writeFrame(path.toStdString(), other);
        window_->dock(QStringLiteral("frame"))->raise();
        window_->openFiles({files_->image, files_->psf, path});
        FrameQualityPanel& panel = window_->frameQuality();
        QTRY_VERIFY_WITH_TIMEOUT(panel.measurement().quality != nullptr &&
                                     panel.measurement().frame == window_->document().frame().frame,
                                 20000);
        QVERIFY(!panel.measurement().quality->pixels);
        QVERIFY(panel.measurement().quality->notes.front().find("do not belong together") != std::string::npos);
    }

    void closesWhileMeasuring() {
        window_->openFiles({files_->image, files_->psf, files_->frame});
        QTRY_VERIFY_WITH_TIMEOUT(window_->document().frame(), 10000);
        window_->frameQuality().measure();
        window_.reset(); // nothing hangs, nothing crashes
    }

private:
    void open() {
        window_->dock(QStringLiteral("frame"))->raise();
        window_->openFiles({files_->image, files_->psf, files_->frame});
        QTRY_VERIFY_WITH_TIMEOUT(window_->frameQuality().measurement().quality != nullptr &&
                                     window_->frameQuality().measurement().quality->pixels &&
                                     window_->controller().activeJobs() == 0,
                                 20000);
        QApplication::processEvents();
    }

    static void wheel(QWidget& widget, const QPointF& at, Qt::KeyboardModifiers modifiers) {
        QWheelEvent event(at, widget.mapToGlobal(at), {}, {0, 120}, Qt::NoButton, modifiers, Qt::NoScrollPhase, false);
        QApplication::sendEvent(&widget, &event);
    }

    QTemporaryDir home_;
    std::unique_ptr<Files> files_;
    std::unique_ptr<MainWindow> window_;
};

QTEST_MAIN(TestFramePanel)
#include "TestFramePanel.moc"
