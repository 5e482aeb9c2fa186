#pragma once

#include <cstddef>
#include <vector>

namespace patchlight {

/// Asks for large pages (Linux: MADV_HUGEPAGE) for as much of a block that was allocated and not yet written as they fit in: their first touch costs
/// a fraction, and the processor finds them faster. Does nothing for small blocks, or where the system knows no such thing.
void preferLargePages(void* memory, std::size_t bytes);
/// Makes the pages of memory that was allocated and not yet written (Linux 5.14: MADV_POPULATE_WRITE), all that belong to it as a
/// whole. Does nothing where the system knows no such thing.
void touchPages(void* memory, std::size_t bytes);
/// The same by several threads (0: all cores); nothing for little memory or one thread. The first touch of a page costs more than most
/// that is done with it later, and one thread would pay for all of them.
void touchPages(void* memory, std::size_t bytes, int threads);

/// Makes an empty vector `count` values long, all of them T{}; its pages are made by several threads.
template <class T> void resizeInParallel(std::vector<T>& values, std::size_t count, int threads) {
    values.reserve(count);
    preferLargePages(values.data(), count * sizeof(T));
    touchPages(values.data(), count * sizeof(T), threads);
    values.resize(count);
}

} // namespace patchlight
