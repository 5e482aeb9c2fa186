#include "core/io/FitsChecksum.h"

#include "core/base/Error.h"
#include "core/io/FitsBlocks.h"
#include "core/io/FitsFile.h"
#include "core/io/FitsHeader.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include <fmt/format.h>

#include <zlib.h>

namespace patchlight {

namespace {

constexpr std::size_t cardBytes = 80;

/// Ones' complement sum of big-endian words of 32 bits; `count` is a multiple of 4. Sums of 64 bits overflow after 16 GiB only.
std::uint64_t sumWords(const std::uint8_t* bytes, std::size_t count, std::uint64_t sum) {
    std::uint64_t even = 0;
    for (std::size_t i = 0; i + 4 <= count; i += 4) {
        std::uint32_t word = 0;
        std::memcpy(&word, bytes + i, sizeof word);
        even += __builtin_bswap32(word);
    }
    sum += even;
    while ((sum >> 32U) != 0) sum = (sum & 0xFFFFFFFFU) + (sum >> 32U);
    return sum;
}

class BlockReader {
public:
    explicit BlockReader(const std::string& path)
        : path_(path), file_(::gzopen(path.c_str(), "rb"), &::gzclose), buffer_(bufferBlocks * fitsBlockSize) {
        if (!file_) throw Error(fmt::format("{}: cannot be read", printable(path)));
        (void)::gzbuffer(file_.get(), 1U << 20U);
    }

    /// Up to `most` blocks; fewer at the end of the buffer; none at the end of the file.
    std::size_t read(std::size_t most, const std::uint8_t*& blocks) {
        const std::size_t wanted = std::min(most, bufferBlocks) * fitsBlockSize;
        const int got = ::gzread(file_.get(), buffer_.data(), static_cast<unsigned>(wanted));
        if (got < 0) throw Error(fmt::format("{}: cannot be read, or damaged", printable(path_)));
        const auto count = static_cast<std::size_t>(got);
        if (count % fitsBlockSize != 0)
            throw Error(fmt::format("{}: ends amid a block of {} bytes", printable(path_), fitsBlockSize));
        blocks = buffer_.data();
        return count / fitsBlockSize;
    }

private:
    static constexpr std::size_t bufferBlocks = 364; ///< 1 MiB
    std::string path_;
    std::unique_ptr<gzFile_s, int (*)(gzFile)> file_;
    std::vector<std::uint8_t> buffer_;
};

/// Bytes of data that a header announces, without padding.
std::uint64_t dataBytes(const FitsHeader& header, const std::string& where) {
    const std::int64_t axes = header.integer("NAXIS").value_or(-1);
    const std::int64_t bitpix = header.integer("BITPIX").value_or(0);
    constexpr std::int64_t mostAxes = 999;
    if (axes < 0 || axes > mostAxes || bitpix == 0) throw Error(fmt::format("{}: no BITPIX or no NAXIS", where));
    if (axes == 0) return 0;
    constexpr std::uint64_t most = 1ULL << 50U;
    std::uint64_t pixels = 1;
    for (std::int64_t i = 1; i <= axes; ++i) {
        const std::int64_t length = header.integer(fmt::format("NAXIS{}", i)).value_or(-1);
        if (length < 0 || (length > 0 && pixels > most / static_cast<std::uint64_t>(length)))
            throw Error(fmt::format("{}: impossible NAXIS{}", where, i));
        pixels *= static_cast<std::uint64_t>(length);
    }
    const std::int64_t heap = header.integer("PCOUNT").value_or(0);
    if (heap < 0 || heap > static_cast<std::int64_t>(most)) throw Error(fmt::format("{}: impossible PCOUNT", where));
    return (pixels + static_cast<std::uint64_t>(heap)) * static_cast<std::uint64_t>(std::abs(bitpix) / 8);
}

} // namespace

void verifyChecksums(const std::string& path) {
    BlockReader reader(path);
    int hdus = 0;
    while (true) {
        FitsHeader header;
        std::uint64_t sum = 0;
        bool ended = false;
        std::size_t headerBlocks = 0;
        const std::string where = fmt::format("{}: HDU {}", printable(path), hdus);
        while (!ended) {
            const std::uint8_t* block = nullptr;
            if (reader.read(1, block) == 0) {
                if (headerBlocks == 0 && hdus > 0) return;
                throw Error(fmt::format("{}: the header is not complete", where));
            }
            constexpr std::size_t mostBlocks = 1000;
            if (++headerBlocks > mostBlocks) throw Error(fmt::format("{}: a header without end", where));
            sum = sumWords(block, fitsBlockSize, sum);
            for (std::size_t at = 0; at < fitsBlockSize && !ended; at += cardBytes) {
                std::string card(reinterpret_cast<const char*>(block) + at, cardBytes);
                ended = card.starts_with("END     ");
                if (!ended) header.addCard(std::move(card));
            }
        }
        std::uint64_t left = (dataBytes(header, where) + fitsBlockSize - 1) / fitsBlockSize;
        std::uint64_t dataSum = 0;
        while (left > 0) {
            const std::uint8_t* blocks = nullptr;
            const std::size_t got =
                reader.read(static_cast<std::size_t>(std::min<std::uint64_t>(left, 1U << 20U)), blocks);
            if (got == 0) throw Error(fmt::format("{}: the data are not complete", where));
            dataSum = sumWords(blocks, got * fitsBlockSize, dataSum);
            left -= got;
        }
        const auto announced = header.number("DATASUM");
        if (!announced || !header.has("CHECKSUM")) throw Error(fmt::format("{}: no CHECKSUM or no DATASUM", where));
        if (*announced != static_cast<double>(dataSum))
            throw Error(fmt::format("{}: DATASUM = {:.0f}, but the data sum to {}", where, *announced, dataSum));
        sum += dataSum;
        while ((sum >> 32U) != 0) sum = (sum & 0xFFFFFFFFU) + (sum >> 32U);
        if (sum != 0xFFFFFFFFU && sum != 0) throw Error(fmt::format("{}: CHECKSUM does not fit the HDU", where));
        ++hdus;
    }
}

} // namespace patchlight
