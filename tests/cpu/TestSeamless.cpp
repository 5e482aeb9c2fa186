#include "core/base/Error.h"
#include "core/cpu/CpuBackend.h"
#include "core/engine/Engine.h"
#include "core/engine/Seamless.h"
#include "tests/support/NaiveExtraction.h"
#include "tests/support/Sanitizers.h"
#include "tests/support/SmallExposure.h"

#include <QObject>
#include <QTest>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>
#include <string>

using namespace patchlight;

namespace {

/// Largest differences of two extractions.
struct Differences {
    double flux = 0;       ///< sigma
    double xflux = 0;      ///< sigma
    double ivar = 0;       ///< relative
    double resolution = 0; ///< absolute
    double chi2pix = 0;    ///< relative
    double modelFlux = 0;  ///< of the largest
    int masks = 0;
    int lit = 0; ///< bins with ivar > 0 in one but not in the other
};

Differences differences(const ExtractionResult& first, const ExtractionResult& second) {
    const ExtractedFrame& a = first.frame;
    const ExtractedFrame& b = second.frame;
    Differences d;
    const double largest = *std::max_element(a.ivar.values().begin(), a.ivar.values().end());
    for (std::size_t s = 0; s < a.nspec(); ++s)
        for (std::size_t j = 0; j < a.nwave(); ++j) {
            d.masks += a.mask(s, j) != b.mask(s, j) ? 1 : 0;
            d.lit += (a.ivar(s, j) > 0) != (b.ivar(s, j) > 0) ? 1 : 0;
            if (!(a.ivar(s, j) > 0)) continue;
            const double sigma = 1 / std::sqrt(a.ivar(s, j));
            d.flux = std::max(d.flux, std::abs(a.flux(s, j) - b.flux(s, j)) / sigma);
            // ivar of bins next to nothing is known to next to nothing's relative accuracy.
            d.ivar = std::max(d.ivar, std::abs(b.ivar(s, j) - a.ivar(s, j)) / std::max(a.ivar(s, j), 1e-6 * largest));
            if (a.ivar(s, j) > 1e-6 * largest)
                d.xflux = std::max(d.xflux, std::abs(a.xflux(s, j) - b.xflux(s, j)) / sigma);
            d.chi2pix =
                std::max(d.chi2pix, std::abs(b.chi2pix(s, j) - a.chi2pix(s, j)) / std::max(1.0, a.chi2pix(s, j)));
            for (std::size_t k = 0; k < a.resolution.rows(); ++k) {
                // Rows of R are divided by the root of their ivar: the same goes for those next to nothing.
                const std::size_t row = std::min(j + k < a.ndiag() ? 0 : j + k - a.ndiag(), a.nwave() - 1);
                const double known = std::min(1.0, std::sqrt(a.ivar(s, row) / (1e-6 * largest)));
                d.resolution = std::max(d.resolution, known * std::abs(a.resolution(s, k, j) - b.resolution(s, k, j)));
            }
        }
    double scale = 0;
    for (std::size_t i = 0; i < first.modelFlux.size(); ++i) {
        d.modelFlux = std::max(d.modelFlux, std::abs(first.modelFlux.data()[i] - second.modelFlux.data()[i]));
        scale = std::max(scale, std::abs(first.modelFlux.data()[i]));
    }
    if (scale > 0) d.modelFlux /= scale;
    return d;
}

ExtractionOptions seamlessOptions(const WavelengthRange& range) {
    ExtractionOptions options;
    options.method = Method::Seamless;
    options.wavelength = range;
    options.bundlesize = 5;
    options.nsubbundles = 2;
    options.nwavestep = 25;
    return options;
}

int count(const std::vector<PatchReport>& reports, PatchStatus bit) {
    return static_cast<int>(std::count_if(reports.begin(), reports.end(), [&](const PatchReport& report) {
        return (report.status & static_cast<std::uint32_t>(bit)) != 0;
    }));
}

QByteArray number(double value) { return QByteArray::number(value); }

} // namespace

