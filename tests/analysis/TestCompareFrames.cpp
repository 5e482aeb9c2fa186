#include "core/analysis/CompareFrames.h"
#include "core/analysis/MaskNames.h"
#include "core/analysis/Statistics.h"
#include "core/base/Error.h"

#include <QObject>
#include <QTest>

#include <cmath>
#include <limits>
#include <random>

using namespace patchlight;

namespace {

constexpr double notANumber = std::numeric_limits<double>::quiet_NaN();

/// A frame of ones: flux 10, ivar 4 (sigma 1/2), resolution (0.25, 0.5, 0.25), chi2pix 1.
ExtractedFrame frameOf(std::size_t nspec, std::size_t nwave, int specmin = 0, double wmin = 6000.0, double dw = 0.5) {
    ExtractedFrame frame;
    frame.specmin = specmin;
    for (std::size_t i = 0; i < nwave; ++i) frame.wavelength.push_back(wmin + dw * static_cast<double>(i));
    frame.flux = Array2<double>(nspec, nwave, 10.0);
    frame.ivar = Array2<double>(nspec, nwave, 4.0);
    frame.mask = Array2<std::uint32_t>(nspec, nwave, 0U);
    frame.chi2pix = Array2<double>(nspec, nwave, 1.0);
    frame.resolution = Array3<double>(nspec, 3, nwave, 0.25);
    for (std::size_t s = 0; s < nspec; ++s) {
        for (std::size_t i = 0; i < nwave; ++i) frame.resolution(s, 1, i) = 0.5;
    }
    return frame;
}

/// A fibermap with the one column FIBER (J).
FitsTable fibermapOf(const std::vector<int>& fibers) {
    FitsTable table;
    table.name = "FIBERMAP";
    table.rowBytes = 4;
    table.rowCount = fibers.size();
    table.header.set("TFIELDS", 1);
    table.header.set("TTYPE1", "FIBER");
    table.header.set("TFORM1", "J");
    for (const int fiber : fibers) {
        for (int shift = 24; shift >= 0; shift -= 8)
            table.bytes.push_back(static_cast<std::uint8_t>(static_cast<std::uint32_t>(fiber) >> shift));
    }
    return table;
}

template <class F> QString errorOf(F call) {
    try {
        call();
    } catch (const Error& error) {
        return error.what();
    }
    return {};
}

} // namespace

class TestCompareFrames : public QObject {
    Q_OBJECT

private slots:
    void medianAndRobustSigma() {
        std::vector<double> values = {5, 1, 4};
        QCOMPARE(median(values), 4.0);
        values = {5, 1, 4, 100};
        QCOMPARE(median(values), 4.5);
        QVERIFY(std::isnan(median({})));
        // Median 4.5; distances 0.5, 3.5, 0.5, 95.5, of which the median is 2: 2 x 1.4826.
        QVERIFY(std::abs(robustSigmaInPlace(values) - 2.965204437) < 1e-8);
        // The factor is 1/Phi^-1(3/4): scipy.stats.norm.ppf(0.75) = 0.6744897501960817.
        QVERIFY(std::abs(1.482602218505602 * 0.6744897501960817 - 1.0) < 1e-15);
    }

    void maskNames() {
        QCOMPARE(QString::fromStdString(specMaskNames(0x183)), QString("SOMEBADPIX|ALLBADPIX|BAD2DFIT|NODATA"));
        QCOMPARE(QString::fromStdString(ccdMaskNames(0x210)), QString("COSMIC|BADAMP"));
        QCOMPARE(QString::fromStdString(ccdMaskBitName(20)), QString("bit 20"));
        QCOMPARE(QString::fromStdString(specMaskNames(0)), QString());
    }

    void identical() {
        const ExtractedFrame frame = frameOf(3, 7);
        const FrameComparison result = compareFrames(frame, frame, "a", "b");
        QCOMPARE(result.nspec, std::size_t{3});
        QCOMPARE(result.nwave, std::size_t{7});
        QCOMPARE(result.dataBoth, std::size_t{21});
        QVERIFY(result.notes.empty());
        QVERIFY(result.worst.empty());
        for (const char* quantity : {"FLUX", "IVAR", "RESOLUTION", "CHI2PIX", "WAVELENGTH"}) {
            const QuantityDifference* difference = result.find(quantity);
            QVERIFY(difference != nullptr);
            QCOMPARE(difference->largest, 0.0);
            QCOMPARE(difference->unequal, std::size_t{0});
        }
        QCOMPARE(result.find("RESOLUTION")->compared, std::size_t{63});
    }

