#include "core/base/Error.h"
#include "core/engine/Plan.h"
#include "core/io/FitsHeader.h"
#include "tests/support/SmallExposure.h"

#include <QObject>
#include <QTest>

#include <algorithm>
#include <numeric>

using namespace patchlight;

class TestPlan : public QObject {
    Q_OBJECT

private slots:
    void gridHoldsTheLastWavelength() {
        const auto t = test::smallExposure(5, 5);
        ExtractionOptions options;
        options.wavelength = WavelengthRange{6640, 6740, 0.8}; // 125 steps exactly
        QCOMPARE(makePlan(t.psf, options).grid.nwave, 126);
        options.wavelength = WavelengthRange{6640, 6740.3, 0.8}; // 6740.3 + 0.4 >= 6740.0, < 6740.8
        QCOMPARE(makePlan(t.psf, options).grid.nwave, 126);
        options.wavelength = WavelengthRange{6640, 6740.41, 0.8}; // 6740.8 <= 6740.81
        QCOMPARE(makePlan(t.psf, options).grid.nwave, 127);
        options.wavelength = WavelengthRange{6640, 6640, 0.8};
        const Plan one = makePlan(t.psf, options);
        QCOMPARE(one.grid.nwave, 1);
        QCOMPARE(one.grid.pad, 12); // 10 + int(10 * 0.2)
        QCOMPARE(one.nsteps, 1);
        QCOMPARE(one.grid.nbins(), 1 + 2 * 12 + 50);
    }

    void barycentricFactorScalesWhatThePsfSees() {
        const auto t = test::smallExposure(5, 5);
        ExtractionOptions options;
        options.wavelength = WavelengthRange{6640, 6740, 0.8};
        const Plan plan = makePlan(t.psf, options, 0.9999);
        QCOMPARE(plan.grid.outputWavelength(3), 6642.4);
        QVERIFY(std::abs(plan.grid.wavelength(plan.grid.pad + 3) - 6642.4 / 0.9999) < 1e-9);
        QVERIFY(std::abs(plan.grid.step() - 0.8 / 0.9999) < 1e-12);
    }

    void bundlesAreSplitEvenlyWithLargePartsOutside_data() {
        QTest::addColumn<int>("count");
        QTest::addColumn<int>("parts");
        QTest::addColumn<QList<int>>("sizes");
        QTest::newRow("25/5") << 25 << 5 << QList<int>{5, 5, 5, 5, 5};
        QTest::newRow("25/6") << 25 << 6 << QList<int>{5, 4, 4, 4, 4, 4};
        QTest::newRow("25/4") << 25 << 4 << QList<int>{7, 6, 6, 6};
        QTest::newRow("25/3") << 25 << 3 << QList<int>{9, 8, 8};
        QTest::newRow("25/9") << 25 << 9 << QList<int>{3, 3, 3, 3, 3, 3, 2, 2, 3};
        QTest::newRow("24/5") << 24 << 5 << QList<int>{5, 5, 5, 4, 5};
        QTest::newRow("25/25") << 25 << 25 << QList<int>(25, 1);
        QTest::newRow("3/5") << 3 << 5 << QList<int>{1, 1, 1};
        QTest::newRow("25/1") << 25 << 1 << QList<int>{25};
    }
    void bundlesAreSplitEvenlyWithLargePartsOutside() {
        QFETCH(int, count);
        QFETCH(int, parts);
        QFETCH(QList<int>, sizes);
        const std::vector<int> got = splitBundle(count, parts);
        QCOMPARE(QList<int>(got.begin(), got.end()), sizes);
        QCOMPARE(std::accumulate(got.begin(), got.end(), 0), count);
        // With padding (one spectrum less at the edges) sizes differ by at most 1 wherever that is possible.
        std::vector<int> padded = got;
        for (std::size_t i = 0; i < padded.size(); ++i) padded[i] += (i > 0 ? 1 : 0) + (i + 1 < padded.size() ? 1 : 0);
        const auto [low, high] = std::minmax_element(padded.begin(), padded.end());
        if (count % parts != 0 && count > parts) QVERIFY(*high - *low <= 1);
    }

