#pragma once

#include <QColor>
#include <QImage>
#include <QPalette>

#include <array>
#include <cstdint>

namespace patchlight::widgets {

/// Colours of a plot, for the light or the dark palette that a widget has. Series are those of Okabe and Ito, which stay apart
/// for every kind of colour blindness, made lighter or darker where the background asks for it.
struct PlotColours {
    bool dark = false;
    QColor background;
    QColor text;
    QColor axis;
    QColor grid;
    QColor faint;   ///< masked bins, secondary text
    QColor padding; ///< area of padding bins
    QColor cursor;
    QColor accent; ///< the selection

    /// Colour of curve `index`; eight, then they repeat.
    [[nodiscard]] QColor series(int index) const;
    /// Colour of MASK bit `bit`, to be used as a transparent area.
    [[nodiscard]] QColor maskBit(int bit) const;
};

[[nodiscard]] PlotColours plotColours(const QPalette& palette);

/// A colour map: 256 colours from the smallest to the largest value, with one more for values that are not finite.
class ColourMap {
public:
    enum class Kind {
        Grey,      ///< black to white
        Heat,      ///< black, blue-violet, orange, yellow-white, with even steps of lightness
        Diverging, ///< blue, white, orange-red: zero is white
    };

    explicit ColourMap(Kind kind);
    [[nodiscard]] QRgb colour(double value, double low, double high) const;
    [[nodiscard]] QRgb at(int index) const { return table_[static_cast<std::size_t>(index)]; }
    [[nodiscard]] QRgb notFinite() const { return notFinite_; }
    [[nodiscard]] Kind kind() const { return kind_; }

private:
    Kind kind_;
    std::array<QRgb, 256> table_{};
    QRgb notFinite_ = 0;
};

} // namespace patchlight::widgets
