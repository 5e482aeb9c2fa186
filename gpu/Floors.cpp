#include "gpu/Floors.h"

#include "core/base/Timeline.h"
#include "core/cpu/InverseSquareRoot.h"
#include "core/cpu/LaneSolver.h"
#include "gpu/Launch.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>

namespace patchlight::gpu {

namespace {

/// The shortest of three runs of what `work` puts on the stream, s.
template <class Work> double shortest(Stream& stream, const char* name, const Work& work) {
    double best = 0;
    for (int repeat = 0; repeat < 4; ++repeat) { // the first one warms up
        Timeline timeline;
        stream.range(name);
        work();
        stream.wait(&timeline, {});
        for (const RangeRecord& record : timeline.records()) {
            const double seconds = std::max(1e-9, 1e-9 * static_cast<double>(record.duration));
            if (record.stream && repeat > 0) best = best == 0 ? seconds : std::min(best, seconds);
        }
    }
    return best;
}

/// CCD pixels that two spots share, on rows [y0, y1).
double sharedPixels(const BatchView& v, const SpotCorners& corners, std::size_t one, std::size_t two, int y0, int y1) {
    const int columns = v.stampX - std::abs(corners.x[one] - corners.x[two]);
    const int low = std::max({corners.y[one], corners.y[two], y0});
    const int high = std::min({corners.y[one] + v.stampY, corners.y[two] + v.stampY, y1});
    return columns > 0 && high > low ? static_cast<double>(columns) * (high - low) : 0.0;
}

} // namespace

DeviceRates measureRates(Device& device) {
    DeviceRates rates;
    const bool host = device.name() != "cuda";
    const std::unique_ptr<Stream> stream = device.makeStream();
    constexpr std::size_t mebibyte = std::size_t{1} << 20;
    const std::size_t bytes =
        std::clamp(device.freeMemory() / 16, mebibyte, (host ? 64 : 512) * mebibyte) / mebibyte * mebibyte;
    const std::unique_ptr<Memory> memory = device.allocate(2 * bytes);
    const std::unique_ptr<Memory> pinned = device.allocatePinned(bytes);
    std::memset(pinned->data(), 0, bytes);
    const std::size_t count = bytes / sizeof(double);
    auto* const first = reinterpret_cast<double*>(memory->data());

    rates.in = static_cast<double>(bytes) /
               shortest(*stream, "copy in", [&] { stream->copyIn(memory->data(), pinned->data(), bytes); });
    rates.out = static_cast<double>(bytes) /
                shortest(*stream, "copy out", [&] { stream->copyOut(pinned->data(), memory->data(), bytes); });
    const CopyKernel copy{first, first + count, count};
    rates.bytes = 2.0 * static_cast<double>(bytes) /
                  shortest(*stream, CopyKernel::name, [&] { stream->launch(TeamLaunch{copy}); });
    ArithmeticKernel arithmetic;
    arithmetic.teams = host ? 4 : device.limits().multiprocessors * 16;
    arithmetic.rounds = host ? 1000 : 4000;
    arithmetic.out = first;
    rates.operations = arithmetic.operations() /
                       shortest(*stream, ArithmeticKernel::name, [&] { stream->launch(TeamLaunch{arithmetic}); });
    const StepKernel step{4000, first};
    rates.step = shortest(*stream, StepKernel::name, [&] { stream->launch(TeamLaunch{step}); }) / step.steps;
    return rates;
}

std::vector<StageWork> countWork(const BatchView& v, const BatchGeometry& geometry, const FullBlockShare& full,
                                 std::size_t in, std::size_t out) {
    constexpr double w = LaneSolver::band;
    // Of a row: a banded factorisation, the solutions of two right-hand sides, and the inverse's band with what is summed over poles.
    constexpr double factor = w * (w + 1) + w;
    constexpr double both = 8 * w;
    const double inverse = 2 * w * w + 4 * w + 2 * (v.ndiag + 3);
    constexpr double number = sizeof(double);
    const SpotCorners& corners = geometry.corners();
    const std::vector<PatchTask>& tasks = geometry.tasks();
    const double spots = static_cast<double>(v.nspec) * v.nbins;
    const double stamp = static_cast<double>(v.stampX) * v.stampY;
    const double own = v.ownWidth;
    const double next = v.nextWidth();
    const double strip = static_cast<double>(v.stripNx) * v.stripNy;
    const double poles = static_cast<double>(inverseSquareRootLadder().front().pole.size());
    const double finePoles = static_cast<double>(inverseSquareRootFineLadder().front().pole.size());
    const double rungs = static_cast<double>(inverseSquareRootLadder().size());

    StageWork copyIn{"gpu copy in"};
    copyIn.in = static_cast<double>(in);
    copyIn.bytes = static_cast<double>(in + out); // the results are cleared

    StageWork evaluated{SpotsKernel::name};
    {
        const PsfView& psf = v.psf;
        const auto core = [&](int degX, int degY) {
            const double edges = (v.stampX + 1) * (40.0 + 3.0 * degX) + (v.stampY + 1) * (40.0 + 3.0 * degY);
            const double axes = 2.0 * ((degX + 1) * v.stampX + (degY + 1) * v.stampY);
            return edges + axes + 2.0 * (degX + 1) * v.stampY * (degY + 1) + 2.0 * stamp * (degX + 1);
        };
        double each = 5.0 * psf.nparam * psf.ncoeff + core(psf.degX, psf.degY) + 2.0 * stamp;
        if (psf.type == PsfType::GaussHermite2) each += core(psf.degX2, psf.degY2) + 8.0 * stamp;
        if (v.tail && psf.hasTail) each += 30.0 * stamp;
        evaluated.operations = spots * each;
        evaluated.bytes = spots * number * v.stampStride;
    }

    // Products of pairs, as SumsKernel and GatherKernel take them.
    const auto pairsOf = [&](int s, int i, int spectra, int firstBin, int lastBin, const auto& body) {
        for (int t = s; t < spectra; ++t)
            for (int j = t == s ? i : i - v.reach; j < (t == s ? i + v.ownWidth : i + v.reach + 1); ++j)
                if (j >= firstBin && j < lastBin) body(v.spot(s, i), v.spot(t, j));
    };
    StageWork sums{SumsKernel::name};
    for (int s = 0; s < v.nspec; ++s)
        for (int i = 0; i < v.nbins; ++i)
            pairsOf(s, i, std::min(v.nspec, s + 3), 0, v.nbins, [&](std::size_t one, std::size_t two) {
                sums.operations += 2.0 * sharedPixels(v, corners, one, two, v.stripY, v.stripY + v.stripNy);
            });
    sums.operations += 6.0 * stamp * spots;
    sums.bytes = spots * number * (v.stampStride + own + next + 4) + 2.0 * strip * sizeof(float);

    StageWork gather{GatherKernel::name};
    StageWork elimination{EliminateKernel<LaneSolver::band>::name};
    StageWork roots{RootsKernel<LaneSolver::band>::name};
    StageWork residual{ResidualKernel::name};
    StageWork acceptance{FinishKernel::name};
    StageWork blocks{DenseKernel::name};
    StageWork solutions{DenseSolutionsKernel::name};
    StageWork corrected{CorrectedRootsKernel<LaneSolver::band>::name};
    StageWork fullRoots{DenseRootsKernel::name};
    StageWork pixels{PixelsKernel::name};
    StageWork bins{BinsKernel::name};
    const double results = 2.0 * v.ndiag + 3.0;
    for (const PatchTask& task : tasks) {
        const double n = task.nwave;
        const double all = n * task.nspec;
        const double kept = n * task.ncore;
        const double written = static_cast<double>(task.keepBins) * task.ncore;
        for (int s = 0; s < task.nspec; ++s)
            for (int i = 0; i < task.nwave; ++i) {
                const int spectrum = task.spectrum + s;
                const int bin = task.bin + i;
                const int y = corners.y[v.spot(spectrum, bin)];
                const double rows = std::min(y + v.stampY, task.high) - std::max(y, task.low);
                if (rows > 0) pixels.operations += 2.0 * rows * v.stampX;
                if (y >= task.y0 && y + v.stampY <= task.y1) continue;
                pairsOf(spectrum, bin, std::min(task.spectrum + task.nspec, spectrum + 2), task.bin,
                        task.bin + task.nwave, [&](std::size_t one, std::size_t two) {
                            const int low = std::max(corners.y[one], corners.y[two]);
                            const int high = std::min(corners.y[one], corners.y[two]) + v.stampY;
                            if (low >= task.y0 && high <= task.y1) return;
                            gather.operations += 3.0 * sharedPixels(v, corners, one, two, task.y0, task.y1);
                        });
            }
        gather.bytes += 2.0 * all * number * (own + next + 2);

        double row = 0; // multiply-adds of an elimination
        for (int k = 0; k < task.nwave; ++k)
            row += (w + 1) * (w + 2) / 2 + std::min(n, static_cast<double>(k + v.reach + 1)) * (2 * w + 4);
        const double eliminations = 2.0 * (task.nspec - 1);
        elimination.operations += 2.0 * eliminations * row;
        elimination.bytes += 2.0 * all * number * (own + next + 1 + w + 1 + 2);
        elimination.steps = std::max(elimination.steps, (task.nspec - 1.0) * n);

        roots.operations +=
            2.0 * all * (factor + both) + kept * rungs * factor + kept * poles * (factor + both + inverse);
        roots.bytes += 2.0 * all * number * (2 * (w + 1) + own + 3) + kept * number * (2 * (w + 3) * poles + results);
        roots.steps = std::max(roots.steps, n * (2 + 4 + 4 * std::ceil(poles / groupLanes)));
        residual.operations += all * 2 * (2 * own - 1 + 2 * next);
        residual.bytes += all * number * (own + next + 3);
        acceptance.bytes += kept * number * (v.ndiag + 3) + written * number * results;

        blocks.operations += full.patches * 2.0 * eliminations * n * n * n / 2;
        blocks.bytes += full.patches * number * (all * (own + next + 2) + 2.0 * all * (n + 1) / 2);
        blocks.steps = std::max(blocks.steps, (task.nspec - 1) * (n / 2 + 2));
        solutions.operations += full.patches * 2.0 * (task.nspec * n * n * n / 6);
        solutions.bytes +=
            full.patches * number *
            (2.0 * all * (n + 1) / 2 + all * (own + 3) + (v.seamless ? full.spectra : full.corrected) * n * n);
        solutions.steps = std::max(solutions.steps, n * (0.5 + 1));

        const double outer = std::max(0.0, (n - w) * (n - w - 1)); // elements beyond the band
        corrected.operations +=
            full.patches * full.corrected *
            (2 * outer + n * rungs * factor + poles * (n * (factor + both + inverse) + 4 * outer + n * (both + 4)));
        corrected.bytes +=
            full.patches * full.corrected * n * number * (n + 1 + 2 * (w + 3) * poles + 8 * poles + results);
        corrected.steps = std::max(corrected.steps, n * (1 + 6 * std::ceil(poles / groupLanes)));

        fullRoots.operations += full.patches * full.spectra * 2.0 * (2.5 * n * n * n + finePoles * n * n / 2);
        fullRoots.bytes += full.patches * full.spectra * number * n * (n + 1 + results);
        fullRoots.steps = std::max(fullRoots.steps, n * (3 + 2) + n * std::ceil(finePoles / 16) * 2);

        const double window = static_cast<double>(task.x1 - task.x0) * (task.high - task.low);
        pixels.operations += 8.0 * window;
        pixels.bytes += all * number * v.stampStride + window * (2 * sizeof(float) + 2 * number);
        bins.operations += 4.0 * written * stamp;
        bins.bytes += written * number * (v.stampStride + 9) + window * 2 * number;
    }
    if (full.patches == 0) blocks.steps = solutions.steps = 0;
    if (full.patches * full.corrected == 0) corrected.steps = 0;
    if (full.patches * full.spectra == 0) fullRoots.steps = 0;
    StageWork copyOut{"gpu copy out"};
    copyOut.out = static_cast<double>(out);
    std::vector<StageWork> stages{copyIn, evaluated, sums, gather};
    if (v.bandsFirst) stages.insert(stages.end(), {elimination, roots, residual});
    stages.insert(stages.end(), {acceptance, blocks, solutions});
    if (!v.seamless) stages.push_back(corrected);
    stages.insert(stages.end(), {fullRoots, pixels, bins, copyOut});
    return stages;
}

std::vector<StageFloor> floorsOf(const std::vector<std::vector<StageWork>>& batches, const DeviceRates& rates,
                                 int streams) {
    std::vector<StageFloor> floors;
    std::vector<double> steps;
    std::vector<double> copies;
    for (const std::vector<StageWork>& batch : batches)
        for (const StageWork& stage : batch) { // not all batches have all stages
            const auto same = std::find_if(floors.begin(), floors.end(),
                                           [&](const StageFloor& floor) { return floor.name == stage.name; });
            const std::size_t k = static_cast<std::size_t>(same - floors.begin());
            if (k == floors.size()) {
                floors.emplace_back().name = stage.name;
                steps.push_back(0);
                copies.push_back(0);
            }
            floors[k].operations += stage.operations;
            floors[k].bytes += stage.bytes;
            steps[k] += stage.steps / streams;
            copies[k] += stage.in / rates.in + stage.out / rates.out;
        }
    for (std::size_t k = 0; k < floors.size(); ++k) {
        StageFloor& floor = floors[k];
        const std::pair<const char*, double> limits[] = {{"memory", floor.bytes / rates.bytes},
                                                         {"FP64", floor.operations / rates.operations},
                                                         {"latency", steps[k] * rates.step},
                                                         {"bus", copies[k]}};
        for (const auto& [name, seconds] : limits)
            if (seconds > floor.seconds) {
                floor.limit = name;
                floor.seconds = seconds;
            }
    }
    return floors;
}

} // namespace patchlight::gpu
