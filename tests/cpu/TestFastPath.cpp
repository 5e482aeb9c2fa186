#include "core/cpu/CpuBackend.h"
#include "core/cpu/InverseSquareRoot.h"
#include "core/engine/Engine.h"
#include "tests/support/Sanitizers.h"
#include "tests/support/SmallExposure.h"

#include <QObject>
#include <QTest>

#include <algorithm>
#include <cmath>
#include <cstring>

using namespace patchlight;

namespace {

/// Largest differences of two extractions of the same patches.
struct Differences {
    double flux = 0;       ///< sigma
    double ivar = 0;       ///< relative
    double resolution = 0; ///< absolute
    double chi2pix = 0;    ///< relative
    int masks = 0;
    int lit = 0; ///< bins with ivar > 0 in one but not in the other
};

Differences differences(const ExtractedFrame& a, const ExtractedFrame& b) {
    Differences d;
    for (std::size_t s = 0; s < a.nspec(); ++s)
        for (std::size_t j = 0; j < a.nwave(); ++j) {
            d.masks += a.mask(s, j) != b.mask(s, j) ? 1 : 0;
            d.lit += (a.ivar(s, j) > 0) != (b.ivar(s, j) > 0) ? 1 : 0;
            if (!(a.ivar(s, j) > 0)) continue;
            d.flux = std::max(d.flux, std::abs(a.flux(s, j) - b.flux(s, j)) * std::sqrt(a.ivar(s, j)));
            d.ivar = std::max(d.ivar, std::abs(b.ivar(s, j) / a.ivar(s, j) - 1));
            d.chi2pix =
                std::max(d.chi2pix, std::abs(b.chi2pix(s, j) - a.chi2pix(s, j)) / std::max(1.0, a.chi2pix(s, j)));
            for (std::size_t k = 0; k < a.resolution.rows(); ++k)
                d.resolution = std::max(d.resolution, std::abs(a.resolution(s, k, j) - b.resolution(s, k, j)));
        }
    return d;
}

ExtractionOptions wideOptions(const WavelengthRange& range) {
    ExtractionOptions options;
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

} // namespace

class TestFastPath : public QObject {
    Q_OBJECT

private slots:
    void rationalRootsKeepTheirError() {
        std::vector<InverseSquareRoot> rungs = inverseSquareRootLadder();
        for (const InverseSquareRoot& f : rungs)
            QVERIFY2(f.error <= inverseSquareRootError(f.kappa), qPrintable(QString::number(f.kappa)));
        for (const InverseSquareRoot& f : inverseSquareRootFineLadder()) {
            QVERIFY2(f.error <= 1e-13, qPrintable(QString::number(f.kappa)));
            rungs.push_back(f);
        }
        for (const InverseSquareRoot& f : rungs) {
            // On points other than those that the error was measured on, ends included.
            double worst = 0;
            for (int i = 0; i <= 7777; ++i) {
                const double x = std::exp(std::log(f.kappa) * i / 7777);
                double sum = 0;
                for (std::size_t k = 0; k < f.pole.size(); ++k) {
                    QVERIFY(f.pole[k] > 0 && f.weight[k] > 0);
                    sum += f.weight[k] / (x + f.pole[k]);
                }
                worst = std::max(worst, std::abs(std::sqrt(x) * sum - 1));
            }
            QVERIFY(worst <= 1.05 * f.error);
        }
        // Eight poles, 1000: 3.3e-7 to 4e-7 by Zolotarev's error formula.
        const double eight = InverseSquareRoot::make(1000, 8).error;
        QVERIFY(eight > 2e-7 && eight < 5e-7);
    }

