#pragma once

#include <chrono>
#include <string>

namespace patchlight::batch {

/// The one line of a job on stderr: frames done, failed, frames per node-hour, time left. Redrawn on a terminal; elsewhere a line now and
/// then.
class JobProgress {
public:
    JobProgress(int nodes, bool enabled);
    ~JobProgress() { finish(); }
    JobProgress(const JobProgress&) = delete;
    JobProgress& operator=(const JobProgress&) = delete;
    void setNodes(int nodes) { nodes_ = nodes; }
    /// @param complete frames that were there already
    void update(int total, int done, int complete, int failed);
    /// Removes the line, so that the next one of the log stands alone.
    void clear();
    void finish() { clear(); }

private:
    bool enabled_;
    bool terminal_;
    bool drawn_ = false;
    int nodes_;
    int lastEnded_ = -1;
    std::chrono::steady_clock::time_point start_, lastDraw_, lastLine_;
};

} // namespace patchlight::batch
