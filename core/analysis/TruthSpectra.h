#pragma once

#include "core/base/Array.h"
#include "core/io/FitsHeader.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace patchlight {

class FitsFile;

/// True spectra, as the simulation writes them beside a frame.
struct TruthSpectra {
    std::string path;
    std::optional<int> specmin; ///< spectrum index of row 0, from SPECMIN
    std::vector<std::int64_t>
        fiber; ///< [nspec]: column FIBER of table TRUTH or FIBERMAP, else from FIBERMIN, else empty
    std::vector<double> wavelength; ///< [nwave], Angstrom, increasing, as the CCD sees them (no barycentric correction)
    FitsHeader header;              ///< primary header
    Array2<double> flux;            ///< [nspec][nwave], photons per Angstrom
};

/// Reads a truth file: FLUX (or the primary image) and WAVELENGTH. @throws Error naming file and HDU.
[[nodiscard]] TruthSpectra readTruth(const std::string& path);

/// True for a file with FLUX (or a primary image) and WAVELENGTH but no IVAR.
[[nodiscard]] bool isTruthFile(const FitsFile& file);

} // namespace patchlight
