#include "core/base/Error.h"
#include "core/base/Timeline.h"
#include "core/cpu/CpuBackend.h"
#include "core/engine/Engine.h"
#include "core/engine/Physics.h"
#include "tests/support/NaiveExtraction.h"
#include "tests/support/SameBytes.h"
#include "tests/support/Sanitizers.h"
#include "tests/support/SmallExposure.h"

#include <QObject>
#include <QTest>

#include <cmath>
#include <cstring>
#include <functional>
#include <memory>

using namespace patchlight;
using test::sameBytes;
using test::sameFrames;

namespace {

double largest(const Eigen::VectorXd& a) { return a.size() == 0 ? 0.0 : a.cwiseAbs().maxCoeff(); }

Eigen::VectorXd flatten(const Array2<double>& a) {
    return Eigen::Map<const Eigen::VectorXd>(a.data(), static_cast<Eigen::Index>(a.size()));
}

Eigen::MatrixXd square(const Array2<double>& a) {
    return Eigen::Map<const Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>(
        a.data(), static_cast<Eigen::Index>(a.rows()), static_cast<Eigen::Index>(a.columns()));
}

/// Small patches for dense algebra: 2 subbundles of a bundle of 5, 10 wavelengths.
ExtractionOptions smallOptions(const WavelengthRange& range) {
    ExtractionOptions options;
    options.wavelength = WavelengthRange{range.wmin + 20, range.wmin + 20 + 0.8 * 24, 0.8};
    options.bundlesize = 5;
    options.nsubbundles = 2;
    options.nwavestep = 10;
    return options;
}

} // namespace

