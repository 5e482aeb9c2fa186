#pragma once

#include "core/psf/GaussHermite.h"
#include "gpu/kernels/BatchView.h"
#include "gpu/kernels/Team.h"

#include <cmath>

namespace patchlight::gpu {

/// Spots from Legendre coefficients: what evaluateSpot() computes, for some bins of a spectrum a block, each step spread over its members.
struct SpotsKernel {
    static constexpr const char* name = "gpu spots";
    BatchView b;
    int binsPerBlock = 8;

    [[nodiscard]] PATCHLIGHT_HOST_DEVICE int groups() const { return (b.nbins + binsPerBlock - 1) / binsPerBlock; }
    [[nodiscard]] int blocks() const { return b.nspec * groups(); }
    [[nodiscard]] int threads() const { return 128; }
    [[nodiscard]] std::size_t itemBytes() const { return 0; }

    /// Where things lie in the memory of one bin, in doubles.
    struct Layout {
        int parameter, edges, axis, column, stamp, rowSum, size;
    };
    [[nodiscard]] PATCHLIGHT_HOST_DEVICE Layout layout() const {
        const int degX = larger(b.psf.degX, b.psf.degX2);
        const int degY = larger(b.psf.degY, b.psf.degY2);
        Layout l{};
        l.parameter = 0;
        l.edges = l.parameter + b.psf.nparam;
        l.axis = l.edges + (degX + 1) * (b.stampX + 1) + (degY + 1) * (b.stampY + 1);
        l.column = l.axis + (degX + 1) * b.stampX + (degY + 1) * b.stampY;
        l.stamp = l.column + (degX + 1) * b.stampY;
        l.rowSum = l.stamp + b.stampX * b.stampY;
        l.size = l.rowSum + b.stampY + 1;
        return l;
    }
    [[nodiscard]] std::size_t sharedDoubles() const {
        return static_cast<std::size_t>(layout().size) * static_cast<std::size_t>(binsPerBlock);
    }

    template <class Team> PATCHLIGHT_HOST_DEVICE void operator()(Team& team, int block) const {
        const Layout l = layout();
        const int s = block / groups();
        const int first = (block % groups()) * binsPerBlock;
        const int count = smaller(binsPerBlock, b.nbins - first);
        const int spectrum = b.firstSpectrum + s;
        double* shared = team.shared();

        for (int item = team.rank(); item < count * b.psf.nparam; item += team.size()) {
            const int k = item / b.psf.nparam;
            const int p = item % b.psf.nparam;
            const double* coeff =
                b.psf.coeff + (static_cast<std::size_t>(spectrum) * static_cast<std::size_t>(b.psf.nparam) +
                               static_cast<std::size_t>(p)) *
                                  static_cast<std::size_t>(b.psf.ncoeff);
            shared[k * l.size + l.parameter + p] =
                legendreSum(coeff, b.psf.ncoeff,
                            legendreArgument(b.wavelength[first + k], b.psf.domain + 2 * static_cast<std::size_t>(p)));
        }
        team.sync();
        addCore(team, l, s, first, count, SigmaX, SigmaY, b.psf.degX, b.psf.degY, b.psf.ghOffset(), false);
        if (b.psf.type == PsfType::GaussHermite2) {
            cut(team, l, s, first, count);
            addCore(team, l, s, first, count, SigmaX2, SigmaY2, b.psf.degX2, b.psf.degY2, b.psf.gh2Offset(), true);
        }
        if (b.tail && b.psf.hasTail) addTail(team, l, s, first, count);

        // Clipped at zero, and the sum of each row, then of the rows.
        for (int item = team.rank(); item < count * b.stampY; item += team.size()) {
            double* one = shared + (item / b.stampY) * l.size;
            double* row = one + l.stamp + (item % b.stampY) * b.stampX;
            double sum = 0.0;
            for (int x = 0; x < b.stampX; ++x) {
                if (row[x] < 0.0) row[x] = 0.0;
                sum += row[x];
            }
            one[l.rowSum + item % b.stampY] = sum;
        }
        team.sync();
        for (int k = team.rank(); k < count; k += team.size()) {
            double* one = shared + k * l.size;
            double sum = 0.0;
            for (int y = 0; y < b.stampY; ++y) sum += one[l.rowSum + y];
            const bool usable = sum > 0.0 && sum < 1e300;
            one[l.rowSum + b.stampY] = usable ? 1.0 / sum : 0.0;
            b.spotSum[b.spot(s, first + k)] = usable ? 1.0 : 0.0;
        }
        team.sync();
        const int size = b.stampX * b.stampY;
        double* out = b.stamps + b.spot(s, first) * static_cast<std::size_t>(b.stampStride);
        for (int item = team.rank(); item < count * b.stampStride; item += team.size()) {
            const double* one = shared + (item / b.stampStride) * l.size;
            const int p = item % b.stampStride;
            const double scale = one[l.rowSum + b.stampY];
            out[item] = p < size && scale > 0.0 ? one[l.stamp + p] * scale : 0.0;
        }
    }

private:
    /// Adds a Gauss-Hermite core to the stamps, or begins them with it (pixelGaussHermite() and addGaussHermiteCore(), which document it).
    template <class Team>
    PATCHLIGHT_HOST_DEVICE void addCore(Team& team, const Layout& l, int s, int first, int count, int sigmaX,
                                        int sigmaY, int degX, int degY, int offset, bool add) const {
        constexpr double sqrtHalf = 0.70710678118654752440;
        constexpr double invSqrt2Pi = 0.39894228040143267794;
        double* shared = team.shared();
        const int nx = b.stampX;
        const int ny = b.stampY;
        const int edges = nx + ny + 2;
        const int edgesY = (degX + 1) * (nx + 1); // where those along y begin
        // He_m g at every pixel edge, m < degree, and erf at m = degree.
        for (int item = team.rank(); item < count * edges; item += team.size()) {
            const int k = item / edges;
            const int e = item % edges;
            const bool alongX = e <= nx;
            const int edge = alongX ? e : e - nx - 1;
            const int degree = alongX ? degX : degY;
            const int stride = (alongX ? nx : ny) + 1;
            const std::size_t at = b.spot(s, first + k);
            double* one = shared + k * l.size;
            const double start = alongX ? b.cornerX[at] - b.traceX[at] : b.cornerY[at] - b.traceY[at];
            const double t = (start + edge - 0.5) / one[l.parameter + (alongX ? sigmaX : sigmaY)];
            double* out = one + l.edges + (alongX ? 0 : edgesY) + edge;
            double here = std::exp(-0.5 * t * t) * invSqrt2Pi;
            double before = 0.0;
            for (int m = 1; m <= degree; ++m) {
                out[(m - 1) * stride] = here;
                const double next = t * here - (m - 1) * before;
                before = here;
                here = next;
            }
            out[degree * stride] = std::erf(t * sqrtHalf);
        }
        team.sync();
        // Pixel integrals of every order.
        const int values = (degX + 1) * nx + (degY + 1) * ny;
        for (int item = team.rank(); item < count * values; item += team.size()) {
            const int k = item / values;
            int v = item % values;
            const bool alongX = v < (degX + 1) * nx;
            if (!alongX) v -= (degX + 1) * nx;
            const int pixels = alongX ? nx : ny;
            const int degree = alongX ? degX : degY;
            const int m = v / pixels;
            const int p = v % pixels;
            double* one = shared + k * l.size;
            const double* from = one + l.edges + (alongX ? 0 : edgesY);
            const double* row = from + (m == 0 ? degree : m - 1) * (pixels + 1) + p;
            one[l.axis + (alongX ? 0 : (degX + 1) * nx) + v] = m == 0 ? 0.5 * (row[1] - row[0]) : row[0] - row[1];
        }
        team.sync();
        // Sums over the orders along y.
        const int columns = (degX + 1) * ny;
        for (int item = team.rank(); item < count * columns; item += team.size()) {
            const int k = item / columns;
            const int i = item % columns / ny;
            const int y = item % ny;
            double* one = shared + k * l.size;
            const double* coeff = one + l.parameter + offset + i * (degY + 1);
            const double* py = one + l.axis + (degX + 1) * nx + y;
            double sum = 0.0;
            for (int j = 0; j <= degY; ++j) sum += coeff[j] * py[j * ny];
            one[l.column + i * ny + y] = sum;
        }
        team.sync();
        for (int item = team.rank(); item < count * nx * ny; item += team.size()) {
            const int k = item / (nx * ny);
            const int p = item % (nx * ny);
            double* one = shared + k * l.size;
            const double* px = one + l.axis + p % nx;
            const double* column = one + l.column + p / nx;
            double sum = add ? one[l.stamp + p] : 0.0;
            for (int i = 0; i <= degX; ++i) sum += column[i * ny] * px[i * nx];
            one[l.stamp + p] = sum;
        }
        team.sync();
    }

