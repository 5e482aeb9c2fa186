#include "app/patchlight/AddressSpace.h"
#include "app/patchlight/Backends.h"
#include "app/patchlight/Commands.h"
#include "app/patchlight/ExtractionArguments.h"
#include "app/patchlight/FrameHeader.h"
#include "app/patchlight/Interrupt.h"
#include "app/patchlight/ProgressLine.h"
#include "core/analysis/Barycentric.h"
#include "core/analysis/Scores.h"
#include "core/base/Error.h"
#include "core/base/Timeline.h"
#include "core/engine/Engine.h"
#include "core/engine/PatchFile.h"
#include "core/image/CcdImage.h"
#include "core/io/AtomicFile.h"
#include "core/io/FitsFile.h"
#include "core/psf/Psf.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <memory>
#include <sstream>
#include <string>

namespace patchlight::commands {

namespace {

struct ExtractArguments {
    std::string input;
    std::string psf;
    std::string output;
    std::string model;
    std::string fibermap;
    std::string trace;
    ExtractionOptions options;
    RunArguments run;
    bool useGpu = false;
    bool noGpu = false;
    bool mpi = false;
    bool decorrelateFibers = false;
    bool verbose = false;
};

/// Options of desi_extract_spectra and spex that mean something else here, or nothing.
void addForeignOptions(CLI::App& command, const std::shared_ptr<ExtractArguments>& arguments) {
    const std::string group = "Accepted from desi_extract_spectra and spex";
    command.add_flag("-v,--verbose", arguments->verbose, "log more (--loglevel debug)")->group(group);
    command.add_flag("--use-gpu", arguments->useGpu, "the same as --backend cuda")->group(group);
    command.add_flag("--no-gpu", arguments->noGpu, "the same as --backend cpu")->group(group);
    command.add_flag("--decorrelate-fibers", arguments->decorrelateFibers, "the same as --decorrelate noise")
        ->group(group);
    command.add_flag("--mpi", arguments->mpi, "refused: this version does not share a frame between MPI ranks")
        ->group(group);
    const auto ignored = [&](const std::string& name) {
        command
            .add_flag_callback(
                name, [name] { spdlog::warn("{} has no meaning here and is ignored", name); }, "ignored")
            ->group(group);
    };
    ignored("--use-specter");
    ignored("--async-io");
    command
        .add_option_function<std::string>(
            "--ranks-per-bundle",
            [](const std::string&) { spdlog::warn("--ranks-per-bundle has no meaning here and is ignored"); },
            "ignored")
        ->group(group);
}

void applyForeignOptions(ExtractArguments& arguments) {
    if (arguments.verbose) spdlog::set_level(spdlog::level::debug);
    if (arguments.mpi)
        throw UsageError("--mpi: this version does not share a frame between MPI ranks; run it without mpirun and "
                         "--mpi, with --threads for the cores "
                         "of a node");
    if (arguments.useGpu && arguments.noGpu)
        throw UsageError("--use-gpu and --no-gpu contradict each other; give one of them");
    if (arguments.useGpu) arguments.run.backend = "cuda";
    if (arguments.noGpu) arguments.run.backend = "cpu";
    if (arguments.decorrelateFibers) arguments.options.decorrelate = Decorrelate::Noise;
}

/// Logs what happened to patches that did not go the plain way, and counts them in the frame's header.
void reportPatches(const ExtractionResult& result, const Plan& plan, FitsHeader& header) {
    int regularized = 0;
    int empty = 0;
    int failed = 0;
    int wide = 0;
    int exact = 0;
    for (std::size_t i = 0; i < result.reports.size(); ++i) {
        const PatchReport& report = result.reports[i];
        const Subbundle& sub = plan.subbundles[i / static_cast<std::size_t>(plan.nsteps)];
        const int core = static_cast<int>(i % static_cast<std::size_t>(plan.nsteps)) * plan.grid.nwavestep;
        const auto where = [&] {
            return fmt::format("patch of spectra {}-{} at {:.1f} Angstrom", sub.core.first, sub.core.last - 1,
                               plan.grid.outputWavelength(core));
        };
        if ((report.status & static_cast<std::uint32_t>(PatchStatus::Failed)) != 0) {
            ++failed;
            spdlog::warn(
                "{}: the normal equations have no factorisation, not even with regularize = {:g}; flux and ivar are 0",
                where(), 1e-4);
        } else if ((report.status & static_cast<std::uint32_t>(PatchStatus::Regularized)) != 0) {
            ++regularized;
            spdlog::warn("{}: the factorisation failed and was repeated with regularize = {:g}", where(), 1e-4);
        }
        if ((report.status & static_cast<std::uint32_t>(PatchStatus::Exact)) != 0) {
            ++exact;
            spdlog::debug("{}: {}", where(), describeStatus(report.status));
        } else if ((report.status & static_cast<std::uint32_t>(PatchStatus::WideBand)) != 0) {
            ++wide;
        }
        if ((report.status & static_cast<std::uint32_t>(PatchStatus::NoPixels)) != 0) {
            ++empty;
            spdlog::debug("{}: no unmasked pixel", where());
        }
    }
    header.set("NPATCH", static_cast<std::int64_t>(result.reports.size()), "patches extracted");
    header.set("NWIDE", wide, "of these, solved with a wider band");
    header.set("NEXACT", exact, "of these, solved on the exact path");
    header.set("NREGULAR", regularized, "of these, regularised after a failure");
    header.set("NFAILED", failed, "of these, not solved: flux = ivar = 0");
    if (empty > 0) spdlog::info("{} of {} patches have no unmasked pixel", empty, result.reports.size());
    if (wide + exact > 0)
        spdlog::info("{} of {} patches were solved with a wider band, {} on the exact path", wide,
                     result.reports.size(), exact);
    if (regularized + failed > 0) spdlog::warn("{} patches were regularised, {} failed", regularized, failed);
}

void writeTrace(const std::string& path, const Timeline& timeline) {
    std::ostringstream text;
    timeline.writeChromeTrace(text, "patchlight extract");
    writeFileAtomically(path, text.view());
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

void runExtract(ExtractArguments& arguments) {
    applyForeignOptions(arguments);
    validate(arguments.options);
    const std::unique_ptr<Backend> backend = makeBackend(arguments.run.backend);
    const std::array inputs{OptionFile{"--input", arguments.input}, OptionFile{"--psf", arguments.psf},
                            OptionFile{"--fibermap", arguments.fibermap}};
    const std::array outputs{OptionFile{"--output", arguments.output}, OptionFile{"--model", arguments.model},
                             OptionFile{"--trace", arguments.trace}};
    requireDistinctFiles(inputs, outputs);
    // Find out that an output cannot be written before computing it.
    for (const std::string* path : {&arguments.output, &arguments.model, &arguments.trace})
        if (!path->empty()) requireWritable(*path);

    Timeline timeline;
    Timeline* const ranges = arguments.trace.empty() ? nullptr : &timeline;
    const Psf psf = [&] {
        const NamedRange range(ranges, "read PSF");
        return readPsf(arguments.psf);
    }();
    CcdImage image = [&] {
        const NamedRange range(ranges, "read image");
        return readCcdImage(arguments.input, {.threads = arguments.run.threads});
    }();
    requireSameSize(image, psf);
    if (!arguments.fibermap.empty()) image.fibermap = readFibermap(arguments.fibermap, psf, arguments.options);

    double factor = 1.0;
    if (arguments.options.barycentricCorrection) {
        factor =
            barycentricFactor(image.header, image.fibermap ? &image.fibermap->header : nullptr, kittPeak, image.path);
        spdlog::info("barycentric factor {:.11f}", factor);
    }
    const Plan plan = makePlan(psf, arguments.options, factor);

    ExtractedFrame described;
    describeFrame(described, image, psf, plan, arguments.input, arguments.psf, *backend, factor);

    const int nx = image.nx;
    const int ny = image.ny;
    const WeightedPixels pixels = [&] {
        const NamedRange range(ranges, "weights");
        return weightedPixels(std::move(image), arguments.run.threads);
    }();
    spdlog::info("extracting spectra {}-{}, {} wavelengths {:.2f}-{:.2f} step {:g} Angstrom, {} patches; {}",
                 plan.specmin, plan.specmin + plan.nspec - 1, plan.grid.nwave, plan.grid.wmin,
                 plan.grid.outputWavelength(plan.grid.nwave - 1), plan.grid.dw, plan.patchCount(),
                 backend->description());

    requireAddressSpace(arguments.run.threads);
    ProgressLine progress;
    Interrupt interrupt;
    RunControl control;
    control.threads = arguments.run.threads;
    control.timeline = ranges;
    control.stop = interrupt.token();
    control.progress = [&](const Progress& now) {
        interrupt.poll();
        progress.update(now.patchesDone, now.patchesTotal);
    };
    ExtractionResult result = extractFrame(*backend, pixels.view(), psf, plan, control);
    progress.finish();
    spdlog::info("extracted {} spectra in {:.2f} s", plan.nspec, result.seconds);
    result.frame.header = std::move(described.header);
    reportPatches(result, plan, result.frame.header);
    result.frame.fibermap = std::move(described.fibermap);
    if (arguments.options.scores) {
        const NamedRange range(ranges, "scores");
        std::string warning;
        result.frame.scores = computeScores(result.frame, warning, arguments.run.threads);
        if (!warning.empty()) spdlog::warn("{}", warning);
    }
    std::vector<float> model;
    if (!arguments.model.empty()) {
        control.progress = nullptr;
        model = paintModel(result.modelFlux, psf, plan, nx, ny, control);
    }
    interrupt.poll();
    if (interrupt.token().stop_requested()) throw Cancelled(); // a signal since the last batch
    {
        const NamedRange range(ranges, "write frame");
        writeFrame(arguments.output, result.frame, arguments.run.threads);
        spdlog::info("wrote {}", arguments.output);
    }
    if (!arguments.model.empty()) {
        const NamedRange range(ranges, "write model");
        writeModelImage(arguments.model, model, nx, ny, result.frame.header, arguments.run.threads);
        spdlog::info("wrote {}", arguments.model);
    }
    if (!arguments.trace.empty()) {
        writeTrace(arguments.trace, timeline);
        spdlog::info("wrote {}", arguments.trace);
    }
}

} // namespace

void addExtract(CLI::App& app) {
    CLI::App* command = app.add_subcommand("extract", "extracts the spectra of a CCD image: image + PSF -> frame");
    auto arguments = std::make_shared<ExtractArguments>();
    command->add_option("-i,--input", arguments->input, "CCD image (preproc file: IMAGE, IVAR, MASK, ...)")
        ->required()
        ->type_name("FILE");
    command->add_option("-p,--psf", arguments->psf, "PSF (GAUSS-HERMITE or GAUSS-HERMITE2)")
        ->required()
        ->type_name("FILE");
    command->add_option("-o,--output", arguments->output, "extracted frame to write")->required()->type_name("FILE");
    command->add_option("-m,--model", arguments->model, "model image to write")->type_name("FILE");
    command
        ->add_option("-f,--fibermap", arguments->fibermap,
                     "file with a FIBERMAP table to use instead of the image's own")
        ->type_name("FILE");
    command
        ->add_option("--trace", arguments->trace,
                     "write the run's named ranges as Chrome trace JSON (ui.perfetto.dev opens it)")
        ->type_name("FILE.json")
        ->group("Running");
    addExtractionOptions(*command, arguments->options);
    addRunOptions(*command, arguments->run);
    addForeignOptions(*command, arguments);
    command->callback([arguments] { runExtract(*arguments); });
}

} // namespace patchlight::commands