class TestExtraction : public QObject {
    Q_OBJECT

private:
    /// Compares one patch with the naive transcription. Tolerances: rounding of a matrix of condition 1e3 to 1e5.
    void compare(const test::SmallExposure& t, const Plan& plan, const Patch& patch, double tolerance = 1e-9) {
        const auto backend = makeCpuBackend();
        const PatchDetail got = extractPatch(*backend, t.pixels.view(), t.psf, plan, patch);
        const test::NaiveResult want =
            test::naivePatch(t.pixels.view(), t.psf.view(), plan, patch, plan.options.regularize);
        if (want.xmax > want.xmin && want.ymax > want.ymin) {
            QCOMPARE(got.window.x.first, want.xmin);
            QCOMPARE(got.window.x.last, want.xmax);
            QCOMPARE(got.window.y.first, want.ymin);
            QCOMPARE(got.window.y.last, want.ymax);
            QVERIFY(largest(flatten(got.model) - want.model) <= tolerance * std::max(1.0, largest(want.model)));
        } else {
            QVERIFY(got.window.empty());
        }
        const double scale = want.icov.cwiseAbs().maxCoeff();
        QVERIFY((square(got.icov) - want.icov).cwiseAbs().maxCoeff() <= 1e-13 * scale);
        QVERIFY(largest(flatten(got.y) - want.y) <= 1e-12 * largest(want.y));
        QVERIFY(largest(flatten(got.fluxweight) - want.fluxweight) <= 1e-13 * largest(want.fluxweight));
        // In units of sigma: ivar is what the flux is known by. A bin with next to no weight has next to no ivar.
        const Eigen::VectorXd sigma = want.ivar.cwiseMax(0.0).cwiseSqrt();
        QVERIFY2(largest((flatten(got.flux) - want.flux).cwiseProduct(sigma)) <= tolerance * 10,
                 qPrintable(QString::number(largest((flatten(got.flux) - want.flux).cwiseProduct(sigma)))));
        QVERIFY(largest(flatten(got.ivar) - want.ivar) <= tolerance * largest(want.ivar));
        for (int i = 0; i < want.ivar.size(); ++i) {
            if (want.ivar[i] < 1e-3 * largest(want.ivar)) continue; // rows of nearly empty bins amplify rounding
            QVERIFY((square(got.resolution).row(i) - want.r.row(i)).cwiseAbs().maxCoeff() <= tolerance);
        }
        QVERIFY(largest(flatten(got.chi2pix) - want.chi2pix) <= 1e-7 * std::max(1.0, largest(want.chi2pix)));
        QVERIFY(largest(flatten(got.pixmaskFraction) - want.pixmaskFraction) <= 1e-12);
    }

private slots:
    void patchAgreesWithTheEquations_data() {
        QTest::addColumn<QString>("change");
        for (const char* change : {"plain", "noise", "regularized", "no padding", "no pixel padding", "all pixel rows",
                                   "one fiber a subbundle", "whole bundle", "psferr", "tail", "barycentric", "cosmic",
                                   "dead column", "three dead columns", "dead fiber", "coarse grid", "fine grid"})
            if (!test::watchingThreads || change == std::string("plain")) // a patch is one thread's
                QTest::newRow(change) << change;
    }
    void patchAgreesWithTheEquations() {
        QFETCH(QString, change);
        auto t = test::smallExposure();
        ExtractionOptions options = smallOptions(t.range);
        double factor = 1.0;
        double tolerance = 1e-9;
        if (change == "noise") options.decorrelate = Decorrelate::Noise;
        if (change == "regularized") options.regularize = 0.05;
        if (change == "no padding") options.wavepad = 0;
        if (change == "no pixel padding") {
            options.pixpadFrac = 0;
            tolerance = 1e-8; // the outermost bins are held by the prior alone
        }
        if (change == "all pixel rows") options.pixpadFrac = 1;
        if (change == "one fiber a subbundle") options.nsubbundles = 5;
        if (change == "whole bundle") options.nsubbundles = 1;
        if (change == "psferr") options.psferr = 0.2;
        if (change == "tail") {
            for (double& amplitude : t.psf.series.at("TAILAMP").coeff) amplitude += 0.01;
            t.psf.pack();
            QVERIFY(t.psf.view().hasTail);
        }
        if (change == "barycentric") factor = 1.0001;
        if (change == "coarse grid") options.wavelength->dw = 1.3;
        if (change == "fine grid") {
            options.wavelength->dw = 0.55;
            tolerance = 1e-7; // the condition number grows steeply as bins get narrower than the PSF
        }
        const Plan plan = makePlan(t.psf, options, factor);
        const Patch patch = plan.patch(1, 1);
        const double mid = plan.grid.wavelength((patch.coreBins.first + patch.coreBins.last) / 2);
        const int x = static_cast<int>(std::lround(t.psf.x(patch.core.first, mid)));
        const int y = static_cast<int>(std::lround(t.psf.y(patch.core.first, mid)));
        if (change == "cosmic") test::maskPixels(t.pixels, x - 1, x + 2, y - 1, y + 2);
        if (change == "dead column") test::maskPixels(t.pixels, x, x + 1, 0, t.pixels.ny);
        if (change == "three dead columns") test::maskPixels(t.pixels, x - 1, x + 2, 0, t.pixels.ny);
        if (change == "dead fiber") {
            test::maskPixels(t.pixels, x - 3, x + 4, 0, t.pixels.ny);
            tolerance = 1e-6; // what is left of that fiber is in its wings
        }
        compare(t, plan, patch, tolerance);
        compare(t, plan, plan.patch(0, 0), tolerance);
        compare(t, plan, plan.patch(static_cast<int>(plan.subbundles.size()) - 1, plan.nsteps - 1), tolerance);
    }