    void everySpectrumBelongsToOneSubbundleOfItsBundle() {
        const auto t = test::smallExposure(12, 5); // bundles of 5, 5 and 2
        for (const int specmin : {0, 3, 7}) {
            for (const int nspec : {1, 2, 5}) {
                for (const int nsubbundles : {1, 2, 3, 5}) {
                    ExtractionOptions options;
                    options.wavelength = t.range;
                    options.bundlesize = 5;
                    options.specmin = specmin;
                    options.nspec = nspec;
                    options.nsubbundles = nsubbundles;
                    const Plan plan = makePlan(t.psf, options);
                    for (int s = specmin; s < specmin + nspec; ++s) {
                        int owners = 0;
                        for (const Subbundle& sub : plan.subbundles) {
                            owners += sub.core.contains(s) ? 1 : 0;
                            QCOMPARE(sub.core.first / 5, sub.bundle);
                            QCOMPARE((sub.core.last - 1) / 5, sub.bundle);
                            QVERIFY(sub.padded.first >= sub.bundle * 5);
                            QVERIFY(sub.padded.last <= std::min(12, (sub.bundle + 1) * 5));
                            QCOMPARE(sub.padded.first, std::max(sub.bundle * 5, sub.core.first - 1));
                            QCOMPARE(sub.padded.last, std::min({12, (sub.bundle + 1) * 5, sub.core.last + 1}));
                        }
                        QCOMPARE(owners, 1);
                        QVERIFY(plan.patchAt(s, 0).core.contains(s));
                    }
                }
            }
        }
    }

    void bundlesFollowTheFiberNumbers() {
        auto t = test::smallExposure(10, 5);
        t.psf.fibermin = 503; // fibers 503-504 end a bundle of 5, 505-509 are one, 510-512 begin one
        ExtractionOptions options;
        options.wavelength = t.range;
        options.bundlesize = 5;
        options.nsubbundles = 1;
        const Plan plan = makePlan(t.psf, options);
        QCOMPARE(plan.subbundles.size(), std::size_t(3));
        QVERIFY((plan.subbundles[0].core == IndexRange{0, 2}));
        QVERIFY((plan.subbundles[1].core == IndexRange{2, 7}));
        QVERIFY((plan.subbundles[2].core == IndexRange{7, 10}));
    }

    void batchesCoverEveryPatchOnce() {
        const auto t = test::smallExposure(10, 5);
        ExtractionOptions options;
        options.wavelength = t.range;
        options.bundlesize = 5;
        options.nsubbundles = 2;
        options.nwavestep = 10;
        const Plan plan = makePlan(t.psf, options);
        for (int steps = 1; steps <= plan.nsteps + 1; ++steps) {
            std::vector<int> seen(static_cast<std::size_t>(plan.patchCount()), 0);
            for (const Batch& batch : makeBatches(plan, steps)) {
                for (int sub = batch.subbundles.first; sub < batch.subbundles.last; ++sub) {
                    QCOMPARE(plan.subbundles[static_cast<std::size_t>(sub)].bundle,
                             plan.subbundles[static_cast<std::size_t>(batch.subbundles.first)].bundle);
                    for (int step = batch.steps.first; step < batch.steps.last; ++step)
                        ++seen[static_cast<std::size_t>(sub * plan.nsteps + step)];
                }
            }
            QVERIFY(std::all_of(seen.begin(), seen.end(), [](int count) { return count == 1; }));
        }
    }

    void theLastPatchKeepsOnlyWavelengthsThatExist() {
        const auto t = test::smallExposure(5, 5);
        ExtractionOptions options;
        options.bundlesize = 5;
        options.wavelength = WavelengthRange{6650, 6650 + 0.8 * 62, 0.8}; // 63 wavelengths
        const Plan plan = makePlan(t.psf, options);
        QCOMPARE(plan.nsteps, 2);
        const Patch last = plan.patch(0, 1);
        QCOMPARE(last.coreBins.count(), 50);
        QCOMPARE(last.keepBins.count(), 13);
        QCOMPARE(last.bins.count(), 74);
        QVERIFY(last.bins.last <= plan.grid.nbins());
    }

