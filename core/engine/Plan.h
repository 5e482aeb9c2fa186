#pragma once

#include "core/engine/Options.h"
#include "core/psf/PsfView.h"

#include <algorithm>
#include <limits>
#include <vector>

namespace patchlight {

class Psf;

/// Half-open range of indices [first, last).
struct IndexRange {
    int first = 0;
    int last = 0;
    [[nodiscard]] int count() const { return last > first ? last - first : 0; }
    [[nodiscard]] bool empty() const { return last <= first; }
    [[nodiscard]] bool contains(int index) const { return index >= first && index < last; }
    bool operator==(const IndexRange&) const = default;
};

/// The wavelengths of an extraction: nwave core bins, with `pad` bins below and `pad` + nwavestep bins above, so that the last
/// patch is as wide as the others. A *bin* index counts the padded grid: bin = pad + core index.
struct WavelengthGrid {
    double wmin = 0; ///< of core index 0, Angstrom
    double dw = 0;   ///< Angstrom
    int nwave = 0;   ///< core bins
    int pad = 0;
    int nwavestep = 0;
    double scale = 1; ///< the barycentric factor that wavelengths are divided by before they meet the PSF

    [[nodiscard]] int nbins() const { return nwave + 2 * pad + nwavestep; }
    /// Wavelength as written to the output, Angstrom: the same number, to the last bit, as numpy.arange gives desispec.
    [[nodiscard]] double outputWavelength(int core) const { return arange(wmin, dw, core); }
    /// Wavelength handed to the PSF, Angstrom; rounded as gpu_specter does, whose padding continues the core's grid.
    [[nodiscard]] double wavelength(int bin) const {
        const double first = wmin / scale;
        const double step = dw / scale;
        const int core = bin - pad;
        if (core < 0) return (bin * step - ((pad - 1) * step + step)) + first;
        if (core < nwave) return arange(first, step, core);
        return arange(first, step, nwave - 1) + (1.0 + (core - nwave)) * step;
    }
    /// Step of the wavelengths handed to the PSF, Angstrom: what flux per bin is divided by.
    [[nodiscard]] double step() const { return dw / scale; }

private:
    /// Element i of numpy.arange: the step is what the difference of the first two elements, both rounded, gives.
    [[nodiscard]] static double arange(double first, double step, int i) {
        return first + i * ((first + step) - first);
    }
};

/// Spectra extracted together: a part of a bundle, and one more spectrum on each side except at the bundle's edge.
struct Subbundle {
    int bundle = 0;    ///< physical bundle: spectrum / bundlesize
    IndexRange whole;  ///< all spectra of that bundle
    IndexRange core;   ///< spectra kept
    IndexRange padded; ///< spectra extracted
};

/// Pixels of a patch: columns [x.first, x.last), rows [y.first, y.last), trimmed to the CCD.
struct PixelWindow {
    IndexRange x;
    IndexRange y;
    [[nodiscard]] bool empty() const { return x.empty() || y.empty(); }
    bool operator==(const PixelWindow&) const = default;
};

/// One subbundle x nwavestep wavelengths, with padding.
struct Patch {
    int subbundle = 0;   ///< index into Plan::subbundles
    int step = 0;        ///< index along wavelength
    IndexRange spectra;  ///< with padding
    IndexRange core;     ///< spectra kept
    IndexRange bins;     ///< padded-grid bins extracted
    IndexRange coreBins; ///< padded-grid bins of the nwavestep core wavelengths (pixel window, chi2)
    IndexRange keepBins; ///< those of coreBins that exist in the output: fewer in the last patch
};

/// A batch: what a backend extracts in one call. All subbundles of one bundle x consecutive wavelength steps, so that the spots
/// which neighbouring patches share are evaluated once.
struct Batch {
    IndexRange subbundles; ///< of Plan::subbundles, all of one bundle
    IndexRange steps;
};

/// Where everything is: the wavelength grid, the subbundles, the patches. Cheap to make; holds no pixels.
struct Plan {
    ExtractionOptions options;
    WavelengthGrid grid;
    int specmin = 0; ///< first spectrum asked for
    int nspec = 0;   ///< spectra asked for
    int nsteps = 0;  ///< patches along wavelength
    int ndiag = 0;   ///< diagonals of the resolution kept each side: HSIZEY
    double psferr = 0;
    std::vector<Subbundle>
        subbundles; ///< those that hold a spectrum asked for (seamless: those of its bundle), in order