    void stampsOfAnySizeAgreeWithTheEquations_data() {
        QTest::addColumn<int>("hsizeX");
        QTest::addColumn<int>("hsizeY");
        QTest::addColumn<bool>("second");
        QTest::newRow("1 x 1") << 1 << 1 << false;
        QTest::newRow("3 x 2") << 3 << 2 << false;
        QTest::newRow("4 x 12, more than the padding") << 4 << 12 << false;
        QTest::newRow("15 x 3, five neighbours") << 15 << 3 << false;
        QTest::newRow("two cores") << 6 << 5 << true;
    }
    void stampsOfAnySizeAgreeWithTheEquations() {
        QFETCH(int, hsizeX);
        QFETCH(int, hsizeY);
        QFETCH(bool, second);
        auto t = test::smallExposure();
        t.psf.hsizeX = hsizeX;
        t.psf.hsizeY = hsizeY;
        if (second) test::giveSecondCore(t.psf);
        t.psf.pack();
        const Plan plan = makePlan(t.psf, smallOptions(t.range));
        QCOMPARE(plan.ndiag, hsizeY);
        compare(t, plan, plan.patch(1, 1), 1e-8);

        const auto backend = makeCpuBackend();
        const ExtractionResult result = extractFrame(*backend, t.pixels.view(), t.psf, plan);
        QCOMPARE(result.frame.resolution.rows(), static_cast<std::size_t>(2 * hsizeY + 1));
        for (const double value : result.frame.resolution.values()) QVERIFY(std::isfinite(value));
    }

    /// Patches that leave the CCD keep what is on it.
    void edgesOfTheCcdAreTrimmed_data() {
        QTest::addColumn<bool>("left");
        QTest::addColumn<bool>("right");
        QTest::addColumn<bool>("bottom");
        QTest::addColumn<bool>("top");
        QTest::newRow("left") << true << false << false << false;
        QTest::newRow("right") << false << true << false << false;
        QTest::newRow("bottom") << false << false << true << false;
        QTest::newRow("top") << false << false << false << true;
        QTest::newRow("corner") << true << false << true << false;
        QTest::newRow("all gone") << true << true << true << true;
    }
    void edgesOfTheCcdAreTrimmed() {
        QFETCH(bool, left);
        QFETCH(bool, right);
        QFETCH(bool, bottom);
        QFETCH(bool, top);
        const bool allGone = left && right && bottom && top;
        auto t = test::smallExposure();
        const ExtractionOptions options = smallOptions(t.range);
        // Cut the image so that some spots are cut and some are gone; the traces move with it.
        const double first = options.wavelength->wmin;
        const double last = options.wavelength->wmax;
        const int x0 = left ? static_cast<int>(t.psf.x(0, first)) + 10 : 0;
        const int x1 = right ? static_cast<int>(t.psf.x(9, first)) - 10 : t.pixels.nx;
        const int y0 = allGone  ? static_cast<int>(t.psf.y(5, last)) + 40
                       : bottom ? static_cast<int>(t.psf.y(5, first)) + 9
                                : 0;
        const int y1 = allGone ? t.pixels.ny : top ? static_cast<int>(t.psf.y(5, last)) - 9 : t.pixels.ny;
        WeightedPixels cut;
        cut.nx = x1 - x0;
        cut.ny = y1 - y0;
        for (int y = 0; y < cut.ny; ++y)
            for (int x = 0; x < cut.nx; ++x) {
                const auto p = static_cast<std::size_t>(y + y0) * static_cast<std::size_t>(t.pixels.nx) +
                               static_cast<std::size_t>(x + x0);
                cut.pixels.push_back(t.pixels.pixels[p]);
                cut.weights.push_back(t.pixels.weights[p]);
            }
        t.pixels = cut;
        for (auto& [name, shift] : {std::pair{"X", x0}, std::pair{"Y", y0}}) {
            LegendreSeries& series = t.psf.series.at(name);
            for (int s = 0; s < t.psf.nspec; ++s) series.coeff[static_cast<std::size_t>(s * series.ncoeff)] -= shift;
        }
        t.psf.pack();
        const Plan plan = makePlan(t.psf, options);
        for (int sub = 0; sub < 2; ++sub)
            for (int step = 0; step < plan.nsteps; ++step) compare(t, plan, plan.patch(sub, step), 1e-6);

        const auto backend = makeCpuBackend();
        const ExtractionResult result = extractFrame(*backend, t.pixels.view(), t.psf, plan);
        int withData = 0;
        int offCcd = 0;
        const PsfView psf = t.psf.view();
        std::vector<double> stamp(static_cast<std::size_t>(psf.stampX() * psf.stampY()));
        for (int s = 0; s < plan.nspec; ++s)
            for (int j = 0; j < plan.grid.nwave; ++j) {
                int cx = 0;
                int cy = 0;
                evaluateSpot(psf, s, plan.grid.wavelength(plan.grid.pad + j), true, stamp.data(), cx, cy);
                double light = 0;
                bool touches = false;
                for (int iy = 0; iy < psf.stampY(); ++iy)
                    for (int ix = 0; ix < psf.stampX(); ++ix) {
                        const bool on = cx + ix >= 0 && cx + ix < cut.nx && cy + iy >= 0 && cy + iy < cut.ny;
                        touches = touches || on;
                        if (on) light += stamp[static_cast<std::size_t>(iy * psf.stampX() + ix)];
                    }
                const auto row = static_cast<std::size_t>(s);
                const auto column = static_cast<std::size_t>(j);
                const double ivar = result.frame.ivar(row, column);
                const std::uint32_t mask = result.frame.mask(row, column);
                QCOMPARE(ivar > 0, light > 0);
                QCOMPARE((mask & static_cast<std::uint32_t>(SpecMaskBit::NoData)) != 0, !touches);
                QCOMPARE((mask & static_cast<std::uint32_t>(SpecMaskBit::AllBadPix)) != 0, !(light > 1e-6));
                withData += ivar > 0 ? 1 : 0;
                offCcd += touches ? 0 : 1;
            }
        QCOMPARE(withData > 0, !allGone);
        QVERIFY(offCcd > 0);
    }

