#pragma once

#include <string>

namespace patchlight::commands {

/// The command that started this program, quoted so that a shell takes it back.
[[nodiscard]] std::string commandLine();

} // namespace patchlight::commands
