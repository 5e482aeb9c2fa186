#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <stop_token>
#include <thread>

namespace patchlight::widgets {

/// One thread that runs tasks in the order in which they were given. Destruction drops what waits and joins.
class WorkerThread {
public:
    using Task = std::function<void()>;

    /// @param background  runs, with every thread it starts, at a lower priority than the window
    explicit WorkerThread(bool background = false);
    ~WorkerThread();
    WorkerThread(const WorkerThread&) = delete;
    WorkerThread& operator=(const WorkerThread&) = delete;

    void post(Task task);
    /// Drops the tasks that have not begun.
    void clear();

private:
    void work(const std::stop_token& stop);

    std::mutex mutex_;
    std::condition_variable_any wake_;
    std::deque<Task> tasks_;
    bool background_;
    std::jthread thread_; ///< last: it uses the members above
};

} // namespace patchlight::widgets
