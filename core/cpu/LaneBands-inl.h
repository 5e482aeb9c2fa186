/// Banded symmetric matrices in vector lanes: what LaneSolver and SeamlessSolver share. Compiled once for each instruction set, by inclusion after
/// <hwy/highway.h>.

#if defined(PATCHLIGHT_LANE_BANDS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef PATCHLIGHT_LANE_BANDS_INL_H
#undef PATCHLIGHT_LANE_BANDS_INL_H
#else
#define PATCHLIGHT_LANE_BANDS_INL_H
#endif

#include "core/cpu/Unroll.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <type_traits>

#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace patchlight::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using Tag = hn::CappedTag<double, 8>;
using Vec = hn::Vec<Tag>;

/// Columns that a forward substitution carries at once: as many accumulators as hide the latency of a multiply-add.
inline constexpr int blockColumns = 8;

/// to -= E x, with the next spectrum's x, or E^T x, with that of the one before. @param v  a solver's view: nwave, reach, next
template <class View>
HWY_INLINE void subtractCoupling(const View& v, int spectrum, bool fromNext, const double* x, double* to) {
    const Tag d;
    const std::size_t step = hn::Lanes(d);
    const int n = v.nwave;
    const std::size_t nextWidth = static_cast<std::size_t>(2 * v.reach + 1);
    const double* e = v.next + static_cast<std::size_t>((fromNext ? spectrum : spectrum - 1) * n) * nextWidth * step;
    for (int i = 0; i < n; ++i) {
        Vec sum = hn::Load(d, to + static_cast<std::size_t>(i) * step);
        for (int j = std::max(0, i - v.reach); j <= std::min(n - 1, i + v.reach); ++j) {
            const std::size_t row = static_cast<std::size_t>(fromNext ? i : j);
            const std::size_t column = static_cast<std::size_t>((fromNext ? j - i : i - j) + v.reach);
            sum = hn::NegMulAdd(hn::Load(d, e + (row * nextWidth + column) * step),
                                hn::Load(d, x + static_cast<std::size_t>(j) * step), sum);
        }
        hn::Store(sum, d, to + static_cast<std::size_t>(i) * step);
    }
}

