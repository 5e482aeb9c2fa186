#include "widgets/spectrum/SpectrumData.h"

#include "core/analysis/CompareFrames.h"
#include "core/base/Error.h"
#include "core/engine/PatchResult.h"
#include "core/engine/Physics.h"
#include "core/engine/Plan.h"
#include "core/frame/ExtractedFrame.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace patchlight::widgets {

namespace {

/// Row of a truth that is a spectrum's; -1 where it holds none. @throws Error where it does not say
int truthRow(const TruthSpectra& truth, int spectrum, std::optional<std::int64_t> fiber) {
    if (truth.specmin) {
        const int row = spectrum - *truth.specmin;
        return row >= 0 && row < static_cast<int>(truth.flux.rows()) ? row : -1;
    }
    if (!truth.fiber.empty() && fiber) {
        const auto found = std::find(truth.fiber.begin(), truth.fiber.end(), *fiber);
        return found == truth.fiber.end() ? -1 : static_cast<int>(found - truth.fiber.begin());
    }
    throw Error("the truth " + truth.path +
                " does not say which spectra it holds (SPECMIN, FIBERMIN or a column FIBER)");
}

} // namespace

double SpectrumCurve::edge(std::size_t i) const {
    const std::size_t n = wavelength.size();
    if (n == 1) return wavelength[0] + (i == 0 ? -0.5 : 0.5);
    if (i == 0) return wavelength[0] - 0.5 * (wavelength[1] - wavelength[0]);
    if (i >= n) return wavelength[n - 1] + 0.5 * (wavelength[n - 1] - wavelength[n - 2]);
    return 0.5 * (wavelength[i - 1] + wavelength[i]);
}

double SpectrumCurve::width(std::size_t i) const { return edge(i + 1) - edge(i); }

int SpectrumCurve::binAt(double angstrom) const {
    if (empty() || !(angstrom >= edge(0)) || !(angstrom <= edge(size()))) return -1;
    const auto above = std::lower_bound(wavelength.begin(), wavelength.end(), angstrom);
    auto i = static_cast<std::size_t>(above - wavelength.begin());
    if (i == size()) return static_cast<int>(size()) - 1;
    if (i > 0 && angstrom < edge(i)) --i;
    return static_cast<int>(i);
}

double SpectrumCurve::sigma(std::size_t i) const {
    if (ivar.empty() || !(ivar[i] > 0)) return std::numeric_limits<double>::quiet_NaN();
    return 1.0 / std::sqrt(ivar[i]);
}

const SpectrumCurve* SpectrumOverlay::find(int spectrum) const {
    const auto found =
        std::find_if(curves.begin(), curves.end(), [&](const SpectrumCurve& c) { return c.spectrum == spectrum; });
    return found == curves.end() ? nullptr : &*found;
}

SpectrumCurve curveOfFrame(const ExtractedFrame& frame, std::size_t row) {
    SpectrumCurve out;
    out.spectrum = frame.specmin + static_cast<int>(row);
    out.label = QStringLiteral("fiber %1").arg(out.spectrum);
    out.wavelength = frame.wavelength;
    const auto copy = [row](const auto& from, auto& to) {
        if (from.empty()) return;
        const auto values = from.row(row);
        to.assign(values.begin(), values.end());
    };
    copy(frame.flux, out.flux);
    copy(frame.ivar, out.ivar);
    copy(frame.mask, out.mask);
    copy(frame.xflux, out.xflux);
    // In memory xflux is in photons per bin, and the step is the one that the PSF saw.
    const double scale = 1.0 / frame.header.number("HELIOCOR").value_or(1.0);
    for (std::size_t i = 0; i < out.xflux.size(); ++i) out.xflux[i] /= out.width(i) * scale;
    return out;
}

SpectrumCurve curveOfPatch(const PatchDetail& detail, const Plan& plan, int spectrum) {
    SpectrumCurve out;
    const Patch& patch = detail.patch;
    out.spectrum = spectrum;
    out.label = QStringLiteral("fiber %1").arg(spectrum);
    const auto row = static_cast<std::size_t>(spectrum - patch.spectra.first);
    const auto n = static_cast<std::size_t>(patch.bins.count());
    const double step = plan.grid.step();
    out.wavelength.resize(n);
    out.flux.resize(n);
    out.ivar.resize(n);
    out.xflux.resize(n);
    out.mask.resize(n);
    out.padding.resize(n);
    for (std::size_t i = 0; i < n; ++i) {
        const int bin = patch.bins.first + static_cast<int>(i);
        const int core = bin - plan.grid.pad;
        out.wavelength[i] = core >= 0 && core < plan.grid.nwave ? plan.grid.outputWavelength(core)
                                                                : plan.grid.wavelength(bin) * plan.grid.scale;
        out.flux[i] = detail.flux(row, i) / step;
        out.ivar[i] = detail.ivar(row, i) * step * step;
        out.xflux[i] = detail.xflux(row, i) / step;
        out.mask[i] = binMask(detail.pixmaskFraction(row, i), detail.fluxweight(row, i), true);
        out.padding[i] = patch.core.contains(spectrum) && patch.keepBins.contains(bin) ? 0 : 1;
    }
    return out;
}