    void nonsenseIsRefused_data() {
        QTest::addColumn<QString>("option");
        QTest::addColumn<QString>("value");
        QTest::addColumn<QString>("message");
        QTest::newRow("dw 0") << "wavelength"
                              << "6600,6700,0"
                              << "dw above 0";
        QTest::newRow("dw negative") << "wavelength"
                                     << "6600,6700,-0.8"
                                     << "dw above 0";
        QTest::newRow("two numbers") << "wavelength"
                                     << "6600,6700"
                                     << "three numbers";
        QTest::newRow("words") << "wavelength"
                               << "all of it"
                               << "Angstrom";
        QTest::newRow("upside down") << "wavelength"
                                     << "6700,6600,0.8"
                                     << "wmin <= wmax";
        QTest::newRow("nan") << "wavelength"
                             << "nan,6600,0.8"
                             << "Angstrom";
        QTest::newRow("too many") << "wavelength"
                                  << "6600,6700,1e-9"
                                  << "a million";
        QTest::newRow("specmin") << "specmin"
                                 << "-1"
                                 << "--specmin";
        QTest::newRow("nspec") << "nspec"
                               << "ten"
                               << "--nspec";
        QTest::newRow("nwavestep") << "nwavestep"
                                   << "0"
                                   << "--nwavestep";
        QTest::newRow("wavepad") << "wavepad"
                                 << "-2"
                                 << "--wavepad";
        QTest::newRow("pixpad") << "pixpad-frac"
                                << "1.5"
                                << "from 0 to 1";
        QTest::newRow("psferr") << "psferr"
                                << "-0.01"
                                << "--psferr";
        QTest::newRow("psferr inf") << "psferr"
                                    << "inf"
                                    << "--psferr";
        QTest::newRow("regularize") << "regularize"
                                    << "-1"
                                    << "--regularize";
        QTest::newRow("decorrelate") << "decorrelate"
                                     << "both"
                                     << "signal or noise";
        QTest::newRow("integer overflow") << "bundlesize"
                                          << "99999999999"
                                          << "--bundlesize";
        QTest::newRow("trailing") << "nspec"
                                  << "25x"
                                  << "25x";
    }
    void nonsenseIsRefused() {
        QFETCH(QString, option);
        QFETCH(QString, value);
        QFETCH(QString, message);
        ExtractionOptions options;
        try {
            findOption(option.toStdString()).set(options, value.toStdString());
            QFAIL("accepted");
        } catch (const UsageError& error) {
            QVERIFY2(QString(error.what()).contains(message), error.what());
            QVERIFY2(QString(error.what()).contains("--" + option), error.what());
        }
    }

    void optionsSurviveTextBothWays() {
        for (const OptionSpec& spec : optionTable()) {
            ExtractionOptions options;
            const std::string before = spec.get(options);
            if (before.empty()) continue;
            ExtractionOptions copy;
            spec.set(copy, before);
            QCOMPARE(spec.get(copy), before);
        }
        ExtractionOptions options;
        findOption("decorrelate").set(options, "noise");
        findOption("no-psf-tail").set(options, "true");
        findOption("psferr").set(options, "0.04");
        findOption("wavelength").set(options, "5760,7620,0.8");
        QVERIFY(options.decorrelate == Decorrelate::Noise);
        QVERIFY(!options.psfTail);
        QCOMPARE(*options.psferr, 0.04);
        QCOMPARE(findOption("wavelength").get(options), std::string("5760,7620,0.8"));
    }

    void optionsReachTheHeader() {
        ExtractionOptions options;
        options.nsubbundles = 3;
        options.decorrelate = Decorrelate::Noise;
        FitsHeader header;
        writeOptions(header, options);
        QCOMPARE(*header.integer("NSUBBUN"), 3);
        QCOMPARE(*header.text("DECORREL"), std::string("noise"));
        QCOMPARE(*header.number("PPADFRAC"), 0.8);
        for (const OptionSpec& spec : optionTable()) QVERIFY2(spec.keyword.size() <= 8, spec.keyword.c_str());
    }

    void whatThePsfDoesNotHoldIsRefused() {
        const auto t = test::smallExposure(5, 5);
        ExtractionOptions options;
        options.wavelength = t.range;
        options.specmin = 5;
        QVERIFY_EXCEPTION_THROWN((void)makePlan(t.psf, options), UsageError);
        options.specmin = 3;
        options.nspec = 3;
        QVERIFY_EXCEPTION_THROWN((void)makePlan(t.psf, options), UsageError);
        options.nspec = 2;
        QCOMPARE(makePlan(t.psf, options).nspec, 2);
        options.nsubbundles = 26;
        QVERIFY_EXCEPTION_THROWN((void)makePlan(t.psf, options), UsageError);
        options = {};
        options.wavelength = WavelengthRange{t.psf.wavemin() - 5.1, t.psf.wavemin() + 10, 0.8};
        QVERIFY_EXCEPTION_THROWN((void)makePlan(t.psf, options), Error);
        options.wavelength->wmin = t.psf.wavemin() - 4.9;
        QVERIFY(makePlan(t.psf, options).grid.nwave > 0);
    }
};

QTEST_APPLESS_MAIN(TestPlan)
#include "TestPlan.moc"
