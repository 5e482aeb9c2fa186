#include "core/base/Error.h"
#include "core/base/Timeline.h"
#include "core/cpu/CpuBackend.h"
#include "core/engine/Engine.h"
#include "core/frame/ExtractedFrame.h"
#include "core/image/ArrivingImage.h"
#include "core/io/FitsFile.h"
#include "core/io/FitsWriter.h"
#include "tests/io/FitsBytes.h"
#include "tests/support/SameBytes.h"
#include "tests/support/SmallExposure.h"
#include "tests/support/TestSupport.h"

#include <QTemporaryDir>
#include <QtTest>

#include <atomic>
#include <chrono>
#include <cmath>
#include <cstring>
#include <mutex>
#include <random>
#include <thread>

using namespace patchlight;
using test::sameBytes;
using test::sameFrames;
using namespace fitsbytes;
using namespace std::chrono_literals;

namespace {

/// An image whose rows are not there until they are let in: until then they hold what would spoil every sum.
class SlowImage {
public:
    explicit SlowImage(const WeightedPixels& whole) : whole_(whole), arrived_(whole) {
        std::fill(arrived_.pixels.begin(), arrived_.pixels.end(), NAN);
        std::fill(arrived_.weights.begin(), arrived_.weights.end(), NAN);
    }
    /// Lets in the rows before this one.
    void letIn(int rows) {
        const auto first = static_cast<std::ptrdiff_t>(rows_) * whole_.nx;
        const auto last = static_cast<std::ptrdiff_t>(rows) * whole_.nx;
        std::copy(whole_.pixels.begin() + first, whole_.pixels.begin() + last, arrived_.pixels.begin() + first);
        std::copy(whole_.weights.begin() + first, whole_.weights.begin() + last, arrived_.weights.begin() + first);
        rows_ = rows;
        gate.open(rows);
    }
    [[nodiscard]] CcdView view() const { return arrived_.view(); }
    /// For a run by single steps, which waits for these rows and counts its patches.
    [[nodiscard]] RunControl control(int threads) {
        RunControl control;
        control.threads = threads;
        control.batchSteps = 1;
        control.rows = &gate;
        control.progress = [this](const Progress& progress) { patches = progress.patchesDone; };
        return control;
    }
    RowGate gate;
    std::atomic<int> patches{0}; ///< done

private:
    const WeightedPixels& whole_;
    WeightedPixels arrived_;
    int rows_ = 0;
};

/// Waits for something that must come; false where it does not within half a minute.
template <class Condition> bool comes(const Condition& condition) {
    for (int i = 0; i < 3000 && !condition(); ++i) std::this_thread::sleep_for(10ms);
    return condition();
}

} // namespace

/// Images whose rows arrive while others already compute.
class TestArrivingImage : public QObject {
    Q_OBJECT

private:
    QTemporaryDir folder_;
    [[nodiscard]] std::string path(const QString& name) const { return folder_.filePath(name).toStdString(); }

    test::SmallExposure exposure_ = test::smallExposure();
    ExtractionOptions options_ = test::smallPatches(exposure_);

    static constexpr int nx = 400;
    static constexpr int ny = 901;

    static CcdImage sample() {
        CcdImage image;
        image.nx = nx;
        image.ny = ny;
        std::mt19937 random(2);
        for (int i = 0; i < nx * ny; ++i) {
            image.pixels.push_back(static_cast<float>(random() % 100000) * 0.01F);
            image.ivar.push_back(0.1F + 1e-6F * static_cast<float>(random() % 10000));
            image.mask.push_back(i % 31 == 0 ? 1 << (i % 12) : 0);
            image.readnoise.push_back(3.0F);
        }
        image.pixels[5] = NAN;
        image.pixels[nx * 300] = INFINITY;
        image.ivar[nx * 600 + 1] = -1.0F;
        image.header.addCard(card("SIMPLE", "T"));
        image.header.set("CAMERA", "r0");
        return image;
    }

