#include "core/analysis/PsfFigures.h"
#include "core/analysis/ResolutionFigures.h"
#include "core/base/Error.h"
#include "core/cpu/CpuBackend.h"
#include "core/engine/Engine.h"
#include "core/psf/Psf.h"
#include "tests/support/SmallExposure.h"
#include "tests/support/TestSupport.h"

#include <QFile>
#include <QObject>
#include <QTest>

#include <cmath>
#include <map>
#include <numeric>
#include <string>
#include <vector>

using namespace patchlight;

namespace {

/// What tests/tools/numpy_figures.py wrote.
std::map<std::string, std::vector<double>> numpyFigures() {
    std::map<std::string, std::vector<double>> out;
    QFile file(patchlight::test::sourceFile("tests/analysis/numpy_figures.txt"));
    if (!file.open(QIODevice::ReadOnly)) return out;
    for (const QByteArray& line : file.readAll().split('\n')) {
        const QList<QByteArray> words = line.split(' ');
        if (words.size() == 3) out[words[0].toStdString()].push_back(words[2].toDouble());
    }
    return out;
}

/// The band of the script.
ResolutionBand scriptBand() {
    constexpr std::size_t ndiag = 5;
    constexpr std::size_t nwave = 40;
    ResolutionBand band;
    band.values = Array2<double>(2 * ndiag + 1, nwave);
    for (std::size_t j = 0; j < nwave; ++j) {
        const auto at = static_cast<double>(j);
        band.wavelength.push_back(6000 + 0.8 * at + 0.001 * at * at);
        for (std::size_t m = 0; m < band.values.rows(); ++m) {
            const double k = static_cast<double>(m) - ndiag;
            const double t = (k - 0.1 * std::sin(0.3 * at)) / (1.1 + 0.01 * at);
            band.values(m, j) = std::exp(-0.5 * t * t) - (std::abs(k) == 4 ? 0.01 : 0.0);
        }
    }
    return band;
}

} // namespace

/// Figures of resolutions and PSFs against NumPy.
class TestFigures : public QObject {
    Q_OBJECT

private:
    std::map<std::string, std::vector<double>> numpy_;

    void same(const std::string& name, const std::vector<double>& values, double tolerance = 1e-12) {
        const auto found = numpy_.find(name);
        QVERIFY2(found != numpy_.end(), name.c_str());
        QCOMPARE(values.size(), found->second.size());
        for (std::size_t i = 0; i < values.size(); ++i) {
            const double expected = found->second[i];
            const QByteArray what = QByteArray::fromStdString(name) + ' ' + QByteArray::number(qulonglong(i)) + ": " +
                                    QByteArray::number(values[i], 'g', 17) + ", NumPy " +
                                    QByteArray::number(expected, 'g', 17);
            if (std::isnan(expected))
                QVERIFY2(std::isnan(values[i]), what.constData());
            else
                QVERIFY2(std::abs(values[i] - expected) <= tolerance * std::max(1.0, std::abs(expected)),
                         what.constData());
        }
    }

private Q_SLOTS:
    void initTestCase() {
        numpy_ = numpyFigures();
        QVERIFY2(!numpy_.empty(), "tests/analysis/numpy_figures.txt cannot be read");
    }

    void aBandIsItsMatrix() {
        const ResolutionBand band = scriptBand();
        same("row_sums", rowSums(band));
        same("column_sums", columnSums(band));
        same("row_12", matrixRow(band, 12));
        same("column_12", matrixColumn(band, 12));
        std::vector<double> in(band.nwave());
        for (std::size_t j = 0; j < in.size(); ++j) in[j] = 1 + 0.5 * std::cos(0.2 * static_cast<double>(j));
        same("through", throughResolution(band, in));
        QCOMPARE(band.at(0, 39), 0.0);
        QCOMPARE(band.at(14, 12), band.values(7, 12));
    }

    void widthsOfColumns() {
        const ResolutionWidths widths = columnWidths(scriptBand());
        same("fwhm", widths.fwhm);
        same("rms", widths.rms);
        // A column without light has no width.
        ResolutionBand dark = scriptBand();
        for (std::size_t k = 0; k < dark.values.rows(); ++k) dark.values(k, 20) = 0;
        QVERIFY(std::isnan(columnWidths(dark).fwhm[20]));
        QVERIFY(std::isnan(columnWidths(dark).rms[20]));
        QCOMPARE(columnSums(dark)[20], 0.0);
    }

