#pragma once

#include "widgets/control/Cursor.h"

#include <vector>

namespace patchlight {
class Psf;
}

namespace patchlight::widgets {

/// The traces of a PSF, sampled every few rows: quick to draw and to search.
class TraceMap {
public:
    static constexpr int rowStep = 16; ///< rows between two samples

    /// Samples the traces of rows 0 .. ny - 1. `psf` must outlive the map.
    TraceMap(const Psf& psf, int nx, int ny);

    [[nodiscard]] int nspec() const { return nspec_; }
    [[nodiscard]] int samples() const { return samples_; }
    /// Row of a sample, pixels.
    [[nodiscard]] double row(int sample) const { return static_cast<double>(sample) * rowStep; }
    /// Column of a trace at a sample, pixels.
    [[nodiscard]] double column(int spectrum, int sample) const { return columns_[index(spectrum, sample)]; }
    /// Column of a trace at a row, interpolated between samples, pixels.
    [[nodiscard]] double columnAt(int spectrum, double y) const;
    /// The spectrum whose trace is nearest in x at row y; its distance in pixels (signed) into `distance`.
    [[nodiscard]] int nearest(double x, double y, double* distance = nullptr) const;
    /// Half-open range of spectra whose traces come between columns x0 and x1 anywhere in rows y0 .. y1.
    void visible(double x0, double x1, double y0, double y1, int& first, int& last) const;
    /// Median distance of neighbouring traces in the middle row, pixels.
    [[nodiscard]] double spacing() const { return spacing_; }

private:
    [[nodiscard]] std::size_t index(int spectrum, int sample) const {
        return static_cast<std::size_t>(spectrum) * static_cast<std::size_t>(samples_) +
               static_cast<std::size_t>(sample);
    }
    int nspec_ = 0;
    int samples_ = 0;
    double spacing_ = 0;
    std::vector<float> columns_; ///< [nspec][samples]
};

} // namespace patchlight::widgets
