#include "app/batch/SlurmScript.h"
#include "app/patchlight/Commands.h"
#include "core/base/Error.h"
#include "core/io/AtomicFile.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <filesystem>
#include <memory>
#include <string>
#include <system_error>

namespace patchlight::commands {

namespace {

struct SlurmArguments {
    batch::SlurmSettings settings;
    std::string output;
    std::string bench;
    double frames = 0;
    bool ownProgram = true;
};

void runSlurm(SlurmArguments& arguments) {
    batch::SlurmSettings& settings = arguments.settings;
    if (arguments.ownProgram) {
        std::error_code ignored;
        const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", ignored);
        if (!self.empty()) settings.program = self.string();
    }
    if (settings.time.empty()) {
        if (arguments.bench.empty() || arguments.frames <= 0)
            throw UsageError("slurm: how long? --time HH:MM:SS, or --bench REPORT.json and --frames N to estimate it");
        const double speed = batch::measuredFramesPerNodeHour(arguments.bench);
        settings.time = batch::estimatedTime(arguments.frames, speed, settings.nodes);
        spdlog::info(
            "--time {}: {:g} frames on {} node{} at {:.0f} frames/node-hour ({}), a quarter more, and ten minutes",
            settings.time, arguments.frames, settings.nodes, settings.nodes == 1 ? "" : "s", speed, arguments.bench);
    }
    const std::string script = batch::slurmScript(settings);
    if (arguments.output.empty()) {
        fmt::print("{}", script);
        return;
    }
    writeFileAtomically(arguments.output, script);
    std::error_code error;
    std::filesystem::permissions(arguments.output, std::filesystem::perms::owner_exec,
                                 std::filesystem::perm_options::add, error);
    spdlog::info("wrote {}; submit it with sbatch {}", arguments.output, arguments.output);
}

} // namespace

void addSlurm(CLI::App& app) {
    CLI::App* command =
        app.add_subcommand("slurm", "writes a script for sbatch that runs `patchlight batch` on a cluster");
    auto arguments = std::make_shared<SlurmArguments>();
    batch::SlurmSettings& settings = arguments->settings;
    command->add_option("-o,--output", arguments->output, "script to write (default: stdout)")->type_name("FILE");
    command->add_option("-N,--nodes", settings.nodes, "nodes")->check(CLI::Range(1, 100000))->capture_default_str();
    command->add_option("--ranks-per-node", settings.ranksPerNode, "ranks on each node")
        ->check(CLI::Range(1, 4096))
        ->capture_default_str();
    command
        ->add_option("--cores-per-rank", settings.coresPerRank, "cores (Slurm's CPUs) of each rank (default: Slurm's)")
        ->check(CLI::Range(0, 4096));
    command
        ->add_option("--gpus-per-node", settings.gpusPerNode,
                     "GPUs of each node; ranks share them through CUDA MPS where there are more ranks")
        ->check(CLI::Range(0, 64))
        ->capture_default_str();
    command->add_option("-t,--time", settings.time,
                        "time limit, HH:MM:SS (default: estimated from --bench and --frames)");
    command
        ->add_option("--bench", arguments->bench,
                     "report of `patchlight bench -o` on such a node, or of an earlier `patchlight batch`")
        ->type_name("FILE.json");
    command->add_option("--frames", arguments->frames, "frames that are to be extracted")->check(CLI::PositiveNumber);
    command->add_option("-A,--account", settings.account, "account");
    command->add_option("-q,--qos", settings.qos, "quality of service, at some sites the queue");
    command->add_option("-p,--partition", settings.partition, "partition, at other sites the queue");
    command->add_option("-C,--constraint", settings.constraint, "kind of nodes");
    command->add_option("--memory", settings.memory, "memory of a node, such as 64G");
    command->add_option("-J,--job-name", settings.jobName, "name of the job")->capture_default_str();
    command->add_option("--log", settings.log, "the job's log file, as sbatch names them")->capture_default_str();
    command->add_option("--warning", settings.warning, "time before the limit at which no more frames are begun")
        ->type_name("[s]")
        ->check(CLI::Range(1, 65535))
        ->capture_default_str();
    command->add_option("--launcher", settings.launcher, "what starts the ranks")
        ->check(CLI::IsMember({"srun", "mpirun"}))
        ->capture_default_str();
    command->add_option("--srun-mpi", settings.mpi,
                        "srun's --mpi: pmix for OpenMPI, pmi2 for MPICH (default: the site's)");
    command
        ->add_option("--setup", settings.setup, "a line to run before, such as 'module load openmpi'; can be repeated")
        ->allow_extra_args(false)
        ->take_all();
    command->add_option("--program", settings.program, "patchlight on the nodes (default: this one)")
        ->each([arguments = arguments.get()](const std::string&) { arguments->ownProgram = false; });
    command->add_option("arguments", settings.arguments, "arguments of `patchlight batch`, behind --")
        ->type_name("-- ARGUMENTS ...");
    command->callback([arguments] { runSlurm(*arguments); });
}

} // namespace patchlight::commands
