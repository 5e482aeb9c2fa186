#include "app/batch/FolderWatch.h"

#include "app/batch/Completeness.h"
#include "core/base/Error.h"
#include "core/io/FitsFile.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <filesystem>
#include <map>
#include <mutex>
#include <stop_token>
#include <system_error>
#include <thread>
#include <utility>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <fnmatch.h>

namespace patchlight::batch {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

struct FolderWatch::Impl {
    /// What is known of a file that matches.
    struct Seen {
        std::uintmax_t size = 0;
        fs::file_time_type changed;
        Clock::time_point since;
        bool taken = false;
        bool complained = false;
    };

    void run(const std::stop_token& stop) {
        std::mutex waiting;
        std::condition_variable_any bell;
        while (!stop.stop_requested()) {
            std::error_code ignored;
            // Looked for before the folder: what is there when the file appears is still taken.
            const bool last = !settings.stopFile.empty() && fs::exists(settings.stopFile, ignored);
            scan(stop);
            if (last && nothingPending()) break;
            std::unique_lock lock(waiting);
            bell.wait_for(lock, stop, std::chrono::duration<double>(settings.interval), [] { return false; });
        }
        done = true;
    }

    /// Files that are there and not taken yet, but changed not long ago.
    bool nothingPending() {
        const auto now = Clock::now();
        for (const auto& [path, file] : known)
            if (!file.taken && std::chrono::duration<double>(now - file.since).count() < settings.settle + 1)
                return false;
        return true;
    }

    void scan(const std::stop_token& stop) {
        std::error_code error;
        fs::recursive_directory_iterator entry(settings.folder, fs::directory_options::skip_permission_denied, error);
        for (const fs::recursive_directory_iterator end; !error && entry != end && !stop.stop_requested();
             entry.increment(error)) {
            const std::string file = entry->path().filename().string();
            if (file.starts_with('.') || ::fnmatch(settings.pattern.c_str(), file.c_str(), 0) != 0) continue;
            std::error_code gone;
            if (!entry->is_regular_file(gone)) continue;
            const std::uintmax_t size = entry->file_size(gone);
            const fs::file_time_type changed = entry->last_write_time(gone);
            if (!gone) look(entry->path().string(), size, changed);
        }
        if (error) spdlog::warn("--watch {}: {}", printable(settings.folder), error.message());
    }

    void look(const std::string& path, std::uintmax_t size, fs::file_time_type changed) {
        const auto now = Clock::now();
        const auto [found, isNew] = known.try_emplace(path);
        Seen& file = found->second;
        if (isNew || file.size != size || file.changed != changed) {
            const bool again = file.taken;
            file = {size, changed, now, again, false}; // an image that is replaced is not taken twice
            return;
        }
        if (file.taken || std::chrono::duration<double>(now - file.since).count() < settings.settle) return;
        std::string why;
        try {
            FrameTask task = frameOfImage(path, settings.names, settings.options);
            const FitsFile whole(path, [](const FitsHdu&) { return false; });
            const std::vector<std::string> missing = missingInputs(task);
            if (missing.empty()) {
                const std::lock_guard lock(mutex);
                arrived.push_back(std::move(task));
                file.taken = true;
                return;
            }
            why = fmt::format("waits for {}", printable(missing.front()));
        } catch (const Error& error) {
            why = error.what();
        }
        constexpr std::chrono::seconds patience{10};
        if (!file.complained && now - file.since > patience) {
            file.complained = true;
            spdlog::warn("{}: not taken yet: {}", printable(path), why);
        }
    }

    WatchSettings settings;
    std::map<std::string, Seen> known; ///< of the thread
    std::mutex mutex;
    std::vector<FrameTask> arrived;
    std::atomic<bool> done{false};
    std::jthread thread;
};

FolderWatch::FolderWatch(const WatchSettings& settings) : impl_(std::make_unique<Impl>()) {
    std::error_code ignored;
    if (!fs::is_directory(settings.folder, ignored))
        throw UsageError(fmt::format("--watch {}: no such folder", printable(settings.folder)));
    impl_->settings = settings;
    impl_->thread = std::jthread([impl = impl_.get()](const std::stop_token& stop) { impl->run(stop); });
}

FolderWatch::~FolderWatch() = default;

std::vector<FrameTask> FolderWatch::frames() {
    const std::lock_guard lock(impl_->mutex);
    return std::exchange(impl_->arrived, {});
}

bool FolderWatch::ended() {
    if (!impl_->done) return false;
    const std::lock_guard lock(impl_->mutex);
    return impl_->arrived.empty();
}

} // namespace patchlight::batch
