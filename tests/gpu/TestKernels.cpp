#include "core/engine/Engine.h"
#include "core/psf/GaussHermite.h"
#include "gpu/DeviceBackend.h"
#include "gpu/kernels/AnyKernel.h"
#include "tests/gpu/Devices.h"
#include "tests/support/NaiveExtraction.h"
#include "tests/support/Sanitizers.h"
#include "tests/support/SmallExposure.h"

#include <QObject>
#include <QTest>

#include <cmath>
#include <cstring>
#include <map>
#include <mutex>
#include <vector>

using namespace patchlight;
using gpu::BatchView;

namespace {

std::size_t size(int count) { return static_cast<std::size_t>(count); }

/// What a batch left on the device, brought home.
struct Snapshot {
    BatchView v;
    std::vector<double> stamps, spotSum, own, next, second, y, fluxweight, unmasked;
    std::vector<double> patchOwn, patchNext, patchY, patchWeight, x, rowSum, qx, q, condition;
    std::vector<int> cornerX, cornerY;
    std::vector<gpu::PatchTask> tasks;
    std::vector<gpu::PatchState> states;
};

template <class T> std::vector<T> fetch(gpu::Device& device, gpu::Stream& stream, const T* from, std::size_t count) {
    const auto memory = device.allocatePinned(count * sizeof(T));
    stream.copyOut(memory->data(), reinterpret_cast<const std::byte*>(from), count * sizeof(T));
    stream.wait(nullptr, {});
    std::vector<T> out(count);
    std::memcpy(out.data(), memory->data(), count * sizeof(T));
    return out;
}

/// Runs a frame and keeps what each batch left.
class Recorder {
public:
    explicit Recorder(std::unique_ptr<gpu::Device> device) {
        gpu::DeviceBackendOptions options;
        options.observer = [this](const BatchView& v, gpu::Device& d, gpu::Stream& s) {
            const std::size_t spots = size(v.nspec) * size(v.nbins);
            const std::size_t bins = size(v.patches) * size(v.maxSpec) * size(v.maxWave);
            Snapshot one;
            one.v = v;
            one.stamps = fetch(d, s, v.stamps, spots * size(v.stampStride));
            one.spotSum = fetch(d, s, v.spotSum, spots);
            one.own = fetch(d, s, v.own, spots * size(v.ownWidth));
            one.next = fetch(d, s, v.next, spots * size(v.nextWidth()));
            one.second = fetch(d, s, v.second, spots);
            one.y = fetch(d, s, v.y, spots);
            one.fluxweight = fetch(d, s, v.fluxweight, spots);
            one.unmasked = fetch(d, s, v.unmasked, spots);
            one.cornerX = fetch(d, s, v.cornerX, spots);
            one.cornerY = fetch(d, s, v.cornerY, spots);
            one.patchOwn = fetch(d, s, v.patchOwn, bins * size(v.ownWidth));
            one.patchNext = fetch(d, s, v.patchNext, bins * size(v.nextWidth()));
            one.patchY = fetch(d, s, v.patchY, bins);
            one.patchWeight = fetch(d, s, v.patchWeight, bins);
            one.x = fetch(d, s, v.x, bins);
            one.rowSum = fetch(d, s, v.rowSum, bins);
            one.qx = fetch(d, s, v.qx, bins);
            one.q = fetch(d, s, v.q, bins * size(v.ndiag + 1));
            one.tasks = fetch(d, s, v.tasks, size(v.patches));
            one.states = fetch(d, s, v.states, size(v.patches));
            const std::lock_guard lock(mutex_);
            snapshots.push_back(std::move(one));
        };
        backend_ = gpu::makeDeviceBackend(std::move(device), options);
    }
    void run(const test::SmallExposure& t, const Plan& plan) {
        RunControl control;
        control.threads = 1;
        (void)extractFrame(*backend_, t.pixels.view(), t.psf, plan, control);
    }
    std::vector<Snapshot> snapshots;

private:
    std::mutex mutex_;
    std::unique_ptr<Backend> backend_;
};

/// The largest |got - want|, and of |want|; NaN counts as infinite.
struct Worst {
    double difference = 0;
    double scale = 0;
    void add(double got, double want) {
        const double d = std::abs(got - want);
        if (!(d <= difference)) difference = std::isnan(d) ? HUGE_VAL : d;
        scale = std::max(scale, std::abs(want));
    }
    [[nodiscard]] double relative() const { return scale > 0 ? difference / scale : difference; }
};

ExtractionOptions smallOptions(const WavelengthRange& range) {
    ExtractionOptions options;
    options.wavelength = range;
    options.bundlesize = 5;
    options.nsubbundles = 2;
    options.nwavestep = 25;
    return options;
}

void addDeviceRows() {
    QTest::addColumn<QString>("device");
    for (const char* name : test::deviceNames) QTest::newRow(name) << name;
}

/// Adds up A_i w A_j over the CCD, pixel by pixel.
class NaiveSums {
public:
    NaiveSums(const CcdView& ccd, const PsfView& psf, const Plan& plan, const Snapshot& snapshot)
        : ccd_(ccd), nx_(psf.stampX()), ny_(psf.stampY()) {
        const int first = plan.patch(0, 0).bins.first;
        for (int s = 0; s < snapshot.v.nspec; ++s)
            for (int i = 0; i < snapshot.v.nbins; ++i) {
                Spot spot;
                spot.stamp.resize(size(nx_ * ny_));
                evaluateSpot(psf, snapshot.v.firstSpectrum + s, plan.grid.wavelength(first + i), plan.options.psfTail,
                             spot.stamp.data(), spot.x, spot.y);
                spots_.push_back(std::move(spot));
            }
    }
    [[nodiscard]] double product(std::size_t a, std::size_t b) const {
        double sum = 0;
        forEach(spots_[a], [&](int x, int y, double value, double weight, double) {
            sum += value * weight * at(spots_[b], x, y);
        });
        return sum;
    }
    [[nodiscard]] double y(std::size_t a) const {
        double sum = 0;
        forEach(spots_[a], [&](int, int, double value, double weight, double pixel) { sum += value * weight * pixel; });
        return sum;
    }
    [[nodiscard]] double fluxweight(std::size_t a) const {
        double sum = 0;
        forEach(spots_[a], [&](int, int, double value, double weight, double) { sum += value * weight; });
        return sum;
    }
    [[nodiscard]] double unmasked(std::size_t a) const {
        double sum = 0;
        forEach(spots_[a], [&](int, int, double value, double weight, double) { sum += weight > 0 ? value : 0; });
        return sum;
    }
    struct Spot {
        std::vector<double> stamp;
        int x = 0, y = 0;
    };
    [[nodiscard]] const Spot& spot(std::size_t i) const { return spots_[i]; }

private:
    [[nodiscard]] double at(const Spot& spot, int x, int y) const {
        const int dx = x - spot.x;
        const int dy = y - spot.y;
        return dx < 0 || dy < 0 || dx >= nx_ || dy >= ny_ ? 0.0 : spot.stamp[size(dy * nx_ + dx)];
    }
    template <class F> void forEach(const Spot& spot, const F& f) const {
        for (int p = 0; p < nx_ * ny_; ++p) {
            const int x = spot.x + p % nx_;
            const int y = spot.y + p / nx_;
            if (x < 0 || y < 0 || x >= ccd_.nx || y >= ccd_.ny) continue;
            const std::size_t pixel = size(y) * size(ccd_.nx) + size(x);
            f(x, y, spot.stamp[size(p)], static_cast<double>(ccd_.weights[pixel]),
              static_cast<double>(ccd_.pixels[pixel]));
        }
    }
    CcdView ccd_;
    int nx_, ny_;
    std::vector<Spot> spots_;
};

} // namespace

