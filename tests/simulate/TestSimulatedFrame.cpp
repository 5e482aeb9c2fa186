#include "core/base/Error.h"
#include "core/engine/Plan.h"
#include "core/psf/GaussHermite.h"
#include "core/simulate/FrameSimulator.h"
#include "core/simulate/SkyLines.h"

#include <QByteArray>
#include <QFile>
#include <QObject>
#include <QTest>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

using namespace patchlight;
using namespace patchlight::simulate;

namespace {

InstrumentOptions smallInstrument(const std::string& camera = "r0") {
    InstrumentOptions options;
    options.camera = parseCamera(camera, "camera");
    options.nspec = 10;
    options.bundlesize = 5;
    options.nx = 200;
    options.ny = 300;
    options.waveCentre = 6330.0;
    return completed(options);
}

FrameOptions frameOptions(const Psf& psf) {
    FrameOptions options;
    options.grid = defaultWavelengthRange(psf, 'r');
    options.skyFibers = 2;
    options.cosmics = 8;
    options.badColumns = 1;
    options.keepModel = true;
    options.threads = 1;
    return options;
}

std::string usageError(const std::function<void()>& call) {
    try {
        call();
    } catch (const UsageError& error) {
        return error.what();
    }
    return {};
}

double sum(const std::vector<float>& values) { return std::accumulate(values.begin(), values.end(), 0.0); }

QByteArray contents(const QString& path) {
    QFile file(path);
    return file.open(QIODevice::ReadOnly) ? file.readAll() : QByteArray();
}

} // namespace

class TestSimulatedFrame : public QObject {
    Q_OBJECT

private slots:
    void psfHasTheShapeOfTheCameras_data() {
        QTest::addColumn<QString>("camera");
        QTest::addColumn<int>("nx");
        QTest::addColumn<int>("ny");
        QTest::addColumn<double>("wmin");
        QTest::addColumn<double>("wmax");
        QTest::addRow("b") << "b3" << 4096 << 4096 << 3600.0 << 5800.0;
        QTest::addRow("r") << "r0" << 4114 << 4128 << 5760.0 << 7620.0;
        QTest::addRow("z") << "z9" << 4114 << 4128 << 7520.0 << 9824.0;
    }

    void psfHasTheShapeOfTheCameras() {
        QFETCH(QString, camera);
        QFETCH(int, nx);
        QFETCH(int, ny);
        QFETCH(double, wmin);
        QFETCH(double, wmax);
        InstrumentOptions options;
        options.camera = parseCamera(camera.toStdString(), "camera");
        options = completed(options);
        const Psf psf = makePsf(options);
        QCOMPARE(psf.nspec, 500);
        QCOMPARE(psf.nx, nx);
        QCOMPARE(psf.ny, ny);
        const WavelengthRange range = defaultWavelengthRange(psf, options.camera.arm);
        QCOMPARE(range.wmin, wmin);
        QCOMPARE(range.wmax, wmax);
        QCOMPARE(range.dw, 0.8);

        const PsfView view = psf.view();
        std::vector<double> stamp(static_cast<std::size_t>(view.stampX() * view.stampY()));
        double parameters[maxPsfParameters];
        for (int s = 0; s < psf.nspec; ++s) {
            double previousRow = -1e9;
            for (double wave = psf.wavemin(); wave <= psf.wavemax(); wave += 40.0) {
                const double row = psf.y(s, wave);
                QVERIFY2(row > previousRow, "rows must rise with wavelength");
                previousRow = row;
                const double column = psf.x(s, wave);
                if (s > 0) {
                    const double distance = column - psf.x(s - 1, wave);
                    if (s % options.bundlesize == 0)
                        QVERIFY2(distance > 18.5 && distance < 21.0, qPrintable(QString::number(distance)));
                    else
                        QVERIFY2(std::abs(distance - 7.27) < 0.15, qPrintable(QString::number(distance)));
                }
                evaluateParameters(view, s, wave, parameters);
                QVERIFY(parameters[SigmaX] > 0.98 && parameters[SigmaX] < 1.17);
                QVERIFY(parameters[SigmaY] > 0.98 && parameters[SigmaY] < 1.17);
            }
            // The whole spot is on the CCD all along the extraction range.
            for (const double wave : {range.wmin, 0.5 * (range.wmin + range.wmax), range.wmax}) {
                int cornerX = 0;
                int cornerY = 0;
                evaluateSpot(view, s, wave, true, stamp.data(), cornerX, cornerY);
                QVERIFY(cornerX >= 0 && cornerX + view.stampX() <= psf.nx);
                QVERIFY(cornerY >= 0 && cornerY + view.stampY() <= psf.ny);
                QVERIFY(std::abs(std::accumulate(stamp.begin(), stamp.end(), 0.0) - 1.0) < 1e-12);
            }
        }
        // All light that can reach the CCD is in the PSF's domain.
        for (const int s : {0, 125, 250, 499}) {
            QVERIFY(psf.y(s, psf.wavemin()) < -psf.hsizeY - 1.0);
            QVERIFY(psf.y(s, psf.wavemax()) > psf.ny + psf.hsizeY);
        }
    }

