#pragma once

#include "core/base/Array.h"

#include <array>
#include <cstdint>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

namespace patchlight {

struct CcdImage;
struct ExtractedFrame;
struct PatchReport;
struct Plan;
class Psf;

/// Why a bin is bad. Where several apply, the first of this order is the bin's cause: what explains most comes first.
enum class BadBinKind : std::uint8_t {
    None,
    NotANumber,    ///< flux or ivar is not finite, or ivar is negative
    NoData,        ///< the spot lies off the CCD
    DeadAmplifier, ///< its amplifier reads out noise only, or is masked as a whole
    MaskedPixels,  ///< more than half of the spot's light falls on masked pixels
    BadColumn,     ///< a column of the CCD disagrees with the model in most rows, and MASK does not know
    Saturated,     ///< pixels at the image's ceiling, and MASK does not know
    CosmicRay,     ///< a few pixels far above the model
    TraceOffset,   ///< the light lies beside the trace
    PsfWidth,      ///< the light is wider or narrower than the PSF
    Neighbour,     ///< other fibers' light exceeds its own
    LowWeight,     ///< ivar far below its fiber's, or fluxweight far below its surroundings': next to nothing is known
    PoorFit,       ///< chi2pix far above the medians, for another reason
};
inline constexpr int badBinKindCount = static_cast<int>(BadBinKind::PoorFit) + 1;

/// "masked pixels", ...; for programs "masked_pixels", ...
[[nodiscard]] const char* badBinKindName(BadBinKind kind);
[[nodiscard]] const char* badBinKindWord(BadBinKind kind);

/// Where alarms begin. Defaults are such that noise alone raises none (docs/analysis.md).
struct QualityLimits {
    double bad2dFactor = 5.0;     ///< chi2pix over its medians over fibers and over wavelengths
    double maskedFraction = 0.5;  ///< of a spot's light
    double pixelPull = 8.0;       ///< sigma of one pixel above the model
    double traceOffset = 0.05;    ///< pixels
    double widthError = 0.02;     ///< relative
    double significance = 8.0;    ///< of the last two, in units of their errors
    double columnPull = 4.0;      ///< sigma of a pixel of a bad column, in at least half of its rows
    double neighbourLight = 1.0;  ///< others' light that falls into a bin, in units of its own
    double neighbourSigma = 10.0; ///< and in units of the bin's error
    double lowWeight =
        1e-4; ///< ivar over the median of its fiber; fluxweight over the largest around, as the extraction's prior has it
};

/// What quality figures are made from. Image and PSF are needed for all that looks at pixels; without them it is left out, and
/// FrameQuality::notes say so.
struct QualityInput {
    const ExtractedFrame* frame = nullptr;
    const CcdImage* image = nullptr; ///< may be null
    const Psf* psf = nullptr;        ///< may be null
    /// Of the run that made the frame, where it was made here: how its patches fared, [subbundle][step]. May be null.
    const Plan* plan = nullptr;
    const std::vector<PatchReport>* reports = nullptr;
    QualityLimits limits;
    std::optional<double> psferr; ///< default: PSFERR of the frame's header, else the PSF's
    int threads = 0;              ///< 0: all cores; results do not depend on it
    std::stop_token stop;
};

/// An offset or a width that was measured.
struct Measured {
    double value = 0;
    double error = 0; ///< 1 sigma; 0: not measured
    [[nodiscard]] bool known() const { return error > 0; }
    [[nodiscard]] double significance() const;
};

/// Mean and standard deviation of data minus model in sigma.
struct PullFigures {
    std::int64_t count = 0; ///< pixels with weight
    double mean = 0;
    double sigma = 0;
    /// What sigma would be of noise alone: sqrt(1 - bins/pixels), since fitted bins take part of the noise out.
    double expectedSigma = 1;
    std::int64_t outliers = 0; ///< |pull| > 5
};

/// One spectrum of a frame.
struct FiberQuality {
    int spectrum = 0;          ///< row of the PSF
    std::int64_t fiber = 0;    ///< FIBER; the spectrum where there is none
    std::int64_t targetId = 0; ///< TARGETID; 0 where there is none
    std::string objectType;    ///< OBJTYPE
    double medianFlux = 0;     ///< electron/Angstrom
    double medianSnr = 0;      ///< per bin
    double medianChi2pix = 0;  ///< NaN: unknown
    double maskedShare = 0;    ///< of its bins have a bit in MASK or ivar = 0
    std::int64_t alarms = 0;   ///< bins with a cause
    BadBinKind worst = BadBinKind::None;
    PullFigures pulls;        ///< pixels nearest to its trace
    Measured traceOffset;     ///< along x, pixels: light minus trace
    Measured widthError;      ///< of sigma across the trace, relative: light over PSF minus 1
    Measured wavelengthShift; ///< Angstrom, of its sky lines against the median of all fibers
    /// Relative change of the flux of a line and of a continuum where the PSF's sigmas are 1 % too small; NaN: unknown.
    double lineBias = 0;
    double continuumBias = 0;
};

/// One amplifier of the CCD.
struct AmplifierQuality {
    std::string name;                   ///< "A", or its place where the header names none
    int x0 = 0, x1 = 0, y0 = 0, y1 = 0; ///< columns [x0, x1), rows [y0, y1)
    PullFigures pulls;
    double maskedShare = 0; ///< of its pixels
    double light = 0;       ///< median over fibers and rows of the extracted light, electrons a row
    bool dead = false;
};

/// A column of the CCD that disagrees with the model, unknown to MASK.
struct BadCcdColumn {
    int x = 0;
    int y0 = 0, y1 = 0;    ///< rows between which it was seen
    int fibers = 0;        ///< spectra that it crosses there
    double medianPull = 0; ///< sigma
    double chi2 = 0;       ///< that it accounts for
};

/// Neighbouring bad bins with one cause.
struct Finding {
    BadBinKind kind = BadBinKind::None;
    double severity = 0; ///< in units of its limit, the larger the worse; comparable within a kind
    int row = 0;         ///< worst bin
    int bin = 0;
    int bins = 0;         ///< how many
    std::string sentence; ///< of the worst bin
};

/// Residuals of a frame, seen as noise.
struct NoiseCheck {
    std::vector<float>
        columnPull; ///< [2][nx]: median pull of the lower and of the upper half's rows; NaN where none counts
    std::vector<float> rowPull; ///< [2][ny]: of the left and of the right half's columns
};

/// Quality figures of an extracted frame, bin by bin. Rows and columns as in the frame. Planes that cannot be known are empty.
struct FrameQuality {
    int specmin = 0;
    std::vector<double> wavelength; ///< [nwave], Angstrom, as in the frame
    QualityLimits limits;
    double psferr = 0;
    bool pixels = false;            ///< image and PSF were at hand
    std::vector<std::string> notes; ///< what could not be told, and why