class TestSeamless : public QObject {
    Q_OBJECT

private slots:
    /// A whole bundle of 5 spectra, in segments that meet in the middle, against dense algebra written down plainly.
    void agreesWithADenseSolution() {
        auto t = test::smallExposure(5, 5, 80, test::sanitized ? 180 : 260);
        test::maskPixels(t.pixels, 30, 33, 120, 123);
        const Plan plan = makePlan(t.psf, seamlessOptions(t.range));
        QVERIFY(plan.grid.nwave >= (test::sanitized ? 100 : 150));
        const Patch bundle = seamless::bundlePatch(plan, 0);
        const auto want = test::naivePatch(t.pixels.view(), t.psf.view(), plan, bundle, 0.0);
        const int nwave = bundle.bins.count();
        // The exact path, the fast one with its usual bounds, and with bounds that allow nothing.
        struct Way {
            const char* name;
            CpuOptions options;
            double flux;
            double other;
        };
        for (const Way& way : {Way{"exact", {.exact = true, .bounds = {}}, 1e-9, 1e-11},
                               Way{"usual bounds", {.exact = false, .bounds = {}}, 1e-6, 2e-9},
                               Way{"tight bounds", {.exact = false, .bounds = {1e-9, 1e-10, 1e-10}}, 1e-9, 1e-10}}) {
            const auto backend = makeCpuBackend(way.options);
            const ExtractionResult got = extractFrame(*backend, t.pixels.view(), t.psf, plan);
            const ExtractedFrame& frame = got.frame;
            double flux = 0;
            double xflux = 0;
            double ivar = 0;
            double resolution = 0;
            double chi2pix = 0;
            double rest = 0;
            const double step = plan.grid.step();
            for (std::size_t s = 0; s < frame.nspec(); ++s)
                for (std::size_t j = 0; j < frame.nwave(); ++j) {
                    const int i = static_cast<int>(s) * nwave + plan.grid.pad + static_cast<int>(j);
                    const double sigma = 1 / std::sqrt(want.ivar[i]);
                    flux = std::max(flux, std::abs(frame.flux(s, j) * step - want.flux[i]) / sigma);
                    xflux = std::max(xflux, std::abs(frame.xflux(s, j) - want.xflux[i]) / sigma);
                    ivar = std::max(ivar, std::abs(frame.ivar(s, j) / (step * step) / want.ivar[i] - 1));
                    chi2pix = std::max(chi2pix, std::abs(frame.chi2pix(s, j) - want.chi2pix[i]));
                    rest = std::max({rest, std::abs(frame.fluxweight(s, j) / want.fluxweight[i] - 1),
                                     std::abs(frame.pixmaskFraction(s, j) - want.pixmaskFraction[i])});
                    for (int k = 0; k <= 2 * plan.ndiag; ++k)
                        resolution = std::max(resolution, std::abs(frame.resolution(s, static_cast<std::size_t>(k), j) -
                                                                   want.r(i - plan.ndiag + k, i)));
                }
            qInfo("%s: flux %.1e, xflux %.1e sigma, ivar %.1e, resolution %.1e", way.name, flux, xflux, ivar,
                  resolution);
            QVERIFY2(flux <= way.flux, number(flux));
            QVERIFY2(xflux <= 1e-9, number(xflux));
            QVERIFY2(ivar <= way.other, number(ivar));
            QVERIFY2(resolution <= way.other, number(resolution));
            QVERIFY2(chi2pix <= 1e-8, number(chi2pix));
            QVERIFY2(rest <= 1e-10, number(rest));
        }
    }

