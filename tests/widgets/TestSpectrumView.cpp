#include "core/frame/SpecMask.h"
#include "core/simulate/SkyLines.h"
#include "tests/support/Sanitizers.h"
#include "tests/support/TestSupport.h"
#include "tests/widgets/Hands.h"
#include "widgets/plot/Axes.h"
#include "widgets/plot/Colours.h"
#include "widgets/plot/Steps.h"
#include "widgets/spectrum/LineLists.h"
#include "widgets/spectrum/SpectrumMath.h"
#include "widgets/spectrum/SpectrumView.h"

#include <QComboBox>
#include <QFile>
#include <QMouseEvent>
#include <QPainter>
#include <QSignalSpy>
#include <QTemporaryDir>
#include <QTest>
#include <QWheelEvent>

#include <algorithm>
#include <cmath>
#include <ctime>
#include <random>

using namespace patchlight;
using namespace patchlight::widgets;
using patchlight::test::moveMouse;
using patchlight::test::wheel;

namespace {

/// Flux 100 + slope, sigma 2, with one line of 1000 at bin `line`.
SpectrumCurve curve(int spectrum, std::size_t n = 400, std::size_t line = 200) {
    SpectrumCurve out;
    out.spectrum = spectrum;
    out.label = QStringLiteral("fiber %1").arg(spectrum);
    std::mt19937 random(static_cast<unsigned>(spectrum) + 7U);
    std::normal_distribution<double> normal(0.0, 2.0);
    for (std::size_t i = 0; i < n; ++i) {
        out.wavelength.push_back(6000.0 + 0.8 * static_cast<double>(i));
        out.flux.push_back(100.0 + normal(random) + (i == line ? 1000.0 : 0.0));
        out.ivar.push_back(0.25);
        out.mask.push_back(0);
        out.xflux.push_back(out.flux.back());
    }
    return out;
}

SpectrumCurve flat(int spectrum, double value, std::size_t n = 400) {
    SpectrumCurve out = curve(spectrum, n, n);
    for (double& flux : out.flux) flux = value;
    return out;
}

SpectrumData dataOf(std::vector<SpectrumCurve> spectra) {
    SpectrumData out;
    out.source = QStringLiteral("test");
    out.spectra = std::move(spectra);
    return out;
}

/// Pixels of about this colour in a part of a picture.
int count(const QImage& image, const QRect& area, const QColor& colour, int tolerance = 24) {
    int n = 0;
    const QRect part = area & image.rect();
    for (int y = part.top(); y <= part.bottom(); ++y)
        for (int x = part.left(); x <= part.right(); ++x) {
            const QColor c = image.pixelColor(x, y);
            if (std::abs(c.red() - colour.red()) <= tolerance && std::abs(c.green() - colour.green()) <= tolerance &&
                std::abs(c.blue() - colour.blue()) <= tolerance)
                ++n;
        }
    return n;
}

} // namespace

class TestSpectrumView : public QObject {
    Q_OBJECT

private Q_SLOTS:
    void ticksAreRoundNumbers() {
        const Ticks ticks = makeTicks({5760, 7620}, 8);
        QCOMPARE(ticks.step, 500.0);
        QCOMPARE(ticks.values.size(), std::size_t(4));
        QCOMPARE(ticks.values.front(), 6000.0);
        QCOMPARE(ticks.label(6000.0), QStringLiteral("6000"));
        const Ticks fine = makeTicks({0.1, 0.2}, 6);
        QCOMPARE(fine.step, 0.02);
        QCOMPARE(fine.label(fine.values.front()), QStringLiteral("0.10"));
        QCOMPARE(makeTicks({-1e7, 1e7}, 5).label(5e6), QStringLiteral("5e6"));
        QCOMPARE(makeTicks({-1, 1}, 5).label(1e-17), QStringLiteral("0"));
        QVERIFY(makeTicks({1, 1}, 5).values.empty());
        QVERIFY(makeTicks({0, std::nan("")}, 5).values.empty());
    }

