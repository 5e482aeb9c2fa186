#include "core/io/FitsFile.h"
#include "core/psf/GaussHermite.h"
#include "core/psf/Psf.h"
#include "tests/support/TestSupport.h"

#include <QObject>
#include <QTest>

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

using namespace patchlight;

/// Spots of real PSF files as specter evaluates them, tails and both Gauss-Hermite types, where those files lie beside the checkout.
class TestGoldenSpots : public QObject {
    Q_OBJECT

private slots:
    void spotsAgreeWithSpecter_data() {
        QTest::addColumn<QString>("name");
        for (const QString name : {"psf-r0-00051060", "psf-gausshermite", "psf-gausshermite2"})
            QTest::newRow(qPrintable(name)) << name;
    }
    void spotsAgreeWithSpecter() {
        QFETCH(QString, name);
        const QString golden = "golden/specter-spots-" + name + ".fits.gz";
        PATCHLIGHT_NEED_SHARED(golden);
        const Psf psf = readPsf(test::sharedFile(name + ".fits").toStdString());
        const FitsFile file(test::sharedFile(golden).toStdString());
        const FitsTable points = file.readTable(file.require("POINTS"));
        const FitsHdu& hdu = file.require("SPOTS");
        std::vector<double> want(file.pixelCount(hdu));
        file.readImage(hdu, std::span<double>(want));
        const PsfView view = psf.view();
        QCOMPARE(hdu.shape.at(0), std::int64_t(view.stampX()));
        QCOMPARE(hdu.shape.at(1), std::int64_t(view.stampY()));
        const auto spectra = points.integers("ISPEC");
        const auto waves = points.numbers("WAVELENGTH");
        const auto xs = points.integers("XCORNER");
        const auto ys = points.integers("YCORNER");
        QVERIFY(spectra.size() >= 20);
        const std::size_t size = static_cast<std::size_t>(view.stampX() * view.stampY());
        std::vector<double> stamp(size);
        for (std::size_t i = 0; i < spectra.size(); ++i) {
            int cx = 0;
            int cy = 0;
            evaluateSpot(view, static_cast<int>(spectra[i]), waves[i], true, stamp.data(), cx, cy);
            QCOMPARE(cx, static_cast<int>(xs[i]));
            QCOMPARE(cy, static_cast<int>(ys[i]));
            double largest = 0;
            double worst = 0;
            for (std::size_t p = 0; p < size; ++p) {
                largest = std::max(largest, want[i * size + p]);
                worst = std::max(worst, std::abs(stamp[p] - want[i * size + p]));
            }
            QVERIFY2(worst <= 1e-10 * largest,
                     qPrintable(QString("spot %1: %2 of the maximum").arg(i).arg(worst / largest)));
        }
    }
};

QTEST_APPLESS_MAIN(TestGoldenSpots)
#include "TestGoldenSpots.moc"
