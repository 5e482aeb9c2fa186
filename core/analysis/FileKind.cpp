#include "core/analysis/FileKind.h"

#include "core/analysis/TruthSpectra.h"
#include "core/io/FitsFile.h"

#include <algorithm>

namespace patchlight {

namespace {

/// Words of a kind, in the order of the enumeration.
struct Words {
    const char* name;
    const char* word;
};
constexpr Words words[] = {{"PSF", "psf"},          {"CCD image", "image"},    {"extracted frame", "frame"},
                           {"patch file", "patch"}, {"true spectra", "truth"}, {"model image", "model"},
                           {"FITS file", "other"}};

bool isMainImage(const FitsFile& file, const char* name) {
    const FitsHdu* hdu = file.findMain(name);
    return hdu != nullptr && hdu->isImage(2);
}

} // namespace

const char* fileKindName(FileKind kind) { return words[static_cast<int>(kind)].name; }
const char* fileKindWord(FileKind kind) { return words[static_cast<int>(kind)].word; }

FileKind fileKind(const FitsFile& file) {
    const auto has = [&](const char* name) { return file.find(name) != nullptr; };
    // A patch off the CCD has no arrays, so the keywords decide.
    if (!file.hdus().empty() && file.hdus().front().header.has("NCOREWAV") &&
        file.hdus().front().header.has("CONDEST")) {
        return FileKind::PatchFile;
    }
    const bool psf = std::any_of(file.hdus().begin(), file.hdus().end(),
                                 [](const FitsHdu& hdu) { return hdu.header.has("PSFTYPE"); });
    if (psf) return FileKind::Psf;
    if (has("MODEL") && !has("IVAR")) return FileKind::Model;
    if (has("IVAR") && has("WAVELENGTH") && isMainImage(file, "FLUX")) return FileKind::Frame;
    if (has("IVAR") && !has("WAVELENGTH") && isMainImage(file, "IMAGE")) return FileKind::CcdImage;
    if (isTruthFile(file)) return FileKind::Truth;
    return FileKind::Other;
}

FileKind fileKind(const std::string& path) {
    return fileKind(FitsFile(path, [](const FitsHdu&) { return false; }));
}

} // namespace patchlight
