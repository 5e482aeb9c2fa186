#pragma once

#include "core/frame/ExtractedFrame.h"

#include <cstring>

namespace patchlight::test {

/// True where two arrays have the same size and the same bytes.
template <class A> bool sameBytes(const A& a, const A& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(*a.data())) == 0;
}

/// The same of all that an extraction puts into a frame.
inline bool sameFrames(const ExtractedFrame& a, const ExtractedFrame& b) {
    return sameBytes(a.flux, b.flux) && sameBytes(a.ivar, b.ivar) && sameBytes(a.mask, b.mask) &&
           sameBytes(a.resolution, b.resolution) && sameBytes(a.chi2pix, b.chi2pix) &&
           sameBytes(a.pixmaskFraction, b.pixmaskFraction) && sameBytes(a.fluxweight, b.fluxweight) &&
           sameBytes(a.xflux, b.xflux);
}

} // namespace patchlight::test
