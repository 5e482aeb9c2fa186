#pragma once

#include "core/analysis/FrameQuality.h"

#include <string>

namespace patchlight {

struct ExtractedFrame;

/// What a report says it is about.
struct QualitySources {
    std::string frame;
    std::string image; ///< empty: none
    std::string psf;   ///< empty: none
};

/// All figures but the planes, as JSON; what is not known is null. docs/files.md describes it.
[[nodiscard]] std::string qualityJson(const FrameQuality& quality, const QualitySources& sources);
/// A line a fiber, with a header; unknown values are empty.
[[nodiscard]] std::string qualityFibersCsv(const FrameQuality& quality);
/// A line a bin with an alarm, with a header: by cause, the worst first; unknown values are empty. @param all  of all bins, in the frame's order
[[nodiscard]] std::string qualityBinsCsv(const FrameQuality& quality, const ExtractedFrame& frame, bool all = false);
/// A line a finding, with a header.
[[nodiscard]] std::string qualityFindingsCsv(const FrameQuality& quality);

} // namespace patchlight
