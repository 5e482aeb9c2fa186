#include "core/io/FitsFile.h"

#include "core/base/Error.h"
#include "core/base/Memory.h"
#include "core/base/Parallel.h"
#include "core/io/FitsBlocks.h"
#include "core/io/FitsTableLayout.h"
#include "core/io/Inflater.h"
#include "core/io/PlioCode.h"
#include "core/io/RiceCode.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <limits>
#include <mutex>
#include <optional>
#include <sys/stat.h>
#include <type_traits>
#include <unistd.h>
#include <utility>

#include <fitsio.h>
#include <fmt/format.h>
#include <libdeflate.h>
#include <spdlog/spdlog.h>

/// CFITSIO's, exported but declared in no header for users.
extern "C" int fits_init_randoms(void);

namespace patchlight {

namespace {

constexpr std::size_t maxCards = 30000; ///< of one header; real ones have a few hundred
constexpr int maxAxes = 16;
/// No deflate stream is smaller than 1/1032 of what it holds; Rice needs 5 bits for a block of 32 pixels.
constexpr std::uint64_t maxDeflateRatio = 1032;
/// More than this is no file of a spectrograph but a mistake (or an attack): a 4k x 4k preproc file has 0.3 GiB.
constexpr std::uint64_t maxInflatedBytes = std::uint64_t{16} << 30;

constexpr std::uint64_t paddedToBlock(std::uint64_t bytes) {
    return (bytes + fitsBlockSize - 1) / fitsBlockSize * fitsBlockSize;
}

bool isRegularFile(const std::string& path) {
    struct stat info = {};
    return ::stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode);
}

} // namespace

/// The bytes of a file from its begin to its end: read in order, or, in plain files, skipped. A gzip file is inflated as it is read.
class FitsFile::Source {
public:
    explicit Source(const std::string& path) : path_(path) {
        // O_NONBLOCK: a pipe that nobody writes to is refused, not waited for.
        fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        if (fd_ < 0) throw Error(fmt::format("{}: {}", printable(path), std::strerror(errno)));
        struct stat info = {};
        if (::fstat(fd_, &info) != 0 || !S_ISREG(info.st_mode)) {
            const bool folder = S_ISDIR(info.st_mode);
            ::close(fd_);
            throw Error(fmt::format("{}: {}, a FITS file expected", printable(path),
                                    folder ? "a directory" : "not a regular file"));
        }
        size_ = static_cast<std::uint64_t>(info.st_size);
        try {
            std::array<std::uint8_t, 2> magic = {};
            if (size_ >= magic.size() && readAt(0, magic.data(), magic.size()) == magic.size() && magic[0] == 0x1F &&
                magic[1] == 0x8B)
                gzip_.emplace([this](std::uint8_t* bytes, std::size_t count) {
                    const std::size_t got = readAt(packedRead_, bytes, count);
                    packedRead_ += got;
                    return got;
                });
        } catch (...) {
            ::close(fd_);
            throw;
        }
    }
    ~Source() { ::close(fd_); }
    Source(const Source&) = delete;
    Source& operator=(const Source&) = delete;

    [[nodiscard]] bool isGzip() const { return gzip_.has_value(); }
    [[nodiscard]] std::uint64_t size() const { return size_; }
    [[nodiscard]] std::uint64_t position() const { return position_; } ///< in the inflated bytes

    /// Reads up to `count` bytes; fewer only at the end.
    std::size_t read(std::uint8_t* out, std::size_t count) {
        const std::size_t got = gzip_ ? inflate(out, count) : readAt(position_, out, count);
        position_ += got;
        return got;
    }
    /// Skips bytes; false where the file ends before.
    bool skip(std::uint64_t count) {
        if (!gzip_) {
            if (count > size_ || position_ > size_ - count) return false;
            position_ += count;
            return true;
        }
        std::vector<std::uint8_t> scratch(static_cast<std::size_t>(std::min<std::uint64_t>(count, 1U << 18U)));
        while (count > 0) {
            const std::size_t step = static_cast<std::size_t>(std::min<std::uint64_t>(count, scratch.size()));
            if (read(scratch.data(), step) != step) return false;
            count -= step;
        }
        return true;
    }
    /// Whether a stretch of data of this size can be there at all, before anything is allocated for it.
    [[nodiscard]] bool canHold(std::uint64_t count) const {
        if (!gzip_) return count <= size_ && position_ <= size_ - count;
        return count <= maxInflatedBytes && count / maxDeflateRatio <= size_;
    }
    std::size_t readAt(std::uint64_t offset, std::uint8_t* out, std::size_t count) const {
        std::size_t done = 0;
        while (done < count) {
            const ssize_t got = ::pread(fd_, out + done, count - done, static_cast<off_t>(offset + done));
            if (got < 0 && errno == EINTR) continue;
            if (got < 0) throw Error(fmt::format("{}: reading failed: {}", printable(path_), std::strerror(errno)));
            if (got == 0) break;
            done += static_cast<std::size_t>(got);
        }
        return done;
    }

private:
    std::size_t inflate(std::uint8_t* out, std::size_t count) {
        try {
            if (position_ + count > maxInflatedBytes)
                throw Inflater::Failure(fmt::format("larger than {} GiB when inflated", maxInflatedBytes >> 30));
            return gzip_->read(out, count);
        } catch (const Inflater::Failure& failure) {
            throw Error(fmt::format("{}: the gzip stream is {} ({} of {} bytes read)", printable(path_), failure.what(),
                                    packedRead_, size_));
        }
    }

    std::string path_;
    int fd_ = -1;
    std::uint64_t size_ = 0;
    std::uint64_t position_ = 0;
    std::uint64_t packedRead_ = 0; ///< bytes of a gzip file that were read
    std::optional<Inflater> gzip_;
};

/// Where an HDU's data are: in the plain file, or in memory.
struct FitsFile::Data {
    std::uint64_t offset = 0;
    std::optional<RawMemory> memory;
};

bool FitsHdu::isImage(std::size_t axes) const {
    if ((kind != FitsHduKind::Image && kind != FitsHduKind::CompressedImage) || shape.size() != axes) return false;
    return std::all_of(shape.begin(), shape.end(), [](std::int64_t n) { return n > 0; });
}

std::string FitsHdu::shapeText() const {
    return shape.empty() ? "no pixels" : fmt::format("{}", fmt::join(shape, " x "));
}

std::string existingFitsPath(const std::string& path) {
    struct stat info = {};
    if (::stat(path.c_str(), &info) == 0) return path;
    const std::string other = path.ends_with(".gz") ? path.substr(0, path.size() - 3) : path + ".gz";
    return isRegularFile(other) ? other : path;
}

std::string printable(std::string_view text) {
    constexpr std::size_t longest = 300;
    std::string result(text.substr(0, longest));
    for (char& c : result)
        if (c < ' ' || c == '\x7F') c = '?';
    return text.size() > longest ? result + "..." : result;
}

std::string cfitsioMessage(int status) {
    std::array<char, FLEN_STATUS> words = {};
    fits_get_errstatus(status, words.data());
    // The first message of the stack is the one nearest to the cause.
    std::array<char, FLEN_ERRMSG> first = {};
    fits_read_errmsg(first.data());
    fits_clear_errmsg();
    std::string text = fmt::format("CFITSIO: {} (status {})", printable(words.data()), status);
    if (first[0] != '\0') text += fmt::format(": {}", printable(first.data()));
    return text;
}