    void resultsDoNotDependOnThreadsOrBatches() {
        const auto t = test::smallExposure();
        const Plan plan = makePlan(t.psf, smallOptions(t.range));
        const auto backend = makeCpuBackend();
        RunControl control;
        control.threads = 1;
        control.batchSteps = 1;
        const ExtractionResult reference = extractFrame(*backend, t.pixels.view(), t.psf, plan, control);
        const std::vector<float> model =
            paintModel(reference.modelFlux, t.psf, plan, t.pixels.nx, t.pixels.ny, control);
        for (const int threads : {1, 2, 3, 8}) {
            for (const int steps : {1, 2, 100}) {
                control.threads = threads;
                control.batchSteps = steps;
                const ExtractionResult again = extractFrame(*backend, t.pixels.view(), t.psf, plan, control);
                QVERIFY(sameFrames(again.frame, reference.frame));
                QVERIFY(sameBytes(paintModel(again.modelFlux, t.psf, plan, t.pixels.nx, t.pixels.ny, control), model));
            }
        }
    }

    void aFibersResultDoesNotDependOnWhichOthersWereAskedFor() {
        const auto t = test::smallExposure();
        ExtractionOptions options = smallOptions(t.range);
        const auto backend = makeCpuBackend();
        const ExtractionResult all = extractFrame(*backend, t.pixels.view(), t.psf, makePlan(t.psf, options));
        for (const auto& [specmin, nspec] : {std::pair{0, 1}, std::pair{1, 3}, std::pair{3, 4}, std::pair{9, 1}}) {
            options.specmin = specmin;
            options.nspec = nspec;
            const ExtractionResult some = extractFrame(*backend, t.pixels.view(), t.psf, makePlan(t.psf, options));
            QCOMPARE(some.frame.nspec(), static_cast<std::size_t>(nspec));
            for (int s = 0; s < nspec; ++s)
                for (std::size_t j = 0; j < all.frame.nwave(); ++j) {
                    const auto row = static_cast<std::size_t>(s);
                    const auto whole = static_cast<std::size_t>(s + specmin);
                    QCOMPARE(some.frame.flux(row, j), all.frame.flux(whole, j));
                    QCOMPARE(some.frame.ivar(row, j), all.frame.ivar(whole, j));
                    QCOMPARE(some.frame.resolution(row, 2, j), all.frame.resolution(whole, 2, j));
                }
        }
    }

