#include "core/cpu/FastPath.h"

#include "core/base/Timeline.h"
#include "core/cpu/InverseSquareRoot.h"
#include "core/engine/Physics.h"
#include "core/frame/ExtractedFrame.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <limits>
#include <map>
#include <utility>

namespace patchlight {

namespace {

std::size_t size(int count) { return static_cast<std::size_t>(count); }

} // namespace

void FastPath::run(const FrameInput& input, const Batch& batch, const FrameOutput& output, const ErrorBounds& bounds,
                   int slotCount, PatchSolver& exact, SpotTile& tile) {
    const Plan& plan = *input.plan;
    bounds_ = bounds;
    const Subbundle& first = plan.subbundles[size(batch.subbundles.first)];
    const Subbundle& last = plan.subbundles[size(batch.subbundles.last - 1)];
    const IndexRange spectra{first.padded.first, last.padded.last};
    const IndexRange bins{plan.patch(batch.subbundles.first, batch.steps.first).bins.first,
                          plan.patch(batch.subbundles.first, batch.steps.last - 1).bins.last};
    const RangeTags tags{first.bundle, batch.steps.first, batch.subbundles.count() * batch.steps.count()};
    const bool fits = spots_.locate(input.psf, plan.grid, spectra, bins, input.ccd.ny, slotCount);
    if (!fits && batch.subbundles.count() * batch.steps.count() > 1) {
        // Each patch for itself, so that which path it takes does not depend on the batch it is in.
        for (int sub = batch.subbundles.first; sub < batch.subbundles.last; ++sub)
            for (int step = batch.steps.first; step < batch.steps.last; ++step)
                run(input, {{sub, sub + 1}, {step, step + 1}}, output, bounds, slotCount, exact, tile);
        return;
    }
    if (!fits) {
        solveExactly(input, plan.patch(batch.subbundles.first, batch.steps.first),
                     static_cast<std::uint32_t>(PatchStatus::Layout), output, exact, tile);
        return;
    }
    // Row by row up the CCD: what has been evaluated is summed up while it is in the cache.
    spots_.startEvaluation();
    sums_.start(spots_);
    for (int group = spots_.firstGroup(); group < bins.last; group += SpotRows::groupBins) {
        {
            const NamedRange range(input.timeline, "spots", tags);
            spots_.evaluate(input.psf, plan.grid, plan.options.psfTail, group);
        }
        const NamedRange range(input.timeline, "normal equations", tags);
        sums_.accumulate(spots_, input.ccd, spots_.rowsReady(group));
    }

    const int lanes = LaneSolver::lanes();
    // Solves patches on one rung; what is left then is what the next has to do.
    const auto climb = [&](std::vector<Member>& patches, const auto& solve) {
        std::vector<Member> left;
        for (std::size_t begin = 0; begin < patches.size(); begin += size(lanes)) {
            std::vector<Member> members;
            for (std::size_t i = begin; i < std::min(patches.size(), begin + size(lanes)); ++i) {
                members.push_back(std::move(patches[i]));
                members.back().lane = static_cast<int>(i - begin);
            }
            solve(members);
            for (Member& member : members)
                if (std::count(member.accepted.begin(), member.accepted.end(), 0) > 0)
                    left.push_back(std::move(member));
        }
        patches = std::move(left);
    };
    // Patches of one shape share lanes: those of one subbundle, and those that climb from subbundles alike.
    const auto shapeOf = [&](int sub) {
        const Subbundle& subbundle = plan.subbundles[size(sub)];
        return std::array<int, 3>{subbundle.padded.count(), subbundle.core.first - subbundle.padded.first,
                                  subbundle.core.count()};
    };
    std::map<std::array<int, 3>, std::vector<Member>> waiting;
    for (int sub = batch.subbundles.first; sub < batch.subbundles.last; ++sub)
        for (int step = batch.steps.first; step < batch.steps.last; ++step) {
            Member member;
            member.patch = plan.patch(sub, step);
            member.accepted.assign(size(member.patch.core.count()), 0);
            waiting[shapeOf(sub)].push_back(std::move(member));
        }
    for (auto& [shape, patches] : waiting) {
        if (startsWithBands(SpotRows::mostBins(slotCount))) {
            climb(patches, [&](std::vector<Member>& members) { solveGroup(input, members, output); });
            for (Member& member : patches) member.climbed |= static_cast<std::uint32_t>(PatchStatus::Exact);
        }
        // Full blocks have no second neighbours either.
        const auto split =
            std::partition(patches.begin(), patches.end(), [](const Member& member) { return !member.far; });
        std::vector<Member> far(std::make_move_iterator(split), std::make_move_iterator(patches.end()));
        patches.erase(split, patches.end());
        climb(patches, [&](std::vector<Member>& members) { solveGroupDensely(input, members, output); });
        for (const std::vector<Member>* rest : {&far, &patches})
            for (const Member& member : *rest) solveExactly(input, member.patch, member.climbed, output, exact, tile);
    }
}

void FastPath::solveExactly(const FrameInput& input, const Patch& patch, std::uint32_t reasons,
                            const FrameOutput& output, PatchSolver& exact, SpotTile& tile) {
    const Plan& plan = *input.plan;
    const NamedRange range(input.timeline, "exact patch",
                           {plan.subbundles[size(patch.subbundle)].bundle, patch.step, 1});
    tile.evaluate(input.psf, plan.grid, patch.spectra, patch.bins, plan.options.psfTail);
    exact.solve(input, tile, patch, &output, nullptr);
    if (output.reports != nullptr)
        output.reports[size(patch.subbundle) * size(plan.nsteps) + size(patch.step)].status |=
            reasons | static_cast<std::uint32_t>(PatchStatus::Exact);
}

/// Brings the members' sums into the lanes.
void FastPath::prepareGroup(const FrameInput& input, std::vector<Member>& members) {
    const Plan& plan = *input.plan;
    const Patch& shape = members.front().patch;
    const int nspec = shape.spectra.count();
    const int nwave = shape.bins.count();
    const RangeTags tags{plan.subbundles[size(shape.subbundle)].bundle, shape.step, static_cast<int>(members.size())};
    {
        const NamedRange range(input.timeline, "gather", tags);
        solver_.shape(nspec, nwave, sums_.reach(), sums_.selfWidth(), plan.ndiag);
        std::array<LaneSolver::Source, LaneSolver::mostLanes> sources{};
        for (const Member& member : members) {
            const int spectrum = member.patch.spectra.first;
            const int bin = member.patch.bins.first;
            sources[size(member.lane)] = {sums_.self(spectrum, bin), sums_.next(spectrum, bin),
                                          sums_.ySums.data() + sums_.index(spectrum, bin),
                                          sums_.index(spectrum + 1, bin) - sums_.index(spectrum, bin)};
        }
        solver_.fill(sources.data(), static_cast<int>(members.size()));
        for (Member& member : members) {
            member.window = patchWindow(input.psf, member.patch, spots_.corners(), plan.options.pixpadFrac,
                                        input.ccd.nx, input.ccd.ny);
            member.fluxweight.clear();
            for (int spectrum = shape.spectra.first; spectrum < shape.spectra.first + nspec; ++spectrum) {
                const double* from =
                    sums_.fluxweights.data() +
                    sums_.index(member.patch.spectra.first + spectrum - shape.spectra.first, member.patch.bins.first);
                member.fluxweight.insert(member.fluxweight.end(), from, from + nwave);
            }
            trimToWindow(input, member);
            addPrior(input, member);
        }
    }
}

void FastPath::solveGroup(const FrameInput& input, std::vector<Member>& members, const FrameOutput& output) {
    const Patch& shape = members.front().patch;
    const RangeTags tags{input.plan->subbundles[size(shape.subbundle)].bundle, shape.step,
                         static_cast<int>(members.size())};
    prepareGroup(input, members);
    {
        const NamedRange range(input.timeline, "solve", tags);
        solver_.solve(shape.core.first - shape.spectra.first, shape.core.last - shape.spectra.first);
    }
    const NamedRange range(input.timeline, "quality", tags);
    for (Member& member : members) {
        bool complete = true;
        for (int spectrum = member.patch.core.first; spectrum < member.patch.core.last; ++spectrum) {
            char& accepted = member.accepted[size(spectrum - member.patch.core.first)];
            if (accepted != 0) continue;
            if (member.empty || withinBounds(member, spectrum)) {
                accepted = 1;
                writeSpectrum(input, member, spectrum, {spectrum - member.patch.spectra.first, size(member.lane)},
                              output);
            } else {
                complete = false;
            }
        }
        if (complete) measurePatch(input, member, output);
    }
}

/// Full blocks, and for the spectra that are still open roots of S: of its band with a correction for the rest, and where that cannot promise enough of all of S.
void FastPath::solveGroupDensely(const FrameInput& input, std::vector<Member>& members, const FrameOutput& output) {
    const Patch& shape = members.front().patch;
    const RangeTags tags{input.plan->subbundles[size(shape.subbundle)].bundle, shape.step,
                         static_cast<int>(members.size())};
    struct Open {
        Member* member;
        int spectrum;
    };
    std::vector<Open> open;
    const auto acceptance = [](Member& member, int spectrum) -> char& {
        return member.accepted[size(spectrum - member.patch.core.first)];
    };
    prepareGroup(input, members);
    {
        const NamedRange range(input.timeline, "dense solve", tags);
        solver_.solveDense(shape.core.first - shape.spectra.first, shape.core.last - shape.spectra.first);
        for (int s = shape.core.first - shape.spectra.first; s < shape.core.last - shape.spectra.first; ++s) {
            const auto isOpen = [&](Member& member) { return acceptance(member, s + member.patch.spectra.first) == 0; };
            if (std::none_of(members.begin(), members.end(), isOpen)) continue;
            solver_.rootCorrected(s);
            for (Member& member : members) {
                if (!isOpen(member)) continue;
                const int spectrum = s + member.patch.spectra.first;
                if (member.empty || withinBounds(member, spectrum)) {
                    acceptance(member, spectrum) = 1;
                    writeSpectrum(input, member, spectrum, {s, size(member.lane)}, output);
                } else {
                    open.push_back({&member, spectrum});
                }
            }
        }
        // Second neighbours are not in S: those are for the exact path.
        std::erase_if(open, [](const Open& one) { return one.member->far; });
        const std::size_t lanes = size(LaneSolver::lanes());
        for (std::size_t begin = 0; begin < open.size(); begin += lanes) {
            const std::size_t count = std::min(lanes, open.size() - begin);
            solver_.clearSpare();
            for (std::size_t lane = 0; lane < count; ++lane) {
                const Open& one = open[begin + lane];
                solver_.copyToSpare(one.spectrum - one.member->patch.spectra.first, size(one.member->lane), lane);
            }
            solver_.rootDense(solver_.spare());
            for (std::size_t lane = 0; lane < count; ++lane) {
                const Open& one = open[begin + lane];
                const Root root{solver_.spare(), lane};
                const Estimate e = estimate(*one.member, one.spectrum, root);
                one.member->climbed |= static_cast<std::uint32_t>(PatchStatus::Exact);
                if (!(e.condition > 0.0) || refusal(bounds_, e.neighbours, e.contrast, e.flux) != 0) continue;
                one.member->condition = std::max(one.member->condition, e.condition);
                acceptance(*one.member, one.spectrum) = 1;
                writeSpectrum(input, *one.member, one.spectrum, root, output);
            }
        }
    }
    const NamedRange range(input.timeline, "quality", tags);
    for (const Member& member : members)
        if (std::count(member.accepted.begin(), member.accepted.end(), 0) == 0) measurePatch(input, member, output);
}

/// Takes away what rows outside the pixel window contribute.
void FastPath::trimToWindow(const FrameInput& input, Member& member) {
    const Patch& patch = member.patch;
    const int nspec = patch.spectra.count();
    const int nwave = patch.bins.count();
    const int reach = sums_.reach();
    const int width = spots_.width();
    const std::size_t lanes = size(LaneSolver::lanes());
    const std::size_t lane = size(member.lane);
    const int slots = spots_.slotCount();
    double* product = products_.require(size(slots * slots));
    weight_.resize(size(2 * width));
    const IndexRange rows = spots_.rows();
    for (int s = 0; s < nspec; ++s) {
        const int spectrum = patch.spectra.first + s;
        const int lowest = std::max(rows.first, spots_.cornerY(spectrum, patch.bins.first));
        const int highest = std::min(rows.last, spots_.cornerY(spectrum, patch.bins.last - 1) + spots_.stampY());
        for (int row = lowest; row < highest; ++row) {
            if (!member.window.empty() && member.window.y.contains(row))
                row = member.window.y.last; // skip what is inside
            if (row >= highest) break;
            const IndexRange all = spots_.active(spectrum, row);
            const IndexRange mine{std::max(all.first, patch.bins.first), std::min(all.last, patch.bins.last)};
            if (mine.empty()) continue;
            const int origin = spots_.columnOrigin(spectrum, row);
            const double* v = spots_.row(spectrum, row);
            double* weight = weight_.data();
            for (int c = 0; c < width; ++c) {
                const int x = origin + c;
                const bool on = x >= 0 && x < input.ccd.nx;
                const std::size_t p = size(row) * size(input.ccd.nx) + size(on ? x : 0);
                weight[c] = on ? static_cast<double>(input.ccd.weights[p]) : 0.0;
                weight[width + c] = on ? weight[c] * static_cast<double>(input.ccd.pixels[p]) : 0.0;
            }
            for (int bin = mine.first; bin < mine.last; ++bin) {
                double y = 0.0;
                double fluxweight = 0.0;
                for (int c = 0; c < width; ++c) {
                    y += weight[width + c] * v[c * slots + bin % slots];
                    fluxweight += weight[c] * v[c * slots + bin % slots];
                }
                solver_.y(s, bin - patch.bins.first)[lane] -= y;
                member.fluxweight[size(s) * size(nwave) + size(bin - patch.bins.first)] -= fluxweight;
            }
            spots_.rowProducts(weight, spectrum, spectrum, row, product);
            for (int bin = mine.first; bin < mine.last; ++bin)
                for (int other = bin; other < mine.last; ++other)
                    solver_.own(s, bin - patch.bins.first)[size(other - bin) * lanes + lane] -=
                        product[(bin % slots) * slots + other % slots];
            if (s + 1 == nspec) continue;
            const IndexRange theirs = spots_.active(spectrum + 1, row);
            const IndexRange next{std::max(theirs.first, patch.bins.first), std::min(theirs.last, patch.bins.last)};
            if (next.empty()) continue;
            spots_.rowProducts(weight, spectrum, spectrum + 1, row, product);
            for (int bin = mine.first; bin < mine.last; ++bin)
                for (int other = next.first; other < next.last; ++other)
                    solver_.next(s, bin - patch.bins.first)[size(other - bin + reach) * lanes + lane] -=
                        product[(bin % slots) * slots + other % slots];
        }
    }
    // Bins without any row in the window are exactly zero, not a rounding of it.
    for (int s = 0; s < nspec; ++s) {
        for (int i = 0; i < nwave; ++i) {
            const int corner = spots_.cornerY(patch.spectra.first + s, patch.bins.first + i);
            const bool inside = !member.window.empty() && corner < member.window.y.last &&
                                corner + spots_.stampY() > member.window.y.first;
            // ... and so are those whose pixels are all masked: sums of nothing, whatever was taken from them.
            const bool dark = sums_.fluxweight(patch.spectra.first + s, patch.bins.first + i) == 0.0;
            if (inside && !dark) continue;
            member.fluxweight[size(s) * size(nwave) + size(i)] = 0.0;
            solver_.y(s, i)[lane] = 0.0;
            for (int delta = 0; delta < static_cast<int>(solver_.ownWidth()); ++delta) {
                solver_.own(s, i)[size(delta) * lanes + lane] = 0.0;
                if (delta <= i) solver_.own(s, i - delta)[size(delta) * lanes + lane] = 0.0;
            }
            for (int delta = -reach; delta <= reach; ++delta) {
                if (s + 1 < nspec) solver_.next(s, i)[size(delta + reach) * lanes + lane] = 0.0;
                if (s > 0 && i - delta >= 0 && i - delta < nwave)
                    solver_.next(s - 1, i - delta)[size(delta + reach) * lanes + lane] = 0.0;
            }
        }
    }
}

void FastPath::addPrior(const FrameInput& input, Member& member) {
    const int nspec = member.patch.spectra.count();
    const int nwave = member.patch.bins.count();
    const std::size_t lane = size(member.lane);
    const double largest = *std::max_element(member.fluxweight.begin(), member.fluxweight.end());
    member.empty = !(largest > 0.0);
    const double minweight = minimumWeight(largest);
    for (int s = 0; s < nspec; ++s)
        for (int i = 0; i < nwave; ++i) {
            if (member.empty) {
                solver_.own(s, i)[lane] = 1.0;
                continue;
            }
            solver_.own(s, i)[lane] += priorDiagonal(member.fluxweight[size(s) * size(nwave) + size(i)], minweight,
                                                     input.plan->options.regularize);
        }
}

FastPath::Estimate FastPath::estimate(const Member& member, int spectrum, const Root& root) const {
    const Patch& patch = member.patch;
    const int nspec = patch.spectra.count();
    const int nwave = patch.bins.count();
    const int s = spectrum - patch.spectra.first;
    const double condition = solver_.conditionBound(root.spectrum)[root.lane];
    const double largest = solver_.largestEigenvalue(root.spectrum)[root.lane];
    if (!(condition > 0.0)) return {};
    double second = 0.0;
    double light = 0.0; // largest lightInDoubt()
    double contrast = 1.0;
    const auto xflux = [&](int t, int i) { return solver_.xflux(t, i)[size(member.lane)]; };
    for (int i = 0; i < nwave; ++i) {
        const int bin = patch.bins.first + i;
        if (s + 2 < nspec) second = std::max(second, sums_.second(spectrum, bin));
        if (s >= 2) second = std::max(second, sums_.second(spectrum - 2, bin));
        const double rowSum = std::abs(solver_.rowSum(root.spectrum, i)[root.lane]);
        light = std::max(light, lightInDoubt(rowSum, xflux(s, i), s > 0 ? xflux(s - 1, i) : 0.0,
                                             s + 1 < nspec ? xflux(s + 1, i) : 0.0));
        const bool masked = spots_.spotSum(spectrum, bin) - sums_.unmasked(spectrum, bin) > maskedShare;
        if (masked && patch.coreBins.contains(bin) && member.fluxweight[size(s) * size(nwave) + size(i)] != 0.0)
            contrast = std::max({contrast, 2.0, std::sqrt(largest) / rowSum});
    }
    const double root2 = std::sqrt(condition);
    return {condition, root2 * second / largest, contrast, relativeFluxError(root2, light)};
}

/// Whether a core spectrum keeps what ErrorBounds promise, by estimate (docs/method.md), after solve() or rootCorrected(); notes why not.
bool FastPath::withinBounds(Member& member, int spectrum) const {
    const int s = spectrum - member.patch.spectra.first;
    const std::size_t lane = size(member.lane);
    const Estimate e = estimate(member, spectrum, {s, lane});
    if (!(e.condition > 0.0)) {
        member.climbed |= static_cast<std::uint32_t>(PatchStatus::IllConditioned);
        return false;
    }
    const double root = std::sqrt(e.condition);
    const double error = root * solver_.leak(s)[lane] + e.neighbours + inverseSquareRootError(e.condition);
    std::uint32_t refused = refusal(bounds_, error, e.contrast, e.flux);
    const double diagonals = e.contrast * rootDiagonalError(LaneSolver::band) * root * solver_.outer(s)[lane];
    if (!(error + diagonals <= bounds_.resolution)) refused |= static_cast<std::uint32_t>(PatchStatus::Leaking);
    member.climbed |= refused;
    if (refusal(bounds_, e.neighbours, e.contrast, e.flux) != 0) member.far = true;
    if (refused != 0) return false;
    member.error = std::max(member.error, error);
    member.condition = std::max(member.condition, e.condition);
    return true;
}

/// chi2pix and what else is per patch, once all of its spectra are accepted.
void FastPath::measurePatch(const FrameInput& input, const Member& member, const FrameOutput& output) {
    const Plan& plan = *input.plan;
    const Patch& patch = member.patch;
    const CcdView& ccd = input.ccd;
    const PixelWindow& window = member.window;
    const int nspec = patch.spectra.count();
    const int nwave = patch.bins.count();
    const std::size_t lane = size(member.lane);
    const int width = spots_.width();
    const int slots = spots_.slotCount();
    xflux_.resize(size(nspec) * size(nwave));
    chi2pix_.assign(size(nspec) * size(nwave), 0.0);
    for (int s = 0; s < nspec; ++s)
        for (int i = 0; i < nwave; ++i)
            xflux_[size(s) * size(nwave) + size(i)] = member.empty ? 0.0 : solver_.xflux(s, i)[lane];

    if (!window.empty() && !member.empty) {
        const int columns = window.x.count();
        // Room for a row of spots that begins or ends outside the window.
        const int margin = width;
        const std::size_t stride = size(columns + 2 * margin);
        model_.resize(stride);
        chi2_.assign(stride, 0.0);
        counted_.assign(stride, 0.0);
        flux_.require(size(nspec * slots));
        double* flux = flux_.data();
        std::fill_n(flux, size(nspec * slots), 0.0);
        double* sums = chi2Sums_.require(size(patch.core.count() * 2 * slots));
        std::fill_n(sums, size(patch.core.count() * 2 * slots), 0.0);
        held_.assign(size(nspec), IndexRange{patch.bins.first, patch.bins.first});
        // Rows with light of the core's bins: chi2pix is theirs.
        IndexRange rows{window.y.last, window.y.first};
        for (int spectrum = patch.core.first; spectrum < patch.core.last; ++spectrum) {
            rows.first = std::min(rows.first, spots_.cornerY(spectrum, patch.coreBins.first));
            rows.last = std::max(rows.last, spots_.cornerY(spectrum, patch.coreBins.last - 1) + spots_.stampY());
        }
        rows.first = std::max({rows.first, window.y.first, spots_.rows().first});
        rows.last = std::min({rows.last, window.y.last, spots_.rows().last});
        // Part of a row of spots lies in the window's columns; one beside it has no room in the margins and nothing to say.
        const auto inWindow = [&](int spectrum, int row) {
            const int left = spots_.columnOrigin(spectrum, row);
            return left < window.x.last && left + width > window.x.first;
        };
        // Row by row: a row of spots serves the model and then chi2pix while it is in the cache.
        for (int row = rows.first; row < rows.last; ++row) {
            std::fill(model_.begin(), model_.end(), 0.0);
            for (int spectrum = patch.spectra.first; spectrum < patch.spectra.last; ++spectrum) {
                const std::size_t s = size(spectrum - patch.spectra.first);
                const IndexRange all = spots_.active(spectrum, row);
                const IndexRange mine{std::max(all.first, patch.bins.first), std::min(all.last, patch.bins.last)};
                // Slots hold the flux of the bins that this row has; both ends only move up.
                IndexRange& held = held_[s];
                for (; held.first < std::min(mine.first, held.last); ++held.first)
                    flux[s * size(slots) + size(held.first % slots)] = 0.0;
                if (mine.empty()) continue;
                held.first = mine.first;
                held.last = std::max(held.last, held.first);
                for (; held.last < mine.last; ++held.last)
                    flux[s * size(slots) + size(held.last % slots)] =
                        xflux_[s * size(nwave) + size(held.last - patch.bins.first)];
                if (!inWindow(spectrum, row)) continue;
                spots_.addModelRow(spectrum, row, flux + s * size(slots),
                                   model_.data() + margin + spots_.columnOrigin(spectrum, row) - window.x.first);
            }
            const std::size_t line = size(row) * size(ccd.nx) + size(window.x.first);
            pixelQuality(ccd.pixels + line, ccd.weights + line, model_.data() + margin, columns, plan.psferr,
                         chi2_.data() + margin, counted_.data() + margin);
            for (int spectrum = patch.core.first; spectrum < patch.core.last; ++spectrum) {
                const IndexRange all = spots_.active(spectrum, row);
                if (all.empty() || all.first >= patch.coreBins.last || all.last <= patch.coreBins.first) continue;
                double* sum = sums + size((spectrum - patch.core.first) * 2 * slots);
                const int at = margin + spots_.columnOrigin(spectrum, row) - window.x.first;
                if (inWindow(spectrum, row))
                    spots_.addChi2Row(spectrum, row, chi2_.data() + at, counted_.data() + at, sum);
                for (int bin = all.first; bin < all.last; ++bin) {
                    if (row + 1 < std::min(spots_.cornerY(spectrum, bin) + spots_.stampY(), rows.last)) break;
                    // The bin's last row.
                    double& above = sum[bin % slots];
                    double& below = sum[slots + bin % slots];
                    if (patch.bins.contains(bin) && below > 0.0)
                        chi2pix_[size(spectrum - patch.spectra.first) * size(nwave) + size(bin - patch.bins.first)] =
                            above / below;
                    above = below = 0.0;
                }
            }
        }
    }

    ExtractedFrame& frame = *output.frame;
    for (int spectrum = patch.core.first; spectrum < patch.core.last; ++spectrum) {
        if (spectrum < plan.specmin || spectrum >= plan.specmin + plan.nspec) continue;
        const std::size_t row = size(spectrum - plan.specmin);
        const int s = spectrum - patch.spectra.first;
        const std::size_t count = size(patch.keepBins.count());
        const std::size_t column = size(patch.keepBins.first - plan.grid.pad);
        const std::size_t at = size(s) * size(nwave) + size(patch.keepBins.first - patch.bins.first);
        std::copy_n(xflux_.data() + at, count, &frame.xflux(row, column));
        std::copy_n(member.fluxweight.data() + at, count, &frame.fluxweight(row, column));
        std::copy_n(chi2pix_.data() + at, count, &frame.chi2pix(row, column));
        for (int bin = patch.keepBins.first; bin < patch.keepBins.last; ++bin) {
            const std::size_t c = size(bin - patch.keepBins.first);
            const double fraction = std::max(0.0, spots_.spotSum(spectrum, bin) - sums_.unmasked(spectrum, bin));
            frame.pixmaskFraction(row, column + c) = fraction;
            frame.mask(row, column + c) =
                binMask(fraction, member.fluxweight[at + c], spots_.onCcd(spectrum, bin, ccd.nx, ccd.ny));
        }
        if (output.modelFlux == nullptr || plan.options.modelFlux != ModelFlux::Deconvolved) continue;
        std::copy_n(xflux_.data() + size(s) * size(nwave) + size(patch.coreBins.first - patch.bins.first),
                    size(patch.coreBins.count()),
                    &(*output.modelFlux)(row, size(patch.coreBins.first - plan.grid.pad)));
    }
    if (output.reports != nullptr) {
        PatchReport& report = output.reports[size(patch.subbundle) * size(plan.nsteps) + size(patch.step)];
        report.status = member.empty ? static_cast<std::uint32_t>(PatchStatus::NoPixels) : member.climbed;
        report.error = member.error;
        report.condition = member.condition;
    }
}

/// flux, ivar and resolution of a core spectrum.
void FastPath::writeSpectrum(const FrameInput& input, const Member& member, int spectrum, const Root& root,
                             const FrameOutput& output) {
    const Plan& plan = *input.plan;
    const Patch& patch = member.patch;
    if (spectrum < plan.specmin || spectrum >= plan.specmin + plan.nspec) return;
    const int nwave = patch.bins.count();
    const auto [at, lane] = root;
    const std::size_t lanes = size(LaneSolver::lanes());
    const int ndiag = plan.ndiag;
    ExtractedFrame& frame = *output.frame;
    const std::size_t row = size(spectrum - plan.specmin);
    const int s = spectrum - patch.spectra.first;
    // 1 / row sum of Q, 0 for bins without light.
    const double* weight = member.fluxweight.data() + size(s) * size(nwave);
    normal_.resize(size(nwave));
    for (int i = 0; i < nwave; ++i) {
        const double sum = member.empty || weight[i] == 0.0 ? 0.0 : solver_.rowSum(at, i)[lane];
        normal_[size(i)] = sum != 0.0 ? 1.0 / sum : 0.0;
    }
    const int first = patch.keepBins.first - patch.bins.first;
    const std::size_t count = size(patch.keepBins.count());
    const std::size_t column = size(patch.keepBins.first - plan.grid.pad);
    const double* rowSum = solver_.rowSum(at, first) + lane;
    const double* qTimesX = solver_.qTimesX(at, first) + lane;
    double* flux = &frame.flux(row, column);
    double* ivar = &frame.ivar(row, column);
    for (std::size_t c = 0; c < count; ++c) {
        const double normal = normal_[size(first) + c];
        flux[c] = normal != 0.0 ? qTimesX[c * lanes] * normal : 0.0;
        ivar[c] = normal != 0.0 ? rowSum[c * lanes] * rowSum[c * lanes] : 0.0;
    }
    // R[r, i] = Q[r, i] / row sum of r, at diagonal k = r - i + ndiag.
    const std::ptrdiff_t qStride = solver_.q(at, 1, 0) - solver_.q(at, 0, 0);
    for (int k = 0; k <= 2 * ndiag; ++k) {
        double* to = &frame.resolution(row, size(k), column);
        const int offset = k - ndiag;
        const double* from = solver_.q(at, 0, std::abs(offset)) + lane;
        const int low = std::clamp(-(first + offset), 0, static_cast<int>(count));
        const int high = std::clamp(nwave - (first + offset), low, static_cast<int>(count));
        std::fill_n(to, count, 0.0);
        for (int c = low; c < high; ++c) {
            const double normal = normal_[size(first + c + offset)];
            to[c] = normal != 0.0 && normal_[size(first + c)] != 0.0
                        ? from[(first + c + std::min(offset, 0)) * qStride] * normal
                        : 0.0;
        }
    }
    if (output.modelFlux == nullptr || plan.options.modelFlux == ModelFlux::Deconvolved) return;
    for (int bin = patch.coreBins.first; bin < patch.coreBins.last; ++bin) {
        const int i = bin - patch.bins.first;
        (*output.modelFlux)(row, size(bin - plan.grid.pad)) = solver_.qTimesX(at, i)[lane] * normal_[size(i)];
    }
}

} // namespace patchlight
