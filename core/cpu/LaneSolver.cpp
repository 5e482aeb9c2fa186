#include "core/cpu/LaneSolver.h"

#include "core/cpu/InverseSquareRoot.h"
#include "core/cpu/Unroll.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/cpu/LaneSolver.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "core/cpu/LaneBands-inl.h" // after foreach_target.h

HWY_BEFORE_NAMESPACE();
namespace patchlight::HWY_NAMESPACE {

/// Blocks of columns that a Gram matrix of `band` + 1 diagonals reaches back to, the present one included.
constexpr int blocksBack(int band) { return (band + 1 + blockColumns - 1) / blockColumns + 1; }

/// xflux of all spectra from what elimination has left of their right-hand sides, `side` (overwritten for those beside the core): of the core spectra by S_s; then
/// outwards from there, by F_s with what the spectrum after takes from it, and by G_s with what the one before does.
/// @param solve  (s, right-hand side): puts the solution with spectrum s' matrix into v.x
template <class Solve> void solveSpectra(const LaneSolver::View& v, double* side, const Solve& solve) {
    const std::size_t vectorSize = static_cast<std::size_t>(v.nwave) * hn::Lanes(Tag());
    const auto at = [&](int s) { return static_cast<std::size_t>(s) * vectorSize; };
    for (int s = v.coreFirst; s < v.coreLast; ++s) solve(s, side + at(s));
    for (int s = v.coreFirst - 1; s >= 0; --s) {
        subtractCoupling(v, s, true, v.x + at(s + 1), side + at(s));
        solve(s, side + at(s));
    }
    for (int s = v.coreLast; s < v.nspec; ++s) {
        subtractCoupling(v, s, false, v.x + at(s - 1), side + at(s));
        solve(s, side + at(s));
    }
}

/// Patches with blocks of W off-diagonals.
template <int W> struct Kernels : LaneBands<W> {
    using Bands = LaneBands<W>;
    using Bands::backward, Bands::factorise, Bands::inverseRows, Bands::lanes, Bands::load, Bands::store,
        Bands::subtractInverse, Bands::width;

    /// Eliminates a spectrum: out = E^T A^-1 E to W diagonals and sideOut = E^T A^-1 side; the largest element on diagonal W + 1 goes
    /// to `leak`. E has rows of the eliminated spectrum and columns of its neighbour: `e(k, j)` points at element (k, j).
    template <class Element>
    static void eliminate(const double* a, const double* side, int n, int reach, const Element& e, double* out,
                          double* sideOut, double* leak, double* work) {
        const Tag d;
        const std::size_t step = lanes();
        double* factor = work + static_cast<std::size_t>(W) * width * step;
        double* z = factor + static_cast<std::size_t>(n) * width * step + static_cast<std::size_t>(W) * step;
        double* ring = z + static_cast<std::size_t>(n) * step;
        constexpr int blocks = blocksBack(W);
        const std::size_t blockSize = static_cast<std::size_t>(n) * blockColumns * step;
        // Pivots that are not positive make the lane NaN.
        Bands::cholesky(a, width, n, factor,
                        [](int, Vec pivot) { return hn::Div(hn::Set(Tag(), 1.0), hn::Sqrt(pivot)); });

        for (int k = 0; k < n; ++k) { // z = U^-T side
            Vec sum = load(side + static_cast<std::size_t>(k) * step);
            for (int m = std::min(W, k); m >= 1; --m)
                sum = hn::NegMulAdd(
                    load(factor + (static_cast<std::size_t>(k - m) * width + static_cast<std::size_t>(m)) * step),
                    load(z + static_cast<std::size_t>(k - m) * step), sum);
            store(hn::Mul(sum, load(factor + static_cast<std::size_t>(k) * width * step)),
                  z + static_cast<std::size_t>(k) * step);
        }

        Vec leaked = load(leak);
        for (int block = 0; block * blockColumns < n; ++block) {
            const int j0 = block * blockColumns;
            const int k0 = std::max(0, j0 - reach);
            double* x = ring + static_cast<std::size_t>(block % blocks) * blockSize;
            // X = U^-T E for eight columns.
            for (int k = k0; k < n; ++k) {
                Vec t[blockColumns];
                PATCHLIGHT_UNROLL
                for (int c = 0; c < blockColumns; ++c) {
                    const int j = j0 + c;
                    t[c] = j < n && j - k <= reach && k - j <= reach ? load(e(k, j)) : hn::Zero(d);
                }
                const int back = std::min(W, k - k0);
                for (int m = back; m >= 1; --m) {
                    const Vec u =
                        load(factor + (static_cast<std::size_t>(k - m) * width + static_cast<std::size_t>(m)) * step);
                    const double* before = x + static_cast<std::size_t>(k - m) * blockColumns * step;
                    PATCHLIGHT_UNROLL
                    for (int c = 0; c < blockColumns; ++c)
                        t[c] = hn::NegMulAdd(u, load(before + static_cast<std::size_t>(c) * step), t[c]);
                }
                const Vec inverse = load(factor + static_cast<std::size_t>(k) * width * step);
                double* to = x + static_cast<std::size_t>(k) * blockColumns * step;
                PATCHLIGHT_UNROLL
                for (int c = 0; c < blockColumns; ++c)
                    store(hn::Mul(t[c], inverse), to + static_cast<std::size_t>(c) * step);
            }
            // X^T z.
            {
                Vec t[blockColumns];
                for (Vec& sum : t) sum = hn::Zero(d);
                for (int k = k0; k < n; ++k) {
                    const Vec zk = load(z + static_cast<std::size_t>(k) * step);
                    const double* from = x + static_cast<std::size_t>(k) * blockColumns * step;
                    PATCHLIGHT_UNROLL
                    for (int c = 0; c < blockColumns; ++c)
                        t[c] = hn::MulAdd(zk, load(from + static_cast<std::size_t>(c) * step), t[c]);
                }
                for (int c = 0; c < blockColumns && j0 + c < n; ++c)
                    store(t[c], sideOut + static_cast<std::size_t>(j0 + c) * step);
            }
            // X^T X, four by four.
            for (int past = std::max(0, block - blocks + 1); past <= block; ++past) {
                const int i0 = past * blockColumns;
                const double* left = ring + static_cast<std::size_t>(past % blocks) * blockSize;
                for (int ci = 0; ci < blockColumns; ci += 4) {
                    for (int cj = 0; cj < blockColumns; cj += 4) {
                        const int smallest = j0 + cj - (i0 + ci + 3);
                        const int largest = j0 + cj + 3 - (i0 + ci);
                        if (largest < 0 || smallest > W + 1 || j0 + cj >= n) continue;
                        Vec t[4][4];
                        for (auto& r : t)
                            for (Vec& v : r) v = hn::Zero(d);
                        for (int k = k0; k < n; ++k) {
                            const double* li =
                                left +
                                (static_cast<std::size_t>(k) * blockColumns + static_cast<std::size_t>(ci)) * step;
                            const double* rj =
                                x + (static_cast<std::size_t>(k) * blockColumns + static_cast<std::size_t>(cj)) * step;
                            const Vec r0 = load(rj);
                            const Vec r1 = load(rj + step);
                            const Vec r2 = load(rj + 2 * step);
                            const Vec r3 = load(rj + 3 * step);
                            PATCHLIGHT_UNROLL
                            for (std::size_t p = 0; p < 4; ++p) {
                                const Vec l = load(li + p * step);
                                t[p][0] = hn::MulAdd(l, r0, t[p][0]);
                                t[p][1] = hn::MulAdd(l, r1, t[p][1]);
                                t[p][2] = hn::MulAdd(l, r2, t[p][2]);
                                t[p][3] = hn::MulAdd(l, r3, t[p][3]);
                            }
                        }
                        PATCHLIGHT_UNROLL
                        for (int p = 0; p < 4; ++p) {
                            PATCHLIGHT_UNROLL
                            for (int q = 0; q < 4; ++q) {
                                const int i = i0 + ci + p;
                                const int j = j0 + cj + q;
                                if (j >= n || j < i || j - i > W + 1) continue;
                                if (j - i <= W) {
                                    store(t[p][q], out + (static_cast<std::size_t>(i) * width +
                                                          static_cast<std::size_t>(j - i)) *
                                                             step);
                                } else {
                                    leaked = hn::Max(leaked, hn::Abs(t[p][q]));
                                }
                            }
                        }
                    }
                }
            }
        }
        store(leaked, leak);
    }

    /// Memory that one call of solve() needs, in doubles a lane.
    static std::size_t workSize(int n) {
        const std::size_t order = static_cast<std::size_t>(n) + 2 * W + blockColumns;
        const std::size_t elimination =
            order * width + 2 * order + static_cast<std::size_t>(blocksBack(W)) * order * blockColumns;
        const std::size_t square = (order + inverseRows + 2 * W) * width + 6 * order + 12 * W;
        return order * width + order + std::max(elimination, square) + 64;
    }

    static void solve(const LaneSolver::View& v) {
        const Tag d;
        const std::size_t step = lanes();
        const int n = v.nwave;
        const std::size_t bandSize = static_cast<std::size_t>(n) * width * step;
        const std::size_t vectorSize = static_cast<std::size_t>(n) * step;
        const std::size_t nextWidth = static_cast<std::size_t>(2 * v.reach + 1);

        // D_s widened to W diagonals, minus what an elimination left in `band`.
        const auto subtractFromOwn = [&](int spectrum, const double* minus, double* out) {
            const int kept = static_cast<int>(v.ownWidth) - 1;
            const double* own = v.own + static_cast<std::size_t>(spectrum * n) * v.ownWidth * step;
            for (int i = 0; i < n; ++i) {
                PATCHLIGHT_UNROLL
                for (int delta = 0; delta <= W; ++delta) {
                    const std::size_t at =
                        (static_cast<std::size_t>(i) * width + static_cast<std::size_t>(delta)) * step;
                    Vec value =
                        delta <= kept
                            ? load(own +
                                   (static_cast<std::size_t>(i) * v.ownWidth + static_cast<std::size_t>(delta)) * step)
                            : hn::Zero(d);
                    if (minus != nullptr && i + delta < n) value = hn::Sub(value, load(minus + at));
                    store(value, out + at);
                }
            }
        };
        double* schur = v.work;
        double* side = schur + bandSize;
        double* work = side + vectorSize;
        std::memset(work, 0, static_cast<std::size_t>(2 * W) * width * step * sizeof(double));

        // From the left: F_{s+1} = D_{s+1} - E_s^T F_s^-1 E_s. What each step leaves out is remembered per spectrum.
        for (int s = 0; s < v.nspec; ++s) store(hn::Zero(d), v.leak + static_cast<std::size_t>(s) * step);
        subtractFromOwn(0, nullptr, v.left);
        std::memcpy(v.leftY, v.y, vectorSize * sizeof(double));
        for (int s = 0; s + 1 < v.nspec; ++s) {
            const double* e = v.next + static_cast<std::size_t>(s * n) * nextWidth * step;
            const auto element = [&](int k, int j) {
                return e + (static_cast<std::size_t>(k) * nextWidth + static_cast<std::size_t>(j - k + v.reach)) * step;
            };
            std::memset(schur, 0, bandSize * sizeof(double));
            eliminate(v.left + static_cast<std::size_t>(s) * bandSize,
                      v.leftY + static_cast<std::size_t>(s) * vectorSize, n, v.reach, element, schur, side,
                      v.leak + static_cast<std::size_t>(s + 1) * step, work);
            subtractFromOwn(s + 1, schur, v.left + static_cast<std::size_t>(s + 1) * bandSize);
            for (std::size_t i = 0; i < vectorSize; i += step)
                store(hn::Sub(load(v.y + static_cast<std::size_t>(s + 1) * vectorSize + i), load(side + i)),
                      v.leftY + static_cast<std::size_t>(s + 1) * vectorSize + i);
        }

        // From the right, and S_s = F_s + G_s - D_s on the way.
        subtractFromOwn(v.nspec - 1, nullptr, v.right);
        std::memcpy(v.rightY, v.y + static_cast<std::size_t>(v.nspec - 1) * vectorSize, vectorSize * sizeof(double));
        for (int s = v.nspec - 1; s >= 0; --s) {
            double* left = v.left + static_cast<std::size_t>(s) * bandSize;
            double* leftY = v.leftY + static_cast<std::size_t>(s) * vectorSize;
            const double* own = v.own + static_cast<std::size_t>(s * n) * v.ownWidth * step;
            for (int i = 0; i < n; ++i) {
                PATCHLIGHT_UNROLL
                for (int delta = 0; delta <= W; ++delta) {
                    const std::size_t at =
                        (static_cast<std::size_t>(i) * width + static_cast<std::size_t>(delta)) * step;
                    Vec value = hn::Add(load(left + at), load(v.right + at));
                    if (delta < static_cast<int>(v.ownWidth))
                        value = hn::Sub(value, load(own + (static_cast<std::size_t>(i) * v.ownWidth +
                                                           static_cast<std::size_t>(delta)) *
                                                              step));
                    store(value, left + at); // S_s takes the place of F_s
                }
                const std::size_t at = static_cast<std::size_t>(i) * step;
                store(hn::Sub(hn::Add(load(leftY + at), load(v.rightY + at)),
                              load(v.y + static_cast<std::size_t>(s) * vectorSize + at)),
                      leftY + at);
            }
            deconvolve(left, leftY, n, false, v.x + static_cast<std::size_t>(s) * vectorSize, work);
            if (s == 0) break;
            const double* e = v.next + static_cast<std::size_t>((s - 1) * n) * nextWidth * step;
            const auto element = [&](int k, int j) {
                return e + (static_cast<std::size_t>(j) * nextWidth + static_cast<std::size_t>(k - j + v.reach)) * step;
            };
            std::memset(schur, 0, bandSize * sizeof(double));
            std::memset(work, 0, static_cast<std::size_t>(W) * width * step * sizeof(double));
            eliminate(v.right, v.rightY, n, v.reach, element, schur, side,
                      v.leak + static_cast<std::size_t>(s - 1) * step, work);
            subtractFromOwn(s - 1, schur, v.right);
            for (std::size_t i = 0; i < vectorSize; i += step)
                store(hn::Sub(load(v.y + static_cast<std::size_t>(s - 1) * vectorSize + i), load(side + i)),
                      v.rightY + i);
        }

        // xflux once more, from what it leaves of y: what the bands left out of S enters its error squared then, and the light of neighbours that this
        // solution by spectra ignores is of what is left only.
        double* rest = v.leftY;
        residual(v, rest);
        for (int s = 0; s < v.nspec; ++s)
            deconvolve(v.left + static_cast<std::size_t>(s) * bandSize, rest + static_cast<std::size_t>(s) * vectorSize,
                       n, true, v.x + static_cast<std::size_t>(s) * vectorSize, work);
        for (int s = v.coreFirst; s < v.coreLast; ++s)
            root(v, s, v.left + static_cast<std::size_t>(s) * bandSize, work);
    }

    /// Where a factorisation and its solves lie in `work`, with zeros before the first and after the last row, so that edges need no
    /// special case.
    struct Factors {
        double *unit, *z, *pivot, *inverse, *b1, *bx, *z1, *zx;
        Factors(double* work, int n) {
            const std::size_t step = lanes();
            const std::size_t order = static_cast<std::size_t>(n);
            const std::size_t margin = static_cast<std::size_t>(W);
            unit = work + margin * width * step;
            z = unit + order * width * step;
            pivot = z + static_cast<std::size_t>(inverseRows) * width * step + margin * step;
            inverse = pivot + order * step;
            b1 = inverse + (order + margin) * step;
            bx = b1 + (order + 2 * margin) * step;
            z1 = bx + (order + 2 * margin) * step;
            zx = z1 + (order + 2 * margin) * step;
            std::memset(work, 0, margin * width * step * sizeof(double));
            std::memset(pivot - margin * step, 0, margin * step * sizeof(double));
            for (double* b : {b1, bx, z1, zx}) {
                std::memset(b - margin * step, 0, margin * step * sizeof(double));
                std::memset(b + order * step, 0, margin * step * sizeof(double));
            }
        }
    };

    /// x = S^-1 y, or x += S^-1 y.
    static void deconvolve(const double* matrix, const double* y, int n, bool add, double* x, double* work) {
        const std::size_t count = static_cast<std::size_t>(n) * lanes();
        const Factors f(work, n);
        (void)Bands::template factorise<true>(matrix, hn::Zero(Tag()), n, f.unit, f.pivot, f.inverse, f.b1, y, f.bx);
        backward(f.unit, n, f.bx);
        for (std::size_t i = 0; i < count; i += lanes())
            store(add ? hn::Add(load(x + i), load(f.bx + i)) : load(f.bx + i), x + i);
    }

    /// r = y - A x with all that couples: blocks of the spectra and of next neighbours as they are.
    static void residual(const LaneSolver::View& v, double* r) {
        const std::size_t step = lanes();
        const int n = v.nwave;
        const std::size_t nextWidth = static_cast<std::size_t>(2 * v.reach + 1);
        const auto at = [&](int s, int i) {
            return (static_cast<std::size_t>(s) * static_cast<std::size_t>(n) + static_cast<std::size_t>(i)) * step;
        };
        std::memcpy(r, v.y, at(v.nspec, 0) * sizeof(double));
        for (int s = 0; s < v.nspec; ++s)
            for (int i = 0; i < n; ++i) {
                const Vec xi = load(v.x + at(s, i));
                Vec ri = load(r + at(s, i));
                const double* own = v.own + at(s, i) * v.ownWidth;
                ri = hn::NegMulAdd(load(own), xi, ri);
                for (int d = 1; d < std::min(static_cast<int>(v.ownWidth), n - i); ++d) {
                    const Vec a = load(own + static_cast<std::size_t>(d) * step);
                    double* other = r + at(s, i + d);
                    ri = hn::NegMulAdd(a, load(v.x + at(s, i + d)), ri);
                    store(hn::NegMulAdd(a, xi, load(other)), other);
                }
                if (s + 1 < v.nspec) {
                    const double* next = v.next + at(s, i) * nextWidth;
                    for (int j = std::max(0, i - v.reach); j <= std::min(n - 1, i + v.reach); ++j) {
                        const Vec e = load(next + static_cast<std::size_t>(j - i + v.reach) * step);
                        double* other = r + at(s + 1, j);
                        ri = hn::NegMulAdd(e, load(v.x + at(s + 1, j)), ri);
                        store(hn::NegMulAdd(e, xi, load(other)), other);
                    }
                }
                store(ri, r + at(s, i));
            }
    }

    /// Q_s of a core spectrum from its full S_s, as solveDense() leaves it: by the root of S's band B, with what C = S - B adds to Q 1 and Q xflux to first
    /// order, (S + p)^-1 b = u - (B + p)^-1 C u + ..., u = (B + p)^-1 b. Q's diagonals are those of B.
    static void rootCorrected(const LaneSolver::View& v, int s) {
        const Tag d;
        const std::size_t step = lanes();
        const int n = v.nwave;
        const std::size_t order = static_cast<std::size_t>(n);
        const std::size_t row = (order + 8) * step;
        const double* full = v.left + static_cast<std::size_t>(s) * order * row;
        double* matrix = v.work;
        double* work = matrix + order * width * step;
        // Largest element of C, and its norm: no more than its largest sum over a row.
        double* rowSum = work;
        std::memset(rowSum, 0, order * step * sizeof(double));
        Vec outer = hn::Zero(d);
        for (int i = 0; i < n; ++i) {
            const double* from = full + static_cast<std::size_t>(i) * (row + step);
            const int kept = std::min(W, n - 1 - i);
            double* to = matrix + static_cast<std::size_t>(i) * width * step;
            std::memcpy(to, from, static_cast<std::size_t>(kept + 1) * step * sizeof(double));
            std::memset(to + static_cast<std::size_t>(kept + 1) * step, 0,
                        static_cast<std::size_t>(W - kept) * step * sizeof(double));
            Vec sum = load(rowSum + static_cast<std::size_t>(i) * step);
            for (int k = W + 1; k < n - i; ++k) {
                const Vec c = hn::Abs(load(from + static_cast<std::size_t>(k) * step));
                double* other = rowSum + static_cast<std::size_t>(i + k) * step;
                outer = hn::Max(outer, c);
                sum = hn::Add(sum, c);
                store(hn::Add(load(other), c), other);
            }
            store(sum, rowSum + static_cast<std::size_t>(i) * step);
        }
        Vec norm = hn::Zero(d);
        for (std::size_t i = 0; i < order; ++i) norm = hn::Max(norm, load(rowSum + i * step));
        const Outside outside{full, outer, norm};
        root(v, s, matrix, work, &outside);
    }

    /// C = S - B of rootCorrected().
    struct Outside {
        const double* full;
        Vec largest, norm;
    };

    /// For core spectra, Q_s = S_s^(1/2) as Q 1, Q xflux and its band. @param outside  what lies beyond the band, to be corrected for
    static void root(const LaneSolver::View& v, int s, const double* matrix, double* work,
                     const Outside* outside = nullptr) {
        const Tag d;
        const std::size_t step = lanes();
        const int n = v.nwave;
        const std::size_t order = static_cast<std::size_t>(n);
        const Factors factors(work, n);
        double* const unit = factors.unit;
        double* const z = factors.z;
        double* const pivot = factors.pivot;
        double* const inverse = factors.inverse;
        double* const b1 = factors.b1;
        double* const bx = factors.bx;
        double* const z1 = factors.z1;
        double* const zx = factors.zx;
        const double* x = v.x + static_cast<std::size_t>(s) * order * step;

        // Gershgorin's bound of the largest eigenvalue.
        Vec largest = hn::Zero(d);
        for (int i = 0; i < n; ++i) {
            Vec sum = hn::Zero(d);
            for (int delta = -std::min(W, i); delta <= std::min(W, n - 1 - i); ++delta) {
                const int row = delta < 0 ? i + delta : i;
                sum = hn::Add(sum, hn::Abs(load(matrix + (static_cast<std::size_t>(row) * width +
                                                          static_cast<std::size_t>(delta < 0 ? -delta : delta)) *
                                                             step)));
            }
            largest = hn::IfThenElse(hn::Gt(largest, sum), largest, sum); // keeps NaN
        }
        double* leak = v.leak + static_cast<std::size_t>(s) * step;
        double* outer = v.outer + static_cast<std::size_t>(s) * step;
        if (outside != nullptr) {
            largest = hn::Add(largest, outside->norm);
            store(hn::Zero(d), leak);
            store(hn::Div(outside->largest, largest), outer);
        } else {
            store(hn::Div(load(leak), largest), leak);
            store(hn::Zero(d), outer);
        }
        store(largest, v.largest + static_cast<std::size_t>(s) * step);

        // The smallest rung whose bound lmax/kappa is proved to lie below all eigenvalues: S - lmax/kappa has positive pivots only.
        const std::vector<InverseSquareRoot>& ladder = inverseSquareRootLadder();
        double* condition = v.condition + static_cast<std::size_t>(s) * step;
        store(hn::Zero(d), condition);
        HWY_ALIGN double rung[8];
        for (double& r : rung) r = -1;
        std::size_t open = step;
        for (std::size_t r = 0; r < ladder.size() && open > 0; ++r) {
            Vec shift = hn::Mul(largest, hn::Set(d, -1.0 / ladder[r].kappa));
            if (outside != nullptr)
                shift = hn::Sub(shift, outside->norm); // S's eigenvalues may be that much lower than B's
            HWY_ALIGN double pivots[8];
            store(Bands::template factorise<false>(matrix, shift, n, unit, pivot, inverse, nullptr, nullptr, nullptr),
                  pivots);
            for (std::size_t lane = 0; lane < step; ++lane) {
                if (rung[lane] >= 0 || !(pivots[lane] > 0.0)) continue;
                rung[lane] = static_cast<double>(r);
                condition[lane] = ladder[r].kappa;
                --open;
            }
        }
        std::size_t poles = 0;
        for (std::size_t lane = 0; lane < step; ++lane)
            if (rung[lane] >= 0) poles = std::max(poles, ladder[static_cast<std::size_t>(rung[lane])].pole.size());

        double* q = v.q + static_cast<std::size_t>(s) * order * static_cast<std::size_t>(v.ndiag + 1) * step;
        double* q1 = v.rowSum + static_cast<std::size_t>(s) * order * step;
        double* qx = v.qx + static_cast<std::size_t>(s) * order * step;
        HWY_ALIGN double largestOf[8];
        store(largest, largestOf);
        HWY_ALIGN double total[8] = {};
        for (std::size_t lane = 0; lane < step; ++lane) {
            if (rung[lane] < 0) continue;
            const InverseSquareRoot& f = ladder[static_cast<std::size_t>(rung[lane])];
            for (const double weight : f.weight) total[lane] += weight * std::sqrt(largestOf[lane] / f.kappa);
        }
        const Vec c0 = load(total);
        for (int i = 0; i < n; ++i) {
            for (int delta = 0; delta <= v.ndiag; ++delta)
                store(delta == 0 ? c0 : hn::Zero(d),
                      q + (static_cast<std::size_t>(i) * static_cast<std::size_t>(v.ndiag + 1) +
                           static_cast<std::size_t>(delta)) *
                              step);
            store(c0, q1 + static_cast<std::size_t>(i) * step);
            store(hn::Mul(c0, load(x + static_cast<std::size_t>(i) * step)), qx + static_cast<std::size_t>(i) * step);
        }
        // Q = sum_k c_k (1 - p_k (S + p_k)^-1). Lanes on a lower rung idle through the last poles with a weight of 0.
        for (std::size_t k = 0; k < poles; ++k) {
            HWY_ALIGN double pole[8];
            HWY_ALIGN double factor[8];
            for (std::size_t lane = 0; lane < step; ++lane) {
                pole[lane] = largestOf[lane];
                factor[lane] = 0.0;
                if (rung[lane] < 0) continue;
                const InverseSquareRoot& f = ladder[static_cast<std::size_t>(rung[lane])];
                if (k >= f.pole.size()) continue;
                const double lowest = largestOf[lane] / f.kappa;
                pole[lane] = f.pole[k] * lowest;
                factor[lane] = f.weight[k] * std::sqrt(lowest) * pole[lane];
            }
            (void)Bands::template factorise<true>(matrix, load(pole), n, unit, pivot, inverse, b1, x, bx);
            subtractInverse(unit, inverse, n, load(factor), b1, bx, z, v.ndiag, q, q1, qx);
            if (outside == nullptr) continue;
            Bands::refine({outside->full, (order + 8) * step, n - 1}, n, unit, inverse, load(factor), b1, bx, z1, zx,
                          q1, qx);
        }
        if (outside == nullptr) return;
        // What is left of C is its square.
        HWY_ALIGN double normOf[8];
        store(outside->norm, normOf);
        for (std::size_t lane = 0; lane < step; ++lane) {
            const double contraction = normOf[lane] / largestOf[lane] * condition[lane];
            leak[lane] = contraction <= 0.1 ? contraction * outer[lane] : 1.0;
        }
    }
};

/// Full symmetric matrices of order n, upper triangle: (i, j) at [i stride + j][lanes], stride = n + 8; what lies beyond a row's end is finite.
struct DenseKernels {
    static HWY_INLINE Vec load(const double* p) { return hn::Load(Tag(), p); }
    static HWY_INLINE void store(Vec v, double* p) { hn::Store(v, Tag(), p); }

