#include "widgets/spectrum/SpectrumMath.h"

#include "core/analysis/Statistics.h"
#include "core/base/Nan.h"

#include <algorithm>
#include <cmath>

namespace patchlight::widgets {

namespace {

bool hasData(const SpectrumCurve& curve, std::size_t i) {
    return std::isfinite(curve.flux[i]) && (curve.ivar.empty() || curve.ivar[i] > 0);
}

} // namespace

Smoothed smoothed(const std::vector<double>& flux, const std::vector<double>& ivar, int width) {
    if (width <= 1) return {flux, ivar};
    const auto n = static_cast<std::ptrdiff_t>(flux.size());
    const std::ptrdiff_t half = width / 2;
    Smoothed out{std::vector<double>(flux.size(), nan), std::vector<double>(ivar.size(), 0.0)};
    // Running sums would leave roundings of a bright line behind in the faint bins after it.
    for (std::ptrdiff_t i = 0; i < n; ++i) {
        double sum = 0;
        double weights = 0;
        for (std::ptrdiff_t j = std::max<std::ptrdiff_t>(0, i - half); j <= std::min(n - 1, i + half); ++j) {
            const auto k = static_cast<std::size_t>(j);
            const double weight = ivar.empty() ? 1.0 : ivar[k];
            if (!std::isfinite(flux[k]) || !(weight > 0)) continue;
            sum += weight * flux[k];
            weights += weight;
        }
        if (weights > 0) {
            out.flux[static_cast<std::size_t>(i)] = sum / weights;
            if (!ivar.empty()) out.ivar[static_cast<std::size_t>(i)] = weights;
        }
    }
    return out;
}

RegionStatistics regionStatistics(const SpectrumCurve& curve, double low, double high) {
    if (low > high) std::swap(low, high);
    RegionStatistics out;
    double sum = 0;
    std::vector<double> values;
    std::vector<double> ratios;
    for (std::size_t i = 0; i < curve.size(); ++i) {
        if (curve.wavelength[i] < low || curve.wavelength[i] > high || !hasData(curve, i)) continue;
        values.push_back(curve.flux[i]);
        sum += curve.flux[i];
        out.integral += curve.flux[i] * curve.width(i);
        if (!curve.ivar.empty()) ratios.push_back(curve.flux[i] * std::sqrt(curve.ivar[i]));
    }
    out.count = values.size();
    const auto n = static_cast<double>(values.size());
    out.mean = values.empty() ? nan : sum / n;
    double squares = 0;
    for (const double value : values) squares += (value - out.mean) * (value - out.mean);
    out.rms = values.size() > 1 ? std::sqrt(squares / (n - 1)) : nan;
    out.snr = out.mean / out.rms;
    out.binSnr = median(std::move(ratios));
    return out;
}

EquivalentWidth equivalentWidth(const SpectrumCurve& curve, double low, double continuumLow, double high,
                                double continuumHigh) {
    if (low > high) {
        std::swap(low, high);
        std::swap(continuumLow, continuumHigh);
    }
    EquivalentWidth out;
    const double slope = high > low ? (continuumHigh - continuumLow) / (high - low) : 0.0;
    out.continuum = 0.5 * (continuumLow + continuumHigh);
    double variance = 0;
    double widthVariance = 0;
    double moment = 0;
    for (std::size_t i = 0; i < curve.size(); ++i) {
        const double wavelength = curve.wavelength[i];
        if (wavelength < low || wavelength > high || !hasData(curve, i)) continue;
        const double continuum = continuumLow + slope * (wavelength - low);
        const double width = curve.width(i);
        const double excess = (curve.flux[i] - continuum) * width;
        ++out.count;
        out.flux += excess;
        moment += excess * wavelength;
        out.width += (1.0 - curve.flux[i] / continuum) * width;
        const double sigma = curve.sigma(i);
        variance += sigma * sigma * width * width;
        widthVariance += sigma * sigma * width * width / (continuum * continuum);
    }
    out.centre = moment / out.flux;
    out.fluxError = std::sqrt(variance);
    out.widthError = std::sqrt(widthVariance);
    return out;
}

namespace {

bool isPadding(const SpectrumCurve& curve, std::size_t i) { return !curve.padding.empty() && curve.padding[i] != 0; }

} // namespace

std::vector<double> pullsAgainst(const SpectrumCurve& curve, const SpectrumCurve& other) {
    std::vector<double> out(curve.size(), nan);
    for (std::size_t i = 0; i < curve.size(); ++i) {
        if (!hasData(curve, i)) continue;
        const int at = other.binAt(curve.wavelength[i]);
        if (at < 0) continue;
        const auto j = static_cast<std::size_t>(at);
        if (std::abs(other.wavelength[j] - curve.wavelength[i]) > 0.01 * curve.width(i) || !hasData(other, j)) continue;
        if (isPadding(curve, i) != isPadding(other, j)) continue;
        double sigma = curve.sigma(i);
        const double otherSigma = other.sigma(j);
        if (std::isnan(sigma) || otherSigma < sigma) sigma = otherSigma;
        out[i] = (curve.flux[i] - other.flux[j]) / sigma;
    }
    return out;
}

Histogram histogram(const std::vector<double>& values, double low, double high, std::size_t bins) {
    Histogram out{.low = low, .high = high, .counts = std::vector<std::size_t>(bins, 0)};
    double sum = 0;
    for (const double value : values) {
        if (std::isnan(value)) continue;
        ++out.total;
        sum += value;
        if (value < low || value > high) ++out.outliers;
        const double at = std::clamp((value - low) / (high - low), 0.0, 1.0) * static_cast<double>(bins);
        ++out.counts[std::min(bins - 1, static_cast<std::size_t>(at))];
    }
    out.mean = out.total > 0 ? sum / static_cast<double>(out.total) : nan;
    double squares = 0;
    for (const double value : values)
        if (!std::isnan(value)) squares += (value - out.mean) * (value - out.mean);
    out.sigma = out.total > 1 ? std::sqrt(squares / static_cast<double>(out.total - 1)) : nan;
    return out;
}

} // namespace patchlight::widgets
