#pragma once

#include <cstdint>

namespace patchlight {

/// What happened to a patch; bits of PatchReport::status.
enum class PatchStatus : std::uint32_t {
    Ok = 0,
    Regularized = 1U << 0,    ///< the factorisation failed and was repeated with regularize = 1e-4
    NoPixels = 1U << 1,       ///< the whole patch lies off the CCD, or all of its pixels are masked
    Failed = 1U << 2,         ///< no factorisation even with regularisation: flux = ivar = 0
    WideBand = 1U << 3,       ///< a narrow band was not enough, a wide one was (seamless)
    Exact = 1U << 4,          ///< no band was: full blocks or the exact path solved it
    IllConditioned = 1U << 5, ///< ... because a spectrum's condition number is beyond the ladder
    Leaking = 1U << 6,        ///< ... because the band leaves too much out
    Bright = 1U << 7,         ///< ... because the signal to noise ratio asks for more
    Layout =
        1U
        << 8, ///< ... because its spots do not suit the fast path (a grid too fine or too coarse, traces that turn back)
};

} // namespace patchlight
