#include "app/patchlight/Backends.h"
#include "app/patchlight/CommandLine.h"
#include "app/patchlight/Commands.h"
#include "app/patchlight/ExtractionArguments.h"
#include "app/patchlight/Interrupt.h"
#include "core/analysis/Bench.h"
#include "core/base/Error.h"
#include "core/base/Version.h"
#include "core/image/CcdImage.h"
#include "core/io/AtomicFile.h"
#include "core/psf/Psf.h"
#include "core/simulate/FrameSimulator.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <spdlog/spdlog.h>

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

namespace patchlight::commands {

namespace {

using nlohmann::json;

struct BenchArguments {
    std::string input;
    std::string psf;
    std::string output;
    std::string camera = "r0";
    int fibers = 50;
    BackendChoice backend;
    std::vector<int> threads = {0};
    int warmup = 1;
    int repeats = 3;
    bool model = false;
    bool json = false;
    ExtractionOptions options;
};

/// A folder for the files of a bench, removed at the end.
class ScratchFolder {
public:
    ScratchFolder() {
        std::string name = (std::filesystem::temp_directory_path() / "patchlight-bench-XXXXXX").string();
        if (mkdtemp(name.data()) == nullptr) {
            throw Error(
                fmt::format("{}: the folder for temporary files cannot be made ({}); TMPDIR names another place", name,
                            std::generic_category().message(errno)));
        }
        path_ = name;
    }
    ~ScratchFolder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    ScratchFolder(const ScratchFolder&) = delete;
    ScratchFolder& operator=(const ScratchFolder&) = delete;

