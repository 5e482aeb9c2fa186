#pragma once

#include <cstdint>
#include <string>

namespace patchlight {

/// Names of MASK bits as desispec.maskbits has them; "bit n" for one without a name.
[[nodiscard]] std::string specMaskBitName(int bit); ///< of an extracted frame
[[nodiscard]] std::string ccdMaskBitName(int bit);  ///< of a CCD image

/// The names of all bits set, joined by "|"; "" for 0.
[[nodiscard]] std::string specMaskNames(std::uint32_t mask);
[[nodiscard]] std::string ccdMaskNames(std::uint32_t mask);

} // namespace patchlight
