#include "core/io/FitsWriter.h"

#include "core/base/Error.h"
#include "core/base/Parallel.h"
#include "core/io/FitsBlocks.h"
#include "core/io/FitsFile.h"
#include "core/io/FitsTableLayout.h"
#include "core/io/GzipStream.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <mutex>
#include <optional>
#include <set>
#include <utility>

#include <fitsio.h>
#include <fmt/format.h>

namespace patchlight {

namespace {

constexpr std::size_t bufferBytes = std::size_t{1} << 18; ///< of one thread: stays in its cache
/// What the disk is given at once while more is converted.
constexpr std::size_t writebackBytes = std::size_t{1} << 23;
/// Noise hardly shrinks whatever the level; the fastest costs 3 % of size and saves most of the time.
constexpr int gzipLevel = 1;

/// The FITS check sum: 32-bit words added with the carry brought round. Sums of parts can be added in any order.
class CheckSum {
public:
    /// @param count a multiple of 4 in all calls but the last of an HDU's data
    void add(const std::uint8_t* bytes, std::size_t count) {
        std::uint64_t sum = 0; // 2^32 words fit
        std::size_t i = 0;
        for (; i + 4 <= count; i += 4) {
            std::uint32_t word = 0;
            std::memcpy(&word, bytes + i, 4);
            if constexpr (std::endian::native == std::endian::little) word = __builtin_bswap32(word);
            sum += word;
        }
        // Padding is zero.
        for (int shift = 24; i < count; ++i, shift -= 8) sum += static_cast<std::uint64_t>(bytes[i]) << shift;
        sum_ += folded(sum);
        sum_ = folded(sum_);
    }
    void add(const CheckSum& other) { sum_ = folded(sum_ + other.sum_); }
    [[nodiscard]] std::uint32_t value() const { return static_cast<std::uint32_t>(sum_); }
    /// The CHECKSUM that makes the sum of the whole HDU -0.
    [[nodiscard]] std::string encoded() const {
        std::array<char, 17> text = {};
        fits_encode_chksum(sum_, TRUE, text.data());
        return text.data();
    }

private:
    static std::uint64_t folded(std::uint64_t sum) {
        while (sum >> 32 != 0) sum = (sum & 0xFFFFFFFFU) + (sum >> 32);
        return sum;
    }
    std::uint64_t sum_ = 0;
};

template <class T> void toBigEndian(const T* values, std::size_t count, std::uint8_t* out) {
    using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
    for (std::size_t i = 0; i < count; ++i) {
        auto bits = std::bit_cast<Bits>(values[i]);
        if constexpr (std::endian::native == std::endian::little) {
            if constexpr (sizeof bits == 4)
                bits = __builtin_bswap32(bits);
            else
                bits = __builtin_bswap64(bits);
        }
        std::memcpy(out + i * sizeof bits, &bits, sizeof bits);
    }
}

float narrowed(double value) {
    constexpr double largest = std::numeric_limits<float>::max();
    if (std::abs(value) > largest && std::isfinite(value)) // a plain cast is undefined there
        return value > 0 ? std::numeric_limits<float>::infinity() : -std::numeric_limits<float>::infinity();
    return static_cast<float>(value);
}

bool isLegalKeyword(std::string_view keyword) {
    return std::all_of(keyword.begin(), keyword.end(), [](char c) {
        return (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == ' ';
    });
}

/// Cards of another HDU that may stand in any HDU: no layout, no name, no unit, not the comment on the FITS standard itself.
void carryOver(const FitsHeader& from, FitsHeader& to) {
    bool continued = false;
    for (const std::string& card : from.cards()) {
        const std::string_view keyword = std::string_view(card).substr(0, 8);
        if (FitsHeader::isStructural(card) || keyword == "EXTNAME " || keyword == "BUNIT   " || keyword == "EXTVER  " ||
            keyword == "EXTLEVEL" || !isLegalKeyword(keyword))
            continue;
        if (card.starts_with("COMMENT   FITS (Flexible Image Transport System) format") ||
            card.starts_with("COMMENT   and Astrophysics', volume 376, page 359"))
            continue;
        continued = continued || keyword == "CONTINUE";
        to.addCard(card);
    }
    // Readers of the older convention look for this.
    if (continued && !to.has("LONGSTRN")) to.set("LONGSTRN", "OGIP 1.0", "long text is continued in CONTINUE cards");
}

std::string headerBytes(const FitsHeader& header) {
    std::string bytes;
    bytes.reserve((header.cards().size() + 1) * fitsCardSize + fitsBlockSize);
    for (const std::string& card : header.cards()) bytes += card;
    bytes += "END";
    bytes.resize((bytes.size() + fitsBlockSize - 1) / fitsBlockSize * fitsBlockSize, ' ');
    return bytes;
}

} // namespace

/// Where the bytes go: the file, or through gzip.
class FitsWriter::Sink {
public:
    Sink(const std::string& path, int threads) : file_(path) {
        if (path.ends_with(".gz"))
            gzip_.emplace(gzipLevel, threads,
                          [this](const std::uint8_t* bytes, std::size_t count) { file_.write(bytes, count); });
    }

