#pragma once

#include "core/io/AtomicFile.h"
#include "core/io/FitsHeader.h"
#include "core/io/FitsTable.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace patchlight {

/// What an image HDU is called and looks like, pixels apart.
struct FitsImageSpec {
    std::string name;                ///< EXTNAME
    std::vector<std::int64_t> shape; ///< NAXISn, fastest first
    std::string unit;                ///< BUNIT; empty: none
    FitsHeader header;               ///< cards to carry over; those of another HDU's layout are left out
};

/// Writes a FITS file atomically, with CHECKSUM and DATASUM in every HDU. A target ending in ".gz" is compressed.
///
/// Pixels are converted block by block, by several threads, and go to the file as they are made; CFITSIO is used for tile compression
/// only. The same content gives the same bytes whatever the number of threads: no dates.
class FitsWriter {
public:
    /// @param threads that convert and compress, 0: all cores. @throws Error where the file cannot be written
    explicit FitsWriter(const std::string& path, int threads = 0);
    ~FitsWriter();
    FitsWriter(const FitsWriter&) = delete;
    FitsWriter& operator=(const FitsWriter&) = delete;

    /// Adds an image HDU; the first is the primary. Float32 from float, float64 from double, BITPIX 32 from int32, BITPIX 32 with
    /// BZERO = 2^31 from uint32. `pixels` must have the size that the shape says. @throws Error: full disk and the like
    void addImage(const FitsImageSpec& spec, std::span<const float> pixels);
    void addImage(const FitsImageSpec& spec, std::span<const double> pixels);
    void addImage(const FitsImageSpec& spec, std::span<const std::int32_t> pixels);
    void addImage(const FitsImageSpec& spec, std::span<const std::uint32_t> pixels);
    /// Adds a float32 image from doubles; what is beyond float's range becomes infinite.
    void addImageAsFloat(const FitsImageSpec& spec, std::span<const double> pixels);
    /// Adds a tile-compressed image (RICE_1, a tile a row).
    void addCompressedImage(const FitsImageSpec& spec, std::span<const std::int32_t> pixels);
    /// Adds a binary table; EXTNAME is its name.
    void addTable(const FitsTable& table);
    /// Completes the file and gives it its name. @throws Error
    void commit();

private:
    class Sink;
    /// Fills a buffer with big-endian elements [first, first + count) of the pixels; called by several threads at once.
    using Encode = std::function<void(std::size_t first, std::size_t count, std::uint8_t* out)>;

    void addEncoded(const FitsImageSpec& spec, int bitpix, bool unsignedIntegers, std::size_t elements,
                    const Encode& encode);
    void addHdu(FitsHeader header, std::size_t elements, std::size_t elementBytes, const Encode& encode);
    void requirePrimary();

    std::unique_ptr<Sink> sink_;
    int threads_ = 0;
    int hduCount_ = 0;
};

} // namespace patchlight