    /// Rows that are worked on together where a tile of them by four columns must fit into the registers.
    static constexpr int tileRows = hn::MaxLanes(Tag()) == 8 ? 4 : 2;
    static constexpr int tileColumns = 4;

    /// Calls body(row, number of rows) for rows [first, last), R at a time and then one by one; the number is a constant's type.
    template <int R, class Body> static HWY_INLINE void byRows(int first, int last, const Body& body) {
        int i = first;
        for (; i + R <= last; i += R) body(i, std::integral_constant<int, R>());
        for (; i < last; ++i) body(i, std::integral_constant<int, 1>());
    }

    /// t = U^-T t for R rows from `diagonal`, the factor's element (i, i) of the first of them; 1/u_ii in place of u_ii.
    template <int R>
    static HWY_INLINE void forwardTile(const double* diagonal, std::size_t row, std::size_t step,
                                       Vec (&t)[R][tileColumns]) {
        PATCHLIGHT_UNROLL
        for (int p = 0; p < R; ++p) {
            PATCHLIGHT_UNROLL
            for (int r = 0; r < p; ++r) {
                const Vec u = load(diagonal + static_cast<std::size_t>(r) * row + static_cast<std::size_t>(p) * step);
                PATCHLIGHT_UNROLL
                for (int c = 0; c < tileColumns; ++c) t[p][c] = hn::NegMulAdd(u, t[r][c], t[p][c]);
            }
            const Vec inverse = load(diagonal + static_cast<std::size_t>(p) * row + static_cast<std::size_t>(p) * step);
            PATCHLIGHT_UNROLL
            for (int c = 0; c < tileColumns; ++c) t[p][c] = hn::Mul(t[p][c], inverse);
        }
    }

