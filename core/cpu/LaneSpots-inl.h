/// Spots in vector lanes: what SpotRows and SpotTile share. Compiled once for each instruction set, by inclusion after <hwy/highway.h>.

#ifndef PATCHLIGHT_LANE_SPOTS_ONCE
#define PATCHLIGHT_LANE_SPOTS_ONCE

#include "core/cpu/Unroll.h"
#include "core/psf/GaussHermite.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <numbers>
#include <type_traits>

#include <hwy/highway.h>

namespace patchlight {

/// erfc without its Gaussian, (1 + 2 t) exp(t^2) erfc(t), as a Chebyshev series in (t - 3)/(t + 3): smooth on all t >= 0, so one series
/// gives erf to rounding (the idea of Shepherd & Laframboise 1981, Math. Comp. 36, 249). Fitted here, from the C library's erfc.
struct ScaledErfc {
    static constexpr int terms = 25; // the next is 2e-19
    static constexpr double centre = 3.0;
    std::array<double, terms> coefficient{};

    ScaledErfc() {
        constexpr int nodes = 64;
        std::array<long double, nodes> value{};
        for (int k = 0; k < nodes; ++k) {
            const long double q = std::cos(std::numbers::pi_v<long double> * (k + 0.5L) / nodes);
            const long double t = centre * (1 + q) / (1 - q);
            long double scaled = 0;
            if (t < 3.0L) {
                scaled = std::exp(t * t) * std::erfc(t);
            } else { // continued fraction, DLMF 7.9.1; exp(t^2) would leave the range of double, which is all that some machines have
                long double fraction = t;
                for (int n = 120; n > 0; --n) fraction = t + 0.5L * n / fraction;
                scaled = 1 / (fraction * std::sqrt(std::numbers::pi_v<long double>));
            }
            value[static_cast<std::size_t>(k)] = (1 + 2 * t) * scaled;
        }
        std::array<long double, terms> series{};
        for (int n = 0; n < terms; ++n) {
            long double sum = 0;
            for (int k = 0; k < nodes; ++k)
                sum += value[static_cast<std::size_t>(k)] *
                       std::cos(std::numbers::pi_v<long double> * n * (k + 0.5L) / nodes);
            series[static_cast<std::size_t>(n)] = sum * (n == 0 ? 1 : 2) / nodes;
        }
        // As powers of the variable: the series falls faster (by 5 a term) than Chebyshev polynomials' coefficients grow (2.4), so that
        // nothing is lost, and Horner's rule takes half of what Clenshaw's does.
        std::array<long double, terms> before{1};
        std::array<long double, terms> here{0, 1};
        std::array<long double, terms> power{};
        for (std::size_t n = 0; n < terms; ++n) {
            for (std::size_t m = 0; m < terms; ++m) power[m] += series[n] * before[m];
            std::array<long double, terms> next{};
            for (std::size_t m = 0; m < terms; ++m) next[m] = (m > 0 ? 2 * here[m - 1] : 0) - before[m];
            before = here;
            here = next;
        }
        for (std::size_t m = 0; m < terms; ++m) coefficient[m] = static_cast<double>(power[m]);
    }
    static const ScaledErfc& get() {
        static const ScaledErfc one;
        return one;
    }
};

/// One group of bins side by side in vector lanes, while its spots are evaluated, each on its own stamp.
struct SpotGroup {
    const PsfView* psf;
    int spectrum;
    const double* wavelength; ///< [lanes]
    const double* x;          ///< centre from the stamp's corner, pixels
    const double* y;
    bool tail;
};

/// Numbers of work that evaluateGroup() needs.
inline std::size_t spotGroupWork(const PsfView& psf, int lanes) {
    const int highest = std::max({psf.degX, psf.degY, psf.degX2, psf.degY2}) + 1;
    const int longest = std::max(psf.stampX(), psf.stampY());
    return static_cast<std::size_t>(lanes) *
           static_cast<std::size_t>(psf.nparam + highest * (psf.stampX() + psf.stampY()) + 3 * (longest + 1));
}

/// to[c * toStride] = scale from[c * fromStride], one by one: strides that the compiler knows tempt it into shuffling vectors, which takes twice
/// as long.
HWY_NOINLINE inline void scaleStrided(const double* from, std::size_t fromStride, double* to, std::size_t toStride,
                                      int count, double scale) {
    for (int c = 0; c < count; ++c, from += fromStride, to += toStride) *to = scale * *from;
}

} // namespace patchlight
#endif

