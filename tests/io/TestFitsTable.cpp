#include "core/io/FitsFile.h"
#include "core/io/FitsTable.h"
#include "core/io/FitsTableLayout.h"
#include "core/io/FitsWriter.h"
#include "tests/io/FitsBytes.h"

#include <QObject>
#include <QTemporaryDir>
#include <QTest>

#include <cmath>

using namespace patchlight;
using namespace fitsbytes;

class TestFitsTable : public QObject {
    Q_OBJECT
private slots:
    void readsColumns();
    void readsUnsignedAndScaled();
    void refusesWrongTypes();
    void selectsRows();
    void keepsHeapAcrossFiles();
    void refusesBadLayouts_data();
    void refusesBadLayouts();
    void readsDims();

private:
    QTemporaryDir folder_;
    [[nodiscard]] std::string path(const char* name) const { return folder_.filePath(name).toStdString(); }
};

namespace {

FitsTable tableOf(const std::vector<std::string>& cards, std::size_t rowBytes, std::size_t rows,
                  const std::string& bytes) {
    FitsTable table;
    table.name = "T";
    for (const std::string& one : cards) table.header.addCard(one);
    table.rowBytes = rowBytes;
    table.rowCount = rows;
    table.bytes.assign(bytes.begin(), bytes.end());
    return table;
}

/// Two rows: TARGETID K, PETAL I, FIBER J, NAME 4A, RA D, MAG E, FLAG L, BYTE B, PAIR 2J.
FitsTable sample() {
    const auto row = [](std::int64_t id, int seed, const char* name) {
        return bigEndian(id) + bigEndian(static_cast<std::int16_t>(-seed)) + bigEndian(seed * 100000) +
               std::string(name, 4) + bigEndian(seed + 0.25) + bigEndian(static_cast<float>(seed) / 2) +
               std::string(seed % 2 == 0 ? "T" : "F") + std::string(1, static_cast<char>(200 + seed)) +
               bigEndian(std::vector<std::int32_t>{seed, -seed});
    };
    const char name2[] = {'c', '\0', 'z', 'z'}; // a NUL ends the text early
    const std::string bytes = row(39627000000000003, 1, "ab  ") + row(-9223372036854775807LL, 2, name2);
    return tableOf(tableCards("T", 40, 2,
                              {{"TARGETID", "K"},
                               {"PETAL", "1I"},
                               {"FIBER", "J"},
                               {"NAME", "4A"},
                               {"RA", "D"},
                               {"MAG", "E"},
                               {"FLAG", "L"},
                               {"BYTE", "B"},
                               {"PAIR", "2J"}}),
                   40, 2, bytes);
}

} // namespace

void TestFitsTable::readsColumns() {
    const FitsTable table = sample();
    using Integers = std::vector<std::int64_t>;
    QCOMPARE(table.integers("TARGETID"), (Integers{39627000000000003, -9223372036854775807LL}));
    QCOMPARE(table.integers("PETAL"), (Integers{-1, -2}));
    QCOMPARE(table.integers("fiber"), (Integers{100000, 200000}));
    QCOMPARE(table.integers("FLAG"), (Integers{0, 1}));
    QCOMPARE(table.integers("BYTE"), (Integers{201, 202}));
    QCOMPARE(table.integers("PAIR"), (Integers{1, -1, 2, -2}));
    QCOMPARE(table.numbers("RA"), (std::vector<double>{1.25, 2.25}));
    QCOMPARE(table.numbers("MAG"), (std::vector<double>{0.5, 1.0}));
    QCOMPARE(table.numbers("FIBER"), (std::vector<double>{100000, 200000}));
    QCOMPARE(table.texts("NAME"), (std::vector<std::string>{"ab", "c"}));
    QVERIFY(table.hasColumn("Ra"));
    QVERIFY(!table.hasColumn("DEC"));
}

