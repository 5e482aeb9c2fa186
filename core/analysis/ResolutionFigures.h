#pragma once

#include "core/base/Array.h"

#include <cstddef>
#include <vector>

namespace patchlight {

struct ExtractedFrame;
struct PatchDetail;

/// The resolution of one spectrum as a band: element (k, j) is R[j - ndiag + k, j], as a frame file stores it.
/// Rows of R say which light a bin of the flux holds; columns where the light of a bin goes.
struct ResolutionBand {
    Array2<double> values;          ///< [2 ndiag + 1][nwave]
    std::vector<double> wavelength; ///< [nwave], Angstrom

    [[nodiscard]] std::size_t nwave() const { return values.columns(); }
    [[nodiscard]] std::size_t ndiag() const { return values.rows() / 2; }
    [[nodiscard]] bool empty() const { return values.empty(); }
    /// R[i, j]; 0 outside the band.
    [[nodiscard]] double at(std::size_t i, std::size_t j) const;
};

/// A row of a frame's stored resolution; empty where the frame has none. @param row  of the frame, not the spectrum's index
[[nodiscard]] ResolutionBand resolutionOf(const ExtractedFrame& frame, std::size_t row);
/// The block of one spectrum in a patch, all its diagonals, with the wavelengths handed in ([nwave] of the patch, padding included).
/// @param ispec  counted from the first (padded) spectrum of the patch
[[nodiscard]] ResolutionBand resolutionOf(const PatchDetail& detail, std::size_t ispec, std::vector<double> wavelength);

/// sum_j R[i, j] for every i: 1 where the whole matrix is known. Of a stored band the first and last ndiag rows lack what lies beyond.
[[nodiscard]] std::vector<double> rowSums(const ResolutionBand& band);
/// sum_i R[i, j] for every j: how much of a unit of light in bin j is found in the flux.
[[nodiscard]] std::vector<double> columnSums(const ResolutionBand& band);
/// Row i as values over columns i - ndiag .. i + ndiag; 0 beyond the grid.
[[nodiscard]] std::vector<double> matrixRow(const ResolutionBand& band, std::size_t i);
/// Column j as values over rows j - ndiag .. j + ndiag.
[[nodiscard]] std::vector<double> matrixColumn(const ResolutionBand& band, std::size_t j);

/// Width of every column, Angstrom, by the local step of the wavelengths; NaN where a column is 0 or has no such width.
struct ResolutionWidths {
    std::vector<double> fwhm; ///< full width at half the highest element, linear interpolation
    std::vector<double>
        rms; ///< square root of the second moment about the mean; NaN where negative elements leave none
};
[[nodiscard]] ResolutionWidths columnWidths(const ResolutionBand& band);

/// R times a spectrum. @param in [nwave]
[[nodiscard]] std::vector<double> throughResolution(const ResolutionBand& band, const std::vector<double>& in);

/// A patch's iCov by its eigenvalues, and what follows from them.
struct CovarianceFigures {
    std::vector<double> eigenvalues; ///< of iCov, ascending, (photons per bin)^-2
    double condition = 0;            ///< largest over smallest
    Array2<double> covariance;       ///< [n][n], iCov^-1: of xflux, (photons per bin)^2
    Array2<double> correlation;      ///< [n][n], of xflux; 0 where a variance is not positive
    Array2<double>
        fluxCorrelation; ///< [n][n], of flux = R xflux: R iCov^-1 R^T, normalised; empty without a resolution
};

/// @param icov [n][n], symmetric, positive definite; @param resolution [n][n] or empty
/// @throws Error where iCov holds NaN, has no eigenvalues, or one that is not positive
[[nodiscard]] CovarianceFigures covarianceFigures(const Array2<double>& icov, const Array2<double>& resolution = {});

} // namespace patchlight
