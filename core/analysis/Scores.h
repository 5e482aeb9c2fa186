#pragma once

#include "core/frame/ExtractedFrame.h"
#include "core/io/FitsTable.h"

#include <optional>
#include <string>

namespace patchlight {

/// SCORES of a frame, a row a spectrum, named and computed as desispec's specscore does: with x = B, R or Z by the mean of the
/// wavelength grid (<= 5800 B, >= 7600 Z, else R; Angstrom), over the bins in [4000, 5800), [5800, 7600) or [7600, 9800),
/// * INTEG_RAW_FLUX_x = sum(flux dw), electron,
/// * MEDIAN_RAW_FLUX_x = median(flux), electron/Angstrom,
/// * MEDIAN_RAW_SNR_x = median(sqrt(ivar) flux / sqrt(dw)), Angstrom^(-1/2),
/// float64 columns, dw the distance of neighbouring wavelengths (numpy.gradient). All bins count, masked ones too: their ivar is 0,
/// or their flux is known badly, and desispec's scores are used as they are downstream. A negative ivar counts as 0, as there; a
/// flux that is not finite counts as 0 with ivar 0, so that one bad bin does not void a fiber's scores.
/// TARGETID comes first where the frame's fibermap has that column; comments stand on the TTYPE cards.
/// @param warning  set where there is no table: no bin lies inside the range
[[nodiscard]] std::optional<FitsTable> computeScores(const ExtractedFrame& frame, std::string& warning,
                                                     int threads = 0);

} // namespace patchlight
