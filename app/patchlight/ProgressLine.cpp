#include "app/patchlight/ProgressLine.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <cstdio>
#include <string>

#include <unistd.h>

namespace patchlight::commands {

namespace {
constexpr int barWidth = 30;
constexpr std::chrono::milliseconds redrawInterval{100};
} // namespace

ProgressLine::ProgressLine()
    : terminal_(isatty(STDERR_FILENO) == 1), start_(std::chrono::steady_clock::now()),
      lastDraw_(start_ - redrawInterval) {}

void ProgressLine::update(int done, int total) {
    if (total <= 0 || spdlog::get_level() > spdlog::level::info) return;
    const auto now = std::chrono::steady_clock::now();
    const double elapsed = std::chrono::duration<double>(now - start_).count();
    const double left = done > 0 ? elapsed * (total - done) / done : 0.0;
    if (terminal_) {
        if (done < total && now - lastDraw_ < redrawInterval) return;
        lastDraw_ = now;
        const int filled = static_cast<int>(static_cast<long>(barWidth) * done / total);
        const std::string bar = std::string(static_cast<std::size_t>(filled), '#') +
                                std::string(static_cast<std::size_t>(barWidth - filled), '.');
        fmt::print(stderr, "\r[{}] {:3d} % of {} patches, {:.0f} s left \x1b[K", bar,
                   static_cast<int>(100L * done / total), total, left);
        std::fflush(stderr);
        drawn_ = true;
        return;
    }
    const int tenth = static_cast<int>(10L * done / total);
    if (tenth == lastTenth_) return;
    lastTenth_ = tenth;
    spdlog::info("{} % of {} patches, {:.1f} s, {:.1f} s left", 10 * tenth, total, elapsed, left);
}

void ProgressLine::finish() {
    if (!drawn_) return;
    fmt::print(stderr, "\r\x1b[K");
    std::fflush(stderr);
    drawn_ = false;
}

} // namespace patchlight::commands
