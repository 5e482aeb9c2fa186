#include "core/cpu/SpotRows.h"

#include "core/cpu/Unroll.h"
#include "core/engine/Physics.h"
#include "core/psf/GaussHermite.h"
#include "core/psf/Traces.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <numbers>
#include <type_traits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/cpu/SpotRows.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <hwy/cache_control.h>

#include <hwy/contrib/math/math-inl.h>

#ifndef PATCHLIGHT_SPOT_ROWS_ONCE
#define PATCHLIGHT_SPOT_ROWS_ONCE
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

/// Pixels that a trace may move sideways within a spot's height.
inline constexpr int mostSlant = 16;

/// One group of bins side by side in vector lanes, while its spots are evaluated, each on its own stamp.
struct SpotGroup {
    const PsfView* psf;
    int spectrum;
    const double* wavelength; ///< [lanes]
    const double* x;          ///< centre from the stamp's corner, pixels
    const double* y;
    bool tail;
};

/// to[c * toStride] = scale from[c * fromStride], one by one: strides that the compiler knows tempt it into shuffling vectors, which takes twice
/// as long.
HWY_NOINLINE void scaleStrided(const double* from, std::size_t fromStride, double* to, std::size_t toStride, int count,
                               double scale) {
    for (int c = 0; c < count; ++c, from += fromStride, to += toStride) *to = scale * *from;
}

} // namespace patchlight
#endif