    /// extract and patch see the same numbers; units per Angstrom; the stored band is R's columns.
    void theFrameIsMadeOfItsPatches() {
        const auto t = test::smallExposure();
        const Plan plan = makePlan(t.psf, smallOptions(t.range));
        const auto backend = makeCpuBackend({.exact = true, .bounds = {}});
        const ExtractionResult result = extractFrame(*backend, t.pixels.view(), t.psf, plan);
        for (int sub = 0; sub < static_cast<int>(plan.subbundles.size()); ++sub)
            for (int step = 0; step < plan.nsteps; ++step) {
                const Patch patch = plan.patch(sub, step);
                const PatchDetail detail = extractPatch(*backend, t.pixels.view(), t.psf, plan, patch);
                QVERIFY(detail.condition >=
                        result.reports[static_cast<std::size_t>(sub * plan.nsteps + step)].condition * 0.5);
                for (int s = patch.core.first; s < patch.core.last; ++s)
                    for (int bin = patch.keepBins.first; bin < patch.keepBins.last; ++bin) {
                        const auto row = static_cast<std::size_t>(s);
                        const auto j = static_cast<std::size_t>(bin - plan.grid.pad);
                        const auto ispec = static_cast<std::size_t>(s - patch.spectra.first);
                        const auto iwave = static_cast<std::size_t>(bin - patch.bins.first);
                        QCOMPARE(result.frame.flux(row, j), detail.flux(ispec, iwave) / plan.grid.step());
                        QCOMPARE(result.frame.ivar(row, j),
                                 detail.ivar(ispec, iwave) * plan.grid.step() * plan.grid.step());
                        QCOMPARE(result.frame.xflux(row, j), detail.xflux(ispec, iwave));
                        QCOMPARE(result.frame.chi2pix(row, j), detail.chi2pix(ispec, iwave));
                        const std::size_t nwave = detail.flux.columns();
                        for (int k = 0; k <= 2 * plan.ndiag; ++k) {
                            const int i = static_cast<int>(iwave) - plan.ndiag + k;
                            const double want = i < 0 || i >= static_cast<int>(nwave)
                                                    ? 0.0
                                                    : detail.resolution(ispec * nwave + static_cast<std::size_t>(i),
                                                                        ispec * nwave + iwave);
                            // The one patch has its roots by rational approximation.
                            const double is = result.frame.resolution(row, static_cast<std::size_t>(k), j);
                            QVERIFY2(std::abs(is - want) <= 1e-12, qPrintable(QString::number(is - want)));
                        }
                    }
            }
    }

    void everythingMaskedGivesNothing() {
        auto t = test::smallExposure();
        test::maskPixels(t.pixels, 0, t.pixels.nx, 0, t.pixels.ny);
        const Plan plan = makePlan(t.psf, smallOptions(t.range));
        const auto backend = makeCpuBackend();
        const ExtractionResult result = extractFrame(*backend, t.pixels.view(), t.psf, plan);
        for (const PatchReport& report : result.reports)
            QCOMPARE(report.status, static_cast<std::uint32_t>(PatchStatus::NoPixels));
        for (std::size_t i = 0; i < result.frame.flux.size(); ++i) {
            QCOMPARE(result.frame.flux.data()[i], 0.0);
            QCOMPARE(result.frame.ivar.data()[i], 0.0);
            QVERIFY((result.frame.mask.data()[i] & static_cast<std::uint32_t>(SpecMaskBit::AllBadPix)) != 0);
            QVERIFY(std::abs(result.frame.pixmaskFraction.data()[i] - 1.0) < 1e-12);
        }
        for (const double value : result.frame.resolution.values()) QCOMPARE(value, 0.0);
        const PatchDetail detail = extractPatch(*backend, t.pixels.view(), t.psf, plan, plan.patch(0, 0));
        QCOMPARE(detail.report.status, static_cast<std::uint32_t>(PatchStatus::NoPixels));
    }