    void historyGoesBackAndForward() {
        ViewHistory<int> history;
        history.reset(1);
        QVERIFY(!history.canGoBack());
        history.push(2);
        history.push(2);
        history.push(3);
        QCOMPARE(history.back(), 2);
        QCOMPARE(history.back(), 1);
        QVERIFY(!history.canGoBack());
        QCOMPARE(history.forward(), 2);
        history.push(4);
        QVERIFY(!history.canGoForward());
        QCOMPARE(history.back(), 2);
    }

    void decimationLosesNoPeak() {
        // 100000 bins on 200 pixels, one of them high: its column must reach it.
        const std::size_t n = 100000;
        std::vector<double> edges(n + 1);
        std::vector<double> values(n, 0.0);
        for (std::size_t i = 0; i <= n; ++i) edges[i] = static_cast<double>(i);
        values[70001] = 9.0;
        QImage image(200, 100, QImage::Format_RGB32);
        image.fill(Qt::white);
        QPainter painter(&image);
        drawSteps(painter, {edges, values, 1.0}, {{0, static_cast<double>(n)}, 0, 200}, {{-1, 9.5}, 100, 0}, Qt::black);
        painter.end();
        int top = 100;
        int column = -1;
        for (int y = 0; y < 100 && column < 0; ++y)
            for (int x = 0; x < 200; ++x)
                if (qGray(image.pixel(x, y)) < 128) {
                    top = y;
                    column = x;
                    break;
                }
        QCOMPARE(column, 140);
        QVERIFY(std::abs(top - (100 - 10.0 * 100 / 10.5)) < 1.5);
    }

    void binsHoldTheirWavelengths() {
        const SpectrumCurve c = curve(0, 5, 9);
        QCOMPARE(c.binAt(6000.0), 0);
        QCOMPARE(c.binAt(5999.61), 0);
        QCOMPARE(c.binAt(5999.59), -1);
        QCOMPARE(c.binAt(6000.41), 1);
        QCOMPARE(c.binAt(6003.2), 4);
        QCOMPARE(c.binAt(6003.61), -1);
        QCOMPARE(c.binAt(std::nan("")), -1);
        QVERIFY(std::abs(c.width(2) - 0.8) < 1e-9);
        QCOMPARE(SpectrumCurve().binAt(1.0), -1);
    }

    void smoothingIsAWeightedMean() {
        const std::vector<double> flux{1, 2, 6, 4};
        const std::vector<double> ivar{1, 1, 2, 0};
        const Smoothed s = smoothed(flux, ivar, 3);
        QCOMPARE(s.flux[0], 1.5);
        QCOMPARE(s.flux[1], (1 + 2 + 12) / 4.0);
        QCOMPARE(s.ivar[1], 4.0);
        QCOMPARE(s.flux[3], 6.0);
        QVERIFY(std::isnan(smoothed({1, 2}, {0, 0}, 3).flux[0]));
        QCOMPARE(smoothed(flux, ivar, 1).flux, flux);
    }

    void statisticsOfARegion() {
        SpectrumCurve c = flat(0, 10.0, 10);
        c.flux[2] = 14.0;
        c.flux[3] = 1000.0;
        c.ivar[3] = 0.0; // no data: does not count
        const RegionStatistics r = regionStatistics(c, 6003.3, 6000.7);
        QCOMPARE(r.count, std::size_t(3)); // bins 1, 2, 4
        QVERIFY(std::abs(r.mean - 34.0 / 3) < 1e-12);
        QVERIFY(std::abs(r.rms - std::sqrt(16.0 / 3)) < 1e-12);
        QVERIFY(std::abs(r.snr - r.mean / r.rms) < 1e-12);
        QCOMPARE(r.binSnr, 5.0);
        QVERIFY(std::abs(r.integral - 34 * 0.8) < 1e-9);
        QCOMPARE(regionStatistics(c, 1, 2).count, std::size_t(0));
    }

