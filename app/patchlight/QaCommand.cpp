#include "app/patchlight/Commands.h"
#include "core/analysis/FrameQuality.h"
#include "core/analysis/QualityReport.h"
#include "core/base/Error.h"
#include "core/frame/ExtractedFrame.h"
#include "core/image/CcdImage.h"
#include "core/io/AtomicFile.h"
#include "core/psf/Psf.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

namespace patchlight::commands {

namespace {

struct QaArguments {
    std::string frame;
    std::optional<std::string> image;
    std::optional<std::string> psf;
    std::optional<std::string> output;
    std::optional<std::string> findings;
    std::optional<std::string> bins;
    bool allBins = false;
    std::optional<double> psferr;
    std::optional<double> maxAlarms;
    QualityLimits limits;
    int worst = 3;
    int threads = 0;
};

void print(const FrameQuality& quality, int worst) {
    for (const std::string& note : quality.notes) fmt::print("note: {}\n", note);
    const auto bins = static_cast<double>(quality.kind.size());
    fmt::print("{} of {} bins with an alarm ({:.3g} %)\n", quality.alarms(), quality.kind.size(),
               100.0 * static_cast<double>(quality.alarms()) / bins);
    BadBinKind kind = BadBinKind::None;
    int shown = 0;
    for (const Finding& finding : quality.findings) {
        if (finding.kind != kind) {
            kind = finding.kind;
            shown = 0;
            fmt::print("\n{}: {} bins\n", badBinKindName(kind), quality.counts[static_cast<std::size_t>(kind)]);
        }
        if (shown++ >= worst) continue;
        fmt::print("  {}\n", finding.sentence);
    }
    if (!quality.pixels) return;
    fmt::print("\n{:<12} {:>9} {:>7} {:>7} {:>9} {:>12}\n", "amplifier", "pixels", "mean", "sigma", "expected",
               "above 5 sig");
    for (const AmplifierQuality& amplifier : quality.amplifiers)
        fmt::print("{:<12} {:>9} {:>7.3f} {:>7.3f} {:>9.3f} {:>12}\n", amplifier.name, amplifier.pulls.count,
                   amplifier.pulls.mean, amplifier.pulls.sigma, amplifier.pulls.expectedSigma,
                   amplifier.pulls.outliers);
}

void run(const QaArguments& a) {
    if (a.image.has_value() != a.psf.has_value())
        throw UsageError(fmt::format("--{} is missing: the CCD image and the PSF are of use together only",
                                     a.image ? "psf" : "image"));
    for (const auto& path : {a.output, a.findings, a.bins})
        if (path) requireWritable(*path);
    if (a.output && !a.output->ends_with(".json") && !a.output->ends_with(".csv"))
        throw UsageError(fmt::format("--output {}: a name that ends with .json or .csv would be right", *a.output));
    const ExtractedFrame frame = readFrame(a.frame);
    std::optional<CcdImage> image;
    std::optional<Psf> psf;
    if (a.image) {
        image = readCcdImage(*a.image, {false, a.threads});
        psf = readPsf(*a.psf);
    }
    QualityInput input;
    input.frame = &frame;
    input.image = image ? &*image : nullptr;
    input.psf = psf ? &*psf : nullptr;
    input.limits = a.limits;
    input.psferr = a.psferr;
    input.threads = a.threads;
    const auto start = std::chrono::steady_clock::now();
    const FrameQuality quality = measureFrameQuality(input);
    spdlog::info("{} spectra x {} wavelengths measured in {:.2f} s", quality.nspec(), quality.nwave(),
                 std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    print(quality, a.worst);
    if (a.output) {
        const QualitySources sources{a.frame, a.image.value_or(""), a.psf.value_or("")};
        writeFileAtomically(*a.output,
                            a.output->ends_with(".csv") ? qualityFibersCsv(quality) : qualityJson(quality, sources));
        spdlog::info("wrote {}", *a.output);
    }
    if (a.findings) {
        writeFileAtomically(*a.findings, qualityFindingsCsv(quality));
        spdlog::info("wrote {}", *a.findings);
    }
    if (a.bins) {
        writeFileAtomically(*a.bins, qualityBinsCsv(quality, frame, a.allBins));
        spdlog::info("wrote {}", *a.bins);
    }
    const double share = 100.0 * static_cast<double>(quality.alarms()) / static_cast<double>(quality.kind.size());
    if (a.maxAlarms && share > *a.maxAlarms)
        throw Error(fmt::format("{}: {:.3g} % of its bins have an alarm, at most {:.3g} % allowed (--max-alarms)",
                                a.frame, share, *a.maxAlarms));
}

} // namespace

void addQa(CLI::App& app) {
    auto a = std::make_shared<QaArguments>();
    CLI::App* sub =
        app.add_subcommand("qa", "says where an extracted frame is bad, and why: masks, cosmic rays, bad columns, "
                                 "traces, the PSF, neighbours; of a frame made by anyone");
    sub->add_option("frame", a->frame, "extracted frame")->required()->type_name("FRAME");
    sub->add_option("-i,--image", a->image, "CCD image that it was extracted from");
    sub->add_option("-p,--psf", a->psf, "PSF that it was extracted with");
    sub->add_option("-o,--output", a->output, "report to write: .json with everything, .csv with a line a fiber");
    sub->add_option("--findings", a->findings, "findings to write as .csv");
    CLI::Option* const bins =
        sub->add_option("--bins", a->bins, "bins with an alarm to write as .csv, by cause, the worst first");
    sub->add_flag("--all-bins", a->allBins, "--bins writes all bins, in the frame's order")->needs(bins);
    sub->add_option("--psferr", a->psferr, "fractional error of the PSF model (default: PSFERR of the frame)")
        ->check(CLI::NonNegativeNumber);
    sub->add_option("--bad2dfit-factor", a->limits.bad2dFactor,
                    "chi2pix above this many times its medians over fibers and over wavelengths is an alarm")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    sub->add_option("--max-alarms", a->maxAlarms, "exit code 1 where more than this share of the bins has an alarm")
        ->check(CLI::Range(0.0, 100.0))
        ->type_name("[%]");
    sub->add_option("--worst", a->worst, "findings of each kind to print")
        ->check(CLI::Range(0, 1000))
        ->capture_default_str();
    sub->add_option("--threads", a->threads, "threads, 0: all cores; the report does not depend on it")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    sub->callback([a] { run(*a); });
}

} // namespace patchlight::commands
