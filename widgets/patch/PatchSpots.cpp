#include "widgets/patch/PatchSpots.h"

#include "core/engine/Plan.h"
#include "core/psf/GaussHermite.h"
#include "core/psf/Psf.h"

#include <algorithm>

namespace patchlight::widgets {

PatchSpots::PatchSpots(const Psf& psf, const Plan& plan, const Patch& patch) {
    const PsfView view = psf.view();
    stampX_ = view.stampX();
    stampY_ = view.stampY();
    const auto count = static_cast<std::size_t>(patch.spectra.count()) * static_cast<std::size_t>(patch.bins.count());
    const auto size = static_cast<std::size_t>(stampX_) * static_cast<std::size_t>(stampY_);
    stamps_.resize(count * size);
    cornerX_.resize(count);
    cornerY_.resize(count);
    centres_.resize(count);
    std::size_t i = 0;
    for (int spectrum = patch.spectra.first; spectrum < patch.spectra.last; ++spectrum)
        for (int bin = patch.bins.first; bin < patch.bins.last; ++bin, ++i) {
            const double wavelength = plan.grid.wavelength(bin);
            evaluateSpot(view, spectrum, wavelength, plan.options.psfTail, stamps_.data() + i * size, cornerX_[i],
                         cornerY_[i]);
            centres_[i] = {traceX(view, spectrum, wavelength), traceY(view, spectrum, wavelength)};
        }
}

double PatchSpots::weight(int bin, int x, int y) const {
    const auto i = static_cast<std::size_t>(bin);
    const int ix = x - cornerX_[i];
    const int iy = y - cornerY_[i];
    if (ix < 0 || iy < 0 || ix >= stampX_ || iy >= stampY_) return 0;
    return stamps_[(i * static_cast<std::size_t>(stampY_) + static_cast<std::size_t>(iy)) *
                       static_cast<std::size_t>(stampX_) +
                   static_cast<std::size_t>(ix)];
}

std::vector<PatchSpots::Pixel> PatchSpots::pixelsOf(int bin) const {
    std::vector<Pixel> out;
    const auto i = static_cast<std::size_t>(bin);
    for (int iy = 0; iy < stampY_; ++iy)
        for (int ix = 0; ix < stampX_; ++ix) {
            const Pixel pixel{cornerX_[i] + ix, cornerY_[i] + iy, weight(bin, cornerX_[i] + ix, cornerY_[i] + iy)};
            if (pixel.weight > 0) out.push_back(pixel);
        }
    return out;
}

std::vector<PatchSpots::Bin> PatchSpots::binsAt(int x, int y) const {
    std::vector<Bin> out;
    for (int bin = 0; bin < bins(); ++bin) {
        const double share = weight(bin, x, y);
        if (share > 0) out.push_back({bin, share});
    }
    std::stable_sort(out.begin(), out.end(), [](const Bin& a, const Bin& b) { return a.weight > b.weight; });
    return out;
}

} // namespace patchlight::widgets
