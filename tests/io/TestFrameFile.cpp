#include "core/frame/ExtractedFrame.h"
#include "tests/io/CfitsioFile.h"
#include "tests/io/FitsBytes.h"
#include "tests/support/TestSupport.h"

#include <QDir>
#include <QFile>
#include <QObject>
#include <QProcess>
#include <QTemporaryDir>
#include <QTest>

#include <cmath>

using namespace patchlight;
using namespace fitsbytes;

class TestFrameFile : public QObject {
    Q_OBJECT
private slots:
    void roundTrip_data();
    void roundTrip();
    void hasTheLayoutOfDesispec();
    void carriesHeaderOver();
    void readsOthersFrames();
    void checksRowsOfTables();
    void checksShapes();
    void writesModel();
    void readByDesispec();

private:
    QTemporaryDir folder_;
    [[nodiscard]] QString file(const QString& name) const { return folder_.filePath(name); }
    [[nodiscard]] std::string path(const QString& name) const { return file(name).toStdString(); }
};

namespace {

constexpr std::size_t nspec = 4;
constexpr std::size_t nwave = 21;
constexpr std::size_t ndiag = 3;

FitsTable tableOf(const char* name, std::size_t rows) {
    FitsTable table;
    table.name = name;
    for (const std::string& one :
         tableCards(name, 12, static_cast<long long>(rows), {{"TARGETID", "K"}, {"FIBER", "J"}}))
        table.header.addCard(one);
    table.rowBytes = 12;
    table.rowCount = rows;
    for (std::size_t i = 0; i < rows; ++i)
        for (const char c : bigEndian(std::int64_t{39627000000000000} + static_cast<std::int64_t>(i)) +
                                bigEndian(static_cast<int>(25 + i)))
            table.bytes.push_back(static_cast<std::uint8_t>(c));
    return table;
}

ExtractedFrame sample() {
    ExtractedFrame frame;
    frame.specmin = 25;
    frame.flux = Array2<double>(nspec, nwave);
    frame.ivar = Array2<double>(nspec, nwave);
    frame.mask = Array2<std::uint32_t>(nspec, nwave);
    frame.chi2pix = Array2<double>(nspec, nwave);
    frame.resolution = Array3<double>(nspec, 2 * ndiag + 1, nwave);
    for (std::size_t i = 0; i < nspec * nwave; ++i) {
        frame.flux.values()[i] = 0.25 * static_cast<double>(i) - 3; // exact as floats
        frame.ivar.values()[i] = 1.5 + static_cast<double>(i % 3);
        frame.mask.values()[i] = i % 5 == 0 ? 1U << (i % 32) : 0;
        frame.chi2pix.values()[i] = 1 + 0.125 * static_cast<double>(i % 4);
    }
    frame.mask(3, 20) = 0xFFFFFFFFU;
    frame.flux(1, 1) = NAN;
    frame.flux(1, 2) = 1e300; // beyond float
    for (std::size_t i = 0; i < frame.resolution.size(); ++i)
        frame.resolution.values()[i] = static_cast<double>(i % 64) / 64;
    for (std::size_t i = 0; i < nwave; ++i) frame.wavelength.push_back(5760.0 + 0.8 * static_cast<double>(i));
    frame.header.set("CAMERA", "r0");
    frame.header.set("EXPTIME", 900.0);
    frame.fibermap = tableOf("FIBERMAP", nspec);
    frame.scores = tableOf("SCORES", nspec);
    return frame;
}

} // namespace

void TestFrameFile::roundTrip_data() {
    QTest::addColumn<QString>("name");
    QTest::newRow("plain") << "frame.fits";
    QTest::newRow("gzip") << "frame.fits.gz";
}