    void byHand() {
        const ExtractedFrame a = frameOf(2, 5, 25);
        ExtractedFrame b = a;
        b.flux(1, 3) = 10.75; // 0.75 / 0.5 = 1.5 sigma
        b.ivar(0, 2) = 4.5;   // |4 - 4.5| / 4.5 = 1/9; the smaller sigma is 1/sqrt(4.5)
        b.flux(0, 2) = 9.0;   // 1 sqrt(4.5) = 2.1213 sigma
        b.resolution(1, 2, 4) = 0.27;
        b.chi2pix(0, 4) = 1.25; // 0.25 / 1.25 = 0.2
        const FrameComparison result = compareFrames(a, b, "a", "b");
        const QuantityDifference* flux = result.find("FLUX");
        QVERIFY(std::abs(flux->largest - std::sqrt(4.5)) < 1e-15);
        QCOMPARE(flux->median, 0.0);
        QCOMPARE(flux->unequal, std::size_t{2});
        QCOMPARE(flux->where.spectrum, 25);
        QCOMPARE(flux->where.fiber, std::int64_t{25});
        QCOMPARE(flux->where.bin, std::size_t{2});
        QCOMPARE(flux->where.wavelength, 6001.0);
        QCOMPARE(flux->valueA, 10.0);
        QCOMPARE(flux->valueB, 9.0);
        QVERIFY(std::abs(result.find("IVAR")->largest - 1.0 / 9.0) < 1e-15);
        QVERIFY(std::abs(result.find("RESOLUTION")->largest - 0.02) < 1e-15);
        QCOMPARE(result.find("RESOLUTION")->diagonal, 1); // k = 2, ndiag = 1: row - column = +1
        QCOMPARE(result.find("RESOLUTION")->where.spectrum, 26);
        QVERIFY(std::abs(result.find("CHI2PIX")->largest - 0.2) < 1e-15);
        QCOMPARE(result.worst.size(), std::size_t{2});
        QVERIFY(std::abs(result.worst[0].sigmas - std::sqrt(4.5)) < 1e-15);
        QVERIFY(std::abs(result.worst[1].sigmas + 1.5) < 1e-15);
        QCOMPARE(result.worst[1].where.spectrum, 26);
        // The other way round the size of differences is the same.
        QCOMPARE(compareFrames(b, a, "b", "a").find("FLUX")->largest, flux->largest);
    }

    void dataInOneOnly() {
        const ExtractedFrame a = frameOf(1, 6);
        ExtractedFrame b = a;
        b.ivar(0, 1) = 0.0;
        b.flux(0, 1) = 0.0;
        ExtractedFrame c = a;
        c.ivar(0, 2) = 0.0;
        c.ivar(0, 3) = -1.0;
        FrameComparison result = compareFrames(a, b, "a", "b");
        QCOMPARE(result.dataBoth, std::size_t{5});
        QCOMPARE(result.dataOnlyA, std::size_t{1});
        QCOMPARE(result.dataOnlyB, std::size_t{0});
        QCOMPARE(result.find("FLUX")->largest, 0.0);
        result = compareFrames(c, b, "c", "b");
        QCOMPARE(result.dataOnlyA, std::size_t{1});
        QCOMPARE(result.dataOnlyB, std::size_t{2});
        QCOMPARE(result.dataBoth, std::size_t{3});
    }

    void notFinite() {
        const ExtractedFrame a = frameOf(1, 6);
        ExtractedFrame b = a;
        b.flux(0, 4) = notANumber;
        QVERIFY(std::isinf(compareFrames(a, b, "a", "b").find("FLUX")->largest));
        QCOMPARE(compareFrames(a, b, "a", "b").worst.front().where.bin, std::size_t{4});
        QCOMPARE(compareFrames(b, b, "b", "b").find("FLUX")->largest, 0.0); // NaN in both is the same
        b = a;
        b.ivar(0, 4) = notANumber;
        QCOMPARE(compareFrames(a, b, "a", "b").dataBoth, std::size_t{6});
        QVERIFY(std::isinf(compareFrames(a, b, "a", "b").find("IVAR")->largest));
    }

