#pragma once

#include "core/engine/Physics.h"
#include "gpu/kernels/BatchView.h"
#include "gpu/kernels/Sums.h"
#include "gpu/kernels/Team.h"

namespace patchlight::gpu {

/// A patch's normal equations, prior included: the bundle's sums, but for spots that cross the first or last rows of the patch's
/// window, whose sums are taken anew over the rows inside. A block a patch.
struct GatherKernel {
    static constexpr const char* name = "gpu gather";
    BatchView b;

    [[nodiscard]] int blocks() const { return b.patches; }
    [[nodiscard]] int threads() const { return 256; }
    [[nodiscard]] std::size_t itemBytes() const { return 0; }
    [[nodiscard]] std::size_t sharedDoubles() const { return static_cast<std::size_t>(threads()); }

    template <class Team> PATCHLIGHT_HOST_DEVICE void operator()(Team& team, int patch) const {
        const PatchTask& task = b.tasks[patch];
        const int bins = task.nspec * task.nwave;
        double* shared = team.shared();
        double largest = 0.0;
        for (int item = team.rank(); item < bins; item += team.size()) {
            const int s = item / task.nwave;
            const int i = item % task.nwave;
            const std::size_t at = b.spot(task.spectrum + s, task.bin + i);
            const std::size_t to = b.flat(patch, s, i);
            double y = 0.0;
            double fluxweight = 0.0;
            if (takesPart(task, at)) {
                if (b.cornerY[at] >= task.y0 && b.cornerY[at] + b.stampY <= task.y1) {
                    y = b.y[at];
                    fluxweight = b.fluxweight[at];
                } else {
                    sums(task, s, i, at, y, fluxweight);
                }
            }
            b.patchY[to] = y;
            b.patchWeight[to] = fluxweight;
            largest = larger(largest, fluxweight);
        }
        shared[team.rank()] = largest;
        team.sync();
        largest = 0.0;
        for (int r = 0; r < team.size(); ++r) largest = larger(largest, shared[r]);
        const bool empty = !(largest > 0.0);
        const double minweight = minimumWeight(largest);
        if (b.seamless) localMinimumWeights(team, patch, task);
        if (team.rank() == 0) {
            b.states[patch] = PatchState();
            b.states[patch].empty = empty ? 1 : 0;
        }
        for (int c = team.rank(); c < task.ncore; c += team.size()) {
            const std::size_t at = b.spectrumOf(patch, task.core + c);
            b.accepted[at] = 0;
            b.reports[at] = SpectrumReport();
            for (int i = larger(0, task.coreBin - b.pad); i < smaller(task.nwave, task.coreBinEnd + b.pad); ++i)
                if (b.patchWeight[b.flat(patch, task.core + c, i)] > 0.0) b.reports[at].lit = 1;
        }

        for (int item = team.rank(); item < bins * b.ownWidth; item += team.size()) {
            const int d = item % b.ownWidth;
            const int s = item / b.ownWidth / task.nwave;
            const int i = item / b.ownWidth % task.nwave;
            const std::size_t to = b.flat(patch, s, i);
            double value = 0.0;
            if (empty) {
                value = d == 0 ? 1.0 : 0.0;
            } else {
                if (i + d < task.nwave) value = element(task, s, i, s, i + d, b.own, b.ownWidth, d);
                if (d == 0)
                    value += priorDiagonal(b.patchWeight[to],
                                           b.seamless ? b.qx[b.flat(patch, subbundleOf(task, s), i)] : minweight,
                                           b.regularize);
            }
            b.patchOwn[to * static_cast<std::size_t>(b.ownWidth) + static_cast<std::size_t>(d)] = value;
        }
        const int width = b.nextWidth();
        for (int item = team.rank(); item < (task.nspec - 1) * task.nwave * width; item += team.size()) {
            const int d = item % width;
            const int s = item / width / task.nwave;
            const int i = item / width % task.nwave;
            const int j = i + d - b.reach;
            double value = 0.0;
            if (!empty && j >= 0 && j < task.nwave) value = element(task, s, i, s + 1, j, b.next, width, d);
            b.patchNext[b.flat(patch, s, i) * static_cast<std::size_t>(width) + static_cast<std::size_t>(d)] = value;
        }
        if (b.seamless && !empty) settleDarkBins(team, patch, task);
    }

private:
    /// First core spectrum of a spectrum's subbundle, from the patch's first.
    [[nodiscard]] PATCHLIGHT_HOST_DEVICE int subbundleOf(const PatchTask& task, int s) const {
        return b.subbundles[task.spectrum + s].first - task.spectrum;
    }