    void camerasDiffer() {
        const Psf a = makePsf(smallInstrument("r0"));
        const Psf b = makePsf(smallInstrument("r1"));
        const Psf again = makePsf(smallInstrument("r0"));
        QVERIFY(a.series.at("GHSIGX").coeff != b.series.at("GHSIGX").coeff);
        QVERIFY(a.series.at("X").coeff == again.series.at("X").coeff);
        QVERIFY(a.series.at("GH-4-0").coeff == again.series.at("GH-4-0").coeff);
    }

    void threadsDoNotMatter_data() {
        QTest::addColumn<bool>("onGrid");
        QTest::addRow("on the grid") << true;
        QTest::addRow("off the grid") << false;
    }

    void threadsDoNotMatter() {
        QFETCH(bool, onGrid);
        InstrumentOptions instrument = smallInstrument();
        instrument.ny = 700; // four stripes
        const Psf psf = makePsf(instrument);
        FrameOptions options = frameOptions(psf);
        options.truthOnGrid = onGrid;
        const SimulatedFrame one = simulateFrame(psf, options);
        for (const int threads : {2, 5}) {
            options.threads = threads;
            const SimulatedFrame other = simulateFrame(psf, options);
            QVERIFY(one.image.pixels == other.image.pixels);
            QVERIFY(one.image.ivar == other.image.ivar);
            QVERIFY(one.image.mask == other.image.mask);
            QVERIFY(one.truth.flux.values() == other.truth.flux.values());
            QVERIFY(one.image.fibermap->bytes == other.image.fibermap->bytes);
        }
    }

    void seedsDiffer() {
        const Psf psf = makePsf(smallInstrument());
        FrameOptions options = frameOptions(psf);
        const SimulatedFrame one = simulateFrame(psf, options);
        options.seed = 2;
        const SimulatedFrame two = simulateFrame(psf, options);
        QVERIFY(one.image.pixels != two.image.pixels);
        QVERIFY(one.truth.flux.values() != two.truth.flux.values());
        options.seed = 1;
        options.expid = 2;
        QVERIFY(simulateFrame(psf, options).image.pixels != one.image.pixels);
    }

    /// Each effect has random numbers of its own, so that frames with and without it can be compared.
    void effectsAreIndependent() {
        const Psf psf = makePsf(smallInstrument());
        FrameOptions options = frameOptions(psf);
        const SimulatedFrame with = simulateFrame(psf, options);
        options.cosmics = 0;
        options.badColumns = 0;
        const SimulatedFrame without = simulateFrame(psf, options);
        int same = 0;
        for (std::size_t i = 0; i < with.image.pixels.size(); ++i) {
            if (with.image.mask[i] != 0) continue;
            QCOMPARE(with.image.pixels[i], without.image.pixels[i]);
            ++same;
        }
        QVERIFY(same > 50000);
        QVERIFY(std::all_of(without.image.mask.begin(), without.image.mask.end(), [](int m) { return m == 0; }));
    }

    void photonsAreConserved_data() { threadsDoNotMatter_data(); }

