#include "core/cpu/CpuBackend.h"
#include "core/cpu/InverseSquareRoot.h"
#include "core/engine/Engine.h"
#include "gpu/DeviceBackend.h"
#include "gpu/Launch.h"
#include "gpu/kernels/BatchView.h"
#include "tests/gpu/Devices.h"
#include "tests/support/Sanitizers.h"
#include "tests/support/SmallExposure.h"

#include <QObject>
#include <QStringList>
#include <QTest>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <memory>
#include <mutex>
#include <set>
#include <sstream>
#include <string>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

using namespace patchlight;

namespace {

/// Largest differences of two extractions of the same patches.
struct Differences {
    double flux = 0;       ///< sigma
    double ivar = 0;       ///< relative to the largest of the frame
    double resolution = 0; ///< absolute
    double xflux = 0;      ///< relative to the largest of the frame
    double chi2pix = 0;    ///< relative
    double model = 0;      ///< relative to the largest of the frame
    int masks = 0;
    int lit = 0;    ///< bins with ivar > 0 in one but not in the other
    int status = 0; ///< patches whose reports say something else
    [[nodiscard]] QString text() const {
        return QString(
                   "flux %1 sigma, ivar %2, resolution %3, xflux %4, chi2pix %5, model %6, masks %7, lit %8, status %9")
            .arg(flux)
            .arg(ivar)
            .arg(resolution)
            .arg(xflux)
            .arg(chi2pix)
            .arg(model)
            .arg(masks)
            .arg(lit)
            .arg(status);
    }
};

double largest(const Array2<double>& values) {
    double most = 0;
    for (const double v : values.values()) most = std::max(most, std::abs(v));
    return most > 0 ? most : 1;
}

Differences differences(const ExtractionResult& one, const ExtractionResult& other) {
    const ExtractedFrame& a = one.frame;
    const ExtractedFrame& b = other.frame;
    Differences d;
    // NaN is larger than anything.
    const auto worse = [](double& worst, double value) {
        if (!(value <= worst)) worst = std::isnan(value) ? HUGE_VAL : value;
    };
    const double ivar = largest(a.ivar);
    const double xflux = largest(a.xflux);
    const double model = largest(one.modelFlux);
    for (std::size_t s = 0; s < a.nspec(); ++s)
        for (std::size_t j = 0; j < a.nwave(); ++j) {
            d.masks += a.mask(s, j) != b.mask(s, j) ? 1 : 0;
            d.lit += (a.ivar(s, j) > 0) != (b.ivar(s, j) > 0) ? 1 : 0;
            worse(d.ivar, std::abs(b.ivar(s, j) - a.ivar(s, j)) / ivar);
            worse(d.xflux, std::abs(b.xflux(s, j) - a.xflux(s, j)) * std::sqrt(a.ivar(s, j) / ivar) / xflux);
            worse(d.flux, std::abs(a.flux(s, j) - b.flux(s, j)) * std::sqrt(a.ivar(s, j)));
            worse(d.chi2pix, std::abs(b.chi2pix(s, j) - a.chi2pix(s, j)) / std::max(1.0, a.chi2pix(s, j)));
            for (std::size_t k = 0; k < a.resolution.rows(); ++k)
                worse(d.resolution, std::abs(a.resolution(s, k, j) - b.resolution(s, k, j)));
        }
    for (std::size_t i = 0; i < one.modelFlux.size(); ++i)
        worse(d.model, std::abs(one.modelFlux.data()[i] - other.modelFlux.data()[i]) / model);
    for (std::size_t p = 0; p < one.reports.size(); ++p)
        d.status += one.reports[p].status != other.reports[p].status ? 1 : 0;
    return d;
}

ExtractionOptions smallOptions(const WavelengthRange& range) {
    ExtractionOptions options;
    options.wavelength = range;
    options.bundlesize = 5;
    options.nsubbundles = 2;
    options.nwavestep = 25;
    return options;
}

} // namespace

class TestDeviceBackend : public QObject {
    Q_OBJECT

private:
    /// Roundings: the CPU's fast path takes the same steps, with the same bands and poles.
    static void compare(const Differences& d) {
        QVERIFY2(d.flux <= 1e-9, qPrintable(d.text()));
        QVERIFY2(d.ivar <= 1e-9, qPrintable(d.text()));
        QVERIFY2(d.resolution <= 1e-9, qPrintable(d.text()));
        QVERIFY2(d.chi2pix <= 1e-9, qPrintable(d.text()));
        QVERIFY2(d.xflux <= 1e-9, qPrintable(d.text()));
        QVERIFY2(d.model <= 1e-9, qPrintable(d.text()));
        QCOMPARE(d.masks, 0);
        QCOMPARE(d.lit, 0);
        QCOMPARE(d.status, 0);
    }

