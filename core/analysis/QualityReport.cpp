#include "core/analysis/QualityReport.h"

#include "core/base/Version.h"
#include "core/frame/ExtractedFrame.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <optional>
#include <tuple>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace patchlight {

namespace {

using nlohmann::ordered_json;

ordered_json number(double value) {
    if (!std::isfinite(value)) return nullptr;
    return value;
}

ordered_json toJson(const Measured& measured) {
    if (!measured.known()) return nullptr;
    return {{"value", measured.value}, {"error", measured.error}};
}

ordered_json toJson(const PullFigures& pulls) {
    if (pulls.count == 0) return nullptr;
    return {{"pixels", pulls.count},
            {"mean", pulls.mean},
            {"sigma", pulls.sigma},
            {"expected_sigma", pulls.expectedSigma},
            {"above_5_sigma", pulls.outliers}};
}

ordered_json toJson(const FiberQuality& fiber) {
    ordered_json out = {{"spectrum", fiber.spectrum},
                        {"fiber", fiber.fiber},
                        {"targetid", fiber.targetId},
                        {"objtype", fiber.objectType},
                        {"median_flux", number(fiber.medianFlux)},
                        {"median_snr", number(fiber.medianSnr)},
                        {"median_chi2pix", number(fiber.medianChi2pix)},
                        {"masked_share", fiber.maskedShare},
                        {"alarms", fiber.alarms},
                        {"worst", badBinKindWord(fiber.worst)},
                        {"wavelength_shift", toJson(fiber.wavelengthShift)}};
    out["pulls"] = toJson(fiber.pulls);
    out["trace_offset"] = toJson(fiber.traceOffset);
    out["width_error"] = toJson(fiber.widthError);
    out["line_bias"] = number(fiber.lineBias);
    out["continuum_bias"] = number(fiber.continuumBias);
    return out;
}

std::string cell(double value) { return std::isfinite(value) ? fmt::format("{:.6g}", value) : std::string(); }
std::string cell(const Measured& measured) {
    return measured.known() ? fmt::format("{:.6g},{:.3g}", measured.value, measured.error) : std::string(",");
}
std::string quotedCell(const std::string& text) {
    std::string out = "\"";
    for (const char c : text) {
        if (c == '"') out += '"';
        out += c;
    }
    return out + '"';
}

} // namespace

std::string qualityJson(const FrameQuality& quality, const QualitySources& sources) {
    const auto name = [](const std::string& path) -> ordered_json {
        if (path.empty()) return nullptr;
        return path;
    };
    const QualityLimits& limits = quality.limits;
    ordered_json out = {{"software", fmt::format("patchlight {}", version())},
                        {"frame", sources.frame},
                        {"image", name(sources.image)},
                        {"psf", name(sources.psf)},
                        {"spectra", quality.nspec()},
                        {"wavelengths", quality.nwave()},
                        {"wavemin", quality.wavelength.front()},
                        {"wavemax", quality.wavelength.back()},
                        {"psferr", quality.psferr},
                        {"notes", quality.notes}};
    out["limits"] = {{"bad2dfit_factor", limits.bad2dFactor},    {"masked_fraction", limits.maskedFraction},
                     {"pixel_pull", limits.pixelPull},           {"trace_offset", limits.traceOffset},
                     {"width_error", limits.widthError},         {"significance", limits.significance},
                     {"column_pull", limits.columnPull},         {"neighbour_light", limits.neighbourLight},
                     {"neighbour_sigma", limits.neighbourSigma}, {"low_weight", limits.lowWeight}};
    out["bins"] = quality.kind.size();
    out["alarms"] = quality.alarms();
    ordered_json counts = ordered_json::object();
    for (int k = 1; k < badBinKindCount; ++k)
        counts[badBinKindWord(static_cast<BadBinKind>(k))] = quality.counts[static_cast<std::size_t>(k)];
    out["bins_by_kind"] = std::move(counts);

    ordered_json findings = ordered_json::array();
    for (const Finding& finding : quality.findings) {
        const auto row = static_cast<std::size_t>(finding.row);
        findings.push_back({{"kind", badBinKindWord(finding.kind)},
                            {"severity", number(finding.severity)},
                            {"bins", finding.bins},
                            {"row", finding.row},
                            {"spectrum", quality.specmin + finding.row},
                            {"fiber", quality.fibers[row].fiber},
                            {"bin", finding.bin},
                            {"wavelength", quality.wavelength[static_cast<std::size_t>(finding.bin)]},
                            {"sentence", finding.sentence}});
    }
    out["findings"] = std::move(findings);
    ordered_json fibers = ordered_json::array();
    for (const FiberQuality& fiber : quality.fibers) fibers.push_back(toJson(fiber));
    out["fibers"] = std::move(fibers);
    ordered_json amplifiers = ordered_json::array();
    for (const AmplifierQuality& amplifier : quality.amplifiers)
        amplifiers.push_back({{"name", amplifier.name},
                              {"columns", {amplifier.x0, amplifier.x1}},
                              {"rows", {amplifier.y0, amplifier.y1}},
                              {"pulls", toJson(amplifier.pulls)},
                              {"masked_share", amplifier.maskedShare},
                              {"light", number(amplifier.light)},
                              {"dead", amplifier.dead}});
    out["amplifiers"] = std::move(amplifiers);
    ordered_json columns = ordered_json::array();
    for (const BadCcdColumn& column : quality.badColumns)
        columns.push_back({{"column", column.x},
                           {"rows", {column.y0, column.y1}},
                           {"fibers", column.fibers},
                           {"median_pull", column.medianPull},
                           {"chi2", column.chi2}});
    out["bad_columns"] = std::move(columns);
    constexpr int indent = 1;
    return out.dump(indent) + "\n";
}

