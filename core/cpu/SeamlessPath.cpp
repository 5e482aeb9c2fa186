#include "core/cpu/SeamlessPath.h"

#include "core/base/Timeline.h"
#include "core/engine/Physics.h"
#include "core/engine/Seamless.h"
#include "core/frame/ExtractedFrame.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <utility>

namespace patchlight {

namespace {

std::size_t size(int count) { return static_cast<std::size_t>(count); }

std::uint32_t bit(PatchStatus status) { return static_cast<std::uint32_t>(status); }

/// Bins of a chunk: few enough that spots stay small, many enough that those of its margins do not count.
constexpr int chunkBins = 800;
/// Spots that a thread keeps at most, in doubles: 128 MiB, what a bundle of DESI's r camera needs.
constexpr std::size_t mostSpotValues = std::size_t{1} << 24;
/// Bins of context on both sides of a segment, of a patch whose Q is computed anew, and where it must not be felt at all.
constexpr int usualContext = 40; ///< 66 where bins are narrow, and condition numbers higher
constexpr int wideContext = 56;
constexpr int tightContext = 100;
/// Bands of the first rung: the first of them that holds a spectrum's own block and ndiag diagonals.
constexpr std::array<SeamlessSolver::Bands, 3> usualBands{{{8, 24, 30}, {14, 48, 54}, {20, 48, 54}}};
/// Norm of what lies beyond a band over its largest element: it falls off by a factor e every five bins.
constexpr double outerNorm = 10.0;
/// Solutions of the segments until the residual must have vanished.
constexpr int mostRounds = 12;

bool wanted(const Plan& plan, int spectrum) { return spectrum >= plan.specmin && spectrum < plan.specmin + plan.nspec; }

} // namespace

PatchReport& SeamlessPath::reportOf(const Plan& plan, int spectrum, int step) {
    return reports_[size(subbundleOf_[size(spectrum - bundle_.spectra.first)]) * size(plan.nsteps) + size(step)];
}

void SeamlessPath::run(const FrameInput& input, const Batch& batch, const FrameOutput& output,
                       const ErrorBounds& bounds, int slotCount, PatchSolver& exact, SpotTile& tile) {
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

    if (!locate(input, slotCount)) {
        solveExactly(input, output, exact, tile);
        return;
    }
    std::size_t held = 0;
    for (std::size_t c = 0; c < chunkCount_; ++c) {
        Chunk& chunk = *chunks_[c];
        chunk.kept = held + chunk.spots.valueCount() <= mostSpotValues;
        if (chunk.kept)
            held += chunk.spots.valueCount();
        else
            shareMemory(chunk);
        // Row by row up the CCD: what has been evaluated is summed up while it is in the cache.
        chunk.spots.startEvaluation();
        chunk.sums.start(chunk.spots);
        for (int group = chunk.spots.firstGroup(); group < chunk.spots.bins().last; group += SpotRows::groupBins) {
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
    const int context = bands_.narrow > usualBands.front().narrow ? usualContext + 26 : usualContext;
    context_ = std::max(bounds.flux < ErrorBounds().flux ? tightContext : context, plan.grid.pad);
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
    // Apart, because what waits at a seam needs more context.
    const auto atSeam =
        std::stable_partition(waiting.begin(), waiting.end(), [](const Waiting& one) { return !one.seam; });
    std::vector<Waiting> seams(atSeam, waiting.end());
    waiting.erase(atSeam, waiting.end());
    for (const auto& [part, least] : {std::pair(&waiting, wideContext), std::pair(&seams, tightContext)}) {
        const int anew = std::max(least, context_);
        if (!part->empty()) decorrelateWider(input, bounds, output, anew, *part);
        if (!part->empty()) decorrelateAnew(input, output, anew, *part);
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

/// Makes room for the spots of a chunk that is not kept, by those of another.
void SeamlessPath::shareMemory(Chunk& chunk) {
    if (shared_ != nullptr && shared_ != &chunk && !shared_->kept) chunk.spots.takeMemory(shared_->spots);
    shared_ = &chunk;
}

const SeamlessPath::Chunk& SeamlessPath::chunkOf(int bin) const { return *chunks_[size(bin / chunkBins)]; }

std::size_t SeamlessPath::owner(int bin) const {
    const int length = segmentBins_ - 2 * context_;
    const int last = static_cast<int>(segments_.size()) - 1;
    return size(std::clamp((bin - bundle_.coreBins.first) / length, 0, last));
}

/// Cuts the bundle into chunks. @return false where the layout does not suit
bool SeamlessPath::locate(const FrameInput& input, int slotCount) {
    const Plan& plan = *input.plan;
    const auto suits = [&](const SeamlessSolver::Bands& bands) {
        return bands.narrow >= std::max(plan.ndiag, SpotRows::mostBins(slotCount) - 1);
    };
    const auto bands = std::find_if(usualBands.begin(), usualBands.end(), suits);
    if (bands == usualBands.end()) return false;
    bands_ = *bands;
    const IndexRange rows = seamless::bundleRows(input.psf, plan, bundle_.subbundle, input.ccd.ny);
    const int count = (bundle_.bins.count() + chunkBins - 1) / chunkBins;
    chunkCount_ = size(count);
    while (chunks_.size() < chunkCount_) chunks_.push_back(std::make_unique<Chunk>());
    // A chunk's spots reach as far beyond it as spots share rows with its own.
    for (const int margin : {slotCount, 2 * slotCount}) {
        reach_ = SpotRows::fewSlots - 1;
        for (int c = 0; c < count; ++c) {
            Chunk& chunk = *chunks_[size(c)];
            chunk.bins = {c * chunkBins, std::min(bundle_.bins.last, (c + 1) * chunkBins)};
            const IndexRange reached{std::max(0, chunk.bins.first - margin),
                                     std::min(bundle_.bins.last, chunk.bins.last + margin)};
            if (!chunk.spots.locate(input.psf, plan.grid, bundle_.spectra, reached, rows, slotCount)) return false;
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
    masked_.resize(bins);
    for (std::size_t c = 0; c < chunkCount_; ++c) {
        const Chunk& chunk = *chunks_[c];
        for (int s = bundle_.spectra.first; s < bundle_.spectra.last; ++s)
            for (int bin = chunk.bins.first; bin < chunk.bins.last; ++bin) {
                fluxweight_[flat(s, bin)] = chunk.sums.fluxweight(s, bin);
                y_[flat(s, bin)] = chunk.sums.y(s, bin);
                second_[flat(s, bin)] = chunk.sums.second(s, bin);
                masked_[flat(s, bin)] = chunk.spots.spotSum(s, bin) - chunk.sums.unmasked(s, bin) > maskedShare ? 1 : 0;
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
        group->shape(bundle_.spectra.count(), segmentBins_, reach_, plan.ndiag, bands_,
                     SpotRows::mostBins(chunks_.front()->spots.slotCount()));
    }
}

std::span<const SeamlessPath::Segment> SeamlessPath::segmentsOf(std::size_t group) const {
    const std::size_t lanes = size(SeamlessSolver::lanes());
    return std::span(segments_).subspan(group * lanes, std::min(lanes, segments_.size() - group * lanes));
}

/// Normal equations of some segments of `nspec` spectra and `n` bins, prior included. Bins without light, and those beyond the bundle's ends, are coupled to
/// nothing; their diagonal is the largest of their spectrum, so that they count for nothing in bounds of eigenvalues.
template <class Solver>
void SeamlessPath::gather(Solver& solver, std::span<const Segment> segments, int nspec, int n) const {
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
                             const Access& access) {
    const Plan& plan = *input.plan;
    if (!wanted(plan, spectrum)) return;
    ExtractedFrame& frame = *output.frame;
    const int ndiag = plan.ndiag;
    const std::size_t row = size(spectrum - plan.specmin);
    // 1 / row sum of Q, 0 for bins without light, of the bins and those that R couples them with.
    const int first = bins.first - ndiag;
    normal_.assign(size(bins.count() + 2 * ndiag), 0.0);
    for (int bin = std::max(0, first); bin < std::min(bundle_.bins.last, bins.last + ndiag); ++bin) {
        const double sum = lit(spectrum, bin) ? access.rowSum(bin) : 0.0;
        if (sum != 0.0) normal_[size(bin - first)] = 1.0 / sum;
    }
    const bool deconvolved = plan.options.modelFlux == ModelFlux::Deconvolved;
    for (int bin = bins.first; bin < bins.last; ++bin) {
        const double normal = normal_[size(bin - first)];
        const double flux = normal != 0.0 ? access.qTimesX(bin) * normal : 0.0;
        if (output.modelFlux != nullptr)
            (*output.modelFlux)(row, size(bin - plan.grid.pad)) = !deconvolved         ? flux
                                                                  : lit(spectrum, bin) ? xflux_[flat(spectrum, bin)]
                                                                                       : 0.0;
        if (!bundle_.keepBins.contains(bin)) continue;
        const double sum = normal != 0.0 ? access.rowSum(bin) : 0.0;
        frame.flux(row, size(bin - plan.grid.pad)) = flux;
        frame.ivar(row, size(bin - plan.grid.pad)) = sum * sum;
    }
    const IndexRange kept{std::max(bins.first, bundle_.keepBins.first), std::min(bins.last, bundle_.keepBins.last)};
    if (kept.empty()) return;
    for (int k = 0; k <= 2 * ndiag; ++k) {
        const int offset = k - ndiag; // R[bin + offset, bin]
        double* to = &frame.resolution(row, size(k), size(kept.first - plan.grid.pad));
        for (int bin = kept.first; bin < kept.last; ++bin) {
            const double normal = normal_[size(bin + offset - first)];
            *to++ = normal != 0.0 && normal_[size(bin - first)] != 0.0
                        ? access.element(bin + std::min(offset, 0), std::abs(offset)) * normal
                        : 0.0;
        }
    }
}

namespace {

/// Q of a lane, by bins of the bundle.
struct LaneAccess {
    const SeamlessSolver* solver;
    int first; ///< bin of its index 0
    std::size_t lane;
    [[nodiscard]] double rowSum(int bin) const { return solver->rowSum(bin - first)[lane]; }
    [[nodiscard]] double qTimesX(int bin) const { return solver->qTimesX(bin - first)[lane]; }
    [[nodiscard]] double element(int bin, int d) const { return solver->q(bin - first, d)[lane]; }
};

/// The same of a full matrix.
struct ExactAccess {
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

/// The same of full blocks in lanes.
struct DenseAccess {
    const LaneSolver* solver;
    int spectrum; ///< of the solver
    int first;
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
    double outer = 0.0;
    double taken = 0.0;
    double light = 0.0;
    double left = 0.0;    // of the right-hand sides
    double second = 0.0;  // coupling with the second neighbours, which the blocks do not have
    double skipped = 0.0; // what that is in the right-hand sides: a bin is coupled with a few of the other spectrum's
    double darkest = std::numeric_limits<double>::infinity(); // row sum of Q, of the bins with masked pixels
    const int low = std::max(0, bins.first - segment.first - seamless::neighbourhood);
    const int high = std::min(n, bins.last - segment.first + seamless::neighbourhood);
    const auto xflux = [&](int other, int bin) {
        return bundle_.spectra.contains(other) ? xflux_[flat(other, bin)] : 0.0;
    };
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
        outer = std::max(outer, solver.outer(i, lane));
        taken = std::max(taken, solver.taken(s, i, lane));
        left = std::max(left, std::abs(residual_[at]) * remaining_);
        if (!lit(spectrum, bin)) continue;
        const double rowSum = std::abs(solver.rowSum(i)[lane]);
        light = std::max(light, lightInDoubt(rowSum, xflux_[at], xflux(spectrum - 1, bin), xflux(spectrum + 1, bin)));
        if (masked_[at] != 0 && bins.contains(bin)) darkest = std::min(darkest, rowSum);
    }
    constexpr double leastRelative = 1e-9; // what the ladder reaches
    if (largest > 0.0) {
        const double least = std::max(lowest, leastRelative * largest);
        check.farError = second / std::sqrt(least * largest);
        check.farFlux = skipped / std::sqrt(least);
    }
    check.contraction = 1.0;
    if (!(lowest > 0.0)) return check;
    check.condition = largest / lowest;
    const double norm = std::sqrt(lowest * largest);
    check.contraction = std::min(1.0, outerNorm * outer / lowest);
    check.taken = std::min(taken, outerNorm * outer) / norm;
    // Of what lies beyond the narrow band the solutions leave its square.
    check.error = (leak + check.contraction * outer) / norm + inverseSquareRootError(check.condition);
    check.diagonals = check.error + rootDiagonalError(solver.bands().narrow) * outer / norm;
    if (check.contraction > 0.1) check.condition = 0.0; // no correction
    if (std::isfinite(darkest)) check.contrast = std::max(2.0, std::sqrt(largest) / darkest);
    check.sensitivity = relativeFluxError(std::sqrt(check.condition), light);
    check.residual = left / std::sqrt(lowest);
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
    checks_.assign(size(nspec) * size(plan.nsteps), {});
    std::vector<char> kept(checks_.size(), 0);
    for (std::size_t g = 0; g < groups_.size(); ++g) {
        SeamlessSolver& solver = *groups_[g];
        const std::span<const Segment> segments = segmentsOf(g);
        for (int s = 0; s < nspec; ++s) {
            const int spectrum = bundle_.spectra.first + s;
            solver.root(s);
            for (std::size_t lane = 0; lane < segments.size(); ++lane) {
                const Segment& segment = segments[lane];
                const LaneAccess access{&solver, segment.first, lane};
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
                    const std::size_t at = size(s) * size(plan.nsteps) + size(patchStep);
                    checks_[at] = check;
                    if (reasons == 0) {
                        kept[at] = 1;
                        note(plan, spectrum, patchStep, check, 0);
                        writeBins(input, output, spectrum, bins, access);
                    } else {
                        waiting.push_back({spectrum, patchStep, reasons, false, isFar(check, bounds)});
                    }
                }
            }
        }
    }
    // Beside a spectrum whose narrow band does not do.
    for (int s = 0; s < nspec; ++s)
        for (int patchStep = 0; patchStep < plan.nsteps; ++patchStep) {
            const std::size_t at = size(s) * size(plan.nsteps) + size(patchStep);
            const int spectrum = bundle_.spectra.first + s;
            if (kept[at] != 0 && isTainted(plan, spectrum, patchStep, checks_[at], bounds))
                waiting.push_back({spectrum, patchStep, bit(PatchStatus::Leaking), false, false});
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
    std::uint32_t reasons = refusal(bounds, check.error, check.contrast, check.sensitivity);
    if (!(check.diagonals <= bounds.resolution)) reasons |= bit(PatchStatus::Leaking);
    if (!(check.error * check.sensitivity + check.residual <= bounds.flux)) reasons |= bit(PatchStatus::Bright);
    if (isFar(check, bounds)) reasons |= bit(PatchStatus::Leaking);
    return reasons;
}

/// A neighbour t is eliminated by the narrow part of F_t. With C what lies beyond, that leaves out E^T F_t^-1 C F_t^-1 E, at most |C|/lmin times what it takes
/// from S, E^T F_t^-1 E; and where F_t^-1 is as large as 1/lmin, for the vectors that change sign from bin to bin, that is no more than what falls off slowly.
bool SeamlessPath::isTainted(const Plan& plan, int spectrum, int step, const Check& check,
                             const ErrorBounds& bounds) const {
    double contraction = 0.0;
    for (const int other : {spectrum - 1, spectrum + 1})
        if (bundle_.spectra.contains(other))
            contraction = std::max(
                contraction, checks_[size(other - bundle_.spectra.first) * size(plan.nsteps) + size(step)].contraction);
    const double error = check.taken * contraction;
    return !(error <= 0.25 * bounds.resolution && error * check.sensitivity <= 0.25 * bounds.flux);
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

/// The second rung, for the spectra and patches that wait: Q of the same S, from factors with a wider band and with more context. Takes those for which that
/// does off the list.
void SeamlessPath::decorrelateWider(const FrameInput& input, const ErrorBounds& bounds, const FrameOutput& output,
                                    int context, std::vector<Waiting>& waiting) {
    const Plan& plan = *input.plan;
    const NamedRange range(input.timeline, "wide band");
    const std::size_t lanes = size(SeamlessSolver::lanes());
    const int n = plan.grid.nwavestep + 2 * context;
    const SeamlessSolver::Bands bands{SeamlessSolver::narrowBands[2], bands_.wide, bands_.tail};
    if (!wide_) wide_ = std::make_unique<SeamlessSolver>();
    wide_->shape(1, n, reach_, plan.ndiag, bands, 1);
    std::vector<Waiting> left;
    for (std::size_t begin = 0; begin < waiting.size(); begin += lanes) {
        const std::size_t count = std::min(lanes, waiting.size() - begin);
        std::fill_n(wide_->schur(0, 0), size(n) * size(bands.wide + 1) * lanes, 0.0);
        for (double* values : {wide_->own(0, 0), wide_->leak(0, 0), wide_->x(0, 0)})
            std::fill_n(values, size(n) * lanes, 0.0);
        std::vector<Segment> segments;
        for (std::size_t lane = 0; lane < lanes; ++lane) {
            const Waiting& one = waiting[begin + std::min(lane, count - 1)];
            const int first = plan.grid.pad + one.step * plan.grid.nwavestep;
            segments.push_back(
                {{first, first + plan.grid.nwavestep}, first - context, {one.spectrum, one.spectrum + 1}});
            copySchur(one.spectrum, first - context, n, lane);
        }
        wide_->root(0);
        for (std::size_t lane = 0; lane < count; ++lane) {
            Waiting& one = waiting[begin + lane];
            const Check check =
                examine(*wide_, segments[lane], n, static_cast<int>(lane), one.spectrum, segments[lane].core);
            std::uint32_t reasons = judge(check, bounds);
            if (isTainted(plan, one.spectrum, one.step, check, bounds)) reasons |= bit(PatchStatus::Leaking);
            one.reasons |= reasons;
            if (reasons != 0) {
                left.push_back(one);
                continue;
            }
            note(plan, one.spectrum, one.step, check, one.reasons | bit(PatchStatus::WideBand));
            writeBins(input, output, one.spectrum, segments[lane].core,
                      LaneAccess{wide_.get(), segments[lane].first, lane});
        }
    }
    waiting = std::move(left);
}

/// S, xflux and leak of a spectrum's bins from `first` on, into a lane of wide_. Each row is taken from the segment that the bin's xflux is from.
void SeamlessPath::copySchur(int spectrum, int first, int n, std::size_t lane) {
    const std::size_t lanes = size(SeamlessSolver::lanes());
    const int s = spectrum - bundle_.spectra.first;
    const int end = std::min(bundle_.bins.last, first + n);
    double largest = 0.0;
    for (int bin = std::max(0, first); bin < end; ++bin) {
        const std::size_t home = owner(bin);
        const SeamlessSolver& from = *groups_[home / lanes];
        const int i = bin - segments_[home].first;
        const std::size_t theirs = home % lanes;
        const double* row = from.schur(s, i) + theirs;
        double* to = wide_->schur(0, bin - first) + lane;
        for (int d = 0; d <= bands_.wide && bin + d < end; ++d) to[size(d) * lanes] = row[size(d) * lanes];
        largest = std::max(largest, row[0]);
        wide_->leak(0, bin - first)[lane] = from.leak(s, i, static_cast<int>(theirs));
        wide_->own(0, bin - first)[lane] = row[0] + from.taken(s, i, static_cast<int>(theirs));
        wide_->x(0, bin - first)[lane] = xflux_[flat(spectrum, bin)];
    }
    for (int i = 0; i < n; ++i)
        if (!bundle_.bins.contains(first + i))
            wide_->schur(0, i)[lane] = wide_->own(0, i)[lane] = largest > 0.0 ? largest : 1.0;
}

/// The third rung: Q from elimination anew with full blocks. xflux is there already.
void SeamlessPath::decorrelateAnew(const FrameInput& input, const FrameOutput& output, int context,
                                   std::vector<Waiting>& waiting) {
    const Plan& plan = *input.plan;
    const std::size_t lanes = size(SeamlessSolver::lanes());
    const int n = plan.grid.nwavestep + 2 * context;
    std::vector<Run> runs = makeRuns(plan, waiting, context);
    const NamedRange range(input.timeline, "full blocks");
    if (!dense_) dense_ = std::make_unique<LaneSolver>();
    for (std::size_t begin = 0; begin < runs.size(); begin += lanes) {
        const auto part = std::span<Run>(runs).subspan(begin, std::min(lanes, runs.size() - begin));
        std::vector<Segment> segments;
        for (const Run& run : part) segments.push_back(run.segment);
        const int nspec = part.back().segment.spectra.count();
        dense_->shape(nspec, n, reach_, size(bands_.narrow + 1), plan.ndiag);
        gather(*dense_, segments, nspec, n);
        for (std::size_t lane = 0; lane < part.size(); ++lane) closeEnds(*dense_, segments[lane], n, lane);
        std::fill_n(dense_->y(0, 0), size(nspec) * size(n) * lanes, 0.0);
        int first = nspec;
        int last = 0;
        for (const Run& run : part) {
            first = std::min(first, run.spectra.front().spectrum - run.segment.spectra.first);
            last = std::max(last, run.spectra.back().spectrum + 1 - run.segment.spectra.first);
        }
        dense_->solveDense(first, last, false);
        forAsked(part, nspec, [&](int s, std::span<const Waiting* const> asked) {
            fillXflux(*dense_, s, segments, asked, n);
            std::vector<std::vector<double>> schur(part.size()); // [n][n]; rootDense() takes its own to pieces
            for (std::size_t lane = 0; lane < part.size(); ++lane) {
                if (asked[lane] == nullptr) continue;
                schur[lane].resize(size(n) * size(n));
                for (int i = 0; i < n; ++i)
                    for (int j = i; j < n; ++j)
                        schur[lane][size(i) * size(n) + size(j)] = schur[lane][size(j) * size(n) + size(i)] =
                            dense_->schur(s, i, j)[lane];
            }
            dense_->rootDense(s);
            for (std::size_t lane = 0; lane < part.size(); ++lane) {
                if (asked[lane] == nullptr) continue;
                const Waiting& one = *asked[lane];
                Check check;
                check.condition = dense_->conditionBound(s)[lane];
                if (!(check.condition > 0.0)) {
                    decorrelateExactly(input, output, segments[lane], n, schur[lane], one);
                    continue;
                }
                note(plan, one.spectrum, one.step, check, one.reasons | bit(PatchStatus::Exact));
                writeBins(input, output, one.spectrum, segments[lane].core,
                          DenseAccess{dense_.get(), s, segments[lane].first, lane});
            }
        });
    }
}

/// The last rung: Q of a segment's S by eigen-decomposition, where its condition number is beyond all poles.
void SeamlessPath::decorrelateExactly(const FrameInput& input, const FrameOutput& output, const Segment& segment, int n,
                                      const std::vector<double>& schur, const Waiting& one) {
    const Plan& plan = *input.plan;
    const NamedRange range(input.timeline, "exact patch",
                           {plan.subbundles[size(bundle_.subbundle)].bundle, one.step, 1});
    Check check;
    if (!std::isfinite(schur.front()) || !eigen_.compute(schur.data(), n)) {
        note(plan, one.spectrum, one.step, check, one.reasons | bit(PatchStatus::Failed));
        return;
    }
    const std::vector<double>& values = eigen_.values();
    check.condition = values.front() > 0.0 ? values.back() / values.front() : std::numeric_limits<double>::infinity();
    std::vector<double> roots(values.size());
    for (std::size_t i = 0; i < roots.size(); ++i) roots[i] = std::sqrt(std::max(values[i], 0.0));
    std::vector<double> q;
    eigen_.compose(roots, q);
    std::vector<double> rowSums(size(n), 0.0);
    std::vector<double> qx(size(n), 0.0);
    for (int i = 0; i < n; ++i)
        for (int j = 0; j < n; ++j) {
            const int bin = segment.first + j;
            const double value = q[size(i) * size(n) + size(j)];
            rowSums[size(i)] += value;
            if (bundle_.bins.contains(bin)) qx[size(i)] += value * xflux_[flat(one.spectrum, bin)];
        }
    note(plan, one.spectrum, one.step, check, one.reasons | bit(PatchStatus::Exact));
    writeBins(input, output, one.spectrum, segment.core, ExactAccess{&q, &rowSums, &qx, n, segment.first});
}

/// Consecutive spectra of a patch are a segment by themselves, with two more on each side: what is beyond those is in their F and G already, which
/// take the place of their own blocks (closeEnds()). Sorted by the number of spectra, since lanes have one shape.
std::vector<SeamlessPath::Run> SeamlessPath::makeRuns(const Plan& plan, std::vector<Waiting>& waiting,
                                                      int context) const {
    std::sort(waiting.begin(), waiting.end(), [](const Waiting& a, const Waiting& b) {
        return a.step != b.step ? a.step < b.step : a.spectrum < b.spectrum;
    });
    std::vector<Run> runs;
    for (const Waiting& one : waiting) {
        if (!runs.empty() && runs.back().spectra.back().step == one.step &&
            runs.back().spectra.back().spectrum + 1 == one.spectrum) {
            runs.back().spectra.push_back(one);
        } else {
            const int first = plan.grid.pad + one.step * plan.grid.nwavestep;
            Run run;
            run.segment.core = {first, first + plan.grid.nwavestep};
            run.segment.first = first - context;
            run.segment.spectra.first = std::max(bundle_.spectra.first, one.spectrum - 2);
            run.spectra = {one};
            runs.push_back(std::move(run));
        }
        runs.back().segment.spectra.last = std::min(bundle_.spectra.last, one.spectrum + 3);
    }
    std::stable_sort(runs.begin(), runs.end(),
                     [](const Run& a, const Run& b) { return a.segment.spectra.count() < b.segment.spectra.count(); });
    return runs;
}

/// Calls body(spectrum of the segments, what is wanted of it in each lane) for spectra that are wanted in any.
template <class Body> void SeamlessPath::forAsked(std::span<const Run> part, int nspec, const Body& body) {
    std::array<const Waiting*, LaneSolver::mostLanes> asked{};
    for (int s = 0; s < nspec; ++s) {
        bool any = false;
        for (std::size_t lane = 0; lane < part.size(); ++lane) {
            asked[lane] = nullptr;
            for (const Waiting& one : part[lane].spectra)
                if (one.spectrum - part[lane].segment.spectra.first == s) asked[lane] = &one;
            any = any || asked[lane] != nullptr;
        }
        if (any) body(s, std::span<const Waiting* const>(asked.data(), part.size()));
    }
}

/// The bundle's xflux, for the lanes that ask.
template <class Solver>
void SeamlessPath::fillXflux(Solver& solver, int s, std::span<const Segment> segments,
                             std::span<const Waiting* const> asked, int n) const {
    const std::size_t lanes = size(SeamlessSolver::lanes());
    std::fill_n(solver.x(s, 0), size(n) * lanes, 0.0);
    for (std::size_t lane = 0; lane < asked.size(); ++lane) {
        if (asked[lane] == nullptr) continue;
        const int first = segments[lane].first;
        for (int bin = std::max(0, first); bin < std::min(bundle_.bins.last, first + n); ++bin)
            solver.x(s, bin - first)[lane] = xflux_[flat(asked[lane]->spectrum, bin)];
    }
}

/// Puts F of a segment's first spectrum and G of its last in place of their own blocks, as far as the bundle goes on there. Each bin's row is taken from where its
/// xflux is, so that it does not matter how a segment lies to those of the first rung.
template <class Solver>
void SeamlessPath::closeEnds(Solver& solver, const Segment& segment, int n, std::size_t lane) const {
    const std::size_t lanes = size(SeamlessSolver::lanes());
    const int end = std::min(bundle_.bins.last, segment.first + n);
    const auto replace = [&](int spectrum, bool first) {
        for (int bin = std::max(0, segment.first); bin < end; ++bin) {
            const std::size_t home = owner(bin);
            const SeamlessSolver& from = *groups_[home / lanes];
            const int s = spectrum - bundle_.spectra.first;
            const int i = bin - segments_[home].first;
            const int theirs = static_cast<int>(home % lanes);
            double* to = solver.own(spectrum - segment.spectra.first, bin - segment.first) + lane;
            for (int d = 0; d <= bands_.narrow && bin + d < end; ++d)
                to[size(d) * lanes] = first ? from.fromFirst(s, i, d, theirs) : from.fromLast(s, i, d, theirs);
        }
    };
    if (segment.spectra.first > bundle_.spectra.first) replace(segment.spectra.first, true);
    if (segment.spectra.last < bundle_.spectra.last) replace(segment.spectra.last - 1, false);
}

/// chi2pix and masked fraction, row by row: model of all spectra, chi2 of its pixels, and their sums over spots.
void SeamlessPath::measure(const FrameInput& input, const FrameOutput& output) {
    const Plan& plan = *input.plan;
    const CcdView& ccd = input.ccd;
    ExtractedFrame& frame = *output.frame;
    const int nspec = bundle_.spectra.count();
    const int slots = chunks_.front()->spots.slotCount();
    const auto slotAfter = [&](int slot) { return slot + 1 == slots ? 0 : slot + 1; }; // bin mod slots without dividing
    struct alignas(64) Sums {
        double value[2 * SpotRows::manySlots] = {};
    };
    std::vector<Sums> sums(size(nspec));
    for (std::size_t c = chunkCount_; c-- > 0;) { // the last is in memory still
        Chunk& chunk = *chunks_[c];
        if (!chunk.kept && shared_ != &chunk) {
            const NamedRange range(input.timeline, "spots", {plan.subbundles[size(bundle_.subbundle)].bundle, 0, 0});
            shareMemory(chunk);
            chunk.spots.evaluate(input.psf, plan.grid, plan.options.psfTail);
        }
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
                double flux[SpotRows::manySlots] = {};
                int slot = active.first % slots;
                for (int bin = active.first; bin < active.last; ++bin, slot = slotAfter(slot))
                    flux[slot] = xflux_[flat(s, bin)];
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
                int slot = active.first % slots;
                for (int bin = active.first; bin < active.last; ++bin, slot = slotAfter(slot)) {
                    if (row + 1 < std::min(spots.cornerY(s, bin) + spots.stampY(), rows.last)) break;
                    // The bin's last row.
                    double& above = sum[slot];
                    double& below = sum[slots + slot];
                    if (below > 0.0 && chunk.bins.contains(bin) && bundle_.keepBins.contains(bin))
                        frame.chi2pix(size(s - plan.specmin), size(bin - plan.grid.pad)) = above / below;
                    above = below = 0.0;
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
