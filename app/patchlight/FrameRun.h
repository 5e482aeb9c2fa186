#pragma once

#include "core/engine/Engine.h"
#include "core/image/ArrivingImage.h"

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace patchlight {
class Psf;
class Timeline;
} // namespace patchlight

/// One frame from files to files, in the three stages that `extract` runs one after the other and `batch` side by side.
namespace patchlight::commands {

/// The files of a frame, and what to compute.
struct FrameTask {
    std::string image;
    std::string psf;
    std::string output;
    std::string model;    ///< empty: none
    std::string fibermap; ///< empty: the image's own
    ExtractionOptions options;
};

/// What the engine is given, and what the output's header and FIBERMAP will say.
struct FrameSetup {
    std::shared_ptr<const Psf> psf;
    Plan plan;
    std::unique_ptr<ArrivingImage> image;
    std::optional<FitsTable> fibermap; ///< to use instead of the image's own
    double barycentricFactor = 1;
    ExtractedFrame described; ///< header and fibermap only
};

/// Reads PSF and fibermap, begins to read the image, and plans the extraction, which can begin then (RunControl::rows).
/// @param threads that read the image, 0: all cores; one reads it as a whole. @throws Error, UsageError
[[nodiscard]] FrameSetup beginFrameTask(const FrameTask& task, Timeline* timeline, int threads);
/// Waits until the image has been read to its end, and describes the frame. @throws Error
void completeFrameTask(const FrameTask& task, const Backend& backend, FrameSetup& setup);
/// Both, one after the other.
[[nodiscard]] FrameSetup readFrameTask(const FrameTask& task, const Backend& backend, Timeline* timeline, int threads);

/// A frame ready to be written.
struct FrameOutputs {
    ExtractedFrame frame;
    std::vector<float> model; ///< [ny][nx]; empty where no model was asked for
    int nx = 0;
    int ny = 0;
};

/// How the patches of a frame fared.
struct PatchCounts {
    int patches = 0;
    int wide = 0;        ///< solved with a wider band
    int exact = 0;       ///< solved on the exact path
    int regularized = 0; ///< after a failed factorisation
    int failed = 0;      ///< flux = ivar = 0
    int empty = 0;       ///< no unmasked pixel
};

/// Completes an extracted frame: header with the patches' fates (which are logged, `name` in front), fibermap, scores, model image.
/// @param name empty, or "FILE: " for runs of many frames
[[nodiscard]] FrameOutputs finishFrame(const FrameTask& task, FrameSetup& setup, ExtractionResult result,
                                       const RunControl& control, const std::string& name, PatchCounts& counts);

/// Writes the frame, then the model where there is one. `quiet`: says so at the level debug only. @throws Error
void writeFrameOutputs(const FrameTask& task, const FrameOutputs& outputs, Timeline* timeline, int threads,
                       bool quiet = false);

} // namespace patchlight::commands
