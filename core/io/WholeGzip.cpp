#include "core/io/WholeGzip.h"

#include "core/base/Memory.h"
#include "core/base/Parallel.h"

#include <algorithm>
#include <memory>
#include <new>
#include <system_error>
#include <thread>
#include <utility>

#include <libdeflate.h>
#include <sys/mman.h>
#include <unistd.h>

namespace patchlight {

namespace {

std::size_t pageSize() {
    static const auto size = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    return size;
}

std::size_t roundedUp(std::size_t bytes) { return (bytes + pageSize() - 1) / pageSize() * pageSize(); }

} // namespace

PageBuffer::PageBuffer(std::size_t bytes) : size_(bytes), mapped_(roundedUp(std::max<std::size_t>(bytes, 1))) {
    // Most of it may never be written, so no swap space is set aside.
    void* const memory =
        ::mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    data_ = static_cast<std::uint8_t*>(memory);
}

PageBuffer::~PageBuffer() {
    if (data_ != nullptr) ::munmap(data_, mapped_);
}

PageBuffer::PageBuffer(PageBuffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)),
      mapped_(std::exchange(other.mapped_, 0)) {}

PageBuffer& PageBuffer::operator=(PageBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(mapped_, other.mapped_);
    return *this;
}

void PageBuffer::shrink(std::size_t bytes) {
    const std::size_t kept = roundedUp(std::max<std::size_t>(bytes, 1));
    if (kept < mapped_) {
        ::munmap(data_ + kept, mapped_ - kept);
        mapped_ = kept;
    }
    size_ = std::min(size_, bytes);
}

void PageBuffer::release(std::size_t begin, std::size_t end) {
    begin = roundedUp(begin);
    end = std::min(end, size_) / pageSize() * pageSize();
    // Where the system does not take them, they stay.
    if (begin < end) (void)::madvise(data_ + begin, end - begin, MADV_DONTNEED);
}

std::optional<PageBuffer> inflateWhole(std::span<const std::uint8_t> file, int threads) {
    constexpr std::size_t mostTimes = 64;
    constexpr std::size_t mostBytes = std::size_t{1} << 30;
    constexpr std::uint8_t gzipMagic = 0x1F;
    const std::unique_ptr<libdeflate_decompressor, void (*)(libdeflate_decompressor*)> decompressor(
        libdeflate_alloc_decompressor(), libdeflate_free_decompressor);
    if (!decompressor || file.empty()) return std::nullopt;
    PageBuffer buffer;
    try {
        buffer = PageBuffer(std::min(file.size(), mostBytes / mostTimes) * mostTimes);
    } catch (const std::bad_alloc&) {
        return std::nullopt;
    }
    // The trailer says how much there will be, modulo 2^32 and if it is right.
    constexpr std::size_t likelyTimes = 8;
    std::uint32_t promised = 0;
    for (std::size_t i = 0; i < 4 && file.size() >= 4; ++i)
        promised |= std::uint32_t{file[file.size() - 4 + i]} << (8 * i);
    std::jthread helper;
    if (threadsToUse(threads) > 1) {
        const std::size_t bytes = std::min<std::size_t>({promised, buffer.size(), likelyTimes * file.size()});
        try {
            helper = std::jthread([memory = buffer.data(), bytes](const std::stop_token& stop) {
                constexpr std::size_t chunk = std::size_t{4} << 20;
                for (std::size_t at = 0; at < bytes && !stop.stop_requested(); at += chunk)
                    touchPages(memory + at, std::min(chunk, bytes - at));
            });
        } catch (const std::system_error&) {
            // A limit of the system.
        }
    }
    std::size_t read = 0;
    std::size_t written = 0;
    do {
        std::size_t memberBytes = 0;
        std::size_t inflatedBytes = 0;
        if (libdeflate_gzip_decompress_ex(decompressor.get(), file.data() + read, file.size() - read,
                                          buffer.data() + written, buffer.size() - written, &memberBytes,
                                          &inflatedBytes) != LIBDEFLATE_SUCCESS)
            return std::nullopt;
        read += memberBytes;
        written += inflatedBytes;
    } while (read < file.size() && file[read] == gzipMagic);
    helper.request_stop();
    if (helper.joinable()) helper.join(); // before pages are given back
    buffer.shrink(written);
    return buffer;
}

} // namespace patchlight