void TestFrameFile::roundTrip() {
    QFETCH(QString, name);
    const ExtractedFrame frame = sample();
    writeFrame(path(name), frame);
    const ExtractedFrame back = readFrame(path(name));
    QCOMPARE(back.specmin, 25);
    QCOMPARE(back.nspec(), nspec);
    QCOMPARE(back.nwave(), nwave);
    QCOMPARE(back.ndiag(), ndiag);
    QVERIFY(back.wavelength == frame.wavelength);
    QVERIFY(back.ivar.values() == frame.ivar.values());
    QVERIFY(back.mask.values() == frame.mask.values());
    QVERIFY(back.chi2pix.values() == frame.chi2pix.values());
    QVERIFY(back.resolution.values() == frame.resolution.values());
    QVERIFY(std::isnan(back.flux(1, 1)));
    QVERIFY(std::isinf(back.flux(1, 2)));
    QCOMPARE(back.flux(3, 20), frame.flux(3, 20));
    QVERIFY(back.fibermap->integers("TARGETID") == frame.fibermap->integers("TARGETID"));
    QVERIFY(back.scores->bytes == frame.scores->bytes);
    QVERIFY(back.pixmaskFraction.empty() && back.fluxweight.empty() && back.xflux.empty());
    bool missing = false;
    const QString report = cfitsio::fitsverify(file(name), missing);
    if (missing) PATCHLIGHT_SKIP("PATCHLIGHT_REQUIRE_FITSVERIFY", "fitsverify is not installed");
    QVERIFY2(report.isEmpty(), qPrintable(report));
}

void TestFrameFile::hasTheLayoutOfDesispec() {
    writeFrame(path("layout.fits"), sample());
    fitsfile* fits = nullptr;
    int status = 0;
    fits_open_diskfile(&fits, path("layout.fits").c_str(), READONLY, &status);
    const struct {
        const char* name;
        int type; // as CFITSIO names it, unsigned integers told apart
        std::vector<long> shape;
        const char* unit;
    } expected[] = {{"FLUX", FLOAT_IMG, {21, 4}, "electron/Angstrom"},
                    {"IVAR", FLOAT_IMG, {21, 4}, ""},
                    {"MASK", ULONG_IMG, {21, 4}, ""},
                    {"WAVELENGTH", DOUBLE_IMG, {21}, "Angstrom"},
                    {"RESOLUTION", FLOAT_IMG, {21, 7, 4}, ""},
                    {"FIBERMAP", 0, {12, 4}, ""},
                    {"CHI2PIX", FLOAT_IMG, {21, 4}, ""},
                    {"SCORES", 0, {12, 4}, ""}};
    int number = 1;
    for (const auto& one : expected) {
        QCOMPARE(fits_movabs_hdu(fits, number++, nullptr, &status), 0);
        char text[FLEN_VALUE] = {};
        QCOMPARE(fits_read_key(fits, TSTRING, "EXTNAME", text, nullptr, &status), 0);
        QCOMPARE(text, one.name);
        int kind = 0;
        fits_get_hdu_type(fits, &kind, &status);
        QCOMPARE(kind, one.type == 0 ? BINARY_TBL : IMAGE_HDU);
        if (one.type != 0) {
            int type = 0;
            int axes = 0;
            long shape[3] = {};
            fits_get_img_equivtype(fits, &type, &status);
            QCOMPARE(type, one.type);
            fits_get_img_dim(fits, &axes, &status);
            fits_get_img_size(fits, 3, shape, &status);
            QCOMPARE(std::vector<long>(shape, shape + axes), one.shape);
        }
        int dataOk = 0;
        int hduOk = 0;
        fits_verify_chksum(fits, &dataOk, &hduOk, &status);
        QCOMPARE(status, 0);
        QCOMPARE(dataOk, 1);
        QCOMPARE(hduOk, 1);
        if (one.unit[0] != '\0') {
            fits_read_key(fits, TSTRING, "BUNIT", text, nullptr, &status);
            QCOMPARE(text, one.unit);
        }
    }
    QVERIFY(fits_movabs_hdu(fits, number, nullptr, &status) != 0);
    status = 0;
    fits_close_file(fits, &status);
    fits_clear_errmsg();
}

