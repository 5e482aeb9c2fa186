#include "core/analysis/FileInfo.h"
#include "core/analysis/TruthSpectra.h"
#include "core/base/Error.h"
#include "core/frame/ExtractedFrame.h"
#include "core/image/CcdImage.h"
#include "core/io/FitsFile.h"
#include "core/io/FitsWriter.h"
#include "core/psf/Psf.h"
#include "core/simulate/FrameSimulator.h"
#include "core/simulate/Instrument.h"
#include "tests/support/TestSupport.h"

#include <QObject>
#include <QTest>

#include <cmath>
#include <limits>

using namespace patchlight;

namespace {

template <class T> T valueOf(const FileInfo& info, const char* key) {
    const InfoItem* item = info.find(key);
    if (item == nullptr || !std::holds_alternative<T>(item->value)) throw Error(std::string("no such fact: ") + key);
    return std::get<T>(item->value);
}

std::int64_t integerOf(const FileInfo& info, const char* key) { return valueOf<std::int64_t>(info, key); }

/// Number of pixels or bins that a table of mask bits gives for a bit.
std::int64_t countOf(const FileInfo& info, const char* table, std::int64_t bit) {
    const InfoTable* found = info.findTable(table);
    if (found == nullptr) return -1;
    for (const auto& row : found->rows) {
        if (std::get<std::int64_t>(row[0]) == bit) return std::get<std::int64_t>(row[2]);
    }
    return 0;
}

} // namespace

class TestFileInfo : public QObject {
    Q_OBJECT

private slots:
    /// Half of the peak of (0, 2, 10, 4, 1): 5, crossed between 2 and 10 at 3/8 and between 10 and 4 at 5/6: width 5/6 + 5/8.
    void fwhmByHand() {
        const double column[] = {0, 2, 10, 4, 1};
        QVERIFY(std::abs(resolutionFwhm(column, 5, 1) - (5.0 / 6.0 + 5.0 / 8.0)) < 1e-15);
        const double strided[] = {0, 9, 2, 9, 10, 9, 4, 9, 1, 9};
        QVERIFY(std::abs(resolutionFwhm(strided, 5, 2) - (5.0 / 6.0 + 5.0 / 8.0)) < 1e-15);
        const double edge[] = {10, 8, 1};
        QVERIFY(std::isnan(resolutionFwhm(edge, 3, 1)));
        const double zero[] = {0, 0, 0};
        QVERIFY(std::isnan(resolutionFwhm(zero, 3, 1)));
        // A Gaussian of sigma 2 bins has 4.710; with straight lines between bins, from 0.60653 at 2 to 0.32465 at 3:
        // 2 (2 + 0.10653/0.28188) = 4.7559.
        double gauss[21];
        for (int k = 0; k < 21; ++k) gauss[k] = std::exp(-0.125 * (k - 10) * (k - 10));
        QVERIFY(std::abs(resolutionFwhm(gauss, 21, 1) - 4.7559) < 1e-3);
    }

    void texts() {
        QCOMPARE(QString::fromStdString(infoText(std::int64_t{39627000000000001})), QString("39627000000000001"));
        QCOMPARE(QString::fromStdString(infoText(0.8)), QString("0.8"));
        QCOMPARE(QString::fromStdString(infoText(true)), QString("yes"));
        QCOMPARE(QString::fromStdString(infoText(std::vector<double>{1, 2.5})), QString("1 - 2.5"));
        QVERIFY(infoText(std::monostate{}).empty());
    }

