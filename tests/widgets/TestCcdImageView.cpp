#include "core/image/CcdImage.h"
#include "tests/support/TestSupport.h"
#include "tests/widgets/WindowSupport.h"
#include "widgets/ccd/CcdPanel.h"
#include "widgets/ccd/ColorMap.h"
#include "widgets/ccd/Display.h"
#include "widgets/ccd/Pyramid.h"
#include "widgets/control/Document.h"
#include "widgets/control/TraceMap.h"

#include <QSignalSpy>
#include <QTest>
#include <QWheelEvent>

#include <cmath>
#include <limits>
#include <memory>
#include <random>

using namespace patchlight;
using namespace patchlight::widgets;
using patchlight::test::ExposureFiles;

/// The CCD view: the numbers behind its colours, and what hands do to it.
class TestCcdImageView : public QObject {
    Q_OBJECT

private:
    std::unique_ptr<ExposureFiles> files_;
    std::shared_ptr<const CcdImage> image_;
    std::shared_ptr<const WeightedPixels> pixels_;
    std::shared_ptr<const Psf> psf_;

    void fill(Document& document) const {
        document.setImage(image_, pixels_);
        document.setPsf(psf_, std::make_shared<const TraceMap>(*psf_, image_->nx, image_->ny));
        ExtractionOptions options;
        options.bundlesize = 5;
        options.nsubbundles = 2;
        options.nwavestep = 20;
        document.setOptions(options);
    }
    static void wheel(CcdImageView& view, const QPointF& at, int steps) {
        QWheelEvent event(at, view.mapToGlobal(at), {}, {0, 120 * steps}, Qt::NoButton, Qt::NoModifier,
                          Qt::NoScrollPhase, false);
        QApplication::sendEvent(&view, &event);
    }
    static void drag(CcdImageView& view, Qt::MouseButton button, const QPoint& from, const QPoint& to) {
        QTest::mousePress(&view, button, Qt::NoModifier, from);
        QMouseEvent move(QEvent::MouseMove, to, view.mapToGlobal(to), Qt::NoButton, button, Qt::NoModifier);
        QApplication::sendEvent(&view, &move);
        QTest::mouseRelease(&view, button, Qt::NoModifier, to);
    }
    static QColor colorAt(CcdImageView& view, double x, double y) {
        const QImage shot = view.grab().toImage();
        const QPointF at = view.toWidget(x, y) * shot.devicePixelRatio();
        return shot.pixelColor(static_cast<int>(std::floor(at.x())), static_cast<int>(std::floor(at.y())));
    }

private Q_SLOTS:
    void initTestCase() {
        files_ = std::make_unique<ExposureFiles>();
        image_ = std::make_shared<const CcdImage>(readCcdImage(files_->image.toStdString()));
        pixels_ = std::make_shared<const WeightedPixels>(weightedPixels(*image_));
        psf_ = std::make_shared<const Psf>(readPsf(files_->psf.toStdString()));
    }

    void zscaleFollowsTheLineThroughTheRanks() {
        // Uniform values: the line has all of them, so a contrast of 1 gives the whole range and one of 0.25 is cut to it.
        std::vector<float> ramp(1001);
        for (std::size_t i = 0; i < ramp.size(); ++i) ramp[i] = static_cast<float>(i) * 0.01F;
        const ValueRange whole = zscale(ramp, 1.0);
        QVERIFY(std::abs(whole.low - 0.0) < 1e-4);
        QVERIFY(std::abs(whole.high - 10.0) < 1e-4);
        // Noise with a few bright lines: the lines do not count.
        std::mt19937 random(1);
        std::normal_distribution<float> noise(10.0F, 2.0F);
        std::vector<float> values(5000);
        for (float& value : values) value = noise(random);
        for (std::size_t i = 0; i < 250; ++i) values[i * 20] = 5000.0F;
        std::sort(values.begin(), values.end());
        const ValueRange range = zscale(values);
        QVERIFY(range.low < 8.0 && range.low > -30.0);
        QVERIFY(range.high > 12.0 && range.high < 60.0);
    }

