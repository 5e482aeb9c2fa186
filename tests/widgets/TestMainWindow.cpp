#include "core/frame/ExtractedFrame.h"
#include "tests/support/TestSupport.h"
#include "tests/widgets/WindowSupport.h"
#include "widgets/ccd/CcdPanel.h"
#include "widgets/control/Document.h"
#include "widgets/spectrum/SpectrumView.h"
#include "widgets/window/ActionList.h"
#include "widgets/window/CommandPalette.h"
#include "widgets/window/FileArgument.h"
#include "widgets/window/GoTo.h"
#include "widgets/window/JobsPanel.h"
#include "widgets/window/LinkedViews.h"
#include "widgets/window/MainWindow.h"
#include "widgets/window/OptionsPanel.h"

#include <QAction>
#include <QApplication>
#include <QCloseEvent>
#include <QComboBox>
#include <QDockWidget>
#include <QDragEnterEvent>
#include <QDropEvent>
#include <QFile>
#include <QInputDialog>
#include <QJsonDocument>
#include <QJsonObject>
#include <QLineEdit>
#include <QMenuBar>
#include <QMimeData>
#include <QProcess>
#include <QSettings>
#include <QSignalSpy>
#include <QTest>
#include <QTimer>

#include <cmath>
#include <memory>

using namespace patchlight;
using namespace patchlight::widgets;
using patchlight::test::ExposureFiles;
using patchlight::test::Gate;
using patchlight::test::GatedBackend;

namespace {

constexpr int patience = 20000;

} // namespace

/// The main window: a whole session from opening to export.
class TestMainWindow : public QObject {
    Q_OBJECT

private:
    std::unique_ptr<ExposureFiles> files_;
    Gate gate_;

    std::unique_ptr<MainWindow> makeWindow() {
        auto window =
            std::make_unique<MainWindow>([this](const std::string&) { return std::make_unique<GatedBackend>(gate_); });
        window->confirm = [](const QString&) { return true; };
        window->show();
        return window;
    }
    static void waitForIdle(MainWindow& window) {
        QTRY_COMPARE_WITH_TIMEOUT(window.controller().activeJobs(), 0, patience);
        QTest::qWait(20);
    }
    std::unique_ptr<MainWindow> openWindow() {
        auto window = makeWindow();
        window->optionsPanel().setOption(QStringLiteral("bundlesize"), QStringLiteral("5"));
        window->optionsPanel().setOption(QStringLiteral("nsubbundles"), QStringLiteral("2"));
        window->optionsPanel().setOption(QStringLiteral("nwavestep"), QStringLiteral("20"));
        window->openFiles({files_->image, files_->psf});
        waitForIdle(*window);
        return window;
    }
    static Cursor middle(MainWindow& window) {
        const Plan& plan = *window.document().plan();
        return window.document().cursorAtBin(4, plan.grid.outputWavelength(plan.grid.nwave / 2));
    }

private Q_SLOTS:
    void initTestCase() {
        files_ = std::make_unique<ExposureFiles>();
        QSettings::setPath(QSettings::NativeFormat, QSettings::UserScope,
                           files_->folder.filePath(QStringLiteral("settings")));
        QApplication::setOrganizationName(QStringLiteral("patchlight-test"));
        QApplication::setApplicationName(QStringLiteral("test"));
    }
    void init() { gate_.set(true); }

    void everyActionHasAMenuAndAKeyOfItsOwn() {
        const auto window = makeWindow();
        const std::vector<ActionList::Entry>& entries = window->actionList().entries();
        for (std::size_t i = 0; i < entries.size(); ++i) {
            const ActionList::Entry& entry = entries[i];
            QVERIFY2(!entry.menu.isEmpty(), qPrintable(entry.id));
            QVERIFY2(!entry.action->shortcuts().isEmpty(), qPrintable(entry.id));
            QVERIFY2(!entry.action->statusTip().isEmpty(), qPrintable(entry.id));
            for (std::size_t k = 0; k < i; ++k) {
                // Two views may have the same key; a view and the window may not.
                const ActionList::Entry& other = entries[k];
                QVERIFY2(entry.id != other.id, qPrintable(entry.id));
                if (entry.scope && other.scope && entry.scope != other.scope) continue;
                for (const QKeySequence& key : entry.action->shortcuts())
                    QVERIFY2(!key.isEmpty() && !other.action->shortcuts().contains(key),
                             qPrintable(entry.id + QStringLiteral(" and ") + other.id));
            }
        }
    }

