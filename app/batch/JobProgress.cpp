#include "app/batch/JobProgress.h"

#include <cmath>
#include <cstdio>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <unistd.h>

namespace patchlight::batch {

namespace {

using Clock = std::chrono::steady_clock;

std::string duration(double seconds) {
    const long whole = std::lround(seconds);
    constexpr long hour = 3600;
    if (whole >= hour) return fmt::format("{}:{:02}:{:02}", whole / hour, whole % hour / 60, whole % 60);
    return fmt::format("{}:{:02}", whole / 60, whole % 60);
}

} // namespace

JobProgress::JobProgress(int nodes, bool enabled)
    : enabled_(enabled), terminal_(isatty(STDERR_FILENO) == 1), nodes_(nodes), start_(Clock::now()),
      lastDraw_(start_ - std::chrono::hours(1)), lastLine_(start_) {}

void JobProgress::update(int total, int done, int complete, int failed) {
    if (!enabled_ || spdlog::get_level() > spdlog::level::info) return;
    const auto now = Clock::now();
    constexpr std::chrono::milliseconds redraw{200};
    constexpr std::chrono::seconds between{30};
    if (terminal_ ? now - lastDraw_ < redraw : now - lastLine_ < between) return;
    const int ended = done + complete + failed;
    if (!terminal_ && ended == lastEnded_) return;
    lastEnded_ = ended;
    lastDraw_ = lastLine_ = now;
    const double elapsed = std::chrono::duration<double>(now - start_).count();
    std::string line = fmt::format("{} of {} frames", done + complete, total);
    if (complete > 0) line += fmt::format(" ({} were complete)", complete);
    if (failed > 0) line += fmt::format(", {} failed", failed);
    if (done > 0) {
        const double rate = done / elapsed;
        line +=
            fmt::format(", {:.0f} frames/node-hour, {} left", rate * 3600.0 / nodes_, duration((total - ended) / rate));
    }
    if (!terminal_) {
        spdlog::info("{}, {} passed", line, duration(elapsed));
        return;
    }
    fmt::print(stderr, "\r{}\x1b[K", line);
    std::fflush(stderr);
    drawn_ = true;
}

void JobProgress::clear() {
    if (!drawn_) return;
    fmt::print(stderr, "\r\x1b[K");
    std::fflush(stderr);
    drawn_ = false;
}

} // namespace patchlight::batch
