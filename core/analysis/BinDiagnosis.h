#pragma once

#include "core/analysis/FrameQuality.h"

#include <string>
#include <vector>

namespace patchlight {

struct PsfView;

/// Where a bin's spot has its middle on the CCD, pixels; NaN: unknown.
struct BinPlace {
    double x = 0;
    double y = 0;
};
[[nodiscard]] BinPlace binPlace(const PsfView& psf, const ExtractedFrame& frame, std::size_t row, std::size_t bin);

/// What a frame's quality says of a place. Null where there is none.
[[nodiscard]] const AmplifierQuality* amplifierAt(const FrameQuality& quality, const BinPlace& place);
/// The worst bad column within 3 pixels.
[[nodiscard]] const BadCcdColumn* badColumnAt(const FrameQuality& quality, const BinPlace& place);
/// Of the block of rows, or of the whole fiber where the block does not say enough by itself.
[[nodiscard]] Measured offsetAt(const FrameQuality& quality, std::size_t row, const BinPlace& place);
[[nodiscard]] Measured widthAt(const FrameQuality& quality, std::size_t row, const BinPlace& place);

/// Light of a bin's spot on pixels with one bit of MASK.
struct MaskedLight {
    std::string name; ///< "COSMIC", "ivar = 0", "off the CCD"
    double share = 0; ///< of the spot's light
    int pixels = 0;
};

/// One reason for which a bin may be bad.
struct BinCause {
    BadBinKind kind = BadBinKind::None;
    double severity = 0; ///< in units of its limit
    std::string text;    ///< "5 pixels far above the model: ..."
};

/// A bin, with all that its frame's quality, the image and the PSF say of it.
struct BinDiagnosis {
    int row = 0;
    int bin = 0;
    double wavelength = 0; ///< Angstrom
    BinPlace place;
    double flux = 0, sigma = 0; ///< electron/Angstrom; sigma infinite where ivar = 0
    double chi2pix = 0, chi2Ratio = 0;
    double maskedFraction = 0;
    std::vector<MaskedLight> masked;
    double fluxweight = 0, weightShare = 0; ///< as FrameQuality has them; NaN: unknown
    double neighbour = 0;                   ///< share of other fibers in the light of its spot
    int outliers = 0;                       ///< pixels of its spot more than 5 sigma above the model
    double outlierInfluence =
        0; ///< by how many of its errors flux would change without them, others' fluxes as they are
    std::vector<BinCause> causes;   ///< what explains most first
    std::vector<std::string> notes; ///< true, and no cause: seam, CCD edge, what could not be looked at
    std::string sentence;           ///< why this bin is bad, or that nothing was found
};

/// Why is this bin bad? @param row, bin  of the frame
[[nodiscard]] BinDiagnosis diagnoseBin(const QualityInput& input, const FrameQuality& quality, int row, int bin);

} // namespace patchlight