    void cutsByHand() {
        QVERIFY(!parseCuts(QStringLiteral("5")));
        QVERIFY(!parseCuts(QStringLiteral("5 to 3")));
        QVERIFY(!parseCuts(QStringLiteral("a to b")));
        QCOMPARE(parseCuts(QStringLiteral("-5, 1e3"))->high, 1000.0);
        const auto window = openWindow();
        // The dialog of the action, answered twice: nonsense is asked again.
        QTimer answers;
        int asked = 0;
        connect(&answers, &QTimer::timeout, this, [&] {
            auto* dialog = qobject_cast<QInputDialog*>(QApplication::activeModalWidget());
            if (dialog == nullptr) return;
            dialog->setTextValue(asked++ == 0 ? QStringLiteral("many") : QStringLiteral("3 to 40"));
            dialog->accept();
        });
        answers.start(20);
        window->actionList().find(QStringLiteral("view.cuts.manual"))->trigger();
        QCOMPARE(asked, 2);
        const DisplaySettings& settings = window->ccdView().settings(Layer::Image);
        QCOMPARE(settings.cuts, Cuts::Manual);
        QCOMPARE(settings.range.low, 3.0);
        QCOMPARE(settings.range.high, 40.0);
    }

    void keysCanBeChangedButNotTwice() {
        const auto window = makeWindow();
        ActionList& actions = window->actionList();
        QCOMPARE(actions.rebind(QStringLiteral("go.to"), {QKeySequence(QStringLiteral("Ctrl+O"))})->id,
                 QStringLiteral("file.open"));
        QVERIFY(!actions.rebind(QStringLiteral("go.to"), {QKeySequence(QStringLiteral("Ctrl+J"))}));
        QSettings settings;
        actions.saveKeys(settings);
        const auto other = makeWindow();
        QCOMPARE(other->actionList().find(QStringLiteral("go.to"))->shortcut(), QKeySequence(QStringLiteral("Ctrl+J")));
        actions.resetKeys();
        actions.saveKeys(settings);
    }

    void thePaletteFindsByLetters() {
        const auto window = makeWindow();
        CommandPalette palette(window->actionList());
        auto* edit = palette.findChild<QLineEdit*>();
        edit->setText(QStringLiteral("goto"));
        QCOMPARE(palette.selected()->objectName(), QStringLiteral("go.to"));
        edit->setText(QStringLiteral("bundle extr"));
        QVERIFY(palette.selected() == nullptr ||
                palette.selected()->objectName().startsWith(QStringLiteral("extract")));
        edit->setText(QStringLiteral("qqqq"));
        QVERIFY(!palette.selected());
        QVERIFY(CommandPalette::match(QStringLiteral("wf"), QStringLiteral("whole frame")) >
                CommandPalette::match(QStringLiteral("wf"), QStringLiteral("awful")));
    }

    void namesAsInDs9() {
        const FileArgument argument = parseFileArgument(QStringLiteral("pre.fits[IVAR][101:200,301:400]"));
        QCOMPARE(argument.path, QStringLiteral("pre.fits"));
        QCOMPARE(argument.hdu, QStringLiteral("IVAR"));
        QCOMPARE(*argument.section, QRect(100, 300, 100, 100));
        QVERIFY(!parseFileArgument(QStringLiteral("pre.fits")).section);
        const auto window = makeWindow();
        window->openFiles({files_->image + QStringLiteral("[IVAR][31:50,91:110]"), files_->psf});
        waitForIdle(*window);
        QCOMPARE(window->ccdView().layer(), Layer::Ivar);
        QCOMPARE(window->ccdView().view().centerX, 39.5);
        QCOMPARE(window->ccdView().view().centerY, 99.5);
    }