namespace {

/// Reads the cards of a header up to END, whose first block has been read. Bytes that FITS forbids become '?'.
template <class NextBlock>
FitsHeader readHeader(std::array<std::uint8_t, fitsBlockSize>& block, NextBlock next, const std::string& what) {
    FitsHeader header;
    for (;;) {
        for (std::size_t at = 0; at < fitsBlockSize; at += fitsCardSize) {
            std::string card(reinterpret_cast<const char*>(block.data() + at), fitsCardSize);
            if (card.starts_with("END     ")) return header;
            for (char& c : card)
                if (c < ' ' || c > '~') c = '?';
            header.addCard(std::move(card));
        }
        if (header.cards().size() > maxCards)
            throw Error(fmt::format("{}: no END within {} header cards", what, maxCards));
        if (!next(block))
            throw Error(fmt::format("{}: the file ends inside the header (no END card): truncated", what));
    }
}

bool isTrue(const FitsHeader& header, std::string_view keyword) { return header.text(keyword).value_or("") == "T"; }

std::string valueText(const FitsHeader& header, std::string_view keyword) {
    const std::optional<std::string> text = header.text(keyword);
    return text ? printable(*text) : "(missing)";
}

/// The mandatory cards of an HDU, in the order that the standard prescribes: nothing else decides where the data end, here as in
/// CFITSIO.
class MandatoryCards {
public:
    MandatoryCards(const FitsHeader& header, std::string what) : header_(header), what_(std::move(what)) {}

    /// Value of the next card, which must be `keyword`.
    std::int64_t next(const std::string& keyword, std::int64_t lowest, std::int64_t highest) {
        const std::vector<std::string>& cards = header_.cards();
        if (at_ >= cards.size() || !cards[at_].starts_with(fmt::format("{:<8}=", keyword)))
            throw Error(fmt::format("{}: {} expected as card {}, found '{}'", what_, keyword, at_ + 1,
                                    at_ < cards.size() ? printable(cards[at_].substr(0, 30)) : "END"));
        FitsHeader one;
        one.addCard(cards[at_++]);
        const std::optional<std::int64_t> value = one.integer(keyword);
        if (!value || *value < lowest || *value > highest)
            throw Error(fmt::format("{}: {} = {}, {} expected", what_, keyword, valueText(one, keyword),
                                    highest == std::numeric_limits<std::int64_t>::max()
                                        ? fmt::format("a number from {} up", lowest)
                                        : fmt::format("{} to {}", lowest, highest)));
        return *value;
    }
    void skipOne() { ++at_; }

private:
    const FitsHeader& header_;
    std::string what_;
    std::size_t at_ = 0;
};

constexpr std::int64_t anyCount = std::numeric_limits<std::int64_t>::max();

bool isBitpix(std::int64_t bitpix) {
    return bitpix == 8 || bitpix == 16 || bitpix == 32 || bitpix == 64 || bitpix == -32 || bitpix == -64;
}

/// Product of sizes; nothing where it overflows.
std::optional<std::uint64_t> product(std::initializer_list<std::uint64_t> factors) {
    std::uint64_t result = 1;
    for (const std::uint64_t factor : factors)
        if (__builtin_mul_overflow(result, factor, &result)) return std::nullopt;
    return result;
}

/// Fills in what a header says of an HDU's data.
void describeHdu(FitsHdu& hdu, const std::string& what) {
    const FitsHeader& header = hdu.header;
    MandatoryCards mandatory(header, what);
    mandatory.skipOne(); // SIMPLE or XTENSION
    const std::int64_t bitpix = mandatory.next("BITPIX", -64, 64);
    if (!isBitpix(bitpix))
        throw Error(fmt::format("{}: BITPIX = {}, one of 8, 16, 32, 64, -32, -64 expected", what, bitpix));
    hdu.bitpix = static_cast<int>(bitpix);
    const std::int64_t naxis = mandatory.next("NAXIS", 0, maxAxes);
    for (std::int64_t axis = 1; axis <= naxis; ++axis)
        hdu.shape.push_back(mandatory.next(fmt::format("NAXIS{}", axis), 0, anyCount));

    std::uint64_t parameters = 0;
    std::uint64_t groups = 1;
    bool randomGroups = false;
    if (hdu.index > 0) {
        parameters = static_cast<std::uint64_t>(mandatory.next("PCOUNT", 0, anyCount));
        groups = static_cast<std::uint64_t>(mandatory.next("GCOUNT", 0, anyCount));
    } else if (isTrue(header, "GROUPS") && naxis > 0 && hdu.shape[0] == 0) {
        randomGroups = true; // radio astronomy's oldest format: kept out, but its size must be known
        parameters = static_cast<std::uint64_t>(std::max<std::int64_t>(0, header.integer("PCOUNT").value_or(0)));
        groups = static_cast<std::uint64_t>(std::max<std::int64_t>(0, header.integer("GCOUNT").value_or(1)));
    }
    std::optional<std::uint64_t> elements = naxis == 0 ? 0 : 1;
    for (std::size_t axis = randomGroups ? 1 : 0; axis < hdu.shape.size() && elements; ++axis)
        elements = product({*elements, static_cast<std::uint64_t>(hdu.shape[axis])});
    std::optional<std::uint64_t> bytes;
    std::uint64_t sum = 0;
    if (elements && !__builtin_add_overflow(*elements, parameters, &sum))
        bytes = product({sum, groups, static_cast<std::uint64_t>(std::abs(bitpix)) / 8});
    if (!bytes || *bytes > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()) / 2)
        throw Error(fmt::format("{}: NAXISn = {}: more data than any file holds", what, hdu.shapeText()));
    hdu.dataBytes = *bytes;

    const std::string extension = hdu.index == 0 ? "IMAGE" : header.text("XTENSION").value_or("");
    if (extension == "IMAGE" && !randomGroups && parameters == 0 && groups == 1) {
        hdu.kind = FitsHduKind::Image;
    } else if (extension == "BINTABLE" || extension == "A3DTABLE") {
        if (bitpix != 8 || naxis != 2 || groups != 1)
            throw Error(fmt::format("{}: BITPIX = {}, NAXIS = {}, GCOUNT = {}; 8, 2 and 1 expected of a table", what,
                                    bitpix, naxis, groups));
        hdu.kind = FitsHduKind::Table;
        hdu.rowBytes = static_cast<std::uint64_t>(hdu.shape[0]);
        hdu.rowCount = static_cast<std::uint64_t>(hdu.shape[1]);
        if (!isTrue(header, "ZIMAGE")) return;
        hdu.kind = FitsHduKind::CompressedImage;
        const std::int64_t zbitpix = header.integer("ZBITPIX").value_or(0);
        const std::int64_t znaxis = header.integer("ZNAXIS").value_or(-1);
        if (!isBitpix(zbitpix))
            throw Error(fmt::format("{}: ZBITPIX = {}, one of 8, 16, 32, 64, -32, -64 expected", what,
                                    valueText(header, "ZBITPIX")));
        if (znaxis < 0 || znaxis > maxAxes)
            throw Error(fmt::format("{}: ZNAXIS = {}, 0 to {} expected", what, valueText(header, "ZNAXIS"), maxAxes));
        hdu.bitpix = static_cast<int>(zbitpix);
        hdu.shape.clear();
        for (std::int64_t axis = 1; axis <= znaxis; ++axis) {
            const std::string keyword = fmt::format("ZNAXIS{}", axis);
            const std::int64_t length = header.integer(keyword).value_or(-1);
            if (length < 0)
                throw Error(
                    fmt::format("{}: {} = {}, a number from 0 up expected", what, keyword, valueText(header, keyword)));
            hdu.shape.push_back(length);
        }
    }
}

} // namespace