    void percentilesAndFillValues() {
        std::vector<float> values;
        for (int i = 0; i <= 1000; ++i) values.push_back(static_cast<float>(i));
        QCOMPARE(findRange(values, Cuts::Percent90), (ValueRange{50, 950}));
        QCOMPARE(findRange(values, Cuts::MinMax), (ValueRange{0, 1000}));
        // Half of the image is a fill value: it is not what is looked at.
        std::vector<float> filled(1000, -1.0F);
        filled.insert(filled.end(), values.begin(), values.end());
        QCOMPARE(findRange(filled, Cuts::Percent90), (ValueRange{50, 950}));
        QVERIFY(findRange(std::vector<float>(10, 3.0F), Cuts::Zscale).high > 3.0);
        QCOMPARE(minMax(std::vector<float>{2, std::numeric_limits<float>::quiet_NaN(), -7}.data(), 3),
                 (ValueRange{-7, 2}));
    }

    void colorsFollowScalingContrastAndBias() {
        DisplaySettings settings;
        settings.cuts = Cuts::Manual;
        settings.range = {0, 100};
        const ColorTable linear(settings, {});
        QCOMPARE(qRed(linear.color(-5)), 0);
        QCOMPARE(qRed(linear.color(1000)), 255);
        QVERIFY(std::abs(qRed(linear.color(50)) - 128) <= 1);
        QCOMPARE(linear.color(std::numeric_limits<float>::quiet_NaN()), linear.noValue);
        settings.scaling = Scaling::Log;
        QVERIFY(std::abs(qRed(ColorTable(settings, {}).color(10)) - 255.0 * std::log(101.0) / std::log(1001.0)) < 3);
        settings.scaling = Scaling::Sqrt;
        QVERIFY(std::abs(qRed(ColorTable(settings, {}).color(25)) - 128) < 2);
        settings.scaling = Scaling::Linear;
        settings.contrast = 2;
        settings.bias = 0.25;
        // (0.5 - 0.25) 2 + 0.5 = 1
        QCOMPARE(qRed(ColorTable(settings, {}).color(50)), 255);
        settings = {};
        settings.range = {0, 100};
        settings.scaling = Scaling::Equalize;
        std::vector<float> skewed;
        for (int i = 0; i < 100; ++i) skewed.push_back(static_cast<float>(i * i) * 0.01F);
        QVERIFY(std::abs(qRed(ColorTable(settings, skewed).color(25)) - 128) < 5); // half of the values lie below 25
        settings.invert = true;
        QVERIFY(qRed(ColorTable(settings, skewed).color(-1)) > 250);
    }

    void mapsAreSafe() {
        for (const ColorMap& map : colorMaps()) {
            // Rec. 709 luminance rises; the diverging map's falls to both sides of the middle.
            double previous = -1;
            for (std::size_t i = 0; i < map.colors.size(); ++i) {
                const QColor color(map.colors[i]);
                const auto linear = [](double v) { return std::pow(v, 2.2); };
                const double y =
                    0.2126 * linear(color.redF()) + 0.7152 * linear(color.greenF()) + 0.0722 * linear(color.blueF());
                if (map.id == QStringLiteral("diverging") && i >= 128)
                    QVERIFY2(y <= previous + 0.012, qPrintable(QStringLiteral("%1 at %2").arg(map.id).arg(i)));
                else
                    QVERIFY2(y >= previous - 0.012, qPrintable(QStringLiteral("%1 at %2").arg(map.id).arg(i)));
                previous = y;
            }
        }
    }

    void pyramidsKeepMeansAndBits() {
        const float nan = std::numeric_limits<float>::quiet_NaN();
        std::vector<float> values{1, 2, 3, 4, 5, 6, nan, 8, 9}; // 3 x 3
        Pyramid<float> pyramid(nullptr, values.data(), 3, 3);
        QCOMPARE(pyramid.nx(1), 2);
        QCOMPARE(pyramid.data(1)[0], 3.0F); // 1 2 4 5
        QCOMPARE(pyramid.data(1)[1], 4.5F); // 3 6 at the edge
        QCOMPARE(pyramid.data(1)[2], 8.0F); // NaN and 8
        values[0] = 5;
        pyramid.update(QRect(0, 0, 1, 1));
        QCOMPARE(pyramid.data(1)[0], 4.0F);
        const std::vector<std::uint32_t> bits{1, 0, 0, 8};
        const Pyramid<std::uint32_t> mask(nullptr, bits.data(), 2, 2);
        QCOMPARE(mask.data(1)[0], 9U);
    }