    /// Additions and multiplications of a corrected root, loop by loop.
    static double rootOperations(int n, int ndiag) {
        constexpr int w = 12;
        long outer = 0;
        for (int i = 0; i < n; ++i)
            for (int j = 0; j < n; ++j) outer += std::abs(i - j) > w ? 1 : 0;
        long factor = 0; // of a row
        long both = 0;
        long inverse = 4L * w + 2L * (ndiag + 3); // the diagonal, both solutions; then what is summed over poles
        for (int m = 1; m <= w; ++m) {
            factor += 1;
            for (int c = m; c <= w; ++c) factor += 2;
            both += 2 * (2 + 2); // two right-hand sides, there and back
            for (int d = 1; d <= w; ++d) inverse += 2;
        }
        const auto rungs = static_cast<double>(inverseSquareRootLadder().size());
        const auto poles = static_cast<double>(inverseSquareRootLadder().front().pole.size());
        const double rows = n;
        // The norm and the largest of C; proofs; and for each pole its factors, what they give, C u, and that solved and added.
        return 2.0 * static_cast<double>(outer) + rungs * rows * static_cast<double>(factor) +
               poles * (rows * static_cast<double>(factor + both + inverse) + 2 * 2 * static_cast<double>(outer) +
                        rows * static_cast<double>(both + 2 * 2));
    }

    /// Masks what a row's name says, around spectrum 2 at a wavelength (Angstrom): a square of so many pixels, columns, a part of the CCD; "edge" ends
    /// the CCD earlier. Other names mask nothing.
    static void mask(test::SmallExposure& t, const QString& what, double wavelength) {
        const int x = static_cast<int>(std::lround(t.psf.x(2, wavelength)));
        const int y = static_cast<int>(std::lround(t.psf.y(2, wavelength)));
        const int ny = t.pixels.ny;
        const int side = what.toInt();
        if (side > 0) test::maskPixels(t.pixels, x - side / 2, x - side / 2 + side, y - side / 2, y - side / 2 + side);
        if (what == "column") test::maskPixels(t.pixels, x, x + 1, 0, ny);
        if (what == "columns") test::maskPixels(t.pixels, x - 2, x + 5, 0, ny);
        if (what == "amplifier") test::maskPixels(t.pixels, 0, 60, 100, ny);
        if (what == "fiber") test::maskPixels(t.pixels, x - 3, x + 4, 0, ny);
        if (what == "all") test::maskPixels(t.pixels, 0, t.pixels.nx, 0, ny);
        if (what == "edge") {
            t.pixels.ny = 150;
            t.pixels.pixels.resize(120 * 150);
            t.pixels.weights.resize(120 * 150);
        }
    }

private slots:
    void agreesWithTheCpu_data() {
        QTest::addColumn<QString>("device");
        QTest::addColumn<QString>("masks");
        for (const char* device : test::deviceNames)
            for (const char* masks : {"none", "3", "5", "7", "11", "column", "columns", "amplifier", "fiber", "edge",
                                      "all", "b camera", "z camera"})
                // One is enough to see a barrier missing; what streams do together does not depend on the masks.
                if (QString(masks) == "5" ||
                    (test::watchingThreads
                         ? QString(masks) == "all"
                         : QString(device) != "threads" &&
                               test::worthwhile(masks, {"none", "7", "fiber", "edge", "all", "z camera"})))
                    QTest::addRow("%s, %s", device, masks) << device << masks;
    }
    void agreesWithTheCpu() {
        QFETCH(QString, device);
        QFETCH(QString, masks);
        PATCHLIGHT_DEVICE_OR_SKIP(one, device);
        const char arm = masks.endsWith(" camera") ? masks[0].toLatin1() : 'r';
        auto t = test::smallExposure(10, 5, 120, 200, 1, arm);
        mask(t, masks, 6690);
        const Plan plan = makePlan(t.psf, smallOptions(t.range));
        const ExtractionResult want = extractFrame(*makeCpuBackend(), t.pixels.view(), t.psf, plan);
        gpu::DeviceBackendOptions options;
        options.counts = std::make_shared<gpu::DeviceCounts>();
        std::atomic<bool> bandsFirst = false;
        options.observer = [&](const gpu::BatchView& v, gpu::Device&, gpu::Stream&) { bandsFirst = v.bandsFirst; };
        const auto backend = gpu::makeDeviceBackend(std::move(one), options);
        Timeline timeline;
        RunControl control;
        control.timeline = &timeline;
        const ExtractionResult got = extractFrame(*backend, t.pixels.view(), t.psf, plan, control);
        const Differences d = differences(want, got);
        const gpu::DeviceCounts& counts = *options.counts;
        qInfo("%s; %ld of %d patches left to the CPU, %ld spectra with corrected roots, %ld with full ones",
              qPrintable(d.text()), counts.onCpu.load(), plan.patchCount(), counts.corrected.load(),
              counts.rooted.load());
        compare(d);
        // With many bins on a row there are no bands before full blocks. Few spectra need full roots.
        QCOMPARE(bandsFirst.load(), arm == 'r');
        const std::vector<RangeRecord> ranges = timeline.records();
        QCOMPARE(std::any_of(ranges.begin(), ranges.end(),
                             [](const RangeRecord& range) { return range.name == std::string("gpu elimination"); }),
                 arm == 'r');
        QVERIFY(masks == "all" ? counts.corrected == 0 : counts.corrected > 0);
        QVERIFY(counts.rooted < counts.corrected || masks == "all");
        if (masks == "7") QVERIFY(counts.rooted > 0);
        QCOMPARE(options.counts->patches.load(), static_cast<long>(plan.patchCount()));
        // Left to the CPU are at most those that it solves with full blocks or exactly.
        long beyond = 0;
        for (const PatchReport& report : want.reports)
            beyond += (report.status & static_cast<std::uint32_t>(PatchStatus::Exact)) != 0 ? 1 : 0;
        QVERIFY(options.counts->onCpu <= beyond);
        QVERIFY(beyond < plan.patchCount());
    }

