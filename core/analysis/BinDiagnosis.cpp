#include "core/analysis/BinDiagnosis.h"

#include "core/analysis/MaskNames.h"
#include "core/analysis/SpotStrips.h"
#include "core/base/Nan.h"
#include "core/engine/PatchResult.h"
#include "core/engine/Plan.h"
#include "core/frame/ExtractedFrame.h"
#include "core/image/CcdImage.h"
#include "core/psf/GaussHermite.h"
#include "core/psf/Psf.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include <fmt/format.h>

namespace patchlight {

namespace {

Measured blockOrFiber(const Array2<Measured>& blocks, const Measured& fiber, std::size_t row, int block,
                      double significance) {
    if (block >= 0 && static_cast<std::size_t>(block) < blocks.columns()) {
        const Measured& own = blocks(row, static_cast<std::size_t>(block));
        if (own.significance() > significance) return own;
    }
    return fiber;
}

std::string percent(double share) {
    const double p = 100 * share;
    return p >= 9.95 || p == 0 ? fmt::format("{:.0f} %", p) : fmt::format("{:.1f} %", p);
}

/// Looks at the pixels of one spot.
class SpotLook {
public:
    SpotLook(const QualityInput& input, const FrameQuality& quality, BinDiagnosis& out)
        : input_(input), quality_(quality), out_(out) {}

    void run() {
        const CcdImage& image = *input_.image;
        const PsfView psf = input_.psf->view();
        const ExtractedFrame& frame = *input_.frame;
        const std::vector<double> wave = psfWavelengths(frame);
        const int spectrum = frame.specmin + out_.row;
        std::vector<double> stamp(static_cast<std::size_t>(psf.stampX() * psf.stampY()));
        int cornerX = 0;
        int cornerY = 0;
        evaluateSpot(psf, spectrum, wave[static_cast<std::size_t>(out_.bin)], !frameSaysNoTail(frame), stamp.data(),
                     cornerX, cornerY);
        std::map<std::string, MaskedLight> masked;
        const auto mark = [&](const std::string& name, double share) {
            MaskedLight& light = masked[name];
            light.name = name;
            light.share += share;
            ++light.pixels;
        };
        const double largest = *std::max_element(stamp.begin(), stamp.end());
        double weight = 0; // of the pixels that are no outliers
        double change = 0;
        for (int iy = 0; iy < psf.stampY(); ++iy)
            for (int ix = 0; ix < psf.stampX(); ++ix) {
                const double a = stamp[static_cast<std::size_t>(iy * psf.stampX() + ix)];
                const int x = cornerX + ix;
                const int y = cornerY + iy;
                if (x < 0 || y < 0 || x >= image.nx || y >= image.ny) {
                    if (a > 0) mark("off the CCD", a);
                    continue;
                }
                const auto p =
                    static_cast<std::size_t>(y) * static_cast<std::size_t>(image.nx) + static_cast<std::size_t>(x);
                const std::uint32_t bits =
                    image.mask.empty() ? 0U : static_cast<std::uint32_t>(image.mask[p]) & ccdMaskedBits;
                for (int bit = 0; bit < 32; ++bit)
                    if ((bits >> static_cast<unsigned>(bit) & 1U) != 0) mark(ccdMaskBitName(bit), a);
                const double w = image.ivar[p];
                if (bits == 0 && (!(w > 0) || !std::isfinite(w))) mark("ivar = 0", a);
                if (bits == 0 && w > 0 && !std::isfinite(image.pixels[p])) mark("not a number", a);
                if (bits != 0 || !(w > 0) || !std::isfinite(w) || !std::isfinite(image.pixels[p])) continue;
                const double m = quality_.model[p];
                if (m == 0) continue;
                const double r = image.pixels[p] - m;
                if (a > 0.1 * largest) differs = std::max(differs, std::abs(r));
                const double modelError = quality_.psferr * m;
                const double pull = r / std::sqrt(1.0 / w + modelError * modelError);
                constexpr double outlier = 5.0;
                if (a > 0.02 * largest && pull > outlier) {
                    ++out_.outliers;
                    if (pull > worst) {
                        worst = pull;
                        worstX = x;
                        worstY = y;
                    }
                } else {
                    weight += a * a * w;
                    change += a * w * r;
                }
                if (image.pixels[p] >= 0.98 * quality_.ceiling && a > 0.02) ++atCeiling;
            }
        constexpr int around = 12; // rows
        for (int y = std::max(0, cornerY - around); y < std::min(image.ny, cornerY + psf.stampY() + around); ++y)
            for (int x = std::max(0, cornerX); x < std::min(image.nx, cornerX + psf.stampX()); ++x) {
                const auto p =
                    static_cast<std::size_t>(y) * static_cast<std::size_t>(image.nx) + static_cast<std::size_t>(x);
                if (!image.mask.empty() && (static_cast<std::uint32_t>(image.mask[p]) &
                                            static_cast<std::uint32_t>(CcdMaskBit::Saturated)) != 0)
                    ++saturated;
                if (y < cornerY || y >= cornerY + psf.stampY() || quality_.model[p] <= brightest) continue;
                brightest = quality_.model[p];
                brightestX = x;
            }
        const double ivar = frame.ivar(static_cast<std::size_t>(out_.row), static_cast<std::size_t>(out_.bin));
        const double step = binWidths(wave)[static_cast<std::size_t>(out_.bin)];
        out_.outlierInfluence = weight > 0 ? change / weight / step * std::sqrt(std::max(0.0, ivar)) : 0;
        for (auto& [name, light] : masked) out_.masked.push_back(light);
        std::stable_sort(out_.masked.begin(), out_.masked.end(),
                         [](const MaskedLight& a, const MaskedLight& b) { return a.share > b.share; });
    }