    void ccdImage() {
        CcdImage image;
        image.nx = 10;
        image.ny = 8;
        image.pixels.assign(80, 2.0F);
        image.ivar.assign(80, 0.25F);
        image.mask.assign(80, 0);
        image.readnoise.assign(80, 3.0F);
        for (int y = 4; y < 8; ++y) {
            for (int x = 5; x < 10; ++x) image.readnoise[static_cast<std::size_t>(10 * y + x)] = 4.0F;
        }
        image.mask[0] = 1 << 4;       // COSMIC
        image.mask[1] = (1 << 4) | 1; // COSMIC | BAD
        image.mask[2] = 1 << 8;       // BADREADNOISE alone does not mask
        image.ivar[3] = 0.0F;         // no weight though MASK is 0
        image.pixels[4] = std::numeric_limits<float>::quiet_NaN();
        image.pixels[5] = 100.0F;
        image.header.set("CAMERA", "r3");
        image.header.set("EXPID", 51060);
        writeCcdImage("image.fits", image);
        const FileInfo info = inspectFile("image.fits");
        QCOMPARE(info.kind, FileKind::CcdImage);
        QCOMPARE(integerOf(info, "nx"), std::int64_t{10});
        QCOMPARE(integerOf(info, "ny"), std::int64_t{8});
        QCOMPARE(integerOf(info, "pixels_masked"), std::int64_t{4}); // 0, 1, 3, 4
        QCOMPARE(integerOf(info, "pixels_mask_bits"), std::int64_t{2});
        QCOMPARE(integerOf(info, "pixels_ivar_zero"), std::int64_t{1});
        QCOMPARE(integerOf(info, "pixels_not_finite"), std::int64_t{1});
        QCOMPARE(countOf(info, "mask_bits", 4), std::int64_t{2});
        QCOMPARE(countOf(info, "mask_bits", 0), std::int64_t{1});
        QCOMPARE(countOf(info, "mask_bits", 8), std::int64_t{1});
        QCOMPARE(valueOf<double>(info, "pixel_median"), 2.0);
        QCOMPARE(valueOf<double>(info, "pixel_largest"), 100.0);
        QCOMPARE(valueOf<double>(info, "pixel_noise"), 2.0); // 1/sqrt(0.25)
        QCOMPARE(valueOf<std::vector<double>>(info, "readnoise"), (std::vector<double>{3, 3, 3, 4}));
        QCOMPARE(QString::fromStdString(valueOf<std::string>(info, "camera")), QString("r3"));
        QCOMPARE(integerOf(info, "expid"), std::int64_t{51060});
        QCOMPARE(info.findTable("hdus")->rows.size(), std::size_t{4});
    }

    void frame() {
        ExtractedFrame frame;
        frame.specmin = 25;
        frame.wavelength = {6000, 6001, 6002, 6003};
        frame.flux = Array2<double>(2, 4, 6.0);
        frame.ivar = Array2<double>(2, 4, 0.25); // S/N 3
        frame.mask = Array2<std::uint32_t>(2, 4, 0U);
        frame.chi2pix = Array2<double>(2, 4, 1.5);
        frame.resolution = Array3<double>(2, 5, 4, 0.1);
        for (std::size_t s = 0; s < 2; ++s) {
            for (std::size_t i = 0; i < 4; ++i) {
                frame.resolution(s, 2, i) = 0.4; // crosses 0.2 at 2/3 on each side: 4/3 bins of 1 Angstrom
                if (s == 1) frame.flux(s, i) = 10.0;
            }
        }
        frame.ivar(0, 1) = 0.0;
        frame.mask(0, 1) = 0x3;
        frame.mask(1, 2) = 0x1;
        frame.header.set("FLAVOR", "science");
        frame.header.set("SPECMIN", 25);
        writeFrame("frame.fits", frame);
        const FileInfo info = inspectFile("frame.fits");
        QCOMPARE(info.kind, FileKind::Frame);
        QCOMPARE(integerOf(info, "nspec"), std::int64_t{2});
        QCOMPARE(integerOf(info, "nwave"), std::int64_t{4});
        QCOMPARE(integerOf(info, "ndiag"), std::int64_t{2});
        QCOMPARE(valueOf<double>(info, "wavestep"), 1.0);
        QCOMPARE(integerOf(info, "bins_no_data"), std::int64_t{1});
        QCOMPARE(integerOf(info, "bins_masked"), std::int64_t{2});
        QCOMPARE(countOf(info, "mask_bits", 0), std::int64_t{2});
        QCOMPARE(countOf(info, "mask_bits", 1), std::int64_t{1});
        QCOMPARE(valueOf<std::vector<double>>(info, "snr"), (std::vector<double>{3, 4, 5}));
        QVERIFY(std::abs(valueOf<double>(info, "resolution_fwhm") - 4.0 / 3.0) < 1e-6); // stored as float32
        QCOMPARE(valueOf<double>(info, "chi2pix_median"), 1.5);
    }

