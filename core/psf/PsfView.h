#pragma once

#include "core/base/HostDevice.h"

namespace patchlight {

/// PSFTYPE of a PSF file.
enum class PsfType {
    GaussHermite,  ///< one core, stamp of 2 HSIZE + 1 pixels
    GaussHermite2, ///< BOSS heritage: two cores, the first cut at GHNSIG sigma, stamp of 2 HSIZE pixels
};

/// Order of the parameters in PsfView::coeff. The Gauss-Hermite coefficients follow: GH-i-j at ghOffset() + i (degY + 1) + j,
/// then GH2-i-j at gh2Offset() + i (degY2 + 1) + j.
enum PsfParameter : int {
    SigmaX,
    SigmaY,
    TailAmplitude,
    TailCore,
    TailScaleX,
    TailScaleY,
    TailIndex,
    SigmaX2,
    SigmaY2,
    NSigma,
    FirstGaussHermite,
};

/// Highest Hermite degree and stamp size the evaluation's fixed work arrays hold; readPsf refuses more.
inline constexpr int maxHermiteDegree = 15;
inline constexpr int maxStampSize = 64;
inline constexpr int maxPsfParameters = FirstGaussHermite + 2 * (maxHermiteDegree + 1) * (maxHermiteDegree + 1);

/// A PSF packed for evaluation, on the host or on the device: plain pointers, owned by Psf or by a device copy of it.
struct PsfView {
    PsfType type = PsfType::GaussHermite;
    int nspec = 0;
    int hsizeX = 0;
    int hsizeY = 0;
    int degX = 0;
    int degY = 0;
    int degX2 = -1;
    int degY2 = -1;
    int nparam = 0;
    int ncoeff = 0;                 ///< Legendre coefficients a parameter, zero-filled to the longest
    const double* coeff = nullptr;  ///< [nspec][nparam][ncoeff]
    const double* domain = nullptr; ///< [nparam][2]: WAVEMIN, WAVEMAX, Angstrom
    int ncoeffX = 0;
    int ncoeffY = 0;
    const double* coeffX = nullptr; ///< XTRACE, [nspec][ncoeffX], pixels
    const double* coeffY = nullptr; ///< YTRACE, [nspec][ncoeffY], pixels
    double domainX[2] = {0, 0};     ///< Angstrom
    double domainY[2] = {0, 0};     ///< Angstrom
    bool hasTail = false;           ///< some TAILAMP coefficient is not zero

    [[nodiscard]] PATCHLIGHT_HOST_DEVICE int stampX() const {
        return type == PsfType::GaussHermite ? 2 * hsizeX + 1 : 2 * hsizeX;
    }
    [[nodiscard]] PATCHLIGHT_HOST_DEVICE int stampY() const {
        return type == PsfType::GaussHermite ? 2 * hsizeY + 1 : 2 * hsizeY;
    }
    [[nodiscard]] PATCHLIGHT_HOST_DEVICE int ghOffset() const { return FirstGaussHermite; }
    [[nodiscard]] PATCHLIGHT_HOST_DEVICE int gh2Offset() const { return FirstGaussHermite + (degX + 1) * (degY + 1); }
};

} // namespace patchlight