    void placesAreUnderstood() {
        const auto window = openWindow();
        Document& document = window->document();
        QString problem;
        const Cursor aim = middle(*window);
        const Cursor bin = parsePlace(QStringLiteral("4, %1").arg(aim.wavelength, 0, 'f', 6), document, problem);
        QVERIFY2(problem.isEmpty(), qPrintable(problem));
        QCOMPARE(bin.spectrum, 4);
        QVERIFY(std::abs(bin.y - aim.y) < 1e-4);
        const Cursor pixel = parsePlace(QStringLiteral("x 60.5 y 100"), document, problem);
        QVERIFY2(problem.isEmpty(), qPrintable(problem));
        QCOMPARE(pixel.x, 60.5);
        QVERIFY(pixel.spectrum >= 0);
        QVERIFY(parsePlace(QStringLiteral("60, 100"), document, problem).hasPixel());
        for (const char* wrong : {"", "7", "fiber 99 6000", "x 500 y 3", "4 100000", "apples"}) {
            QVERIFY(!parsePlace(QString::fromLatin1(wrong), document, problem).hasPixel());
            QVERIFY2(!problem.isEmpty(), wrong);
        }
    }

    void theOptionsPanelIsTheOptionTable() {
        const auto window = openWindow();
        OptionsPanel& panel = window->optionsPanel();
        for (const OptionSpec& spec : optionTable())
            QVERIFY2(panel.editor(QString::fromStdString(spec.name)), spec.name.c_str());
        auto* edit = qobject_cast<QLineEdit*>(panel.editor(QStringLiteral("wavepad")));
        edit->setFocus();
        edit->clear();
        QTest::keyClicks(edit, QStringLiteral("12"));
        QTest::keyClick(edit, Qt::Key_Return);
        QCOMPARE(window->document().options().wavepad, 12);
        edit->clear();
        QTest::keyClicks(edit, QStringLiteral("many"));
        QTest::keyClick(edit, Qt::Key_Return);
        QCOMPARE(window->document().options().wavepad, 12);
        QVERIFY(panel.problem().contains(QStringLiteral("wavepad")));
        QCOMPARE(edit->text(), QStringLiteral("12"));
        panel.resetOption(QStringLiteral("wavepad"));
        QCOMPARE(window->document().options().wavepad, ExtractionOptions{}.wavepad);
        QCOMPARE(window->document().options().bundlesize, 5);
    }

    void aFileThatCannotBeReadLeavesTheWindowAsItWas() {
        const auto window = openWindow();
        window->goTo(middle(*window));
        waitForIdle(*window);
        const ViewState view = window->ccdView().view();
        const QString path = files_->folder.filePath(QStringLiteral("broken.fits"));
        QFile file(path);
        QVERIFY(file.open(QIODevice::WriteOnly));
        file.write("not a FITS file");
        file.close();
        window->openFiles({path});
        waitForIdle(*window);
        QVERIFY2(window->problem().contains(QStringLiteral("broken.fits")), qPrintable(window->problem()));
        QVERIFY(window->document().image());
        QCOMPARE(window->ccdView().view(), view);
    }

    void reloadingKeepsZoomAndCuts() {
        const auto window = openWindow();
        DisplaySettings settings = window->ccdView().settings(Layer::Image);
        settings.cuts = Cuts::Manual;
        settings.range = {-3, 77};
        window->ccdView().setSettings(Layer::Image, settings);
        window->ccdView().setView({50, 90, 5});
        const ViewState view = window->ccdView().view();
        const auto before = window->document().image();
        window->actionList().find(QStringLiteral("file.reload"))->trigger();
        waitForIdle(*window);
        QVERIFY(window->document().image() != before);
        QCOMPARE(window->ccdView().view(), view);
        QCOMPARE(window->ccdView().settings(Layer::Image).range, (ValueRange{-3, 77}));
    }

