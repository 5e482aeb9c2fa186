#include "app/batch/FrameList.h"
#include "app/batch/Protocol.h"
#include "app/batch/SlurmScript.h"
#include "core/base/Error.h"

#include <QTest>

#include <algorithm>
#include <string>
#include <vector>

using namespace patchlight;
using namespace patchlight::batch;

namespace {

template <class Call> std::string failure(const Call& call) {
    try {
        call();
    } catch (const Error& error) {
        return error.what();
    }
    return {};
}

bool has(const std::string& text, const std::string& word) { return text.find(word) != std::string::npos; }

} // namespace

class TestFrameList : public QObject {
    Q_OBJECT

private slots: // NOLINT
    void csv();
    void csvFaults();
    void json();
    void jsonFaults();
    void cameras();
    void exposures();
    void templates();
    void ordersKeepTheirOptions();
    void partsCoverAllSpectraOnce();
    void slurm();
};

void TestFrameList::csv() {
    ExtractionOptions defaults;
    defaults.bundlesize = 5;
    defaults.nsubbundles = 5;
    const auto frames = parseCsvManifest("\xEF\xBB\xBFoutput,image,psf,wavelength,no-psf-tail\r\n"
                                         "# of no interest\r\n"
                                         "\r\n"
                                         "a.fits, b.fits ,\"c, \"\"d\"\".fits\",\"6000,6100,0.8\",true\r\n"
                                         "e.fits,f.fits,g.fits,,",
                                         "list.csv", defaults);
    QCOMPARE(frames.size(), std::size_t{2});
    QCOMPARE(frames[0].output, std::string("a.fits"));
    QCOMPARE(frames[0].image, std::string("b.fits"));
    QCOMPARE(frames[0].psf, std::string("c, \"d\".fits"));
    QCOMPARE(frames[0].options.wavelength->wmax, 6100.0);
    QVERIFY(!frames[0].options.psfTail);
    QCOMPARE(frames[0].options.bundlesize, 5);
    QVERIFY(!frames[1].options.wavelength);
    QVERIFY(frames[1].options.psfTail);
}

void TestFrameList::csvFaults() {
    const auto said = [](const std::string& text) {
        return failure([&] { (void)parseCsvManifest(text, "list.csv", {}); });
    };
    QVERIFY(has(said(""), "empty"));
    QVERIFY(has(said("image,psf,output,output\n"), "twice"));
    QVERIFY(has(said("image,psf,out\n"), "'out'"));
    QVERIFY(has(said("image,psf,output\na,b,c\nd,e\n"), "line 3"));
    QVERIFY(has(said("image,psf,output\na,,c\n"), "'psf'"));
    QVERIFY(has(said("image,psf,output,nwavestep\na,b,c,0\n"), "nwavestep"));
    QVERIFY(has(said("image,psf,output,bundlesize\na,b,c,2\n"), "nsubbundles"));
    QVERIFY(has(said("image,psf,output\n\"a,b,c\nd,e,f\n"), "line 2"));
    QVERIFY(has(said("image,psf,output\n\"a\nb\",b,c\nd,e\n"), "line 4")); // a name with an end of line in it
}

void TestFrameList::json() {
    for (
        const char* text :
        {R"([{"image": "a", "psf": "b", "output": "c", "nspec": 5, "no-scores": true, "psferr": 0.03, "wavelength": "6000,6100,1"}])",
         R"({"frames": [{"image": "a", "psf": "b", "output": "c", "nspec": "5", "no-scores": "true", "psferr": 3e-2, "wavelength": "6000,6100,1", "model": null}]})"}) {
        const auto frames = parseJsonManifest(text, "list.json", {});
        QCOMPARE(frames.size(), std::size_t{1});
        QCOMPARE(frames[0].options.nspec, 5);
        QCOMPARE(*frames[0].options.psferr, 0.03);
        QVERIFY(!frames[0].options.scores);
        QCOMPARE(frames[0].options.wavelength->dw, 1.0);
        QVERIFY(frames[0].model.empty());
    }
}

