#pragma once

#include <QColor>
#include <QString>

#include <array>
#include <span>

namespace patchlight::widgets {

/// A map from 0 .. 1 to colours, as 256 entries. All have a lightness that only rises (or, the diverging one, falls to both sides), so
/// that they read the same to colour-blind eyes and in print.
struct ColorMap {
    QString id;   ///< in sessions
    QString name; ///< for people
    std::array<QRgb, 256> colors{};
};

/// All maps: gray, sea, ember, dusk, diverging.
[[nodiscard]] std::span<const ColorMap> colorMaps();
/// The map of that id; gray where there is none.
[[nodiscard]] const ColorMap& colorMap(const QString& id);

/// sRGB of an OKLCh colour (Ottosson 2020): lightness 0 .. 1, chroma, hue in degrees; out-of-gamut values are clipped.
[[nodiscard]] QRgb okLch(double lightness, double chroma, double hue);

} // namespace patchlight::widgets