    /// What the truth says is on the CCD is in the noiseless image, no more and no less.
    void photonsAreConserved() {
        QFETCH(bool, onGrid);
        InstrumentOptions instrument = smallInstrument();
        instrument.tail = 0.002;
        const Psf psf = makePsf(instrument);
        FrameOptions options = frameOptions(psf);
        options.truthOnGrid = onGrid;
        const SimulatedFrame frame = simulateFrame(psf, options);
        const PsfView view = psf.view();
        std::vector<double> stamp(static_cast<std::size_t>(view.stampX() * view.stampY()));
        double expected = 0.0;
        for (int s = 0; s < psf.nspec; ++s) {
            for (std::size_t k = 0; k < frame.truth.wavelength.size(); ++k) {
                int cornerX = 0;
                int cornerY = 0;
                evaluateSpot(view, s, frame.truth.wavelength[k], true, stamp.data(), cornerX, cornerY);
                double inside = 0.0;
                for (int y = 0; y < view.stampY(); ++y)
                    for (int x = 0; x < view.stampX(); ++x)
                        if (cornerX + x >= 0 && cornerX + x < psf.nx && cornerY + y >= 0 && cornerY + y < psf.ny)
                            inside += stamp[static_cast<std::size_t>(y * view.stampX() + x)];
                expected += inside * frame.truth.flux(static_cast<std::size_t>(s), k) * frame.truth.step;
            }
        }
        const double found = sum(frame.model);
        // Off the grid, continua are painted at every third point of the truth.
        const double tolerance = onGrid ? 1e-6 : 3e-5;
        QVERIFY2(std::abs(found / expected - 1.0) < tolerance, qPrintable(QString::number(found / expected - 1.0)));
        QVERIFY(found > 1e5);
    }

    /// A continuum painted off the grid looks as it does on a comb four times as fine, but for the edges of the stamps.
    void smoothLightHasNoRipple() {
        const Psf psf = makePsf(smallInstrument());
        const PsfView view = psf.view();
        std::vector<double> stamp(static_cast<std::size_t>(view.stampX() * view.stampY()));
        const auto profile = [&](double step) { // light of 1 photon/Angstrom, summed over columns, rows 100 to 199
            std::vector<double> rows(300, 0.0);
            for (double wave = psf.wavemin() + 0.5 * step; wave < psf.wavemax(); wave += step) {
                int cornerX = 0;
                int cornerY = 0;
                evaluateSpot(view, 4, wave, true, stamp.data(), cornerX, cornerY);
                for (int y = 0; y < view.stampY(); ++y)
                    for (int x = 0; x < view.stampX(); ++x)
                        if (cornerY + y >= 100 && cornerY + y < 200)
                            rows[static_cast<std::size_t>(cornerY + y)] +=
                                step * stamp[static_cast<std::size_t>(y * view.stampX() + x)];
            }
            return rows;
        };
        const std::vector<double> fine = profile(0.15);
        const std::vector<double> used = profile(0.6);
        for (std::size_t y = 100; y < 200; ++y)
            QVERIFY2(std::abs(used[y] / fine[y] - 1.0) < 1e-4, qPrintable(QString::number(used[y] / fine[y] - 1.0)));
    }

    void noiseIsAsItsVarianceSays_data() {
        QTest::addColumn<double>("exptime");
        QTest::addRow("faint") << 5.0;
        QTest::addRow("as observed") << 900.0;
    }

    void noiseIsAsItsVarianceSays() {
        QFETCH(double, exptime);
        InstrumentOptions instrument = smallInstrument();
        instrument.ny = 1500;
        const Psf psf = makePsf(instrument);
        FrameOptions options = frameOptions(psf);
        options.exptime = exptime;
        options.cosmics = 60;
        const SimulatedFrame frame = simulateFrame(psf, options);
        double s1 = 0.0;
        double s2 = 0.0;
        double n = 0.0;
        for (std::size_t i = 0; i < frame.image.pixels.size(); ++i) {
            if (frame.image.mask[i] != 0) continue;
            const double pull = (frame.image.pixels[i] - frame.model[i]) * std::sqrt(frame.image.ivar[i]);
            s1 += pull;
            s2 += pull * pull;
            n += 1.0;
        }
        QVERIFY(n > 0.97 * 200 * 1500);
        QVERIFY2(std::abs(s1 / n) < 4.0 / std::sqrt(n), qPrintable(QString::number(s1 / n)));
        // A Poisson pixel's pull squared varies by 2 + 1/mean; 3 covers these frames.
        QVERIFY2(std::abs(s2 / n - 1.0) < 4.0 * std::sqrt(3.0 / n), qPrintable(QString::number(s2 / n)));
    }

