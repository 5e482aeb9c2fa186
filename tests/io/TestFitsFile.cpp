#include "core/io/FitsFile.h"
#include "core/io/FitsWriter.h"
#include "tests/io/CfitsioFile.h"
#include "tests/io/FitsBytes.h"

#include <QDir>
#include <QFile>
#include <QObject>
#include <QTemporaryDir>
#include <QTest>

#include <cmath>
#include <cstring>
#include <limits>
#include <thread>

#include <zlib.h>

using namespace patchlight;
using namespace fitsbytes;

class TestFitsFile : public QObject {
    Q_OBJECT
private slots:
    void readsPlainTypes_data();
    void readsPlainTypes();
    void keepsSpecialFloats();
    void readsIntegersAsBitPatterns();
    void refusesIntegersThatDoNotFit();
    void readsTiles_data();
    void readsTiles();
    void findsHdus();
    void findsMainImage();
    void namesAreLiteral();
    void triesOtherSuffix();
    void readsGzipMembers();
    void dropsUnwantedData();
    void readsInThreads();
    void writesUnsigned();
    void writesTheSameBytes();

private:
    QTemporaryDir folder_;
    [[nodiscard]] QString file(const QString& name) const { return folder_.filePath(name); }
    [[nodiscard]] std::string path(const QString& name) const { return file(name).toStdString(); }
};