    [[nodiscard]] std::string name() const { return printable(file_.target()); }
    [[nodiscard]] bool isGzip() const { return gzip_.has_value(); }
    /// The file itself, which takes bytes at any place; not where it is compressed.
    [[nodiscard]] AtomicFile& file() { return file_; }
    /// Appends bytes.
    void write(const void* bytes, std::size_t count) {
        if (gzip_)
            gzip_->write(static_cast<const std::uint8_t*>(bytes), count);
        else
            file_.write(bytes, count);
    }
    void commit() {
        if (gzip_) gzip_->finish();
        file_.commit();
    }

private:
    AtomicFile file_;
    std::optional<GzipStream> gzip_;
};

FitsWriter::FitsWriter(const std::string& path, int threads)
    : sink_(std::make_unique<Sink>(path, threads)), threads_(threads) {}
FitsWriter::~FitsWriter() = default;

void FitsWriter::commit() {
    requirePrimary();
    sink_->commit();
}

void FitsWriter::addHdu(FitsHeader header, std::size_t elements, std::size_t elementBytes, const Encode& encode) {
    const std::size_t step = std::max<std::size_t>(bufferBytes / elementBytes, 1);
    const std::size_t blocks = (elements + step - 1) / step;
    const std::size_t dataBytes = elements * elementBytes;
    const std::string padding((fitsBlockSize - dataBytes % fitsBlockSize) % fitsBlockSize, '\0');

    // Sums of the header as it stands; the cards that hold them keep their size, so that the place of the data is known before.
    header.set("CHECKSUM", "0000000000000000", "HDU checksum");
    header.set("DATASUM", "0", "data unit checksum");
    const std::size_t headerSize = headerBytes(header).size();
    const auto summedHeader = [&](CheckSum sum) {
        header.set("DATASUM", fmt::format("{}", sum.value()), "data unit checksum");
        const std::string unsummed = headerBytes(header);
        sum.add(reinterpret_cast<const std::uint8_t*>(unsummed.data()), unsummed.size());
        header.set("CHECKSUM", sum.encoded(), "HDU checksum");
        return headerBytes(header);
    };

    // Converts all pixels, on several threads, each into a buffer of its own; returns their sum.
    std::vector<std::vector<std::uint8_t>> buffers(workersFor(blocks, threads_));
    const auto forEachBlock = [&](auto use) {
        std::vector<CheckSum> sums(buffers.size());
        forEachParallel(blocks, threads_, [&](std::size_t block, std::size_t worker) {
            std::vector<std::uint8_t>& buffer = buffers[worker];
            const std::size_t first = block * step;
            const std::size_t count = std::min(step, elements - first);
            buffer.resize(std::min(step, elements) * elementBytes);
            encode(first, count, buffer.data());
            sums[worker].add(buffer.data(), count * elementBytes);
            use(first * elementBytes, buffer.data(), count * elementBytes);
        });
        CheckSum sum;
        for (const CheckSum& part : sums) sum.add(part);
        return sum;
    };

    if (sink_->isGzip()) {
        // The sums stand in front of the data, so that these are converted twice rather than kept.
        const std::string bytes = summedHeader(forEachBlock([](std::size_t, const std::uint8_t*, std::size_t) {}));
        sink_->write(bytes.data(), bytes.size());
        std::vector<std::uint8_t>& buffer = buffers.front();
        buffer.resize(std::min(step, elements) * elementBytes);
        for (std::size_t first = 0; first < elements; first += step) {
            const std::size_t count = std::min(step, elements - first);
            encode(first, count, buffer.data());
            sink_->write(buffer.data(), count * elementBytes);
        }
        sink_->write(padding.data(), padding.size());
    } else {
        AtomicFile& file = sink_->file();
        const std::uint64_t headerAt = file.reserve(headerSize + dataBytes + padding.size());
        const std::uint64_t dataAt = headerAt + headerSize;
        const CheckSum sum = forEachBlock([&](std::size_t offset, const std::uint8_t* bytes, std::size_t count) {
            file.writeAt(dataAt + offset, bytes, count);
            // From time to time, what lies some blocks behind; all threads are through with it.
            if (offset % writebackBytes == 0 && offset >= 2 * writebackBytes)
                file.startWriteback(dataAt + offset - 2 * writebackBytes, writebackBytes);
        });
        file.writeAt(dataAt + dataBytes, padding.data(), padding.size());
        const std::string bytes = summedHeader(sum);
        file.writeAt(headerAt, bytes.data(), bytes.size());
        file.startWriteback(headerAt, headerSize + dataBytes + padding.size());
    }
    ++hduCount_;
}

void FitsWriter::requirePrimary() {
    if (hduCount_ > 0) return;
    FitsHeader header;
    header.set("SIMPLE", true, "conforms to FITS standard");
    header.set("BITPIX", 8, "array data type");
    header.set("NAXIS", 0, "number of array dimensions");
    header.set("EXTEND", true);
    addHdu(header, 0, 1, [](std::size_t, std::size_t, std::uint8_t*) {});
}

void FitsWriter::addEncoded(const FitsImageSpec& spec, int bitpix, bool unsignedIntegers, std::size_t elements,
                            const Encode& encode) {
    std::size_t expected = spec.shape.empty() ? 0 : 1;
    for (const std::int64_t length : spec.shape) expected *= static_cast<std::size_t>(length);
    if (elements != expected)
        throw Error(fmt::format("{}: HDU {}: {} pixels, {} expected", sink_->name(), spec.name, elements,
                                fmt::join(spec.shape, " x ")));

    FitsHeader header;
    const bool primary = hduCount_ == 0;
    if (primary)
        header.set("SIMPLE", true, "conforms to FITS standard");
    else
        header.set("XTENSION", "IMAGE", "image extension");
    header.set("BITPIX", bitpix, "array data type");
    header.set("NAXIS", static_cast<std::int64_t>(spec.shape.size()), "number of array dimensions");
    for (std::size_t axis = 0; axis < spec.shape.size(); ++axis)
        header.set(fmt::format("NAXIS{}", axis + 1), spec.shape[axis]);
    if (primary) {
        header.set("EXTEND", true);
    } else {
        header.set("PCOUNT", 0, "number of parameters");
        header.set("GCOUNT", 1, "number of groups");
    }
    if (unsignedIntegers) {
        header.set("BSCALE", 1, "unsigned 32-bit integers");
        header.set("BZERO", std::int64_t{1} << 31, "offset of unsigned integers");
    }
    if (!spec.name.empty()) header.set("EXTNAME", spec.name, "extension name");
    if (!spec.unit.empty()) header.set("BUNIT", spec.unit);
    // The check sums come before the cards carried over, whose COMMENTs may go on for pages.
    header.set("CHECKSUM", "");
    header.set("DATASUM", "");
    carryOver(spec.header, header);
    addHdu(std::move(header), elements, static_cast<std::size_t>(std::abs(bitpix)) / 8, encode);
}

void FitsWriter::addImage(const FitsImageSpec& spec, std::span<const float> pixels) {
    addEncoded(spec, -32, false, pixels.size(), [&](std::size_t first, std::size_t count, std::uint8_t* out) {
        toBigEndian(pixels.data() + first, count, out);
    });
}

void FitsWriter::addImage(const FitsImageSpec& spec, std::span<const double> pixels) {
    addEncoded(spec, -64, false, pixels.size(), [&](std::size_t first, std::size_t count, std::uint8_t* out) {
        toBigEndian(pixels.data() + first, count, out);
    });
}

void FitsWriter::addImage(const FitsImageSpec& spec, std::span<const std::int32_t> pixels) {
    addEncoded(spec, 32, false, pixels.size(), [&](std::size_t first, std::size_t count, std::uint8_t* out) {
        toBigEndian(pixels.data() + first, count, out);
    });
}

void FitsWriter::addImage(const FitsImageSpec& spec, std::span<const std::uint32_t> pixels) {
    addEncoded(spec, 32, true, pixels.size(), [&](std::size_t first, std::size_t count, std::uint8_t* out) {
        for (std::size_t i = 0; i < count; ++i) {
            const std::uint32_t shifted = pixels[first + i] ^ 0x80000000U; // minus 2^31, as a signed number
            toBigEndian(&shifted, 1, out + 4 * i);
        }
    });
}

void FitsWriter::addImageAsFloat(const FitsImageSpec& spec, std::span<const double> pixels) {
    addEncoded(spec, -32, false, pixels.size(), [&](std::size_t first, std::size_t count, std::uint8_t* out) {
        for (std::size_t i = 0; i < count; ++i) {
            const float value = narrowed(pixels[first + i]);
            toBigEndian(&value, 1, out + 4 * i);
        }
    });
}

namespace {

/// A CFITSIO file in memory that is being written.
class MemoryOutput {
public:
    /// @param bytes at least what the file will need. CFITSIO reads tiles that were not written yet, and takes what it finds in
    /// memory that it enlarged itself for their descriptors: so the memory is there from the start, and zero.
    MemoryOutput(const std::string& what, std::size_t bytes)
        : what_(what), bytes_(std::calloc(bytes, 1)), allocated_(bytes) {
        if (bytes_ == nullptr) throw Error(fmt::format("{}: not enough memory to compress it", what));
        int status = 0;
        constexpr std::size_t growth = std::size_t{1} << 20;
        static std::mutex opening; // the first use of CFITSIO fills its tables without a lock
        const std::lock_guard lock(opening);
        fits_create_memfile(&handle_, &bytes_, &allocated_, growth, std::realloc, &status);
        check(status);
    }
    ~MemoryOutput() {
        if (handle_ != nullptr) {
            int status = 0;
            fits_close_file(handle_, &status);
            fits_clear_errmsg();
        }
        std::free(bytes_);
    }
    MemoryOutput(const MemoryOutput&) = delete;
    MemoryOutput& operator=(const MemoryOutput&) = delete;

