#include "core/analysis/Bench.h"

#include "core/analysis/Barycentric.h"
#include "core/analysis/Scores.h"
#include "core/analysis/Statistics.h"
#include "core/base/Error.h"
#include "core/engine/Engine.h"
#include "core/image/CcdImage.h"
#include "core/psf/Psf.h"

#include <fmt/format.h>

#include <sched.h>
#include <sys/resource.h>
#include <sys/utsname.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <fstream>
#include <map>
#include <sstream>
#include <string_view>
#include <thread>
#include <utility>

namespace patchlight {

namespace {

/// Value of "key : value" lines as /proc has them; empty where there is none.
std::string procValue(const char* path, std::string_view key) {
    std::ifstream in(path);
    for (std::string line; std::getline(in, line);) {
        if (!line.starts_with(key)) continue;
        const std::size_t colon = line.find(':');
        if (colon == std::string::npos) continue;
        const std::size_t begin = line.find_first_not_of(" \t", colon + 1);
        return begin == std::string::npos ? std::string() : line.substr(begin);
    }
    return {};
}

/// "123 kB" as bytes.
std::uint64_t procBytes(const char* path, std::string_view key) {
    std::istringstream in(procValue(path, key));
    std::uint64_t kilobytes = 0;
    in >> kilobytes;
    return 1024 * kilobytes;
}

std::string vectorInstructions() {
    const std::string flags = " " + procValue("/proc/cpuinfo", "flags") + procValue("/proc/cpuinfo", "Features") + " ";
    constexpr std::pair<const char*, const char*> known[] = {
        {" avx512f ", "AVX-512"}, {" avx2 ", "AVX2"}, {" avx ", "AVX"},   {" sse4_2 ", "SSE4.2"},
        {" sse2 ", "SSE2"},       {" sve ", "SVE"},   {" asimd ", "NEON"}};
    for (const auto& [flag, name] : known) {
        if (flags.find(flag) != std::string::npos) return name;
    }
    return {};
}

double secondsSince(std::chrono::steady_clock::time_point start) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// One repeat, from file to file.
struct Sample {
    double extractWall = 0;
    double extractCpu = 0;
    double totalWall = 0;
    double totalCpu = 0;
    std::uint64_t peakMemory = 0;
    std::vector<RangeSummary> stages;
};

Sample runOnce(Backend& backend, const BenchOptions& options, int threads, BenchReport& report) {
    Sample sample;
    Timeline timeline;
    resetPeakMemory();
    const auto start = std::chrono::steady_clock::now();
    const double cpuStart = cpuSeconds();
    {
        const NamedRange all(&timeline, "frame");
        Psf psf;
        CcdImage image;
        {
            const NamedRange range(&timeline, "read PSF");
            psf = readPsf(options.psfPath);
        }
        {
            const NamedRange range(&timeline, "read image");
            image = readCcdImage(options.imagePath, {.threads = threads});
        }
        const double factor = options.extraction.barycentricCorrection
                                  ? barycentricFactor(image.header, image.fibermap ? &image.fibermap->header : nullptr,
                                                      kittPeak, image.path)
                                  : 1.0;
        const Plan plan = makePlan(psf, options.extraction, factor);
        report.nspec = plan.nspec;
        report.nwave = plan.grid.nwave;
        report.patches = plan.patchCount();
        report.bundles = static_cast<double>(plan.nspec) / plan.options.bundlesize;

        const FitsHeader header = image.header;
        const std::optional<FitsTable> fibermap = image.fibermap;
        const int nx = image.nx;
        const int ny = image.ny;
        report.nx = nx;
        report.ny = ny;
        WeightedPixels pixels;
        {
            const NamedRange range(&timeline, "weights");
            pixels = weightedPixels(std::move(image), threads);
        }
        RunControl control;
        control.threads = threads;
        control.timeline = &timeline;
        control.stop = options.stop;
        if (options.poll) control.progress = [&](const Progress&) { options.poll(); };
        const auto extractStart = std::chrono::steady_clock::now();
        const double extractCpuStart = cpuSeconds();
        ExtractionResult result = extractFrame(backend, pixels.view(), psf, plan, control);
        sample.extractWall = secondsSince(extractStart);
        sample.extractCpu = cpuSeconds() - extractCpuStart;
        if (options.model) {
            control.progress = nullptr;
            control.painter = &backend;
            (void)paintModel(result.modelFlux, psf, plan, nx, ny, control);
        }
        if (options.extraction.scores) {
            const NamedRange range(&timeline, "scores");
            std::string warning;
            result.frame.scores = computeScores(result.frame, warning, threads);
        }
        result.frame.header = header;
        if (fibermap && static_cast<std::size_t>(plan.specmin + plan.nspec) <= fibermap->rowCount) {
            result.frame.fibermap =
                fibermap->selectRows(static_cast<std::size_t>(plan.specmin), static_cast<std::size_t>(plan.nspec));
        }
        {
            const NamedRange range(&timeline, "write frame");
            writeFrame(options.outputPath, result.frame, threads);
        }
    }
    sample.totalWall = secondsSince(start);
    sample.totalCpu = cpuSeconds() - cpuStart;
    sample.peakMemory = peakMemory();
    sample.stages = summarize(timeline.records());
    return sample;
}

std::vector<BenchStage> medianStages(const std::vector<Sample>& samples) {
    std::vector<BenchStage> stages;
    std::map<std::string, std::size_t> indices;
    std::vector<std::array<std::vector<double>, 3>> values;
    for (const Sample& sample : samples) {
        for (const RangeSummary& stage : sample.stages) {
            const auto [entry, isNew] = indices.emplace(stage.name, stages.size());
            if (isNew) {
                stages.push_back({stage.name, 0, 0, 0});
                values.emplace_back();
            }
            auto& own = values[entry->second];
            own[0].push_back(static_cast<double>(stage.calls));
            own[1].push_back(stage.totalSeconds);
            own[2].push_back(stage.selfSeconds);
        }
    }
    for (std::size_t i = 0; i < stages.size(); ++i) {
        stages[i].calls = median(values[i][0]);
        stages[i].totalSeconds = median(values[i][1]);
        stages[i].selfSeconds = median(values[i][2]);
    }
    return stages;
}

/// From the call to the result, image and PSF in memory; one patch more to warm up.
Spread measurePatches(Backend& backend, const BenchOptions& options, const Psf& psf, const Plan& plan) {
    Spread seconds;
    const WeightedPixels pixels = weightedPixels(readCcdImage(options.imagePath));
    const int count = std::min(options.onePatch, plan.patchCount());
    for (int i = -1; i < count && !options.stop.stop_requested(); ++i) {
        const int which = static_cast<int>(static_cast<std::int64_t>(std::max(i, 0)) * plan.patchCount() / count);
        const Patch patch = plan.patch(which / plan.nsteps, which % plan.nsteps);
        const auto start = std::chrono::steady_clock::now();
        const PatchDetail detail = extractPatch(backend, pixels.view(), psf, plan, patch);
        const double taken = secondsSince(start);
        if (i >= 0) seconds.values.push_back(taken);
        if (options.poll) options.poll();
    }
    return seconds;
}

} // namespace

MachineInfo describeMachine() {
    MachineInfo machine;
    machine.cpu = procValue("/proc/cpuinfo", "model name");
    machine.cores = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) machine.cores = std::max(1, CPU_COUNT(&allowed));
    machine.instructionSet = vectorInstructions();
    machine.memory = static_cast<double>(procBytes("/proc/meminfo", "MemTotal")) / (1024.0 * 1024.0 * 1024.0);
    utsname names{};
    if (uname(&names) == 0) machine.system = fmt::format("{} {} {}", names.sysname, names.release, names.machine);
    return machine;
}

