#include "core/psf/GaussHermite.h"
#include "core/psf/Psf.h"
#include "tests/io/CfitsioFile.h"
#include "tests/io/FitsBytes.h"
#include "tests/io/SmallPsf.h"
#include "tests/support/TestSupport.h"

#include <QFile>
#include <QObject>
#include <QTemporaryDir>
#include <QTest>

#include <cmath>

using namespace patchlight;
using namespace fitsbytes;

class TestPsfFile : public QObject {
    Q_OBJECT
private slots:
    void roundTrip_data();
    void roundTrip();
    void readsVersions_data();
    void readsVersions();
    void choosesPsfError_data();
    void choosesPsfError();
    void keepsOffsets();
    void tellsUnfittedBundles();
    void isLenientWithKeywords();
    void writesWhatItCannotSayInVersion3();
    void refusesInconsistentPsf();
    void readsRealFiles_data();
    void readsRealFiles();

private:
    QTemporaryDir folder_;
    [[nodiscard]] QString file(const QString& name) const { return folder_.filePath(name); }
    [[nodiscard]] std::string path(const QString& name) const { return file(name).toStdString(); }
};

namespace {

/// Cards that specex puts into the table's header.
std::vector<std::string> psfCards(const Psf& psf, const std::string& version) {
    std::vector<std::string> cards = {
        card("PSFTYPE", psf.type == PsfType::GaussHermite ? "'GAUSS-HERMITE'" : "'GAUSS-HERMITE2'"),
        card("PSFVER", "'" + version + "       '"),
        card("NPIX_X", psf.nx),
        card("NPIX_Y", psf.ny),
        card("HSIZEX", psf.hsizeX),
        card("HSIZEY", psf.hsizeY),
        card("FIBERMIN", psf.fibermin),
        card("FIBERMAX", psf.fibermin + psf.nspec - 1),
        card("GHDEGX", psf.degX),
        card("GHDEGY", psf.degY)};
    if (psf.type == PsfType::GaussHermite2) {
        cards.push_back(card("GHDEGX2", psf.degX2));
        cards.push_back(card("GHDEGY2", psf.degY2));
    }
    return cards;
}

/// A file of PSFVER 1 or 2, as specex wrote them.
std::string oldFile(const Psf& psf, const std::string& version, bool withDims, bool typeInPrimary,
                    const std::vector<std::string>& more = {}) {
    const int ncoeff = psf.series.at("X").ncoeff;
    std::string rows;
    for (const auto& [name, series] : psf.series) {
        std::string text = name;
        text.resize(8, ' ');
        rows += text + bigEndian(series.wavemin) + bigEndian(series.wavemax) + bigEndian(series.coeff);
    }
    const auto count = static_cast<long long>(psf.series.size());
    std::vector<std::string> cards = tableCards(
        "", 24 + 8LL * psf.nspec * ncoeff, count,
        {{"PARAM", "8A"}, {"WAVEMIN", "D"}, {"WAVEMAX", "D"}, {"COEFF", std::to_string(psf.nspec * ncoeff) + "D"}});
    if (withDims)
        cards.push_back(card("TDIM4", "'(" + std::to_string(ncoeff) + "," + std::to_string(psf.nspec) + ")'"));
    else
        cards.push_back(card("LEGDEG", ncoeff - 1));
    std::vector<std::string> primary = imageCards(true, -64, {0});
    for (const std::string& one : psfCards(psf, version)) {
        const bool type = one.starts_with("PSFTYPE");
        if (type && typeInPrimary) primary.push_back(one);
        if (!type || !typeInPrimary) cards.push_back(one);
    }
    cards.insert(cards.end(), more.begin(), more.end());
    return hdu(primary) + hdu(cards, rows);
}

void compareSeries(const Psf& a, const Psf& b) {
    QCOMPARE(a.series.size(), b.series.size());
    for (const auto& [name, series] : a.series) {
        QVERIFY2(b.series.contains(name), name.c_str());
        const LegendreSeries& other = b.series.at(name);
        QCOMPARE(other.ncoeff, series.ncoeff);
        QCOMPARE(other.wavemin, series.wavemin);
        QCOMPARE(other.wavemax, series.wavemax);
        QVERIFY2(other.coeff == series.coeff, name.c_str());
    }
}

void compare(const Psf& a, const Psf& b) {
    QCOMPARE(b.type, a.type);
    QCOMPARE(b.nspec, a.nspec);
    QCOMPARE(b.fibermin, a.fibermin);
    QCOMPARE(b.nx, a.nx);
    QCOMPARE(b.ny, a.ny);
    QCOMPARE(b.hsizeX, a.hsizeX);
    QCOMPARE(b.hsizeY, a.hsizeY);
    QCOMPARE(b.degX, a.degX);
    QCOMPARE(b.degY, a.degY);
    QCOMPARE(b.degX2, a.degX2);
    QCOMPARE(b.degY2, a.degY2);
    compareSeries(a, b);
    for (int s = 0; s < a.nspec; ++s)
        for (const double wave : {5000.0, 5013.7, 5040.0}) {
            QCOMPARE(b.x(s, wave), a.x(s, wave));
            QCOMPARE(b.y(s, wave), a.y(s, wave));
        }
}

} // namespace