    [[nodiscard]] fitsfile* handle() const { return handle_; }
    [[nodiscard]] const std::uint8_t* bytes() const { return static_cast<const std::uint8_t*>(bytes_); }
    void check(int status) const {
        if (status != 0) throw Error(fmt::format("{}: {}", what_, cfitsioMessage(status)));
    }

private:
    std::string what_;
    fitsfile* handle_ = nullptr;
    void* bytes_ = nullptr;
    std::size_t allocated_ = 0;
};

} // namespace

void FitsWriter::addCompressedImage(const FitsImageSpec& spec, std::span<const std::int32_t> pixels) {
    requirePrimary();
    const std::string what = fmt::format("{}: HDU {}", sink_->name(), spec.name);
    if (spec.shape.size() != 2 || static_cast<std::size_t>(spec.shape[0] * spec.shape[1]) != pixels.size())
        throw Error(fmt::format("{}: {} pixels, {} expected", what, pixels.size(), fmt::join(spec.shape, " x ")));
    // Rice code at its worst: 5 bits for a block of 32 pixels and all their bits; 4 bytes and a descriptor a row.
    const std::size_t bound =
        pixels.size() * 4 + pixels.size() / 32 + static_cast<std::size_t>(spec.shape[1]) * 64 + (std::size_t{1} << 20);
    const MemoryOutput memory(what, bound);
    int status = 0;
    std::array<long, 2> shape = {static_cast<long>(spec.shape[0]), static_cast<long>(spec.shape[1])};
    fits_set_compression_type(memory.handle(), RICE_1, &status);
    fits_create_img(memory.handle(), LONG_IMG, 2, shape.data(), &status);
    // CFITSIO's signature lacks a const here; it does not write to the array.
    fits_write_img(memory.handle(), TINT, 1, static_cast<LONGLONG>(pixels.size()),
                   const_cast<std::int32_t*>(pixels.data()), &status);
    fits_flush_file(memory.handle(), &status);
    memory.check(status);

    // The HDU that CFITSIO made, header and data, becomes one of this file.
    LONGLONG headerAt = 0;
    LONGLONG dataAt = 0;
    LONGLONG end = 0;
    fits_get_hduaddrll(memory.handle(), &headerAt, &dataAt, &end, &status);
    LONGLONG rowBytes = 0;
    LONGLONG rows = 0;
    LONGLONG heapBytes = 0;
    fits_read_key(memory.handle(), TLONGLONG, "NAXIS1", &rowBytes, nullptr, &status);
    fits_read_key(memory.handle(), TLONGLONG, "NAXIS2", &rows, nullptr, &status);
    fits_read_key(memory.handle(), TLONGLONG, "PCOUNT", &heapBytes, nullptr, &status);
    memory.check(status);
    const std::uint8_t* bytes = memory.bytes();
    FitsHeader header;
    for (LONGLONG at = headerAt; at < dataAt; at += static_cast<LONGLONG>(fitsCardSize)) {
        std::string card(reinterpret_cast<const char*>(bytes + at), fitsCardSize);
        if (card.starts_with("END     ")) break;
        if (!card.starts_with("EXTNAME ") && !card.starts_with("COMMENT")) header.addCard(std::move(card));
    }
    header.set("EXTNAME", spec.name, "extension name");
    if (!spec.unit.empty()) header.set("BUNIT", spec.unit);
    carryOver(spec.header, header);
    const auto total = static_cast<std::size_t>(rowBytes * rows + heapBytes);
    addHdu(std::move(header), total, 1, [&](std::size_t first, std::size_t count, std::uint8_t* out) {
        std::memcpy(out, bytes + dataAt + first, count);
    });
}

void FitsWriter::addTable(const FitsTable& table) {
    requirePrimary();
    const std::string what = fmt::format("{}: HDU {}", sink_->name(), table.name);
    const std::vector<FitsColumn> columns = fitsColumns(table.header, table.rowBytes, what);
    std::size_t width = 0;
    for (const FitsColumn& column : columns) width += column.bytes();
    if (width != table.rowBytes || table.bytes.size() != table.rowBytes * table.rowCount)
        throw Error(
            fmt::format("{}: {} bytes, {} rows of {} bytes expected", what, table.bytes.size(), table.rowCount, width));

    FitsHeader header;
    header.set("XTENSION", "BINTABLE", "binary table extension");
    header.set("BITPIX", 8, "array data type");
    header.set("NAXIS", 2, "number of array dimensions");
    header.set("NAXIS1", static_cast<std::int64_t>(table.rowBytes), "bytes in a row");
    header.set("NAXIS2", static_cast<std::int64_t>(table.rowCount), "number of rows");
    header.set("PCOUNT", static_cast<std::int64_t>(table.heap.size()), "bytes of variable-length arrays");
    header.set("GCOUNT", 1, "number of groups");
    header.set("TFIELDS", static_cast<std::int64_t>(columns.size()), "number of columns");
    if (!table.name.empty()) header.set("EXTNAME", table.name, "extension name");
    std::set<std::string> written = {"CHECKSUM", "DATASUM", "THEAP", "SIMPLE", "EXTEND"}; // ours, or of no use here
    const auto keywordOf = [](const std::string& card) { return card.substr(0, card.find_first_of(" =")); };
    for (const std::string& card : header.cards()) written.insert(keywordOf(card));
    for (const std::string& card : table.header.cards())
        if (!written.contains(keywordOf(card)) && isLegalKeyword(std::string_view(card).substr(0, 8)))
            header.addCard(card);
    addHdu(std::move(header), table.bytes.size() + table.heap.size(), 1,
           [&](std::size_t first, std::size_t count, std::uint8_t* out) {
               for (std::size_t i = 0; i < count;) {
                   const bool rows = first + i < table.bytes.size();
                   const std::vector<std::uint8_t>& from = rows ? table.bytes : table.heap;
                   const std::size_t at = rows ? first + i : first + i - table.bytes.size();
                   const std::size_t step = std::min(count - i, from.size() - at);
                   std::memcpy(out + i, from.data() + at, step);
                   i += step;
               }
           });
}

} // namespace patchlight