    /// Whatever is masked: what the seamless method gives is what the bundle solved exactly gives, within its stated bounds.
    void agreesWithTheExactPath_data() {
        QTest::addColumn<QString>("masks");
        for (const char* masks : {"none", "3", "5", "7", "11", "column", "columns", "amplifier", "fiber", "gap", "edge",
                                  "everything", "left half"})
            if (test::watchingThreads ? masks == std::string("5")
                                      : test::worthwhile(masks, {"none", "7", "fiber", "gap", "everything"}))
                QTest::newRow(masks) << masks;
    }
    void agreesWithTheExactPath() {
        QFETCH(QString, masks);
        auto t = test::smallExposure(10, 5, 120, 300);
        const double middle = 0.5 * (t.range.wmin + t.range.wmax);
        const int x = static_cast<int>(std::lround(t.psf.x(2, middle)));
        const int y = static_cast<int>(std::lround(t.psf.y(2, middle)));
        const int side = masks.toInt();
        if (side > 0) test::maskPixels(t.pixels, x - side / 2, x - side / 2 + side, y - side / 2, y - side / 2 + side);
        if (masks == "column") test::maskPixels(t.pixels, x, x + 1, 0, 300);
        if (masks == "columns") test::maskPixels(t.pixels, x - 2, x + 5, 0, 300);
        if (masks == "amplifier") test::maskPixels(t.pixels, 0, 60, 150, 300);
        if (masks == "fiber") test::maskPixels(t.pixels, x - 3, x + 4, 0, 300);
        if (masks == "gap") test::maskPixels(t.pixels, 0, 120, 140, 165);
        if (masks == "everything") test::maskPixels(t.pixels, 0, 120, 0, 300);
        if (masks == "left half") test::maskPixels(t.pixels, 0, 55, 0, 300);
        if (masks == "edge") {
            t.pixels.ny = 220;
            t.pixels.pixels.resize(120 * 220);
            t.pixels.weights.resize(120 * 220);
        }
        const Plan plan = makePlan(t.psf, seamlessOptions(t.range));
        const ExtractionResult want =
            extractFrame(*makeCpuBackend({.exact = true, .bounds = {}}), t.pixels.view(), t.psf, plan);
        const ExtractionResult got = extractFrame(*makeCpuBackend(), t.pixels.view(), t.psf, plan);
        const ErrorBounds bounds;
        const Differences d = differences(want, got);
        qInfo("flux %.1e xflux %.1e ivar %.1e resolution %.1e chi2pix %.1e; %d wide %d exact of %d", d.flux, d.xflux,
              d.ivar, d.resolution, d.chi2pix, count(got.reports, PatchStatus::WideBand),
              count(got.reports, PatchStatus::Exact), plan.patchCount());
        QCOMPARE(d.masks, 0);
        QCOMPARE(d.lit, 0);
        QVERIFY2(d.flux <= bounds.flux, number(d.flux));
        QVERIFY2(d.ivar <= bounds.ivar, number(d.ivar));
        QVERIFY2(d.resolution <= bounds.resolution, number(d.resolution));
        QVERIFY2(d.chi2pix <= 1e-6, number(d.chi2pix));
        QVERIFY2(d.modelFlux <= 1e-6, number(d.modelFlux));
        QVERIFY(count(got.reports, PatchStatus::Exact) < plan.patchCount());
    }