std::string qualityFibersCsv(const FrameQuality& quality) {
    std::string out =
        "spectrum,fiber,targetid,objtype,median_flux,median_snr,median_chi2pix,masked_share,alarms,worst,"
        "pull_mean,pull_sigma,pull_expected_sigma,pull_above_5_sigma,trace_offset,trace_offset_error,"
        "width_error,width_error_error,wavelength_shift,wavelength_shift_error,line_bias,continuum_bias\n";
    for (const FiberQuality& fiber : quality.fibers) {
        const bool pulls = fiber.pulls.count > 0;
        out += fmt::format(
            "{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{}\n", fiber.spectrum, fiber.fiber, fiber.targetId,
            quotedCell(fiber.objectType), cell(fiber.medianFlux), cell(fiber.medianSnr), cell(fiber.medianChi2pix),
            cell(fiber.maskedShare), fiber.alarms, badBinKindWord(fiber.worst), pulls ? cell(fiber.pulls.mean) : "",
            pulls ? cell(fiber.pulls.sigma) : "", pulls ? cell(fiber.pulls.expectedSigma) : "",
            pulls ? fmt::format("{}", fiber.pulls.outliers) : "", cell(fiber.traceOffset), cell(fiber.widthError),
            cell(fiber.wavelengthShift), cell(fiber.lineBias), cell(fiber.continuumBias));
    }
    return out;
}

std::string qualityBinsCsv(const FrameQuality& quality, const ExtractedFrame& frame, bool all) {
    struct Place {
        std::size_t row, bin;
    };
    std::vector<Place> places;
    for (std::size_t s = 0; s < quality.nspec(); ++s)
        for (std::size_t j = 0; j < quality.nwave(); ++j)
            if (all || quality.kind(s, j) != BadBinKind::None) places.push_back({s, j});
    if (!all)
        std::stable_sort(places.begin(), places.end(), [&](const Place& a, const Place& b) {
            const auto key = [&](const Place& p) {
                return std::tuple(static_cast<int>(quality.kind(p.row, p.bin)), -quality.severity(p.row, p.bin));
            };
            return key(a) < key(b);
        });
    std::string out = "cause,severity,spectrum,fiber,targetid,bin,wavelength,flux,ivar,mask,snr,chi2pix,chi2_ratio,"
                      "masked_fraction,fluxweight,weight_share,neighbour_share,peak_pull,chi2_line\n";
    const auto value = [](const Array2<float>& plane, const Place& p) {
        return plane.empty() ? std::string() : cell(static_cast<double>(plane(p.row, p.bin)));
    };
    for (const Place& p : places) {
        const FiberQuality& fiber = quality.fibers[p.row];
        fmt::format_to(std::back_inserter(out), "{},{},{},{},{},{},{:.9g},{},{},{},{},{},{},{},{},{},{},{},{}\n",
                       badBinKindWord(quality.kind(p.row, p.bin)), value(quality.severity, p), fiber.spectrum,
                       fiber.fiber, fiber.targetId, p.bin, quality.wavelength[p.bin], cell(frame.flux(p.row, p.bin)),
                       cell(frame.ivar(p.row, p.bin)), frame.mask(p.row, p.bin), value(quality.snr, p),
                       value(quality.chi2pix, p), value(quality.chi2Ratio, p), value(quality.maskedFraction, p),
                       value(quality.fluxweight, p), value(quality.weightShare, p), value(quality.neighbour, p),
                       value(quality.peakPull, p), value(quality.chi2Line, p));
    }
    return out;
}

std::string qualityFindingsCsv(const FrameQuality& quality) {
    std::string out = "kind,severity,bins,spectrum,fiber,bin,wavelength,sentence\n";
    for (const Finding& finding : quality.findings)
        out += fmt::format(
            "{},{},{},{},{},{},{},{}\n", badBinKindWord(finding.kind), cell(finding.severity), finding.bins,
            quality.specmin + finding.row, quality.fibers[static_cast<std::size_t>(finding.row)].fiber, finding.bin,
            cell(quality.wavelength[static_cast<std::size_t>(finding.bin)]), quotedCell(finding.sentence));
    return out;
}

} // namespace patchlight
