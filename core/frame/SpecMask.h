#pragma once

#include <cstdint>

namespace patchlight {

/// Bits of the MASK of an extracted frame (desispec.maskbits.specmask).
enum class SpecMaskBit : std::uint32_t {
    SomeBadPix = 1U << 0, ///< more than half of the spot's light falls on masked pixels
    AllBadPix = 1U << 1,  ///< all of it
    Bad2dFit = 1U << 7,   ///< chi2pix far above the medians over fibers and over wavelengths
    NoData = 1U << 8,     ///< the spot lies off the CCD
};

} // namespace patchlight
