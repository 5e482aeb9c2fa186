#include "core/base/Parallel.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace patchlight {

int threadsToUse(int wanted) {
    return wanted > 0 ? wanted : static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
}

std::size_t workersFor(std::size_t count, int threads) {
    return std::clamp<std::size_t>(static_cast<std::size_t>(threadsToUse(threads)), 1, std::max<std::size_t>(count, 1));
}

void forEachParallel(std::size_t count, int threads, const std::function<void(std::size_t, std::size_t)>& body) {
    const std::size_t workers = workersFor(count, threads);
    if (workers <= 1) {
        for (std::size_t index = 0; index < count; ++index) body(index, 0);
        return;
    }
    std::atomic<std::size_t> next{0};
    std::atomic<bool> failed{false};
    std::exception_ptr error;
    std::size_t failedIndex = count;
    std::mutex mutex;
    const auto work = [&](std::size_t worker) {
        while (!failed.load()) {
            const std::size_t index = next.fetch_add(1);
            if (index >= count) return;
            try {
                body(index, worker);
            } catch (...) {
                const std::lock_guard lock(mutex);
                if (index < failedIndex) {
                    error = std::current_exception();
                    failedIndex = index;
                }
                failed = true;
            }
        }
    };
    {
        std::vector<std::jthread> others;
        others.reserve(workers - 1);
        try {
            while (others.size() + 1 < workers) others.emplace_back(work, others.size() + 1);
        } catch (const std::system_error&) {
            // A limit of the system; those that did start, and this one, do the work.
        }
        work(0);
    }
    if (error) std::rethrow_exception(error);
}

} // namespace patchlight
