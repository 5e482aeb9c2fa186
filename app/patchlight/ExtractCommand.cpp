#include "app/batch/Job.h"
#include "app/patchlight/AddressSpace.h"
#include "app/patchlight/Backends.h"
#include "app/patchlight/Commands.h"
#include "app/patchlight/ExtractionArguments.h"
#include "app/patchlight/FrameRun.h"
#include "app/patchlight/Interrupt.h"
#include "app/patchlight/ProgressLine.h"
#include "app/patchlight/Ranks.h"
#include "core/base/Error.h"
#include "core/base/Timeline.h"
#include "core/engine/Engine.h"
#include "core/io/AtomicFile.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <array>
#include <chrono>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace patchlight::commands {

namespace {

struct ExtractArguments {
    FrameTask task;
    std::string trace;
    RunArguments run;
    bool useGpu = false;
    bool noGpu = false;
    RankArguments ranks;
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
    if (arguments.useGpu && arguments.noGpu)
        throw UsageError("--use-gpu and --no-gpu contradict each other; give one of them");
    if (arguments.useGpu) arguments.run.backend.name = "cuda";
    if (arguments.noGpu) arguments.run.backend.name = "cpu";
    if (arguments.decorrelateFibers) arguments.task.options.decorrelate = Decorrelate::Noise;
}

void writeTrace(const std::string& path, const Timeline& timeline) {
    std::ostringstream text;
    timeline.writeChromeTrace(text, "patchlight extract");
    writeFileAtomically(path, text.view());
}

/// Outputs are apart from inputs and can be written: found out before anything is computed. @throws Error, UsageError
void requireOutputs(const ExtractArguments& arguments) {
    const FrameTask& task = arguments.task;
    const std::array inputs{OptionFile{"--input", task.image}, OptionFile{"--psf", task.psf},
                            OptionFile{"--fibermap", task.fibermap}};
    const std::array outputs{OptionFile{"--output", task.output}, OptionFile{"--model", task.model},
                             OptionFile{"--trace", arguments.trace}};
    requireDistinctFiles(inputs, outputs);
    // Find out that an output cannot be written before computing it.
    for (const OptionFile& file : outputs)
        if (!file.path.empty() || file.option == "--output") requireWritable(std::string(file.path));
}

/// One frame shared between the ranks that mpirun started.
void runOnRanks(const ExtractArguments& arguments) {
    batch::JobSettings settings;
    settings.backend = arguments.run.backend;
    settings.threads = arguments.run.threads;
    settings.trace = arguments.trace;
    settings.retries = 0;
    settings.redo = true;
    settings.progress = false;
    const std::unique_ptr<batch::Communicator> ranks = joinRanks(arguments.ranks);
    const batch::JobOutcome outcome = batch::runJob(*ranks, settings, [&] {
        requireOutputs(arguments);
        return std::vector<FrameTask>{arguments.task};
    });
    if (ranks->rank() != 0) return;
    const batch::FrameRecord& frame = outcome.frames.front();
    if (frame.state != batch::FrameState::Done) {
        if (frame.result.permanent) throw UsageError(frame.error);
        throw Error(frame.error);
    }
    spdlog::info("extracted on {} rank{} in {:.2f} s", frame.ranks.size(), frame.ranks.size() == 1 ? "" : "s",
                 outcome.seconds);
}

/// What follows the pixels in a .gz file may take a moment. @throws Error, Cancelled
void finishReading(const ArrivingImage& image, Interrupt& interrupt) {
    using namespace std::chrono_literals;
    while (!image.waitForEnd(50ms)) {
        interrupt.poll();
        if (interrupt.token().stop_requested()) throw Cancelled();
    }
}

void runExtract(ExtractArguments& arguments) {
    applyForeignOptions(arguments);
    const FrameTask& task = arguments.task;
    validate(task.options);
    if (arguments.ranks.mpi) {
        runOnRanks(arguments);
        return;
    }
    const std::unique_ptr<Backend> backend = makeBackend(arguments.run.backend);
    requireOutputs(arguments);

    Timeline timeline;
    Timeline* const ranges = arguments.trace.empty() ? nullptr : &timeline;
    // Threads that read beside those that compute would need address space of their own.
    FrameSetup setup = beginFrameTask(task, ranges, addressSpaceIsLimited() ? 1 : arguments.run.threads);
    const Plan& plan = setup.plan;
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
    control.rows = &setup.image->rows();
    control.waiting = [&] { interrupt.poll(); };
    ExtractionResult result = extractFrame(*backend, setup.image->view(), *setup.psf, plan, control);
    progress.finish();
    spdlog::info("extracted {} spectra in {:.2f} s", plan.nspec, result.seconds);
    finishReading(*setup.image, interrupt);
    completeFrameTask(task, *backend, setup);
    control.progress = nullptr;
    control.painter = backend.get();
    PatchCounts counts;
    const FrameOutputs finished = finishFrame(task, setup, std::move(result), control, "", counts);
    interrupt.poll();
    if (interrupt.token().stop_requested()) throw Cancelled(); // a signal since the last batch
    writeFrameOutputs(task, finished, ranges, arguments.run.threads);
    if (!arguments.trace.empty()) {
        writeTrace(arguments.trace, timeline);
        spdlog::info("wrote {}", arguments.trace);
    }
}

} // namespace

void addExtract(CLI::App& app) {
    CLI::App* command = app.add_subcommand("extract", "extracts the spectra of a CCD image: image + PSF -> frame");
    auto arguments = std::make_shared<ExtractArguments>();
    command->add_option("-i,--input", arguments->task.image, "CCD image (preproc file: IMAGE, IVAR, MASK, ...)")
        ->required()
        ->type_name("FILE");
    command->add_option("-p,--psf", arguments->task.psf, "PSF (GAUSS-HERMITE or GAUSS-HERMITE2)")
        ->required()
        ->type_name("FILE");
    command->add_option("-o,--output", arguments->task.output, "extracted frame to write")
        ->required()
        ->type_name("FILE");
    command->add_option("-m,--model", arguments->task.model, "model image to write")->type_name("FILE");
    command
        ->add_option("-f,--fibermap", arguments->task.fibermap,
                     "file with a FIBERMAP table to use instead of the image's own")
        ->type_name("FILE");
    command
        ->add_option("--trace", arguments->trace,
                     "write the run's named ranges as Chrome trace JSON (ui.perfetto.dev opens it)")
        ->type_name("FILE.json")
        ->group("Running");
    addExtractionOptions(*command, arguments->task.options);
    addRunOptions(*command, arguments->run);
    addRankOptions(*command, arguments->ranks);
    addForeignOptions(*command, arguments);
    command->callback([arguments] { runExtract(*arguments); });
}

} // namespace patchlight::commands
