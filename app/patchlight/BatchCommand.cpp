#include "app/batch/Completeness.h"
#include "app/batch/FolderWatch.h"
#include "app/batch/FrameList.h"
#include "app/batch/Job.h"
#include "app/patchlight/CommandLine.h"
#include "app/patchlight/Commands.h"
#include "app/patchlight/ExtractionArguments.h"
#include "app/patchlight/Ranks.h"
#include "core/base/Error.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <csignal>
#include <memory>
#include <string>
#include <vector>

#include <malloc.h>

namespace patchlight::commands {

namespace {

struct BatchArguments {
    std::string manifest;
    std::vector<std::string> images;
    batch::NameTemplates names;
    batch::DesiSelection desi;
    batch::WatchSettings watch;
    batch::JobSettings job;
    ExtractionOptions options;
    RunArguments run;
    RankArguments ranks;
    bool dryRun = false;
};

/// Which of the ways to name frames was used; exactly one must be.
std::string chosenInput(const BatchArguments& arguments) {
    std::vector<std::string> chosen;
    if (!arguments.manifest.empty()) chosen.emplace_back("--manifest");
    if (!arguments.images.empty()) chosen.emplace_back("--images");
    if (!arguments.desi.expids.empty()) chosen.emplace_back("--expid");
    if (!arguments.watch.folder.empty()) chosen.emplace_back("--watch");
    if (chosen.size() != 1)
        throw UsageError(chosen.empty() ? "batch: which frames? --manifest, --images, --expid or --watch says"
                                        : fmt::format("batch: {} each say which frames; give one of them",
                                                      fmt::join(chosen, " and ")));
    const bool patterns = chosen.front() == "--images" || chosen.front() == "--watch";
    if (patterns && (arguments.names.psf.empty() || arguments.names.output.empty()))
        throw UsageError(fmt::format("{}: --psf and --output must say which PSF and output belong to an image, such as "
                                     "--psf '{{dir}}/psf-{{id}}.fits' --output 'out/frame-{{id}}.fits'",
                                     chosen.front()));
    if (!patterns &&
        (!arguments.names.psf.empty() || !arguments.names.output.empty() || !arguments.names.model.empty()))
        throw UsageError(fmt::format("{}: --psf, --output and --model go with --images and --watch", chosen.front()));
    return chosen.front();
}

std::vector<batch::FrameTask> listFrames(const BatchArguments& arguments, const std::string& input) {
    std::vector<batch::FrameTask> frames;
    if (input == "--manifest") {
        frames = batch::readManifest(arguments.manifest, arguments.options);
    } else if (input == "--expid") {
        frames = batch::desiFrames(arguments.desi, arguments.options);
    } else if (input == "--images") {
        for (const std::string& image : batch::findImages(arguments.images))
            frames.push_back(batch::frameOfImage(image, arguments.names, arguments.options));
    }
    batch::requireDistinctOutputs(frames);
    return frames;
}

/// Lists on stdout what a run would do. @return the exit code
int dryRun(const std::vector<batch::FrameTask>& frames, bool redo) {
    int extract = 0;
    int complete = 0;
    int missing = 0;
    for (const batch::FrameTask& task : frames) {
        const std::vector<std::string> absent = batch::missingInputs(task);
        if (!absent.empty()) {
            ++missing;
            fmt::print("missing   {}: {}\n", task.output, fmt::join(absent, ", "));
            continue;
        }
        std::string why = "not there";
        if (redo) {
            why = "--redo";
        } else if (batch::outputsExist(task)) {
            try {
                why = batch::whyIncomplete(task);
            } catch (const Error& error) {
                why = error.what();
            }
        }
        ++(why.empty() ? complete : extract);
        if (why.empty())
            fmt::print("complete  {}\n", task.output);
        else
            fmt::print("extract   {} from {}, {} ({})\n", task.output, task.image, task.psf, why);
    }
    fmt::print("{} frames: {} to extract, {} complete, {} with missing inputs\n", frames.size(), extract, complete,
               missing);
    return missing > 0 ? 1 : 0;
}

void runBatch(BatchArguments& arguments) {
    validate(arguments.options);
    const std::string input = chosenInput(arguments);
    if (arguments.dryRun) {
        if (input == "--watch") throw UsageError("--dry-run: a watch cannot say what will come");
        throw Exit{dryRun(listFrames(arguments, input), arguments.job.redo)};
    }
    arguments.job.backend = arguments.run.backend;
    arguments.job.threads = arguments.run.threads;
    arguments.job.command = commandLine();
    (void)std::signal(SIGUSR1, SIG_IGN); // until the job knows what to do with it
#ifdef __GLIBC__
    // Frames come and go on several threads: large blocks go back to the system, or the heap grows with every frame.
    constexpr int large = 16 << 20;
    (void)mallopt(M_MMAP_THRESHOLD, large);
    (void)mallopt(M_TRIM_THRESHOLD, 4 * large);
#endif
    const std::unique_ptr<batch::Communicator> ranks = joinRanks(arguments.ranks);
    std::unique_ptr<batch::FolderWatch> watch;
    const auto list = [&] {
        if (input == "--watch") {
            arguments.watch.names = arguments.names;
            arguments.watch.options = arguments.options;
            // A wrong template is found now, not with the first image.
            (void)batch::frameOfImage("preproc-r0-00000000.fits", arguments.names, arguments.options);
            spdlog::info("watching {} for {}", arguments.watch.folder, arguments.watch.pattern);
        }
        return listFrames(arguments, input);
    };
    if (input == "--watch" && ranks->rank() == 0) {
        arguments.watch.names = arguments.names;
        arguments.watch.options = arguments.options;
        try {
            watch = std::make_unique<batch::FolderWatch>(arguments.watch);
        } catch (const UsageError& error) {
            // Through the lister, so that all ranks leave.
            const std::string message = error.what();
            batch::runJob(*ranks, arguments.job, [&]() -> std::vector<batch::FrameTask> { throw UsageError(message); });
        }
    }
    const batch::JobOutcome outcome = batch::runJob(*ranks, arguments.job, list, watch.get());
    if (ranks->rank() == 0) throw Exit{outcome.exitCode};
}

} // namespace

void addBatch(CLI::App& app) {
    CLI::App* command = app.add_subcommand(
        "batch",
        "extracts many frames, in one process or as many as mpirun or srun start; what is complete is skipped");
    auto arguments = std::make_shared<BatchArguments>();
    const std::string which = "Which frames (one of --manifest, --images, --expid, --watch)";
    command
        ->add_option("--manifest", arguments->manifest,
                     "list of frames: columns image, psf, output and any extraction option")
        ->type_name("FILE.csv|.json")
        ->group(which);
    command->add_option("--images", arguments->images, "CCD images, as shell patterns in quotes")
        ->type_name("PATTERN ...")
        ->group(which);
    command
        ->add_option("-p,--psf", arguments->names.psf,
                     "PSF of an image: {name}, {id}, {dir}, {camera} and {expid} are filled in from its name")
        ->type_name("TEMPLATE")
        ->group(which);
    command->add_option("-o,--output", arguments->names.output, "extracted frame of an image, likewise")
        ->type_name("TEMPLATE")
        ->group(which);
    command->add_option("-m,--model", arguments->names.model, "model image, likewise")
        ->type_name("TEMPLATE")
        ->group(which);
    command->add_option("--expid", arguments->desi.expids, "DESI exposures, such as 51060,51062-51064")->group(which);
    command->add_option("--night", arguments->desi.night, "their night, YYYYMMDD")->group(which);
    command
        ->add_option("--cameras", arguments->desi.cameras, "their cameras: b0,r3,z9, or a0123 for b, r and z of 0 to 3")
        ->group(which);
    command
        ->add_option("--indir", arguments->desi.indir,
                     "folder of their images and PSFs: a production's tree, or all in one")
        ->type_name("DIR")
        ->group(which);
    command->add_option("--outdir", arguments->desi.outdir, "folder for their frames")->type_name("DIR")->group(which);
    command->add_flag("--models", arguments->desi.model, "write their model images too")->group(which);
    command
        ->add_option("--watch", arguments->watch.folder,
                     "extract images as they arrive in this folder, until a signal or --stop-file")
        ->type_name("DIR")
        ->group(which);
    command->add_option("--pattern", arguments->watch.pattern, "names of images to watch for")
        ->capture_default_str()
        ->group(which);
    command
        ->add_option("--settle", arguments->watch.settle,
                     "an arriving file is looked at when it did not change for this long")
        ->check(CLI::Range(0.0, 86400.0))
        ->type_name("[s]")
        ->capture_default_str()
        ->group(which);
    command->add_option("--stop-file", arguments->watch.stopFile, "the watch ends when this file appears")
        ->type_name("FILE")
        ->group(which);

    const std::string how = "How the job runs";
    command->add_flag("-d,--dry-run", arguments->dryRun, "list what would be done and what is missing")->group(how);
    command->add_flag("--redo", arguments->job.redo, "extract frames that are complete too")->group(how);
    command->add_option("--retries", arguments->job.retries, "more tries of a frame that failed (default 1)")
        ->check(CLI::Range(0, 100))
        ->group(how);
    command
        ->add_option("--time-limit", arguments->job.timeLimit,
                     "longest time of a frame, from reading to written (default: none)")
        ->check(CLI::Range(0.0, 1e9))
        ->type_name("[s]")
        ->group(how);
    command
        ->add_option("--grace", arguments->job.grace,
                     "a thread that does not end a frame this long after it was told to is given up, and its rank with "
                     "it (default 30)")
        ->check(CLI::Range(0.0, 1e9))
        ->type_name("[s]")
        ->group(how);
    command->add_flag("--fail-fast", arguments->job.failFast, "give up at the first frame that failed for good")
        ->group(how);
    command->add_flag("!--no-share", arguments->job.share, "never let idle ranks share a frame")->group(how);
    command->add_option("--readers", arguments->job.readers, "threads that read ahead, in each rank (default 1)")
        ->check(CLI::Range(1, 64))
        ->group(how);
    command->add_option("--writers", arguments->job.writers, "threads that write, in each rank (default 1)")
        ->check(CLI::Range(1, 64))
        ->group(how);
    command
        ->add_option("--in-flight", arguments->job.inFlight,
                     "frames in memory, in each rank (default: readers + writers + 1)")
        ->check(CLI::Range(1, 1000))
        ->group(how);
    command
        ->add_option("--lost-after", arguments->job.lostAfter,
                     "a rank that is silent for this long is given up (default 60)")
        ->check(CLI::Range(1.0, 1e9))
        ->type_name("[s]")
        ->group(how);
    command->add_option("--report", arguments->job.report, "write what became of every frame, and the totals")
        ->type_name("FILE.json")
        ->group(how);
    command
        ->add_option("--trace", arguments->job.trace,
                     "write all ranks' named ranges as one Chrome trace (ui.perfetto.dev opens it)")
        ->type_name("FILE.json")
        ->group(how);
    addExtractionOptions(*command, arguments->options);
    addRunOptions(*command, arguments->run);
    addRankOptions(*command, arguments->ranks);
    command->callback([arguments] { runBatch(*arguments); });
}

} // namespace patchlight::commands
