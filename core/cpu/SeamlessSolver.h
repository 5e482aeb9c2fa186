#pragma once

#include "core/cpu/AlignedBuffer.h"

#include <cstddef>
#include <vector>

namespace patchlight {

/// Solves segments of a bundle side by side, one in each vector lane: all spectra over a stretch of wavelengths
/// (docs/method.md, "The seamless method").
///
/// The normal matrix of a segment is block-tridiagonal over spectra, with banded blocks: own blocks D_s, couplings E_s of neighbours. Elimination from
/// the first spectrum, F_{s+1} = D_{s+1} - E_s^T F_s^-1 E_s, and from the last, G likewise, give the Schur complements S_s = F_s + G_s - D_s of all
/// spectra; F's factors solve the whole system for any right-hand side. Blocks are kept to a band of off-diagonals, and columns of U^-T E_s to `tail`
/// rows below their own: what both leave out is measured as it goes (leak()).
///
/// Arrays are [spectrum][bin][...][lanes]. Lanes do not see each other.
class SeamlessSolver {
public:
    /// Segments side by side: the vector length of the machine's instruction set, 1 to 8.
    [[nodiscard]] static int lanes();
    /// Off-diagonals that the rungs keep.
    static constexpr int narrowBand = 20;
    static constexpr int wideBand = 24;
    /// Rows below its own that a column of U^-T E is followed; what is left of it then counts squared.
    static constexpr int tail = 40;

    /// Storage for segments of `nwave` bins; nothing is filled. @param reach largest |difference| of bins that couple two neighbours
    /// @param band  narrowBand or wideBand; @param ownWidth  diagonals of own blocks, at most band + 1
    void shape(int nspec, int nwave, int reach, int ndiag, int band, int ownWidth);

    // Inputs: every element is to be set.
    /// Upper triangle of a spectrum's own block, (bin, bin + d) at [d], d < ownWidth; zero beyond the last bin.
    [[nodiscard]] double* own(int s, int bin) { return own_.data() + flat(s, bin) * ownWidth_ * lanes_; }
    /// Coupling with the next spectrum, (bin, bin + d) at [d + reach]; zero beyond the first and last bin.
    [[nodiscard]] double* next(int s, int bin) { return next_.data() + flat(s, bin) * nextWidth() * lanes_; }
    /// Right-hand side of solve(), in; where residual() puts y - A x, out.
    [[nodiscard]] double* side(int s, int bin) { return side_.data() + flat(s, bin) * lanes_; }
    /// Solution of solve(), out; the deconvolved flux for residual() and root(), in.
    [[nodiscard]] double* x(int s, int bin) { return x_.data() + flat(s, bin) * lanes_; }

    /// Factorises, for S of spectra first .. last (solve() needs all). A bin whose pivot is not above 1e-14 of its diagonal element is taken out of the system. @return how many were
    int eliminate(int first, int last);
    /// True where eliminate() took a bin out.
    [[nodiscard]] bool removed(int s, int bin, int lane) const {
        return removed_[flat(s, bin) * lanes_ + static_cast<std::size_t>(lane)] != 0;
    }
    /// x = A^-1 side.
    void solve();
    /// side = y - A x. @param y  right-hand sides, as side()
    void residual(const double* y);
    /// Q_s = S_s^(1/2) for one spectrum, as Q 1, Q x and its diagonals, by the rational approximation of the smallest condition number that covers
    /// all bins, or of the largest there is.
    void root(int s);

    /// Row sum of Q; [lanes] each.
    [[nodiscard]] const double* rowSum(int s, int bin) const { return rowSum_.data() + flat(s, bin) * lanes_; }
    [[nodiscard]] const double* qTimesX(int s, int bin) const { return qx_.data() + flat(s, bin) * lanes_; }
    /// Q[bin][bin + d], d = 0 .. ndiag.
    [[nodiscard]] const double* q(int s, int bin, int d) const {
        return q_.data() + (flat(s, bin) * static_cast<std::size_t>(ndiag_ + 1) + static_cast<std::size_t>(d)) * lanes_;
    }
    /// Lower bound of the eigenvalues of S_s in the neighbourhood of each bin, for the spectrum of the last root(): 0 where nothing is proved.
    [[nodiscard]] double lowest(int bin, int lane) const {
        return lowest_[static_cast<std::size_t>(bin) * lanes_ + static_cast<std::size_t>(lane)];
    }
    /// Gershgorin's bound of a row of S_s, for the spectrum of the last root().
    [[nodiscard]] double rowNorm(int bin, int lane) const {
        return norm_.data()[static_cast<std::size_t>(bin) * lanes_ + static_cast<std::size_t>(lane)];
    }
    /// Largest element of S_s near a bin that band and tail leave out.
    [[nodiscard]] double leak(int s, int bin, int lane) const {
        return leak_.data()[flat(s, bin) * lanes_ + static_cast<std::size_t>(lane)];
    }
    /// Elements (bin, bin + d) of F_s and G_s, d = 0 .. band: [lanes], after eliminate().
    [[nodiscard]] const double* fromFirst(int s, int bin, int d) const { return left_.data() + banded(s, bin, d); }
    [[nodiscard]] const double* fromLast(int s, int bin, int d) const { return right_.data() + banded(s, bin, d); }
    [[nodiscard]] int band() const { return band_; }
    [[nodiscard]] std::size_t ownWidth() const { return ownWidth_; }
    [[nodiscard]] std::size_t nextWidth() const { return static_cast<std::size_t>(2 * reach_ + 1); }

    /// Shape and storage, for the kernels.
    struct View {
        int nspec, nwave, reach, ndiag;
        std::size_t ownWidth;
        const double *own, *next;
        double *factor, *left, *right, *leak, *side, *x, *rowSum, *qx, *q, *norm, *pivot, *lowest, *work;
        char* removed;
    };

private:
    [[nodiscard]] View view();
    [[nodiscard]] std::size_t flat(int s, int bin) const {
        return static_cast<std::size_t>(s) * static_cast<std::size_t>(nwave_) + static_cast<std::size_t>(bin);
    }
    [[nodiscard]] std::size_t banded(int s, int bin, int d) const {
        return (flat(s, bin) * static_cast<std::size_t>(band_ + 1) + static_cast<std::size_t>(d)) * lanes_;
    }
    int nspec_ = 0;
    int nwave_ = 0;
    int reach_ = 0;
    int ndiag_ = 0;
    int band_ = narrowBand;
    std::size_t ownWidth_ = 8;
    std::size_t lanes_ = 1;
    AlignedBuffer own_, next_, factor_, left_, right_, leak_, side_, x_, rowSum_, qx_, q_, norm_, pivot_, work_;
    std::vector<char> removed_;
    std::vector<double> lowest_;
};

} // namespace patchlight
