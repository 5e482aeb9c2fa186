#pragma once

#include <string_view>

namespace patchlight {

/// The release, such as "0.1.0".
[[nodiscard]] std::string_view version();

/// What `git describe --tags --always --dirty` said of the checkout when this was built; empty outside a checkout.
[[nodiscard]] std::string_view gitDescribe();

} // namespace patchlight