namespace {

constexpr double undefined = std::numeric_limits<double>::quiet_NaN();

std::string gzip(const std::string& bytes) {
    z_stream stream = {};
    deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
    std::string out(bytes.size() + 1000, '\0');
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
    stream.avail_in = static_cast<uInt>(bytes.size());
    stream.next_out = reinterpret_cast<Bytef*>(out.data());
    stream.avail_out = static_cast<uInt>(out.size());
    deflate(&stream, Z_FINISH);
    out.resize(out.size() - stream.avail_out);
    deflateEnd(&stream);
    return out;
}

template <class T> bool sameBits(const std::vector<T>& a, const std::vector<T>& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

template <class T> std::vector<T> read(const FitsFile& file, const FitsHdu& hdu) {
    std::vector<T> values(file.pixelCount(hdu));
    file.readImage(hdu, std::span<T>(values));
    return values;
}

std::string primary(int bitpix, long long count, const std::string& data, const std::vector<std::string>& more = {}) {
    std::vector<std::string> cards = imageCards(true, bitpix, {count}, "A");
    cards.insert(cards.end(), more.begin(), more.end());
    return hdu(cards, data);
}

} // namespace

void TestFitsFile::readsPlainTypes_data() {
    QTest::addColumn<QByteArray>("bytes");
    QTest::addColumn<QList<double>>("expected");
    const auto row = [](const char* name, const std::string& bytes, const QList<double>& expected) {
        QTest::newRow(name) << QByteArray::fromStdString(bytes) << expected;
    };
    const std::vector<std::string> blank = {card("BLANK", -5)};
    row("uint8", primary(8, 3, std::string("\x00\x7F\xFF", 3)), {0, 127, 255});
    row("int16", primary(16, 3, bigEndian(std::vector<std::int16_t>{-32768, -5, 7})), {-32768, -5, 7});
    row("int16 with BLANK", primary(16, 3, bigEndian(std::vector<std::int16_t>{-32768, -5, 7}), blank),
        {-32768, undefined, 7});
    row("uint16", primary(16, 2, bigEndian(std::vector<std::int16_t>{-32768, 32767}), {card("BZERO", 32768)}),
        {0, 65535});
    row("scaled int16",
        primary(16, 2, bigEndian(std::vector<std::int16_t>{-4, 10}), {card("BSCALE", "0.25"), card("BZERO", "1.E2")}),
        {99, 102.5});
    row("int32", primary(32, 3, bigEndian(std::vector<std::int32_t>{-5, 16777217, 0}), blank),
        {undefined, 16777217, 0});
    row("int64", primary(64, 2, bigEndian(std::vector<std::int64_t>{-5, 1LL << 40})), {-5, 1099511627776.0});
    row("float32", primary(-32, 3, bigEndian(std::vector<float>{0.5F, NAN, -INFINITY}), blank),
        {0.5, undefined, -INFINITY});
    row("scaled float32",
        primary(-32, 3, bigEndian(std::vector<float>{0.5F, NAN, INFINITY}), {card("BSCALE", 2), card("BZERO", 1)}),
        {2, undefined, INFINITY});
    row("float64", primary(-64, 4, bigEndian(std::vector<double>{0.1, undefined, INFINITY, 1e300})),
        {0.1, undefined, INFINITY, 1e300});
}

void TestFitsFile::readsPlainTypes() {
    QFETCH(QByteArray, bytes);
    QFETCH(QList<double>, expected);
    save(file("a.fits"), bytes.toStdString());
    save(file("z.fits.gz"), gzip(bytes.toStdString()));
    for (const char* name : {"a.fits", "z.fits.gz"}) {
        const FitsFile fits(path(name));
        const auto doubles = read<double>(fits, fits.require("A"));
        const auto floats = read<float>(fits, fits.require("A"));
        QCOMPARE(static_cast<qsizetype>(doubles.size()), expected.size());
        for (qsizetype i = 0; i < expected.size(); ++i) {
            const auto k = static_cast<std::size_t>(i);
            QVERIFY(doubles[k] == expected[i] || (std::isnan(doubles[k]) && std::isnan(expected[i])));
            const float single = std::abs(expected[i]) > 3.5e38 ? INFINITY : static_cast<float>(expected[i]);
            QVERIFY(floats[k] == (expected[i] < 0 && std::isinf(expected[i]) ? -INFINITY : single) ||
                    (std::isnan(floats[k]) && std::isnan(expected[i])));
        }
    }
}

void TestFitsFile::keepsSpecialFloats() {
    // Quiet and signalling NaN with payload, infinities, -0, the smallest subnormal: bit for bit.
    const std::vector<std::uint32_t> bits = {0x7FC12345, 0x7FA00001, 0xFFFFFFFF, 0x7F800000,
                                             0xFF800000, 0x80000000, 0x00000001, 0x3F800000};
    save(file("f.fits"), primary(-32, 8, bigEndian(bits)));
    const FitsFile fits(path("f.fits"));
    std::vector<std::uint32_t> back(8);
    const auto values = read<float>(fits, fits.hdus()[0]);
    std::memcpy(back.data(), values.data(), 32);
    QCOMPARE(back, bits);
}

void TestFitsFile::readsIntegersAsBitPatterns() {
    save(file("u.fits"),
         primary(32, 3, bigEndian(std::vector<std::int32_t>{-2147483647 - 1, 0, 2147483647}),
                 {card("BZERO", "2147483648")}) +
             hdu(imageCards(false, 64, {2}, "L"), bigEndian(std::vector<std::int64_t>{4294967295, -1})) +
             hdu(imageCards(false, 16, {2}, "S"), bigEndian(std::vector<std::int16_t>{-1, 9})));
    const FitsFile fits(path("u.fits"));
    QCOMPARE(read<std::uint32_t>(fits, fits.require("A")), (std::vector<std::uint32_t>{0, 2147483648U, 4294967295U}));
    QCOMPARE(read<std::int32_t>(fits, fits.require("A")), (std::vector<std::int32_t>{0, -2147483647 - 1, -1}));
    QCOMPARE(read<std::int32_t>(fits, fits.require("L")), (std::vector<std::int32_t>{-1, -1}));
    QCOMPARE(read<std::int32_t>(fits, fits.require("S")), (std::vector<std::int32_t>{-1, 9}));
}

void TestFitsFile::refusesIntegersThatDoNotFit() {
    save(file("l.fits"), primary(64, 1, bigEndian(std::int64_t{1} << 32)) +
                             hdu(imageCards(false, -32, {1}, "F"), bigEndian(1.0F)) +
                             hdu(
                                 [] {
                                     auto cards = imageCards(false, 16, {1}, "S");
                                     cards.push_back(card("BSCALE", "0.5"));
                                     return cards;
                                 }(),
                                 bigEndian(std::int16_t{1})));
    const FitsFile fits(path("l.fits"));
    const auto message = [&](const char* name) {
        return QString::fromStdString(messageOf([&] { (void)read<std::int32_t>(fits, fits.require(name)); }));
    };
    QVERIFY2(message("A").contains("l.fits: HDU 0 (A): holds values that do not fit 32 bits"),
             qPrintable(message("A")));
    QVERIFY2(message("F").contains("l.fits: HDU 1 (F): BITPIX = -32"), qPrintable(message("F")));
    QVERIFY2(message("S").contains("HDU 2 (S): BSCALE = 0.5"), qPrintable(message("S")));
}

void TestFitsFile::readsTiles_data() {
    QTest::addColumn<int>("algorithm");
    QTest::addColumn<bool>("blocks");
    for (const auto& [name, algorithm] : {std::pair("RICE_1", RICE_1), std::pair("GZIP_1", GZIP_1),
                                          std::pair("GZIP_2", GZIP_2), std::pair("PLIO_1", PLIO_1)}) {
        QTest::addRow("%s rows", name) << algorithm << false;
        QTest::addRow("%s blocks", name) << algorithm << true;
    }
}

void TestFitsFile::readsTiles() {
    QFETCH(int, algorithm);
    QFETCH(bool, blocks);
    const std::vector<long> shape = {41, 23};
    std::vector<std::int32_t> integers(41 * 23);
    std::vector<std::uint32_t> unsigned32(integers.size());
    std::vector<float> floats(integers.size());
    std::vector<double> doubles(integers.size());
    for (std::size_t i = 0; i < integers.size(); ++i) {
        integers[i] = static_cast<std::int32_t>((i * 2654435761U) % 4001) - 2000;
        if (algorithm == PLIO_1) // masks: 0 to 2^24 - 1, long runs
            integers[i] = i % 100 < 60 ? 0 : static_cast<std::int32_t>(i % 7 == 0 ? i * 17000 % 16777216 : i % 5);
        unsigned32[i] = static_cast<std::uint32_t>(i) * 4000001U;
        floats[i] = std::sin(static_cast<float>(i)) * 100 + 0.01F * static_cast<float>(integers[i]);
        doubles[i] = static_cast<double>(floats[i]) * 1.0000001;
    }
    floats[100] = NAN;
    const QString name = file("tiles.fits");
    QFile::remove(name);
    {
        cfitsio::Writer writer(name);
        cfitsio::Compression compression{algorithm, {}, 0, 0};
        if (blocks) compression.tile = {16, 8};
        writer.image("LONG", LONG_IMG, shape, integers, compression);
        if (algorithm == PLIO_1) {
            const std::vector<std::int16_t> small(integers.size(), 77);
            writer.image("SAME", SHORT_IMG, shape, small, compression);
        } else {
            writer.image("SHORT", SHORT_IMG, shape, std::vector<std::int16_t>(integers.begin(), integers.end()),
                         compression);
            writer.image("UNSIGNED", ULONG_IMG, shape, unsigned32, compression);
        }
        compression.quantize = 16;
        compression.dither = SUBTRACTIVE_DITHER_1;
        if (algorithm != PLIO_1) writer.image("DITHERED", FLOAT_IMG, shape, floats, compression);
        compression.dither = NO_DITHER;
        if (algorithm != PLIO_1) writer.image("QUANTIZED", DOUBLE_IMG, shape, doubles, compression);
        if (algorithm == GZIP_1 || algorithm == GZIP_2) {
            compression.quantize = 0;
            writer.image("LOSSLESS", FLOAT_IMG, shape, floats, compression);
            writer.image("LOSSLESS64", DOUBLE_IMG, shape, doubles, compression);
        }
    }
    const FitsFile fits(name.toStdString());
    for (const FitsHdu& hdu : fits.hdus()) {
        if (hdu.index == 0) continue;
        QVERIFY(hdu.kind == FitsHduKind::CompressedImage);
        QCOMPARE(hdu.shapeText(), std::string("41 x 23"));
        const bool constant = hdu.name == "SAME";
        if (hdu.bitpix > 0 && !constant)
            QVERIFY(
                read<std::uint32_t>(fits, hdu) ==
                (hdu.name == "UNSIGNED" ? unsigned32 : std::vector<std::uint32_t>(integers.begin(), integers.end())));
        if (constant) QVERIFY(read<std::uint32_t>(fits, hdu) == std::vector<std::uint32_t>(integers.size(), 77));
        QVERIFY2(sameBits(read<double>(fits, hdu), cfitsio::pixels<double>(name, hdu.index + 1, undefined)),
                 hdu.name.c_str());
        QVERIFY2(sameBits(read<float>(fits, hdu), cfitsio::pixels<float>(name, hdu.index + 1, NAN)), hdu.name.c_str());
    }
    if (algorithm != PLIO_1) QVERIFY(std::isnan(read<float>(fits, fits.require("DITHERED"))[100]));
    if (algorithm == GZIP_1 || algorithm == GZIP_2)
        QVERIFY(sameBits(read<double>(fits, fits.require("LOSSLESS64")), doubles));
}

void TestFitsFile::findsHdus() {
    save(file("h.fits"), hdu(imageCards(true, 8, {})) + hdu(imageCards(false, 8, {}, "Ivar ")) +
                             hdu(tableCards("T", 4, 0, {{"A", "J"}})) +
                             hdu(imageCards(false, 16, {2, 3, 4}, "CUBE"), std::string(48, 'x')));
    const FitsFile fits(path("h.fits"));
    QCOMPARE(fits.hdus().size(), std::size_t{4});
    QVERIFY(fits.find("IVAR") == &fits.hdus()[1]);
    QVERIFY(fits.find("MASK") == nullptr);
    QVERIFY(fits.find("t")->kind == FitsHduKind::Table);
    QCOMPARE(fits.require("CUBE").shapeText(), std::string("2 x 3 x 4"));
    QVERIFY(fits.require("CUBE").isImage(3));
    QVERIFY(!fits.require("CUBE").isImage(2));
    QVERIFY(!fits.require("IVAR").isImage(0) || fits.require("IVAR").shape.empty());
    const std::string message = messageOf([&] { (void)fits.require("MASK"); });
    QVERIFY2(message.find("h.fits: HDU MASK is missing (the file has: (primary), Ivar, T, CUBE)") != std::string::npos,
             message.c_str());
    QVERIFY(!messageOf([&] { (void)fits.pixelCount(fits.require("T")); }).empty());
    QVERIFY(!messageOf([&] { (void)fits.readTable(fits.require("CUBE")); }).empty());
    std::vector<float> wrong(23);
    QVERIFY(!messageOf([&] { fits.readImage(fits.require("CUBE"), std::span<float>(wrong)); }).empty());
}

void TestFitsFile::findsMainImage() {
    const std::string data(12, '\0');
    save(file("unnamed.fits"), hdu(imageCards(true, 16, {2, 3}), data));
    save(file("other.fits"), hdu(imageCards(true, 16, {2, 3}, "BIAS"), data));
    save(file("second.fits"), hdu(imageCards(true, 8, {})) + hdu(imageCards(false, 16, {2, 3}, "IMAGE"), data));
    QVERIFY(FitsFile(path("unnamed.fits")).findMain("IMAGE") != nullptr);
    QVERIFY(FitsFile(path("other.fits")).findMain("IMAGE") == nullptr);
    QCOMPARE(FitsFile(path("second.fits")).requireMain("IMAGE").index, 1);
    QVERIFY(messageOf([&] { (void)FitsFile(path("other.fits")).requireMain("IMAGE"); }).find("HDU IMAGE is missing") !=
            std::string::npos);
}

void TestFitsFile::namesAreLiteral() {
    const std::string bytes = primary(8, 1, "x");
    const QString old = QDir::currentPath();
    QVERIFY(QDir::setCurrent(folder_.path()));
    for (const char* name : {"a[1].fits", "!b.fits", "~c.fits", "d.fits[IMAGE][1:2]", "mem:e", "-", " f.fits",
                             "g(h).fits", "i.fits+3", "http:j.fits"}) {
        save(name, bytes);
        const std::string message = messageOf([&] { (void)FitsFile(name); });
        QVERIFY2(message.empty(), message.c_str());
        QFile::remove(name);
    }
    QVERIFY(QDir::setCurrent(old));
}

void TestFitsFile::triesOtherSuffix() {
    const std::string bytes = primary(8, 1, "x");
    save(file("only-gz.fits.gz"), gzip(bytes));
    save(file("only-plain.fits"), bytes);
    QCOMPARE(FitsFile(path("only-gz.fits")).path(), path("only-gz.fits.gz"));
    QCOMPARE(FitsFile(path("only-plain.fits.gz")).path(), path("only-plain.fits"));
    // What counts is the content, not the name.
    save(file("really-plain.fits.gz"), bytes);
    save(file("really-gz.fits"), gzip(bytes));
    QCOMPARE(FitsFile(path("really-plain.fits.gz")).hdus().size(), std::size_t{1});
    QCOMPARE(FitsFile(path("really-gz.fits")).hdus().size(), std::size_t{1});
    QVERIFY(messageOf([&] { (void)FitsFile(path("absent.fits")); }).find("absent.fits: no such file (nor with .gz)") !=
            std::string::npos);
    QVERIFY(messageOf([&] {
                (void)FitsFile(path("absent.fits.gz"));
            }).find("absent.fits.gz: no such file (nor without .gz)") != std::string::npos);
}

void TestFitsFile::readsGzipMembers() {
    const std::string bytes = primary(8, 5000, std::string(5000, 'y'));
    save(file("members.fits.gz"), gzip(bytes.substr(0, 3000)) + gzip(bytes.substr(3000)));
    const FitsFile fits(path("members.fits.gz"));
    QCOMPARE(read<float>(fits, fits.hdus()[0]), std::vector<float>(5000, static_cast<float>('y')));
    // A wrong check sum at the very end is found.
    std::string damaged = gzip(bytes);
    damaged[damaged.size() - 6] = static_cast<char>(damaged[damaged.size() - 6] ^ 1);
    save(file("crc.fits.gz"), damaged);
    const std::string message = messageOf([&] { (void)FitsFile(path("crc.fits.gz")); });
    QVERIFY2(message.find("crc.fits.gz: the gzip stream is damaged") != std::string::npos, message.c_str());
}

void TestFitsFile::dropsUnwantedData() {
    const std::string bytes = hdu(imageCards(true, 8, {3}, "A"), "abc") + hdu(imageCards(false, 8, {3}, "B"), "def");
    save(file("two.fits.gz"), gzip(bytes));
    FitsFile fits(path("two.fits.gz"), [](const FitsHdu& one) { return one.name == "B"; });
    QVERIFY(!messageOf([&] { (void)read<float>(fits, fits.require("A")); }).empty());
    QCOMPARE(read<float>(fits, fits.require("B"))[0], static_cast<float>('d'));
    fits.release(fits.require("B"));
    QVERIFY(!messageOf([&] { (void)read<float>(fits, fits.require("B")); }).empty());
}

void TestFitsFile::readsInThreads() {
    std::vector<std::int32_t> values(200 * 100);
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<std::int32_t>(i % 777);
    const QString name = file("threads.fits");
    {
        cfitsio::Writer writer(name);
        writer.image("IMAGE", LONG_IMG, {200, 100}, values);
        writer.image("MASK", LONG_IMG, {200, 100}, values, {RICE_1, {}, 0, 0});
    }
    std::vector<int> good(8, 0);
    {
        std::vector<std::jthread> threads;
        for (int& one : good)
            threads.emplace_back([&one, &values, path = name.toStdString()] {
                for (int round = 0; round < 20; ++round) {
                    const FitsFile fits(path);
                    one += read<std::int32_t>(fits, fits.require("MASK")) == values &&
                                   read<std::int32_t>(fits, fits.require("IMAGE")) == values
                               ? 1
                               : 0;
                    std::string copy = path + std::to_string(reinterpret_cast<std::uintptr_t>(&one));
                    FitsWriter writer(copy);
                    writer.addCompressedImage({"MASK", {200, 100}, "", {}}, values);
                    writer.commit();
                }
            });
    }
    QCOMPARE(good, std::vector<int>(8, 20));
}

void TestFitsFile::writesUnsigned() {
    const std::vector<std::uint32_t> values = {0, 1, 0x7FFFFFFF, 0x80000000U, 0xFFFFFFFFU, 256};
    {
        FitsWriter writer(path("uint.fits"));
        writer.addImage({"MASK", {3, 2}, "", {}}, std::span<const std::uint32_t>(values));
        writer.commit();
    }
    QCOMPARE(cfitsio::pixels<std::uint32_t>(file("uint.fits"), 1), values);
    const FitsFile fits(path("uint.fits"));
    QCOMPARE(read<std::uint32_t>(fits, fits.hdus()[0]), values);
    QCOMPARE(fits.hdus()[0].bitpix, 32);
    QCOMPARE(fits.hdus()[0].header.text("BZERO").value(), "2147483648");
}

void TestFitsFile::writesTheSameBytes() {
    const std::vector<std::int32_t> values(1000, 3);
    for (const char* name : {"one.fits.gz", "two.fits.gz"}) {
        FitsWriter writer(path(name));
        writer.addImage({"A", {1000}, "", {}}, std::span<const std::int32_t>(values));
        writer.addCompressedImage({"B", {100, 10}, "", {}}, values);
        writer.commit();
        QTest::qWait(0);
    }
    QVERIFY(load(file("one.fits.gz")) == load(file("two.fits.gz")));
}

QTEST_APPLESS_MAIN(TestFitsFile)
#include "TestFitsFile.moc"
