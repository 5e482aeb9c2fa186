#pragma once

#include <cstdint>
#include <span>

namespace patchlight {

/// Whether a tile's Rice code (FITS standard 4.0, section 10.4.1) ends inside its bytes. CFITSIO's decoder looks for the end of the bytes only
/// between blocks: given a long run of zero bits it reads on behind them.
/// @param code    first pixel, then the blocks
/// @param pixels  pixels of the tile
/// @param block   pixels of a block
/// @param bytesPerPixel  1, 2 or 4: what the pixels had before they were encoded
[[nodiscard]] bool riceCodeIsWhole(std::span<const std::uint8_t> code, std::uint64_t pixels, int block,
                                   int bytesPerPixel);

} // namespace patchlight