    void dropsAreOpened() {
        const auto window = makeWindow();
        QMimeData data;
        data.setUrls({QUrl::fromLocalFile(files_->image), QUrl::fromLocalFile(files_->psf)});
        QDragEnterEvent enter(QPoint(10, 10), Qt::CopyAction, &data, Qt::LeftButton, Qt::NoModifier);
        QApplication::sendEvent(window.get(), &enter);
        QVERIFY(enter.isAccepted());
        QDropEvent drop(QPointF(10, 10), Qt::CopyAction, &data, Qt::LeftButton, Qt::NoModifier);
        QApplication::sendEvent(window.get(), &drop);
        waitForIdle(*window);
        QVERIFY(window->document().image());
        QVERIFY(window->document().psf());
    }

    /// A frame file alone brings a model image, painted with the PSF.
    void aFrameBringsItsModel() {
        const auto window = openWindow();
        window->controller().extract(ExtractionController::Scope::Frame);
        waitForIdle(*window);
        const QString path = files_->folder.filePath(QStringLiteral("whole.fits"));
        window->controller().writeFrame(path);
        waitForIdle(*window);
        const auto other = makeWindow();
        other->openFiles({files_->image, files_->psf, path});
        QTRY_VERIFY_WITH_TIMEOUT(other->document().model(), patience);
        waitForIdle(*other);
        QVERIFY(other->ccdView().layers().problem(Layer::Residual).isEmpty());
        // Patches have its wavelengths then, but not where others were asked for.
        const ExtractedFrame& opened = *other->document().frame().frame;
        const WavelengthGrid& grid = other->document().plan()->grid;
        QCOMPARE(grid.nwave, static_cast<int>(opened.nwave()));
        QCOMPARE(grid.outputWavelength(3), opened.wavelength[3]);
        const auto asked = makeWindow();
        ExtractionOptions options = asked->document().options();
        options.wavelength = WavelengthRange{opened.wavelength[10], opened.wavelength[20], 0.7};
        asked->document().setOptions(options);
        asked->openFiles({files_->image, files_->psf, path});
        QTRY_VERIFY_WITH_TIMEOUT(asked->document().frame(), patience);
        QCOMPARE(asked->document().options().wavelength->dw, 0.7);
        waitForIdle(*asked);
        // It is the run's own but for what the stored diagonals of R leave out: no rings.
        const std::vector<float>& model = *other->document().model();
        const std::vector<float>& run = *window->document().model();
        const std::vector<float>& ivar = window->document().image()->ivar;
        double sum = 0;
        int count = 0;
        for (std::size_t i = 0; i < model.size(); ++i) {
            if (!std::isfinite(model[i]) || !std::isfinite(run[i])) continue;
            const double sigmas = static_cast<double>(model[i] - run[i]) * std::sqrt(static_cast<double>(ivar[i]));
            sum += sigmas * sigmas;
            ++count;
        }
        const double rms = std::sqrt(sum / std::max(1, count));
        qInfo("model of a frame file against the run's: %.3f sigma (rms of %d pixels)", rms, count);
        QVERIFY2(count > 10000 && rms < 0.1, qPrintable(QString::number(rms)));
    }

    /// A second PSF, opened beside the first one or together with it, is part of a session.
    void aSecondPsfIsRemembered() {
        const QString path = files_->folder.filePath(QStringLiteral("second.fits"));
        writePsf(path.toStdString(), files_->exposure.psf);
        const auto window = openWindow();
        QVERIFY(!window->document().secondPsf());
        window->controller().open({path}, true);
        waitForIdle(*window);
        QVERIFY(window->document().secondPsf());
        QCOMPARE(QString::fromStdString(window->document().psf()->path), files_->psf);
        QCOMPARE(QString::fromStdString(window->document().secondPsf()->path), path);
        const QString session = files_->folder.filePath(QStringLiteral("two-psfs.json"));
        QCOMPARE(window->saveSession(session), QString());
        const auto other = makeWindow();
        QCOMPARE(other->loadSession(session), QString());
        waitForIdle(*other);
        QTRY_VERIFY_WITH_TIMEOUT(other->document().secondPsf(), patience);
        QCOMPARE(QString::fromStdString(other->document().psf()->path), files_->psf);
        QCOMPARE(QString::fromStdString(other->document().secondPsf()->path), path);
        // They are swapped with their traces.
        other->document().swapPsfs();
        QCOMPARE(QString::fromStdString(other->document().psf()->path), path);
        QVERIFY(other->document().traces() != nullptr);
    }

