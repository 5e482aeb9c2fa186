#include "core/analysis/ResolutionFigures.h"

#include "core/analysis/FileInfo.h"
#include "core/base/Error.h"
#include "core/base/Nan.h"
#include "core/cpu/SymmetricEigen.h"
#include "core/engine/PatchResult.h"
#include "core/frame/ExtractedFrame.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include <fmt/format.h>

namespace patchlight {

namespace {

/// Angstrom a bin at bin j.
double stepAt(const std::vector<double>& wavelength, std::size_t j) {
    if (wavelength.size() < 2) return nan;
    const std::size_t before = j > 0 ? j - 1 : 0;
    const std::size_t after = std::min(j + 1, wavelength.size() - 1);
    return (wavelength[after] - wavelength[before]) / static_cast<double>(after - before);
}

Array2<double> correlationOf(const Array2<double>& covariance) {
    const std::size_t n = covariance.rows();
    Array2<double> out(n, n);
    std::vector<double> scale(n);
    for (std::size_t i = 0; i < n; ++i) scale[i] = covariance(i, i) > 0 ? 1.0 / std::sqrt(covariance(i, i)) : 0.0;
    for (std::size_t i = 0; i < n; ++i)
        for (std::size_t j = 0; j < n; ++j) out(i, j) = covariance(i, j) * scale[i] * scale[j];
    return out;
}

/// (a b)^T, [n][n]; elements of a that are 0 cost nothing: a resolution has blocks.
Array2<double> transposedProduct(const Array2<double>& a, const Array2<double>& b) {
    const std::size_t n = a.rows();
    Array2<double> out(n, n);
    std::vector<double> line(n);
    for (std::size_t i = 0; i < n; ++i) {
        std::fill(line.begin(), line.end(), 0.0);
        for (std::size_t k = 0; k < n; ++k) {
            const double factor = a(i, k);
            if (factor == 0.0) continue;
            const auto from = b.row(k);
            for (std::size_t j = 0; j < n; ++j) line[j] += factor * from[j];
        }
        for (std::size_t j = 0; j < n; ++j) out(j, i) = line[j];
    }
    return out;
}

} // namespace

double ResolutionBand::at(std::size_t i, std::size_t j) const {
    if (i >= nwave() || j >= nwave() || i + ndiag() < j || i > j + ndiag()) return 0.0;
    return values(i + ndiag() - j, j);
}

ResolutionBand resolutionOf(const ExtractedFrame& frame, std::size_t row) {
    ResolutionBand band;
    if (frame.resolution.empty() || row >= frame.resolution.planes()) return band;
    band.values = Array2<double>(frame.resolution.rows(), frame.resolution.columns());
    const double* from = &frame.resolution(row, 0, 0);
    std::copy(from, from + band.values.size(), band.values.data());
    band.wavelength = frame.wavelength;
    return band;
}

ResolutionBand resolutionOf(const PatchDetail& detail, std::size_t ispec, std::vector<double> wavelength) {
    ResolutionBand band;
    const auto nwave = static_cast<std::size_t>(detail.patch.bins.count());
    if (detail.resolution.rows() < (ispec + 1) * nwave || nwave == 0) return band;
    const std::size_t ndiag = nwave - 1;
    band.values = Array2<double>(2 * ndiag + 1, nwave);
    for (std::size_t i = 0; i < nwave; ++i)
        for (std::size_t j = 0; j < nwave; ++j)
            band.values(i + ndiag - j, j) = detail.resolution(ispec * nwave + i, ispec * nwave + j);
    band.wavelength = std::move(wavelength);
    return band;
}

std::vector<double> rowSums(const ResolutionBand& band) {
    std::vector<double> out(band.nwave(), 0.0);
    const std::size_t ndiag = band.ndiag();
    for (std::size_t k = 0; k < band.values.rows(); ++k)
        for (std::size_t j = 0; j < band.nwave(); ++j) {
            if (j + k < ndiag || j + k - ndiag >= band.nwave()) continue;
            out[j + k - ndiag] += band.values(k, j);
        }
    return out;
}

std::vector<double> columnSums(const ResolutionBand& band) {
    std::vector<double> out(band.nwave(), 0.0);
    const std::size_t ndiag = band.ndiag();
    for (std::size_t k = 0; k < band.values.rows(); ++k)
        for (std::size_t j = 0; j < band.nwave(); ++j)
            if (j + k >= ndiag && j + k - ndiag < band.nwave()) out[j] += band.values(k, j);
    return out;
}

std::vector<double> matrixRow(const ResolutionBand& band, std::size_t i) {
    const std::size_t ndiag = band.ndiag();
    std::vector<double> out(2 * ndiag + 1, 0.0);
    for (std::size_t m = 0; m < out.size(); ++m)
        if (i + m >= ndiag) out[m] = band.at(i, i + m - ndiag);
    return out;
}

std::vector<double> matrixColumn(const ResolutionBand& band, std::size_t j) {
    const std::size_t ndiag = band.ndiag();
    std::vector<double> out(2 * ndiag + 1, 0.0);
    for (std::size_t m = 0; m < out.size(); ++m)
        if (j + m >= ndiag) out[m] = band.at(j + m - ndiag, j);
    return out;
}

ResolutionWidths columnWidths(const ResolutionBand& band) {
    ResolutionWidths out{std::vector<double>(band.nwave(), nan), std::vector<double>(band.nwave(), nan)};
    for (std::size_t j = 0; j < band.nwave(); ++j) {
        const std::vector<double> column = matrixColumn(band, j);
        const double step = stepAt(band.wavelength, j);
        double sum = 0;
        double first = 0;
        for (std::size_t m = 0; m < column.size(); ++m) {
            sum += column[m];
            first += column[m] * static_cast<double>(m);
        }
        if (!(sum > 0)) continue;
        const double width = resolutionFwhm(column.data(), column.size(), 1);
        if (width > 0) out.fwhm[j] = step * width;
        const double mean = first / sum;
        double second = 0;
        for (std::size_t m = 0; m < column.size(); ++m) {
            const double d = static_cast<double>(m) - mean;
            second += column[m] * d * d;
        }
        if (second > 0) out.rms[j] = step * std::sqrt(second / sum);
    }
    return out;
}

std::vector<double> throughResolution(const ResolutionBand& band, const std::vector<double>& in) {
    std::vector<double> out(band.nwave(), 0.0);
    const std::size_t ndiag = band.ndiag();
    for (std::size_t k = 0; k < band.values.rows(); ++k)
        for (std::size_t j = 0; j < band.nwave() && j < in.size(); ++j) {
            if (j + k < ndiag || j + k - ndiag >= band.nwave()) continue;
            out[j + k - ndiag] += band.values(k, j) * in[j];
        }
    return out;
}

CovarianceFigures covarianceFigures(const Array2<double>& icov, const Array2<double>& resolution) {
    CovarianceFigures out;
    const std::size_t n = icov.rows();
    if (n == 0) return out;
    SymmetricEigen eigen;
    if (!eigen.computeValues(icov.data(), static_cast<int>(n)))
        throw Error(fmt::format("iCov of {} bins has no eigenvalues: it holds NaN, or LAPACK did not converge", n));
    out.eigenvalues = eigen.values();
    if (!(out.eigenvalues.front() > 0))
        throw Error(fmt::format("iCov of {} bins is not positive definite: its smallest eigenvalue is {:.3g}", n,
                                out.eigenvalues.front()));
    out.condition = out.eigenvalues.back() / out.eigenvalues.front();
    out.covariance = Array2<double>(n, n);
    if (!invertPositive(icov.data(), static_cast<int>(n), out.covariance.values()))
        throw Error(fmt::format("iCov of {} bins is not positive definite", n));
    out.correlation = correlationOf(out.covariance);
    if (resolution.rows() == n)
        out.fluxCorrelation =
            correlationOf(transposedProduct(resolution, transposedProduct(resolution, out.covariance)));
    return out;
}

} // namespace patchlight
