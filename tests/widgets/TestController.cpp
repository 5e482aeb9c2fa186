#include "core/base/Error.h"
#include "core/engine/Engine.h"
#include "core/frame/ExtractedFrame.h"
#include "tests/widgets/WindowSupport.h"
#include "widgets/ccd/MethodOverlay.h"
#include "widgets/control/Document.h"
#include "widgets/control/ExtractionController.h"
#include "widgets/control/TraceMap.h"

#include <QAbstractItemModelTester>
#include <QImage>
#include <QSignalSpy>
#include <QTest>

#include <cmath>
#include <memory>
#include <vector>

using namespace patchlight;
using namespace patchlight::widgets;
using patchlight::test::ExposureFiles;
using patchlight::test::Gate;
using patchlight::test::GatedBackend;

namespace {

constexpr int patience = 20000; ///< ms; sanitizers are slow

} // namespace

/// The controller: jobs on worker threads, errors, cancelling, late results.
class TestController : public QObject {
    Q_OBJECT

private:
    std::unique_ptr<ExposureFiles> files_;
    std::unique_ptr<Gate> gate_;
    std::unique_ptr<Document> document_;
    std::unique_ptr<ExtractionController> controller_;

    void waitForIdle() { QTRY_COMPARE_WITH_TIMEOUT(controller_->activeJobs(), 0, patience); }
    void openAll() {
        controller_->open({files_->image, files_->psf});
        waitForIdle();
        QVERIFY(document_->image());
        QVERIFY(document_->psf());
        ExtractionOptions options;
        options.bundlesize = 5;
        options.nsubbundles = 2;
        options.nwavestep = 20;
        document_->setOptions(options);
        QVERIFY2(document_->plan(), qPrintable(document_->planProblem()));
    }
    [[nodiscard]] Patch patchInTheMiddle() const { return document_->plan()->patch(1, document_->plan()->nsteps / 2); }

private Q_SLOTS:
    void initTestCase() { files_ = std::make_unique<ExposureFiles>(); }

    void init() {
        gate_ = std::make_unique<Gate>();
        document_ = std::make_unique<Document>();
        controller_ = std::make_unique<ExtractionController>(
            *document_, [this](const std::string& name) -> std::unique_ptr<Backend> {
                if (name == "cuda") throw UsageError("there is no such device");
                return std::make_unique<GatedBackend>(*gate_);
            });
    }

    void cleanup() {
        gate_->set(true);
        controller_.reset();
        document_.reset();
    }

    void opensFilesAsWhatTheyAre() {
        QSignalSpy image(document_.get(), &Document::imageChanged);
        openAll();
        QCOMPARE(image.count(), 1);
        QCOMPARE(document_->image()->nx, 120);
        QCOMPARE(document_->psf()->nspec, 10);
        QCOMPARE(document_->traces()->nspec(), 10);
        QCOMPARE(controller_->jobs().jobs().front().state, JobState::Done);
    }

    void aFileThatCannotBeReadSaysWhyAndChangesNothing() {
        openAll();
        const auto image = document_->image();
        QSignalSpy message(controller_.get(), &ExtractionController::message);
        const int job = controller_->open({QStringLiteral("/no/such/file.fits")});
        waitForIdle();
        QCOMPARE(controller_->jobs().find(job)->state, JobState::Failed);
        QVERIFY(document_->image() == image);
        QVERIFY(message.last().at(1).toBool());
        QVERIFY2(message.last().at(0).toString().contains(QStringLiteral("/no/such/file.fits")),
                 qPrintable(message.last().at(0).toString()));
    }

    void tracesMeetThePsf() {
        openAll();
        const TraceMap& traces = *document_->traces();
        const Psf& psf = *document_->psf();
        for (int s = 0; s < psf.nspec; ++s)
            for (double y = 3; y < 197; y += 13.7) {
                const double x = psf.x(s, psf.wavelengthAt(s, y));
                QVERIFY(std::abs(traces.columnAt(s, y) - x) < 0.02);
                QCOMPARE(traces.nearest(x + 0.8, y), s);
            }
        const Cursor bin = document_->cursorAtBin(3, 0.5 * (psf.wavemin() + psf.wavemax()));
        const Cursor pixel = document_->cursorAtPixel(bin.x, bin.y);
        QCOMPARE(pixel.spectrum, 3);
        QVERIFY(std::abs(pixel.wavelength - bin.wavelength) < 1e-6);
    }

