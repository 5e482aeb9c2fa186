#pragma once

#include "core/engine/Backend.h"
#include "core/frame/ExtractedFrame.h"
#include "core/image/CcdImage.h"

#include <string>

namespace patchlight {

class Psf;

/// @throws Error where the CCD image does not have the size that the PSF was made for
void requireSameSize(const CcdImage& image, const Psf& psf);

/// Writes what was extracted, from which files, with which options: all that tells a run's output from another run's.
void describePlan(FitsHeader& header, const Plan& plan, const std::string& imagePath, const std::string& psfPath);

/// Fills a frame's header (the image's keywords, what was extracted, with what, the options) and its FIBERMAP rows.
/// @throws Error where the FIBERMAP has too few rows
void describeFrame(ExtractedFrame& frame, const CcdImage& image, const Psf& psf, const Plan& plan,
                   const std::string& imagePath, const std::string& psfPath, const Backend& backend,
                   double barycentricFactor);

} // namespace patchlight