    void equivalentWidthOfALine() {
        SpectrumCurve c = flat(0, 100.0, 41);
        c.flux[20] = 60.0; // absorption: 40 % of one bin of 0.8 Angstrom
        const EquivalentWidth e = equivalentWidth(c, 6008.0, 100.0, 6024.0, 100.0);
        QVERIFY(std::abs(e.width - 0.4 * 0.8) < 1e-9);
        QVERIFY(std::abs(e.flux + 40 * 0.8) < 1e-9);
        QVERIFY(std::abs(e.centre - 6016.0) < 1e-6);
        QVERIFY(std::abs(e.fluxError - 2 * 0.8 * std::sqrt(static_cast<double>(e.count))) < 1e-9);
        // A sloped continuum under an emission line, points given the wrong way round.
        for (std::size_t i = 0; i < c.size(); ++i) c.flux[i] = 100.0 + static_cast<double>(i);
        c.flux[20] += 50.0;
        const EquivalentWidth f = equivalentWidth(c, 6032.0, 140.0, 6000.0, 100.0);
        QVERIFY(std::abs(f.flux - 50 * 0.8) < 1e-6);
        QVERIFY(std::abs(f.width + 50.0 / 120.0 * 0.8) < 1e-9);
    }

    void pullsMatchBinsByWavelength() {
        const SpectrumCurve a = flat(0, 110.0, 10);
        SpectrumCurve b = flat(0, 100.0, 10);
        b.ivar.assign(10, 1.0); // the smaller sigma counts
        QCOMPARE(pullsAgainst(a, b)[4], 10.0);
        b.ivar.clear(); // a truth
        QCOMPARE(pullsAgainst(a, b)[4], 5.0);
        for (double& wavelength : b.wavelength) wavelength += 0.8;
        QVERIFY(std::isnan(pullsAgainst(a, b)[0]));
        QCOMPARE(pullsAgainst(a, b)[1], 5.0);
        for (double& wavelength : b.wavelength) wavelength += 0.1; // another grid
        QVERIFY(std::isnan(pullsAgainst(a, b)[5]));
        // What a patch has only to keep its edges off is compared with its like.
        SpectrumCurve c = flat(0, 100.0, 10);
        c.padding = {1, 1, 0, 0, 0, 0, 0, 0, 1, 1};
        QVERIFY(std::isnan(pullsAgainst(a, c)[1]) && std::isnan(pullsAgainst(c, a)[8]));
        QVERIFY(pullsAgainst(a, c)[2] > 0.0);
        QCOMPARE(pullsAgainst(c, c)[1], 0.0);
    }

    void histogramCountsWhatLiesOutside() {
        const Histogram h = histogram({-9, -0.5, 0.5, 0.5, 7, std::nan("")}, -6, 6, 12);
        QCOMPARE(h.total, std::size_t(5));
        QCOMPARE(h.outliers, std::size_t(2));
        QCOMPARE(h.counts[0], std::size_t(1));
        QCOMPARE(h.counts[5], std::size_t(1));
        QCOMPARE(h.counts[6], std::size_t(2));
        QCOMPARE(h.counts[11], std::size_t(1));
        QVERIFY(std::abs(h.mean + 0.3) < 1e-12);
    }

    void linesAreInVacuum() {
        // [O I] 5577.34 in air is 5578.89 in vacuum; H alpha at z = 0.1.
        bool found = false;
        for (const MarkedLine& line : skyLineList()) found = found || std::abs(line.wavelength - 5578.89) < 0.02;
        QVERIFY(found);
        QCOMPARE(skyLineList().size(), simulate::skyLines().size());
        bool hAlpha = false;
        for (const MarkedLine& line : galaxyLineList()) {
            hAlpha = hAlpha || std::abs(redshifted(line.wavelength, 0.1) - 7221.07) < 0.01;
            QVERIFY(line.strength > 0 && line.strength <= 1);
        }
        QVERIFY(hAlpha);
    }

