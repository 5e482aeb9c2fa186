#include "core/cpu/SpotTile.h"

#include "core/cpu/BandKernels.h"
#include "core/psf/GaussHermite.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/cpu/SpotTile.cpp"
#include <hwy/foreach_target.h> // includes this file once for each instruction set

#include <hwy/highway.h>

#include "core/cpu/LaneSpots-inl.h" // after foreach_target.h

HWY_BEFORE_NAMESPACE();
namespace patchlight::HWY_NAMESPACE {

/// The spots of a spectrum at `count` wavelengths, each [stampY][stampX] at its multiple of `stride`, with their corners.
void EvaluateSpots(const PsfView& psf, int spectrum, const double* wavelength, int count, bool withTail, double* stamps,
                   std::size_t stride, int* cornerX, int* cornerY, AlignedBuffer& memory) {
    const int lanes = static_cast<int>(hn::Lanes(Tag()));
    const std::size_t pixels = static_cast<std::size_t>(psf.stampX() * psf.stampY());
    const std::size_t groupSize = pixels * static_cast<std::size_t>(lanes);
    double* group = memory.require(groupSize + spotGroupWork(psf, lanes));
    HWY_ALIGN double wave[mostLanes];
    HWY_ALIGN double x[mostLanes];
    HWY_ALIGN double y[mostLanes];
    HWY_ALIGN double scales[mostLanes];
    for (int first = 0; first < count; first += lanes) {
        const int here = std::min(lanes, count - first);
        for (int lane = 0; lane < lanes; ++lane) {
            const int i = first + std::min(lane, here - 1);
            wave[lane] = wavelength[i];
            const double atX = traceX(psf, spectrum, wavelength[i]);
            const double atY = traceY(psf, spectrum, wavelength[i]);
            cornerX[i] = spotCorner(psf.type, atX, psf.hsizeX);
            cornerY[i] = spotCorner(psf.type, atY, psf.hsizeY);
            x[lane] = atX - cornerX[i];
            y[lane] = atY - cornerY[i];
        }
        evaluateGroup({&psf, spectrum, wave, x, y, withTail}, group, scales, group + groupSize);
        for (int lane = 0; lane < here; ++lane)
            scaleStrided(group + lane, static_cast<std::size_t>(lanes),
                         stamps + static_cast<std::size_t>(first + lane) * stride, 1, static_cast<int>(pixels),
                         scales[lane]);
    }
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
         corners_.x.data() + i, corners_.y.data() + i, work_);
    }
}

} // namespace patchlight
#endif
