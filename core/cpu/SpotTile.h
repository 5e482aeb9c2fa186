#pragma once

#include "core/cpu/AlignedBuffer.h"
#include "core/engine/Plan.h"
#include "core/psf/PsfView.h"

#include <cstddef>
#include <vector>

namespace patchlight {

/// The spots of a rectangle of spectra x bins, shared by all patches of a batch.
class SpotTile {
public:
    /// Evaluates the spots; memory is kept between calls.
    void evaluate(const PsfView& psf, const WavelengthGrid& grid, IndexRange spectra, IndexRange bins, bool withTail);

    [[nodiscard]] const SpotCorners& corners() const { return corners_; }
    /// Stamp [stampY][rowStride()] of a spot, unit sum; readable one vector past its end.
    [[nodiscard]] const double* stamp(int spectrum, int bin) const {
        return stamps_.data() + corners_.index(spectrum, bin) * stampStride_;
    }
    [[nodiscard]] int cornerX(int spectrum, int bin) const { return corners_.x[corners_.index(spectrum, bin)]; }
    [[nodiscard]] int cornerY(int spectrum, int bin) const { return corners_.y[corners_.index(spectrum, bin)]; }
    [[nodiscard]] int stampX() const { return stampX_; }
    [[nodiscard]] int stampY() const { return stampY_; }

private:
    SpotCorners corners_;
    int stampX_ = 0;
    int stampY_ = 0;
    std::size_t stampStride_ = 0;
    std::vector<double> stamps_;      ///< [spectra][bins][stampY][stampX]
    std::vector<double> wavelengths_; ///< work: [bins], Angstrom
    AlignedBuffer work_;
};

} // namespace patchlight
