#include "app/patchlight/Commands.h"
#include "core/analysis/CompareFrames.h"
#include "core/analysis/FileKind.h"
#include "core/base/Error.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <cmath>
#include <cstdio>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace patchlight::commands {

namespace {

using nlohmann::json;

struct CompareArguments {
    std::string a;
    std::string b;
    std::optional<double> flux, ivar, resolution, chi2pix;
    std::optional<std::int64_t> mask;
    std::optional<double> pullMean, pullSigma;
    std::optional<std::int64_t> outliers;
    std::optional<int> truthSpecmin;
    std::string resampling = "bins";
    bool byRow = false;
    int worst = 5;
    bool json = false;
};

/// JSON has no infinity and no NaN: those are words.
json number(double value) {
    if (std::isfinite(value)) return value;
    return std::isnan(value) ? "nan" : (value > 0 ? "inf" : "-inf");
}

json toJson(const BinPosition& where) {
    return {{"spectrum", where.spectrum},
            {"fiber", where.fiber},
            {"row", where.row},
            {"bin", where.bin},
            {"wavelength", where.wavelength}};
}

json toJson(const PullStatistics& pulls) {
    return {{"count", pulls.count},       {"mean", pulls.mean},
            {"sigma", pulls.sigma},       {"robust_sigma", pulls.robustSigma},
            {"smallest", pulls.smallest}, {"largest", pulls.largest},
            {"outliers", pulls.outliers}};
}

json toJson(const std::vector<OutlierBin>& worst, const char* other) {
    json list = json::array();
    for (const OutlierBin& bin : worst) {
        json entry = toJson(bin.where);
        entry["flux"] = number(bin.valueA);
        entry[other] = number(bin.valueB);
        entry["sigmas"] = number(bin.sigmas);
        list.push_back(std::move(entry));
    }
    return list;
}

std::string describe(const BinPosition& where) {
    return fmt::format("fiber {} (row {}), {:.2f} Angstrom", where.fiber, where.row, where.wavelength);
}

void printNotes(const std::vector<std::string>& notes) {
    for (const std::string& note : notes) fmt::print("note: {}\n", note);
}

/// Collects what is out of tolerance, for the exit code and the error line.
class Verdict {
public:
    template <class T> void check(const char* what, T value, const std::optional<T>& limit, const char* option) {
        if (!limit) return;
        asked_ = true;
        if (value <= *limit) return; // also false for NaN
        findings_.push_back(
            fmt::format("{} {:.6g} ({} {:g})", what, static_cast<double>(value), option, static_cast<double>(*limit)));
    }
    void demand(bool good, std::string finding) {
        if (asked_ && !good) findings_.push_back(std::move(finding));
    }
    [[nodiscard]] bool asked() const { return asked_; }
    [[nodiscard]] const std::vector<std::string>& findings() const { return findings_; }

private:
    bool asked_ = false;
    std::vector<std::string> findings_;
};

void finish(const Verdict& verdict, const CompareArguments& arguments, json* report) {
    if (report != nullptr) {
        (*report)["within_tolerance"] = verdict.asked() ? json(verdict.findings().empty()) : json(nullptr);
        (*report)["out_of_tolerance"] = verdict.findings();
        fmt::print("{}\n", report->dump(2));
    } else if (verdict.asked() && verdict.findings().empty()) {
        fmt::print("within tolerance\n");
    }
    if (!verdict.findings().empty()) {
        throw Error(fmt::format("{} and {} differ by more than allowed: {}", arguments.a, arguments.b,
                                fmt::join(verdict.findings(), ", ")));
    }
}

void compareTwoFrames(const CompareArguments& arguments) {
    if (arguments.pullMean || arguments.pullSigma || arguments.outliers || arguments.truthSpecmin) {
        throw UsageError(fmt::format(
            "--pull-mean, --pull-sigma, --outliers and --truth-specmin are for a frame and the truth; {} and {} are "
            "two frames (--tolerance)",
            arguments.a, arguments.b));
    }
    const ExtractedFrame a = readFrame(arguments.a);
    const ExtractedFrame b = readFrame(arguments.b);
    const FrameComparison result =
        compareFrames(a, b, arguments.a, arguments.b, {arguments.byRow, static_cast<std::size_t>(arguments.worst)});

    Verdict verdict;
    const std::tuple<const char*, const std::optional<double>&, const char*> limits[] = {
        {"FLUX", arguments.flux, "--tolerance"},
        {"IVAR", arguments.ivar, "--ivar-tolerance"},
        {"RESOLUTION", arguments.resolution, "--resolution-tolerance"},
        {"CHI2PIX", arguments.chi2pix, "--chi2pix-tolerance"}};
    for (const auto& [quantity, limit, option] : limits) {
        const QuantityDifference* difference = result.find(quantity);
        if (difference == nullptr && limit)
            throw Error(fmt::format("{}: {} and {} cannot be compared: not both have {}", option, arguments.a,
                                    arguments.b, quantity));
        if (difference != nullptr) verdict.check(quantity, difference->largest, limit, option);
    }
    verdict.check("bins with different MASK:", static_cast<std::int64_t>(result.maskUnequal), arguments.mask,
                  "--mask-tolerance");
    verdict.demand(result.dataOnlyA == 0 && result.dataOnlyB == 0,
                   fmt::format("bins with data in one frame only: {} in the first, {} in the second", result.dataOnlyA,
                               result.dataOnlyB));
    verdict.demand(result.dataBoth > 0, "no bin has data in both");

    if (arguments.json) {
        json report = {
            {"kind", "frames"},
            {"a", arguments.a},
            {"b", arguments.b},
            {"nspec", result.nspec},
            {"specmin", result.specmin},
            {"nwave", result.nwave},
            {"wavemin", result.wavemin},
            {"wavemax", result.wavemax},
            {"bins_with_data", {{"both", result.dataBoth}, {"only_a", result.dataOnlyA}, {"only_b", result.dataOnlyB}}},
            {"notes", result.notes},
            {"mask_unequal", result.maskUnequal},
            {"worst", toJson(result.worst, "other_flux")}};
        report["differences"] = json::object();
        for (const QuantityDifference& difference : result.differences) {
            json entry = {{"measure", difference.measure},        {"compared", difference.compared},
                          {"unequal", difference.unequal},        {"largest", number(difference.largest)},
                          {"median", number(difference.median)},  {"value_a", number(difference.valueA)},
                          {"value_b", number(difference.valueB)}, {"where", toJson(difference.where)}};
            if (difference.quantity == "RESOLUTION") entry["diagonal"] = difference.diagonal;
            report["differences"][difference.quantity] = std::move(entry);
        }
        report["mask_bits"] = json::array();
        for (const MaskBitDifference& bit : result.maskBits) {
            report["mask_bits"].push_back({{"bit", bit.bit},
                                           {"name", bit.name},
                                           {"both", bit.both},
                                           {"only_a", bit.onlyA},
                                           {"only_b", bit.onlyB}});
        }
        finish(verdict, arguments, &report);
        return;
    }

    fmt::print("A  {}\nB  {}\n", arguments.a, arguments.b);
    fmt::print("{} spectra from {} on, {} wavelengths {:.2f}-{:.2f} Angstrom\n", result.nspec, result.specmin,
               result.nwave, result.wavemin, result.wavemax);
    fmt::print("bins with data: {} in both, {} in A only, {} in B only\n", result.dataBoth, result.dataOnlyA,
               result.dataOnlyB);
    printNotes(result.notes);
    fmt::print("\n{:<11} {:>10} {:>10}  {:<30} where the largest is\n", "", "largest", "median", "measured as");
    for (const QuantityDifference& difference : result.differences) {
        std::string where;
        if (difference.largest > 0.0) {
            where = difference.quantity == "WAVELENGTH" ? fmt::format("{:.2f} Angstrom", difference.where.wavelength)
                                                        : describe(difference.where);
            if (difference.quantity == "RESOLUTION") where += fmt::format(", diagonal {:+d}", difference.diagonal);
            where += fmt::format(": {:.6g}, {:.6g}", difference.valueA, difference.valueB);
        }
        fmt::print("{:<11} {:>10.3g} {:>10.3g}  {:<30} {}\n", difference.quantity, difference.largest,
                   difference.median, difference.measure, where);
    }
    if (!result.maskBits.empty()) {
        fmt::print("\n{:<22} {:>9} {:>9} {:>9}  first difference\n", "MASK, bins with", "both", "A only", "B only");
        for (const MaskBitDifference& bit : result.maskBits) {
            fmt::print("  {:>2} {:<17} {:>9} {:>9} {:>9}  {}\n", bit.bit, bit.name, bit.both, bit.onlyA, bit.onlyB,
                       bit.onlyA + bit.onlyB > 0 ? describe(bit.where) : "");
        }
    }
    if (!result.worst.empty()) {
        fmt::print("\nlargest differences of FLUX\n");
        for (const OutlierBin& bin : result.worst) {
            fmt::print("  {:+10.3g} sigma  {}: {:.6g}, {:.6g}\n", bin.sigmas, describe(bin.where), bin.valueA,
                       bin.valueB);
        }
    }
    finish(verdict, arguments, nullptr);
}

void compareFrameAndTruth(const CompareArguments& arguments, const std::string& framePath,
                          const std::string& truthPath) {
    if (arguments.flux || arguments.ivar || arguments.resolution || arguments.chi2pix || arguments.mask ||
        arguments.byRow) {
        throw UsageError(fmt::format(
            "--tolerance, --ivar-tolerance, --resolution-tolerance, --chi2pix-tolerance, --mask-tolerance and --by-row "
            "are for two frames; {} holds the truth (--pull-mean, --pull-sigma, --outliers)",
            truthPath));
    }
    const ExtractedFrame frame = readFrame(framePath);
    const TruthSpectra truth = readTruth(truthPath);
    TruthCompareOptions options;
    options.truthSpecmin = arguments.truthSpecmin;
    options.worst = static_cast<std::size_t>(arguments.worst);
    const bool interpolated = arguments.resampling == "interpolation";
    options.resampling = interpolated ? TruthResampling::Interpolation : TruthResampling::Bins;
    const TruthComparison result = compareWithTruth(frame, truth, framePath, options);

    Verdict verdict;
    verdict.check("|mean of pulls|", std::abs(result.all.mean), arguments.pullMean, "--pull-mean");
    verdict.check("|sigma of pulls - 1|", std::abs(result.all.sigma - 1.0), arguments.pullSigma, "--pull-sigma");
    verdict.check("pulls above 5 sigma:", static_cast<std::int64_t>(result.all.outliers), arguments.outliers,
                  "--outliers");

    if (arguments.json) {
        json report = {
            {"kind", "truth"},
            {"frame", framePath},
            {"truth", truthPath},
            {"nspec", result.nspec},
            {"specmin", result.specmin},
            {"notes", result.notes},
            {"resolution_row_sum", result.bandRowSum},
            {"mean_shift_by_band", result.bandShift},
            {"truth_on_grid", result.truthOnGrid},
            {"truth_resampling", arguments.resampling},
            {"pulls", toJson(result.all)},
            {"bins_left_out", {{"no_data", result.noData}, {"masked", result.masked}, {"at_edges", result.atEdges}}},
            {"worst", toJson(result.worst, "model")}};
        report["by_signal"] = json::array();
        for (const auto& level : result.bySignal) {
            json entry = toJson(level.pulls);
            entry["snr_from"] = level.from;
            entry["snr_to"] = std::isfinite(level.to) ? json(level.to) : json(nullptr);
            report["by_signal"].push_back(std::move(entry));
        }
        report["worst_mean"] = {{"fiber", result.worstMean.fiber},
                                {"spectrum", result.worstMean.spectrum},
                                {"mean", result.worstMean.value}};
        report["worst_sigma"] = {{"fiber", result.worstSigma.fiber},
                                 {"spectrum", result.worstSigma.spectrum},
                                 {"sigma", result.worstSigma.value}};
        finish(verdict, arguments, &report);
        return;
    }

    fmt::print("frame  {}\ntruth  {}\n", framePath, truthPath);
    printNotes(result.notes);
    if (!result.truthOnGrid) {
        fmt::print("note: the truth lies between the frame's wavelengths, too: {}\n",
                   interpolated
                       ? "it is interpolated to them (--truth-resampling)"
                       : "it is counted in bins, which moves narrow lines to the middle of a bin (--truth-resampling)");
    }
    fmt::print("pulls (flux - R truth) / sigma of {} spectra from {} on\n\n", result.nspec, result.specmin);
    fmt::print("{:<19} {:>9} {:>9} {:>8} {:>8} {:>9} {:>9} {:>9}\n", "bins", "number", "mean", "sigma", "robust",
               "smallest", "largest", "> 5 sigma");
    const auto line = [](const std::string& name, const PullStatistics& pulls) {
        fmt::print("{:<19} {:>9} {:>+9.4f} {:>8.4f} {:>8.4f} {:>+9.2f} {:>+9.2f} {:>9}\n", name, pulls.count,
                   pulls.mean, pulls.sigma, pulls.robustSigma, pulls.smallest, pulls.largest, pulls.outliers);
    };
    line("all", result.all);
    for (const auto& level : result.bySignal) {
        line(std::isfinite(level.to) ? fmt::format("S/N {:g} to {:g}", level.from, level.to)
                                     : fmt::format("S/N above {:g}", level.from),
             level.pulls);
    }
    fmt::print("\nleft out: {} bins without data, {} masked, {} at the ends of frame or truth\n", result.noData,
               result.masked, result.atEdges);
    fmt::print("standard error of the mean {:.4f}, of sigma {:.4f}\n",
               1.0 / std::sqrt(static_cast<double>(result.all.count)),
               1.0 / std::sqrt(2.0 * static_cast<double>(result.all.count)));
    fmt::print("rows of the stored resolution sum to {:.5f} (the whole matrix: 1): {:+.4f} of the mean\n",
               result.bandRowSum, result.bandShift);
    fmt::print("spectra furthest off: mean {:+.3f} (fiber {}), sigma {:.3f} (fiber {})\n", result.worstMean.value,
               result.worstMean.fiber, result.worstSigma.value, result.worstSigma.fiber);
    if (!result.worst.empty()) {
        fmt::print("\nlargest pulls\n");
        for (const OutlierBin& bin : result.worst) {
            fmt::print("  {:+8.2f}  {}: flux {:.6g}, R truth {:.6g}\n", bin.sigmas, describe(bin.where), bin.valueA,
                       bin.valueB);
        }
    }
    finish(verdict, arguments, nullptr);
}

void runCompare(const CompareArguments& arguments) {
    const FileKind a = fileKind(arguments.a);
    const FileKind b = fileKind(arguments.b);
    if (a == FileKind::Frame && b == FileKind::Frame) {
        compareTwoFrames(arguments);
    } else if (a == FileKind::Frame && b == FileKind::Truth) {
        compareFrameAndTruth(arguments, arguments.a, arguments.b);
    } else if (a == FileKind::Truth && b == FileKind::Frame) {
        compareFrameAndTruth(arguments, arguments.b, arguments.a);
    } else {
        const bool first = a != FileKind::Frame && a != FileKind::Truth;
        const bool twoTruths = a == FileKind::Truth && b == FileKind::Truth;
        throw Error(twoTruths ? fmt::format("{} and {} both hold true spectra; one of them must be an extracted frame",
                                            arguments.a, arguments.b)
                              : fmt::format("{}: this is a {}; an extracted frame (FLUX, IVAR, WAVELENGTH) or true "
                                            "spectra (FLUX, WAVELENGTH) "
                                            "can be compared",
                                            first ? arguments.a : arguments.b, fileKindName(first ? a : b)));
    }
}

} // namespace

