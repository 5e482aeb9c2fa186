#pragma once

#include <QString>

#include <cstdint>
#include <optional>
#include <vector>

namespace patchlight {
struct ExtractedFrame;
struct PatchDetail;
struct Plan;
struct TruthSpectra;
} // namespace patchlight

namespace patchlight::widgets {

/// One spectrum to draw. All arrays are [nwave], or empty where there is no such quantity.
struct SpectrumCurve {
    QString label;
    int spectrum = -1;                 ///< row of the PSF, zero-based
    std::vector<double> wavelength;    ///< Angstrom, vacuum, increasing, as written in a frame
    std::vector<double> flux;          ///< per Angstrom
    std::vector<double> ivar;          ///< per Angstrom^-2; 0: no data; empty: no errors are known (a truth)
    std::vector<double> xflux;         ///< deconvolved, per Angstrom
    std::vector<std::uint32_t> mask;   ///< SpecMaskBit
    std::vector<std::uint8_t> padding; ///< 1: a bin of a patch's padding, not of its core

    [[nodiscard]] std::size_t size() const { return wavelength.size(); }
    [[nodiscard]] bool empty() const { return wavelength.empty(); }
    /// Width of bin i, Angstrom: half-way to its neighbours.
    [[nodiscard]] double width(std::size_t i) const;
    /// Lower edge of bin i, Angstrom; i = size() is the upper edge of the last one.
    [[nodiscard]] double edge(std::size_t i) const;
    /// The bin that holds a wavelength; -1 outside.
    [[nodiscard]] int binAt(double angstrom) const;
    /// 1/sqrt(ivar); NaN without data or errors.
    [[nodiscard]] double sigma(std::size_t i) const;
};

/// Spectra to lay over others: curves are found by their spectrum index.
struct SpectrumOverlay {
    enum class Kind { Frame, Truth, Previous };
    Kind kind = Kind::Frame;
    QString name;
    std::vector<SpectrumCurve> curves;

    /// The curve of a spectrum; null where there is none.
    [[nodiscard]] const SpectrumCurve* find(int spectrum) const;
};

/// Everything a SpectrumView draws.
struct SpectrumData {
    QString source; ///< what is shown, for titles and exports: a file's name, "patch"
    std::vector<SpectrumCurve> spectra;
    std::vector<SpectrumOverlay> overlays;
    std::vector<double> seams; ///< wavelengths between two patches, Angstrom
    QString note;              ///< what could not be shown, and why; a sentence or empty
};

/// A row of an extracted frame.
[[nodiscard]] SpectrumCurve curveOfFrame(const ExtractedFrame& frame, std::size_t row);

/// A spectrum of a patch, padding included. @param spectrum  one of detail.patch.spectra
[[nodiscard]] SpectrumCurve curveOfPatch(const PatchDetail& detail, const Plan& plan, int spectrum);

/// The truth of a frame's row, on the frame's grid and convolved with its resolution, so that flux minus it is noise; NaN in the first
/// and last ndiag bins, where the stored resolution is not enough. Rows of the truth are found by its SPECMIN, else by fiber number, else
/// one by one where it has as many as the frame. Empty where the truth does not hold that spectrum.
/// @throws Error where the truth does not say which spectra it holds, or the grids do not meet
[[nodiscard]] SpectrumCurve curveOfTruth(const TruthSpectra& truth, const ExtractedFrame& frame, std::size_t row);

/// The truth of a spectrum of a patch, convolved with the patch's own resolution; NaN in the first and last ndiag bins, which light from
/// beyond the patch reaches. Empty where the truth does not hold that spectrum. @param fiber  its fiber number, where it is known
/// @throws Error where the truth does not say which spectra it holds, or the grids do not meet
[[nodiscard]] SpectrumCurve curveOfTruth(const TruthSpectra& truth, const PatchDetail& detail, const Plan& plan,
                                         int spectrum, std::optional<std::int64_t> fiber = std::nullopt);

/// Wavelengths half-way between the last bin of a patch and the first of the next, Angstrom, inside the frame's grid.
[[nodiscard]] std::vector<double> patchSeams(const Plan& plan);

} // namespace patchlight::widgets