FitsFile::~FitsFile() = default;

FitsFile::FitsFile(const std::string& path, const Wanted& wanted, int threads, Listener* listener)
    : path_(existingFitsPath(path)), threads_(threads) {
    struct stat info = {};
    if (::stat(path_.c_str(), &info) != 0 && errno == ENOENT) {
        const std::string other = path.ends_with(".gz") ? "without .gz" : "with .gz";
        throw Error(fmt::format("{}: no such file (nor {})", printable(path), other));
    }
    source_ = std::make_unique<Source>(path_);
    fileBytes_ = source_->size();
    const std::string shown = printable(path_);
    if (fileBytes_ == 0) throw Error(fmt::format("{}: the file is empty, a FITS file expected", shown));

    std::array<std::uint8_t, fitsBlockSize> block = {};
    const auto nextBlock = [&](std::array<std::uint8_t, fitsBlockSize>& into) {
        return source_->read(into.data(), fitsBlockSize) == fitsBlockSize;
    };
    for (int index = 0;; ++index) {
        FitsHdu hdu;
        hdu.index = index;
        const std::size_t got = source_->read(block.data(), fitsBlockSize);
        const std::string_view start(reinterpret_cast<const char*>(block.data()), std::min<std::size_t>(got, 9));
        if (index == 0 && start != "SIMPLE  =")
            throw Error(
                fmt::format("{}: not a FITS file: it begins with '{}', 'SIMPLE  =' expected", shown, printable(start)));
        if (got == 0) break;
        if (got < fitsBlockSize)
            throw Error(fmt::format("{}: truncated: {} bytes behind HDU {}, FITS files have whole blocks of {}", shown,
                                    got, index - 1, fitsBlockSize));
        if (index > 0 && !start.starts_with("XTENSION=")) {
            spdlog::warn("{}: what follows HDU {} is no HDU and is not read", shown, index - 1);
            break;
        }
        const std::string unnamed = fmt::format("{}: HDU {}", shown, index);
        hdu.header = readHeader(block, nextBlock, unnamed);
        hdu.name = printable(hdu.header.text("EXTNAME").value_or(""));
        const std::string what = where(hdu);
        describeHdu(hdu, what);

        const std::uint64_t padded = paddedToBlock(hdu.dataBytes);
        Data data;
        data.offset = source_->position();
        bool complete = source_->canHold(padded);
        if (complete && source_->isGzip() && hdu.dataBytes > 0 && listener != nullptr && listener->takes(*this, hdu)) {
            complete = passOn(hdu, *listener) && source_->skip(padded - hdu.dataBytes);
        } else if (complete && source_->isGzip() && hdu.dataBytes > 0 && (!wanted || wanted(hdu))) {
            try {
                data.memory.emplace(static_cast<std::size_t>(hdu.dataBytes));
            } catch (const std::bad_alloc&) {
                throw Error(fmt::format("{}: not enough memory for {} bytes", what, hdu.dataBytes));
            }
            auto* memory = static_cast<std::uint8_t*>(data.memory->get());
            complete = source_->read(memory, static_cast<std::size_t>(hdu.dataBytes)) == hdu.dataBytes &&
                       source_->skip(padded - hdu.dataBytes);
        } else if (complete) {
            complete = source_->skip(padded);
        }
        if (!complete)
            throw Error(fmt::format(
                "{}: {} bytes of data expected ({}), the file has {}: truncated", what, padded,
                hdu.kind == FitsHduKind::Table ? fmt::format("{} rows of {} bytes", hdu.rowCount, hdu.rowBytes)
                                               : hdu.shapeText(),
                source_->isGzip() ? "fewer"
                                  : fmt::format("{} from there on", fileBytes_ - std::min(fileBytes_, data.offset))));
        hdus_.push_back(std::move(hdu));
        data_.push_back(std::move(data));
        if (listener != nullptr) listener->complete(*this, hdus_.back());
    }
}

bool FitsFile::passOn(const FitsHdu& hdu, Listener& listener) {
    constexpr std::uint64_t most = std::uint64_t{1} << 20; // stays in the cache until it has been taken
    std::vector<std::uint8_t> buffer(static_cast<std::size_t>(std::min(most, hdu.dataBytes)));
    for (std::uint64_t first = 0; first < hdu.dataBytes; first += most) {
        const auto count = static_cast<std::size_t>(std::min(most, hdu.dataBytes - first));
        if (source_->read(buffer.data(), count) != count) return false;
        listener.take(hdu, first, {buffer.data(), count});
    }
    return true;
}

std::string FitsFile::where(const FitsHdu& hdu) const {
    const std::string name = hdu.name.empty() ? (hdu.index == 0 ? "primary" : "unnamed") : hdu.name;
    return fmt::format("{}: HDU {} ({})", printable(path_), hdu.index, name);
}

void FitsFile::fail(const FitsHdu& hdu, const std::string& message) const {
    throw Error(fmt::format("{}: {}", where(hdu), message));
}

const FitsHdu* FitsFile::find(std::string_view name) const {
    const auto found =
        std::find_if(hdus_.begin(), hdus_.end(), [&](const FitsHdu& hdu) { return sameFitsName(hdu.name, name); });
    return found == hdus_.end() ? nullptr : &*found;
}

const FitsHdu* FitsFile::findMain(std::string_view name) const {
    if (const FitsHdu* named = find(name)) return named;
    const auto nameless = [](const FitsHdu& hdu) {
        return hdu.name.empty() || hdu.name == "PRIMARY" || hdu.name == "COMPRESSED_IMAGE";
    };
    if (!hdus_.front().shape.empty()) return nameless(hdus_.front()) ? &hdus_.front() : nullptr;
    // fpack moves the primary's image into the first extension.
    if (hdus_.size() > 1 && hdus_[1].kind == FitsHduKind::CompressedImage && nameless(hdus_[1])) return &hdus_[1];
    return nullptr;
}

namespace {

std::string hduList(const std::vector<FitsHdu>& hdus) {
    constexpr std::size_t most = 12;
    std::string list;
    for (const FitsHdu& hdu : hdus) {
        if (static_cast<std::size_t>(hdu.index) == most) return list + ", ...";
        list += fmt::format("{}{}", list.empty() ? "" : ", ",
                            hdu.name.empty() ? (hdu.index == 0 ? "(primary)" : "(unnamed)") : hdu.name);
    }
    return list;
}

} // namespace

const FitsHdu& FitsFile::require(std::string_view name) const {
    if (const FitsHdu* hdu = find(name)) return *hdu;
    throw Error(fmt::format("{}: HDU {} is missing (the file has: {})", printable(path_), name, hduList(hdus_)));
}

