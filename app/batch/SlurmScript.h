#pragma once

#include <string>
#include <vector>

namespace patchlight::batch {

/// What a Slurm job is to ask for.
struct SlurmSettings {
    std::string jobName = "patchlight";
    int nodes = 1;
    int ranksPerNode = 1;
    int coresPerRank = 0; ///< 0: Slurm's default
    int gpusPerNode = 0;
    std::string account, qos, partition, constraint; ///< empty: not said
    std::string time;                                ///< HH:MM:SS
    std::string memory;                              ///< a node, as Slurm spells it ("64G"); empty: not said
    std::string log = "%x-%j.log";
    int warning = 300;              ///< s before the end of the time at which no new frames are begun
    std::string launcher = "srun";  ///< or mpirun
    std::string mpi;                ///< srun --mpi=...; empty: Slurm's default
    std::vector<std::string> setup; ///< lines before the run, such as "module load openmpi"
    std::string program = "patchlight";
    std::vector<std::string> arguments; ///< of `patchlight batch`
};

/// A script for sbatch. CUDA MPS is started once a node, and stopped, where ranks share GPUs. @throws UsageError
[[nodiscard]] std::string slurmScript(const SlurmSettings& settings);

/// A time limit for so many frames, HH:MM:SS: the frames' time on this many nodes, a quarter more, and ten minutes.
[[nodiscard]] std::string estimatedTime(double frames, double framesPerNodeHour, int nodes);

/// Frames an hour of a node, from file to file: the best run of a report of `patchlight bench -o`, or what a report of `patchlight batch`
/// measured. @throws Error, UsageError
[[nodiscard]] double measuredFramesPerNodeHour(const std::string& path);

/// A word as a shell takes it.
[[nodiscard]] std::string shellQuoted(const std::string& word);

} // namespace patchlight::batch
