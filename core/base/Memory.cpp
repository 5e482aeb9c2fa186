#include "core/base/Memory.h"

#include "core/base/Parallel.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <new>

#include <malloc.h>
#include <sys/mman.h>
#include <unistd.h>

namespace patchlight {

RawMemory::RawMemory(std::size_t bytes) : bytes_(std::malloc(std::max<std::size_t>(bytes, 1))) {
    if (!bytes_) throw std::bad_alloc();
}

void RawMemory::Free::operator()(void* memory) const { std::free(memory); }

void giveBackFreedMemory() {
#ifdef __GLIBC__
    (void)::malloc_trim(0);
#endif
}

void touchPages(void* memory, std::size_t bytes) {
#ifdef MADV_POPULATE_WRITE
    static const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
    const auto begin = (reinterpret_cast<std::uintptr_t>(memory) + page - 1) / page * page;
    const auto end = (reinterpret_cast<std::uintptr_t>(memory) + bytes) / page * page;
    // Where it is refused, pages are made when they are written.
    if (begin < end) (void)::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_POPULATE_WRITE);
#else
    (void)memory;
    (void)bytes;
#endif
}

void touchPages(void* memory, std::size_t bytes, int threads) {
    constexpr std::size_t worthIt = std::size_t{4} << 20; // smaller blocks may be pages that are there already
    constexpr std::size_t chunk = std::size_t{2} << 20;
    if (bytes < worthIt || threadsToUse(threads) == 1) return;
    // A page that two chunks share is left to whoever writes it.
    auto* const first = static_cast<unsigned char*>(memory);
    forEachParallel((bytes + chunk - 1) / chunk, threads, [&](std::size_t i, std::size_t) {
        touchPages(first + i * chunk, std::min(chunk, bytes - i * chunk));
    });
}

} // namespace patchlight
