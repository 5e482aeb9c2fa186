#include "app/batch/SlurmScript.h"

#include "core/base/Error.h"
#include "core/io/FitsFile.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <fstream>
#include <iterator>
#include <string_view>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace patchlight::batch {

namespace {

/// Seconds of a time limit as Slurm writes them: M, M:S, H:M:S, D-H, D-H:M, D-H:M:S. @throws UsageError
long limitSeconds(const std::string& text) {
    const auto refuse = [&] { throw UsageError(fmt::format("--time: HH:MM:SS expected, got '{}'", printable(text))); };
    const std::size_t dash = text.find('-');
    std::vector<long> numbers;
    std::string_view rest = text;
    while (true) {
        const std::size_t end = rest.find_first_of("-:");
        const std::string_view word = rest.substr(0, end);
        constexpr std::size_t most = 6;
        if (word.empty() || word.size() > most || word.find_first_not_of("0123456789") != std::string_view::npos)
            refuse();
        numbers.push_back(std::stol(std::string(word)));
        if (end == std::string_view::npos) break;
        if (rest[end] == '-' && numbers.size() > 1) refuse();
        rest.remove_prefix(end + 1);
    }
    constexpr long minute = 60;
    constexpr long hour = 60 * minute;
    constexpr long day = 24 * hour;
    if (dash != std::string::npos) {
        if (numbers.size() < 2 || numbers.size() > 4) refuse();
        numbers.resize(4);
        return numbers[0] * day + numbers[1] * hour + numbers[2] * minute + numbers[3];
    }
    if (numbers.size() == 1) return numbers[0] * minute;
    if (numbers.size() == 2) return numbers[0] * minute + numbers[1];
    if (numbers.size() != 3) refuse();
    return numbers[0] * hour + numbers[1] * minute + numbers[2];
}

void requireWord(std::string_view option, std::string_view value) {
    if (value.find_first_of(" \t\r\n'\"`$;") != std::string_view::npos)
        throw UsageError(fmt::format("{}: one word expected, got '{}'", option, printable(value)));
}

} // namespace

std::string shellQuoted(const std::string& word) {
    constexpr std::string_view plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./,:=+@%{}";
    if (!word.empty() && word.find_first_not_of(plain) == std::string::npos &&
        word.find_first_of("{}") == std::string::npos)
        return word;
    std::string quoted = "'";
    for (const char c : word) {
        if (c == '\'')
            quoted += R"('\'')";
        else
            quoted += c;
    }
    return quoted + "'";
}

std::string estimatedTime(double frames, double framesPerNodeHour, int nodes) {
    constexpr double reserve = 1.25;
    constexpr double start = 600;
    constexpr double minute = 60;
    constexpr double hour = 3600;
    const double seconds = frames / (framesPerNodeHour * nodes) * hour * reserve + start;
    const auto minutes = static_cast<long>(std::ceil(seconds / minute));
    return fmt::format("{:02}:{:02}:00", minutes / 60, minutes % 60);
}

double measuredFramesPerNodeHour(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    if (!in) throw Error(fmt::format("--bench {}: cannot be read", printable(path)));
    const std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
    try {
        const nlohmann::json report = nlohmann::json::parse(text);
        double best = 0;
        if (report.contains("runs")) {
            for (const auto& run : report.at("runs"))
                best = std::max(best, run.at("frames_per_node_hour").at("total").get<double>());
        } else {
            best = report.at("totals").at("frames_per_node_hour").get<double>();
        }
        if (best > 0) return best;
    } catch (const nlohmann::json::exception&) {
        // said below
    }
    throw UsageError(
        fmt::format("--bench {}: a report of `patchlight bench -o` or `patchlight batch --report` with measured "
                    "frames expected",
                    printable(path)));
}

