#include "core/cpu/SeamlessSolver.h"

#include "core/cpu/InverseSquareRoot.h"
#include "core/cpu/Unroll.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/cpu/SeamlessSolver.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace patchlight::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using SeamTag = hn::CappedTag<double, 8>;
using SeamVec = hn::Vec<SeamTag>;

/// Columns that a forward substitution carries at once: as many accumulators as hide the latency of a multiply-add.
inline constexpr int seamColumns = 8;
/// Columns a side of the tiles of a Gram matrix.
inline constexpr int seamTile = 4;
/// A bin's neighbourhood: eigenvectors further away, if below what the poles of the largest condition number cover, change its row of Q by 1e-9 at most.
inline constexpr int seamNeighbourhood = 30;

/// Banded matrices of order n, upper triangle by rows: (i, i + d) at [i seamWidth + d][lanes], d = 0 .. seamBand.
template <int seamBand> struct Seam {
    static constexpr std::size_t seamWidth = seamBand + 1;
    /// Tiles that the diagonals of a Gram matrix reach over.
    static constexpr int seamTilesBack = seamBand / seamTile;
    /// Blocks of columns that are kept for Gram matrices.
    static constexpr int seamBlocks = (seamBand + seamTile) / seamColumns + 2;

    static HWY_INLINE SeamVec load(const double* p) { return hn::Load(SeamTag(), p); }
    static HWY_INLINE void store(SeamVec v, double* p) { hn::Store(v, SeamTag(), p); }
    static HWY_INLINE std::size_t lanes() { return hn::Lanes(SeamTag()); }

    /// A = U^T U: U's rows with 1/u_ii in place of u_ii. seamBand rows of zeros must precede `factor`. A bin whose pivot is not above 1e-14 of
    /// `own`, its diagonal element before any elimination, is taken out: 1/u_ii = 0 and a row of zeros, as if its diagonal were infinite.
    /// Cost: n band^2/2.
    static void cholesky(const double* a, const double* own, std::size_t ownWidth, int n, double* factor) {
        const SeamTag d;
        const std::size_t step = lanes();
        const SeamVec least = hn::Set(d, 1e-14);
        for (int i = 0; i < n; ++i) {
            SeamVec t[seamBand + 1];
            const double* row = a + static_cast<std::size_t>(i) * seamWidth * step;
            PATCHLIGHT_UNROLL
            for (int k = 0; k <= seamBand; ++k) t[k] = load(row + static_cast<std::size_t>(k) * step);
            const SeamVec threshold = hn::Mul(least, load(own + static_cast<std::size_t>(i) * ownWidth * step));
            const double* before =
                factor + static_cast<std::ptrdiff_t>(i - seamBand) * static_cast<std::ptrdiff_t>(seamWidth * step);
            PATCHLIGHT_UNROLL
            for (int m = seamBand; m >= 1; --m) {
                const double* u = before + static_cast<std::size_t>(seamBand - m) * seamWidth * step;
                const SeamVec v = load(u + static_cast<std::size_t>(m) * step);
                PATCHLIGHT_UNROLL
                for (int k = 0; k <= seamBand - m; ++k)
                    t[k] = hn::NegMulAdd(v, load(u + static_cast<std::size_t>(m + k) * step), t[k]);
            }
            const auto good = hn::Gt(t[0], threshold);
            const SeamVec inverse = hn::IfThenElseZero(good, hn::Div(hn::Set(d, 1.0), hn::Sqrt(t[0])));
            double* out = factor + static_cast<std::size_t>(i) * seamWidth * step;
            store(inverse, out);
            PATCHLIGHT_UNROLL
            for (int k = 1; k <= seamBand; ++k)
                store(hn::IfThenElseZero(good, hn::Mul(t[k], inverse)), out + static_cast<std::size_t>(k) * step);
        }
    }

    /// Notes the bins that cholesky() took out.
    static void noteRemoved(const double* factor, int n, char* removed) {
        const std::size_t step = lanes();
        for (std::size_t i = 0; i < static_cast<std::size_t>(n); ++i)
            for (std::size_t lane = 0; lane < step; ++lane)
                if (factor[i * seamWidth * step + lane] == 0.0) removed[i * step + lane] = 1;
    }

    /// out -= E^T (U^T U)^-1 E, kept to `seamBand` diagonals: X = U^-T E, X^T X. `e(k, j)` points at element (k, j), |j - k| <= reach. A column of X
    /// is followed to `tail` rows below its own. leak(j) += the largest element of diagonals band + 1 to band + 3 near j, and 8 times the square of the
    /// last row of X: as much as the rest of its column can add, which falls off by a factor e every few rows.
    /// Cost: n band (tail + reach) for X, and 16/13 of that for the Gram matrix.
    template <class Element>
    static void eliminate(const double* factor, int n, int reach, const Element& e, double* out, double* leak,
                          double* ring) {
        const SeamTag d;
        const std::size_t step = lanes();
        const int rows = 2 * reach + seamColumns + SeamlessSolver::tail; // of a block, from its first
        const std::size_t blockSize = static_cast<std::size_t>(rows + seamBand) * seamColumns * step;
        const auto firstRow = [&](int j0) { return std::max(0, j0 - reach); };
        const auto endRow = [&](int j0) { return std::min(n, j0 + seamColumns + SeamlessSolver::tail); };
        for (int j0 = 0; j0 < n; j0 += seamColumns) {
            const int block = j0 / seamColumns;
            const int k0 = firstRow(j0);
            const int k1 = endRow(j0);
            // seamBand rows of zeros first, so that the substitution need not look where it begins.
            double* x = ring + static_cast<std::size_t>(block % seamBlocks) * blockSize;
            std::memset(x, 0, static_cast<std::size_t>(seamBand) * seamColumns * step * sizeof(double));
            x += static_cast<std::size_t>(seamBand) * seamColumns * step;
            for (int k = k0; k < k1; ++k) {
                SeamVec t[seamColumns];
                PATCHLIGHT_UNROLL
                for (int c = 0; c < seamColumns; ++c) {
                    const int j = j0 + c;
                    t[c] = j < n && j - k <= reach && k - j <= reach ? load(e(k, j)) : hn::Zero(d);
                }
                const double* u =
                    factor + static_cast<std::ptrdiff_t>(k - seamBand) * static_cast<std::ptrdiff_t>(seamWidth * step);
                const double* before = x + static_cast<std::ptrdiff_t>(k - k0 - seamBand) *
                                               static_cast<std::ptrdiff_t>(seamColumns * step);
                PATCHLIGHT_UNROLL
                for (int m = seamBand; m >= 1; --m) {
                    const SeamVec v = load(u + static_cast<std::size_t>(m) * step);
                    PATCHLIGHT_UNROLL
                    for (int c = 0; c < seamColumns; ++c)
                        t[c] = hn::NegMulAdd(v, load(before + static_cast<std::size_t>(c) * step), t[c]);
                    u += seamWidth * step;
                    before += seamColumns * step;
                }
                const SeamVec inverse = load(u);
                double* to = x + static_cast<std::size_t>(k - k0) * seamColumns * step;
                PATCHLIGHT_UNROLL
                for (int c = 0; c < seamColumns; ++c)
                    store(hn::Mul(t[c], inverse), to + static_cast<std::size_t>(c) * step);
            }

            SeamVec left = hn::Zero(d); // what leaves the band or the tail
            if (k1 < n) {
                const double* last = x + static_cast<std::size_t>(k1 - 1 - k0) * seamColumns * step;
                for (int c = 0; c < seamColumns; ++c) {
                    const SeamVec v = load(last + static_cast<std::size_t>(c) * step);
                    left = hn::Max(left, hn::Mul(v, v));
                }
                left = hn::Mul(left, hn::Set(d, 8.0));
            }
            for (int cj = 0; cj < seamColumns && j0 + cj < n; cj += seamTile) {
                const int j = j0 + cj;
                for (int i = std::max(0, j - seamTilesBack * seamTile); i <= j; i += seamTile) {
                    const int i0 = i / seamColumns * seamColumns;
                    const double* xi = ring + static_cast<std::size_t>(i0 / seamColumns % seamBlocks) * blockSize +
                                       static_cast<std::size_t>(seamBand) * seamColumns * step;
                    const int last = std::min(endRow(i0), k1);
                    SeamVec t[seamTile][seamTile];
                    for (auto& r : t)
                        for (SeamVec& v : r) v = hn::Zero(d);
                    const double* li = xi + (static_cast<std::size_t>(k0 - firstRow(i0)) * seamColumns +
                                             static_cast<std::size_t>(i - i0)) *
                                                step;
                    const double* rj = x + static_cast<std::size_t>(cj) * step;
                    for (int k = k0; k < last; ++k, li += seamColumns * step, rj += seamColumns * step) {
                        const SeamVec r0 = load(rj);
                        const SeamVec r1 = load(rj + step);
                        const SeamVec r2 = load(rj + 2 * step);
                        const SeamVec r3 = load(rj + 3 * step);
                        PATCHLIGHT_UNROLL
                        for (std::size_t p = 0; p < seamTile; ++p) {
                            const SeamVec l = load(li + p * step);
                            t[p][0] = hn::MulAdd(l, r0, t[p][0]);
                            t[p][1] = hn::MulAdd(l, r1, t[p][1]);
                            t[p][2] = hn::MulAdd(l, r2, t[p][2]);
                            t[p][3] = hn::MulAdd(l, r3, t[p][3]);
                        }
                    }
                    PATCHLIGHT_UNROLL
                    for (int p = 0; p < seamTile; ++p) {
                        PATCHLIGHT_UNROLL
                        for (int q = 0; q < seamTile; ++q) {
                            const int row = i + p;
                            const int column = j + q;
                            if (column < row || column >= n) continue;
                            if (column - row <= seamBand) {
                                double* at = out + (static_cast<std::size_t>(row) * seamWidth +
                                                    static_cast<std::size_t>(column - row)) *
                                                       step;
                                store(hn::Sub(load(at), t[p][q]), at);
                            } else {
                                left = hn::Max(left, hn::Abs(t[p][q]));
                            }
                        }
                    }
                }
            }
            for (int c = 0; c < seamColumns && j0 + c < n; ++c) {
                double* at = leak + static_cast<std::size_t>(j0 + c) * step;
                store(hn::Add(load(at), left), at);
            }
        }
    }

    /// D_s widened to the band.
    static void widen(const SeamlessSolver::View& v, int s, double* out) {
        const std::size_t step = lanes();
        const double* own = v.own + static_cast<std::size_t>(s * v.nwave) * v.ownWidth * step;
        for (int i = 0; i < v.nwave; ++i) {
            std::memcpy(out, own, v.ownWidth * step * sizeof(double));
            std::memset(out + v.ownWidth * step, 0, (seamWidth - v.ownWidth) * step * sizeof(double));
            out += seamWidth * step;
            own += v.ownWidth * step;
        }
    }

    static std::size_t factorSize(int n) { return static_cast<std::size_t>(n + seamBand) * seamWidth * lanes(); }
    static const double* ownOf(const SeamlessSolver::View& v, int s) {
        return v.own + static_cast<std::size_t>(s * v.nwave) * v.ownWidth * lanes();
    }
    /// Factor of F_s, after its rows of zeros.
    static double* factorOf(const SeamlessSolver::View& v, int s) {
        return v.factor + static_cast<std::size_t>(s) * factorSize(v.nwave) +
               static_cast<std::size_t>(seamBand) * seamWidth * lanes();
    }

    static std::size_t workSize(int n, int reach) {
        const std::size_t order = static_cast<std::size_t>(n) + 2 * seamBand;
        const std::size_t ring = static_cast<std::size_t>(seamBlocks) *
                                 static_cast<std::size_t>(2 * reach + seamColumns + SeamlessSolver::tail + seamBand) *
                                 seamColumns;
        const std::size_t root = order * seamWidth + 5 * order + 32 * seamWidth;
        return (2 * order * seamWidth + ring + root) * lanes();
    }

    /// F of spectra 0 .. last and G of spectra nspec - 1 .. first.
    static void eliminateAll(const SeamlessSolver::View& v, int first, int last) {
        const std::size_t step = lanes();
        const int n = v.nwave;
        const std::size_t order = static_cast<std::size_t>(n);
        const std::size_t bandSize = order * seamWidth * step;
        const std::size_t zeros = static_cast<std::size_t>(seamBand) * seamWidth * step;
        const std::size_t nextWidth = static_cast<std::size_t>(2 * v.reach + 1);
        double* rightFactor = v.work;
        std::memset(rightFactor, 0, zeros * sizeof(double));
        rightFactor += zeros;
        double* ring = rightFactor + bandSize;
        std::memset(v.leak, 0, static_cast<std::size_t>(v.nspec) * order * step * sizeof(double));

        widen(v, 0, v.left);
        for (int s = 0; s <= last; ++s) {
            double* here = v.left + static_cast<std::size_t>(s) * bandSize;
            double* factor = factorOf(v, s);
            std::memset(factor - zeros, 0, zeros * sizeof(double));
            cholesky(here, ownOf(v, s), v.ownWidth, n, factor);
            noteRemoved(factor, n, v.removed + static_cast<std::size_t>(s) * order * step);
            if (s == last) break;
            widen(v, s + 1, here + bandSize);
            const double* e = v.next + static_cast<std::size_t>(s * n) * nextWidth * step;
            eliminate(
                factor, n, v.reach,
                [&](int k, int j) {
                    return e +
                           (static_cast<std::size_t>(k) * nextWidth + static_cast<std::size_t>(j - k + v.reach)) * step;
                },
                here + bandSize, v.leak + static_cast<std::size_t>(s + 1) * order * step, ring);
        }

        widen(v, v.nspec - 1, v.right + static_cast<std::size_t>(v.nspec - 1) * bandSize);
        for (int s = v.nspec - 1; s > first; --s) {
            double* here = v.right + static_cast<std::size_t>(s) * bandSize;
            cholesky(here, ownOf(v, s), v.ownWidth, n, rightFactor);
            noteRemoved(rightFactor, n, v.removed + static_cast<std::size_t>(s) * order * step);
            widen(v, s - 1, here - bandSize);
            const double* e = v.next + static_cast<std::size_t>((s - 1) * n) * nextWidth * step;
            eliminate(
                rightFactor, n, v.reach,
                [&](int k, int j) {
                    return e +
                           (static_cast<std::size_t>(j) * nextWidth + static_cast<std::size_t>(k - j + v.reach)) * step;
                },
                here - bandSize, v.leak + static_cast<std::size_t>(s - 1) * order * step, ring);
        }
    }

    /// S_s = F_s + G_s - D_s: both have counted D_s once.
    static void schur(const SeamlessSolver::View& v, int s, double* out) {
        const std::size_t step = lanes();
        const std::size_t order = static_cast<std::size_t>(v.nwave);
        const double* left = v.left + static_cast<std::size_t>(s) * order * seamWidth * step;
        const double* right = v.right + static_cast<std::size_t>(s) * order * seamWidth * step;
        const double* own = v.own + static_cast<std::size_t>(s) * order * v.ownWidth * step;
        for (std::size_t i = 0; i < order; ++i) {
            for (std::size_t k = 0; k < seamWidth; ++k) {
                const std::size_t at = (i * seamWidth + k) * step;
                SeamVec value = hn::Add(load(left + at), load(right + at));
                if (k < v.ownWidth) value = hn::Sub(value, load(own + (i * v.ownWidth + k) * step));
                store(value, out + at);
            }
        }
    }

    /// x = (U^T U)^-1 x in place.
    static void solveBand(const double* factor, int n, double* x) {
        const std::size_t step = lanes();
        for (int i = 0; i < n; ++i) {
            SeamVec sum = load(x + static_cast<std::size_t>(i) * step);
            const int back = std::min(seamBand, i);
            const double* u =
                factor + (static_cast<std::size_t>(i - back) * seamWidth + static_cast<std::size_t>(back)) * step;
            for (int m = back; m >= 1; --m, u += (seamWidth - 1) * step)
                sum = hn::NegMulAdd(load(u), load(x + static_cast<std::size_t>(i - m) * step), sum);
            store(hn::Mul(sum, load(factor + static_cast<std::size_t>(i) * seamWidth * step)),
                  x + static_cast<std::size_t>(i) * step);
        }
        for (int i = n - 1; i >= 0; --i) {
            SeamVec sum = load(x + static_cast<std::size_t>(i) * step);
            const double* u = factor + static_cast<std::size_t>(i) * seamWidth * step;
            for (int m = std::min(seamBand, n - 1 - i); m >= 1; --m)
                sum = hn::NegMulAdd(load(u + static_cast<std::size_t>(m) * step),
                                    load(x + static_cast<std::size_t>(i + m) * step), sum);
            store(hn::Mul(sum, load(u)), x + static_cast<std::size_t>(i) * step);
        }
    }

    /// to -= E x (from the next spectrum) or E^T x (from the one before).
    static void subtractCoupling(const SeamlessSolver::View& v, int s, bool fromNext, const double* x, double* to) {
        const std::size_t step = lanes();
        const int n = v.nwave;
        const std::size_t nextWidth = static_cast<std::size_t>(2 * v.reach + 1);
        const double* e = v.next + static_cast<std::size_t>((fromNext ? s : s - 1) * n) * nextWidth * step;
        for (int i = 0; i < n; ++i) {
            SeamVec sum = load(to + static_cast<std::size_t>(i) * step);
            for (int j = std::max(0, i - v.reach); j <= std::min(n - 1, i + v.reach); ++j) {
                const double* at =
                    fromNext
                        ? e + (static_cast<std::size_t>(i) * nextWidth + static_cast<std::size_t>(j - i + v.reach)) *
                                  step
                        : e + (static_cast<std::size_t>(j) * nextWidth + static_cast<std::size_t>(i - j + v.reach)) *
                                  step;
                sum = hn::NegMulAdd(load(at), load(x + static_cast<std::size_t>(j) * step), sum);
            }
            store(sum, to + static_cast<std::size_t>(i) * step);
        }
    }

    /// Block substitution: w_s = F_s^-1 (side_s - E_{s-1}^T w_{s-1}), then x_s = w_s - F_s^-1 E_s x_{s+1}.
    static void solveAll(const SeamlessSolver::View& v) {
        const std::size_t step = lanes();
        const int n = v.nwave;
        const std::size_t vectorSize = static_cast<std::size_t>(n) * step;
        for (int s = 0; s < v.nspec; ++s) {
            double* x = v.x + static_cast<std::size_t>(s) * vectorSize;
            std::memcpy(x, v.side + static_cast<std::size_t>(s) * vectorSize, vectorSize * sizeof(double));
            if (s > 0) subtractCoupling(v, s, false, x - vectorSize, x);
            solveBand(factorOf(v, s), n, x);
        }
        double* work = v.work;
        for (int s = v.nspec - 2; s >= 0; --s) {
            double* x = v.x + static_cast<std::size_t>(s) * vectorSize;
            std::memset(work, 0, vectorSize * sizeof(double));
            subtractCoupling(v, s, true, x + vectorSize, work);
            solveBand(factorOf(v, s), n, work);
            for (std::size_t i = 0; i < vectorSize; i += step) store(hn::Add(load(x + i), load(work + i)), x + i);
        }
    }

    /// side = y - A x.
    static void residual(const SeamlessSolver::View& v, const double* y) {
        const std::size_t step = lanes();
        const int n = v.nwave;
        const std::size_t vectorSize = static_cast<std::size_t>(n) * step;
        for (int s = 0; s < v.nspec; ++s) {
            double* r = v.side + static_cast<std::size_t>(s) * vectorSize;
            const double* x = v.x + static_cast<std::size_t>(s) * vectorSize;
            std::memcpy(r, y + static_cast<std::size_t>(s) * vectorSize, vectorSize * sizeof(double));
            const double* own = v.own + static_cast<std::size_t>(s * n) * v.ownWidth * step;
            const int reach = static_cast<int>(v.ownWidth) - 1;
            for (int i = 0; i < n; ++i) {
                SeamVec sum = load(r + static_cast<std::size_t>(i) * step);
                for (int j = std::max(0, i - reach); j <= std::min(n - 1, i + reach); ++j) {
                    const std::size_t at = static_cast<std::size_t>(std::min(i, j)) * v.ownWidth +
                                           static_cast<std::size_t>(std::abs(i - j));
                    sum = hn::NegMulAdd(load(own + at * step), load(x + static_cast<std::size_t>(j) * step), sum);
                }
                store(sum, r + static_cast<std::size_t>(i) * step);
            }
            if (s > 0) subtractCoupling(v, s, false, x - vectorSize, r);
            if (s + 1 < v.nspec) subtractCoupling(v, s, true, x + vectorSize, r);
        }
    }

    /// S + shift = L D L^T going down, with b = D^-1 L^-1 times 1 and x on the way. `unit`: rows of L^T (1/d in place of the 1),
    /// preceded by seamBand rows of zeros; b1 and bx likewise. Cost: n band (band/2 + 2).
    static HWY_INLINE void descend(const double* s, SeamVec shift, int n, const double* x, double* unit, double* pivot,
                                   double* b1, double* bx) {
        const SeamTag d;
        const std::size_t step = lanes();
        for (int i = 0; i < n; ++i) {
            SeamVec t[seamBand + 1];
            const double* row = s + static_cast<std::size_t>(i) * seamWidth * step;
            PATCHLIGHT_UNROLL
            for (int k = 0; k <= seamBand; ++k) t[k] = load(row + static_cast<std::size_t>(k) * step);
            t[0] = hn::Add(t[0], shift);
            SeamVec one = hn::Set(d, 1.0);
            SeamVec other = load(x + static_cast<std::size_t>(i) * step);
            PATCHLIGHT_UNROLL
            for (int m = seamBand; m >= 1; --m) {
                const double* u =
                    unit + static_cast<std::ptrdiff_t>(i - m) * static_cast<std::ptrdiff_t>(seamWidth * step);
                const SeamVec l = load(u + static_cast<std::size_t>(m) * step);
                const SeamVec v =
                    hn::Mul(l, load(pivot + static_cast<std::ptrdiff_t>(i - m) * static_cast<std::ptrdiff_t>(step)));
                PATCHLIGHT_UNROLL
                for (int k = 0; k <= seamBand - m; ++k)
                    t[k] = hn::NegMulAdd(v, load(u + static_cast<std::size_t>(m + k) * step), t[k]);
                one = hn::NegMulAdd(
                    l, load(b1 + static_cast<std::ptrdiff_t>(i - m) * static_cast<std::ptrdiff_t>(step)), one);
                other = hn::NegMulAdd(
                    l, load(bx + static_cast<std::ptrdiff_t>(i - m) * static_cast<std::ptrdiff_t>(step)), other);
            }
            const SeamVec inverse = hn::Div(hn::Set(d, 1.0), t[0]);
            double* u = unit + static_cast<std::size_t>(i) * seamWidth * step;
            store(inverse, u);
            PATCHLIGHT_UNROLL
            for (int k = 1; k <= seamBand; ++k) store(hn::Mul(t[k], inverse), u + static_cast<std::size_t>(k) * step);
            store(t[0], pivot + static_cast<std::size_t>(i) * step);
            store(one, b1 + static_cast<std::size_t>(i) * step);
            store(other, bx + static_cast<std::size_t>(i) * step);
        }
    }

    /// Pivots of S - shift; where one is not positive its bin is taken out, so that those after it speak of the rest. @return the smallest pivot
    static SeamVec pivots(const double* s, SeamVec shift, int n, double* unit, double* pivot) {
        const SeamTag d;
        const std::size_t step = lanes();
        SeamVec smallest = hn::Set(d, 1e300);
        for (int i = 0; i < n; ++i) {
            SeamVec t[seamBand + 1];
            const double* row = s + static_cast<std::size_t>(i) * seamWidth * step;
            PATCHLIGHT_UNROLL
            for (int k = 0; k <= seamBand; ++k) t[k] = load(row + static_cast<std::size_t>(k) * step);
            t[0] = hn::Sub(t[0], shift);
            PATCHLIGHT_UNROLL
            for (int m = seamBand; m >= 1; --m) {
                const double* u =
                    unit + static_cast<std::ptrdiff_t>(i - m) * static_cast<std::ptrdiff_t>(seamWidth * step);
                const SeamVec v =
                    hn::Mul(load(u + static_cast<std::size_t>(m) * step),
                            load(pivot + static_cast<std::ptrdiff_t>(i - m) * static_cast<std::ptrdiff_t>(step)));
                PATCHLIGHT_UNROLL
                for (int k = 0; k <= seamBand - m; ++k)
                    t[k] = hn::NegMulAdd(v, load(u + static_cast<std::size_t>(m + k) * step), t[k]);
            }
            const auto good = hn::Gt(t[0], hn::Zero(d)); // false for NaN
            const SeamVec inverse = hn::IfThenElseZero(good, hn::Div(hn::Set(d, 1.0), t[0]));
            const SeamVec kept = hn::IfThenElseZero(good, t[0]);
            smallest = hn::Min(smallest, kept);
            double* u = unit + static_cast<std::size_t>(i) * seamWidth * step;
            PATCHLIGHT_UNROLL
            for (int k = 1; k <= seamBand; ++k)
                store(hn::IfThenElseZero(good, hn::Mul(t[k], inverse)), u + static_cast<std::size_t>(k) * step);
            store(kept, pivot + static_cast<std::size_t>(i) * step);
        }
        return smallest;
    }

    /// Going up: `factor` times the band of (L D L^T)^-1 (Takahashi's recurrence) and of its products with 1 and x are subtracted from q, q1 and qx.
    /// b1 and bx are followed by seamBand zeros. @param ring  work: 16 rows of the inverse. Cost: n band (band + 3).
    static HWY_INLINE void ascend(const double* unit, int n, SeamVec factor, double* b1, double* bx, double* ring,
                                  int ndiag, double* q, double* q1, double* qx) {
        const SeamTag d;
        const std::size_t step = lanes();
        constexpr int slots = 32;
        static_assert(slots > seamBand);
        std::memset(ring, 0, static_cast<std::size_t>(slots) * seamWidth * step * sizeof(double));
        for (int i = n - 1; i >= 0; --i) {
            const double* row = unit + static_cast<std::size_t>(i) * seamWidth * step;
            const double* below[seamBand + 1];
            PATCHLIGHT_UNROLL
            for (int r = 1; r <= seamBand; ++r)
                below[r] = ring + static_cast<std::size_t>((i + r) % slots) * seamWidth * step;
            SeamVec one = load(b1 + static_cast<std::size_t>(i) * step);
            SeamVec x = load(bx + static_cast<std::size_t>(i) * step);
            one = hn::Mul(one, load(row)); // D^-1
            x = hn::Mul(x, load(row));
            SeamVec t[seamBand + 1];
            PATCHLIGHT_UNROLL
            for (int k = 1; k <= seamBand; ++k) t[k] = hn::Zero(d);
            PATCHLIGHT_UNROLL
            for (int m = seamBand; m >= 1; --m) {
                const SeamVec u = load(row + static_cast<std::size_t>(m) * step);
                one = hn::NegMulAdd(u, load(b1 + static_cast<std::size_t>(i + m) * step), one);
                x = hn::NegMulAdd(u, load(bx + static_cast<std::size_t>(i + m) * step), x);
                // Z(i + m, i + k), from the upper triangle.
                PATCHLIGHT_UNROLL
                for (int k = 1; k <= seamBand; ++k) {
                    const int r = m < k ? m : k;
                    const int c = m < k ? k - m : m - k;
                    t[k] = hn::NegMulAdd(u, load(below[r] + static_cast<std::size_t>(c) * step), t[k]);
                }
            }
            SeamVec diagonal = load(row);
            PATCHLIGHT_UNROLL
            for (int m = 1; m <= seamBand; ++m)
                diagonal = hn::NegMulAdd(load(row + static_cast<std::size_t>(m) * step), t[m], diagonal);
            double* zi = ring + static_cast<std::size_t>(i % slots) * seamWidth * step;
            store(diagonal, zi);
            PATCHLIGHT_UNROLL
            for (int k = 1; k <= seamBand; ++k) store(t[k], zi + static_cast<std::size_t>(k) * step);
            store(one, b1 + static_cast<std::size_t>(i) * step);
            store(x, bx + static_cast<std::size_t>(i) * step);

            double* qi = q + static_cast<std::size_t>(i) * static_cast<std::size_t>(ndiag + 1) * step;
            for (int k = 0; k <= ndiag; ++k) {
                double* at = qi + static_cast<std::size_t>(k) * step;
                store(hn::NegMulAdd(factor, load(zi + static_cast<std::size_t>(k) * step), load(at)), at);
            }
            double* at = q1 + static_cast<std::size_t>(i) * step;
            store(hn::NegMulAdd(factor, one, load(at)), at);
            at = qx + static_cast<std::size_t>(i) * step;
            store(hn::NegMulAdd(factor, x, load(at)), at);
        }
    }

    /// Q = S^(1/2) = sum_k c_k (1 - p_k (S + p_k)^-1), poles and weights of InverseSquareRoot.
    static void root(const SeamlessSolver::View& v, int s) {
        const SeamTag d;
        const std::size_t step = lanes();
        const int n = v.nwave;
        const std::size_t order = static_cast<std::size_t>(n);
        double* matrix = v.work;
        schur(v, s, matrix);
        const double* x = v.x + static_cast<std::size_t>(s) * order * step;
        const std::size_t zeros = static_cast<std::size_t>(seamBand) * step;
        double* unit = matrix + order * seamWidth * step;
        std::memset(unit, 0, zeros * seamWidth * sizeof(double));
        unit += zeros * seamWidth;
        double* b1 = unit + order * seamWidth * step;
        std::memset(b1, 0, zeros * sizeof(double));
        b1 += zeros;
        std::memset(b1 + order * step, 0, zeros * sizeof(double));
        double* bx = b1 + order * step + zeros;
        std::memset(bx, 0, zeros * sizeof(double));
        bx += zeros;
        std::memset(bx + order * step, 0, zeros * sizeof(double));
        double* ring = bx + order * step + zeros;
        std::memset(v.pivot, 0, zeros * sizeof(double));
        double* pivot = v.pivot + zeros;

        // Gershgorin's bound of the largest eigenvalue.
        SeamVec largest = hn::Zero(d);
        for (int i = 0; i < n; ++i) {
            SeamVec sum = hn::Zero(d);
            for (int k = -std::min(seamBand, i); k <= std::min(seamBand, n - 1 - i); ++k) {
                const int row = k < 0 ? i + k : i;
                sum = hn::Add(sum, hn::Abs(load(matrix + (static_cast<std::size_t>(row) * seamWidth +
                                                          static_cast<std::size_t>(k < 0 ? -k : k)) *
                                                             step)));
            }
            store(sum, v.norm + static_cast<std::size_t>(i) * step);
            largest = hn::Max(largest, sum);
        }
        HWY_ALIGN double largestOf[8];
        store(largest, largestOf);

        // The smallest rung whose bound lmax/kappa is proved to lie below the eigenvalues around each bin: S - lmax/kappa has positive pivots only, but for bins that are
        // taken out, whose neighbourhoods wait for the next rung. (What is left is a principal submatrix, whose eigenvalues bound its own from below.)
        const std::vector<InverseSquareRoot>& ladder = inverseSquareRootLadder();
        double* lowest = v.lowest;
        for (std::size_t i = 0; i < order * step; ++i) lowest[i] = 0.0;
        std::size_t rung[8];
        bool open[8];
        for (std::size_t lane = 0; lane < step; ++lane) {
            rung[lane] = ladder.size() - 1;
            open[lane] = true;
        }
        std::size_t unfinished = step;
        for (std::size_t r = 0; r < ladder.size() && unfinished > 0; ++r) {
            HWY_ALIGN double smallest[8];
            store(pivots(matrix, hn::Mul(largest, hn::Set(d, 1.0 / ladder[r].kappa)), n, unit, pivot), smallest);
            for (std::size_t lane = 0; lane < step; ++lane) {
                if (!open[lane]) continue;
                const double bound = largestOf[lane] / ladder[r].kappa;
                bool covered = true;
                int taken = -seamNeighbourhood - 1;
                int ahead = 0;
                for (int i = 0; i < n; ++i) {
                    if (smallest[lane] <= 0.0) { // the last and the next bin that were taken out
                        if (pivot[static_cast<std::size_t>(i) * step + lane] <= 0.0) taken = i;
                        ahead = std::max(ahead, i);
                        while (ahead < n && ahead <= i + seamNeighbourhood &&
                               pivot[static_cast<std::size_t>(ahead) * step + lane] > 0.0)
                            ++ahead;
                    } else {
                        ahead = i + seamNeighbourhood + 1;
                    }
                    double& at = lowest[static_cast<std::size_t>(i) * step + lane];
                    const bool clear = i - taken > seamNeighbourhood && (ahead > i + seamNeighbourhood || ahead >= n);
                    if (at == 0.0 && clear) at = bound;
                    if (at == 0.0) covered = false;
                }
                if (!covered) continue;
                rung[lane] = r;
                open[lane] = false;
                --unfinished;
            }
        }

        std::size_t poles = 0;
        HWY_ALIGN double total[8] = {};
        for (std::size_t lane = 0; lane < step; ++lane) {
            const InverseSquareRoot& f = ladder[rung[lane]];
            poles = std::max(poles, f.pole.size());
            for (const double weight : f.weight) total[lane] += weight * std::sqrt(largestOf[lane] / f.kappa);
        }
        double* q = v.q + static_cast<std::size_t>(s) * order * static_cast<std::size_t>(v.ndiag + 1) * step;
        double* q1 = v.rowSum + static_cast<std::size_t>(s) * order * step;
        double* qx = v.qx + static_cast<std::size_t>(s) * order * step;
        const SeamVec c0 = load(total);
        for (std::size_t i = 0; i < order; ++i) {
            for (std::size_t k = 0; k <= static_cast<std::size_t>(v.ndiag); ++k)
                store(k == 0 ? c0 : hn::Zero(d), q + (i * static_cast<std::size_t>(v.ndiag + 1) + k) * step);
            store(c0, q1 + i * step);
            store(hn::Mul(c0, load(x + i * step)), qx + i * step);
        }
        // Lanes on a lower rung idle through the last poles with a weight of 0.
        for (std::size_t k = 0; k < poles; ++k) {
            HWY_ALIGN double pole[8];
            HWY_ALIGN double factor[8];
            for (std::size_t lane = 0; lane < step; ++lane) {
                const InverseSquareRoot& f = ladder[rung[lane]];
                const double scale = largestOf[lane] / f.kappa;
                pole[lane] = k < f.pole.size() ? f.pole[k] * scale : largestOf[lane];
                factor[lane] = k < f.pole.size() ? f.weight[k] * std::sqrt(scale) * pole[lane] : 0.0;
            }
            descend(matrix, load(pole), n, x, unit, pivot, b1, bx);
            ascend(unit, n, load(factor), b1, bx, ring, v.ndiag, q, q1, qx);
        }
    }
};