    /// Frames written by desispec open here and in `patchlight info`.
    void aFrameOfDesispec() {
        const QString python = qEnvironmentVariable("PATCHLIGHT_DESISPEC_PYTHON", "python3");
        const QString script = patchlight::test::sourceFile("tests/tools/write_desispec_frame.py");
        const QString path = files_->folder.filePath(QStringLiteral("desispec.fits"));
        if (!QFile::exists(script)) PATCHLIGHT_SKIP("PATCHLIGHT_REQUIRE_DESISPEC", "there is no " + script.toUtf8());
        QProcess writer;
        writer.start(python, {"-B", script, path});
        if (!writer.waitForStarted())
            PATCHLIGHT_SKIP("PATCHLIGHT_REQUIRE_DESISPEC", python.toUtf8() + " cannot be started");
        QVERIFY(writer.waitForFinished(120000));
        if (writer.exitCode() == 77) PATCHLIGHT_SKIP("PATCHLIGHT_REQUIRE_DESISPEC", writer.readAllStandardOutput());
        QCOMPARE(writer.exitCode(), 0);
        const auto window = makeWindow();
        window->openFiles({path});
        waitForIdle(*window);
        QCOMPARE(window->problem(), QString());
        const ExtractedFrame& frame = *window->document().frame().frame;
        QCOMPARE(frame.specmin, 25);
        QCOMPARE(frame.nspec(), std::size_t(6));
        QCOMPARE(frame.nwave(), std::size_t(150));
        QCOMPARE(frame.flux(3, 17), 317.0);
        QCOMPARE(frame.ivar(5, 149), 0.25);
        QCOMPARE(frame.mask(4, 10), 2U);
        QVERIFY(std::abs(frame.resolution(2, 5, 70) - 0.6) < 1e-6);
        QCOMPARE(frame.fibermap->integers("TARGETID")[5], std::int64_t(39627640000000006));
        // The spectrum view shows its first spectrum.
        QTRY_VERIFY(!window->linkedViews().spectrum()->data().spectra.empty());
        QCOMPARE(window->linkedViews().spectrum()->data().spectra.front().spectrum, 25);
        const QString program = qEnvironmentVariable("PATCHLIGHT_PROGRAM");
        if (!QFile::exists(program)) return;
        QProcess info;
        info.start(program, {"info", path, "--json"});
        QVERIFY(info.waitForFinished(60000));
        const QJsonObject facts = QJsonDocument::fromJson(info.readAllStandardOutput()).object();
        QCOMPARE(facts[QStringLiteral("bins")].toInt(), 900);
        QCOMPARE(facts[QStringLiteral("bins_masked")].toInt(), 6);
    }