#if defined(PATCHLIGHT_LANE_SPOTS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef PATCHLIGHT_LANE_SPOTS_INL_H
#undef PATCHLIGHT_LANE_SPOTS_INL_H
#else
#define PATCHLIGHT_LANE_SPOTS_INL_H
#endif

#include <hwy/contrib/math/math-inl.h>

HWY_BEFORE_NAMESPACE();
namespace patchlight::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
/// Most lanes of a vector.
inline constexpr int mostLanes = 8;
using Tag = hn::CappedTag<double, mostLanes>;
using Vec = hn::Vec<Tag>;

/// Gaussian g(e) and erf(e / sqrt 2).
HWY_INLINE void gaussianAndErf(Vec e, Vec& gauss, Vec& erf) {
    const Tag d;
    const ScaledErfc& series = ScaledErfc::get();
    const Vec bell = hn::Exp(d, hn::Mul(hn::Set(d, -0.5), hn::Mul(e, e)));
    gauss = hn::Mul(bell, hn::Set(d, 0.39894228040143267794));
    const Vec t = hn::Mul(hn::Abs(e), hn::Set(d, 0.70710678118654752440));
    const Vec centre = hn::Set(d, ScaledErfc::centre);
    const Vec q = hn::Div(hn::Sub(t, centre), hn::Add(t, centre));
    // Horner's rule for even and for odd powers, side by side.
    const Vec q2 = hn::Mul(q, q);
    static_assert(ScaledErfc::terms % 2 == 1);
    Vec even = hn::Set(d, series.coefficient[ScaledErfc::terms - 1]);
    Vec odd = hn::Zero(d);
    for (int n = ScaledErfc::terms - 2; n > 0; n -= 2) {
        odd = hn::MulAdd(q2, odd, hn::Set(d, series.coefficient[static_cast<std::size_t>(n)]));
        even = hn::MulAdd(q2, even, hn::Set(d, series.coefficient[static_cast<std::size_t>(n - 1)]));
    }
    const Vec sum = hn::MulAdd(q, odd, even);
    const Vec erfc = hn::Div(hn::Mul(bell, sum), hn::MulAdd(hn::Set(d, 2.0), t, hn::Set(d, 1.0)));
    erf = hn::CopySign(hn::Sub(hn::Set(d, 1.0), erfc), e);
}

/// Pixel-integrated Gauss-Hermite functions, as pixelGaussHermite() has them, for pixels 0 .. count - 1 of all lanes.
/// @param out [degree + 1][count][lanes]; @param work [3][count + 1][lanes]
inline void pixelFunctions(Vec position, Vec sigma, int degree, int count, double* out, double* work) {
    const Tag d;
    const std::size_t lanes = hn::Lanes(d);
    const Vec inverse = hn::Div(hn::Set(d, 1.0), sigma);
    double* edges = work;
    double* gauss = work + static_cast<std::size_t>(count + 1) * lanes;
    double* before = gauss + static_cast<std::size_t>(count + 1) * lanes;
    Vec lower = hn::Zero(d);
    for (int k = 0; k <= count; ++k) {
        const Vec e = hn::Mul(hn::Sub(hn::Sub(hn::Set(d, static_cast<double>(k)), position), hn::Set(d, 0.5)), inverse);
        Vec g;
        Vec upper;
        gaussianAndErf(e, g, upper);
        const std::size_t at = static_cast<std::size_t>(k) * lanes;
        hn::Store(e, d, edges + at);
        hn::Store(g, d, gauss + at);
        hn::Store(hn::Zero(d), d, before + at);
        if (k > 0) hn::Store(hn::Mul(hn::Set(d, 0.5), hn::Sub(upper, lower)), d, out + at - lanes);
        lower = upper;
    }
    for (int m = 1; m <= degree; ++m) {
        double* row = out + static_cast<std::size_t>(m) * static_cast<std::size_t>(count) * lanes;
        const Vec order = hn::Set(d, static_cast<double>(m - 1));
        Vec here = hn::Load(d, gauss);
        for (int k = 0; k <= count; ++k) {
            const std::size_t at = static_cast<std::size_t>(k) * lanes;
            const Vec following = k < count ? hn::Load(d, gauss + at + lanes) : here;
            if (k < count) hn::Store(hn::Sub(here, following), d, row + at);
            // He_m = e He_{m-1} - (m - 1) He_{m-2}
            const Vec next = hn::NegMulAdd(order, hn::Load(d, before + at), hn::Mul(hn::Load(d, edges + at), here));
            hn::Store(here, d, before + at);
            hn::Store(next, d, gauss + at);
            here = following;
        }
    }
}