    void aPatchIsWhatTheEngineGives() {
        openAll();
        const Patch patch = patchInTheMiddle();
        QSignalSpy done(document_.get(), &Document::patchRunChanged);
        QVERIFY(controller_->extractPatch(patch) > 0);
        waitForIdle();
        QCOMPARE(done.count(), 1);
        const auto backend = makeCpuBackend();
        const PatchDetail expected = patchlight::extractPatch(*backend, document_->pixels()->view(), *document_->psf(),
                                                              *document_->plan(), patch);
        QCOMPARE(document_->patchRun().detail->flux.values(), expected.flux.values());
        // The model layer has the patch's model where its core is, and nothing elsewhere.
        const std::vector<float>& model = *document_->model();
        const int nx = document_->image()->nx;
        const Cursor middle =
            document_->cursorAtBin((patch.core.first + patch.core.last) / 2,
                                   document_->plan()->grid.outputWavelength(
                                       (patch.keepBins.first + patch.keepBins.last) / 2 - document_->plan()->grid.pad));
        const int x = static_cast<int>(std::lround(middle.x));
        const int y = static_cast<int>(std::lround(middle.y));
        const PixelWindow& window = expected.window;
        QCOMPARE(model[static_cast<std::size_t>(y * nx + x)],
                 static_cast<float>(expected.model(static_cast<std::size_t>(y - window.y.first),
                                                   static_cast<std::size_t>(x - window.x.first))));
        QVERIFY(std::isnan(model[0]));
    }

    void ofManyRequestsTheLastCounts() {
        openAll();
        gate_->set(false);
        QSignalSpy done(document_.get(), &Document::patchRunChanged);
        const Plan& plan = *document_->plan();
        for (int step = 0; step < plan.nsteps; ++step) controller_->extractPatch(plan.patch(0, step));
        QCOMPARE(controller_->activeJobs(), 1);
        gate_->set(true);
        waitForIdle();
        QCOMPARE(done.count(), 2); // the one that ran and the last
        QCOMPARE(document_->patchRun().detail->patch.step, plan.nsteps - 1);
    }

    void aLateResultIsDropped() {
        openAll();
        gate_->set(false);
        const int job = controller_->extractPatch(patchInTheMiddle());
        QTRY_COMPARE_WITH_TIMEOUT(gate_->waiting.load(), 1, patience);
        ExtractionOptions options = document_->options();
        options.regularize = 0.5;
        document_->setOptions(options);
        gate_->set(true);
        waitForIdle();
        QCOMPARE(controller_->jobs().find(job)->state, JobState::Cancelled);
        QVERIFY(!document_->patchRun());
    }

    void theRunBeforeIsKeptToCompare() {
        openAll();
        const Patch patch = patchInTheMiddle();
        controller_->extractPatch(patch);
        waitForIdle();
        const auto before = document_->patchRun().detail;
        ExtractionOptions options = document_->options();
        options.decorrelate = Decorrelate::Noise;
        document_->setOptions(options);
        controller_->extractPatch(document_->plan()->patch(patch.subbundle, patch.step));
        waitForIdle();
        QVERIFY(document_->previousPatchRun().detail == before);
        QVERIFY(document_->patchRun().detail->flux.values() != before->flux.values());
        // Another patch has no "before".
        controller_->extractPatch(document_->plan()->patch(0, 0));
        waitForIdle();
        QVERIFY(!document_->previousPatchRun());
    }

    void editsOfTheMaskAreUsedAndTakenBack() {
        openAll();
        const Patch patch = patchInTheMiddle();
        controller_->extractPatch(patch);
        waitForIdle();
        const PatchDetail before = *document_->patchRun().detail;
        const int x = (before.window.x.first + before.window.x.last) / 2;
        const int y = (before.window.y.first + before.window.y.last) / 2;
        document_->setMaskEdits({{y * document_->image()->nx + x, true}});
        controller_->extractPatch(patch);
        waitForIdle();
        const PatchDetail& masked = *document_->patchRun().detail;
        const auto row = static_cast<std::size_t>(y - before.window.y.first);
        const auto column = static_cast<std::size_t>(x - before.window.x.first);
        QCOMPARE(before.pixmask(row, column), 0.0);
        QCOMPARE(masked.pixmask(row, column), 1.0);
        QVERIFY(masked.flux.values() != before.flux.values());
        document_->setMaskEdits({});
        controller_->extractPatch(patch);
        waitForIdle();
        QCOMPARE(document_->patchRun().detail->flux.values(), before.flux.values());
    }