    /// A = U^T U in place, with 1/u_ii in place of u_ii. Pivots that are not positive make the lane NaN. @param band  off-diagonals that are not zero
    static void cholesky(double* a, int n, int band) {
        const Tag d;
        const std::size_t step = hn::Lanes(d);
        const std::size_t row = (static_cast<std::size_t>(n) + 8) * step;
        const auto rows = [&](int i0, auto count) {
            constexpr int R = decltype(count)::value;
            double* const to = a + static_cast<std::size_t>(i0) * row;
            const int k0 = std::max(0, i0 - band);
            const int end = std::min(n, i0 + R + band);
            // The triangle on the diagonal first: the tiles right of it need it.
            for (int i = i0; i < i0 + R; ++i) {
                for (int j = i; j < i0 + R; ++j) {
                    double* element = to + static_cast<std::size_t>(i - i0) * row + static_cast<std::size_t>(j) * step;
                    Vec t = load(element);
                    for (int k = k0; k < i; ++k) {
                        const double* from = a + static_cast<std::size_t>(k) * row;
                        t = hn::NegMulAdd(load(from + static_cast<std::size_t>(i) * step),
                                          load(from + static_cast<std::size_t>(j) * step), t);
                    }
                    const double* inverse =
                        to + static_cast<std::size_t>(i - i0) * row + static_cast<std::size_t>(i) * step;
                    store(j == i ? hn::Div(hn::Set(d, 1.0), hn::Sqrt(t)) : hn::Mul(t, load(inverse)), element);
                }
            }
            for (int j0 = i0 + R; j0 < end; j0 += tileColumns) {
                Vec t[R][tileColumns];
                PATCHLIGHT_UNROLL
                for (int p = 0; p < R; ++p) {
                    PATCHLIGHT_UNROLL
                    for (int c = 0; c < tileColumns; ++c)
                        t[p][c] =
                            load(to + static_cast<std::size_t>(p) * row + static_cast<std::size_t>(j0 + c) * step);
                }
                for (int k = k0; k < i0; ++k) {
                    const double* from = a + static_cast<std::size_t>(k) * row;
                    PATCHLIGHT_UNROLL
                    for (int p = 0; p < R; ++p) {
                        const Vec u = load(from + static_cast<std::size_t>(i0 + p) * step);
                        PATCHLIGHT_UNROLL
                        for (int c = 0; c < tileColumns; ++c)
                            t[p][c] = hn::NegMulAdd(u, load(from + static_cast<std::size_t>(j0 + c) * step), t[p][c]);
                    }
                }
                forwardTile(to + static_cast<std::size_t>(i0) * step, row, step, t);
                for (int p = 0; p < R; ++p)
                    for (int c = 0; c < tileColumns && j0 + c < n; ++c)
                        store(t[p][c],
                              to + static_cast<std::size_t>(p) * row + static_cast<std::size_t>(j0 + c) * step);
            }
        };
        byRows<tileRows>(0, n, rows);
    }

