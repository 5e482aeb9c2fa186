#include "widgets/plot/Colours.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace patchlight::widgets {

namespace {

struct Stop {
    double at;
    int red;
    int green;
    int blue;
};

std::array<QRgb, 256> interpolate(const std::vector<Stop>& stops) {
    std::array<QRgb, 256> out{};
    std::size_t next = 1;
    for (int i = 0; i < 256; ++i) {
        const double at = i / 255.0;
        while (next + 1 < stops.size() && at > stops[next].at) ++next;
        const Stop& a = stops[next - 1];
        const Stop& b = stops[next];
        const double t = std::clamp((at - a.at) / (b.at - a.at), 0.0, 1.0);
        const auto mix = [t](int from, int to) { return static_cast<int>(std::lround(from + t * (to - from))); };
        out[static_cast<std::size_t>(i)] = qRgb(mix(a.red, b.red), mix(a.green, b.green), mix(a.blue, b.blue));
    }
    return out;
}

} // namespace

QColor PlotColours::series(int index) const {
    // Okabe and Ito's set; black becomes the text's colour, and yellow is too pale on white.
    static const std::array<const char*, 7> light{"#0072B2", "#D55E00", "#009E73", "#CC79A7",
                                                  "#E69F00", "#56B4E9", "#8C6D00"};
    static const std::array<const char*, 7> darkSet{"#56B4E9", "#E69F00", "#2BC79A", "#E59CC4",
                                                    "#F0E442", "#FF8A3D", "#7FA8FF"};
    const auto i = static_cast<std::size_t>(((index % 8) + 8) % 8);
    if (i == 7) return text;
    return QColor(QLatin1String(dark ? darkSet[i] : light[i]));
}

QColor PlotColours::maskBit(int bit) const { return series(bit * 3 + 1); }

PlotColours plotColours(const QPalette& palette) {
    PlotColours out;
    out.background = palette.color(QPalette::Base);
    out.text = palette.color(QPalette::Text);
    out.dark = out.background.lightness() < 128;
    const auto mix = [&](double share) {
        const auto channel = [&](int a, int b) { return static_cast<int>(std::lround(a + share * (b - a))); };
        return QColor(channel(out.background.red(), out.text.red()), channel(out.background.green(), out.text.green()),
                      channel(out.background.blue(), out.text.blue()));
    };
    out.axis = mix(0.6);
    out.grid = mix(0.12);
    out.faint = mix(0.45);
    out.padding = mix(0.10);
    out.cursor = mix(0.75);
    out.accent = palette.color(QPalette::Highlight);
    return out;
}

ColourMap::ColourMap(Kind kind) : kind_(kind) {
    switch (kind) {
    case Kind::Grey:
        table_ = interpolate({{0, 0, 0, 0}, {1, 255, 255, 255}});
        notFinite_ = qRgb(200, 60, 140);
        break;
    case Kind::Heat:
        table_ = interpolate({{0, 0, 0, 4},
                              {0.2, 38, 32, 96},
                              {0.4, 112, 42, 128},
                              {0.6, 196, 74, 92},
                              {0.8, 245, 146, 40},
                              {1, 252, 250, 200}});
        notFinite_ = qRgb(0, 158, 115);
        break;
    case Kind::Diverging:
        table_ = interpolate({{0, 8, 48, 107},
                              {0.2, 33, 113, 181},
                              {0.38, 146, 190, 221},
                              {0.5, 247, 247, 247},
                              {0.62, 244, 180, 130},
                              {0.8, 213, 94, 0},
                              {1, 110, 40, 0}});
        notFinite_ = qRgb(0, 158, 115);
        break;
    }
}

QRgb ColourMap::colour(double value, double low, double high) const {
    if (!std::isfinite(value)) return notFinite_;
    const double span = high - low;
    const double t = span > 0 ? (value - low) / span : 0.5;
    return table_[static_cast<std::size_t>(std::clamp(static_cast<int>(t * 256.0), 0, 255))];
}

} // namespace patchlight::widgets
