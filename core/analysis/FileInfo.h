#pragma once

#include "core/analysis/FileKind.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace patchlight {

/// A value of a fact: none, a number, text, or several numbers (a range: smallest, median, largest).
using InfoValue = std::variant<std::monostate, bool, std::int64_t, double, std::string, std::vector<double>>;

/// One fact about a file.
struct InfoItem {
    std::string key;   ///< for programs: "wavemin"
    std::string label; ///< for people, a line each; items with the label of the one before share its line
    InfoValue value;
    std::string text; ///< the value with its unit as people read it; empty where another item of the line says it
};

/// Facts of the same kind, a row each.
struct InfoTable {
    std::string key;
    std::string title;
    std::vector<std::string> columns;
    std::vector<std::vector<InfoValue>> rows;
};

/// What a file holds: the same facts for the terminal, for JSON and for a window.
struct FileInfo {
    std::string path; ///< that was opened
    FileKind kind = FileKind::Other;
    std::uint64_t bytes = 0; ///< on disk
    std::vector<InfoItem> items;
    std::vector<InfoTable> tables;

    /// The item with that key; null where there is none.
    [[nodiscard]] const InfoItem* find(std::string_view key) const;
    [[nodiscard]] const InfoTable* findTable(std::string_view key) const;
};

/// Looks a file over: PSF, CCD image, extracted frame, patch file, true spectra, model image, or the HDUs of any other FITS file.
/// @throws Error naming file, HDU and keyword
[[nodiscard]] FileInfo inspectFile(const std::string& path);

/// A value as text without unit: numbers with up to six digits, ranges with " - " between.
[[nodiscard]] std::string infoText(const InfoValue& value);

/// Full width at half maximum of a spectrum's resolution at one wavelength, in bins: of the stored column of R, half-way points by
/// linear interpolation. NaN where the column has no peak inside its band.
[[nodiscard]] double resolutionFwhm(const double* column, std::size_t count, std::size_t stride);

} // namespace patchlight