void TestFrameList::jsonFaults() {
    const auto said = [](const std::string& text) {
        return failure([&] { (void)parseJsonManifest(text, "list.json", {}); });
    };
    QVERIFY(has(said("[{"), "not JSON"));
    QVERIFY(has(said("{}"), "\"frames\""));
    QVERIFY(has(said("3"), "list"));
    QVERIFY(has(said("[3]"), "frame 0"));
    QVERIFY(has(said(R"([{"image": "a", "psf": "b", "output": "c"}, {"image": "a"}])"), "frame 1"));
    QVERIFY(has(said(R"([{"image": 3}])"), "'image'"));
    QVERIFY(has(said(R"([{"picture": "a"}])"), "'picture'"));
    QVERIFY(has(said(R"([{"nspec": [1]}])"), "'nspec'"));
    QVERIFY(has(said(R"([{"image": "a", "psf": "b", "output": "c", "nspec": 1.5}])"), "nspec"));
}

void TestFrameList::cameras() {
    QCOMPARE(parseCameras("b0,r3,z9"), (std::vector<std::string>{"b0", "r3", "z9"}));
    QCOMPARE(parseCameras("a1b23"), (std::vector<std::string>{"b1", "r1", "z1", "b2", "b3"}));
    QCOMPARE(parseCameras("r0,a0"), (std::vector<std::string>{"r0", "b0", "z0"}));
    QCOMPARE(parseCameras("a0123456789").size(), std::size_t{30});
    for (const char* text : {"", "b", "0", "q1", "b1,,r", "b1;r1", "b0r"})
        QVERIFY(has(failure([&] { (void)parseCameras(text); }), "--cameras"));
}

void TestFrameList::exposures() {
    QCOMPARE(parseExposures("7,3-5,4"), (std::vector<long>{7, 3, 4, 5}));
    for (const char* text : {"", "x", "5-3", "1,", "-3", "1-", "999999999", "0-99999999"})
        QVERIFY(has(failure([&] { (void)parseExposures(text); }), "--expid"));
}

void TestFrameList::templates() {
    const std::string image = "in/preproc-r0-00051060.fits.gz";
    QCOMPARE(fillTemplate("{dir}/psf-{id}.fits", image, "--psf"), std::string("in/psf-r0-00051060.fits"));
    QCOMPARE(fillTemplate("out/{expid}/{camera}/{name}.x", image, "--output"),
             std::string("out/00051060/r0/preproc-r0-00051060.x"));
    QCOMPARE(fillTemplate("{dir}/{id}", "plain.fits", "--output"), std::string("./plain"));
    QVERIFY(has(failure([&] { (void)fillTemplate("{camera}", "plain.fits", "--psf"); }), "camera"));
    QVERIFY(has(failure([&] { (void)fillTemplate("{nome}", image, "--psf"); }), "{nome}"));
    QVERIFY(has(failure([&] { (void)fillTemplate("{id", image, "--psf"); }), "--psf"));
}

void TestFrameList::ordersKeepTheirOptions() {
    Order order;
    order.task.image = "a\xff\xfe.fits"; // a path that is no UTF-8
    order.task.options.wavelength = WavelengthRange{5760.1, 7620.123456789012, 0.1 + 0.2};
    order.task.options.psferr = 1.0 / 3.0;
    order.task.options.scores = false;
    order.task.options.decorrelate = Decorrelate::Noise;
    order.task.options.wavepadFrac = 0.1;
    order.reason = "why not";
    Order copy;
    unpack(pack(order), copy);
    QCOMPARE(copy.task.image, order.task.image);
    QCOMPARE(copy.reason, order.reason);
    for (const OptionSpec& spec : optionTable()) QCOMPARE(spec.get(copy.task.options), spec.get(order.task.options));
    QCOMPARE(copy.task.options.wavelength->wmax, order.task.options.wavelength->wmax);
    QCOMPARE(copy.task.options.wavelength->dw, order.task.options.wavelength->dw);
    QCOMPARE(*copy.task.options.psferr, *order.task.options.psferr);
}

