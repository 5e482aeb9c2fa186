#include "core/cpu/SpotRows.h"
#include "core/psf/GaussHermite.h"
#include "tests/support/SmallExposure.h"

#include <QObject>
#include <QTest>

#include <cmath>
#include <vector>

using namespace patchlight;

namespace {

WavelengthGrid makeGrid(const WavelengthRange& range) {
    WavelengthGrid grid;
    grid.wmin = range.wmin;
    grid.dw = range.dw;
    grid.nwave = static_cast<int>((range.wmax - range.wmin) / range.dw);
    grid.pad = 12;
    grid.nwavestep = 20;
    return grid;
}

/// Bins near enough for what the slots are for: with 8 and with more than 8 on a row.
WavelengthRange rangeFor(WavelengthRange range, int rowSlots) {
    range.dw = rowSlots == SpotRows::fewSlots ? 0.8 : 0.7;
    return range;
}

} // namespace

class TestSpotRows : public QObject {
    Q_OBJECT

private slots:
    /// The vectorised evaluation agrees with evaluateSpot(), pixel by pixel, wherever the tile begins.
    void rowsHoldTheSpots_data() {
        QTest::addColumn<QString>("kind");
        QTest::addColumn<int>("firstBin");
        QTest::addColumn<int>("rowSlots");
        for (const QString kind : {"plain", "tail", "two cores", "no light", "far apart"})
            for (const int first : {0, 3, 8, 13})
                for (const int many : {SpotRows::fewSlots, SpotRows::manySlots})
                    QTest::newRow(qPrintable(QString("%1 from bin %2, %3 slots").arg(kind).arg(first).arg(many)))
                        << kind << first << many;
    }
    void rowsHoldTheSpots() {
        QFETCH(QString, kind);
        QFETCH(int, firstBin);
        QFETCH(int, rowSlots);
        auto t = test::smallExposure();
        if (kind == "tail")
            for (double& amplitude : t.psf.series.at("TAILAMP").coeff) amplitude += 0.01;
        if (kind == "two cores") test::giveSecondCore(t.psf);
        if (kind == "no light")
            for (auto& [name, series] : t.psf.series)
                if (name != "X" && name != "Y")
                    for (int n = 0; n < series.ncoeff; ++n)
                        series.coeff[static_cast<std::size_t>(1 * series.ncoeff + n)] = 0;
        t.psf.pack();
        WavelengthGrid grid = makeGrid(rangeFor(t.range, rowSlots));
        if (kind == "far apart") grid.dw = 25.0;
        const PsfView psf = t.psf.view();
        const IndexRange spectra{0, 5};
        // Stamps of two cores are a row lower.
        if (kind != "two cores" && kind != "far apart")
            QCOMPARE(SpotRows::slotsFor(mostBinsOnRow(psf, grid, spectra, t.pixels.ny)), rowSlots);
        const IndexRange bins{firstBin, grid.nbins() - 5};
        SpotRows rows;
        QVERIFY(rows.locate(psf, grid, spectra, bins, t.pixels.ny, rowSlots));
        rows.evaluate(psf, grid, true);

        std::vector<double> stamp(static_cast<std::size_t>(psf.stampX() * psf.stampY()));
        double light = 0;
        double worst = 0;
        for (int s = spectra.first; s < spectra.last; ++s) {
            for (int bin = bins.first; bin < bins.last; ++bin) {
                int cx = 0;
                int cy = 0;
                evaluateSpot(psf, s, grid.wavelength(bin), true, stamp.data(), cx, cy);
                QCOMPARE(rows.cornerX(s, bin), cx);
                QCOMPARE(rows.cornerY(s, bin), cy);
                QCOMPARE(rows.spotSum(s, bin), kind == "no light" && s == 1 ? 0.0 : 1.0);
                for (int iy = 0; iy < psf.stampY(); ++iy) {
                    const int y = cy + iy;
                    if (y < 0 || y >= t.pixels.ny) continue;
                    QVERIFY(rows.active(s, y).contains(bin));
                    for (int ix = 0; ix < psf.stampX(); ++ix) {
                        const int c = cx + ix - rows.columnOrigin(s, y);
                        QVERIFY(c >= 0 && c < rows.width());
                        const double got = rows.row(s, y)[c * rowSlots + bin % rowSlots];
                        worst =
                            std::max(worst, std::abs(got - stamp[static_cast<std::size_t>(iy * psf.stampX() + ix)]));
                        light += got;
                    }
                }
            }
        }
        QVERIFY2(worst < 1e-14, qPrintable(QString::number(worst)));
        // Nothing else is in the rows.
        double all = 0;
        for (int s = spectra.first; s < spectra.last; ++s)
            for (int y = rows.rows().first; y < rows.rows().last; ++y)
                for (int i = 0; i < rows.width() * rowSlots; ++i) all += rows.row(s, y)[i];
        QVERIFY(std::abs(all - light) < 1e-9 * light);
    }

