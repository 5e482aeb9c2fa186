#include "core/base/Memory.h"

#include <cstdint>

#include <sys/mman.h>

namespace patchlight {

void preferLargePages(void* memory, std::size_t bytes) {
#ifdef MADV_HUGEPAGE
    constexpr std::uintptr_t largePage = std::uintptr_t{2} << 20;
    constexpr std::size_t worthIt = std::size_t{4} << 20; // smaller blocks may share pages with others
    if (bytes < worthIt) return;
    // Only pages that belong to this block as a whole.
    const auto begin = (reinterpret_cast<std::uintptr_t>(memory) + largePage - 1) / largePage * largePage;
    const auto end = (reinterpret_cast<std::uintptr_t>(memory) + bytes) / largePage * largePage;
    // A request: where it is refused, pages stay small.
    if (begin < end) (void)::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#else
    (void)memory;
    (void)bytes;
#endif
}

} // namespace patchlight
