#pragma once

#include "core/cpu/AlignedBuffer.h"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace patchlight {

/// Solves several patches of the same shape side by side, one in each lane of the machine's vectors (docs/method.md, "The fast path").
///
/// Spectra couple to their next neighbours only, so the normal matrix is block-tridiagonal over spectra with banded blocks. Eliminating
/// spectra from the left and from the right gives the Schur complement S_s = F_s + G_s - D_s of the core spectra, and the
/// deconvolved flux; Q_s = S_s^(1/2) is needed only as Q 1, Q xflux and a few diagonals, which a rational approximation gives with banded
/// solves. Blocks are kept to `band` off-diagonals. What that leaves out, and what second neighbours would add, is measured as it goes:
/// see LaneSolver::relativeError().
///
/// Arrays are [...][lanes]; lanes do not see each other, so that a patch's result does not depend on its company.
class LaneSolver {
public:
    /// Patches side by side: the vector length of the machine's instruction set, 1 to 8.
    [[nodiscard]] static int lanes();
    /// Off-diagonals that solve() keeps.
    static constexpr int band = 12;

    /// Most patches side by side.
    static constexpr std::size_t mostLanes = 8;

    /// Shapes the inputs. @param reach largest |difference| of bins that couple two neighbours; @param ownWidth diagonals of a spectrum's own
    /// block, at most band + 1
    void shape(int nspec, int nwave, int reach, std::size_t ownWidth, int ndiag);

    /// Where a lane's inputs lie: rows of spectrum s begin at s * spectrumStride bins.
    struct Source {
        const double* own;  ///< [bins][ownWidth()]
        const double* next; ///< [bins][nextWidth()]
        const double* y;    ///< [bins]
        std::size_t spectrumStride;
    };
    /// Copies `count` lanes' inputs, and lets the other lanes solve the unit matrix.
    void fill(const Source* sources, int count);

    // Inputs, to be changed after fill(). Upper triangle of each spectrum's own block, delta < ownWidth():
    /// [nspec][nwave][ownWidth()][lanes].
    [[nodiscard]] double* own(int spectrum, int bin) { return own_.data() + flat(spectrum, bin) * ownWidth_ * lanes_; }
    /// Block of a spectrum (rows) with the next one (columns), at [column - row + reach]: [nspec - 1][nwave][2 reach + 1][lanes].
    [[nodiscard]] double* next(int spectrum, int bin) {
        return next_.data() + (flat(spectrum, bin) * nextWidth()) * lanes_;
    }
    [[nodiscard]] double* y(int spectrum, int bin) { return y_.data() + flat(spectrum, bin) * lanes_; }
    [[nodiscard]] std::size_t ownWidth() const { return ownWidth_; }
    [[nodiscard]] std::size_t nextWidth() const { return static_cast<std::size_t>(2 * reach_ + 1); }

    /// Solves with bands; Q only for spectra [coreFirst, coreLast).
    void solve(int coreFirst, int coreLast);

    /// Solves with full blocks, nothing left out but second neighbours: xflux, and S_s of the core spectra, of which rootDense() makes Q. xflux
    /// is NaN in lanes whose matrix is not positive. @param withXflux  else only S_s
    void solveDense(int coreFirst, int coreLast, bool withXflux = true);
    /// Room for matrices of one's own in place of solveDense(), to be written through schur() before rootDense().
    void requireDense();
    /// S_s[i][j], i <= j, until rootDense(): [lanes].
    [[nodiscard]] double* schur(int spectrum, int i, int j) {
        return left_.data() + (flat(spectrum, i) * denseStride() + static_cast<std::size_t>(j)) * lanes_;
    }
    /// Deconvolved flux that rootDense() is to multiply Q with, where it is not solveDense()'s.
    [[nodiscard]] double* x(int spectrum, int bin) { return x_.data() + flat(spectrum, bin) * lanes_; }
    /// Q of a core spectrum after solveDense() by the root of S_s' band, corrected to first order for what lies beyond it: rowSum(), qTimesX(), q(),
    /// largestEigenvalue(), conditionBound(), leak() and outer(). Leaves S_s as it is.
    void rootCorrected(int spectrum);
    /// Q of a core spectrum after solveDense(), once, nothing left out: rowSum(), qTimesX(), q(), largestEigenvalue() and conditionBound().
    void rootDense(int spectrum);