std::string slurmScript(const SlurmSettings& settings) {
    if (settings.arguments.empty())
        throw UsageError("slurm: what is the job to do? Give the arguments of `patchlight batch` behind --");
    if (limitSeconds(settings.time) <= settings.warning)
        throw UsageError(
            fmt::format("--warning {}: the job would be told to end before it begins; less than --time {} expected",
                        settings.warning, settings.time));
    for (const auto& [option, value] : {std::pair<const char*, const std::string&>{"--job-name", settings.jobName},
                                        {"--account", settings.account},
                                        {"--qos", settings.qos},
                                        {"--partition", settings.partition},
                                        {"--memory", settings.memory},
                                        {"--log", settings.log},
                                        {"--srun-mpi", settings.mpi}})
        requireWord(option, value);
    if (settings.gpusPerNode > 0 && settings.ranksPerNode < settings.gpusPerNode)
        throw UsageError(fmt::format("--ranks-per-node {}: fewer than the {} GPUs of a node; a rank uses one GPU",
                                     settings.ranksPerNode, settings.gpusPerNode));
    const bool mps = settings.gpusPerNode > 0 && settings.ranksPerNode > settings.gpusPerNode;
    const bool mpirun = settings.launcher == "mpirun";

    std::string text = "#!/bin/bash\n";
    const auto ask = [&](std::string_view option, const auto& value) {
        text += fmt::format("#SBATCH --{}={}\n", option, value);
    };
    const auto askIf = [&](std::string_view option, const std::string& value) {
        if (!value.empty()) ask(option, value);
    };
    ask("job-name", settings.jobName);
    ask("nodes", settings.nodes);
    ask("ntasks-per-node", settings.ranksPerNode);
    if (settings.coresPerRank > 0) ask("cpus-per-task", settings.coresPerRank);
    if (settings.gpusPerNode > 0) ask("gpus-per-node", settings.gpusPerNode);
    ask("time", settings.time);
    askIf("account", settings.account);
    askIf("qos", settings.qos);
    askIf("partition", settings.partition);
    if (!settings.constraint.empty())
        text += fmt::format("#SBATCH --constraint={}\n", shellQuoted(settings.constraint));
    askIf("mem", settings.memory);
    ask("output", settings.log);
    text += fmt::format("# SIGUSR1: begin no more frames, so that those under way end before the time does.\n"
                        "#SBATCH --signal={}USR1@{}\n",
                        mpirun ? "B:" : "", settings.warning);
    text +=
        "\n# Made by `patchlight slurm`. Submit it again to do what is left: complete frames are skipped.\n\nset -u\n";
    for (const std::string& line : settings.setup) text += line + "\n";
    text += "# The ranks' threads are the program's own.\nexport OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1\n";
    if (settings.coresPerRank > 0 && !mpirun)
        text += fmt::format("export SRUN_CPUS_PER_TASK={}\n", settings.coresPerRank);

    if (mps)
        text +=
            "\n# Several ranks share a GPU through CUDA MPS: one daemon a node, for the time of the job.\n"
            "export CUDA_MPS_PIPE_DIRECTORY=/tmp/nvidia-mps-$SLURM_JOB_ID "
            "CUDA_MPS_LOG_DIRECTORY=/tmp/nvidia-mps-log-$SLURM_JOB_ID\n"
            "on_nodes() { srun --overlap --nodes=\"$SLURM_JOB_NUM_NODES\" --ntasks=\"$SLURM_JOB_NUM_NODES\" "
            "--ntasks-per-node=1 --mpi=none \"$@\"; }\n"
            "on_nodes bash -c 'trap \"\" USR1; mkdir -p \"$CUDA_MPS_PIPE_DIRECTORY\" \"$CUDA_MPS_LOG_DIRECTORY\"; exec "
            "nvidia-cuda-mps-control -f' &\n"
            "mps=$!\n"
            "stop_mps() { on_nodes bash -c 'echo quit | nvidia-cuda-mps-control' || true; wait \"$mps\"; }\n"
            "trap stop_mps EXIT\n"
            "sleep 5 # until it listens; a rank that comes earlier uses its GPU without it\n";

    std::string launch;
    if (mpirun) {
        launch = fmt::format("mpirun --map-by ppr:{}:node", settings.ranksPerNode);
        if (settings.coresPerRank > 0) launch += fmt::format(":pe={}", settings.coresPerRank);
    } else {
        launch = "srun --kill-on-bad-exit=1 --cpu-bind=cores";
        // All GPUs of a node are left visible: each rank takes one by its place on the node.
        if (settings.gpusPerNode > 0)
            launch += fmt::format(" --gpus-per-node={} --gpu-bind=none", settings.gpusPerNode);
        if (!settings.mpi.empty()) launch += fmt::format(" --mpi={}", settings.mpi);
    }
    std::string command = shellQuoted(settings.program) + " batch";
    for (const std::string& argument : settings.arguments) command += " " + shellQuoted(argument);
    text += "\n";
    if (mpirun)
        text += fmt::format(
            "{} \\\n    {} &\njob=$!\n"
            "trap 'kill -USR1 \"$job\"' USR1\n"
            "wait \"$job\"; code=$?\n"
            "while kill -0 \"$job\" 2>/dev/null; do wait \"$job\"; code=$?; done # a signal ends a wait, not the job\n",
            launch, command);
    else
        text += fmt::format("{} \\\n    {}\ncode=$?\n", launch, command);
    text += "exit \"$code\"\n";
    return text;
}

} // namespace patchlight::batch