    /// A NaN pixel of ivar 0 is a masked pixel like any other.
    void nanPixelsAreMaskedPixels() {
        auto t = test::smallExposure();
        CcdImage image;
        image.nx = t.pixels.nx;
        image.ny = t.pixels.ny;
        image.pixels = t.pixels.pixels;
        image.ivar = t.pixels.weights;
        image.mask.assign(image.pixels.size(), 0);
        CcdImage masked = image;
        const std::size_t p = static_cast<std::size_t>(90) * static_cast<std::size_t>(image.nx) + 30;
        const std::size_t q = p + 4 * static_cast<std::size_t>(image.nx);
        const std::size_t r = q + 3 * static_cast<std::size_t>(image.nx);
        image.pixels[p] = std::numeric_limits<float>::quiet_NaN();
        image.ivar[q] = std::numeric_limits<float>::infinity();
        image.mask[r] =
            static_cast<std::int32_t>(CcdMaskBit::Cosmic) | static_cast<std::int32_t>(CcdMaskBit::BadReadnoise);
        image.mask[r + 1] = static_cast<std::int32_t>(CcdMaskBit::BadReadnoise); // alone does not mask
        masked.ivar[p] = 0;
        masked.ivar[q] = -1;
        masked.ivar[r] = 0;
        const Plan plan = makePlan(t.psf, smallOptions(t.range));
        const auto backend = makeCpuBackend();
        const WeightedPixels a = weightedPixels(image);
        const WeightedPixels b = weightedPixels(std::move(masked));
        QVERIFY(sameBytes(a.weights, b.weights));
        QVERIFY(sameFrames(extractFrame(*backend, a.view(), t.psf, plan).frame,
                           extractFrame(*backend, b.view(), t.psf, plan).frame));
    }

    /// One bundle's trouble stays there, and a fiber that was not fitted (no light in its spots) hurts nobody.
    void aFiberWithoutPsfHasNoData() {
        auto t = test::smallExposure();
        for (auto& [name, series] : t.psf.series) {
            if (name == "X" || name == "Y") continue;
            for (int n = 0; n < series.ncoeff; ++n) series.coeff[static_cast<std::size_t>(2 * series.ncoeff + n)] = 0.0;
        }
        t.psf.pack();
        const Plan plan = makePlan(t.psf, smallOptions(t.range));
        const auto backend = makeCpuBackend();
        const ExtractionResult result = extractFrame(*backend, t.pixels.view(), t.psf, plan);
        for (std::size_t s = 0; s < result.frame.nspec(); ++s)
            for (std::size_t j = 0; j < result.frame.nwave(); ++j) {
                QCOMPARE(result.frame.ivar(s, j) > 0, s != 2);
                QVERIFY(std::isfinite(result.frame.flux(s, j)));
            }
    }