    void aWholeSession() {
        const QString path = files_->folder.filePath(QStringLiteral("session.json"));
        QJsonObject saved;
        Cursor place;
        {
            const auto window = openWindow();
            place = middle(*window);
            window->goTo(place);
            waitForIdle(*window);
            QVERIFY(window->document().patchRun());
            const Patch first = window->document().patchRun().detail->patch;
            // A key walks to the neighbour.
            window->ccdView().setFocus();
            window->actionList().find(QStringLiteral("go.patch.up"))->trigger();
            waitForIdle(*window);
            QCOMPARE(window->document().patchRun().detail->patch.step, first.step + 1);
            window->actionList().find(QStringLiteral("go.patch.down"))->trigger();
            waitForIdle(*window);
            window->optionsPanel().setOption(QStringLiteral("decorrelate"), QStringLiteral("noise"));
            waitForIdle(*window);
            // The option has extracted the patch again, and the one before is there to compare.
            QVERIFY(window->document().previousPatchRun());
            window->ccdView().setLayer(Layer::Pull);
            window->ccdView().setOverlay(Overlay::PatchGrid, true);
            window->actionList().find(QStringLiteral("go.bookmark"))->trigger();
            window->actionList().find(QStringLiteral("extract.frame"))->trigger();
            waitForIdle(*window);
            QVERIFY(window->document().frame());
            QVERIFY(window->jobsPanel().log().contains(QStringLiteral("10 spectra extracted")));
            const QString frame = files_->folder.filePath(QStringLiteral("out.fits"));
            window->controller().writeFrame(frame);
            window->controller().writePatch(files_->folder.filePath(QStringLiteral("patch.fits")));
            window->controller().writeModel(files_->folder.filePath(QStringLiteral("model.fits")));
            waitForIdle(*window);
            QCOMPARE(readFrame(frame.toStdString()).nspec(), std::size_t(10));
            for (const char* name : {"patch.fits", "model.fits"})
                QVERIFY2(QFile::exists(files_->folder.filePath(QString::fromLatin1(name))), name);
            for (const char* name : {"view.png", "view.pdf"}) {
                const QString picture = files_->folder.filePath(QString::fromLatin1(name));
                QCOMPARE(MainWindow::exportWidget(window->ccdView(), picture), QString());
                QVERIFY(QFile(picture).size() > 1000);
            }
            QVERIFY(!MainWindow::exportWidget(window->ccdView(), QStringLiteral("/no/such/folder/x.png")).isEmpty());
            QVERIFY(!MainWindow::exportWidget(window->ccdView(), QStringLiteral("x.bmp")).isEmpty());
            QCOMPARE(window->saveSession(path), QString());
            saved = window->session(files_->folder.path());
            QVERIFY(window->close());
        }
        // The paths are relative to the session's folder.
        QCOMPARE(saved[QStringLiteral("files")].toObject()[QStringLiteral("image")].toString(),
                 QStringLiteral("image.fits"));
        const auto window = makeWindow();
        QCOMPARE(window->loadSession(path), QString());
        waitForIdle(*window);
        QTRY_VERIFY_WITH_TIMEOUT(window->document().patchRun(), patience);
        QCOMPARE(window->document().options().decorrelate, Decorrelate::Noise);
        QCOMPARE(window->ccdView().layer(), Layer::Pull);
        QVERIFY(window->ccdView().overlay(Overlay::PatchGrid));
        QJsonObject again = window->session(files_->folder.path());
        for (const char* key : {"files", "options", "cursor", "view", "layer", "display", "overlays", "bookmarks"})
            QCOMPARE(again[QLatin1String(key)], saved[QLatin1String(key)]);
        // What is no session says so.
        QVERIFY(window->loadSession(files_->image).contains(QStringLiteral("image.fits")));
    }

    void closingDuringARunAsks() {
        auto window = openWindow();
        gate_.set(false);
        window->controller().extract(ExtractionController::Scope::Frame);
        QTRY_VERIFY_WITH_TIMEOUT(gate_.waiting.load() > 0, patience);
        QString asked;
        window->confirm = [&](const QString& question) {
            asked = question;
            return false;
        };
        QVERIFY(!window->close());
        QVERIFY(asked.contains(QStringLiteral("whole frame")));
        QVERIFY(window->isVisible());
        window->confirm = [](const QString&) { return true; };
        QVERIFY(window->close());
        gate_.set(true);
        window.reset();
        QCOMPARE(gate_.waiting.load(), 0);
    }

    void theLayoutCanBeReset() {
        const auto window = makeWindow();
        QDockWidget* const dock = window->dock(QStringLiteral("options"));
        dock->setFloating(true);
        window->dock(QStringLiteral("jobs"))->hide();
        window->resetLayout();
        QVERIFY(!dock->isFloating());
        QVERIFY(!window->dock(QStringLiteral("jobs"))->isHidden());
    }

    void everythingHasAnAccessibleName() {
        const auto window = makeWindow();
        for (const QWidget* widget : window->findChildren<QWidget*>())
            if (qobject_cast<const QComboBox*>(widget) || qobject_cast<const CcdImageView*>(widget))
                QVERIFY2(!widget->accessibleName().isEmpty(), qPrintable(widget->objectName()));
    }
};

QTEST_MAIN(TestMainWindow)
#include "TestMainWindow.moc"
