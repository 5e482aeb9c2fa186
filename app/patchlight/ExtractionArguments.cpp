#include "app/patchlight/ExtractionArguments.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

namespace patchlight::commands {

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
    command
        .add_option("--backend", arguments.backend,
                    "what to compute on; auto: the GPU where there is one (default auto)")
        ->check(CLI::IsMember({"auto", "cpu", "cuda"}))
        ->group("Running");
    command.add_option("--threads", arguments.threads, "threads of the CPU backend; 0: all cores (default 0)")
        ->check(CLI::Range(0, 4096))
        ->type_name("[threads]")
        ->group("Running");
}

} // namespace patchlight::commands
