#pragma once

#include "core/engine/Plan.h"
#include "core/psf/Psf.h"

#include <span>
#include <vector>

namespace patchlight {

struct ExtractedFrame;

/// Wavelengths of a frame as the PSF sees them, Angstrom: divided by HELIOCOR where the header has it.
[[nodiscard]] std::vector<double> psfWavelengths(const ExtractedFrame& frame);
/// What flux per Angstrom is multiplied by to be photons per bin, [nwave].
[[nodiscard]] std::vector<double> binWidths(std::span<const double> wavelength);
/// NOTAIL of the header, or a frame by gpu_specter, which leaves the PSF's tail out.
[[nodiscard]] bool frameSaysNoTail(const ExtractedFrame& frame);
/// Rows of a frame, bundle by bundle (BUNDLESZ of the header, else 25 fibers).
[[nodiscard]] std::vector<IndexRange> bundlesOf(const ExtractedFrame& frame);
/// A PSF with its traces moved along x (pixels) and its sigmas times 1 + widening.
[[nodiscard]] Psf variedPsf(const Psf& psf, double shift, double widening);

/// The light of one spectrum on the CCD: its spots, and a strip of pixels along its trace that they are painted into.
class SpotStrip {
public:
    /// Where the spots lie. @param wavelength  as the PSF sees it, Angstrom
    void locate(const PsfView& psf, int spectrum, std::span<const double> wavelength, int nx, int ny);
    /// A strip of the same pixels without light.
    [[nodiscard]] SpotStrip sameShape() const;
    /// Paints flux (photons per bin) with a PSF, which may be a little different from that of locate(). @param keep  keep the spots
    /// @param moved  Angstrom by which the light is at other wavelengths
    void paint(const PsfView& psf, std::span<const double> flux, bool tail, bool keep, double moved = 0.0);

    [[nodiscard]] int bins() const { return static_cast<int>(wavelength_.size()); }
    [[nodiscard]] int stampX() const { return stampX_; }
    [[nodiscard]] int stampY() const { return stampY_; }
    [[nodiscard]] int cornerX(int bin) const { return cornerX_[static_cast<std::size_t>(bin)]; }
    [[nodiscard]] int cornerY(int bin) const { return cornerY_[static_cast<std::size_t>(bin)]; }
    /// [stampY][stampX], sum 1.
    [[nodiscard]] std::span<const float> spot(int bin) const {
        const auto size = static_cast<std::size_t>(stampX_ * stampY_);
        return {spots_.data() + static_cast<std::size_t>(bin) * size, size};
    }
    /// CCD columns of any row, [first, last), not cut at the CCD's edges.
    [[nodiscard]] int firstColumn() const { return firstColumn_; }
    [[nodiscard]] int lastColumn() const { return lastColumn_; }
    /// Columns held of a row.
    [[nodiscard]] IndexRange columns(int y) const {
        const int origin = origin_[static_cast<std::size_t>(y)];
        return origin == nothing ? IndexRange{} : IndexRange{origin, origin + width_};
    }
    /// Light in a pixel, electrons; 0 outside the strip. y must be a row of the CCD.
    [[nodiscard]] double at(int x, int y) const {
        const int origin = origin_[static_cast<std::size_t>(y)];
        if (origin == nothing || x < origin || x >= origin + width_) return 0.0;
        return light_[static_cast<std::size_t>(y) * static_cast<std::size_t>(width_) +
                      static_cast<std::size_t>(x - origin)];
    }
    /// Adds the light to an image of columns [x0, x0 + width), [ny][width].
    void addTo(std::vector<double>& image, int x0, int width, int ny) const;
    /// Column of the trace at the middle of each row, [ny]; NaN where no bin is near.
    [[nodiscard]] std::vector<float> traceByRow(const PsfView& psf) const;

private:
    static constexpr int nothing = -1000000;
    int spectrum_ = 0;
    std::vector<double> wavelength_;
    int stampX_ = 0;
    int stampY_ = 0;
    int width_ = 0;
    int firstColumn_ = 0;
    int lastColumn_ = 0;
    std::vector<int> cornerX_, cornerY_; ///< [bins]
    std::vector<int> origin_;            ///< [ny]
    std::vector<float> spots_;           ///< [bins][stampY][stampX]
    std::vector<double> light_;          ///< [ny][width]
};

} // namespace patchlight