    void varianceFromDataFollowsTheData() {
        const Psf psf = makePsf(smallInstrument());
        FrameOptions options = frameOptions(psf);
        options.cosmics = 0;
        options.badColumns = 0;
        const SimulatedFrame model = simulateFrame(psf, options);
        options.ivarFromData = true;
        const SimulatedFrame data = simulateFrame(psf, options);
        QVERIFY(model.image.pixels == data.image.pixels);
        for (std::size_t i = 0; i < data.image.pixels.size(); i += 37) {
            const double rn = data.image.readnoise[i];
            QVERIFY(std::abs(data.image.ivar[i] * (std::max(0.0F, data.image.pixels[i]) + rn * rn) - 1.0) < 1e-5);
            QVERIFY(std::abs(model.image.ivar[i] * (model.model[i] + rn * rn) - 1.0) < 1e-5);
        }
    }

    void defectsAreWhatWasAskedFor() {
        const Psf psf = makePsf(smallInstrument());
        FrameOptions options = frameOptions(psf);
        options.noise = false;
        options.cosmics = 0;
        options.badColumns = 0;
        const SimulatedFrame clean = simulateFrame(psf, options);
        QVERIFY(clean.image.pixels == clean.model);
        QCOMPARE(clean.saturatedPixels, std::int64_t{0});

        options.cosmics = 20;
        const SimulatedFrame cosmics = simulateFrame(psf, options);
        int hit = 0;
        for (std::size_t i = 0; i < clean.image.pixels.size(); ++i) {
            QVERIFY(cosmics.image.mask[i] == 0 || cosmics.image.mask[i] == 16);
            QCOMPARE(cosmics.image.pixels[i] > clean.image.pixels[i], cosmics.image.mask[i] == 16);
            hit += cosmics.image.mask[i] == 16;
        }
        QVERIFY(hit > 60);
        options.unmaskedCosmics = 1.0;
        const SimulatedFrame hidden = simulateFrame(psf, options);
        QVERIFY(hidden.image.pixels == cosmics.image.pixels);
        QVERIFY(std::all_of(hidden.image.mask.begin(), hidden.image.mask.end(), [](int m) { return m == 0; }));

        options.cosmics = 0;
        options.badColumns = 3;
        const SimulatedFrame columns = simulateFrame(psf, options);
        QVERIFY(std::count(columns.image.mask.begin(), columns.image.mask.end(), 1) >= 10);

        options.badColumns = 0;
        options.saturation = 100.0;
        const SimulatedFrame full = simulateFrame(psf, options);
        QVERIFY(full.saturatedPixels > 0);
        QCOMPARE(*std::max_element(full.image.pixels.begin(), full.image.pixels.end()), 100.0F);
        QCOMPARE(static_cast<std::int64_t>(std::count(full.image.mask.begin(), full.image.mask.end(), 8)),
                 full.saturatedPixels);
    }

    void truthLiesOnTheGridWhereAsked() {
        const Psf psf = makePsf(smallInstrument());
        FrameOptions options = frameOptions(psf);
        options.truthOnGrid = true;
        const SimulatedFrame on = simulateFrame(psf, options);
        ExtractionOptions extraction;
        extraction.wavelength = options.grid;
        extraction.bundlesize = 5;
        const WavelengthGrid grid = makePlan(psf, extraction).grid;
        const auto& wavelength = on.truth.wavelength;
        const auto first = std::find(wavelength.begin(), wavelength.end(), options.grid.wmin);
        QVERIFY(wavelength.end() - first >= grid.nwave);
        for (int k = 0; k < grid.nwave; ++k) // the extraction's grid is rounded as numpy.arange is
            QVERIFY(std::abs(first[k] - grid.outputWavelength(k)) < 1e-9);
        QVERIFY(on.truth.wavelength.front() < options.grid.wmin - 5.0);

        options.truthOnGrid = false;
        const SimulatedFrame off = simulateFrame(psf, options);
        QVERIFY(std::abs(off.truth.step - 0.2) < 1e-12);
        for (const double wave : off.truth.wavelength) {
            const double bins = (wave - options.grid.wmin) / options.grid.dw;
            QVERIFY(std::abs(bins - std::round(bins)) > 0.1);
        }
        // [O I] 6300.304 in air is at 6302.05 in vacuum, to half a step of the truth's grid.
        const auto row = off.truth.flux.row(0);
        const std::size_t peak = static_cast<std::size_t>(std::max_element(row.begin(), row.end()) - row.begin());
        QVERIFY(std::abs(off.truth.wavelength[peak] - 6302.05) < 0.11);
    }