    /// x = U^-T x.
    static void forward(const double* u, int n, double* x) {
        const std::size_t step = hn::Lanes(Tag());
        const std::size_t row = (static_cast<std::size_t>(n) + 8) * step;
        for (int k = 0; k < n; ++k) {
            const double* from = u + static_cast<std::size_t>(k) * row;
            const Vec value =
                hn::Mul(load(x + static_cast<std::size_t>(k) * step), load(from + static_cast<std::size_t>(k) * step));
            store(value, x + static_cast<std::size_t>(k) * step);
            for (int i = k + 1; i < n; ++i) {
                double* to = x + static_cast<std::size_t>(i) * step;
                store(hn::NegMulAdd(value, load(from + static_cast<std::size_t>(i) * step), load(to)), to);
            }
        }
    }

    /// x = U^-1 x.
    static void backward(const double* u, int n, double* x) {
        const std::size_t step = hn::Lanes(Tag());
        const std::size_t row = (static_cast<std::size_t>(n) + 8) * step;
        for (int i = n - 1; i >= 0; --i) {
            const double* from = u + static_cast<std::size_t>(i) * row;
            Vec sum = load(x + static_cast<std::size_t>(i) * step);
            for (int j = n - 1; j > i; --j)
                sum = hn::NegMulAdd(load(from + static_cast<std::size_t>(j) * step),
                                    load(x + static_cast<std::size_t>(j) * step), sum);
            store(hn::Mul(sum, load(from + static_cast<std::size_t>(i) * step)),
                  x + static_cast<std::size_t>(i) * step);
        }
    }