/// R rows of addCore(), which share the loads of coefficients and of px.
template <int R>
HWY_INLINE void addCoreRows(const double* coeff, int degX, int degY, const double* px, const double* py, int columns,
                            int rows, bool add, double* stamp) {
    const Tag d;
    const std::size_t lanes = hn::Lanes(d);
    const std::size_t pxStride = static_cast<std::size_t>(columns) * lanes;
    const std::size_t pyStride = static_cast<std::size_t>(rows) * lanes;
    constexpr std::size_t most = (maxHermiteDegree + 1) * mostLanes;
    HWY_ALIGN double weight[R * most];
    const double* c = coeff;
    for (int i = 0; i <= degX; ++i) {
        Vec sum[R];
        PATCHLIGHT_UNROLL
        for (int r = 0; r < R; ++r) sum[r] = hn::Zero(d);
        for (int j = 0; j <= degY; ++j, c += lanes) {
            const Vec one = hn::Load(d, c);
            PATCHLIGHT_UNROLL
            for (int r = 0; r < R; ++r)
                sum[r] = hn::MulAdd(
                    one, hn::Load(d, py + static_cast<std::size_t>(j) * pyStride + static_cast<std::size_t>(r) * lanes),
                    sum[r]);
        }
        PATCHLIGHT_UNROLL
        for (int r = 0; r < R; ++r)
            hn::Store(sum[r], d, weight + static_cast<std::size_t>(r) * most + static_cast<std::size_t>(i) * lanes);
    }
    const auto block = [&](int k, auto width) {
        constexpr int C = decltype(width)::value;
        Vec t[R][C];
        PATCHLIGHT_UNROLL
        for (int r = 0; r < R; ++r) {
            PATCHLIGHT_UNROLL
            for (int q = 0; q < C; ++q)
                t[r][q] = add ? hn::Load(d, stamp + static_cast<std::size_t>(r) * pxStride +
                                                static_cast<std::size_t>(k + q) * lanes)
                              : hn::Zero(d);
        }
        const double* from = px + static_cast<std::size_t>(k) * lanes;
        for (int i = 0; i <= degX; ++i, from += pxStride) {
            Vec w[R];
            PATCHLIGHT_UNROLL
            for (int r = 0; r < R; ++r)
                w[r] = hn::Load(d, weight + static_cast<std::size_t>(r) * most + static_cast<std::size_t>(i) * lanes);
            PATCHLIGHT_UNROLL
            for (int q = 0; q < C; ++q) {
                const Vec x = hn::Load(d, from + static_cast<std::size_t>(q) * lanes);
                PATCHLIGHT_UNROLL
                for (int r = 0; r < R; ++r) t[r][q] = hn::MulAdd(w[r], x, t[r][q]);
            }
        }
        PATCHLIGHT_UNROLL
        for (int r = 0; r < R; ++r) {
            PATCHLIGHT_UNROLL
            for (int q = 0; q < C; ++q)
                hn::Store(t[r][q], d,
                          stamp + static_cast<std::size_t>(r) * pxStride + static_cast<std::size_t>(k + q) * lanes);
        }
    };
    int k = 0;
    for (; k + 6 <= columns; k += 6) block(k, std::integral_constant<int, 6>());
    switch (columns - k) {
    case 5:
        return block(k, std::integral_constant<int, 5>());
    case 4:
        return block(k, std::integral_constant<int, 4>());
    case 3:
        return block(k, std::integral_constant<int, 3>());
    case 2:
        return block(k, std::integral_constant<int, 2>());
    case 1:
        return block(k, std::integral_constant<int, 1>());
    default:
        return;
    }
}

