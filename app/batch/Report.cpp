#include "app/batch/Report.h"

#include "core/base/Version.h"

#include <algorithm>
#include <cstddef>

#include <nlohmann/json.hpp>

namespace patchlight::batch {

namespace {

using nlohmann::ordered_json;

/// Paths need not be UTF-8, JSON must be.
std::string dumped(const ordered_json& value, int indent) {
    return value.dump(indent, ' ', false, ordered_json::error_handler_t::replace);
}

} // namespace

const char* name(FrameState state) {
    switch (state) {
    case FrameState::Waiting:
    case FrameState::Running:
        return "not done";
    case FrameState::Done:
        return "done";
    case FrameState::Complete:
        return "complete";
    case FrameState::Failed:
        return "failed";
    case FrameState::Cancelled:
        return "cancelled";
    }
    return "";
}

std::string reportText(const std::vector<FrameRecord>& frames, const JobSummary& summary, const JobSettings& settings) {
    const auto count = [&](FrameState state) {
        return std::count_if(frames.begin(), frames.end(),
                             [&](const FrameRecord& record) { return record.state == state; });
    };
    ordered_json report;
    report["program"] = "patchlight";
    report["version"] = version();
    report["source"] = gitDescribe();
    report["command"] = settings.command;
    report["started"] = summary.started;
    report["stopped"] = summary.stopped;

    double read = 0;
    double compute = 0;
    double write = 0;
    double bytesRead = 0;
    double bytesWritten = 0;
    ordered_json list = ordered_json::array();
    for (std::size_t i = 0; i < frames.size(); ++i) {
        const FrameRecord& record = frames[i];
        const TaskResult& result = record.result;
        ordered_json entry;
        entry["frame"] = i;
        entry["image"] = record.task.image;
        entry["psf"] = record.task.psf;
        entry["output"] = record.task.output;
        if (!record.task.model.empty()) entry["model"] = record.task.model;
        entry["status"] = name(record.state);
        if (!record.error.empty()) entry["error"] = record.error;
        entry["attempts"] = record.attempts;
        entry["ranks"] = record.ranks;
        if (record.state == FrameState::Done) {
            const auto rank = static_cast<std::size_t>(result.rank);
            const double offset = rank < summary.offsets.size() ? summary.offsets[rank] : 0.0;
            if (rank < summary.workers.size()) entry["device"] = summary.workers[rank].device;
            entry["start_seconds"] = result.started + offset;
            entry["end_seconds"] = result.ended + offset;
            entry["read_seconds"] = result.read;
            entry["compute_seconds"] = result.compute;
            entry["write_seconds"] = result.write;
            entry["wait_seconds"] = result.waited;
            entry["bytes_read"] = result.bytesRead;
            entry["bytes_written"] = result.bytesWritten;
            entry["rank_peak_memory_bytes"] = result.peakMemory;
            entry["patches"] = {{"all", result.counts.patches},   {"wide_band", result.counts.wide},
                                {"exact", result.counts.exact},   {"regularized", result.counts.regularized},
                                {"failed", result.counts.failed}, {"empty", result.counts.empty}};
            read += result.read;
            compute += result.compute;
            write += result.write;
            bytesRead += result.bytesRead;
            bytesWritten += result.bytesWritten;
        }
        list.push_back(std::move(entry));
    }

    const auto done = count(FrameState::Done);
    ordered_json totals;
    totals["frames"] = frames.size();
    totals["done"] = done;
    totals["complete"] = count(FrameState::Complete);
    totals["failed"] = count(FrameState::Failed);
    totals["cancelled"] = count(FrameState::Cancelled);
    totals["wall_seconds"] = summary.seconds;
    totals["read_seconds"] = read;
    totals["compute_seconds"] = compute;
    totals["write_seconds"] = write;
    totals["bytes_read"] = bytesRead;
    totals["bytes_written"] = bytesWritten;
    totals["frames_per_node_hour"] = summary.framesPerNodeHour(static_cast<int>(done));
    totals["node_hours"] = summary.nodeHours();
    totals["gpu_hours"] = summary.gpus * summary.seconds / 3600.0;
    report["totals"] = std::move(totals);

    ordered_json machine;
    machine["nodes"] = summary.nodes;
    machine["ranks"] = summary.ranks;
    machine["gpus"] = summary.gpus;
    machine["transport"] = summary.transport;
    machine["ranks_info"] = ordered_json::array();
    for (std::size_t i = 0; i < summary.workers.size(); ++i) {
        const WorkerInfo& worker = summary.workers[i];
        ordered_json entry = {
            {"rank", i},         {"host", worker.host},      {"node_rank", worker.nodeRank}, {"device", worker.device},
            {"gpu", worker.gpu}, {"threads", worker.threads}};
        if (i < summary.goodbyes.size()) {
            entry["peak_memory_bytes"] = summary.goodbyes[i].peakMemory;
            entry["cpu_seconds"] = summary.goodbyes[i].cpuSeconds;
            entry["compute_busy_seconds"] = summary.goodbyes[i].busySeconds;
        }
        machine["ranks_info"].push_back(std::move(entry));
    }
    report["machine"] = std::move(machine);
    report["settings"] = {
        {"backend", settings.backend.name}, {"readers", settings.readers}, {"writers", settings.writers},
        {"in_flight", settings.inFlight},   {"retries", settings.retries}, {"time_limit", settings.timeLimit},
        {"fail_fast", settings.failFast},   {"redo", settings.redo},       {"share", settings.share}};
    report["frames"] = std::move(list);
    return dumped(report, 1) + "\n";
}

std::string mergedTrace(const std::vector<FrameRecord>& frames, const JobSummary& summary) {
    ordered_json outputs = ordered_json::array();
    for (const FrameRecord& record : frames) outputs.push_back(record.task.output);
    std::string text =
        R"({"displayTimeUnit": "ms", "otherData": {"frames": )" + dumped(outputs, -1) + "},\n\"traceEvents\": [\n";
    bool first = true;
    for (const Goodbye& goodbye : summary.goodbyes) {
        if (goodbye.trace.empty()) continue;
        if (!first) text += ",\n";
        first = false;
        text += goodbye.trace;
    }
    return text + "\n]}\n";
}

} // namespace patchlight::batch
