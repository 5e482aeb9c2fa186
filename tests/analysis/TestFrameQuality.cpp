#include "core/analysis/BinDiagnosis.h"
#include "core/analysis/FrameQuality.h"
#include "core/analysis/QualityReport.h"
#include "core/base/Error.h"
#include "core/cpu/CpuBackend.h"
#include "core/engine/Engine.h"
#include "core/frame/ExtractedFrame.h"
#include "core/simulate/FrameSimulator.h"
#include "tests/support/Sanitizers.h"

#include <QTest>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

using namespace patchlight;

namespace {

/// 40 fibers in 4 bundles with a line of [O I] in the middle.
struct Exposure {
    Psf psf;
    CcdImage image;
    ExtractedFrame frame; ///< as a file holds it
    std::vector<float> model;

    [[nodiscard]] QualityInput input() const {
        QualityInput in;
        in.frame = &frame;
        in.image = &image;
        in.psf = &psf;
        return in;
    }
};

/// @param afterwards  changes PSF or image between simulation and extraction
Exposure makeExposure(const std::vector<std::string>& faults, double tail = 0.0,
                      const std::function<void(Exposure&)>& afterwards = {}) {
    // Several tests look at the same ones.
    static std::map<std::pair<std::vector<std::string>, double>, Exposure> made;
    if (!afterwards) {
        const auto known = made.find({faults, tail});
        if (known != made.end()) return known->second;
    }
    simulate::InstrumentOptions instrument;
    instrument.nspec = 40;
    instrument.bundlesize = 10;
    instrument.nx = 420;
    instrument.ny = 400;
    instrument.waveCentre = 6330.0;
    instrument.tail = tail;
    Exposure e;
    e.psf = simulate::makePsf(simulate::completed(instrument));
    simulate::FrameOptions options;
    options.grid = {6255.0, 6405.0, 0.8};
    options.cosmics = 0;
    options.badColumns = 0;
    for (const std::string& fault : faults) options.faults.push_back(simulate::parsePlantedFault(fault));
    e.image = simulate::simulateFrame(e.psf, options).image;
    if (afterwards) afterwards(e);

    ExtractionOptions extraction;
    extraction.wavelength = options.grid;
    extraction.bundlesize = instrument.bundlesize;
    const Plan plan = makePlan(e.psf, extraction);
    const WeightedPixels pixels = weightedPixels(e.image);
    const auto backend = makeCpuBackend();
    ExtractionResult result = extractFrame(*backend, pixels.view(), e.psf, plan);
    e.model = paintModel(result.modelFlux, e.psf, plan, e.image.nx, e.image.ny);
    e.frame = std::move(result.frame);
    e.frame.fibermap = e.image.fibermap;
    e.frame.xflux = {};
    e.frame.pixmaskFraction = {};
    e.frame.fluxweight = {};
    writeOptions(e.frame.header, extraction);
    if (!afterwards) made.emplace(std::pair(faults, tail), e);
    return e;
}

const Finding* firstOf(const FrameQuality& quality, BadBinKind kind) {
    for (const Finding& finding : quality.findings)
        if (finding.kind == kind) return &finding;
    return nullptr;
}

} // namespace

class TestFrameQuality : public QObject {
    Q_OBJECT

private slots:
    void rowSumsByHand() {
        // R = [[.6 .3 0] [.2 .5 .4] [0 .1 .7]] as three diagonals: element (k, j) is R[j - 1 + k, j].
        ExtractedFrame frame;
        frame.flux = Array2<double>(1, 3);
        frame.resolution = Array3<double>(1, 3, 3);
        const double r[3][3] = {{0.6, 0.3, 0.0}, {0.2, 0.5, 0.4}, {0.0, 0.1, 0.7}};
        for (int k = 0; k < 3; ++k)
            for (int j = 0; j < 3; ++j)
                if (j - 1 + k >= 0 && j - 1 + k < 3)
                    frame.resolution(0, static_cast<std::size_t>(k), static_cast<std::size_t>(j)) = r[j - 1 + k][j];
        const Array2<float> sums = resolutionRowSums(frame);
        QCOMPARE(sums(0, 0), 0.9F);
        QCOMPARE(sums(0, 1), 1.1F);
        QCOMPARE(sums(0, 2), 0.8F);
        // and the way back: flux = R x.
        frame.wavelength = {1, 2, 3};
        frame.ivar = Array2<double>(1, 3, 1.0);
        const double x[3] = {10, -4, 7};
        for (std::size_t i = 0; i < 3; ++i) frame.flux(0, i) = r[i][0] * x[0] + r[i][1] * x[1] + r[i][2] * x[2];
        const Array2<double> back = deconvolvedFlux(frame);
        for (std::size_t i = 0; i < 3; ++i) QVERIFY(std::abs(back(0, i) - x[i]) < 1e-3);
    }

