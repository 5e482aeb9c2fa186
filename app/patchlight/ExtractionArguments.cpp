#include "app/patchlight/ExtractionArguments.h"

#include "core/base/Error.h"
#include "core/io/FitsFile.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <filesystem>
#include <system_error>
#include <vector>

namespace patchlight::commands {

namespace {

/// The file's one name: absolute, symbolic links followed as far as they lead anywhere.
std::filesystem::path canonicalName(std::string_view path) {
    std::error_code ignored; // what cannot be resolved is compared as it was given
    const std::filesystem::path absolute = std::filesystem::absolute(path, ignored);
    std::filesystem::path name = std::filesystem::weakly_canonical(absolute, ignored);
    return name.empty() ? absolute.lexically_normal() : name;
}

} // namespace

void addExtractionOptions(CLI::App& command, ExtractionOptions& options) {
    for (const OptionSpec& spec : optionTable()) {
        std::string names = "--" + spec.name;
        if (spec.shortName != 0) names = fmt::format("-{},{}", spec.shortName, names);
        for (const std::string& alias : spec.aliases) names += ",--" + alias;

        std::string help = spec.help;
        if (!spec.choices.empty()) help += fmt::format("; {}", fmt::join(spec.choices, " or "));
        if (spec.kind != OptionSpec::Kind::Flag) help += fmt::format(" (default {})", spec.defaultText);

        if (spec.kind == OptionSpec::Kind::Flag) {
            command
                .add_flag_callback(
                    names, [&options, &spec] { spec.set(options, "true"); }, help)
                ->group("Extraction");
            continue;
        }
        const auto kindName = [&]() -> std::string {
            if (!spec.unit.empty()) return fmt::format("[{}]", spec.unit);
            switch (spec.kind) {
            case OptionSpec::Kind::Integer:
                return "INT";
            case OptionSpec::Kind::Real:
                return "REAL";
            default:
                return "TEXT";
            }
        };
        command
            .add_option_function<std::string>(
                names, [&options, &spec](const std::string& text) { spec.set(options, text); }, help)
            ->type_name(kindName())
            ->group("Extraction");
    }
}

void addRunOptions(CLI::App& command, RunArguments& arguments) {
    addBackendOptions(command, arguments.backend, "Running");
    command.add_option("--threads", arguments.threads, "threads of the CPU backend; 0: all cores (default 0)")
        ->check(CLI::Range(0, 4096))
        ->type_name("[threads]")
        ->group("Running");
}

void requireDistinctFiles(std::span<const OptionFile> inputs, std::span<const OptionFile> outputs) {
    struct Taken {
        OptionFile file;
        std::filesystem::path name;
        bool input;
    };
    std::vector<Taken> taken;
    for (const OptionFile& file : inputs)
        if (!file.path.empty())
            taken.push_back(
                {file, canonicalName(existingFitsPath(std::string(file.path))), true}); // with or without .gz
    for (const OptionFile& file : outputs) {
        if (file.path.empty()) continue;
        std::filesystem::path name = canonicalName(file.path);
        for (const Taken& other : taken)
            if (other.name == name)
                throw UsageError(fmt::format("{} {}: the same file as {}, which {}", file.option, printable(file.path),
                                             other.file.option,
                                             other.input ? "would be overwritten" : "is to be written too"));
        taken.push_back({file, std::move(name), false});
    }
}

} // namespace patchlight::commands