void TestFrameFile::carriesHeaderOver() {
    ExtractedFrame frame = sample();
    for (const std::string& one : imageCards(true, 16, {4114, 4128}, "IMAGE")) frame.header.addCard(one);
    for (const char* one : {"BZERO   =                32768",
                            "BSCALE  =                    2",
                            "BUNIT   = 'adu     '",
                            "ZIMAGE  =                    T",
                            "ZCMPTYPE= 'RICE_1  '",
                            "ZTILE1  =                 4114",
                            "CHECKSUM= 'deadbeefdeadbeef'",
                            "DATASUM = '1       '",
                            "EXTEND  =                    T",
                            "ZD      =                 30.5",
                            "FLAVOR  = 'dark    '",
                            "SPECMIN =                   25",
                            "COMMENT   FITS (Flexible Image Transport System) format is defined in 'Astronomy",
                            "COMMENT   and Astrophysics', volume 376, page 359; bibcode: 2001A&A...376..359H",
                            "COMMENT kept",
                            "HISTORY kept too",
                            "PATHNAME= 'a path that is too long for one single card, so tha&'",
                            "CONTINUE  't it is continued'",
                            "HIERARCH DESI SOMETHING = 5",
                            "low er  =                    1",
                            "        blank keyword"})
        frame.header.addCard(one);
    writeFrame(path("header.fits"), frame);
    const FitsHeader header = readFrame(path("header.fits")).header;
    QCOMPARE(header.text("BUNIT").value(), "electron/Angstrom");
    QCOMPARE(header.text("EXTNAME").value(), "FLUX");
    QCOMPARE(header.text("FLAVOR").value(), "dark");
    QCOMPARE(header.number("ZD").value(), 30.5);
    QCOMPARE(header.integer("SPECMIN").value(), 25);
    QCOMPARE(header.integer("NSPEC").value(), 4);
    QCOMPARE(header.number("WAVEMIN").value(), 5760.0);
    QCOMPARE(header.integer("BITPIX").value(), -32);
    QCOMPARE(header.integer("ESO").value_or(0), 0);
    QCOMPARE(header.integer("DESI SOMETHING").value(), 5);
    QVERIFY(header.text("PATHNAME").value().ends_with("so that it is continued"));
    for (const char* keyword : {"BZERO", "BSCALE", "ZIMAGE", "ZCMPTYPE", "ZTILE1"})
        QVERIFY2(!header.has(keyword), keyword);
    const std::string bytes = load(file("header.fits")).substr(0, 5760);
    QVERIFY(bytes.find("COMMENT kept") != std::string::npos);
    QVERIFY(bytes.find("HISTORY kept too") != std::string::npos);
    QVERIFY(bytes.find("Flexible Image Transport") == std::string::npos);
    QVERIFY(bytes.find("low er") == std::string::npos);
    QVERIFY(bytes.find("deadbeef") == std::string::npos);
    bool missing = false;
    const QString report = cfitsio::fitsverify(file("header.fits"), missing);
    QVERIFY2(missing || report.isEmpty(), qPrintable(report));
    // Without FLAVOR desispec refuses a frame.
    writeFrame(path("flavor.fits"), sample());
    QCOMPARE(readFrame(path("flavor.fits")).header.text("FLAVOR").value(), "science");
}

void TestFrameFile::readsOthersFrames() {
    const ExtractedFrame frame = sample();
    std::vector<float> flux(frame.ivar.values().begin(), frame.ivar.values().end());
    std::vector<double> grid;
    for (std::size_t row = 0; row < nspec; ++row)
        grid.insert(grid.end(), frame.wavelength.begin(), frame.wavelength.end());
    const QString name = file("other.fits");
    {
        cfitsio::Writer writer(name);
        const cfitsio::Compression gzip{GZIP_2, {}, 0, 0};
        writer.image("FLUX", FLOAT_IMG, {21, 4}, flux, gzip);
        writer.image("IVAR", DOUBLE_IMG, {21, 4}, frame.ivar.values(), gzip);
        writer.image("WAVELENGTH", DOUBLE_IMG, {21, 4}, grid); // a row a spectrum
    }
    const ExtractedFrame back = readFrame(name.toStdString());
    QVERIFY(back.flux.values() == frame.ivar.values());
    QVERIFY(back.ivar.values() == frame.ivar.values());
    QVERIFY(back.wavelength == frame.wavelength);
    QCOMPARE(back.mask.size(), nspec * nwave);
    QVERIFY(back.resolution.empty() && back.chi2pix.empty() && !back.fibermap && !back.scores);
    QCOMPARE(back.specmin, 0);
    // The grids differ.
    grid[30] += 0.1;
    QFile::remove(name);
    {
        cfitsio::Writer writer(name);
        writer.image("FLUX", FLOAT_IMG, {21, 4}, flux);
        writer.image("IVAR", FLOAT_IMG, {21, 4}, flux);
        writer.image("WAVELENGTH", DOUBLE_IMG, {21, 4}, grid);
    }
    const std::string message = messageOf([&] { (void)readFrame(name.toStdString()); });
    QVERIFY2(message.find("HDU 2 (WAVELENGTH): row 1 differs") != std::string::npos, message.c_str());
}