    void chi2RatiosByHand() {
        // Medians over fibers (1, 2, 3), over wavelengths (1, 2); the bin without ivar does not count.
        Array2<float> chi2(3, 3);
        const float values[3][3] = {{1, 1, 12}, {1, 2, 3}, {4, 2, 3}};
        Array2<double> ivar(3, 3, 1.0);
        for (std::size_t s = 0; s < 3; ++s)
            for (std::size_t j = 0; j < 3; ++j) chi2(s, j) = values[s][j];
        ivar(2, 0) = 0;
        const Array2<float> ratios = chi2Ratios(chi2, ivar);
        QCOMPARE(ratios(0, 2), 4.0F);     // 12 over max(1 over wavelengths, 3 over fibers)
        QCOMPARE(ratios(1, 0), 0.5F);     // 1 over max(2, 1)
        QCOMPARE(ratios(2, 0), 0.0F);     // does not count
        QCOMPARE(ratios(2, 1), 2 / 2.5F); // medians 2.5 and 2
    }

    void fluxBiasOfAGaussian() {
        // Of Gaussians with sigma and sigma' = 1.01 sigma, integrated over pixels (which adds 1/12 to their variances), the projection in one
        // dimension is sqrt(2 s^2/(s^2 + s'^2)).
        simulate::InstrumentOptions instrument;
        instrument.nspec = 2;
        instrument.bundlesize = 2;
        instrument.nx = 60;
        instrument.ny = 200;
        Psf psf = simulate::makePsf(simulate::completed(instrument));
        for (auto& [name, series] : psf.series)
            if (name.starts_with("GH-") && name != "GH-0-0") std::fill(series.coeff.begin(), series.coeff.end(), 0.0);
        for (const char* name : {"GHSIGX", "GHSIGY"}) {
            LegendreSeries& series = psf.series.at(name);
            std::fill(series.coeff.begin(), series.coeff.end(), 0.0);
            for (std::size_t s = 0; s < 2; ++s) series.coeff[s * static_cast<std::size_t>(series.ncoeff)] = 1.2;
        }
        psf.pack();
        const double middle = psf.wavelengthAt(0, 100);
        const std::vector<PsfBias> biases = psfFluxBias(psf, 0, 2, middle - 20, middle + 20);
        const double s2 = 1.2 * 1.2 + 1.0 / 12;
        const double t2 = 1.212 * 1.212 + 1.0 / 12;
        const double one = std::sqrt(2 * s2 / (s2 + t2));
        for (const PsfBias& bias : biases) {
            QVERIFY2(std::abs(bias.continuum - (one - 1)) < 1e-4, qPrintable(QString::number(bias.continuum, 'g', 8)));
            QVERIFY2(std::abs(bias.line - (one * one - 1)) < 2e-4, qPrintable(QString::number(bias.line, 'g', 8)));
        }
    }

