#include "core/io/GzipStream.h"

#include "core/base/Error.h"
#include "core/base/Parallel.h"

#include <algorithm>
#include <array>
#include <new>
#include <utility>

#include <zlib.h>

namespace patchlight {

namespace {

constexpr std::size_t blockBytes = std::size_t{1} << 19;

/// Frees what deflateInit2 took.
class Deflater {
public:
    explicit Deflater(int level) {
        constexpr int memory = 8;
        if (deflateInit2(&stream, level, Z_DEFLATED, -MAX_WBITS, memory, Z_DEFAULT_STRATEGY) != Z_OK)
            throw std::bad_alloc();
    }
    ~Deflater() { deflateEnd(&stream); }
    Deflater(const Deflater&) = delete;
    Deflater& operator=(const Deflater&) = delete;
    z_stream stream = {};
};

void putLittleEndian(std::uint8_t* out, std::uint32_t value) {
    for (int i = 0; i < 4; ++i) out[i] = static_cast<std::uint8_t>(value >> (8 * i));
}

} // namespace

GzipStream::GzipStream(int level, int threads, Output output)
    : level_(level), threads_(threadsToUse(threads)), output_(std::move(output)),
      blocks_(static_cast<std::size_t>(threads_)) {
    pending_.reserve(blocks_.size() * blockBytes);
}

void GzipStream::write(const std::uint8_t* bytes, std::size_t count) {
    while (count > 0) {
        if (pending_.size() == blocks_.size() * blockBytes) flush(false);
        const std::size_t step = std::min(count, blocks_.size() * blockBytes - pending_.size());
        pending_.insert(pending_.end(), bytes, bytes + step);
        bytes += step;
        count -= step;
    }
}

void GzipStream::finish() {
    flush(true);
    std::array<std::uint8_t, 8> trailer = {};
    putLittleEndian(trailer.data(), crc_);
    putLittleEndian(trailer.data() + 4, static_cast<std::uint32_t>(total_));
    output_(trailer.data(), trailer.size());
}

void GzipStream::compress(const std::uint8_t* bytes, std::size_t count, bool last, Block& block) const {
    Deflater deflater(level_);
    block.packed.resize(deflateBound(&deflater.stream, static_cast<uLong>(count)) + 16);
    deflater.stream.next_in = const_cast<Bytef*>(bytes); // zlib does not write to it
    deflater.stream.avail_in = static_cast<uInt>(count);
    deflater.stream.next_out = block.packed.data();
    deflater.stream.avail_out = static_cast<uInt>(block.packed.size());
    // A flush ends a block of deflate's on a byte, so that the next one can be put behind it.
    const int status = deflate(&deflater.stream, last ? Z_FINISH : Z_SYNC_FLUSH);
    if (status != (last ? Z_STREAM_END : Z_OK) || deflater.stream.avail_in != 0 || deflater.stream.avail_out == 0)
        throw Error("zlib: a block could not be compressed");
    block.packedBytes = block.packed.size() - deflater.stream.avail_out;
    block.crc = static_cast<std::uint32_t>(crc32(0, bytes, static_cast<uInt>(count)));
}

void GzipStream::flush(bool last) {
    if (!begun_) {
        // No name and no time, so that the same content gives the same bytes; 255: any system.
        constexpr std::array<std::uint8_t, 10> header = {0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 4, 255};
        output_(header.data(), header.size());
        begun_ = true;
    }
    const std::size_t count = std::max<std::size_t>((pending_.size() + blockBytes - 1) / blockBytes, last ? 1 : 0);
    const auto bytesOf = [&](std::size_t i) { return std::min(blockBytes, pending_.size() - i * blockBytes); };
    forEachParallel(count, threads_, [&](std::size_t i, std::size_t) {
        compress(pending_.data() + i * blockBytes, bytesOf(i), last && i + 1 == count, blocks_[i]);
    });
    for (std::size_t i = 0; i < count; ++i) {
        output_(blocks_[i].packed.data(), blocks_[i].packedBytes);
        crc_ = static_cast<std::uint32_t>(crc32_combine(crc_, blocks_[i].crc, static_cast<z_off_t>(bytesOf(i))));
        total_ += bytesOf(i);
    }
    pending_.clear();
}

} // namespace patchlight
