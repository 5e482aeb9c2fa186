// The Timing dock: timeline, statistics, strip, files of headless runs and of nsys, export.

#include "core/analysis/Trace.h"
#include "core/base/Error.h"
#include "core/cpu/CpuBackend.h"
#include "tests/widgets/WindowSupport.h"
#include "widgets/control/Document.h"
#include "widgets/plot/SeriesPlot.h"
#include "widgets/timing/NsysFile.h"
#include "widgets/timing/TimelineView.h"
#include "widgets/timing/TimingPanel.h"
#include "widgets/window/MainWindow.h"

#include <QAbstractItemModelTester>
#include <QApplication>
#include <QDockWidget>
#include <QElapsedTimer>
#include <QFile>
#include <QSettings>
#include <QSignalSpy>
#include <QSqlDatabase>
#include <QSqlError>
#include <QSqlQuery>
#include <QTableView>
#include <QTemporaryDir>
#include <QTest>
#include <QWheelEvent>

#include <cmath>
#include <memory>

using namespace patchlight;
using namespace patchlight::widgets;

namespace {

/// Two threads and a nested batch, 1 ms long.
std::shared_ptr<const Trace> smallTrace() {
    const std::vector<RangeRecord> records = {{"extract frame", 0, 1000000, 0, {}, false},
                                              {"batch", 10000, 400000, 1, {0, 0, 20, -1}, false},
                                              {"solve", 100000, 200000, 1, {0, 0, 4, -1}, false},
                                              {"batch", 500000, 300000, 1, {1, 2, 20, -1}, false}};
    return std::make_shared<const Trace>(traceOf(records, "test"));
}

void execute(QSqlDatabase& database, const char* text) {
    QSqlQuery query(database);
    if (!query.exec(QString::fromLatin1(text))) qFatal("%s: %s", text, qPrintable(query.lastError().text()));
}

/// An export of nsys as its documentation describes the tables, as far as they matter here.
void writeNsys(const QString& path, bool oldVersion) {
    {
        QSqlDatabase database = QSqlDatabase::addDatabase(QStringLiteral("QSQLITE"), QStringLiteral("writer"));
        database.setDatabaseName(path);
        QVERIFY2(database.open(), qPrintable(database.lastError().text()));
        execute(database, "CREATE TABLE StringIds (id INTEGER NOT NULL PRIMARY KEY, value TEXT NOT NULL)");
        execute(database, "INSERT INTO StringIds VALUES (1, 'spotKernel'), (2, 'worker'), (3, 'batch bundle 3 step "
                          "10'), (4, 'void spotKernel<int>(int)')");
        if (oldVersion) {
            execute(database, "CREATE TABLE NVTX_EVENTS (start INTEGER NOT NULL, end INTEGER, eventType INTEGER NOT "
                              "NULL, text TEXT, globalTid INTEGER)");
            execute(database, "INSERT INTO NVTX_EVENTS VALUES (1000, 9000, 59, 'batch bundle 3 step 10', "
                              "21990234390505), (2000, 3000, 59, 'spots', 21990234390505)");
        } else {
            execute(database, "CREATE TABLE NVTX_EVENTS (start INTEGER NOT NULL, end INTEGER, eventType INTEGER NOT "
                              "NULL, rangeId INTEGER, category INTEGER, color INTEGER, "
                              "text TEXT, globalTid INTEGER, endGlobalTid INTEGER, textId INTEGER, domainId INTEGER)");
            execute(
                database,
                "INSERT INTO NVTX_EVENTS VALUES (1000, 9000, 59, NULL, NULL, NULL, NULL, 21990234390505, NULL, 3, 1), "
                "(2000, 3000, 59, NULL, NULL, NULL, 'spots', 21990234390505, NULL, NULL, 1), "
                "(9500, NULL, 59, NULL, NULL, NULL, 'never ended', 21990234390505, NULL, NULL, 1), "
                "(0, NULL, 75, NULL, NULL, NULL, 'patchlight', 21990234390505, NULL, NULL, 1)");
            execute(database,
                    "CREATE TABLE CUPTI_ACTIVITY_KIND_KERNEL (start INTEGER, end INTEGER, deviceId INTEGER, contextId "
                    "INTEGER, streamId INTEGER, correlationId "
                    "INTEGER, globalPid INTEGER, demangledName INTEGER, shortName INTEGER, mangledName INTEGER)");
            execute(database, "INSERT INTO CUPTI_ACTIVITY_KIND_KERNEL VALUES (2500, 4500, 0, 1, 7, 1, 21990234390528, "
                              "4, 1, NULL), (5000, 6000, 0, 1, 13, 2, 21990234390528, 4, 1, NULL)");
            execute(database,
                    "CREATE TABLE CUPTI_ACTIVITY_KIND_MEMCPY (start INTEGER, end INTEGER, deviceId INTEGER, contextId "
                    "INTEGER, streamId INTEGER, globalPid INTEGER, bytes INTEGER, copyKind INTEGER)");
            execute(database,
                    "INSERT INTO CUPTI_ACTIVITY_KIND_MEMCPY VALUES (4600, 4700, 0, 1, 7, 21990234390528, 4096, 1)");
            execute(database, "CREATE TABLE ThreadNames (nameId INTEGER, priority INTEGER, globalTid INTEGER)");
            execute(database, "INSERT INTO ThreadNames VALUES (2, 0, 21990234390505)");
            execute(database, "CREATE TABLE PROCESSES (globalPid INTEGER, pid INTEGER, name TEXT)");
            execute(database, "INSERT INTO PROCESSES VALUES (21990234390528, 77, '/usr/bin/patchlight')");
        }
        database.close();
    }
    QSqlDatabase::removeDatabase(QStringLiteral("writer"));
}

} // namespace

