#pragma once

#include "core/base/Timeline.h"
#include "core/engine/Backend.h"
#include "core/engine/Options.h"

#include <cstdint>
#include <functional>
#include <stop_token>
#include <string>
#include <vector>

namespace patchlight {

/// The machine a measurement was made on.
struct MachineInfo {
    std::string cpu;            ///< model name
    int cores = 0;              ///< logical ones that this process may use
    std::string instructionSet; ///< widest vector instructions that the CPU has
    double memory = 0;          ///< GiB
    std::string system;         ///< operating system and version
};

/// Looks at /proc and uname; what is not known stays empty.
[[nodiscard]] MachineInfo describeMachine();

/// Smallest, median and largest of repeated measurements.
struct Spread {
    std::vector<double> values; ///< in order of measurement
    [[nodiscard]] double smallest() const;
    [[nodiscard]] double median() const;
    [[nodiscard]] double largest() const;
};

/// Time in the named ranges of one name: medians over the repeats.
struct BenchStage {
    std::string name;
    double calls = 0;
    double totalSeconds = 0; ///< summed over threads
    double selfSeconds = 0;  ///< without the ranges inside
};

/// All repeats with one number of threads.
struct BenchRun {
    int threads = 0;
    Spread extractWall; ///< s, extraction alone: from pixels in memory to a frame in memory
    Spread extractCpu;  ///< s, user and system, all threads
    Spread totalWall;   ///< s, with reading image and PSF, scores and writing the frame
    Spread totalCpu;
    std::uint64_t peakMemory = 0; ///< bytes, resident, the largest of the repeats
    std::vector<BenchStage> stages;

    /// Frames that this machine extracts in an hour, one after the other: 3600 s / median wall time.
    [[nodiscard]] double extractFramesPerHour() const;
    [[nodiscard]] double totalFramesPerHour() const;
};

struct BenchOptions {
    std::string imagePath;
    std::string psfPath;
    std::string outputPath; ///< where the frame is written; replaced by each repeat
    ExtractionOptions extraction;
    bool model = false;             ///< paint the model image, too (a stage of its own; part of the total)
    std::vector<int> threads = {0}; ///< 0: all cores
    int warmup = 1;
    int repeats = 3;
    int onePatch = 60; ///< single patches to measure, spread over the frame
    std::stop_token stop;
    std::function<void()> poll;                                            ///< called between batches
    std::function<void(int threads, int repeat, double seconds)> progress; ///< after each repeat; repeat < 0: warm-up
};

struct BenchReport {
    MachineInfo machine;
    std::string backend; ///< its description
    int nspec = 0;
    int nwave = 0;
    int patches = 0;
    int nx = 0; ///< of the CCD image
    int ny = 0;
    double bundles = 0;             ///< nspec / bundlesize
    Spread onePatch;                ///< s, wall: single patches with all their matrices, as a person waits for them
    std::vector<StageFloor> floors; ///< of the stages of a frame, where the backend knows
    std::vector<BenchRun> runs;
};

/// Measures whole extractions from file to file: for each number of threads some warm-up runs and then the repeats.
/// @throws Error, UsageError as the extraction does; Cancelled
[[nodiscard]] BenchReport runBench(Backend& backend, const BenchOptions& options);

/// User and system time of this process so far, all threads, s.
[[nodiscard]] double cpuSeconds();

/// Forgets the peak of resident memory; false where the system has no way to.
bool resetPeakMemory();

/// Peak of resident memory since the last reset (or the start), bytes.
[[nodiscard]] std::uint64_t peakMemory();

} // namespace patchlight