    void anyOptionsAgreeWithTheCpu_data() {
        QTest::addColumn<QString>("device");
        QTest::addColumn<QString>("change");
        // Options that lead to other batches or kernels, not only to other numbers.
        const QStringList otherwise = {"nsubbundles 5", "nwavestep 7", "reconvolved", "noise"};
        for (const char* device : test::deviceNames)
            for (const char* change :
                 {"nsubbundles 1", "nsubbundles 5", "nwavestep 7", "no padding", "regularize", "psferr", "tail",
                  "pixpad 0.3", "pixpad 1", "reconvolved", "barycentric", "one wavelength", "one fiber", "stamp 3 x 3",
                  "stamp 9 x 7", "two cores", "coarse grid", "fine grid", "noise"})
                if (QString(device) != "threads" &&
                    (test::watchingThreads
                         ? otherwise.contains(change)
                         : test::worthwhile(change, {"nsubbundles 5", "nwavestep 7", "no padding", "tail",
                                                     "reconvolved", "one wavelength", "one fiber", "stamp 3 x 3",
                                                     "stamp 9 x 7", "two cores", "noise"})))
                    QTest::addRow("%s, %s", device, change) << device << change;
    }
    void anyOptionsAgreeWithTheCpu() {
        QFETCH(QString, device);
        QFETCH(QString, change);
        PATCHLIGHT_DEVICE_OR_SKIP(one, device);
        auto t = test::smallExposure();
        ExtractionOptions options = smallOptions(t.range);
        double factor = 1;
        if (change.startsWith("nsubbundles")) options.nsubbundles = change.section(' ', 1).toInt();
        if (change == "nwavestep 7") options.nwavestep = 7;
        if (change == "no padding") options.wavepad = 0;
        if (change == "regularize") options.regularize = 0.05;
        if (change == "psferr") options.psferr = 0.2;
        if (change.startsWith("pixpad")) options.pixpadFrac = change.section(' ', 1).toDouble();
        if (change == "reconvolved") options.modelFlux = ModelFlux::Reconvolved;
        if (change == "barycentric") factor = 1.0001;
        if (change == "one wavelength") options.wavelength = WavelengthRange{6690, 6690, 0.8};
        if (change == "coarse grid") options.wavelength->dw = 1.3;
        if (change == "fine grid") options.wavelength->dw = 0.55;
        if (change == "noise") options.decorrelate = Decorrelate::Noise;
        if (change == "one fiber") {
            options.specmin = 3;
            options.nspec = 1;
        }
        if (change == "tail") {
            for (double& amplitude : t.psf.series.at("TAILAMP").coeff) amplitude += 0.01;
            t.psf.pack();
        }
        if (change == "stamp 3 x 3") t.psf.hsizeX = t.psf.hsizeY = 3;
        if (change == "two cores") {
            test::giveSecondCore(t.psf);
            t.psf.pack();
        }
        if (change == "stamp 9 x 7") {
            t.psf.hsizeX = 9;
            t.psf.hsizeY = 7;
            t.psf.pack();
        }
        const Plan plan = makePlan(t.psf, options, factor);
        const ExtractionResult want = extractFrame(*makeCpuBackend(), t.pixels.view(), t.psf, plan);
        const auto backend = gpu::makeDeviceBackend(std::move(one));
        const ExtractionResult got = extractFrame(*backend, t.pixels.view(), t.psf, plan);
        RunControl paint;
        paint.painter = backend.get();
        const auto painted = paintModel(want.modelFlux, t.psf, plan, t.pixels.nx, t.pixels.ny, paint);
        const auto wanted = paintModel(want.modelFlux, t.psf, plan, t.pixels.nx, t.pixels.ny);
        const float brightest = *std::max_element(wanted.begin(), wanted.end());
        QCOMPARE(painted.size(), wanted.size());
        for (std::size_t p = 0; p < wanted.size(); ++p) QVERIFY(std::abs(painted[p] - wanted[p]) <= 1e-6F * brightest);
        const Differences d = differences(want, got);
        qInfo("%s", qPrintable(d.text()));
        compare(d);
    }