class TestTimingPanel : public QObject {
    Q_OBJECT

private slots:
    void initTestCase() {
        QSettings::setPath(QSettings::NativeFormat, QSettings::UserScope, home_.path());
        QApplication::setOrganizationName(QStringLiteral("patchlight-test"));
    }

    void nsysFiles() {
        if (!QSqlDatabase::isDriverAvailable(QStringLiteral("QSQLITE")))
            QSKIP("Qt's SQLite driver is not installed (libqt6sql6-sqlite)");
        const QString path = home_.filePath("run.sqlite");
        writeNsys(path, false);
        const Trace trace = readNsysFile(path);
        QCOMPARE(trace.ranges.size(), 5U);
        QCOMPARE(trace.lanes.size(), 3U); // one thread, two streams
        QCOMPARE(trace.lanes[0].processName, std::string("patchlight"));
        QVERIFY(trace.lanes[0].name.starts_with("worker ("));
        QCOMPARE(trace.lanes[1].name, std::string("GPU 0 stream 7"));
        QCOMPARE(trace.lanes[2].name, std::string("GPU 0 stream 13"));
        const TraceRange& batch = trace.ranges[0];
        QCOMPARE(trace.names[static_cast<std::size_t>(batch.name)], std::string("batch"));
        QCOMPARE(batch.tags.bundle, 3);
        QCOMPARE(batch.tags.step, 10);
        QCOMPARE(batch.start, 1000);
        QCOMPARE(batch.duration, 8000);
        QCOMPARE(trace.ranges[1].depth, 1);
        QCOMPARE(trace.names[static_cast<std::size_t>(trace.ranges[2].name)], std::string("spotKernel"));
        QCOMPARE(trace.notes.size(), 1U); // the range that never ended
        const QString old = home_.filePath("old.sqlite");
        writeNsys(old, true);
        const Trace before = readNsysFile(old);
        QCOMPARE(before.ranges.size(), 2U);
        QCOMPARE(before.ranges[0].tags.step, 10);
    }

    void nsysErrors() {
        const QString text = home_.filePath("text.sqlite");
        QFile file(text);
        QVERIFY(file.open(QIODevice::WriteOnly));
        file.write("SQLite format 3 but not really");
        file.close();
        for (const QString& path : {text, home_.filePath("nowhere.sqlite")}) {
            bool thrown = false;
            try {
                (void)readNsysFile(path);
            } catch (const Error& error) {
                thrown = QString::fromUtf8(error.what()).startsWith(path + QStringLiteral(": "));
            }
            QVERIFY2(thrown, qPrintable(path));
        }
    }

