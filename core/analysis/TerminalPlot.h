#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace patchlight {

/// A spectrum to draw.
struct SpectrumPlot {
    std::string title;
    std::vector<double> wavelength; ///< [n], Angstrom, increasing
    std::vector<double> flux;       ///< [n]
    std::vector<double> sigma;      ///< [n], 0 where there is no data
    std::vector<bool> masked;       ///< [n]
    std::string unit;               ///< of flux
};

enum class FluxScale {
    Auto, ///< asinh where the largest flux is more than ten times a typical one
    Linear,
    Asinh, ///< linear around 0, logarithmic far from it: continuum and bright lines on one plot
};

struct PlotOptions {
    std::size_t width = 80;  ///< characters a line, at least 40
    std::size_t height = 16; ///< lines of the plot itself, at least 4
    FluxScale scale = FluxScale::Auto;
};

/// Draws a spectrum with Braille characters (UTF-8), 2 x 4 dots a character: the range of flux in each column of dots, joined to a
/// line; +-1 sigma about it shaded where it is wider than that; below it a line that marks masked bins and bins without data, and
/// the wavelength axis. No line is longer than `width`; lines end with '\n'.
[[nodiscard]] std::string drawSpectrum(const SpectrumPlot& plot, const PlotOptions& options = {});

} // namespace patchlight