const FitsHdu& FitsFile::requireMain(std::string_view name) const {
    if (const FitsHdu* hdu = findMain(name)) return *hdu;
    return require(name);
}

void FitsFile::readInto(const FitsHdu& hdu, std::uint64_t first, std::uint8_t* out, std::uint64_t count) const {
    const Data& data = data_.at(static_cast<std::size_t>(hdu.index));
    if (first > hdu.dataBytes || count > hdu.dataBytes - first)
        fail(hdu, fmt::format("bytes {} to {} of {} asked for", first, first + count, hdu.dataBytes));
    if (count == 0) return;
    if (const std::uint8_t* bytes = inMemory(hdu)) {
        std::memcpy(out, bytes + first, static_cast<std::size_t>(count));
    } else if (source_->readAt(data.offset + first, out, static_cast<std::size_t>(count)) != count) {
        fail(hdu, "the file became shorter while it was read");
    }
}

std::vector<std::uint8_t> FitsFile::readBytes(const FitsHdu& hdu, std::uint64_t first, std::uint64_t count) const {
    std::vector<std::uint8_t> bytes(static_cast<std::size_t>(count));
    readInto(hdu, first, bytes.data(), count);
    return bytes;
}

const std::uint8_t* FitsFile::inMemory(const FitsHdu& hdu) const {
    const Data& data = data_.at(static_cast<std::size_t>(hdu.index));
    if (!source_->isGzip()) return nullptr;
    if (!data.memory) fail(hdu, "its data were not kept");
    return static_cast<const std::uint8_t*>(data.memory->get());
}

void FitsFile::release(const FitsHdu& hdu) { data_.at(static_cast<std::size_t>(hdu.index)).memory.reset(); }

FitsTable FitsFile::readTable(const FitsHdu& hdu) const {
    if (hdu.kind != FitsHduKind::Table) fail(hdu, "a binary table (XTENSION = 'BINTABLE') expected");
    if (isTrue(hdu.header, "ZTABLE"))
        fail(hdu, "ZTABLE = T: tables compressed by fpack cannot be read, funpack makes them plain");
    FitsTable table;
    table.name = hdu.name;
    table.origin = where(hdu);
    table.header = hdu.header;
    table.rowBytes = static_cast<std::size_t>(hdu.rowBytes);
    table.rowCount = static_cast<std::size_t>(hdu.rowCount);
    (void)fitsColumns(hdu.header, table.rowBytes, where(hdu)); // for the error
    const std::uint64_t rows = hdu.rowBytes * hdu.rowCount;
    table.bytes = readBytes(hdu, 0, rows);
    // Descriptors count from THEAP; a gap between rows and heap has no use.
    const std::uint64_t space = hdu.dataBytes - rows;
    const std::int64_t heapAt = hdu.header.integer("THEAP").value_or(static_cast<std::int64_t>(rows));
    const std::uint64_t gap = static_cast<std::uint64_t>(heapAt) - rows;
    if (heapAt < 0 || static_cast<std::uint64_t>(heapAt) < rows || gap > space)
        fail(hdu, fmt::format("THEAP = {}, {} to {} expected", heapAt, rows, hdu.dataBytes));
    table.heap = readBytes(hdu, rows + gap, space - gap);
    table.header.remove("THEAP");
    return table;
}

namespace {

/// BSCALE, BZERO and BLANK of an image.
struct Scaling {
    double scale = 1;
    double zero = 0;
    std::optional<std::int64_t> blank;
    [[nodiscard]] bool none() const { return scale == 1.0 && zero == 0.0; }
};

Scaling scalingOf(const FitsHdu& hdu, const std::string& what) {
    Scaling scaling;
    const auto read = [&](const char* keyword, double& value) {
        if (!hdu.header.has(keyword)) return;
        const std::optional<double> number = hdu.header.number(keyword);
        if (!number)
            throw Error(fmt::format("{}: {} = {}, a number expected", what, keyword, valueText(hdu.header, keyword)));
        value = *number;
    };
    read("BSCALE", scaling.scale);
    read("BZERO", scaling.zero);
    if (hdu.bitpix > 0) scaling.blank = hdu.header.integer("BLANK");
    return scaling;
}

template <std::size_t Size>
using BitsOf = std::conditional_t<
    Size == 1, std::uint8_t,
    std::conditional_t<Size == 2, std::uint16_t, std::conditional_t<Size == 4, std::uint32_t, std::uint64_t>>>;

template <class T> T fromBigEndian(const std::uint8_t* bytes) {
    BitsOf<sizeof(T)> bits;
    std::memcpy(&bits, bytes, sizeof bits);
    if constexpr (std::endian::native == std::endian::little) {
        if constexpr (sizeof bits == 2)
            bits = __builtin_bswap16(bits);
        else if constexpr (sizeof bits == 4)
            bits = __builtin_bswap32(bits);
        else if constexpr (sizeof bits == 8)
            bits = __builtin_bswap64(bits);
    }
    return std::bit_cast<T>(bits);
}

/// What a file's value becomes in memory; false where it does not fit.
template <class To> bool convertValue(double value, To& out) {
    if constexpr (std::is_same_v<To, float>)
        out = std::abs(value) <= static_cast<double>(std::numeric_limits<float>::max()) || !std::isfinite(value)
                  ? static_cast<float>(value)
                  : std::copysign(std::numeric_limits<float>::infinity(), static_cast<float>(value > 0 ? 1 : -1));
    else
        out = static_cast<To>(value);
    return true;
}

template <class To> bool convertInteger(std::int64_t value, To& out) {
    static_assert(sizeof(To) == 4 && std::is_integral_v<To>);
    if (value < std::numeric_limits<std::int32_t>::min() || value > std::numeric_limits<std::uint32_t>::max())
        return false;
    out = static_cast<To>(static_cast<std::uint32_t>(value));
    return true;
}

/// Converts a stretch of big-endian values. `raw` and `out` may be the same memory where the elements have the same size.
template <class From, class To>
bool convertChunk(const std::uint8_t* raw, To* out, std::size_t count, const Scaling& scaling) {
    if constexpr (std::is_floating_point_v<To>) {
        if constexpr (std::is_same_v<From, To>) {
            if (scaling.none()) {
                for (std::size_t i = 0; i < count; ++i) out[i] = fromBigEndian<From>(raw + i * sizeof(From));
                return true;
            }
        }
        for (std::size_t i = 0; i < count; ++i) {
            const From value = fromBigEndian<From>(raw + i * sizeof(From));
            if constexpr (std::is_integral_v<From>) {
                if (scaling.blank && static_cast<std::int64_t>(value) == *scaling.blank) {
                    out[i] = std::numeric_limits<To>::quiet_NaN();
                    continue;
                }
            }
            convertValue(scaling.none() ? static_cast<double>(value)
                                        : static_cast<double>(value) * scaling.scale + scaling.zero,
                         out[i]);
        }
        return true;
    } else {
        const auto zero = static_cast<std::int64_t>(scaling.zero);
        bool fits = true;
        for (std::size_t i = 0; i < count; ++i) {
            std::int64_t sum = 0;
            fits = !__builtin_add_overflow(static_cast<std::int64_t>(fromBigEndian<From>(raw + i * sizeof(From))), zero,
                                           &sum) &&
                   convertInteger(sum, out[i]) && fits;
        }
        return fits;
    }
}

template <class To> using Converter = bool (*)(const std::uint8_t*, To*, std::size_t, const Scaling&);

template <class To> Converter<To> converterFor(int bitpix) {
    switch (bitpix) {
    case 8:
        return convertChunk<std::uint8_t, To>;
    case 16:
        return convertChunk<std::int16_t, To>;
    case 32:
        return convertChunk<std::int32_t, To>;
    case 64:
        return convertChunk<std::int64_t, To>;
    default:
        if constexpr (std::is_floating_point_v<To>)
            return bitpix == -32 ? convertChunk<float, To> : convertChunk<double, To>;
        else
            return nullptr; // refused by requireType
    }
}

/// An integer image must hold integers: no fractions, no scale.
template <class T> void requireType(const FitsHdu& hdu, const Scaling& scaling, const std::string& what) {
    if constexpr (std::is_integral_v<T>) {
        if (hdu.bitpix < 0)
            throw Error(
                fmt::format("{}: BITPIX = {}, an image of integers (8, 16, 32 or 64) expected", what, hdu.bitpix));
        if (scaling.scale != 1.0 || scaling.zero != std::floor(scaling.zero) || std::abs(scaling.zero) > 4294967296.0)
            throw Error(fmt::format("{}: BSCALE = {}, BZERO = {}: an image of integers expected", what, scaling.scale,
                                    scaling.zero));
    }
}

} // namespace

