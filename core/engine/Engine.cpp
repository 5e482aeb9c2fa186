#include "core/engine/Engine.h"

#include "core/base/Error.h"
#include "core/base/Parallel.h"
#include "core/base/Timeline.h"
#include "core/image/RowGate.h"
#include "core/psf/GaussHermite.h"
#include "core/psf/Psf.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <mutex>
#include <thread>

#include <asio/post.hpp>
#include <asio/thread_pool.hpp>

namespace patchlight {

namespace {

int threadCount(const RunControl& control) {
    return control.threads > 0 ? control.threads : static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
}

/// Calls body(index, lane) for index 0 .. count - 1 on `lanes` threads. Stops early on a request or on the first exception, which
/// is thrown again here; @throws Cancelled
void parallelFor(int count, int lanes, const std::stop_token& stop, const std::function<void(int, int)>& body) {
    std::atomic<int> next{0};
    std::atomic<bool> failed{false};
    std::exception_ptr error;
    std::mutex mutex;
    const auto work = [&](int lane) {
        try {
            while (!failed.load() && !stop.stop_requested()) {
                const int index = next.fetch_add(1);
                if (index >= count) return;
                body(index, lane);
            }
        } catch (...) {
            const std::lock_guard lock(mutex);
            if (!error) error = std::current_exception();
            failed = true;
        }
    };
    lanes = std::max(1, std::min(lanes, count));
    if (lanes == 1) {
        work(0);
    } else {
        asio::thread_pool pool(static_cast<std::size_t>(lanes));
        for (int lane = 0; lane < lanes; ++lane) asio::post(pool, [&work, lane] { work(lane); });
        pool.join();
    }
    if (error) std::rethrow_exception(error);
    if (stop.stop_requested()) throw Cancelled();
}

/// Waits until rows [0, rows) of the image are there. @throws Cancelled, what the image's reader met
void awaitRows(const RunControl& control, int rows, std::mutex& mutex) {
    using namespace std::chrono_literals;
    if (control.rows == nullptr || control.rows->waitFor(rows, 0ms)) return;
    const NamedRange range(control.timeline, "wait for rows");
    while (!control.rows->waitFor(rows, 50ms)) {
        if (control.stop.stop_requested()) throw Cancelled();
        if (!control.waiting) continue;
        const std::lock_guard lock(mutex);
        control.waiting();
    }
}

/// A batch, and what it waits for.
struct Task {
    Batch batch;
    int rows = 0; ///< rows [0, rows) of the image must be there
};

/// Batches in the order in which they are begun. Where rows are missing, those that need the lowest first: all bundles at their shortest
/// wavelengths, so that there is work for all threads.
std::vector<Task> tasksOf(const Plan& plan, const PsfView& psf, int steps, int ny, const RowGate* rows) {
    std::vector<Task> tasks;
    for (const Batch& batch : makeBatches(plan, steps)) tasks.push_back({batch, 0});
    if (rows == nullptr || rows->ready() >= ny) return tasks;
    for (Task& task : tasks) task.rows = rowsNeeded(psf, plan, task.batch, ny);
    std::stable_sort(tasks.begin(), tasks.end(), [](const Task& a, const Task& b) { return a.rows < b.rows; });
    return tasks;
}

ExtractedFrame emptyFrame(const Plan& plan, int threads) {
    const auto nspec = static_cast<std::size_t>(plan.nspec);
    const auto nwave = static_cast<std::size_t>(plan.grid.nwave);
    ExtractedFrame frame;
    frame.specmin = plan.specmin;
    frame.wavelength.resize(nwave);
    for (std::size_t i = 0; i < nwave; ++i) frame.wavelength[i] = plan.grid.outputWavelength(static_cast<int>(i));
    for (Array2<double>* values :
         {&frame.flux, &frame.ivar, &frame.chi2pix, &frame.pixmaskFraction, &frame.fluxweight, &frame.xflux})
        *values = Array2<double>::madeInParallel(nspec, nwave, threads);
    frame.mask = Array2<std::uint32_t>::madeInParallel(nspec, nwave, threads);
    frame.resolution =
        Array3<double>::madeInParallel(nspec, static_cast<std::size_t>(2 * plan.ndiag + 1), nwave, threads);
    return frame;
}

/// Median as NumPy defines it (the mean of the middle two for an even count); 0 for none. Reorders `values`.
double medianReordering(std::vector<double>& values) {
    if (values.empty()) return 0.0;
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    if (values.size() % 2 == 1) return *middle;
    return 0.5 * (*middle + *std::max_element(values.begin(), middle));
}

} // namespace

ExtractionResult extractFrame(Backend& backend, const CcdView& ccd, const Psf& psf, const Plan& plan,
                              const RunControl& control) {
    const auto start = std::chrono::steady_clock::now();
    const NamedRange range(control.timeline, "extract frame");
    ExtractionResult result;
    result.frame = emptyFrame(plan, control.threads);
    result.modelFlux =
        Array2<double>(static_cast<std::size_t>(plan.nspec),
                       static_cast<std::size_t>(plan.nsteps) * static_cast<std::size_t>(plan.grid.nwavestep));
    result.reports.resize(static_cast<std::size_t>(plan.patchCount()));

    const FrameInput input{ccd, psf.view(), &plan, control.timeline};
    const int steps = control.batchSteps > 0 ? control.batchSteps : backend.batchSteps(plan);
    std::mutex mutex; // of what control is told
    if (!backend.takesRowsAsTheyArrive()) awaitRows(control, ccd.ny, mutex);
    const std::vector<Task> tasks =
        tasksOf(plan, input.psf, plan.options.method == Method::Seamless ? plan.nsteps : steps, ccd.ny, control.rows);
    const std::unique_ptr<FrameJob> job = backend.begin(input, threadCount(control));
    const FrameOutput output{&result.frame, &result.modelFlux, result.reports.data()};

    Progress progress;
    progress.patchesTotal = plan.patchCount();
    progress.frame = &result.frame;
    parallelFor(static_cast<int>(tasks.size()), job->lanes(), control.stop, [&](int index, int lane) {
        const auto& [batch, rows] = tasks[static_cast<std::size_t>(index)];
        awaitRows(control, rows, mutex);
        job->run(batch, lane, output);
        if (control.progress) {
            const std::lock_guard lock(mutex);
            progress.patchesDone += batch.subbundles.count() * batch.steps.count();
            progress.batch = batch;
            control.progress(progress);
        }
    });

    const NamedRange finish(control.timeline, "finish frame");
    const double step = plan.grid.step();
    forEachParallel(result.frame.nspec(), control.threads, [&](std::size_t s, std::size_t) {
        for (double& value : result.frame.flux.row(s)) value /= step;
        for (double& value : result.frame.ivar.row(s)) value *= step * step;
    });
    markBad2dFit(result.frame, bad2dFitFactor, control.threads);
    result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return result;
}

PatchDetail extractPatch(Backend& backend, const CcdView& ccd, const Psf& psf, const Plan& plan, const Patch& patch,
                         Timeline* timeline) {
    const FrameInput input{ccd, psf.view(), &plan, timeline};
    return backend.begin(input, 1)->inspect(patch);
}

void markBad2dFit(ExtractedFrame& frame, double factor, int threads) {
    const std::size_t nspec = frame.nspec();
    const std::size_t nwave = frame.nwave();
    // Few bins are above their fiber's limit, and only at their wavelengths a median over fibers is needed.
    std::vector<std::vector<std::size_t>> candidates(nspec); // of each fiber, its bins above the limit
    forEachParallel(nspec, threads, [&](std::size_t s, std::size_t) {
        std::vector<double> values;
        for (std::size_t j = 0; j < nwave; ++j)
            if (frame.ivar(s, j) > 0.0) values.push_back(frame.chi2pix(s, j));
        const double limit = factor * medianReordering(values);
        for (std::size_t j = 0; j < nwave; ++j)
            if (frame.ivar(s, j) > 0.0 && frame.chi2pix(s, j) > limit) candidates[s].push_back(j);
    });
    std::vector<std::vector<std::size_t>> fibersAt(nwave); // of each wavelength, the fibers above their limit
    for (std::size_t s = 0; s < nspec; ++s)
        for (const std::size_t j : candidates[s]) fibersAt[j].push_back(s);
    forEachParallel(nwave, threads, [&](std::size_t j, std::size_t) {
        if (fibersAt[j].empty()) return;
        std::vector<double> values;
        for (std::size_t s = 0; s < nspec; ++s)
            if (frame.ivar(s, j) > 0.0) values.push_back(frame.chi2pix(s, j));
        const double limit = factor * medianReordering(values);
        for (const std::size_t s : fibersAt[j])
            if (frame.chi2pix(s, j) > limit) frame.mask(s, j) |= static_cast<std::uint32_t>(SpecMaskBit::Bad2dFit);
    });
}

std::vector<float> paintModel(const Array2<double>& modelFlux, const Psf& psf, const Plan& plan, int nx, int ny,
                              const RunControl& control) {
    const NamedRange range(control.timeline, "model image");
    const PsfView view = psf.view();
    if (control.painter != nullptr) {
        std::vector<float> painted = control.painter->paintModel({&modelFlux, view, &plan, nx, ny, control.timeline});
        if (!painted.empty()) return painted;
    }
    const int nspec = static_cast<int>(modelFlux.rows());
    const int nwave = static_cast<int>(modelFlux.columns());
    const int stampX = view.stampX();
    const int stampY = view.stampY();

    Array2<int> rows(modelFlux.rows(), modelFlux.columns());
    for (int s = 0; s < nspec; ++s)
        for (int j = 0; j < nwave; ++j)
            rows(static_cast<std::size_t>(s), static_cast<std::size_t>(j)) = spotCorner(
                view.type, traceY(view, plan.specmin + s, plan.grid.wavelength(plan.grid.pad + j)), view.hsizeY);

    // Stripes of rows, each painted by one thread in a fixed order.
    constexpr int stripeRows = 64;
    const int stripes = (ny + stripeRows - 1) / stripeRows;
    std::vector<float> model(static_cast<std::size_t>(nx) * static_cast<std::size_t>(ny));
    parallelFor(stripes, threadCount(control), control.stop, [&](int stripe, int) {
        const NamedRange stripeRange(control.timeline, "model stripe");
        const int y0 = stripe * stripeRows;
        const int y1 = std::min(ny, y0 + stripeRows);
        std::vector<double> sum(static_cast<std::size_t>(nx) * static_cast<std::size_t>(y1 - y0));
        std::vector<double> stamp(static_cast<std::size_t>(stampX) * static_cast<std::size_t>(stampY));
        for (int s = 0; s < nspec; ++s) {
            const auto row = static_cast<std::size_t>(s);
            for (int j = 0; j < nwave; ++j) {
                const auto column = static_cast<std::size_t>(j);
                const int corner = rows(row, column);
                const double flux = modelFlux(row, column);
                if (corner >= y1 || corner + stampY <= y0 || flux == 0.0) continue;
                int cornerX = 0;
                int cornerY = 0;
                evaluateSpot(view, plan.specmin + s, plan.grid.wavelength(plan.grid.pad + j), plan.options.psfTail,
                             stamp.data(), cornerX, cornerY);
                const int firstX = std::max(0, cornerX);
                const int lastX = std::min(nx, cornerX + stampX);
                for (int y = std::max(y0, cornerY); y < std::min(y1, cornerY + stampY); ++y) {
                    const double* from = stamp.data() + static_cast<std::ptrdiff_t>(y - cornerY) * stampX;
                    double* to = sum.data() + static_cast<std::ptrdiff_t>(y - y0) * nx;
                    for (int x = firstX; x < lastX; ++x) to[x] += flux * from[x - cornerX];
                }
            }
        }
        float* target = model.data() + static_cast<std::size_t>(y0) * static_cast<std::size_t>(nx);
        for (std::size_t p = 0; p < sum.size(); ++p) target[p] = static_cast<float>(sum[p]);
    });
    return model;
}

} // namespace patchlight
