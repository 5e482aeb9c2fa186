#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

namespace patchlight {

/// Compresses a stream into one gzip member, block by block on several threads. A block begins with an empty dictionary, which costs a
/// fraction of a per cent of size, and ends on a byte; the result depends on the content alone, not on the number of threads.
class GzipStream {
public:
    /// Takes compressed bytes, in order.
    using Output = std::function<void(const std::uint8_t* bytes, std::size_t count)>;

    /// @param level of zlib, 1 to 9  @param threads 0: all cores
    GzipStream(int level, int threads, Output output);

    void write(const std::uint8_t* bytes, std::size_t count);
    /// Compresses what is left and ends the member. Nothing may follow.
    void finish();

private:
    struct Block {
        std::vector<std::uint8_t> packed;
        std::size_t packedBytes = 0;
        std::uint32_t crc = 0;
    };

    void flush(bool last);
    void compress(const std::uint8_t* bytes, std::size_t count, bool last, Block& block) const;

    int level_;
    int threads_;
    Output output_;
    std::vector<std::uint8_t> pending_; ///< bytes of whole blocks, and at most one begun
    std::vector<Block> blocks_;
    std::uint64_t total_ = 0;
    std::uint32_t crc_ = 0;
    bool begun_ = false;
};

} // namespace patchlight