    /// target -= E^T A^-1 E and side -= E^T A^-1 z, from A's factor, of `band` off-diagonals, and U^-T z. @param x work, n rounded up to eight columns of n
    template <class Element>
    static void subtractEliminated(const double* factor, int band, const double* z, int n, int reach, const Element& e,
                                   double* target, double* side, double* x) {
        const Tag d;
        const std::size_t step = hn::Lanes(d);
        const std::size_t row = (static_cast<std::size_t>(n) + 8) * step;
        const std::size_t blockSize = static_cast<std::size_t>(n) * blockColumns * step;
        for (int j0 = 0; j0 < n; j0 += blockColumns) {
            const int k0 = std::max(0, j0 - reach);
            double* mine = x + static_cast<std::size_t>(j0 / blockColumns) * blockSize;
            Vec product[blockColumns];
            for (int half = 0; half < blockColumns; half += tileColumns) {
                Vec sum[tileColumns];
                for (Vec& v : sum) v = hn::Zero(d);
                double* const columns = mine + static_cast<std::size_t>(half) * step;
                const auto rows = [&](int k, auto count) {
                    constexpr int R = decltype(count)::value;
                    Vec t[R][tileColumns];
                    PATCHLIGHT_UNROLL
                    for (int p = 0; p < R; ++p) {
                        PATCHLIGHT_UNROLL
                        for (int c = 0; c < tileColumns; ++c) {
                            const int j = j0 + half + c;
                            const int i = k + p;
                            t[p][c] = j < n && j - i <= reach && i - j <= reach ? load(e(i, j)) : hn::Zero(d);
                        }
                    }
                    for (int m = std::max(k0, k - band); m < k; ++m) {
                        const double* u =
                            factor + static_cast<std::size_t>(m) * row + static_cast<std::size_t>(k) * step;
                        const double* before = columns + static_cast<std::size_t>(m) * blockColumns * step;
                        PATCHLIGHT_UNROLL
                        for (int p = 0; p < R; ++p) {
                            const Vec um = load(u + static_cast<std::size_t>(p) * step);
                            PATCHLIGHT_UNROLL
                            for (int c = 0; c < tileColumns; ++c)
                                t[p][c] = hn::NegMulAdd(um, load(before + static_cast<std::size_t>(c) * step), t[p][c]);
                        }
                    }
                    forwardTile(factor + static_cast<std::size_t>(k) * row + static_cast<std::size_t>(k) * step, row,
                                step, t);
                    PATCHLIGHT_UNROLL
                    for (int p = 0; p < R; ++p) {
                        const Vec zk = load(z + static_cast<std::size_t>(k + p) * step);
                        double* to = columns + static_cast<std::size_t>(k + p) * blockColumns * step;
                        PATCHLIGHT_UNROLL
                        for (int c = 0; c < tileColumns; ++c) {
                            store(t[p][c], to + static_cast<std::size_t>(c) * step);
                            sum[c] = hn::MulAdd(zk, t[p][c], sum[c]);
                        }
                    }
                };
                byRows<tileRows>(k0, n, rows);
                PATCHLIGHT_UNROLL
                for (int c = 0; c < tileColumns; ++c) product[half + c] = sum[c];
            }
            for (int c = 0; c < blockColumns && j0 + c < n; ++c) {
                double* to = side + static_cast<std::size_t>(j0 + c) * step;
                store(hn::Sub(load(to), product[c]), to);
            }
            for (int i0 = 0; i0 <= j0; i0 += blockColumns) {
                const double* left = x + static_cast<std::size_t>(i0 / blockColumns) * blockSize;
                for (int ci = 0; ci < blockColumns; ci += 4) {
                    for (int cj = 0; cj < blockColumns; cj += 4) {
                        Vec t[4][4];
                        for (auto& r : t)
                            for (Vec& v : r) v = hn::Zero(d);
                        for (int k = k0; k < n; ++k) {
                            const double* li =
                                left +
                                (static_cast<std::size_t>(k) * blockColumns + static_cast<std::size_t>(ci)) * step;
                            const double* rj =
                                mine +
                                (static_cast<std::size_t>(k) * blockColumns + static_cast<std::size_t>(cj)) * step;
                            PATCHLIGHT_UNROLL
                            for (std::size_t p = 0; p < 4; ++p) {
                                const Vec l = load(li + p * step);
                                PATCHLIGHT_UNROLL
                                for (std::size_t q = 0; q < 4; ++q)
                                    t[p][q] = hn::MulAdd(l, load(rj + q * step), t[p][q]);
                            }
                        }
                        for (int p = 0; p < 4; ++p)
                            for (int q = 0; q < 4; ++q) {
                                const int i = i0 + ci + p;
                                const int j = j0 + cj + q;
                                if (i > j || j >= n) continue;
                                double* to =
                                    target + static_cast<std::size_t>(i) * row + static_cast<std::size_t>(j) * step;
                                store(hn::Sub(load(to), t[p][q]), to);
                            }
                    }
                }
            }
        }
    }

    /// p[first ..] = A v over rows and columns from `first` on, A's upper triangle.
    static void multiply(const double* a, int first, int n, const double* v, double* p) {
        const Tag d;
        const std::size_t step = hn::Lanes(d);
        const std::size_t row = (static_cast<std::size_t>(n) + 8) * step;
        const auto at = [&](int i) { return static_cast<std::size_t>(i) * step; };
        for (int i = first; i < n; ++i) store(hn::Zero(d), p + at(i));
        const auto rows = [&](int i0, auto count) {
            constexpr int R = decltype(count)::value;
            Vec mine[R];
            Vec sum[R];
            PATCHLIGHT_UNROLL
            for (int r = 0; r < R; ++r) {
                mine[r] = load(v + at(i0 + r));
                sum[r] = load(p + at(i0 + r));
            }
            const double* from = a + static_cast<std::size_t>(i0) * row;
            for (int r = 0; r < R; ++r) {
                sum[r] = hn::MulAdd(load(from + static_cast<std::size_t>(r) * row + at(i0 + r)), mine[r], sum[r]);
                for (int c = r + 1; c < R; ++c) {
                    const Vec element = load(from + static_cast<std::size_t>(r) * row + at(i0 + c));
                    sum[r] = hn::MulAdd(element, mine[c], sum[r]);
                    sum[c] = hn::MulAdd(element, mine[r], sum[c]);
                }
            }
            for (int j = i0 + R; j < n; ++j) {
                const Vec theirs = load(v + at(j));
                Vec other = load(p + at(j));
                PATCHLIGHT_UNROLL
                for (int r = 0; r < R; ++r) {
                    const Vec element = load(from + static_cast<std::size_t>(r) * row + at(j));
                    sum[r] = hn::MulAdd(element, theirs, sum[r]);
                    other = hn::MulAdd(element, mine[r], other);
                }
                store(other, p + at(j));
            }
            PATCHLIGHT_UNROLL
            for (int r = 0; r < R; ++r) store(sum[r], p + at(i0 + r));
        };
        byRows<4>(first, n, rows);
    }

    /// A -= v w^T + w v^T over rows and columns from `first` on, A's upper triangle.
    static void subtractProducts(double* a, int first, int n, const double* v, const double* w) {
        const std::size_t step = hn::Lanes(Tag());
        const std::size_t row = (static_cast<std::size_t>(n) + 8) * step;
        const auto at = [&](int i) { return static_cast<std::size_t>(i) * step; };
        const auto rows = [&](int i0, auto count) {
            constexpr int R = decltype(count)::value;
            Vec vi[R];
            Vec wi[R];
            PATCHLIGHT_UNROLL
            for (int r = 0; r < R; ++r) {
                vi[r] = load(v + at(i0 + r));
                wi[r] = load(w + at(i0 + r));
            }
            double* to = a + static_cast<std::size_t>(i0) * row;
            // A few elements left of the diagonal come along; nothing reads them.
            for (int j = i0; j < n; ++j) {
                const Vec vj = load(v + at(j));
                const Vec wj = load(w + at(j));
                PATCHLIGHT_UNROLL
                for (int r = 0; r < R; ++r) {
                    double* element = to + static_cast<std::size_t>(r) * row + at(j);
                    store(hn::NegMulAdd(vi[r], wj, hn::NegMulAdd(wi[r], vj, load(element))), element);
                }
            }
        };
        byRows<4>(first, n, rows);
    }

    /// w = p - (tau/2) (v^T p) v, of which A -= v w^T + w v^T applies I - tau v v^T from both sides where p = tau A v.
    static void reflectionSide(const double* v, Vec tau, int first, int n, double* p) {
        const Tag d;
        const std::size_t step = hn::Lanes(d);
        Vec sum = hn::Zero(d);
        for (int i = first; i < n; ++i) {
            double* pi = p + static_cast<std::size_t>(i) * step;
            const Vec scaled = hn::Mul(tau, load(pi));
            store(scaled, pi);
            sum = hn::MulAdd(scaled, load(v + static_cast<std::size_t>(i) * step), sum);
        }
        const Vec factor = hn::Mul(hn::Mul(hn::Set(d, 0.5), tau), sum);
        for (int i = first; i < n; ++i) {
            double* pi = p + static_cast<std::size_t>(i) * step;
            store(hn::NegMulAdd(factor, load(v + static_cast<std::size_t>(i) * step), load(pi)), pi);
        }
    }

    /// S = H T H^T with tridiagonal T and H a product of reflections I - tau_k v_k v_k^T (Householder; Golub & Van Loan, algorithm 8.3.1).
    /// v_k takes the place of row k's elements right of the diagonal. @param work [n]
    static void tridiagonalise(double* a, int n, double* diagonal, double* off, double* tau, double* work) {
        const Tag d;
        const std::size_t step = hn::Lanes(d);
        const std::size_t row = (static_cast<std::size_t>(n) + 8) * step;
        for (int k = 0; k < n; ++k) {
            double* v = a + static_cast<std::size_t>(k) * row;
            const std::size_t here = static_cast<std::size_t>(k) * step;
            store(load(v + here), diagonal + here);
            store(hn::Zero(d), tau + here);
            if (k + 1 == n) break;
            const Vec head = load(v + here + step);
            Vec rest = hn::Zero(d);
            for (int j = k + 2; j < n; ++j) {
                const Vec x = load(v + static_cast<std::size_t>(j) * step);
                rest = hn::MulAdd(x, x, rest);
            }
            if (k + 2 == n) {
                store(head, off + here);
                continue;
            }
            const auto done = hn::Eq(rest, hn::Zero(d)); // no light, no coupling
            const Vec norm = hn::Sqrt(hn::MulAdd(head, head, rest));
            const Vec alpha = hn::CopySign(norm, hn::Neg(head));
            store(hn::IfThenElse(done, head, alpha), off + here);
            store(hn::Sub(head, alpha), v + here + step);
            const Vec scale = hn::Div(hn::Set(d, 1.0), hn::Mul(norm, hn::Add(norm, hn::Abs(head))));
            const Vec t = hn::IfThenZeroElse(done, scale);
            store(t, tau + here);
            multiply(a, k + 1, n, v, work);
            reflectionSide(v, t, k + 1, n, work);
            subtractProducts(a, k + 1, n, v, work);
        }
    }

