#pragma once

#include "core/cpu/AlignedBuffer.h"
#include "core/cpu/BandKernels.h"
#include "core/cpu/LaneSolver.h"
#include "core/cpu/SpotTile.h"
#include "core/cpu/SymmetricEigen.h"
#include "core/engine/Backend.h"

#include <vector>

namespace patchlight {

/// Extracts one patch exactly: nothing is left out. With Roots::Eigenvalues this is the reference for the faster paths.
///
///  1. normal equations iCov = A^T W A, y = A^T W p, fluxweight = A^T w, from overlapping spots (BS eq 4); never a projection matrix;
///  2. the prior on bins with little weight;
///  3. xflux by Cholesky. Ordered by wavelength first, iCov is banded: spots share a CCD row only with bins a few steps away;
///  4. signal: for each core spectrum s the Schur complement S_s = (C_s)^-1 (the other spectra eliminated by a banded Cholesky
///     factorisation), and Q_s = S_s^(1/2) (BS eqs 17-19), see Roots. noise: Q = iCov^(1/2) over the patch by eigen-decomposition (eqs 10-13);
///  5. s = row sums of Q, R = Q/s, ivar = s^2, flux = R xflux;
///  6. chi2pix and the masked fraction, by a pass over the spots.
///
/// Cost for 7 spectra x 74 bins: about 12 M multiply-adds in step 4 and five eigen-decompositions of order 74.
/// An object is one thread's workspace: reuse it, and nothing is allocated once it has seen the largest patch.
class PatchSolver {
public:
    /// How S_s^(1/2) is found.
    enum class Roots {
        Eigenvalues, ///< of each spectrum by itself: the reference
        SideBySide, ///< of several spectra by LaneSolver::rootDense(), off by 1e-13 at most; by eigenvalues where that cannot do it
    };
    /// Solves a patch whose spots are in `tile`; writes core bins into `output` where that is given, and everything into `detail`
    /// where that is.
    void solve(const FrameInput& input, const SpotTile& tile, const Patch& patch, const FrameOutput* output,
               PatchDetail* detail, Roots roots = Roots::SideBySide);
    /// Of the last patch solved.
    [[nodiscard]] const PatchReport& report() const { return report_; }
    /// Deconvolved flux of the last patch, [nspec][nwave].
    [[nodiscard]] const std::vector<double>& xflux() const { return xflux_; }

private:
    enum class Outcome { Solved, NotPositive };

    void buildNormalEquations(const FrameInput& input, const SpotTile& tile);
    [[nodiscard]] Outcome decorrelate(const FrameInput& input, double regularize);
    [[nodiscard]] bool solveXflux();
    [[nodiscard]] bool resolveSideBySide(IndexRange spectra);
    [[nodiscard]] bool resolveSpectrum(int spectrum);
    [[nodiscard]] bool eliminateOthers(int spectrum);
    [[nodiscard]] bool resolveByEigenvalues(int spectrum);
    [[nodiscard]] bool resolvePatch();
    void applyResolution(const double* q, int count, int firstBin);
    void measureQuality(const FrameInput& input, const SpotTile& tile);
    void writeOutput(const FrameInput& input, const SpotTile& tile, const FrameOutput& output) const;
    void fillDetail(const FrameInput& input, const SpotTile& tile, PatchDetail& detail);
    /// Condition number of iCov, whose factor solveXflux() has just left.
    [[nodiscard]] double conditionEstimate();
    [[nodiscard]] std::size_t flat(int ispec, int iwave) const {
        return static_cast<std::size_t>(ispec) * static_cast<std::size_t>(nwave_) + static_cast<std::size_t>(iwave);
    }
    /// Index in the wavelength-first order that makes iCov banded.
    [[nodiscard]] int bandIndex(int ispec, int iwave) const { return iwave * nspec_ + ispec; }
    [[nodiscard]] kernels::BandView bandView(std::vector<double>& storage, int n, int halfBand) const;

    // The patch at hand.
    Patch patch_;
    PixelWindow window_;
    PatchReport report_;
    double condition_ = 0; ///< of iCov, where a detail is asked for
    int nspec_ = 0;
    int nwave_ = 0;
    int reach_ = 0;    ///< largest distance in bins at which two spots share a CCD row
    int halfBand_ = 0; ///< of iCov in wavelength-first order

    std::vector<double> icov_;       ///< band of iCov, prior not included
    std::vector<double> prior_;      ///< [nspec][nwave], diagonal
    std::vector<double> factor_;     ///< work: band being factorised
    std::vector<double> weighted_;   ///< work: one spot times weights, with zeros around
    AlignedBuffer columns_;          ///< work: right-hand sides of the elimination
    std::vector<int> columnCount_;   ///< work
    std::vector<double> schur_;      ///< work: S_s
    std::vector<double> square_;     ///< work: S_s symmetric, or iCov dense
    std::vector<double> q_;          ///< work: Q
    std::vector<double> eigenRoots_; ///< work: square roots of eigenvalues
    std::vector<double> solution_;   ///< work: xflux in wavelength-first order
    std::vector<double> y_, fluxweight_, xflux_, flux_, ivar_, chi2pix_, pixmaskFraction_; ///< [nspec][nwave]
    std::vector<char> spotOnCcd_;                                                          ///< [nspec][nwave]
    std::vector<double> band_;                   ///< [nspec][2 ndiag + 1][nwave], columns of R as stored
    std::vector<double> model_, chi2_, counted_; ///< [window y][window x]
    int ndiag_ = 0;
    SymmetricEigen eigen_;
    LaneSolver sideBySide_; ///< square roots of several spectra's S_s
    Roots roots_ = Roots::SideBySide;
    std::vector<double> minweight_;                  ///< work: of each bin
    std::vector<double>* denseResolution_ = nullptr; ///< where `detail` wants R
};

} // namespace patchlight
