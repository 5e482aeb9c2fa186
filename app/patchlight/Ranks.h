#pragma once

#include "app/batch/Communicator.h"

#include <memory>

namespace CLI { // NOLINT(readability-identifier-naming): CLI11's
class App;
}

namespace patchlight::commands {

/// --mpi and --no-mpi.
struct RankArguments {
    bool mpi = false;
    bool noMpi = false;
};
void addRankOptions(CLI::App& command, RankArguments& arguments);

/// The ranks that mpirun or srun started; one process where there was no launcher, or --no-mpi was given.
/// @throws UsageError where MPI is wanted and not built in
[[nodiscard]] std::unique_ptr<batch::Communicator> joinRanks(const RankArguments& arguments);

} // namespace patchlight::commands
