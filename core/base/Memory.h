#pragma once

#include <cstddef>
#include <vector>

namespace patchlight {

/// Asks the system for large pages for memory that was allocated and not yet touched (Linux: MADV_HUGEPAGE). Fewer page faults make the first
/// touch of a large array two or three times as fast. Does nothing for small arrays or where the system knows no such thing.
void preferLargePages(void* memory, std::size_t bytes);

/// Makes an empty vector `count` values long, on large pages where it is large.
template <class T> void resizeOnLargePages(std::vector<T>& values, std::size_t count, const T& value = T{}) {
    values.reserve(count);
    preferLargePages(values.data(), count * sizeof(T));
    values.resize(count, value);
}

} // namespace patchlight