    /// The file as it arrives is the file as it is read at once.
    static void compare(const std::string& path) {
        CcdImage image = readCcdImage(path);
        const FitsHeader header = image.header;
        const bool fibermap = image.fibermap.has_value();
        const WeightedPixels want = weightedPixels(std::move(image));
        for (const int threads : {1, 2, 5}) {
            ArrivingImage arriving(path, threads);
            QCOMPARE(arriving.about().nx, want.nx);
            QCOMPARE(arriving.about().ny, want.ny);
            QVERIFY(arriving.about().header.cards() == header.cards());
            // Rows are right as soon as they are said to be there.
            const CcdView view = arriving.view();
            const std::size_t rowBytes = static_cast<std::size_t>(want.nx) * sizeof(float);
            for (int rows = 1; rows <= want.ny; ++rows) {
                while (!arriving.rows().waitFor(rows, 1s)) {
                }
                const std::ptrdiff_t at = static_cast<std::ptrdiff_t>(rows - 1) * want.nx;
                QVERIFY(std::memcmp(view.pixels + at, want.pixels.data() + at, rowBytes) == 0);
                QVERIFY(std::memcmp(view.weights + at, want.weights.data() + at, rowBytes) == 0);
            }
            arriving.finish();
            QVERIFY(arriving.waitForEnd(0ms));
            QCOMPARE(arriving.about().fibermap.has_value(), fibermap);
        }
    }

    static std::string failure(const std::string& path, int threads) {
        return messageOf([&] { ArrivingImage(path, threads).finish(); });
    }

private slots:
    void rowsLetInOneByOneGiveTheSameBytes_data() {
        QTest::addColumn<bool>("exact");
        QTest::addColumn<bool>("noise");
        QTest::addColumn<bool>("seamless");
        QTest::newRow("fast path") << false << false << false;
        QTest::newRow("exact path") << true << false << false;
        QTest::newRow("noise") << false << true << false;
        QTest::newRow("seamless") << false << false << true;
    }
    void rowsLetInOneByOneGiveTheSameBytes() {
        QFETCH(bool, exact);
        QFETCH(bool, noise);
        QFETCH(bool, seamless);
        const WeightedPixels& pixels = exposure_.pixels;
        ExtractionOptions options = options_;
        if (noise) options.decorrelate = Decorrelate::Noise;
        if (seamless) options.method = Method::Seamless;
        const Plan plan = makePlan(exposure_.psf, options);
        const auto backend = makeCpuBackend({.exact = exact, .bounds = {}});
        const ExtractionResult want = extractFrame(*backend, pixels.view(), exposure_.psf, plan);

        for (const int threads : {1, 2, 4}) {
            SlowImage image(pixels);
            const RunControl control = image.control(threads);
            std::atomic<bool> begunEarly{false};
            const std::jthread source([&] {
                for (int rows = 1; rows < pixels.ny; ++rows) image.letIn(rows);
                // All but the last row: what needs no more than these is done before that comes.
                begunEarly = seamless ? image.patches == 0 : comes([&] { return image.patches > 0; });
                image.letIn(pixels.ny);
            });
            const ExtractionResult got = extractFrame(*backend, image.view(), exposure_.psf, plan, control);
            QVERIFY(begunEarly);
            QVERIFY(sameFrames(got.frame, want.frame));
            QVERIFY(sameBytes(got.modelFlux, want.modelFlux));
        }
    }

    void aBatchReadsNoOtherRowsThanItSays() {
        const WeightedPixels& pixels = exposure_.pixels;
        for (const Decorrelate decorrelate : {Decorrelate::Signal, Decorrelate::Noise}) {
            ExtractionOptions options = options_;
            options.decorrelate = decorrelate;
            const Plan plan = makePlan(exposure_.psf, options);
            const auto backend = makeCpuBackend();
            RunControl control;
            control.threads = 1;
            control.batchSteps = 1;
            const ExtractionResult want = extractFrame(*backend, pixels.view(), exposure_.psf, plan, control);
            // Batches as extractFrame() makes them, each with no more rows than it asked for.
            SlowImage image(pixels);
            control.rows = &image.gate;
            std::vector<int> needed;
            for (const Batch& batch : makeBatches(plan, 1))
                needed.push_back(rowsNeeded(exposure_.psf.view(), plan, batch, pixels.ny));
            std::sort(needed.begin(), needed.end());
            QVERIFY(needed.front() < pixels.ny / 2);
            std::size_t done = 0;
            image.letIn(needed[done++]); // one batch ahead of those done
            control.progress = [&](const Progress&) {
                if (done < needed.size()) image.letIn(std::max(needed[done], needed[done - 1]));
                ++done;
            };
            const ExtractionResult got = extractFrame(*backend, image.view(), exposure_.psf, plan, control);
            QCOMPARE(done, needed.size() + 1);
            QVERIFY(sameFrames(got.frame, want.frame));
        }
    }

