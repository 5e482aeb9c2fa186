#pragma once

#include <csignal>
#include <stop_token>

namespace patchlight::commands {

/// Turns SIGINT and SIGTERM into a stop request, so that a run ends between two batches and leaves nothing half-written.
/// A second signal ends the program at once, as ever. One object at a time.
class Interrupt {
public:
    Interrupt();
    ~Interrupt();
    Interrupt(const Interrupt&) = delete;
    Interrupt& operator=(const Interrupt&) = delete;

    [[nodiscard]] std::stop_token token() const { return source_.get_token(); }
    /// Requests the stop if a signal came; call between batches.
    void poll();
    /// The signal that came, or 0.
    [[nodiscard]] static int signal();

private:
    std::stop_source source_;
};

} // namespace patchlight::commands