    void cleanFrame() {
        const Exposure e = makeExposure({});
        const FrameQuality quality = measureFrameQuality(e.input());
        QVERIFY(quality.pixels);
        QVERIFY2(static_cast<double>(quality.alarms()) < 1e-3 * static_cast<double>(quality.kind.size()),
                 qPrintable(QString::fromStdString(quality.findings.empty() ? "" : quality.findings.front().sentence)));
        for (const AmplifierQuality& amplifier : quality.amplifiers) {
            QVERIFY(!amplifier.dead);
            QVERIFY(std::abs(amplifier.pulls.mean) < 0.02);
            QVERIFY(std::abs(amplifier.pulls.sigma - amplifier.pulls.expectedSigma) < 0.03);
        }
        // Offsets and widths of 40 fibers: zero within their errors.
        double offset2 = 0;
        double width2 = 0;
        for (const FiberQuality& fiber : quality.fibers) {
            QVERIFY(fiber.traceOffset.known());
            offset2 += std::pow(fiber.traceOffset.significance(), 2) / 40;
            width2 += std::pow(fiber.widthError.significance(), 2) / 40;
        }
        QVERIFY2(offset2 > 0.5 && offset2 < 2.0, qPrintable(QString::number(offset2)));
        QVERIFY2(width2 > 0.5 && width2 < 2.0, qPrintable(QString::number(width2)));

        // The model made from the file's flux and resolution is the engine's.
        double largest = 0;
        double sum2 = 0;
        int count = 0;
        for (int y = 120; y < 260; ++y)
            for (int x = 0; x < e.image.nx; ++x) {
                const auto p =
                    static_cast<std::size_t>(y) * static_cast<std::size_t>(e.image.nx) + static_cast<std::size_t>(x);
                if (e.model[p] == 0.0F) continue;
                const double d =
                    std::abs(static_cast<double>(quality.model[p] - e.model[p])) * std::sqrt(e.image.ivar[p]);
                largest = std::max(largest, d);
                sum2 += d * d;
                ++count;
            }
        const double rms = std::sqrt(sum2 / count);
        qInfo("model from flux and resolution: rms %.4f, at most %.3f sigma", rms, largest);
        QVERIFY(rms < 0.05);
        QVERIFY(largest < 1.0);
    }

    /// A fiber many times brighter than all others is no fault, and its lines are none: what bins and the PSF's error leave of them is known.
    void aBrightFiberIsNoFault() {
        for (const char* fault : {"neighbour:15,30", "neighbour:15,100", "neighbour:15,300"}) {
            if (!test::worthwhile(fault, {"neighbour:15,300"})) continue;
            const Exposure e = makeExposure({fault});
            const FrameQuality quality = measureFrameQuality(e.input());
            std::int64_t wrong = 0;
            for (const BadBinKind kind : {BadBinKind::CosmicRay, BadBinKind::TraceOffset, BadBinKind::PsfWidth,
                                          BadBinKind::BadColumn, BadBinKind::PoorFit, BadBinKind::LowWeight})
                wrong += quality.counts[static_cast<std::size_t>(kind)];
            QVERIFY2(static_cast<double>(wrong) < 1e-3 * static_cast<double>(quality.kind.size()),
                     qPrintable(QString::fromStdString(
                         fmt::format("{}: {} of {}, first: {}", fault, wrong, quality.kind.size(),
                                     quality.findings.empty() ? "" : quality.findings.front().sentence))));
        }
        // Beside pixels that MASK says are saturated, that is the cause.
        const Exposure line = makeExposure({"saturated:22,6320"}, 0.0, [](Exposure& made) {
            const float ceiling = *std::max_element(made.image.pixels.begin(), made.image.pixels.end());
            for (std::size_t p = 0; p < made.image.pixels.size(); ++p)
                if (made.image.pixels[p] > 0.98F * ceiling)
                    made.image.mask[p] = static_cast<std::int32_t>(CcdMaskBit::Saturated);
        });
        const FrameQuality masked = measureFrameQuality(line.input());
        const Finding* finding = firstOf(masked, BadBinKind::Saturated);
        QVERIFY(finding != nullptr);
        QVERIFY2(finding->sentence.find("masked SATURATED") != std::string::npos, finding->sentence.c_str());
        QVERIFY(firstOf(masked, BadBinKind::CosmicRay) == nullptr);
        const Exposure e = makeExposure({"neighbour:15,300"});
        const FrameQuality quality = measureFrameQuality(e.input());
        // A misfit that is the line's is said to be, without an alarm.
        bool said = false;
        for (int bin = 0; bin < static_cast<int>(quality.nwave()) && !said; ++bin) {
            if (quality.kind(15, static_cast<std::size_t>(bin)) != BadBinKind::None) continue;
            if (!(quality.chi2Ratio(15, static_cast<std::size_t>(bin)) > 5.0F)) continue;
            const BinDiagnosis d = diagnoseBin(e.input(), quality, 15, bin);
            said = d.sentence.find("no alarm; chi2pix is") != std::string::npos &&
                   d.sentence.find("but a line of its own reaches") != std::string::npos;
            QVERIFY2(said, d.sentence.c_str());
        }
        QVERIFY(said);
    }

