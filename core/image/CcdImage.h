#pragma once

#include "core/io/FitsHeader.h"
#include "core/io/FitsTable.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace patchlight {

class FitsFile;
struct FitsHdu;

/// Bits of the MASK image of a DESI preproc file (desispec.maskbits.ccdmask).
enum class CcdMaskBit : std::uint32_t {
    Bad = 1U << 0,
    Hot = 1U << 1,
    Dead = 1U << 2,
    Saturated = 1U << 3,
    Cosmic = 1U << 4,
    PixflatZero = 1U << 5,
    PixflatLow = 1U << 6,
    HighVar = 1U << 7,
    BadReadnoise = 1U << 8, ///< alone does not mask
    BadAmplifier = 1U << 9,
};

/// A pixel with any of these bits has no weight in the extraction: bits 0-7 and 9.
inline constexpr std::uint32_t ccdMaskedBits = 0x2FFU;

/// A CCD image as read from a preproc file. Arrays have shape [ny][nx]; pixel (0, 0) is the lower-left one.
struct CcdImage {
    std::string path;
    int nx = 0;
    int ny = 0;
    std::vector<float> pixels;      ///< IMAGE, electrons
    std::vector<float> ivar;        ///< IVAR, 1/electrons^2
    std::vector<std::int32_t> mask; ///< MASK; empty where the file has none
    std::vector<float> readnoise;   ///< READNOISE, electrons; empty where the file has none (or was not asked for)
    FitsHeader header;              ///< primary header
    std::optional<FitsTable> fibermap;
};

/// What the engine reads of a CCD image, [ny][nx] each: finite pixels, and weights that are 0 where a pixel is masked.
struct CcdView {
    const float* pixels = nullptr;  ///< electrons
    const float* weights = nullptr; ///< inverse variance, 1/electrons^2, 0 where masked
    int nx = 0;
    int ny = 0;
};

/// Pixels ready for the engine: a pixel is masked where MASK has one of ccdMaskedBits, or ivar <= 0, or pixel or ivar is not
/// finite; there weight = 0 and value = 0.
struct WeightedPixels {
    int nx = 0;
    int ny = 0;
    std::vector<float> pixels;
    std::vector<float> weights;

    [[nodiscard]] CcdView view() const { return {pixels.data(), weights.data(), nx, ny}; }
};

/// Builds the engine's input; the rvalue overload reuses the image's own memory (pixels and ivar are moved out, mask is given back).
/// @param threads 0: all cores
[[nodiscard]] WeightedPixels weightedPixels(const CcdImage& image, int threads = 0);
[[nodiscard]] WeightedPixels weightedPixels(CcdImage&& image, int threads = 0);

/// Sets pixel and weight to 0 where one is masked. @param mask null where there is none
void zeroMasked(float* pixels, float* weights, const std::int32_t* mask, std::size_t count);

struct CcdReadOptions {
    bool readnoise = false; ///< read READNOISE too (the extraction does not need it)
    int threads = 0;        ///< that read and decode; 0: all cores
};

/// Reads a preproc file: .fits, .fits.gz, .fits.fz, with plain or tile-compressed HDUs; HDUs are found by name.
/// Where `path` is missing, it is tried with or without ".gz". @throws Error naming file and HDU.
[[nodiscard]] CcdImage readCcdImage(const std::string& path, const CcdReadOptions& options = {});

/// Fills in path, size and header of `about` from a file and its main image. @throws Error where that is no CCD image
void describeCcdImage(const FitsFile& file, const FitsHdu& image, CcdImage& about);
/// @throws Error where an HDU does not have the size of the CCD
void requireCcdShape(const FitsFile& file, const FitsHdu& hdu, int nx, int ny);

/// Writes IMAGE, IVAR, MASK, READNOISE, FIBERMAP (those that are there) atomically, with checksums.
/// `compressMask`: MASK tile-compressed with RICE, as DESI's files have it. @throws Error
void writeCcdImage(const std::string& path, const CcdImage& image, bool compressMask = true);

} // namespace patchlight
