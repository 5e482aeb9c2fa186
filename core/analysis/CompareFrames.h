#pragma once

#include "core/analysis/TruthSpectra.h"
#include "core/base/Array.h"
#include "core/frame/ExtractedFrame.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace patchlight {

/// A bin of a frame.
struct BinPosition {
    int spectrum = 0;       ///< spectrum index (row of the PSF)
    std::int64_t fiber = 0; ///< FIBER of the fibermap; the spectrum index where there is none
    std::size_t row = 0;    ///< row in the (first) frame
    std::size_t bin = 0;    ///< column in the (first) frame
    double wavelength = 0;  ///< Angstrom, as written in the frame
};

/// How far one quantity of two frames differs.
struct QuantityDifference {
    std::string quantity;     ///< HDU: "FLUX", "IVAR", ...
    std::string measure;      ///< in words, what `largest` and `median` are: "|A - B| / sigma"
    std::size_t compared = 0; ///< elements
    std::size_t unequal = 0;  ///< elements that are not the same number
    double largest = 0;       ///< infinite where one side only is not finite
    double median = 0;        ///< over all elements compared
    double valueA = 0;        ///< at the largest difference
    double valueB = 0;
    BinPosition where; ///< of the largest difference
    int diagonal = 0;  ///< RESOLUTION: row - column of the element with the largest difference
};

/// Bins that differ in one bit of MASK.
struct MaskBitDifference {
    int bit = 0;
    std::string name;     ///< "SOMEBADPIX"; "bit 3" where it has no name
    std::size_t both = 0; ///< bins with the bit in A and in B
    std::size_t onlyA = 0;
    std::size_t onlyB = 0;
    BinPosition where; ///< of the first difference
};

/// A bin worth looking at.
struct OutlierBin {
    BinPosition where;
    double valueA = 0; ///< flux, electron/Angstrom
    double valueB = 0; ///< flux of the other frame, or the truth convolved with the resolution
    double sigmas = 0; ///< (A - B) / sigma
};

struct FrameCompareOptions {
    bool byRow = false;    ///< compare row by row, whatever spectra the frames say they hold
    std::size_t worst = 5; ///< how many of the worst bins to list
};

/// Two frames side by side.
///
/// Differences of FLUX, IVAR, RESOLUTION and CHI2PIX are taken over the bins that have data (ivar > 0) in both frames. sigma is
/// that of the frame that claims the smaller one.
struct FrameComparison {
    std::vector<std::string> notes; ///< what was left out of the comparison, and why
    std::size_t nspec = 0;          ///< of the common part
    std::size_t nwave = 0;
    int specmin = 0;          ///< first spectrum of the common part (of A)
    double wavemin = 0;       ///< Angstrom
    double wavemax = 0;       ///< Angstrom
    std::size_t dataBoth = 0; ///< bins with ivar > 0 in both
    std::size_t dataOnlyA = 0;
    std::size_t dataOnlyB = 0;
    std::vector<QuantityDifference> differences;
    std::vector<MaskBitDifference> maskBits; ///< bits that are set anywhere
    std::size_t maskUnequal = 0;             ///< bins whose masks differ
    std::vector<OutlierBin> worst; ///< largest differences of FLUX in sigma, the largest first; zeros left out

    /// The difference of that name; null where it was not compared.
    [[nodiscard]] const QuantityDifference* find(std::string_view quantity) const;
};

/// Compares the part that two frames have in common: spectra by their index, wavelengths where the grids coincide (to 1e-6 of a
/// step). @param nameA, nameB  for notes and errors
/// @throws Error where they have no spectrum or no wavelength in common
[[nodiscard]] FrameComparison compareFrames(const ExtractedFrame& a, const ExtractedFrame& b, const std::string& nameA,
                                            const std::string& nameB, const FrameCompareOptions& options = {});

/// Mean and width of the pulls (flux - model) / sigma of some bins.
struct PullStatistics {
    std::size_t count = 0;
    double mean = 0;
    double sigma = 0;       ///< standard deviation about the mean
    double robustSigma = 0; ///< 1.4826 times the median distance from the median
    double smallest = 0;
    double largest = 0;
    std::size_t outliers = 0; ///< |pull| > 5
};

/// Statistics of some pulls, by two passes over them. Reorders the pulls.
[[nodiscard]] PullStatistics pullStatistics(std::vector<double>& pulls);