    void theModelImageIsXfluxTimesSpots() {
        const auto t = test::smallExposure();
        ExtractionOptions options = smallOptions(t.range);
        for (const ModelFlux kind : {ModelFlux::Deconvolved, ModelFlux::Reconvolved}) {
            options.modelFlux = kind;
            const Plan plan = makePlan(t.psf, options);
            const auto backend = makeCpuBackend();
            const ExtractionResult result = extractFrame(*backend, t.pixels.view(), t.psf, plan);
            const std::vector<float> model = paintModel(result.modelFlux, t.psf, plan, t.pixels.nx, t.pixels.ny);
            std::vector<double> want(model.size(), 0.0);
            const PsfView psf = t.psf.view();
            std::vector<double> stamp(static_cast<std::size_t>(psf.stampX() * psf.stampY()));
            for (int s = 0; s < plan.nspec; ++s)
                for (int j = 0; j < plan.nsteps * plan.grid.nwavestep; ++j) {
                    int cx = 0;
                    int cy = 0;
                    evaluateSpot(psf, s, plan.grid.wavelength(plan.grid.pad + j), true, stamp.data(), cx, cy);
                    const auto row = static_cast<std::size_t>(s);
                    const auto column = static_cast<std::size_t>(j);
                    const double flux = result.modelFlux(row, column);
                    if (j < plan.grid.nwave) {
                        const double own = kind == ModelFlux::Deconvolved
                                               ? result.frame.xflux(row, column)
                                               : result.frame.flux(row, column) * plan.grid.dw;
                        QVERIFY(std::abs(flux - own) <= 1e-12 * std::abs(own));
                    }
                    for (int iy = 0; iy < psf.stampY(); ++iy)
                        for (int ix = 0; ix < psf.stampX(); ++ix)
                            if (cx + ix >= 0 && cx + ix < t.pixels.nx && cy + iy >= 0 && cy + iy < t.pixels.ny)
                                want[static_cast<std::size_t>(cy + iy) * static_cast<std::size_t>(t.pixels.nx) +
                                     static_cast<std::size_t>(cx + ix)] +=
                                    flux * stamp[static_cast<std::size_t>(iy * psf.stampX() + ix)];
                }
            for (std::size_t p = 0; p < want.size(); ++p)
                QVERIFY(std::abs(static_cast<double>(model[p]) - want[p]) <= 1e-6 * std::max(1.0, std::abs(want[p])));
        }
    }

    void runsCanBeCancelledAndTellTheirProgress() {
        const auto t = test::smallExposure();
        const Plan plan = makePlan(t.psf, smallOptions(t.range));
        const auto backend = makeCpuBackend();
        RunControl control;
        control.threads = 2;
        control.batchSteps = 1;
        int last = 0;
        control.progress = [&](const Progress& progress) {
            QVERIFY(progress.patchesDone > last);
            last = progress.patchesDone;
            QCOMPARE(progress.patchesTotal, plan.patchCount());
        };
        (void)extractFrame(*backend, t.pixels.view(), t.psf, plan, control);
        QCOMPARE(last, plan.patchCount());

        std::stop_source source;
        control.stop = source.get_token();
        int calls = 0;
        control.progress = [&](const Progress&) {
            ++calls;
            source.request_stop();
        };
        QVERIFY_EXCEPTION_THROWN((void)extractFrame(*backend, t.pixels.view(), t.psf, plan, control), Cancelled);
        QVERIFY(calls >= 1 && calls <= 2); // a batch that another thread had begun may finish
    }

    void rangesOfARunNest() {
        const auto t = test::smallExposure();
        const Plan plan = makePlan(t.psf, smallOptions(t.range));
        Timeline timeline;
        RunControl control;
        control.timeline = &timeline;
        control.threads = 2;
        const auto backend = makeCpuBackend({.exact = true, .bounds = {}});
        (void)extractFrame(*backend, t.pixels.view(), t.psf, plan, control);
        int patches = 0;
        for (const RangeRecord& record : timeline.records())
            patches += std::strcmp(record.name, "normal equations") == 0 ? 1 : 0;
        QCOMPARE(patches, plan.patchCount());
    }

