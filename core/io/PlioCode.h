#pragma once

#include <cstdint>
#include <span>

namespace patchlight {

/// Whether a tile's PLIO line list (FITS standard 4.0, section 10.4.3) lies inside its bytes: CFITSIO's decoder believes the length that the list gives
/// of itself.
/// @param words of the list, big-endian, 2 bytes each
[[nodiscard]] bool plioCodeIsWhole(std::span<const std::uint8_t> words);

} // namespace patchlight
