#pragma once

#include "app/patchlight/Backends.h"
#include "core/engine/Options.h"

#include <span>
#include <string>
#include <string_view>

namespace CLI { // NOLINT(readability-identifier-naming): CLI11's
class App;
}

namespace patchlight::commands {

/// Adds every option of optionTable() to a subcommand; the values go into `options` as they are parsed.
void addExtractionOptions(CLI::App& command, ExtractionOptions& options);

/// --backend, --device, --gpu-memory and --threads.
struct RunArguments {
    BackendChoice backend;
    int threads = 0; ///< 0: all cores
};
void addRunOptions(CLI::App& command, RunArguments& arguments);

/// A file and the option that names it; an empty path is an option that was not given.
struct OptionFile {
    std::string_view option;
    std::string_view path;
};
/// Outputs may replace older files, but not an input of the same run, nor each other. Symbolic links are followed.
/// @throws UsageError naming both options
void requireDistinctFiles(std::span<const OptionFile> inputs, std::span<const OptionFile> outputs);

} // namespace patchlight::commands
