#include "core/io/RiceCode.h"

#include <QTest>

#include <string_view>
#include <vector>

using patchlight::riceCodeIsWhole;

class TestRiceCode : public QObject {
    Q_OBJECT

private slots:
    void endsInside_data();
    void endsInside();
    void needsTheFirstPixel();
};

namespace {

/// Bytes of a text of 0 and 1 (blanks are left out), filled up with zeros, behind a first pixel.
std::vector<std::uint8_t> code(std::string_view bits, int bytesPerPixel) {
    std::vector<std::uint8_t> bytes(static_cast<std::size_t>(bytesPerPixel), 0xAB);
    int filled = 0;
    for (const char bit : bits) {
        if (bit == ' ') continue;
        if (filled % 8 == 0) bytes.push_back(0);
        if (bit == '1') bytes.back() = static_cast<std::uint8_t>(bytes.back() | (0x80U >> (filled % 8)));
        ++filled;
    }
    return bytes;
}

} // namespace

void TestRiceCode::endsInside_data() {
    QTest::addColumn<QByteArray>("bits");
    QTest::addColumn<int>("bytesPerPixel");
    QTest::addColumn<int>("pixels");
    QTest::addColumn<bool>("whole");

    // Worked out by hand; blocks of 16 pixels.
    const QByteArray ones(16, '1');
    QTest::addRow("one block of zeros") << QByteArray("00000") << 4 << 16 << true;
    QTest::addRow("8 bits hold one head of 5") << QByteArray("00000 000") << 4 << 17 << false;
    QTest::addRow("two heads of 4") << QByteArray("0000 0000") << 2 << 32 << true;
    QTest::addRow("three heads of 4") << QByteArray("0000 0000") << 2 << 33 << false;
    QTest::addRow("two heads of 3, byte pixels") << QByteArray("000 000") << 1 << 20 << true;
    QTest::addRow("unary only: 5 + 16 bits") << QByteArray("00001" + ones) << 4 << 16 << true;
    QTest::addRow("one pixel short") << QByteArray("00001" + ones.left(11)) << 4 << 16 << false;
    QTest::addRow("fewer pixels than a block") << QByteArray("00001" + ones.left(11)) << 4 << 11 << true;
    QTest::addRow("three low bits a pixel") << QByteArray("00100 1000 0001111") << 4 << 2 << true;
    QTest::addRow("one of those missing") << QByteArray("00100 1000 0000111") << 4 << 3 << false;
    QTest::addRow("low bits missing") << QByteArray("00100 1000 0000011") << 4 << 2 << false;
    QTest::addRow("a run of zeros to the end") << QByteArray("00001" + QByteArray(300, '0')) << 4 << 1 << false;
    QTest::addRow("a long run of zeros, ended") << QByteArray("00001" + QByteArray(300, '0') + "1") << 4 << 1 << true;
    QTest::addRow("plain differences, 4 bytes") << QByteArray("11010" + QByteArray(64, '0')) << 4 << 2 << true;
    QTest::addRow("plain differences, one short") << QByteArray("11010" + QByteArray(91, '0')) << 4 << 3 << false;
    QTest::addRow("plain differences, 2 bytes") << QByteArray("1111" + QByteArray(32, '0')) << 2 << 2 << true;
    QTest::addRow("plain differences, 1 byte") << QByteArray("111" + QByteArray(24, '0')) << 1 << 3 << true;
    QTest::addRow("the highest head, 4 bytes") << QByteArray("11111 1" + QByteArray(30, '0')) << 4 << 1 << true;
    QTest::addRow("the highest head, too short") << QByteArray("11111 1" + QByteArray(26, '0')) << 4 << 1 << false;
}

void TestRiceCode::endsInside() {
    QFETCH(QByteArray, bits);
    QFETCH(int, bytesPerPixel);
    QFETCH(int, pixels);
    QFETCH(bool, whole);
    const std::vector<std::uint8_t> bytes =
        code(std::string_view(bits.constData(), static_cast<std::size_t>(bits.size())), bytesPerPixel);
    QCOMPARE(riceCodeIsWhole(bytes, static_cast<std::uint64_t>(pixels), 16, bytesPerPixel), whole);
}

void TestRiceCode::needsTheFirstPixel() {
    QVERIFY(!riceCodeIsWhole({}, 1, 32, 4));
    const std::vector<std::uint8_t> four(4, 0);
    QVERIFY(!riceCodeIsWhole(four, 1, 32, 4));
    QVERIFY(riceCodeIsWhole(four, 1, 32, 2));
}

QTEST_APPLESS_MAIN(TestRiceCode)
#include "TestRiceCode.moc"