    void anEmptyViewSaysWhy() {
        SpectrumView view;
        QVERIFY(!view.plot()->emptyReason().isEmpty());
        SpectrumCurve dead = flat(3, 0.0);
        dead.ivar.assign(dead.size(), 0.0);
        view.setData(dataOf({dead}));
        QVERIFY(view.plot()->emptyReason().contains(QStringLiteral("ivar")));
        view.setData(dataOf({curve(3)}));
        QCOMPARE(view.plot()->emptyReason(), QString());
        view.setData({});
        QVERIFY(!view.plot()->emptyReason().isEmpty());
        view.resize(400, 300);
        view.grab(); // painting nothing is no fault
    }

    void wheelZoomsAtTheCursorAndHistoryReturns() {
        SpectrumView view;
        view.resize(900, 500);
        view.setData(dataOf({curve(3)}));
        view.show();
        SpectrumPlot* plot = view.plot();
        const Interval all = plot->view().x;
        QVERIFY(std::abs(all.low - 5999.6) < 1e-9);
        const QPointF at(plot->pixelOf(6160.0), plot->mainArea().center().y());
        wheel(plot, at, 120);
        QVERIFY(std::abs(plot->view().x.span() - all.span() / 1.2) < 1e-9);
        QVERIFY(std::abs(plot->wavelengthAt(at.x()) - 6160.0) < 1e-6);
        // y follows the data until it is zoomed itself.
        QVERIFY(plot->view().fitY);
        wheel(plot, at, 240, Qt::ControlModifier);
        QVERIFY(!plot->view().fitY);
        QTest::keyClick(plot, Qt::Key_Left, Qt::AltModifier);
        QTest::keyClick(plot, Qt::Key_Left, Qt::AltModifier);
        QCOMPARE(plot->view().x, all);
        QVERIFY(!plot->canGoBack());
        QTest::keyClick(plot, Qt::Key_Right, Qt::AltModifier);
        QVERIFY(std::abs(plot->view().x.span() - all.span() / 1.2) < 1e-9);
        QTest::mouseDClick(plot, Qt::LeftButton, {}, at.toPoint());
        QCOMPARE(plot->view().x, all);
        for (int i = 0; i < 200; ++i) wheel(plot, at, 1200);
        QVERIFY(plot->view().x.span() > 1e-3);
        for (int i = 0; i < 200; ++i) wheel(plot, at, -1200);
        QVERIFY(plot->view().x.span() <= 3 * all.span());
    }

    void draggingPans() {
        SpectrumView view;
        view.resize(900, 500);
        view.setData(dataOf({curve(3)}));
        view.show();
        SpectrumPlot* plot = view.plot();
        const QPoint from = plot->mainArea().center().toPoint();
        const double before = plot->wavelengthAt(from.x());
        QTest::mousePress(plot, Qt::MiddleButton, {}, from);
        moveMouse(plot, from + QPoint(-50, 0), Qt::MiddleButton);
        moveMouse(plot, from + QPoint(-100, 0), Qt::MiddleButton);
        QTest::mouseRelease(plot, Qt::MiddleButton, {}, from + QPoint(-100, 0));
        QVERIFY(std::abs(plot->wavelengthAt(from.x() - 100) - before) < 1e-6);
        QVERIFY(plot->canGoBack());
        // Right drag zooms to the box.
        const QRectF area = plot->mainArea();
        const double low = plot->wavelengthAt(300);
        const double high = plot->wavelengthAt(500);
        QTest::mousePress(plot, Qt::RightButton, {}, QPoint(300, static_cast<int>(area.top()) + 20));
        moveMouse(plot, QPoint(500, static_cast<int>(area.top()) + 25), Qt::RightButton);
        QTest::mouseRelease(plot, Qt::RightButton, {}, QPoint(500, static_cast<int>(area.top()) + 25));
        QVERIFY(std::abs(plot->view().x.low - low) < 1e-6);
        QVERIFY(std::abs(plot->view().x.high - high) < 1e-6);
    }

