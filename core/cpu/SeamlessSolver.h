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
/// spectra; F's factors solve the whole system for any right-hand side.
///
/// S_s is a narrow band, the spectrum's own block, and what neighbours add: far smaller, but falling off slowly along wavelength. So factorisations, of F
/// as of S + p for the poles of its square root, have the narrow band, and what S has beyond it (outer()) corrects the solutions. Elements of S beyond
/// the wide band are left out: leak() is how large they are.
///
/// Arrays are [spectrum][bin][...][lanes]. Lanes do not see each other.
class SeamlessSolver {
public:
    /// Segments side by side: the vector length of the machine's instruction set, 1 to 8.
    [[nodiscard]] static int lanes();
    /// Off-diagonals that blocks keep.
    struct Bands {
        int narrow = 16; ///< in factorisations: one of narrowBands
        int wide = 40;   ///< of S_s; a multiple of 4, above narrow
        int tail =
            46; ///< rows below its own that a column of U^-T E is followed; a few more than `wide`, or leak() is large
    };
    static constexpr int narrowBands[] = {8, 16, 20};

    /// Storage for segments of `nwave` bins; nothing is filled. @param reach largest |difference| of bins that couple two neighbours
    /// @param ownWidth  diagonals of own blocks, at most narrow + 1; @param ndiag  of Q, at most narrow
    void shape(int nspec, int nwave, int reach, int ndiag, const Bands& bands, int ownWidth);

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
    // What eliminate() makes, or what is put in its place for root():
    /// S_s, (bin, bin + d) at [d], d <= wide: [lanes] each; zero beyond the last bin.
    [[nodiscard]] double* schur(int s, int bin) { return schur_.data() + flat(s, bin) * wideWidth() * lanes_; }
    [[nodiscard]] const double* schur(int s, int bin) const {
        return schur_.data() + flat(s, bin) * wideWidth() * lanes_;
    }
    /// Largest element of S_s near a bin that wide band and tail leave out.
    [[nodiscard]] double* leak(int s, int bin) { return leak_.data() + flat(s, bin) * lanes_; }
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

    // Q of the spectrum of the last root(); [lanes] each.
    /// Row sum.
    [[nodiscard]] const double* rowSum(int bin) const {
        return rowSum_.data() + static_cast<std::size_t>(bin) * lanes_;
    }
    [[nodiscard]] const double* qTimesX(int bin) const { return qx_.data() + static_cast<std::size_t>(bin) * lanes_; }
    /// Q[bin][bin + d], d = 0 .. ndiag.
    [[nodiscard]] const double* q(int bin, int d) const {
        return q_.data() +
               (static_cast<std::size_t>(bin) * static_cast<std::size_t>(ndiag_ + 1) + static_cast<std::size_t>(d)) *
                   lanes_;
    }
    /// Lower bound of the eigenvalues of S_s in the neighbourhood of each bin, for the spectrum of the last root(): 0 where nothing is proved.
    [[nodiscard]] double lowest(int bin, int lane) const {
        return lowest_[static_cast<std::size_t>(bin) * lanes_ + static_cast<std::size_t>(lane)];
    }
    /// Gershgorin's bound of a row of S_s, for the spectrum of the last root().
    [[nodiscard]] double rowNorm(int bin, int lane) const {
        return norm_.data()[static_cast<std::size_t>(bin) * lanes_ + static_cast<std::size_t>(lane)];
    }
    /// Largest element of S_s near a bin that lies beyond the narrow band, for the spectrum of the last root().
    [[nodiscard]] double outer(int bin, int lane) const {
        return outer_.data()[static_cast<std::size_t>(bin) * lanes_ + static_cast<std::size_t>(lane)];
    }
    /// What neighbours take from a bin's diagonal element, D_s - S_s.
    [[nodiscard]] double taken(int s, int bin, int lane) const {
        const std::size_t at = static_cast<std::size_t>(lane);
        return own_.data()[flat(s, bin) * ownWidth_ * lanes_ + at] -
               schur_.data()[flat(s, bin) * wideWidth() * lanes_ + at];
    }
    /// Largest element of S_s near a bin that wide band and tail leave out.
    [[nodiscard]] double leak(int s, int bin, int lane) const {
        return leak_.data()[flat(s, bin) * lanes_ + static_cast<std::size_t>(lane)];
    }
    /// Elements (bin, bin + d) of F_s and G_s, d = 0 .. narrow, after eliminate(); F of spectra that it was asked for.
    [[nodiscard]] double fromFirst(int s, int bin, int d, int lane) const {
        const std::size_t k = static_cast<std::size_t>(d);
        const std::size_t at = static_cast<std::size_t>(lane);
        const double own = k < ownWidth_ ? own_.data()[(flat(s, bin) * ownWidth_ + k) * lanes_ + at] : 0.0;
        return schur_.data()[(flat(s, bin) * wideWidth() + k) * lanes_ + at] - fromLast(s, bin, d, lane) + own;
    }
    [[nodiscard]] double fromLast(int s, int bin, int d, int lane) const {
        return right_.data()[(flat(s, bin) * narrowWidth() + static_cast<std::size_t>(d)) * lanes_ +
                             static_cast<std::size_t>(lane)];
    }
    [[nodiscard]] const Bands& bands() const { return bands_; }
    [[nodiscard]] std::size_t ownWidth() const { return ownWidth_; }
    [[nodiscard]] std::size_t nextWidth() const { return static_cast<std::size_t>(2 * reach_ + 1); }

    /// Shape and storage, for the kernels.
    struct View {
        int nspec, nwave, reach, ndiag, narrow, wide, tail;
        std::size_t ownWidth;
        const double *own, *next;
        double *factor, *schur, *right, *leak, *side, *x, *rowSum, *qx, *q, *norm, *outer, *lowest, *work;
        char* removed;
    };

private:
    [[nodiscard]] View view();
    [[nodiscard]] std::size_t flat(int s, int bin) const {
        return static_cast<std::size_t>(s) * static_cast<std::size_t>(nwave_) + static_cast<std::size_t>(bin);
    }
    [[nodiscard]] std::size_t narrowWidth() const { return static_cast<std::size_t>(bands_.narrow + 1); }
    [[nodiscard]] std::size_t wideWidth() const { return static_cast<std::size_t>(bands_.wide + 1); }
    int nspec_ = 0;
    int nwave_ = 0;
    int reach_ = 0;
    int ndiag_ = 0;
    Bands bands_;
    std::size_t ownWidth_ = 8;
    std::size_t lanes_ = 1;
    AlignedBuffer own_, next_, factor_, right_, leak_, side_, x_, rowSum_, qx_, q_, norm_, outer_, work_;
    AlignedBuffer schur_; ///< F_s, then S_s: [spectra][bins][wide + 1][lanes]
    std::vector<char> removed_;
    std::vector<double> lowest_;
};

} // namespace patchlight
