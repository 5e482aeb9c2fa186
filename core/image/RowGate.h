#pragma once

#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>

namespace patchlight {

/// How many rows of an image are there, while others still arrive: one side opens it row by row, or says that no more will come; the other waits.
/// What was written before open() can be read behind waitFor().
class RowGate {
public:
    /// Rows [0, rows) are there. Never takes rows back.
    void open(int rows);
    /// No more rows will come; waitFor() throws this from now on, for rows that are there too.
    void fail(std::exception_ptr error);
    /// Waits until rows [0, rows) are there, but not longer than `patience`. @return whether they are. @throws what fail() was given
    [[nodiscard]] bool waitFor(int rows, std::chrono::milliseconds patience) const;
    /// Rows that are there. @throws what fail() was given
    [[nodiscard]] int ready() const;

private:
    mutable std::mutex mutex_;
    mutable std::condition_variable changed_;
    int rows_ = 0;
    std::exception_ptr error_;
};

} // namespace patchlight
