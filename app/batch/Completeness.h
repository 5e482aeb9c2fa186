#pragma once

#include "app/patchlight/FrameRun.h"

#include <string>
#include <vector>

namespace patchlight::batch {

using commands::FrameTask;

/// True where all outputs of a frame exist, whatever they hold.
[[nodiscard]] bool outputsExist(const FrameTask& task);

/// Why the outputs of a frame are not those that this task would make: missing, older than an input, damaged (check sums), made from other
/// files or with other options (header). Empty: they are complete. The image is not read, the PSF is, since defaults depend on it. @throws Error (PSF)
[[nodiscard]] std::string whyIncomplete(const FrameTask& task);

/// Inputs of a frame that are not there.
[[nodiscard]] std::vector<std::string> missingInputs(const FrameTask& task);

/// Removes temporary files that killed processes left beside the outputs of these frames (".NAME.PID.N.tmp", see AtomicFile): those
/// of no living process of this machine, or not touched for a minute. Gives their number.
int removeStaleFiles(const std::vector<FrameTask>& frames);

} // namespace patchlight::batch