    /// Medians by hand: all are 1 but for fiber 4 (8 at all wavelengths) and wavelength 2 (8 in all fibers).
    void bad2dFitNeedsBothMedians() {
        ExtractedFrame frame;
        frame.flux = Array2<double>(5, 6, 1.0);
        frame.ivar = Array2<double>(5, 6, 1.0);
        frame.chi2pix = Array2<double>(5, 6, 1.0);
        frame.mask = Array2<std::uint32_t>(5, 6);
        frame.chi2pix(0, 1) = 5.5;
        for (std::size_t j = 0; j < 6; ++j) frame.chi2pix(4, j) = 8.0; // a fiber that fits badly everywhere
        for (std::size_t s = 0; s < 4; ++s) frame.chi2pix(s, 2) = 8.0; // a wavelength at which all do
        frame.chi2pix(1, 3) = 5.0;                                     // not above
        frame.chi2pix(1, 4) = 100.0;
        frame.ivar(1, 4) = 0.0; // without data
        markBad2dFit(frame);
        for (std::size_t s = 0; s < 5; ++s)
            for (std::size_t j = 0; j < 6; ++j) QCOMPARE(frame.mask(s, j), s == 0 && j == 1 ? 128U : 0U);
        ExtractedFrame empty;
        markBad2dFit(empty);
    }

    /// No factorisation: the prior of the retry makes iCov positive, and only that patch is marked.
    void aFailedFactorisationIsRepeatedOnce() {
        auto t = test::smallExposure();
        // Two fibers on top of each other: iCov is singular but for the 1e-15 on its diagonal, so scaling the weights up makes it
        // fail by rounding.
        LegendreSeries& x = t.psf.series.at("X");
        LegendreSeries& y = t.psf.series.at("Y");
        for (auto& [name, series] : t.psf.series)
            for (int n = 0; n < series.ncoeff; ++n)
                series.coeff[static_cast<std::size_t>(1 * series.ncoeff + n)] =
                    series.coeff[static_cast<std::size_t>(n)];
        t.psf.pack();
        QVERIFY(x.coeff[0] == x.coeff[static_cast<std::size_t>(x.ncoeff)] &&
                y.coeff[0] == y.coeff[static_cast<std::size_t>(y.ncoeff)]);
        for (float& weight : t.pixels.weights) weight *= 1e6F;
        const Plan plan = makePlan(t.psf, smallOptions(t.range));
        const auto backend = makeCpuBackend();
        const ExtractionResult result = extractFrame(*backend, t.pixels.view(), t.psf, plan);
        int regularized = 0;
        for (std::size_t i = 0; i < result.reports.size(); ++i) {
            const bool first =
                i < static_cast<std::size_t>(2 * plan.nsteps); // subbundles of the bundle with fibers 0 and 1
            const bool marked = (result.reports[i].status & static_cast<std::uint32_t>(PatchStatus::Regularized)) != 0;
            QVERIFY(first || !marked);
            QCOMPARE(result.reports[i].status & static_cast<std::uint32_t>(PatchStatus::Failed), 0U);
            regularized += marked ? 1 : 0;
        }
        QVERIFY(regularized > 0);
        for (const double value : result.frame.flux.values()) QVERIFY(std::isfinite(value));
    }

    void pixelChi2AddsThePsfsError() {
        // (12 - 10)^2 / (1/0.25 + (0.1 * 10)^2) = 4/5
        QCOMPARE(pixelChi2(12, 0.25, 10, 0.1), 0.8);
        QVERIFY(!pixelCounts(0, 10));
        QVERIFY(!pixelCounts(1, 0));
        QCOMPARE(priorDiagonal(0.5, 1e-4, 0.0), 1e-15);
        QCOMPARE(priorDiagonal(0.5, 1e-4, 0.1), 0.1 * 0.1 + 1e-15);
        QCOMPARE(priorDiagonal(0.2e-4, 1e-4, 0.1), 0.8e-4 * 0.8e-4 + 1e-15);
        QCOMPARE(binMask(0.51, 1.0, true), 1U);
        QCOMPARE(binMask(0.5, 1.0, true), 0U);
        QCOMPARE(binMask(1.0 - 1e-9, 1.0, true), 3U);
        QCOMPARE(binMask(0.2, 0.0, true), 2U);
        QCOMPARE(binMask(1.0, 0.0, false), 1U + 2U + 256U);
    }
};

QTEST_APPLESS_MAIN(TestExtraction)
#include "TestExtraction.moc"