    /// M = H M H^T, the upper triangle of a symmetric matrix, with the reflections that tridiagonalise() left in `a`. @param work [n]
    static void transformBack(const double* a, const double* tau, int n, double* m, double* work) {
        const Tag d;
        const std::size_t step = hn::Lanes(d);
        const std::size_t row = (static_cast<std::size_t>(n) + 8) * step;
        const auto at = [&](int i) { return static_cast<std::size_t>(i) * step; };
        for (int k = n - 3; k >= 0; --k) {
            const double* v = a + static_cast<std::size_t>(k) * row;
            const Vec t = load(tau + at(k));
            // Rows above the reflection's: M -= tau (M v) v^T.
            const auto above = [&](int i0, auto count) {
                constexpr int R = decltype(count)::value;
                double* to = m + static_cast<std::size_t>(i0) * row;
                Vec sum[R];
                PATCHLIGHT_UNROLL
                for (int r = 0; r < R; ++r) sum[r] = hn::Zero(d);
                for (int j = k + 1; j < n; ++j) {
                    const Vec vj = load(v + at(j));
                    PATCHLIGHT_UNROLL
                    for (int r = 0; r < R; ++r)
                        sum[r] = hn::MulAdd(load(to + static_cast<std::size_t>(r) * row + at(j)), vj, sum[r]);
                }
                PATCHLIGHT_UNROLL
                for (int r = 0; r < R; ++r) sum[r] = hn::Mul(t, sum[r]);
                for (int j = k + 1; j < n; ++j) {
                    const Vec vj = load(v + at(j));
                    PATCHLIGHT_UNROLL
                    for (int r = 0; r < R; ++r) {
                        double* element = to + static_cast<std::size_t>(r) * row + at(j);
                        store(hn::NegMulAdd(sum[r], vj, load(element)), element);
                    }
                }
            };
            byRows<4>(0, k + 1, above);
            multiply(m, k + 1, n, v, work);
            reflectionSide(v, t, k + 1, n, work);
            subtractProducts(m, k + 1, n, v, work);
        }
    }

    /// Smallest pivot of T + shift, of which the sign says whether T has eigenvalues below -shift (Sylvester's law of inertia).
    static Vec smallestPivot(const double* diagonal, const double* off, Vec shift, int n) {
        const Tag d;
        const std::size_t step = hn::Lanes(d);
        Vec pivot = hn::Add(load(diagonal), shift);
        Vec lowest = pivot;
        for (int i = 1; i < n; ++i) {
            const std::size_t at = static_cast<std::size_t>(i) * step;
            const Vec e = load(off + at - step);
            pivot = hn::Sub(hn::Add(load(diagonal + at), shift), hn::Div(hn::Mul(e, e), pivot));
            lowest = hn::IfThenElse(hn::Gt(pivot, lowest), lowest, pivot); // keeps NaN
        }
        return lowest;
    }

    /// Q_s = S_s^(1/2) of a core spectrum after solve(), as Kernels::root() has it, but of the full matrix: by way of a tridiagonal matrix, of which
    /// the poles' inverses are cheap (for i <= j, G_ij = -l_i G_i+1,j with T + p = L D L^T).
    static void root(const LaneSolver::View& v, int s) {
        const Tag d;
        const std::size_t step = hn::Lanes(d);
        const int n = v.nwave;
        const std::size_t order = static_cast<std::size_t>(n);
        const std::size_t row = (order + 8) * step;
        const std::size_t vector = order * step;
        double* const a = v.left + static_cast<std::size_t>(s) * order * row;
        double* const m = v.work;
        double* const diagonal = m + order * row;
        double* const off = diagonal + vector;
        double* const tau = off + vector;
        double* const work = tau + vector;
        tridiagonalise(a, n, diagonal, off, tau, work);

        Vec largest = hn::Zero(d); // Gershgorin
        for (int i = 0; i < n; ++i) {
            const std::size_t at = static_cast<std::size_t>(i) * step;
            Vec sum = hn::Abs(load(diagonal + at));
            if (i > 0) sum = hn::Add(sum, hn::Abs(load(off + at - step)));
            if (i + 1 < n) sum = hn::Add(sum, hn::Abs(load(off + at)));
            largest = hn::IfThenElse(hn::Gt(largest, sum), largest, sum); // keeps NaN
        }
        store(largest, v.largest + static_cast<std::size_t>(s) * step);
        const std::vector<InverseSquareRoot>& ladder = inverseSquareRootFineLadder();
        double* condition = v.condition + static_cast<std::size_t>(s) * step;
        store(hn::Zero(d), condition);
        const InverseSquareRoot* rung[8] = {};
        std::size_t poles = 0;
        for (const InverseSquareRoot& f : ladder) {
            HWY_ALIGN double pivots[8];
            store(smallestPivot(diagonal, off, hn::Mul(largest, hn::Set(d, -1.0 / f.kappa)), n), pivots);
            for (std::size_t lane = 0; lane < step; ++lane) {
                if (rung[lane] != nullptr || !(pivots[lane] > 0.0)) continue;
                rung[lane] = &f;
                condition[lane] = f.kappa;
                poles = std::max(poles, f.pole.size());
            }
        }

        // M = T^(1/2) = sum_k c_k (1 - p_k (T + p_k)^-1), four poles at a time.
        HWY_ALIGN double largestOf[8];
        store(largest, largestOf);
        HWY_ALIGN double total[8] = {};
        for (std::size_t lane = 0; lane < step; ++lane)
            if (rung[lane] != nullptr)
                for (const double weight : rung[lane]->weight)
                    total[lane] += weight * std::sqrt(largestOf[lane] / rung[lane]->kappa);
        for (int i = 0; i < n; ++i) {
            double* to = m + static_cast<std::size_t>(i) * row;
            std::memset(to + static_cast<std::size_t>(i) * step, 0,
                        (order + 8 - static_cast<std::size_t>(i)) * step * sizeof(double));
            store(load(total), to + static_cast<std::size_t>(i) * step);
        }
        constexpr std::size_t together = 4;
        double* const pivot = work;                       // [together][n]: 1/d of L D L^T
        double* const column = pivot + together * vector; // [together][n]: c_k p_k G_ij of the row at hand
        for (std::size_t first = 0; first < poles; first += together) {
            Vec factor[together];
            for (std::size_t q = 0; q < together; ++q) {
                HWY_ALIGN double pole[8];
                HWY_ALIGN double weight[8];
                for (std::size_t lane = 0; lane < step; ++lane) {
                    pole[lane] = largestOf[lane];
                    weight[lane] = 0.0;
                    const InverseSquareRoot* f = rung[lane];
                    if (f == nullptr || first + q >= f->pole.size()) continue;
                    const double lowest = largestOf[lane] / f->kappa;
                    pole[lane] = f->pole[first + q] * lowest;
                    weight[lane] = f->weight[first + q] * std::sqrt(lowest) * pole[lane];
                }
                factor[q] = load(weight);
                Vec inverse = hn::Zero(d);
                for (int i = 0; i < n; ++i) {
                    const std::size_t at = static_cast<std::size_t>(i) * step;
                    Vec di = hn::Add(load(diagonal + at), load(pole));
                    if (i > 0) {
                        const Vec e = load(off + at - step);
                        di = hn::NegMulAdd(hn::Mul(e, e), inverse, di);
                    }
                    inverse = hn::Div(hn::Set(d, 1.0), di);
                    store(inverse, pivot + q * vector + at);
                }
            }
            Vec own[together]; // G_i+1,i+1
            for (Vec& g : own) g = hn::Zero(d);
            for (int i = n - 1; i >= 0; --i) {
                const std::size_t at = static_cast<std::size_t>(i) * step;
                const Vec e = i + 1 < n ? load(off + at) : hn::Zero(d);
                double* to = m + static_cast<std::size_t>(i) * row;
                Vec minus[together];
                Vec sum = load(to + at);
                PATCHLIGHT_UNROLL
                for (std::size_t q = 0; q < together; ++q) {
                    const Vec inverse = load(pivot + q * vector + at);
                    minus[q] = hn::Neg(hn::Mul(e, inverse));
                    own[q] = hn::MulAdd(hn::Mul(minus[q], minus[q]), own[q], inverse);
                    const Vec g = hn::Mul(factor[q], own[q]);
                    store(g, column + q * vector + at);
                    sum = hn::Sub(sum, g);
                }
                store(sum, to + at);
                for (int j = i + 1; j < n; ++j) {
                    const std::size_t there = static_cast<std::size_t>(j) * step;
                    Vec element = load(to + there);
                    PATCHLIGHT_UNROLL
                    for (std::size_t q = 0; q < together; ++q) {
                        double* g = column + q * vector + there;
                        const Vec value = hn::Mul(minus[q], load(g));
                        store(value, g);
                        element = hn::Sub(element, value);
                    }
                    store(element, to + there);
                }
            }
        }
        transformBack(a, tau, n, m, work);

        // Q's band, Q 1 and Q xflux.
        const std::size_t diagonals = static_cast<std::size_t>(v.ndiag + 1);
        double* q = v.q + static_cast<std::size_t>(s) * order * diagonals * step;
        double* q1 = v.rowSum + static_cast<std::size_t>(s) * vector;
        double* qx = v.qx + static_cast<std::size_t>(s) * vector;
        const double* x = v.x + static_cast<std::size_t>(s) * vector;
        std::memset(q1, 0, vector * sizeof(double));
        std::memset(qx, 0, vector * sizeof(double));
        for (int i = 0; i < n; ++i) {
            const std::size_t at = static_cast<std::size_t>(i) * step;
            const double* from = m + static_cast<std::size_t>(i) * row;
            for (std::size_t delta = 0; delta < diagonals; ++delta)
                store(static_cast<std::size_t>(i) + delta < order ? load(from + at + delta * step) : hn::Zero(d),
                      q + static_cast<std::size_t>(i) * diagonals * step + delta * step);
            const Vec xi = load(x + at);
            Vec sum = hn::Add(load(q1 + at), load(from + at));
            Vec product = hn::MulAdd(load(from + at), xi, load(qx + at));
            for (int j = i + 1; j < n; ++j) {
                const std::size_t there = static_cast<std::size_t>(j) * step;
                const Vec element = load(from + there);
                sum = hn::Add(sum, element);
                product = hn::MulAdd(element, load(x + there), product);
                store(hn::Add(load(q1 + there), element), q1 + there);
                store(hn::MulAdd(element, xi, load(qx + there)), qx + there);
            }
            store(sum, q1 + at);
            store(product, qx + at);
        }
    }