namespace {

constexpr std::size_t maxCompressedAxes = 6; ///< CFITSIO's limit

/// What CFITSIO needs to know to decode a tile-compressed image; everything checked.
struct TileLayout {
    std::string algorithm;
    std::vector<std::int64_t> tile; ///< fastest first, not larger than the image
    std::uint64_t tileCount = 1;
    std::int64_t riceBlock = 32; ///< pixels
    std::int64_t riceBytes = 4;  ///< of a pixel
    std::vector<FitsColumn> columns;
};

/// CFITSIO trusts what a header says of the tiles, and some of its decoders write past their buffers where it lies. So all of it is
/// checked here, and the rarely used decoder that cannot be checked from outside (HCOMPRESS_1) is refused.
TileLayout checkTiles(const FitsHdu& hdu, const std::string& what) {
    const FitsHeader& header = hdu.header;
    TileLayout layout;
    layout.algorithm = header.text("ZCMPTYPE").value_or("");
    if (layout.algorithm == "RICE_ONE") layout.algorithm = "RICE_1";
    if (layout.algorithm != "RICE_1" && layout.algorithm != "GZIP_1" && layout.algorithm != "GZIP_2" &&
        layout.algorithm != "PLIO_1")
        throw Error(fmt::format("{}: ZCMPTYPE = {}, RICE_1, GZIP_1, GZIP_2 or PLIO_1 expected", what,
                                valueText(header, "ZCMPTYPE")));
    if (layout.algorithm == "PLIO_1" && hdu.bitpix < 0)
        throw Error(fmt::format("{}: ZBITPIX = {}, 8, 16 or 32 expected of PLIO_1", what, hdu.bitpix));
    if (hdu.bitpix == 64) throw Error(fmt::format("{}: ZBITPIX = 64, one of 8, 16, 32, -32, -64 expected", what));
    if (hdu.shape.empty() || hdu.shape.size() > maxCompressedAxes)
        throw Error(fmt::format("{}: ZNAXIS = {}, 1 to {} expected", what, hdu.shape.size(), maxCompressedAxes));

    std::uint64_t pixels = 1;
    std::uint64_t tilePixels = 1;
    for (std::size_t axis = 0; axis < hdu.shape.size(); ++axis) {
        const std::int64_t length = hdu.shape[axis];
        if (length < 1 || length > std::numeric_limits<std::int32_t>::max())
            throw Error(fmt::format("{}: ZNAXIS{} = {}, a number from 1 to 2^31 - 1 expected", what, axis + 1, length));
        const std::string keyword = fmt::format("ZTILE{}", axis + 1);
        std::int64_t tile = axis == 0 ? length : 1;
        if (header.has(keyword)) tile = header.integer(keyword).value_or(0);
        if (tile < 1)
            throw Error(
                fmt::format("{}: {} = {}, a number from 1 up expected", what, keyword, valueText(header, keyword)));
        tile = std::min(tile, length);
        layout.tile.push_back(tile);
        const std::optional<std::uint64_t> count =
            product({layout.tileCount, static_cast<std::uint64_t>((length - 1) / tile + 1)});
        const std::optional<std::uint64_t> all = product({pixels, static_cast<std::uint64_t>(length)});
        if (!count || !all)
            throw Error(fmt::format("{}: ZNAXISn = {}: more pixels than any file holds", what, hdu.shapeText()));
        layout.tileCount = *count;
        pixels = *all;
        tilePixels *= static_cast<std::uint64_t>(tile); // not above `pixels`
    }
    if (layout.tileCount != hdu.rowCount)
        throw Error(fmt::format("{}: {} rows (NAXIS2), the image {} has {} tiles", what, hdu.rowCount, hdu.shapeText(),
                                layout.tileCount));
    const std::optional<std::uint64_t> bytes = product({pixels, static_cast<std::uint64_t>(std::abs(hdu.bitpix)) / 8});
    if (!bytes || *bytes / maxDeflateRatio > hdu.dataBytes || tilePixels > std::uint64_t{1} << 27)
        throw Error(fmt::format("{}: {} bytes of compressed data cannot hold an image of {} pixels, ZTILEn = {}", what,
                                hdu.dataBytes, hdu.shapeText(), fmt::join(layout.tile, " x ")));
    layout.columns = fitsColumns(header, static_cast<std::size_t>(hdu.rowBytes), what);
    if (layout.algorithm != "RICE_1") return layout;
    const auto checked = [&](const std::string& keyword, std::int64_t fallback,
                             std::initializer_list<std::int64_t> allowed) {
        const std::int64_t value = header.has(keyword) ? header.integer(keyword).value_or(-1) : fallback;
        if (std::find(allowed.begin(), allowed.end(), value) == allowed.end())
            throw Error(fmt::format("{}: {} = {}, one of {} expected", what, keyword, valueText(header, keyword),
                                    fmt::join(allowed, ", ")));
        return value;
    };
    for (int n = 1; n <= 2; ++n) {
        const std::string name = header.text(fmt::format("ZNAME{}", n)).value_or(n == 1 ? "BLOCKSIZE" : "BYTEPIX");
        if (name == "BLOCKSIZE")
            layout.riceBlock = checked(fmt::format("ZVAL{}", n), 32, {16, 32});
        else if (name == "BYTEPIX")
            layout.riceBytes = checked(fmt::format("ZVAL{}", n), 4, {1, 2, 4});
    }
    return layout;
}

/// Number of bytes and place in the heap of a variable-length array.
struct Descriptor {
    std::uint64_t count = 0;
    std::uint64_t offset = 0;
};

Descriptor descriptorAt(const FitsColumn& column, const std::uint8_t* row) {
    const std::uint8_t* at = row + column.offset;
    if (column.type == 'P') return {fromBigEndian<std::uint32_t>(at), fromBigEndian<std::uint32_t>(at + 4)};
    return {fromBigEndian<std::uint64_t>(at), fromBigEndian<std::uint64_t>(at + 8)};
}

const FitsColumn* columnNamed(const TileLayout& layout, std::string_view name) {
    const auto found = std::find_if(layout.columns.begin(), layout.columns.end(),
                                    [&](const FitsColumn& c) { return sameFitsName(c.name, name); });
    return found == layout.columns.end() ? nullptr : &*found;
}

/// Pixels of a tile: those at the image's upper edges may be smaller.
std::uint64_t tilePixelCount(const FitsHdu& hdu, const TileLayout& layout, std::uint64_t tile) {
    std::uint64_t pixels = 1;
    for (std::size_t axis = 0; axis < hdu.shape.size(); ++axis) {
        const std::int64_t length = layout.tile[axis];
        const auto tiles = static_cast<std::uint64_t>((hdu.shape[axis] - 1) / length + 1);
        const auto first = static_cast<std::int64_t>(tile % tiles) * length;
        pixels *= static_cast<std::uint64_t>(std::min(length, hdu.shape[axis] - first));
        tile /= tiles;
    }
    return pixels;
}

/// Measures gzip streams by inflating them. CFITSIO takes more and more memory, without end, for a stream that breaks off.
class TileInflater {
public:
    /// Bytes that the stream holds; nothing where it is damaged, does not end inside `count` bytes, or holds more than `most`.
    std::optional<std::uint64_t> length(const std::uint8_t* bytes, std::uint64_t count, std::uint64_t most) {
        if (!decompressor_) decompressor_.reset(libdeflate_alloc_decompressor());
        if (!decompressor_) throw std::bad_alloc();
        if (!scratch_ || scratchBytes_ < most) {
            scratchBytes_ = static_cast<std::size_t>(most);
            scratch_.emplace(scratchBytes_);
        }
        std::size_t taken = 0;
        std::size_t inflated = 0;
        if (libdeflate_gzip_decompress_ex(decompressor_.get(), bytes, static_cast<std::size_t>(count),
                                          static_cast<std::uint8_t*>(scratch_->get()), static_cast<std::size_t>(most),
                                          &taken, &inflated) != LIBDEFLATE_SUCCESS)
            return std::nullopt;
        return inflated;
    }

private:
    struct Free {
        void operator()(libdeflate_decompressor* p) const { libdeflate_free_decompressor(p); }
    };
    std::unique_ptr<libdeflate_decompressor, Free> decompressor_;
    std::optional<RawMemory> scratch_;
    std::size_t scratchBytes_ = 0;
};

/// Checks that every tile's bytes lie inside the heap and are as many as its decoder will take.
/// @param data rows and heap of the table
void checkTileData(const FitsHdu& hdu, const TileLayout& layout, const std::uint8_t* data, const std::string& what,
                   int threads) {
    const auto fail = [&](const std::string& message) { throw Error(fmt::format("{}: {}", what, message)); };
    const FitsColumn* compressed = columnNamed(layout, "COMPRESSED_DATA");
    const FitsColumn* gzipped = columnNamed(layout, "GZIP_COMPRESSED_DATA");
    if (compressed == nullptr) fail("column COMPRESSED_DATA is missing");
    const bool plio = layout.algorithm == "PLIO_1";
    for (const FitsColumn* column : {compressed, gzipped}) {
        const char element = plio && column == compressed ? 'I' : 'B';
        if (column != nullptr &&
            (!column->isVariable() || column->repeat != 1 || column->format.find(element) == std::string::npos))
            fail(fmt::format("TFORM{} = '{}', 1P{} or 1Q{} expected of column {}", column->number,
                             printable(column->format), element, element, column->name));
    }
    const bool quantized = columnNamed(layout, "ZSCALE") != nullptr && columnNamed(layout, "ZZERO") != nullptr &&
                           hdu.header.text("ZQUANTIZ").value_or("") != "NONE";
    if (hdu.bitpix < 0 && !quantized && layout.algorithm == "RICE_1")
        fail("floating-point pixels in Rice code without the columns ZSCALE and ZZERO");

    const std::uint64_t rows = hdu.rowBytes * hdu.rowCount;
    const std::uint8_t* heap = data + rows;
    const std::uint64_t heapBytes = hdu.dataBytes - rows;
    const std::int64_t heapAt = hdu.header.integer("THEAP").value_or(static_cast<std::int64_t>(rows));
    if (heapAt != static_cast<std::int64_t>(rows))
        fail(fmt::format("THEAP = {}, {} expected (the heap right behind the rows)", heapAt, rows));
    const auto inflatedBytes = [&](TileInflater& inflater, std::uint64_t tile, const Descriptor& at,
                                   std::uint64_t most) {
        const std::optional<std::uint64_t> bytes = inflater.length(heap + at.offset, at.count, most);
        if (!bytes)
            fail(fmt::format("tile {}: the gzip stream is damaged or truncated, or holds more than {} bytes", tile,
                             most));
        return *bytes;
    };
    const std::uint64_t pixelBytes = static_cast<std::uint64_t>(std::abs(hdu.bitpix)) / 8;
    const auto riceShortest =
        static_cast<std::uint64_t>(layout.riceBytes + 1); // the first pixel and the begin of the code
    const auto check = [&](std::uint64_t tile, TileInflater& inflater) {
        const std::uint8_t* row = data + tile * hdu.rowBytes;
        for (const FitsColumn& column : layout.columns) {
            if (!column.isVariable()) continue;
            const Descriptor at = descriptorAt(column, row);
            const std::uint64_t elementBytes = plio && &column == compressed ? 2 : 1;
            if (at.offset > heapBytes || at.count > (heapBytes - at.offset) / elementBytes)
                fail(fmt::format("tile {}: column {} points at {} bytes from byte {} of a heap of {}", tile,
                                 printable(column.name), at.count * elementBytes, at.offset, heapBytes));
        }
        const Descriptor packed = descriptorAt(*compressed, row);
        const std::uint64_t pixels = tilePixelCount(hdu, layout, tile);
        if (packed.count == 0) {
            // A tile that could not be quantized.
            const Descriptor other = gzipped != nullptr ? descriptorAt(*gzipped, row) : Descriptor{};
            if (other.count == 0 || hdu.bitpix > 0) fail(fmt::format("tile {} has no compressed data", tile));
            const std::uint64_t bytes = inflatedBytes(inflater, tile, other, pixels * pixelBytes);
            if (bytes != pixels * pixelBytes)
                fail(fmt::format("tile {} holds {} bytes, {} expected", tile, bytes, pixels * pixelBytes));
        } else if (plio) {
            if (!plioCodeIsWhole({heap + packed.offset, static_cast<std::size_t>(2 * packed.count)}))
                fail(fmt::format("tile {}: {} words of PLIO code end before the line list does", tile, packed.count));
        } else if (layout.algorithm == "RICE_1") {
            if (packed.count < riceShortest)
                fail(fmt::format("tile {} has {} bytes of Rice code, {} or more expected", tile, packed.count,
                                 riceShortest));
            if (!riceCodeIsWhole({heap + packed.offset, static_cast<std::size_t>(packed.count)}, pixels,
                                 static_cast<int>(layout.riceBlock), static_cast<int>(layout.riceBytes)))
                fail(fmt::format("tile {}: {} bytes of Rice code end before its {} pixels do", tile, packed.count,
                                 pixels));
        } else {
            const std::uint64_t expected = pixels * (quantized ? 4 : pixelBytes);
            const std::uint64_t bytes = inflatedBytes(inflater, tile, packed, expected);
            const bool narrow = (hdu.bitpix > 0 || quantized) && (bytes == pixels || bytes == 2 * pixels);
            if (bytes != expected && !narrow)
                fail(fmt::format("tile {} holds {} bytes, {} expected", tile, bytes, expected));
        }
    };
    constexpr std::uint64_t chunk = 64;
    const auto chunks = static_cast<std::size_t>((hdu.rowCount + chunk - 1) / chunk);
    std::vector<TileInflater> inflaters(workersFor(chunks, threads));
    forEachParallel(chunks, threads, [&](std::size_t index, std::size_t worker) {
        const std::uint64_t first = index * chunk;
        for (std::uint64_t tile = first; tile < std::min(first + chunk, hdu.rowCount); ++tile)
            check(tile, inflaters[worker]);
    });
}

/// A card of the synthetic header for CFITSIO.
void appendCard(std::string& header, std::string card) {
    card.resize(fitsCardSize, ' ');
    header += card;
}

/// A file in memory that holds one tile-compressed HDU and of its header only what has been checked.
std::string compressedFile(const FitsHdu& hdu, const TileLayout& layout, const std::string& what) {
    std::string file;
    const auto integer = [&](const std::string& keyword, std::int64_t value) {
        appendCard(file, fmt::format("{:<8}= {:>20}", keyword, value));
    };
    const auto logical = [&](const std::string& keyword, char value) {
        appendCard(file, fmt::format("{:<8}= {:>20}", keyword, value));
    };
    const auto text = [&](const std::string& keyword, const std::string& value) {
        appendCard(file, fmt::format("{:<8}= '{:<8}'", keyword, value));
    };
    const auto end = [&] {
        appendCard(file, "END");
        file.resize(paddedToBlock(file.size()), ' ');
    };
    logical("SIMPLE", 'T');
    integer("BITPIX", 8);
    integer("NAXIS", 0);
    logical("EXTEND", 'T');
    end();

    const FitsHeader& header = hdu.header;
    text("XTENSION", "BINTABLE");
    integer("BITPIX", 8);
    integer("NAXIS", 2);
    integer("NAXIS1", static_cast<std::int64_t>(hdu.rowBytes));
    integer("NAXIS2", static_cast<std::int64_t>(hdu.rowCount));
    const std::uint64_t heapBytes = hdu.dataBytes - hdu.rowBytes * hdu.rowCount;
    integer("PCOUNT", static_cast<std::int64_t>(heapBytes));
    integer("GCOUNT", 1);
    integer("TFIELDS", static_cast<std::int64_t>(layout.columns.size()));
    for (const FitsColumn& column : layout.columns) {
        text(fmt::format("TTYPE{}", column.number), column.name.substr(0, 60));
        text(fmt::format("TFORM{}", column.number),
             column.isVariable()
                 ? fmt::format("1{}{}", column.type,
                               layout.algorithm == "PLIO_1" && sameFitsName(column.name, "COMPRESSED_DATA") ? 'I' : 'B')
                 : fmt::format("{}{}", column.repeat, column.type));
    }
    logical("ZIMAGE", 'T');
    text("ZCMPTYPE", layout.algorithm);
    integer("ZBITPIX", hdu.bitpix);
    integer("ZNAXIS", static_cast<std::int64_t>(hdu.shape.size()));
    for (std::size_t axis = 0; axis < hdu.shape.size(); ++axis) {
        integer(fmt::format("ZNAXIS{}", axis + 1), hdu.shape[axis]);
        integer(fmt::format("ZTILE{}", axis + 1), layout.tile[axis]);
    }
    if (layout.algorithm == "RICE_1") {
        text("ZNAME1", "BLOCKSIZE");
        integer("ZVAL1", layout.riceBlock);
        text("ZNAME2", "BYTEPIX");
        integer("ZVAL2", layout.riceBytes);
    }
    if (const std::optional<std::string> quantize = header.text("ZQUANTIZ")) {
        if (*quantize != "NONE" && *quantize != "NO_DITHER" && *quantize != "SUBTRACTIVE_DITHER_1" &&
            *quantize != "SUBTRACTIVE_DITHER_2")
            throw Error(
                fmt::format("{}: ZQUANTIZ = {}, NONE, NO_DITHER, SUBTRACTIVE_DITHER_1 or SUBTRACTIVE_DITHER_2 expected",
                            what, printable(*quantize)));
        text("ZQUANTIZ", *quantize);
    }
    if (header.has("ZDITHER0")) {
        const std::int64_t seed = header.integer("ZDITHER0").value_or(0);
        if (seed < 1 || seed > 10000)
            throw Error(fmt::format("{}: ZDITHER0 = {}, 1 to 10000 expected", what, valueText(header, "ZDITHER0")));
        integer("ZDITHER0", seed);
    }
    for (const char* keyword : {"ZBLANK", "BLANK"}) {
        const std::optional<std::int64_t> blank = header.integer(keyword);
        if (blank && std::abs(*blank) <= std::int64_t{1} << 31) integer(keyword, *blank);
    }
    for (const char* keyword : {"ZSCALE", "ZZERO", "BSCALE", "BZERO"})
        if (const std::optional<double> value = header.number(keyword))
            appendCard(file, fmt::format("{:<8}= {:>20}", keyword, fmt::format("{:.17G}", *value)));
    end();
    return file;
}

/// A CFITSIO handle on a file in memory.
class MemoryFits {
public:
    MemoryFits(std::string& bytes, const std::string& what) : data_(bytes.data()), size_(bytes.size()) {
        int status = 0;
        // Opening touches CFITSIO's global tables. Its own lock leaves the first use ever unprotected.
        static std::mutex opening;
        const std::lock_guard lock(opening);
        // Its table of random numbers, too, is filled while other threads may already read it.
        if (fits_init_randoms() != 0) throw std::bad_alloc();
        if (fits_open_memfile(&handle_, "tiles", READONLY, &data_, &size_, 0, nullptr, &status) != 0)
            throw Error(fmt::format("{}: {}", what, cfitsioMessage(status)));
    }
    ~MemoryFits() {
        int status = 0;
        fits_close_file(handle_, &status);
        if (status != 0) fits_clear_errmsg();
    }
    MemoryFits(const MemoryFits&) = delete;
    MemoryFits& operator=(const MemoryFits&) = delete;
    [[nodiscard]] fitsfile* get() const { return handle_; }

private:
    void* data_;
    std::size_t size_;
    fitsfile* handle_ = nullptr;
};

/// Decodes a range of pixels; a long has 64 bits, and is the widest integer that CFITSIO decodes tiles into.
template <class T> int decodePixels(fitsfile* handle, std::int64_t first, std::int64_t count, T* out) {
    int status = 0;
    if constexpr (std::is_floating_point_v<T>) {
        T undefined = std::numeric_limits<T>::quiet_NaN();
        fits_read_img(handle, std::is_same_v<T, float> ? TFLOAT : TDOUBLE, first, count, &undefined, out, nullptr,
                      &status);
    } else {
        static_assert(sizeof(T) == sizeof(long));
        fits_read_img(handle, TLONG, first, count, nullptr, out, nullptr, &status);
    }
    return status;
}

} // namespace