    void anyOptionsAgreeWithTheExactPath_data() {
        QTest::addColumn<QString>("change");
        // With a sanitizer each takes half a minute: one of each way through the code.
        const std::set<std::string> enough =
            test::watchingThreads
                ? std::set<std::string>{"one fiber"}
                : std::set<std::string>{"nsubbundles 5", "no padding", "tail", "one fiber", "stamp 9 x 9"};
        for (const char* change :
             {"nsubbundles 1", "nsubbundles 5", "nwavestep 7", "nwavestep 1000", "no padding",
              "wide padding",  "regularize",    "psferr",      "tail",           "pixpad 0.3",
              "pixpad 1",      "reconvolved",   "barycentric", "one wavelength", "one fiber",
              "stamp 3 x 3",   "stamp 9 x 9",   "coarse grid", "fine grid",      "one bundle of ten"}) {
            if (!test::sanitized || enough.contains(change)) QTest::newRow(change) << change;
        }
    }
    void anyOptionsAgreeWithTheExactPath() {
        QFETCH(QString, change);
        // A whole bundle in one step: dense algebra takes the cube of its length.
        auto t = change == "nwavestep 1000" ? test::smallExposure(5, 5, 80, 120) : test::smallExposure();
        ExtractionOptions options = seamlessOptions(t.range);
        double factor = 1;
        if (change.startsWith("nsubbundles")) options.nsubbundles = change.section(' ', 1).toInt();
        if (change.startsWith("nwavestep")) options.nwavestep = change.section(' ', 1).toInt();
        if (change == "no padding") options.wavepad = 0;
        if (change == "wide padding") options.wavepad = 50;
        if (change == "regularize") options.regularize = 0.05;
        if (change == "psferr") options.psferr = 0.2;
        if (change.startsWith("pixpad")) options.pixpadFrac = change.section(' ', 1).toDouble();
        if (change == "reconvolved") options.modelFlux = ModelFlux::Reconvolved;
        if (change == "barycentric") factor = 1.0001;
        if (change == "one wavelength") options.wavelength = WavelengthRange{6690, 6690, 0.8};
        if (change == "coarse grid") options.wavelength->dw = 1.3;
        if (change == "fine grid") options.wavelength->dw = 0.7;
        if (change == "one bundle of ten") options.bundlesize = 10;
        if (change == "one fiber") {
            options.specmin = 3;
            options.nspec = 1;
        }
        if (change == "tail") {
            for (double& amplitude : t.psf.series.at("TAILAMP").coeff) amplitude += 0.01;
            t.psf.pack();
        }
        if (change == "stamp 3 x 3") t.psf.hsizeX = t.psf.hsizeY = 3;
        if (change == "tail" || change == "stamp 9 x 9") options.nwavestep = 60; // dense algebra: fewer patches
        if (change == "stamp 9 x 9") {
            t.psf.hsizeX = 9;
            t.psf.hsizeY = 9; // more than twelve bins on a row: patches with context, exactly
        }
        t.psf.pack();
        const Plan plan = makePlan(t.psf, options, factor);
        const ExtractionResult want =
            extractFrame(*makeCpuBackend({.exact = true, .bounds = {}}), t.pixels.view(), t.psf, plan);
        const ExtractionResult got = extractFrame(*makeCpuBackend(), t.pixels.view(), t.psf, plan);
        const Differences d = differences(want, got);
        qInfo("flux %.1e xflux %.1e ivar %.1e resolution %.1e model %.1e", d.flux, d.xflux, d.ivar, d.resolution,
              d.modelFlux);
        QCOMPARE(count(got.reports, PatchStatus::Layout), change == "stamp 9 x 9" ? plan.patchCount() : 0);
        if (change == "tail") QVERIFY(count(got.reports, PatchStatus::Exact) > plan.patchCount() / 2);
        QVERIFY2(d.flux <= 1e-6, number(d.flux));
        QVERIFY2(d.ivar <= 1e-8, number(d.ivar));
        QVERIFY2(d.resolution <= 1e-8, number(d.resolution));
        QVERIFY2(d.modelFlux <= 1e-6, number(d.modelFlux));
        QCOMPARE(d.masks, 0);
    }

