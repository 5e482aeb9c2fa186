#pragma once

#include "core/io/FitsHeader.h"
#include "core/io/FitsTable.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace patchlight {

enum class FitsHduKind {
    Image,           ///< primary or IMAGE extension
    CompressedImage, ///< BINTABLE with ZIMAGE = T
    Table,           ///< BINTABLE
    Other,           ///< anything else, skipped
};

/// One HDU of a file whose structure has been checked: its header is complete and its data lie inside the file.
struct FitsHdu {
    int index = 0;    ///< 0: primary
    std::string name; ///< EXTNAME; empty where there is none
    FitsHduKind kind = FitsHduKind::Other;
    FitsHeader header;
    int bitpix = 8;                  ///< BITPIX; ZBITPIX of a compressed image
    std::vector<std::int64_t> shape; ///< axes, fastest first: NAXISn; ZNAXISn of a compressed image
    std::uint64_t rowBytes = 0;      ///< tables and compressed images: NAXIS1
    std::uint64_t rowCount = 0;      ///< tables and compressed images: NAXIS2
    std::uint64_t dataBytes = 0;     ///< without padding

    /// True for an image with this number of axes and at least one pixel.
    [[nodiscard]] bool isImage(std::size_t axes) const;
    /// Axes as people write them, such as "4114 x 4128"; "no pixels" without axes.
    [[nodiscard]] std::string shapeText() const;
};

/// A FITS file open for reading: plain, or compressed with gzip whatever its name.
///
/// Opening checks the structure of the whole file (every header, every size against the bytes that are there), so that nothing
/// is allocated or decoded on the word of a damaged header. Plain images and tables are read and converted here; tile-compressed
/// images are decoded by CFITSIO, from memory: CFITSIO would share one handle between two threads that open the same file.
/// Objects are independent of each other and may be used in different threads.
class FitsFile {
public:
    /// Which HDUs' data will be read; the others' data of a .gz file are not kept in memory.
    using Wanted = std::function<bool(const FitsHdu&)>;

    /// Is told of a file while it is being opened, and takes data of a .gz file as they are inflated.
    class Listener {
    public:
        virtual ~Listener() = default;
        Listener() = default;
        Listener(const Listener&) = delete;
        Listener& operator=(const Listener&) = delete;
        /// Whether take() shall get the data of this HDU, which then cannot be read from the file; asked only of a .gz file.
        virtual bool takes(const FitsFile& file, const FitsHdu& hdu) = 0;
        /// The next bytes of such an HDU: a multiple of 8, or those up to its end.
        virtual void take(const FitsHdu& hdu, std::uint64_t first, std::span<const std::uint8_t> bytes) = 0;
        /// An HDU is there with its data, and those before it.
        virtual void complete(const FitsFile& file, const FitsHdu& hdu) = 0;
    };

    /// Opens a file; where `path` is missing, it is tried with or without ".gz". The name is taken literally (no CFITSIO syntax).
    /// @throws Error: missing, a directory, unreadable, not FITS, truncated, damaged gzip stream, impossible header
    /// @param threads that read and decode an image, 0: all cores
    explicit FitsFile(const std::string& path, const Wanted& wanted = {}, int threads = 0,
                      Listener* listener = nullptr);
    ~FitsFile();
    FitsFile(const FitsFile&) = delete;
    FitsFile& operator=(const FitsFile&) = delete;

    /// The file that was opened: `path` with or without ".gz".
    [[nodiscard]] const std::string& path() const { return path_; }
    [[nodiscard]] std::uint64_t fileBytes() const { return fileBytes_; } ///< on disk
    [[nodiscard]] const std::vector<FitsHdu>& hdus() const { return hdus_; }

    /// HDU by EXTNAME, whatever its case; nullptr where there is none.
    [[nodiscard]] const FitsHdu* find(std::string_view name) const;
    /// The main image of a file: HDU `name`; else the primary, or the first tile-compressed image, where it has no name of its own.
    [[nodiscard]] const FitsHdu* findMain(std::string_view name) const;
    /// As find(). @throws Error listing the HDUs that are there
    [[nodiscard]] const FitsHdu& require(std::string_view name) const;
    [[nodiscard]] const FitsHdu& requireMain(std::string_view name) const;