    void lowFluxweight() {
        Exposure e = makeExposure({});
        // Computed from image and PSF it is the extraction's own.
        ExtractionOptions options;
        options.wavelength = WavelengthRange{6255.0, 6405.0, 0.8};
        options.bundlesize = 10;
        const Plan plan = makePlan(e.psf, options);
        const auto backend = makeCpuBackend();
        const auto extract = [&] {
            const WeightedPixels pixels = weightedPixels(e.image);
            return extractFrame(*backend, pixels.view(), e.psf, plan).frame;
        };
        const Array2<double> own = extract().fluxweight;
        const FrameQuality clean = measureFrameQuality(e.input());
        QCOMPARE(clean.counts[static_cast<std::size_t>(BadBinKind::LowWeight)], 0);
        for (std::size_t s = 0; s < clean.nspec(); s += 7)
            for (std::size_t j = 20; j + 20 < clean.nwave(); j += 9)
                QVERIFY(std::abs(static_cast<double>(clean.fluxweight(s, j)) / own(s, j) - 1) < 1e-3);
        // Pixels that are not masked but next to worthless.
        const int x = static_cast<int>(std::lround(e.psf.x(5, 6300)));
        const int y = static_cast<int>(std::lround(e.psf.y(5, 6300)));
        for (int dy = -12; dy <= 12; ++dy)
            for (int dx = -8; dx <= 8; ++dx)
                e.image.ivar[static_cast<std::size_t>((y + dy) * e.image.nx + x + dx)] *= 1e-7F;
        ExtractedFrame frame = extract();
        const Array2<double> weights = std::exchange(frame.fluxweight, {});
        QualityInput input = e.input();
        input.frame = &frame;
        for (const bool file : {true, false}) { // computed, and the run's own without image and PSF
            if (!file) {
                frame.fluxweight = weights;
                input.image = nullptr;
                input.psf = nullptr;
            }
            const FrameQuality quality = measureFrameQuality(input);
            const auto bin = static_cast<std::size_t>(std::lround((6300 - 6255.0) / 0.8));
            QVERIFY(quality.weightShare(5, bin) < 1e-4F);
            QCOMPARE(quality.kind(5, bin), BadBinKind::LowWeight);
            const BinDiagnosis d = diagnoseBin(input, quality, 5, static_cast<int>(bin));
            QVERIFY2(d.sentence.find("low weight: its fluxweight is ") != std::string::npos, d.sentence.c_str());
        }
    }

    /// Against the other fibers' lines a fiber's wavelengths are known; against its own residuals they are not.
    void wavelengthShifts() {
        const Exposure straight = makeExposure({});
        const double chi2 = measureFrameQuality(straight.input()).fibers[7].medianChi2pix;
        for (const double pixels : {0.3, -0.1}) {
            if (test::sanitized && pixels < 0) continue;
            const Exposure e = makeExposure({}, 0.0, [pixels](Exposure& made) {
                LegendreSeries& y = made.psf.series.at("Y");
                y.coeff[7 * static_cast<std::size_t>(y.ncoeff)] += pixels;
                made.psf.pack();
            });
            QualityInput input = e.input();
            const FrameQuality quality = measureFrameQuality(input);
            // Where the trace says rows too high, light of a row counts as light of shorter wavelengths.
            const double expected = -pixels * (e.psf.wavelengthAt(7, 201) - e.psf.wavelengthAt(7, 200));
            const Measured& shift = quality.fibers[7].wavelengthShift;
            input.image = nullptr;
            const Measured alone = measureFrameQuality(input).fibers[7].wavelengthShift;
            qInfo("planted %.4f Angstrom: %.4f +- %.4f in pixels, %.4f +- %.4f in the frame alone", expected,
                  shift.value, shift.error, alone.value, alone.error);
            QVERIFY(std::abs(shift.value - expected) < 3 * shift.error);
            QVERIFY(shift.error > 0.002 && shift.error < 0.012);
            QVERIFY(std::abs(alone.value - expected) < 0.4 * std::abs(expected));
            for (const std::size_t other : {6U, 8U, 20U})
                QVERIFY(std::abs(quality.fibers[other].wavelengthShift.value) < 0.03);
            // The same light at other wavelengths: its pixels fit as well as before.
            QVERIFY(std::abs(quality.fibers[7].medianChi2pix - chi2) < 0.05);
        }
    }