    void anErrorAmongTheRowsEndsTheRun() {
        const Plan plan = makePlan(exposure_.psf, options_);
        const auto backend = makeCpuBackend();
        for (const int threads : {1, 3}) {
            SlowImage image(exposure_.pixels);
            const RunControl control = image.control(threads);
            const std::jthread source([&] {
                image.letIn(exposure_.pixels.ny - 1);
                (void)comes([&] { return image.patches > 0; });
                image.gate.fail(std::make_exception_ptr(Error("row 199 is damaged")));
            });
            const std::string message =
                messageOf([&] { (void)extractFrame(*backend, image.view(), exposure_.psf, plan, control); });
            QCOMPARE(message, std::string("row 199 is damaged"));
            QVERIFY(image.patches > 0 && image.patches <= plan.patchCount());
        }
    }

    void aRunThatWaitsForRowsCanBeCancelled() {
        const Plan plan = makePlan(exposure_.psf, options_);
        const auto backend = makeCpuBackend();
        for (const int threads : {1, 3}) {
            SlowImage image(exposure_.pixels);
            image.letIn(exposure_.pixels.ny / 2); // and no more
            std::stop_source source;
            RunControl control = image.control(threads);
            control.stop = source.get_token();
            int calls = 0;
            control.waiting = [&] {
                if (++calls == 2) source.request_stop();
            };
            QVERIFY_EXCEPTION_THROWN((void)extractFrame(*backend, image.view(), exposure_.psf, plan, control),
                                     Cancelled);
            QVERIFY(calls >= 2);
        }
    }

    void filesArriveAsTheyAreRead_data() {
        QTest::addColumn<QString>("name");
        QTest::addColumn<QStringList>("order");
        const QStringList usual = {"IMAGE", "IVAR", "MASK", "READNOISE"};
        for (const char* name : {"plain.fits", "packed.fits.gz"}) {
            QTest::addRow("%s", name) << name << usual;
            QTest::addRow("%s, mask in tiles", name) << name << QStringList{"IMAGE", "IVAR", "TILES", "READNOISE"};
            QTest::addRow("%s, mask first", name) << name << QStringList{"MASK", "IMAGE", "IVAR"};
            QTest::addRow("%s, tiles first", name) << name << QStringList{"TILES", "IMAGE", "IVAR"};
            QTest::addRow("%s, ivar first", name) << name << QStringList{"IVAR", "MASK", "IMAGE"};
            QTest::addRow("%s, no mask", name) << name << QStringList{"IMAGE", "IVAR"};
            QTest::addRow("%s, primary without name", name) << name << QStringList{"", "IVAR", "MASK"};
            QTest::addRow("%s, two of a name", name)
                << name << QStringList{"IMAGE", "IVAR", "MASK", "IVAR", "MASK", "IMAGE"};
            QTest::addRow("%s, two masks", name) << name << QStringList{"MASK", "IMAGE", "IVAR", "TILES"};
        }
    }
    void filesArriveAsTheyAreRead() {
        QFETCH(QString, name);
        QFETCH(QStringList, order);
        const CcdImage image = sample();
        const std::string file = path(name);
        {
            FitsWriter writer(file);
            const std::vector<std::int64_t> shape = {nx, ny};
            int number = 0;
            for (const QString& hdu : order) {
                // Of two with the same name, the second holds something else.
                const float factor = order.indexOf(hdu) == number++ ? 1.0F : 2.0F;
                std::vector<float> values = hdu == "IVAR"        ? image.ivar
                                            : hdu == "READNOISE" ? image.readnoise
                                                                 : image.pixels;
                for (float& value : values) value *= factor;
                std::vector<std::int32_t> bits = image.mask;
                if (factor != 1.0F || (hdu == "TILES" && order.contains("MASK")))
                    std::fill(bits.begin(), bits.end(), 1);
                const FitsImageSpec spec{hdu == "TILES" ? "MASK" : hdu.toStdString(), shape, "", {}};
                if (hdu == "TILES")
                    writer.addCompressedImage(spec, bits);
                else if (hdu == "MASK")
                    writer.addImage(spec, std::span<const std::int32_t>(bits));
                else
                    writer.addImage(spec, std::span<const float>(values));
            }
            writer.commit();
        }
        compare(file);
    }