    /// Reads a whole image, converted: BSCALE, BZERO and BLANK are applied, NaN and infinity kept.
    /// Integers must be integers in the file: as int32 or uint32, -2^31 to 2^32 - 1 are taken as bit patterns.
    /// @param out exactly as many elements as the image has pixels. @throws Error naming file, HDU and type
    void readImage(const FitsHdu& hdu, std::span<float> out) const;
    void readImage(const FitsHdu& hdu, std::span<double> out) const;
    void readImage(const FitsHdu& hdu, std::span<std::int32_t> out) const;
    void readImage(const FitsHdu& hdu, std::span<std::uint32_t> out) const;
    /// Number of pixels of an image, checked against what the file can hold (compressed images too), before one allocates.
    [[nodiscard]] std::size_t pixelCount(const FitsHdu& hdu) const;
    /// Reads a binary table with its heap.
    [[nodiscard]] FitsTable readTable(const FitsHdu& hdu) const;
    /// Gives the memory of an HDU of a .gz file back; the HDU cannot be read again.
    void release(const FitsHdu& hdu);

    /// "FILE: HDU 1 (IVAR)", which messages begin with.
    [[nodiscard]] std::string where(const FitsHdu& hdu) const;
    /// Throws Error("FILE: HDU 1 (IVAR): message").
    [[noreturn]] void fail(const FitsHdu& hdu, const std::string& message) const;

private:
    template <class T> friend class PixelReader;
    class Source;
    struct Data;

    [[nodiscard]] std::vector<std::uint8_t> readBytes(const FitsHdu& hdu, std::uint64_t first,
                                                      std::uint64_t count) const;
    void readInto(const FitsHdu& hdu, std::uint64_t first, std::uint8_t* out, std::uint64_t count) const;
    /// Bytes of an HDU where they are in memory already; nullptr where they are not. @throws Error where they were not kept
    [[nodiscard]] const std::uint8_t* inMemory(const FitsHdu& hdu) const;
    /// Gives an HDU's data to a listener; false where the file ends before.
    bool passOn(const FitsHdu& hdu, Listener& listener);
    template <class T> void readAny(const FitsHdu& hdu, std::span<T> out) const;

    std::string path_;
    int threads_ = 0;
    std::uint64_t fileBytes_ = 0;
    std::unique_ptr<Source> source_;
    std::vector<FitsHdu> hdus_;
    std::vector<Data> data_; ///< [hdu]
};

/// Reads stretches of an image, of type float, double, std::int32_t or std::uint32_t, converted as FitsFile::readImage() does.
template <class T> class PixelReader {
public:
    /// Checks the header; of a tile-compressed image also all tiles, whose bytes it reads and keeps. The file must outlive it.
    /// @param workers that will read  @param threads that check tiles, 0: all cores. @throws Error
    PixelReader(const FitsFile& file, const FitsHdu& hdu, std::size_t workers, int threads);
    ~PixelReader();
    PixelReader(const PixelReader&) = delete;
    PixelReader& operator=(const PixelReader&) = delete;

    /// Pixels of a row of tiles (plain images: 1): stretches that begin at multiples of it decode no tile twice.
    [[nodiscard]] std::size_t stride() const;
    /// Reads out.size() pixels from `first` on. No two calls at once may have the same worker. @throws Error
    void read(std::size_t first, std::span<T> out, std::size_t worker);
    /// Converts a plain image's bytes as they are in the file. @throws Error
    void convert(std::span<const std::uint8_t> raw, std::span<T> out) const;

private:
    struct Parts;
    std::unique_ptr<Parts> parts_;
};

/// The path that exists: `path`, else with ".gz" added or removed; `path` itself where neither does.
[[nodiscard]] std::string existingFitsPath(const std::string& path);

/// Text from a file made fit for a one-line message: control and non-ASCII characters become '?', long text is cut.
[[nodiscard]] std::string printable(std::string_view text);

/// CFITSIO's words for a status, with its own more exact message where it left one; clears its error stack.
[[nodiscard]] std::string cfitsioMessage(int status);

} // namespace patchlight
