#include "core/cpu/CpuBackend.h"
#include "core/engine/Engine.h"
#include "gpu/DeviceBackend.h"
#include "gpu/HostDevice.h"
#include "tests/support/SmallExposure.h"
#include "tests/support/TestSupport.h"

#include <QObject>
#include <QTest>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>

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
    return most;
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

private slots:
    void agreesWithTheCpu_data() {
        QTest::addColumn<QString>("masks");
        for (const char* device : {"host"})
            for (const char* masks : {"none", "3", "5", "7", "11", "column", "columns", "amplifier", "fiber", "edge"})
                QTest::addRow("%s, %s", device, masks) << masks;
    }
    void agreesWithTheCpu() {
        QFETCH(QString, masks);
        auto t = test::smallExposure(10, 5, 120, 200);
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
        const Plan plan = makePlan(t.psf, smallOptions(t.range));
        const ExtractionResult want = extractFrame(*makeCpuBackend(), t.pixels.view(), t.psf, plan);
        const auto backend = gpu::makeDeviceBackend(gpu::makeHostDevice());
        const auto start = std::chrono::steady_clock::now();
        const ExtractionResult got = extractFrame(*backend, t.pixels.view(), t.psf, plan);
        const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        const Differences d = differences(want, got);
        qInfo("%s; %d patches in %.2f s", qPrintable(d.text()), plan.patchCount(), seconds);
        QVERIFY2(d.flux <= 1e-9, qPrintable(d.text()));
        QVERIFY2(d.ivar <= 1e-9, qPrintable(d.text()));
        QVERIFY2(d.resolution <= 1e-9, qPrintable(d.text()));
        QVERIFY2(d.chi2pix <= 1e-9, qPrintable(d.text()));
        QVERIFY2(d.model <= 1e-9, qPrintable(d.text()));
        QCOMPARE(d.masks, 0);
        QCOMPARE(d.lit, 0);
        QCOMPARE(d.status, 0);
    }
};

QTEST_APPLESS_MAIN(TestDeviceBackend)
#include "TestDeviceBackend.moc"