    void psfAndTruth() {
        simulate::InstrumentOptions instrument;
        instrument.nspec = 4;
        instrument.bundlesize = 2;
        instrument.nx = 100;
        instrument.ny = 80;
        instrument.waveCentre = 6300.0;
        const Psf psf = simulate::makePsf(simulate::completed(instrument));
        writePsf("psf.fits", psf);
        FileInfo info = inspectFile("psf.fits");
        QCOMPARE(info.kind, FileKind::Psf);
        QCOMPARE(integerOf(info, "nspec"), std::int64_t{4});
        QCOMPARE(integerOf(info, "hsizex"), std::int64_t{8});
        QCOMPARE(integerOf(info, "ghdegy"), std::int64_t{6});
        QCOMPARE(valueOf<double>(info, "wavemin"), psf.wavemin());
        const auto sigma = valueOf<std::vector<double>>(info, "sigma_y");
        QVERIFY(sigma[0] > 0.5 && sigma[0] <= sigma[1] && sigma[1] <= sigma[2] && sigma[2] < 2.0);

        simulate::FrameOptions options;
        options.grid = simulate::defaultWavelengthRange(psf, 'r');
        options.camera = {'r', 2};
        const simulate::SimulatedFrame simulated = simulate::simulateFrame(psf, options);
        simulate::writeTruth("truth.fits", simulated.truth);
        info = inspectFile("truth.fits");
        QCOMPARE(info.kind, FileKind::Truth);
        QCOMPARE(integerOf(info, "nspec"), std::int64_t{4});
        QCOMPARE(valueOf<std::vector<double>>(info, "extraction_grid"),
                 (std::vector<double>{options.grid.wmin, options.grid.wmax, options.grid.dw}));
        const TruthSpectra truth = readTruth("truth.fits");
        QCOMPARE(truth.flux.rows(), std::size_t{4});
        QCOMPARE(truth.wavelength.size(), simulated.truth.wavelength.size());
        QVERIFY(std::abs(truth.flux(2, 50) - simulated.truth.flux(2, 50)) <=
                1e-6 * std::abs(truth.flux(2, 50))); // float32

        writeModelImage("model.fits", std::vector<float>(12, 2.0F), 4, 3, simulated.image.header);
        info = inspectFile("model.fits");
        QCOMPARE(info.kind, FileKind::Model);
        QCOMPARE(valueOf<double>(info, "electrons"), 24.0);
        QCOMPARE(integerOf(info, "pixels_lit"), std::int64_t{12});
    }

    void others() {
        {
            FitsWriter writer("other.fits");
            writer.addImage({.name = "SOMETHING", .shape = {3, 2}, .unit = "", .header = {}},
                            std::vector<double>(6, 1.0));
            writer.commit();
        }
        const FileInfo info = inspectFile("other.fits");
        QCOMPARE(info.kind, FileKind::Other);
        QCOMPARE(info.findTable("hdus")->rows.size(), std::size_t{1});
        QCOMPARE(QString::fromStdString(std::get<std::string>(info.findTable("hdus")->rows[0][1])),
                 QString("SOMETHING"));
        QVERIFY_EXCEPTION_THROWN((void)inspectFile("missing.fits"), Error);
    }

    void badTruth() {
        const auto write = [](const std::vector<double>& wavelength, const std::vector<double>& flux,
                              std::int64_t columns) {
            FitsWriter writer("bad-truth.fits");
            writer.addImage({.name = "FLUX",
                             .shape = {columns, static_cast<std::int64_t>(flux.size()) / columns},
                             .unit = "",
                             .header = {}},
                            flux);
            writer.addImage({.name = "WAVELENGTH",
                             .shape = {static_cast<std::int64_t>(wavelength.size())},
                             .unit = "",
                             .header = {}},
                            wavelength);
            writer.commit();
        };
        const auto message = [] {
            try {
                (void)readTruth("bad-truth.fits");
            } catch (const Error& error) {
                return QString(error.what());
            }
            return QString();
        };
        write({1, 2, 3}, {1, 2, 3, 4, 5, 6}, 3);
        QCOMPARE(message(), QString());
        write({1, 2, 3, 4}, {1, 2, 3, 4, 5, 6}, 3);
        QVERIFY2(message().contains("bad-truth.fits") && message().contains("4 values"), qPrintable(message()));
        write({1, 3, 2}, {1, 2, 3, 4, 5, 6}, 3);
        QVERIFY2(message().contains("increasing order"), qPrintable(message()));
        write({1, 2, 3}, {1, 2, 3, 4, std::numeric_limits<double>::quiet_NaN(), 6}, 3);
        QVERIFY2(message().contains("not finite"), qPrintable(message()));
    }

    /// The real PSF files, where they lie beside the checkout.
    void realPsfs_data() {
        QTest::addColumn<QString>("file");
        QTest::addColumn<qint64>("nspec");
        QTest::addColumn<qint64>("hsizex");
        QTest::newRow("PSFVER 3") << "psf-r0-00051060.fits" << qint64{500} << qint64{8};
        QTest::newRow("PSFVER 2 with tails") << "psf-gausshermite.fits" << qint64{25} << qint64{14};
        QTest::newRow("GAUSS-HERMITE2") << "psf-gausshermite2.fits" << qint64{25} << qint64{10};
    }

    void realPsfs() {
        QFETCH(QString, file);
        QFETCH(qint64, nspec);
        QFETCH(qint64, hsizex);
        PATCHLIGHT_NEED_SHARED(file);
        const FileInfo info = inspectFile(test::sharedFile(file).toStdString());
        QCOMPARE(info.kind, FileKind::Psf);
        QCOMPARE(integerOf(info, "nspec"), std::int64_t{nspec});
        QCOMPARE(integerOf(info, "hsizex"), std::int64_t{hsizex});
    }
};

QTEST_APPLESS_MAIN(TestFileInfo)
#include "TestFileInfo.moc"