    /// S_s of the core spectra, and xflux of all. @param withXflux  else only S_s
    static void solve(const LaneSolver::View& v, bool withXflux) {
        const std::size_t step = hn::Lanes(Tag());
        const int n = v.nwave;
        const std::size_t order = static_cast<std::size_t>(n);
        const std::size_t row = (order + 8) * step;
        const std::size_t block = order * row;
        const std::size_t vector = order * step;
        const std::size_t nextWidth = static_cast<std::size_t>(2 * v.reach + 1);
        const auto own = [&](int s, int i) {
            return v.own + (static_cast<std::size_t>(s) * order + static_cast<std::size_t>(i)) * v.ownWidth * step;
        };
        // Rows of a block from a little left of the diagonal, which kernels touch, to their end.
        const auto forUpper = [&](const auto& body) {
            for (std::size_t i = 0; i < order; ++i) {
                const std::size_t first = i < 3 ? 0 : i - 3;
                body(i * row + first * step, (order + 8 - first) * step);
            }
        };
        const auto copyOwn = [&](int s, double* to) {
            forUpper([&](std::size_t at, std::size_t count) { std::memset(to + at, 0, count * sizeof(double)); });
            for (int i = 0; i < n; ++i)
                std::memcpy(to + static_cast<std::size_t>(i) * row + static_cast<std::size_t>(i) * step, own(s, i),
                            std::min(v.ownWidth, order - static_cast<std::size_t>(i)) * step * sizeof(double));
        };
        // F of the first spectrum and G of the last are their own blocks.
        const int narrow = static_cast<int>(v.ownWidth) - 1;
        const auto bandOfF = [&](int s) { return s == 0 ? narrow : n - 1; };
        const auto bandOfG = [&](int s) { return s + 1 == v.nspec ? narrow : n - 1; };
        double* factor = v.work;
        double* z = factor + block;
        double* x = z + vector;
        const auto factorise = [&](const double* matrix, int band, const double* y) {
            forUpper([&](std::size_t at, std::size_t count) {
                std::memcpy(factor + at, matrix + at, count * sizeof(double));
            });
            cholesky(factor, n, band);
            std::memcpy(z, y, vector * sizeof(double));
            forward(factor, n, z);
        };
        const auto left = [&](int s) { return v.left + static_cast<std::size_t>(s) * block; };
        const auto leftY = [&](int s) { return v.leftY + static_cast<std::size_t>(s) * vector; };
        // F, from the left up to the last core spectrum.
        for (int s = 0; s < v.coreLast; ++s) {
            copyOwn(s, left(s));
            std::memcpy(leftY(s), v.y + static_cast<std::size_t>(s) * vector, vector * sizeof(double));
            if (s == 0) continue;
            factorise(left(s - 1), bandOfF(s - 1), leftY(s - 1));
            const double* e = v.next + static_cast<std::size_t>(s - 1) * order * nextWidth * step;
            const auto element = [&](int k, int j) {
                return e + (static_cast<std::size_t>(k) * nextWidth + static_cast<std::size_t>(j - k + v.reach)) * step;
            };
            subtractEliminated(factor, bandOfF(s - 1), z, n, v.reach, element, left(s), leftY(s), x);
        }
        // G, from the right down to the first.
        for (int s = v.nspec - 1; s >= v.coreFirst; --s) {
            if (s + 1 < v.nspec) factorise(v.right, bandOfG(s + 1), v.rightY);
            copyOwn(s, v.right);
            std::memcpy(v.rightY, v.y + static_cast<std::size_t>(s) * vector, vector * sizeof(double));
            if (s + 1 < v.nspec) {
                const double* e = v.next + static_cast<std::size_t>(s) * order * nextWidth * step;
                const auto element = [&](int k, int j) {
                    return e +
                           (static_cast<std::size_t>(j) * nextWidth + static_cast<std::size_t>(k - j + v.reach)) * step;
                };
                subtractEliminated(factor, bandOfG(s + 1), z, n, v.reach, element, v.right, v.rightY, x);
            }
            double* f = left(s);
            double* y = leftY(s);
            if (s >= v.coreLast) { // G_s is all that is needed of it
                forUpper([&](std::size_t at, std::size_t count) {
                    std::memcpy(f + at, v.right + at, count * sizeof(double));
                });
                std::memcpy(y, v.rightY, vector * sizeof(double));
                continue;
            }
            // S_s = F_s + G_s - D_s takes the place of F_s.
            forUpper([&](std::size_t at, std::size_t count) {
                for (std::size_t i = at; i < at + count; i += step)
                    store(hn::Add(load(f + i), load(v.right + i)), f + i);
            });
            for (int i = 0; i < n; ++i)
                for (std::size_t delta = 0; delta < std::min(v.ownWidth, order - static_cast<std::size_t>(i));
                     ++delta) {
                    double* at = f + static_cast<std::size_t>(i) * row + (static_cast<std::size_t>(i) + delta) * step;
                    store(hn::Sub(load(at), load(own(s, i) + delta * step)), at);
                }
            for (std::size_t i = 0; i < vector; i += step)
                store(hn::Sub(hn::Add(load(y + i), load(v.rightY + i)),
                              load(v.y + static_cast<std::size_t>(s) * vector + i)),
                      y + i);
        }
        if (!withXflux) return;
        solveSpectra(v, v.leftY, [&](int s, const double* y) {
            factorise(left(s), s < v.coreFirst ? bandOfF(s) : s >= v.coreLast ? bandOfG(s) : n - 1, y);
            backward(factor, n, z);
            std::memcpy(v.x + static_cast<std::size_t>(s) * vector, z, vector * sizeof(double));
        });
    }
};

/// Transposes: to[k][lane] = from[lane][k], k < count.
void Interleave(const double* const* from, std::size_t count, double* to) {
    const Tag d;
    const std::size_t step = hn::Lanes(d);
    std::size_t k = 0;
#if HWY_TARGET != HWY_SCALAR
    const auto row = [&](std::size_t lane) { return hn::LoadU(d, from[lane] + k); };
    const auto keep = [&](Vec v, std::size_t i) { hn::Store(v, d, to + (k + i) * step); };
    for (; k + step <= count; k += step) {
        if (step == 8) {
            // Pairs of lanes, then pairs of pairs, then halves.
            Vec pair[8];
            for (std::size_t i = 0; i < 8; i += 2) {
                pair[i] = hn::InterleaveLower(d, row(i), row(i + 1));     // elements 0, 2, 4, 6 of two lanes
                pair[i + 1] = hn::InterleaveUpper(d, row(i), row(i + 1)); // elements 1, 3, 5, 7
            }
            for (std::size_t odd = 0; odd < 2; ++odd) {
                // Blocks of two lanes: a has elements (0, 2, 4, 6) + odd of lanes 0 and 1, b of 2 and 3, c of 4 and 5, e of 6 and 7.
                const Vec a = pair[odd];
                const Vec b = pair[2 + odd];
                const Vec c = pair[4 + odd];
                const Vec e = pair[6 + odd];
                const Vec ab02 = hn::OddEvenBlocks(hn::SwapAdjacentBlocks(b), a); // a0 b0 a4 b4
                const Vec ab13 = hn::OddEvenBlocks(b, hn::SwapAdjacentBlocks(a)); // a2 b2 a6 b6
                const Vec ce02 = hn::OddEvenBlocks(hn::SwapAdjacentBlocks(e), c);
                const Vec ce13 = hn::OddEvenBlocks(e, hn::SwapAdjacentBlocks(c));
                keep(hn::ConcatLowerLower(d, ce02, ab02), odd);
                keep(hn::ConcatLowerLower(d, ce13, ab13), 2 + odd);
                keep(hn::ConcatUpperUpper(d, ce02, ab02), 4 + odd);
                keep(hn::ConcatUpperUpper(d, ce13, ab13), 6 + odd);
            }
        } else if (step == 4) {
            const Vec even01 = hn::InterleaveLower(d, row(0), row(1));
            const Vec odd01 = hn::InterleaveUpper(d, row(0), row(1));
            const Vec even23 = hn::InterleaveLower(d, row(2), row(3));
            const Vec odd23 = hn::InterleaveUpper(d, row(2), row(3));
            keep(hn::ConcatLowerLower(d, even23, even01), 0);
            keep(hn::ConcatLowerLower(d, odd23, odd01), 1);
            keep(hn::ConcatUpperUpper(d, even23, even01), 2);
            keep(hn::ConcatUpperUpper(d, odd23, odd01), 3);
        } else if (step == 2) {
            keep(hn::InterleaveLower(d, row(0), row(1)), 0);
            keep(hn::InterleaveUpper(d, row(0), row(1)), 1);
        } else {
            break;
        }
    }
#endif
    for (; k < count; ++k)
        for (std::size_t lane = 0; lane < step; ++lane) to[k * step + lane] = from[lane][k];
}

void SolveDense(const LaneSolver::View& view, bool withXflux) { DenseKernels::solve(view, withXflux); }
void RootCorrected(const LaneSolver::View& view, int spectrum) {
    Kernels<LaneSolver::band>::rootCorrected(view, spectrum);
}
void RootDense(const LaneSolver::View& view, int spectrum) { DenseKernels::root(view, spectrum); }
void Solve(const LaneSolver::View& view) { Kernels<LaneSolver::band>::solve(view); }
std::size_t LaneCount() { return hn::Lanes(Tag()); }
std::size_t WorkSize(int n) { return Kernels<LaneSolver::band>::workSize(n); }

} // namespace patchlight::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace patchlight {