    void deadFibersAreDarkAndLabelled() {
        const Psf psf = makePsf(smallInstrument());
        FrameOptions options = frameOptions(psf);
        options.deadFibers = 1;
        options.skyFibers = 3;
        const SimulatedFrame frame = simulateFrame(psf, options);
        const std::vector<std::string> types = frame.image.fibermap->texts("OBJTYPE");
        const std::vector<std::int64_t> status = frame.image.fibermap->integers("FIBERSTATUS");
        const std::vector<std::int64_t> ids = frame.image.fibermap->integers("TARGETID");
        QCOMPARE(std::count(types.begin(), types.end(), "BAD"), std::ptrdiff_t{1});
        QCOMPARE(std::count(types.begin(), types.end(), "SKY"), std::ptrdiff_t{3});
        for (std::size_t s = 0; s < types.size(); ++s) {
            const auto flux = frame.truth.flux.row(s);
            const double most = *std::max_element(flux.begin(), flux.end());
            QCOMPARE(most == 0.0, types[s] == "BAD");
            QCOMPARE(status[s] != 0, types[s] == "BAD");
            QVERIFY(ids[s] > (std::int64_t{1} << 53));
        }
        QVERIFY(std::adjacent_find(ids.begin(), ids.end()) == ids.end());
    }

    /// b, r and z of a spectrograph look at the same targets.
    void armsShareTargets() {
        const Psf r = makePsf(smallInstrument("r0"));
        InstrumentOptions other = smallInstrument("z0");
        other.waveCentre = 8430.0;
        const Psf z = makePsf(other);
        FrameOptions options = frameOptions(r);
        const SimulatedFrame red = simulateFrame(r, options);
        options.camera = parseCamera("z0", "camera");
        options.grid = defaultWavelengthRange(z, 'z');
        const SimulatedFrame infrared = simulateFrame(z, options);
        QVERIFY(red.image.fibermap->bytes == infrared.image.fibermap->bytes);
        QVERIFY(red.image.pixels != infrared.image.pixels);
    }

    void airWavelengthsBecomeVacuumWavelengths() {
        // H alpha and [O III]: NIST lists both, air and vacuum.
        QVERIFY(std::abs(vacuumWavelength(6562.79) - 6564.60) < 0.01);
        QVERIFY(std::abs(vacuumWavelength(5006.843) - 5008.240) < 0.002);
        double previous = 0.0;
        for (const SkyLine& line : skyLines()) {
            QVERIFY(line.airWavelength > previous && line.strength > 0.0);
            previous = line.airWavelength;
        }
    }

    void badOptionsAreNamed_data() {
        QTest::addColumn<QString>("option");
        for (const char* option : {"nspec", "bundlesize", "nx", "ny", "fiber-spacing", "bundle-gap", "pixel-scale",
                                   "wave-centre", "hsizex", "hsizey", "ghdeg", "legdeg", "tracedeg", "tail"})
            QTest::addRow("%s", option) << option;
    }