    void covarianceFromItsInverse() {
        constexpr std::size_t n = 30;
        Array2<double> b(n, n);
        for (std::size_t i = 0; i < n; ++i)
            for (std::size_t j = 0; j < n; ++j)
                b(i, j) = std::sin(0.7 * static_cast<double>(i) + 1.3 * std::pow(static_cast<double>(j), 1.1));
        Array2<double> icov(n, n);
        Array2<double> resolution(n, n);
        for (std::size_t i = 0; i < n; ++i)
            for (std::size_t j = 0; j < n; ++j) {
                for (std::size_t k = 0; k < n; ++k) icov(i, j) += b(i, k) * b(j, k) / n;
                if (i == j) icov(i, j) += 0.1 + 0.01 * static_cast<double>(i);
                if (i / 15 != j / 15) continue;
                resolution(i, j) = i == j ? 0.5 : (i + 1 == j || j + 1 == i) ? 0.25 : 0.0;
            }
        const CovarianceFigures figures = covarianceFigures(icov, resolution);
        const auto row = [](const Array2<double>& a, std::size_t i) {
            const auto values = a.row(i);
            return std::vector<double>(values.begin(), values.end());
        };
        same("eigenvalues", figures.eigenvalues, 1e-11);
        same("condition", {figures.condition}, 1e-11);
        same("covariance_row_7", row(figures.covariance, 7), 1e-10);
        same("correlation_row_7", row(figures.correlation, 7), 1e-10);
        same("flux_correlation_row_7", row(figures.fluxCorrelation, 7), 1e-10);
        icov(3, 3) = -1;
        QVERIFY_EXCEPTION_THROWN((void)covarianceFigures(icov), Error);
        icov(3, 3) = std::nan("");
        QVERIFY_EXCEPTION_THROWN((void)covarianceFigures(icov), Error);
    }

    /// The fluxes of a spectrum are uncorrelated, which is what R is for, and rows of R sum to 1.
    void thePatchOfAnExtraction() {
        const test::SmallExposure small = test::smallExposure();
        Psf psf = small.psf;
        psf.pack();
        const Plan plan = makePlan(psf, test::smallPatches(small));
        const auto backend = makeCpuBackend();
        const PatchDetail detail = extractPatch(*backend, small.pixels.view(), psf, plan, plan.patch(0, 2));
        const auto nwave = static_cast<std::size_t>(detail.patch.bins.count());
        std::vector<double> wavelength(nwave);
        for (std::size_t j = 0; j < nwave; ++j)
            wavelength[j] = plan.grid.wavelength(detail.patch.bins.first + static_cast<int>(j));
        const ResolutionBand band = resolutionOf(detail, 1, wavelength);
        QCOMPARE(band.nwave(), nwave);
        for (const double sum : rowSums(band))
            QVERIFY2(std::abs(sum - 1.0) < 1e-9, qPrintable(QString::number(sum, 'g', 17)));
        QCOMPARE(band.at(3, 5), detail.resolution(nwave + 3, nwave + 5));
        // R xflux is the flux of the spectrum.
        std::vector<double> xflux(nwave);
        for (std::size_t j = 0; j < nwave; ++j) xflux[j] = detail.xflux(1, j);
        const std::vector<double> flux = throughResolution(band, xflux);
        for (std::size_t j = 0; j < nwave; ++j)
            QVERIFY(std::abs(flux[j] - detail.flux(1, j)) < 1e-8 * (1.0 + std::abs(detail.flux(1, j))));
        const CovarianceFigures figures = covarianceFigures(detail.icov, detail.resolution);
        QVERIFY(std::abs(figures.condition / detail.condition - 1.0) < 1e-3);
        for (std::size_t i = 0; i < nwave; ++i)
            for (std::size_t j = 0; j < nwave; ++j) {
                const double expected = i == j ? 1.0 : 0.0;
                QVERIFY2(
                    std::abs(figures.fluxCorrelation(nwave + i, nwave + j) - expected) < 1e-6,
                    qPrintable(
                        QStringLiteral("%1 %2 %3").arg(i).arg(j).arg(figures.fluxCorrelation(nwave + i, nwave + j))));
            }
    }

