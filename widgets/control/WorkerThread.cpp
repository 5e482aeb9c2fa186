#include "widgets/control/WorkerThread.h"

#include <utility>

#if defined(__linux__)
#include <sys/resource.h>
#endif

namespace patchlight::widgets {

WorkerThread::WorkerThread(bool background)
    : background_(background), thread_([this](const std::stop_token& stop) { work(stop); }) {}

WorkerThread::~WorkerThread() {
    clear();
    thread_.request_stop();
}

void WorkerThread::post(Task task) {
    {
        const std::lock_guard lock(mutex_);
        tasks_.push_back(std::move(task));
    }
    wake_.notify_one();
}

void WorkerThread::clear() {
    const std::lock_guard lock(mutex_);
    tasks_.clear();
}

void WorkerThread::work(const std::stop_token& stop) {
#if defined(__linux__)
    // On Linux a priority belongs to a thread (0: this one) and is inherited by those it starts. Where that is refused, all is as before.
    if (background_) (void)setpriority(PRIO_PROCESS, 0, 10);
#endif
    while (true) {
        Task task;
        {
            std::unique_lock lock(mutex_);
            if (!wake_.wait(lock, stop, [this] { return !tasks_.empty(); })) return;
            task = std::move(tasks_.front());
            tasks_.pop_front();
        }
        task();
    }
}

} // namespace patchlight::widgets