    /// What the fast path gives is what the exact path gives, within its stated bounds, whatever is masked; and where it cannot promise
    /// that, it says so and climbs.
    void agreesWithTheExactPath_data() {
        QTest::addColumn<QString>("masks");
        QTest::addColumn<bool>("climbs");
        QTest::addColumn<double>("dw");
        for (const double dw : {0.8, 0.7}) { // up to 8 bins on a row, and 10
            const auto row = [&](const char* name, const char* masks, bool climbs) {
                if (test::watchingThreads && masks != std::string("7")) return;
                if (dw == 0.7 ? test::worthwhile(masks, {"none", "7", "fiber"})
                              : test::worthwhile(masks, {"3", "11", "columns", "amplifier", "edge"}))
                    QTest::newRow(qPrintable(QString("%1, %2 Angstrom").arg(name).arg(dw))) << masks << climbs << dw;
            };
            row("none", "none", false);
            row("3 x 3", "3", false);
            row("7 x 7", "7", true);
            row("11 x 11", "11", true);
            row("dead column", "column", false);
            row("seven dead columns", "columns", true);
            row("dead amplifier", "amplifier", false);
            row("dead fiber", "fiber", false);
            row("cut CCD", "edge", false);
        }
    }
    void agreesWithTheExactPath() {
        QFETCH(QString, masks);
        QFETCH(bool, climbs);
        QFETCH(double, dw);
        auto t = test::smallExposure(10, 5, 120, 200);
        t.range.dw = dw;
        const int x = static_cast<int>(std::lround(t.psf.x(2, 6690)));
        const int y = static_cast<int>(std::lround(t.psf.y(2, 6690)));
        const int side = masks.toInt();
        if (side > 0) test::maskPixels(t.pixels, x - side / 2, x - side / 2 + side, y - side / 2, y - side / 2 + side);
        if (masks == "column") test::maskPixels(t.pixels, x, x + 1, 0, 200);
        if (masks == "columns") test::maskPixels(t.pixels, x - 2, x + 5, 0, 200);
        if (masks == "amplifier") test::maskPixels(t.pixels, 0, 60, 100, 200);
        if (masks == "fiber") test::maskPixels(t.pixels, x - 3, x + 4, 0, 200);
        if (masks == "edge") {
            t.pixels.ny = 150;
            t.pixels.pixels.resize(120 * 150);
            t.pixels.weights.resize(120 * 150);
        }
        const Plan plan = makePlan(t.psf, wideOptions(t.range));
        const auto exact = makeCpuBackend({.exact = true, .bounds = {}});
        const auto fast = makeCpuBackend();
        const ExtractionResult want = extractFrame(*exact, t.pixels.view(), t.psf, plan);
        const ExtractionResult got = extractFrame(*fast, t.pixels.view(), t.psf, plan);
        const ErrorBounds bounds;
        const Differences d = differences(want.frame, got.frame);
        QVERIFY2(d.flux <= bounds.flux, qPrintable(QString::number(d.flux)));
        QVERIFY2(d.resolution <= bounds.resolution, qPrintable(QString::number(d.resolution)));
        QVERIFY2(d.chi2pix <= 1e-6, qPrintable(QString::number(d.chi2pix)));
        QCOMPARE(d.masks, 0);
        QCOMPARE(d.lit, 0);
        // ivar of bins next to nothing is known to next to nothing's relative accuracy.
        double worst = 0;
        const double largest = *std::max_element(want.frame.ivar.values().begin(), want.frame.ivar.values().end());
        for (std::size_t i = 0; i < want.frame.ivar.size(); ++i)
            worst = std::max(worst, std::abs(want.frame.ivar.data()[i] - got.frame.ivar.data()[i]) /
                                        std::max(want.frame.ivar.data()[i], 1e-6 * largest));
        QVERIFY2(worst <= bounds.ivar, qPrintable(QString::number(worst)));
        // Not everything may take a last rung: then bands were not tested. On the finer grid conditions are worse, and it takes looser bounds.
        if (dw == 0.8) {
            QVERIFY(count(got.reports, PatchStatus::Exact) < static_cast<int>(got.reports.size()));
        } else {
            const auto bands = makeCpuBackend({.exact = false, .bounds = {1e-2, 1e-5, 1e-5}});
            const ExtractionResult rough = extractFrame(*bands, t.pixels.view(), t.psf, plan);
            QVERIFY(count(rough.reports, PatchStatus::Exact) < static_cast<int>(rough.reports.size()));
            const Differences e = differences(want.frame, rough.frame);
            QVERIFY2(e.flux <= 1e-3, qPrintable(QString::number(e.flux)));
            QVERIFY2(e.resolution <= 1e-6, qPrintable(QString::number(e.resolution)));
            QCOMPARE(e.masks, 0);
        }
        if (climbs) QVERIFY(count(got.reports, PatchStatus::Exact) > 0);
        for (const PatchReport& report : got.reports) {
            const bool exactPath = (report.status & static_cast<std::uint32_t>(PatchStatus::Exact)) != 0;
            const std::uint32_t why = static_cast<std::uint32_t>(PatchStatus::IllConditioned) |
                                      static_cast<std::uint32_t>(PatchStatus::Leaking) |
                                      static_cast<std::uint32_t>(PatchStatus::Bright);
            if (exactPath) QVERIFY((report.status & why) != 0);
        }
    }