    /// The seamless method: segments with context on the device, whole bundles on the CPU. They leave out different things, each within
    /// ErrorBounds, so that no more than those are promised.
    void seamlessAgreesWithTheCpu_data() {
        QTest::addColumn<QString>("device");
        QTest::addColumn<QString>("change");
        for (const char* device : test::deviceNames)
            for (const char* change : {"none", "5", "column", "amplifier", "fiber", "edge", "all", "b camera",
                                       "z camera", "regularize", "quality", "nsubbundles 1", "nwavestep 7", "one fiber",
                                       "one wavelength", "tail", "two bundles", "long"})
                if (QString(device) != "threads"
                        ? test::watchingThreads ? QString(change) == "5"
                                                : test::worthwhile(change, {"5", "edge", "all", "z camera", "quality",
                                                                            "one fiber", "tail", "two bundles", "long"})
                        : QString(change) == "5" && (test::watchingThreads || !test::sanitized))
                    QTest::addRow("%s, %s", device, change) << device << change;
    }
    void seamlessAgreesWithTheCpu() {
        QFETCH(QString, device);
        QFETCH(QString, change);
        PATCHLIGHT_DEVICE_OR_SKIP(one, device);
        const char arm = change.endsWith(" camera") ? change[0].toLatin1() : 'r';
        const int nspec = change == "long" ? 5 : 10;
        const int ny = change == "long" ? 420 : 200;
        auto t = test::smallExposure(nspec, nspec, 120, ny, 1, arm);
        mask(t, change == "long" ? "column" : change, 0.5 * (t.range.wmin + t.range.wmax));
        ExtractionOptions options = smallOptions(t.range);
        options.method = Method::Seamless;
        options.bundlesize = change == "two bundles" ? 5 : nspec;
        if (change == "regularize") options.regularize = 0.05;
        if (change == "quality") {
            options.psferr = 0.2;
            options.modelFlux = ModelFlux::Reconvolved;
        }
        if (change == "nsubbundles 1") options.nsubbundles = 1;
        if (change == "nwavestep 7") options.nwavestep = 7;
        if (change == "one wavelength") options.wavelength = WavelengthRange{6690, 6690, 0.8};
        if (change == "one fiber") {
            options.specmin = 3;
            options.nspec = 1;
        }
        if (change == "tail") {
            for (double& amplitude : t.psf.series.at("TAILAMP").coeff) amplitude += 0.01;
            t.psf.pack();
        }
        const Plan plan = makePlan(t.psf, options);
        const ExtractionResult want = extractFrame(*makeCpuBackend(), t.pixels.view(), t.psf, plan);
        gpu::DeviceBackendOptions settings;
        settings.counts = std::make_shared<gpu::DeviceCounts>();
        int longest = 0;
        std::mutex mutex; // several streams call
        settings.observer = [&](const gpu::BatchView& v, gpu::Device&, gpu::Stream&) {
            const std::lock_guard lock(mutex);
            longest = std::max(longest, v.maxWave);
        };
        const auto backend = gpu::makeDeviceBackend(std::move(one), settings);
        const ExtractionResult got = extractFrame(*backend, t.pixels.view(), t.psf, plan);
        const Differences d = differences(want, got);
        long full = 0;
        for (const PatchReport& report : got.reports)
            full += (report.status & static_cast<std::uint32_t>(PatchStatus::Exact)) != 0 ? 1 : 0;
        const long onCpu = settings.counts->onCpu;
        qInfo("%s; of %d patches %ld with full blocks or more, %ld left to the CPU", qPrintable(d.text()),
              plan.patchCount(), full, onCpu);
        QVERIFY2(d.flux <= 1e-6, qPrintable(d.text()));
        QVERIFY2(d.ivar <= 1e-8, qPrintable(d.text()));
        QVERIFY2(d.resolution <= 1e-8, qPrintable(d.text()));
        QVERIFY2(d.xflux <= 1e-8, qPrintable(d.text()));
        QVERIFY2(d.model <= 1e-6, qPrintable(d.text()));
        // Of patches with all couplings the CPU's bundles have quality from more spectra.
        QVERIFY2(d.chi2pix <= (change == "tail" ? 1e-2 : 1e-7), qPrintable(d.text()));
        QCOMPARE(d.masks, 0);
        QCOMPARE(d.lit, 0);
        QCOMPARE(settings.counts->patches.load(), static_cast<long>(plan.patchCount()));
        // Second neighbours matter beside a dead fiber, and with wide tails.
        if (change == "tail") QVERIFY(onCpu > 0);
        QVERIFY(onCpu == 0 || change == "fiber" || change == "tail");
        if (change == "regularize" || change == "one wavelength") QVERIFY(full < plan.patchCount());
        // Segments were not the whole bundle.
        if (change == "long") QVERIFY(longest < plan.grid.nbins());
        // No unmasked pixel.
        for (std::size_t p = 0; p < got.reports.size(); ++p)
            QCOMPARE(got.reports[p].status == static_cast<std::uint32_t>(PatchStatus::NoPixels),
                     want.reports[p].status == static_cast<std::uint32_t>(PatchStatus::NoPixels));
    }