void TestFitsTable::readsUnsignedAndScaled() {
    std::vector<std::string> cards = tableCards(
        "T", 22, 1, {{"U2", "I"}, {"U4", "J"}, {"U8", "K"}, {"S1", "B"}, {"SCALED", "I"}, {"BAD", "I"}, {"N", "3A"}});
    for (const auto& [keyword, value] :
         std::vector<std::pair<std::string, std::string>>{{"TZERO1", "32768"},
                                                          {"TZERO2", "2147483648"},
                                                          {"TZERO3", "9223372036854775808"},
                                                          {"TZERO4", "-128"},
                                                          {"TSCAL5", "0.5"},
                                                          {"TZERO5", "10"},
                                                          {"TZERO6", "0.5"}})
        cards.push_back(card(keyword, value));
    const std::string row = bigEndian(std::int16_t{32767}) + bigEndian(std::int32_t{2147483647}) +
                            bigEndian(static_cast<std::int64_t>(-9223372036854775807LL - 1 + 5)) +
                            std::string(1, '\0') + bigEndian(std::int16_t{6}) + bigEndian(std::int16_t{1}) + "abc";
    const FitsTable table = tableOf(cards, 22, 1, row);
    QCOMPARE(table.integers("U2")[0], std::int64_t{65535});
    QCOMPARE(table.integers("U4")[0], std::int64_t{4294967295});
    QCOMPARE(table.integers("U8")[0], std::int64_t{5});
    QCOMPARE(table.integers("S1")[0], std::int64_t{-128});
    QCOMPARE(table.numbers("SCALED")[0], 13.0);
    QVERIFY(messageOf([&] { (void)table.integers("SCALED"); }).find("TSCAL") != std::string::npos);
    QVERIFY(messageOf([&] { (void)table.integers("BAD"); }).find("TZERO") != std::string::npos);
}

void TestFitsTable::refusesWrongTypes() {
    const FitsTable table = sample();
    const auto fails = [](auto call, const char* column, const char* format) {
        const std::string message = messageOf(call);
        return message.find(column) != std::string::npos && message.find(format) != std::string::npos &&
               message.find("table T") != std::string::npos;
    };
    QVERIFY(fails([&] { (void)table.integers("RA"); }, "RA", "TFORM5 = 'D'"));
    QVERIFY(fails([&] { (void)table.numbers("NAME"); }, "NAME", "TFORM4 = '4A'"));
    QVERIFY(fails([&] { (void)table.texts("FIBER"); }, "FIBER", "TFORM3 = 'J'"));
    QVERIFY(fails([&] { (void)table.integers("DEC"); }, "DEC", "missing"));
    FitsTable shorter = table;
    shorter.bytes.pop_back();
    QVERIFY(!messageOf([&] { (void)shorter.integers("FIBER"); }).empty());
}

void TestFitsTable::selectsRows() {
    const FitsTable table = sample();
    const FitsTable second = table.selectRows(1, 1);
    QCOMPARE(second.rowCount, std::size_t{1});
    QCOMPARE(second.header.integer("NAXIS2").value(), std::int64_t{1});
    QCOMPARE(second.integers("FIBER"), std::vector<std::int64_t>{200000});
    QCOMPARE(table.selectRows(2, 0).rowCount, std::size_t{0});
    for (const auto& [first, count] :
         std::vector<std::pair<std::size_t, std::size_t>>{{0, 3}, {2, 1}, {3, 0}, {1, ~std::size_t{0}}})
        QVERIFY(messageOf([&, f = first, c = count] { (void)table.selectRows(f, c); }).find("rows") !=
                std::string::npos);
}