    void timelineUnderTheHand() {
        TimelineView view;
        view.resize(900, 300);
        view.show();
        view.setTrace(smallTrace());
        QSignalSpy selected(&view, &TimelineView::rangeSelected);
        // A click on a box selects it.
        const int solve = 2;
        QCOMPARE(view.trace()->names[static_cast<std::size_t>(view.trace()->ranges[solve].name)], std::string("solve"));
        QTest::mouseClick(view.viewport(), Qt::LeftButton, Qt::NoModifier, view.rectOf(solve).center().toPoint());
        QCOMPARE(selected.size(), 1);
        QCOMPARE(view.selected(), solve);
        QVERIFY(view.describe(solve).contains(QStringLiteral("200.000 \u00b5s")));
        QVERIFY(view.describe(solve).contains(QStringLiteral("bundle 0")));
        // The pixels of a box have its name's colour.
        view.repaint();
        const QImage picture = view.viewport()->grab().toImage();
        const QPointF inside = view.rectOf(0).topLeft() + QPointF(400, 2);
        QCOMPARE(picture.pixel(inside.toPoint()), view.colourOf(view.trace()->ranges[0].name));
        // F, W, S, A, D.
        const Interval all = view.view();
        QTest::keyClick(&view, Qt::Key_F);
        QVERIFY(view.view().low <= 100000 && view.view().high >= 300000 && view.view().span() < 300000);
        const Interval close = view.view();
        QTest::keyClick(&view, Qt::Key_W);
        QVERIFY(view.view().span() < close.span());
        QTest::keyClick(&view, Qt::Key_S);
        QVERIFY(std::abs(view.view().span() - close.span()) < 1);
        QTest::keyClick(&view, Qt::Key_D);
        QVERIFY(view.view().low > close.low);
        QTest::keyClick(&view, Qt::Key_A);
        QTest::keyClick(&view, Qt::Key_Home);
        QVERIFY(std::abs(view.view().span() - all.span()) < 1);
        // The wheel zooms about what is under it.
        const QPointF at = view.rectOf(3).center();
        QWheelEvent wheel(at, view.viewport()->mapToGlobal(at), {}, {0, 120}, Qt::NoButton, Qt::NoModifier,
                          Qt::NoScrollPhase, false);
        QApplication::sendEvent(view.viewport(), &wheel);
        QVERIFY(view.view().span() < all.span());
        QVERIFY(std::abs(view.rectOf(3).center().x() - at.x()) < 1);
        // A left drag selects a window of time.
        view.showAll();
        QSignalSpy windows(&view, &TimelineView::windowChanged);
        QTest::mousePress(view.viewport(), Qt::LeftButton, Qt::NoModifier, {300, 200});
        QMouseEvent move(QEvent::MouseMove, QPointF(500, 200), view.viewport()->mapToGlobal(QPointF(500, 200)),
                         Qt::NoButton, Qt::LeftButton, Qt::NoModifier);
        QApplication::sendEvent(view.viewport(), &move);
        QTest::mouseRelease(view.viewport(), Qt::LeftButton, Qt::NoModifier, {500, 200});
        QCOMPARE(windows.size(), 1);
        QVERIFY(view.window().span() > 0);
    }