    /// A fiber's result depends neither on threads, nor on batches, nor on which other fibers were asked for.
    void resultsDependOnNothingElse() {
        auto t = test::smallExposure();
        test::maskPixels(t.pixels, 40, 47, 100, 107);
        const ExtractionOptions options = seamlessOptions(t.range);
        const auto backend = makeCpuBackend();
        const ExtractionResult all = extractFrame(*backend, t.pixels.view(), t.psf, makePlan(t.psf, options));
        QVERIFY(count(all.reports, PatchStatus::WideBand) + count(all.reports, PatchStatus::Exact) > 0);
        for (const int threads : {1, 2, 3})
            for (const int steps : {0, 1, 3}) {
                RunControl control;
                control.threads = threads;
                control.batchSteps = steps;
                const ExtractionResult one =
                    extractFrame(*backend, t.pixels.view(), t.psf, makePlan(t.psf, options), control);
                QVERIFY(one.frame.flux.values() == all.frame.flux.values());
                QVERIFY(one.frame.ivar.values() == all.frame.ivar.values());
                QVERIFY(one.frame.resolution.values() == all.frame.resolution.values());
                QVERIFY(one.frame.chi2pix.values() == all.frame.chi2pix.values());
                QVERIFY(one.modelFlux.values() == all.modelFlux.values());
            }
        ExtractionOptions some = options;
        some.specmin = 3;
        some.nspec = 4;
        const ExtractionResult part = extractFrame(*backend, t.pixels.view(), t.psf, makePlan(t.psf, some));
        for (std::size_t s = 0; s < 4; ++s)
            for (std::size_t j = 0; j < part.frame.nwave(); ++j) {
                QCOMPARE(part.frame.flux(s, j), all.frame.flux(s + 3, j));
                QCOMPARE(part.frame.ivar(s, j), all.frame.ivar(s + 3, j));
                QCOMPARE(part.frame.chi2pix(s, j), all.frame.chi2pix(s + 3, j));
            }
    }

    /// Away from patches' edges the two methods agree; at the edges patches show their seams.
    void patchesAgreeAwayFromTheirEdges() {
        const auto t = test::smallExposure(5, 5, 80, 380);
        ExtractionOptions options = seamlessOptions(t.range);
        options.nwavestep = 50;
        const Plan plan = makePlan(t.psf, options);
        const ExtractionResult seamless = extractFrame(*makeCpuBackend(), t.pixels.view(), t.psf, plan);
        options.method = Method::Patches;
        const ExtractionResult patches =
            extractFrame(*makeCpuBackend(), t.pixels.view(), t.psf, makePlan(t.psf, options));
        double middle = 0;
        double edge = 0;
        // The first and the last patch end where the bundle ends: no seam there.
        for (std::size_t s = 0; s < 5; ++s)
            for (std::size_t j = 50; j + 100 < seamless.frame.nwave(); ++j) {
                const double d = std::abs(seamless.frame.flux(s, j) - patches.frame.flux(s, j)) *
                                 std::sqrt(seamless.frame.ivar(s, j));
                const std::size_t at = j % 50;
                if (at >= 20 && at < 30) middle = std::max(middle, d);
                if (at == 0 || at == 49) edge = std::max(edge, d);
            }
        qInfo("patches - seamless: middle %.1e, edge %.1e sigma", middle, edge);
        QVERIFY2(middle <= 1e-3, number(middle));
        QVERIFY2(edge >= 20 * middle, number(edge));
    }

    /// What `patchlight patch` shows is a piece of what the frame has.
    void aPatchIsAView() {
        const auto t = test::smallExposure(10, 10, 120, 300);
        ExtractionOptions options = seamlessOptions(t.range);
        options.bundlesize = 10;
        options.nsubbundles = 4;
        const Plan plan = makePlan(t.psf, options);
        const auto backend = makeCpuBackend();
        const ExtractionResult frame = extractFrame(*backend, t.pixels.view(), t.psf, plan);
        const Patch asked = plan.patch(1, 3);
        const PatchDetail detail = extractPatch(*backend, t.pixels.view(), t.psf, plan, asked);
        QCOMPARE(detail.patch.core, asked.core);
        QCOMPARE(detail.patch.coreBins, asked.coreBins);
        const double step = plan.grid.step();
        double flux = 0;
        double ivar = 0;
        for (int s = asked.core.first; s < asked.core.last; ++s)
            for (int bin = asked.keepBins.first; bin < asked.keepBins.last; ++bin) {
                const auto row = static_cast<std::size_t>(s);
                const auto column = static_cast<std::size_t>(bin - plan.grid.pad);
                const auto i = static_cast<std::size_t>(s - detail.patch.spectra.first);
                const auto j = static_cast<std::size_t>(bin - detail.patch.bins.first);
                const double weight = frame.frame.ivar(row, column) / (step * step);
                flux = std::max(flux,
                                std::abs(detail.flux(i, j) - frame.frame.flux(row, column) * step) * std::sqrt(weight));
                ivar = std::max(ivar, std::abs(detail.ivar(i, j) / weight - 1));
            }
        qInfo("flux %.1e sigma, ivar %.1e", flux, ivar);
        QVERIFY2(flux <= 1e-3, number(flux));
        QVERIFY2(ivar <= 1e-7, number(ivar));
    }

