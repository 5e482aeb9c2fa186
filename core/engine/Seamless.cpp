#include "core/engine/Seamless.h"

#include "core/engine/Physics.h"
#include "core/psf/GaussHermite.h"

#include <algorithm>
#include <cstddef>

namespace patchlight::seamless {

namespace {

std::size_t size(int count) { return static_cast<std::size_t>(count); }

/// out[i] = the largest of in[i - half .. i + half] (none of them negative), by running maxima of blocks (van Herk 1992).
void slidingMaximum(const std::vector<double>& in, int half, std::vector<double>& out) {
    const std::size_t window = size(2 * half + 1);
    std::vector<double> fromLeft(in.size() + window - 1, 0.0); // zeros beyond both ends
    std::copy(in.begin(), in.end(), fromLeft.begin() + half);
    std::vector<double> fromRight(fromLeft);
    for (std::size_t i = 1; i < fromLeft.size(); ++i)
        if (i % window != 0) fromLeft[i] = std::max(fromLeft[i], fromLeft[i - 1]);
    for (std::size_t i = fromRight.size() - 1; i > 0; --i)
        if (i % window != 0) fromRight[i - 1] = std::max(fromRight[i - 1], fromRight[i]);
    out.resize(in.size());
    for (std::size_t i = 0; i < in.size(); ++i) out[i] = std::max(fromRight[i], fromLeft[i + window - 1]);
}

} // namespace

IndexRange subbundlesOfBundle(const Plan& plan, int subbundle) {
    const int bundle = plan.subbundles[size(subbundle)].bundle;
    const int count = static_cast<int>(plan.subbundles.size());
    IndexRange range{subbundle, subbundle + 1};
    while (range.first > 0 && plan.subbundles[size(range.first - 1)].bundle == bundle) --range.first;
    while (range.last < count && plan.subbundles[size(range.last)].bundle == bundle) ++range.last;
    return range;
}

Patch bundlePatch(const Plan& plan, int subbundle) {
    const IndexRange subbundles = subbundlesOfBundle(plan, subbundle);
    const Subbundle& first = plan.subbundles[size(subbundles.first)];
    const Subbundle& last = plan.subbundles[size(subbundles.last - 1)];
    const int pad = plan.grid.pad;
    Patch patch;
    patch.subbundle = subbundles.first;
    patch.step = 0;
    patch.spectra = {first.padded.first, last.padded.last};
    patch.core = patch.spectra;
    patch.coreBins = {pad, pad + plan.nsteps * plan.grid.nwavestep};
    patch.bins = {0, patch.coreBins.last + pad};
    patch.keepBins = {pad, pad + plan.grid.nwave};
    return patch;
}

Patch contextPatch(const Plan& plan, const Patch& patch, int bins, int spectra) {
    const Patch bundle = bundlePatch(plan, patch.subbundle);
    Patch wider = patch;
    wider.spectra = {std::max(bundle.spectra.first, patch.core.first - spectra),
                     std::min(bundle.spectra.last, patch.core.last + spectra)};
    wider.bins = {std::max(bundle.bins.first, patch.coreBins.first - bins),
                  std::min(bundle.bins.last, patch.coreBins.last + bins)};
    return wider;
}

IndexRange bundleRows(const PsfView& psf, const Plan& plan, int subbundle, int ny) {
    const Patch bundle = bundlePatch(plan, subbundle);
    RowExtent extent;
    const auto add = [&](int s, int bin, bool core) {
        extent.add(spotCorner(psf.type, traceY(psf, s, plan.grid.wavelength(bin)), psf.hsizeY), psf.stampY(), core);
    };
    for (int s = bundle.spectra.first; s < bundle.spectra.last; ++s) {
        add(s, bundle.bins.first, false);
        add(s, bundle.bins.last - 1, false);
        add(s, bundle.coreBins.first, true);
        add(s, bundle.coreBins.last - 1, true);
    }
    return extent.window(plan.options.pixpadFrac, ny);
}

PixelWindow partWindow(const PsfView& psf, const Plan& plan, const Patch& part, const SpotCorners& corners, int nx,
                       int ny) {
    PixelWindow window = patchWindow(psf, part, corners, 1.0, nx, ny);
    const IndexRange rows = bundleRows(psf, plan, part.subbundle, ny);
    window.y = {std::max(window.y.first, rows.first), std::min(window.y.last, rows.last)};
    return window;
}

void localMinimumWeights(const Plan& plan, const Patch& region, const std::vector<double>& fluxweight,
                         std::vector<double>& minweight) {
    const int nwave = region.bins.count();
    const int half = (plan.grid.nwavestep + 2 * plan.grid.pad) / 2;
    minweight.assign(fluxweight.size(), 0.0);
    std::vector<double> largest;
    std::vector<double> around;
    const IndexRange subbundles = subbundlesOfBundle(plan, region.subbundle);
    for (int sub = subbundles.first; sub < subbundles.last; ++sub) {
        const Subbundle& part = plan.subbundles[size(sub)];
        const IndexRange padded{std::max(part.padded.first, region.spectra.first),
                                std::min(part.padded.last, region.spectra.last)};
        const IndexRange core{std::max(part.core.first, region.spectra.first),
                              std::min(part.core.last, region.spectra.last)};
        if (core.empty()) continue;
        largest.assign(size(nwave), 0.0);
        for (int s = padded.first; s < padded.last; ++s) {
            const double* row = fluxweight.data() + size(s - region.spectra.first) * size(nwave);
            for (int i = 0; i < nwave; ++i) largest[size(i)] = std::max(largest[size(i)], row[i]);
        }
        slidingMaximum(largest, half, around);
        for (int s = core.first; s < core.last; ++s) {
            double* row = minweight.data() + size(s - region.spectra.first) * size(nwave);
            for (int i = 0; i < nwave; ++i) row[i] = minimumWeight(around[size(i)]);
        }
    }
}

} // namespace patchlight::seamless
