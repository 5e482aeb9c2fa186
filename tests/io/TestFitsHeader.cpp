#include "core/base/Error.h"
#include "core/io/FitsHeader.h"
#include "tests/io/FitsBytes.h"

#include <QObject>
#include <QTest>

#include <limits>

using namespace patchlight;
using fitsbytes::messageOf;

class TestFitsHeader : public QObject {
    Q_OBJECT
private slots:
    void readsValues();
    void readsContinuedText();
    void readsHierarch();
    void keepsCards();
    void setsValues();
    void cutsLongText();
    void replacesContinuedText();
    void refusesBadKeywords();
    void tellsStructuralCards();
};

namespace {

FitsHeader headerOf(const std::vector<std::string>& cards) {
    FitsHeader header;
    for (const std::string& card : cards) header.addCard(card);
    return header;
}

} // namespace

void TestFitsHeader::readsValues() {
    const FitsHeader header = headerOf({
        "NAXIS1  =                 4114 / columns",
        "EXPTIME =                900.0",
        "GAIN    =                   1. / assumed",
        "BIG     =              1.5D+03 / FORTRAN exponent",
        "POSITIVE=                  +12",
        "PSFVER  = '2       '           / text that is a number",
        "CAMERA  = '''r0      '''       / quotes in the text",
        "OBJECT  = 'M31 / bulge'        / a slash in the text",
        "EMPTY   = ''",
        "FLAG    =                    T / true",
        "NOTANUM =                  NaN",
        "INFINITE=                  inf",
        "HUGE    =               1E+999",
        "UNDEF   =                      / undefined value",
        "NOVALUE   4114",
        "COMMENT = this is a comment",
    });
    QCOMPARE(header.integer("NAXIS1").value(), 4114);
    QCOMPARE(header.number("NAXIS1").value(), 4114.0);
    QCOMPARE(header.number("EXPTIME").value(), 900.0);
    QCOMPARE(header.integer("EXPTIME").value(), 900);
    QCOMPARE(header.integer("GAIN").value(), 1);
    QCOMPARE(header.number("BIG").value(), 1500.0);
    QCOMPARE(header.integer("POSITIVE").value(), 12);
    QCOMPARE(header.integer("PSFVER").value(), 2);
    QCOMPARE(header.text("PSFVER").value(), "2");
    QCOMPARE(header.text("CAMERA").value(), "'r0      '");
    QCOMPARE(header.text("OBJECT").value(), "M31 / bulge");
    QCOMPARE(header.text("EMPTY").value(), "");
    QVERIFY(!header.number("EMPTY"));
    QCOMPARE(header.text("FLAG").value(), "T");
    QVERIFY(!header.number("FLAG"));
    for (const char* keyword : {"NOTANUM", "INFINITE", "HUGE", "UNDEF", "OBJECT", "ABSENT"}) {
        QVERIFY2(!header.number(keyword), keyword);
        QVERIFY2(!header.integer(keyword), keyword);
    }
    QVERIFY(header.has("NOVALUE"));
    QVERIFY(!header.text("NOVALUE"));
    QVERIFY(!header.has("ABSENT"));
    QVERIFY(!header.has("NAXIS"));
    QVERIFY(!header.text(""));
}

void TestFitsHeader::readsContinuedText() {
    const FitsHeader header = headerOf({
        "IN_PSF  = '/a/very/long/path/that/does/not/fit/one/card/of/eighty/charact&'",
        "CONTINUE  'ers/so/that/it&'",
        "CONTINUE  's continued.fits' / the comment",
        "NEXT    =                    1",
        "LONE    = 'ends with an ampersand&'",
        "OTHER   =                    2",
    });
    QCOMPARE(header.text("IN_PSF").value(),
             "/a/very/long/path/that/does/not/fit/one/card/of/eighty/characters/so/that/its continued.fits");
    QCOMPARE(header.text("LONE").value(), "ends with an ampersand&");
    QCOMPARE(header.integer("NEXT").value(), 1);
}

void TestFitsHeader::readsHierarch() {
    const FitsHeader header =
        headerOf({"HIERARCH ESO DET CHIP1 NAME = 'left' / long keyword", "HIERARCH without value"});
    QCOMPARE(header.text("ESO DET CHIP1 NAME").value(), "left");
    QVERIFY(header.has("ESO DET CHIP1 NAME"));
}