void TestPsfFile::roundTrip_data() {
    QTest::addColumn<QString>("name");
    QTest::addColumn<int>("type");
    QTest::addColumn<int>("nspec");
    QTest::addColumn<int>("version");
    QTest::newRow("GAUSS-HERMITE") << "a.fits" << static_cast<int>(PsfType::GaussHermite) << 3 << 3;
    QTest::newRow("GAUSS-HERMITE gzip") << "b.fits.gz" << static_cast<int>(PsfType::GaussHermite) << 3 << 3;
    QTest::newRow("one spectrum") << "c.fits" << static_cast<int>(PsfType::GaussHermite) << 1 << 3;
    QTest::newRow("GAUSS-HERMITE2") << "d.fits" << static_cast<int>(PsfType::GaussHermite2) << 3 << 2;
}

void TestPsfFile::roundTrip() {
    QFETCH(QString, name);
    QFETCH(int, type);
    QFETCH(int, nspec);
    QFETCH(int, version);
    Psf psf = smallPsf(nspec, 2, 3, static_cast<PsfType>(type));
    psf.fibermin = 25;
    writePsf(path(name), psf);
    const Psf back = readPsf(path(name));
    compare(psf, back);
    QCOMPARE(back.version, version);
    QCOMPARE(back.psferr, 0.02);
    QCOMPARE(back.bundleFits.size(), std::size_t{1});
    QCOMPARE(back.bundleFits[0].rchi2, 1.25);
    QCOMPARE(back.header.text("CAMERA").value(), "r0");
    QCOMPARE(back.path, path(name));
    bool missing = false;
    const QString report = cfitsio::fitsverify(file(name), missing);
    if (missing) PATCHLIGHT_SKIP("PATCHLIGHT_REQUIRE_FITSVERIFY", "fitsverify is not installed");
    QVERIFY2(report.isEmpty(), qPrintable(report));
}

void TestPsfFile::readsVersions_data() {
    QTest::addColumn<QString>("version");
    QTest::addColumn<int>("type");
    QTest::addColumn<bool>("withDims");
    QTest::addColumn<bool>("typeInPrimary");
    for (const char* version : {"1", "2"})
        for (const PsfType type : {PsfType::GaussHermite, PsfType::GaussHermite2})
            for (const bool withDims : {true, false})
                for (const bool typeInPrimary : {true, false})
                    QTest::addRow("PSFVER %s, %s, %s, type in %s", version,
                                  type == PsfType::GaussHermite ? "one core" : "two cores",
                                  withDims ? "TDIM" : "LEGDEG", typeInPrimary ? "primary" : "table")
                        << version << static_cast<int>(type) << withDims << typeInPrimary;
}

void TestPsfFile::readsVersions() {
    QFETCH(QString, version);
    QFETCH(int, type);
    QFETCH(bool, withDims);
    QFETCH(bool, typeInPrimary);
    Psf psf = smallPsf(3, 2, 3, static_cast<PsfType>(type));
    // Every row has its own domain, and it is used.
    double shift = 0;
    for (auto& [name, series] : psf.series) {
        series.wavemin -= shift;
        series.wavemax += 2 * shift;
        shift += 1;
    }
    psf.pack();
    save(file("old.fits"), oldFile(psf, version.toStdString(), withDims, typeInPrimary));
    const Psf back = readPsf(path("old.fits"));
    compare(psf, back);
    QCOMPARE(back.version, version.toInt());
    QCOMPARE(back.psferr, 0.01);
}

