#pragma once

#include <cstddef>
#include <functional>

namespace patchlight {

/// Threads to use where `wanted` are asked for: as many, or all cores where it is 0 or less.
[[nodiscard]] int threadsToUse(int wanted);

/// Calls body(index, worker) for index 0 .. count - 1 on up to `threads` threads (0: all cores), the calling one among them, in no
/// particular order; no two calls at once have the same worker, a number below workersFor(count, threads). Where the system gives fewer
/// threads, fewer do the work.
/// An exception of a body ends the loop early. It is thrown again here after all threads have ended; of several, the one of the lowest
/// index, which is the one that a single thread would have met, since indices are begun in order.
void forEachParallel(std::size_t count, int threads, const std::function<void(std::size_t, std::size_t)>& body);

/// Workers of forEachParallel: at least 1.
[[nodiscard]] std::size_t workersFor(std::size_t count, int threads);

} // namespace patchlight
