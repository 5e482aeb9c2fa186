#include "widgets/ccd/Display.h"

#include "widgets/ccd/ColorMap.h"

#include <QCoreApplication>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace patchlight::widgets {

namespace {

QString displayText(const char* text) { return QCoreApplication::translate("Display", text); }

} // namespace

QString cutsName(Cuts cuts) {
    switch (cuts) {
    case Cuts::Zscale:
        return displayText("zscale");
    case Cuts::MinMax:
        return displayText("min to max");
    case Cuts::Percent90:
        return displayText("90 %");
    case Cuts::Percent95:
        return displayText("95 %");
    case Cuts::Percent98:
        return displayText("98 %");
    case Cuts::Percent99:
        return displayText("99 %");
    case Cuts::Percent995:
        return displayText("99.5 %");
    case Cuts::Manual:
        return displayText("manual");
    case Cuts::Fixed:
        return displayText("\u00b15 sigma");
    }
    return {};
}

QString scalingName(Scaling scaling) {
    switch (scaling) {
    case Scaling::Linear:
        return displayText("linear");
    case Scaling::Log:
        return displayText("log");
    case Scaling::Asinh:
        return displayText("asinh");
    case Scaling::Sqrt:
        return displayText("sqrt");
    case Scaling::Equalize:
        return displayText("histogram");
    }
    return {};
}

std::vector<float> sampleValues(const float* data, int nx, int ny, int count) {
    std::vector<float> values;
    if (nx <= 0 || ny <= 0) return values;
    const auto total = static_cast<std::size_t>(nx) * static_cast<std::size_t>(ny);
    // A stride without a common factor with the width visits all columns; the rows come by themselves.
    std::size_t stride = std::max<std::size_t>(1, total / static_cast<std::size_t>(count));
    while (stride > 1 && std::gcd(stride, static_cast<std::size_t>(nx)) != 1) --stride;
    values.reserve(total / stride + 1);
    for (std::size_t i = stride / 2; i < total; i += stride)
        if (std::isfinite(data[i])) values.push_back(data[i]);
    std::sort(values.begin(), values.end());
    return values;
}

ValueRange zscale(std::span<const float> sorted, double contrast) {
    if (sorted.empty()) return {0, 1};
    const auto n = static_cast<int>(sorted.size());
    const ValueRange all{sorted.front(), sorted.back()};
    const int centre = (n - 1) / 2;
    const double median =
        n % 2 == 1 ? sorted[static_cast<std::size_t>(centre)]
                   : 0.5 * (sorted[static_cast<std::size_t>(centre)] + sorted[static_cast<std::size_t>(centre) + 1]);
    constexpr int minimumPixels = 5;
    if (n < minimumPixels) return all;
    // value(rank) = intercept + slope * (rank - middle), fitted again without what lies beyond 2.5 sigma, at most five times.
    std::vector<char> good(sorted.size(), 1);
    const double middle = 0.5 * (n - 1);
    double slope = 0;
    int kept = n;
    for (int iteration = 0; iteration < 5; ++iteration) {
        double s = 0;
        double sx = 0;
        double sy = 0;
        double sxx = 0;
        double sxy = 0;
        for (int i = 0; i < n; ++i) {
            if (!good[static_cast<std::size_t>(i)]) continue;
            const double x = i - middle;
            const double y = sorted[static_cast<std::size_t>(i)];
            s += 1;
            sx += x;
            sy += y;
            sxx += x * x;
            sxy += x * y;
        }
        const double determinant = s * sxx - sx * sx;
        if (determinant <= 0) break;
        slope = (s * sxy - sx * sy) / determinant;
        const double intercept = (sy - slope * sx) / s;
        double variance = 0;
        for (int i = 0; i < n; ++i) {
            if (!good[static_cast<std::size_t>(i)]) continue;
            const double d = sorted[static_cast<std::size_t>(i)] - intercept - slope * (i - middle);
            variance += d * d;
        }
        const double limit = 2.5 * std::sqrt(variance / s);
        int now = 0;
        for (int i = 0; i < n; ++i) {
            const double d = sorted[static_cast<std::size_t>(i)] - intercept - slope * (i - middle);
            good[static_cast<std::size_t>(i)] = static_cast<char>(std::abs(d) <= limit);
            now += good[static_cast<std::size_t>(i)];
        }
        if (now == kept || now < std::max(minimumPixels, n / 2)) {
            kept = now;
            break;
        }
        kept = now;
    }
    if (kept < std::max(minimumPixels, n / 2) || !(slope > 0))
        return all.high > all.low ? all : ValueRange{all.low, all.low + 1};
    if (contrast > 0) slope /= contrast;
    return {std::max(all.low, median - (centre)*slope), std::min(all.high, median + (n - 1 - centre) * slope)};
}