    /// Every rung is really used, and gives the same: bounds that nothing satisfies send all to the exact path, bounds that everything
    /// satisfies keep all on the narrow band.
    void theLadderHasRungs() {
        const auto t = test::smallExposure();
        const Plan plan = makePlan(t.psf, wideOptions(t.range));
        const auto all = static_cast<int>(plan.patchCount());
        const ExtractionResult loose =
            extractFrame(*makeCpuBackend({.exact = false, .bounds = {1e9, 1e9, 1e9}}), t.pixels.view(), t.psf, plan);
        // ... but those whose condition number is beyond the ladder: no error can be promised there.
        QCOMPARE(count(loose.reports, PatchStatus::WideBand) + count(loose.reports, PatchStatus::Exact),
                 count(loose.reports, PatchStatus::IllConditioned));
        QVERIFY(count(loose.reports, PatchStatus::IllConditioned) < all / 2);
        const ExtractionResult none = extractFrame(*makeCpuBackend({.exact = false, .bounds = {1e-30, 1e-30, 1e-30}}),
                                                   t.pixels.view(), t.psf, plan);
        QCOMPARE(count(none.reports, PatchStatus::Exact), all);
        const ExtractionResult exact =
            extractFrame(*makeCpuBackend({.exact = true, .bounds = {}}), t.pixels.view(), t.psf, plan);
        QVERIFY(differences(exact.frame, none.frame).flux < 1e-9);
        QVERIFY(differences(exact.frame, loose.frame).flux < 1e-5);
        QVERIFY(differences(exact.frame, loose.frame).flux > 0);
    }

    /// Bounds that the rational roots cannot promise, but full blocks can: the last rung, and not the exact path.
    void fullBlocksAreExact() {
        const auto t = test::smallExposure();
        const Plan plan = makePlan(t.psf, wideOptions(t.range));
        const ExtractionResult full = extractFrame(*makeCpuBackend({.exact = false, .bounds = {1e-6, 1e-13, 1e-13}}),
                                                   t.pixels.view(), t.psf, plan);
        const ExtractionResult exact =
            extractFrame(*makeCpuBackend({.exact = true, .bounds = {}}), t.pixels.view(), t.psf, plan);
        QCOMPARE(count(full.reports, PatchStatus::Exact), static_cast<int>(plan.patchCount()));
        const auto d = differences(exact.frame, full.frame);
        QVERIFY2(d.flux > 0 && d.flux < 1e-9, qPrintable(QString::number(d.flux)));
        QVERIFY2(d.ivar < 1e-10, qPrintable(QString::number(d.ivar)));
        QVERIFY2(d.resolution < 1e-10, qPrintable(QString::number(d.resolution)));
    }