template <class T> struct PixelReader<T>::Parts {
    /// What one thread needs: buffers, and a handle of its own on the same tiles, which none of them changes.
    struct Worker {
        std::vector<std::uint8_t> raw;
        std::optional<MemoryFits> memory;
        std::vector<long> chunk;
    };

    const FitsFile& file;
    FitsHdu hdu;
    std::string what;
    Scaling scaling;
    Converter<T> convert = nullptr;
    std::size_t elementBytes = 0; ///< of a plain image
    std::size_t stride = 1;
    std::string tiles; ///< a file in memory with the one HDU; empty for a plain image
    std::vector<Worker> workers;
};

template <class T>
PixelReader<T>::PixelReader(const FitsFile& file, const FitsHdu& hdu, std::size_t workers, int threads)
    : parts_(new Parts{file, hdu, file.where(hdu), {}, nullptr, 0, 1, {}, {}}) {
    Parts& p = *parts_;
    (void)file.pixelCount(hdu);
    p.scaling = scalingOf(hdu, p.what);
    requireType<T>(hdu, p.scaling, p.what);
    p.workers = std::vector<typename Parts::Worker>(std::max<std::size_t>(workers, 1));
    if (hdu.kind == FitsHduKind::Image) {
        p.convert = converterFor<T>(hdu.bitpix);
        p.elementBytes = static_cast<std::size_t>(std::abs(hdu.bitpix)) / 8;
        return;
    }
    const TileLayout layout = checkTiles(hdu, p.what);
    p.tiles = compressedFile(hdu, layout, p.what);
    const std::size_t dataAt = p.tiles.size();
    p.tiles.resize(dataAt + static_cast<std::size_t>(paddedToBlock(hdu.dataBytes)));
    auto* data = reinterpret_cast<std::uint8_t*>(p.tiles.data() + dataAt);
    file.readInto(hdu, 0, data, hdu.dataBytes);
    checkTileData(hdu, layout, data, p.what, threads);
    p.stride = static_cast<std::size_t>(layout.tile.back());
    for (std::size_t axis = 0; axis + 1 < hdu.shape.size(); ++axis)
        p.stride *= static_cast<std::size_t>(hdu.shape[axis]);
}