    void aFrameComesInPieces() {
        openAll();
        const auto& image = document_->image();
        std::vector<std::uint8_t> seen(static_cast<std::size_t>(document_->plan()->nspec) *
                                       static_cast<std::size_t>(document_->plan()->grid.nwave));
        connect(document_.get(), &Document::frameBinsChanged, this, [&](IndexRange spectra, IndexRange core) {
            for (int s = spectra.first; s < spectra.last; ++s)
                for (int j = core.first; j < core.last; ++j)
                    ++seen[static_cast<std::size_t>(s * document_->plan()->grid.nwave + j)];
        });
        const int job = controller_->extract(ExtractionController::Scope::Frame);
        QVERIFY(job > 0);
        waitForIdle();
        QVERIFY2(controller_->jobs().find(job)->state == JobState::Done,
                 qPrintable(controller_->jobs().find(job)->message));
        QVERIFY(std::all_of(seen.begin(), seen.end(), [](std::uint8_t count) { return count == 1; }));
        const auto backend = makeCpuBackend();
        const ExtractionResult expected =
            extractFrame(*backend, document_->pixels()->view(), *document_->psf(), *document_->plan());
        QVERIFY(!document_->frame().done);
        QCOMPARE(document_->frame().frame->flux.values(), expected.frame.flux.values());
        QCOMPARE(document_->frame().frame->ivar.values(), expected.frame.ivar.values());
        QCOMPARE(document_->model()->size(), image->pixels.size());
        QVERIFY(!controller_->lastRanges()->empty());
        // It can be written, and read again.
        const QString path = files_->folder.filePath(QStringLiteral("frame.fits"));
        QVERIFY(controller_->writeFrame(path) > 0);
        waitForIdle();
        QCOMPARE(readFrame(path.toStdString()).nspec(), std::size_t(10));
    }

    void theTwoMethodsAreCompared() {
        openAll();
        MethodOverlay overlay(*document_);
        QCOMPARE(overlay.range(), 0.0);
        QVERIFY(overlay.legend().contains(QStringLiteral("once with each method")));
        ExtractionOptions patches = document_->options();
        ExtractionOptions seamless = patches;
        seamless.method = Method::Seamless;

        // Of the patch.
        const Patch patch = patchInTheMiddle();
        controller_->extractPatch(patch);
        waitForIdle();
        document_->setOptions(seamless);
        controller_->extractPatch(document_->plan()->patch(patch.subbundle, patch.step));
        waitForIdle();
        overlay.documentChanged();
        QVERIFY2(overlay.range() > 0, qPrintable(overlay.legend()));
        const PatchDetail& now = *document_->patchRun().detail;
        const PatchDetail& before = *document_->previousPatchRun().detail;
        QVERIFY(now.patch.bins.count() > before.patch.bins.count()); // what a seamless patch needs around it
        const int bin = patch.keepBins.first + 3;
        const auto of = [&](const PatchDetail& detail, const Array2<double>& values) {
            return values(static_cast<std::size_t>(patch.core.first - detail.patch.spectra.first),
                          static_cast<std::size_t>(bin - detail.patch.bins.first));
        };
        const double expected = (of(before, before.flux) - of(now, now.flux)) *
                                std::sqrt(std::min(of(before, before.ivar), of(now, now.ivar)));
        const WavelengthGrid& grid = document_->plan()->grid;
        QVERIFY(std::abs(overlay.valueAt(patch.core.first, grid.outputWavelength(bin - grid.pad)) - expected) < 1e-6);

        // Of whole frames, which go before.
        controller_->extract(ExtractionController::Scope::Frame);
        waitForIdle();
        document_->setOptions(patches);
        controller_->extract(ExtractionController::Scope::Frame);
        waitForIdle();
        overlay.documentChanged();
        const ExtractedFrame& a = *document_->frame().frame;
        const ExtractedFrame& b = *document_->previousFrame().frame;
        QVERIFY2(overlay.legend().contains(QStringLiteral("rms")), qPrintable(overlay.legend()));
        const double frames = (a.flux(7, 11) - b.flux(7, 11)) * std::sqrt(std::min(a.ivar(7, 11), b.ivar(7, 11)));
        QVERIFY(std::abs(overlay.valueAt(7, a.wavelength[11]) - frames) < 1e-5);
        // And it is seen: colours where the traces are, nothing left of the first one.
        QImage picture(120, 200, QImage::Format_ARGB32_Premultiplied);
        picture.fill(Qt::transparent);
        overlay.paint(picture, QRectF(-0.5, -0.5, 120, 200));
        int coloured = 0;
        for (std::size_t j = 0; j < a.nwave(); ++j) {
            const Cursor at = document_->cursorAtBin(7, a.wavelength[j]);
            const QPoint pixel(static_cast<int>(std::lround(at.x)), 199 - static_cast<int>(std::lround(at.y)));
            if (picture.valid(pixel) && qAlpha(picture.pixel(pixel)) > 0) ++coloured;
        }
        QVERIFY2(coloured > 100, qPrintable(QString::number(coloured)));
        QCOMPARE(qAlpha(picture.pixel(0, 100)), 0);
    }

