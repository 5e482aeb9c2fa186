#pragma once

#include "core/io/FitsHeader.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace patchlight {

/// A FITS binary table carried as it is: header cards and raw big-endian rows, so that no column is lost or converted
/// (64-bit target ids stay 64-bit integers).
struct FitsTable {
    std::string name;                ///< EXTNAME
    std::string origin;              ///< what messages begin with, such as "psf.fits: HDU 2 (PSF)"; empty: the name
    FitsHeader header;               ///< all cards of the HDU, TTYPEn/TFORMn among them
    std::size_t rowBytes = 0;        ///< NAXIS1
    std::size_t rowCount = 0;        ///< NAXIS2
    std::vector<std::uint8_t> bytes; ///< [rowCount][rowBytes]
    std::vector<std::uint8_t> heap;  ///< PCOUNT bytes behind the rows: variable-length arrays; nearly always empty

    [[nodiscard]] bool hasColumn(std::string_view columnName) const;
    /// Column values converted, [rowCount][elements a row] (texts: one a row); an Error names the table, the column and its TFORM where the type does not fit.
    [[nodiscard]] std::vector<std::int64_t> integers(std::string_view columnName) const;
    [[nodiscard]] std::vector<double> numbers(std::string_view columnName) const;
    [[nodiscard]] std::vector<std::string> texts(std::string_view columnName) const;
    /// The same table with rows [first, first + count) only.
    [[nodiscard]] FitsTable selectRows(std::size_t first, std::size_t count) const;
};

} // namespace patchlight