    void masks() {
        ExtractedFrame a = frameOf(2, 3);
        ExtractedFrame b = frameOf(2, 3);
        a.mask(0, 0) = 0x1;
        b.mask(0, 0) = 0x1;
        a.mask(0, 1) = 0x3;
        b.mask(0, 1) = 0x1;
        b.mask(1, 2) = 0x80;
        const FrameComparison result = compareFrames(a, b, "a", "b");
        QCOMPARE(result.maskUnequal, std::size_t{2});
        QCOMPARE(result.maskBits.size(), std::size_t{3});
        QCOMPARE(result.maskBits[0].both, std::size_t{2});
        QCOMPARE(result.maskBits[0].onlyA + result.maskBits[0].onlyB, std::size_t{0});
        QCOMPARE(QString::fromStdString(result.maskBits[1].name), QString("ALLBADPIX"));
        QCOMPARE(result.maskBits[1].onlyA, std::size_t{1});
        QCOMPARE(result.maskBits[2].bit, 7);
        QCOMPARE(result.maskBits[2].onlyB, std::size_t{1});
        QCOMPARE(result.maskBits[2].where.row, std::size_t{1});
        QCOMPARE(result.maskBits[2].where.wavelength, 6001.0);
    }

    void commonPart() {
        // Spectra 10-14 and 12-19, 6000-6004.5 and 6002-6008.5 in steps of 0.5: 12-14 and 6002-6004.5 (6 bins) are common.
        ExtractedFrame a = frameOf(5, 10, 10);
        ExtractedFrame b = frameOf(8, 14, 12, 6002.0);
        a.flux(3, 5) = 12.0; // spectrum 13 at 6002.5
        b.flux(1, 1) = 11.0; // the same
        FrameComparison result = compareFrames(a, b, "a", "b");
        QCOMPARE(result.nspec, std::size_t{3});
        QCOMPARE(result.nwave, std::size_t{6});
        QCOMPARE(result.specmin, 12);
        QCOMPARE(result.notes.size(), std::size_t{2});
        QCOMPARE(result.find("FLUX")->largest, 2.0);
        QCOMPARE(result.find("FLUX")->where.spectrum, 13);
        QCOMPARE(result.find("FLUX")->where.wavelength, 6002.5);
        // Turned round.
        result = compareFrames(b, a, "b", "a");
        QCOMPARE(result.nwave, std::size_t{6});
        QCOMPARE(result.find("FLUX")->largest, 2.0);
    }

    void fibersDecideWhereKnown() {
        // Spectrum indices say nothing in common, fibers do: b holds a's rows in turn, from row 1 on.
        ExtractedFrame a = frameOf(4, 5, 0);
        ExtractedFrame b = frameOf(3, 5, 100);
        for (std::size_t row = 0; row < 3; ++row) {
            for (std::size_t i = 0; i < 5; ++i) {
                a.flux(row + 1, i) = static_cast<double>(row);
                b.flux(row, i) = static_cast<double>(row);
            }
        }
        QVERIFY(errorOf([&] { (void)compareFrames(a, b, "a.fits", "b.fits"); }).contains("no spectrum in common"));
        a.fibermap = fibermapOf({500, 501, 502, 503});
        b.fibermap = fibermapOf({501, 502, 503});
        FrameComparison result = compareFrames(a, b, "a", "b");
        QCOMPARE(result.nspec, std::size_t{3});
        QCOMPARE(result.find("FLUX")->largest, 0.0);
        QCOMPARE(result.find("FLUX")->where.fiber, std::int64_t{501});
        result = compareFrames(a, b, "a", "b", {.byRow = true});
        QVERIFY(result.find("FLUX")->largest > 0.0);
    }