    void aSpotInNumbers() {
        SpotStamp spot;
        spot.cornerX = 100;
        spot.cornerY = 200;
        spot.x = 108.2;
        spot.y = 205.3;
        spot.values = Array2<double>(11, 17);
        for (std::size_t y = 0; y < 11; ++y)
            for (std::size_t x = 0; x < 17; ++x) {
                const auto fx = static_cast<double>(x);
                const auto fy = static_cast<double>(y);
                const double tx = (fx - 8.3) / 1.2;
                const double ty = fy - 5.4;
                spot.values(y, x) = std::max(0.0, std::exp(-0.5 * (tx * tx + ty * ty)) *
                                                      (1 + 0.03 * (fx - 8) * (fy - 5) + (fx > 10 ? 0.02 : 0.0)));
            }
        const double sum = std::accumulate(spot.values.values().begin(), spot.values.values().end(), 0.0);
        for (double& value : spot.values.values()) value /= sum;
        const SpotFigures figures = spotFigures(spot);
        same("spot_peak", {figures.peak});
        same("spot_offset", {figures.offsetX, figures.offsetY}, 1e-11);
        same("spot_rms", {figures.rmsX, figures.rmsY});
        same("spot_correlation", {figures.correlation});
        same("spot_fwhm", {figures.fwhmX, figures.fwhmY});
        same("spot_radii", {figures.radius50, figures.radius90});
        same("spot_profile_x", spotProfiles(spot).x);
        same("spot_profile_y", spotProfiles(spot).y);
        // Against itself, one pixel further: the light has moved, none is lost.
        SpotStamp moved = spot;
        ++moved.cornerX;
        const SpotStamp difference = spotDifference(spot, moved);
        QCOMPARE(difference.values.columns(), std::size_t(18));
        QCOMPARE(difference.values(4, 0), -spot.values(4, 0));
        QCOMPARE(difference.values(4, 9), spot.values(4, 8) - spot.values(4, 9));
    }

    void twoPsfs() {
        const test::SmallExposure small = test::smallExposure();
        Psf a = small.psf;
        a.pack();
        Psf b = a;
        LegendreSeries& x = b.series["X"];
        LegendreSeries& sigma = b.series["GHSIGX"];
        for (std::size_t s = 0; s < static_cast<std::size_t>(b.nspec); ++s) {
            x.coeff[s * static_cast<std::size_t>(x.ncoeff)] += 0.25;
            sigma.coeff[s * static_cast<std::size_t>(sigma.ncoeff)] *= 1.05;
        }
        LegendreSeries& y = b.series["Y"];
        for (std::size_t s = 0; s < static_cast<std::size_t>(b.nspec); ++s)
            y.coeff[s * static_cast<std::size_t>(y.ncoeff)] -= 0.5;
        b.pack();
        const TraceOffsets offsets = traceOffsets(a, b, 16);
        QCOMPARE(offsets.dx.rows(), std::size_t(10));
        for (const double dx : offsets.dx.values()) QVERIFY(std::abs(dx - 0.25) < 1e-9);
        for (const double dy : offsets.dy.values()) QVERIFY(std::abs(dy + 0.5) < 1e-9);
        QVERIFY(std::abs(offsets.rmsX - 0.25) < 1e-9 && std::abs(offsets.largestY - 0.5) < 1e-9);
        // Half a row lower: that pixel has a longer wavelength, by half a row's worth.
        const double wave = offsets.wavelength[8];
        const double perRow = (a.wavelengthAt(3, a.y(3, wave) + 0.5) - a.wavelengthAt(3, a.y(3, wave)));
        QVERIFY(std::abs(offsets.dwave(3, 8) - perRow) < 1e-3 * perRow);
        // Shape alone: on the same traces only the width differs.
        const SpotFigures before = spotFigures(spotStamp(a.view(), 3, wave, true));
        const SpotFigures after = spotFigures(spotStampOnTrace(b.view(), a.view(), 3, wave, true));
        QVERIFY(std::abs(after.offsetX - before.offsetX) < 5e-3);
        QVERIFY(after.rmsX > 1.01 * before.rmsX && std::abs(after.rmsY / before.rmsY - 1.0) < 5e-3);
        const auto parameters = psfParameters(a, 3, wave);
        QCOMPARE(parameters[0].name, std::string("X"));
        QVERIFY(std::abs(parameters[0].value - a.x(3, wave)) < 1e-9);
        QCOMPARE(parameters[2].name, std::string("GHSIGX"));
        QVERIFY(std::abs(psfParameters(b, 3, wave)[2].value / parameters[2].value - 1.0) < 0.06);
        QVERIFY(psfParameters(a, 99, wave).empty());
    }
};

QTEST_APPLESS_MAIN(TestFigures)
#include "TestFigures.moc"
