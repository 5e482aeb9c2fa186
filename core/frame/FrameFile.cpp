#include "core/base/Error.h"
#include "core/frame/ExtractedFrame.h"
#include "core/io/FitsFile.h"
#include "core/io/FitsWriter.h"

#include <algorithm>
#include <new>
#include <span>
#include <utility>

#include <fmt/format.h>

namespace patchlight {

namespace {

constexpr std::int64_t maxAxis = 10000000; ///< spectra or wavelengths: keeps indices inside int

template <class T> void readInto(FitsFile& file, const FitsHdu& hdu, std::vector<T>& values) {
    file.readImage(hdu, std::span<T>(values));
    file.release(hdu);
}

/// A plane with the shape of FLUX.
template <class T> Array2<T> readPlane(FitsFile& file, const FitsHdu& hdu, const FitsHdu& flux) {
    if (!hdu.isImage(2) || hdu.shape != flux.shape)
        file.fail(hdu, fmt::format("{}, {} expected as in FLUX", hdu.shapeText(), flux.shapeText()));
    (void)file.pixelCount(hdu); // before memory is taken
    Array2<T> plane(static_cast<std::size_t>(hdu.shape[1]), static_cast<std::size_t>(hdu.shape[0]));
    readInto(file, hdu, plane.values());
    return plane;
}

std::vector<double> readWavelength(FitsFile& file, std::size_t nwave) {
    const FitsHdu& hdu = file.require("WAVELENGTH");
    if ((!hdu.isImage(1) && !hdu.isImage(2)) || static_cast<std::size_t>(hdu.shape[0]) != nwave)
        file.fail(hdu, fmt::format("{}, {} wavelengths expected as in FLUX", hdu.shapeText(), nwave));
    std::vector<double> all(file.pixelCount(hdu));
    readInto(file, hdu, all);
    // Some write a row a spectrum. Frames have one grid for all.
    for (std::size_t i = nwave; i < all.size(); ++i)
        if (all[i] != all[i - nwave])
            file.fail(hdu, fmt::format("row {} differs from the one before, the same grid for all spectra expected",
                                       i / nwave));
    all.resize(nwave);
    return all;
}

Array3<double> readResolution(FitsFile& file, const FitsHdu& hdu, const FitsHdu& flux) {
    if (!hdu.isImage(3) || hdu.shape[0] != flux.shape[0] || hdu.shape[2] != flux.shape[1] || hdu.shape[1] % 2 == 0)
        file.fail(hdu, fmt::format("{}, {} x (an odd number of diagonals) x {} expected", hdu.shapeText(),
                                   flux.shape[0], flux.shape[1]));
    (void)file.pixelCount(hdu);
    Array3<double> resolution(static_cast<std::size_t>(hdu.shape[2]), static_cast<std::size_t>(hdu.shape[1]),
                              static_cast<std::size_t>(hdu.shape[0]));
    readInto(file, hdu, resolution.values());
    return resolution;
}

ExtractedFrame frameFrom(FitsFile& file) {
    ExtractedFrame frame;
    const FitsHdu& flux = file.requireMain("FLUX");
    if (!flux.isImage(2) || flux.shape[0] > maxAxis || flux.shape[1] > maxAxis)
        file.fail(flux, fmt::format("{}, an image of wavelengths x spectra expected", flux.shapeText()));
    const FitsHdu& ivar = file.require("IVAR");
    frame.header = flux.header;
    frame.wavelength = readWavelength(file, static_cast<std::size_t>(flux.shape[0]));
    frame.flux = readPlane<double>(file, flux, flux);
    frame.ivar = readPlane<double>(file, ivar, flux);
    if (const FitsHdu* mask = file.find("MASK"))
        frame.mask = readPlane<std::uint32_t>(file, *mask, flux);
    else
        frame.mask = Array2<std::uint32_t>(frame.flux.rows(), frame.flux.columns());
    if (const FitsHdu* resolution = file.find("RESOLUTION")) frame.resolution = readResolution(file, *resolution, flux);
    if (const FitsHdu* chi2pix = file.find("CHI2PIX")) frame.chi2pix = readPlane<double>(file, *chi2pix, flux);
    const auto readTable = [&](const char* name) -> std::optional<FitsTable> {
        const FitsHdu* hdu = file.find(name);
        if (hdu == nullptr) return std::nullopt;
        return file.readTable(*hdu);
    };
    frame.fibermap = readTable("FIBERMAP");
    frame.scores = readTable("SCORES");
    const std::int64_t specmin = frame.header.integer("SPECMIN").value_or(0);
    if (specmin < 0 || specmin > maxAxis)
        file.fail(flux, fmt::format("SPECMIN = {}, 0 to {} expected", specmin, maxAxis));
    frame.specmin = static_cast<int>(specmin);
    return frame;
}

void requireShape(const std::string& path, const char* name, std::size_t size, std::size_t expected, bool optional) {
    if (size != expected && !(optional && size == 0))
        throw Error(fmt::format("{}: {} has {} values, {} expected as in FLUX", printable(path), name, size, expected));
}

/// Keywords that readers of frames look for, where the caller did not set them.
void completeHeader(FitsHeader& header, const ExtractedFrame& frame) {
    const auto setMissing = [&](const char* keyword, auto value, const char* comment) {
        if (!header.has(keyword)) header.set(keyword, value, comment);
    };
    setMissing("FLAVOR", "science", "kind of exposure"); // desispec refuses a frame without
    setMissing("SPECMIN", frame.specmin, "first spectrum, as the PSF counts");
    setMissing("NSPEC", static_cast<std::int64_t>(frame.nspec()), "number of spectra");
    if (frame.nwave() == 0) return;
    setMissing("WAVEMIN", frame.wavelength.front(), "first wavelength, Angstrom");
    setMissing("WAVEMAX", frame.wavelength.back(), "last wavelength, Angstrom");
    if (frame.nwave() > 1)
        setMissing("WAVESTEP", frame.wavelength[1] - frame.wavelength[0], "wavelength step, Angstrom");
}

} // namespace

ExtractedFrame readFrame(const std::string& path) {
    try {
        FitsFile file(path);
        return frameFrom(file);
    } catch (const std::bad_alloc&) {
        throw Error(fmt::format("{}: not enough memory for this frame", printable(path)));
    }
}

void writeFrame(const std::string& path, const ExtractedFrame& frame, int threads) {
    const std::size_t size = frame.nspec() * frame.nwave();
    requireShape(path, "WAVELENGTH", frame.wavelength.size(), frame.nwave(), false);
    requireShape(path, "IVAR", frame.ivar.size(), size, false);
    requireShape(path, "MASK", frame.mask.size(), size, false);
    requireShape(path, "CHI2PIX", frame.chi2pix.size(), size, true);
    requireShape(path, "RESOLUTION", frame.resolution.size(), size * frame.resolution.rows(), true);

    const auto nspec = static_cast<std::int64_t>(frame.nspec());
    const auto nwave = static_cast<std::int64_t>(frame.nwave());
    FitsWriter writer(path, threads);
    FitsImageSpec flux{"FLUX", {nwave, nspec}, "electron/Angstrom", frame.header};
    completeHeader(flux.header, frame);
    writer.addImageAsFloat(flux, frame.flux.values());
    writer.addImageAsFloat({"IVAR", {nwave, nspec}, "", {}}, frame.ivar.values());
    writer.addImage({"MASK", {nwave, nspec}, "", {}}, std::span<const std::uint32_t>(frame.mask.values()));
    writer.addImage({"WAVELENGTH", {nwave}, "Angstrom", {}}, std::span<const double>(frame.wavelength));
    if (!frame.resolution.empty())
        writer.addImageAsFloat(
            {"RESOLUTION", {nwave, static_cast<std::int64_t>(frame.resolution.rows()), nspec}, "", {}},
            frame.resolution.values());
    const auto writeTable = [&](const std::optional<FitsTable>& table, const char* name) {
        if (!table) return;
        if (table->rowCount != frame.nspec())
            throw Error(fmt::format("{}: {} has {} rows, {} expected: one a spectrum", printable(path), name,
                                    table->rowCount, nspec));
        FitsTable named = *table;
        named.name = name;
        writer.addTable(named);
    };
    writeTable(frame.fibermap, "FIBERMAP");
    if (!frame.chi2pix.empty()) writer.addImageAsFloat({"CHI2PIX", {nwave, nspec}, "", {}}, frame.chi2pix.values());
    writeTable(frame.scores, "SCORES");
    writer.commit();
}

void writeModelImage(const std::string& path, const std::vector<float>& model, int nx, int ny, const FitsHeader& header,
                     int threads) {
    FitsWriter writer(path, threads);
    writer.addImage({"MODEL", {nx, ny}, "electron", header}, std::span<const float>(model));
    writer.commit();
}

} // namespace patchlight
