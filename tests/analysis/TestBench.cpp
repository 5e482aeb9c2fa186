#include "core/analysis/Bench.h"
#include "core/base/Error.h"
#include "core/cpu/CpuBackend.h"
#include "core/image/CcdImage.h"
#include "core/psf/Psf.h"
#include "core/simulate/FrameSimulator.h"
#include "core/simulate/Instrument.h"

#include <QFileInfo>
#include <QObject>
#include <QTest>

#include <cmath>
#include <stop_token>
#include <vector>

using namespace patchlight;

namespace {

/// Simulates two bundles of two fibers on a small CCD: preproc.fits, psf.fits.
WavelengthRange writeSmallExposure() {
    simulate::InstrumentOptions instrument;
    instrument.nspec = 4;
    instrument.bundlesize = 2;
    instrument.nx = 80;
    instrument.ny = 120;
    const Psf psf = simulate::makePsf(simulate::completed(instrument));
    simulate::FrameOptions frame;
    frame.grid = simulate::defaultWavelengthRange(psf, 'r');
    writePsf("psf.fits", psf);
    writeCcdImage("preproc.fits", simulate::simulateFrame(psf, frame).image);
    return frame.grid;
}

const BenchStage* find(const BenchRun& run, const char* name) {
    for (const BenchStage& stage : run.stages) {
        if (stage.name == name) return &stage;
    }
    return nullptr;
}

} // namespace

class TestBench : public QObject {
    Q_OBJECT

private slots:
    void spread() {
        const Spread odd{{3, 1, 2}};
        QCOMPARE(odd.smallest(), 1.0);
        QCOMPARE(odd.median(), 2.0);
        QCOMPARE(odd.largest(), 3.0);
        const Spread even{{4, 1, 2, 3}};
        QCOMPARE(even.median(), 2.5);
        QCOMPARE(Spread{}.median(), 0.0);
        BenchRun run;
        run.totalWall.values = {2.0, 1.5, 8.0};
        QCOMPARE(run.totalFramesPerHour(), 1800.0); // 3600 s / 2 s
        QCOMPARE(run.extractFramesPerHour(), 0.0);
    }

    void machine() {
        const MachineInfo info = describeMachine();
        QVERIFY(info.cores >= 1);
        QVERIFY(info.memory > 0.1);
        QVERIFY(!info.system.empty());
    }

    void cpuTimeGrowsWithWork() {
        const double before = cpuSeconds();
        volatile double sink = 0.0;
        while (cpuSeconds() - before < 0.02) {
            for (int i = 1; i < 100000; ++i) sink = sink + std::sqrt(static_cast<double>(i));
        }
        QVERIFY(cpuSeconds() > before);
    }

    void peakMemoryIsForgotten() {
        constexpr std::uint64_t megabyte = 1024 * 1024;
        if (!resetPeakMemory()) QSKIP("/proc/self/clear_refs cannot be written here");
        const std::uint64_t before = peakMemory();
        {
            const std::vector<char> block(64 * megabyte, 'x');
            QVERIFY(block.back() == 'x');
            QVERIFY(peakMemory() >= before + 60 * megabyte);
        }
        QVERIFY(peakMemory() >= before + 60 * megabyte); // still known after the block is gone
    }

    void smallFrame() {
        const auto backend = makeCpuBackend();
        BenchOptions options;
        options.extraction.wavelength = writeSmallExposure();
        options.extraction.bundlesize = 2;
        options.extraction.nsubbundles = 1;
        options.imagePath = "preproc.fits";
        options.psfPath = "psf.fits";
        options.outputPath = "frame.fits";
        options.model = true;
        options.threads = {1, 2};
        options.warmup = 1;
        options.repeats = 3;
        std::vector<int> repeats;
        options.progress = [&](int, int repeat, double seconds) {
            repeats.push_back(repeat);
            QVERIFY(seconds > 0.0);
        };
        const BenchReport report = runBench(*backend, options);
        QCOMPARE(repeats, (std::vector<int>{-1, 0, 1, 2, -1, 0, 1, 2}));
        QCOMPARE(report.onePatch.values.size(), static_cast<std::size_t>(std::min(60, report.patches)));
        QVERIFY(report.onePatch.smallest() > 0.0);
        QCOMPARE(report.nspec, 4);
        QCOMPARE(report.bundles, 2.0);
        QCOMPARE(report.runs.size(), std::size_t{2});
        for (const BenchRun& run : report.runs) {
            QCOMPARE(run.totalWall.values.size(), std::size_t{3});
            for (std::size_t i = 0; i < 3; ++i) {
                QVERIFY(run.extractWall.values[i] > 0.0);
                QVERIFY(run.extractWall.values[i] <= run.totalWall.values[i]);
            }
            QVERIFY(run.peakMemory > 1000000);
            QVERIFY(run.totalFramesPerHour() > 0.0);
            for (const char* name :
                 {"frame", "read PSF", "read image", "extract frame", "model image", "scores", "write frame"}) {
                QVERIFY2(find(run, name) != nullptr, name);
                QCOMPARE(find(run, name)->calls, 1.0);
            }
            QVERIFY(find(run, "extract frame")->totalSeconds <= find(run, "frame")->totalSeconds);
        }
        QCOMPARE(report.runs[1].threads, 2);
        QVERIFY(QFileInfo::exists("frame.fits"));
    }

    void errorsComeThrough() {
        const auto backend = makeCpuBackend();
        BenchOptions options;
        options.imagePath = "missing.fits";
        options.psfPath = "missing-psf.fits";
        options.outputPath = "frame.fits";
        QVERIFY_EXCEPTION_THROWN((void)runBench(*backend, options), Error);
    }

    void canBeStopped() {
        const auto backend = makeCpuBackend();
        std::stop_source stop;
        BenchOptions options;
        options.extraction.wavelength = writeSmallExposure();
        options.extraction.bundlesize = 2;
        options.extraction.nsubbundles = 1;
        options.imagePath = "preproc.fits";
        options.psfPath = "psf.fits";
        options.outputPath = "frame.fits";
        options.threads = {1};
        options.stop = stop.get_token();
        options.poll = [&] { stop.request_stop(); };
        QVERIFY_EXCEPTION_THROWN((void)runBench(*backend, options), Cancelled);
    }
};

QTEST_APPLESS_MAIN(TestBench)
#include "TestBench.moc"
