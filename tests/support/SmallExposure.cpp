#include "tests/support/SmallExposure.h"

#include "core/psf/GaussHermite.h"
#include "core/simulate/Instrument.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <random>

namespace patchlight::test {

SmallExposure smallExposure(int nspec, int bundlesize, int nx, int ny, unsigned seed, char arm) {
    simulate::InstrumentOptions instrument;
    instrument.camera.arm = arm;
    instrument.nspec = nspec;
    instrument.bundlesize = bundlesize;
    instrument.nx = nx;
    instrument.ny = ny;
    SmallExposure out;
    out.psf = simulate::makePsf(simulate::completed(instrument));
    out.range = simulate::defaultWavelengthRange(out.psf, arm);
    out.range.dw = 0.8;

    std::vector<double> signal(static_cast<std::size_t>(nx) * static_cast<std::size_t>(ny), 0.0);
    const PsfView view = out.psf.view();
    std::vector<double> stamp(static_cast<std::size_t>(view.stampX() * view.stampY()));
    std::mt19937 random(seed);
    std::uniform_real_distribution<double> uniform(0.0, 1.0);
    for (int s = 0; s < nspec; ++s) {
        for (double wave = out.range.wmin - 12; wave <= out.range.wmax + 12; wave += 0.8) {
            double photons = 40.0 + 20.0 * std::sin(0.03 * wave + s);
            if (uniform(random) < 0.03) photons += 3000.0 * uniform(random);
            int cx = 0;
            int cy = 0;
            evaluateSpot(view, s, wave, true, stamp.data(), cx, cy);
            for (int iy = 0; iy < view.stampY(); ++iy)
                for (int ix = 0; ix < view.stampX(); ++ix) {
                    const int x = cx + ix;
                    const int y = cy + iy;
                    if (x < 0 || y < 0 || x >= nx || y >= ny) continue;
                    signal[static_cast<std::size_t>(y) * static_cast<std::size_t>(nx) + static_cast<std::size_t>(x)] +=
                        photons * stamp[static_cast<std::size_t>(iy * view.stampX() + ix)];
                }
        }
    }
    out.pixels.nx = nx;
    out.pixels.ny = ny;
    out.pixels.pixels.resize(signal.size());
    out.pixels.weights.resize(signal.size());
    std::normal_distribution<double> normal;
    for (std::size_t p = 0; p < signal.size(); ++p) {
        const double variance = signal[p] + 9.0;
        out.pixels.pixels[p] = static_cast<float>(signal[p] + std::sqrt(variance) * normal(random));
        out.pixels.weights[p] = static_cast<float>(1.0 / variance);
    }
    return out;
}

ExtractionOptions smallPatches(const SmallExposure& exposure) {
    ExtractionOptions options;
    options.wavelength = exposure.range;
    options.bundlesize = 5;
    options.nsubbundles = 2;
    options.nwavestep = 15;
    options.wavepad = 5;
    return options;
}

void giveSecondCore(Psf& psf) {
    psf.type = PsfType::GaussHermite2;
    psf.degX2 = 1;
    psf.degY2 = 1;
    LegendreSeries series = psf.series.at("GHSIGX");
    for (double& c : series.coeff) c *= 2;
    psf.series["GHSIGX2"] = series;
    psf.series["GHSIGY2"] = series;
    for (double& c : series.coeff) c = 0;
    for (int s = 0; s < psf.nspec; ++s) series.coeff[static_cast<std::size_t>(s * series.ncoeff)] = 0.1;
    psf.series["GH2-0-0"] = series;
    for (int s = 0; s < psf.nspec; ++s) series.coeff[static_cast<std::size_t>(s * series.ncoeff)] = 3.0;
    psf.series["GHNSIG"] = series;
}

void maskPixels(WeightedPixels& image, int x0, int x1, int y0, int y1) {
    for (int y = std::max(0, y0); y < std::min(image.ny, y1); ++y)
        for (int x = std::max(0, x0); x < std::min(image.nx, x1); ++x) {
            const auto p =
                static_cast<std::size_t>(y) * static_cast<std::size_t>(image.nx) + static_cast<std::size_t>(x);
            image.weights[p] = 0.0F;
            image.pixels[p] = 0.0F;
        }
}

} // namespace patchlight::test
