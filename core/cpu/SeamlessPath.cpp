#include "core/cpu/SeamlessPath.h"

#include "core/base/Timeline.h"
#include "core/engine/Physics.h"
#include "core/engine/Seamless.h"
#include "core/frame/ExtractedFrame.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

namespace patchlight {

namespace {

std::size_t size(int count) { return static_cast<std::size_t>(count); }

std::uint32_t bit(PatchStatus status) { return static_cast<std::uint32_t>(status); }

/// Bins of a chunk: few enough that spots stay small, many enough that those of its margins do not count.
constexpr int chunkBins = 400;
/// A bin's neighbourhood, for checks: what is further away changes its row of Q by less than 1e-6 of the change there.
constexpr int neighbourhood = 20;
/// Bins of context on both sides of a segment, of a patch whose Q is computed anew, and where it must not be felt at all.
constexpr int usualContext = 40;
constexpr int wideContext = 56;
constexpr int tightContext = 100;
/// Relative error of the rational square roots (InverseSquareRoot::error of every rung is below it).
constexpr double rootError = 1e-10;
/// Solutions of the segments until the residual must have vanished.
constexpr int mostRounds = 12;

bool wanted(const Plan& plan, int spectrum) { return spectrum >= plan.specmin && spectrum < plan.specmin + plan.nspec; }

} // namespace

PatchReport& SeamlessPath::reportOf(const Plan& plan, int spectrum, int step) {
    return reports_[size(subbundleOf_[size(spectrum - bundle_.spectra.first)]) * size(plan.nsteps) + size(step)];
}

void SeamlessPath::run(const FrameInput& input, const Batch& batch, const FrameOutput& output,
                       const ErrorBounds& bounds, int slots, PatchSolver& exact, SpotTile& tile) {
    const Plan& plan = *input.plan;
    bundle_ = seamless::bundlePatch(plan, batch.subbundles.first);
    const IndexRange subbundles = seamless::subbundlesOfBundle(plan, batch.subbundles.first);
    const RangeTags tags{plan.subbundles[size(subbundles.first)].bundle, 0, subbundles.count() * plan.nsteps};
    const std::size_t bins = size(bundle_.spectra.count()) * size(bundle_.bins.count());
    reports_.assign(size(subbundles.count()) * size(plan.nsteps), {});
    subbundleOf_.assign(size(bundle_.spectra.count()), 0);
    for (int sub = subbundles.first; sub < subbundles.last; ++sub)
        for (int s = plan.subbundles[size(sub)].core.first; s < plan.subbundles[size(sub)].core.last; ++s)
            subbundleOf_[size(s - bundle_.spectra.first)] = sub - subbundles.first;

    if (!locate(input, slots)) {
        solveExactly(input, output, exact, tile);
        return;
    }
    for (std::size_t c = 0; c < chunkCount_; ++c) {
        Chunk& chunk = *chunks_[c];
        // Row by row up the CCD: what has been evaluated is summed up while it is in the cache.
        chunk.spots.startEvaluation();
        chunk.sums.start(chunk.spots);
        for (int group = chunk.spots.firstGroup(); group < chunk.spots.bins().last; group += slots) {
            {
                const NamedRange range(input.timeline, "spots", tags);
                chunk.spots.evaluate(input.psf, plan.grid, plan.options.psfTail, group);
            }
            const NamedRange range(input.timeline, "normal equations", tags);
            chunk.sums.accumulate(chunk.spots, input.ccd, chunk.spots.rowsReady(group));
        }
    }
    collectSums(plan);
    failed_.assign(bins, 0);
    // Flux from beyond the context is missed: 1e-7 sigma of a line with a signal to noise ratio of 40 that lies there, and ten times less every 7 bins.
    context_ = std::max(bounds.flux < ErrorBounds().flux ? tightContext : usualContext, plan.grid.pad);
    makeSegments(plan);
    {
        const NamedRange range(input.timeline, "eliminate", tags);
        for (int round = 0;; ++round) {
            int removed = 0;
            for (std::size_t g = 0; g < groups_.size(); ++g) {
                gather(*groups_[g], segmentsOf(g), bundle_.spectra.count(), segmentBins_);
                removed += groups_[g]->eliminate(0, bundle_.spectra.count() - 1);
            }
            constexpr int mostRepairs = 6;
            if (removed == 0 || round == mostRepairs) break;
            repair(input, round);
        }
    }
    {
        const NamedRange range(input.timeline, "deconvolution", tags);
        deconvolve(bounds);
    }
    std::vector<Waiting> waiting;
    {
        const NamedRange range(input.timeline, "decorrelation", tags);
        decorrelate(input, bounds, output, waiting);
    }
    solveWithAllNeighbours(input, output, exact, tile, waiting);
    if (!waiting.empty()) {
        const NamedRange range(input.timeline, "wide band", tags);
        decorrelateAnew(input, bounds, output, waiting);
    }
    {
        const NamedRange range(input.timeline, "quality", tags);
        measure(input, output);
    }
    if (output.reports == nullptr) return;
    for (int sub = subbundles.first; sub < subbundles.last; ++sub)
        for (int step = 0; step < plan.nsteps; ++step)
            output.reports[size(sub) * size(plan.nsteps) + size(step)] =
                reports_[size(sub - subbundles.first) * size(plan.nsteps) + size(step)];
}

const SeamlessPath::Chunk& SeamlessPath::chunkOf(int bin) const { return *chunks_[size(bin / chunkBins)]; }

std::size_t SeamlessPath::owner(int bin) const {
    const int length = segmentBins_ - 2 * context_;
    const int last = static_cast<int>(segments_.size()) - 1;
    return size(std::clamp((bin - bundle_.coreBins.first) / length, 0, last));
}

/// Cuts the bundle into chunks. @return false where the layout does not suit
bool SeamlessPath::locate(const FrameInput& input, int slots) {
    const Plan& plan = *input.plan;
    if (plan.ndiag > SeamlessSolver::narrowBand) return false;
    const IndexRange rows = seamless::bundleRows(input.psf, plan, bundle_.subbundle, input.ccd.ny);
    const int count = (bundle_.bins.count() + chunkBins - 1) / chunkBins;
    chunkCount_ = size(count);
    while (chunks_.size() < chunkCount_) chunks_.push_back(std::make_unique<Chunk>());
    // A chunk's spots reach as far beyond it as spots share rows with its own.
    for (const int margin : {slots, 2 * slots}) {
        reach_ = SpotRows::fewSlots - 1;
        for (int c = 0; c < count; ++c) {
            Chunk& chunk = *chunks_[size(c)];
            chunk.bins = {c * chunkBins, std::min(bundle_.bins.last, (c + 1) * chunkBins)};
            const IndexRange reached{std::max(0, chunk.bins.first - margin),
                                     std::min(bundle_.bins.last, chunk.bins.last + margin)};
            if (!chunk.spots.locate(input.psf, plan.grid, bundle_.spectra, reached, rows, slots)) return false;
            for (int s = bundle_.spectra.first; s + 1 < bundle_.spectra.last; ++s)
                for (int row = chunk.spots.rows().first; row < chunk.spots.rows().last; ++row) {
                    const IndexRange a = chunk.spots.active(s, row);
                    const IndexRange b = chunk.spots.active(s + 1, row);
                    if (!a.empty() && !b.empty())
                        reach_ = std::max({reach_, b.last - 1 - a.first, a.last - 1 - b.first});
                }
        }
        if (reach_ <= margin) return true;
    }
    return false;
}

void SeamlessPath::collectSums(const Plan& plan) {
    const std::size_t bins = size(bundle_.spectra.count()) * size(bundle_.bins.count());
    for (std::vector<double>* values : {&fluxweight_, &y_, &second_, &prior_}) values->resize(bins);
    for (std::size_t c = 0; c < chunkCount_; ++c) {
        const Chunk& chunk = *chunks_[c];
        for (int s = bundle_.spectra.first; s < bundle_.spectra.last; ++s)
            for (int bin = chunk.bins.first; bin < chunk.bins.last; ++bin) {
                fluxweight_[flat(s, bin)] = chunk.sums.fluxweight(s, bin);
                y_[flat(s, bin)] = chunk.sums.y(s, bin);
                second_[flat(s, bin)] = chunk.sums.second(s, bin);
            }
    }
    seamless::localMinimumWeights(plan, bundle_, fluxweight_, minweight_);
    for (std::size_t i = 0; i < bins; ++i)
        prior_[i] = priorDiagonal(fluxweight_[i], minweight_[i], plan.options.regularize);
}

/// Cuts the wavelengths into segments of whole patches: as many as lanes, where there is enough for that.
void SeamlessPath::makeSegments(const Plan& plan) {
    constexpr int mostLanes = 8;
    constexpr int fewestBins = 100; // with contexts of 40 bins on both sides, less does not pay
    constexpr int mostBins = 400;   // arrays of longer segments leave the caches
    const int total = plan.nsteps * plan.grid.nwavestep;
    const int wantedSegments = total <= mostLanes * fewestBins
                                   ? (total + fewestBins - 1) / fewestBins
                                   : mostLanes * ((total + mostLanes * mostBins - 1) / (mostLanes * mostBins));
    const int steps = (plan.nsteps + wantedSegments - 1) / wantedSegments;
    const int length = steps * plan.grid.nwavestep;
    segments_.clear();
    for (int first = bundle_.coreBins.first; first < bundle_.coreBins.last; first += length)
        segments_.push_back(
            {{first, std::min(first + length, bundle_.coreBins.last)}, first - context_, bundle_.spectra});
    segmentBins_ = length + 2 * context_;
    const std::size_t lanes = size(SeamlessSolver::lanes());
    groups_.resize((segments_.size() + lanes - 1) / lanes);
    for (auto& group : groups_) {
        if (!group) group = std::make_unique<SeamlessSolver>();
        group->shape(bundle_.spectra.count(), segmentBins_, reach_, plan.ndiag, SeamlessSolver::narrowBand,
                     SpotRows::mostBins(chunks_.front()->spots.slotCount()));
    }
}

std::span<const SeamlessPath::Segment> SeamlessPath::segmentsOf(std::size_t group) const {
    const std::size_t lanes = size(SeamlessSolver::lanes());
    return std::span(segments_).subspan(group * lanes, std::min(lanes, segments_.size() - group * lanes));
}

/// Normal equations of some segments of `nspec` spectra and `n` bins, prior included. Bins without light, and those beyond the bundle's ends, are coupled to
/// nothing; their diagonal is the largest of their spectrum, so that they count for nothing in bounds of eigenvalues.
void SeamlessPath::gather(SeamlessSolver& solver, std::span<const Segment> segments, int nspec, int n) const {
    const std::size_t lanes = size(SeamlessSolver::lanes());
    const std::size_t ownSize = solver.ownWidth() * lanes;
    const std::size_t nextSize = solver.nextWidth() * lanes;
    const bool anyFailed = std::find(failed_.begin(), failed_.end(), char{1}) != failed_.end();
    std::vector<double> largest(lanes);
    for (int s = 0; s < nspec; ++s) {
        std::fill(largest.begin(), largest.end(), 0.0);
        for (int i = 0; i < n; ++i) {
            double* own = solver.own(s, i);
            double* next = solver.next(s, i);
            std::fill_n(own, ownSize, 0.0);
            std::fill_n(next, nextSize, 0.0);
            for (std::size_t lane = 0; lane < segments.size(); ++lane) {
                const int first = segments[lane].first;
                const int bin = first + i;
                const int spectrum = segments[lane].spectra.first + s;
                if (spectrum >= segments[lane].spectra.last || !bundle_.bins.contains(bin) || !lit(spectrum, bin))
                    continue;
                const Chunk& chunk = chunkOf(bin);
                const double* self = chunk.sums.self(spectrum, bin);
                const IndexRange inside{std::max(0, first), std::min(bundle_.bins.last, first + n)};
                const int ownCount = std::min(static_cast<int>(chunk.sums.selfWidth()), inside.last - bin);
                for (int d = 0; d < ownCount; ++d) own[size(d) * lanes + lane] = self[d];
                own[lane] += prior_[flat(spectrum, bin)];
                largest[lane] = std::max(largest[lane], own[lane]);
                if (anyFailed)
                    for (int d = 1; d < ownCount; ++d)
                        if (failed_[flat(spectrum, bin + d)] != 0) own[size(d) * lanes + lane] = 0.0;
                if (spectrum + 1 == segments[lane].spectra.last) continue;
                const int reach = chunk.sums.reach();
                const double* from = chunk.sums.next(spectrum, bin) + reach;
                double* to = next + size(reach_) * lanes + lane;
                const int high = std::min(reach, inside.last - 1 - bin);
                for (int d = std::max(-reach, inside.first - bin); d <= high; ++d)
                    to[static_cast<std::ptrdiff_t>(d) * static_cast<std::ptrdiff_t>(lanes)] =
                        anyFailed && failed_[flat(spectrum + 1, bin + d)] != 0 ? 0.0 : from[d];
            }
        }
        for (double& value : largest)
            if (!(value > 0.0)) value = 1.0;
        for (int i = 0; i < n; ++i)
            for (std::size_t lane = 0; lane < lanes; ++lane)
                if (solver.own(s, i)[lane] == 0.0) solver.own(s, i)[lane] = largest[lane];
    }
}

/// What to do about bins without a pivot: first what a patch does, once more with regularisation; then they are given up.
void SeamlessPath::repair(const FrameInput& input, int round) {
    const Plan& plan = *input.plan;
    const int half = (plan.grid.nwavestep + 2 * plan.grid.pad) / 2;
    const IndexRange subbundles = seamless::subbundlesOfBundle(plan, bundle_.subbundle);
    const std::size_t lanes = size(SeamlessSolver::lanes());
    for (std::size_t segment = 0; segment < segments_.size(); ++segment) {
        const SeamlessSolver& solver = *groups_[segment / lanes];
        for (int s = bundle_.spectra.first; s < bundle_.spectra.last; ++s) {
            for (int i = 0; i < segmentBins_; ++i) {
                const int bin = segments_[segment].first + i;
                if (!bundle_.bins.contains(bin) || !lit(s, bin)) continue;
                if (!solver.removed(s - bundle_.spectra.first, i, static_cast<int>(segment % lanes))) continue;
                const int step = std::clamp((bin - plan.grid.pad) / plan.grid.nwavestep, 0, plan.nsteps - 1);
                if (round > 0 || plan.options.regularize > 0.0) {
                    failed_[flat(s, bin)] = 1;
                    reportOf(plan, s, step).status |= bit(PatchStatus::Failed);
                    continue;
                }
                for (int sub = subbundles.first; sub < subbundles.last; ++sub) {
                    const Subbundle& part = plan.subbundles[size(sub)];
                    if (!part.padded.contains(s)) continue;
                    reports_[size(sub - subbundles.first) * size(plan.nsteps) + size(step)].status |=
                        bit(PatchStatus::Regularized);
                    for (int t = part.core.first; t < part.core.last; ++t)
                        for (int b = std::max(0, bin - half); b < std::min(bundle_.bins.last, bin + half + 1); ++b)
                            prior_[flat(t, b)] =
                                priorDiagonal(fluxweight_[flat(t, b)], minweight_[flat(t, b)], retryRegularize);
                }
            }
        }
    }
}

/// xflux of the whole bundle. Segments do not know of the light beyond their ends, so that a first solution is wrong there, by 1e-7 of it at the
/// core's edge; what it leaves of the right-hand sides, with all couplings and bands as they are, is solved for again.
void SeamlessPath::deconvolve(const ErrorBounds& bounds) {
    const std::size_t lanes = size(SeamlessSolver::lanes());
    const int nspec = bundle_.spectra.count();
    const int n = segmentBins_;
    xflux_.assign(y_.size(), 0.0);
    residual_ = y_;
    for (std::size_t i = 0; i < y_.size(); ++i)
        if (fluxweight_[i] == 0.0 || failed_[i] != 0) residual_[i] = 0.0;
    const std::vector<double> sides = residual_;
    // Calls body(element of a lane array, element of a [spectra][bins] vector) for the bins of a group's segments: all that the bundle has, or those whose
    // xflux is the segment's.
    const auto forEach = [&](std::size_t group, double* lanesOf, bool all, auto&& body) {
        for (std::size_t lane = 0; lane < lanes && group * lanes + lane < segments_.size(); ++lane) {
            const std::size_t index = group * lanes + lane;
            const Segment& segment = segments_[index];
            const bool whole = all || segments_.size() == 1;
            const int low = whole || index == 0 ? 0 : segment.core.first;
            const int high = whole || index + 1 == segments_.size() ? bundle_.bins.last : segment.core.last;
            const int first = std::max(low, segment.first);
            const int last = std::min(high, segment.first + n);
            for (int s = 0; s < nspec; ++s) {
                const std::size_t row = flat(bundle_.spectra.first + s, 0);
                double* here = lanesOf + (size(s) * size(n) + size(first - segment.first)) * lanes + lane;
                for (int bin = first; bin < last; ++bin, here += lanes) body(*here, row + size(bin));
            }
        }
    };
    const std::size_t laneSize = size(nspec) * size(n) * lanes;
    for (auto& group : groups_) { // what no bin fills stays zero
        std::fill_n(group->side(0, 0), laneSize, 0.0);
        std::fill_n(group->x(0, 0), laneSize, 0.0);
    }
    remaining_ = 1.0;
    double before = std::numeric_limits<double>::infinity();
    for (int round = 0; round < mostRounds; ++round) {
        double largest = 0.0; // change of the flux, in sigma of a bin without neighbours
        for (std::size_t g = 0; g < groups_.size(); ++g) {
            SeamlessSolver& solver = *groups_[g];
            forEach(g, solver.side(0, 0), true, [&](double& side, std::size_t at) { side = residual_[at]; });
            solver.solve();
            forEach(g, solver.x(0, 0), false, [&](const double& x, std::size_t at) {
                xflux_[at] += x;
                largest = std::max(largest, x * x * fluxweight_[at]);
            });
        }
        largest = std::sqrt(largest);
        for (std::size_t g = 0; g < groups_.size(); ++g)
            forEach(g, groups_[g]->x(0, 0), true, [&](double& x, std::size_t at) { x = xflux_[at]; });
        remaining_ = round == 0 ? 1.0 : std::min(1.0, largest / before);
        const bool converged = largest * remaining_ <= 1e-4 * bounds.flux;
        const bool stuck = round >= 2 && remaining_ > 0.3;
        if (largest == 0.0 || (round > 0 && (converged || stuck))) break;
        before = largest;
        for (std::size_t g = 0; g < groups_.size(); ++g) {
            double* y = laneSide_.require(laneSize);
            std::fill_n(y, laneSize, 0.0);
            forEach(g, y, true, [&](double& side, std::size_t at) { side = sides[at]; });
            groups_[g]->residual(y);
            forEach(g, groups_[g]->side(0, 0), false,
                    [&](const double& side, std::size_t at) { residual_[at] = side; });
            std::fill_n(groups_[g]->side(0, 0), laneSize, 0.0);
        }
    }
}

template <class Access>
void SeamlessPath::writeBins(const FrameInput& input, const FrameOutput& output, int spectrum, IndexRange bins,
                             const Access& access) const {
    const Plan& plan = *input.plan;
    if (!wanted(plan, spectrum)) return;
    ExtractedFrame& frame = *output.frame;
    const int ndiag = plan.ndiag;
    const std::size_t row = size(spectrum - plan.specmin);
    for (int bin = bins.first; bin < bins.last; ++bin) {
        const bool light = lit(spectrum, bin);
        const double sum = light ? access.rowSum(bin) : 0.0;
        const double flux = sum != 0.0 ? access.qTimesX(bin) / sum : 0.0;
        if (output.modelFlux != nullptr)
            (*output.modelFlux)(row, size(bin - plan.grid.pad)) =
                plan.options.modelFlux == ModelFlux::Deconvolved ? (light ? xflux_[flat(spectrum, bin)] : 0.0) : flux;
        if (!bundle_.keepBins.contains(bin)) continue;
        const std::size_t column = size(bin - plan.grid.pad);
        frame.flux(row, column) = flux;
        frame.ivar(row, column) = sum * sum;
        for (int k = 0; k <= 2 * ndiag; ++k) {
            const int other = bin - ndiag + k; // R[other, bin]
            double value = 0.0;
            if (light && bundle_.bins.contains(other) && lit(spectrum, other)) {
                const double otherSum = access.rowSum(other);
                if (otherSum != 0.0) value = access.element(std::min(other, bin), std::abs(other - bin)) / otherSum;
            }
            frame.resolution(row, size(k), column) = value;
        }
    }
}

namespace {

/// Q of a lane, by bins of the bundle.
struct LaneAccess {
    const SeamlessSolver* solver;
    int spectrum; ///< of the solver
    int first;    ///< bin of its index 0
    std::size_t lane;
    [[nodiscard]] double rowSum(int bin) const { return solver->rowSum(spectrum, bin - first)[lane]; }
    [[nodiscard]] double qTimesX(int bin) const { return solver->qTimesX(spectrum, bin - first)[lane]; }
    [[nodiscard]] double element(int bin, int d) const { return solver->q(spectrum, bin - first, d)[lane]; }
};

} // namespace

/// What is known of the error of Q in some bins of the spectrum of the solver's last root().
SeamlessPath::Check SeamlessPath::examine(const SeamlessSolver& solver, const Segment& segment, int n, int lane,
                                          int spectrum, IndexRange bins) const {
    const int s = spectrum - segment.spectra.first;
    Check check;
    double lowest = std::numeric_limits<double>::infinity();
    double largest = 0.0;
    double leak = 0.0;
    double left = 0.0;    // of the right-hand sides
    double second = 0.0;  // coupling with the second neighbours, which the blocks do not have
    double skipped = 0.0; // what that is in the right-hand sides: a bin is coupled with a few of the other spectrum's
    const int low = std::max(0, bins.first - segment.first - neighbourhood);
    const int high = std::min(n, bins.last - segment.first + neighbourhood);
    for (int i = low; i < high; ++i) {
        const int bin = segment.first + i;
        largest = std::max(largest, solver.rowNorm(i, lane));
        if (bins.contains(bin)) lowest = std::min(lowest, solver.lowest(i, lane));
        if (!bundle_.bins.contains(bin)) continue;
        const std::size_t at = flat(spectrum, bin);
        double here = solver.leak(s, i, lane);
        for (const int other : {spectrum - 2, spectrum + 2}) {
            if (!bundle_.spectra.contains(other)) continue;
            const double coupling = second_[other < spectrum ? flat(other, bin) : at];
            here += coupling;
            second = std::max(second, coupling);
            skipped = std::max(skipped, 4.0 * coupling * std::abs(xflux_[flat(other, bin)]));
        }
        leak = std::max(leak, here);
        left = std::max(left, std::abs(residual_[at]) * remaining_);
        if (lit(spectrum, bin)) check.snr = std::max(check.snr, std::abs(xflux_[at] * solver.rowSum(s, i)[lane]));
    }
    constexpr double leastRelative = 1e-9; // what the ladder reaches
    if (largest > 0.0) {
        const double least = std::max(lowest, leastRelative * largest);
        check.farError = second / std::sqrt(least * largest);
        check.farFlux = skipped / std::sqrt(least);
    }
    if (!(lowest > 0.0)) return check;
    check.condition = largest / lowest;
    check.error = leak / std::sqrt(lowest * largest) + rootError;
    check.flux = left / std::sqrt(lowest);
    return check;
}

void SeamlessPath::decorrelate(const FrameInput& input, const ErrorBounds& bounds, const FrameOutput& output,
                               std::vector<Waiting>& waiting) {
    const Plan& plan = *input.plan;
    const std::size_t lanes = size(SeamlessSolver::lanes());
    const int nspec = bundle_.spectra.count();
    const int step = plan.grid.nwavestep;
    // Row sums of Q on both sides of a segment's first and last bin, as it sees them, and then Q xflux.
    constexpr std::size_t seamBinCount = 4;
    constexpr std::size_t seamValues = 2 * seamBinCount;
    seams_.assign(segments_.size() * size(nspec) * seamValues, 0.0);
    const auto seam = [&](std::size_t segment, int s, std::size_t which) -> double& {
        return seams_[(segment * size(nspec) + size(s)) * seamValues + which];
    };
    for (std::size_t g = 0; g < groups_.size(); ++g) {
        SeamlessSolver& solver = *groups_[g];
        const std::span<const Segment> segments = segmentsOf(g);
        for (int s = 0; s < nspec; ++s) {
            const int spectrum = bundle_.spectra.first + s;
            solver.root(s);
            for (std::size_t lane = 0; lane < segments.size(); ++lane) {
                const Segment& segment = segments[lane];
                const LaneAccess access{&solver, s, segment.first, lane};
                const std::array<int, seamBinCount> seamBins{segment.core.first - 1, segment.core.first,
                                                             segment.core.last - 1, segment.core.last};
                for (std::size_t i = 0; i < seamBinCount; ++i)
                    if (bundle_.bins.contains(seamBins[i]) && lit(spectrum, seamBins[i])) {
                        seam(g * lanes + lane, s, i) = access.rowSum(seamBins[i]);
                        seam(g * lanes + lane, s, seamBinCount + i) = access.qTimesX(seamBins[i]);
                    }
                for (int first = segment.core.first; first < segment.core.last; first += step) {
                    const IndexRange bins{first, first + step};
                    const int patchStep = (first - plan.grid.pad) / step;
                    const Check check = examine(solver, segment, segmentBins_, static_cast<int>(lane), spectrum, bins);
                    const std::uint32_t reasons = judge(check, bounds);
                    if (reasons == 0) {
                        note(plan, spectrum, patchStep, check, 0);
                        writeBins(input, output, spectrum, bins, access);
                    } else {
                        waiting.push_back({spectrum, patchStep, reasons, false, isFar(check, bounds)});
                    }
                }
            }
        }
    }
    // Neighbouring segments must agree where they meet: then both have context enough.
    for (std::size_t segment = 0; segment + 1 < segments_.size(); ++segment) {
        const int patchStep = (segments_[segment].core.last - plan.grid.pad) / step;
        for (int s = 0; s < nspec; ++s) {
            bool agree = true;
            for (const std::size_t which : {std::size_t{0}, std::size_t{1}}) {
                const double a = seam(segment, s, 2 + which);
                const double b = seam(segment + 1, s, which);
                if (!(std::abs(a - b) <= 0.25 * bounds.ivar * std::abs(a))) agree = false;
                const double fluxA = seam(segment, s, seamBinCount + 2 + which); // sigma
                const double fluxB = seam(segment + 1, s, seamBinCount + which);
                if (!(std::abs(fluxA - fluxB) <= 0.25 * bounds.flux)) agree = false;
            }
            if (agree) continue;
            const int spectrum = bundle_.spectra.first + s;
            for (const int at : {patchStep - 1, patchStep}) {
                const auto same = [&](const Waiting& one) { return one.spectrum == spectrum && one.step == at; };
                const auto it = std::find_if(waiting.begin(), waiting.end(), same);
                if (it == waiting.end())
                    waiting.push_back({spectrum, at, bit(PatchStatus::Leaking), true, false});
                else
                    it->seam = true;
            }
        }
    }
}

std::uint32_t SeamlessPath::judge(const Check& check, const ErrorBounds& bounds) {
    if (!(check.condition > 0.0)) return bit(PatchStatus::IllConditioned);
    std::uint32_t reasons = 0;
    if (!(check.error <= bounds.resolution && 2.0 * check.error <= bounds.ivar)) reasons |= bit(PatchStatus::Leaking);
    if (!(check.error * check.snr + check.flux <= bounds.flux)) reasons |= bit(PatchStatus::Bright);
    if (isFar(check, bounds)) reasons |= bit(PatchStatus::Leaking);
    return reasons;
}

bool SeamlessPath::isFar(const Check& check, const ErrorBounds& bounds) {
    return !(check.farError <= 0.25 * bounds.resolution && check.farFlux <= 0.25 * bounds.flux);
}

void SeamlessPath::note(const Plan& plan, int spectrum, int step, const Check& check, std::uint32_t status) {
    PatchReport& report = reportOf(plan, spectrum, step);
    report.status |= status;
    report.error = std::max(report.error, check.error);
    report.condition = std::max(report.condition, check.condition);
}

/// Patches where spectra are coupled with more than their next neighbours, which the blocks do not have: each by itself, with all couplings and
/// as much around it as its results feel. Takes them off the list.
void SeamlessPath::solveWithAllNeighbours(const FrameInput& input, const FrameOutput& output, PatchSolver& exact,
                                          SpotTile& tile, std::vector<Waiting>& waiting) {
    const Plan& plan = *input.plan;
    const IndexRange subbundles = seamless::subbundlesOfBundle(plan, bundle_.subbundle);
    std::vector<std::uint32_t> reasons(reports_.size(), 0);
    const auto patchOf = [&](const Waiting& one) {
        return size(subbundleOf_[size(one.spectrum - bundle_.spectra.first)]) * size(plan.nsteps) + size(one.step);
    };
    for (const Waiting& one : waiting)
        if (one.far) reasons[patchOf(one)] |= one.reasons;
    std::erase_if(waiting, [&](const Waiting& one) { return reasons[patchOf(one)] != 0; });
    FrameOutput spectraOnly = output;
    spectraOnly.reports = nullptr;
    for (int sub = subbundles.first; sub < subbundles.last; ++sub)
        for (int step = 0; step < plan.nsteps; ++step) {
            const std::size_t at = size(sub - subbundles.first) * size(plan.nsteps) + size(step);
            if (reasons[at] == 0) continue;
            const NamedRange range(input.timeline, "exact patch", {plan.subbundles[size(sub)].bundle, step, 1});
            const Patch patch =
                seamless::contextPatch(plan, plan.patch(sub, step), std::max(context_, seamless::contextBins));
            tile.evaluate(input.psf, plan.grid, patch.spectra, patch.bins, plan.options.psfTail);
            exact.solve(input, tile, patch, &spectraOnly, nullptr);
            reports_[at] = exact.report();
            reports_[at].status |= reasons[at] | bit(PatchStatus::Exact);
            for (int s = patch.core.first; s < patch.core.last; ++s)
                for (int bin = patch.coreBins.first; bin < patch.coreBins.last; ++bin)
                    xflux_[flat(s, bin)] = exact.xflux()[size(s - patch.spectra.first) * size(patch.bins.count()) +
                                                         size(bin - patch.bins.first)];
        }
}

/// Q of the spectra and patches that wait, with a wider band and more context, and densely where that does not do either. xflux is there already.
///
/// Consecutive spectra of a patch are a segment by themselves, with the next one on each side that has passed: the other side of those is in their
/// F and G already, which take the place of their own blocks.
void SeamlessPath::decorrelateAnew(const FrameInput& input, const ErrorBounds& bounds, const FrameOutput& output,
                                   std::vector<Waiting>& waiting) {
    const Plan& plan = *input.plan;
    const std::size_t lanes = size(SeamlessSolver::lanes());
    const bool seams = std::any_of(waiting.begin(), waiting.end(), [](const Waiting& one) { return one.seam; });
    const int context = std::max(seams ? tightContext : wideContext, context_);
    const int n = plan.grid.nwavestep + 2 * context;
    std::sort(waiting.begin(), waiting.end(), [](const Waiting& a, const Waiting& b) {
        return a.step != b.step ? a.step < b.step : a.spectrum < b.spectrum;
    });
    struct Run {
        Segment segment;
        std::span<const Waiting> spectra;
    };
    std::vector<Run> runs;
    for (std::size_t begin = 0; begin < waiting.size();) {
        std::size_t end = begin + 1;
        while (end < waiting.size() && waiting[end].step == waiting[begin].step &&
               waiting[end].spectrum == waiting[end - 1].spectrum + 1)
            ++end;
        const int first = plan.grid.pad + waiting[begin].step * plan.grid.nwavestep;
        Run run;
        run.segment.core = {first, first + plan.grid.nwavestep};
        run.segment.first = first - context;
        run.segment.spectra = {std::max(bundle_.spectra.first, waiting[begin].spectrum - 1),
                               std::min(bundle_.spectra.last, waiting[end - 1].spectrum + 2)};
        run.spectra = std::span<const Waiting>(waiting).subspan(begin, end - begin);
        runs.push_back(run);
        begin = end;
    }
    std::stable_sort(runs.begin(), runs.end(), [](const Run& a, const Run& b) {
        return a.segment.spectra.count() < b.segment.spectra.count(); // lanes have one shape
    });
    if (!wide_) wide_ = std::make_unique<SeamlessSolver>();
    std::vector<Segment> segments;
    for (std::size_t begin = 0; begin < runs.size(); begin += lanes) {
        const auto part = std::span<const Run>(runs).subspan(begin, std::min(lanes, runs.size() - begin));
        const int nspec = part.back().segment.spectra.count();
        segments.clear();
        for (const Run& run : part) segments.push_back(run.segment);
        wide_->shape(nspec, n, reach_, plan.ndiag, SeamlessSolver::wideBand, SeamlessSolver::narrowBand + 1);
        gather(*wide_, segments, nspec, n);
        for (std::size_t lane = 0; lane < part.size(); ++lane) closeEnds(segments[lane], n, lane);
        // S is wanted of spectra between the ends, but for the bundle's own.
        int firstAsked = nspec - 1;
        int lastAsked = 0;
        for (const Run& run : part) {
            firstAsked = std::min(firstAsked, run.spectra.front().spectrum - run.segment.spectra.first);
            lastAsked = std::max(lastAsked, run.spectra.back().spectrum - run.segment.spectra.first);
        }
        (void)wide_->eliminate(firstAsked, lastAsked);
        std::vector<std::vector<Waiting>> left(lanes);
        for (int s = 0; s < nspec; ++s) {
            // What is wanted of each lane.
            std::vector<const Waiting*> asked(lanes, nullptr);
            for (std::size_t lane = 0; lane < part.size(); ++lane)
                for (const Waiting& one : part[lane].spectra)
                    if (one.spectrum - segments[lane].spectra.first == s) asked[lane] = &one;
            if (std::count(asked.begin(), asked.end(), nullptr) == static_cast<std::ptrdiff_t>(lanes)) continue;
            for (int i = 0; i < n; ++i)
                for (std::size_t lane = 0; lane < lanes; ++lane) {
                    const int bin = asked[lane] != nullptr ? segments[lane].first + i : -1;
                    wide_->x(s, i)[lane] = bundle_.bins.contains(bin) ? xflux_[flat(asked[lane]->spectrum, bin)] : 0.0;
                }
            wide_->root(s);
            for (std::size_t lane = 0; lane < part.size(); ++lane) {
                if (asked[lane] == nullptr) continue;
                const Waiting& one = *asked[lane];
                const Check check =
                    examine(*wide_, segments[lane], n, static_cast<int>(lane), one.spectrum, segments[lane].core);
                const std::uint32_t reasons = judge(check, bounds);
                if (reasons == 0) {
                    note(plan, one.spectrum, one.step, check, one.reasons | bit(PatchStatus::WideBand));
                    writeBins(input, output, one.spectrum, segments[lane].core,
                              LaneAccess{wide_.get(), s, segments[lane].first, lane});
                } else {
                    left[lane].push_back({one.spectrum, one.step, one.reasons | reasons, one.seam, false});
                }
            }
        }
        for (std::size_t lane = 0; lane < part.size(); ++lane)
            if (!left[lane].empty())
                decorrelateExactly(input, output, segments[lane], n, static_cast<int>(lane), left[lane]);
    }
}

/// Puts F of a segment's first spectrum and G of its last in place of their own blocks, as far as the bundle goes on there. Each bin's row is taken from where its
/// xflux is, so that it does not matter how a segment lies to those of the first rung.
void SeamlessPath::closeEnds(const Segment& segment, int n, std::size_t lane) {
    const std::size_t lanes = size(SeamlessSolver::lanes());
    const int end = std::min(bundle_.bins.last, segment.first + n);
    const auto replace = [&](int spectrum, bool first) {
        for (int bin = std::max(0, segment.first); bin < end; ++bin) {
            const std::size_t home = owner(bin);
            const SeamlessSolver& from = *groups_[home / lanes];
            const int s = spectrum - bundle_.spectra.first;
            const int i = bin - segments_[home].first;
            const int theirs = static_cast<int>(home % lanes);
            double* to = wide_->own(spectrum - segment.spectra.first, bin - segment.first) + lane;
            for (int d = 0; d <= from.band() && bin + d < end; ++d)
                to[size(d) * lanes] = (first ? from.fromFirst(s, i, d) : from.fromLast(s, i, d))[theirs];
        }
    };
    if (segment.spectra.first > bundle_.spectra.first) replace(segment.spectra.first, true);
    if (segment.spectra.last < bundle_.spectra.last) replace(segment.spectra.last - 1, false);
}

namespace {

/// Dense symmetric matrices: upper triangle, rows padded for the kernels.
struct Dense {
    int n = 0;
    std::size_t stride = 0;
    std::vector<double> values;

