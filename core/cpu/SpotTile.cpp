#include "core/cpu/SpotTile.h"

#include "core/cpu/BandKernels.h"
#include "core/psf/GaussHermite.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/cpu/SpotTile.cpp"
#include <hwy/foreach_target.h> // includes this file once for each instruction set

#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace patchlight::HWY_NAMESPACE {

/// evaluateSpot() as it stands, compiled for each instruction set: flattened, so that what it calls is, too.
__attribute__((flatten)) void EvaluateSpots(const PsfView& psf, int spectrum, const double* wavelength, int count,
                                            bool withTail, double* stamps, std::size_t stride, int* cornerX,
                                            int* cornerY) {
    for (int i = 0; i < count; ++i)
        evaluateSpot(psf, spectrum, wavelength[i], withTail, stamps + static_cast<std::size_t>(i) * stride, cornerX[i],
                     cornerY[i]);
}

} // namespace patchlight::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace patchlight {

HWY_EXPORT(EvaluateSpots);

void SpotTile::evaluate(const PsfView& psf, const WavelengthGrid& grid, IndexRange spectra, IndexRange bins,
                        bool withTail) {
    corners_.spectra = spectra;
    corners_.bins = bins;
    const auto count = static_cast<std::size_t>(spectra.count()) * static_cast<std::size_t>(bins.count());
    corners_.x.resize(count);
    corners_.y.resize(count);
    stampX_ = psf.stampX();
    stampY_ = psf.stampY();
    stampStride_ = static_cast<std::size_t>(stampX_) * static_cast<std::size_t>(stampY_);
    stamps_.resize(count * stampStride_ + kernels::kernelPad);
    wavelengths_.clear();
    for (int bin = bins.first; bin < bins.last; ++bin) wavelengths_.push_back(grid.wavelength(bin));
    for (int spectrum = spectra.first; spectrum < spectra.last; ++spectrum) {
        const std::size_t i = corners_.index(spectrum, bins.first);
        HWY_DYNAMIC_DISPATCH(EvaluateSpots)
        (psf, spectrum, wavelengths_.data(), bins.count(), withTail, stamps_.data() + i * stampStride_, stampStride_,
         corners_.x.data() + i, corners_.y.data() + i);
    }
}

} // namespace patchlight
#endif