ValueRange minMax(const float* data, std::size_t count) {
    float low = std::numeric_limits<float>::infinity();
    float high = -low;
    for (std::size_t i = 0; i < count; ++i) {
        if (!std::isfinite(data[i])) continue;
        low = std::min(low, data[i]);
        high = std::max(high, data[i]);
    }
    if (!(low <= high)) return {0, 1};
    return {low, high > low ? high : low + 1.0};
}

namespace {

/// The values without the one that fills more than a fifth of the image, where there is such a one: pixels without data, not of it.
std::vector<float> withoutFill(std::span<const float> sorted) {
    std::size_t longest = 0;
    std::size_t at = 0;
    for (std::size_t i = 0; i < sorted.size();) {
        std::size_t j = i;
        while (j < sorted.size() && sorted[j] == sorted[i]) ++j;
        if (j - i > longest) {
            longest = j - i;
            at = i;
        }
        i = j;
    }
    constexpr std::size_t least = 100;
    std::vector<float> values(sorted.begin(), sorted.end());
    if (5 * longest > sorted.size() && sorted.size() - longest >= least)
        values.erase(values.begin() + static_cast<std::ptrdiff_t>(at),
                     values.begin() + static_cast<std::ptrdiff_t>(at + longest));
    return values;
}

} // namespace

ValueRange findRange(std::span<const float> all, Cuts cuts) {
    const std::vector<float> sorted =
        cuts == Cuts::MinMax ? std::vector<float>(all.begin(), all.end()) : withoutFill(all);
    if (sorted.empty()) return {0, 1};
    const auto percent = [&](double share) -> ValueRange {
        const double outside = 0.5 * (1.0 - share) * static_cast<double>(sorted.size() - 1);
        const auto low = static_cast<std::size_t>(std::lround(outside));
        return {sorted[low], sorted[sorted.size() - 1 - low]};
    };
    ValueRange range{sorted.front(), sorted.back()};
    switch (cuts) {
    case Cuts::Zscale:
        range = zscale(sorted);
        break;
    case Cuts::Percent90:
        range = percent(0.90);
        break;
    case Cuts::Percent95:
        range = percent(0.95);
        break;
    case Cuts::Percent98:
        range = percent(0.98);
        break;
    case Cuts::Percent99:
        range = percent(0.99);
        break;
    case Cuts::Percent995:
        range = percent(0.995);
        break;
    case Cuts::MinMax:
    case Cuts::Manual:
    case Cuts::Fixed:
        break;
    }
    if (!(range.high > range.low)) range.high = range.low + std::max(1.0, std::abs(range.low) * 1e-6);
    return range;
}

double scaled(Scaling scaling, double t) {
    t = std::clamp(t, 0.0, 1.0);
    switch (scaling) {
    case Scaling::Log:
        return std::log1p(1000.0 * t) / std::log(1001.0);
    case Scaling::Asinh:
        return std::asinh(10.0 * t) / std::asinh(10.0);
    case Scaling::Sqrt:
        return std::sqrt(t);
    case Scaling::Linear:
    case Scaling::Equalize:
        break;
    }
    return t;
}

ColorTable::ColorTable(const DisplaySettings& settings, std::span<const float> sorted) {
    const double low = settings.range.low;
    const double high = settings.range.high > low ? settings.range.high : low + 1.0;
    low_ = static_cast<float>(low);
    scale_ = static_cast<float>((size - 1) / (high - low));
    const ColorMap& map = colorMap(settings.map);
    const auto first = std::lower_bound(sorted.begin(), sorted.end(), static_cast<float>(low));
    const auto last = std::upper_bound(first, sorted.end(), static_cast<float>(high));
    auto rank = first;
    for (int i = 0; i < size; ++i) {
        const double t = static_cast<double>(i) / (size - 1);
        double c = t;
        if (settings.scaling == Scaling::Equalize) {
            const auto value = static_cast<float>(low + t * (high - low));
            while (rank != last && *rank <= value) ++rank;
            if (last != first) c = static_cast<double>(rank - first) / static_cast<double>(last - first);
        } else {
            c = scaled(settings.scaling, t);
        }
        c = std::clamp((c - settings.bias) * settings.contrast + 0.5, 0.0, 1.0);
        if (settings.invert) c = 1.0 - c;
        table_[static_cast<std::size_t>(i)] = map.colors[static_cast<std::size_t>(std::lround(255.0 * c))];
    }
}

} // namespace patchlight::widgets
