#include "widgets/ccd/ColorMap.h"

#include <QCoreApplication>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

namespace patchlight::widgets {

namespace {

int toByte(double linear) {
    const double value = linear <= 0.0031308 ? 12.92 * linear : 1.055 * std::pow(linear, 1.0 / 2.4) - 0.055;
    return static_cast<int>(std::lround(255.0 * std::clamp(value, 0.0, 1.0)));
}

template <class Function> ColorMap make(const char* id, const char* name, const Function& color) {
    ColorMap map;
    map.id = QString::fromLatin1(id);
    map.name = QCoreApplication::translate("ColorMap", name);
    for (std::size_t i = 0; i < map.colors.size(); ++i) map.colors[i] = color(static_cast<double>(i) / 255.0);
    return map;
}

/// Lightness from l0 to l1, hue from h0 to h1 degrees, chroma highest in the middle.
auto ramp(double l0, double l1, double h0, double h1, double chroma) {
    return [=](double t) {
        return okLch(l0 + (l1 - l0) * t, chroma * std::pow(std::sin(std::numbers::pi * (0.06 + 0.88 * t)), 0.8),
                     h0 + (h1 - h0) * t);
    };
}

std::vector<ColorMap> makeMaps() {
    std::vector<ColorMap> maps;
    maps.push_back(make("gray", "Gray", [](double t) {
        const int v = static_cast<int>(std::lround(255.0 * t));
        return qRgb(v, v, v);
    }));
    maps.push_back(make("sea", "Sea", ramp(0.16, 0.94, 300.0, 105.0, 0.155)));
    maps.push_back(make("ember", "Ember", ramp(0.05, 0.97, 290.0, 470.0, 0.20)));
    maps.push_back(make("dusk", "Dusk", [](double t) {
        // Only blue against yellow: the axis that all common colour-blind eyes see.
        const double strength = std::abs(2.0 * t - 1.0);
        return okLch(0.14 + 0.80 * t, 0.09 * strength + 0.01, t < 0.5 ? 262.0 : 95.0);
    }));
    maps.push_back(make("diverging", "Diverging", [](double t) {
        const double d = 2.0 * t - 1.0;
        const double strength = std::abs(d);
        return okLch(0.97 - 0.58 * std::pow(strength, 1.15), 0.19 * std::pow(strength, 0.85), d < 0 ? 255.0 : 33.0);
    }));
    return maps;
}

} // namespace

QRgb okLch(double lightness, double chroma, double hue) {
    const double a = chroma * std::cos(hue * std::numbers::pi / 180.0);
    const double b = chroma * std::sin(hue * std::numbers::pi / 180.0);
    const double l = std::pow(lightness + 0.3963377774 * a + 0.2158037573 * b, 3);
    const double m = std::pow(lightness - 0.1055613458 * a - 0.0638541728 * b, 3);
    const double s = std::pow(lightness - 0.0894841775 * a - 1.2914855480 * b, 3);
    return qRgb(toByte(4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s),
                toByte(-1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s),
                toByte(-0.0041960863 * l - 0.7034186147 * m + 1.7076147010 * s));
}

std::span<const ColorMap> colorMaps() {
    static const std::vector<ColorMap> maps = makeMaps();
    return maps;
}

const ColorMap& colorMap(const QString& id) {
    const std::span<const ColorMap> maps = colorMaps();
    const auto it = std::find_if(maps.begin(), maps.end(), [&](const ColorMap& map) { return map.id == id; });
    return it == maps.end() ? maps.front() : *it;
}

} // namespace patchlight::widgets
