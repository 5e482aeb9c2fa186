#include "app/patchlight/Ranks.h"

#include "core/base/Error.h"
#ifdef PATCHLIGHT_HAVE_MPI
#include "app/mpi/MpiCommunicator.h"
#endif

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

namespace patchlight::commands {

void addRankOptions(CLI::App& command, RankArguments& arguments) {
    command
        .add_flag("--mpi", arguments.mpi,
                  "join the other ranks through MPI (default: where mpirun or srun started several)")
        ->group("Running");
    command.add_flag("--no-mpi", arguments.noMpi, "be one process, whoever started it")->group("Running");
}

std::unique_ptr<batch::Communicator> joinRanks(const RankArguments& arguments) {
    if (arguments.mpi && arguments.noMpi)
        throw UsageError("--mpi and --no-mpi contradict each other; give one of them");
    const bool several = !arguments.noMpi && (arguments.mpi || batch::startedByLauncher());
    if (!several) return batch::makeLoneCommunicator();
#ifdef PATCHLIGHT_HAVE_MPI
    std::unique_ptr<batch::Communicator> ranks = batch::makeMpiCommunicator();
    if (ranks->size() > 1)
        spdlog::default_logger()->set_pattern(fmt::format("[{}] %^%l%$: %v", ranks->rank())); // whose line it is
    return ranks;
#else
    throw UsageError(
        "this patchlight was built without MPI (Debian: libopenmpi-dev), so that it cannot share work between "
        "ranks; --no-mpi runs it as one process");
#endif
}

} // namespace patchlight::commands