    void theCursorGoesInAndOut() {
        SpectrumView view;
        view.resize(900, 500);
        view.setData(dataOf({curve(3), curve(4), curve(5)}));
        view.show();
        SpectrumPlot* plot = view.plot();
        QSignalSpy moved(&view, &SpectrumView::cursorMoved);
        QSignalSpy selected(&view, &SpectrumView::binSelected);
        const QRectF area = plot->mainArea();
        // The first fiber lies at the bottom.
        const QPoint low(static_cast<int>(plot->pixelOf(6100.0)), static_cast<int>(area.bottom()) - 10);
        moveMouse(plot, low);
        QVERIFY(!moved.isEmpty());
        QCOMPARE(moved.last().at(0).toInt(), 3);
        QVERIFY(std::abs(moved.last().at(1).toDouble() - 6100.0) < 1.0);
        QVERIFY(view.stripText().contains(QStringLiteral("fiber 3")));
        QTest::mouseClick(plot, Qt::LeftButton, {}, QPoint(low.x(), static_cast<int>(area.top()) + 10));
        QCOMPARE(selected.size(), 1);
        QCOMPARE(selected.last().at(0).toInt(), 5);
        QCOMPARE(plot->selectedSpectrum(), 5);
        moved.clear();
        view.setCursor(4, 6160.0);
        QVERIFY(moved.isEmpty()); // or two views would chase each other
        QCOMPARE(plot->selectedSpectrum(), 5);
        plot->select(4);
        QCOMPARE(plot->selectedSpectrum(), 4);
        QVERIFY(view.stripText().contains(QStringLiteral("6160.00")));
    }

    void keysOfSplot() {
        SpectrumView view;
        view.resize(900, 500);
        SpectrumCurve c = flat(3, 100.0);
        c.flux[200] = 60.0;
        view.setData(dataOf({c}));
        view.show();
        SpectrumPlot* plot = view.plot();
        const Interval all = plot->view().x;
        const int middle = static_cast<int>(plot->mainArea().center().y());
        const auto moveTo = [&](double wavelength) {
            moveMouse(plot, QPoint(static_cast<int>(std::lround(plot->pixelOf(wavelength))), middle));
        };
        QSignalSpy steps(&view, &SpectrumView::fiberStepRequested);
        QTest::keyClick(plot, '(');
        QTest::keyClick(plot, ')');
        QCOMPARE(steps.size(), 2);
        QCOMPARE(steps[0].at(0).toInt(), -1);
        QCOMPARE(steps[1].at(0).toInt(), 1);

        moveTo(6020);
        QTest::keyClick(plot, 'm');
        moveTo(6100);
        QTest::keyClick(plot, 'm');
        QVERIFY2(view.stripText().contains(QStringLiteral("mean 100")), qPrintable(view.stripText()));

        moveTo(6160);
        QTest::keyClick(plot, Qt::Key_Space);
        QVERIFY2(view.stripText().contains(QStringLiteral("6160.00")), qPrintable(view.stripText()));

        moveTo(6140);
        QTest::keyClick(plot, 'e');
        moveTo(6180);
        QTest::keyClick(plot, 'e');
        QVERIFY2(view.stripText().contains(QStringLiteral("equivalent width")), qPrintable(view.stripText()));

        moveTo(6100);
        QTest::keyClick(plot, 'a');
        QTest::keyClick(plot, Qt::Key_Escape); // forgotten
        QTest::keyClick(plot, 'a');
        moveTo(6200);
        const double high = plot->wavelengthAt(std::round(plot->pixelOf(6200.0)));
        QTest::keyClick(plot, 'a');
        QVERIFY(std::abs(plot->view().x.low - 6100) < 1.0);
        QVERIFY(std::abs(plot->view().x.high - high) < 1e-6);

        QTest::keyClick(plot, 'w');
        QTest::keyClick(plot, 'a');
        QCOMPARE(plot->view().x, all);
        moveTo(6160);
        QTest::keyClick(plot, 'w');
        QTest::keyClick(plot, 'j');
        QVERIFY(std::abs(plot->view().x.low - 6160) < 1.0);
        QTest::keyClick(plot, Qt::Key_Home);
        QCOMPARE(plot->view().x, all);

        QCOMPARE(view.settings().smoothing, 1);
        QTest::keyClick(plot, 's');
        QCOMPARE(view.settings().smoothing, 3);
    }