    void twoRunsOverOneAnother() {
        TimelineView view;
        view.resize(900, 300);
        view.show();
        view.setTrace(smallTrace());
        const Interval alone = view.view();
        // The other run: half as quick, begins at another time, and knows a name more.
        std::vector<RangeRecord> records = {{"extract frame", 7000000, 2000000, 0, {}, false},
                                            {"spots", 7100000, 600000, 0, {}, false},
                                            {"batch", 8000000, 600000, 0, {1, 2, 20, -1}, false}};
        const auto other = std::make_shared<const Trace>(traceOf(records, "slow"));
        view.setOther(other);
        QVERIFY(view.view().span() > 1.9 * alone.span()); // both are seen whole
        view.repaint();
        const QImage picture = view.viewport()->grab().toImage();
        // The last lane's first row, at a quarter of its time: the same colour as the range of that name above.
        const double below = view.rectOf(0).top() + (view.rectOf(3).top() - view.rectOf(0).top());
        int found = -1;
        for (int y = static_cast<int>(below) + 30; y < view.viewport()->height() && found < 0; ++y)
            if (picture.pixel(static_cast<int>(view.rectOf(0).left()) + 5, y) ==
                view.colourOf(view.trace()->ranges[0].name))
                found = y;
        QVERIFY(found > 0);
        const QPointF there(view.rectOf(0).left() + 5, found + 2);
        QVERIFY2(view.textAt(there).startsWith(QStringLiteral("the other run, extract frame: 2.000 ms")),
                 qPrintable(view.textAt(there)));
        QCOMPARE(view.rangeAt(there), -1); // what can be chosen is the run itself
        view.setOther(nullptr);
        QVERIFY(std::abs(view.view().span() - alone.span()) < 1);
    }

    void aMillionRanges() {
        std::vector<RangeRecord> records;
        records.reserve(1000000);
        for (int lane = 0; lane < 10; ++lane)
            for (int i = 0; i < 50000; ++i) {
                records.push_back({"batch", 20000LL * i, 18000, lane, {}, false});
                records.push_back({"solve", 20000LL * i + 3000, 9000, lane, {}, false});
            }
        const auto trace = std::make_shared<const Trace>(traceOf(records, "many"));
        QCOMPARE(trace->ranges.size(), 1000000U);
        TimelineView view;
        view.resize(1600, 500);
        view.show();
        QVERIFY(QTest::qWaitForWindowExposed(&view));
        view.setTrace(trace);
        view.viewport()->repaint();
        QVERIFY2(view.boxesDrawn() > 1000 && view.boxesDrawn() < 40000,
                 qPrintable(QString::number(view.boxesDrawn()))); // what a screen can show
        QElapsedTimer timer;
        double worst = 0;
        for (int i = 0; i < 40; ++i) {
            const double span = 1e9 * std::pow(0.7, i % 20);
            timer.restart();
            view.setView({1e7 * i, 1e7 * i + span});
            view.viewport()->repaint();
            worst = std::max(worst, 1e-6 * static_cast<double>(timer.nsecsElapsed()));
        }
        qInfo("a million ranges: at most %.1f ms a picture", worst);
        QVERIFY(worst < 500); // 50 ms is what it is meant to take; a loaded machine is slower
    }

