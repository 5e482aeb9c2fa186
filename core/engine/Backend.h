#pragma once

#include "core/base/Array.h"
#include "core/engine/PatchResult.h"
#include "core/engine/Plan.h"
#include "core/image/CcdImage.h"

#include <memory>
#include <string>
#include <vector>

namespace patchlight {

class Timeline;
struct ExtractedFrame;

/// What a backend is given of one frame. Everything outlives the FrameJob made from it.
struct FrameInput {
    CcdView ccd;
    PsfView psf;
    const Plan* plan = nullptr;
    Timeline* timeline = nullptr; ///< may be null
};

/// Where a backend writes: per-patch rows of the frame (core bins only, so that no two patches write the same element) and one
/// report a patch at [subbundle * plan.nsteps + step].
struct FrameOutput {
    ExtractedFrame* frame = nullptr;
    Array2<double>* modelFlux =
        nullptr; ///< [nspec][nsteps nwavestep], photons per bin: what the model image is painted with
    PatchReport* reports = nullptr;
};

/// One frame being extracted on one backend. run() may be called from several threads at once, with different lanes; results
/// depend neither on the lane, nor on how patches are grouped into batches, nor on the order of calls.
class FrameJob {
public:
    virtual ~FrameJob() = default;
    FrameJob() = default;
    FrameJob(const FrameJob&) = delete;
    FrameJob& operator=(const FrameJob&) = delete;

    /// How many calls of run() make sense at the same time (threads, streams); lanes are 0 .. lanes() - 1.
    [[nodiscard]] virtual int lanes() const = 0;
    /// Extracts all patches of a batch into `output`: flux, ivar, xflux in photons per bin.
    virtual void run(const Batch& batch, int lane, const FrameOutput& output) = 0;
    /// Extracts one patch and keeps all that was computed on the way.
    [[nodiscard]] virtual PatchDetail inspect(const Patch& patch) = 0;
};

/// A model image to paint: fluxes (ExtractionResult::modelFlux) times spots.
struct ModelPainting {
    const Array2<double>* modelFlux = nullptr; ///< [nspec][nsteps nwavestep], photons per bin
    PsfView psf;
    const Plan* plan = nullptr;
    int nx = 0; ///< of the CCD
    int ny = 0;
    Timeline* timeline = nullptr; ///< may be null
};

/// The least time that a stage of a frame can take on a backend's device, from what it computes and moves, to hold measured times against.
struct StageFloor {
    std::string name;      ///< of the stage's named range
    double operations = 0; ///< additions and multiplications
    double bytes = 0;      ///< of the device's memory
    double seconds = 0;    ///< the longest of what these, copies, and steps that wait for each other take
    std::string limit;     ///< which of them that is: "FP64", "memory", "bus", "latency"
};

/// A way to run the engine: the CPU, a GPU.
class Backend {
public:
    virtual ~Backend() = default;
    Backend() = default;
    Backend(const Backend&) = delete;
    Backend& operator=(const Backend&) = delete;

    /// "cpu", "cuda".
    [[nodiscard]] virtual std::string name() const = 0;
    /// One line for the log: device, threads, instruction set.
    [[nodiscard]] virtual std::string description() const = 0;
    /// Wavelength steps a batch should have for this plan.
    [[nodiscard]] virtual int batchSteps(const Plan& plan) const = 0;
    /// Whether FrameJob::run() reads no other rows of the CCD than rowsNeeded() says, and nothing else reads any, so that rows may still
    /// arrive; else a frame begins when all are there.
    [[nodiscard]] virtual bool takesRowsAsTheyArrive() const { return false; }
    /// @param lanes how many threads will call run(); 0: as many as the backend finds useful
    [[nodiscard]] virtual std::unique_ptr<FrameJob> begin(const FrameInput& input, int lanes) = 0;
    /// Paints a model image, [ny][nx], electrons, where the backend has a way of its own to do so; empty where it has none.
    [[nodiscard]] virtual std::vector<float> paintModel(const ModelPainting& /*model*/) { return {}; }
    /// Floors of the stages of such a frame, in their order, where the backend can tell; best asked after a frame has run, since what
    /// patches need is known only then. Looks at no pixel. It may take a while.
    [[nodiscard]] virtual std::vector<StageFloor> floors(const FrameInput& /*input*/) { return {}; }
};

} // namespace patchlight
