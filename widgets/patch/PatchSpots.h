#pragma once

#include <cstddef>
#include <vector>

namespace patchlight {
struct Patch;
struct Plan;
class Psf;
} // namespace patchlight

namespace patchlight::widgets {

/// The spots of all bins of a patch, padding included: which pixels a bin uses, and which bins a pixel feeds. A bin is an index
/// ispec * nwave + iwave, as in PatchDetail.
class PatchSpots {
public:
    PatchSpots(const Psf& psf, const Plan& plan, const Patch& patch);

    struct Pixel {
        int x = 0; ///< CCD column, zero-based
        int y = 0;
        double weight = 0; ///< share of the bin's light that falls on it
    };
    struct Bin {
        int bin = 0;
        double weight = 0; ///< share of the bin's light that falls on the pixel
    };
    struct Point {
        double x = 0; ///< pixels
        double y = 0;
    };

    /// Pixels of a spot, those without light left out.
    [[nodiscard]] std::vector<Pixel> pixelsOf(int bin) const;
    /// Bins whose spots put light on a pixel, the largest weight first.
    [[nodiscard]] std::vector<Bin> binsAt(int x, int y) const;
    /// Weight of a bin's spot on a pixel; 0 outside the spot.
    [[nodiscard]] double weight(int bin, int x, int y) const;
    /// Where a bin's trace is.
    [[nodiscard]] Point centre(int bin) const { return centres_[static_cast<std::size_t>(bin)]; }
    [[nodiscard]] int bins() const { return static_cast<int>(centres_.size()); }

private:
    int stampX_ = 0;
    int stampY_ = 0;
    std::vector<double> stamps_; ///< [bins][stampY][stampX]
    std::vector<int> cornerX_;
    std::vector<int> cornerY_;
    std::vector<Point> centres_;
};

} // namespace patchlight::widgets