/// Each stage on each device, against the same equations written down plainly.
class TestKernels : public QObject {
    Q_OBJECT

private slots:
    /// No patch is so wide that a block would have more members than a launch may have.
    void blocksAreNotTooLarge() {
        BatchView v;
        for (v.maxWave = 1; v.maxWave < 2000; ++v.maxWave) {
            QVERIFY(gpu::DenseKernel{v}.threads() <= gpu::mostMembers && gpu::DenseKernel{v}.threads() % 32 == 0);
            QVERIFY(gpu::DenseRootsKernel{v}.threads() <= gpu::DenseRootsKernel::mostThreads);
            QVERIFY(gpu::DenseRootsKernel{v}.threads() % 32 == 0);
        }
        QVERIFY(gpu::SpotsKernel{v}.threads() <= gpu::mostMembers &&
                gpu::PixelsKernel{v}.threads() <= gpu::mostMembers);
        QVERIFY(gpu::GatherKernel{v}.threads() <= gpu::mostMembers &&
                gpu::FinishKernel{v}.threads() <= gpu::mostMembers);
    }

    void spotsAreThePsfs_data() {
        QTest::addColumn<QString>("device");
        QTest::addColumn<QString>("psf");
        for (const char* device : test::deviceNames)
            for (const char* psf :
                 {"Gauss-Hermite", "with tail", "3 x 3", "9 x 7", "without light", "two cores", "two cores and tail"})
                if (QString(device) != "threads" || test::worthwhile(psf, {"with tail"}))
                    QTest::addRow("%s, %s", device, psf) << device << psf;
    }
    void spotsAreThePsfs() {
        QFETCH(QString, device);
        QFETCH(QString, psf);
        PATCHLIGHT_DEVICE_OR_SKIP(one, device);
        auto t = test::smallExposure(5, 5, 70, 200);
        ExtractionOptions options = smallOptions(t.range);
        if (psf.endsWith("tail"))
            for (double& amplitude : t.psf.series.at("TAILAMP").coeff) amplitude += 0.01;
        if (psf.startsWith("two cores")) test::giveSecondCore(t.psf);
        if (psf == "3 x 3") t.psf.hsizeX = t.psf.hsizeY = 3;
        if (psf == "9 x 7") {
            t.psf.hsizeX = 9;
            t.psf.hsizeY = 7;
            options.wavelength->dw = 1.0; // no more bins on a row than there may be
        }
        if (psf == "without light") {
            LegendreSeries& sigma = t.psf.series.at("GHSIGX");
            for (int k = 0; k < sigma.ncoeff; ++k) sigma.coeff[size(2 * sigma.ncoeff + k)] = 0.0;
        }
        t.psf.pack();
        const Plan plan = makePlan(t.psf, options);
        Recorder recorder(std::move(one));
        recorder.run(t, plan);
        QVERIFY(!recorder.snapshots.empty());
        for (const Snapshot& snapshot : recorder.snapshots) {
            const NaiveSums naive(t.pixels.view(), t.psf.view(), plan, snapshot);
            Worst stamps;
            for (std::size_t i = 0; i < size(snapshot.v.nspec * snapshot.v.nbins); ++i) {
                QCOMPARE(snapshot.cornerX[i], naive.spot(i).x);
                QCOMPARE(snapshot.cornerY[i], naive.spot(i).y);
                double sum = 0;
                for (std::size_t p = 0; p < naive.spot(i).stamp.size(); ++p) {
                    stamps.add(snapshot.stamps[i * size(snapshot.v.stampStride) + p], naive.spot(i).stamp[p]);
                    sum += naive.spot(i).stamp[p];
                }
                QCOMPARE(snapshot.spotSum[i], sum > 0 ? 1.0 : 0.0);
            }
            QVERIFY2(stamps.difference < 1e-14, qPrintable(QString::number(stamps.difference)));
        }
    }