    /// seamless::localMinimumWeights, into qx of each subbundle's first spectrum, by way of its rowSum; nobody needs those yet.
    template <class Team>
    PATCHLIGHT_HOST_DEVICE void localMinimumWeights(Team& team, int patch, const PatchTask& task) const {
        const int bins = task.nspec * task.nwave;
        for (int item = team.rank(); item < bins; item += team.size()) {
            const int s = item / task.nwave;
            const int i = item % task.nwave;
            if (subbundleOf(task, s) != s) continue;
            const SubbundleTask& group = b.subbundles[task.spectrum + s];
            double most = 0.0;
            for (int t = group.paddedFirst; t < group.paddedEnd; ++t)
                most = larger(most, b.patchWeight[b.flat(patch, t - task.spectrum, i)]);
            b.rowSum[b.flat(patch, s, i)] = most;
        }
        team.sync();
        for (int item = team.rank(); item < bins; item += team.size()) {
            const int s = item / task.nwave;
            const int i = item % task.nwave;
            if (subbundleOf(task, s) != s) continue;
            double most = 0.0;
            for (int j = larger(0, i - b.around); j <= smaller(task.nwave - 1, i + b.around); ++j)
                most = larger(most, b.rowSum[b.flat(patch, s, j)]);
            b.qx[b.flat(patch, s, i)] = minimumWeight(most);
        }
        team.sync();
    }

    /// Bins without light are coupled to nothing; their diagonal is the largest of their spectrum, so that they count for nothing in bounds of
    /// eigenvalues.
    template <class Team>
    PATCHLIGHT_HOST_DEVICE void settleDarkBins(Team& team, int patch, const PatchTask& task) const {
        team.sync();
        for (int s = team.rank(); s < task.nspec; s += team.size()) {
            double most = 0.0;
            int dark = 0;
            for (int i = 0; i < task.nwave; ++i) {
                const std::size_t at = b.flat(patch, s, i);
                if (b.patchWeight[at] == 0.0)
                    ++dark;
                else
                    most = larger(most, b.patchOwn[at * static_cast<std::size_t>(b.ownWidth)]);
            }
            if (dark == 0) continue;
            for (int i = 0; i < task.nwave; ++i) {
                const std::size_t at = b.flat(patch, s, i);
                if (b.patchWeight[at] == 0.0)
                    b.patchOwn[at * static_cast<std::size_t>(b.ownWidth)] = most > 0.0 ? most : 1.0;
            }
        }
    }

    /// Bins without any row in the window, or whose pixels are all masked, are coupled to nothing.
    PATCHLIGHT_HOST_DEVICE bool takesPart(const PatchTask& task, std::size_t at) const {
        return task.x0 < task.x1 && task.y0 < task.y1 && b.cornerY[at] < task.y1 &&
               b.cornerY[at] + b.stampY > task.y0 && b.fluxweight[at] != 0.0;
    }

    /// Element of the normal matrix of bin (s, i) with (t, j), from `whole` [nspec][nbins][width] where all rows of it lie in the window.
    PATCHLIGHT_HOST_DEVICE double element(const PatchTask& task, int s, int i, int t, int j, const double* whole,
                                          int width, int d) const {
        const std::size_t one = b.spot(task.spectrum + s, task.bin + i);
        const std::size_t two = b.spot(task.spectrum + t, task.bin + j);
        if (!takesPart(task, one) || !takesPart(task, two)) return 0.0;
        const int low = larger(b.cornerY[one], b.cornerY[two]);
        const int high = smaller(b.cornerY[one], b.cornerY[two]) + b.stampY;
        if (low >= task.y0 && high <= task.y1)
            return whole[one * static_cast<std::size_t>(width) + static_cast<std::size_t>(d)];
        return overlap(b, task.spectrum + s, task.bin + i, task.spectrum + t, task.bin + j, task.y0, task.y1);
    }

    PATCHLIGHT_HOST_DEVICE void sums(const PatchTask& task, int s, int i, std::size_t at, double& y,
                                     double& fluxweight) const {
        const double* stamp = b.stamp(task.spectrum + s, task.bin + i);
        const int x0 = larger(b.cornerX[at], b.stripX);
        const int x1 = smaller(b.cornerX[at] + b.stampX, b.stripX + b.stripNx);
        const int y0 = larger(b.cornerY[at], task.y0);
        const int y1 = smaller(b.cornerY[at] + b.stampY, task.y1);
        for (int row = y0; row < y1; ++row)
            for (int column = x0; column < x1; ++column) {
                const std::size_t pixel = b.pixel(column, row);
                const double aw = stamp[(row - b.cornerY[at]) * b.stampX + column - b.cornerX[at]] *
                                  static_cast<double>(b.weights[pixel]);
                y += aw * static_cast<double>(b.pixels[pixel]);
                fluxweight += aw;
            }
    }
};

} // namespace patchlight::gpu