/// Puts sum_ij c_ij px_i py_j into the group's stamp [rows][columns][lanes], or adds it to what is there.
inline void addCore(const double* coeff, int degX, int degY, const double* px, const double* py, int columns, int rows,
                    bool add, double* stamp) {
    const std::size_t lanes = hn::Lanes(Tag());
    const std::size_t line = static_cast<std::size_t>(columns) * lanes;
    int r = 0;
    for (; r + 2 <= rows; r += 2)
        addCoreRows<2>(coeff, degX, degY, px, py + static_cast<std::size_t>(r) * lanes, columns, rows, add,
                       stamp + static_cast<std::size_t>(r) * line);
    for (; r < rows; ++r)
        addCoreRows<1>(coeff, degX, degY, px, py + static_cast<std::size_t>(r) * lanes, columns, rows, add,
                       stamp + static_cast<std::size_t>(r) * line);
}

/// Evaluates a group's spots into stamp [stampY][stampX][lanes]; the same physics as evaluateSpot(), which documents it. @param scales out, per lane: what makes the spot's sum 1; 0 for a spot without light. @param work [spotGroupWork()]
inline void evaluateGroup(const SpotGroup& group, double* stamp, double* scales, double* work) {
    const Tag d;
    const std::size_t lanes = hn::Lanes(d);
    const PsfView& psf = *group.psf;
    const Vec wavelength = hn::LoadU(d, group.wavelength);

    // Parameters [nparam][lanes].
    double* parameter = work;
    work += static_cast<std::size_t>(psf.nparam) * lanes;
    {
        HWY_ALIGN double basis[32 * mostLanes];
        double domain[2] = {0, 0};
        const double* coeff =
            psf.coeff + static_cast<std::size_t>(group.spectrum) * static_cast<std::size_t>(psf.nparam * psf.ncoeff);
        for (int p = 0; p < psf.nparam; ++p, coeff += psf.ncoeff) {
            const double* own = psf.domain + 2 * static_cast<std::size_t>(p);
            if (p == 0 || own[0] != domain[0] || own[1] != domain[1]) {
                domain[0] = own[0];
                domain[1] = own[1];
                const Vec u = hn::Sub(
                    hn::Mul(hn::Sub(wavelength, hn::Set(d, domain[0])), hn::Set(d, 2.0 / (domain[1] - domain[0]))),
                    hn::Set(d, 1.0));
                hn::Store(hn::Set(d, 1.0), d, basis);
                if (psf.ncoeff > 1) hn::Store(u, d, basis + lanes);
                for (int n = 2; n < psf.ncoeff; ++n) {
                    const Vec one = hn::Mul(hn::Mul(hn::Set(d, static_cast<double>(2 * n - 1)), u),
                                            hn::Load(d, basis + static_cast<std::size_t>(n - 1) * lanes));
                    const Vec two = hn::Mul(hn::Set(d, static_cast<double>(n - 1)),
                                            hn::Load(d, basis + static_cast<std::size_t>(n - 2) * lanes));
                    hn::Store(hn::Div(hn::Sub(one, two), hn::Set(d, static_cast<double>(n))), d,
                              basis + static_cast<std::size_t>(n) * lanes);
                }
            }
            Vec sum = hn::Zero(d);
            for (int n = 0; n < psf.ncoeff; ++n)
                sum = hn::MulAdd(hn::Set(d, coeff[n]), hn::Load(d, basis + static_cast<std::size_t>(n) * lanes), sum);
            hn::Store(sum, d, parameter + static_cast<std::size_t>(p) * lanes);
        }
    }
    const auto value = [&](int p) { return hn::Load(d, parameter + static_cast<std::size_t>(p) * lanes); };

    const int columns = psf.stampX();
    const int rows = psf.stampY();
    const int highest = std::max({psf.degX, psf.degY, psf.degX2, psf.degY2}) + 1;
    double* px = work;
    double* py = px + static_cast<std::size_t>(highest * columns) * lanes;
    double* scratch = py + static_cast<std::size_t>(highest * rows) * lanes;
    const Vec x = hn::LoadU(d, group.x);
    const Vec y = hn::LoadU(d, group.y);
    pixelFunctions(x, value(SigmaX), psf.degX, columns, px, scratch);
    pixelFunctions(y, value(SigmaY), psf.degY, rows, py, scratch);
    addCore(parameter + static_cast<std::size_t>(psf.ghOffset()) * lanes, psf.degX, psf.degY, px, py, columns, rows,
            false, stamp);

    const auto offsets = [&](int r, int k, Vec& dx, Vec& dy) {
        dx = hn::Sub(hn::Set(d, static_cast<double>(k)), x);
        dy = hn::Sub(hn::Set(d, static_cast<double>(r)), y);
    };
    if (psf.type == PsfType::GaussHermite2) {
        const Vec cut = hn::Mul(value(NSigma), value(NSigma));
        for (int r = 0; r < rows; ++r)
            for (int k = 0; k < columns; ++k) {
                Vec dx;
                Vec dy;
                offsets(r, k, dx, dy);
                dx = hn::Div(dx, value(SigmaX));
                dy = hn::Div(dy, value(SigmaY));
                double* p = stamp + static_cast<std::size_t>(r * columns + k) * lanes;
                hn::Store(hn::IfThenElseZero(hn::Lt(hn::MulAdd(dx, dx, hn::Mul(dy, dy)), cut), hn::Load(d, p)), d, p);
            }
        pixelFunctions(x, value(SigmaX2), psf.degX2, columns, px, scratch);
        pixelFunctions(y, value(SigmaY2), psf.degY2, rows, py, scratch);
        addCore(parameter + static_cast<std::size_t>(psf.gh2Offset()) * lanes, psf.degX2, psf.degY2, px, py, columns,
                rows, true, stamp);
    }
    if (group.tail && psf.hasTail) {
        const Vec core2 = hn::Mul(value(TailCore), value(TailCore));
        const Vec power = hn::MulAdd(hn::Set(d, -0.5), value(TailIndex), hn::Set(d, -1.0));
        for (int r = 0; r < rows; ++r)
            for (int k = 0; k < columns; ++k) {
                Vec dx;
                Vec dy;
                offsets(r, k, dx, dy);
                dx = hn::Mul(dx, value(TailScaleX));
                dy = hn::Mul(dy, value(TailScaleY));
                const Vec r2 = hn::MulAdd(dx, dx, hn::Mul(dy, dy));
                const Vec below =
                    hn::Exp(d, hn::Mul(power, hn::Log(d, hn::Max(hn::Add(core2, r2), hn::Set(d, 1e-300)))));
                double* p = stamp + static_cast<std::size_t>(r * columns + k) * lanes;
                hn::Store(hn::MulAdd(hn::Mul(value(TailAmplitude), r2), below, hn::Load(d, p)), d, p);
            }
    }

    // Clipped at zero. NaN compares as not positive.
    Vec partial[4] = {hn::Zero(d), hn::Zero(d), hn::Zero(d),
                      hn::Zero(d)}; // so that no addition waits for the one before
    const int pixels = rows * columns;
    const auto clip = [&](int i, Vec& sum) {
        double* p = stamp + static_cast<std::size_t>(i) * lanes;
        const Vec v = hn::Load(d, p);
        const Vec kept = hn::IfThenElseZero(hn::Gt(v, hn::Zero(d)), v);
        hn::Store(kept, d, p);
        sum = hn::Add(sum, kept);
    };
    int i = 0;
    for (; i + 4 <= pixels; i += 4) {
        clip(i, partial[0]);
        clip(i + 1, partial[1]);
        clip(i + 2, partial[2]);
        clip(i + 3, partial[3]);
    }
    for (; i < pixels; ++i) clip(i, partial[0]);
    const Vec sum = hn::Add(hn::Add(partial[0], partial[1]), hn::Add(partial[2], partial[3]));
    const auto usable = hn::And(hn::Gt(sum, hn::Zero(d)), hn::Lt(sum, hn::Set(d, 1e300)));
    hn::StoreU(hn::IfThenElseZero(usable, hn::Div(hn::Set(d, 1.0), sum)), d, scales);
}

} // namespace patchlight::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
