#pragma once

#include "app/batch/Protocol.h"

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace patchlight {
class Backend;
class Timeline;
} // namespace patchlight

namespace patchlight::batch {

struct WorkerSettings {
    int rank = 0;
    int threads = 1; ///< of the backend
    int readers = 1;
    int writers = 1;
    double timeLimit = 0;         ///< s, a frame from its first byte read to its last one written; 0: none
    double grace = 30;            ///< s that a frame may take to end after it was told to
    Timeline* timeline = nullptr; ///< may be null
    std::chrono::steady_clock::time_point start; ///< of the job on this rank
};

/// Spectra for the leader of a shared frame.
struct OutgoingPart {
    int leader = 0;
    std::string bytes;
};

/// What one rank does: threads that read, one that computes (on the backend's own threads), threads that write, with queues between
/// them, so that files and sums go on side by side. How many frames are in memory is up to who gives the orders.
/// Every order gets exactly one result, whatever happens to it. All calls come from one thread; `wake` is called from any.
class Worker {
public:
    Worker(Backend& backend, const WorkerSettings& settings, std::function<void()> wake);
    /// Tells all frames to stop and waits for the threads, unless one is stuck.
    ~Worker();
    Worker(const Worker&) = delete;
    Worker& operator=(const Worker&) = delete;

    void take(const Order& order);
    /// A part of a frame that this rank leads.
    void takePart(std::string bytes);
    /// Ends frames whose time is over; call now and then.
    void watchClock();
    [[nodiscard]] std::vector<TaskResult> results();
    [[nodiscard]] std::vector<OutgoingPart> parts();
    /// True once a thread did not come back within the grace: this process must be left with _Exit.
    [[nodiscard]] bool stuck() const;
    [[nodiscard]] double busySeconds() const;

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

/// Largest resident memory of this process so far, bytes.
[[nodiscard]] double peakMemoryBytes();

} // namespace patchlight::batch