    void maskedBinsAreShadedByChosenBitsAndNeverHidden() {
        SpectrumView view;
        view.resize(900, 500);
        SpectrumCurve c = flat(3, 100.0);
        for (std::size_t i = 100; i < 140; ++i) c.mask[i] = static_cast<std::uint32_t>(SpecMaskBit::Bad2dFit);
        view.setData(dataOf({c}));
        view.show();
        SpectrumPlot* plot = view.plot();
        const QRectF area = plot->mainArea();
        const int x = static_cast<int>(plot->pixelOf(c.wavelength[120]));
        const int shaded = static_cast<int>(area.top()) + 20;
        const QColor background = plotColours(view.palette()).background;
        QVERIFY(plot->grab().toImage().pixelColor(x, shaded) != background);
        SpectrumSettings s = view.settings();
        s.shadedBits = 1U; // another bit
        view.setSettings(s);
        const QImage unshaded = plot->grab().toImage();
        QCOMPARE(unshaded.pixelColor(x, shaded), background);
        // The step itself is there either way: something else than background in its column.
        s.shadedBits = 0xFFFFFFFF;
        s.errorBand = false;
        view.setSettings(s);
        const QImage faint = plot->grab().toImage();
        const QColor fill = faint.pixelColor(x, shaded);
        int other = 0;
        for (int y = static_cast<int>(area.top()) + 5; y < static_cast<int>(area.bottom()) - 5; ++y)
            if (faint.pixelColor(x, y) != fill) ++other;
        QVERIFY(other > 0);
    }

    void residualsAreAgainstTheChosenOverlay() {
        SpectrumView view;
        view.resize(900, 600);
        SpectrumData d = dataOf({curve(3), curve(4)});
        d.overlays.push_back({SpectrumOverlay::Kind::Frame, QStringLiteral("second"), {flat(3, 100.0), flat(4, 90.0)}});
        SpectrumOverlay truth{SpectrumOverlay::Kind::Truth, QStringLiteral("truth"), {flat(3, 50.0)}};
        truth.curves[0].ivar.clear();
        d.overlays.push_back(truth);
        view.setData(d);
        view.show();
        view.plot()->select(3);
        QVERIFY(!view.plot()->residualArea().isEmpty());
        const double second = view.plot()->pulls()[10];
        QVERIFY(std::abs(second - (d.spectra[0].flux[10] - 100.0) / 2.0) < 1e-12);
        auto* combo = view.findChild<QComboBox*>();
        QVERIFY(combo != nullptr);
        combo->setCurrentIndex(1);
        QVERIFY(std::abs(view.plot()->pulls()[10] - (d.spectra[0].flux[10] - 50.0) / 2.0) < 1e-12);
        view.plot()->select(4); // the truth does not hold it
        QVERIFY(view.plot()->pulls().empty());
        view.grab();
        SpectrumSettings s = view.settings();
        s.residual = false;
        view.setSettings(s);
        QVERIFY(view.plot()->residualArea().isEmpty());
    }

    void unitsAndSmoothingAreForTheEyeOnly() {
        SpectrumView view;
        view.setData(dataOf({flat(3, 100.0)}));
        const QString before = view.csv();
        SpectrumSettings s = view.settings();
        s.perBin = true;
        s.nanometres = true;
        s.smoothing = 9;
        view.setSettings(s);
        QCOMPARE(view.csv(), before);
        QVERIFY(view.plot()->readout(3, 6000.0).contains(QStringLiteral("600.000 nm")));
        QVERIFY(view.plot()->readout(3, 6000.0).contains(QStringLiteral("flux 80"))); // 0.8 Angstrom a bin
        QVERIFY(view.plot()->view().y.contains(80.0));
    }