HWY_EXPORT(Interleave);
HWY_EXPORT(SolveDense);
HWY_EXPORT(RootCorrected);
HWY_EXPORT(RootDense);
HWY_EXPORT(Solve);
HWY_EXPORT(LaneCount);
HWY_EXPORT(WorkSize);

int LaneSolver::lanes() { return static_cast<int>(HWY_DYNAMIC_DISPATCH(LaneCount)()); }

void LaneSolver::shape(int nspec, int nwave, int reach, std::size_t ownWidth, int ndiag) {
    nspec_ = nspec;
    nwave_ = nwave;
    reach_ = reach;
    ownWidth_ = ownWidth;
    ndiag_ = ndiag;
    lanes_ = static_cast<std::size_t>(lanes());
    const std::size_t bins = static_cast<std::size_t>(nspec) * static_cast<std::size_t>(nwave);
    own_.require(bins * ownWidth * lanes_);
    next_.require(bins * nextWidth() * lanes_);
    y_.require(bins * lanes_);
    // Results have room for the spare one too.
    const std::size_t results = static_cast<std::size_t>(nspec + 1) * static_cast<std::size_t>(nwave);
    for (AlignedBuffer* buffer : {&x_, &rowSum_, &qx_}) buffer->require(results * lanes_);
    q_.require(results * static_cast<std::size_t>(ndiag + 1) * lanes_);
    for (AlignedBuffer* buffer : {&largest_, &condition_, &leak_, &outer_})
        buffer->require(static_cast<std::size_t>(nspec + 1) * lanes_);
    left_.require(bins * static_cast<std::size_t>(band + 1) * lanes_);
    leftY_.require(bins * lanes_);
    right_.require(static_cast<std::size_t>(nwave) * static_cast<std::size_t>(band + 1) * lanes_);
    rightY_.require(static_cast<std::size_t>(nwave) * lanes_);
    work_.require(HWY_DYNAMIC_DISPATCH(WorkSize)(nwave) * lanes_);
}

void LaneSolver::fill(const Source* sources, int count) {
    const std::size_t order = static_cast<std::size_t>(nwave_);
    const std::size_t reach = static_cast<std::size_t>(reach_);
    const std::size_t longest = order * std::max(ownWidth_, nextWidth());
    if (zeros_.size() < longest) zeros_.assign(longest, 0.0);
    const double* from[mostLanes];
    const auto point = [&](const double* Source::*array, std::size_t width, int s) {
        for (std::size_t lane = 0; lane < lanes_; ++lane)
            from[lane] = lane < static_cast<std::size_t>(count)
                             ? sources[lane].*array + static_cast<std::size_t>(s) * sources[lane].spectrumStride * width
                             : zeros_.data();
    };
    const auto clear = [&](double* first, std::size_t vectors) { std::fill_n(first, vectors * lanes_, 0.0); };
    for (int s = 0; s < nspec_; ++s) {
        point(&Source::own, ownWidth_, s);
        HWY_DYNAMIC_DISPATCH(Interleave)(from, order * ownWidth_, own(s, 0));
        // What couples to bins after the patch's last.
        for (std::size_t i = order - std::min(order, ownWidth_ - 1); i < order; ++i)
            clear(own(s, static_cast<int>(i)) + (order - i) * lanes_, ownWidth_ - (order - i));
        point(&Source::y, 1, s);
        HWY_DYNAMIC_DISPATCH(Interleave)(from, order, y(s, 0));
        if (s + 1 == nspec_) break;
        point(&Source::next, nextWidth(), s);
        HWY_DYNAMIC_DISPATCH(Interleave)(from, order * nextWidth(), next(s, 0));
        // ... and before its first: at [d + reach], d = -reach .. reach.
        for (std::size_t i = 0; i < order; ++i) {
            double* row = next(s, static_cast<int>(i));
            if (i < reach) clear(row, reach - i);
            if (i + reach >= order) clear(row + (order - i + reach) * lanes_, reach + 1 - (order - i));
        }
    }
    for (std::size_t lane = static_cast<std::size_t>(count); lane < lanes_; ++lane)
        for (std::size_t i = 0; i < static_cast<std::size_t>(nspec_) * order; ++i)
            own_.data()[i * ownWidth_ * lanes_ + lane] = 1.0;
}

LaneSolver::View LaneSolver::view(int coreFirst, int coreLast) {
    return {nspec_,        nwave_,         reach_,          ndiag_,
            coreFirst,     coreLast,       ownWidth_,       own_.data(),
            next_.data(),  y_.data(),      x_.data(),       rowSum_.data(),
            qx_.data(),    q_.data(),      largest_.data(), condition_.data(),
            leak_.data(),  outer_.data(),  left_.data(),    leftY_.data(),
            right_.data(), rightY_.data(), work_.data()};
}

void LaneSolver::requireDense() {
    const std::size_t order = static_cast<std::size_t>(nwave_);
    const std::size_t block = order * denseStride() * lanes_;
    // Rows of the last matrix are read a little past their end.
    left_.require(static_cast<std::size_t>(nspec_ + 1) * block + 8 * lanes_);
    right_.require(block + 8 * lanes_);
    work_.require(std::max(2 * block + 16 * order * lanes_,
                           order * (band + 1) * lanes_ + HWY_DYNAMIC_DISPATCH(WorkSize)(nwave_) * lanes_));
}

void LaneSolver::clearSpare() {
    const std::size_t block = static_cast<std::size_t>(nwave_) * denseStride() * lanes_;
    std::fill_n(left_.data() + static_cast<std::size_t>(nspec_) * block, block, 0.0);
    for (int i = 0; i < nwave_; ++i) {
        std::fill_n(schur(nspec_, i, i), lanes_, 1.0);
        std::fill_n(x(nspec_, i), lanes_, 0.0);
    }
}

void LaneSolver::copyToSpare(int spectrum, std::size_t lane, std::size_t spareLane) {
    for (int i = 0; i < nwave_; ++i) {
        const double* from = schur(spectrum, i, i) + lane;
        double* to = schur(nspec_, i, i) + spareLane;
        for (std::size_t k = 0; k < static_cast<std::size_t>(nwave_ - i) * lanes_; k += lanes_) to[k] = from[k];
        x(nspec_, i)[spareLane] = x(spectrum, i)[lane];
    }
}

void LaneSolver::rootCorrected(int spectrum) {
    HWY_DYNAMIC_DISPATCH(RootCorrected)(view(spectrum, spectrum + 1), spectrum);
}

void LaneSolver::solveDense(int coreFirst, int coreLast, bool withXflux) {
    requireDense();
    HWY_DYNAMIC_DISPATCH(SolveDense)(view(coreFirst, coreLast), withXflux);
}

void LaneSolver::rootDense(int spectrum) { HWY_DYNAMIC_DISPATCH(RootDense)(view(spectrum, spectrum + 1), spectrum); }

void LaneSolver::solve(int coreFirst, int coreLast) { HWY_DYNAMIC_DISPATCH(Solve)(view(coreFirst, coreLast)); }

} // namespace patchlight
#endif