void TestPsfFile::choosesPsfError_data() {
    QTest::addColumn<QStringList>("cards");
    QTest::addColumn<double>("expected");
    QTest::newRow("none") << QStringList{} << 0.01;
    QTest::newRow("PSFERR") << QStringList{"PSFERR  = 0.03"} << 0.03;
    QTest::newRow("PSFERR 0") << QStringList{"PSFERR  = 0."} << 0.0;
    QTest::newRow("PSFERROR") << QStringList{"PSFERROR= 0.05"} << 0.05;
    QTest::newRow("PSFERROR 0") << QStringList{"PSFERROR= 0."} << 0.01;
    QTest::newRow("both") << QStringList{"PSFERROR= 0.05", "PSFERR  = 0.03"} << 0.03;
}

void TestPsfFile::choosesPsfError() {
    QFETCH(QStringList, cards);
    QFETCH(double, expected);
    std::vector<std::string> more;
    for (const QString& one : cards) more.push_back(card(one.toStdString()));
    save(file("psferr.fits"), oldFile(smallPsf(), "2", true, false, more));
    QCOMPARE(readPsf(path("psferr.fits")).psferr, expected);
}

void TestPsfFile::keepsOffsets() {
    Psf psf = smallPsf();
    psf.offsets = {{"INTOFF", {0, 2}, {5010, 5020}, {0.1, -0.1}, {0.01, 0.02}},
                   {"EXTOFF", {1}, {5030}, {0.2}, {0.03}},
                   {"INTOFF", {}, {}, {}, {}}};
    writePsf(path("off.fits"), psf);
    const Psf back = readPsf(path("off.fits"));
    QCOMPARE(back.offsets.size(), std::size_t{3});
    for (std::size_t i = 0; i < 3; ++i) {
        QCOMPARE(back.offsets[i].name, psf.offsets[i].name);
        QVERIFY(back.offsets[i].fiber == psf.offsets[i].fiber);
        QVERIFY(back.offsets[i].wave == psf.offsets[i].wave);
        QVERIFY(back.offsets[i].dwave == psf.offsets[i].dwave);
        QVERIFY(back.offsets[i].dwaveError == psf.offsets[i].dwaveError);
    }
    // A table that cannot be read is no reason to fail.
    std::string bytes = load(file("off.fits"));
    bytes.replace(bytes.find("DWAVE_ERR"), 9, "SOMETHING");
    save(file("off2.fits"), bytes);
    QCOMPARE(readPsf(path("off2.fits")).offsets.size(), std::size_t{2});
    psf.offsets[0].wave.pop_back();
    QVERIFY(messageOf([&] { writePsf(path("off3.fits"), psf); }).find("INTOFF") != std::string::npos);
}

void TestPsfFile::tellsUnfittedBundles() {
    Psf psf = smallPsf(6);
    LegendreSeries bundle = psf.series["CONT"] = psf.series["GHSIGX"];
    LegendreSeries status = bundle;
    for (std::size_t i = 0; i < bundle.coeff.size(); ++i) {
        const std::size_t spectrum = i / 3;
        const std::size_t number = spectrum / 2;
        bundle.coeff[i] = i % 3 == 0 ? static_cast<double>(number) : 0.0; // bundles of two: 0, 1, 2
        status.coeff[i] = i == 9 ? -1.0 : 0.0;                            // one spectrum of bundle 1
    }
    psf.series["BUNDLE"] = bundle;
    psf.series["STATUS"] = status;
    psf.series["CONT"].coeff.assign(18, NAN); // not part of the PSF
    psf.bundleFits = {{0, 1.1, 0}, {1, 1.2, 0}, {2, 0.0, 0}, {7, 1.3, 0}};
    writePsf(path("bundles.fits"), psf);
    const Psf back = readPsf(path("bundles.fits"));
    QCOMPARE(back.bundleFits.size(), std::size_t{3}); // bundle 7 is not in this file
    QVERIFY(back.bundleFits[0].fitted());
    QVERIFY(!back.bundleFits[1].fitted());
    QCOMPARE(back.bundleFits[1].status, -1);
    QVERIFY(!back.bundleFits[2].fitted());
    QCOMPARE(back.bundleFits[2].bundle, 2);
}

void TestPsfFile::isLenientWithKeywords() {
    writePsf(path("good.fits"), smallPsf());
    const std::string good = load(file("good.fits"));
    const auto read = [&](const std::string& bytes) {
        save(file("lenient.fits"), bytes);
        return readPsf(path("lenient.fits"));
    };
    std::string bytes = good;
    setValue(bytes, "FIBERMAX", "499", 0); // XTRACE
    setValue(bytes, "FIBERMAX", "499", 2); // table
    QCOMPARE(read(bytes).nspec, 3);
    bytes = good;
    setValue(bytes, "LEGDEG", "7"); // TDIM is right
    QCOMPARE(read(bytes).series.at("GHSIGX").ncoeff, 3);
    bytes = good;
    for (int i = 0; i < 2; ++i) replaceCard(bytes, "PSFVER", "COMMENT no version", 0); // the layout tells
    QCOMPARE(read(bytes).version, 3);
    bytes = good;
    replaceCard(bytes, "PSFTYPE", "COMMENT no type", 1); // the primary's remains
    QCOMPARE(read(bytes).type, PsfType::GaussHermite);
}

