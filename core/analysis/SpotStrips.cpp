#include "core/analysis/SpotStrips.h"

#include "core/analysis/FrameQuality.h"
#include "core/analysis/Statistics.h"
#include "core/base/Error.h"
#include "core/base/Parallel.h"
#include "core/frame/ExtractedFrame.h"
#include "core/psf/GaussHermite.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace patchlight {

std::vector<double> psfWavelengths(const ExtractedFrame& frame) {
    std::vector<double> wavelength = frame.wavelength;
    const double scale = frame.header.number("HELIOCOR").value_or(1.0);
    if (scale > 0.0 && scale != 1.0)
        for (double& value : wavelength) value /= scale;
    return wavelength;
}

std::vector<double> binWidths(std::span<const double> wavelength) {
    const std::size_t n = wavelength.size();
    std::vector<double> widths(n, 1.0);
    for (std::size_t j = 0; j < n && n > 1; ++j) {
        const std::size_t low = j == 0 ? 0 : j - 1;
        const std::size_t high = std::min(n - 1, j + 1);
        widths[j] = (wavelength[high] - wavelength[low]) / static_cast<double>(high - low);
    }
    return widths;
}

bool frameSaysNoTail(const ExtractedFrame& frame) {
    const std::string value = frame.header.text("NOTAIL").value_or("");
    return value == "T" || value == "true";
}

std::vector<IndexRange> bundlesOf(const ExtractedFrame& frame) {
    constexpr std::int64_t usual = 25;
    const int size = static_cast<int>(std::max<std::int64_t>(1, frame.header.integer("BUNDLESZ").value_or(usual)));
    std::vector<IndexRange> bundles;
    const int nspec = static_cast<int>(frame.nspec());
    for (int first = 0; first < nspec;) {
        const int last = std::min(nspec, ((frame.specmin + first) / size + 1) * size - frame.specmin);
        bundles.push_back({first, last});
        first = last;
    }
    return bundles;
}

Psf variedPsf(const Psf& psf, double shift, double widening) {
    Psf varied = psf;
    LegendreSeries& x = varied.series.at("X");
    for (int s = 0; s < psf.nspec; ++s)
        x.coeff[static_cast<std::size_t>(s) * static_cast<std::size_t>(x.ncoeff)] += shift;
    for (const char* name : {"GHSIGX", "GHSIGX2"})
        if (const auto at = varied.series.find(name); at != varied.series.end())
            for (double& value : at->second.coeff) value *= 1.0 + widening;
    varied.pack();
    return varied;
}

void SpotStrip::locate(const PsfView& psf, int spectrum, std::span<const double> wavelength, int nx, int ny) {
    spectrum_ = spectrum;
    wavelength_.assign(wavelength.begin(), wavelength.end());
    stampX_ = psf.stampX();
    stampY_ = psf.stampY();
    cornerX_.resize(wavelength.size());
    cornerY_.resize(wavelength.size());
    origin_.assign(static_cast<std::size_t>(ny), nothing);
    std::vector<int> last(static_cast<std::size_t>(ny), nothing);
    firstColumn_ = nx;
    lastColumn_ = 0;
    width_ = 0;
    for (std::size_t j = 0; j < wavelength.size(); ++j) {
        cornerX_[j] = spotCorner(psf.type, traceX(psf, spectrum, wavelength[j]), psf.hsizeX);
        cornerY_[j] = spotCorner(psf.type, traceY(psf, spectrum, wavelength[j]), psf.hsizeY);
        if (cornerX_[j] + stampX_ <= 0 || cornerX_[j] >= nx) continue;
        for (int y = std::max(0, cornerY_[j]); y < std::min(ny, cornerY_[j] + stampY_); ++y) {
            int& origin = origin_[static_cast<std::size_t>(y)];
            int& end = last[static_cast<std::size_t>(y)];
            // A pixel more on each side: paint() may be given a PSF that is moved a little.
            origin = origin == nothing ? cornerX_[j] - 1 : std::min(origin, cornerX_[j] - 1);
            end = std::max(end, cornerX_[j] + stampX_ + 1);
            width_ = std::max(width_, end - origin);
            firstColumn_ = std::min(firstColumn_, origin);
            lastColumn_ = std::max(lastColumn_, end);
        }
    }
    light_.clear();
    spots_.clear();
}

SpotStrip SpotStrip::sameShape() const {
    SpotStrip other;
    other.spectrum_ = spectrum_;
    other.wavelength_ = wavelength_;
    other.stampX_ = stampX_;
    other.stampY_ = stampY_;
    other.width_ = width_;
    other.firstColumn_ = firstColumn_;
    other.lastColumn_ = lastColumn_;
    other.cornerX_ = cornerX_;
    other.cornerY_ = cornerY_;
    other.origin_ = origin_;
    return other;
}

