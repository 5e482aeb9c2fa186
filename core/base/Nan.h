#pragma once

#include <limits>

namespace patchlight {

/// Where there is no value.
inline constexpr double nan = std::numeric_limits<double>::quiet_NaN();

} // namespace patchlight
