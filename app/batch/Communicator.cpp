#include "app/batch/Communicator.h"

#include <cstdio>
#include <cstdlib>

#include <sched.h>

namespace patchlight::batch {

namespace {

class LoneCommunicator final : public Communicator {
public:
    [[nodiscard]] int rank() const override { return 0; }
    [[nodiscard]] int size() const override { return 1; }
    [[nodiscard]] int nodeRank() const override { return 0; }
    [[nodiscard]] int nodeSize() const override { return 1; }
    [[nodiscard]] int cores() const override { return availableCores(); }
    [[nodiscard]] std::string description() const override { return "one process"; }
    void send(int /*to*/, int /*tag*/, std::string /*bytes*/) override {}
    [[nodiscard]] std::optional<Message> receive() override { return std::nullopt; }
    [[nodiscard]] bool busy() override { return false; }
    void finish() override {}
    [[noreturn]] void abort(int code) override {
        std::fflush(nullptr);
        std::_Exit(code);
    }
};

long environmentNumber(const char* name) {
    const char* text = std::getenv(name);
    return text == nullptr ? 0 : std::strtol(text, nullptr, 10);
}

} // namespace

std::unique_ptr<Communicator> makeLoneCommunicator() { return std::make_unique<LoneCommunicator>(); }

bool startedByLauncher() {
    // OpenMPI's mpirun; Hydra (MPICH, Intel) and Cray PALS; PMIx; srun.
    for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK", "MPI_LOCALNRANKS", "PALS_RANKID"})
        if (std::getenv(name) != nullptr) return true;
    return std::getenv("SLURM_STEP_ID") != nullptr && std::getenv("SLURM_PROCID") != nullptr &&
           environmentNumber("SLURM_STEP_NUM_TASKS") > 1;
}

int availableCores() {
    cpu_set_t mask;
    CPU_ZERO(&mask);
    if (::sched_getaffinity(0, sizeof mask, &mask) != 0) return 1;
    return CPU_COUNT(&mask) > 0 ? CPU_COUNT(&mask) : 1;
}

} // namespace patchlight::batch