using SeamNarrow = Seam<SeamlessSolver::narrowBand>;
using SeamWide = Seam<SeamlessSolver::wideBand>;

void SeamEliminate(const SeamlessSolver::View& view, bool wide, int first, int last) {
    wide ? SeamWide::eliminateAll(view, first, last) : SeamNarrow::eliminateAll(view, first, last);
}
void SeamSolve(const SeamlessSolver::View& view, bool wide) {
    wide ? SeamWide::solveAll(view) : SeamNarrow::solveAll(view);
}
void SeamResidual(const SeamlessSolver::View& view, const double* y) { SeamNarrow::residual(view, y); }
void SeamRoot(const SeamlessSolver::View& view, bool wide, int s) {
    wide ? SeamWide::root(view, s) : SeamNarrow::root(view, s);
}
std::size_t SeamLanes() { return hn::Lanes(SeamTag()); }
std::size_t SeamWorkSize(int n, int reach) { return SeamWide::workSize(n, reach); }

} // namespace patchlight::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace patchlight {

HWY_EXPORT(SeamEliminate);
HWY_EXPORT(SeamSolve);
HWY_EXPORT(SeamResidual);
HWY_EXPORT(SeamRoot);
HWY_EXPORT(SeamLanes);
HWY_EXPORT(SeamWorkSize);

