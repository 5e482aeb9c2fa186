#pragma once

#include <chrono>

namespace patchlight::commands {

/// Progress of a run on stderr: a bar that is redrawn on a terminal, a plain line at every tenth elsewhere.
class ProgressLine {
public:
    ProgressLine();
    ~ProgressLine() { finish(); }
    ProgressLine(const ProgressLine&) = delete;
    ProgressLine& operator=(const ProgressLine&) = delete;
    /// @param done, total  patches; cheap to call often
    void update(int done, int total);
    /// Removes the bar, so that the next line of the log stands alone.
    void finish();

private:
    bool terminal_ = false;
    bool drawn_ = false;
    int lastTenth_ = 0;
    std::chrono::steady_clock::time_point start_;
    std::chrono::steady_clock::time_point lastDraw_;
};

} // namespace patchlight::commands
