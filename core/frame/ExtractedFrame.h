#pragma once

#include "core/base/Array.h"
#include "core/frame/SpecMask.h"
#include "core/io/FitsHeader.h"
#include "core/io/FitsTable.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace patchlight {

/// Extracted spectra: what the engine computes and what a frame file holds. Rows are spectra, columns wavelength bins.
struct ExtractedFrame {
    int specmin = 0;                ///< spectrum index (row of the PSF) of row 0
    std::vector<double> wavelength; ///< [nwave], Angstrom, as written (before division by the barycentric factor)
    Array2<double> flux;            ///< [nspec][nwave], electron/Angstrom, reconvolved
    Array2<double> ivar;            ///< [nspec][nwave], (electron/Angstrom)^-2
    Array2<std::uint32_t> mask;     ///< [nspec][nwave], SpecMaskBit
    Array3<double> resolution;      ///< [nspec][2 ndiag + 1][nwave]: (s, k, j) = R_s[j - ndiag + k, j]
    Array2<double> chi2pix;         ///< [nspec][nwave]; empty where a file has none
    Array2<double> pixmaskFraction; ///< [nspec][nwave]; empty for frames read from a file
    Array2<double> fluxweight;      ///< [nspec][nwave], A^T w; empty for frames read from a file
    Array2<double> xflux;           ///< [nspec][nwave], photons per bin, deconvolved; empty for frames read from a file
    FitsHeader header;              ///< primary header
    std::optional<FitsTable> fibermap;
    std::optional<FitsTable> scores;

    [[nodiscard]] std::size_t nspec() const { return flux.rows(); }
    [[nodiscard]] std::size_t nwave() const { return flux.columns(); }
    [[nodiscard]] std::size_t ndiag() const { return resolution.rows() / 2; }
};

/// Reads a frame written by patchlight, desispec or gpu_specter: HDUs by name; MASK, RESOLUTION, CHI2PIX, FIBERMAP, SCORES optional.
/// @throws Error naming file and HDU.
[[nodiscard]] ExtractedFrame readFrame(const std::string& path);

/// Writes a frame file that desispec.io.read_frame reads: temporary name beside the target, checksums, rename.
/// @param threads that convert and compress, 0: all cores. @throws Error
void writeFrame(const std::string& path, const ExtractedFrame& frame, int threads = 0);

/// Writes a model image, HDU MODEL, float32 [ny][nx], electrons; atomic, with checksum. @throws Error
void writeModelImage(const std::string& path, const std::vector<float>& model, int nx, int ny, const FitsHeader& header,
                     int threads = 0);

} // namespace patchlight