void addCompare(CLI::App& app) {
    CLI::App* command = app.add_subcommand(
        "compare",
        "compares two frames in units of sigma, or a frame with the truth; exit code 1 where a tolerance is exceeded");
    auto arguments = std::make_shared<CompareArguments>();
    command->add_option("a", arguments->a, "extracted frame")->required()->type_name("A");
    command->add_option("b", arguments->b, "extracted frame, or the true spectra of a simulation")
        ->required()
        ->type_name("B");
    const auto limit = [&](const char* name, std::optional<double>& value, const char* unit, const char* help,
                           const char* group) {
        command->add_option(name, value, help)->check(CLI::NonNegativeNumber)->type_name(unit)->group(group);
    };
    const auto number = [&](const char* name, std::optional<std::int64_t>& value, const char* help, const char* group) {
        command->add_option(name, value, help)->check(CLI::NonNegativeNumber)->type_name("[bins]")->group(group);
    };
    const char* const frames = "Two frames (default: report only)";
    limit("--tolerance", arguments->flux, "[sigma]", "largest difference of FLUX", frames);
    limit("--ivar-tolerance", arguments->ivar, "REAL", "largest relative difference of IVAR", frames);
    limit("--resolution-tolerance", arguments->resolution, "REAL", "largest difference of an element of RESOLUTION",
          frames);
    limit("--chi2pix-tolerance", arguments->chi2pix, "REAL", "largest relative difference of CHI2PIX", frames);
    number("--mask-tolerance", arguments->mask, "how many bins may differ in MASK", frames);
    command->add_flag("--by-row", arguments->byRow, "compare row by row, whatever spectra the files say they hold")
        ->group(frames);
    const char* const truth = "A frame and the truth (default: report only)";
    limit("--pull-mean", arguments->pullMean, "[sigma]", "largest |mean| of the pulls", truth);
    limit("--pull-sigma", arguments->pullSigma, "REAL", "largest |sigma - 1| of the pulls", truth);
    number("--outliers", arguments->outliers, "how many pulls may be above 5 sigma", truth);
    command
        ->add_option(
            "--truth-specmin", arguments->truthSpecmin,
            "spectrum (row of the PSF) that the truth begins with (default: its keyword SPECMIN or its fibers)")
        ->type_name("INT")
        ->group(truth);
    command
        ->add_option("--truth-resampling", arguments->resampling,
                     "how the truth comes onto the frame's grid: counted in bins, or interpolated, which keeps narrow "
                     "lines where they are (default bins)")
        ->check(CLI::IsMember({"bins", "interpolation"}))
        ->group(truth);
    command->add_option("--worst", arguments->worst, "how many of the worst bins to list (default 5)")
        ->check(CLI::Range(0, 1000))
        ->type_name("[bins]");
    command->add_flag("--json", arguments->json, "print JSON");
    command->callback([arguments] { runCompare(*arguments); });
}

} // namespace patchlight::commands
