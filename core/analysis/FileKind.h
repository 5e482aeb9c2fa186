#pragma once

#include <string>

namespace patchlight {

class FitsFile;

/// What a FITS file holds, by its HDUs and keywords.
enum class FileKind {
    Psf,       ///< a Gauss-Hermite PSF (or one of another type: PSFTYPE says)
    CcdImage,  ///< IMAGE and IVAR
    Frame,     ///< FLUX, IVAR and WAVELENGTH
    PatchFile, ///< one patch with its intermediates: keywords NCOREWAV and CONDEST
    Truth,     ///< true spectra: FLUX and WAVELENGTH
    Model,     ///< a model image: MODEL
    Other,
};

/// "extracted frame", ...
[[nodiscard]] const char* fileKindName(FileKind kind);
/// One word for JSON: "frame", ...
[[nodiscard]] const char* fileKindWord(FileKind kind);

[[nodiscard]] FileKind fileKind(const FitsFile& file);
/// Looks at the headers only. @throws Error where the file cannot be read
[[nodiscard]] FileKind fileKind(const std::string& path);

} // namespace patchlight
