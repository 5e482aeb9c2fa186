#include "gpu/BatchGeometry.h"

#include "core/engine/Seamless.h"
#include "core/psf/GaussHermite.h"
#include "core/psf/Traces.h"

#include <algorithm>
#include <cstring>
#include <limits>

namespace patchlight::gpu {

namespace {

std::size_t size(int count) { return static_cast<std::size_t>(count); }

/// The array of a view that points into memory to be written.
template <class T> T* writable(const T* p) {
    return const_cast<T*>(p);
} // NOLINT(cppcoreguidelines-pro-type-const-cast)

} // namespace

bool BatchGeometry::locateSpots(const PsfView& psf, const Plan& plan, IndexRange spectra, IndexRange bins, int nx,
                                int ny) {
    corners_.spectra = spectra;
    corners_.bins = bins;
    const int nbins = bins.count();
    const std::size_t count = size(spectra.count()) * size(nbins);
    stampX_ = psf.stampX();
    stampY_ = psf.stampY();
    wavelength_.resize(size(nbins));
    for (int i = 0; i < nbins; ++i) wavelength_[size(i)] = plan.grid.wavelength(bins.first + i);
    x_.resize(count);
    y_.resize(count);
    corners_.x.resize(count);
    corners_.y.resize(count);
    legendreSums(psf.coeffX + size(spectra.first) * size(psf.ncoeffX), psf.ncoeffX, psf.domainX, spectra.count(),
                 wavelength_, x_.data());
    legendreSums(psf.coeffY + size(spectra.first) * size(psf.ncoeffY), psf.ncoeffY, psf.domainY, spectra.count(),
                 wavelength_, y_.data());
    int left = nx;
    int right = 0;
    int low = ny;
    int high = 0;
    std::size_t at = 0;
    for (int s = spectra.first; s < spectra.last; ++s)
        for (int i = 0; i < nbins; ++i, ++at) {
            const int cx = spotCorner(psf.type, x_[at], psf.hsizeX);
            const int cy = spotCorner(psf.type, y_[at], psf.hsizeY);
            corners_.x[at] = cx;
            corners_.y[at] = cy;
            if (i > 0 && cy < corners_.y[at - 1]) return false; // the trace turns back
            left = std::min(left, cx);
            right = std::max(right, cx + stampX_);
            low = std::min(low, cy);
            high = std::max(high, cy + stampY_);
        }
    stripX_ = {std::max(0, left), std::min(nx, right)};
    stripY_ = {std::max(0, low), std::min(ny, high)};
    if (stripX_.empty() || stripY_.empty()) stripX_ = stripY_ = {0, 0};

    // How far apart bins that share a row can be: in one spectrum, and in neighbours (the next and the one after).
    ownWidth_ = 1;
    reach_ = 0;
    for (int s = 0; s < spectra.count(); ++s) {
        const int* mine = corners_.y.data() + size(s) * size(nbins);
        for (int t = s; t <= std::min(s + 2, spectra.count() - 1); ++t) {
            const int* theirs = corners_.y.data() + size(t) * size(nbins);
            int begin = 0;
            int end = 0;
            for (int i = 0; i < nbins; ++i) {
                while (begin < nbins && theirs[begin] + stampY_ <= mine[i]) ++begin;
                end = std::max(end, begin);
                while (end < nbins && theirs[end] < mine[i] + stampY_) ++end;
                if (begin == end) continue;
                const int reach = std::max(end - 1 - i, i - begin);
                if (t == s)
                    ownWidth_ = std::max(ownWidth_, reach + 1);
                else
                    reach_ = std::max(reach_, reach);
            }
        }
    }

    active_.resize(size(spectra.count()) * size(stripY_.count()) * 2);
    int* active = active_.data();
    for (int s = 0; s < spectra.count(); ++s) {
        const int* corner = corners_.y.data() + size(s) * size(nbins);
        int from = 0;
        int to = 0;
        for (int row = stripY_.first; row < stripY_.last; ++row) {
            while (from < nbins && corner[from] + stampY_ <= row) ++from;
            to = std::max(to, from);
            while (to < nbins && corner[to] <= row) ++to;
            *active++ = from;
            *active++ = to;
        }
    }
    return true;
}

int BatchGeometry::seamlessContext(const PsfView& psf, const Plan& plan, int subbundle, int ny) {
    constexpr int usual = 64;
    constexpr int narrow = 104;
    constexpr int manyBins = 8; // on a row: with more the CPU's first rung has a wider band
    const int most = mostBinsOnRow(psf, plan.grid, plan.subbundles[size(subbundle)].whole, ny);
    return std::max(std::max(plan.ndiag, most) > manyBins ? narrow : usual, plan.grid.pad);
}

bool BatchGeometry::locate(const PsfView& psf, const Plan& plan, const Batch& batch, const CcdView& ccd) {
    const Subbundle& first = plan.subbundles[size(batch.subbundles.first)];
    const Subbundle& last = plan.subbundles[size(batch.subbundles.last - 1)];
    const IndexRange spectra{first.padded.first, last.padded.last};
    seamless_ = plan.options.method == Method::Seamless;
    const int context = seamless_ ? seamlessContext(psf, plan, batch.subbundles.first, ccd.ny) : 0;
    // Of the seamless method a segment is one patch of all the bundle's spectra.
    const auto patchOf = [&](int sub, int step) {
        Patch patch = plan.patch(sub, step);
        if (!seamless_) return patch;
        patch = seamless::contextPatch(plan, patch, context);
        patch.spectra = patch.core = spectra;
        return patch;
    };
    const IndexRange bins{patchOf(batch.subbundles.first, batch.steps.first).bins.first,
                          patchOf(batch.subbundles.first, batch.steps.last - 1).bins.last};
    if (!locateSpots(psf, plan, spectra, bins, ccd.nx, ccd.ny)) return false;
    if (ownWidth_ > widestOwn || reach_ > longestReach) return false;
    rows_ = {first.core.first, last.core.last};
    bandsFirst_ = seamless_ || startsWithBands(mostBinsOnRow(psf, plan.grid, first.whole, ccd.ny));
    pad_ = plan.grid.pad;
    around_ = (plan.grid.nwavestep + 2 * plan.grid.pad) / 2;
    subbundles_.assign(size(spectra.count()), {});
    for (int sub = batch.subbundles.first; sub < batch.subbundles.last; ++sub) {
        const Subbundle& part = plan.subbundles[size(sub)];
        for (int s = part.core.first; s < part.core.last; ++s)
            subbundles_[size(s - spectra.first)] = {part.core.first - spectra.first, part.padded.first - spectra.first,
                                                    part.padded.last - spectra.first};
    }
    const Patch firstPatch = plan.patch(batch.subbundles.first, batch.steps.first);
    const Patch lastPatch = plan.patch(batch.subbundles.first, batch.steps.last - 1);
    columns_ = {firstPatch.keepBins.first - plan.grid.pad, lastPatch.keepBins.last - plan.grid.pad};
    modelColumns_ = lastPatch.coreBins.last - firstPatch.coreBins.first;
    tasks_.clear();
    pixels_ = 0;
    maxSpec_ = maxWave_ = 0;
    const int subbundleEnd = seamless_ ? batch.subbundles.first + 1 : batch.subbundles.last;
    for (int sub = batch.subbundles.first; sub < subbundleEnd; ++sub)
        for (int step = batch.steps.first; step < batch.steps.last; ++step) {
            const Patch patch = patchOf(sub, step);
            const PixelWindow window = seamless_
                                           ? seamless::partWindow(psf, plan, patch, corners_, ccd.nx, ccd.ny)
                                           : patchWindow(psf, patch, corners_, plan.options.pixpadFrac, ccd.nx, ccd.ny);
            PatchTask task;
            task.spectrum = patch.spectra.first - spectra.first;
            task.nspec = patch.spectra.count();
            task.bin = patch.bins.first - bins.first;
            task.nwave = patch.bins.count();
            task.core = patch.core.first - patch.spectra.first;
            task.ncore = patch.core.count();
            task.coreBin = patch.coreBins.first - patch.bins.first;
            task.coreBinEnd = patch.coreBins.last - patch.bins.first;
            task.keepBins = patch.keepBins.count();
            task.checkBin = task.proveBin = 0;
            task.checkBinEnd = task.proveBinEnd = task.nwave;
            task.x0 = window.x.first;
            task.x1 = window.x.last;
            task.y0 = task.low = window.y.first;
            task.y1 = task.high = window.y.last;
            if (seamless_) {
                task.checkBin = std::max(0, task.coreBin - seamless::neighbourhood);
                task.checkBinEnd = std::min(task.nwave, task.coreBinEnd + seamless::neighbourhood);
                task.proveBin = std::max(0, task.coreBin - seamless::removalNeighbourhood);
                task.proveBinEnd = std::min(task.nwave, task.coreBinEnd + seamless::removalNeighbourhood);
                const IndexRange rows = coreRows(patch);
                task.low = std::max(task.low, rows.first);
                task.high = std::max(task.low, std::min(task.high, rows.last));
            }
            task.row = patch.core.first - rows_.first;
            task.column = patch.keepBins.first - plan.grid.pad - columns_.first;
            task.modelColumn = patch.coreBins.first - firstPatch.coreBins.first;
            task.pixels = pixels_;
            if (!window.empty()) pixels_ += size(window.x.count()) * size(task.high - task.low);
            maxSpec_ = std::max(maxSpec_, task.nspec);
            maxWave_ = std::max(maxWave_, task.nwave);
            tasks_.push_back(task);
        }
    return true;
}

IndexRange BatchGeometry::coreRows(const Patch& patch) const {
    IndexRange rows{std::numeric_limits<int>::max(), std::numeric_limits<int>::min()};
    for (int s = patch.core.first; s < patch.core.last; ++s)
        for (const int bin : {patch.coreBins.first, patch.coreBins.last - 1}) { // traces run one way
            const int corner = corners_.y[corners_.index(s, bin)];
            rows.first = std::min(rows.first, corner);
            rows.last = std::max(rows.last, corner + stampY_);
        }
    return rows;
}

void BatchGeometry::describe(BatchView& view) const {
    view.firstSpectrum = corners_.spectra.first;
    view.nspec = corners_.spectra.count();
    view.nbins = corners_.bins.count();
    view.stampX = stampX_;
    view.stampY = stampY_;
    view.stampStride = stampX_ * stampY_ | 1;
    view.ownWidth = ownWidth_;
    view.reach = reach_;
    view.seamless = seamless_;
    view.bandsFirst = bandsFirst_;
    view.pad = pad_;
    view.around = around_;
    view.patches = static_cast<int>(tasks_.size());
    view.maxSpec = maxSpec_;
    view.maxWave = maxWave_;
    view.rows = rows_.count();
    view.columns = columns_.count();
    view.modelColumns = modelColumns_;
    view.stripX = stripX_.first;
    view.stripY = stripY_.first;
    view.stripNx = stripX_.count();
    view.stripNy = stripY_.count();
}

void BatchGeometry::fillSpots(const BatchView& view) const {
    const auto copy = [](const auto& from, const auto* to) { std::copy(from.begin(), from.end(), writable(to)); };
    copy(wavelength_, view.wavelength);
    copy(x_, view.traceX);
    copy(y_, view.traceY);
    copy(corners_.x, view.cornerX);
    copy(corners_.y, view.cornerY);
    copy(active_, view.active);
}

void BatchGeometry::fill(const BatchView& view, const CcdView& ccd) const {
    fillSpots(view);
    std::copy(tasks_.begin(), tasks_.end(), writable(view.tasks));
    std::copy(subbundles_.begin(), subbundles_.end(), writable(view.subbundles));
    const std::size_t columns = size(view.stripNx);
    for (int row = 0; row < view.stripNy; ++row) {
        const std::size_t from = size(view.stripY + row) * size(ccd.nx) + size(view.stripX);
        std::copy_n(ccd.pixels + from, columns, writable(view.pixels) + size(row) * columns);
        std::copy_n(ccd.weights + from, columns, writable(view.weights) + size(row) * columns);
    }
}

} // namespace patchlight::gpu
