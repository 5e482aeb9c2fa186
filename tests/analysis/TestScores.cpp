#include "core/analysis/Scores.h"

#include <QObject>
#include <QTest>

#include <algorithm>
#include <cmath>
#include <limits>

using namespace patchlight;

namespace {

ExtractedFrame frameOf(std::vector<double> wavelength, std::size_t nspec) {
    ExtractedFrame frame;
    frame.wavelength = std::move(wavelength);
    frame.flux = Array2<double>(nspec, frame.wavelength.size());
    frame.ivar = Array2<double>(nspec, frame.wavelength.size());
    frame.mask = Array2<std::uint32_t>(nspec, frame.wavelength.size());
    return frame;
}

/// A one-column fibermap of 64-bit integers, big-endian as FITS has them.
FitsTable targetTable(const std::vector<std::int64_t>& ids) {
    FitsTable table;
    table.name = "FIBERMAP";
    table.rowBytes = 8;
    table.rowCount = ids.size();
    table.header.set("TFIELDS", 1);
    table.header.set("TTYPE1", "TARGETID");
    table.header.set("TFORM1", "K");
    for (const std::int64_t id : ids) {
        for (int shift = 56; shift >= 0; shift -= 8)
            table.bytes.push_back(static_cast<std::uint8_t>(static_cast<std::uint64_t>(id) >> shift));
    }
    return table;
}

} // namespace

class TestScores : public QObject {
    Q_OBJECT

private slots:
    void byHand() {
        // Two spectra on a grid with steps 1, 1, 2, 2; numpy.gradient gives dw = 1, 1, 1.5, 2, 2. The mean, 6002.4, says camera R.
        ExtractedFrame frame = frameOf({6000, 6001, 6002, 6004, 6006}, 2);
        const double flux[2][5] = {{1, 2, 3, 4, 5}, {10, -20, 30, 0, 50}};
        const double ivar[2][5] = {{4, 4, 4, 4, 4}, {1, 0.25, 0, 9, -1}};
        for (std::size_t s = 0; s < 2; ++s) {
            for (std::size_t i = 0; i < 5; ++i) {
                frame.flux(s, i) = flux[s][i];
                frame.ivar(s, i) = ivar[s][i];
            }
        }
        frame.fibermap = targetTable({39627000000000001, -7});
        std::string warning;
        const auto scores = computeScores(frame, warning);
        QVERIFY(scores.has_value());
        QVERIFY(warning.empty());
        QCOMPARE(scores->rowCount, std::size_t{2});
        QCOMPARE(scores->rowBytes, std::size_t{32});
        // More digits than a double holds.
        QCOMPARE(scores->integers("TARGETID")[0], std::int64_t{39627000000000001});
        QCOMPARE(scores->integers("TARGETID")[1], std::int64_t{-7});
        // 1 + 2 + 4.5 + 8 + 10 = 25.5; 10 - 20 + 45 + 0 + 100 = 135.
        QCOMPARE(scores->numbers("INTEG_RAW_FLUX_R")[0], 25.5);
        QCOMPARE(scores->numbers("INTEG_RAW_FLUX_R")[1], 135.0);
        QCOMPARE(scores->numbers("MEDIAN_RAW_FLUX_R")[0], 3.0);
        QCOMPARE(scores->numbers("MEDIAN_RAW_FLUX_R")[1], 10.0);
        // sqrt(ivar) flux / sqrt(dw): 2, 4, 6/sqrt(1.5) = 4.899, 8/sqrt(2) = 5.657, 10/sqrt(2) = 7.071; the median is 6/sqrt(1.5).
        QVERIFY(std::abs(scores->numbers("MEDIAN_RAW_SNR_R")[0] - 6.0 / std::sqrt(1.5)) < 1e-14);
        // 10, -10, 0, 0, 0 (a negative ivar counts as 0): 0.
        QCOMPARE(scores->numbers("MEDIAN_RAW_SNR_R")[1], 0.0);
        // Comments on the names, as desispec writes them.
        const auto& cards = scores->header.cards();
        const bool commented = std::any_of(cards.begin(), cards.end(), [](const std::string& card) {
            return card.starts_with("TTYPE2") &&
                   card.find("/ integ. flux in wave. range 5800,7600A") != std::string::npos;
        });
        QVERIFY(commented);
        QCOMPARE(QString::fromStdString(scores->header.text("EXTNAME").value_or("")), QString("SCORES"));
        QCOMPARE(scores->header.integer("NAXIS1").value_or(0), std::int64_t{32});
    }

    void bandEdges() {
        std::string warning;
        // The mean is 5800: camera B, of which 5798 and 5799 lie in [4000, 5800).
        ExtractedFrame frame = frameOf({5798, 5799, 5800, 5801, 5802}, 1);
        for (std::size_t i = 0; i < 5; ++i) frame.flux(0, i) = std::pow(10.0, static_cast<double>(i));
        auto scores = computeScores(frame, warning);
        QVERIFY(scores.has_value());
        QCOMPARE(scores->numbers("INTEG_RAW_FLUX_B")[0], 11.0);
        QCOMPARE(scores->numbers("MEDIAN_RAW_FLUX_B")[0], 5.5); // an even number: the mean of the two in the middle
        QVERIFY(!scores->hasColumn("TARGETID"));
        // The mean is 7600: camera Z, of which 7600 and up count.
        frame = frameOf({7598, 7599, 7600, 7601, 7602}, 1);
        for (std::size_t i = 0; i < 5; ++i) frame.flux(0, i) = std::pow(10.0, static_cast<double>(i));
        scores = computeScores(frame, warning);
        QCOMPARE(scores->numbers("INTEG_RAW_FLUX_Z")[0], 11100.0);
        QVERIFY(warning.empty());
    }

    void noBinInside() {
        std::string warning;
        QVERIFY(!computeScores(frameOf({3600, 3601, 3602}, 3), warning).has_value());
        QVERIFY2(warning.find("4000 to 5800") != std::string::npos && warning.find("3600") != std::string::npos,
                 warning.c_str());
        warning.clear();
        QVERIFY(!computeScores(frameOf({}, 0), warning).has_value());
        QVERIFY(!warning.empty());
    }

    void oneBinWithoutNeighbours() {
        std::string warning;
        ExtractedFrame frame = frameOf({6000}, 1);
        frame.header.set("WAVESTEP", 0.8);
        frame.flux(0, 0) = 10.0;
        const auto scores = computeScores(frame, warning);
        QCOMPARE(scores->numbers("INTEG_RAW_FLUX_R")[0], 8.0);
    }

    void notFinite() {
        std::string warning;
        ExtractedFrame frame = frameOf({6000, 6001, 6002}, 1);
        frame.flux(0, 0) = std::numeric_limits<double>::quiet_NaN();
        frame.flux(0, 1) = 2.0;
        frame.flux(0, 2) = 3.0;
        const auto scores = computeScores(frame, warning);
        QCOMPARE(scores->numbers("INTEG_RAW_FLUX_R")[0], 5.0);
        QCOMPARE(scores->numbers("MEDIAN_RAW_FLUX_R")[0], 2.0);
    }
};

QTEST_APPLESS_MAIN(TestScores)
#include "TestScores.moc"
