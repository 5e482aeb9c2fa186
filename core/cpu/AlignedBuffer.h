#pragma once

#include <hwy/aligned_allocator.h>

#include <cstddef>
#include <new>

namespace patchlight {

/// Uninitialised memory aligned for vectors, kept and only ever grown.
class AlignedBuffer {
public:
    /// At least `count` doubles; contents are lost when it grows.
    double* require(std::size_t count) {
        if (count > size_) {
            memory_.reset();
            memory_ = hwy::AllocateAligned<double>(count);
            if (!memory_) throw std::bad_alloc();
            size_ = count;
        }
        return memory_.get();
    }
    [[nodiscard]] double* data() { return memory_.get(); }
    [[nodiscard]] const double* data() const { return memory_.get(); }

private:
    hwy::AlignedFreeUniquePtr<double[]> memory_;
    std::size_t size_ = 0;
};

} // namespace patchlight