    void gridsThatDoNotMeet() {
        const ExtractedFrame a = frameOf(1, 10);
        QString message = errorOf([&] { (void)compareFrames(a, frameOf(1, 10, 0, 6000.1), "a.fits", "b.fits"); });
        QVERIFY2(message.contains("a.fits") && message.contains("b.fits") && message.contains("6000.1"),
                 qPrintable(message));
        message = errorOf([&] { (void)compareFrames(a, frameOf(1, 10, 0, 6000.0, 0.6), "a.fits", "b.fits"); });
        QVERIFY2(message.contains("different wavelength grids"), qPrintable(message));
        message = errorOf([&] { (void)compareFrames(a, frameOf(1, 10, 0, 7000.0), "a.fits", "b.fits"); });
        QVERIFY2(message.contains("no wavelength in common"), qPrintable(message));
        // Rounding is not a difference.
        QCOMPARE(compareFrames(a, frameOf(1, 10, 0, 6000.0 + 1e-8), "a", "b").nwave, std::size_t{10});
        QCOMPARE(compareFrames(frameOf(1, 10, 0, 6000.0 + 1e-8), a, "a", "b").nwave, std::size_t{10});
    }

    void missingParts() {
        const ExtractedFrame a = frameOf(1, 5);
        ExtractedFrame b = a;
        b.chi2pix = {};
        b.resolution = Array3<double>(1, 1, 5, 0.5);
        const FrameComparison result = compareFrames(a, b, "a", "b");
        QVERIFY(result.find("CHI2PIX") == nullptr);
        QCOMPARE(result.find("RESOLUTION")->compared, std::size_t{5}); // the middle diagonal
        QCOMPARE(result.find("RESOLUTION")->largest, 0.0);
        QCOMPARE(result.notes.size(), std::size_t{2});
    }

    void truthInBins() {
        // Truth in steps of 1, edges at 0.5, 1.5, ..., 6.5; grid in steps of 2 with edges 1, 3, 5: half of sample 1, sample 2, half
        // of sample 3: (10/2 + 20 + 40/2)/2 = 22.5; then (40/2 + 80 + 160/2)/2 = 90.
        const std::vector<double> wavelength = {1, 2, 3, 4, 5, 6};
        const double flux[] = {10, 20, 40, 80, 160, 320};
        const auto binTruth = [&](const std::vector<double>& grid) {
            return TruthResampler(wavelength, grid, TruthResampling::Bins).apply(flux);
        };
        std::vector<double> binned = binTruth({2, 4});
        QCOMPARE(binned.size(), std::size_t{2});
        QCOMPARE(binned[0], 22.5);
        QCOMPARE(binned[1], 90.0);
        // The same grid: the same values.
        binned = binTruth(wavelength);
        for (std::size_t i = 0; i < 6; ++i) QVERIFY(std::abs(binned[i] - flux[i]) < 1e-13 * flux[i]);
        // Bins that reach beyond the truth (edges -1, 1 and 7, 9) are not known.
        binned = binTruth({0, 2, 4, 6, 8});
        QVERIFY(std::isnan(binned[0]) && std::isnan(binned[3]) && std::isnan(binned[4]));
        QCOMPARE(binned[1], 22.5);
        // Photons are kept: sum of flux x width, 630 over [0.5, 6.5], on a grid of other steps.
        std::vector<double> grid;
        for (int i = 0; i < 20; ++i) grid.push_back(0.65 + 0.3 * i);
        binned = binTruth(grid);
        double photons = 0.0;
        for (const double value : binned) photons += 0.3 * value;
        QVERIFY2(std::abs(photons - 630.0) < 1e-9, qPrintable(QString::number(photons, 'g', 15)));
    }