    void sumsAreThoseOfPixels_data() { addDeviceRows(); }
    void sumsAreThoseOfPixels() {
        QFETCH(QString, device);
        PATCHLIGHT_DEVICE_OR_SKIP(one, device);
        auto t = test::smallExposure(5, 5, 55, 150); // the CCD ends within the outer fibers' spots
        test::maskPixels(t.pixels, 20, 26, 60, 66);
        const Plan plan = makePlan(t.psf, smallOptions(t.range));
        Recorder recorder(std::move(one));
        recorder.run(t, plan);
        QCOMPARE(static_cast<int>(recorder.snapshots.size()), 1);
        const Snapshot& got = recorder.snapshots.front();
        const BatchView& v = got.v;
        const NaiveSums naive(t.pixels.view(), t.psf.view(), plan, got);
        Worst own, next, second, y, fluxweight, unmasked;
        for (int s = 0; s < v.nspec; ++s)
            for (int i = 0; i < v.nbins; i += 3) {
                const std::size_t at = v.spot(s, i);
                y.add(got.y[at], naive.y(at));
                fluxweight.add(got.fluxweight[at], naive.fluxweight(at));
                unmasked.add(got.unmasked[at], naive.unmasked(at));
                for (int d = 0; d < v.ownWidth && i + d < v.nbins; ++d)
                    own.add(got.own[at * size(v.ownWidth) + size(d)], naive.product(at, v.spot(s, i + d)));
                double most = 0;
                for (int d = -v.reach; d <= v.reach; ++d) {
                    if (i + d < 0 || i + d >= v.nbins) continue;
                    if (s + 1 < v.nspec)
                        next.add(got.next[at * size(v.nextWidth()) + size(d + v.reach)],
                                 naive.product(at, v.spot(s + 1, i + d)));
                    if (s + 2 < v.nspec) most = std::max(most, naive.product(at, v.spot(s + 2, i + d)));
                }
                second.add(got.second[at], most);
            }
        for (const Worst& worst : {own, next, second, y, fluxweight, unmasked})
            QVERIFY2(worst.relative() < 1e-13, qPrintable(QString::number(worst.relative())));
        QVERIFY(own.scale > 0 && next.scale > 0 && y.scale > 0);
    }