    void aNewSpectrumKeepsTheView() {
        SpectrumView view;
        view.resize(900, 500);
        view.setData(dataOf({curve(3)}));
        SpectrumPlot* plot = view.plot();
        SpectrumPlot::View part = plot->view();
        part.x = {6100, 6150};
        plot->setView(part);
        view.setData(dataOf({curve(8)}));
        QCOMPARE(plot->view().x, (Interval{6100, 6150}));
        SpectrumCurve elsewhere = curve(3);
        for (double& wavelength : elsewhere.wavelength) wavelength += 2000;
        view.setData(dataOf({elsewhere}));
        QVERIFY(plot->view().x.contains(8100));
    }

    void exportsNumbersAndPictures() {
        SpectrumView view;
        view.resize(900, 500);
        SpectrumData d = dataOf({curve(3, 20)});
        d.spectra[0].ivar[4] = 0;
        d.overlays.push_back({SpectrumOverlay::Kind::Frame, QStringLiteral("second"), {flat(3, 100.0, 20)}});
        QVERIFY(view.exportTo(QStringLiteral("x.csv")).contains(QStringLiteral("no spectrum")));
        view.setData(d);
        view.show();
        const QTemporaryDir folder;
        const QString csv = folder.filePath(QStringLiteral("s.csv"));
        QCOMPARE(view.exportTo(csv), QString());
        QFile file(csv);
        QVERIFY(file.open(QIODevice::ReadOnly));
        const QStringList lines = QString::fromUtf8(file.readAll()).split('\n', Qt::SkipEmptyParts);
        QCOMPARE(lines.size(), 3 + 20);
        const QStringList row = lines[3 + 10].split(',');
        QCOMPARE(row.size(), 9);
        QCOMPARE(row[0].toInt(), 3);
        QVERIFY(std::abs(row[1].toDouble() - 6008.0) < 1e-6);
        QVERIFY(std::abs(row[2].toDouble() - d.spectra[0].flux[10]) < 1e-6);
        QCOMPARE(row[3].toDouble(), 2.0);
        QVERIFY(std::abs(row[8].toDouble() - (d.spectra[0].flux[10] - 100.0) / 2) < 1e-6);
        QCOMPARE(lines[3 + 4].split(',')[3], QString()); // no data: no sigma
        QCOMPARE(view.exportTo(folder.filePath(QStringLiteral("s.png"))), QString());
        QVERIFY(QImage(folder.filePath(QStringLiteral("s.png"))).width() >= 1800);
        QCOMPARE(view.exportTo(folder.filePath(QStringLiteral("s.pdf"))), QString());
        QFile pdf(folder.filePath(QStringLiteral("s.pdf")));
        QVERIFY(pdf.open(QIODevice::ReadOnly));
        QVERIFY(pdf.read(5) == "%PDF-");
        QVERIFY(view.exportTo(folder.filePath(QStringLiteral("s.doc"))).contains(QStringLiteral(".csv, .png or .pdf")));
        QVERIFY(!view.exportTo(QStringLiteral("/nowhere/at/all.csv")).isEmpty());
    }

    void worksOnDarkAndLightPalettes() {
        SpectrumView view;
        view.resize(700, 400);
        view.setData(dataOf({curve(3)}));
        QPalette dark = view.palette();
        dark.setColor(QPalette::Base, QColor(25, 25, 28));
        dark.setColor(QPalette::Text, QColor(230, 230, 230));
        view.setPalette(dark);
        const QImage image = view.plot()->grab().toImage();
        const QRect area = view.plot()->mainArea().toRect();
        QVERIFY(count(image, area, QColor(25, 25, 28), 4) > area.width() * area.height() / 2);
        QVERIFY(count(image, area, plotColours(dark).series(0)) > 100);
    }

