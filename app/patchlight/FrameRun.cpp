#include "app/patchlight/FrameRun.h"

#include "app/patchlight/FrameHeader.h"
#include "core/analysis/Barycentric.h"
#include "core/analysis/Scores.h"
#include "core/base/Error.h"
#include "core/base/Timeline.h"
#include "core/engine/PatchFile.h"
#include "core/io/FitsFile.h"
#include "core/psf/Psf.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

namespace patchlight::commands {

namespace {

/// Logs what happened to patches that did not go the plain way, and counts them in the frame's header.
PatchCounts reportPatches(const std::vector<PatchReport>& reports, const Plan& plan, const std::string& name,
                          FitsHeader& header) {
    PatchCounts counts;
    counts.patches = static_cast<int>(reports.size());
    for (std::size_t i = 0; i < reports.size(); ++i) {
        const PatchReport& report = reports[i];
        const Subbundle& sub = plan.subbundles[i / static_cast<std::size_t>(plan.nsteps)];
        const int core = static_cast<int>(i % static_cast<std::size_t>(plan.nsteps)) * plan.grid.nwavestep;
        const auto where = [&] {
            return fmt::format("{}patch of spectra {}-{} at {:.1f} Angstrom", name, sub.core.first, sub.core.last - 1,
                               plan.grid.outputWavelength(core));
        };
        if ((report.status & static_cast<std::uint32_t>(PatchStatus::Failed)) != 0) {
            ++counts.failed;
            spdlog::warn(
                "{}: the normal equations have no factorisation, not even with regularize = {:g}; flux and ivar are 0",
                where(), 1e-4);
        } else if ((report.status & static_cast<std::uint32_t>(PatchStatus::Regularized)) != 0) {
            ++counts.regularized;
            spdlog::warn("{}: the factorisation failed and was repeated with regularize = {:g}", where(), 1e-4);
        }
        if ((report.status & static_cast<std::uint32_t>(PatchStatus::Exact)) != 0) {
            ++counts.exact;
            spdlog::debug("{}: {}", where(), describeStatus(report.status));
        } else if ((report.status & static_cast<std::uint32_t>(PatchStatus::WideBand)) != 0) {
            ++counts.wide;
        }
        if ((report.status & static_cast<std::uint32_t>(PatchStatus::NoPixels)) != 0) {
            ++counts.empty;
            spdlog::debug("{}: no unmasked pixel", where());
        }
    }
    header.set("NPATCH", counts.patches, "patches extracted");
    header.set("NWIDE", counts.wide, "of these, solved with a wider band");
    header.set("NEXACT", counts.exact, "of these, solved on the exact path");
    header.set("NREGULAR", counts.regularized, "of these, regularised after a failure");
    header.set("NFAILED", counts.failed, "of these, not solved: flux = ivar = 0");
    const auto level = name.empty() ? spdlog::level::info : spdlog::level::debug; // many frames: in the report
    if (counts.empty > 0)
        spdlog::log(level, "{}{} of {} patches have no unmasked pixel", name, counts.empty, counts.patches);
    if (counts.wide + counts.exact > 0)
        spdlog::log(level, "{}{} of {} patches were solved with a wider band, {} on the exact path", name, counts.wide,
                    counts.patches, counts.exact);
    if (counts.regularized + counts.failed > 0)
        spdlog::warn("{}{} patches were regularised, {} failed", name, counts.regularized, counts.failed);
    return counts;
}

FitsTable readFibermap(const std::string& path, const Psf& psf, const ExtractionOptions& options) {
    const FitsFile file(path, [](const FitsHdu& hdu) { return hdu.name == "FIBERMAP"; });
    FitsTable table = file.readTable(file.require("FIBERMAP"));
    const long last = options.nspec > 0 ? static_cast<long>(options.specmin) + options.nspec : psf.nspec;
    const auto needed = static_cast<std::size_t>(std::min(last, static_cast<long>(psf.nspec)));
    if (table.rowCount < needed)
        throw Error(fmt::format("{}[FIBERMAP]: {} rows, but spectra {} to {} are to be extracted", file.path(),
                                table.rowCount, options.specmin, needed - 1));
    return table;
}

} // namespace

FrameSetup beginFrameTask(const FrameTask& task, Timeline* timeline, int threads) {
    FrameSetup setup;
    setup.psf = [&] {
        const NamedRange range(timeline, "read PSF");
        return std::make_shared<const Psf>(readPsf(task.psf));
    }();
    setup.image = std::make_unique<ArrivingImage>(task.image, threads, timeline);
    const CcdImage& image = setup.image->about();
    requireSameSize(image, *setup.psf);
    if (!task.fibermap.empty()) setup.fibermap = readFibermap(task.fibermap, *setup.psf, task.options);
    if (task.options.barycentricCorrection) {
        setup.image->finish(); // coordinates may be in the fibermap, behind the pixels
        const std::optional<FitsTable>& fibermap = setup.fibermap ? setup.fibermap : image.fibermap;
        setup.barycentricFactor =
            barycentricFactor(image.header, fibermap ? &fibermap->header : nullptr, kittPeak, image.path);
        spdlog::info("barycentric factor {:.11f}", setup.barycentricFactor);
    }
    setup.plan = makePlan(*setup.psf, task.options, setup.barycentricFactor);
    return setup;
}

void completeFrameTask(const FrameTask& task, const Backend& backend, FrameSetup& setup) {
    setup.image->finish();
    CcdImage image = setup.image->about();
    if (setup.fibermap) image.fibermap = std::move(setup.fibermap);
    describeFrame(setup.described, image, *setup.psf, setup.plan, task.image, task.psf, backend,
                  setup.barycentricFactor);
}

FrameSetup readFrameTask(const FrameTask& task, const Backend& backend, Timeline* timeline, int threads) {
    FrameSetup setup = beginFrameTask(task, timeline, threads);
    completeFrameTask(task, backend, setup);
    return setup;
}

FrameOutputs finishFrame(const FrameTask& task, FrameSetup& setup, ExtractionResult result, const RunControl& control,
                         const std::string& name, PatchCounts& counts) {
    FrameOutputs outputs;
    outputs.frame = std::move(result.frame);
    outputs.frame.header = std::move(setup.described.header);
    outputs.frame.fibermap = std::move(setup.described.fibermap);
    counts = reportPatches(result.reports, setup.plan, name, outputs.frame.header);
    if (task.options.scores) {
        const NamedRange range(control.timeline, "scores");
        std::string warning;
        outputs.frame.scores = computeScores(outputs.frame, warning, control.threads);
        if (!warning.empty()) spdlog::warn("{}{}", name, warning);
    }
    outputs.nx = setup.image->about().nx;
    outputs.ny = setup.image->about().ny;
    if (!task.model.empty())
        outputs.model = paintModel(result.modelFlux, *setup.psf, setup.plan, outputs.nx, outputs.ny, control);
    return outputs;
}

void writeFrameOutputs(const FrameTask& task, const FrameOutputs& outputs, Timeline* timeline, int threads,
                       bool quiet) {
    const auto level = quiet ? spdlog::level::debug : spdlog::level::info;
    {
        const NamedRange range(timeline, "write frame");
        writeFrame(task.output, outputs.frame, threads);
        spdlog::log(level, "wrote {}", task.output);
    }
    if (task.model.empty()) return;
    const NamedRange range(timeline, "write model");
    writeModelImage(task.model, outputs.model, outputs.nx, outputs.ny, outputs.frame.header, threads);
    spdlog::log(level, "wrote {}", task.model);
}

} // namespace patchlight::commands