void SpotStrip::paint(const PsfView& psf, std::span<const double> flux, bool tail, bool keep, double moved) {
    const int ny = static_cast<int>(origin_.size());
    light_.assign(origin_.size() * static_cast<std::size_t>(width_), 0.0);
    const auto size = static_cast<std::size_t>(stampX_ * stampY_);
    if (keep) spots_.resize(wavelength_.size() * size);
    std::vector<double> stamp(size);
    for (std::size_t j = 0; j < wavelength_.size(); ++j) {
        if (!keep && flux[j] == 0.0) continue;
        int cornerX = 0;
        int cornerY = 0;
        evaluateSpot(psf, spectrum_, wavelength_[j] + moved, tail, stamp.data(), cornerX, cornerY);
        if (keep)
            std::transform(stamp.begin(), stamp.end(), spots_.begin() + static_cast<std::ptrdiff_t>(j * size),
                           [](double value) { return static_cast<float>(value); });
        if (flux[j] == 0.0) continue;
        for (int y = std::max(0, cornerY); y < std::min(ny, cornerY + stampY_); ++y) {
            const int origin = origin_[static_cast<std::size_t>(y)];
            if (origin == nothing) continue;
            const double* from = stamp.data() + static_cast<std::ptrdiff_t>(y - cornerY) * stampX_;
            double* to = light_.data() + static_cast<std::size_t>(y) * static_cast<std::size_t>(width_);
            const int first = std::max(0, origin - cornerX);
            const int last = std::min(stampX_, origin + width_ - cornerX);
            for (int k = first; k < last; ++k) to[cornerX + k - origin] += flux[j] * from[k];
        }
    }
}

void SpotStrip::addTo(std::vector<double>& image, int x0, int width, int ny) const {
    for (int y = 0; y < ny; ++y) {
        const IndexRange columns = this->columns(y);
        const double* from = light_.data() + static_cast<std::size_t>(y) * static_cast<std::size_t>(width_);
        double* to = image.data() + static_cast<std::size_t>(y) * static_cast<std::size_t>(width);
        for (int x = std::max(columns.first, x0); x < std::min(columns.last, x0 + width); ++x)
            to[x - x0] += from[x - columns.first];
    }
}

std::vector<float> SpotStrip::traceByRow(const PsfView& psf) const {
    std::vector<float> trace(origin_.size(), std::numeric_limits<float>::quiet_NaN());
    const int ny = static_cast<int>(origin_.size());
    double x0 = 0;
    double y0 = 0;
    for (std::size_t j = 0; j < wavelength_.size(); ++j) {
        const double x1 = traceX(psf, spectrum_, wavelength_[j]);
        const double y1 = traceY(psf, spectrum_, wavelength_[j]);
        if (j > 0 && y1 > y0)
            for (int y = std::max(0, static_cast<int>(std::ceil(y0))); y <= std::min(ny - 1.0, y1); ++y)
                trace[static_cast<std::size_t>(y)] = static_cast<float>(x0 + (x1 - x0) * (y - y0) / (y1 - y0));
        x0 = x1;
        y0 = y1;
    }
    return trace;
}

