#include "core/analysis/TerminalPlot.h"

#include <QObject>
#include <QStringList>
#include <QTest>

#include <cmath>
#include <limits>

using namespace patchlight;

namespace {

SpectrumPlot plotOf(std::size_t n, double (*flux)(std::size_t)) {
    SpectrumPlot plot;
    plot.title = "title";
    plot.unit = "electron/Angstrom";
    for (std::size_t i = 0; i < n; ++i) {
        plot.wavelength.push_back(6000.0 + static_cast<double>(i));
        plot.flux.push_back(flux(i));
        plot.sigma.push_back(0.01);
        plot.masked.push_back(false);
    }
    return plot;
}

QStringList linesOf(const std::string& text) {
    QStringList lines = QString::fromStdString(text).split('\n');
    lines.removeLast(); // behind the last line's end
    return lines;
}

} // namespace

class TestTerminalPlot : public QObject {
    Q_OBJECT

private slots:
    /// A ramp from 0 to 61 over 62 columns of dots = 31 characters, on 16 lines = 64 rows of dots, 63 apart: bin i sits at row
    /// i 63/61 from below. Its first dot is the lowest of the first character, its last the highest of the last one.
    void dotsOfARamp() {
        const SpectrumPlot plot = plotOf(62, [](std::size_t i) { return static_cast<double>(i); });
        const QStringList lines = linesOf(drawSpectrum(plot, {.width = 40, .height = 16, .scale = FluxScale::Linear}));
        QCOMPARE(lines.size(), 1 + 16 + 2 + 1); // title, plot, axis and its numbers, unit
        QCOMPARE(lines[0], QString("title"));
        const QString& top = lines[1];
        const QString& bottom = lines[16];
        QCOMPARE(top.left(8), QString("      61"));
        QCOMPARE(bottom.left(8), QString("       0"));
        // Both dot columns of the last character reach the top: left one 60 (61.97 of 63, row 1 from the top), right one row 0.
        QCOMPARE(top.size(), 40);
        const int last = top.back().unicode() - 0x2800;
        QVERIFY((last & 0x08) != 0);          // right column, first row
        QVERIFY((last & (0x01 | 0x02)) != 0); // left column, first or second row
        const int first = bottom[9].unicode() - 0x2800;
        QVERIFY((first & 0x40) != 0); // left column, last row
        // Each line between is drawn once: the ramp rises from left to right.
        int column = 9;
        for (int line = 16; line >= 1; --line) {
            int begin = 9;
            while (begin < lines[line].size() && lines[line][begin] == ' ') ++begin;
            QVERIFY(begin >= column - 1);
            column = begin;
        }
    }

    void linesFit() {
        for (const std::size_t n :
             {std::size_t{1}, std::size_t{2}, std::size_t{7}, std::size_t{100}, std::size_t{2326}}) {
            for (const std::size_t width : {std::size_t{40}, std::size_t{80}, std::size_t{133}}) {
                SpectrumPlot plot =
                    plotOf(n, [](std::size_t i) { return 1e5 * std::sin(static_cast<double>(i)) - 3e-7; });
                plot.masked[n / 2] = true;
                for (const QString& line : linesOf(drawSpectrum(plot, {.width = width}))) {
                    QVERIFY2(line.size() <= static_cast<int>(width), qPrintable(line));
                    QVERIFY2(!line.endsWith(' '), qPrintable(line));
                }
            }
        }
    }

    void masksAreMarked() {
        SpectrumPlot plot = plotOf(31, [](std::size_t) { return 5.0; });
        plot.masked[3] = true;
        plot.sigma[30] = 0.0;
        const QStringList lines = linesOf(drawSpectrum(plot, {.width = 40, .height = 4}));
        QCOMPARE(lines[5],
                 QString("  masked    x                          o")); // bin 3 in column 3, bin 30 in column 30
        QVERIFY(linesOf(drawSpectrum(plot)).back().endsWith("x masked, o no data")); // where there is room for it
        // A masked bin is not drawn.
        QCOMPARE(lines[1][9 + 3], QChar(' '));
        QVERIFY(lines[1][9 + 4] != QChar(' '));
    }

    void wavelengthAxis() {
        // 6000 to 6061 over 31 characters: steps of 20 leave 10 characters between, steps of 10 would leave 5.
        const SpectrumPlot plot = plotOf(62, [](std::size_t) { return 1.0; });
        const QStringList lines = linesOf(drawSpectrum(plot, {.width = 40, .height = 4}));
        QCOMPARE(lines[5].mid(9), QString("+---------+---------+---------+"));
        QVERIFY(lines[6].mid(9).startsWith("6000"));
        QVERIFY(lines[6].contains("6020") && lines[6].contains("6040"));
    }

    void scales() {
        SpectrumPlot plot = plotOf(100, [](std::size_t i) { return i == 50 ? 1000.0 : 1.0; });
        QVERIFY(linesOf(drawSpectrum(plot)).back().contains("asinh scale"));
        QVERIFY(linesOf(drawSpectrum(plot, {.scale = FluxScale::Linear})).back().contains("linear scale"));
        plot.flux[50] = 5.0;
        QVERIFY(linesOf(drawSpectrum(plot)).back().contains("linear scale"));
    }

    void sigmaIsShaded() {
        SpectrumPlot plot = plotOf(31, [](std::size_t) { return 10.0; });
        plot.flux[0] = 20.0;
        for (double& sigma : plot.sigma) sigma = 5.0;
        // Lines of 4 dots over 0 to 20: flux 10 is in the middle, 5 to 15 a quarter from either end.
        const QString text = QString::fromStdString(drawSpectrum(plot, {.width = 40, .height = 8}));
        QVERIFY(text.count(QChar(0x2591)) >= 60); // at least two lines of 30
        for (double& sigma : plot.sigma) sigma = 0.01;
        QCOMPARE(QString::fromStdString(drawSpectrum(plot, {.width = 40, .height = 8})).count(QChar(0x2591)), 0);
    }

    void nothingToDraw() {
        SpectrumPlot plot = plotOf(10, [](std::size_t) { return 1.0; });
        for (double& sigma : plot.sigma) sigma = 0.0;
        QVERIFY(drawSpectrum(plot).find("no bin with data") != std::string::npos);
        QVERIFY(drawSpectrum({}).find("no bin with data") != std::string::npos);
        plot = plotOf(10, [](std::size_t) { return 0.0; });
        QVERIFY(linesOf(drawSpectrum(plot)).size() > 10);
        plot.flux[3] = std::numeric_limits<double>::quiet_NaN();
        plot.flux[4] = std::numeric_limits<double>::infinity();
        QVERIFY(drawSpectrum(plot).find("nan") == std::string::npos);
    }
};

QTEST_APPLESS_MAIN(TestTerminalPlot)
#include "TestTerminalPlot.moc"