/// How true spectra, finer than the frame's bins, are brought onto its grid.
enum class TruthResampling {
    Bins, ///< photons counted in the grid's bins, as spectral fitting does with its models
    /// Each sample's photons shared between the 12 nearest grid wavelengths by Lagrange's weights. The extraction describes an
    /// unresolved line between two grid wavelengths by light at the wavelengths around it, with just about these weights (they
    /// keep the line's moments up to the 11th); counted in bins, the line is moved to the middle of its bin instead.
    Interpolation,
};

struct TruthCompareOptions {
    std::optional<int> truthSpecmin; ///< spectrum index of the truth's row 0, where the file does not say
    std::size_t worst = 5;           ///< how many of the worst bins to list
    TruthResampling resampling = TruthResampling::Bins;
};

/// A frame against the truth: over bins with ivar > 0 and mask 0, away from the ends of the frame.
struct TruthComparison {
    std::vector<std::string> notes;
    std::size_t nspec = 0;
    int specmin = 0;
    bool truthOnGrid = false; ///< the truth's wavelengths are the frame's
    PullStatistics all;
    /// The same by the signal-to-noise ratio of the model in a bin: below 1, 1-10, 10-100, above 100.
    struct SignalClass {
        double from = 0;
        double to = 0; ///< infinite for the last
        PullStatistics pulls;
    };
    std::vector<SignalClass> bySignal;
    /// The spectra whose own mean and sigma are furthest from 0 and 1.
    struct SpectrumExtreme {
        int spectrum = 0;
        std::int64_t fiber = 0;
        double value = 0;
    };
    SpectrumExtreme worstMean;
    SpectrumExtreme worstSigma;
    /// Mean sum of a row of the stored resolution. The whole matrix has 1; its negative wings beyond the band are missing, so that
    /// the convolved truth is too large by as much. `bandShift` is what that does to the mean pull.
    double bandRowSum = 0;
    double bandShift = 0;
    std::size_t masked = 0;        ///< bins with data left out since their mask is not 0
    std::size_t noData = 0;        ///< bins without data (ivar = 0)
    std::size_t atEdges = 0;       ///< bins left out since the resolution reaches beyond the frame or the truth
    std::vector<OutlierBin> worst; ///< largest |pull|, the largest first
};

/// Brings true spectra onto a grid: photons per Angstrom in, photons per Angstrom of the grid out; photons are kept.
/// Each sample of the truth fills its own bin (half-way to its neighbours) evenly.
class TruthResampler {
public:
    /// @param truth  [m], Angstrom, increasing, at least two; @param grid  [n], Angstrom, increasing, at least two
    /// @throws Error where the grid's steps are not equal and `kind` is Interpolation
    TruthResampler(const std::vector<double>& truth, const std::vector<double>& grid, TruthResampling kind);

    /// @param flux  [m], photons per Angstrom. @return [n]; NaN where the truth does not reach far enough
    [[nodiscard]] std::vector<double> apply(const double* flux) const;
    /// True where all samples of the truth inside the grid lie on its wavelengths (to 1e-4 of a step).
    [[nodiscard]] bool onGrid() const { return onGrid_; }

private:
    /// Photons that grid bin `bin` gets from a sample of 1 photon per Angstrom, divided by the bin's width.
    struct Share {
        std::size_t sample;
        std::size_t bin;
        double weight;
    };
    std::vector<Share> shares_;
    std::vector<bool> covered_; ///< [n]
    bool onGrid_ = false;
};

/// Applies the stored band of a resolution matrix: model_i = sum_j R_ij truth_j over the stored columns j.
/// @param resolution  (s, k, j) = R_s[j - ndiag + k, j]; @param truth  [nwave]
[[nodiscard]] std::vector<double> convolveWithResolution(const Array3<double>& resolution, std::size_t spectrum,
                                                         const std::vector<double>& truth);

/// Pulls of a frame against the truth, convolved with the frame's resolution. A frame with a barycentric correction is compared
/// at WAVELENGTH / HELIOCOR. @throws Error where they have no spectrum or no wavelength in common
[[nodiscard]] TruthComparison compareWithTruth(const ExtractedFrame& frame, const TruthSpectra& truth,
                                               const std::string& frameName, const TruthCompareOptions& options = {});

} // namespace patchlight