int SeamlessSolver::lanes() { return static_cast<int>(HWY_DYNAMIC_DISPATCH(SeamLanes)()); }

void SeamlessSolver::shape(int nspec, int nwave, int reach, int ndiag, int band, int ownWidth) {
    band_ = band;
    ownWidth_ = static_cast<std::size_t>(ownWidth);
    nspec_ = nspec;
    nwave_ = nwave;
    reach_ = reach;
    ndiag_ = ndiag;
    lanes_ = static_cast<std::size_t>(lanes());
    const std::size_t bins = static_cast<std::size_t>(nspec) * static_cast<std::size_t>(nwave);
    own_.require(bins * ownWidth_ * lanes_);
    next_.require(bins * nextWidth() * lanes_);
    factor_.require(static_cast<std::size_t>(nspec) * static_cast<std::size_t>(nwave + wideBand) *
                    static_cast<std::size_t>(band_ + 1) * lanes_);
    for (AlignedBuffer* buffer : {&left_, &right_})
        buffer->require(bins * static_cast<std::size_t>(band_ + 1) * lanes_);
    for (AlignedBuffer* buffer : {&leak_, &side_, &x_, &rowSum_, &qx_}) buffer->require(bins * lanes_);
    q_.require(bins * static_cast<std::size_t>(ndiag + 1) * lanes_);
    norm_.require(static_cast<std::size_t>(nwave) * lanes_);
    pivot_.require(static_cast<std::size_t>(nwave + wideBand) * lanes_);
    work_.require(HWY_DYNAMIC_DISPATCH(SeamWorkSize)(nwave, reach));
    removed_.assign(bins * lanes_, 0);
    lowest_.assign(static_cast<std::size_t>(nwave) * lanes_, 0.0);
}

SeamlessSolver::View SeamlessSolver::view() {
    return {nspec_,         nwave_,       reach_,        ndiag_,        ownWidth_,      own_.data(),  next_.data(),
            factor_.data(), left_.data(), right_.data(), leak_.data(),  side_.data(),   x_.data(),    rowSum_.data(),
            qx_.data(),     q_.data(),    norm_.data(),  pivot_.data(), lowest_.data(), work_.data(), removed_.data()};
}

int SeamlessSolver::eliminate(int first, int last) {
    std::fill(removed_.begin(), removed_.end(), char{0});
    HWY_DYNAMIC_DISPATCH(SeamEliminate)(view(), band_ == wideBand, first, last);
    return static_cast<int>(std::count(removed_.begin(), removed_.end(), char{1}));
}

void SeamlessSolver::solve() { HWY_DYNAMIC_DISPATCH(SeamSolve)(view(), band_ == wideBand); }

void SeamlessSolver::residual(const double* y) { HWY_DYNAMIC_DISPATCH(SeamResidual)(view(), y); }

void SeamlessSolver::root(int s) { HWY_DYNAMIC_DISPATCH(SeamRoot)(view(), band_ == wideBand, s); }

} // namespace patchlight
#endif