SpectrumCurve curveOfTruth(const TruthSpectra& truth, const ExtractedFrame& frame, std::size_t row) {
    SpectrumCurve out;
    out.spectrum = frame.specmin + static_cast<int>(row);
    std::optional<std::int64_t> fiber;
    if (frame.fibermap && frame.fibermap->rowCount == frame.nspec() && frame.fibermap->hasColumn("FIBER"))
        fiber = frame.fibermap->integers("FIBER")[row];
    else
        fiber = frame.header.integer("FIBERMIN").value_or(frame.specmin) + static_cast<std::int64_t>(row);
    const bool oneByOne = !truth.specmin && truth.fiber.empty() && truth.flux.rows() == frame.nspec();
    const int at = oneByOne ? static_cast<int>(row) : truthRow(truth, out.spectrum, fiber);
    if (at < 0 || frame.nwave() < 2) return out;
    out.label = QStringLiteral("truth of fiber %1").arg(out.spectrum);
    // The truth is what the CCD sees, the frame's wavelengths are corrected for the Earth's motion.
    const double factor = frame.header.number("HELIOCOR").value_or(1.0);
    std::vector<double> grid = frame.wavelength;
    for (double& wavelength : grid) wavelength /= factor;
    const TruthResampler resampler(truth.wavelength, grid, TruthResampling::Interpolation);
    std::vector<double> onGrid = resampler.apply(truth.flux.row(static_cast<std::size_t>(at)).data());
    out.wavelength = frame.wavelength;
    out.flux = frame.resolution.empty() ? onGrid : convolveWithResolution(frame.resolution, row, onGrid);
    // Light from beyond the grid is in the first and last bins, but the stored columns do not say how much.
    const std::size_t ends = frame.resolution.empty() ? 0 : std::min(frame.ndiag(), out.size() / 2);
    for (std::size_t i = 0; i < ends; ++i)
        out.flux[i] = out.flux[out.size() - 1 - i] = std::numeric_limits<double>::quiet_NaN();
    out.xflux = std::move(onGrid);
    return out;
}

SpectrumCurve curveOfTruth(const TruthSpectra& truth, const PatchDetail& detail, const Plan& plan, int spectrum,
                           std::optional<std::int64_t> fiber) {
    SpectrumCurve out;
    out.spectrum = spectrum;
    const int at = truthRow(truth, spectrum, fiber);
    const Patch& patch = detail.patch;
    const int nwave = patch.bins.count();
    if (at < 0 || nwave < 2 || !patch.spectra.contains(spectrum)) return out;
    out.label = QStringLiteral("truth of fiber %1").arg(spectrum);
    std::vector<double> grid;
    for (int bin = patch.bins.first; bin < patch.bins.last; ++bin) {
        grid.push_back(plan.grid.wavelength(bin));
        out.wavelength.push_back(grid.back() * plan.grid.scale);
    }
    const TruthResampler resampler(truth.wavelength, grid, TruthResampling::Interpolation);
    std::vector<double> onGrid = resampler.apply(truth.flux.row(static_cast<std::size_t>(at)).data());
    const auto first = static_cast<std::size_t>(spectrum - patch.spectra.first) * static_cast<std::size_t>(nwave);
    const auto n = static_cast<std::size_t>(nwave);
    out.flux.assign(n, std::numeric_limits<double>::quiet_NaN());
    const auto ends = static_cast<std::size_t>(std::max(0, plan.ndiag));
    for (std::size_t i = ends; i + ends < n; ++i) {
        double sum = 0;
        double unknown = 0;
        for (std::size_t j = 0; j < n; ++j) {
            const double r = detail.resolution(first + i, first + j);
            if (std::isfinite(onGrid[j]))
                sum += r * onGrid[j];
            else
                unknown += std::abs(r);
        }
        // Beyond the truth's wavelengths its light is not known; R's far wings reach there, but carry next to nothing.
        if (unknown > 1e-5) continue;
        out.flux[i] = sum;
    }
    out.xflux = std::move(onGrid);
    return out;
}

std::vector<double> patchSeams(const Plan& plan) {
    std::vector<double> out;
    for (int step = 1; step < plan.nsteps; ++step) {
        const int core = step * plan.grid.nwavestep;
        if (core < plan.grid.nwave)
            out.push_back(0.5 * (plan.grid.outputWavelength(core - 1) + plan.grid.outputWavelength(core)));
    }
    return out;
}

} // namespace patchlight::widgets
