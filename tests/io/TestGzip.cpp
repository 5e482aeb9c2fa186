#include "core/io/FitsFile.h"
#include "core/io/FitsWriter.h"
#include "core/io/GzipStream.h"
#include "core/io/Inflater.h"
#include "tests/io/CfitsioFile.h"
#include "tests/io/FitsBytes.h"

#include <QFile>
#include <QObject>
#include <QTemporaryDir>
#include <QTest>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <random>

#include <sys/resource.h>
#include <zlib.h>

using namespace patchlight;
using namespace fitsbytes;

/// Compressed files: written in blocks by several threads, read as a stream.
class TestGzip : public QObject {
    Q_OBJECT
private slots:
    void streamIsOneMember_data();
    void streamIsOneMember();
    void members();
    void refusesDamage();
    void unwantedHdusAreNotKept();
    void damagedFiles_data();
    void damagedFiles();
    void bombs();
    void threadsDoNotMatter_data();
    void threadsDoNotMatter();
    void tilesInThreads_data();
    void tilesInThreads();
    void firstBadTileIsNamed();

private:
    QTemporaryDir folder_;
    [[nodiscard]] QString file(const QString& name) const { return folder_.filePath(name); }
    [[nodiscard]] std::string path(const QString& name) const { return file(name).toStdString(); }
};

