#pragma once

#include "core/engine/PatchStatus.h"
#include "core/engine/Physics.h"
#include "gpu/kernels/BatchView.h"
#include "gpu/kernels/Team.h"

namespace patchlight::gpu {

/// chi2 of the pixels of every patch's window against the patch's model, pixel by pixel: a model pixel is the sum of the spots that cover
/// it, in their order. A block a stripe of rows of a patch.
struct PixelsKernel {
    static constexpr const char* name = "gpu pixel quality";
    BatchView b;
    int stripes = 4; ///< a patch

    [[nodiscard]] int blocks() const { return b.patches * stripes; }
    [[nodiscard]] int threads() const { return 256; }
    [[nodiscard]] std::size_t itemBytes() const { return 0; }
    [[nodiscard]] std::size_t sharedDoubles() const { return 1; }

    template <class Team> PATCHLIGHT_HOST_DEVICE void operator()(Team& team, int block) const {
        const int patch = block / stripes;
        const PatchTask& task = b.tasks[patch];
        const PatchState& state = b.states[patch];
        const int columns = task.x1 - task.x0;
        const int rows = task.high - task.low;
        if ((state.open != 0 && !b.seamless) || state.empty != 0 || columns <= 0 || rows <= 0) return;
        const int first = rows * (block % stripes) / stripes;
        const int last = rows * (block % stripes + 1) / stripes;
        for (int item = first * columns + team.rank(); item < last * columns; item += team.size()) {
            const int x = task.x0 + item % columns;
            const int y = task.low + item / columns;
            double model = 0.0;
            for (int s = 0; s < task.nspec; ++s) {
                const int spectrum = task.spectrum + s;
                const int* active =
                    b.active + (static_cast<std::size_t>(spectrum) * static_cast<std::size_t>(b.stripNy) +
                                static_cast<std::size_t>(y - b.stripY)) *
                                   2;
                const int low = larger(active[0], task.bin);
                const int high = smaller(active[1], task.bin + task.nwave);
                for (int bin = low; bin < high; ++bin) {
                    const std::size_t at = b.spot(spectrum, bin);
                    const int dx = x - b.cornerX[at];
                    if (dx < 0 || dx >= b.stampX) continue;
                    model += b.x[b.flat(patch, s, bin - task.bin)] *
                             b.stamp(spectrum, bin)[(y - b.cornerY[at]) * b.stampX + dx];
                }
            }
            const std::size_t pixel = b.pixel(x, y);
            const double weight = static_cast<double>(b.weights[pixel]);
            double* out = b.chi2 + 2 * (task.pixels + static_cast<std::size_t>(item));
            const bool counts = pixelCounts(weight, model);
            out[0] = counts ? pixelChi2(static_cast<double>(b.pixels[pixel]), weight, model, b.psferr) : 0.0;
            out[1] = counts ? 1.0 : 0.0;
        }
    }
};

/// What a patch's kept bins are given besides flux and resolution: xflux, fluxweight, chi2pix, pixmask_fraction, MASK; and the model
/// flux. A block a core spectrum of a patch; a bin's pixels are shared by `parts` members, which read them side by side.
struct BinsKernel {
    static constexpr const char* name = "gpu bin quality";
    BatchView b;

    [[nodiscard]] int blocks() const { return b.patches * b.maxSpec; }
    static constexpr int parts = 8;
    [[nodiscard]] int threads() const { return 128; }
    [[nodiscard]] std::size_t itemBytes() const { return 0; }
    [[nodiscard]] std::size_t sharedDoubles() const { return static_cast<std::size_t>(2 * parts * b.maxWave); }

    template <class Team> PATCHLIGHT_HOST_DEVICE void operator()(Team& team, int block) const {
        const int patch = block / b.maxSpec;
        const int c = block % b.maxSpec;
        const PatchTask& task = b.tasks[patch];
        const PatchState& state = b.states[patch];
        if (c >= task.ncore || (state.open != 0 && !b.seamless)) return;
        const int s = task.core + c;
        const std::size_t row = static_cast<std::size_t>(task.row + c);
        double* above = team.shared(); // [bins][parts]
        double* below = above + parts * b.maxWave;
        if (state.empty == 0)
            for (int item = team.rank(); item < task.keepBins * parts; item += team.size())
                chi2(task, s, task.coreBin + item / parts, item % parts, above[item], below[item]);
        team.sync();
        for (int j = team.rank(); j < task.coreBinEnd - task.coreBin; j += team.size()) {
            const int i = task.coreBin + j;
            const std::size_t from = b.flat(patch, s, i);
            const double x = state.empty != 0 ? 0.0 : b.x[from];
            if (!b.reconvolved)
                b.modelFlux[row * static_cast<std::size_t>(b.modelColumns) +
                            static_cast<std::size_t>(task.modelColumn + j)] = x;
            if (j >= task.keepBins) continue;
            const std::size_t spot = b.spot(task.spectrum + s, task.bin + i);
            const std::size_t to =
                row * static_cast<std::size_t>(b.columns) + static_cast<std::size_t>(task.column + j);
            const double fraction = larger(0.0, b.spotSum[spot] - b.unmasked[spot]);
            const bool onCcd = b.cornerX[spot] < b.ccdNx && b.cornerY[spot] < b.ccdNy &&
                               b.cornerX[spot] + b.stampX > 0 && b.cornerY[spot] + b.stampY > 0;
            b.xflux[to] = x;
            b.outWeight[to] = b.patchWeight[from];
            b.pixmask[to] = fraction;
            b.mask[to] = binMask(fraction, b.patchWeight[from], onCcd);
            double chi2 = 0.0;
            double weight = 0.0;
            for (int part = 0; part < parts && state.empty == 0; ++part) {
                chi2 += above[j * parts + part];
                weight += below[j * parts + part];
            }
            b.chi2pix[to] = weight > 0.0 ? chi2 / weight : 0.0;
        }
    }

private:
    /// Every parts-th pixel of a spot's stamp: its share of chi2, and of what counts.
    PATCHLIGHT_HOST_DEVICE void chi2(const PatchTask& task, int s, int i, int part, double& above,
                                     double& below) const {
        const std::size_t spot = b.spot(task.spectrum + s, task.bin + i);
        const double* stamp = b.stamp(task.spectrum + s, task.bin + i);
        const int columns = task.x1 - task.x0;
        const int low = larger(b.cornerY[spot], task.low);
        const int high = smaller(b.cornerY[spot] + b.stampY, task.high);
        const int left = larger(b.cornerX[spot], task.x0);
        const int right = smaller(b.cornerX[spot] + b.stampX, task.x1);
        above = 0.0;
        below = 0.0;
        for (int y = low; y < high; ++y)
            for (int x = left + part; x < right; x += parts) {
                const double a = stamp[(y - b.cornerY[spot]) * b.stampX + x - b.cornerX[spot]];
                const double* pixel =
                    b.chi2 + 2 * (task.pixels + static_cast<std::size_t>((y - task.low) * columns + x - task.x0));
                above += a * pixel[0];
                below += a * pixel[1];
            }
    }
};

} // namespace patchlight::gpu