    void thePaneLooksAsItDid() {
        // The pane without its labels, made small, so that fonts and single pixels do not matter; PATCHLIGHT_UPDATE_BASELINES=1 draws
        // the baseline anew.
        SpectrumCurve c = flat(3, 100.0, 120);
        for (std::size_t i = 0; i < c.size(); ++i) {
            const double x = static_cast<double>(i);
            c.flux[i] = 100.0 + 20.0 * std::sin(0.1 * x) + (i == 60 ? 150.0 : 0.0);
            c.ivar[i] = 0.02;
        }
        for (std::size_t i = 20; i < 30; ++i) c.mask[i] = 1U << 7;
        c.padding.assign(c.size(), 0);
        std::fill(c.padding.end() - 15, c.padding.end(), std::uint8_t(1));
        SpectrumPlot view;
        view.resize(900, 450);
        QFont font(QStringLiteral("DejaVu Sans")); // margins and ticks follow the font
        font.setPixelSize(13);
        view.setFont(font);
        QPalette light;
        light.setColor(QPalette::Base, Qt::white);
        light.setColor(QPalette::Text, Qt::black);
        view.setPalette(light);
        view.setData(dataOf({c}));
        view.show();
        const auto pane = [&] {
            const QImage whole = view.grab().toImage();
            const QRectF area = view.mainArea().adjusted(2, 2, -2, -2);
            const double ratio = whole.devicePixelRatio();
            QImage part = whole.copy(QRectF(area.topLeft() * ratio, area.size() * ratio).toRect());
            part.setDevicePixelRatio(1);
            return part.scaled(240, 120, Qt::IgnoreAspectRatio, Qt::SmoothTransformation)
                .convertToFormat(QImage::Format_RGB32);
        };
        const auto difference = [](const QImage& a, const QImage& b) {
            double sum = 0;
            for (int y = 0; y < a.height(); ++y)
                for (int x = 0; x < a.width(); ++x) {
                    const QRgb p = a.pixel(x, y);
                    const QRgb q = b.pixel(x, y);
                    sum +=
                        std::abs(qRed(p) - qRed(q)) + std::abs(qGreen(p) - qGreen(q)) + std::abs(qBlue(p) - qBlue(q));
                }
            return sum / (3.0 * a.width() * a.height());
        };
        const QString path = test::sourceFile(QStringLiteral("tests/widgets/baselines/spectrum.png"));
        const QImage now = pane();
        if (qEnvironmentVariableIsSet("PATCHLIGHT_UPDATE_BASELINES")) QVERIFY(now.save(path));
        const QImage before = QImage(path).convertToFormat(QImage::Format_RGB32);
        QVERIFY2(before.size() == now.size(), qPrintable(path));
        constexpr double tolerance = 3.0; // of 255, mean over all pixels
        const double same = difference(now, before);
        QVERIFY2(same < tolerance, qPrintable(QString::number(same)));
        // What a fault would look like: no shading of the masked bins.
        SpectrumSettings s = view.settings();
        s.shadedBits = 0;
        view.setSettings(s);
        QVERIFY(difference(pane(), before) > 1.5 * same + 0.5);
    }

    void aStackOf25FibersIsQuick() {
        SpectrumView view;
        view.resize(1600, 1000);
        std::vector<SpectrumCurve> stack;
        for (int i = 0; i < 25; ++i) stack.push_back(curve(i, 2326, 900));
        view.setData(dataOf(std::move(stack)));
        view.show();
        view.grab();
        // This thread's own time, the least of ten frames: what the drawing costs, not what else the machine does.
        const auto now = [] {
            timespec time{};
            clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
            return 1e3 * static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_nsec);
        };
        double milliseconds = 1e9;
        for (int i = 0; i < 10; ++i) {
            const double start = now();
            SpectrumPlot::View next = view.plot()->view();
            next.x = {next.x.low + 1, next.x.high + 1};
            view.plot()->setView(next, false);
            view.plot()->grab();
            milliseconds = std::min(milliseconds, now() - start);
        }
        qInfo("%.1f ms a frame", milliseconds);
#ifdef __OPTIMIZE__
        if (!test::sanitized) QVERIFY(milliseconds < 1000.0 / 15);
#endif
    }
};

QTEST_MAIN(TestSpectrumView)
#include "TestSpectrumView.moc"