    void withoutAnImageASentenceSaysSo() {
        Document document;
        CcdImageView view(document);
        view.resize(400, 300);
        view.grab();
        QVERIFY(view.sentence().contains(QStringLiteral("Ctrl+O")));
        fill(document);
        view.grab();
        QVERIFY(view.sentence().isEmpty());
        view.setLayer(Layer::Pull);
        view.grab();
        QVERIFY(!view.sentence().isEmpty());
    }

    void pixelsHaveTheColorsOfTheirValues() {
        Document document;
        fill(document);
        CcdImageView view(document);
        view.resize(600, 500);
        for (int i = 0; i < overlayCount; ++i) view.setOverlay(static_cast<Overlay>(i), false);
        view.setView({60, 100, 8.0});
        for (int y = 80; y < 120; y += 3)
            for (int x = 42; x < 88; x += 5) {
                if (x == test::saturatedX) continue;
                const auto i = static_cast<std::size_t>(y * image_->nx + x);
                const QColor expected(view.colors().color(image_->pixels[i]));
                QCOMPARE(colorAt(view, x, y), expected);
                // To the pixel's corner, and not beyond.
                QCOMPARE(colorAt(view, x + 0.45, y - 0.45), expected);
            }
    }

    void maskedAndSaturatedPixelsAreSeen() {
        Document document;
        fill(document);
        CcdImageView view(document);
        view.resize(600, 500);
        for (int i = 0; i < overlayCount; ++i) view.setOverlay(static_cast<Overlay>(i), false);
        view.setView({60, 105, 6.0});
        QCOMPARE(colorAt(view, test::saturatedX, test::saturatedY), maskBitColor(3));
        const QColor bare = colorAt(view, test::cosmicX, test::cosmicY);
        view.setOverlay(Overlay::MaskBits, true);
        QVERIFY(colorAt(view, test::cosmicX, test::cosmicY) != bare);
        QCOMPARE(view.visibleMaskBits(), static_cast<std::uint32_t>(CcdMaskBit::Bad) |
                                             static_cast<std::uint32_t>(CcdMaskBit::Cosmic) |
                                             static_cast<std::uint32_t>(CcdMaskBit::Saturated));
        view.setLayer(Layer::Mask);
        QCOMPARE(colorAt(view, test::badColumn, 90), maskBitColor(0));
        // A single pixel does not vanish where the whole CCD is small.
        view.setView({60, 100, 0.5});
        view.grab();
        QVERIFY((view.visibleMaskBits() & static_cast<std::uint32_t>(CcdMaskBit::Cosmic)) != 0);
    }

    void theWheelZoomsAtTheCursor() {
        Document document;
        fill(document);
        CcdImageView view(document);
        view.resize(600, 500);
        view.grab();
        const double zoom = view.view().zoom;
        const QPointF at(140, 320);
        const QPointF before = view.toCcd(at);
        wheel(view, at, 1);
        QVERIFY(std::abs(view.view().zoom / zoom - 1.2) < 1e-9);
        QVERIFY((view.toCcd(at) - before).manhattanLength() < 1e-6);
        wheel(view, at, -1);
        QVERIFY(std::abs(view.view().zoom - zoom) < 1e-9);
    }

    void theMiddleButtonPansAndTheHistoryGoesBack() {
        Document document;
        fill(document);
        CcdImageView view(document);
        view.resize(600, 500);
        view.setView({60, 100, 4.0});
        drag(view, Qt::MiddleButton, {300, 250}, {340, 230});
        QCOMPARE(view.view().centerX, 50.0);
        QCOMPARE(view.view().centerY, 95.0);
        QVERIFY(view.canGoBack());
        view.back();
        QCOMPARE(view.view().centerX, 60.0);
        view.forward();
        QCOMPARE(view.view().centerX, 50.0);
        // Some of the CCD always stays in sight.
        drag(view, Qt::MiddleButton, {0, 0}, {599, 0});
        drag(view, Qt::MiddleButton, {0, 0}, {599, 0});
        QVERIFY(view.view().centerX >= -0.5);
    }

