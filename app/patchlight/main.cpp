#include "app/patchlight/AddressSpace.h"
#include "app/patchlight/Commands.h"
#include "core/base/Error.h"
#include "core/base/Version.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <new>
#include <string>

#include <malloc.h>

extern "C" {
// OpenBLAS's own, where that is the LAPACK; weak, so that any will do.
[[gnu::weak]] int blas_thread_shutdown_();
}

namespace {

/// Lines of the log go to stderr, so that stdout holds results only.
void setUpLog() {
    auto logger = spdlog::stderr_color_mt("patchlight");
    logger->set_pattern("%^%l%$: %v");
    spdlog::set_default_logger(std::move(logger));
}

int fail(int code, const char* message) {
    std::fprintf(stderr, "patchlight: %s\n", message);
    return code;
}

/// Lets the program keep memory that it gives back, for what it allocates next: an image's mask becomes part of the frame. glibc would give large
/// blocks to the system and pay for their pages again.
void keepFreedMemory() {
#ifdef __GLIBC__
    constexpr int large = 1 << 30;
    (void)mallopt(M_MMAP_THRESHOLD, large);
    (void)mallopt(M_TRIM_THRESHOLD, large);
#endif
}

/// OpenBLAS starts a thread for every core when it is loaded, and they spin for some 40 ms in the way of those that read the image. None of them is
/// ever used: LAPACK is called by each thread for itself.
void endThreadsOfBlas() {
    // With too little memory for their buffers they would not end; see addressSpaceIsLimited().
    if (blas_thread_shutdown_ != nullptr && !patchlight::commands::addressSpaceIsLimited())
        (void)blas_thread_shutdown_();
}

int run(int argc, char** argv) {
    using namespace patchlight;
    keepFreedMemory();
    endThreadsOfBlas();
    setUpLog();

    CLI::App app{"Extracts one-dimensional spectra from the CCD frames of fiber spectrographs by spectro-perfectionism",
                 "patchlight"};
    app.set_version_flag("--version",
                         fmt::format("patchlight {}{}{}", version(), gitDescribe().empty() ? "" : ", ", gitDescribe()));
    app.require_subcommand(1);
    std::string level = "info";
    app.add_option("--loglevel", level, "how much to log: debug, info, warning, error")
        ->check(CLI::IsMember({"debug", "info", "warning", "warn", "error"}))
        ->capture_default_str()
        ->each([](const std::string& value) {
            spdlog::set_level(spdlog::level::from_str(value == "warning" ? "warn" : value));
        });
    app.fallthrough();

    commands::addExtract(app);
    commands::addBatch(app);
    commands::addPatch(app);
    commands::addSimulate(app);
    commands::addCompare(app);
    commands::addInfo(app);
    commands::addBench(app);
    commands::addQa(app);
    commands::addSlurm(app);

    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) return app.exit(error);
        std::fprintf(stderr, "patchlight: %s (try --help)\n", error.what());
        return 2;
    } catch (const commands::Exit& exit) {
        return exit.code;
    } catch (const UsageError& error) {
        return fail(2, error.what());
    } catch (const Error& error) {
        return fail(1, error.what());
    } catch (const std::bad_alloc&) {
        return fail(1, "out of memory: the frame does not fit; extract fewer spectra at a time (--specmin, --nspec) or "
                       "use fewer threads");
    } catch (const std::exception& error) {
        return fail(1, error.what());
    }
    return 0;
}

} // namespace

int main(int argc, char** argv) {
    int code = 1;
    try {
        code = run(argc, argv);
    } catch (...) { // what run() does not know, or while it tells of another
        std::fputs("patchlight: unknown error\n", stderr);
    }
    if (patchlight::commands::addressSpaceIsLimited()) { // see there: leave without waiting for OpenBLAS's threads
        std::fflush(nullptr);
        std::_Exit(code);
    }
    return code;
}