    /// The same bytes from run to run, for any number of streams, batch size and memory, and for teams of one member or more.
    void bytesDoNotDependOnHowItIsRun_data() {
        QTest::addColumn<QString>("device");
        QTest::addColumn<bool>("seamless");
        for (const char* device : {"host", "cuda"})
            for (const bool seamless : {false, true})
                QTest::addRow("%s, %s", device, seamless ? "seamless" : "patches") << device << seamless;
    }
    void bytesDoNotDependOnHowItIsRun() {
        QFETCH(QString, device);
        QFETCH(bool, seamless);
        auto t = seamless ? test::smallExposure(4, 2, 60, 300) : test::smallExposure();
        if (seamless) test::maskPixels(t.pixels, 20, 25, 100, 105);
        ExtractionOptions options = smallOptions(t.range);
        options.nwavestep = seamless ? 25 : 10;
        options.bundlesize = seamless ? 2 : 5;
        if (seamless) options.method = Method::Seamless;
        const Plan plan = makePlan(t.psf, options);
        const auto run = [&](Backend& backend, int threads, int steps) {
            RunControl control;
            control.threads = threads;
            control.batchSteps = steps;
            return extractFrame(backend, t.pixels.view(), t.psf, plan, control);
        };
        PATCHLIGHT_DEVICE_OR_SKIP(one, device);
        const auto backend = gpu::makeDeviceBackend(std::move(one));
        const ExtractionResult first = run(*backend, 1, 0);
        const auto same = [&](const ExtractionResult& other) {
            const auto equal = [](const auto& a, const auto& b) {
                return std::memcmp(a.data(), b.data(), a.size() * sizeof(*a.data())) == 0;
            };
            return equal(first.frame.flux, other.frame.flux) && equal(first.frame.ivar, other.frame.ivar) &&
                   equal(first.frame.resolution, other.frame.resolution) &&
                   equal(first.frame.chi2pix, other.frame.chi2pix) && equal(first.frame.xflux, other.frame.xflux) &&
                   equal(first.modelFlux, other.modelFlux);
        };
        if (!test::sanitized) QVERIFY(same(run(*backend, 1, 0)));
        QVERIFY(same(run(*backend, 4, 0)));
        if (!test::sanitized) QVERIFY(same(run(*backend, 2, 1)));
        QVERIFY(same(run(*backend, 3, 4)));
        gpu::DeviceBackendOptions small;
        small.memory = std::size_t{3} << 20;
        small.counts = std::make_shared<gpu::DeviceCounts>();
        PATCHLIGHT_DEVICE_OR_SKIP(two, device);
        QVERIFY(same(run(*gpu::makeDeviceBackend(std::move(two), small), 4, 0)));
        QVERIFY(small.counts->batches > static_cast<long>(makeBatches(plan, plan.nsteps).size()));
        if (device == "host") {
            PATCHLIGHT_DEVICE_OR_SKIP(three, QString("threads"));
            QVERIFY(same(run(*gpu::makeDeviceBackend(std::move(three)), 1, 0)));
        }
    }

    /// Full blocks whose matrices do not fit into shared memory lie elsewhere, and give the same bytes.
    void fullBlocksNeedNoSharedMemory() {
        auto t = test::smallExposure();
        test::maskPixels(t.pixels, 20, 27, 60, 67);
        const Plan plan = makePlan(t.psf, smallOptions(t.range));
        long onCpu = -1;
        std::vector<double> resolution;
        for (const std::size_t kilobytes : {200, 40})
            for (const int members : {1, 3}) {
                gpu::DeviceBackendOptions options;
                options.counts = std::make_shared<gpu::DeviceCounts>();
                bool shared = false;
                options.observer = [&](const gpu::BatchView& v, gpu::Device&, gpu::Stream&) { shared = v.denseShared; };
                RunControl control;
                control.threads = 1;
                const auto backend = gpu::makeDeviceBackend(
                    gpu::makeHostDevice({.members = members, .sharedBytes = kilobytes << 10}), options);
                const ExtractionResult got = extractFrame(*backend, t.pixels.view(), t.psf, plan, control);
                QCOMPARE(shared, kilobytes == 200);
                long full = 0;
                for (const PatchReport& report : got.reports)
                    full += (report.status & static_cast<std::uint32_t>(PatchStatus::Exact)) != 0 ? 1 : 0;
                QVERIFY(full > options.counts->onCpu);
                const std::vector<double> values(got.frame.resolution.data(),
                                                 got.frame.resolution.data() + got.frame.resolution.size());
                if (resolution.empty()) {
                    resolution = values;
                    onCpu = options.counts->onCpu;
                }
                QCOMPARE(options.counts->onCpu.load(), onCpu);
                QVERIFY(std::memcmp(resolution.data(), values.data(), values.size() * sizeof(double)) == 0);
            }
    }