    [[nodiscard]] int patchCount() const { return static_cast<int>(subbundles.size()) * nsteps; }
    [[nodiscard]] Patch patch(int subbundle, int step) const;
    /// The patch that holds a spectrum at a core wavelength index. @throws UsageError where none does
    [[nodiscard]] Patch patchAt(int spectrum, int core) const;
};

/// Plans an extraction. @param barycentricFactor 1, or the factor that output wavelengths are divided by.
/// @throws UsageError for spectra that the PSF does not hold; Error for wavelengths more than 5 Angstrom outside its domain.
[[nodiscard]] Plan makePlan(const Psf& psf, const ExtractionOptions& options, double barycentricFactor = 1.0);

/// Cuts `count` spectra into `parts` as equal as can be, the smaller ones not at the edges where possible: sizes in order.
/// parts > count gives `count` parts of one.
[[nodiscard]] std::vector<int> splitBundle(int count, int parts);

/// Most bins that one of the spectra has light of on one row of a CCD of ny rows.
[[nodiscard]] int mostBinsOnRow(const PsfView& psf, const WavelengthGrid& grid, IndexRange spectra, int ny);

/// Whether patches of a bundle with so many bins on a row (mostBinsOnRow()) are tried with bands before full blocks: where more than 8 share a row, bins
/// are narrow beside spots and condition numbers in the thousands, and hardly a patch would do with bands alone.
[[nodiscard]] constexpr bool startsWithBands(int binsOnRow) { return binsOnRow <= 8; }

/// Cuts the plan into batches of at most `steps` wavelength steps.
[[nodiscard]] std::vector<Batch> makeBatches(const Plan& plan, int steps);

/// CCD rows that a batch needs, those of its spots with padding: rows [0, rowsNeeded()), of a CCD with ny rows; all where the method is seamless.
[[nodiscard]] int rowsNeeded(const PsfView& psf, const Plan& plan, const Batch& batch, int ny);

/// The CCD rows of a patch's spots, and the window that follows from them (docs/method.md, "Pixel window").
class RowExtent {
public:
    /// Adds a spot. @param corner its first row; @param core true for one of the core wavelengths
    void add(int corner, int rows, bool core) {
        padded_.first = std::min(padded_.first, corner);
        padded_.last = std::max(padded_.last, corner + rows);
        if (!core) return;
        core_.first = std::min(core_.first, corner);
        core_.last = std::max(core_.last, corner + rows);
    }
    /// Rows of the window, trimmed to a CCD of ny rows.
    [[nodiscard]] IndexRange window(double pixpadFrac, int ny) const;

private:
    static constexpr IndexRange none{std::numeric_limits<int>::max(), std::numeric_limits<int>::min()};
    IndexRange padded_ = none;
    IndexRange core_ = none;
};

/// Corners of the spots of a range of spectra x bins.
struct SpotCorners {
    IndexRange spectra;
    IndexRange bins;
    std::vector<int> x; ///< [spectra][bins], column of the spot's first pixel
    std::vector<int> y; ///< [spectra][bins], row of the spot's first pixel
    [[nodiscard]] std::size_t index(int spectrum, int bin) const {
        return static_cast<std::size_t>(spectrum - spectra.first) * static_cast<std::size_t>(bins.count()) +
               static_cast<std::size_t>(bin - bins.first);
    }
};

/// Pixel window of a patch, from the corners of its spots (docs/method.md, "Pixel window"), trimmed to a CCD of nx x ny.
[[nodiscard]] PixelWindow patchWindow(const PsfView& psf, const Patch& patch, const SpotCorners& corners,
                                      double pixpadFrac, int nx, int ny);

} // namespace patchlight
