#pragma once

#include "core/engine/Backend.h"
#include "core/frame/ExtractedFrame.h"

#include <cstdint>
#include <functional>
#include <stop_token>
#include <vector>

namespace patchlight {

class Psf;
class RowGate;

/// Progress of a run, told between batches. Called from worker threads, one call at a time.
struct Progress {
    int patchesDone = 0;
    int patchesTotal = 0;
    Batch batch; ///< the one just finished
    /// The frame being filled, fluxes in photons per bin: this batch's core bins are final but for the units and BAD2DFIT,
    /// others may be written while this is read.
    const ExtractedFrame* frame = nullptr;
};

/// How to run, as opposed to what to compute: nothing here changes a result.
struct RunControl {
    int threads = 0;    ///< 0: all cores
    int batchSteps = 0; ///< wavelength steps a batch; 0: the backend's choice (the seamless method takes all)
    std::stop_token stop;
    std::function<void(const Progress&)> progress;
    Timeline* timeline = nullptr;
    /// Where the image still arrives: a batch begins when its rows are there, those that need the lowest first. Null: all rows are there.
    const RowGate* rows = nullptr;
    std::function<void()>
        waiting; ///< called now and then while rows are waited for; one call at a time, none during `progress`
    Backend* painter =
        nullptr; ///< paints the model image where it can; otherwise the CPU does, as it does where this is null
};

/// A frame and how each of its patches fared.
struct ExtractionResult {
    ExtractedFrame frame;
    /// [nspec][nsteps nwavestep], photons per bin: xflux or flux (ExtractionOptions::modelFlux) of all core bins of the patches. The last
    /// patch's reach beyond the frame's last wavelength: the light is there, and the model image shows it, as gpu_specter's does.
    Array2<double> modelFlux;
    std::vector<PatchReport> reports; ///< [subbundle][step]
    double seconds = 0;               ///< wall time of the extraction
};

/// Extracts the spectra of a plan: batches on the backend's lanes, then units per Angstrom and the frame's masks.
/// The frame's header, fibermap and scores are left to the caller. @throws Cancelled, Error
[[nodiscard]] ExtractionResult extractFrame(Backend& backend, const CcdView& ccd, const Psf& psf, const Plan& plan,
                                            const RunControl& control = {});

/// Extracts one patch with its intermediates.
[[nodiscard]] PatchDetail extractPatch(Backend& backend, const CcdView& ccd, const Psf& psf, const Plan& plan,
                                       const Patch& patch, Timeline* timeline = nullptr);

/// Paints a model image, float32 [ny][nx], electrons: ExtractionResult::modelFlux times spots.
/// Rows are painted in stripes, so that the result does not depend on the number of threads.
[[nodiscard]] std::vector<float> paintModel(const Array2<double>& modelFlux, const Psf& psf, const Plan& plan, int nx,
                                            int ny, const RunControl& control = {});

/// How far above the medians over fibers and over wavelengths a bin's chi2pix must be to be marked BAD2DFIT.
inline constexpr double bad2dFitFactor = 5.0;

/// Adds BAD2DFIT to the MASK of a frame: chi2pix above `factor` times the median over fibers at that wavelength and `factor` times
/// the median over wavelengths of that fiber; medians over bins with ivar > 0. Needs the whole frame.
/// @param threads 0: all cores
void markBad2dFit(ExtractedFrame& frame, double factor = bad2dFitFactor, int threads = 0);

} // namespace patchlight