Array2<double> deconvolvedFlux(const ExtractedFrame& frame, int threads) {
    const std::size_t nspec = frame.nspec();
    const std::size_t nwave = frame.nwave();
    Array2<double> out(nspec, nwave);
    if (!frame.xflux.empty()) {
        for (std::size_t i = 0; i < out.size(); ++i)
            out.data()[i] =
                frame.ivar.data()[i] > 0 && std::isfinite(frame.xflux.data()[i]) ? frame.xflux.data()[i] : 0;
        return out;
    }
    if (frame.resolution.empty()) throw Error("the extracted frame has no RESOLUTION, which its model needs");
    const auto ndiag = static_cast<std::ptrdiff_t>(frame.ndiag());
    const auto n = static_cast<std::ptrdiff_t>(nwave);
    const std::ptrdiff_t band = 2 * ndiag;
    const std::vector<double> width = binWidths(psfWavelengths(frame));
    forEachParallel(nspec, threads, [&](std::size_t s, std::size_t) {
        const auto good = [&](std::ptrdiff_t i) {
            const auto j = static_cast<std::size_t>(i);
            return frame.ivar(s, j) > 0 && std::isfinite(frame.ivar(s, j)) && std::isfinite(frame.flux(s, j));
        };
        // Rows of R that count, as [n][2 ndiag + 1] around the diagonal; then (R^T R + ridge) x = R^T flux by a banded Cholesky.
        const auto element = [&](std::ptrdiff_t i, std::ptrdiff_t j) {
            return frame.resolution(s, static_cast<std::size_t>(i - j + ndiag), static_cast<std::size_t>(j));
        };
        const auto stride = static_cast<std::size_t>(band + 1);
        std::vector<double> normal(static_cast<std::size_t>(n) * stride, 0.0); // [j][d]: (j, j + d)
        std::vector<double> right(static_cast<std::size_t>(n), 0.0);
        for (std::ptrdiff_t i = 0; i < n; ++i) {
            if (!good(i)) continue;
            const double flux = frame.flux(s, static_cast<std::size_t>(i)) * width[static_cast<std::size_t>(i)];
            const std::ptrdiff_t first = std::max<std::ptrdiff_t>(0, i - ndiag);
            const std::ptrdiff_t last = std::min(n - 1, i + ndiag);
            for (std::ptrdiff_t j = first; j <= last; ++j) {
                const double r = element(i, j);
                if (r == 0.0 || !good(j)) continue;
                right[static_cast<std::size_t>(j)] += r * flux;
                double* to = normal.data() + static_cast<std::size_t>(j) * stride;
                for (std::ptrdiff_t k = j; k <= last; ++k)
                    if (good(k)) to[k - j] += r * element(i, k);
            }
        }
        constexpr double ridge = 1e-6;
        for (std::ptrdiff_t j = 0; j < n; ++j) {
            double& diagonal = normal[static_cast<std::size_t>(j) * stride];
            diagonal = diagonal > 0 ? diagonal + ridge : 1.0;
        }
        for (std::ptrdiff_t j = 0; j < n; ++j) { // L D L^T in place, rows of L^T to the right of the diagonal
            double* row = normal.data() + static_cast<std::size_t>(j) * stride;
            const std::ptrdiff_t most = std::min(band, n - 1 - j);
            for (std::ptrdiff_t d = 1; d <= most; ++d) {
                const double factor = row[d] / row[0];
                if (factor == 0.0) continue;
                double* below = normal.data() + static_cast<std::size_t>(j + d) * stride;
                for (std::ptrdiff_t e = d; e <= most; ++e) below[e - d] -= factor * row[e];
                right[static_cast<std::size_t>(j + d)] -= factor * right[static_cast<std::size_t>(j)];
            }
        }
        for (std::ptrdiff_t j = n - 1; j >= 0; --j) {
            const double* row = normal.data() + static_cast<std::size_t>(j) * stride;
            double value = right[static_cast<std::size_t>(j)];
            for (std::ptrdiff_t d = 1; d <= std::min(band, n - 1 - j); ++d)
                value -= row[d] * out(s, static_cast<std::size_t>(j + d));
            out(s, static_cast<std::size_t>(j)) = value / row[0];
        }
        for (std::ptrdiff_t j = 0; j < n; ++j)
            if (!good(j)) out(s, static_cast<std::size_t>(j)) = 0.0;
    });
    return out;
}

std::vector<PsfBias> psfFluxBias(const Psf& psf, int specmin, int count, double low, double high, double error,
                                 int places) {
    Psf light = psf;
    for (const char* name : {"GHSIGX", "GHSIGY", "GHSIGX2", "GHSIGY2"})
        if (const auto at = light.series.find(name); at != light.series.end())
            for (double& value : at->second.coeff) value *= 1.0 + error;
    light.pack();
    const PsfView own = psf.view();
    const PsfView other = light.view();
    const auto size = static_cast<std::size_t>(own.stampX() * own.stampY());
    std::vector<double> model(size);
    std::vector<double> truth(size);
    std::vector<PsfBias> biases;
    for (int s = specmin; s < specmin + count; ++s) {
        std::vector<double> lines;
        std::vector<double> continua;
        for (int k = 0; k < places; ++k) {
            const double wavelength = low + (high - low) * (k + 0.5) / places;
            int x = 0;
            int y = 0;
            evaluateSpot(own, s, wavelength, true, model.data(), x, y);
            evaluateSpot(other, s, wavelength, true, truth.data(), x, y);
            double cross = 0;
            double square = 0;
            double crossX = 0;
            double squareX = 0;
            for (int ix = 0; ix < own.stampX(); ++ix) {
                double columnModel = 0;
                double columnTruth = 0;
                for (int iy = 0; iy < own.stampY(); ++iy) {
                    const auto p = static_cast<std::size_t>(iy * own.stampX() + ix);
                    cross += model[p] * truth[p];
                    square += model[p] * model[p];
                    columnModel += model[p];
                    columnTruth += truth[p];
                }
                crossX += columnModel * columnTruth;
                squareX += columnModel * columnModel;
            }
            if (square <= 0) continue;
            lines.push_back(cross / square - 1.0);
            continua.push_back(crossX / squareX - 1.0);
        }
        biases.push_back({median(std::move(lines)), median(std::move(continua))});
    }
    return biases;
}

} // namespace patchlight
