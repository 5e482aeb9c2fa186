#include "core/engine/Plan.h"

#include "core/base/Error.h"
#include "core/psf/GaussHermite.h"
#include "core/psf/Psf.h"
#include "core/psf/Traces.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

#include <fmt/format.h>

namespace patchlight {

namespace {

constexpr double defaultStep = 0.8;  // Angstrom, desispec's default
constexpr double domainMargin = 5.0; // Angstrom, specter's rule

WavelengthGrid makeGrid(const Psf& psf, const ExtractionOptions& options, double barycentricFactor) {
    const WavelengthRange range =
        options.wavelength.value_or(WavelengthRange{psf.wavemin(), psf.wavemax(), defaultStep});
    WavelengthGrid grid;
    grid.wmin = range.wmin;
    grid.dw = range.dw;
    // As many as numpy.arange(wmin, wmax + dw/2, dw) has, so that frames have desispec's size even where dw/2 is hit exactly.
    grid.nwave = std::max(1, static_cast<int>(std::ceil((range.wmax + 0.5 * range.dw - range.wmin) / range.dw)));
    grid.pad = options.wavepad + static_cast<int>(options.wavepad * options.wavepadFrac);
    grid.nwavestep = options.nwavestep;
    grid.scale = barycentricFactor;

    const double first = grid.wavelength(grid.pad);
    const double last = grid.wavelength(grid.pad + grid.nwave - 1);
    if (first < psf.wavemin() - domainMargin || last > psf.wavemax() + domainMargin)
        throw Error(fmt::format("--wavelength: {:.2f} to {:.2f} Angstrom lies more than {:g} Angstrom outside the "
                                "domain of the PSF {}, {:.2f} to {:.2f}",
                                first, last, domainMargin, psf.path, psf.wavemin(), psf.wavemax()));
    return grid;
}

} // namespace

std::vector<int> splitBundle(int count, int parts) {
    parts = std::min(parts, count);
    if (parts <= 0) return {};
    std::vector<int> sizes(static_cast<std::size_t>(parts), count / parts);
    int larger = count % parts;
    // The larger parts go to the edges first, where only one spectrum of padding is added: first, last, second, third, ...
    if (larger > 0) {
        ++sizes.front();
        --larger;
    }
    if (larger > 0) {
        ++sizes.back();
        --larger;
    }
    for (std::size_t i = 1; larger > 0; ++i, --larger) ++sizes[i];
    return sizes;
}

Plan makePlan(const Psf& psf, const ExtractionOptions& options, double barycentricFactor) {
    validate(options);
    Plan plan;
    plan.options = options;
    plan.grid = makeGrid(psf, options, barycentricFactor);
    plan.ndiag = psf.hsizeY;
    plan.psferr = options.psferr.value_or(psf.psferr);
    plan.specmin = options.specmin;
    if (options.specmin >= psf.nspec)
        throw UsageError(fmt::format("--specmin: spectrum {} asked for, the PSF {} holds 0 to {}", options.specmin,
                                     psf.path, psf.nspec - 1));
    plan.nspec = options.nspec == 0 ? psf.nspec - options.specmin : options.nspec;
    if (plan.nspec > psf.nspec - options.specmin)
        throw UsageError(fmt::format("--nspec: spectra {} to {} asked for, the PSF {} holds 0 to {}", options.specmin,
                                     static_cast<long>(options.specmin) + plan.nspec - 1, psf.path, psf.nspec - 1));
    plan.nsteps = (plan.grid.nwave + options.nwavestep - 1) / options.nwavestep;

    const IndexRange wanted{plan.specmin, plan.specmin + plan.nspec};
    // Bundles are physical: fiber / bundlesize. The first and the last one of a PSF may be incomplete.
    int first = 0;
    while (first < psf.nspec) {
        const int bundle = (psf.fibermin + first) / options.bundlesize;
        const int last = std::min(psf.nspec, (bundle + 1) * options.bundlesize - psf.fibermin);
        int start = first;
        for (const int size : splitBundle(last - first, options.nsubbundles)) {
            Subbundle sub;
            sub.bundle = bundle;
            sub.whole = {first, last};
            sub.core = {start, start + size};
            sub.padded = {std::max(first, start - 1), std::min(last, start + size + 1)};
            // The seamless method solves a bundle as a whole, whatever was asked for.
            const IndexRange needed = options.method == Method::Seamless ? IndexRange{first, last} : sub.core;
            if (needed.first < wanted.last && needed.last > wanted.first) plan.subbundles.push_back(sub);
            start += size;
        }
        first = last;
    }
    return plan;
}

Patch Plan::patch(int subbundle, int step) const {
    const Subbundle& sub = subbundles[static_cast<std::size_t>(subbundle)];
    Patch patch;
    patch.subbundle = subbundle;
    patch.step = step;
    patch.spectra = sub.padded;
    patch.core = sub.core;
    patch.coreBins = {grid.pad + step * grid.nwavestep, grid.pad + (step + 1) * grid.nwavestep};
    patch.bins = {patch.coreBins.first - grid.pad, patch.coreBins.last + grid.pad};
    patch.keepBins = {patch.coreBins.first, std::min(patch.coreBins.last, grid.pad + grid.nwave)};
    return patch;
}

Patch Plan::patchAt(int spectrum, int core) const {
    if (core < 0 || core >= grid.nwave)
        throw UsageError(fmt::format("wavelength index {} is outside the grid of {} wavelengths", core, grid.nwave));
    for (std::size_t i = 0; i < subbundles.size(); ++i)
        if (subbundles[i].core.contains(spectrum)) return patch(static_cast<int>(i), core / grid.nwavestep);
    throw UsageError(
        fmt::format("spectrum {} is not among those to extract, {} to {}", spectrum, specmin, specmin + nspec - 1));
}

int mostBinsOnRow(const PsfView& psf, const WavelengthGrid& grid, IndexRange spectra, int ny) {
    const std::size_t bins = static_cast<std::size_t>(grid.nbins());
    std::vector<double> wavelength(bins);
    for (std::size_t i = 0; i < bins; ++i) wavelength[i] = grid.wavelength(static_cast<int>(i));
    std::vector<double> y(bins);
    std::vector<int> corner(bins);
    const int height = psf.stampY();
    std::size_t most = 0;
    for (int s = spectra.first; s < spectra.last; ++s) {
        legendreSums(psf.coeffY + static_cast<std::ptrdiff_t>(s) * psf.ncoeffY, psf.ncoeffY, psf.domainY, 1, wavelength,
                     y.data());
        for (std::size_t i = 0; i < bins; ++i) corner[i] = spotCorner(psf.type, y[i], psf.hsizeY);
        std::size_t low = 0; // first bin that reaches up to the corner of bin `i`
        for (std::size_t i = 0; i < bins; ++i) {
            while (low < i && corner[low] + height <= corner[i]) ++low;
            if (corner[i] < ny && corner[i] + height > 0) most = std::max(most, i - low + 1);
        }
    }
    return static_cast<int>(most);
}

std::vector<Batch> makeBatches(const Plan& plan, int steps) {
    std::vector<Batch> batches;
    const int total = static_cast<int>(plan.subbundles.size());
    for (int first = 0; first < total;) {
        int last = first + 1;
        while (last < total && plan.subbundles[static_cast<std::size_t>(last)].bundle ==
                                   plan.subbundles[static_cast<std::size_t>(first)].bundle)
            ++last;
        for (int step = 0; step < plan.nsteps; step += steps)
            batches.push_back({{first, last}, {step, std::min(plan.nsteps, step + steps)}});
        first = last;
    }
    return batches;
}

int rowsNeeded(const PsfView& psf, const Plan& plan, const Batch& batch, int ny) {
    if (plan.options.method == Method::Seamless) return ny;
    const int first = plan.patch(batch.subbundles.first, batch.steps.first).bins.first;
    const int last = plan.patch(batch.subbundles.first, batch.steps.last - 1).bins.last;
    std::vector<double> wavelength;
    for (int bin = first; bin < last; ++bin) wavelength.push_back(plan.grid.wavelength(bin));
    std::vector<double> y(wavelength.size());
    const IndexRange spectra{plan.subbundles[static_cast<std::size_t>(batch.subbundles.first)].padded.first,
                             plan.subbundles[static_cast<std::size_t>(batch.subbundles.last - 1)].padded.last};
    constexpr int rounding = 1; // traces may be summed up in another order where spots are made
    int rows = 0;
    for (int s = spectra.first; s < spectra.last; ++s) {
        legendreSums(psf.coeffY + static_cast<std::ptrdiff_t>(s) * psf.ncoeffY, psf.ncoeffY, psf.domainY, 1, wavelength,
                     y.data());
        for (const double center : y)
            rows = std::max(rows, std::min(ny, spotCorner(psf.type, center, psf.hsizeY) + psf.stampY() + rounding));
    }
    return rows;
}

IndexRange RowExtent::window(double pixpadFrac, int ny) const {
    const int low = padded_.first + static_cast<int>((core_.first - padded_.first) * (1.0 - pixpadFrac));
    const int high =
        padded_.first + static_cast<int>((core_.last - padded_.first) + (padded_.last - core_.last) * pixpadFrac);
    return {std::max(0, low), std::min(ny, high)};
}

PixelWindow patchWindow(const PsfView& psf, const Patch& patch, const SpotCorners& corners, double pixpadFrac, int nx,
                        int ny) {
    int xmin = std::numeric_limits<int>::max();
    int xmax = std::numeric_limits<int>::min();
    RowExtent rows;
    for (int spectrum = patch.spectra.first; spectrum < patch.spectra.last; ++spectrum) {
        for (int bin = patch.bins.first; bin < patch.bins.last; ++bin) {
            const std::size_t i = corners.index(spectrum, bin);
            xmin = std::min(xmin, corners.x[i]);
            xmax = std::max(xmax, corners.x[i] + psf.stampX());
            rows.add(corners.y[i], psf.stampY(), patch.coreBins.contains(bin));
        }
    }
    PixelWindow window;
    window.x = {std::max(0, xmin), std::min(nx, xmax)};
    window.y = rows.window(pixpadFrac, ny);
    return window;
}

} // namespace patchlight