    void plantedFaults_data() {
        QTest::addColumn<QString>("fault");
        QTest::addColumn<int>("kind");
        QTest::addColumn<int>("row");        // of the worst bin; -1: any
        QTest::addColumn<double>("wave");    // near which it is; 0: anywhere
        QTest::addColumn<QString>("phrase"); // of its sentence
        QTest::addColumn<double>("tail");
        const auto row = [](const char* name, const char* fault, BadBinKind kind, int fiber, double wave,
                            const char* phrase, double tail = 0.0) {
            if (test::watchingThreads && kind != BadBinKind::CosmicRay) return;
            if (!test::worthwhile(name, {"cosmic", "trace right", "wide PSF", "column beside a trace", "amplifier",
                                         "saturated line"}))
                return;
            QTest::newRow(name) << QString(fault) << static_cast<int>(kind) << fiber << wave << QString(phrase) << tail;
        };
        row("cosmic", "cosmic:12,6320", BadBinKind::CosmicRay, 12, 6320, "a cosmic ray or a hot pixel");
        row("trace right", "trace:7,0.3", BadBinKind::TraceOffset, 7, 0, "0.30 +- 0.00 pixel right of the trace");
        row("trace left", "trace:33,-0.3", BadBinKind::TraceOffset, 33, 0, "pixel left of the trace");
        row("narrow PSF", "width:0.05", BadBinKind::PsfWidth, -1, 0, "too narrow across the trace");
        row("wide PSF", "width:-0.05", BadBinKind::PsfWidth, -1, 0, "too wide across the trace");
        row("column under a trace", "column:150", BadBinKind::BadColumn, 12, 0, "column 150 of the CCD disagrees");
        row("column beside a trace", "column:152", BadBinKind::BadColumn, 12, 0, "column 152 of the CCD disagrees");
        row("amplifier", "amplifier:B", BadBinKind::DeadAmplifier, -1, 0, "amplifier B sees no light");
        row("saturated line", "saturated:22,6320", BadBinKind::Saturated, 22, 6320,
            "saturated, and MASK does not know");
        row("bright neighbour", "neighbour:15,300", BadBinKind::Neighbour, -1, 0,
            "is that of others, most of it of fiber 15 beside it", 0.02);
    }

    void plantedFaults() {
        QFETCH(QString, fault);
        QFETCH(int, kind);
        QFETCH(int, row);
        QFETCH(double, wave);
        QFETCH(QString, phrase);
        QFETCH(double, tail);
        const Exposure e = makeExposure({fault.toStdString()}, tail);
        const FrameQuality quality = measureFrameQuality(e.input());
        const Finding* finding = firstOf(quality, static_cast<BadBinKind>(kind));
        QVERIFY2(finding != nullptr, "nothing of its kind was found");
        const QString sentence = QString::fromStdString(finding->sentence);
        QVERIFY2(sentence.contains(phrase), qPrintable(sentence));
        if (row >= 0) QCOMPARE(finding->row, row);
        if (wave > 0)
            QVERIFY2(std::abs(quality.wavelength[static_cast<std::size_t>(finding->bin)] - wave) < 2.5,
                     qPrintable(sentence));
        // No alarm of another kind that pixels tell of, but for what the bright neighbour's own lines do.
        for (const Finding& other : quality.findings)
            if (other.kind != finding->kind && tail == 0.0)
                QVERIFY2(other.bins < 4, qPrintable(QString::fromStdString(other.sentence)));
    }

