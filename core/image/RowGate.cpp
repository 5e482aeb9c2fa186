#include "core/image/RowGate.h"

#include <algorithm>
#include <utility>

namespace patchlight {

void RowGate::open(int rows) {
    {
        const std::lock_guard lock(mutex_);
        rows_ = std::max(rows_, rows);
    }
    changed_.notify_all();
}

void RowGate::fail(std::exception_ptr error) {
    {
        const std::lock_guard lock(mutex_);
        if (!error_) error_ = std::move(error);
    }
    changed_.notify_all();
}

bool RowGate::waitFor(int rows, std::chrono::milliseconds patience) const {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, patience, [&] { return error_ || rows_ >= rows; });
    if (error_) std::rethrow_exception(error_);
    return rows_ >= rows;
}

int RowGate::ready() const {
    const std::lock_guard lock(mutex_);
    if (error_) std::rethrow_exception(error_);
    return rows_;
}

} // namespace patchlight
