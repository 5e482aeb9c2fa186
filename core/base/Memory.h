#pragma once

#include <cstddef>
#include <memory>
#include <vector>

namespace patchlight {

/// Makes the pages of memory that was allocated and not yet written (Linux 5.14: MADV_POPULATE_WRITE), all that belong to it as a
/// whole. Does nothing where the system knows no such thing.
void touchPages(void* memory, std::size_t bytes);
/// The same by several threads (0: all cores); nothing for little memory or one thread. The first touch of a page costs more than most
/// that is done with it later, and one thread would pay for all of them.
void touchPages(void* memory, std::size_t bytes, int threads);

/// Memory that is not cleared when it is allocated: pages that are never written are never used.
class RawMemory {
public:
    RawMemory() = default;
    /// @throws std::bad_alloc
    explicit RawMemory(std::size_t bytes);
    [[nodiscard]] void* get() const { return bytes_.get(); }

private:
    struct Free {
        void operator()(void* memory) const;
    };
    std::unique_ptr<void, Free> bytes_;
};

/// Gives memory that was freed back to the system, of all threads: what a thread frees is else kept for itself.
void giveBackFreedMemory();

/// Makes an empty vector `count` values long, all of them T{}; its pages are made by several threads.
template <class T> void resizeInParallel(std::vector<T>& values, std::size_t count, int threads) {
    values.reserve(count);
    touchPages(values.data(), count * sizeof(T), threads);
    values.resize(count);
}

} // namespace patchlight
