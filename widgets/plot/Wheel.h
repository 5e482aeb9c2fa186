#pragma once

namespace patchlight::widgets {

/// By what one step of the mouse wheel magnifies.
inline constexpr double wheelFactor = 1.2;

} // namespace patchlight::widgets