    void theRightButtonChangesContrastAndADoubleClickResetsIt() {
        Document document;
        fill(document);
        CcdImageView view(document);
        view.resize(600, 500);
        view.grab();
        drag(view, Qt::RightButton, {300, 250}, {360, 300});
        QVERIFY(std::abs(view.settings(Layer::Image).bias - 0.6) < 1e-9);
        QVERIFY(view.settings(Layer::Image).contrast > 1.3);
        QCOMPARE(view.settings(Layer::Model).contrast, view.settings(Layer::Image).contrast); // one stretch for both
        QCOMPARE(view.settings(Layer::Pull).contrast, 1.0);
        QTest::mouseDClick(&view, Qt::LeftButton, Qt::NoModifier, {300, 250});
        QCOMPARE(view.settings(Layer::Image).contrast, 1.0);
        QCOMPARE(view.settings(Layer::Image).bias, 0.5);
    }

    void tabShowsTheNextLayer() {
        Document document;
        fill(document);
        CcdImageView view(document);
        view.resize(600, 500);
        view.show();
        view.setFocus();
        QTest::keyClick(&view, Qt::Key_Tab);
        QCOMPARE(view.layer(), Layer::Ivar);
        QTest::keyClick(&view, Qt::Key_Tab);
        QCOMPARE(view.layer(), Layer::Mask);
        QTest::keyClick(&view, Qt::Key_Tab); // no model yet: around
        QCOMPARE(view.layer(), Layer::Image);
        QTest::keyClick(&view, Qt::Key_Tab, Qt::ShiftModifier);
        QCOMPARE(view.layer(), Layer::Mask);
    }

    void aClickSelectsTheFiberAndWavelengthThere() {
        Document document;
        fill(document);
        CcdImageView view(document);
        view.resize(600, 500);
        view.setView({60, 100, 4.0});
        QSignalSpy asked(&view, &CcdImageView::patchRequested);
        const Cursor aim =
            document.cursorAtBin(4, document.plan()->grid.outputWavelength(document.plan()->grid.nwave / 2));
        QTest::mouseClick(&view, Qt::LeftButton, Qt::NoModifier, view.toWidget(aim.x, aim.y).toPoint());
        QCOMPARE(asked.count(), 1);
        QCOMPARE(document.cursor().spectrum, 4);
        QVERIFY(std::abs(document.cursor().wavelength - aim.wavelength) < 0.3); // half a screen pixel
        QVERIFY(document.patchAt(document.cursor())->core.contains(4));
    }

    void theStripReadsWhatIsUnderTheMouse() {
        Document document;
        fill(document);
        CcdPanel panel(document);
        panel.resize(1000, 700);
        panel.show();
        panel.view().setView({60, 100, 4.0});
        QTest::mouseMove(&panel.view(), panel.view().toWidget(test::cosmicX, test::cosmicY).toPoint());
        const QPoint at = panel.view().toWidget(test::cosmicX, test::cosmicY).toPoint();
        QMouseEvent move(QEvent::MouseMove, at, panel.view().mapToGlobal(at), Qt::NoButton, Qt::NoButton,
                         Qt::NoModifier);
        QApplication::sendEvent(&panel.view(), &move);
        const Cursor& hover = document.hover();
        QVERIFY(std::abs(hover.x - test::cosmicX) < 0.2);
        QCOMPARE(panel.readout().text(QStringLiteral("mask")), QStringLiteral("COSMIC"));
        QCOMPARE(panel.readout().text(QStringLiteral("fiber")), QString::number(hover.spectrum));
        const float value = image_->pixels[static_cast<std::size_t>(test::cosmicY * image_->nx + test::cosmicX)];
        QCOMPARE(panel.readout().text(QStringLiteral("value")), QString::number(static_cast<double>(value), 'g', 6));
    }