    /// Two fibers on one trace cannot be told apart: that must stay theirs, be said, and leave finite numbers.
    void aSingularPlaceSpoilsNothingElse() {
        auto t = test::smallExposure(15, 15, 160, 200);
        ExtractionOptions options = seamlessOptions(t.range);
        options.bundlesize = 15;
        options.nsubbundles = 5;
        const Plan plan = makePlan(t.psf, options);
        const auto backend = makeCpuBackend();
        const ExtractionResult before = extractFrame(*backend, t.pixels.view(), t.psf, plan);
        for (auto& [name, series] : t.psf.series) {
            const auto terms = static_cast<std::size_t>(series.ncoeff);
            if (series.coeff.size() < 12 * terms) continue;
            std::copy_n(series.coeff.begin() + static_cast<std::ptrdiff_t>(10 * terms), terms,
                        series.coeff.begin() + static_cast<std::ptrdiff_t>(11 * terms));
        }
        t.psf.pack();
        const ExtractionResult after = extractFrame(*backend, t.pixels.view(), t.psf, plan);
        for (const Array2<double>* values : {&after.frame.flux, &after.frame.ivar, &after.frame.chi2pix})
            for (const double value : values->values()) QVERIFY(std::isfinite(value));
        for (const double value : after.frame.resolution.values()) QVERIFY(std::isfinite(value));
        QVERIFY(count(after.reports, PatchStatus::Regularized) + count(after.reports, PatchStatus::Exact) +
                    count(after.reports, PatchStatus::Failed) >
                0);
        double elsewhere = 0;
        // (Light that was the moved fiber's is missed by its neighbours, and less by theirs.)
        for (std::size_t s = 0; s < 3; ++s)
            for (std::size_t j = 0; j < after.frame.nwave(); ++j)
                elsewhere = std::max(elsewhere, std::abs(after.frame.flux(s, j) - before.frame.flux(s, j)) *
                                                    std::sqrt(before.frame.ivar(s, j)));
        qInfo("elsewhere %.1e sigma; %d regularized, %d exact, %d failed", elsewhere,
              count(after.reports, PatchStatus::Regularized), count(after.reports, PatchStatus::Exact),
              count(after.reports, PatchStatus::Failed));
        QVERIFY2(elsewhere <= 1e-5, number(elsewhere));
    }

    void minimumWeightsAreThoseOfTheNeighbourhood() {
        const auto t = test::smallExposure();
        const Plan plan = makePlan(t.psf, seamlessOptions(t.range));
        const Patch bundle = seamless::bundlePatch(plan, 0);
        const auto n = static_cast<std::size_t>(bundle.spectra.count() * bundle.bins.count());
        std::vector<double> weights(n);
        for (std::size_t i = 0; i < n; ++i) weights[i] = static_cast<double>((i * 7919) % 1009);
        std::vector<double> got;
        seamless::localMinimumWeights(plan, bundle, weights, got);
        const Eigen::VectorXd want = test::naiveMinimumWeights(
            plan, bundle, Eigen::Map<const Eigen::VectorXd>(weights.data(), static_cast<Eigen::Index>(n)));
        for (std::size_t i = 0; i < n; ++i) QCOMPARE(got[i], want[static_cast<Eigen::Index>(i)]);
    }

    void noiseIsRefused() {
        ExtractionOptions options;
        options.method = Method::Seamless;
        options.decorrelate = Decorrelate::Noise;
        QVERIFY_THROWS_EXCEPTION(UsageError, validate(options));
    }
};

QTEST_APPLESS_MAIN(TestSeamless)
#include "TestSeamless.moc"