    /// Where the device has less memory than it said, batches are halved; where it has nearly none, that is an error.
    void outOfMemoryIsSurvived() {
        const auto t = test::smallExposure();
        ExtractionOptions options = smallOptions(t.range);
        options.nwavestep = 10;
        const Plan plan = makePlan(t.psf, options);
        const auto backend = gpu::makeDeviceBackend(gpu::makeHostDevice());
        const ExtractionResult want = extractFrame(*backend, t.pixels.view(), t.psf, plan);
        // A device that refuses more than it has, although it says that much more is free.
        struct Boaster final : gpu::Device {
            explicit Boaster(std::size_t bytes) : device(gpu::makeHostDevice({.members = 1, .memory = bytes})) {}
            [[nodiscard]] std::string name() const override { return "boaster"; }
            [[nodiscard]] std::string description() const override { return "a device that boasts"; }
            [[nodiscard]] gpu::DeviceLimits limits() const override { return device->limits(); }
            [[nodiscard]] std::size_t freeMemory() const override { return std::size_t{1} << 40; }
            [[nodiscard]] std::unique_ptr<gpu::Memory> allocate(std::size_t bytes) override {
                return device->allocate(bytes);
            }
            [[nodiscard]] std::unique_ptr<gpu::Memory> allocatePinned(std::size_t bytes) override {
                return device->allocatePinned(bytes);
            }
            [[nodiscard]] std::unique_ptr<gpu::Stream> makeStream() override { return device->makeStream(); }
            std::unique_ptr<gpu::Device> device;
        };
        gpu::DeviceBackendOptions counted;
        counted.counts = std::make_shared<gpu::DeviceCounts>();
        const auto tight = gpu::makeDeviceBackend(std::make_unique<Boaster>(std::size_t{4} << 20), counted);
        std::ostringstream log;
        const auto sink = std::make_shared<spdlog::sinks::ostream_sink_mt>(log);
        spdlog::default_logger()->sinks().push_back(sink);
        const ExtractionResult got = extractFrame(*tight, t.pixels.view(), t.psf, plan);
        spdlog::default_logger()->sinks().pop_back();
        QVERIFY2(log.str().find("a device that boasts: out of memory (") != std::string::npos, log.str().c_str());
        QVERIFY2(log.str().find("going on with 1 stream and") != std::string::npos, log.str().c_str());
        QVERIFY(std::memcmp(want.frame.flux.data(), got.frame.flux.data(), want.frame.flux.size() * sizeof(double)) ==
                0);
        QVERIFY(counted.counts->batches > static_cast<long>(makeBatches(plan, plan.nsteps).size()));
        const auto tiny = gpu::makeDeviceBackend(std::make_unique<Boaster>(std::size_t{1} << 20));
        QVERIFY_EXCEPTION_THROWN((void)extractFrame(*tiny, t.pixels.view(), t.psf, plan), Error);
        // A patch that is only looked at takes nothing from the device.
        const PatchDetail detail = extractPatch(*tiny, t.pixels.view(), t.psf, plan, plan.patch(0, 2));
        QCOMPARE(detail.flux.size(),
                 extractPatch(*makeCpuBackend(), t.pixels.view(), t.psf, plan, plan.patch(0, 2)).flux.size());
    }