    explicit Dense(int order)
        : n(order), stride(kernels::paddedStride(size(order))), values(size(order) * stride + kernels::kernelPad) {}
    [[nodiscard]] double& operator()(int i, int j) { return values[size(i) * stride + size(j)]; }
};

struct DenseAccess {
    const std::vector<double>* q;
    const std::vector<double>* rowSums;
    const std::vector<double>* qx;
    int n;
    int first;
    [[nodiscard]] double rowSum(int bin) const { return (*rowSums)[size(bin - first)]; }
    [[nodiscard]] double qTimesX(int bin) const { return (*qx)[size(bin - first)]; }
    [[nodiscard]] double element(int bin, int d) const {
        return (*q)[size(bin - first) * size(n) + size(bin - first + d)];
    }
};

} // namespace

/// The last rung, for some spectra of one segment: the elimination with dense blocks, and Q by eigen-decomposition.
void SeamlessPath::decorrelateExactly(const FrameInput& input, const FrameOutput& output, const Segment& segment, int n,
                                      int lane, const std::vector<Waiting>& spectra) {
    const Plan& plan = *input.plan;
    const NamedRange range(input.timeline, "exact patch",
                           {plan.subbundles[size(bundle_.subbundle)].bundle, spectra.front().step, 1});
    SeamlessSolver& solver = *wide_;
    const std::size_t lanes = size(SeamlessSolver::lanes());
    const int count = segment.spectra.count();
    const auto own = [&](int s, Dense& to, double factor) {
        for (int i = 0; i < n; ++i)
            for (int d = 0; d < static_cast<int>(solver.ownWidth()) && i + d < n; ++d)
                to(i, i + d) += factor * solver.own(s, i)[size(d) * lanes + size(lane)];
    };
    std::vector<double> factor;
    std::vector<double> columns;
    std::vector<int> columnCount(size(n));
    for (int i = 0; i < n; ++i) columnCount[size(i)] = std::min(n, i + reach_ + 1);
    // to -= E^T from^-1 E for the coupling of spectrum s with s + 1, or its transpose.
    const auto eliminate = [&](const Dense& from, int s, bool forward, Dense& to) {
        factor.assign(size(n) * from.stride + kernels::kernelPad, 0.0);
        for (int i = 0; i < n; ++i)
            std::copy_n(from.values.begin() + static_cast<std::ptrdiff_t>(size(i) * from.stride + size(i)), n - i,
                        factor.begin() + static_cast<std::ptrdiff_t>(size(i) * from.stride));
        columns.assign(size(n) * from.stride + kernels::kernelPad, 0.0);
        for (int i = 0; i < n; ++i)
            for (int j = std::max(0, i - reach_); j <= std::min(n - 1, i + reach_); ++j) {
                const double value = solver.next(s, i)[size(j - i + reach_) * lanes + size(lane)];
                columns[forward ? size(i) * from.stride + size(j) : size(j) * from.stride + size(i)] = value;
            }
        const kernels::BandView u{factor.data(), n, n - 1, from.stride};
        if (!kernels::choleskyBand(u)) return false;
        kernels::forwardSubstitute(u, columns.data(), from.stride, columnCount.data());
        kernels::subtractGram(columns.data(), from.stride, columnCount.data(), n, to.values.data(), n);
        return true;
    };

    std::vector<Dense> left(size(count), Dense(n));
    std::vector<Dense> right(size(count), Dense(n));
    bool good = true;
    own(0, left[0], 1.0);
    for (int s = 0; s + 1 < count && good; ++s) {
        own(s + 1, left[size(s + 1)], 1.0);
        good = eliminate(left[size(s)], s, true, left[size(s + 1)]);
    }
    own(count - 1, right[size(count - 1)], 1.0);
    for (int s = count - 1; s > 0 && good; --s) {
        own(s - 1, right[size(s - 1)], 1.0);
        good = eliminate(right[size(s)], s - 1, false, right[size(s - 1)]);
    }

    std::vector<double> square(size(n) * size(n));
    std::vector<double> q;
    std::vector<double> rowSums(size(n));
    std::vector<double> qx(size(n));
    for (const Waiting& one : spectra) {
        Check check;
        const int s = one.spectrum - segment.spectra.first;
        Dense& schur = left[size(s)];
        for (int i = 0; i < n && good; ++i)
            for (int j = i; j < n; ++j) schur(i, j) += right[size(s)](i, j);
        if (good) own(s, schur, -1.0);
        for (int i = 0; i < n && good; ++i)
            for (int j = i; j < n; ++j)
                square[size(i) * size(n) + size(j)] = square[size(j) * size(n) + size(i)] = schur(i, j);
        if (!good || !eigen_.compute(square.data(), n)) {
            note(plan, one.spectrum, one.step, check, one.reasons | bit(PatchStatus::Failed));
            continue;
        }
        const std::vector<double>& values = eigen_.values();
        check.condition =
            values.front() > 0.0 ? values.back() / values.front() : std::numeric_limits<double>::infinity();
        std::vector<double> roots(values.size());
        for (std::size_t i = 0; i < roots.size(); ++i) roots[i] = std::sqrt(std::max(values[i], 0.0));
        eigen_.compose(roots, q);
        for (int i = 0; i < n; ++i) {
            rowSums[size(i)] = qx[size(i)] = 0.0;
            for (int j = 0; j < n; ++j) {
                const int bin = segment.first + j;
                const double value = q[size(i) * size(n) + size(j)];
                rowSums[size(i)] += value;
                if (bundle_.bins.contains(bin)) qx[size(i)] += value * xflux_[flat(one.spectrum, bin)];
            }
        }
        note(plan, one.spectrum, one.step, check, one.reasons | bit(PatchStatus::Exact));
        writeBins(input, output, one.spectrum, segment.core, DenseAccess{&q, &rowSums, &qx, n, segment.first});
    }
}

/// chi2pix and masked fraction, row by row: model of all spectra, chi2 of its pixels, and their sums over spots.
void SeamlessPath::measure(const FrameInput& input, const FrameOutput& output) {
    const Plan& plan = *input.plan;
    const CcdView& ccd = input.ccd;
    ExtractedFrame& frame = *output.frame;
    const int nspec = bundle_.spectra.count();
    const int slots = chunks_.front()->spots.slotCount();
    struct alignas(64) Sums {
        double value[2 * SpotRows::manySlots] = {};
    };
    std::vector<Sums> sums(size(nspec));
    for (std::size_t c = 0; c < chunkCount_; ++c) {
        const Chunk& chunk = *chunks_[c];
        const SpotRows& spots = chunk.spots;
        const IndexRange rows = spots.rows();
        const int width = spots.width();
        for (Sums& sum : sums) sum = {};
        for (int s = bundle_.spectra.first; s < bundle_.spectra.last; ++s) {
            if (!wanted(plan, s)) continue;
            const std::size_t row = size(s - plan.specmin);
            for (int bin = std::max(chunk.bins.first, bundle_.keepBins.first);
                 bin < std::min(chunk.bins.last, bundle_.keepBins.last); ++bin) {
                const std::size_t column = size(bin - plan.grid.pad);
                const std::size_t at = flat(s, bin);
                const double fraction = std::max(0.0, spots.spotSum(s, bin) - chunk.sums.unmasked(s, bin));
                frame.xflux(row, column) = xflux_[at];
                frame.fluxweight(row, column) = fluxweight_[at];
                frame.chi2pix(row, column) = 0.0;
                frame.pixmaskFraction(row, column) = fraction;
                frame.mask(row, column) = binMask(fraction, fluxweight_[at], spots.onCcd(s, bin, ccd.nx, ccd.ny));
            }
        }
        for (int row = rows.first; row < rows.last; ++row) {
            int left = std::numeric_limits<int>::max();
            int right = std::numeric_limits<int>::min();
            bool needed = false; // by a bin of this chunk
            for (int s = bundle_.spectra.first; s < bundle_.spectra.last; ++s) {
                const IndexRange active = spots.active(s, row);
                if (active.empty()) continue;
                left = std::min(left, spots.columnOrigin(s, row));
                right = std::max(right, spots.columnOrigin(s, row) + width);
                needed = needed || (active.first < chunk.bins.last && active.last > chunk.bins.first);
            }
            if (!needed) continue;
            const std::size_t columns = size(right - left);
            model_.assign(columns, 0.0);
            chi2_.assign(columns, 0.0);
            counted_.assign(columns, 0.0);
            for (int s = bundle_.spectra.first; s < bundle_.spectra.last; ++s) {
                const IndexRange active = spots.active(s, row);
                if (active.empty()) continue;
                alignas(64) double flux[SpotRows::manySlots] = {};
                for (int bin = active.first; bin < active.last; ++bin) flux[bin % slots] = xflux_[flat(s, bin)];
                spots.addModelRow(s, row, flux, model_.data() + (spots.columnOrigin(s, row) - left));
            }
            const int first = std::max(0, left);
            const int last = std::min(ccd.nx, right);
            if (first < last) {
                const std::size_t line = size(row) * size(ccd.nx) + size(first);
                const std::size_t at = size(first - left);
                pixelQuality(ccd.pixels + line, ccd.weights + line, model_.data() + at, last - first, plan.psferr,
                             chi2_.data() + at, counted_.data() + at);
            }
            for (int s = bundle_.spectra.first; s < bundle_.spectra.last; ++s) {
                const IndexRange active = spots.active(s, row);
                if (active.empty() || !wanted(plan, s)) continue;
                double* sum = sums[size(s - bundle_.spectra.first)].value;
                const int at = spots.columnOrigin(s, row) - left;
                spots.addChi2Row(s, row, chi2_.data() + at, counted_.data() + at, sum);
                for (int bin = active.first; bin < active.last; ++bin) {
                    if (row != std::min(spots.cornerY(s, bin) + spots.stampY(), rows.last) - 1) continue;
                    const double below = sum[slots + bin % slots];
                    if (below > 0.0 && chunk.bins.contains(bin) && bundle_.keepBins.contains(bin))
                        frame.chi2pix(size(s - plan.specmin), size(bin - plan.grid.pad)) = sum[bin % slots] / below;
                    sum[bin % slots] = sum[slots + bin % slots] = 0.0;
                }
            }
        }
    }
    // Patches without any light.
    const IndexRange subbundles = seamless::subbundlesOfBundle(plan, bundle_.subbundle);
    for (int sub = subbundles.first; sub < subbundles.last; ++sub)
        for (int step = 0; step < plan.nsteps; ++step) {
            const Patch patch = plan.patch(sub, step);
            bool any = false;
            for (int s = patch.spectra.first; s < patch.spectra.last && !any; ++s)
                for (int bin = patch.bins.first; bin < patch.bins.last && !any; ++bin)
                    any = fluxweight_[flat(s, bin)] > 0.0;
            if (!any)
                reports_[size(sub - subbundles.first) * size(plan.nsteps) + size(step)] = {bit(PatchStatus::NoPixels),
                                                                                           0.0, 0.0};
        }
}

/// Layouts that do not suit: every patch by itself, with as much around it as its results feel.
void SeamlessPath::solveExactly(const FrameInput& input, const FrameOutput& output, PatchSolver& exact,
                                SpotTile& tile) const {
    const Plan& plan = *input.plan;
    const IndexRange subbundles = seamless::subbundlesOfBundle(plan, bundle_.subbundle);
    for (int sub = subbundles.first; sub < subbundles.last; ++sub)
        for (int step = 0; step < plan.nsteps; ++step) {
            const NamedRange range(input.timeline, "exact patch", {plan.subbundles[size(sub)].bundle, step, 1});
            const Patch patch = seamless::contextPatch(plan, plan.patch(sub, step));
            tile.evaluate(input.psf, plan.grid, patch.spectra, patch.bins, plan.options.psfTail);
            exact.solve(input, tile, patch, &output, nullptr);
            if (output.reports != nullptr)
                output.reports[size(sub) * size(plan.nsteps) + size(step)].status |=
                    bit(PatchStatus::Exact) | bit(PatchStatus::Layout);
        }
}

} // namespace patchlight
