#include "widgets/plot/Axes.h"

#include <algorithm>
#include <cmath>

namespace patchlight::widgets {

QString Ticks::label(double value) const {
    if (step <= 0) return QString::number(value, 'g', 6);
    if (std::abs(value) < 1e-9 * step) return QStringLiteral("0");
    const double magnitude = std::max(std::abs(values.front()), std::abs(values.back()));
    if (magnitude >= 1e6 || magnitude < 1e-3) {
        const int digits = std::max(0, static_cast<int>(std::floor(std::log10(std::abs(value) * 1.0000001)) -
                                                        std::floor(std::log10(step * 1.0000001))));
        return QString::number(value, 'e', digits).replace(QStringLiteral("e+0"), QStringLiteral("e"));
    }
    const int decimals = std::max(0, -static_cast<int>(std::floor(std::log10(step * 1.0000001))));
    return QString::number(value, 'f', decimals);
}

Ticks makeTicks(const Interval& interval, int most) {
    Ticks out;
    const double span = interval.span();
    if (!(span > 0) || !std::isfinite(span) || !std::isfinite(interval.low)) return out;
    most = std::max(most, 2);
    const double power = std::pow(10.0, std::floor(std::log10(span / most)));
    const auto fill = [&](double step) {
        out.step = step;
        out.values.clear();
        const auto first = static_cast<long long>(std::ceil(interval.low / step - 1e-9));
        const auto last = static_cast<long long>(std::floor(interval.high / step + 1e-9));
        for (long long i = first; i <= last; ++i) out.values.push_back(static_cast<double>(i) * step);
    };
    double finer = 0;
    for (const double factor : {1.0, 2.0, 5.0, 10.0, 20.0, 50.0}) {
        fill(factor * power);
        if (span / out.step <= most) break;
        finer = out.step;
    }
    // One number alone says nothing about a scale.
    if (out.values.size() < 2 && finer > 0) fill(finer);
    return out;
}

Interval zoomed(const Interval& interval, double about, double factor) {
    return {about - (about - interval.low) / factor, about + (interval.high - about) / factor};
}

} // namespace patchlight::widgets