    void errorsAreThoseOfReadingAtOnce_data() {
        QTest::addColumn<QByteArray>("content");
        writeCcdImage(path("whole.fits"), sample());
        writeCcdImage(path("whole.fits.gz"), sample(), false);
        for (const char* name : {"whole.fits", "whole.fits.gz"}) {
            const std::string bytes = load(folder_.filePath(name));
            for (const double part : {0.0001, 0.01, 0.3, 0.6, 0.9, 0.999})
                QTest::addRow("%s cut at %g", name, part) << QByteArray::fromStdString(
                    bytes.substr(0, static_cast<std::size_t>(part * static_cast<double>(bytes.size()))));
            for (const double part : {0.3, 0.6, 0.9, 0.99999}) {
                std::string damaged = bytes;
                char& byte = damaged[static_cast<std::size_t>(part * static_cast<double>(bytes.size()))];
                byte = static_cast<char>(byte ^ 0x55);
                QTest::addRow("%s damaged at %g", name, part) << QByteArray::fromStdString(damaged);
            }
        }
        // An impossible offset of a tile.
        std::string tiles = load(folder_.filePath("whole.fits"));
        const FitsFile file(path("whole.fits"));
        const FitsHdu& mask = file.require("MASK");
        std::size_t end = 0;
        for (const FitsHdu& hdu : file.hdus()) {
            const std::size_t header = tiles.find("END     ", end);
            const std::size_t data = (header / 2880 + 1) * 2880;
            if (&hdu == &mask) tiles.replace(data + 700 * hdu.rowBytes + 4, 4, "\x7F\x7F\x7F\x7F");
            end = data + (hdu.dataBytes + 2879) / 2880 * 2880;
        }
        QTest::newRow("tile outside") << QByteArray::fromStdString(tiles);
    }
    void errorsAreThoseOfReadingAtOnce() {
        QFETCH(QByteArray, content);
        save(folder_.filePath("damaged.fits"), content.toStdString());
        const std::string want = messageOf([&] { (void)readCcdImage(path("damaged.fits")); });
        for (const int threads : {1, 2, 5}) QCOMPARE(failure(path("damaged.fits"), threads), want);
    }

    void readingCanBeGivenUp() {
        writeCcdImage(path("whole.fits"), sample());
        writeCcdImage(path("whole.fits.gz"), sample());
        for (const char* name : {"whole.fits", "whole.fits.gz"})
            for (int i = 0; i < 20; ++i) {
                const ArrivingImage image(path(name), 2);
                if (i % 2 == 0) QVERIFY(image.about().nx == nx);
                if (i % 4 == 0) (void)image.rows().waitFor(1 + i, 1s);
            }
    }

    void rangesOfReadingStandBesideThoseOfExtracting() {
        writeCcdImage(path("ranges.fits"), sample());
        Timeline timeline;
        ArrivingImage(path("ranges.fits"), 2, &timeline).finish();
        int blocks = 0;
        for (const RangeRecord& record : timeline.records())
            blocks += std::strcmp(record.name, "read rows") == 0 ? 1 : 0;
        QCOMPARE(blocks, (ny + 31) / 32);
    }
};

QTEST_APPLESS_MAIN(TestArrivingImage)
#include "TestArrivingImage.moc"
