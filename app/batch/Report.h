#pragma once

#include "app/batch/Job.h"

#include <string>
#include <vector>

namespace patchlight::batch {

/// What the report and the last lines of the log say of a job.
struct JobSummary {
    double seconds = 0;  ///< wall time
    std::string started; ///< UTC, ISO 8601
    int nodes = 1;
    int ranks = 1;
    int gpus = 0;
    std::string transport;
    std::vector<WorkerInfo> workers; ///< [rank]
    std::vector<Goodbye> goodbyes;   ///< [rank]; without times of a rank that did not answer
    std::vector<double> offsets;     ///< [rank], s to be added to that rank's times
    std::string stopped;             ///< why the job was stopped, or ""

    [[nodiscard]] double nodeHours() const { return nodes * seconds / 3600.0; }
    /// Frames extracted per node-hour.
    [[nodiscard]] double framesPerNodeHour(int done) const { return seconds > 0 ? done / nodeHours() : 0.0; }
};

/// The report as JSON.
[[nodiscard]] std::string reportText(const std::vector<FrameRecord>& frames, const JobSummary& summary,
                                     const JobSettings& settings);

/// All ranks' ranges as one Chrome trace; frames are named in "otherData".
[[nodiscard]] std::string mergedTrace(const std::vector<FrameRecord>& frames, const JobSummary& summary);

/// A state as the report spells it.
[[nodiscard]] const char* name(FrameState state);

} // namespace patchlight::batch
