#include "app/patchlight/AddressSpace.h"

#include "core/base/Error.h"

#include <algorithm>
#include <cstddef>
#include <thread>

#include <fmt/format.h>

#include <sys/mman.h>
#include <sys/resource.h>

namespace patchlight::commands {

bool addressSpaceIsLimited() {
    rlimit limit{};
    return ::getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY;
}

void requireAddressSpace(int threads) {
    if (!addressSpaceIsLimited()) return;
    // OpenBLAS's buffer of 128 MiB, glibc's heap of 64 MiB and a stack of 8 MiB for each thread.
    constexpr std::size_t megabytesPerThread = 200;
    const auto count = static_cast<std::size_t>(
        std::max(1, threads > 0 ? threads : static_cast<int>(std::thread::hardware_concurrency())));
    const std::size_t bytes = (count * megabytesPerThread) << 20U;
    void* const probe = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (probe == MAP_FAILED)
        throw Error(fmt::format("not enough memory: the limit of the address space (ulimit -v) leaves less than the "
                                "{} MiB that --threads {} needs",
                                count * megabytesPerThread, count));
    ::munmap(probe, bytes);
}

} // namespace patchlight::commands
