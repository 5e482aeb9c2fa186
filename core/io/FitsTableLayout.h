#pragma once

#include "core/io/FitsHeader.h"

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace patchlight {

/// The FITS standard's limit of TFIELDS.
inline constexpr int maxFitsColumns = 999;

/// A column of a FITS binary table, from TTYPEn, TFORMn and TDIMn.
struct FitsColumn {
    int number = 0;                ///< n, from 1
    std::string name;              ///< TTYPEn
    std::string format;            ///< TFORMn
    char type = ' ';               ///< letter of TFORMn: L X B I J K A E D C M P Q
    std::size_t repeat = 1;        ///< elements a row; bits for X
    std::size_t offset = 0;        ///< bytes from the row's start
    std::vector<std::size_t> dims; ///< TDIMn, fastest first; empty where it is absent or does not fit `repeat`

    [[nodiscard]] std::size_t elementBytes() const;
    [[nodiscard]] std::size_t bytes() const; ///< of one row
    /// Points into the heap (P or Q).
    [[nodiscard]] bool isVariable() const { return type == 'P' || type == 'Q'; }
};

/// The columns of a table header. @param what begins the messages, such as "psf.fits: HDU PSF"
/// @throws Error naming TFIELDS or TFORMn where it cannot be read or where the columns are wider than a row.
[[nodiscard]] std::vector<FitsColumn> fitsColumns(const FitsHeader& header, std::size_t rowBytes,
                                                  const std::string& what);

/// FITS names (EXTNAME, TTYPE) are the same whatever their case.
[[nodiscard]] bool sameFitsName(std::string_view a, std::string_view b);

} // namespace patchlight