void TestFrameFile::checksRowsOfTables() {
    ExtractedFrame frame = sample();
    frame.fibermap = tableOf("FIBERMAP", 500);
    const std::string message = messageOf([&] { writeFrame(path("rows.fits"), frame); });
    QVERIFY2(message.find("rows.fits: FIBERMAP has 500 rows, 4 expected") != std::string::npos, message.c_str());
    QVERIFY(QDir(folder_.path()).entryList({"*rows.fits*"}, QDir::Files | QDir::Hidden).isEmpty());
    frame.fibermap.reset();
    frame.scores.reset();
    frame.chi2pix = {};
    frame.resolution = {};
    writeFrame(path("few.fits"), frame);
    QVERIFY(!readFrame(path("few.fits")).fibermap);
}

void TestFrameFile::checksShapes() {
    ExtractedFrame frame = sample();
    frame.wavelength.pop_back();
    QVERIFY(messageOf([&] { writeFrame(path("x.fits"), frame); }).find("WAVELENGTH has 20 values, 21 expected") !=
            std::string::npos);
    frame = sample();
    frame.ivar = Array2<double>(nspec, nwave - 1);
    QVERIFY(messageOf([&] { writeFrame(path("x.fits"), frame); }).find("IVAR") != std::string::npos);
    QVERIFY(!QFile::exists(file("x.fits")));
}

void TestFrameFile::writesModel() {
    const std::vector<float> model = {1, 2, 3, 4, 5, 6};
    FitsHeader header;
    header.set("CAMERA", "r0");
    header.addCard(card("NAXIS1", 99));
    writeModelImage(path("model.fits"), model, 3, 2, header);
    QCOMPARE(cfitsio::pixels<float>(file("model.fits"), 1), model);
    QVERIFY(!messageOf([&] { writeModelImage(path("model2.fits"), model, 3, 3, header); }).empty());
}

void TestFrameFile::readByDesispec() {
    ExtractedFrame frame = sample();
    frame.flux(1, 1) = 0;
    frame.flux(1, 2) = 0;
    writeFrame(path("desispec.fits"), frame);
    const QString python = qEnvironmentVariable("PATCHLIGHT_DESISPEC_PYTHON", "python3");
    const QString script = patchlight::test::sourceFile("tests/tools/check_desispec.py");
    if (!QFile::exists(script)) PATCHLIGHT_SKIP("PATCHLIGHT_REQUIRE_DESISPEC", "there is no " + script.toUtf8());
    QProcess process;
    process.start(python, {"-B", script, file("desispec.fits")});
    if (!process.waitForStarted())
        PATCHLIGHT_SKIP("PATCHLIGHT_REQUIRE_DESISPEC", python.toUtf8() + " cannot be started");
    QVERIFY(process.waitForFinished(60000));
    const QByteArray output = process.readAllStandardOutput() + process.readAllStandardError();
    if (process.exitCode() == 77) PATCHLIGHT_SKIP("PATCHLIGHT_REQUIRE_DESISPEC", output.trimmed());
    QVERIFY2(process.exitCode() == 0, output.constData());
}

QTEST_APPLESS_MAIN(TestFrameFile)
#include "TestFrameFile.moc"
