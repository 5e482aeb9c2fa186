#include "core/analysis/NoiseCheck.h"

#include "core/analysis/SpotStrips.h"
#include "core/base/Error.h"
#include "core/base/Nan.h"
#include "core/base/Parallel.h"
#include "core/engine/Physics.h"
#include "core/frame/ExtractedFrame.h"
#include "core/image/CcdImage.h"
#include "core/psf/GaussHermite.h"
#include "core/psf/Psf.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace patchlight {

Histogram makeHistogram(std::span<const float> values, double low, double high, int intervals) {
    Histogram out;
    out.low = low;
    out.high = high;
    out.counts.assign(static_cast<std::size_t>(intervals), 0);
    const double scale = intervals / (high - low);
    for (const float stored : values) {
        const auto value = static_cast<double>(stored);
        if (!std::isfinite(value))
            ++out.notFinite;
        else if (value < low)
            ++out.below;
        else if (value > high)
            ++out.above;
        else
            ++out.counts[static_cast<std::size_t>(std::min(intervals - 1, static_cast<int>((value - low) * scale)))];
    }
    return out;
}

CrossProfile crossProfile(const CcdImage& image, std::span<const float> model, int x, int y, int halfRows,
                          int halfColumns) {
    CrossProfile out;
    out.y0 = std::clamp(y - halfRows, 0, image.ny);
    out.y1 = std::clamp(y + halfRows + 1, 0, image.ny);
    for (int column = std::max(0, x - halfColumns); column <= std::min(image.nx - 1, x + halfColumns); ++column) {
        double data = 0;
        double variance = 0;
        double light = 0;
        int count = 0;
        for (int row = out.y0; row < out.y1; ++row) {
            const auto p =
                static_cast<std::size_t>(row) * static_cast<std::size_t>(image.nx) + static_cast<std::size_t>(column);
            const bool masked = !image.mask.empty() && (static_cast<std::uint32_t>(image.mask[p]) & ccdMaskedBits) != 0;
            const double ivar = image.ivar[p];
            if (masked || !(ivar > 0) || !std::isfinite(ivar) || !std::isfinite(image.pixels[p])) continue;
            data += image.pixels[p];
            variance += 1.0 / ivar;
            if (!model.empty()) light += model[p];
            ++count;
        }
        out.column.push_back(column);
        out.data.push_back(count > 0 ? data / count : nan);
        out.error.push_back(count > 0 ? std::sqrt(variance) / count : nan);
        out.model.push_back(count > 0 && !model.empty() ? light / count : nan);
    }
    return out;
}

Array2<float> chi2pixWith(const QualityInput& input, const FrameQuality& quality, double psferr) {
    const ExtractedFrame& frame = *input.frame;
    const PsfView psf = input.psf->view();
    const WeightedPixels pixels = weightedPixels(*input.image, input.threads);
    const std::vector<double> wave = psfWavelengths(frame);
    const bool tail = !frameSaysNoTail(frame);
    Array2<float> out(frame.nspec(), frame.nwave(), std::numeric_limits<float>::quiet_NaN());
    forEachParallel(frame.nspec(), input.threads, [&](std::size_t s, std::size_t) {
        if (input.stop.stop_requested()) throw Cancelled();
        std::vector<double> stamp(static_cast<std::size_t>(psf.stampX() * psf.stampY()));
        for (std::size_t j = 0; j < frame.nwave(); ++j) {
            if (std::isnan(quality.peakPull(s, j))) continue; // its light is not all known
            int cornerX = 0;
            int cornerY = 0;
            evaluateSpot(psf, frame.specmin + static_cast<int>(s), wave[j], tail, stamp.data(), cornerX, cornerY);
            double chi2 = 0;
            double counted = 0;
            for (int y = std::max(0, cornerY); y < std::min(pixels.ny, cornerY + psf.stampY()); ++y)
                for (int x = std::max(0, cornerX); x < std::min(pixels.nx, cornerX + psf.stampX()); ++x) {
                    const auto p =
                        static_cast<std::size_t>(y) * static_cast<std::size_t>(pixels.nx) + static_cast<std::size_t>(x);
                    const double w = pixels.weights[p];
                    const double m = quality.model[p];
                    if (!pixelCounts(w, m)) continue;
                    const double a = stamp[static_cast<std::size_t>((y - cornerY) * psf.stampX() + x - cornerX)];
                    chi2 += a * pixelChi2(pixels.pixels[p], w, m, psferr);
                    counted += a;
                }
            if (counted > 0) out(s, j) = static_cast<float>(chi2 / counted);
        }
    });
    return out;
}

} // namespace patchlight