    void tablesAndPlots() {
        MainWindow window([](const std::string&) { return makeCpuBackend(); });
        window.resize(1600, 1000);
        window.show();
        TimingPanel& panel = window.timing();
        window.dock(QStringLiteral("timing"))->raise();
        panel.setTrace(smallTrace());
        QAbstractItemModelTester tester(panel.statisticsTable().model(),
                                        QAbstractItemModelTester::FailureReportingMode::QtTest);
        QAbstractItemModel& table = *panel.statisticsTable().model();
        QCOMPARE(table.rowCount(), 3);
        QCOMPARE(table.index(0, RangeModel::Name).data().toString(), QStringLiteral("extract frame"));
        QCOMPARE(table.index(1, RangeModel::Name).data().toString(), QStringLiteral("batch"));
        QCOMPARE(table.index(1, RangeModel::Calls).data().toInt(), 2);
        QCOMPARE(table.index(1, RangeModel::Total).data().toString(), QStringLiteral("700.000 \u00b5s"));
        QCOMPARE(table.index(1, RangeModel::Self).data().toString(), QStringLiteral("500.000 \u00b5s"));
        QCOMPARE(table.index(2, RangeModel::Share).data().toString(), QStringLiteral("50.0")); // of the first batch
        // The statistics of a window of time.
        panel.timeline().setWindow({400000, 900000});
        QCOMPARE(table.rowCount(), 1);
        panel.timeline().setWindow({0, 0});
        QCOMPARE(table.rowCount(), 3);
        // A bar a batch; a click goes there in the timeline.
        const PlotContent& strip = panel.strip().content();
        QCOMPARE(strip.series[0].x.size(), 2U);
        QVERIFY(std::abs(strip.series[0].y[0] - 0.4) < 1e-9);
        // Colours say how long: a scale with its ends in words, and the longer the nearer to its upper end.
        QVERIFY(strip.scale);
        QCOMPARE(strip.series[0].colours.size(), 2U);
        QCOMPARE(strip.series[0].colours[0], strip.scale->colours[255]);
        QCOMPARE(strip.series[0].colours[1], strip.scale->colours[0]);
        QCOMPARE(strip.scale->highText, QStringLiteral("400.000 \u00b5s"));
        Q_EMIT panel.strip().picked(1.2);
        QCOMPARE(panel.timeline().trace()->ranges[static_cast<std::size_t>(panel.timeline().selected())].tags.step, 2);
        // Export and reading back.
        const QString json = home_.filePath("out.json");
        QCOMPARE(panel.exportTo(json), QString());
        const Trace back = TimingPanel::readTrace(json);
        QCOMPARE(back.ranges.size(), 4U);
        QCOMPARE(back.ranges[2].duration, 200000);
        QCOMPARE(panel.exportTo(home_.filePath("out.csv")), QString());
        QVERIFY(!panel.exportTo(QStringLiteral("/nowhere/out.json")).isEmpty());
        // Two runs.
        QSignalSpy opened(&panel, &TimingPanel::traceOpened);
        panel.open(json, true);
        QTRY_COMPARE_WITH_TIMEOUT(opened.size(), 1, 5000);
        QCOMPARE(panel.tabs().currentIndex(), 2);
        QCOMPARE(panel.strip().content().series.size(), 2U);
        QCOMPARE(panel.strip().content().series[1].y, panel.strip().content().series[0].y); // the same run
        // Opened as any other file, it is known for what it is.
        QVERIFY(TimingPanel::isTrace(json));
        QVERIFY(!TimingPanel::isTrace(home_.filePath("out.csv")));
        panel.setTrace(nullptr);
        QVERIFY(window.openFiles({json}) != 0);
        QTRY_VERIFY_WITH_TIMEOUT(panel.trace() != nullptr, 5000);
        // What cannot be read is said, and nothing changes.
        QFile bad(home_.filePath("bad.json"));
        QVERIFY(bad.open(QIODevice::WriteOnly));
        bad.write("{\"a\": 1}");
        bad.close();
        panel.open(bad.fileName());
        QTRY_VERIFY_WITH_TIMEOUT(window.problem().contains(QStringLiteral("traceEvents")), 5000);
        QCOMPARE(panel.trace()->ranges.size(), 4U);
    }

    void theLastRun() {
        const test::ExposureFiles files;
        MainWindow window([](const std::string&) { return makeCpuBackend(); });
        window.resize(1600, 1000);
        window.show();
        Document& document = window.document();
        ExtractionOptions options;
        options.wavelength = files.exposure.range;
        options.bundlesize = 5;
        document.setOptions(options);
        window.openFiles({files.image, files.psf});
        QTRY_VERIFY_WITH_TIMEOUT(document.plan() && document.image() && window.controller().activeJobs() == 0, 10000);
        window.controller().extract(ExtractionController::Scope::Frame);
        window.dock(QStringLiteral("timing"))->raise(); // it looks at the run when it is seen
        QTRY_VERIFY_WITH_TIMEOUT(window.timing().trace() != nullptr, 20000);
        const Trace& trace = *window.timing().trace();
        QVERIFY(trace.ranges.size() > 5);
        // A click on a batch's box takes the other views to its bundle.
        int batch = -1;
        for (std::size_t i = 0; i < trace.ranges.size(); ++i)
            if (trace.ranges[i].tags.bundle == 1 && trace.ranges[i].tags.step >= 0) batch = static_cast<int>(i);
        QVERIFY(batch >= 0);
        window.timing().timeline().select(batch);
        QVERIFY(document.cursor().spectrum >= 5 && document.cursor().spectrum < 10);
    }

private:
    QTemporaryDir home_;
};

QTEST_MAIN(TestTimingPanel)
#include "TestTimingPanel.moc"