template <class T> PixelReader<T>::~PixelReader() = default;

template <class T> std::size_t PixelReader<T>::stride() const { return parts_->stride; }

template <class T> void PixelReader<T>::convert(std::span<const std::uint8_t> raw, std::span<T> out) const {
    const Parts& p = *parts_;
    if (!p.convert(raw.data(), out.data(), std::min(out.size(), raw.size() / p.elementBytes), p.scaling))
        p.file.fail(p.hdu, "holds values that do not fit 32 bits");
}

template <class T> void PixelReader<T>::read(std::size_t first, std::span<T> out, std::size_t worker) {
    Parts& p = *parts_;
    typename Parts::Worker& mine = p.workers[worker];
    if (p.hdu.kind == FitsHduKind::Image) {
        const std::size_t bytes = out.size() * p.elementBytes;
        if (const std::uint8_t* memory = p.file.inMemory(p.hdu)) {
            convert({memory + first * p.elementBytes, bytes}, out);
            return;
        }
        // Elements of equal size are read into their place and turned there.
        auto* place = reinterpret_cast<std::uint8_t*>(out.data());
        if (p.elementBytes != sizeof(T)) {
            mine.raw.resize(bytes);
            place = mine.raw.data();
        }
        p.file.readInto(p.hdu, first * p.elementBytes, place, bytes);
        convert({place, bytes}, out);
        return;
    }
    int status = 0;
    if (!mine.memory) {
        mine.memory.emplace(p.tiles, p.what);
        fits_movabs_hdu(mine.memory->get(), 2, nullptr, &status);
        if (status != 0) p.file.fail(p.hdu, cfitsioMessage(status));
    }
    const auto firstPixel = static_cast<std::int64_t>(first) + 1;
    const auto count = static_cast<std::int64_t>(out.size());
    bool fits = true;
    if constexpr (std::is_floating_point_v<T>) {
        status = decodePixels(mine.memory->get(), firstPixel, count, out.data());
    } else {
        mine.chunk.resize(out.size());
        status = decodePixels(mine.memory->get(), firstPixel, count, mine.chunk.data());
        for (std::size_t i = 0; i < out.size(); ++i)
            fits = convertInteger(static_cast<std::int64_t>(mine.chunk[i]), out[i]) && fits;
    }
    if (status != 0) p.file.fail(p.hdu, cfitsioMessage(status));
    if (!fits) p.file.fail(p.hdu, "holds values that do not fit 32 bits");
}

