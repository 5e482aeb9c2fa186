#include "core/analysis/PsfFigures.h"

#include "core/analysis/FileInfo.h"
#include "core/base/Error.h"
#include "core/psf/GaussHermite.h"
#include "core/psf/Psf.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include <fmt/format.h>

namespace patchlight {

SpotStamp spotStamp(const PsfView& psf, int spectrum, double wavelength, bool withTail) {
    SpotStamp spot;
    spot.values = Array2<double>(static_cast<std::size_t>(psf.stampY()), static_cast<std::size_t>(psf.stampX()));
    spot.x = traceX(psf, spectrum, wavelength);
    spot.y = traceY(psf, spectrum, wavelength);
    evaluateSpot(psf, spectrum, wavelength, withTail, spot.values.data(), spot.cornerX, spot.cornerY);
    return spot;
}

SpotStamp spotStampOnTrace(const PsfView& psf, const PsfView& traces, int spectrum, double wavelength, bool withTail) {
    PsfView moved = psf;
    moved.ncoeffX = traces.ncoeffX;
    moved.ncoeffY = traces.ncoeffY;
    moved.coeffX = traces.coeffX;
    moved.coeffY = traces.coeffY;
    std::copy(std::begin(traces.domainX), std::end(traces.domainX), std::begin(moved.domainX));
    std::copy(std::begin(traces.domainY), std::end(traces.domainY), std::begin(moved.domainY));
    return spotStamp(moved, spectrum, wavelength, withTail);
}

SpotProfiles spotProfiles(const SpotStamp& spot) {
    SpotProfiles out{std::vector<double>(spot.values.columns(), 0.0), std::vector<double>(spot.values.rows(), 0.0)};
    for (std::size_t y = 0; y < spot.values.rows(); ++y)
        for (std::size_t x = 0; x < spot.values.columns(); ++x) {
            out.x[x] += spot.values(y, x);
            out.y[y] += spot.values(y, x);
        }
    return out;
}

SpotFigures spotFigures(const SpotStamp& spot) {
    SpotFigures out;
    double sum = 0;
    double sumX = 0;
    double sumY = 0;
    const auto each = [&](auto&& body) {
        for (std::size_t y = 0; y < spot.values.rows(); ++y)
            for (std::size_t x = 0; x < spot.values.columns(); ++x)
                body(spot.cornerX + static_cast<double>(x), spot.cornerY + static_cast<double>(y), spot.values(y, x));
    };
    each([&](double x, double y, double value) {
        out.peak = std::max(out.peak, value);
        sum += value;
        sumX += value * x;
        sumY += value * y;
    });
    if (!(sum > 0)) return out;
    const double meanX = sumX / sum;
    const double meanY = sumY / sum;
    double xx = 0;
    double yy = 0;
    double xy = 0;
    std::vector<std::pair<double, double>> rings; // radius, light
    each([&](double x, double y, double value) {
        xx += value * (x - meanX) * (x - meanX);
        yy += value * (y - meanY) * (y - meanY);
        xy += value * (x - meanX) * (y - meanY);
        rings.emplace_back(std::hypot(x - meanX, y - meanY), value);
    });
    out.offsetX = meanX - spot.x;
    out.offsetY = meanY - spot.y;
    out.rmsX = std::sqrt(xx / sum);
    out.rmsY = std::sqrt(yy / sum);
    out.correlation = xx > 0 && yy > 0 ? xy / std::sqrt(xx * yy) : 0.0;
    const SpotProfiles profiles = spotProfiles(spot);
    out.fwhmX = resolutionFwhm(profiles.x.data(), profiles.x.size(), 1);
    out.fwhmY = resolutionFwhm(profiles.y.data(), profiles.y.size(), 1);
    std::sort(rings.begin(), rings.end());
    double inside = 0;
    for (const auto& [radius, light] : rings) {
        inside += light;
        if (out.radius50 == 0 && inside >= 0.5 * sum) out.radius50 = radius;
        if (inside >= 0.9 * sum) {
            out.radius90 = radius;
            break;
        }
    }
    return out;
}

SpotStamp spotDifference(const SpotStamp& a, const SpotStamp& b) {
    SpotStamp out;
    const auto edge = [](const SpotStamp& spot, bool x) {
        return x ? spot.cornerX + static_cast<int>(spot.values.columns())
                 : spot.cornerY + static_cast<int>(spot.values.rows());
    };
    out.cornerX = std::min(a.cornerX, b.cornerX);
    out.cornerY = std::min(a.cornerY, b.cornerY);
    out.x = a.x;
    out.y = a.y;
    out.values = Array2<double>(static_cast<std::size_t>(std::max(edge(a, false), edge(b, false)) - out.cornerY),
                                static_cast<std::size_t>(std::max(edge(a, true), edge(b, true)) - out.cornerX));
    for (const auto& [spot, sign] : {std::pair(&a, -1.0), std::pair(&b, 1.0)})
        for (std::size_t y = 0; y < spot->values.rows(); ++y)
            for (std::size_t x = 0; x < spot->values.columns(); ++x)
                out.values(y + static_cast<std::size_t>(spot->cornerY - out.cornerY),
                           x + static_cast<std::size_t>(spot->cornerX - out.cornerX)) += sign * spot->values(y, x);
    return out;
}

std::vector<PsfParameterValue> psfParameters(const Psf& psf, int spectrum, double wavelength) {
    static const std::array<const char*, 9> first{"X",        "Y",        "GHSIGX",   "GHSIGY",  "TAILAMP",
                                                  "TAILCORE", "TAILXSCA", "TAILYSCA", "TAILINDE"};
    std::vector<PsfParameterValue> out;
    if (spectrum < 0 || spectrum >= psf.nspec) return out;
    const auto add = [&](const std::string& name, const LegendreSeries& series) {
        const double domain[2] = {series.wavemin, series.wavemax};
        const double* coeff =
            series.coeff.data() + static_cast<std::size_t>(spectrum) * static_cast<std::size_t>(series.ncoeff);
        out.push_back({name, legendreSum(coeff, series.ncoeff, legendreArgument(wavelength, domain))});
    };
    for (const char* name : first)
        if (const auto found = psf.series.find(name); found != psf.series.end()) add(name, found->second);
    for (const auto& [name, series] : psf.series)
        if (std::find(first.begin(), first.end(), name) == first.end()) add(name, series);
    return out;
}

TraceOffsets traceOffsets(const Psf& a, const Psf& b, int nwave) {
    const double low = std::max(a.wavemin(), b.wavemin());
    const double high = std::min(a.wavemax(), b.wavemax());
    if (!(high > low))
        throw Error(
            fmt::format("{} holds {:.0f} to {:.0f} Angstrom and {} holds {:.0f} to {:.0f}: no wavelength in common",
                        a.path, a.wavemin(), a.wavemax(), b.path, b.wavemin(), b.wavemax()));
    const auto nspec = static_cast<std::size_t>(std::min(a.nspec, b.nspec));
    const auto count = static_cast<std::size_t>(std::max(2, nwave));
    TraceOffsets out;
    out.wavelength.resize(count);
    out.dx = Array2<double>(nspec, count);
    out.dy = Array2<double>(nspec, count);
    out.dwave = Array2<double>(nspec, count);
    const PsfView va = a.view();
    const PsfView vb = b.view();
    for (std::size_t j = 0; j < count; ++j)
        out.wavelength[j] = low + (high - low) * static_cast<double>(j) / static_cast<double>(count - 1);
    for (std::size_t s = 0; s < nspec; ++s)
        for (std::size_t j = 0; j < count; ++j) {
            const auto spectrum = static_cast<int>(s);
            const double wave = out.wavelength[j];
            const double dx = traceX(vb, spectrum, wave) - traceX(va, spectrum, wave);
            const double dy = traceY(vb, spectrum, wave) - traceY(va, spectrum, wave);
            out.dx(s, j) = dx;
            out.dy(s, j) = dy;
            out.dwave(s, j) = b.wavelengthAt(spectrum, traceY(va, spectrum, wave)) - wave;
            out.rmsX += dx * dx;
            out.rmsY += dy * dy;
            out.largestX = std::max(out.largestX, std::abs(dx));
            out.largestY = std::max(out.largestY, std::abs(dy));
        }
    const auto total = static_cast<double>(std::max<std::size_t>(1, nspec * count));
    out.rmsX = std::sqrt(out.rmsX / total);
    out.rmsY = std::sqrt(out.rmsY / total);
    return out;
}

} // namespace patchlight
