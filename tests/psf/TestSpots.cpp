#include "core/base/Error.h"
#include "core/psf/GaussHermite.h"
#include "core/psf/Psf.h"
#include "core/simulate/Instrument.h"
#include "tests/support/SmallExposure.h"

#include <QObject>
#include <QTest>

#include <cmath>
#include <vector>

using namespace patchlight;

namespace {

/// A spot by brute force: 1-D Gauss-Hermite functions integrated over each pixel with Simpson's rule.
double integrated(int order, double lo, double hi, double sigma) {
    constexpr int steps = 2000;
    const auto function = [&](double t) {
        const double u = t / sigma;
        double before = 0;
        double he = 1;
        for (int m = 0; m < order; ++m) {
            const double next = u * he - m * before;
            before = he;
            he = next;
        }
        return he * std::exp(-0.5 * u * u) / std::sqrt(2 * M_PI) / sigma;
    };
    const double h = (hi - lo) / steps;
    double sum = function(lo) + function(hi);
    for (int i = 1; i < steps; ++i) sum += (i % 2 == 1 ? 4 : 2) * function(lo + i * h);
    return sum * h / 3;
}

} // namespace

class TestSpots : public QObject {
    Q_OBJECT

private slots:
    void legendreSumsAgreeWithThePolynomials() {
        // P0..P4 at u = 0.3: 1, 0.3, -0.365, -0.3825, 0.0729375 (by hand from the recurrence)
        const double p[5] = {1, 0.3, -0.365, -0.3825, 0.0729375};
        const double c[5] = {2, -1, 0.5, 3, -4};
        double sum = 0;
        for (int count = 1; count <= 5; ++count) {
            sum += c[count - 1] * p[count - 1];
            QVERIFY(std::abs(legendreSum(c, count, 0.3) - sum) < 1e-14);
        }
    }

    void pixelIntegralsAreIntegrals() {
        const double sigma = 1.1;
        const double offset = -4.3; // first pixel minus centre
        std::vector<double> out(7 * 9);
        pixelGaussHermite(offset, sigma, 6, 9, out.data());
        for (int m = 0; m <= 6; ++m)
            for (int k = 0; k < 9; ++k) {
                const double want = integrated(m, offset + k - 0.5, offset + k + 0.5, sigma);
                QVERIFY2(std::abs(out[static_cast<std::size_t>(m * 9 + k)] - want) < 1e-11,
                         qPrintable(QString("order %1 pixel %2: %3 != %4")
                                        .arg(m)
                                        .arg(k)
                                        .arg(out[static_cast<std::size_t>(m * 9 + k)])
                                        .arg(want)));
            }
    }

    void spotsSumToOneAndSitOnTheirTrace() {
        const auto t = test::smallExposure();
        const PsfView psf = t.psf.view();
        std::vector<double> stamp(static_cast<std::size_t>(psf.stampX() * psf.stampY()));
        for (int s = 0; s < psf.nspec; ++s)
            for (double wave = t.range.wmin; wave < t.range.wmax; wave += 3.7) {
                int cx = 0;
                int cy = 0;
                evaluateSpot(psf, s, wave, true, stamp.data(), cx, cy);
                double sum = 0;
                double x = 0;
                double y = 0;
                for (int iy = 0; iy < psf.stampY(); ++iy)
                    for (int ix = 0; ix < psf.stampX(); ++ix) {
                        const double v = stamp[static_cast<std::size_t>(iy * psf.stampX() + ix)];
                        QVERIFY(v >= 0);
                        sum += v;
                        x += v * (cx + ix);
                        y += v * (cy + iy);
                    }
                QVERIFY(std::abs(sum - 1) < 1e-12);
                QVERIFY(std::abs(x - t.psf.x(s, wave)) < 0.2);
                QVERIFY(std::abs(y - t.psf.y(s, wave)) < 0.2);
                // The trace is within half a pixel of the stamp's middle pixel.
                QVERIFY(std::abs(cx + psf.hsizeX - t.psf.x(s, wave)) <= 0.5);
                QVERIFY(std::abs(cy + psf.hsizeY - t.psf.y(s, wave)) <= 0.5);
            }
    }

    void wavelengthsInvertTraces() {
        const auto t = test::smallExposure();
        for (int s = 0; s < t.psf.nspec; ++s)
            for (double wave = t.range.wmin; wave < t.range.wmax; wave += 11.3)
                QVERIFY(std::abs(t.psf.wavelengthAt(s, t.psf.y(s, wave)) - wave) < 1e-6);
    }

    void eachRowKeepsItsOwnDomain() {
        auto t = test::smallExposure();
        // The same function over a wider domain: c0 + c1 u with u' = u/2 - so its linear coefficient doubles.
        LegendreSeries& sigma = t.psf.series.at("GHSIGY");
        const double mid = 0.5 * (sigma.wavemin + sigma.wavemax);
        const double half = sigma.wavemax - mid;
        sigma.ncoeff = 2;
        sigma.coeff.assign(static_cast<std::size_t>(2 * t.psf.nspec), 0.0);
        for (int s = 0; s < t.psf.nspec; ++s) {
            sigma.coeff[static_cast<std::size_t>(2 * s)] = 1.1;
            sigma.coeff[static_cast<std::size_t>(2 * s + 1)] = 0.05;
        }
        t.psf.pack();
        std::vector<double> parameter(static_cast<std::size_t>(t.psf.view().nparam));
        evaluateParameters(t.psf.view(), 3, mid + 0.5 * half, parameter.data());
        QVERIFY(std::abs(parameter[SigmaY] - 1.125) < 1e-12);
        sigma.wavemin = mid - 2 * half;
        sigma.wavemax = mid + 2 * half;
        t.psf.pack();
        evaluateParameters(t.psf.view(), 3, mid + 0.5 * half, parameter.data());
        QVERIFY(std::abs(parameter[SigmaY] - 1.1125) < 1e-12);
    }

    void tracesFarAwayStayOffTheCcd() {
        QVERIFY(spotCorner(PsfType::GaussHermite, std::nan(""), 5) < -1000);
        QVERIFY(spotCorner(PsfType::GaussHermite, 1e300, 5) > 100000);
        QCOMPARE(spotCorner(PsfType::GaussHermite, 10.5, 5), 6);
        QCOMPARE(spotCorner(PsfType::GaussHermite, 10.49, 5), 5);
        QCOMPARE(spotCorner(PsfType::GaussHermite2, 10.99, 5), 5);
    }

    void missingParametersAreNamed() {
        auto t = test::smallExposure();
        t.psf.series.erase("GHSIGX");
        try {
            t.psf.pack();
            QFAIL("accepted");
        } catch (const Error& error) {
            QVERIFY2(QString(error.what()).contains("GHSIGX"), error.what());
        }
    }
};

QTEST_APPLESS_MAIN(TestSpots)
#include "TestSpots.moc"