    double worst = 0;
    int worstX = 0;
    int worstY = 0;
    int atCeiling = 0;
    int saturated = 0;    ///< pixels masked SATURATED within 12 rows
    double brightest = 0; ///< of the model in and around the spot, electrons
    int brightestX = -1;  ///< its column
    double differs = 0;   ///< largest difference of data and model in the spot, electrons

private:
    const QualityInput& input_;
    const FrameQuality& quality_;
    BinDiagnosis& out_;
};

/// Row of the fiber of the bundle that puts most light under a bin's spot, its own left out; -1: none does.
int brightestNeighbour(const QualityInput& input, int row, int bin) {
    if (input.psf == nullptr) return -1;
    const ExtractedFrame& frame = *input.frame;
    const PsfView psf = input.psf->view();
    const std::vector<double> wave = psfWavelengths(frame);
    const auto size = static_cast<std::size_t>(psf.stampX() * psf.stampY());
    const bool tail = !frameSaysNoTail(frame);
    std::vector<double> own(size);
    std::vector<double> other(size);
    int cornerX = 0;
    int cornerY = 0;
    evaluateSpot(psf, frame.specmin + row, wave[static_cast<std::size_t>(bin)], tail, own.data(), cornerX, cornerY);
    constexpr int reach = 4; // fibers; farther ones would need spots wider than this program's
    int best = -1;
    double most = 0;
    for (const IndexRange& bundle : bundlesOf(frame)) {
        if (!bundle.contains(row)) continue;
        for (int t = std::max(bundle.first, row - reach); t < std::min(bundle.last, row + reach + 1); ++t) {
            if (t == row) continue;
            double light = 0;
            for (std::size_t j = 0; j < wave.size(); ++j) {
                const double flux = frame.flux(static_cast<std::size_t>(t), j);
                const double y = traceY(psf, frame.specmin + t, wave[j]);
                if (!std::isfinite(flux) || std::abs(y - (cornerY + 0.5 * psf.stampY())) > psf.stampY()) continue;
                int x0 = 0;
                int y0 = 0;
                evaluateSpot(psf, frame.specmin + t, wave[j], tail, other.data(), x0, y0);
                for (int iy = 0; iy < psf.stampY(); ++iy)
                    for (int ix = 0; ix < psf.stampX(); ++ix) {
                        const int kx = cornerX + ix - x0;
                        const int ky = cornerY + iy - y0;
                        if (kx < 0 || ky < 0 || kx >= psf.stampX() || ky >= psf.stampY()) continue;
                        light += flux * own[static_cast<std::size_t>(iy * psf.stampX() + ix)] *
                                 other[static_cast<std::size_t>(ky * psf.stampX() + kx)];
                    }
            }
            if (light > most) {
                most = light;
                best = t;
            }
        }
    }
    return best;
}

/// "of fiber 12 beside it" or "of its own": whose trace a column is nearest to.
std::string whoseLine(const QualityInput& input, const FrameQuality& quality, const BinDiagnosis& d, int column) {
    int nearest = d.row;
    double least = std::abs(d.place.x - column);
    for (const int other : {d.row - 1, d.row + 1}) {
        if (other < 0 || static_cast<std::size_t>(other) >= input.frame->nspec()) continue;
        const BinPlace place =
            binPlace(input.psf->view(), *input.frame, static_cast<std::size_t>(other), static_cast<std::size_t>(d.bin));
        if (std::abs(place.x - column) < least) {
            least = std::abs(place.x - column);
            nearest = other;
        }
    }
    return nearest == d.row
               ? std::string("of its own")
               : fmt::format("of fiber {} beside it", quality.fibers[static_cast<std::size_t>(nearest)].fiber);
}

std::string maskedText(const BinDiagnosis& d, const ExtractedFrame& frame) {
    if (d.masked.empty()) {
        const std::uint32_t mask = frame.mask(static_cast<std::size_t>(d.row), static_cast<std::size_t>(d.bin));
        if (mask != 0) return fmt::format("the frame's MASK says {}", specMaskNames(mask));
        return "ivar is 0: no pixel with weight";
    }
    std::string text = fmt::format("{} of its spot's light falls on masked pixels: ", percent(d.maskedFraction));
    for (std::size_t i = 0; i < d.masked.size() && i < 3; ++i)
        text += fmt::format("{}{} {} ({} pixel{})", i == 0 ? "" : ", ", d.masked[i].name, percent(d.masked[i].share),
                            d.masked[i].pixels, d.masked[i].pixels == 1 ? "" : "s");
    return text;
}

void addSeam(BinDiagnosis& d, const ExtractedFrame& frame) {
    const std::int64_t step = frame.header.integer("NWAVSTEP").value_or(0);
    const std::string method = frame.header.text("METHOD").value_or("patches");
    if (step < 1 || method == "seamless") return;
    const auto within = static_cast<std::int64_t>(d.bin) % step;
    constexpr std::int64_t near = 2;
    if (within < near || within >= step - near)
        d.notes.push_back(
            fmt::format("{} bin{} from a patch's edge, where patches and the seamless solution differ by up "
                        "to 0.4 sigma",
                        std::min(within, step - 1 - within), std::min(within, step - 1 - within) == 1 ? "" : "s"));
}

/// How the bin's patch fared, where that is known.
void addPatch(BinDiagnosis& d, const QualityInput& input) {
    if (input.plan == nullptr || input.reports == nullptr) return;
    const Plan& plan = *input.plan;
    const int spectrum = input.frame->specmin + d.row;
    if (spectrum < plan.specmin || spectrum >= plan.specmin + plan.nspec || d.bin >= plan.grid.nwave) return;
    const Patch patch = plan.patchAt(spectrum, d.bin);
    const auto index = static_cast<std::size_t>(patch.subbundle) * static_cast<std::size_t>(plan.nsteps) +
                       static_cast<std::size_t>(patch.step);
    if (index >= input.reports->size()) return;
    const PatchReport& report = (*input.reports)[index];
    const auto has = [&](PatchStatus status) { return (report.status & static_cast<std::uint32_t>(status)) != 0; };
    if (has(PatchStatus::NoPixels)) d.notes.emplace_back("no pixel of its patch has weight");
    if (has(PatchStatus::Failed)) d.notes.emplace_back("its patch could not be solved, even with regularisation");
    if (has(PatchStatus::Regularized))
        d.notes.emplace_back("its patch was solved with regularisation, since it could not be without");
    if (has(PatchStatus::WideBand)) d.notes.emplace_back("its patch climbed one rung of the fast path's ladder");
    if (has(PatchStatus::Exact))
        d.notes.push_back(fmt::format("its patch climbed the ladder to the exact path{}",
                                      has(PatchStatus::IllConditioned)
                                          ? fmt::format(", ill-conditioned (condition {:.1g})", report.condition)
                                      : has(PatchStatus::Leaking) ? std::string(", its band leaving out too much")
                                      : has(PatchStatus::Bright)  ? std::string(", for the brightness of its light")
                                      : has(PatchStatus::Layout)  ? std::string(", its spots not suiting the fast path")
                                                                  : std::string()));
}

} // namespace

BinPlace binPlace(const PsfView& psf, const ExtractedFrame& frame, std::size_t row, std::size_t bin) {
    const double scale = frame.header.number("HELIOCOR").value_or(1.0);
    const double wavelength = frame.wavelength[bin] / (scale > 0 ? scale : 1.0);
    const int spectrum = frame.specmin + static_cast<int>(row);
    return {traceX(psf, spectrum, wavelength), traceY(psf, spectrum, wavelength)};
}

const AmplifierQuality* amplifierAt(const FrameQuality& quality, const BinPlace& place) {
    for (const AmplifierQuality& amplifier : quality.amplifiers)
        if (place.x >= amplifier.x0 - 0.5 && place.x < amplifier.x1 - 0.5 && place.y >= amplifier.y0 - 0.5 &&
            place.y < amplifier.y1 - 0.5)
            return &amplifier;
    return nullptr;
}

const BadCcdColumn* badColumnAt(const FrameQuality& quality, const BinPlace& place) {
    constexpr double reach = 3.5; // pixels: beyond them a spot has no light to speak of
    for (const BadCcdColumn& column : quality.badColumns)
        if (std::abs(place.x - column.x) <= reach && place.y >= column.y0 - reach && place.y < column.y1 + reach)
            return &column;
    return nullptr;
}

Measured offsetAt(const FrameQuality& quality, std::size_t row, const BinPlace& place) {
    if (quality.blockRows == 0) return {};
    return blockOrFiber(quality.offsetByBlock, quality.fibers[row].traceOffset, row,
                        static_cast<int>(std::floor(place.y / quality.blockRows)), quality.limits.significance);
}

Measured widthAt(const FrameQuality& quality, std::size_t row, const BinPlace& place) {
    if (quality.blockRows == 0) return {};
    const Measured own =
        blockOrFiber(quality.widthByBlock, quality.fibers[row].widthError, row,
                     static_cast<int>(std::floor(place.y / quality.blockRows)), quality.limits.significance);
    // A faint fiber says little by itself, but where all fibers together say it and it does not disagree, it is so here as well.
    const Measured& all = quality.frameWidth;
    constexpr double agreement = 3.0;
    const bool agrees = own.known() && std::abs(own.value - all.value) < agreement * own.error;
    return own.significance() < quality.limits.significance && agrees ? all : own;
}

BinDiagnosis diagnoseBin(const QualityInput& input, const FrameQuality& quality, int row, int bin) {
    const ExtractedFrame& frame = *input.frame;
    const auto s = static_cast<std::size_t>(row);
    const auto j = static_cast<std::size_t>(bin);
    const QualityLimits& limits = quality.limits;
    BinDiagnosis d;
    d.row = row;
    d.bin = bin;
    d.wavelength = frame.wavelength[j];
    d.place = input.psf != nullptr ? binPlace(input.psf->view(), frame, s, j) : BinPlace{nan, nan};
    d.flux = frame.flux(s, j);
    const double ivar = frame.ivar(s, j);
    d.sigma = ivar > 0 ? 1.0 / std::sqrt(ivar) : std::numeric_limits<double>::infinity();
    d.chi2pix = quality.chi2pix.empty() ? nan : static_cast<double>(quality.chi2pix(s, j));
    d.chi2Ratio = quality.chi2Ratio.empty() ? nan : static_cast<double>(quality.chi2Ratio(s, j));
    d.maskedFraction = quality.maskedFraction.empty() ? nan : static_cast<double>(quality.maskedFraction(s, j));
    d.fluxweight = quality.fluxweight.empty() ? nan : static_cast<double>(quality.fluxweight(s, j));
    d.weightShare = quality.weightShare.empty() ? nan : static_cast<double>(quality.weightShare(s, j));
    d.neighbour = quality.neighbour.empty() ? nan : static_cast<double>(quality.neighbour(s, j));
    SpotLook look(input, quality, d);
    if (quality.pixels) look.run();

    const BadBinKind primary = quality.kind.empty() ? BadBinKind::None : quality.kind(s, j);
    const double severity = quality.severity.empty() ? 0 : static_cast<double>(quality.severity(s, j));
    const auto add = [&](BadBinKind kind, double value, std::string text) {
        d.causes.push_back({kind, value, std::move(text)});
    };
    const auto isKind = [&](BadBinKind kind) { return primary == kind; };
    if (isKind(BadBinKind::NotANumber))
        add(BadBinKind::NotANumber, 1,
            fmt::format("flux = {}, ivar = {}: not numbers that an extraction can mean", d.flux, ivar));
    if (isKind(BadBinKind::NoData))
        add(BadBinKind::NoData, 1,
            std::isnan(d.place.y)
                ? std::string("its spot lies off the CCD (MASK says NODATA)")
                : fmt::format("its spot lies off the CCD, at x = {:.1f}, y = {:.1f}", d.place.x, d.place.y));
    const AmplifierQuality* amplifier = amplifierAt(quality, d.place);
    if (amplifier != nullptr && amplifier->dead)
        add(BadBinKind::DeadAmplifier, severity,
            amplifier->maskedShare > 0.9
                ? fmt::format("amplifier {} is masked: {} of its pixels have no weight", amplifier->name,
                              percent(amplifier->maskedShare))
                : fmt::format(
                      "amplifier {} sees no light: {:.1f} electrons a row of a fiber in the median, while the one "
                      "beside it does; MASK does not say so",
                      amplifier->name, amplifier->light));
    else if (isKind(BadBinKind::DeadAmplifier))
        add(BadBinKind::DeadAmplifier, severity,
            "at the edge of an amplifier that sees no light, part of which its spot falls on");
    if (isKind(BadBinKind::MaskedPixels) || (d.maskedFraction > 0.1 && d.maskedFraction <= 1))
        add(BadBinKind::MaskedPixels,
            std::isnan(d.maskedFraction) ? severity : d.maskedFraction / limits.maskedFraction, maskedText(d, frame));
    if (const BadCcdColumn* column = badColumnAt(quality, d.place))
        add(BadBinKind::BadColumn, std::sqrt(column->chi2),
            fmt::format(
                "column {} of the CCD disagrees with the model in most of rows {} to {}, by {:+.0f} sigma in the "
                "median, and MASK does not know",
                column->x, column->y0, column->y1 - 1, column->medianPull));
    if (isKind(BadBinKind::Saturated))
        add(BadBinKind::Saturated, severity,
            look.saturated > 0
                ? fmt::format(
                      "{} pixel{} near its spot {} masked SATURATED: how bright the line is there nobody knows, and "
                      "what is beside it misfits",
                      look.saturated, look.saturated == 1 ? "" : "s", look.saturated == 1 ? "is" : "are")
            : look.atCeiling > 0
                ? fmt::format("{} pixel{} of its spot {} at the image's ceiling of {:.0f} electrons, below the model: "
                              "saturated, and MASK does not know",
                              look.atCeiling, look.atCeiling == 1 ? "" : "s", look.atCeiling == 1 ? "is" : "are",
                              quality.ceiling)
                : std::string("beside a saturated line that MASK does not know"));
    const double peak = quality.peakPull.empty() ? 0 : static_cast<double>(quality.peakPull(s, j));
    if (isKind(BadBinKind::CosmicRay) || (peak > limits.pixelPull && !isKind(BadBinKind::Saturated)))
        add(BadBinKind::CosmicRay, peak / limits.pixelPull,
            d.outliers == 0
                ? std::string(
                      "beside pixels far above the model, which MASK does not know: a cosmic ray or a hot pixel")
                : fmt::format("{} pixel{} of its spot {} far above the model (x = {}, y = {} by {:+.0f} sigma) and not "
                              "masked: a "
                              "cosmic ray or a hot pixel; without {} its flux would change by about {:+.1f} sigma",
                              d.outliers, d.outliers == 1 ? "" : "s", d.outliers == 1 ? "is" : "are", look.worstX,
                              look.worstY, look.worst, d.outliers == 1 ? "it" : "them", d.outlierInfluence));
    if (quality.pixels) {
        const Measured offset = offsetAt(quality, s, d.place);
        if (offset.significance() > limits.significance && std::abs(offset.value) > limits.traceOffset)
            add(BadBinKind::TraceOffset, std::abs(offset.value) / limits.traceOffset,
                fmt::format("the light lies {:.2f} +- {:.2f} pixel {} of the trace, along the fiber",
                            std::abs(offset.value), offset.error, offset.value > 0 ? "right" : "left"));
        const Measured width = widthAt(quality, s, d.place);
        if (width.significance() > limits.significance && std::abs(width.value) > limits.widthError)
            add(BadBinKind::PsfWidth, std::abs(width.value) / limits.widthError,
                fmt::format(
                    "the PSF is {:.1f} +- {:.1f} % too {} across the trace here; over this fiber {:+.1f} %, over all "
                    "fibers {:+.1f} %",
                    100 * std::abs(width.value), 100 * width.error, width.value > 0 ? "narrow" : "wide",
                    100 * quality.fibers[s].widthError.value, 100 * quality.frameWidth.value));
    }
    if (isKind(BadBinKind::Neighbour)) {
        const int other = brightestNeighbour(input, row, bin);
        const std::string which = other < 0
                                      ? std::string("other fibers")
                                      : fmt::format("fiber {}{}", quality.fibers[static_cast<std::size_t>(other)].fiber,
                                                    std::abs(other - row) == 1 ? " beside it" : "");
        add(BadBinKind::Neighbour, severity,
            fmt::format("{} of the light under its spot is that of others, most of it of {}, so that a PSF's wings "
                        "wrong by 10 % change its flux by "
                        "{}",
                        percent(d.neighbour), which, percent(0.1 * d.neighbour / std::max(1e-3, 1 - d.neighbour))));
    }
    if (isKind(BadBinKind::LowWeight))
        add(BadBinKind::LowWeight, severity,
            d.weightShare < limits.lowWeight
                ? fmt::format(
                      "its fluxweight is {:.2g} of the largest around it: next to no pixel tells of it, and the "
                      "extraction's prior draws its flux towards 0",
                      d.weightShare)
                : fmt::format("its error is {:.0f} times its fiber's usual one: next to no pixel tells of it",
                              std::sqrt(severity / limits.lowWeight)));
    if (quality.pixels && d.chi2Ratio > limits.bad2dFactor && isBrightLine(quality, s, j))
        add(BadBinKind::None, d.chi2Ratio / limits.bad2dFactor,
            fmt::format(
                "chi2pix is {:.3g}, {:.1f} times the medians, but a line {} reaches {:.0f} electrons a pixel: data "
                "and model differ by {} of that at most, as the PSF's error or the bins' width has it",
                d.chi2pix, d.chi2Ratio, look.brightestX < 0 ? "here" : whoseLine(input, quality, d, look.brightestX),
                look.brightest, percent(look.differs / std::max(1.0, look.brightest))));
    if (isKind(BadBinKind::PoorFit) || (d.causes.empty() && d.chi2Ratio > limits.bad2dFactor))
        add(BadBinKind::PoorFit, d.chi2Ratio / limits.bad2dFactor,
            std::isnan(d.chi2Ratio)
                ? std::string("MASK says BAD2DFIT; the frame has no CHI2PIX")
                : fmt::format("chi2pix is {:.3g}, {:.1f} times the medians over fibers and wavelengths{}", d.chi2pix,
                              d.chi2Ratio,
                              quality.pixels ? ", for a reason not recognised"
                                             : "; the CCD image and the PSF would say why"));
    // The judge's cause first, then by severity.
    std::stable_sort(d.causes.begin(), d.causes.end(), [&](const BinCause& a, const BinCause& b) {
        if ((a.kind == primary) != (b.kind == primary)) return a.kind == primary;
        return a.severity > b.severity;
    });

    addSeam(d, frame);
    addPatch(d, input);
    if (quality.pixels && quality.peakPull.size() > 0 && std::isnan(quality.peakPull(s, j)))
        d.notes.emplace_back("too near to the grid's end or to bins without a flux for a look at its residuals");
    if (!quality.pixels)
        d.notes.emplace_back(quality.notes.empty() ? "pixels were not looked at" : quality.notes.front());

    const std::string where = fmt::format("Fiber {}, {:.1f} Angstrom", quality.fibers[s].fiber, d.wavelength);
    if (primary != BadBinKind::None && !d.causes.empty())
        d.sentence = fmt::format("{}: {}: {}.", where, badBinKindName(d.causes.front().kind), d.causes.front().text);
    else if (!d.causes.empty())
        d.sentence = fmt::format("{}: no alarm; {}.", where, d.causes.front().text);
    else
        d.sentence = fmt::format("{}: nothing found{}.", where,
                                 std::isnan(d.chi2Ratio) ? std::string()
                                                         : fmt::format(" (chi2pix {:.2g}, {:.1f} times the medians)",
                                                                       d.chi2pix, d.chi2Ratio));
    return d;
}

} // namespace patchlight