template class PixelReader<float>;
template class PixelReader<double>;
template class PixelReader<std::int32_t>;
template class PixelReader<std::uint32_t>;

std::size_t FitsFile::pixelCount(const FitsHdu& hdu) const {
    if (hdu.kind != FitsHduKind::Image && hdu.kind != FitsHduKind::CompressedImage) fail(hdu, "an image expected");
    if (hdu.kind == FitsHduKind::CompressedImage)
        (void)checkTiles(hdu, where(hdu)); // throws where the compressed bytes cannot hold that many pixels
    std::size_t count = hdu.shape.empty() ? 0 : 1;
    for (const std::int64_t length : hdu.shape) count *= static_cast<std::size_t>(length);
    return count;
}

template <class T> void FitsFile::readAny(const FitsHdu& hdu, std::span<T> out) const {
    const std::size_t count = pixelCount(hdu);
    if (out.size() != count) fail(hdu, fmt::format("{} pixels, {} expected", hdu.shapeText(), out.size()));
    if (count == 0) return;
    // Whole rows of tiles at a time, so that no tile is decoded twice; enough of them to be worth a call.
    const std::size_t worthIt = std::size_t{1} << (hdu.kind == FitsHduKind::CompressedImage ? 18U : 17U);
    PixelReader<T> pixels(*this, hdu, workersFor(count, threads_), threads_);
    const std::size_t step = pixels.stride() * std::max<std::size_t>(1, worthIt / pixels.stride());
    forEachParallel((count - 1) / step + 1, threads_, [&](std::size_t index, std::size_t worker) {
        const std::size_t first = index * step;
        pixels.read(first, out.subspan(first, std::min(step, count - first)), worker);
    });
}

void FitsFile::readImage(const FitsHdu& hdu, std::span<float> out) const { readAny(hdu, out); }
void FitsFile::readImage(const FitsHdu& hdu, std::span<double> out) const { readAny(hdu, out); }
void FitsFile::readImage(const FitsHdu& hdu, std::span<std::int32_t> out) const { readAny(hdu, out); }
void FitsFile::readImage(const FitsHdu& hdu, std::span<std::uint32_t> out) const { readAny(hdu, out); }

} // namespace patchlight
