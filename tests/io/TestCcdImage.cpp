#include "core/image/CcdImage.h"
#include "core/io/FitsFile.h"
#include "tests/io/CfitsioFile.h"
#include "tests/io/FitsBytes.h"
#include "tests/support/TestSupport.h"

#include <QFile>
#include <QObject>
#include <QTemporaryDir>
#include <QTest>

#include <cmath>
#include <cstring>

using namespace patchlight;
using namespace fitsbytes;

class TestCcdImage : public QObject {
    Q_OBJECT
private slots:
    void roundTrip_data();
    void roundTrip();
    void readsCompressedFile();
    void optionalHdus();
    void mergesHeaders();
    void masks();
    void reusesMemory();
    void readsRealFile();

private:
    QTemporaryDir folder_;
    [[nodiscard]] QString file(const QString& name) const { return folder_.filePath(name); }
    [[nodiscard]] std::string path(const QString& name) const { return file(name).toStdString(); }
};

namespace {

constexpr int nx = 37;
constexpr int ny = 29;

template <class T> bool sameBits(const std::vector<T>& a, const std::vector<T>& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

CcdImage sample() {
    CcdImage image;
    image.nx = nx;
    image.ny = ny;
    for (int i = 0; i < nx * ny; ++i) {
        image.pixels.push_back(std::sin(static_cast<float>(i)) * 30);
        image.ivar.push_back(0.1F + 0.001F * static_cast<float>(i % 17));
        image.mask.push_back(i % 31 == 0 ? 1 << (i % 12) : 0);
        image.readnoise.push_back(3.0F);
    }
    image.pixels[5] = NAN;
    image.pixels[6] = INFINITY;
    image.ivar[7] = NAN;
    image.ivar[8] = -1.0F;
    image.ivar[9] = 0.0F;
    image.mask[10] = -2147483647 - 1;
    image.header.addCard(card("SIMPLE", "T"));
    image.header.set("CAMERA", "r0");
    image.header.set("MJD-OBS", 58898.205208);
    image.header.addCard(card("OBJECT", "'it''s'"));
    image.header.addCard(card("IN_PSF", "'a long text that is continued on the next card because it is lo&'"));
    image.header.addCard(card("CONTINUE  'ng'"));
    image.header.addCard("HIERARCH ESO OBS NAME = 'x' / kept");
    image.header.addCard("COMMENT a comment");
    image.header.addCard("HISTORY some history");
    FitsTable fibermap;
    fibermap.name = "FIBERMAP";
    for (const std::string& one : tableCards("FIBERMAP", 12, 2, {{"TARGETID", "K"}, {"FIBER", "J"}}))
        fibermap.header.addCard(one);
    fibermap.header.addCard("COMMENT of the table");
    fibermap.rowBytes = 12;
    fibermap.rowCount = 2;
    const std::string rows =
        bigEndian(std::int64_t{39627000000000003}) + bigEndian(1) + bigEndian(std::int64_t{-1}) + bigEndian(2);
    fibermap.bytes.assign(rows.begin(), rows.end());
    image.fibermap = fibermap;
    return image;
}

} // namespace

void TestCcdImage::roundTrip_data() {
    QTest::addColumn<QString>("name");
    QTest::addColumn<bool>("compressMask");
    QTest::newRow("plain") << "a.fits" << false;
    QTest::newRow("rice") << "b.fits" << true;
    QTest::newRow("gzip") << "c.fits.gz" << false;
    QTest::newRow("gzip and rice") << "d.fits.gz" << true;
}

void TestCcdImage::roundTrip() {
    QFETCH(QString, name);
    QFETCH(bool, compressMask);
    const CcdImage image = sample();
    writeCcdImage(path(name), image, compressMask);
    const CcdImage back = readCcdImage(path(name), {true});
    QCOMPARE(back.path, path(name));
    QCOMPARE(back.nx, nx);
    QCOMPARE(back.ny, ny);
    QVERIFY(sameBits(back.pixels, image.pixels));
    QVERIFY(sameBits(back.ivar, image.ivar));
    QVERIFY(back.mask == image.mask);
    QVERIFY(back.readnoise == image.readnoise);
    QVERIFY(back.fibermap.has_value());
    QCOMPARE(back.fibermap->integers("TARGETID"), (std::vector<std::int64_t>{39627000000000003, -1}));
    QCOMPARE(back.header.text("CAMERA").value(), "r0");
    QCOMPARE(back.header.text("OBJECT").value(), "it's");
    QCOMPARE(back.header.number("MJD-OBS").value(), 58898.205208);
    QVERIFY(back.header.text("IN_PSF").value().ends_with("because it is long"));
    QCOMPARE(back.header.text("ESO OBS NAME").value(), "x");
    QCOMPARE(back.header.text("BUNIT").value(), "electron");
    QVERIFY(readCcdImage(path(name)).readnoise.empty());
    bool missing = false;
    const QString report = cfitsio::fitsverify(file(name), missing);
    if (missing) PATCHLIGHT_SKIP("PATCHLIGHT_REQUIRE_FITSVERIFY", "fitsverify is not installed");
    QVERIFY2(report.isEmpty(), qPrintable(report));
}

void TestCcdImage::readsCompressedFile() {
    const CcdImage image = sample();
    std::vector<float> pixels = image.pixels;
    pixels[6] = 1.0F; // infinity cannot be quantized
    const QString name = file("frame.fits.fz");
    {
        cfitsio::Writer writer(name);
        const cfitsio::Compression quantized{RICE_1, {}, 32, SUBTRACTIVE_DITHER_1};
        writer.image<float>(nullptr, FLOAT_IMG, {nx, ny}, pixels,
                            quantized); // fpack leaves the primary's image without a name
        writer.key("CAMERA", "z3");
        writer.image<float>("IVAR", FLOAT_IMG, {nx, ny}, image.ivar, {GZIP_2, {}, 0, 0});
        writer.image("MASK", SHORT_IMG, {nx, ny}, std::vector<std::int16_t>(nx * ny, 4), {RICE_1, {}, 0, 0});
    }
    const CcdImage back = readCcdImage(name.toStdString());
    QVERIFY(sameBits(back.pixels, cfitsio::pixels<float>(name, 2, NAN)));
    QVERIFY(std::isnan(back.pixels[5]));
    QCOMPARE(back.header.text("CAMERA").value(), "z3");
    for (std::size_t i = 0; i < image.ivar.size(); ++i)
        QVERIFY(back.ivar[i] == image.ivar[i] || std::isnan(image.ivar[i]));
    QCOMPARE(back.mask, std::vector<std::int32_t>(nx * ny, 4));
    QVERIFY(!back.fibermap.has_value());
}

void TestCcdImage::optionalHdus() {
    CcdImage image = sample();
    image.mask.clear();
    image.readnoise.clear();
    image.fibermap.reset();
    writeCcdImage(path("few.fits"), image);
    const CcdImage back = readCcdImage(path("few.fits"), {true});
    QVERIFY(back.mask.empty());
    QVERIFY(back.readnoise.empty());
    QVERIFY(!back.fibermap.has_value());
    image.ivar.pop_back();
    QVERIFY(messageOf([&] { writeCcdImage(path("wrong.fits"), image); }).find("IVAR") != std::string::npos);
    QVERIFY(!QFile::exists(file("wrong.fits")));
}

void TestCcdImage::mergesHeaders() {
    std::vector<std::string> main = imageCards(true, 8, {});
    main.push_back(card("NIGHT", 20200219));
    main.push_back(card("CAMERA", "'b9'"));
    std::vector<std::string> image = imageCards(false, -32, {2, 2}, "IMAGE");
    image.push_back(card("CAMERA", "'r1'"));
    const std::string data = bigEndian(std::vector<float>{1, 2, 3, 4});
    save(file("ext.fits"), hdu(main) + hdu(image, data) + hdu(imageCards(false, -32, {2, 2}, "IVAR"), data));
    const CcdImage back = readCcdImage(path("ext.fits"));
    QCOMPARE(back.header.integer("NIGHT").value(), 20200219);
    QCOMPARE(back.header.text("CAMERA").value(), "r1");
    QVERIFY(!back.header.has("SIMPLE"));
}

void TestCcdImage::masks() {
    CcdImage image;
    image.nx = 16;
    image.ny = 1;
    image.pixels.assign(16, 2.0F);
    image.ivar.assign(16, 0.5F);
    for (int bit = 0; bit < 16; ++bit) image.mask.push_back(1 << bit);
    WeightedPixels weighted = weightedPixels(std::as_const(image));
    for (int bit = 0; bit < 16; ++bit) {
        const bool masked = bit <= 7 || bit == 9; // BADREADNOISE (8) alone does not mask
        QCOMPARE(weighted.weights[static_cast<std::size_t>(bit)], masked ? 0.0F : 0.5F);
        QCOMPARE(weighted.pixels[static_cast<std::size_t>(bit)], masked ? 0.0F : 2.0F);
    }
    image.mask.clear();
    image.pixels[0] = NAN;
    image.pixels[1] = -INFINITY;
    image.ivar[2] = NAN;
    image.ivar[3] = INFINITY;
    image.ivar[4] = 0;
    image.ivar[5] = -0.5F;
    weighted = weightedPixels(std::as_const(image));
    for (std::size_t i = 0; i < 16; ++i) {
        QCOMPARE(weighted.weights[i], i < 6 ? 0.0F : 0.5F);
        QCOMPARE(weighted.pixels[i], i < 6 ? 0.0F : 2.0F);
    }
    image.ivar.pop_back();
    QVERIFY(!messageOf([&] { (void)weightedPixels(std::as_const(image)); }).empty());
}

void TestCcdImage::reusesMemory() {
    CcdImage image = sample();
    const WeightedPixels copied = weightedPixels(std::as_const(image));
    const float* pixels = image.pixels.data();
    const float* ivar = image.ivar.data();
    const WeightedPixels moved = weightedPixels(std::move(image));
    QCOMPARE(image.mask.capacity(), std::size_t{0}); // given back NOLINT(bugprone-use-after-move)
    QCOMPARE(moved.view().pixels, pixels);
    QCOMPARE(moved.view().weights, ivar);
    QVERIFY(sameBits(moved.pixels, copied.pixels));
    QVERIFY(sameBits(moved.weights, copied.weights));
    QCOMPARE(moved.view().nx, nx);
}

void TestCcdImage::readsRealFile() {
    PATCHLIGHT_NEED_SHARED("preproc-r0-00051060.fits.gz");
    const QString name = patchlight::test::sharedFile("preproc-r0-00051060.fits.gz");
    const CcdImage image = readCcdImage(name.toStdString(), {true});
    QCOMPARE(image.nx, 4114);
    QCOMPARE(image.ny, 4128);
    QVERIFY(sameBits(image.pixels, cfitsio::pixels<float>(name, 1)));
    QVERIFY(sameBits(image.ivar, cfitsio::pixels<float>(name, 2)));
    QVERIFY(image.mask == cfitsio::pixels<std::int32_t>(name, 3));
    QVERIFY(sameBits(image.readnoise, cfitsio::pixels<float>(name, 4)));
    QCOMPARE(image.fibermap->rowCount, std::size_t{500});
    QCOMPARE(image.header.text("CAMERA").value(), "r0");
}

QTEST_APPLESS_MAIN(TestCcdImage)
#include "TestCcdImage.moc"
