#include "core/cpu/SeamlessSolver.h"

#include "core/cpu/InverseSquareRoot.h"
#include "core/cpu/Unroll.h"
#include "core/engine/Seamless.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/cpu/SeamlessSolver.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "core/cpu/LaneBands-inl.h" // after foreach_target.h

HWY_BEFORE_NAMESPACE();
namespace patchlight::HWY_NAMESPACE {

/// Columns a side of the tiles of a Gram matrix.
inline constexpr int seamTile = 4;

/// Segments whose blocks are factorised with `SeamBand` off-diagonals. S_s has `wide` of them, rows (i, i + d) at [i (wide + 1) + d][lanes]: those beyond
/// SeamBand are small, and corrected for (LaneBands::refine()).
template <int SeamBand> struct Seam : LaneBands<SeamBand> {
    using Bands = LaneBands<SeamBand>;
    using Bands::lanes, Bands::load, Bands::store;
    static constexpr std::size_t seamWidth = SeamBand + 1;

    /// F = U^T U for the narrow part of F. A bin whose pivot is not above 1e-14 of `own`, its diagonal element before any elimination, is taken out.
    /// Cost: n band^2/2.
    static void cholesky(const double* a, std::size_t rowLength, const double* own, std::size_t ownWidth, int n,
                         double* factor) {
        const Tag d;
        const std::size_t step = lanes();
        Bands::cholesky(a, rowLength, n, factor, [&](int i, Vec pivot) {
            const Vec least = hn::Mul(hn::Set(d, 1e-14), load(own + static_cast<std::size_t>(i) * ownWidth * step));
            return hn::IfThenElseZero(hn::Gt(pivot, least), hn::Div(hn::Set(d, 1.0), hn::Sqrt(pivot)));
        });
    }

    /// Notes the bins that cholesky() took out.
    static void noteRemoved(const double* factor, int n, char* removed) {
        const std::size_t step = lanes();
        for (std::size_t i = 0; i < static_cast<std::size_t>(n); ++i)
            for (std::size_t lane = 0; lane < step; ++lane)
                if (factor[i * seamWidth * step + lane] == 0.0) removed[i * step + lane] = 1;
    }

    /// out -= E^T (U^T U)^-1 E, kept to `wide` diagonals: X = U^-T E, X^T X. `e(k, j)` points at element (k, j), |j - k| <= reach. A column of X
    /// is followed to `tail` rows below its own. leak(j) += the largest element of diagonals wide + 1 to wide + 3 near j, and 8 times what the last row of X
    /// adds to diagonal `wide`: as much as the rest of its column can, which falls off by a factor e every few rows.
    /// Cost: n band (tail + reach) for X, and about n wide (tail + 2 reach - wide/2) for the Gram matrix.
    template <class Element>
    static void eliminate(const double* factor, int n, int reach, int wide, int tail, const Element& e, double* out,
                          double* leak, double* ring) {
        const Tag d;
        const std::size_t step = lanes();
        const int rows = 2 * reach + blockColumns + tail; // of a block, from its first
        const std::size_t outWidth = static_cast<std::size_t>(wide + 1);
        const int blocks = ringBlocks(wide);
        const int tilesBack = wide / seamTile;
        const std::size_t blockSize = static_cast<std::size_t>(rows + SeamBand) * blockColumns * step;
        const auto firstRow = [&](int j0) { return std::max(0, j0 - reach); };
        const auto endRow = [&](int j0) { return std::min(n, j0 + blockColumns + tail); };
        for (int j0 = 0; j0 < n; j0 += blockColumns) {
            const int block = j0 / blockColumns;
            const int k0 = firstRow(j0);
            const int k1 = endRow(j0);
            // SeamBand rows of zeros first, so that the substitution need not look where it begins.
            double* x = ring + static_cast<std::size_t>(block % blocks) * blockSize;
            std::memset(x, 0, static_cast<std::size_t>(SeamBand) * blockColumns * step * sizeof(double));
            x += static_cast<std::size_t>(SeamBand) * blockColumns * step;
            for (int k = k0; k < k1; ++k) {
                Vec t[blockColumns];
                PATCHLIGHT_UNROLL
                for (int c = 0; c < blockColumns; ++c) {
                    const int j = j0 + c;
                    t[c] = j < n && j - k <= reach && k - j <= reach ? load(e(k, j)) : hn::Zero(d);
                }
                const double* u =
                    factor + static_cast<std::ptrdiff_t>(k - SeamBand) * static_cast<std::ptrdiff_t>(seamWidth * step);
                const double* before = x + static_cast<std::ptrdiff_t>(k - k0 - SeamBand) *
                                               static_cast<std::ptrdiff_t>(blockColumns * step);
                PATCHLIGHT_UNROLL
                for (int m = SeamBand; m >= 1; --m) {
                    const Vec v = load(u + static_cast<std::size_t>(m) * step);
                    PATCHLIGHT_UNROLL
                    for (int c = 0; c < blockColumns; ++c)
                        t[c] = hn::NegMulAdd(v, load(before + static_cast<std::size_t>(c) * step), t[c]);
                    u += seamWidth * step;
                    before += blockColumns * step;
                }
                const Vec inverse = load(u);
                double* to = x + static_cast<std::size_t>(k - k0) * blockColumns * step;
                PATCHLIGHT_UNROLL
                for (int c = 0; c < blockColumns; ++c)
                    store(hn::Mul(t[c], inverse), to + static_cast<std::size_t>(c) * step);
            }

            Vec left = hn::Zero(d); // what leaves the band or the tail
            if (k1 < n) {
                // The column `wide` bins on has this row that much closer to its own.
                const double* last = x + static_cast<std::size_t>(k1 - 1 - k0) * blockColumns * step;
                const double* closer =
                    x + static_cast<std::size_t>(std::max(0, k1 - 1 - wide - k0)) * blockColumns * step;
                for (std::size_t c = 0; c < blockColumns * step; c += step)
                    left = hn::Max(left, hn::Abs(hn::Mul(load(last + c), load(closer + c))));
                left = hn::Mul(left, hn::Set(d, 8.0));
            }
            for (int cj = 0; cj < blockColumns && j0 + cj < n; cj += seamTile) {
                const int j = j0 + cj;
                for (int i = std::max(0, j - tilesBack * seamTile); i <= j; i += seamTile) {
                    const int i0 = i / blockColumns * blockColumns;
                    const double* xi = ring + static_cast<std::size_t>(i0 / blockColumns % blocks) * blockSize +
                                       static_cast<std::size_t>(SeamBand) * blockColumns * step;
                    const int last = std::min(endRow(i0), k1);
                    Vec t[seamTile][seamTile];
                    for (auto& r : t)
                        for (Vec& v : r) v = hn::Zero(d);
                    const double* li = xi + (static_cast<std::size_t>(k0 - firstRow(i0)) * blockColumns +
                                             static_cast<std::size_t>(i - i0)) *
                                                step;
                    const double* rj = x + static_cast<std::size_t>(cj) * step;
                    for (int k = k0; k < last; ++k, li += blockColumns * step, rj += blockColumns * step) {
                        const Vec r0 = load(rj);
                        const Vec r1 = load(rj + step);
                        const Vec r2 = load(rj + 2 * step);
                        const Vec r3 = load(rj + 3 * step);
                        PATCHLIGHT_UNROLL
                        for (std::size_t p = 0; p < seamTile; ++p) {
                            const Vec l = load(li + p * step);
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
                            if (column - row <= wide) {
                                double* at = out + (static_cast<std::size_t>(row) * outWidth +
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
            for (int c = 0; c < blockColumns && j0 + c < n; ++c) {
                double* at = leak + static_cast<std::size_t>(j0 + c) * step;
                store(hn::Add(load(at), left), at);
            }
        }
    }

    /// D_s with room for the wide band.
    static void widen(const SeamlessSolver::View& v, int s, double* out) {
        const std::size_t step = lanes();
        const std::size_t outWidth = static_cast<std::size_t>(v.wide + 1);
        const double* own = v.own + static_cast<std::size_t>(s * v.nwave) * v.ownWidth * step;
        for (int i = 0; i < v.nwave; ++i) {
            std::memcpy(out, own, v.ownWidth * step * sizeof(double));
            std::memset(out + v.ownWidth * step, 0, (outWidth - v.ownWidth) * step * sizeof(double));
            out += outWidth * step;
            own += v.ownWidth * step;
        }
    }

    static std::size_t factorSize(int n) { return static_cast<std::size_t>(n + SeamBand) * seamWidth * lanes(); }
    static const double* ownOf(const SeamlessSolver::View& v, int s) {
        return v.own + static_cast<std::size_t>(s * v.nwave) * v.ownWidth * lanes();
    }
    /// Factor of F_s, after its rows of zeros.
    static double* factorOf(const SeamlessSolver::View& v, int s) {
        return v.factor + static_cast<std::size_t>(s) * factorSize(v.nwave) +
               static_cast<std::size_t>(SeamBand) * seamWidth * lanes();
    }

    /// Blocks of columns that are kept for Gram matrices.
    static int ringBlocks(int wide) { return (wide + seamTile) / blockColumns + 2; }
    static std::size_t workSize(int n, int reach, int wide, int tail) {
        const std::size_t order = static_cast<std::size_t>(n) + 2 * SeamBand;
        const std::size_t ring = static_cast<std::size_t>(ringBlocks(wide)) *
                                 static_cast<std::size_t>(2 * reach + blockColumns + tail + SeamBand) * blockColumns;
        const std::size_t elimination = order * (seamWidth + 2 * static_cast<std::size_t>(wide + 1)) + ring;
        const std::size_t root =
            order * 2 * seamWidth + static_cast<std::size_t>(Bands::inverseRows) * seamWidth + 6 * order;
        return std::max(elimination, root) * lanes();
    }

    /// F of spectra 0 .. last, G of spectra nspec - 1 .. first, and S_s = F_s + G_s - D_s of those that have both: both have counted D_s once.
    static void eliminateAll(const SeamlessSolver::View& v, int first, int last) {
        const std::size_t step = lanes();
        const int n = v.nwave;
        const std::size_t order = static_cast<std::size_t>(n);
        const std::size_t wideWidth = static_cast<std::size_t>(v.wide + 1);
        const std::size_t wideSize = order * wideWidth * step;
        const std::size_t narrowSize = order * seamWidth * step;
        const std::size_t zeros = static_cast<std::size_t>(SeamBand) * seamWidth * step;
        const std::size_t nextWidth = static_cast<std::size_t>(2 * v.reach + 1);
        double* rightFactor = v.work;
        std::memset(rightFactor, 0, zeros * sizeof(double));
        rightFactor += zeros;
        double* here = rightFactor + narrowSize; // G of a spectrum and of the one before it
        double* before = here + wideSize;
        double* ring = before + wideSize;
        std::memset(v.leak, 0, static_cast<std::size_t>(v.nspec) * order * step * sizeof(double));

        widen(v, 0, v.schur);
        for (int s = 0; s <= last; ++s) {
            double* f = v.schur + static_cast<std::size_t>(s) * wideSize;
            double* factor = factorOf(v, s);
            std::memset(factor - zeros, 0, zeros * sizeof(double));
            cholesky(f, wideWidth, ownOf(v, s), v.ownWidth, n, factor);
            noteRemoved(factor, n, v.removed + static_cast<std::size_t>(s) * order * step);
            if (s == last) break;
            widen(v, s + 1, f + wideSize);
            const double* e = v.next + static_cast<std::size_t>(s * n) * nextWidth * step;
            eliminate(
                factor, n, v.reach, v.wide, v.tail,
                [&](int k, int j) {
                    return e +
                           (static_cast<std::size_t>(k) * nextWidth + static_cast<std::size_t>(j - k + v.reach)) * step;
                },
                f + wideSize, v.leak + static_cast<std::size_t>(s + 1) * order * step, ring);
        }

        widen(v, v.nspec - 1, here);
        for (int s = v.nspec - 1; s >= first; --s) {
            double* kept = v.right + static_cast<std::size_t>(s) * narrowSize;
            for (std::size_t i = 0; i < order; ++i)
                std::memcpy(kept + i * seamWidth * step, here + i * wideWidth * step,
                            seamWidth * step * sizeof(double));
            if (s <= last) {
                double* f = v.schur + static_cast<std::size_t>(s) * wideSize;
                const double* own = ownOf(v, s);
                for (std::size_t i = 0; i < order; ++i) {
                    const std::size_t at = i * wideWidth * step;
                    for (std::size_t k = 0; k < wideWidth * step; k += step) {
                        Vec value = hn::Add(load(f + at + k), load(here + at + k));
                        if (k < v.ownWidth * step) value = hn::Sub(value, load(own + i * v.ownWidth * step + k));
                        store(value, f + at + k);
                    }
                }
            }
            if (s == first) break;
            cholesky(here, wideWidth, ownOf(v, s), v.ownWidth, n, rightFactor);
            noteRemoved(rightFactor, n, v.removed + static_cast<std::size_t>(s) * order * step);
            widen(v, s - 1, before);
            const double* e = v.next + static_cast<std::size_t>((s - 1) * n) * nextWidth * step;
            eliminate(
                rightFactor, n, v.reach, v.wide, v.tail,
                [&](int k, int j) {
                    return e +
                           (static_cast<std::size_t>(j) * nextWidth + static_cast<std::size_t>(k - j + v.reach)) * step;
                },
                before, v.leak + static_cast<std::size_t>(s - 1) * order * step, ring);
            std::swap(here, before);
        }
    }

    /// x = (U^T U)^-1 x in place.
    static void solveBand(const double* factor, int n, double* x) {
        const std::size_t step = lanes();
        for (int i = 0; i < n; ++i) {
            Vec sum = load(x + static_cast<std::size_t>(i) * step);
            const int back = std::min(SeamBand, i);
            const double* u =
                factor + (static_cast<std::size_t>(i - back) * seamWidth + static_cast<std::size_t>(back)) * step;
            for (int m = back; m >= 1; --m, u += (seamWidth - 1) * step)
                sum = hn::NegMulAdd(load(u), load(x + static_cast<std::size_t>(i - m) * step), sum);
            store(hn::Mul(sum, load(factor + static_cast<std::size_t>(i) * seamWidth * step)),
                  x + static_cast<std::size_t>(i) * step);
        }
        for (int i = n - 1; i >= 0; --i) {
            Vec sum = load(x + static_cast<std::size_t>(i) * step);
            const double* u = factor + static_cast<std::size_t>(i) * seamWidth * step;
            for (int m = std::min(SeamBand, n - 1 - i); m >= 1; --m)
                sum = hn::NegMulAdd(load(u + static_cast<std::size_t>(m) * step),
                                    load(x + static_cast<std::size_t>(i + m) * step), sum);
            store(hn::Mul(sum, load(u)), x + static_cast<std::size_t>(i) * step);
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
                Vec sum = load(r + static_cast<std::size_t>(i) * step);
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

    /// Pivots of S - shift; where one is not positive its bin is taken out, so that those after it speak of the rest. @return the smallest pivot
    static Vec pivots(const double* s, Vec shift, int n, double* unit, double* pivot) {
        const Tag d;
        const std::size_t step = lanes();
        Vec smallest = hn::Set(d, 1e300);
        for (int i = 0; i < n; ++i) {
            Vec t[SeamBand + 1];
            const double* row = s + static_cast<std::size_t>(i) * seamWidth * step;
            PATCHLIGHT_UNROLL
            for (int k = 0; k <= SeamBand; ++k) t[k] = load(row + static_cast<std::size_t>(k) * step);
            t[0] = hn::Sub(t[0], shift);
            PATCHLIGHT_UNROLL
            for (int m = SeamBand; m >= 1; --m) {
                const double* u =
                    unit + static_cast<std::ptrdiff_t>(i - m) * static_cast<std::ptrdiff_t>(seamWidth * step);
                const Vec v =
                    hn::Mul(load(u + static_cast<std::size_t>(m) * step),
                            load(pivot + static_cast<std::ptrdiff_t>(i - m) * static_cast<std::ptrdiff_t>(step)));
                PATCHLIGHT_UNROLL
                for (int k = 0; k <= SeamBand - m; ++k)
                    t[k] = hn::NegMulAdd(v, load(u + static_cast<std::size_t>(m + k) * step), t[k]);
            }
            const auto good = hn::Gt(t[0], hn::Zero(d)); // false for NaN
            const Vec inverse = hn::IfThenElseZero(good, hn::Div(hn::Set(d, 1.0), t[0]));
            const Vec kept = hn::IfThenElseZero(good, t[0]);
            smallest = hn::Min(smallest, kept);
            double* u = unit + static_cast<std::size_t>(i) * seamWidth * step;
            PATCHLIGHT_UNROLL
            for (int k = 1; k <= SeamBand; ++k)
                store(hn::IfThenElseZero(good, hn::Mul(t[k], inverse)), u + static_cast<std::size_t>(k) * step);
            store(kept, pivot + static_cast<std::size_t>(i) * step);
        }
        return smallest;
    }

    /// Q = S^(1/2) = sum_k c_k (1 - p_k (S + p_k)^-1), poles and weights of InverseSquareRoot.
    static void root(const SeamlessSolver::View& v, int s) {
        const Tag d;
        const std::size_t step = lanes();
        const int n = v.nwave;
        const std::size_t order = static_cast<std::size_t>(n);
        const std::size_t wideWidth = static_cast<std::size_t>(v.wide + 1);
        const double* schur = v.schur + static_cast<std::size_t>(s) * order * wideWidth * step;
        const double* x = v.x + static_cast<std::size_t>(s) * order * step;
        // Everything with zeros before the first row, and vectors with zeros behind the last one, so that edges need no special case.
        const std::size_t zeros = static_cast<std::size_t>(SeamBand) * step;
        double* next = v.work;
        const auto vector = [&] {
            double* begin = next + zeros;
            std::memset(next, 0, zeros * sizeof(double));
            std::memset(begin + order * step, 0, zeros * sizeof(double));
            next = begin + order * step + zeros;
            return begin;
        };
        double* pivot = vector();
        double* inverse = vector();
        double* b1 = vector();
        double* bx = vector();
        double* z1 = vector();
        double* zx = vector();
        double* unit = next + zeros * seamWidth;
        std::memset(next, 0, zeros * seamWidth * sizeof(double));
        double* ring = unit + order * seamWidth * step;
        double* matrix = ring + static_cast<std::size_t>(Bands::inverseRows) * seamWidth * step;

        // The narrow part, Gershgorin's bound of the largest eigenvalue, and the largest element beyond.
        Vec largest = hn::Zero(d);
        for (std::size_t i = 0; i < order; ++i)
            std::memcpy(matrix + i * seamWidth * step, schur + i * wideWidth * step, seamWidth * step * sizeof(double));
        std::memset(v.outer, 0, order * step * sizeof(double));
        for (int i = 0; i < n; ++i) {
            Vec sum = hn::Zero(d);
            for (int k = -std::min(SeamBand, i); k <= std::min(SeamBand, n - 1 - i); ++k) {
                const int row = k < 0 ? i + k : i;
                sum = hn::Add(sum, hn::Abs(load(matrix + (static_cast<std::size_t>(row) * seamWidth +
                                                          static_cast<std::size_t>(k < 0 ? -k : k)) *
                                                             step)));
            }
            store(sum, v.norm + static_cast<std::size_t>(i) * step);
            largest = hn::Max(largest, sum);
            // An element counts for the bin in the middle between its row and its column.
            for (int k = SeamBand + 1; k <= std::min(v.wide, n - 1 - i); ++k) {
                double* at = v.outer + static_cast<std::size_t>(i + k / 2) * step;
                const Vec element =
                    load(schur + (static_cast<std::size_t>(i) * wideWidth + static_cast<std::size_t>(k)) * step);
                store(hn::Max(load(at), hn::Abs(element)), at);
            }
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
                int taken = -seamless::removalNeighbourhood - 1;
                int ahead = 0;
                for (int i = 0; i < n; ++i) {
                    if (smallest[lane] <= 0.0) { // the last and the next bin that were taken out
                        if (pivot[static_cast<std::size_t>(i) * step + lane] <= 0.0) taken = i;
                        ahead = std::max(ahead, i);
                        while (ahead < n && ahead <= i + seamless::removalNeighbourhood &&
                               pivot[static_cast<std::size_t>(ahead) * step + lane] > 0.0)
                            ++ahead;
                    } else {
                        ahead = i + seamless::removalNeighbourhood + 1;
                    }
                    double& at = lowest[static_cast<std::size_t>(i) * step + lane];
                    const bool clear = i - taken > seamless::removalNeighbourhood &&
                                       (ahead > i + seamless::removalNeighbourhood || ahead >= n);
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
        double* q = v.q;
        double* q1 = v.rowSum;
        double* qx = v.qx;
        const Vec c0 = load(total);
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
            (void)Bands::template factorise<true>(matrix, load(pole), n, unit, pivot, inverse, b1, x, bx);
            Bands::subtractInverse(unit, inverse, n, load(factor), b1, bx, ring, v.ndiag, q, q1, qx);
            Bands::refine({schur, wideWidth * step - step, v.wide}, n, unit, inverse, load(factor), b1, bx, z1, zx, q1,
                          qx);
        }
    }
};

/// Calls body(a Seam with v's narrow band).
template <class Body> void withBand(int band, const Body& body) {
    if (band == 8)
        body(Seam<8>());
    else if (band == 14)
        body(Seam<14>());
    else
        body(Seam<20>());
}

void SeamEliminate(const SeamlessSolver::View& view, int first, int last) {
    withBand(view.narrow, [&](auto seam) { seam.eliminateAll(view, first, last); });
}
void SeamSolve(const SeamlessSolver::View& view) {
    withBand(view.narrow, [&](auto seam) { seam.solveAll(view); });
}
void SeamResidual(const SeamlessSolver::View& view, const double* y) { Seam<8>::residual(view, y); }
void SeamRoot(const SeamlessSolver::View& view, int s) {
    withBand(view.narrow, [&](auto seam) { seam.root(view, s); });
}
std::size_t SeamLanes() { return hn::Lanes(Tag()); }
std::size_t SeamWorkSize(const SeamlessSolver::Bands& bands, int n, int reach) {
    std::size_t size = 0;
    withBand(bands.narrow, [&](auto seam) { size = seam.workSize(n, reach, bands.wide, bands.tail); });
    return size;
}

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

void SeamlessSolver::shape(int nspec, int nwave, int reach, int ndiag, const Bands& bands, int ownWidth) {
    bands_ = bands;
    ownWidth_ = static_cast<std::size_t>(ownWidth);
    nspec_ = nspec;
    nwave_ = nwave;
    reach_ = reach;
    ndiag_ = ndiag;
    lanes_ = static_cast<std::size_t>(lanes());
    const std::size_t order = static_cast<std::size_t>(nwave);
    const std::size_t bins = static_cast<std::size_t>(nspec) * order;
    own_.require(bins * ownWidth_ * lanes_);
    next_.require(bins * nextWidth() * lanes_);
    factor_.require(static_cast<std::size_t>(nspec) * static_cast<std::size_t>(nwave + bands.narrow) * narrowWidth() *
                    lanes_);
    schur_.require(bins * wideWidth() * lanes_);
    right_.require(bins * narrowWidth() * lanes_);
    for (AlignedBuffer* buffer : {&leak_, &side_, &x_}) buffer->require(bins * lanes_);
    for (AlignedBuffer* buffer : {&rowSum_, &qx_, &norm_, &outer_}) buffer->require(order * lanes_);
    q_.require(order * static_cast<std::size_t>(ndiag + 1) * lanes_);
    work_.require(HWY_DYNAMIC_DISPATCH(SeamWorkSize)(bands, nwave, reach));
    removed_.assign(bins * lanes_, 0);
    lowest_.assign(order * lanes_, 0.0);
}

SeamlessSolver::View SeamlessSolver::view() {
    return {nspec_,        nwave_,       reach_,        ndiag_,         bands_.narrow,  bands_.wide,
            bands_.tail,   ownWidth_,    own_.data(),   next_.data(),   factor_.data(), schur_.data(),
            right_.data(), leak_.data(), side_.data(),  x_.data(),      rowSum_.data(), qx_.data(),
            q_.data(),     norm_.data(), outer_.data(), lowest_.data(), work_.data(),   removed_.data()};
}

int SeamlessSolver::eliminate(int first, int last) {
    std::fill(removed_.begin(), removed_.end(), char{0});
    HWY_DYNAMIC_DISPATCH(SeamEliminate)(view(), first, last);
    return static_cast<int>(std::count(removed_.begin(), removed_.end(), char{1}));
}

void SeamlessSolver::solve() { HWY_DYNAMIC_DISPATCH(SeamSolve)(view()); }

void SeamlessSolver::residual(const double* y) { HWY_DYNAMIC_DISPATCH(SeamResidual)(view(), y); }

void SeamlessSolver::root(int s) { HWY_DYNAMIC_DISPATCH(SeamRoot)(view(), s); }

} // namespace patchlight
#endif
