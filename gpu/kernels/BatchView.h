#pragma once

#include "core/engine/ErrorBounds.h"
#include "core/psf/PsfView.h"

#include <cstddef>
#include <cstdint>

/// A batch as the kernels see it: plain pointers into one workspace on the device.
namespace patchlight::gpu {

/// Widest band of the ladder; arrays of bands have room for it.
inline constexpr int widestBand = 12;
/// Rungs of the ladder of condition numbers, and the most poles of one: lane 0 of a group solves for xflux, the others prove a bound.
inline constexpr int mostRungs = 15;
inline constexpr int mostPoles = 64;

/// The rational square roots (InverseSquareRoot) by condition number.
struct Ladder {
    int rungs = 0;
    double kappa[mostRungs] = {};
    int poles[mostRungs] = {};
    double pole[mostRungs][mostPoles] = {};
    double weight[mostRungs][mostPoles] = {};
};

/// A patch; spectra and bins count from the batch's first, those of the second group from the patch's.
struct PatchTask {
    int spectrum = 0, nspec = 0;
    int bin = 0, nwave = 0;
    int core = 0, ncore = 0;            ///< spectra kept, from the patch's first
    int coreBin = 0, coreBinEnd = 0;    ///< bins of the core wavelengths, from the patch's first
    int keepBins = 0;                   ///< those of them that are in the frame: the first ones
    int checkBin = 0, checkBinEnd = 0;  ///< bins whose errors count
    int proveBin = 0, proveBinEnd = 0;  ///< bins that must have positive pivots where a condition number is proved
    int x0 = 0, x1 = 0, y0 = 0, y1 = 0; ///< pixel window, CCD
    int low = 0, high = 0;              ///< rows of it whose quality is measured
    int row = 0;                        ///< of its first core spectrum in the output
    int column = 0;                     ///< of its first kept bin in the output
    int modelColumn = 0;                ///< of its first core bin in the model flux
    std::size_t pixels = 0;             ///< first of its pixels in BatchView::chi2
};

/// The subbundle of a spectrum, counted from the batch's first spectrum.
struct SubbundleTask {
    int first = 0;                      ///< its first core spectrum
    int paddedFirst = 0, paddedEnd = 0; ///< with padding
};

/// What is known of a patch while it climbs.
struct PatchState {
    std::int32_t open = 1;      ///< a core spectrum is not accepted yet
    std::int32_t empty = 0;     ///< no unmasked pixel
    std::int32_t failed = 0;    ///< second neighbours matter, which no rung has: full blocks would be of no use
    std::int32_t slot = -1;     ///< of memory for full blocks; -1: none
    std::int32_t corrected = 0; ///< core spectra that were given corrected roots of bands
    std::int32_t rooted = 0;    ///< core spectra that were given roots of full blocks
};

/// A core spectrum's part of its patch's report.
struct SpectrumReport {
    std::uint32_t climbed = 0; ///< PatchStatus bits; 0: accepted at once
    std::int32_t lit = 0;      ///< has light in the patch, padding of wavelengths included
    std::int32_t open = 1;     ///< not accepted yet
    std::int32_t far = 0;      ///< second neighbours matter
    double error = 0;
    double condition = 0;
};

struct BatchView {
    // What is asked for.
    PsfView psf;
    bool seamless = false;  ///< patches are segments of a bundle: all its spectra, and bins of context
    bool bandsFirst = true; ///< patches are tried with bands before full blocks
    bool tail = true;
    bool reconvolved = false; ///< what the model image is painted with
    double psferr = 0;
    double regularize = 0;
    ErrorBounds bounds;
    int ndiag = 0;
    int ccdNx = 0, ccdNy = 0;

    // Sizes.
    int firstSpectrum = 0;    ///< of the PSF
    int nspec = 0, nbins = 0; ///< spots: a rectangle
    int stampX = 0, stampY = 0;
    int stampStride = 0; ///< odd, so that stamps side by side lie in different banks
    int ownWidth = 0;    ///< diagonals of a spectrum's own block, the main one included
    int reach = 0;       ///< largest distance in bins of coupled neighbours
    int pad = 0;         ///< bins beyond a patch's core that count as the patch's
    int around = 0;      ///< seamless: bins on both sides that a bin's prior looks at
    int patches = 0, maxSpec = 0, maxWave = 0;
    int rows = 0, columns = 0, modelColumns = 0; ///< of the output

    // The batch's part of the CCD, [stripNy][stripNx].
    int stripX = 0, stripY = 0, stripNx = 0, stripNy = 0;
    const float* pixels = nullptr;
    const float* weights = nullptr;

    // Where spots lie: [nspec][nbins].
    const double* wavelength = nullptr; ///< [nbins]
    const double* traceX = nullptr;
    const double* traceY = nullptr;
    const int* cornerX = nullptr;
    const int* cornerY = nullptr;
    const int* active = nullptr; ///< [nspec][stripNy][2]: bins with light on a row
    const PatchTask* tasks = nullptr;
    const SubbundleTask* subbundles = nullptr; ///< [nspec], that each spectrum is in
    const Ladder* ladder = nullptr;
    const Ladder* fineLadder = nullptr; ///< of full blocks