    void picturesAreAsTheyWere_data() {
        QTest::addColumn<int>("layer");
        QTest::addColumn<double>("zoom");
        QTest::addColumn<QList<int>>("overlays");
        QTest::newRow("image") << static_cast<int>(Layer::Image) << 2.0
                               << QList<int>{static_cast<int>(Overlay::MaskBits)};
        QTest::newRow("mask") << static_cast<int>(Layer::Mask) << 1.0 << QList<int>{};
        QTest::newRow("grid") << static_cast<int>(Layer::Ivar) << 1.5
                              << QList<int>{static_cast<int>(Overlay::PatchGrid),
                                            static_cast<int>(Overlay::CursorCross)};
    }
    /// Against pictures of the repository, without text. PATCHLIGHT_WRITE_BASELINES=1 writes them anew: look at them before committing.
    void picturesAreAsTheyWere() {
        QFETCH(const int, layer);
        QFETCH(const double, zoom);
        QFETCH(const QList<int>, overlays);
        Document document;
        fill(document);
        document.setCursor(document.cursorAtPixel(60, 100));
        CcdImageView view(document);
        view.resize(240, 200);
        QPalette palette = view.palette();
        palette.setColor(QPalette::Window, QColor(43, 45, 48));
        view.setPalette(palette);
        for (int i = 0; i < overlayCount; ++i) view.setOverlay(static_cast<Overlay>(i), overlays.contains(i));
        view.setLayer(static_cast<Layer>(layer));
        view.setView({60, 100, zoom});
        QImage shot = view.grab().toImage().convertToFormat(QImage::Format_RGB32);
        if (shot.size() != QSize(240, 200)) QSKIP("the screen's scale is not 1");
        // The legend of the mask bits is text: left out.
        for (int y = 120; y < 200; ++y)
            for (int x = 110; x < 240; ++x) shot.setPixel(x, y, qRgb(0, 0, 0));
        const QString path = test::sourceFile(
            QStringLiteral("tests/widgets/baselines/ccd-%1.png").arg(QLatin1String(QTest::currentDataTag())));
        if (qEnvironmentVariableIsSet("PATCHLIGHT_WRITE_BASELINES")) QVERIFY(shot.save(path));
        const QImage expected = QImage(path).convertToFormat(QImage::Format_RGB32);
        QVERIFY2(!expected.isNull(), qPrintable(path));
        QCOMPARE(expected.size(), shot.size());
        double sum = 0;
        int far = 0;
        for (int y = 0; y < shot.height(); ++y)
            for (int x = 0; x < shot.width(); ++x) {
                const QColor a = shot.pixelColor(x, y);
                const QColor b = expected.pixelColor(x, y);
                const int d = std::max(
                    {std::abs(a.red() - b.red()), std::abs(a.green() - b.green()), std::abs(a.blue() - b.blue())});
                sum += d;
                far += d > 24;
            }
        const double pixels = 240.0 * 200.0;
        QVERIFY2(sum / pixels < 1.0, qPrintable(QString::number(sum / pixels)));
        QVERIFY2(far / pixels < 0.005, qPrintable(QString::number(far / pixels)));
    }

    void liveModeExtractsAllTheWay() {
        Document document;
        fill(document);
        CcdImageView view(document);
        view.resize(600, 500);
        view.setView({60, 100, 4.0});
        QSignalSpy asked(&view, &CcdImageView::patchRequested);
        drag(view, Qt::LeftButton, {300, 250}, {340, 150});
        QCOMPARE(asked.count(), 1); // the click alone
        view.setLive(true);
        drag(view, Qt::LeftButton, {300, 250}, {340, 150});
        QCOMPARE(asked.count(), 3);
        QVERIFY(std::abs(document.cursor().y - view.toCcd({340, 150}).y()) < 1e-9);
    }

    void overlaysAreDrawnWithoutTrouble() {
        Document document;
        fill(document);
        CcdImageView view(document);
        view.resize(600, 500);
        document.setCursor(document.cursorAtPixel(60, 100));
        document.selectPatch(document.patchAt(document.cursor()));
        for (const double zoom : {0.3, 1.0, 4.0, 20.0}) {
            view.setView({60, 100, zoom});
            for (int i = 0; i < overlayCount; ++i) {
                for (int k = 0; k < overlayCount; ++k) view.setOverlay(static_cast<Overlay>(k), false);
                const QImage without = view.grab().toImage();
                view.setOverlay(static_cast<Overlay>(i), true);
                const QImage with = view.grab().toImage();
                if (zoom == 4.0) QVERIFY2(with != without, qPrintable(overlayName(static_cast<Overlay>(i))));
            }
        }
    }
};

QTEST_MAIN(TestCcdImageView)
#include "TestCcdImageView.moc"
