#pragma once

#include "core/engine/ErrorBounds.h"
#include "core/engine/PatchStatus.h"
#include "core/engine/Physics.h"
#include "gpu/kernels/BatchView.h"
#include "gpu/kernels/Dense.h"
#include "gpu/kernels/Team.h"

#include <cmath>

namespace patchlight::gpu {

/// After a rung: which spectra of a patch keep what ErrorBounds promise, by the same estimate as the CPU's; those are written
/// (flux, ivar, resolution). A block a patch.
struct FinishKernel {
    static constexpr const char* name = "gpu acceptance";
    /// What has made Q of the spectra that are still open.
    enum class Stage {
        Bands,
        Corrected, ///< full blocks, corrected roots of their bands
        Full,      ///< full blocks, roots of all of them
    };
    BatchView b;
    Stage stage = Stage::Bands;

    [[nodiscard]] int blocks() const { return b.patches; }
    [[nodiscard]] int threads() const { return 128; }
    [[nodiscard]] std::size_t itemBytes() const { return 0; }
    [[nodiscard]] std::size_t sharedDoubles() const {
        return static_cast<std::size_t>(smaller(together, b.maxSpec)) * static_cast<std::size_t>(4 * b.maxWave) +
               static_cast<std::size_t>(4 * b.maxSpec);
    }
    static constexpr int together = 8; ///< spectra that are looked at side by side

    template <class Team> PATCHLIGHT_HOST_DEVICE void operator()(Team& team, int patch) const {
        const PatchTask& task = b.tasks[patch];
        const bool open = b.states[patch].open != 0;
        const bool empty = b.states[patch].empty != 0;
        if (!open || (stage == Stage::Full && b.states[patch].failed != 0)) return;
        if (stage != Stage::Bands && b.states[patch].slot < 0 && !empty) return;
        const int n = task.nwave;
        double* verdict = team.shared();           // [ncore][4]: why not, beyond the ladder, error, condition
        double* perBin = verdict + 4 * task.ncore; // [together][n][4]: what examine() finds
        for (int c0 = 0; c0 < task.ncore; c0 += together) {
            const int count = smaller(together, task.ncore - c0);
            for (int item = team.rank(); item < count * n; item += team.size()) {
                const int s = task.core + c0 + item / n;
                const int i = item % n;
                if (!empty && b.condition[b.spectrumOf(patch, s)] > 0.0) examine(patch, task, s, i, perBin + 4 * item);
            }
            team.sync();
            for (int c = c0 + team.rank(); c < c0 + count; c += team.size())
                judge(patch, task, c, empty, perBin + 4 * (c - c0) * n, verdict);
            team.sync();
        }
        for (int c = 0; c < task.ncore; ++c)
            if (verdict[4 * c] == 0.0) write(team, patch, task, c, empty);
        team.sync();
        if (team.rank() != 0) return;
        PatchState& state = b.states[patch];
        int left = 0;
        int far = 0;
        for (int c = 0; c < task.ncore; ++c) {
            const std::size_t at = b.spectrumOf(patch, task.core + c);
            int& accepted = b.accepted[at];
            SpectrumReport& report = b.reports[at];
            if (verdict[4 * c] == 0.0) accepted = 1;
            if (stage == Stage::Corrected && verdict[4 * c] >= 0.0) ++state.corrected;
            if (stage == Stage::Full && verdict[4 * c] >= 0.0) ++state.rooted;
            if (accepted == 0) {
                ++left;
                if (verdict[4 * c + 1] != 0.0) report.far = 1;
                far += report.far;
                report.climbed |=
                    static_cast<std::uint32_t>(verdict[4 * c]) | static_cast<std::uint32_t>(PatchStatus::Exact);
            }
            report.open = accepted == 0 ? 1 : 0;
            report.error = larger(report.error, verdict[4 * c + 2]);
            report.condition = larger(report.condition, verdict[4 * c + 3]);
        }
        state.open = left > 0 ? 1 : 0;
        // A patch is the CPU's as a whole, of a segment only those subbundles that need it.
        state.failed = far > 0 && (!b.seamless || far == left) ? 1 : 0;
    }

private:
    /// @param out coupling with second neighbours, signal to noise ratio, contrast, and how much light the first is of
    PATCHLIGHT_HOST_DEVICE void examine(int patch, const PatchTask& task, int s, int i, double* out) const {
        const std::size_t at = b.flat(patch, s, i);
        const std::size_t spot = b.spot(task.spectrum + s, task.bin + i);
        double second = 0.0;
        double skipped = 0.0; // a bin is coupled with a few of the other spectrum's
        if (s + 2 < task.nspec) {
            second = b.second[spot];
            skipped = 4.0 * second * std::abs(b.x[b.flat(patch, s + 2, i)]);
        }
        if (s >= 2) {
            const double before = b.second[b.spot(task.spectrum + s - 2, task.bin + i)];
            second = larger(second, before);
            skipped = larger(skipped, 4.0 * before * std::abs(b.x[b.flat(patch, s - 2, i)]));
        }
        const double rowSum = std::abs(b.rowSum[at]);
        double contrast = 1.0;
        if (b.spotSum[spot] - b.unmasked[spot] > maskedShare && i >= task.coreBin && i < task.coreBinEnd &&
            b.patchWeight[at] != 0.0)
            contrast = larger(2.0, std::sqrt(b.largest[b.spectrumOf(patch, s)]) / rowSum);
        out[0] = second;
        out[1] = lightInDoubt(rowSum, b.x[at], s > 0 ? b.x[b.flat(patch, s - 1, i)] : 0.0,
                              s + 1 < task.nspec ? b.x[b.flat(patch, s + 1, i)] : 0.0);
        out[2] = contrast;
        out[3] = skipped;
    }