    void badOptionsAreNamed() {
        QFETCH(QString, option);
        InstrumentOptions o;
        o.nspec = option == "nspec" ? -1 : 10;
        if (option == "bundlesize") o.bundlesize = 0;
        if (option == "nx") o.nx = 60;
        if (option == "ny") o.ny = -4;
        if (option == "fiber-spacing") o.fiberSpacing = std::nan("");
        if (option == "bundle-gap") o.bundleGap = -1.0;
        if (option == "pixel-scale") o.pixelScale = -0.5;
        if (option == "wave-centre") o.waveCentre = 100.0;
        if (option == "hsizex") o.hsizeX = 40;
        if (option == "hsizey") o.hsizeY = 0;
        if (option == "ghdeg") o.hermiteDegree = 16;
        if (option == "legdeg") o.legendreDegree = -1;
        if (option == "tracedeg") o.traceDegree = 2;
        if (option == "tail") o.tail = 1.0;
        const std::string message = usageError([&] { (void)completed(o); });
        QVERIFY2(message.find("--" + option.toStdString() + " ") != std::string::npos, message.c_str());
    }

    void badFrameOptionsAreNamed_data() {
        QTest::addColumn<QString>("option");
        for (const char* option : {"exptime", "readnoise", "sky-scale", "object-scale", "unmasked-cosmics",
                                   "saturation", "expid", "sky-fibers", "night"})
            QTest::addRow("%s", option) << option;
    }

    void badFrameOptionsAreNamed() {
        QFETCH(QString, option);
        const Psf psf = makePsf(smallInstrument());
        FrameOptions o = frameOptions(psf);
        if (option == "exptime") o.exptime = 0.0;
        if (option == "readnoise") o.readnoise = std::nan("");
        if (option == "sky-scale") o.skyScale = -1.0;
        if (option == "object-scale") o.objectScale = -1.0;
        if (option == "unmasked-cosmics") o.unmaskedCosmics = 1.5;
        if (option == "saturation") o.saturation = -1.0;
        if (option == "expid") o.expid = -1;
        if (option == "sky-fibers") o.skyFibers = 11;
        if (option == "night") o.night = 20251332;
        const std::string message = usageError([&] { (void)simulateFrame(psf, o); });
        QVERIFY2(message.find("--" + option.toStdString() + " ") != std::string::npos, message.c_str());
    }

    void filesRepeatByteForByte() {
        const Psf psf = makePsf(smallInstrument());
        FrameOptions options = frameOptions(psf);
        const SimulatedFrame one = simulateFrame(psf, options);
        options.threads = 2;
        const SimulatedFrame two = simulateFrame(psf, options);
        writePsf("one-psf.fits", psf);
        writeTruth("one-truth.fits.gz", one.truth);
        writeCcdImage("one.fits", one.image);
        writeCcdImage("one.fits.gz", one.image);
        QTest::qSleep(1100); // a time of day in a file would have changed by now
        writePsf("two-psf.fits", psf);
        writeTruth("two-truth.fits.gz", two.truth);
        writeCcdImage("two.fits", two.image);
        writeCcdImage("two.fits.gz", two.image);
        for (const char* name : {"-psf.fits", "-truth.fits.gz", ".fits", ".fits.gz"}) {
            const QByteArray first = contents(QString("one%1").arg(name));
            QVERIFY(!first.isEmpty());
            QVERIFY2(first == contents(QString("two%1").arg(name)), name);
        }
    }

    void psfComesBackFromItsFile() {
        const Psf psf = makePsf(smallInstrument());
        writePsf("back-psf.fits", psf);
        const Psf back = readPsf("back-psf.fits");
        QCOMPARE(back.nspec, psf.nspec);
        QCOMPARE(back.nx, psf.nx);
        QCOMPARE(back.ny, psf.ny);
        std::vector<double> a(static_cast<std::size_t>(psf.view().stampX() * psf.view().stampY()));
        std::vector<double> b(a.size());
        for (int s = 0; s < psf.nspec; ++s) {
            int ax = 0, ay = 0, bx = 0, by = 0;
            evaluateSpot(psf.view(), s, 6320.0 + s, true, a.data(), ax, ay);
            evaluateSpot(back.view(), s, 6320.0 + s, true, b.data(), bx, by);
            QCOMPARE(ax, bx);
            QCOMPARE(ay, by);
            for (std::size_t p = 0; p < a.size(); ++p) QVERIFY(std::abs(a[p] - b[p]) < 1e-15);
        }
    }
};

QTEST_APPLESS_MAIN(TestSimulatedFrame)
#include "TestSimulatedFrame.moc"