    // Spots and their sums over the whole CCD: [nspec][nbins].
    double* stamps = nullptr; ///< [..][stampStride]
    double* spotSum = nullptr;
    double* own = nullptr;    ///< [..][ownWidth]: sum A_b w A_{b + d}
    double* next = nullptr;   ///< [..][nextWidth()]: sum A_{s, b} w A_{s + 1, b + d} at d + reach
    double* second = nullptr; ///< largest sum A_{s, b} w A_{s + 2, b'}
    double* y = nullptr;
    double* fluxweight = nullptr;
    double* unmasked = nullptr;

    // The same of each patch, within its window: [patches][maxSpec][maxWave].
    double* patchOwn = nullptr;
    double* patchNext = nullptr;
    double* patchY = nullptr;
    double* patchWeight = nullptr;
    PatchState* states = nullptr;
    SpectrumReport* reports = nullptr; ///< [patches][maxSpec]
    int* accepted = nullptr;           ///< [patches][maxSpec]

    // Elimination from the left [0] and from the right [1]: F and G, [patches][maxSpec][maxWave][band + 1], and their right-hand sides.
    double* block[2] = {};
    double* side[2] = {};
    double* leak[2] = {}; ///< [patches][maxSpec][maxWave]: |element| next to the band, by column

    // Results of a rung: [patches][maxSpec][maxWave].
    double* x = nullptr;
    double* residual = nullptr; ///< y - A x
    double* rowSum = nullptr;
    double* qx = nullptr;
    double* q = nullptr;             ///< [..][ndiag + 1]
    double* largest = nullptr;       ///< [patches][maxSpec], Gershgorin's bound of S
    double* condition = nullptr;     ///< [patches][maxSpec], bound; 0: none
    double* relativeLeak = nullptr;  ///< [patches][maxSpec]
    double* relativeOuter = nullptr; ///< [patches][maxSpec], of corrected roots: what lies beyond their diagonals

    // Full blocks, for patches that the bands leave open.
    int denseSlots = 0;
    bool denseShared = false; ///< the matrices at hand fit into shared memory
    double* dense = nullptr;

    // Work.
    double* rootWork = nullptr; ///< a piece for each group that works at a time
    std::size_t rootWorkSize = 0;
    double* model = nullptr; ///< of the patches' windows, pixel by pixel: chi2, and whether it counts
    double* chi2 = nullptr;

    // The model image: what it is painted with, and the strip of it that comes out.
    const double* paint = nullptr; ///< [nspec][nbins]
    float* strip = nullptr;        ///< [stripNy][stripNx]

    // Output: planes [rows][columns].
    double* flux = nullptr;
    double* ivar = nullptr;
    double* xflux = nullptr;
    double* outWeight = nullptr;
    double* chi2pix = nullptr;
    double* pixmask = nullptr;
    double* resolution = nullptr; ///< [rows][2 ndiag + 1][columns]
    double* modelFlux = nullptr;  ///< [rows][modelColumns]
    std::uint32_t* mask = nullptr;

    [[nodiscard]] PATCHLIGHT_HOST_DEVICE int nextWidth() const { return 2 * reach + 1; }
    [[nodiscard]] PATCHLIGHT_HOST_DEVICE std::size_t spot(int spectrum, int bin) const {
        return static_cast<std::size_t>(spectrum) * static_cast<std::size_t>(nbins) + static_cast<std::size_t>(bin);
    }
    [[nodiscard]] PATCHLIGHT_HOST_DEVICE const double* stamp(int spectrum, int bin) const {
        return stamps + spot(spectrum, bin) * static_cast<std::size_t>(stampStride);
    }
    /// Index of a patch's spectrum and bin.
    [[nodiscard]] PATCHLIGHT_HOST_DEVICE std::size_t flat(int patch, int s, int i) const {
        return (static_cast<std::size_t>(patch) * static_cast<std::size_t>(maxSpec) + static_cast<std::size_t>(s)) *
                   static_cast<std::size_t>(maxWave) +
               static_cast<std::size_t>(i);
    }
    [[nodiscard]] PATCHLIGHT_HOST_DEVICE std::size_t spectrumOf(int patch, int s) const {
        return static_cast<std::size_t>(patch) * static_cast<std::size_t>(maxSpec) + static_cast<std::size_t>(s);
    }
    /// A pixel of the strip, by its place on the CCD.
    [[nodiscard]] PATCHLIGHT_HOST_DEVICE std::size_t pixel(int column, int row) const {
        return static_cast<std::size_t>(row - stripY) * static_cast<std::size_t>(stripNx) +
               static_cast<std::size_t>(column - stripX);
    }
};

} // namespace patchlight::gpu