    void anyOptionsAgreeWithTheExactPath_data() {
        QTest::addColumn<QString>("change");
        for (const char* change :
             {"nsubbundles 1", "nsubbundles 5", "nwavestep 7", "no padding", "regularize", "psferr", "tail",
              "pixpad 0.3", "pixpad 1", "reconvolved", "barycentric", "one wavelength", "one fiber", "stamp 3 x 3",
              "stamp 9 x 7", "coarse grid", "fine grid", "very fine grid"})
            if (test::watchingThreads ? change == std::string("nsubbundles 5")
                                      : test::worthwhile(change, {"nsubbundles 5", "nwavestep 7", "no padding", "tail",
                                                                  "reconvolved", "one wavelength", "one fiber",
                                                                  "stamp 3 x 3", "stamp 9 x 7", "very fine grid"}))
                QTest::newRow(change) << change;
    }
    void anyOptionsAgreeWithTheExactPath() {
        QFETCH(QString, change);
        auto t = test::smallExposure();
        ExtractionOptions options = wideOptions(t.range);
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
        if (change == "fine grid") options.wavelength->dw = 0.7;
        if (change == "very fine grid") options.wavelength->dw = 0.45; // more than twelve bins on a row: the exact path
        if (change == "one fiber") {
            options.specmin = 3;
            options.nspec = 1;
        }
        if (change == "tail") {
            for (double& amplitude : t.psf.series.at("TAILAMP").coeff) amplitude += 0.01;
            t.psf.pack();
        }
        if (change == "stamp 3 x 3") t.psf.hsizeX = t.psf.hsizeY = 3;
        if (change == "stamp 9 x 7") {
            t.psf.hsizeX = 9;
            t.psf.hsizeY = 7; // eleven bins on a row
            t.psf.pack();
        }
        const Plan plan = makePlan(t.psf, options, factor);
        const ExtractionResult want =
            extractFrame(*makeCpuBackend({.exact = true, .bounds = {}}), t.pixels.view(), t.psf, plan);
        const ExtractionResult got = extractFrame(*makeCpuBackend(), t.pixels.view(), t.psf, plan);
        QCOMPARE(count(got.reports, PatchStatus::Layout), change == "very fine grid" ? plan.patchCount() : 0);
        const Differences d = differences(want.frame, got.frame);
        QVERIFY2(d.flux <= 1e-6, qPrintable(QString::number(d.flux)));
        QVERIFY2(d.resolution <= 1e-8, qPrintable(QString::number(d.resolution)));
        QCOMPARE(d.masks, 0);
        double worst = 0;
        double scale = 0;
        for (std::size_t i = 0; i < want.modelFlux.size(); ++i) {
            worst = std::max(worst, std::abs(want.modelFlux.data()[i] - got.modelFlux.data()[i]));
            scale = std::max(scale, std::abs(want.modelFlux.data()[i]));
        }
        QVERIFY2(worst <= 1e-6 * scale, qPrintable(QString::number(worst / scale)));
    }

    /// Which path a patch takes does not depend on its batch: here some patches have traces that turn back, others not; and on the finer grid some
    /// have more than eight bins on a row, others not.
    void pathsDoNotDependOnBatches_data() {
        QTest::addColumn<double>("dw");
        QTest::newRow("0.8 Angstrom") << 0.8;
        QTest::newRow("0.75 Angstrom") << 0.75;
    }
    void pathsDoNotDependOnBatches() {
        QFETCH(double, dw);
        auto t = test::smallExposure();
        t.range.dw = dw;
        LegendreSeries& y = t.psf.series.at("Y");
        // Fiber 7 folds over beyond the middle: its rows fall again.
        const double half = 0.5 * (t.psf.y(7, t.range.wmax) - t.psf.y(7, t.range.wmin));
        double* c = y.coeff.data() + static_cast<std::size_t>(7 * y.ncoeff);
        c[2] = -0.6 * half;
        t.psf.pack();
        ExtractionOptions options = wideOptions(t.range);
        options.nwavestep = 10;
        const Plan plan = makePlan(t.psf, options);
        const auto backend = makeCpuBackend();
        RunControl control;
        control.batchSteps = 1;
        const ExtractionResult one = extractFrame(*backend, t.pixels.view(), t.psf, plan, control);
        const int layout = count(one.reports, PatchStatus::Layout);
        QVERIFY(layout > 0 && layout < plan.patchCount());
        for (const int steps : {2, 5, 100}) {
            control.batchSteps = steps;
            const ExtractionResult many = extractFrame(*backend, t.pixels.view(), t.psf, plan, control);
            QCOMPARE(count(many.reports, PatchStatus::Layout), layout);
            QVERIFY(std::memcmp(one.frame.flux.data(), many.frame.flux.data(),
                                one.frame.flux.size() * sizeof(double)) == 0);
            QVERIFY(std::memcmp(one.frame.ivar.data(), many.frame.ivar.data(),
                                one.frame.ivar.size() * sizeof(double)) == 0);
            QVERIFY(std::memcmp(one.frame.resolution.data(), many.frame.resolution.data(),
                                one.frame.resolution.size() * sizeof(double)) == 0);
        }
    }
};

QTEST_APPLESS_MAIN(TestFastPath)
#include "TestFastPath.moc"