void TestFitsHeader::keepsCards() {
    const std::vector<std::string> cards = {"COMMENT   spaces in   front are kept", "HISTORY made 'by' hand", "",
                                            "A       =                    1 / one"};
    FitsHeader header = headerOf(cards);
    QCOMPARE(header.cards().size(), cards.size());
    for (std::size_t i = 0; i < cards.size(); ++i) {
        QCOMPARE(header.cards()[i].size(), std::size_t{80});
        QVERIFY(header.cards()[i].starts_with(cards[i]));
    }
    header.set("A", 2);
    header.set("B", 3);
    QCOMPARE(header.cards().size(), cards.size() + 1);
    QVERIFY(header.cards()[3].starts_with("A       =                    2"));
    header.remove("A");
    QVERIFY(!header.has("A"));
    QCOMPARE(header.cards().size(), cards.size());
    FitsHeader cut;
    cut.addCard(std::string(200, 'x'));
    QCOMPARE(cut.cards()[0].size(), std::size_t{80});
}

void TestFitsHeader::setsValues() {
    FitsHeader header;
    header.set("TEXT", "it's", "a comment");
    header.set("REAL", 0.1);
    header.set("WHOLE", 6000.0, "Angstrom");
    header.set("TINY", 1.5e-300);
    header.set("INT", 42);
    header.set("LARGE", std::int64_t{39627000000003});
    header.set("YES", true);
    QCOMPARE(header.text("TEXT").value(), "it's");
    QVERIFY(header.cards()[0].starts_with("TEXT    = 'it''s   '           / a comment"));
    QCOMPARE(header.number("REAL").value(), 0.1);
    QVERIFY(header.cards()[1].starts_with("REAL    =                  0.1"));
    QCOMPARE(header.text("WHOLE").value(), "6000.0");
    QCOMPARE(header.number("TINY").value(), 1.5e-300);
    QCOMPARE(header.integer("LARGE").value(), std::int64_t{39627000000003});
    QVERIFY(header.cards()[6].starts_with("YES     =                    T"));
    for (const std::string& card : header.cards()) QCOMPARE(card.size(), std::size_t{80});
    header.set("UMLAUT", "gr\xC3\xBC\xC3\x9F"); // headers are ASCII
    QCOMPARE(header.text("UMLAUT").value(), "gr????");
    QVERIFY(!messageOf([&] { header.set("NAN", std::numeric_limits<double>::quiet_NaN()); }).empty());
}

void TestFitsHeader::cutsLongText() {
    const std::string path = "/global/cfs/cdirs/spectro/redux/" + std::string(80, 'x') + "/psf-r0.fits";
    FitsHeader header;
    header.set("IN_PSF", path);
    const std::string text = header.text("IN_PSF").value();
    QVERIFY(text.starts_with("..."));
    QVERIFY(text.ends_with("/psf-r0.fits"));
    QCOMPARE(text.size(), std::size_t{68});
    // Doubled quotes count too, and are never cut in half.
    header.set("QUOTES", std::string(60, '\''));
    QCOMPARE(header.cards()[1].size(), std::size_t{80});
    QVERIFY(header.text("QUOTES").value().ends_with("''''"));
    QVERIFY(!header.text("QUOTES").value().ends_with("' "));
}

void TestFitsHeader::replacesContinuedText() {
    FitsHeader header = headerOf({"LONG    = 'one&'", "CONTINUE  'two&'", "CONTINUE  'three'", "LAST    =  1"});
    header.set("LONG", "short");
    QCOMPARE(header.cards().size(), std::size_t{2});
    QCOMPARE(header.text("LONG").value(), "short");
    header = headerOf({"LONG    = 'one&'", "CONTINUE  'two'", "LAST    =  1"});
    header.remove("LONG");
    QCOMPARE(header.cards().size(), std::size_t{1});
}

void TestFitsHeader::refusesBadKeywords() {
    FitsHeader header;
    for (const char* keyword : {"", "lower", "NINECHARS", "SPA CE", "A=B"})
        QVERIFY2(messageOf([&] { header.set(keyword, 1); }).find("keyword") != std::string::npos, keyword);
    QVERIFY(header.cards().empty());
}

void TestFitsHeader::tellsStructuralCards() {
    for (const char* card :
         {"SIMPLE  =                    T", "NAXIS   = 2", "NAXIS12 = 3", "TFORM7  = 'J'", "ZIMAGE  = T", "ZTILE1  = 1",
          "ZVAL2   = 4", "CHECKSUM= ''", "BZERO   = 0", "BSCALE", "END", "XTENSION= 'IMAGE'", "GCOUNT  = 1"})
        QVERIFY2(FitsHeader::isStructural(card), card);
    for (const char* card : {"CAMERA  = 'r0'", "NAXISX  = 2", "ZD      = 30.1", "EXPTIME = 1", "COMMENT SIMPLE",
                             "TARGTRA = 1", "ZENITH  = 1", "TFORM   = 1", "EXTNAME = 'A'", "BUNIT   = 'electron'"})
        QVERIFY2(!FitsHeader::isStructural(card), card);
}

QTEST_APPLESS_MAIN(TestFitsHeader)
#include "TestFitsHeader.moc"
