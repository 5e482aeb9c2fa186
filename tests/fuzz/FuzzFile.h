#pragma once

#include "core/base/Error.h"

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <unistd.h>

#include <spdlog/spdlog.h>

namespace patchlight::fuzz {

/// Writes the bytes to a file in memory and hands its path to `read`. Error is the one exception a reader may throw.
template <class Read> void withFile(const std::uint8_t* data, std::size_t size, const char* suffix, Read read) {
    static const bool quiet = (spdlog::set_level(spdlog::level::off), true); // a warning for nearly every input
    (void)quiet;
    static const std::string path =
        "/dev/shm/patchlight-fuzz-" + std::to_string(::getpid()) + suffix; // one process fuzzes with one thread
    std::FILE* file = std::fopen(path.c_str(), "wb");
    if (file == nullptr || std::fwrite(data, 1, size, file) != size || std::fclose(file) != 0) {
        std::perror(path.c_str());
        std::abort();
    }
    try {
        read(path);
    } catch (const Error&) { // NOLINT(bugprone-empty-catch): a refusal is a right answer
    }
    ::unlink(path.c_str());
}

} // namespace patchlight::fuzz