    /// Sums over pixels of pairs of spots, against a plain loop over the image.
    void sumsOfPairsAreSumsOverPixels_data() {
        QTest::addColumn<int>("rowSlots");
        QTest::newRow("8 slots") << SpotRows::fewSlots;
        QTest::newRow("12 slots") << SpotRows::manySlots;
    }
    void sumsOfPairsAreSumsOverPixels() {
        QFETCH(int, rowSlots);
        auto t = test::smallExposure();
        test::maskPixels(t.pixels, 20, 24, 60, 70);
        const WavelengthGrid grid = makeGrid(rangeFor(t.range, rowSlots));
        const PsfView psf = t.psf.view();
        const IndexRange spectra{0, 5};
        const IndexRange bins{5, 70};
        SpotRows rows;
        QVERIFY(rows.locate(psf, grid, spectra, bins, t.pixels.ny, rowSlots));
        rows.evaluate(psf, grid, true);
        PairSums sums;
        sums.accumulate(rows, t.pixels.view());

        const int nx = psf.stampX();
        const int ny = psf.stampY();
        const auto size = static_cast<std::size_t>(nx * ny);
        const auto stampOf = [&](int s, int bin, int& cx, int& cy) {
            std::vector<double> stamp(size);
            evaluateSpot(psf, s, grid.wavelength(bin), true, stamp.data(), cx, cy);
            return stamp;
        };
        const auto product = [&](int s1, int b1, int s2, int b2) {
            int x1 = 0;
            int y1 = 0;
            int x2 = 0;
            int y2 = 0;
            const auto a = stampOf(s1, b1, x1, y1);
            const auto b = stampOf(s2, b2, x2, y2);
            double sum = 0;
            for (int iy = 0; iy < ny; ++iy)
                for (int ix = 0; ix < nx; ++ix) {
                    const int jx = x1 + ix - x2;
                    const int jy = y1 + iy - y2;
                    const int x = x1 + ix;
                    const int y = y1 + iy;
                    if (jx < 0 || jx >= nx || jy < 0 || jy >= ny || x < 0 || y < 0 || x >= t.pixels.nx ||
                        y >= t.pixels.ny)
                        continue;
                    sum += a[static_cast<std::size_t>(iy * nx + ix)] * b[static_cast<std::size_t>(jy * nx + jx)] *
                           static_cast<double>(
                               t.pixels.weights[static_cast<std::size_t>(y) * static_cast<std::size_t>(t.pixels.nx) +
                                                static_cast<std::size_t>(x)]);
                }
            return sum;
        };
        double worst = 0;
        double secondWorst = 0;
        for (int s = 0; s < 5; ++s) {
            for (int bin = bins.first; bin < bins.last; ++bin) {
                for (int d = 0; d < static_cast<int>(sums.selfWidth()) && bin + d < bins.last; ++d)
                    worst = std::max(worst, std::abs(sums.self(s, bin)[d] - product(s, bin, s, bin + d)));
                if (s < 4)
                    for (int d = -sums.reach(); d <= sums.reach(); ++d)
                        if (bins.contains(bin + d))
                            worst = std::max(
                                worst, std::abs(sums.next(s, bin)[d + sums.reach()] - product(s, bin, s + 1, bin + d)));
                if (s < 3) {
                    double second = 0;
                    for (int other = std::max(bins.first, bin - 15); other < std::min(bins.last, bin + 15); ++other)
                        second = std::max(second, product(s, bin, s + 2, other));
                    secondWorst = std::max(secondWorst, std::abs(second - sums.second(s, bin)));
                }
                int cx = 0;
                int cy = 0;
                const auto stamp = stampOf(s, bin, cx, cy);
                double y = 0;
                double weight = 0;
                double unmasked = 0;
                for (int iy = 0; iy < ny; ++iy)
                    for (int ix = 0; ix < nx; ++ix) {
                        if (cx + ix < 0 || cy + iy < 0 || cx + ix >= t.pixels.nx || cy + iy >= t.pixels.ny) continue;
                        const auto p = static_cast<std::size_t>(cy + iy) * static_cast<std::size_t>(t.pixels.nx) +
                                       static_cast<std::size_t>(cx + ix);
                        const double aw =
                            stamp[static_cast<std::size_t>(iy * nx + ix)] * static_cast<double>(t.pixels.weights[p]);
                        weight += aw;
                        y += aw * static_cast<double>(t.pixels.pixels[p]);
                        unmasked += t.pixels.weights[p] > 0.0F ? stamp[static_cast<std::size_t>(iy * nx + ix)] : 0.0;
                    }
                QVERIFY(std::abs(sums.y(s, bin) - y) < 1e-11 * std::max(1.0, std::abs(y)));
                QVERIFY(std::abs(sums.fluxweight(s, bin) - weight) < 1e-13);
                QVERIFY(std::abs(sums.unmasked(s, bin) - unmasked) < 1e-13);
            }
        }
        QVERIFY2(worst < 1e-14, qPrintable(QString::number(worst)));
        QVERIFY2(secondWorst < 1e-14, qPrintable(QString::number(secondWorst)));
    }

    void layoutsThatDoNotFitAreRefused() {
        auto t = test::smallExposure();
        WavelengthGrid grid = makeGrid(t.range);
        SpotRows rows;
        QVERIFY(rows.locate(t.psf.view(), grid, {0, 5}, {0, 40}, t.pixels.ny, SpotRows::fewSlots));
        grid.dw = 0.7; // more than eight bins on a row
        QVERIFY(!rows.locate(t.psf.view(), grid, {0, 5}, {0, 40}, t.pixels.ny, SpotRows::fewSlots));
        QVERIFY(rows.locate(t.psf.view(), grid, {0, 5}, {0, 40}, t.pixels.ny, SpotRows::manySlots));
        grid.dw = 0.4; // more than twelve
        QVERIFY(!rows.locate(t.psf.view(), grid, {0, 5}, {0, 40}, t.pixels.ny, SpotRows::manySlots));
        grid.dw = -0.8; // wavelengths that run downwards
        QVERIFY(!rows.locate(t.psf.view(), grid, {0, 5}, {0, 40}, t.pixels.ny, SpotRows::fewSlots));
    }
};

QTEST_APPLESS_MAIN(TestSpotRows)
#include "TestSpotRows.moc"
