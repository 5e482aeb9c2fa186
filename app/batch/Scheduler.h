#pragma once

#include "app/batch/Protocol.h"

#include <deque>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace patchlight::batch {

struct SchedulerSettings {
    int ranks = 1;
    int inFlight = 3; ///< frames that a rank may have at a time: bounds its memory
    int retries = 1;  ///< more tries of a frame that failed
    bool failFast = false;
    bool redo = false;  ///< extract what is complete too
    bool share = true;  ///< let idle ranks share a frame
    bool verify = true; ///< false: outputs are never looked at
};

enum class FrameState { Waiting, Running, Done, Complete, Failed, Cancelled };

/// A frame of the job and its fate.
struct FrameRecord {
    FrameTask task;
    FrameState state = FrameState::Waiting;
    std::string error;
    int attempts = 0;
    std::vector<int> ranks; ///< of the last attempt, the leader first
    TaskResult result;      ///< of the leader, or of the one that failed first
};

/// Decides who does what: a state machine without clocks, files or MPI. Frames are handed out as ranks have room, the least loaded first;
/// where more ranks are idle than frames wait, groups of them share a frame. It cannot wait for anyone: what a rank owes is
/// settled by its result or by lose().
class Scheduler {
public:
    explicit Scheduler(const SchedulerSettings& settings);

    /// Adds a frame. @param check its output exists: look at it first
    int add(FrameTask task, bool check);
    /// A rank may be given orders from now on.
    void join(int rank);
    void take(const TaskResult& result);
    /// A rank that does not answer any more: what it had is tried elsewhere.
    void lose(int rank, const std::string& why);
    /// No new frames. `abandon`: those under way are given up too, unless they are being written.
    void stop(bool abandon, const std::string& why);
    /// Orders that can be given now. `waiting`: ranks may still join, so that it is too early to share frames out.
    [[nodiscard]] std::vector<Order> orders(bool waiting = false);
    /// Nothing runs and nothing waits.
    [[nodiscard]] bool idle() const;

    [[nodiscard]] const std::vector<FrameRecord>& frames() const { return frames_; }
    [[nodiscard]] int count(FrameState state) const;
    [[nodiscard]] bool stopped() const { return stopped_; }
    /// Frames that ended since the last call, for the log.
    [[nodiscard]] std::vector<int> ended();

private:
    struct Rank {
        bool present = false;
        bool usable = true;
        std::set<std::pair<int, int>> owes; ///< frame, part
    };
    struct Attempt {
        bool checking = false;
        bool failed = false;
        int owed = 0; ///< results still to come
        bool returned = false;
        bool cancelled = false;
        std::string error;
        bool permanent = false;
    };

    void give(int rank, int frame, int part, int parts, int leader, TaskKind kind, std::vector<Order>& orders);
    void settle(int frame);
    void abandonOthers(int frame, const std::string& why);
    [[nodiscard]] std::vector<int> idleRanks() const;

    SchedulerSettings settings_;
    std::vector<FrameRecord> frames_;
    std::vector<Attempt> attempts_; ///< [frame], the present one
    std::vector<Rank> ranks_;
    std::deque<int> toCheck_;
    std::deque<int> toExtract_;
    std::vector<Order> pending_; ///< to be handed over with the next orders()
    std::vector<int> ended_;
    bool stopped_ = false;
};

} // namespace patchlight::batch