    /// @param perBin of this spectrum
    /// verdict: 0: accepted now; -1: accepted before; else PatchStatus bits.
    PATCHLIGHT_HOST_DEVICE void judge(int patch, const PatchTask& task, int c, bool empty, const double* perBin,
                                      double* verdict) const {
        const std::size_t at = b.spectrumOf(patch, task.core + c);
        double* out = verdict + 4 * c;
        out[0] = out[1] = out[2] = out[3] = 0.0;
        if (b.accepted[at] != 0) {
            out[0] = -1.0;
            return;
        }
        if (empty) return;
        const double condition = b.condition[at];
        const double largest = b.largest[at];
        if (stage == Stage::Full && b.seamless) { // nothing is left out but second neighbours
            out[0] = b.reports[at].far == 0 && condition > 0.0 &&
                             b.x[b.flat(patch, task.core + c, 0)] == b.x[b.flat(patch, task.core + c, 0)]
                         ? 0.0
                         : static_cast<double>(static_cast<std::uint32_t>(PatchStatus::IllConditioned));
            out[3] = condition;
            return;
        }
        if (!(condition > 0.0)) {
            out[0] = static_cast<double>(static_cast<std::uint32_t>(PatchStatus::IllConditioned));
            return;
        }
        double second = 0.0;
        double light = 0.0;
        double contrast = 1.0;
        double skipped = 0.0;
        for (int i = task.checkBin; i < task.checkBinEnd; ++i) {
            const double* one = perBin + 4 * i;
            second = larger(second, one[0]);
            light = larger(light, one[1]);
            contrast = larger(contrast, one[2]);
            skipped = larger(skipped, one[3]);
        }
        const double root = std::sqrt(condition);
        const double neighbours = root * second / largest;
        const double flux = relativeFluxError(root, light);
        if (stage == Stage::Full) { // of these the estimate is that of the root that is kept
            const double x = b.x[b.flat(patch, task.core + c, 0)];
            out[0] = static_cast<double>(refusal(b.bounds, neighbours, contrast, flux));
            if (!(x == x)) out[0] = static_cast<double>(static_cast<std::uint32_t>(PatchStatus::IllConditioned));
            out[3] = condition;
            return;
        }
        const double error = root * b.relativeLeak[at] + neighbours + inverseSquareRootError(condition);
        std::uint32_t refused = refusal(b.bounds, error, contrast, flux);
        const double diagonals =
            stage == Stage::Corrected ? contrast * rootDiagonalError(widestBand) * root * b.relativeOuter[at] : 0.0;
        if (!(error + diagonals <= b.bounds.resolution)) refused |= static_cast<std::uint32_t>(PatchStatus::Leaking);
        out[0] = static_cast<double>(refused);
        // No band has second neighbours. (The seamless method's limits are a quarter of the bounds, as on the CPU.)
        if (b.seamless) {
            const bool near =
                4.0 * neighbours <= b.bounds.resolution && 4.0 * skipped * root / std::sqrt(largest) <= b.bounds.flux;
            if (!near) {
                out[0] = static_cast<double>(static_cast<std::uint32_t>(out[0]) |
                                             static_cast<std::uint32_t>(PatchStatus::Leaking));
                out[1] = 1.0;
            }
        } else if (refusal(b.bounds, neighbours, contrast, flux) != 0)
            out[1] = 1.0;
        if (out[0] == 0.0) {
            out[2] = error;
            out[3] = condition;
        }
    }