HWY_BEFORE_NAMESPACE();
namespace patchlight::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using Tag = hn::CappedTag<double, SpotRows::fewSlots>;
/// Most lanes of a vector.
inline constexpr int mostLanes = SpotRows::fewSlots;
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
void pixelFunctions(Vec position, Vec sigma, int degree, int count, double* out, double* work) {
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
void addCore(const double* coeff, int degX, int degY, const double* px, const double* py, int columns, int rows,
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

/// Evaluates a group's spots into stamp [stampY][stampX][lanes]; the same physics as evaluateSpot(), which documents it. @param scales out, per lane: what makes the spot's sum 1; 0 for a spot without light
void evaluateGroup(const SpotGroup& group, double* stamp, double* scales, double* work) {
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

template <int Slots>
void evaluateGroupOf(SpotRows& spots, const PsfView& psf, const WavelengthGrid& grid, bool withTail, int group0) {
    const Tag d;
    const int lanes = static_cast<int>(hn::Lanes(d));
    const int parts = Slots / lanes;
    const IndexRange bins = spots.bins();
    const IndexRange rows = spots.rows();
    const int width = spots.width();
    const int stampX = spots.stampX();
    const int stampY = spots.stampY();
    const int highest = std::max({psf.degX, psf.degY, psf.degX2, psf.degY2}) + 1;
    const std::size_t stampSize = static_cast<std::size_t>(stampX * stampY * lanes);
    double* stamp =
        spots.work.require(stampSize + static_cast<std::size_t>(lanes) *
                                           static_cast<std::size_t>(psf.nparam + highest * (stampX + stampY) +
                                                                    3 * (std::max(stampX, stampY) + 1)));
    double* work = stamp + stampSize;
    const int ready = spots.rowsReady(group0);

    for (int spectrum = spots.spectra().first; spectrum < spots.spectra().last; ++spectrum) {
        for (int part = 0; part < parts; ++part) {
            const std::size_t slot0 = static_cast<std::size_t>(part * lanes);
            int& touched = spots.touched(spectrum, part); // rows before it have been written
            const auto clearTo = [&](int end) {
                for (; touched < std::min(end, rows.last); ++touched) {
                    double* out = spots.row(spectrum, touched) + slot0;
                    for (int c = 0; c < width; ++c)
                        hn::Store(hn::Zero(d), d, out + static_cast<std::size_t>(c * Slots));
                }
            };
            const int base = group0 + part * lanes;
            const int first = std::max(base, bins.first);
            const int last = std::min(base + lanes, bins.last);
            if (first < last) {
                HWY_ALIGN double wavelength[mostLanes];
                HWY_ALIGN double x[mostLanes];
                HWY_ALIGN double y[mostLanes];
                HWY_ALIGN double scales[mostLanes];
                for (int lane = 0; lane < lanes; ++lane) {
                    const int bin = std::clamp(base + lane, first, last - 1);
                    wavelength[lane] = grid.wavelength(bin);
                    x[lane] = *spots.traceX(spectrum, bin) - spots.cornerX(spectrum, bin);
                    y[lane] = *spots.traceY(spectrum, bin) - spots.cornerY(spectrum, bin);
                }
                evaluateGroup({&psf, spectrum, wavelength, x, y, withTail}, stamp, scales, work);

                clearTo(spots.cornerY(spectrum, last - 1) + stampY);
                for (int bin = first; bin < last; ++bin) {
                    const int lane = bin - base;
                    const double scale = scales[lane];
                    spots.setSpotSum(spectrum, bin, scale > 0.0 ? 1.0 : 0.0);
                    if (!(scale > 0.0)) continue;
                    const int corner = spots.cornerY(spectrum, bin);
                    for (int row = std::max(corner, rows.first); row < std::min(corner + stampY, rows.last); ++row) {
                        const double* from = stamp + (row - corner) * stampX * lanes + lane;
                        double* to = spots.row(spectrum, row) + slot0 + lane +
                                     (spots.cornerX(spectrum, bin) - spots.columnOrigin(spectrum, row)) * Slots;
                        scaleStrided(from, static_cast<std::size_t>(lanes), to, Slots, stampX, scale);
                    }
                }
            }
            clearTo(ready); // rows that others may use now, where these slots have no light
        }
    }
}

void EvaluateGroup(SpotRows& spots, const PsfView& psf, const WavelengthGrid& grid, bool withTail, int group0) {
    if (spots.slotCount() == SpotRows::fewSlots)
        evaluateGroupOf<SpotRows::fewSlots>(spots, psf, grid, withTail, group0);
    else
        evaluateGroupOf<SpotRows::manySlots>(spots, psf, grid, withTail, group0);
}

/// acc[a][part ..] += sum over columns of w[c] left[c][a] right[c][part ..], for B values of a and one vector of slots.
template <int Slots, int B>
HWY_INLINE void addProductsOf(const double* weight, const double* left, const double* right, int columns, double* acc) {
    const Tag d;
    Vec sum[B];
    PATCHLIGHT_UNROLL
    for (int a = 0; a < B; ++a) sum[a] = hn::Load(d, acc + a * Slots);
    for (int c = 0; c < columns; ++c, left += Slots, right += Slots) {
        const Vec r = hn::Mul(hn::Set(d, weight[c]), hn::Load(d, right));
        PATCHLIGHT_UNROLL
        for (int a = 0; a < B; ++a) sum[a] = hn::MulAdd(hn::Set(d, left[a]), r, sum[a]);
    }
    PATCHLIGHT_UNROLL
    for (int a = 0; a < B; ++a) hn::Store(sum[a], d, acc + a * Slots);
}

/// Which of the slots [first, first + count) bins take: their hull, empty where none does.
template <int Slots> HWY_INLINE IndexRange slotsTaken(IndexRange bins, int first, int count) {
    IndexRange taken{count, 0};
    for (int bin = bins.first; bin < bins.last; ++bin) {
        const int slot = bin % Slots - first;
        if (slot < 0 || slot >= count) continue;
        taken.first = std::min(taken.first, slot);
        taken.last = std::max(taken.last, slot + 1);
    }
    return taken;
}

/// acc[a][:] += sum over columns of w[c] left[c][a] right[c][:], for the slots that the bins on the row take.
/// @param self left and right are of one spectrum: only what selfProduct() reads
template <int Slots>
HWY_INLINE void addProducts(const double* weight, const double* left, IndexRange leftBins, const double* right,
                            IndexRange rightBins, int columns, bool self, double* acc) {
    constexpr int blockSlots = SpotRows::fewSlots;
    const int lanes = static_cast<int>(hn::Lanes(Tag()));
    if constexpr (Slots == blockSlots) {
        for (int part = 0; part < Slots; part += lanes)
            addProductsOf<Slots, blockSlots>(weight, left, right + part, columns, acc + part);
        return;
    }
    for (int block = 0; block < Slots; block += blockSlots) {
        const IndexRange taken = slotsTaken<Slots>(leftBins, block, blockSlots);
        if (taken.empty()) continue;
        const double* from = left + block + taken.first;
        double* to = acc + (block + taken.first) * Slots;
        for (int part = self ? block : 0; part < Slots; part += lanes) {
            if (slotsTaken<Slots>(rightBins, part, lanes).empty()) continue;
            const auto add = [&](auto count) {
                addProductsOf<Slots, decltype(count)::value>(weight, from, right + part, columns, to + part);
            };
            switch (taken.count()) {
            case 1:
                add(std::integral_constant<int, 1>());
                break;
            case 2:
                add(std::integral_constant<int, 2>());
                break;
            case 3:
                add(std::integral_constant<int, 3>());
                break;
            case 4:
                add(std::integral_constant<int, 4>());
                break;
            case 5:
                add(std::integral_constant<int, 5>());
                break;
            case 6:
                add(std::integral_constant<int, 6>());
                break;
            case 7:
                add(std::integral_constant<int, 7>());
                break;
            default:
                add(std::integral_constant<int, 8>());
                break;
            }
        }
    }
}

/// The products of one row of spectrum s with spectrum t >= s, over the columns that both have: overwrites acc [Slots][Slots].
template <int Slots> void rowProducts(const SpotRows& spots, const double* weight, int s, int t, int row, double* acc) {
    std::memset(acc, 0, sizeof(double) * Slots * Slots);
    const int shift = spots.columnOrigin(t, row) - spots.columnOrigin(s, row);
    const int first = std::max(0, shift);
    const int last = std::min(spots.width(), spots.width() + shift);
    if (first >= last) return;
    addProducts<Slots>(weight + first, spots.row(s, row) + first * Slots, spots.active(s, row),
                       spots.row(t, row) + (first - shift) * Slots, spots.active(t, row), last - first, s == t, acc);
}

void RowProducts(const SpotRows& spots, const double* weight, int s, int t, int row, double* acc) {
    if (spots.slotCount() == SpotRows::fewSlots)
        rowProducts<SpotRows::fewSlots>(spots, weight, s, t, row, acc);
    else
        rowProducts<SpotRows::manySlots>(spots, weight, s, t, row, acc);
}

#if HWY_TARGET != HWY_SCALAR
/// In every block of two lanes, the sums of a's and of b's two.
HWY_INLINE Vec addPairs(Vec a, Vec b) {
    return hn::Add(hn::InterleaveLower(Tag(), a, b), hn::InterleaveUpper(Tag(), a, b));
}
/// Lower half: a's two halves added; upper half: b's.
HWY_INLINE Vec addHalves(Vec a, Vec b) {
    return hn::Add(hn::ConcatLowerLower(Tag(), b, a), hn::ConcatUpperUpper(Tag(), b, a));
}
#endif

/// model[c] += sum over slots of values[c][slot] flux[slot].
template <int Slots> void addModelRow(const double* values, int width, const double* flux, double* model) {
    const Tag d;
    const std::size_t lanes = hn::Lanes(d);
    constexpr std::size_t slots = Slots;
    // Rows are visited going up, several spectra in turn: too many streams for the hardware to foresee.
    const double* ahead = values + 2 * static_cast<std::size_t>(width) * slots;
    for (int c = 0; c < width; ++c) hwy::Prefetch(ahead + static_cast<std::size_t>(c) * slots);
    const auto product = [&](int c) {
        const double* from = values + static_cast<std::size_t>(c) * slots;
        Vec sum = hn::Mul(hn::Load(d, from), hn::Load(d, flux));
        for (std::size_t part = lanes; part < slots; part += lanes)
            sum = hn::MulAdd(hn::Load(d, from + part), hn::Load(d, flux + part), sum);
        return sum;
    };
    int c = 0;
#if HWY_TARGET != HWY_SCALAR
    // As many columns at a time as there are lanes: their sums over lanes are a transposition and a few additions.
    if (lanes == 8) {
        for (; c + 8 <= width; c += 8) {
            // Columns in this order come out in order.
            const Vec t01 = addPairs(product(c), product(c + 1));
            const Vec t23 = addPairs(product(c + 2), product(c + 3));
            const Vec t45 = addPairs(product(c + 4), product(c + 5));
            const Vec t67 = addPairs(product(c + 6), product(c + 7));
            const Vec even = addHalves(t01, t45);
            const Vec odd = addHalves(t23, t67);
            const Vec sums = hn::OddEvenBlocks(hn::Add(odd, hn::SwapAdjacentBlocks(odd)),
                                               hn::Add(even, hn::SwapAdjacentBlocks(even)));
            hn::StoreU(hn::Add(sums, hn::LoadU(d, model + c)), d, model + c);
        }
    } else if (lanes == 4) {
        for (; c + 4 <= width; c += 4) {
            const Vec sums = addHalves(addPairs(product(c), product(c + 1)), addPairs(product(c + 2), product(c + 3)));
            hn::StoreU(hn::Add(sums, hn::LoadU(d, model + c)), d, model + c);
        }
    } else if (lanes == 2) {
        for (; c + 2 <= width; c += 2)
            hn::StoreU(hn::Add(addPairs(product(c), product(c + 1)), hn::LoadU(d, model + c)), d, model + c);
    }
#endif
    for (; c < width; ++c) model[c] += hn::GetLane(hn::SumOfLanes(d, product(c)));
}

void AddModelRow(const double* values, int width, int slots, const double* flux, double* model) {
    if (slots == SpotRows::fewSlots)
        addModelRow<SpotRows::fewSlots>(values, width, flux, model);
    else
        addModelRow<SpotRows::manySlots>(values, width, flux, model);
}

template <int Slots>
void addChi2Row(const double* values, int width, const double* chi2, const double* counted, double* sum) {
    const Tag d;
    const std::size_t lanes = hn::Lanes(d);
    constexpr std::size_t slots = Slots;
    for (std::size_t part = 0; part < slots; part += lanes) {
        Vec above = hn::Load(d, sum + part);
        Vec below = hn::Load(d, sum + slots + part);
        for (int c = 0; c < width; ++c) {
            const Vec a = hn::Load(d, values + static_cast<std::size_t>(c) * slots + part);
            above = hn::MulAdd(hn::Set(d, chi2[c]), a, above);
            below = hn::MulAdd(hn::Set(d, counted[c]), a, below);
        }
        hn::Store(above, d, sum + part);
        hn::Store(below, d, sum + slots + part);
    }
}

void AddChi2Row(const double* values, int width, int slots, const double* chi2, const double* counted, double* sum) {
    if (slots == SpotRows::fewSlots)
        addChi2Row<SpotRows::fewSlots>(values, width, chi2, counted, sum);
    else
        addChi2Row<SpotRows::manySlots>(values, width, chi2, counted, sum);
}

void PixelQuality(const float* pixels, const float* weights, const double* model, int count, double psferr,
                  double* chi2, double* counted) {
    const Tag d;
    const hn::Rebind<float, Tag> single;
    const int lanes = static_cast<int>(hn::Lanes(d));
    const Vec one = hn::Set(d, 1.0);
    int i = 0;
    for (; i + lanes <= count; i += lanes) {
        const Vec p = hn::PromoteTo(d, hn::LoadU(single, pixels + i));
        const Vec w = hn::PromoteTo(d, hn::LoadU(single, weights + i));
        const Vec m = hn::LoadU(d, model + i);
        const auto counts = hn::And(hn::Gt(w, hn::Zero(d)), hn::Ne(m, hn::Zero(d)));
        const Vec difference = hn::Sub(p, m);
        const Vec error = hn::Mul(hn::Set(d, psferr), m);
        const Vec variance = hn::MulAdd(error, error, hn::Div(one, w));
        hn::StoreU(hn::IfThenElseZero(counts, hn::Div(hn::Mul(difference, difference), variance)), d, chi2 + i);
        hn::StoreU(hn::IfThenElseZero(counts, one), d, counted + i);
    }
    for (; i < count; ++i) {
        const double w = static_cast<double>(weights[i]);
        const bool counts = pixelCounts(w, model[i]);
        chi2[i] = counts ? pixelChi2(static_cast<double>(pixels[i]), w, model[i], psferr) : 0.0;
        counted[i] = counts ? 1.0 : 0.0;
    }
}

/// Bins of a spectrum whose last row this is.
HWY_INLINE IndexRange ending(const SpotRows& spots, int spectrum, int row) {
    const IndexRange here = spots.active(spectrum, row);
    if (row + 1 == spots.rows().last) return here;
    return {here.first, std::min(here.last, std::max(here.first, spots.active(spectrum, row + 1).first))};
}

/// Stores a finished sum over rows of A_{s, bin} w A_{t, other}.
HWY_INLINE void keepProduct(PairSums& sums, int s, int t, int bin, int other, double product) {
    const std::size_t i = sums.index(s, bin);
    if (t == s) {
        if (other >= bin) sums.self_[i * sums.selfWidth() + static_cast<std::size_t>(other - bin)] = product;
    } else if (t == s + 1) {
        sums.next_[i * sums.stride() + static_cast<std::size_t>(other - bin + sums.reach())] = product;
    } else {
        sums.second_[i] = std::max(sums.second_[i], product);
    }
}

template <int Slots> void accumulate(PairSums& sums, const SpotRows& spots, const CcdView& ccd, IndexRange rows) {
    const Tag d;
    const std::size_t lanes = hn::Lanes(d);
    constexpr int slots = Slots;
    const IndexRange spectra = spots.spectra();
    const int width = spots.width();
    std::vector<double>& pixel = sums.pixelWork_; // w, w p, [w > 0] of a row's columns

    // Row by row, so that a row of spots is used for all its sums while it is in the cache.
    for (int row = rows.first; row < rows.last; ++row) {
        int left = ccd.nx;
        int right = 0;
        for (int s = spectra.first; s < spectra.last; ++s) {
            if (spots.active(s, row).empty()) continue;
            left = std::min(left, spots.columnOrigin(s, row));
            right = std::max(right, spots.columnOrigin(s, row) + width);
        }
        if (left >= right) continue;
        const int columns = right - left;
        pixel.assign(static_cast<std::size_t>(3 * columns), 0.0); // pixels off the CCD weigh nothing
        double* weight = pixel.data();
        double* weighted = weight + columns;
        double* good = weighted + columns;
        const std::size_t line = static_cast<std::size_t>(row) * static_cast<std::size_t>(ccd.nx);
        for (int x = std::max(0, left); x < std::min(ccd.nx, right); ++x) {
            const double w = static_cast<double>(ccd.weights[line + static_cast<std::size_t>(x)]);
            weight[x - left] = w;
            weighted[x - left] = w * static_cast<double>(ccd.pixels[line + static_cast<std::size_t>(x)]);
            good[x - left] = w > 0.0 ? 1.0 : 0.0;
        }

        for (int s = spectra.first; s < spectra.last; ++s) {
            const IndexRange mine = spots.active(s, row);
            if (mine.empty()) continue;
            double* const runningY = sums.running(s);
            double* const runningWeight = runningY + slots;
            double* const runningUnmasked = runningWeight + slots;
            const auto running = [&](int t) { return runningUnmasked + slots + (t - s) * slots * slots; };
            const int origin = spots.columnOrigin(s, row);
            const double* v = spots.row(s, row);
            const double* w = weight + (origin - left);
            addProducts<slots>(w, v, mine, v, mine, width, true, running(s));
            const double* wp = weighted + (origin - left);
            const double* ok = good + (origin - left);
            for (std::size_t part = 0; part < slots; part += lanes) {
                Vec y = hn::Load(d, runningY + part);
                Vec f = hn::Load(d, runningWeight + part);
                Vec u = hn::Load(d, runningUnmasked + part);
                Vec y2 = hn::Zero(d);
                Vec f2 = hn::Zero(d);
                Vec u2 = hn::Zero(d);
                int c = 0;
                for (; c + 2 <= width; c += 2) {
                    const Vec a = hn::Load(d, v + static_cast<std::size_t>(c * slots) + part);
                    const Vec a2 = hn::Load(d, v + static_cast<std::size_t>((c + 1) * slots) + part);
                    y = hn::MulAdd(hn::Set(d, wp[c]), a, y);
                    y2 = hn::MulAdd(hn::Set(d, wp[c + 1]), a2, y2);
                    f = hn::MulAdd(hn::Set(d, w[c]), a, f);
                    f2 = hn::MulAdd(hn::Set(d, w[c + 1]), a2, f2);
                    u = hn::MulAdd(hn::Set(d, ok[c]), a, u);
                    u2 = hn::MulAdd(hn::Set(d, ok[c + 1]), a2, u2);
                }
                for (; c < width; ++c) {
                    const Vec a = hn::Load(d, v + static_cast<std::size_t>(c * slots) + part);
                    y = hn::MulAdd(hn::Set(d, wp[c]), a, y);
                    f = hn::MulAdd(hn::Set(d, w[c]), a, f);
                    u = hn::MulAdd(hn::Set(d, ok[c]), a, u);
                }
                hn::Store(hn::Add(y, y2), d, runningY + part);
                hn::Store(hn::Add(f, f2), d, runningWeight + part);
                hn::Store(hn::Add(u, u2), d, runningUnmasked + part);
            }
            for (int t = s + 1; t <= s + 2 && t < spectra.last; ++t) {
                if (spots.active(t, row).empty()) continue;
                const int shift = spots.columnOrigin(t, row) - origin;
                const int first = std::max(0, shift);
                const int last = std::min(width, width + shift);
                if (first < last)
                    addProducts<slots>(w + first, v + first * slots, mine, spots.row(t, row) + (first - shift) * slots,
                                       spots.active(t, row), last - first, false, running(t));
            }

            // Bins whose last row this was: their sums are complete, and their slots free for the bins that follow.
            const IndexRange done = ending(spots, s, row);
            for (int bin = done.first; bin < done.last; ++bin) {
                const int a = bin % slots;
                const std::size_t i = sums.index(s, bin);
                sums.y_[i] = runningY[a];
                sums.fluxweight_[i] = runningWeight[a];
                sums.unmasked_[i] = runningUnmasked[a];
                runningY[a] = runningWeight[a] = runningUnmasked[a] = 0.0;
                for (int t = s; t <= s + 2 && t < spectra.last; ++t) {
                    double* product = running(t);
                    const IndexRange theirs = spots.active(t, row);
                    for (int other = theirs.first; other < theirs.last; ++other)
                        keepProduct(sums, s, t, bin, other,
                                    t == s ? selfProduct(product, a, other % slots, slots)
                                           : product[a * slots + other % slots]);
                    for (int l = 0; l < slots; ++l) product[a * slots + l] = 0.0;
                    if (t == s)
                        for (int l = 0; l < slots; ++l) product[l * slots + a] = 0.0;
                }
            }
            // The same for neighbours' bins that end while ours go on.
            for (int t = s + 1; t <= s + 2 && t < spectra.last; ++t) {
                double* product = running(t);
                const IndexRange theirs = ending(spots, t, row);
                for (int other = theirs.first; other < theirs.last; ++other) {
                    const int l = other % slots;
                    for (int bin = done.last; bin < mine.last; ++bin)
                        keepProduct(sums, s, t, bin, other, product[(bin % slots) * slots + l]);
                    for (int a = 0; a < slots; ++a) product[a * slots + l] = 0.0;
                }
            }
        }
    }
}

void Accumulate(PairSums& sums, const SpotRows& spots, const CcdView& ccd, IndexRange rows) {
    if (spots.slotCount() == SpotRows::fewSlots)
        accumulate<SpotRows::fewSlots>(sums, spots, ccd, rows);
    else
        accumulate<SpotRows::manySlots>(sums, spots, ccd, rows);
}

} // namespace patchlight::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace patchlight {

HWY_EXPORT(EvaluateGroup);
HWY_EXPORT(Accumulate);
HWY_EXPORT(RowProducts);
HWY_EXPORT(AddModelRow);
HWY_EXPORT(AddChi2Row);
HWY_EXPORT(PixelQuality);

void SpotRows::rowProducts(const double* weight, int s, int t, int ccdRow, double* product) const {
    HWY_DYNAMIC_DISPATCH(RowProducts)(*this, weight, s, t, ccdRow, product);
}

void SpotRows::addModelRow(int spectrum, int ccdRow, const double* flux, double* model) const {
    HWY_DYNAMIC_DISPATCH(AddModelRow)(row(spectrum, ccdRow), width_, slots_, flux, model);
}

void SpotRows::addChi2Row(int spectrum, int ccdRow, const double* chi2, const double* counted, double* sum) const {
    HWY_DYNAMIC_DISPATCH(AddChi2Row)(row(spectrum, ccdRow), width_, slots_, chi2, counted, sum);
}

void pixelQuality(const float* pixels, const float* weights, const double* model, int count, double psferr,
                  double* chi2, double* counted) {
    HWY_DYNAMIC_DISPATCH(PixelQuality)(pixels, weights, model, count, psferr, chi2, counted);
}

bool SpotRows::locate(const PsfView& psf, const WavelengthGrid& grid, IndexRange spectra, IndexRange bins,
                      IndexRange ccdRows, int slots) {
    slots_ = slots;
    corners_.spectra = spectra;
    corners_.bins = bins;
    stampX_ = psf.stampX();
    stampY_ = psf.stampY();
    const std::size_t count = static_cast<std::size_t>(spectra.count()) * static_cast<std::size_t>(bins.count());
    corners_.x.resize(count);
    corners_.y.resize(count);
    x_.resize(count);
    y_.resize(count);
    sums_.assign(count, 0.0);
    std::vector<double> wavelength(static_cast<std::size_t>(bins.count()));
    for (int bin = bins.first; bin < bins.last; ++bin)
        wavelength[static_cast<std::size_t>(bin - bins.first)] = grid.wavelength(bin);
    const auto trace = [&](const double* coeff, int ncoeff, const double* domain, double* out) {
        legendreSums(coeff + static_cast<std::ptrdiff_t>(spectra.first) * ncoeff, ncoeff, domain, spectra.count(),
                     wavelength, out);
    };
    trace(psf.coeffX, psf.ncoeffX, psf.domainX, x_.data());
    trace(psf.coeffY, psf.ncoeffY, psf.domainY, y_.data());
    rows_ = {ccdRows.last, ccdRows.first};
    for (int s = spectra.first; s < spectra.last; ++s) {
        for (int bin = bins.first; bin < bins.last; ++bin) {
            const std::size_t i = corners_.index(s, bin);
            corners_.x[i] = spotCorner(psf.type, x_[i], psf.hsizeX);
            corners_.y[i] = spotCorner(psf.type, y_[i], psf.hsizeY);
            if (bin > bins.first && corners_.y[i] < corners_.y[i - 1]) return false; // the trace turns back
            rows_.first = std::min(rows_.first, corners_.y[i]);
            rows_.last = std::max(rows_.last, corners_.y[i] + stampY_);
        }
    }
    rows_ = {std::max(ccdRows.first, rows_.first), std::min(ccdRows.last, rows_.last)};
    if (rows_.empty()) rows_ = {0, 0};

    const std::size_t rowCount = static_cast<std::size_t>(spectra.count()) * static_cast<std::size_t>(rows_.count());
    origin_.assign(rowCount, 0);
    active_.assign(rowCount, IndexRange{});
    width_ = stampX_;
    for (int s = spectra.first; s < spectra.last; ++s) {
        int low = bins.first;
        int high = bins.first;
        for (int row = rows_.first; row < rows_.last; ++row) {
            while (low < bins.last && cornerY(s, low) + stampY_ <= row) ++low;
            high = std::max(high, low);
            while (high < bins.last && cornerY(s, high) <= row) ++high;
            if (high - low > mostBins(slots_)) return false;
            active_[rowIndex(s, row)] = {low, high};
            if (low == high) continue;
            int left = cornerX(s, low);
            int right = left;
            for (int bin = low; bin < high; ++bin) {
                left = std::min(left, cornerX(s, bin));
                right = std::max(right, cornerX(s, bin));
            }
            origin_[rowIndex(s, row)] = left;
            width_ = std::max(width_, right - left + stampX_);
        }
    }
    return width_ <= stampX_ + mostSlant;
}

void SpotRows::evaluate(const PsfView& psf, const WavelengthGrid& grid, bool withTail) {
    startEvaluation();
    for (int group = firstGroup(); group < corners_.bins.last; group += slots_) evaluate(psf, grid, withTail, group);
}

void SpotRows::startEvaluation() {
    values_.require(valueCount());
    touched_.assign(static_cast<std::size_t>(corners_.spectra.count()) * manySlots, rows_.first);
}

void SpotRows::evaluate(const PsfView& psf, const WavelengthGrid& grid, bool withTail, int group) {
    HWY_DYNAMIC_DISPATCH(EvaluateGroup)(*this, psf, grid, withTail, group);
}

int SpotRows::rowsReady(int group) const {
    const int next = group + slots_;
    if (next >= corners_.bins.last) return rows_.last;
    int ready = rows_.last;
    for (int s = corners_.spectra.first; s < corners_.spectra.last; ++s) ready = std::min(ready, cornerY(s, next));
    return std::max(ready, rows_.first);
}

void PairSums::start(const SpotRows& spots) {
    spectra_ = spots.spectra();
    bins_ = spots.bins();
    // How far apart bins of neighbouring spectra can share a row.
    slots_ = spots.slotCount();
    selfWidth_ = static_cast<std::size_t>(SpotRows::mostBins(slots_));
    reach_ = SpotRows::fewSlots - 1;
    for (int s = spectra_.first; s + 1 < spectra_.last; ++s)
        for (int row = spots.rows().first; row < spots.rows().last; ++row) {
            const IndexRange a = spots.active(s, row);
            const IndexRange b = spots.active(s + 1, row);
            if (!a.empty() && !b.empty()) reach_ = std::max({reach_, b.last - 1 - a.first, a.last - 1 - b.first});
        }
    const std::size_t count = static_cast<std::size_t>(spectra_.count()) * static_cast<std::size_t>(bins_.count());
    self_.assign(count * selfWidth_, 0.0);
    next_.assign(count * stride(), 0.0);
    second_.assign(count, 0.0);
    y_.assign(count, 0.0);
    fluxweight_.assign(count, 0.0);
    unmasked_.assign(count, 0.0);
    const std::size_t needed = static_cast<std::size_t>(spectra_.count()) * runningSize(slots_);
    std::fill_n(running_.require(needed), needed, 0.0);
    nextRow_ = spots.rows().first;
}

void PairSums::accumulate(const SpotRows& spots, const CcdView& ccd, int rowsReady) {
    if (rowsReady <= nextRow_) return;
    HWY_DYNAMIC_DISPATCH(Accumulate)(*this, spots, ccd, {nextRow_, rowsReady});
    nextRow_ = rowsReady;
}

void PairSums::accumulate(const SpotRows& spots, const CcdView& ccd) {
    start(spots);
    accumulate(spots, ccd, spots.rows().last);
}

} // namespace patchlight
#endif