    void sizesAreMeasured() {
        const Exposure moved = makeExposure({"trace:7,0.3"});
        const FrameQuality quality = measureFrameQuality(moved.input());
        QVERIFY(std::abs(quality.fibers[7].traceOffset.value - 0.3) < 0.03);
        QVERIFY(std::abs(quality.fibers[8].traceOffset.value) < 0.05);
        const Exposure wide = makeExposure({"width:0.05"});
        const double width = measureFrameQuality(wide.input()).frameWidth.value;
        QVERIFY2(std::abs(width - 0.0526) < 0.008, qPrintable(QString::number(width)));
    }

    void severalAtOnce() {
        const Exposure e = makeExposure({"cosmic:12,6320", "trace:33,-0.2", "column:102", "saturated:22,6380"});
        const FrameQuality quality = measureFrameQuality(e.input());
        QCOMPARE(firstOf(quality, BadBinKind::CosmicRay)->row, 12);
        QCOMPARE(firstOf(quality, BadBinKind::TraceOffset)->row, 33);
        QCOMPARE(firstOf(quality, BadBinKind::Saturated)->row, 22);
        QVERIFY(firstOf(quality, BadBinKind::BadColumn) != nullptr);
        QCOMPARE(quality.badColumns.front().x, 102);
    }

    void maskedPixelsByName() {
        Exposure e = makeExposure({});
        const int x = static_cast<int>(std::lround(e.psf.x(5, 6300)));
        const int y = static_cast<int>(std::lround(e.psf.y(5, 6300)));
        for (int dy = -2; dy <= 2; ++dy)
            for (int dx = -2; dx <= 2; ++dx)
                e.image.mask[static_cast<std::size_t>((y + dy) * e.image.nx + x + dx)] =
                    static_cast<std::int32_t>(dx < 0 ? CcdMaskBit::Cosmic : CcdMaskBit::Hot);
        const FrameQuality quality = measureFrameQuality(e.input());
        const Finding* finding = firstOf(quality, BadBinKind::MaskedPixels);
        QVERIFY(finding != nullptr);
        QCOMPARE(finding->row, 5);
        const BinDiagnosis d = diagnoseBin(e.input(), quality, finding->row, finding->bin);
        QVERIFY(d.maskedFraction > 0.9);
        QCOMPARE(d.masked.size(), 2U);
        QCOMPARE(d.masked[0].name, std::string("HOT"));
        QCOMPARE(d.masked[0].pixels, 15);
        QCOMPARE(d.masked[1].name, std::string("COSMIC"));
        QVERIFY(std::abs(d.masked[0].share + d.masked[1].share - d.maskedFraction) < 1e-5);
    }

    void patchesThatClimbed() {
        const Exposure e = makeExposure({});
        const FrameQuality quality = measureFrameQuality(e.input());
        ExtractionOptions options;
        options.wavelength = WavelengthRange{6255.0, 6405.0, 0.8};
        options.bundlesize = 10;
        const Plan plan = makePlan(e.psf, options);
        std::vector<PatchReport> reports(static_cast<std::size_t>(plan.patchCount()));
        const Patch patch = plan.patchAt(12, 70);
        reports[static_cast<std::size_t>(patch.subbundle * plan.nsteps + patch.step)] = {
            static_cast<std::uint32_t>(PatchStatus::Exact) | static_cast<std::uint32_t>(PatchStatus::IllConditioned), 0,
            3e9};
        QualityInput input = e.input();
        input.plan = &plan;
        input.reports = &reports;
        const auto says = [&](int row, int bin) {
            for (const std::string& note : diagnoseBin(input, quality, row, bin).notes)
                if (note.find("climbed the ladder to the exact path, ill-conditioned (condition 3e+09)") !=
                    std::string::npos)
                    return true;
            return false;
        };
        QVERIFY(says(12, 70));
        QVERIFY(!says(12, 20));
        QVERIFY(!says(25, 70));
    }