    /// flux, ivar and resolution of a core spectrum.
    template <class Team>
    PATCHLIGHT_HOST_DEVICE void write(Team& team, int patch, const PatchTask& task, int c, bool empty) const {
        const int s = task.core + c;
        const int n = task.nwave;
        const std::size_t row = static_cast<std::size_t>(task.row + c);
        const std::size_t first = b.flat(patch, s, 0);
        // 1 / row sum of Q, 0 for bins without light.
        const auto normal = [&](int i) {
            if (empty || b.patchWeight[first + static_cast<std::size_t>(i)] == 0.0) return 0.0;
            const double sum = b.rowSum[first + static_cast<std::size_t>(i)];
            return sum != 0.0 ? 1.0 / sum : 0.0;
        };
        const int diagonals = 2 * b.ndiag + 1;
        for (int item = team.rank(); item < task.keepBins * (diagonals + 1); item += team.size()) {
            const int k = item / task.keepBins;
            const int column = item % task.keepBins;
            const int i = task.coreBin + column;
            const std::size_t to = static_cast<std::size_t>(task.column + column);
            const double mine = normal(i);
            if (k == diagonals) {
                const std::size_t at = row * static_cast<std::size_t>(b.columns) + to;
                const double sum = mine != 0.0 ? b.rowSum[first + static_cast<std::size_t>(i)] : 0.0;
                b.flux[at] = mine != 0.0 ? b.qx[first + static_cast<std::size_t>(i)] * mine : 0.0;
                b.ivar[at] = sum * sum;
                continue;
            }
            // R[r, i] = Q[r, i] / row sum of r, at diagonal k = r - i + ndiag.
            const int r = i + k - b.ndiag;
            double value = 0.0;
            if (mine != 0.0 && r >= 0 && r < n) {
                const double theirs = normal(r);
                const int low = smaller(r, i);
                const int distance = larger(r, i) - low;
                if (theirs != 0.0)
                    value = b.q[(first + static_cast<std::size_t>(low)) * static_cast<std::size_t>(b.ndiag + 1) +
                                static_cast<std::size_t>(distance)] *
                            theirs;
            }
            b.resolution[(row * static_cast<std::size_t>(diagonals) + static_cast<std::size_t>(k)) *
                             static_cast<std::size_t>(b.columns) +
                         to] = value;
        }
        if (!b.reconvolved) return;
        for (int j = team.rank(); j < task.coreBinEnd - task.coreBin; j += team.size()) {
            const int i = task.coreBin + j;
            const double mine = normal(i);
            b.modelFlux[row * static_cast<std::size_t>(b.modelColumns) +
                        static_cast<std::size_t>(task.modelColumn + j)] =
                mine != 0.0 ? b.qx[first + static_cast<std::size_t>(i)] * mine : 0.0;
        }
    }
};

} // namespace patchlight::gpu
