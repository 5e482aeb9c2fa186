#include "core/image/CcdImage.h"

#include "core/base/Error.h"
#include "core/base/Memory.h"
#include "core/base/Parallel.h"
#include "core/io/FitsFile.h"
#include "core/io/FitsTableLayout.h"
#include "core/io/FitsWriter.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <new>
#include <set>
#include <span>
#include <utility>

#include <fmt/format.h>

namespace patchlight {

void requireCcdShape(const FitsFile& file, const FitsHdu& hdu, int nx, int ny) {
    if (!hdu.isImage(2) || hdu.shape[0] != nx || hdu.shape[1] != ny)
        file.fail(hdu, fmt::format("{}, {} x {} expected as in IMAGE", hdu.shapeText(), nx, ny));
}

namespace {

/// Reads a plane with the shape of IMAGE.
template <class T> std::vector<T> readPlane(FitsFile& file, const FitsHdu& hdu, int nx, int ny, int threads) {
    requireCcdShape(file, hdu, nx, ny);
    try {
        std::vector<T> values;
        resizeInParallel(values, file.pixelCount(hdu), threads);
        file.readImage(hdu, std::span<T>(values));
        file.release(hdu);
        return values;
    } catch (const std::bad_alloc&) {
        file.fail(hdu, fmt::format("not enough memory for {} pixels", hdu.shapeText()));
    }
}

/// The header that belongs to the pixels: cards of IMAGE's HDU, and those of the primary where it is another one.
FitsHeader imageHeader(const FitsFile& file, const FitsHdu& image) {
    FitsHeader header = image.header;
    if (image.index == 0) return header;
    const auto keywordOf = [](const std::string& card) { return card.substr(0, card.find_first_of(" =")); };
    std::set<std::string> present = {"", "COMMENT", "HISTORY", "CONTINUE", "HIERARCH"}; // of the primary, only keywords
    for (const std::string& card : header.cards()) present.insert(keywordOf(card));
    for (const std::string& card : file.hdus().front().header.cards())
        if (!FitsHeader::isStructural(card) && !present.contains(keywordOf(card))) header.addCard(card);
    return header;
}

/// Without branches.
bool isMasked(float pixel, float ivar, std::int32_t mask) {
    constexpr float largest = std::numeric_limits<float>::max();
    const bool bad = (static_cast<std::uint32_t>(mask) & ccdMaskedBits) != 0;
    const bool usable = bool(ivar > 0.0F) & bool(ivar <= largest) & bool(std::abs(pixel) <= largest); // false for NaN
    return bad | !usable;
}

void zeroMasked(std::vector<float>& pixels, std::vector<float>& weights, const std::vector<std::int32_t>& mask,
                int threads) {
    constexpr std::size_t chunk = std::size_t{1} << 18;
    forEachParallel((pixels.size() + chunk - 1) / chunk, threads, [&](std::size_t index, std::size_t) {
        const std::size_t first = index * chunk;
        patchlight::zeroMasked(pixels.data() + first, weights.data() + first,
                               mask.empty() ? nullptr : mask.data() + first, std::min(chunk, pixels.size() - first));
    });
}

void checkSizes(const CcdImage& image) {
    const std::size_t expected = static_cast<std::size_t>(image.nx) * static_cast<std::size_t>(image.ny);
    const auto check = [&](const char* name, std::size_t size, bool optional) {
        if (size != expected && !(optional && size == 0))
            throw Error(fmt::format("{}: {} has {} pixels, {} x {} expected",
                                    image.path.empty() ? "image" : printable(image.path), name, size, image.nx,
                                    image.ny));
    };
    check("IMAGE", image.pixels.size(), false);
    check("IVAR", image.ivar.size(), false);
    check("MASK", image.mask.size(), true);
    check("READNOISE", image.readnoise.size(), true);
}

} // namespace

void zeroMasked(float* pixels, float* weights, const std::int32_t* mask, std::size_t count) {
    // Nothing but plain arithmetic, which compilers turn into vector instructions.
    const auto zero = [=](auto maskOf) {
        for (std::size_t i = 0; i < count; ++i) {
            const bool masked = isMasked(pixels[i], weights[i], maskOf(i));
            pixels[i] = masked ? 0.0F : pixels[i];
            weights[i] = masked ? 0.0F : weights[i];
        }
    };
    if (mask == nullptr)
        zero([](std::size_t) { return 0; });
    else
        zero([mask](std::size_t i) { return mask[i]; });
}

WeightedPixels weightedPixels(const CcdImage& image, int threads) {
    checkSizes(image);
    WeightedPixels result{image.nx, image.ny, image.pixels, image.ivar};
    zeroMasked(result.pixels, result.weights, image.mask, threads);
    return result;
}

WeightedPixels weightedPixels(CcdImage&& image, int threads) {
    checkSizes(image);
    WeightedPixels result{image.nx, image.ny, std::move(image.pixels), std::move(image.ivar)};
    zeroMasked(result.pixels, result.weights, image.mask, threads);
    image.pixels.clear();
    image.ivar.clear();
    image.mask = std::vector<std::int32_t>(); // gives its memory back, as {} would not
    return result;
}

void describeCcdImage(const FitsFile& file, const FitsHdu& image, CcdImage& about) {
    constexpr std::int64_t largest =
        100000; // pixels a side; keeps products of two sides inside what int loops can count
    if (!image.isImage(2) || image.shape[0] > largest || image.shape[1] > largest)
        file.fail(image, fmt::format("{}, an image of two axes with 1 to {} pixels a side expected", image.shapeText(),
                                     largest));
    about.path = file.path();
    about.nx = static_cast<int>(image.shape[0]);
    about.ny = static_cast<int>(image.shape[1]);
    about.header = imageHeader(file, image);
}

namespace {

CcdImage imageFrom(FitsFile& file, const CcdReadOptions& options) {
    CcdImage image;
    const FitsHdu& main = file.requireMain("IMAGE");
    describeCcdImage(file, main, image);
    const FitsHdu& ivar = file.require("IVAR");
    image.pixels = readPlane<float>(file, main, image.nx, image.ny, options.threads);
    image.ivar = readPlane<float>(file, ivar, image.nx, image.ny, options.threads);
    if (const FitsHdu* mask = file.find("MASK"))
        image.mask = readPlane<std::int32_t>(file, *mask, image.nx, image.ny, options.threads);
    if (const FitsHdu* readnoise = file.find("READNOISE")) {
        requireCcdShape(file, *readnoise, image.nx, image.ny);
        if (options.readnoise)
            image.readnoise = readPlane<float>(file, *readnoise, image.nx, image.ny, options.threads);
    }
    if (const FitsHdu* fibermap = file.find("FIBERMAP")) image.fibermap = file.readTable(*fibermap);
    return image;
}

} // namespace

CcdImage readCcdImage(const std::string& path, const CcdReadOptions& options) {
    // Of a .gz file, only what is used stays in memory.
    const auto wanted = [&](const FitsHdu& hdu) {
        const bool unnamed = hdu.name.empty() || hdu.name == "PRIMARY" || hdu.name == "COMPRESSED_IMAGE";
        return unnamed || sameFitsName(hdu.name, "IMAGE") || sameFitsName(hdu.name, "IVAR") ||
               sameFitsName(hdu.name, "MASK") || sameFitsName(hdu.name, "FIBERMAP") ||
               (options.readnoise && sameFitsName(hdu.name, "READNOISE"));
    };
    try {
        FitsFile file(path, wanted, options.threads);
        return imageFrom(file, options);
    } catch (const std::bad_alloc&) {
        throw Error(fmt::format("{}: not enough memory for this image", printable(path)));
    }
}

void writeCcdImage(const std::string& path, const CcdImage& image, bool compressMask) {
    checkSizes(image);
    FitsWriter writer(path);
    const std::vector<std::int64_t> shape = {image.nx, image.ny};
    writer.addImage({"IMAGE", shape, "electron", image.header}, std::span<const float>(image.pixels));
    writer.addImage({"IVAR", shape, "1/electron2", {}}, std::span<const float>(image.ivar));
    if (!image.mask.empty()) {
        const FitsImageSpec mask{"MASK", shape, "", {}};
        if (compressMask)
            writer.addCompressedImage(mask, image.mask);
        else
            writer.addImage(mask, std::span<const std::int32_t>(image.mask));
    }
    if (!image.readnoise.empty())
        writer.addImage({"READNOISE", shape, "electron", {}}, std::span<const float>(image.readnoise));
    if (image.fibermap) {
        FitsTable fibermap = *image.fibermap;
        fibermap.name = "FIBERMAP";
        writer.addTable(fibermap);
    }
    writer.commit();
}

} // namespace patchlight
