#include "core/analysis/TerminalPlot.h"

#include "core/analysis/Statistics.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>

namespace patchlight {

namespace {

constexpr std::size_t labelWidth = 9; // "1.234e+05" at most, with the blank before the plot

/// From flux to a height and back.
class Scale {
public:
    Scale(FluxScale kind, double typical) : asinh_(kind == FluxScale::Asinh), typical_(typical) {}
    [[nodiscard]] double height(double flux) const { return asinh_ ? std::asinh(flux / typical_) : flux; }
    [[nodiscard]] double flux(double height) const { return asinh_ ? typical_ * std::sinh(height) : height; }
    [[nodiscard]] bool isAsinh() const { return asinh_; }

private:
    bool asinh_;
    double typical_;
};

/// The dots of a plot: width x height characters of 2 x 4 dots.
class Dots {
public:
    Dots(std::size_t columns, std::size_t rows) : columns_(columns), rows_(rows), cells_(columns * rows, 0) {}

    void set(std::size_t x, std::size_t y) { // y from the top
        // Braille's dots are numbered 1 2 3 7 down the left side of a cell and 4 5 6 8 down the right.
        constexpr std::uint8_t bits[2][4] = {{0x01, 0x02, 0x04, 0x40}, {0x08, 0x10, 0x20, 0x80}};
        if (x < 2 * columns_ && y < 4 * rows_) cells_[y / 4 * columns_ + x / 2] |= bits[x % 2][y % 4];
    }
    [[nodiscard]] std::uint8_t cell(std::size_t column, std::size_t row) const {
        return cells_[row * columns_ + column];
    }

private:
    std::size_t columns_;
    std::size_t rows_;
    std::vector<std::uint8_t> cells_;
};

std::string utf8Braille(std::uint8_t dots) {
    const unsigned code = 0x2800U + dots;
    return {static_cast<char>(0xE0U | code >> 12U), static_cast<char>(0x80U | (code >> 6U & 0x3FU)),
            static_cast<char>(0x80U | (code & 0x3FU))};
}

/// A number in at most labelWidth - 1 characters.
std::string label(double value) {
    const std::string plain = fmt::format("{:.4g}", value == 0.0 ? 0.0 : value); // no "-0"
    return plain.size() < labelWidth ? plain : fmt::format("{:.1e}", value);
}

/// What falls on one column of dots, or of characters.
struct Column {
    double low = std::numeric_limits<double>::infinity();
    double high = -std::numeric_limits<double>::infinity();
    double sigma = 0;
    std::size_t bins = 0;
    std::size_t good = 0;   ///< with data
    std::size_t masked = 0; ///< of those with data
};

bool hasData(const SpectrumPlot& plot, std::size_t i) {
    return plot.sigma[i] > 0.0 && std::isfinite(plot.sigma[i]) && std::isfinite(plot.flux[i]);
}

std::vector<Column> gather(const SpectrumPlot& plot, std::size_t count) {
    std::vector<Column> columns(count);
    const std::size_t n = plot.wavelength.size();
    for (std::size_t c = 0; c < count; ++c) {
        // Fewer bins than columns: neighbouring columns show the same bin.
        const std::size_t first = c * n / count;
        const std::size_t last = std::max(first + 1, (c + 1) * n / count);
        Column& column = columns[c];
        for (std::size_t i = first; i < last; ++i) {
            ++column.bins;
            if (!hasData(plot, i)) continue;
            ++column.good;
            if (plot.masked[i]) {
                ++column.masked;
                continue;
            }
            column.low = std::min(column.low, plot.flux[i]);
            column.high = std::max(column.high, plot.flux[i]);
            column.sigma = std::max(column.sigma, plot.sigma[i]);
        }
    }
    return columns;
}

/// Wavelengths in round steps below a plot, as many as fit.
void appendAxis(std::string& text, const SpectrumPlot& plot, std::size_t columns) {
    const double first = plot.wavelength.front();
    const double last = plot.wavelength.back();
    std::string ticks(columns, '-');
    std::string numbers(columns, ' ');
    const std::string unit = "Angstrom";
    if (last > first) {
        double step = std::pow(10.0, std::floor(std::log10((last - first) / 4.0)));
        for (const double factor : {1.0, 2.0, 2.5, 2.0}) { // 1, 2, 5, 10 of the power of ten
            if ((last - first) / step * 9.0 <= static_cast<double>(columns)) break;
            step *= factor == 1.0 ? 2.0 : factor;
        }
        const int decimals = step < 0.1 ? 2 : (step < 1.0 ? 1 : 0);
        for (double tick = std::ceil(first / step) * step; tick <= last + 1e-9 * step; tick += step) {
            const double position = (tick - first) / (last - first) * static_cast<double>(columns - 1);
            const auto column = static_cast<std::size_t>(std::lround(position));
            ticks[column] = '+';
            const std::string number = fmt::format("{:.{}f}", tick, decimals);
            const std::size_t half = number.size() / 2;
            const std::size_t at = column < half ? 0 : column - half;
            if (at + number.size() > columns) continue;
            const bool isFree = std::all_of(numbers.begin() + static_cast<std::ptrdiff_t>(at > 0 ? at - 1 : 0),
                                            numbers.begin() + static_cast<std::ptrdiff_t>(at + number.size()),
                                            [](char c) { return c == ' '; });
            if (isFree) numbers.replace(at, number.size(), number);
        }
    }
    // The unit where the end of the line leaves room for it.
    const std::size_t end = numbers.find_last_not_of(' ');
    const std::size_t used = end == std::string::npos ? 0 : end + 2;
    if (used + unit.size() <= columns) numbers.replace(columns - unit.size(), unit.size(), unit);
    numbers.erase(numbers.find_last_not_of(' ') + 1);
    text += std::string(labelWidth, ' ') + ticks + '\n';
    text += std::string(labelWidth, ' ') + numbers + '\n';
}

} // namespace

std::string drawSpectrum(const SpectrumPlot& plot, const PlotOptions& options) {
    const std::size_t width = std::max<std::size_t>(options.width, 40);
    const std::size_t rows = std::max<std::size_t>(options.height, 4);
    const std::size_t columns = width - labelWidth;
    std::string text = plot.title.substr(0, width) + '\n';
    const std::size_t n = plot.wavelength.size();
    std::vector<double> good;
    for (std::size_t i = 0; i < n; ++i) {
        if (hasData(plot, i) && !plot.masked[i]) good.push_back(plot.flux[i]);
    }
    if (good.empty()) return text + "no bin with data that is not masked\n";

    const auto [smallest, largest] = std::minmax_element(good.begin(), good.end());
    const double low = std::min(*smallest, 0.0);
    const double high = std::max(*largest, 0.0);
    std::vector<double> sizes = good;
    for (double& size : sizes) size = std::abs(size);
    double typical = medianInPlace(std::span<double>(sizes));
    if (!(typical > 0.0)) typical = std::max({std::abs(low), std::abs(high), 1e-30});
    const bool wide = std::max(high, -low) > 10.0 * typical;
    const FluxScale kind =
        options.scale != FluxScale::Auto ? options.scale : (wide ? FluxScale::Asinh : FluxScale::Linear);
    const Scale scale(kind, typical);
    const double bottom = scale.height(low);
    double top = scale.height(high);
    if (!(top > bottom)) top = bottom + 1.0;
    const double dotsHigh = static_cast<double>(4 * rows - 1);
    const auto dotOf = [&](double flux) { // from the top, fractions kept
        return (top - std::clamp(scale.height(flux), bottom, top)) / (top - bottom) * dotsHigh;
    };

    // The line: the range of each column of dots, and the gap to the column before, so that it does not break up.
    Dots dots(columns, rows);
    const std::vector<Column> fine = gather(plot, 2 * columns);
    std::ptrdiff_t lastUpper = -1;
    std::ptrdiff_t lastLower = -1;
    for (std::size_t x = 0; x < fine.size(); ++x) {
        if (fine[x].good == fine[x].masked) {
            lastUpper = -1;
            continue;
        }
        std::ptrdiff_t upper = std::lround(dotOf(fine[x].high));
        std::ptrdiff_t lower = std::lround(dotOf(fine[x].low));
        const std::ptrdiff_t ownUpper = upper;
        const std::ptrdiff_t ownLower = lower;
        if (lastUpper >= 0) {
            if (upper > lastLower) upper = lastLower + 1;
            if (lower < lastUpper) lower = lastUpper - 1;
        }
        for (std::ptrdiff_t y = std::min(upper, ownUpper); y <= std::max(lower, ownLower); ++y)
            dots.set(x, static_cast<std::size_t>(y));
        lastUpper = ownUpper;
        lastLower = ownLower;
    }

    const std::vector<Column> coarse = gather(plot, columns);
    for (std::size_t row = 0; row < rows; ++row) {
        const bool labelled = row == 0 || row == rows - 1 || (row % 4 == 0 && rows - 1 - row >= 3);
        const double middle = (4.0 * static_cast<double>(row) + 1.5) / dotsHigh;
        const double edge = row == 0 ? 0.0 : (row == rows - 1 ? 1.0 : middle);
        std::string line =
            fmt::format("{:>{}} ", labelled ? label(scale.flux(top - edge * (top - bottom))) : "", labelWidth - 1);
        for (std::size_t c = 0; c < columns; ++c) {
            const std::uint8_t cell = dots.cell(c, row);
            if (cell != 0) {
                line += utf8Braille(cell);
                continue;
            }
            const Column& column = coarse[c];
            const double centre = 4.0 * static_cast<double>(row) + 1.5;
            const bool shaded = column.good > column.masked && dotOf(column.high + column.sigma) <= centre &&
                                centre <= dotOf(column.low - column.sigma);
            line += shaded ? "\u2591" : " ";
        }
        line.erase(line.find_last_not_of(' ') + 1);
        text += line + '\n';
    }

    std::string marks;
    bool any = false;
    for (const Column& column : coarse) {
        const char* mark = column.good == 0 ? "o" : (column.masked > 0 ? "x" : " ");
        any = any || *mark != ' ';
        marks += mark;
    }
    if (any) {
        marks.erase(marks.find_last_not_of(' ') + 1);
        text += fmt::format("{:>{}} {}\n", "masked", labelWidth - 1, marks);
    }
    appendAxis(text, plot, columns);
    std::string legend =
        plot.unit + (plot.unit.empty() ? "" : ", ") + (scale.isAsinh() ? "asinh scale" : "linear scale");
    const std::string meaning = any ? "; x masked, o no data" : "";
    if (legend.size() + meaning.size() <= width) legend += meaning;
    text += legend.substr(0, width) + '\n';
    return text;
}

} // namespace patchlight