void TestFitsTable::keepsHeapAcrossFiles() {
    // A row whose array of three bytes lies behind a gap of two.
    const std::string row = bigEndian(std::int32_t{7}) + bigEndian(std::int32_t{3}) + bigEndian(std::int32_t{1});
    std::vector<std::string> cards = tableCards("VLA", 12, 1, {{"ID", "J"}, {"BYTES", "1PB(3)"}}, 6);
    cards.push_back(card("THEAP", 14));
    cards.push_back(card("COMMENT kept"));
    save(folder_.filePath("vla.fits"), hdu(imageCards(true, 8, {})) + hdu(cards, row + "--" + "_abc"));
    const FitsFile file(path("vla.fits"));
    const FitsTable table = file.readTable(file.require("vla"));
    QCOMPARE(table.heap.size(), std::size_t{4});
    {
        FitsWriter writer(path("copy.fits"));
        writer.addTable(table);
        writer.commit();
    }
    const std::string copy = load(folder_.filePath("copy.fits"));
    QVERIFY(copy.find(row + "_abc") != std::string::npos);
    QVERIFY(copy.find("COMMENT kept") != std::string::npos);
    const FitsFile again(path("copy.fits"));
    const FitsTable table2 = again.readTable(again.require("VLA"));
    QCOMPARE(table2.heap, table.heap);
    QCOMPARE(table2.bytes, table.bytes);
    QCOMPARE(table2.integers("ID"), std::vector<std::int64_t>{7});
}

void TestFitsTable::refusesBadLayouts_data() {
    QTest::addColumn<QString>("keyword");
    QTest::addColumn<QString>("value");
    QTest::addColumn<QString>("culprit");
    QTest::newRow("TFIELDS negative") << "TFIELDS"
                                      << "-1"
                                      << "TFIELDS";
    QTest::newRow("TFIELDS huge") << "TFIELDS"
                                  << "100000000"
                                  << "TFIELDS";
    QTest::newRow("TFIELDS text") << "TFIELDS"
                                  << "'nine'"
                                  << "TFIELDS";
    QTest::newRow("TFIELDS beyond columns") << "TFIELDS"
                                            << "10"
                                            << "TFORM10";
    QTest::newRow("no letter") << "TFORM3"
                               << "'4'"
                               << "TFORM3";
    QTest::newRow("unknown letter") << "TFORM3"
                                    << "'Y'"
                                    << "TFORM3";
    QTest::newRow("repeat huge") << "TFORM3"
                                 << "'99999999999999999999J'"
                                 << "TFORM3";
    QTest::newRow("repeat overflowing") << "TFORM3"
                                        << "'1099511627777D'"
                                        << "TFORM3";
    QTest::newRow("wider than a row") << "TFORM4"
                                      << "'40A'"
                                      << "NAXIS1 = 40";
    QTest::newRow("two descriptors") << "TFORM5"
                                     << "'2PB'"
                                     << "TFORM5";
}

void TestFitsTable::refusesBadLayouts() {
    QFETCH(QString, keyword);
    QFETCH(QString, value);
    QFETCH(QString, culprit);
    FitsTable table = sample();
    FitsHeader header;
    for (const std::string& one : table.header.cards())
        header.addCard(one.starts_with(keyword.toStdString() + " ") ? card(keyword.toStdString(), value.toStdString())
                                                                    : one);
    table.header = header;
    const std::string message = messageOf([&] { (void)table.integers("TARGETID"); });
    QVERIFY2(message.find(culprit.toStdString()) != std::string::npos, message.c_str());
}

void TestFitsTable::readsDims() {
    const auto dims = [](const char* text) {
        FitsHeader header;
        for (const std::string& one : tableCards("T", 96, 1, {{"C", "12D"}})) header.addCard(one);
        header.addCard(card("TDIM1", text));
        return fitsColumns(header, 96, "T")[0].dims;
    };
    using Dims = std::vector<std::size_t>;
    QCOMPARE(dims("'( 4, 3)'"), (Dims{4, 3}));
    QCOMPARE(dims("'(12)'"), (Dims{12}));
    for (const char* wrong :
         {"'(4,4)'", "'(0,12)'", "'(4,3'", "'4,3'", "'(a)'", "'()'", "'(18446744073709551615,12)'", "12"})
        QVERIFY2(dims(wrong).empty(), wrong);
}

QTEST_APPLESS_MAIN(TestFitsTable)
#include "TestFitsTable.moc"