    template <class Team>
    PATCHLIGHT_HOST_DEVICE void cut(Team& team, const Layout& l, int s, int first, int count) const {
        for (int item = team.rank(); item < count * b.stampX * b.stampY; item += team.size()) {
            const int k = item / (b.stampX * b.stampY);
            const int p = item % (b.stampX * b.stampY);
            const std::size_t at = b.spot(s, first + k);
            double* one = team.shared() + k * l.size;
            const double* parameter = one + l.parameter;
            const int column = p % b.stampX;
            const int row = p / b.stampX;
            const double dx = (b.cornerX[at] - b.traceX[at] + column) / parameter[SigmaX];
            const double dy = (b.cornerY[at] - b.traceY[at] + row) / parameter[SigmaY];
            if (!(dx * dx + dy * dy < parameter[NSigma] * parameter[NSigma])) one[l.stamp + p] = 0.0;
        }
        team.sync();
    }

    template <class Team>
    PATCHLIGHT_HOST_DEVICE void addTail(Team& team, const Layout& l, int s, int first, int count) const {
        for (int item = team.rank(); item < count * b.stampX * b.stampY; item += team.size()) {
            const int k = item / (b.stampX * b.stampY);
            const int p = item % (b.stampX * b.stampY);
            const std::size_t at = b.spot(s, first + k);
            double* one = team.shared() + k * l.size;
            const double* parameter = one + l.parameter;
            const int column = p % b.stampX;
            const int row = p / b.stampX;
            const double dx = (b.cornerX[at] - b.traceX[at] + column) * parameter[TailScaleX];
            const double dy = (b.cornerY[at] - b.traceY[at] + row) * parameter[TailScaleY];
            const double r2 = dx * dx + dy * dy;
            const double core2 = parameter[TailCore] * parameter[TailCore];
            if (r2 > 0.0)
                one[l.stamp + p] +=
                    parameter[TailAmplitude] * r2 / std::pow(core2 + r2, 1.0 + 0.5 * parameter[TailIndex]);
        }
        team.sync();
    }
};

} // namespace patchlight::gpu
