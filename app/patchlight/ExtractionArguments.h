#pragma once

#include "core/engine/Options.h"

#include <string>

namespace CLI {
class App;
}

namespace patchlight::commands {

/// Adds every option of optionTable() to a subcommand; the values go into `options` as they are parsed.
void addExtractionOptions(CLI::App& command, ExtractionOptions& options);

/// --backend and --threads.
struct RunArguments {
    std::string backend = "auto"; ///< auto, cpu or cuda
    int threads = 0;              ///< 0: all cores
};
void addRunOptions(CLI::App& command, RunArguments& arguments);

} // namespace patchlight::commands