    [[nodiscard]] std::string file(const char* name) const { return (path_ / name).string(); }

private:
    std::filesystem::path path_;
};

json toJson(const Spread& spread) {
    return {{"median", spread.median()},
            {"smallest", spread.smallest()},
            {"largest", spread.largest()},
            {"values", spread.values}};
}

json toJson(const BenchReport& report, const BenchArguments& arguments) {
    json result = {{"program", "patchlight"},
                   {"version", version()},
                   {"source", gitDescribe()},
                   {"command", commandLine()},
                   {"machine",
                    {{"cpu", report.machine.cpu},
                     {"cores", report.machine.cores},
                     {"instruction_set", report.machine.instructionSet},
                     {"memory_gib", report.machine.memory},
                     {"system", report.machine.system}}},
                   {"backend", report.backend},
                   {"frame",
                    {{"simulated", arguments.input.empty()},
                     {"image", arguments.input},
                     {"psf", arguments.psf},
                     {"nspec", report.nspec},
                     {"nwave", report.nwave},
                     {"patches", report.patches},
                     {"bundles", report.bundles}}},
                   {"warmup", arguments.warmup},
                   {"repeats", arguments.repeats}};
    if (arguments.input.empty()) result["frame"]["camera"] = arguments.camera;
    for (const OptionSpec& option : optionTable()) result["options"][option.name] = option.get(arguments.options);
    result["runs"] = json::array();
    result["one_patch_seconds"] = toJson(report.onePatch);
    for (const StageFloor& floor : report.floors)
        result["floors"].push_back({{"name", floor.name},
                                    {"operations", floor.operations},
                                    {"bytes", floor.bytes},
                                    {"seconds", floor.seconds},
                                    {"limit", floor.limit}});
    for (const BenchRun& run : report.runs) {
        json entry = {
            {"threads", run.threads},
            {"extract", {{"wall_seconds", toJson(run.extractWall)}, {"cpu_seconds", toJson(run.extractCpu)}}},
            {"total", {{"wall_seconds", toJson(run.totalWall)}, {"cpu_seconds", toJson(run.totalCpu)}}},
            {"extract_cpu_seconds_per_bundle", run.extractCpu.median() / report.bundles},
            {"frames_per_node_hour", {{"extract", run.extractFramesPerHour()}, {"total", run.totalFramesPerHour()}}},
            {"peak_memory_bytes", run.peakMemory}};
        entry["stages"] = json::array();
        for (const BenchStage& stage : run.stages) {
            entry["stages"].push_back({{"name", stage.name},
                                       {"calls", stage.calls},
                                       {"total_seconds", stage.totalSeconds},
                                       {"self_seconds", stage.selfSeconds}});
        }
        result["runs"].push_back(std::move(entry));
    }
    return result;
}

/// Stages of a device beside the least that they can take, by its measured rates.
void printFloors(const BenchReport& report, const BenchRun& run) {
    if (report.floors.empty()) return;
    fmt::print("\nthe device's stages beside their floors, ms a frame, summed over streams\n");
    fmt::print("  {:<22} {:>9} {:>9} {:>9} {:>9} {:>9}  {}\n", "", "GFLOP", "GB", "floor", "measured", "share %",
               "limit");
    double floors = 0.0;
    double measured = 0.0;
    const auto line = [](const std::string& name, const std::string& work, double floor, double seconds,
                         const std::string& limit) {
        fmt::print("  {:<22} {} {:>9.3f} {:>9.3f} {:>9.1f}  {}\n", name, work, 1e3 * floor, 1e3 * seconds,
                   seconds > 0.0 ? 100.0 * floor / seconds : 0.0, limit);
    };
    for (const StageFloor& floor : report.floors) {
        const auto stage = std::find_if(run.stages.begin(), run.stages.end(),
                                        [&](const BenchStage& s) { return s.name == floor.name; });
        if (stage == run.stages.end()) continue;
        line(floor.name, fmt::format("{:>9.3f} {:>9.3f}", 1e-9 * floor.operations, 1e-9 * floor.bytes), floor.seconds,
             stage->totalSeconds, floor.limit);
        floors += floor.seconds;
        measured += stage->totalSeconds;
    }
    line("all", fmt::format("{:>9} {:>9}", "", ""), floors, measured, "");
}

void printReport(const BenchReport& report, const BenchArguments& arguments) {
    const MachineInfo& machine = report.machine;
    fmt::print("machine  {}, {} core{}, {}, {:.1f} GiB, {}\n", machine.cpu.empty() ? "unknown CPU" : machine.cpu,
               machine.cores, machine.cores == 1 ? "" : "s",
               machine.instructionSet.empty() ? "no known vector instructions" : machine.instructionSet, machine.memory,
               machine.system);
    fmt::print("program  patchlight {}{}{}; {}\n", version(), gitDescribe().empty() ? "" : ", ", gitDescribe(),
               report.backend);
    fmt::print("frame    {}: {} spectra x {} wavelengths, {} patches\n",
               arguments.input.empty() ? fmt::format("simulated, camera {}", arguments.camera) : arguments.input,
               report.nspec, report.nwave, report.patches);
    fmt::print("runs     {} to warm up, {} measured; medians, with smallest and largest\n\n", arguments.warmup,
               arguments.repeats);

    const auto spread = [](const Spread& values) {
        return fmt::format("{:.3f} ({:.3f}-{:.3f})", values.median(), values.smallest(), values.largest());
    };
    fmt::print("{:>7}  {:<24} {:>9} {:>8} {:>8}  {:<24} {:>11} {:>9}\n", "threads", "extraction, s", "CPU, s",
               "CPU/bun.", "speed-up", "file to file, s", "frames/hour", "peak MiB");
    for (const BenchRun& run : report.runs) {
        fmt::print("{:>7}  {:<24} {:>9.3f} {:>8.3f} {:>8.2f}  {:<24} {:>11.1f} {:>9.0f}\n", run.threads,
                   spread(run.extractWall), run.extractCpu.median(), run.extractCpu.median() / report.bundles,
                   report.runs.front().extractWall.median() / run.extractWall.median(), spread(run.totalWall),
                   run.totalFramesPerHour(), static_cast<double>(run.peakMemory) / (1024.0 * 1024.0));
    }
    fmt::print("one patch, from call to result with all its matrices: {:.2f} ms ({:.2f}-{:.2f}, {} patches)\n",
               1e3 * report.onePatch.median(), 1e3 * report.onePatch.smallest(), 1e3 * report.onePatch.largest(),
               report.onePatch.values.size());
    fmt::print("frames/hour: frames of this size from file to file, one after the other on this machine (node)\n");
    for (const BenchRun& run : report.runs) {
        fmt::print("\nstages with {} thread{}, s summed over threads\n", run.threads, run.threads == 1 ? "" : "s");
        fmt::print("  {:<22} {:>9} {:>10} {:>10} {:>7}\n", "", "calls", "total", "self", "self %");
        double all = 0.0;
        for (const BenchStage& stage : run.stages) all += stage.selfSeconds;
        for (const BenchStage& stage : run.stages) {
            fmt::print("  {:<22} {:>9.0f} {:>10.4f} {:>10.4f} {:>7.1f}\n", stage.name, stage.calls, stage.totalSeconds,
                       stage.selfSeconds, all > 0.0 ? 100.0 * stage.selfSeconds / all : 0.0);
        }
        printFloors(report, run);
    }
}

/// Simulates the frame to measure and writes it, so that reading is part of what is measured.
void simulateInput(const BenchArguments& arguments, BenchOptions& bench, const ScratchFolder& folder) {
    simulate::InstrumentOptions instrument;
    instrument.camera = simulate::parseCamera(arguments.camera, "camera");
    instrument.nspec = arguments.fibers;
    // Bundles as they are extracted, so that no light is shared between them.
    instrument.bundlesize = arguments.options.bundlesize;
    const Psf psf = simulate::makePsf(simulate::completed(instrument));
    simulate::FrameOptions frame;
    frame.camera = instrument.camera;
    frame.grid = arguments.options.wavelength ? *arguments.options.wavelength
                                              : simulate::defaultWavelengthRange(psf, instrument.camera.arm);
    const simulate::SimulatedFrame simulated = simulate::simulateFrame(psf, frame);
    bench.imagePath = folder.file("preproc.fits");
    bench.psfPath = folder.file("psf.fits");
    bench.extraction.wavelength = frame.grid;
    writePsf(bench.psfPath, psf);
    writeCcdImage(bench.imagePath, simulated.image);
}

void runBenchCommand(BenchArguments& arguments) {
    validate(arguments.options);
    if (arguments.input.empty() != arguments.psf.empty()) {
        throw UsageError("--input and --psf go together; without both a frame is simulated (--camera, --fibers)");
    }
    const std::unique_ptr<Backend> backend = makeBackend(arguments.backend);
    if (!arguments.output.empty()) requireWritable(arguments.output);

    const ScratchFolder folder;
    Interrupt interrupt;
    BenchOptions bench;
    bench.imagePath = arguments.input;
    bench.psfPath = arguments.psf;
    bench.extraction = arguments.options;
    if (arguments.input.empty()) simulateInput(arguments, bench, folder);
    arguments.options = bench.extraction;
    bench.outputPath = folder.file("frame.fits");
    bench.model = arguments.model;
    bench.threads = arguments.threads;
    bench.warmup = arguments.warmup;
    bench.repeats = arguments.repeats;
    bench.stop = interrupt.token();
    bench.poll = [&] { interrupt.poll(); };
    bench.progress = [](int threads, int repeat, double seconds) {
        spdlog::info("{} thread{}, {}: {:.3f} s", threads, threads == 1 ? "" : "s",
                     repeat < 0 ? std::string("warm-up") : fmt::format("repeat {}", repeat + 1), seconds);
    };
    const BenchReport report = runBench(*backend, bench);
    const std::string text = toJson(report, arguments).dump(2, ' ', false, json::error_handler_t::replace) + "\n";
    if (arguments.json) {
        fmt::print("{}", text);
    } else {
        printReport(report, arguments);
    }
    if (!arguments.output.empty()) {
        writeFileAtomically(arguments.output, text);
        spdlog::info("wrote {}", arguments.output);
    }
}

} // namespace

void addBench(CLI::App& app) {
    CLI::App* command = app.add_subcommand(
        "bench", "measures extractions from file to file: where the time goes, with how many threads");
    auto arguments = std::make_shared<BenchArguments>();
    command->add_option("-i,--input", arguments->input, "CCD image (default: a frame is simulated)")->type_name("FILE");
    command->add_option("-p,--psf", arguments->psf, "its PSF")->type_name("FILE");
    command->add_option("-o,--output", arguments->output, "JSON file to write")->type_name("FILE.json");
    command->add_option("--camera", arguments->camera, "camera of the simulated frame (default r0)")
        ->group("Simulated frame");
    command->add_option("--fibers", arguments->fibers, "fibers of the simulated frame (default 50)")
        ->check(CLI::Range(1, 5000))
        ->type_name("INT")
        ->group("Simulated frame");
    const char* const group = "Measuring";
    addBackendOptions(*command, arguments->backend, group);
    command
        ->add_option("--threads", arguments->threads,
                     "one or more numbers of threads, such as 1,2,4; 0: all cores (default 0)")
        ->delimiter(',')
        ->check(CLI::Range(0, 4096))
        ->type_name("[threads]")
        ->group(group);
    command->add_option("--warmup", arguments->warmup, "runs before those that count (default 1)")
        ->check(CLI::Range(0, 1000))
        ->type_name("INT")
        ->group(group);
    command->add_option("--repeats", arguments->repeats, "runs that count (default 3)")
        ->check(CLI::Range(1, 1000))
        ->type_name("INT")
        ->group(group);
    command->add_flag("--model", arguments->model, "paint the model image, too")->group(group);
    command->add_flag("--json", arguments->json, "print JSON instead of tables")->group(group);
    addExtractionOptions(*command, arguments->options);
    command->callback([arguments] { runBenchCommand(*arguments); });
}

} // namespace patchlight::commands
