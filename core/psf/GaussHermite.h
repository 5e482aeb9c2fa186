#pragma once

#include "core/psf/PsfView.h"

#include <cmath>

/// The PSF's physics, written once for the CPU and the GPU: traces, parameters and spots of a Gauss-Hermite PSF as fitted by
/// specex. Formulas: docs/method.md, "PSF".
namespace patchlight {

/// Legendre series sum_n c_n P_n(u) by Clenshaw's recurrence.
PATCHLIGHT_HOST_DEVICE inline double legendreSum(const double* coeff, int ncoeff, double u) {
    if (ncoeff == 1) return coeff[0];
    double b0 = coeff[ncoeff - 2];
    double b1 = coeff[ncoeff - 1];
    for (int n = ncoeff - 1; n >= 2; --n) {
        const double previous = b0;
        b0 = coeff[n - 2] - b1 * (static_cast<double>(n - 1) / n);
        b1 = previous + b1 * u * (static_cast<double>(2 * n - 1) / n);
    }
    return b0 + b1 * u;
}

/// Wavelength (Angstrom) mapped to [-1, 1] on a series' domain.
PATCHLIGHT_HOST_DEVICE inline double legendreArgument(double wavelength, const double domain[2]) {
    return (wavelength - domain[0]) * (2.0 / (domain[1] - domain[0])) - 1.0;
}

/// Column of a spectrum's trace at a wavelength (Angstrom), pixels.
PATCHLIGHT_HOST_DEVICE inline double traceX(const PsfView& psf, int spectrum, double wavelength) {
    return legendreSum(psf.coeffX + static_cast<long>(spectrum) * psf.ncoeffX, psf.ncoeffX,
                       legendreArgument(wavelength, psf.domainX));
}

/// Row of a spectrum's trace at a wavelength (Angstrom), pixels.
PATCHLIGHT_HOST_DEVICE inline double traceY(const PsfView& psf, int spectrum, double wavelength) {
    return legendreSum(psf.coeffY + static_cast<long>(spectrum) * psf.ncoeffY, psf.ncoeffY,
                       legendreArgument(wavelength, psf.domainY));
}

/// Lower-left pixel of a spot's stamp along one axis, for a trace position and half size in pixels.
PATCHLIGHT_HOST_DEVICE inline int spotCorner(PsfType type, double position, int hsize) {
    constexpr double farAway = 1e6; // an extrapolated trace may run anywhere, or be NaN: keep it off every CCD
    const double corner =
        type == PsfType::GaussHermite ? std::floor(position - hsize + 0.5) : std::floor(position - hsize);
    if (!(corner > -farAway)) return static_cast<int>(-farAway);
    return static_cast<int>(corner < farAway ? corner : farAway);
}

/// All parameters of one spectrum at one wavelength: out[nparam] in PsfParameter order.
PATCHLIGHT_HOST_DEVICE inline void evaluateParameters(const PsfView& psf, int spectrum, double wavelength,
                                                      double* out) {
    // Series of one file nearly always share a domain, so the Legendre polynomials are evaluated once and reused.
    constexpr int maxCoefficients = 32;
    double basis[maxCoefficients];
    double domain[2] = {0.0, 0.0};
    const double* coeff = psf.coeff + static_cast<long>(spectrum) * psf.nparam * psf.ncoeff;
    for (int p = 0; p < psf.nparam; ++p, coeff += psf.ncoeff) {
        const double* own = psf.domain + 2L * p;
        if (p == 0 || own[0] != domain[0] || own[1] != domain[1]) {
            domain[0] = own[0];
            domain[1] = own[1];
            const double u = legendreArgument(wavelength, domain);
            basis[0] = 1.0;
            if (psf.ncoeff > 1) basis[1] = u;
            for (int n = 2; n < psf.ncoeff; ++n)
                basis[n] = ((2 * n - 1) * u * basis[n - 1] - (n - 1) * basis[n - 2]) / n;
        }
        double sum = 0.0;
        for (int n = 0; n < psf.ncoeff; ++n) sum += coeff[n] * basis[n];
        out[p] = sum;
    }
}

/// Pixel-integrated Gauss-Hermite functions of orders 0..degree along one axis.
///
/// With edges e_k = (first + k - 1/2 - centre)/sigma, order 0 is (erf(e_{k+1}/sqrt 2) - erf(e_k/sqrt 2))/2 and order m >= 1 is
/// He_{m-1}(e_k) g(e_k) - He_{m-1}(e_{k+1}) g(e_{k+1}), g the unit Gaussian, He the probabilists' Hermite polynomials.
/// @param offset  first pixel minus centre, pixels
/// @param out     [degree + 1][count]
PATCHLIGHT_HOST_DEVICE inline void pixelGaussHermite(double offset, double sigma, int degree, int count, double* out) {
    constexpr double sqrtHalf = 0.70710678118654752440;
    constexpr double invSqrt2Pi = 0.39894228040143267794;
    double edge[maxStampSize + 1];
    double gauss[maxStampSize + 1];  // He_{m-1}(e) g(e), the present order
    double before[maxStampSize + 1]; // He_{m-2}(e) g(e)
    for (int k = 0; k <= count; ++k) {
        const double e = (offset + k - 0.5) / sigma;
        edge[k] = e;
        gauss[k] = std::exp(-0.5 * e * e) * invSqrt2Pi;
        before[k] = 0.0;
    }
    double lower = std::erf(edge[0] * sqrtHalf);
    for (int k = 0; k < count; ++k) {
        const double upper = std::erf(edge[k + 1] * sqrtHalf);
        out[k] = 0.5 * (upper - lower);
        lower = upper;
    }
    for (int m = 1; m <= degree; ++m) {
        double* row = out + static_cast<long>(m) * count;
        for (int k = 0; k < count; ++k) row[k] = gauss[k] - gauss[k + 1];
        for (int k = 0; k <= count; ++k) { // He_m = e He_{m-1} - (m - 1) He_{m-2}
            const double next = edge[k] * gauss[k] - (m - 1) * before[k];
            before[k] = gauss[k];
            gauss[k] = next;
        }
    }
}

/// Adds sum_ij c_ij px_i(x) py_j(y) to a stamp. @param coeff c_ij at [i (degY + 1) + j]; @param px [degX + 1][nx]; @param py [degY + 1][ny]
PATCHLIGHT_HOST_DEVICE inline void addGaussHermiteCore(const double* coeff, int degX, int degY, const double* px,
                                                       const double* py, int nx, int ny, double* stamp) {
    constexpr int width = 8; // pixels at a time, whose sums stay in registers
    double column[maxHermiteDegree + 1];
    for (int y = 0; y < ny; ++y) {
        for (int i = 0; i <= degX; ++i) {
            column[i] = 0.0;
            for (int j = 0; j <= degY; ++j) column[i] += coeff[i * (degY + 1) + j] * py[static_cast<long>(j) * ny + y];
        }
        double* row = stamp + static_cast<long>(y) * nx;
        int x = 0;
        for (; x + width <= nx; x += width) {
            double sum[width];
            for (int k = 0; k < width; ++k) sum[k] = row[x + k];
            for (int i = 0; i <= degX; ++i)
                for (int k = 0; k < width; ++k) sum[k] += column[i] * px[static_cast<long>(i) * nx + x + k];
            for (int k = 0; k < width; ++k) row[x + k] = sum[k];
        }
        for (; x < nx; ++x)
            for (int i = 0; i <= degX; ++i) row[x] += column[i] * px[static_cast<long>(i) * nx + x];
    }
}

/// Evaluates the unit-sum spot of a spectrum at a wavelength.
/// @param withTail  add the power-law tail (specter's convention; gpu_specter leaves it out)
/// @param stamp     out, [stampY][stampX], sums to 1
/// @param cornerX, cornerY  out, pixel of stamp[0][0]
PATCHLIGHT_HOST_DEVICE inline void evaluateSpot(const PsfView& psf, int spectrum, double wavelength, bool withTail,
                                                double* stamp, int& cornerX, int& cornerY) {
    double parameter[maxPsfParameters];
    double px[(maxHermiteDegree + 1) * maxStampSize];
    double py[(maxHermiteDegree + 1) * maxStampSize];
    evaluateParameters(psf, spectrum, wavelength, parameter);
    const int nx = psf.stampX();
    const int ny = psf.stampY();
    const double x = traceX(psf, spectrum, wavelength);
    const double y = traceY(psf, spectrum, wavelength);
    cornerX = spotCorner(psf.type, x, psf.hsizeX);
    cornerY = spotCorner(psf.type, y, psf.hsizeY);
    const double offsetX = cornerX - x;
    const double offsetY = cornerY - y;
    for (int p = 0; p < nx * ny; ++p) stamp[p] = 0.0;

    pixelGaussHermite(offsetX, parameter[SigmaX], psf.degX, nx, px);
    pixelGaussHermite(offsetY, parameter[SigmaY], psf.degY, ny, py);
    addGaussHermiteCore(parameter + psf.ghOffset(), psf.degX, psf.degY, px, py, nx, ny, stamp);

    if (psf.type == PsfType::GaussHermite2) {
        const double cut = parameter[NSigma] * parameter[NSigma];
        for (int iy = 0; iy < ny; ++iy) {
            const double dy = (offsetY + iy) / parameter[SigmaY];
            for (int ix = 0; ix < nx; ++ix) {
                const double dx = (offsetX + ix) / parameter[SigmaX];
                if (!(dx * dx + dy * dy < cut)) stamp[iy * nx + ix] = 0.0;
            }
        }
        pixelGaussHermite(offsetX, parameter[SigmaX2], psf.degX2, nx, px);
        pixelGaussHermite(offsetY, parameter[SigmaY2], psf.degY2, ny, py);
        addGaussHermiteCore(parameter + psf.gh2Offset(), psf.degX2, psf.degY2, px, py, nx, ny, stamp);
    }

    if (withTail && psf.hasTail) {
        const double core2 = parameter[TailCore] * parameter[TailCore];
        const double power = 1.0 + 0.5 * parameter[TailIndex];
        for (int iy = 0; iy < ny; ++iy) {
            const double dy = (offsetY + iy) * parameter[TailScaleY];
            for (int ix = 0; ix < nx; ++ix) {
                const double dx = (offsetX + ix) * parameter[TailScaleX];
                const double r2 = dx * dx + dy * dy;
                if (r2 > 0.0) stamp[iy * nx + ix] += parameter[TailAmplitude] * r2 / std::pow(core2 + r2, power);
            }
        }
    }

    double sum = 0.0;
    for (int p = 0; p < nx * ny; ++p) {
        if (stamp[p] < 0.0) stamp[p] = 0.0;
        sum += stamp[p];
    }
    // A spot without light or with a sigma of 0 (a fiber that was not fitted) becomes zero: its bins then have no fluxweight.
    const bool usable = sum > 0.0 && sum < 1e300;
    const double scale = usable ? 1.0 / sum : 0.0;
    for (int p = 0; p < nx * ny; ++p) stamp[p] = usable ? stamp[p] * scale : 0.0;
}

} // namespace patchlight