namespace {

std::string gzip(const std::string& bytes) {
    z_stream stream = {};
    deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
    std::string out(bytes.size() + bytes.size() / 100 + 1000, '\0');
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
    stream.avail_in = static_cast<uInt>(bytes.size());
    stream.next_out = reinterpret_cast<Bytef*>(out.data());
    stream.avail_out = static_cast<uInt>(out.size());
    deflate(&stream, Z_FINISH);
    out.resize(out.size() - stream.avail_out);
    deflateEnd(&stream);
    return out;
}

/// What zlib makes of one member; nothing unless it takes all bytes.
std::optional<std::string> gunzip(const std::string& bytes, std::size_t size) {
    z_stream stream = {};
    inflateInit2(&stream, 15 + 16);
    std::string out(size + 1, '\0');
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
    stream.avail_in = static_cast<uInt>(bytes.size());
    stream.next_out = reinterpret_cast<Bytef*>(out.data());
    stream.avail_out = static_cast<uInt>(out.size());
    const int status = inflate(&stream, Z_FINISH);
    out.resize(out.size() - stream.avail_out);
    const bool all = status == Z_STREAM_END && stream.avail_in == 0;
    inflateEnd(&stream);
    if (!all) return std::nullopt;
    return out;
}

/// Bytes that shrink a little, as those of images do.
std::string noise(std::size_t size) {
    std::mt19937 random(5);
    std::string bytes(size, '\0');
    for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>(i % 4 < 2 ? i / 4096 : random());
    return bytes;
}

std::span<const std::uint8_t> bytesOf(const std::string& text) {
    return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

/// What Inflater makes of a file that comes `step` bytes at a time, asked for `piece` bytes at a time; nothing where it refuses.
std::optional<std::string> inflated(const std::string& packed, std::size_t step = 1 << 20,
                                    std::size_t piece = 1 << 20) {
    std::size_t given = 0;
    Inflater inflater([&](std::uint8_t* bytes, std::size_t count) {
        const std::size_t some = std::min({count, step, packed.size() - given});
        std::copy_n(packed.data() + given, some, bytes);
        given += some;
        return some;
    });
    std::string out;
    try {
        for (std::size_t got = piece; got == piece;) {
            out.resize(out.size() + piece);
            got = inflater.read(reinterpret_cast<std::uint8_t*>(out.data()) + out.size() - piece, piece);
            out.resize(out.size() - piece + got);
        }
    } catch (const Inflater::Failure&) {
        return std::nullopt;
    }
    return out;
}

std::string compressed(const std::string& bytes, int threads, std::size_t step) {
    std::string out;
    GzipStream stream(1, threads, [&](const std::uint8_t* packed, std::size_t count) {
        out.append(reinterpret_cast<const char*>(packed), count);
    });
    for (std::size_t at = 0; at < bytes.size(); at += step)
        stream.write(bytesOf(bytes).data() + at, std::min(step, bytes.size() - at));
    stream.finish();
    return out;
}

template <class T> std::vector<T> read(const FitsFile& file, const FitsHdu& hdu) {
    std::vector<T> values(file.pixelCount(hdu));
    file.readImage(hdu, std::span<T>(values));
    return values;
}

template <class T> bool sameBits(const std::vector<T>& a, const std::vector<T>& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

} // namespace

void TestGzip::streamIsOneMember_data() {
    QTest::addColumn<int>("size");
    constexpr int block = 1 << 19; // what GzipStream compresses at once
    for (const int size : {0, 1, 1000, block - 1, block, block + 1, 2 * block, 3 * block + 77, 5 * block})
        QTest::addRow("%d bytes", size) << size;
}

void TestGzip::streamIsOneMember() {
    QFETCH(int, size);
    const std::string bytes = noise(static_cast<std::size_t>(size));
    const std::string packed = compressed(bytes, 1, 1 << 20);
    const std::optional<std::string> back = gunzip(packed, bytes.size());
    QVERIFY(back.has_value());
    QVERIFY(*back == bytes);
    QVERIFY(compressed(bytes, 2, 12345) == packed);
    QVERIFY(compressed(bytes, 5, 1 << 18) == packed);
    QVERIFY(inflated(packed) == bytes);
    QVERIFY(inflated(packed, 77777, 2880) == bytes);
}

void TestGzip::members() {
    const std::string a = noise(100000);
    const std::string b = noise(7);
    QVERIFY(inflated(gzip(a)) == a);
    QVERIFY(inflated(gzip(a) + gzip(b)) == a + b);
    QVERIFY(inflated(gzip(a) + gzip("") + gzip(b) + gzip("")) == a + b);
    // What does not begin another member is not ours.
    QVERIFY(inflated(gzip(a) + std::string(1000, '\0')) == a);
    QVERIFY(!inflated(gzip(a) + "\x1F"));
    QVERIFY(!inflated(""));
    // Members that end anywhere in what is read and asked for at a time.
    std::string packed;
    std::string bytes;
    for (std::size_t size = 0; size < 60; ++size) {
        packed += gzip(noise(size * size));
        bytes += noise(size * size);
    }
    for (std::size_t step = 1; step < 40; ++step) QVERIFY(inflated(packed, step, 1000) == bytes);
    for (std::size_t piece = 1; piece < 40; ++piece) QVERIFY(inflated(packed, 1 << 20, piece) == bytes);
    for (std::size_t step = 100; step < 5000; step += 97) QVERIFY(inflated(packed, step, step + 13) == bytes);
}

void TestGzip::refusesDamage() {
    const std::string bytes = noise(3000);
    const std::string packed = gzip(bytes);
    for (std::size_t length = 0; length < packed.size(); ++length) QVERIFY(!inflated(packed.substr(0, length)));
    for (std::size_t at = 0; at < packed.size(); ++at) {
        for (int bit = 0; bit < 8; ++bit) {
            std::string damaged = packed;
            damaged[at] = static_cast<char>(damaged[at] ^ (1 << bit));
            // Some bits mean nothing for the content, such as the time in the header.
            const std::optional<std::string> result = inflated(damaged);
            QVERIFY2(!result || *result == bytes, qPrintable(QStringLiteral("byte %1 bit %2").arg(at).arg(bit)));
        }
    }
}

void TestGzip::unwantedHdusAreNotKept() {
    constexpr std::size_t pixels = 300'000;
    std::vector<float> values(pixels);
    for (std::size_t i = 0; i < pixels; ++i) values[i] = static_cast<float>(i) * 0.37F;
    const std::string image = hdu(imageCards(true, -32, {1000, 300}, "A"), bigEndian(values));
    const std::string zeros = hdu(imageCards(false, 8, {9'000'000}, "ZEROS"), std::string(9'000'000, '\0'));
    const std::string other = hdu(imageCards(false, 8, {5}, "LAST"), "hello");
    save(file("few.fits.gz"), gzip(image + other));
    save(file("more.fits.gz"), gzip(image + zeros + other));
    const auto wanted = [](const FitsHdu& one) { return one.name != "ZEROS"; };
    for (const char* name : {"few.fits.gz", "more.fits.gz"}) {
        FitsFile fits(path(name), wanted);
        QVERIFY(sameBits(read<float>(fits, fits.require("A")), values));
        QCOMPARE(read<float>(fits, fits.require("LAST"))[4], static_cast<float>('o'));
        fits.release(fits.require("A"));
        QVERIFY(messageOf([&] { (void)read<float>(fits, fits.require("A")); }).find("not kept") != std::string::npos);
        QCOMPARE(read<float>(fits, fits.require("LAST"))[0], static_cast<float>('h'));
    }
    const FitsFile fits(path("more.fits.gz"), wanted);
    QVERIFY(messageOf([&] { (void)read<float>(fits, fits.require("ZEROS")); }).find("not kept") != std::string::npos);
}

void TestGzip::damagedFiles_data() {
    QTest::addColumn<QByteArray>("content");
    QTest::addColumn<QString>("says");
    const std::string bytes = hdu(imageCards(true, 8, {200'000}, "A"), noise(200'000));
    const std::string packed = gzip(bytes);
    const auto row = [](const char* name, const std::string& content, const char* says) {
        QTest::newRow(name) << QByteArray::fromStdString(content) << QString(says);
    };
    const auto flipped = [](std::string damaged, std::size_t fromEnd) {
        damaged[damaged.size() - fromEnd] = static_cast<char>(damaged[damaged.size() - fromEnd] ^ 1);
        return damaged;
    };
    row("truncated in the trailer", packed.substr(0, packed.size() - 3), "the gzip stream is truncated");
    row("truncated in the middle", packed.substr(0, packed.size() / 2), "the gzip stream is truncated");
    row("truncated in the header", packed.substr(0, 100), "the gzip stream is truncated");
    row("check sum", flipped(packed, 8), "the gzip stream is damaged");
    row("size", flipped(packed, 1), "the gzip stream is damaged");
    row("second member truncated", gzip(bytes.substr(0, 5000)) + gzip(bytes.substr(5000)).substr(0, 9000),
        "the gzip stream is truncated");
    row("second member's check sum", gzip(bytes.substr(0, 5000)) + flipped(gzip(bytes.substr(5000)), 8),
        "the gzip stream is damaged");
    row("data missing", gzip(bytes.substr(0, 100'000)), "truncated");
}

void TestGzip::damagedFiles() {
    QFETCH(QByteArray, content);
    QFETCH(QString, says);
    save(file("damaged.fits.gz"), content.toStdString());
    const std::string message = messageOf([&] { const FitsFile fits(path("damaged.fits.gz")); });
    QVERIFY2(message.find("damaged.fits.gz: ") != std::string::npos &&
                 message.find(says.toStdString()) != std::string::npos && message.find('\n') == std::string::npos,
             message.c_str());
}

void TestGzip::bombs() {
    // 60 MB of zeros in 60 kB, which are no FITS file: refused after the first bytes, whatever they would inflate to.
    const std::string zeros(60'000'000, '\0');
    save(file("bomb.fits.gz"), gzip(zeros));
    // A FITS file that says it has 60 MB, all in an HDU that nobody wants.
    save(file("unwanted.fits.gz"), gzip(hdu(imageCards(true, 8, {3}, "A"), "abc") +
                                        hdu(imageCards(false, 8, {60'000'000}, "B"), std::string(60'000'000, '\0'))));
    const auto peak = [] {
        rusage usage = {};
        getrusage(RUSAGE_SELF, &usage);
        return usage.ru_maxrss;
    };
    const long before = peak(); // of this process, which held all of the above
    const std::string message = messageOf([&] { const FitsFile fits(path("bomb.fits.gz")); });
    QVERIFY2(message.find("bomb.fits.gz: not a FITS file") != std::string::npos, message.c_str());
    const FitsFile fits(path("unwanted.fits.gz"), [](const FitsHdu& one) { return one.name == "A"; });
    QCOMPARE(read<float>(fits, fits.require("A"))[2], static_cast<float>('c'));
    QVERIFY(peak() <= before + 4096);
}

void TestGzip::threadsDoNotMatter_data() {
    QTest::addColumn<QString>("name");
    QTest::newRow("plain") << "a.fits";
    QTest::newRow("gzip") << "a.fits.gz";
}

void TestGzip::threadsDoNotMatter() {
    QFETCH(QString, name);
    constexpr std::size_t pixels = 1000 * 701;
    std::vector<float> floats(pixels);
    std::vector<double> doubles(pixels);
    std::vector<std::uint32_t> words(pixels);
    std::mt19937 random(3);
    for (std::size_t i = 0; i < pixels; ++i) {
        doubles[i] = static_cast<double>(random()) * 1e-3;
        floats[i] = static_cast<float>(doubles[i]);
        words[i] = static_cast<std::uint32_t>(random());
    }
    doubles[17] = 1e300; // infinite in float32
    doubles[18] = -1e39;
    doubles[19] = std::numeric_limits<double>::quiet_NaN();
    std::string first;
    for (const int threads : {1, 2, 5}) {
        {
            FitsWriter writer(path(name), threads);
            writer.addImage({"F", {1000, 701}, "", {}}, std::span<const float>(floats));
            writer.addImage({"D", {1000, 701}, "", {}}, std::span<const double>(doubles));
            writer.addImageAsFloat({"N", {1000, 701}, "", {}}, std::span<const double>(doubles));
            writer.addImage({"W", {1000, 701}, "", {}}, std::span<const std::uint32_t>(words));
            writer.addImage({"NONE", {}, "", {}}, std::span<const float>());
            writer.commit();
        }
        const std::string bytes = load(file(name));
        if (threads == 1) first = bytes;
        QVERIFY(bytes == first);
        const FitsFile fits(path(name), {}, threads);
        QVERIFY(sameBits(read<float>(fits, fits.require("F")), floats));
        QVERIFY(sameBits(read<double>(fits, fits.require("D")), doubles));
        QVERIFY(sameBits(read<std::uint32_t>(fits, fits.require("W")), words));
        const std::vector<float> narrow = read<float>(fits, fits.require("N"));
        QCOMPARE(narrow[17], std::numeric_limits<float>::infinity());
        QCOMPARE(narrow[18], -std::numeric_limits<float>::infinity());
        QVERIFY(std::isnan(narrow[19]));
        QVERIFY(std::equal(narrow.begin() + 20, narrow.end(), floats.begin() + 20));
        const std::vector<double> widened = read<double>(fits, fits.require("F"));
        QVERIFY(std::equal(widened.begin(), widened.end(), floats.begin(), floats.end()));
    }
    // CFITSIO, which inflates .gz files itself, and its check sums.
    QVERIFY(sameBits(cfitsio::pixels<float>(file(name), 1), floats));
    bool missing = false;
    const QString report = cfitsio::fitsverify(file(name), missing);
    if (!missing) QVERIFY2(report.isEmpty(), qPrintable(report));
}

void TestGzip::tilesInThreads_data() {
    QTest::addColumn<int>("type");
    QTest::addColumn<float>("quantize");
    QTest::addColumn<int>("dither");
    QTest::addColumn<QList<int>>("tile");
    QTest::newRow("rice, quantized") << RICE_1 << 4.0F << static_cast<int>(NO_DITHER) << QList<int>{};
    QTest::newRow("rice, dithered") << RICE_1 << 4.0F << static_cast<int>(SUBTRACTIVE_DITHER_1) << QList<int>{};
    QTest::newRow("rice, dithered 2") << RICE_1 << 4.0F << static_cast<int>(SUBTRACTIVE_DITHER_2) << QList<int>{};
    QTest::newRow("rice, large tiles") << RICE_1 << 4.0F << static_cast<int>(SUBTRACTIVE_DITHER_1)
                                       << QList<int>{300, 90};
    QTest::newRow("rice, one tile") << RICE_1 << 4.0F << static_cast<int>(NO_DITHER) << QList<int>{1100, 901};
    QTest::newRow("gzip 1") << GZIP_1 << 0.0F << 0 << QList<int>{};
    QTest::newRow("gzip 2") << GZIP_2 << 0.0F << 0 << QList<int>{200, 1};
}

void TestGzip::tilesInThreads() {
    QFETCH(int, type);
    QFETCH(float, quantize);
    QFETCH(int, dither);
    QFETCH(QList<int>, tile);
    constexpr std::size_t pixels = 1100 * 901;
    std::vector<float> floats(pixels);
    std::vector<std::int32_t> integers(pixels);
    std::mt19937 random(3);
    std::normal_distribution<float> normal(100.0F, 3.0F);
    for (std::size_t i = 0; i < pixels; ++i) {
        floats[i] = normal(random);
        integers[i] = static_cast<std::int32_t>(i % 1000 == 0 ? i : i % 5);
    }
    QFile::remove(file("tiles.fits"));
    {
        const std::vector<long> shape(tile.begin(), tile.end());
        cfitsio::Writer writer(file("tiles.fits"));
        writer.image("F", FLOAT_IMG, {1100, 901}, floats, {type, shape, quantize, dither});
        writer.image("I", LONG_IMG, {1100, 901}, integers, {type, shape, 0, 0});
    }
    const std::vector<float> expected = cfitsio::pixels<float>(file("tiles.fits"), 2);
    for (const int threads : {1, 2, 7}) {
        const FitsFile fits(path("tiles.fits"), {}, threads);
        QVERIFY(sameBits(read<float>(fits, fits.require("F")), expected));
        QVERIFY(sameBits(read<std::int32_t>(fits, fits.require("I")), integers));
    }
}

void TestGzip::firstBadTileIsNamed() {
    std::vector<std::int32_t> integers(100 * 3000);
    for (std::size_t i = 0; i < integers.size(); ++i) integers[i] = static_cast<std::int32_t>(i % 97);
    {
        cfitsio::Writer writer(file("bad.fits"));
        writer.image("I", LONG_IMG, {100, 3000}, integers, {GZIP_1, {}, 0, 0});
    }
    std::string bytes = load(file("bad.fits"));
    const FitsFile good(path("bad.fits"));
    const FitsHdu& image = good.require("I");
    const std::size_t data = bytes.size() - (image.dataBytes + 2879) / 2880 * 2880;
    // The number of bytes of two tiles, which become too small.
    for (const std::size_t tile : {1500U, 2900U})
        bytes.replace(data + tile * image.rowBytes, 4, bigEndian(std::uint32_t{20}));
    save(file("worse.fits"), bytes);
    for (const int threads : {1, 2, 5}) {
        const FitsFile fits(path("worse.fits"), {}, threads);
        const std::string message = messageOf([&] { (void)read<std::int32_t>(fits, fits.require("I")); });
        QVERIFY2(message.find("tile 1500: the gzip stream is damaged or truncated") != std::string::npos,
                 message.c_str());
    }
}

QTEST_APPLESS_MAIN(TestGzip)
#include "TestGzip.moc"