    void withoutImage() {
        Exposure e = makeExposure({"cosmic:12,6320"});
        e.frame.flux(3, 20) = std::numeric_limits<double>::quiet_NaN();
        QualityInput input = e.input();
        input.image = nullptr;
        const FrameQuality quality = measureFrameQuality(input);
        QVERIFY(!quality.pixels);
        QVERIFY(!quality.notes.empty());
        const Finding* finding = firstOf(quality, BadBinKind::PoorFit);
        QVERIFY(finding != nullptr);
        QCOMPARE(finding->row, 12);
        QVERIFY(finding->sentence.find("would say why") != std::string::npos);
        QVERIFY(firstOf(quality, BadBinKind::CosmicRay) == nullptr);
        QCOMPARE(firstOf(quality, BadBinKind::NotANumber)->row, 3);
        // Without CHI2PIX there is MASK.
        e.frame.chi2pix = {};
        const FrameQuality poorer = measureFrameQuality(input);
        QCOMPARE(firstOf(poorer, BadBinKind::PoorFit)->row, 12);
        // A frame without RESOLUTION has no model, even with image and PSF.
        e.frame.resolution = {};
        QVERIFY(!measureFrameQuality(e.input()).pixels);
    }

    void resultsDoNotDependOnThreads() {
        const Exposure e = makeExposure({"cosmic:12,6320", "trace:33,-0.2"});
        QualityInput input = e.input();
        input.threads = 1;
        const FrameQuality one = measureFrameQuality(input);
        input.threads = 3;
        const FrameQuality three = measureFrameQuality(input);
        QCOMPARE(qualityJson(one, {}), qualityJson(three, {}));
        QVERIFY(one.kind.values() == three.kind.values());
        QVERIFY(one.model == three.model);
    }

    void reports() {
        const Exposure e = makeExposure({"cosmic:12,6320"});
        const FrameQuality quality = measureFrameQuality(e.input());
        const auto json = nlohmann::json::parse(qualityJson(quality, {"frame.fits", "image.fits", ""}));
        QCOMPARE(json["bins"].get<int>(), 40 * 188);
        QCOMPARE(json["fibers"].size(), 40U);
        QCOMPARE(json["fibers"][12]["targetid"].get<std::int64_t>(), e.frame.fibermap->integers("TARGETID")[12]);
        QCOMPARE(json["findings"][0]["kind"].get<std::string>(), std::string("cosmic_ray"));
        QVERIFY(json["psf"].is_null());
        const std::string csv = qualityFibersCsv(quality);
        const auto lines = std::count(csv.begin(), csv.end(), '\n');
        QCOMPARE(lines, 41);
        const std::size_t columns = static_cast<std::size_t>(
            std::count(csv.begin(), csv.begin() + static_cast<std::ptrdiff_t>(csv.find('\n')), ','));
        for (std::size_t at = 0; at < csv.size();) {
            const std::size_t end = csv.find('\n', at);
            QCOMPARE(static_cast<std::size_t>(std::count(csv.begin() + static_cast<std::ptrdiff_t>(at),
                                                         csv.begin() + static_cast<std::ptrdiff_t>(end), ',')),
                     columns);
            at = end + 1;
        }
    }

    void whatDoesNotBelongTogether() {
        Exposure e = makeExposure({});
        e.psf.nx = 421;
        QVERIFY_THROWS_EXCEPTION(Error, (void)measureFrameQuality(e.input()));
        e.psf.nx = 420;
        e.frame.specmin = 1;
        QVERIFY_THROWS_EXCEPTION(Error, (void)measureFrameQuality(e.input()));
        e.frame.specmin = 0;
        for (double& wavelength : e.frame.wavelength) wavelength += 1000;
        QVERIFY_THROWS_EXCEPTION(Error, (void)measureFrameQuality(e.input()));
    }

    void plantsAreChecked() {
        for (const char* text : {"", "cosmic", "cosmic:1", "cosmic:1,x", "cosmic:1.5,6300", "trace:1,9", "width:0.9",
                                 "column:-1", "amplifier:E", "neighbour:1", "saturated:1,6300,-5", "moon:1"})
            QVERIFY_THROWS_EXCEPTION(UsageError, (void)simulate::parsePlantedFault(text));
        QVERIFY_THROWS_EXCEPTION(UsageError, (void)makeExposure({"trace:40,0.3"}));
        QVERIFY_THROWS_EXCEPTION(UsageError, (void)makeExposure({"column:420"}));
        QVERIFY_THROWS_EXCEPTION(UsageError, (void)makeExposure({"cosmic:3,9000"}));
    }
};

QTEST_APPLESS_MAIN(TestFrameQuality)
#include "TestFrameQuality.moc"