    Array2<float> snr;            ///< flux sqrt(ivar)
    Array2<float> chi2pix;        ///< of the frame, else computed; empty: unknown
    Array2<float> chi2Ratio;      ///< the smaller of chi2pix over its two medians
    Array2<float> maskedFraction; ///< of the spot's light
    Array2<float> rowSum;         ///< of the stored resolution
    Array2<float> fluxweight;     ///< A^T w, electrons^-2: of the run, else computed from image and PSF; empty: unknown
    Array2<float> weightShare;    ///< fluxweight over the largest around it, which decides on the prior; as unknown
    Array2<float> neighbour;      ///< share of other fibers in the light of the bin's spot
    Array2<float> peakPull;       ///< the largest pull of a pixel of its spot, sigma with psferr as chi2Line has it
    /// chi2pix, computed, with psferr of the brightest pixel of the model within five rows in place of each pixel's own; NaN: unknown.
    Array2<float> chi2Line;
    Array2<BadBinKind> kind; ///< None: no alarm
    Array2<float> severity;

    std::vector<FiberQuality> fibers;
    std::vector<AmplifierQuality> amplifiers;
    std::vector<BadCcdColumn> badColumns;
    NoiseCheck noise;
    int blockRows = 0;              ///< CCD rows of a block of the next two
    Array2<Measured> offsetByBlock; ///< [nspec][blocks], pixels
    Array2<Measured> widthByBlock;
    Measured frameWidth;                                ///< of all fibers together
    std::vector<float> model;                           ///< [ny][nx], electrons
    double ceiling = 0;                                 ///< largest unmasked pixel, electrons
    std::vector<Finding> findings;                      ///< worst first within a kind, kinds in the order of BadBinKind
    std::array<std::int64_t, badBinKindCount> counts{}; ///< bins by kind

    [[nodiscard]] std::size_t nspec() const { return snr.rows(); }
    [[nodiscard]] std::size_t nwave() const { return snr.columns(); }
    [[nodiscard]] std::int64_t alarms() const;
};

/// Measures a frame. @throws Error where image, PSF and frame do not belong together; Cancelled
[[nodiscard]] FrameQuality measureFrameQuality(const QualityInput& input);

/// Photons per bin, [nspec][nwave], that a frame's fluxes are the reconvolution of: its xflux where it has it, else the solution of
/// R xflux = flux with the stored diagonals of R, which leaves out what lies beyond them (docs/analysis.md). Bins with ivar = 0 have 0.
/// @throws Error where the frame has no resolution
[[nodiscard]] Array2<double> deconvolvedFlux(const ExtractedFrame& frame, int threads = 0);

/// Sums over columns of each row of the stored resolution, [nspec][nwave].
[[nodiscard]] Array2<float> resolutionRowSums(const ExtractedFrame& frame);

/// The smaller of chi2pix over 'its median over fibers' and over 'its median over wavelengths', medians over bins with ivar > 0: a bin is
/// BAD2DFIT where this is above the factor.
[[nodiscard]] Array2<float> chi2Ratios(const Array2<float>& chi2pix, const Array2<double>& ivar, int threads = 0);

/// Whether a bin's chi2pix is above the limit only since a line beside it is so bright that an error of psferr of it shows: no alarm.
[[nodiscard]] bool isBrightLine(const FrameQuality& quality, std::size_t row, std::size_t bin);

/// What a PSF whose sigmas are wrong does to fluxes.
struct PsfBias {
    double line = 0;      ///< relative change of the flux of a line
    double continuum = 0; ///< of a smooth spectrum
};
/// Projects spots with sigmas (1 + error) times the PSF's, what the light would be, onto the PSF's own with equal weights: spectra
/// specmin .. specmin + count - 1, medians over `places` wavelengths between low and high (Angstrom). NaN where a spectrum has no spot.
[[nodiscard]] std::vector<PsfBias> psfFluxBias(const Psf& psf, int specmin, int count, double low, double high,
                                               double error = 0.01, int places = 8);

} // namespace patchlight