    void truthInterpolated() {
        // Grid 0, 1, ..., 19 and a truth in steps of 0.1. On a grid wavelength all light stays there.
        std::vector<double> grid;
        for (int i = 0; i < 20; ++i) grid.push_back(i);
        std::vector<double> wavelength;
        for (int k = 0; k <= 400; ++k) wavelength.push_back(-10.0 + 0.1 * k);
        const TruthResampler resampler(wavelength, grid, TruthResampling::Interpolation);
        QVERIFY(!resampler.onGrid());
        std::vector<double> flux(wavelength.size(), 0.0);
        flux[200] = 10.0; // at 10: 1 photon
        std::vector<double> result = resampler.apply(flux.data());
        for (std::size_t i = 0; i < 20; ++i) QVERIFY(std::abs(result[i] - (i == 10 ? 1.0 : 0.0)) < 1e-12);
        // At 10.3: photons, centre and higher moments up to the 11th are kept.
        flux[200] = 0.0;
        flux[203] = 10.0;
        result = resampler.apply(flux.data());
        for (int power = 0; power <= 11; ++power) {
            double moment = 0.0;
            for (std::size_t i = 0; i < 20; ++i) moment += result[i] * std::pow((grid[i] - 10.0) / 6.0, power);
            QVERIFY2(std::abs(moment - std::pow(0.3 / 6.0, power)) < 1e-12, qPrintable(QString::number(power)));
        }
        // A smooth spectrum: its values.
        for (std::size_t k = 0; k < flux.size(); ++k) flux[k] = 5.0 + std::sin(wavelength[k]);
        result = resampler.apply(flux.data());
        for (std::size_t i = 0; i < 20; ++i) QVERIFY(std::abs(result[i] - (5.0 + std::sin(grid[i]))) < 2e-4);
        // A truth from 3 on reaches grid wavelengths from 9 on in full.
        for (double& w : wavelength) w += 13.0;
        result = TruthResampler(wavelength, grid, TruthResampling::Interpolation).apply(flux.data());
        QVERIFY(std::isnan(result[8]) && std::isfinite(result[9]) && std::isfinite(result[19]));
        QVERIFY(TruthResampler(grid, grid, TruthResampling::Bins).onGrid());
        QVERIFY(errorOf([&] {
                    (void)TruthResampler(wavelength, {1, 2, 4}, TruthResampling::Interpolation);
                }).contains("equal steps"));
    }

    void resolutionBand() {
        // R[i, j] with i - j = -1, 0, 1 stored at k = 0, 1, 2 of column j. R = [[1,2,0,0],[3,4,5,0],[0,6,7,8],[0,0,9,10]], truth
        // (1, 10, 100, 1000): R truth = (21, 543, 8760, 10900) by hand.
        Array3<double> resolution(1, 3, 4);
        const double dense[4][4] = {{1, 2, 0, 0}, {3, 4, 5, 0}, {0, 6, 7, 8}, {0, 0, 9, 10}};
        for (int j = 0; j < 4; ++j) {
            for (int k = 0; k < 3; ++k) {
                const int i = j - 1 + k;
                if (i >= 0 && i < 4)
                    resolution(0, static_cast<std::size_t>(k), static_cast<std::size_t>(j)) = dense[i][j];
            }
        }
        QCOMPARE(convolveWithResolution(resolution, 0, {1, 10, 100, 1000}),
                 (std::vector<double>{21, 543, 8760, 10900}));
    }

    void pulls() {
        std::vector<double> values = {1, -1, 3, -3, 6, 0};
        // Mean 1; squares of (0, -2, 2, -4, 5, -1): 50/6, sigma 2.88675. Median 0.5; distances 0.5, 1.5, 2.5, 3.5, 5.5, 0.5, of
        // which the median is 2: 2.9652.
        const PullStatistics statistics = pullStatistics(values);
        QCOMPARE(statistics.count, std::size_t{6});
        QCOMPARE(statistics.mean, 1.0);
        QVERIFY(std::abs(statistics.sigma - std::sqrt(50.0 / 6.0)) < 1e-15);
        QVERIFY(std::abs(statistics.robustSigma - 2.965204437) < 1e-8);
        QCOMPARE(statistics.smallest, -3.0);
        QCOMPARE(statistics.largest, 6.0);
        QCOMPARE(statistics.outliers, std::size_t{1});
        std::vector<double> none;
        QCOMPARE(pullStatistics(none).count, std::size_t{0});
    }