void TestFrameList::partsCoverAllSpectraOnce() {
    for (const int specmin : {0, 3, 26})
        for (const int nspec : {1, 24, 100, 474})
            for (const int parts : {1, 2, 3, 7, 19, 20, 21, 64, 200}) {
                Plan plan;
                plan.specmin = specmin;
                plan.nspec = nspec;
                for (int bundle = 0; bundle < 20; ++bundle)
                    for (int sub = 0; sub < 5; ++sub) {
                        const int first = bundle * 25 + sub * 5;
                        if (first + 5 <= specmin || first >= specmin + nspec) continue;
                        plan.subbundles.push_back(
                            {bundle, {bundle * 25, (bundle + 1) * 25}, {first, first + 5}, {first, first + 5}});
                    }
                int next = specmin;
                int used = 0;
                for (int part = 0; part < parts; ++part) {
                    const IndexRange spectra = partSpectra(plan, part, parts);
                    QCOMPARE(spectra.first, next);
                    QVERIFY(spectra.last >= spectra.first);
                    next = spectra.last;
                    if (spectra.empty()) continue;
                    ++used;
                    QVERIFY(spectra.first == specmin || spectra.first % 5 == 0); // whole subbundles
                    if (parts <= nspec / 25 - 1) QVERIFY(spectra.first == specmin || spectra.first % 25 == 0);
                }
                QCOMPARE(next, specmin + nspec);
                QCOMPARE(used, std::min(parts, used));
                if (parts <= static_cast<int>(plan.subbundles.size())) QCOMPARE(used, parts);
            }
}

void TestFrameList::slurm() {
    SlurmSettings settings;
    settings.time = "01:00:00";
    settings.arguments = {"--images", "in/preproc-*.fits", "it's"};
    settings.ranksPerNode = 16;
    settings.gpusPerNode = 4;
    settings.account = "desi";
    std::string script = slurmScript(settings);
    for (const char* line : {"#SBATCH --account=desi\n", "#SBATCH --gpus-per-node=4\n", "#SBATCH --signal=USR1@300\n",
                             "nvidia-cuda-mps-control -f", "--images 'in/preproc-*.fits' 'it'\\''s'\n"})
        QVERIFY2(has(script, line), script.c_str());
    settings.ranksPerNode = 4;
    QVERIFY(!has(slurmScript(settings), "mps"));
    settings.ranksPerNode = 2;
    QVERIFY(has(failure([&] { (void)slurmScript(settings); }), "--ranks-per-node"));
    settings.gpusPerNode = 0;
    settings.launcher = "mpirun";
    script = slurmScript(settings);
    QVERIFY(has(script, "#SBATCH --signal=B:USR1@300\n"));
    settings.account = "two words";
    QVERIFY(has(failure([&] { (void)slurmScript(settings); }), "--account"));
    settings.account.clear();
    for (const char* time : {"soon", "", "1:2:3:4", "1-", "1-2-3", "-1", "00:00:00:00"}) {
        settings.time = time;
        QVERIFY2(has(failure([&] { (void)slurmScript(settings); }), "--time"), time);
    }
    for (const char* time : {"5", "5:00", "00:05:00"}) { // a warning of 300 s before the end
        settings.time = time;
        QVERIFY2(has(failure([&] { (void)slurmScript(settings); }), "--warning"), time);
    }
    for (const char* time : {"6", "5:01", "00:05:01", "1-0", "0-1:00", "0-00:06:00"}) {
        settings.time = time;
        QVERIFY2(failure([&] { (void)slurmScript(settings); }).empty(), time);
    }
    QCOMPARE(estimatedTime(1000, 1000, 1), std::string("01:25:00"));
    QCOMPARE(estimatedTime(96000, 1000, 2), std::string("60:10:00"));
}

QTEST_APPLESS_MAIN(TestFrameList)
#include "TestFrameList.moc"