/// Banded matrices of order n with W off-diagonals, upper triangle by rows: (i, i + delta) at [i (W + 1) + delta][lanes].
template <int W> struct LaneBands {
    static constexpr std::size_t width = W + 1;

    static HWY_INLINE Vec load(const double* p) { return hn::Load(Tag(), p); }
    static HWY_INLINE void store(Vec v, double* p) { hn::Store(v, Tag(), p); }
    static HWY_INLINE std::size_t lanes() { return hn::Lanes(Tag()); }

    /// A = U^T U: factor holds U's rows with 1/u_ii in place of u_ii. W rows of zeros must precede `factor`.
    /// @param rowLength  of `a`, of which more diagonals may be stored; @param reciprocalRoot  (row, pivot) -> 1/sqrt(pivot), or 0 to take that bin out:
    /// a row of zeros is what an infinite pivot would leave
    template <class Pivot>
    static HWY_INLINE void cholesky(const double* a, std::size_t rowLength, int n, double* factor,
                                    const Pivot& reciprocalRoot) {
        const std::size_t step = lanes();
        const std::ptrdiff_t lane = static_cast<std::ptrdiff_t>(step);
        const std::ptrdiff_t rowStep = (W + 1) * lane;
        for (int i = 0; i < n; ++i) {
            Vec t[W + 1];
            const double* row = a + static_cast<std::size_t>(i) * rowLength * step;
            PATCHLIGHT_UNROLL
            for (int delta = 0; delta <= W; ++delta) t[delta] = load(row + static_cast<std::size_t>(delta) * step);
            // The row before comes last, here and below: it was made last, and nothing should wait for it longer than it must.
            PATCHLIGHT_UNROLL
            for (int m = W; m >= 1; --m) {
                const double* before = factor + (static_cast<std::ptrdiff_t>(i) - m) * rowStep;
                const Vec v = load(before + m * lane);
                PATCHLIGHT_UNROLL
                for (int delta = 0; delta <= W - m; ++delta)
                    t[delta] = hn::NegMulAdd(v, load(before + (m + delta) * lane), t[delta]);
            }
            const Vec inverse = reciprocalRoot(i, t[0]);
            double* out = factor + static_cast<std::size_t>(i) * width * step;
            store(inverse, out);
            PATCHLIGHT_UNROLL
            for (int delta = 1; delta <= W; ++delta)
                store(hn::Mul(t[delta], inverse), out + static_cast<std::size_t>(delta) * step);
        }
    }

    /// One shifted factorisation S + shift = U^T D U (unit U): unit rows in `unit`, d in `pivot`, 1/d in `inverse`; with `one` and `x` the
    /// first half of two solves on the way: D^-1 U^-T 1 in `one`, D^-1 U^-T `from` in `x`. W rows of zeros must precede all but `s` and
    /// `from`. @return smallest pivot (NaN stays NaN)
    template <bool Solve>
    static HWY_INLINE Vec factorise(const double* s, Vec shift, int n, double* unit, double* pivot, double* inverse,
                                    double* one, const double* from, double* x) {
        const Tag d;
        const std::ptrdiff_t step = static_cast<std::ptrdiff_t>(lanes());
        constexpr std::ptrdiff_t rowLength = W + 1;
        Vec lowest = hn::Set(d, 1e300);
        for (std::ptrdiff_t i = 0; i < n; ++i) {
            Vec t[W + 1];
            const double* row = s + i * rowLength * step;
            PATCHLIGHT_UNROLL
            for (int delta = 0; delta <= W; ++delta) t[delta] = load(row + delta * step);
            t[0] = hn::Add(t[0], shift);
            Vec b1 = hn::Set(d, 1.0);
            Vec bx = Solve ? load(from + i * step) : hn::Zero(d);
            PATCHLIGHT_UNROLL
            for (int m = W; m >= 1; --m) {
                const double* before = unit + (i - m) * rowLength * step;
                const Vec u = load(before + m * step);
                const Vec v = hn::Mul(u, load(pivot + (i - m) * step));
                t[0] = hn::NegMulAdd(v, u, t[0]);
                if (Solve) {
                    b1 = hn::NegMulAdd(v, load(one + (i - m) * step), b1);
                    bx = hn::NegMulAdd(v, load(x + (i - m) * step), bx);
                }
                PATCHLIGHT_UNROLL
                for (int delta = 1; delta <= W - m; ++delta)
                    t[delta] = hn::NegMulAdd(v, load(before + (m + delta) * step), t[delta]);
            }
            lowest = hn::IfThenElse(hn::Gt(t[0], lowest), lowest, t[0]); // keeps NaN
            const Vec reciprocal = hn::Div(hn::Set(d, 1.0), t[0]);
            store(t[0], pivot + i * step);
            store(reciprocal, inverse + i * step);
            if (Solve) {
                store(hn::Mul(b1, reciprocal), one + i * step);
                store(hn::Mul(bx, reciprocal), x + i * step);
            }
            double* u = unit + i * rowLength * step;
            PATCHLIGHT_UNROLL
            for (int delta = 1; delta <= W; ++delta) store(hn::Mul(t[delta], reciprocal), u + delta * step);
        }
        return lowest;
    }

    /// x = U^-1 x in place. W zeros must follow x.
    static HWY_INLINE void backward(const double* unit, int n, double* x) {
        const std::size_t step = lanes();
        for (int i = n - 1; i >= 0; --i) {
            Vec sum = load(x + static_cast<std::size_t>(i) * step);
            for (int m = std::min(W, n - 1 - i); m >= 1; --m)
                sum = hn::NegMulAdd(
                    load(unit + (static_cast<std::size_t>(i) * width + static_cast<std::size_t>(m)) * step),
                    load(x + static_cast<std::size_t>(i + m) * step), sum);
            store(sum, x + static_cast<std::size_t>(i) * step);
        }
    }

    /// Adds `factor` (U^T D U)^-1 b to q1 and qx, for b = z1 and zx, which it overwrites. W zeros must precede and follow z1 and zx, and W rows of zeros `unit`.
    static HWY_INLINE void addSolutions(const double* unit, const double* inverse, int n, Vec factor, double* z1,
                                        double* zx, double* q1, double* qx) {
        const std::ptrdiff_t step = static_cast<std::ptrdiff_t>(lanes());
        constexpr std::ptrdiff_t rowLength = W + 1;
        for (std::ptrdiff_t i = 0; i < n; ++i) {
            Vec one = load(z1 + i * step);
            Vec x = load(zx + i * step);
            PATCHLIGHT_UNROLL
            for (std::ptrdiff_t m = W; m >= 1; --m) {
                const Vec u = load(unit + ((i - m) * rowLength + m) * step);
                one = hn::NegMulAdd(u, load(z1 + (i - m) * step), one);
                x = hn::NegMulAdd(u, load(zx + (i - m) * step), x);
            }
            store(one, z1 + i * step);
            store(x, zx + i * step);
        }
        for (std::ptrdiff_t i = n - 1; i >= 0; --i) {
            const Vec reciprocal = load(inverse + i * step);
            Vec one = hn::Mul(load(z1 + i * step), reciprocal);
            Vec x = hn::Mul(load(zx + i * step), reciprocal);
            PATCHLIGHT_UNROLL
            for (std::ptrdiff_t m = W; m >= 1; --m) {
                const Vec u = load(unit + (i * rowLength + m) * step);
                one = hn::NegMulAdd(u, load(z1 + (i + m) * step), one);
                x = hn::NegMulAdd(u, load(zx + (i + m) * step), x);
            }
            store(one, z1 + i * step);
            store(x, zx + i * step);
            store(hn::MulAdd(factor, one, load(q1 + i * step)), q1 + i * step);
            store(hn::MulAdd(factor, x, load(qx + i * step)), qx + i * step);
        }
    }

    /// Diagonals W + 1 to `wide` of a symmetric matrix S, upper triangle: (i, j) at elements[i rowStep + j lanes].
    struct Outer {
        const double* elements;
        std::size_t rowStep;
        int wide;
    };

    /// C u1 and C ux, C what `outer` holds: R rows from i0 at a time, so that an element is loaded once for its row and its column.
    template <int R>
    static HWY_INLINE void multiplyOuterRows(const Outer& outer, std::ptrdiff_t n, std::ptrdiff_t i0, const double* u1,
                                             const double* ux, double* z1, double* zx) {
        const std::ptrdiff_t step = static_cast<std::ptrdiff_t>(lanes());
        const std::ptrdiff_t wide = outer.wide;
        const double* const from = outer.elements + static_cast<std::size_t>(i0) * outer.rowStep;
        Vec own1[R];
        Vec ownX[R];
        Vec sum1[R];
        Vec sumX[R];
        PATCHLIGHT_UNROLL
        for (std::ptrdiff_t r = 0; r < R; ++r) {
            own1[r] = load(u1 + (i0 + r) * step);
            ownX[r] = load(ux + (i0 + r) * step);
            sum1[r] = load(z1 + (i0 + r) * step);
            sumX[r] = load(zx + (i0 + r) * step);
        }
        const auto column = [&](std::ptrdiff_t j, auto inside) {
            const Vec their1 = load(u1 + j * step);
            const Vec theirX = load(ux + j * step);
            Vec other1 = load(z1 + j * step);
            Vec otherX = load(zx + j * step);
            PATCHLIGHT_UNROLL
            for (std::ptrdiff_t r = 0; r < R; ++r) {
                const std::ptrdiff_t k = j - i0 - r;
                const Vec c = inside || (k > W && k <= wide)
                                  ? load(from + static_cast<std::size_t>(r) * outer.rowStep + j * step)
                                  : hn::Zero(Tag());
                sum1[r] = hn::MulAdd(c, their1, sum1[r]);
                sumX[r] = hn::MulAdd(c, theirX, sumX[r]);
                other1 = hn::MulAdd(c, own1[r], other1);
                otherX = hn::MulAdd(c, ownX[r], otherX);
            }
            store(other1, z1 + j * step);
            store(otherX, zx + j * step);
        };
        const std::ptrdiff_t begin = i0 + W + 1;
        const std::ptrdiff_t all = begin + R - 1; // from here to i0 + wide every row has an element
        const std::ptrdiff_t end = std::min(n, i0 + R + wide);
        for (std::ptrdiff_t j = begin; j < std::min(all, end); ++j) column(j, std::false_type());
        for (std::ptrdiff_t j = all; j < std::min(i0 + wide + 1, end); ++j) column(j, std::true_type());
        for (std::ptrdiff_t j = i0 + wide + 1; j < end; ++j) column(j, std::false_type());
        PATCHLIGHT_UNROLL
        for (std::ptrdiff_t r = 0; r < R; ++r) {
            store(sum1[r], z1 + (i0 + r) * step);
            store(sumX[r], zx + (i0 + r) * step);
        }
    }

    /// What the diagonals beyond the band add to solutions u of (B + p) u = b, B the band of S = B + C:
    /// (S + p)^-1 b = u - z + ..., z = (B + p)^-1 C u. Adds `factor` z, for b = 1 and b = x, to q1 and qx; what is left enters squared.
    /// @param u1, ux  solutions; unit, inverse  factors of B + p; z1, zx  work, with W zeros before and behind
    /// Cost: n (4 (wide - W) + 4 W).
    static HWY_INLINE void refine(const Outer& outer, int n, const double* unit, const double* inverse, Vec factor,
                                  const double* u1, const double* ux, double* z1, double* zx, double* q1, double* qx) {
        const std::size_t vectorSize = static_cast<std::size_t>(n) * lanes();
        std::memset(z1, 0, vectorSize * sizeof(double));
        std::memset(zx, 0, vectorSize * sizeof(double));
        constexpr int together = hn::MaxLanes(Tag()) == 8 ? 4 : 2; // as the registers allow
        int i = 0;
        for (; i + together <= n; i += together) multiplyOuterRows<together>(outer, n, i, u1, ux, z1, zx);
        for (; i < n; ++i) multiplyOuterRows<1>(outer, n, i, u1, ux, z1, zx);
        addSolutions(unit, inverse, n, factor, z1, zx, q1, qx);
    }

    /// Rows of the inverse's band that subtractInverse() holds: it needs the last W, and moves these up when it has come down to the first.
    static constexpr int inverseRows = 3 * W;

    /// Subtracts `factor` times the band of (U^T D U)^-1 (Takahashi's recurrence), of its product with 1 and with x from q, q1 and qx.
    /// @param z  work, inverseRows rows; b1, bx: D^-1 U^-T 1 and x, followed by W zeros
    static HWY_INLINE void subtractInverse(const double* unit, const double* inverse, int n, Vec factor, double* b1,
                                           double* bx, double* z, int ndiag, double* q, double* q1, double* qx) {
        const std::ptrdiff_t step = static_cast<std::ptrdiff_t>(lanes());
        constexpr std::ptrdiff_t rowLength = W + 1;
        // The rows after the last are zero.
        double* zi = z + (inverseRows - W) * rowLength * step;
        std::memset(zi, 0, static_cast<std::size_t>(W * rowLength * step) * sizeof(double));
        for (std::ptrdiff_t i = n - 1; i >= 0; --i) {
            if (zi == z) {
                zi = z + (inverseRows - W) * rowLength * step;
                std::memcpy(zi, z, static_cast<std::size_t>(W * rowLength * step) * sizeof(double));
            }
            const double* below = zi - rowLength * step; // so that row i + m is m rows on
            zi -= rowLength * step;
            const double* u = unit + i * rowLength * step;
            Vec one = load(b1 + i * step);
            Vec x = load(bx + i * step);
            Vec t[W + 1];
            PATCHLIGHT_UNROLL
            for (int delta = 1; delta <= W; ++delta) t[delta] = hn::Zero(Tag());
            PATCHLIGHT_UNROLL
            for (int m = W; m >= 1; --m) {
                const Vec um = load(u + m * step);
                one = hn::NegMulAdd(um, load(b1 + (i + m) * step), one);
                x = hn::NegMulAdd(um, load(bx + (i + m) * step), x);
                // Z(i + m, i + delta), from the upper triangle.
                PATCHLIGHT_UNROLL
                for (int delta = 1; delta <= W; ++delta) {
                    const int r = m < delta ? m : delta;
                    const int c = m < delta ? delta - m : m - delta;
                    t[delta] = hn::NegMulAdd(um, load(below + (r * rowLength + c) * step), t[delta]);
                }
            }
            Vec part[4] = {load(inverse + i * step), hn::Zero(Tag()), hn::Zero(Tag()), hn::Zero(Tag())};
            PATCHLIGHT_UNROLL
            for (int m = W; m >= 1; --m) part[m % 4] = hn::NegMulAdd(load(u + m * step), t[m], part[m % 4]);
            t[0] = hn::Add(hn::Add(part[0], part[1]), hn::Add(part[2], part[3]));
            PATCHLIGHT_UNROLL
            for (int delta = 0; delta <= W; ++delta) store(t[delta], zi + delta * step);
            store(one, b1 + i * step);
            store(x, bx + i * step);

            double* qi = q + i * (ndiag + 1) * step;
            for (int delta = 0; delta <= std::min(ndiag, W); ++delta)
                store(hn::NegMulAdd(factor, load(zi + delta * step), load(qi + delta * step)), qi + delta * step);
            store(hn::NegMulAdd(factor, one, load(q1 + i * step)), q1 + i * step);
            store(hn::NegMulAdd(factor, x, load(qx + i * step)), qx + i * step);
        }
    }
};

} // namespace patchlight::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
