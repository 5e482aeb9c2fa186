#include "app/patchlight/Commands.h"
#include "core/analysis/FileInfo.h"
#include "core/analysis/TerminalPlot.h"
#include "core/base/Error.h"
#include "core/frame/ExtractedFrame.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <variant>
#include <vector>

namespace patchlight::commands {

namespace {

using nlohmann::json;

struct InfoArguments {
    std::string file;
    bool json = false;
    std::optional<std::int64_t> plot;
    std::vector<double> range;
    std::string scale = "auto";
    int width = 0;
    int height = 16;
};

json toJson(const InfoValue& value) {
    return std::visit(
        [](const auto& held) -> json {
            if constexpr (std::is_same_v<std::decay_t<decltype(held)>, std::monostate>) {
                return nullptr;
            } else {
                return held;
            }
        },
        value);
}

json toJson(const FileInfo& info) {
    json report = {{"file", info.path}, {"kind", fileKindWord(info.kind)}, {"bytes", info.bytes}};
    for (const InfoItem& item : info.items) {
        if (!item.key.empty()) report[item.key] = toJson(item.value);
    }
    for (const InfoTable& table : info.tables) {
        json rows = json::array();
        for (const auto& row : table.rows) {
            json entry = json::object();
            for (std::size_t c = 0; c < table.columns.size(); ++c) entry[table.columns[c]] = toJson(row[c]);
            rows.push_back(std::move(entry));
        }
        report[table.key] = std::move(rows);
    }
    return report;
}

std::string sizeText(std::uint64_t bytes) {
    if (bytes < 1000) return fmt::format("{} bytes", bytes);
    if (bytes < 1000000) return fmt::format("{:.1f} kB", 1e-3 * static_cast<double>(bytes));
    return fmt::format("{:.1f} MB", 1e-6 * static_cast<double>(bytes));
}

/// A table with its columns aligned, numbers to the right.
void printTable(const InfoTable& table) {
    if (table.title.empty() || table.rows.empty()) return; // its facts are in a line above
    std::vector<std::size_t> widths;
    for (const std::string& column : table.columns) widths.push_back(column.size());
    std::vector<std::vector<std::string>> cells;
    for (const auto& row : table.rows) {
        std::vector<std::string> texts;
        for (std::size_t c = 0; c < row.size(); ++c) {
            const double* number = std::get_if<double>(&row[c]);
            texts.push_back(number != nullptr ? fmt::format("{:.3g}", *number) : infoText(row[c]));
            widths[c] = std::max(widths[c], texts.back().size());
        }
        cells.push_back(std::move(texts));
    }
    fmt::print("\n{}\n", table.title);
    const auto printRow = [&](const std::vector<std::string>& texts) {
        std::string line;
        for (std::size_t c = 0; c < texts.size(); ++c) {
            const bool isText = std::holds_alternative<std::string>(table.rows.front()[c]);
            line +=
                isText ? fmt::format("  {:<{}}", texts[c], widths[c]) : fmt::format("  {:>{}}", texts[c], widths[c]);
        }
        line.erase(line.find_last_not_of(' ') + 1);
        fmt::print("{}\n", line);
    };
    printRow(table.columns);
    for (const auto& row : cells) printRow(row);
}

void printInfo(const FileInfo& info) {
    fmt::print("{}: {}, {}\n", info.path, fileKindName(info.kind), sizeText(info.bytes));
    std::size_t labelWidth = 0;
    for (const InfoItem& item : info.items) labelWidth = std::max(labelWidth, item.label.size());
    std::string label;
    std::string line;
    const auto flush = [&] {
        if (!line.empty()) fmt::print("  {:<{}}  {}\n", label, labelWidth, line);
        line.clear();
    };
    for (const InfoItem& item : info.items) {
        if (item.label != label) flush();
        label = item.label;
        if (item.text.empty()) continue;
        line += (line.empty() ? "" : ", ") + item.text;
    }
    flush();
    for (const InfoTable& table : info.tables) printTable(table);
}

/// Width of the terminal, where stdout is one.
std::optional<int> terminalWidth() {
    winsize size{};
    if (isatty(STDOUT_FILENO) == 0 || ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0)
        return std::nullopt;
    return size.ws_col;
}

/// Row of a fiber: by FIBER of the fibermap, else by spectrum index.
std::size_t rowOfFiber(const ExtractedFrame& frame, const std::string& path, std::int64_t fiber) {
    if (frame.fibermap && frame.fibermap->rowCount == frame.nspec() && frame.fibermap->hasColumn("FIBER")) {
        const std::vector<std::int64_t> fibers = frame.fibermap->integers("FIBER");
        const auto found = std::find(fibers.begin(), fibers.end(), fiber);
        if (found != fibers.end()) return static_cast<std::size_t>(found - fibers.begin());
        throw UsageError(fmt::format("--plot {}: no such fiber in {}, whose FIBERMAP has {} to {}", fiber, path,
                                     *std::min_element(fibers.begin(), fibers.end()),
                                     *std::max_element(fibers.begin(), fibers.end())));
    }
    const std::int64_t row = fiber - frame.specmin;
    if (row < 0 || row >= static_cast<std::int64_t>(frame.nspec())) {
        throw UsageError(fmt::format("--plot {}: no such spectrum in {}, which has {} to {}", fiber, path,
                                     frame.specmin, frame.specmin + static_cast<std::int64_t>(frame.nspec()) - 1));
    }
    return static_cast<std::size_t>(row);
}

void plotFiber(const InfoArguments& arguments) {
    if (arguments.json) throw UsageError("--plot and --json exclude each other");
    const FileKind kind = fileKind(arguments.file);
    if (kind != FileKind::Frame) {
        throw UsageError(fmt::format("--plot: {} is a {}; an extracted frame has spectra to plot", arguments.file,
                                     fileKindName(kind)));
    }
    const ExtractedFrame frame = readFrame(arguments.file);
    const std::size_t row = rowOfFiber(frame, arguments.file, *arguments.plot);
    SpectrumPlot plot;
    plot.unit = "electron/Angstrom";
    std::vector<double> snr;
    for (std::size_t i = 0; i < frame.nwave(); ++i) {
        const double wavelength = frame.wavelength[i];
        if (!arguments.range.empty() && (wavelength < arguments.range[0] || wavelength > arguments.range[1])) continue;
        const double ivar = frame.ivar(row, i);
        plot.wavelength.push_back(wavelength);
        plot.flux.push_back(frame.flux(row, i));
        plot.sigma.push_back(ivar > 0.0 ? 1.0 / std::sqrt(ivar) : 0.0);
        plot.masked.push_back(!frame.mask.empty() && frame.mask(row, i) != 0);
    }
    if (plot.wavelength.empty()) {
        throw UsageError(fmt::format("--range {:g},{:g}: no wavelength of {}, which has {:.2f} to {:.2f} Angstrom",
                                     arguments.range[0], arguments.range[1], arguments.file, frame.wavelength.front(),
                                     frame.wavelength.back()));
    }
    plot.title = fmt::format("fiber {} (row {})", *arguments.plot, row);
    if (frame.fibermap && frame.fibermap->rowCount == frame.nspec()) {
        if (frame.fibermap->hasColumn("OBJTYPE")) plot.title += ", " + frame.fibermap->texts("OBJTYPE")[row];
        if (frame.fibermap->hasColumn("TARGETID"))
            plot.title += fmt::format(", target {}", frame.fibermap->integers("TARGETID")[row]);
    }
    plot.title += ": flux, shaded +-1 sigma";
    PlotOptions options;
    options.width =
        static_cast<std::size_t>(arguments.width > 0 ? arguments.width : std::min(terminalWidth().value_or(80), 120));
    options.height = static_cast<std::size_t>(arguments.height);
    options.scale = arguments.scale == "linear" ? FluxScale::Linear
                                                : (arguments.scale == "asinh" ? FluxScale::Asinh : FluxScale::Auto);
    fmt::print("{}", drawSpectrum(plot, options));
}

void runInfo(const InfoArguments& arguments) {
    if (arguments.plot) {
        plotFiber(arguments);
        return;
    }
    const FileInfo info = inspectFile(arguments.file);
    if (arguments.json) {
        fmt::print("{}\n", toJson(info).dump(2, ' ', false, json::error_handler_t::replace));
    } else {
        printInfo(info);
    }
}

} // namespace

void addInfo(CLI::App& app) {
    CLI::App* command = app.add_subcommand("info", "says what a PSF, CCD image, frame, patch file or truth file holds");
    auto arguments = std::make_shared<InfoArguments>();
    command->add_option("file", arguments->file, "FITS file")->required()->type_name("FILE");
    command->add_flag("--json", arguments->json, "print JSON");
    const char* const group = "A spectrum of a frame in the terminal";
    command
        ->add_option("--plot", arguments->plot,
                     "draw the flux of this fiber (FIBER of the FIBERMAP, else the spectrum index)")
        ->type_name("FIBER")
        ->group(group);
    command->add_option("--range", arguments->range, "from and to which wavelength (default: all)")
        ->delimiter(',')
        ->expected(2)
        ->type_name("[Angstrom]")
        ->group(group);
    command
        ->add_option("--scale", arguments->scale, "of flux; auto: asinh where lines outshine the rest (default auto)")
        ->check(CLI::IsMember({"auto", "linear", "asinh"}))
        ->group(group);
    command->add_option("--width", arguments->width, "characters a line (default: the terminal's, 80 elsewhere)")
        ->check(CLI::Range(40, 1000))
        ->type_name("INT")
        ->group(group);
    command->add_option("--height", arguments->height, "lines of the plot (default 16)")
        ->check(CLI::Range(4, 200))
        ->type_name("INT")
        ->group(group);
    command->callback([arguments] { runInfo(*arguments); });
}

} // namespace patchlight::commands