    /// A spectrum beside those of the patches, for rootDense() of S_s from here and there.
    [[nodiscard]] int spare() const { return nspec_; }
    /// All lanes of the spare spectrum have the unit matrix.
    void clearSpare();
    /// S_s and xflux of a spectrum in one lane, before rootDense() takes it.
    void copyToSpare(int spectrum, std::size_t lane, std::size_t spareLane);
    /// All of Q, [i][j] for i <= j, of the last spectrum given to rootDense(): [lanes].
    [[nodiscard]] const double* denseRoot(int i, int j) const {
        return work_.data() + (static_cast<std::size_t>(i) * denseStride() + static_cast<std::size_t>(j)) * lanes_;
    }

    // Results, [lanes] each.
    [[nodiscard]] const double* xflux(int spectrum, int bin) const { return x_.data() + flat(spectrum, bin) * lanes_; }
    /// Row sum of Q: ivar = s^2.
    [[nodiscard]] const double* rowSum(int spectrum, int bin) const {
        return rowSum_.data() + flat(spectrum, bin) * lanes_;
    }
    /// Q xflux: flux = Q xflux / s.
    [[nodiscard]] const double* qTimesX(int spectrum, int bin) const {
        return qx_.data() + flat(spectrum, bin) * lanes_;
    }
    /// Q[bin][bin + delta], delta = 0 .. ndiag.
    [[nodiscard]] const double* q(int spectrum, int bin, int delta) const {
        return q_.data() +
               (flat(spectrum, bin) * static_cast<std::size_t>(ndiag_ + 1) + static_cast<std::size_t>(delta)) * lanes_;
    }
    /// Upper bound of the largest eigenvalue of S_s (Gershgorin).
    [[nodiscard]] const double* largestEigenvalue(int spectrum) const {
        return largest_.data() + static_cast<std::size_t>(spectrum) * lanes_;
    }
    /// Bound of the condition number of S_s, proved by a factorisation; 0 where S_s is not positive or worse than the ladder reaches.
    [[nodiscard]] const double* conditionBound(int spectrum) const {
        return condition_.data() + static_cast<std::size_t>(spectrum) * lanes_;
    }
    /// Largest element of S_s that the band leaves out, over its largest eigenvalue; of rootCorrected() as much as its correction leaves of it.
    [[nodiscard]] const double* leak(int spectrum) const {
        return leak_.data() + static_cast<std::size_t>(spectrum) * lanes_;
    }
    /// Largest element of S_s that the diagonals of rootCorrected() leave out, over its largest eigenvalue; 0 after solve().
    [[nodiscard]] const double* outer(int spectrum) const {
        return outer_.data() + static_cast<std::size_t>(spectrum) * lanes_;
    }

    /// Shape and storage, for the kernels.
    struct View {
        int nspec, nwave, reach, ndiag, coreFirst, coreLast;
        std::size_t ownWidth;
        const double *own, *next, *y;
        double *x, *rowSum, *qx, *q, *largest, *condition, *leak, *outer;
        double *left, *leftY, *right, *rightY, *work;
    };
    /// Elements a row of a full block takes: kernels run over its end, eight columns at a time.
    [[nodiscard]] std::size_t denseStride() const { return static_cast<std::size_t>(nwave_) + 8; }

private:
    [[nodiscard]] View view(int coreFirst, int coreLast);
    [[nodiscard]] std::size_t flat(int spectrum, int bin) const {
        return static_cast<std::size_t>(spectrum) * static_cast<std::size_t>(nwave_) + static_cast<std::size_t>(bin);
    }
    int nspec_ = 0;
    int nwave_ = 0;
    int reach_ = 0;
    int ndiag_ = 0;
    std::size_t ownWidth_ = 8;
    std::size_t lanes_ = 1;
    std::vector<double> zeros_;
    AlignedBuffer own_, next_, y_, x_, rowSum_, qx_, q_, largest_, condition_, leak_, outer_, left_, leftY_, right_,
        rightY_, work_;
};

} // namespace patchlight
