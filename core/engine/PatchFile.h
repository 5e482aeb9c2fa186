#pragma once

#include "core/engine/PatchResult.h"

#include <string>

namespace patchlight {

class FitsHeader;

/// PatchStatus bits in words: "ok", "regularized", ...
[[nodiscard]] std::string describeStatus(std::uint32_t status);

/// Writes one patch with its intermediates: the patch file of docs/conventions.md. float64 images, spectrum-major; atomic, with
/// checksums. @param header keywords of the frame and the options, carried over. @throws Error
void writePatchFile(const std::string& path, const PatchDetail& detail, const Plan& plan, const FitsHeader& header);

} // namespace patchlight