double Spread::smallest() const { return values.empty() ? 0.0 : *std::min_element(values.begin(), values.end()); }
double Spread::median() const { return values.empty() ? 0.0 : patchlight::median(values); }
double Spread::largest() const { return values.empty() ? 0.0 : *std::max_element(values.begin(), values.end()); }

double BenchRun::extractFramesPerHour() const {
    return extractWall.median() > 0.0 ? 3600.0 / extractWall.median() : 0.0;
}
double BenchRun::totalFramesPerHour() const { return totalWall.median() > 0.0 ? 3600.0 / totalWall.median() : 0.0; }

double cpuSeconds() {
    rusage usage{};
    if (getrusage(RUSAGE_SELF, &usage) != 0) return 0.0;
    const auto seconds = [](const timeval& time) {
        return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
    };
    return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

bool resetPeakMemory() {
    std::ofstream out("/proc/self/clear_refs");
    out << "5\n"; // proc(5): resets VmHWM to the present value
    out.flush();
    return out.good();
}

std::uint64_t peakMemory() {
    if (const std::uint64_t bytes = procBytes("/proc/self/status", "VmHWM"); bytes > 0) return bytes;
    rusage usage{};
    return getrusage(RUSAGE_SELF, &usage) == 0 ? 1024 * static_cast<std::uint64_t>(usage.ru_maxrss) : 0;
}

BenchReport runBench(Backend& backend, const BenchOptions& options) {
    BenchReport report;
    report.machine = describeMachine();
    report.backend = backend.description();
    for (const int asked : options.threads) {
        const int threads = asked > 0 ? asked : report.machine.cores;
        std::vector<Sample> samples;
        for (int repeat = -options.warmup; repeat < options.repeats; ++repeat) {
            Sample sample = runOnce(backend, options, threads, report);
            if (options.progress) options.progress(threads, repeat, sample.totalWall);
            if (repeat >= 0) samples.push_back(std::move(sample));
        }
        BenchRun run;
        run.threads = threads;
        for (const Sample& sample : samples) {
            run.extractWall.values.push_back(sample.extractWall);
            run.extractCpu.values.push_back(sample.extractCpu);
            run.totalWall.values.push_back(sample.totalWall);
            run.totalCpu.values.push_back(sample.totalCpu);
            run.peakMemory = std::max(run.peakMemory, sample.peakMemory);
        }
        run.stages = medianStages(samples);
        report.runs.push_back(std::move(run));
    }
    {
        const Psf psf = readPsf(options.psfPath);
        const Plan plan = makePlan(psf, options.extraction);
        report.onePatch = measurePatches(backend, options, psf, plan);
        FrameInput input;
        input.ccd.nx = report.nx;
        input.ccd.ny = report.ny;
        input.psf = psf.view();
        input.plan = &plan;
        report.floors = backend.floors(input);
    }
    return report;
}

} // namespace patchlight