    void aBundleIsThatOfTheCursor() {
        openAll();
        document_->setCursor(document_->cursorAtBin(7, document_->plan()->grid.outputWavelength(5)));
        controller_->extract(ExtractionController::Scope::Bundle);
        waitForIdle();
        QCOMPARE(document_->frame().frame->specmin, 5);
        QCOMPARE(document_->frame().frame->nspec(), std::size_t(5));
        controller_->extract(ExtractionController::Scope::Fiber);
        waitForIdle();
        QCOMPARE(document_->frame().frame->specmin, 7);
        QCOMPARE(document_->frame().frame->nspec(), std::size_t(1));
        QCOMPARE(document_->previousFrame().frame->nspec(), std::size_t(5));
    }

    void aRunCanBeCancelledWhileAPatchIsExtracted() {
        openAll();
        gate_->set(false);
        const int job = controller_->extract(ExtractionController::Scope::Frame);
        QTRY_VERIFY_WITH_TIMEOUT(gate_->waiting.load() >= 1 && document_->frame(), patience);
        QVERIFY(controller_->isRunning(job));
        controller_->cancel(job);
        gate_->set(true);
        waitForIdle();
        QCOMPARE(controller_->jobs().find(job)->state, JobState::Cancelled);
        QCOMPARE(controller_->backgroundJob(), 0);
        QVERIFY(document_->frame().done); // what there is, is not complete
        QSignalSpy message(controller_.get(), &ExtractionController::message);
        QCOMPARE(controller_->writeFrame(files_->folder.filePath(QStringLiteral("never.fits"))), 0);
        QVERIFY(message.last().at(1).toBool());
    }

    void anErrorOfTheBackendIsOneLine() {
        openAll();
        controller_->setBackendName(QStringLiteral("cuda"));
        QSignalSpy message(controller_.get(), &ExtractionController::message);
        const int patch = controller_->extractPatch(patchInTheMiddle());
        waitForIdle();
        QCOMPARE(controller_->jobs().find(patch)->state, JobState::Failed);
        QCOMPARE(message.last().at(0).toString(), QStringLiteral("there is no such device"));
        const int run = controller_->extract(ExtractionController::Scope::Frame);
        waitForIdle();
        QCOMPARE(controller_->jobs().find(run)->state, JobState::Failed);
    }

    void closingWhileRunningEndsEverything() {
        openAll();
        gate_->set(false);
        controller_->extract(ExtractionController::Scope::Frame);
        controller_->extractPatch(patchInTheMiddle());
        QTRY_VERIFY_WITH_TIMEOUT(gate_->waiting.load() >= 2, patience);
        std::thread opener([this] {
            QThread::msleep(50);
            gate_->set(true);
        });
        controller_.reset(); // returns once the threads have ended
        opener.join();
        QCOMPARE(gate_->waiting.load(), 0);
    }

    void theCommandLineRepeatsWhatWasDone() {
        openAll();
        const Patch patch = patchInTheMiddle();
        controller_->extractPatch(patch);
        waitForIdle();
        const QString command = controller_->lastCommand();
        QVERIFY2(command.startsWith(QStringLiteral("patchlight patch -i ") + files_->image), qPrintable(command));
        QVERIFY(command.contains(QStringLiteral("--nwavestep 20")));
        QVERIFY(command.contains(QStringLiteral("--fiber %1 ").arg(patch.core.first)));
        QVERIFY(!command.contains(QStringLiteral("--wavepad"))); // a default
    }

    void theModelOfJobsKeepsTheRules() {
        QAbstractItemModelTester tester(&controller_->jobs(), QAbstractItemModelTester::FailureReportingMode::QtTest);
        openAll();
        for (int i = 0; i < 5; ++i) {
            controller_->extractPatch(patchInTheMiddle());
            waitForIdle();
        }
        // One line for all the patches.
        QCOMPARE(controller_->jobs().rowCount(), 2);
        controller_->extract(ExtractionController::Scope::Frame);
        waitForIdle();
        QCOMPARE(controller_->jobs().rowCount(), 3);
        QCOMPARE(controller_->jobs().index(2, JobsModel::Progress).data().toString(), QStringLiteral("100 %"));
    }
};

QTEST_GUILESS_MAIN(TestController)
#include "TestController.moc"
