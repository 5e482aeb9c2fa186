#include "core/analysis/Scores.h"

#include "core/analysis/Statistics.h"
#include "core/base/Parallel.h"

#include <fmt/format.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace patchlight {

namespace {

/// The part of a camera's range in which its fluxes are summed.
struct Band {
    char name = 0;
    int first = 0; ///< Angstrom, inclusive
    int last = 0;  ///< Angstrom, exclusive
};

Band bandOf(const std::vector<double>& wavelength) {
    const double mean =
        std::accumulate(wavelength.begin(), wavelength.end(), 0.0) / static_cast<double>(wavelength.size());
    if (mean <= 5800.0) return {'B', 4000, 5800};
    if (mean >= 7600.0) return {'Z', 7600, 9800};
    return {'R', 5800, 7600};
}

/// Width of each bin: central differences, one-sided at the ends, as numpy.gradient has it.
std::vector<double> binWidths(const ExtractedFrame& frame) {
    const std::vector<double>& wavelength = frame.wavelength;
    const std::size_t n = wavelength.size();
    if (n < 2) return std::vector<double>(n, frame.header.number("WAVESTEP").value_or(1.0));
    std::vector<double> widths(n);
    widths.front() = wavelength[1] - wavelength[0];
    widths.back() = wavelength[n - 1] - wavelength[n - 2];
    for (std::size_t i = 1; i + 1 < n; ++i) widths[i] = 0.5 * (wavelength[i + 1] - wavelength[i - 1]);
    return widths;
}

void putBigEndian(std::vector<std::uint8_t>& bytes, std::uint64_t value) {
    for (int shift = 56; shift >= 0; shift -= 8) bytes.push_back(static_cast<std::uint8_t>(value >> shift));
}

} // namespace

std::optional<FitsTable> computeScores(const ExtractedFrame& frame, std::string& warning, int threads) {
    const std::vector<double>& wavelength = frame.wavelength;
    if (wavelength.empty()) {
        warning = "no SCORES: the frame has no wavelengths";
        return std::nullopt;
    }
    const Band band = bandOf(wavelength);
    std::vector<std::size_t> bins;
    for (std::size_t i = 0; i < wavelength.size(); ++i) {
        if (wavelength[i] >= band.first && wavelength[i] < band.last) bins.push_back(i);
    }
    if (bins.empty()) {
        warning = fmt::format(
            "no SCORES: no wavelength of {:g} to {:g} Angstrom lies within {} to {} Angstrom, the range of camera {}",
            wavelength.front(), wavelength.back(), band.first, band.last, band.name);
        return std::nullopt;
    }

    const std::vector<double> widths = binWidths(frame);
    const std::size_t nspec = frame.nspec();
    std::vector<std::int64_t> targets;
    if (frame.fibermap && frame.fibermap->rowCount == nspec && frame.fibermap->hasColumn("TARGETID")) {
        targets = frame.fibermap->integers("TARGETID");
    }

    FitsTable table;
    table.name = "SCORES";
    table.rowCount = nspec;
    table.rowBytes = 8 * (3 + (targets.empty() ? 0U : 1U));
    table.bytes.reserve(table.rowBytes * nspec);
    std::vector<std::array<double, 3>> scores(nspec);
    forEachParallel(nspec, threads, [&](std::size_t spectrum, std::size_t) {
        std::vector<double> flux(bins.size());
        std::vector<double> snr(bins.size());
        double integral = 0.0;
        for (std::size_t k = 0; k < bins.size(); ++k) {
            const std::size_t bin = bins[k];
            const double value = frame.flux(spectrum, bin);
            const double weight = frame.ivar(spectrum, bin);
            const bool usable = std::isfinite(value) && std::isfinite(weight);
            flux[k] = usable ? value : 0.0;
            snr[k] = usable ? std::sqrt(std::max(weight, 0.0)) * value / std::sqrt(widths[bin]) : 0.0;
            integral += flux[k] * widths[bin];
        }
        scores[spectrum] = {integral, medianInPlace(std::span<double>(flux)), medianInPlace(std::span<double>(snr))};
    });
    for (std::size_t spectrum = 0; spectrum < nspec; ++spectrum) {
        if (!targets.empty()) putBigEndian(table.bytes, static_cast<std::uint64_t>(targets[spectrum]));
        for (const double score : scores[spectrum]) putBigEndian(table.bytes, std::bit_cast<std::uint64_t>(score));
    }

    FitsHeader& header = table.header;
    header.set("XTENSION", "BINTABLE", "binary table extension");
    header.set("BITPIX", 8, "8-bit bytes");
    header.set("NAXIS", 2, "two-dimensional table");
    header.set("NAXIS1", static_cast<std::int64_t>(table.rowBytes), "bytes a row");
    header.set("NAXIS2", static_cast<std::int64_t>(nspec), "rows");
    header.set("PCOUNT", 0, "no heap");
    header.set("GCOUNT", 1, "one group");
    header.set("TFIELDS", targets.empty() ? 3 : 4, "columns");
    int field = 0;
    // No TUNIT, as desispec's files have none; astropy would warn about "electron", which FITS does not know as a unit.
    const auto addColumn = [&](const std::string& name, const char* form, const std::string& comment) {
        ++field;
        header.set(fmt::format("TTYPE{}", field), name, comment);
        header.set(fmt::format("TFORM{}", field), form);
    };
    const std::string range = fmt::format("in wave. range {},{}A", band.first, band.last);
    if (!targets.empty()) addColumn("TARGETID", "K", "DESI unique target ID");
    addColumn(fmt::format("INTEG_RAW_FLUX_{}", band.name), "D", "integ. flux " + range);
    addColumn(fmt::format("MEDIAN_RAW_FLUX_{}", band.name), "D", "median flux " + range);
    addColumn(fmt::format("MEDIAN_RAW_SNR_{}", band.name), "D", "median SNR/sqrt(A) " + range);
    header.set("EXTNAME", "SCORES", "extension name");
    return table;
}

} // namespace patchlight
