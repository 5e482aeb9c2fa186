#include "app/patchlight/Interrupt.h"

namespace patchlight::commands {

namespace {

volatile std::sig_atomic_t received = 0;

void onSignal(int signal) {
    received = signal;
    std::signal(signal, SIG_DFL);
}

} // namespace

Interrupt::Interrupt() {
    received = 0;
    std::signal(SIGINT, onSignal);
    std::signal(SIGTERM, onSignal);
}

Interrupt::~Interrupt() {
    std::signal(SIGINT, SIG_DFL);
    std::signal(SIGTERM, SIG_DFL);
}

int Interrupt::signal() { return received; }

void Interrupt::poll() {
    if (received != 0) source_.request_stop();
}

} // namespace patchlight::commands