    /// A launch that fails ends the run with an error that names the kernel and the batch; nothing hangs, and the backend can be used again
    /// where the device can.
    void failedLaunchesNameKernelAndBatch_data() {
        QTest::addColumn<QString>("kernel");
        QTest::addColumn<int>("threads");
        QTest::newRow("elimination") << "gpu elimination" << 1;
        QTest::newRow("roots, other streams at work") << "gpu roots" << 3;
    }
    void failedLaunchesNameKernelAndBatch() {
        QFETCH(QString, kernel);
        QFETCH(int, threads);
        struct State {
            std::string kernel;
            std::atomic<int> launchesLeft{1};
        };
        /// Fails a kernel's launch, the first time but one.
        struct Failing final : gpu::Stream {
            Failing(std::unique_ptr<gpu::Stream> s, std::shared_ptr<State> st)
                : stream(std::move(s)), state(std::move(st)) {}
            void copyIn(std::byte* d, const std::byte* h, std::size_t n) override { stream->copyIn(d, h, n); }
            void copyOut(std::byte* h, const std::byte* d, std::size_t n) override { stream->copyOut(h, d, n); }
            void clear(std::byte* d, std::size_t n) override { stream->clear(d, n); }
            void launch(const gpu::TeamLaunch& l) override {
                check();
                stream->launch(l);
            }
            void launch(const gpu::GroupLaunch& l) override {
                check();
                stream->launch(l);
            }
            void range(const char* name) override {
                current = name == nullptr ? "" : name;
                stream->range(name);
            }
            void wait(Timeline* timeline, const RangeTags& tags) override { stream->wait(timeline, tags); }
            void check() {
                if (current == state->kernel && state->launchesLeft-- == 0)
                    throw Error(current + ": launching the kernel: injected");
            }
            std::string current;
            std::unique_ptr<gpu::Stream> stream;
            std::shared_ptr<State> state;
        };
        struct Device final : gpu::Device {
            explicit Device(std::shared_ptr<State> st) : device(gpu::makeHostDevice()), state(std::move(st)) {}
            [[nodiscard]] std::string name() const override { return "failing"; }
            [[nodiscard]] std::string description() const override { return "a device that fails"; }
            [[nodiscard]] gpu::DeviceLimits limits() const override { return device->limits(); }
            [[nodiscard]] std::size_t freeMemory() const override { return device->freeMemory(); }
            [[nodiscard]] std::unique_ptr<gpu::Memory> allocate(std::size_t n) override { return device->allocate(n); }
            [[nodiscard]] std::unique_ptr<gpu::Memory> allocatePinned(std::size_t n) override {
                return device->allocatePinned(n);
            }
            [[nodiscard]] std::unique_ptr<gpu::Stream> makeStream() override {
                return std::make_unique<Failing>(device->makeStream(), state);
            }
            std::unique_ptr<gpu::Device> device;
            std::shared_ptr<State> state;
        };
        const auto state = std::make_shared<State>();
        state->kernel = kernel.toStdString();
        const auto t = test::smallExposure();
        ExtractionOptions options = smallOptions(t.range);
        options.nwavestep = 10;
        const Plan plan = makePlan(t.psf, options);
        const auto backend = gpu::makeDeviceBackend(std::make_unique<Device>(state));
        RunControl control;
        control.threads = threads;
        control.batchSteps = 4;
        std::string said;
        try {
            (void)extractFrame(*backend, t.pixels.view(), t.psf, plan, control);
        } catch (const Error& error) {
            said = error.what();
        }
        const std::string wanted = kernel.toStdString() + ": launching the kernel: injected";
        QVERIFY2(said.starts_with("a device that fails: bundle "), said.c_str());
        QVERIFY2(said.find("8 patches from wavelength step ") != std::string::npos, said.c_str());
        QVERIFY2(said.ends_with(wanted), said.c_str());
        const ExtractionResult got = extractFrame(*backend, t.pixels.view(), t.psf, plan, control);
        const ExtractionResult want =
            extractFrame(*gpu::makeDeviceBackend(gpu::makeHostDevice()), t.pixels.view(), t.psf, plan, control);
        QVERIFY(std::memcmp(want.frame.flux.data(), got.frame.flux.data(), want.frame.flux.size() * sizeof(double)) ==
                0);
    }

