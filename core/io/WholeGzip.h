#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>

namespace patchlight {

/// Memory straight from the system, zero at first. Pages that are never written take no memory, and pages can be given back early.
class PageBuffer {
public:
    PageBuffer() = default;
    /// @throws std::bad_alloc
    explicit PageBuffer(std::size_t bytes);
    ~PageBuffer();
    PageBuffer(PageBuffer&& other) noexcept;
    PageBuffer& operator=(PageBuffer&& other) noexcept;

    [[nodiscard]] std::uint8_t* data() const { return data_; }
    [[nodiscard]] std::size_t size() const { return size_; }
    /// Gives back what is behind the first `bytes` bytes.
    void shrink(std::size_t bytes);
    /// Gives back the pages that lie inside [begin, end) as a whole; they must not be read any more.
    void release(std::size_t begin, std::size_t end);

private:
    std::uint8_t* data_ = nullptr;
    std::size_t size_ = 0;
    std::size_t mapped_ = 0; ///< whole pages
};

/// Inflates a gzip file of one or more members in memory, two to three times as fast as a stream of zlib's.
///
/// Takes only what is unsuspicious: up to 64 times the file's size and 1 GiB, check sums and sizes right. Nothing otherwise, or where there is
/// not enough memory; a stream then reads the file with less memory, or says what is wrong with it. Bytes behind the last member that do not
/// begin another one are left out.
/// @param threads 0: all cores; with more than one, another thread makes the pages while the first inflates
[[nodiscard]] std::optional<PageBuffer> inflateWhole(std::span<const std::uint8_t> file, int threads = 1);

} // namespace patchlight