void TestPsfFile::writesWhatItCannotSayInVersion3() {
    Psf psf = smallPsf();
    psf.series["GHSIGY"].wavemax += 10;
    psf.pack();
    writePsf(path("domains.fits"), psf);
    const Psf back = readPsf(path("domains.fits"));
    QCOMPARE(back.version, 2);
    compare(psf, back);
    // Series of different length are filled with zeros.
    psf = smallPsf();
    psf.series["GHSIGY"].ncoeff = 1;
    psf.series["GHSIGY"].coeff.resize(3);
    psf.pack();
    writePsf(path("short.fits"), psf);
    const Psf filled = readPsf(path("short.fits"));
    QCOMPARE(filled.series.at("GHSIGY").ncoeff, 3);
    QCOMPARE(filled.series.at("GHSIGY").coeff[1], 0.0);
    QCOMPARE(filled.series.at("GHSIGY").coeff[3], psf.series["GHSIGY"].coeff[1]);
}

void TestPsfFile::refusesInconsistentPsf() {
    Psf psf = smallPsf();
    psf.series.erase("GHSIGX");
    QVERIFY(messageOf([&] { writePsf(path("bad.fits"), psf); }).find("bad.fits: the PSF has no parameter GHSIGX") !=
            std::string::npos);
    QVERIFY(!QFile::exists(file("bad.fits")));
}

void TestPsfFile::readsRealFiles_data() {
    QTest::addColumn<int>("type");
    QTest::addColumn<int>("version");
    QTest::addColumn<int>("nspec");
    QTest::addColumn<int>("degree");
    QTest::addColumn<int>("ncoeff");
    QTest::addColumn<double>("wavemin");
    QTest::addColumn<double>("wavemax");
    QTest::addColumn<double>("psferr");
    QTest::newRow("psf-r0-00051060.fits") << 0 << 3 << 500 << 6 << 4 << 5543.0 << 7827.0 << 0.01;
    QTest::newRow("psf-gausshermite.fits") << 0 << 2 << 25 << 8 << 8 << 5564.0 << 7805.0 << 0.01;
    QTest::newRow("psf-gausshermite2.fits") << 1 << 2 << 25 << 6 << 8 << 5460.0 << 10140.0 << 0.05;
}

void TestPsfFile::readsRealFiles() {
    PATCHLIGHT_NEED_SHARED(QString(QTest::currentDataTag()));
    QFETCH(int, type);
    QFETCH(int, version);
    QFETCH(int, nspec);
    QFETCH(int, degree);
    QFETCH(int, ncoeff);
    QFETCH(double, wavemin);
    QFETCH(double, wavemax);
    QFETCH(double, psferr);
    const Psf psf = readPsf(patchlight::test::sharedFile(QTest::currentDataTag()).toStdString());
    QCOMPARE(static_cast<int>(psf.type), type);
    QCOMPARE(psf.version, version);
    QCOMPARE(psf.nspec, nspec);
    QCOMPARE(psf.degX, degree);
    QCOMPARE(psf.degY, degree);
    QCOMPARE(psf.series.at("GHSIGX").ncoeff, ncoeff);
    QCOMPARE(psf.wavemin(), wavemin);
    QCOMPARE(psf.wavemax(), wavemax);
    QCOMPARE(psf.psferr, psferr);
    QCOMPARE(psf.nx, 4114);
    QCOMPARE(psf.ny, 4128);
    for (const BundleFit& fit : psf.bundleFits) QVERIFY(fit.fitted());
    QVERIFY(psf.bundleFits.size() >= 20);
    const double middle = (wavemin + wavemax) / 2;
    QVERIFY(std::abs(psf.wavelengthAt(nspec - 1, psf.y(nspec - 1, middle)) - middle) < 1e-6);
    // Written and read again it is the same.
    writePsf(path("copy.fits"), psf);
    const Psf back = readPsf(path("copy.fits"));
    compareSeries(psf, back);
}

QTEST_APPLESS_MAIN(TestPsfFile)
#include "TestPsfFile.moc"