    /// Every stage that a stream has has a floor, and the other way round; operations are those of the spots' overlaps, full blocks as many
    /// as were needed.
    void floorsAreCounted_data() {
        QTest::addColumn<QString>("arm");
        for (const char* arm : {"r", "z"}) QTest::newRow(arm) << arm;
    }
    void floorsAreCounted() {
        QFETCH(QString, arm);
        auto t = test::smallExposure(10, 5, 120, 200, 1, arm[0].toLatin1());
        ExtractionOptions options = smallOptions(t.range);
        options.psfTail = false;
        const Plan plan = makePlan(t.psf, options);
        gpu::DeviceBackendOptions settings;
        double bytesOfSpots = 0;
        double overlaps = 0; // pixels
        double pixels = 0;
        double solutions = 0; // operations
        double corrected = 0;
        long rooted = 0;
        settings.observer = [&](const gpu::BatchView& v, gpu::Device&,
                                gpu::Stream&) { // of the host: its arrays are ours
            bytesOfSpots += 8.0 * v.nspec * v.nbins * v.stampStride;
            pixels += 1.0 * v.nspec * v.nbins * v.stampX * v.stampY;
            for (int one = 0; one < v.nspec * v.nbins; ++one)
                for (int two = 0; two < v.nspec * v.nbins; ++two) {
                    const int s = one / v.nbins;
                    const int t2 = two / v.nbins;
                    if (t2 < s || t2 > s + 2 || (t2 == s && two < one)) continue;
                    // Neighbours are looked at within the reach of one row; that is all that overlap.
                    const int x = v.stampX - std::abs(v.cornerX[one] - v.cornerX[two]);
                    const int y = v.stampY - std::abs(v.cornerY[one] - v.cornerY[two]);
                    const int below = std::max(0, -std::max(v.cornerY[one], v.cornerY[two]));
                    const int above =
                        std::max(0, std::min(v.cornerY[one], v.cornerY[two]) + v.stampY - (v.stripY + v.stripNy));
                    if (x > 0 && y - below - above > 0) overlaps += 1.0 * x * (y - below - above);
                }
            for (int p = 0; p < v.patches; ++p) {
                const int n = v.tasks[p].nwave;
                if (v.states[p].slot >= 0)
                    for (int s = 0; s < v.tasks[p].nspec; ++s)
                        for (int k = 0; k < n; ++k)
                            solutions += 1.0 * (n - k) * (n - k); // updates of a Cholesky factor
                for (int s = 0; s < v.states[p].corrected; ++s) corrected += rootOperations(n, v.ndiag);
                rooted += v.states[p].rooted;
            }
        };
        const auto backend = gpu::makeDeviceBackend(gpu::makeHostDevice(), settings);
        Timeline timeline;
        RunControl control;
        control.threads = 1;
        control.timeline = &timeline;
        const ExtractionResult result = extractFrame(*backend, t.pixels.view(), t.psf, plan, control);
        FrameInput input;
        input.ccd.nx = t.pixels.nx;
        input.ccd.ny = t.pixels.ny;
        input.psf = t.psf.view();
        input.plan = &plan;
        const std::vector<StageFloor> floors = backend->floors(input);
        std::set<std::string> named;
        for (const StageFloor& floor : floors) {
            named.insert(floor.name);
            if (floor.name == "gpu full roots" && rooted == 0) continue;
            QVERIFY2(floor.seconds > 0 && floor.seconds < 10 && !floor.limit.empty(), floor.name.c_str());
            if (floor.name == "gpu spots") QVERIFY(std::abs(floor.bytes - bytesOfSpots) < 0.5);
            if (floor.name == "gpu normal equations")
                QVERIFY2(std::abs(floor.operations - 2 * overlaps - 6 * pixels) < 0.5,
                         qPrintable(QString("%1, %2").arg(floor.operations).arg(2 * overlaps + 6 * pixels)));
            if (floor.name == "gpu full blocks") QVERIFY(floor.operations > 0);
            if (floor.name == "gpu full roots") QCOMPARE(floor.operations > 0, rooted > 0);
            if (floor.name == "gpu full solutions") // to leading order
                QVERIFY2(solutions > 0 && std::abs(floor.operations / solutions - 1) < 0.05,
                         qPrintable(QString("%1, %2").arg(floor.operations).arg(solutions)));
            if (floor.name == "gpu corrected roots")
                QVERIFY2(corrected > 0 && std::abs(floor.operations / corrected - 1) < 1e-9,
                         qPrintable(QString("%1, %2").arg(floor.operations).arg(corrected)));
        }
        std::set<std::string> seen;
        for (const RangeRecord& record : timeline.records())
            if (record.stream) seen.insert(record.name);
        QCOMPARE(QString::fromStdString(fmt::format("{}", fmt::join(named, ", "))),
                 QString::fromStdString(fmt::format("{}", fmt::join(seen, ", "))));
        // Other options are not for the device, and have no floors.
        options.decorrelate = Decorrelate::Noise;
        const Plan other = makePlan(t.psf, options);
        input.plan = &other;
        QVERIFY(backend->floors(input).empty());
    }

    /// A stream's ranges lie on a lane of their own, inside the batch that caused them, with its tags.
    void streamsAreInTheTimeline_data() {
        QTest::addColumn<QString>("device");
        for (const char* device : {"host", "cuda"}) QTest::newRow(device) << device;
    }
    void streamsAreInTheTimeline() {
        QFETCH(QString, device);
        PATCHLIGHT_DEVICE_OR_SKIP(one, device);
        const auto t = test::smallExposure();
        const Plan plan = makePlan(t.psf, smallOptions(t.range));
        gpu::DeviceBackendOptions options;
        options.counts = std::make_shared<gpu::DeviceCounts>();
        const auto backend = gpu::makeDeviceBackend(std::move(one), options);
        Timeline timeline;
        RunControl control;
        control.threads = 1;
        control.timeline = &timeline;
        (void)extractFrame(*backend, t.pixels.view(), t.psf, plan, control);
        int onStream = 0;
        std::int64_t after = 0;
        for (const RangeRecord& record : timeline.records()) {
            if (!record.stream) continue;
            ++onStream;
            QVERIFY(record.tags.bundle >= 0 && record.tags.patches > 0);
            QVERIFY(record.duration >= 0);
            QVERIFY(record.start + 1000 >= after); // one after the other
            after = record.start + record.duration;
        }
        QCOMPARE(options.counts->batches.load(), 2L);
        QCOMPARE(onStream, 2 * (2 + 3 + 5 + 6 + 2)); // copies, sums, bands, full blocks, quality
        std::ostringstream trace;
        timeline.writeChromeTrace(trace, "test");
        QVERIFY(trace.str().find("GPU stream") != std::string::npos);
    }
};

QTEST_APPLESS_MAIN(TestDeviceBackend)
#include "TestDeviceBackend.moc"
