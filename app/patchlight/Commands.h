#pragma once

namespace CLI { // NOLINT(readability-identifier-naming): CLI11's
class App;
}

/// The subcommands of `patchlight`. Each function adds one to the application with its options and a callback that runs it;
/// callbacks throw UsageError (exit code 2) or Error (exit code 1), which main() prints as one line.
namespace patchlight::commands {

/// Thrown by a callback that has said all there is to say: the program ends with this code.
struct Exit {
    int code = 0;
};

void addBatch(CLI::App& app);
void addExtract(CLI::App& app);
void addPatch(CLI::App& app);
void addSimulate(CLI::App& app);
void addSlurm(CLI::App& app);
void addCompare(CLI::App& app);
void addInfo(CLI::App& app);
void addBench(CLI::App& app);
void addQa(CLI::App& app);

} // namespace patchlight::commands
