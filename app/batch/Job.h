#pragma once

#include "app/batch/Communicator.h"
#include "app/batch/Protocol.h"
#include "app/batch/Scheduler.h"
#include "app/patchlight/Backends.h"

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace patchlight::batch {

/// How a job runs; nothing here changes a result.
struct JobSettings {
    commands::BackendChoice backend;
    int threads = 0;  ///< of the backend, a rank; 0: the cores that are this rank's
    int readers = 1;  ///< threads that read, a rank
    int writers = 1;  ///< threads that write, a rank
    int inFlight = 0; ///< frames in memory, a rank; 0: readers + writers + 1
    int retries = 1;
    double timeLimit = 0;  ///< s a frame; 0: none
    double grace = 30;     ///< s that a frame may take to end after it was told to
    double lostAfter = 60; ///< s without a word after which a rank is given up
    bool failFast = false;
    bool redo = false;
    bool share = true;
    bool progress = true;
    std::string report;  ///< JSON file; empty: none
    std::string trace;   ///< JSON file; empty: none
    std::string command; ///< for the report
};

/// Frames that come while the job runs (watch mode). Called on rank 0 by the main thread; must not wait.
class FrameSource {
public:
    virtual ~FrameSource() = default;
    FrameSource() = default;
    FrameSource(const FrameSource&) = delete;
    FrameSource& operator=(const FrameSource&) = delete;
    /// Frames that came since the last call.
    [[nodiscard]] virtual std::vector<FrameTask> frames() = 0;
    /// True once there will be no more.
    [[nodiscard]] virtual bool ended() = 0;
};

/// Which files there are to do; called on rank 0 only, and what it throws ends the job on all ranks.
using FrameLister = std::function<std::vector<FrameTask>()>;

/// How a job ended, on rank 0; the other ranks know the exit code only.
struct JobOutcome {
    int exitCode = 0;
    int done = 0;
    int complete = 0; ///< were there already
    int failed = 0;
    int cancelled = 0;
    double seconds = 0;
    std::vector<FrameRecord> frames;
};

/// Runs a job on all ranks: each calls this. Rank 0 also schedules, in its main thread, which never computes; it writes the report and the
/// trace. SIGTERM and SIGINT give up what is not being written, SIGUSR1 lets what is under way end.
/// Leaves the process (exit code 1) where a rank can not be waited for.
/// @throws Error, UsageError on rank 0
JobOutcome runJob(Communicator& communicator, const JobSettings& settings, const FrameLister& list,
                  FrameSource* source = nullptr);

/// GPUs that this process may see: CUDA_VISIBLE_DEVICES, else the devices of the driver.
[[nodiscard]] std::vector<std::string> visibleGpus();
/// Gives this rank one GPU of its node, by node-local rank, through CUDA_VISIBLE_DEVICES; to be called before the GPU is first used.
/// @return what was chosen and why, in words; "" without GPUs
[[nodiscard]] std::string chooseGpu(int nodeRank, int nodeSize);

} // namespace patchlight::batch
