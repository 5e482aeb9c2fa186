#pragma once

#include <QColor>
#include <QString>

#include <span>
#include <utility>
#include <vector>

namespace patchlight::widgets {

/// How the range of values that the colours cover is found.
enum class Cuts { Zscale, MinMax, Percent90, Percent95, Percent98, Percent99, Percent995, Manual, Fixed };
/// How values inside the range become colours.
enum class Scaling { Linear, Log, Asinh, Sqrt, Equalize };

[[nodiscard]] QString cutsName(Cuts cuts);
[[nodiscard]] QString scalingName(Scaling scaling);

struct ValueRange {
    double low = 0;
    double high = 1;
    bool operator==(const ValueRange&) const = default;
};

/// How one layer is shown.
struct DisplaySettings {
    Cuts cuts = Cuts::Zscale;
    ValueRange range; ///< of Manual and Fixed; else what was found
    Scaling scaling = Scaling::Linear;
    QString map = QStringLiteral("gray");
    bool invert = false;
    double contrast = 1.0; ///< ds9's: slope of the colours about the bias
    double bias = 0.5;     ///< ds9's: which share of the range has the middle colour
    bool operator==(const DisplaySettings&) const = default;
};

/// About `count` finite values of an image, spread evenly over it, sorted.
[[nodiscard]] std::vector<float> sampleValues(const float* data, int nx, int ny, int count = 60000);
/// IRAF's zscale of sorted values: a line through the ranks with outliers rejected, its slope divided by `contrast`.
[[nodiscard]] ValueRange zscale(std::span<const float> sorted, double contrast = 0.25);
/// The range of `cuts` (not Manual, not Fixed) for all sorted values; the two ends always differ.
[[nodiscard]] ValueRange findRange(std::span<const float> all, Cuts cuts);
/// Exact smallest and largest finite value.
[[nodiscard]] ValueRange minMax(const float* data, std::size_t count);

/// Position on the colour map, 0 .. 1, of a value at share t (0 .. 1) of the range, before contrast and bias; not for Equalize.
[[nodiscard]] double scaled(Scaling scaling, double t);

/// Values to colours through one table: a multiplication and a look-up a pixel.
class ColorTable {
public:
    static constexpr int size = 16384;

    ColorTable() = default;
    /// @param sorted  a sample of the values, for Scaling::Equalize
    ColorTable(const DisplaySettings& settings, std::span<const float> sorted);

    [[nodiscard]] QRgb color(float value) const {
        if (!(value == value)) return noValue;
        const float t = (value - low_) * scale_;
        return table_[static_cast<std::size_t>(t <= 0.0F ? 0 : t >= size - 1 ? size - 1 : static_cast<int>(t))];
    }
    /// Of pixels that are NaN, or not known.
    QRgb noValue = qRgb(58, 52, 88);

private:
    float low_ = 0;
    float scale_ = 1;
    std::vector<QRgb> table_ = std::vector<QRgb>(size);
};

} // namespace patchlight::widgets
