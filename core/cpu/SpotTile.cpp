#include "core/cpu/SpotTile.h"

#include "core/cpu/BandKernels.h"
#include "core/psf/GaussHermite.h"

namespace patchlight {

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
    for (int spectrum = spectra.first; spectrum < spectra.last; ++spectrum) {
        for (int bin = bins.first; bin < bins.last; ++bin) {
            const std::size_t i = corners_.index(spectrum, bin);
            evaluateSpot(psf, spectrum, grid.wavelength(bin), withTail, stamps_.data() + i * stampStride_,
                         corners_.x[i], corners_.y[i]);
        }
    }
}

} // namespace patchlight