    void truthByHand() {
        // A flat truth of 10 photons per Angstrom through R with column sums 1 is 10: pulls are (flux - 10) x 2.
        ExtractedFrame frame = frameOf(2, 8, 30);
        frame.flux(0, 3) = 11.0; // pull 2
        frame.flux(1, 4) = 7.0;  // pull -6
        frame.flux(1, 0) = 99.0; // at the end: not looked at, since R reaches beyond the frame
        frame.flux(1, 2) = 99.0;
        frame.mask(1, 2) = 1;
        frame.flux(0, 5) = 99.0;
        frame.ivar(0, 5) = 0.0;
        TruthSpectra truth;
        truth.path = "truth.fits";
        truth.specmin = 30;
        for (int i = 0; i < 60; ++i) truth.wavelength.push_back(5999.0 + 0.1 * i);
        truth.flux = Array2<double>(2, truth.wavelength.size(), 10.0);
        const TruthComparison result = compareWithTruth(frame, truth, "frame.fits");
        QCOMPARE(result.nspec, std::size_t{2});
        QCOMPARE(result.specmin, 30);
        QCOMPARE(result.all.count, std::size_t{10}); // 2 x 8, less 4 at the ends, 1 masked, 1 without data
        QCOMPARE(result.atEdges, std::size_t{4});
        QCOMPARE(result.masked, std::size_t{1});
        QCOMPARE(result.noData, std::size_t{1});
        QVERIFY(std::abs(result.all.mean + 0.4) < 1e-12); // (2 - 6)/10
        QCOMPARE(result.all.outliers, std::size_t{1});
        QCOMPARE(result.worst.size(), std::size_t{2}); // the other pulls are 0
        QCOMPARE(result.worst[0].where.spectrum, 31);
        QCOMPARE(result.worst[0].where.wavelength, 6002.0);
        QVERIFY(std::abs(result.worst[0].sigmas + 6.0) < 1e-12);
        QVERIFY(std::abs(result.worst[1].sigmas - 2.0) < 1e-12);
        QCOMPARE(result.worstMean.spectrum, 31);
        QVERIFY(std::abs(result.worstMean.value + 1.2) < 1e-12); // -6/5
        QCOMPARE(result.bySignal.size(), std::size_t{1});        // 10 x 2 = 20
        QCOMPARE(result.bandRowSum, 1.0);
        QCOMPARE(result.bandShift, 0.0);
        // A band that sums to 1.01 moves every pull by -0.01 x 10 x 2.
        for (double& element : frame.resolution.values()) element *= 1.01;
        const TruthComparison wide = compareWithTruth(frame, truth, "frame.fits");
        QVERIFY(std::abs(wide.bandRowSum - 1.01) < 1e-12);
        QVERIFY(std::abs(wide.all.mean - result.all.mean + 0.2) < 1e-12);
        QVERIFY(std::abs(wide.bandShift + 0.01 * 10.1 * 2.0) < 1e-12); // of the model, 10.1
        QCOMPARE(result.bySignal[0].from, 10.0);
    }

    void barycentricFrame() {
        // A frame with HELIOCOR = 1.0002 at 6000 Angstrom holds what the CCD has at 5998.8: a step in the truth there must be met.
        ExtractedFrame frame = frameOf(1, 41, 0, 5990.0);
        frame.header.set("HELIOCOR", 1.0002);
        TruthSpectra truth;
        truth.specmin = 0;
        for (int i = 0; i < 4000; ++i) truth.wavelength.push_back(5980.0 + 0.01 * i);
        truth.flux = Array2<double>(1, truth.wavelength.size());
        for (std::size_t i = 0; i < truth.wavelength.size(); ++i)
            truth.flux(0, i) = truth.wavelength[i] < 5998.8 ? 10.0 : 20.0;
        for (std::size_t i = 0; i < 41; ++i) {
            // 6000 is bin 20; its bin is cut in the middle: 15, then R's (1, 2, 1)/4 over 10, 15, 20.
            const double values[] = {11.25, 15.0, 18.75};
            frame.flux(0, i) = i < 19 ? 10.0 : (i > 21 ? 20.0 : values[i - 19]);
        }
        const TruthComparison result = compareWithTruth(frame, truth, "frame.fits");
        QVERIFY2(result.all.largest < 0.2 && result.all.smallest > -0.2,
                 qPrintable(QString::number(result.all.largest)));
    }

