#pragma once

#include <cstddef>

namespace patchlight {

/// Bytes of a block of a FITS file, and of one card of a header (FITS standard 4.0, sections 3.1 and 3.3.1).
inline constexpr std::size_t fitsBlockSize = 2880;
inline constexpr std::size_t fitsCardSize = 80;

} // namespace patchlight
