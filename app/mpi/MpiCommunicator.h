#pragma once

#include "app/batch/Communicator.h"

#include <memory>

namespace patchlight::batch {

/// Joins the ranks that a launcher started. Plain MPI calls of the main thread (MPI_THREAD_FUNNELED), so that OpenMPI, MPICH and
/// Cray's MPI do. Once in a process. @throws Error where the launcher and this MPI do not know each other
[[nodiscard]] std::unique_ptr<Communicator> makeMpiCommunicator();

} // namespace patchlight::batch