    void unitPulls() {
        // Noise of known size on R truth: mean 0 and sigma 1 within 4 standard errors.
        constexpr std::size_t nspec = 20;
        constexpr std::size_t nwave = 1000;
        ExtractedFrame frame = frameOf(nspec, nwave);
        TruthSpectra truth;
        truth.wavelength = frame.wavelength;
        truth.flux = Array2<double>(nspec, nwave);
        std::mt19937_64 random(1);
        std::normal_distribution<double> normal;
        for (std::size_t s = 0; s < nspec; ++s) {
            for (std::size_t i = 0; i < nwave; ++i)
                truth.flux(s, i) = 1000.0 * (1.0 + std::sin(0.1 * static_cast<double>(i * (s + 1))));
            const std::vector<double> row(truth.flux.row(s).begin(), truth.flux.row(s).end());
            const std::vector<double> model = convolveWithResolution(frame.resolution, s, row);
            for (std::size_t i = 0; i < nwave; ++i) {
                frame.ivar(s, i) = 1.0 / (1.0 + 0.01 * static_cast<double>(i));
                frame.flux(s, i) = model[i] + normal(random) / std::sqrt(frame.ivar(s, i));
            }
        }
        const TruthComparison result = compareWithTruth(frame, truth, "frame.fits");
        const double n = static_cast<double>(result.all.count);
        QCOMPARE(result.all.count, nspec * (nwave - 2));
        QVERIFY(std::abs(result.all.mean) < 4.0 / std::sqrt(n));
        QVERIFY(std::abs(result.all.sigma - 1.0) < 4.0 / std::sqrt(2.0 * n));
        QVERIFY(std::abs(result.all.robustSigma - 1.0) < 6.0 / std::sqrt(2.0 * n));
        QVERIFY(!result.notes.empty()); // rows taken by position
    }

    void truthErrors() {
        const ExtractedFrame frame = frameOf(2, 8, 30);
        TruthSpectra truth;
        truth.path = "truth.fits";
        for (int i = 0; i < 60; ++i) truth.wavelength.push_back(5999.0 + 0.1 * i);
        truth.flux = Array2<double>(5, truth.wavelength.size(), 10.0);
        QString message = errorOf([&] { (void)compareWithTruth(frame, truth, "frame.fits"); });
        QVERIFY2(message.contains("--truth-specmin") && message.contains("truth.fits"), qPrintable(message));
        QCOMPARE(compareWithTruth(frame, truth, "frame.fits", {.truthSpecmin = 29}).nspec, std::size_t{2});
        QCOMPARE(compareWithTruth(frame, truth, "frame.fits", {.truthSpecmin = 31}).nspec, std::size_t{1});
        message = errorOf([&] { (void)compareWithTruth(frame, truth, "frame.fits", {.truthSpecmin = 32}); });
        QVERIFY2(message.contains("none of their spectra in common"), qPrintable(message));
        // By fiber, where the truth knows them: rows 2 and 3 are fibers 530 and 531.
        truth.fiber = {528, 529, 530, 531, 532};
        QVERIFY(errorOf([&] {
                    (void)compareWithTruth(frame, truth, "frame.fits");
                }).contains("none of their fibers in common"));
        ExtractedFrame mapped = frame;
        mapped.fibermap = fibermapOf({532, 533});
        QCOMPARE(compareWithTruth(mapped, truth, "frame.fits").nspec, std::size_t{1});
        mapped.fibermap.reset();
        mapped.header.set("FIBERMIN", 531);
        QCOMPARE(compareWithTruth(mapped, truth, "frame.fits").nspec, std::size_t{2});
        for (double& wavelength : truth.wavelength) wavelength += 500.0;
        message = errorOf([&] { (void)compareWithTruth(frame, truth, "frame.fits", {.truthSpecmin = 30}); });
        QVERIFY2(message.contains("no bin to compare") && message.contains("6499"), qPrintable(message));
        ExtractedFrame bare = frame;
        bare.resolution = {};
        message = errorOf([&] { (void)compareWithTruth(bare, truth, "frame.fits"); });
        QVERIFY2(message.contains("frame.fits") && message.contains("RESOLUTION"), qPrintable(message));
    }
};

QTEST_APPLESS_MAIN(TestCompareFrames)
#include "TestCompareFrames.moc"