    void patchesAreThoseOfDenseAlgebra_data() {
        QTest::addColumn<QString>("device");
        QTest::addColumn<QString>("change");
        for (const char* device : test::deviceNames)
            for (const char* change : {"nothing", "masks", "edge", "regularize", "nwavestep 7", "one fiber each"})
                if (QString(device) != "threads" || test::worthwhile(change, {"masks"}))
                    QTest::addRow("%s, %s", device, change) << device << change;
    }
    void patchesAreThoseOfDenseAlgebra() {
        QFETCH(QString, device);
        QFETCH(QString, change);
        PATCHLIGHT_DEVICE_OR_SKIP(one, device);
        auto t = test::smallExposure(5, 5, 70, 160);
        if (change == "masks") {
            test::maskPixels(t.pixels, 20, 23, 60, 63);
            test::maskPixels(t.pixels, 0, 70, 100, 104);
        }
        if (change == "edge") {
            t.pixels.ny = 140;
            t.pixels.pixels.resize(70 * 140);
            t.pixels.weights.resize(70 * 140);
        }
        ExtractionOptions options = smallOptions(t.range);
        if (change == "regularize") options.regularize = 0.05;
        if (change == "nwavestep 7") options.nwavestep = 7;
        if (change == "one fiber each") options.nsubbundles = 5;
        const Plan plan = makePlan(t.psf, options);
        Recorder recorder(std::move(one));
        recorder.run(t, plan);
        QCOMPARE(static_cast<int>(recorder.snapshots.size()), 1);
        const Snapshot& got = recorder.snapshots.front();
        const BatchView& v = got.v;
        int solved = 0;
        for (int p = 0; p < v.patches; p += change == "nwavestep 7" ? 3 : 1) {
            const gpu::PatchTask& task = got.tasks[size(p)];
            const Patch patch = plan.patch(p / plan.nsteps, p % plan.nsteps);
            QCOMPARE(task.nspec, patch.spectra.count());
            QCOMPARE(task.nwave, patch.bins.count());
            const test::NaiveResult want =
                test::naivePatch(t.pixels.view(), t.psf.view(), plan, patch, options.regularize);
            const int n = task.nwave;
            if (got.states[size(p)].empty != 0) {
                QVERIFY(!(want.fluxweight.maxCoeff() > 0));
                continue;
            }
            Worst normal, y, weight;
            for (int s = 0; s < task.nspec; ++s)
                for (int i = 0; i < n; ++i) {
                    const int row = s * n + i;
                    const std::size_t at = v.flat(p, s, i);
                    y.add(got.patchY[at], want.y[row]);
                    weight.add(got.patchWeight[at], want.fluxweight[row]);
                    for (int d = 0; d < v.ownWidth && i + d < n; ++d)
                        normal.add(got.patchOwn[at * size(v.ownWidth) + size(d)], want.icov(row, row + d));
                    for (int d = -v.reach; d <= v.reach && s + 1 < task.nspec; ++d)
                        if (i + d >= 0 && i + d < n)
                            normal.add(got.patchNext[at * size(v.nextWidth()) + size(d + v.reach)],
                                       want.icov(row, row + n + d));
                }
            QVERIFY2(normal.relative() < 1e-13, qPrintable(QString::number(normal.relative())));
            QVERIFY2(y.relative() < 1e-13, qPrintable(QString::number(y.relative())));
            QVERIFY2(weight.relative() < 1e-13, qPrintable(QString::number(weight.relative())));
            if (got.states[size(p)].open != 0) continue; // left to the CPU
            ++solved;
            Worst rowSums;
            Worst band;
            double flux = 0;
            const double largest = std::sqrt(want.ivar.maxCoeff());
            for (int s = task.core; s < task.core + task.ncore; ++s)
                for (int i = 0; i < n; ++i) {
                    const int row = s * n + i;
                    const std::size_t at = v.flat(p, s, i);
                    if (want.fluxweight[row] == 0) continue;
                    const double sum = std::sqrt(want.ivar[row]);
                    rowSums.add(got.rowSum[at] / largest, sum / largest);
                    flux = std::max(flux, std::abs(got.qx[at] - want.flux[row] * sum));
                    for (int d = 0; d <= v.ndiag && i + d < n; ++d)
                        band.add(got.q[at * size(v.ndiag + 1) + size(d)] / largest,
                                 want.r(row, row + d) * sum / largest);
                }
            QVERIFY2(flux < 1e-6, qPrintable(QString::number(flux)));
            QVERIFY2(rowSums.difference < 1e-8, qPrintable(QString::number(rowSums.difference)));
            QVERIFY2(band.difference < 1e-8, qPrintable(QString::number(band.difference)));
        }
        QVERIFY(solved > 0);
    }
};

QTEST_APPLESS_MAIN(TestKernels)
#include "TestKernels.moc"
