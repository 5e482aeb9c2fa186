#include "core/analysis/FrameQuality.h"

#include "core/analysis/BinDiagnosis.h"
#include "core/analysis/SpotStrips.h"
#include "core/analysis/Statistics.h"
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
#include <cstdio>
#include <limits>
#include <map>
#include <numeric>
#include <tuple>
#include <utility>

#include <fmt/format.h>

namespace patchlight {

namespace {

constexpr auto nanFloat = std::numeric_limits<float>::quiet_NaN();

struct KindText {
    const char* name;
    const char* word;
};
constexpr std::array<KindText, badBinKindCount> kindTexts = {{{"nothing found", "none"},
                                                              {"not a number", "not_a_number"},
                                                              {"off the CCD", "no_data"},
                                                              {"dead amplifier", "dead_amplifier"},
                                                              {"masked pixels", "masked_pixels"},
                                                              {"bad column", "bad_column"},
                                                              {"saturation", "saturation"},
                                                              {"cosmic ray", "cosmic_ray"},
                                                              {"trace offset", "trace_offset"},
                                                              {"PSF width", "psf_width"},
                                                              {"neighbour's light", "neighbour"},
                                                              {"low weight", "low_weight"},
                                                              {"poor fit", "poor_fit"}}};

bool has(std::uint32_t mask, SpecMaskBit bit) { return (mask & static_cast<std::uint32_t>(bit)) != 0; }

void checkStop(const QualityInput& input) {
    if (input.stop.stop_requested()) throw Cancelled();
}

/// Median of values with weights, which are above 0; NaN of none. Reorders.
double weightedMedian(std::vector<std::pair<double, double>>& values) {
    if (values.empty()) return nan;
    std::sort(values.begin(), values.end());
    double total = 0;
    for (const auto& [value, weight] : values) total += weight;
    double sum = 0;
    for (const auto& [value, weight] : values) {
        sum += weight;
        if (sum >= 0.5 * total) return value;
    }
    return values.back().first;
}

/// An estimate from many rows that neither a few wrong ones nor a few very heavy ones can turn: weights (inverse variances) are cut at
/// ten times their median, and the median is taken. Reorders.
Measured robustEstimate(std::vector<std::pair<double, double>>& values) {
    if (values.empty()) return {};
    std::vector<double> weights;
    for (const auto& [value, weight] : values) weights.push_back(weight);
    constexpr double heaviest = 10.0;
    constexpr double medianEfficiency = 1.2533; // error of a median over that of a mean
    const double most = heaviest * median(std::move(weights));
    double sum = 0;
    double variance = 0;
    for (auto& [value, weight] : values) {
        const double kept = std::min(weight, most);
        sum += kept;
        variance += kept * kept / weight;
        weight = kept;
    }
    return {weightedMedian(values), medianEfficiency * std::sqrt(variance) / sum};
}

/// Running median, every `stride` bins. @param half bins on each side
std::vector<double> runningMedian(std::span<const double> values, std::size_t half, std::size_t stride = 1) {
    std::vector<double> out(values.size());
    std::vector<double> window;
    for (std::size_t i = 0; i < values.size(); i += stride) {
        const std::size_t first = i > half ? i - half : 0;
        const std::size_t last = std::min(values.size(), i + half + 1);
        window.assign(values.begin() + static_cast<std::ptrdiff_t>(first),
                      values.begin() + static_cast<std::ptrdiff_t>(last));
        const double value = medianInPlace(std::span<double>(window));
        for (std::size_t k = i; k < std::min(values.size(), i + stride); ++k) out[k] = value;
    }
    return out;
}

/// One row of a strip, seen as light S with derivatives and residuals.
struct RowFit {
    double chi2 = 0;                     ///< after the best amplitude
    double offset = 0, offsetWeight = 0; ///< pixels, pixels^-2
    double width = 0, widthWeight = 0;
    int count = 0;
};

/// A block of rows of one spectrum.
struct BlockFit {
    Measured offset, width;
    int column = -1; ///< that explains most, if any does
    double columnPull = 0;
    double columnChi2 = 0;
    int columnFirst = 0, columnLast = 0; ///< rows [first, last) where it does
};

/// Everything measured at one spectrum's pixels.
struct SpectrumPass {
    std::vector<BlockFit> blocks;
    Measured offset, width;
    Measured wavelengthShift;       ///< Angstrom
    std::vector<PullFigures> pulls; ///< by amplifier, sums: mean and sigma hold sum and sum of squares
    std::vector<std::vector<float>> lightByAmplifier; ///< electrons a row
    double bins = 0;                                  ///< that its pixels had to determine
    std::vector<float> nearest;                       ///< trace column by row; NaN: none
    IndexRange rows;                                  ///< within the grid's ends
};

/// From the header's CCDSEC keywords ("[x1:x2,y1:y2]", counted from 1), else the four quadrants.
std::vector<AmplifierQuality> amplifiersOf(const CcdImage& image) {
    std::vector<AmplifierQuality> amplifiers;
    for (const char name : {'A', 'B', 'C', 'D', '1', '2', '3', '4'}) {
        const auto section = image.header.text(std::string("CCDSEC") + name);
        int x1 = 0;
        int x2 = 0;
        int y1 = 0;
        int y2 = 0;
        if (!section || std::sscanf(section->c_str(), "[%d:%d,%d:%d]", &x1, &x2, &y1, &y2) != 4) continue;
        AmplifierQuality amplifier;
        amplifier.name = name;
        amplifier.x0 = std::clamp(x1 - 1, 0, image.nx);
        amplifier.x1 = std::clamp(x2, 0, image.nx);
        amplifier.y0 = std::clamp(y1 - 1, 0, image.ny);
        amplifier.y1 = std::clamp(y2, 0, image.ny);
        if (amplifier.x1 > amplifier.x0 && amplifier.y1 > amplifier.y0) amplifiers.push_back(amplifier);
    }
    if (!amplifiers.empty()) return amplifiers;
    const int xm = image.nx / 2;
    const int ym = image.ny / 2;
    const auto add = [&](const char* name, int x0, int x1, int y0, int y1) {
        AmplifierQuality amplifier;
        amplifier.name = name;
        amplifier.x0 = x0;
        amplifier.x1 = x1;
        amplifier.y0 = y0;
        amplifier.y1 = y1;
        amplifiers.push_back(amplifier);
    };
    add("lower left", 0, xm, 0, ym);
    add("lower right", xm, image.nx, 0, ym);
    add("upper left", 0, xm, ym, image.ny);
    add("upper right", xm, image.nx, ym, image.ny);
    return amplifiers;
}

constexpr std::size_t fewestFibers = 5; // that have lines in common

[[nodiscard]] bool isGood(const ExtractedFrame& frame, std::size_t s, std::size_t j) {
    return frame.ivar(s, j) > 0 && std::isfinite(frame.flux(s, j)) && std::isfinite(frame.ivar(s, j));
}

/// What is left of each spectrum above a running median over 51 bins; bins without a flux count as 0. @param values  [nspec][nwave], of the frame's bins
Array2<double> narrowStructure(const ExtractedFrame& frame, const Array2<double>& values, int threads) {
    const std::size_t nwave = values.columns();
    constexpr std::size_t halfWindow = 25;
    constexpr std::size_t stride = 5;
    Array2<double> lines(values.rows(), nwave);
    forEachParallel(values.rows(), threads, [&](std::size_t s, std::size_t) {
        std::vector<double> clean(nwave);
        for (std::size_t j = 0; j < nwave; ++j) clean[j] = isGood(frame, s, j) ? values(s, j) : 0;
        const std::vector<double> smooth = runningMedian(clean, halfWindow, stride);
        for (std::size_t j = 0; j < nwave; ++j) lines(s, j) = clean[j] - smooth[j];
    });
    return lines;
}

/// Its median over fibers, [nwave]; empty of few fibers or bins.
std::vector<double> commonStructure(const ExtractedFrame& frame, const Array2<double>& lines, int threads) {
    constexpr std::size_t fewestBins = 60;
    if (lines.rows() < fewestFibers || lines.columns() < fewestBins) return {};
    std::vector<double> common(lines.columns());
    forEachParallel(lines.columns(), threads, [&](std::size_t j, std::size_t) {
        std::vector<double> values;
        for (std::size_t s = 0; s < lines.rows(); ++s)
            if (isGood(frame, s, j)) values.push_back(lines(s, j));
        common[j] = values.size() >= fewestFibers ? median(std::move(values)) : 0;
    });
    return common;
}

/// The pixels' side of the measurement.
class PixelPass {
public:
    PixelPass(const QualityInput& input, FrameQuality& out) : input_(input), out_(out) {}

    void run() {
        const CcdImage& image = *input_.image;
        const Psf& psf = *input_.psf;
        const ExtractedFrame& frame = *input_.frame;
        pixels_ = weightedPixels(image, input_.threads);
        findCeiling();
        out_.amplifiers = amplifiersOf(image);
        flux_ = deconvolvedFlux(frame, input_.threads);
        tail_ = !frameSaysNoTail(frame);
        wave_ = psfWavelengths(frame);
        findCommonLines();
        shifted_ = variedPsf(psf, derivativeStep, 0.0);
        widened_ = variedPsf(psf, 0.0, derivativeStep);
        const std::size_t nspec = frame.nspec();
        const std::size_t nwave = frame.nwave();
        for (Array2<float>* plane :
             {&out_.maskedFraction, &out_.fluxweight, &out_.neighbour, &out_.peakPull, &out_.chi2Line})
            *plane = Array2<float>(nspec, nwave, nanFloat);
        maskedSaturatedPixels = Array2<float>(nspec, nwave, 0.0F);
        computedChi2 = Array2<float>(nspec, nwave, nanFloat);
        saturatedPixels = Array2<float>(nspec, nwave, 0.0F);
        shareOnCcd = Array2<float>(nspec, nwave, 1.0F);
        neighbourRatio = Array2<float>(nspec, nwave, 0.0F);
        out_.blockRows = blockRows;
        const auto blocks = static_cast<std::size_t>((image.ny + blockRows - 1) / blockRows);
        out_.offsetByBlock = Array2<Measured>(nspec, blocks);
        out_.widthByBlock = Array2<Measured>(nspec, blocks);
        spectrumPasses.resize(nspec);

        const std::vector<IndexRange> bundles = bundlesOf(frame);
        std::vector<BundleModel> models(bundles.size());
        forEachParallel(bundles.size(), input_.threads, [&](std::size_t b, std::size_t) {
            checkStop(input_);
            measureBundle(bundles[b], models[b]);
        });
        addModels(models);
        finishColumns();
        finishAmplifiers();
        finishFibers();
        residualMedians();
    }

    Array2<float> computedChi2;          ///< computed
    Array2<float> saturatedPixels;       ///< pixels at the ceiling below the model, in each bin's spot
    Array2<float> maskedSaturatedPixels; ///< pixels of each bin's spot that MASK says are saturated
    Array2<float> shareOnCcd;            ///< share of the spot's light
    Array2<float> neighbourRatio;        ///< others' light over own, 0 where it is not significant
    std::vector<SpectrumPass> spectrumPasses;

private:
    static constexpr double derivativeStep = 0.02; ///< pixels, and relative
    static constexpr int blockRows = 128;

    struct BundleModel {
        int x0 = 0;
        int width = 0;
        std::vector<double> values; ///< [ny][width]
        [[nodiscard]] double at(int x, int y) const {
            return values[static_cast<std::size_t>(y) * static_cast<std::size_t>(width) +
                          static_cast<std::size_t>(x - x0)];
        }
    };

    void findCeiling() {
        double largest = 0;
        for (std::size_t p = 0; p < pixels_.pixels.size(); ++p)
            if (pixels_.weights[p] > 0.0F) largest = std::max(largest, static_cast<double>(pixels_.pixels[p]));
        out_.ceiling = largest;
    }

    [[nodiscard]] std::size_t pixel(int x, int y) const {
        return static_cast<std::size_t>(y) * static_cast<std::size_t>(pixels_.nx) + static_cast<std::size_t>(x);
    }

    void measureBundle(IndexRange rows, BundleModel& model) {
        const Psf& psf = *input_.psf;
        const int ny = pixels_.ny;
        std::vector<SpotStrip> strips(static_cast<std::size_t>(rows.count()));
        int x0 = pixels_.nx;
        int x1 = 0;
        for (int s = rows.first; s < rows.last; ++s) {
            SpotStrip& strip = strips[static_cast<std::size_t>(s - rows.first)];
            strip.locate(psf.view(), input_.frame->specmin + s, wave_, pixels_.nx, ny);
            strip.paint(psf.view(), flux_.row(static_cast<std::size_t>(s)), tail_, true);
            x0 = std::min(x0, strip.firstColumn());
            x1 = std::max(x1, strip.lastColumn());
        }
        model.x0 = std::max(0, x0);
        model.width = std::max(0, std::min(pixels_.nx, x1) - model.x0);
        model.values.assign(static_cast<std::size_t>(ny) * static_cast<std::size_t>(model.width), 0.0);
        for (const SpotStrip& strip : strips) strip.addTo(model.values, model.x0, model.width, ny);
        const BundleModel peaks = brightestAround(model, ny);
        for (int s = rows.first; s < rows.last; ++s) {
            checkStop(input_);
            measureSpectrum(s, rows, strips, model, peaks);
        }
    }

    /// The largest value of the model within reach of a spot's core along the trace: near a bright line the PSF's error is a fraction of the line, as is
    /// what bins leave of light between two of their wavelengths.
    [[nodiscard]] static BundleModel brightestAround(const BundleModel& model, int ny) {
        constexpr int reach = 5; // rows
        BundleModel out{model.x0, model.width, std::vector<double>(model.values.size(), 0.0)};
        const auto width = static_cast<std::ptrdiff_t>(model.width);
        for (int y = 0; y < ny; ++y)
            for (int k = std::max(0, y - reach); k < std::min(ny, y + reach + 1); ++k) {
                const double* from = model.values.data() + k * width;
                double* to = out.values.data() + y * width;
                for (std::ptrdiff_t x = 0; x < width; ++x) to[x] = std::max(to[x], from[x]);
            }
        return out;
    }

    /// Half the distance to the next trace, at most 4 pixels: whose pixels are whose.
    [[nodiscard]] double halfWidth(int s, double wavelength) const {
        constexpr double most = 4.0;
        double half = most;
        const Psf& psf = *input_.psf;
        const int spectrum = input_.frame->specmin + s;
        const double x = psf.x(spectrum, wavelength);
        for (const int other : {spectrum - 1, spectrum + 1})
            if (other >= 0 && other < psf.nspec) half = std::min(half, 0.5 * std::abs(psf.x(other, wavelength) - x));
        return half;
    }

    void measureSpectrum(int s, IndexRange rows, const std::vector<SpotStrip>& strips, const BundleModel& model,
                         const BundleModel& peaks) {
        const ExtractedFrame& frame = *input_.frame;
        const SpotStrip& strip = strips[static_cast<std::size_t>(s - rows.first)];
        const auto row = static_cast<std::size_t>(s);
        const PsfView view = input_.psf->view();
        SpectrumPass& pass = spectrumPasses[row];
        const int ny = pixels_.ny;

        // Rows of which all light is in the model: not beyond the grid's ends, and no bin without a flux.
        std::vector<char> known(static_cast<std::size_t>(ny), 0);
        const int firstRow = strip.cornerY(0) + view.stampY();
        const int lastRow = strip.cornerY(strip.bins() - 1);
        pass.rows = {firstRow, lastRow};
        for (int y = std::max(0, firstRow); y < std::min(ny, lastRow); ++y) known[static_cast<std::size_t>(y)] = 1;
        for (int j = 0; j < strip.bins(); ++j) {
            const double ivar = frame.ivar(row, static_cast<std::size_t>(j));
            if (ivar > 0.0 && std::isfinite(frame.flux(row, static_cast<std::size_t>(j)))) continue;
            for (int y = std::max(0, strip.cornerY(j)); y < std::min(ny, strip.cornerY(j) + view.stampY()); ++y)
                known[static_cast<std::size_t>(y)] = 0;
        }

        SpotStrip dx = strip.sameShape();
        dx.paint(shifted_.view(), flux_.row(row), tail_, false);
        SpotStrip ds = strip.sameShape();
        ds.paint(widened_.view(), flux_.row(row), tail_, false);

        const double half = halfWidth(s, wave_[wave_.size() / 2]);
        pass.nearest = strip.traceByRow(view);
        std::vector<RowFit> fits(static_cast<std::size_t>(ny));
        pass.blocks.resize((static_cast<std::size_t>(ny) + blockRows - 1) / blockRows);
        for (std::size_t b = 0; b < pass.blocks.size(); ++b) {
            const int y0 = static_cast<int>(b) * blockRows;
            fitBlock({y0, std::min(ny, y0 + blockRows)}, strip, dx, ds, model, known, pass, half, fits, pass.blocks[b]);
        }
        // Beside a block with a bad column too few rows may be left to find it again, but enough to be misled by it.
        for (std::size_t b = 0; b < pass.blocks.size(); ++b) {
            const bool below = b > 0 && pass.blocks[b - 1].column >= 0;
            const bool above = b + 1 < pass.blocks.size() && pass.blocks[b + 1].column >= 0;
            if (pass.blocks[b].column >= 0 || (!below && !above)) continue;
            pass.blocks[b].offset = {};
            pass.blocks[b].width = {};
            const int y0 = static_cast<int>(b) * blockRows;
            for (int y = y0; y < std::min(ny, y0 + blockRows); ++y) fits[static_cast<std::size_t>(y)] = {};
        }
        fitFiber(fits, pass);
        for (std::size_t b = 0; b < pass.blocks.size(); ++b) {
            out_.offsetByBlock(row, b) = pass.blocks[b].offset;
            out_.widthByBlock(row, b) = pass.blocks[b].width;
        }
        countPulls(s, strip, model, known, pass, half);
        measureBins(s, strip, dx, ds, model, peaks, known, pass);
        measureShift(s, strip, model, known, pass, half);
    }

    /// Columns of a row that are nearest to a spectrum: [first, last).
    [[nodiscard]] IndexRange nearColumns(const SpotStrip& strip, const SpectrumPass& pass, int y, double half) const {
        const float x = pass.nearest[static_cast<std::size_t>(y)];
        if (std::isnan(x)) return {};
        const int first = static_cast<int>(std::ceil(static_cast<double>(x) - half));
        const int last = static_cast<int>(std::floor(static_cast<double>(x) + half)) + 1;
        const IndexRange held = strip.columns(y);
        return {std::max({first, held.first, 0}), std::min({last, held.last, pixels_.nx})};
    }

    void fitBlock(IndexRange block, const SpotStrip& strip, const SpotStrip& dx, const SpotStrip& ds,
                  const BundleModel& model, const std::vector<char>& known, const SpectrumPass& pass, double half,
                  std::vector<RowFit>& fits, BlockFit& result) {
        std::vector<std::pair<double, double>> offsets;
        std::vector<std::pair<double, double>> widths;
        double chi2 = 0;
        int count = 0;
        int rowCount = 0;
        IndexRange span{pixels_.nx, 0};
        struct RowSums {
            double sw = 0, sr = 0, rr = 0;
        };
        std::vector<RowSums> sums(static_cast<std::size_t>(block.count()));
        for (int y = block.first; y < block.last; ++y) {
            if (known[static_cast<std::size_t>(y)] == 0) continue;
            const IndexRange columns = nearColumns(strip, pass, y, half);
            RowSums sum;
            double sx = 0;
            double sg = 0;
            int n = 0;
            for (int x = columns.first; x < columns.last; ++x) {
                const double w = pixels_.weights[pixel(x, y)];
                if (w <= 0) continue;
                const double light = strip.at(x, y);
                const double r = pixels_.pixels[pixel(x, y)] - model.at(x, y);
                sum.sw += w * light * light;
                sum.sr += w * light * r;
                sum.rr += w * r * r;
                sx += w * light * (dx.at(x, y) - light) / derivativeStep;
                sg += w * light * (ds.at(x, y) - light) / derivativeStep;
                ++n;
            }
            constexpr int fewest = 4; // pixels that can tell light, place and width from each other
            if (n < fewest || sum.sw <= 0) continue;
            sums[static_cast<std::size_t>(y - block.first)] = sum;
            span = {std::min(span.first, columns.first), std::max(span.last, columns.last)};
            RowFit& fit = fits[static_cast<std::size_t>(y)];
            double gx = 0;
            double gs = 0;
            for (int x = columns.first; x < columns.last; ++x) {
                const double w = pixels_.weights[pixel(x, y)];
                if (w <= 0) continue;
                const double light = strip.at(x, y);
                const double r = pixels_.pixels[pixel(x, y)] - model.at(x, y) - sum.sr / sum.sw * light;
                const double ox = (dx.at(x, y) - light) / derivativeStep - sx / sum.sw * light;
                const double os = (ds.at(x, y) - light) / derivativeStep - sg / sum.sw * light;
                gx += w * ox * r;
                gs += w * os * r;
                fit.offsetWeight += w * ox * ox;
                fit.widthWeight += w * os * os;
                fit.chi2 += w * r * r;
                ++fit.count;
            }
            if (fit.offsetWeight > 0) {
                fit.offset = gx / fit.offsetWeight;
                offsets.emplace_back(fit.offset, fit.offsetWeight);
            }
            if (fit.widthWeight > 0) {
                fit.width = gs / fit.widthWeight;
                widths.emplace_back(fit.width, fit.widthWeight);
            }
            chi2 += fit.chi2;
            count += fit.count - 1;
            ++rowCount;
        }
        constexpr int fewestRows = 16;
        if (rowCount < fewestRows) return;
        result.offset = robustEstimate(offsets);
        result.width = robustEstimate(widths);
        if (chi2 < 1.5 * count) return;

        // What remains with offset and width taken out: chi2 of a row is quadratic in them.
        double explained = chi2;
        for (int y = block.first; y < block.last; ++y) {
            const RowFit& fit = fits[static_cast<std::size_t>(y)];
            const double o = result.offset.value;
            const double w = result.width.value;
            explained +=
                fit.offsetWeight * (o * o - 2 * o * fit.offset) + fit.widthWeight * (w * w - 2 * w * fit.width);
        }
        double best = 0;
        for (int x = span.first; x < span.last; ++x) {
            int rows = 0;
            int bad = 0;
            int first = block.last;
            int last = block.first;
            double with = 0;
            double without = 0;
            std::vector<double> pulls;
            for (int y = block.first; y < block.last; ++y) {
                const RowSums& sum = sums[static_cast<std::size_t>(y - block.first)];
                if (sum.sw <= 0) continue;
                const IndexRange columns = nearColumns(strip, pass, y, half);
                const double w = pixels_.weights[pixel(x, y)];
                const RowFit& fit = fits[static_cast<std::size_t>(y)];
                if (!columns.contains(x) || w <= 0) continue;
                const double light = strip.at(x, y);
                const double r = pixels_.pixels[pixel(x, y)] - model.at(x, y);
                const double sw = sum.sw - w * light * light;
                const double sr = sum.sr - w * light * r;
                if (sw <= 1e-6 * sum.sw) continue;
                const double z = (r - sr / sw * light) * std::sqrt(w);
                pulls.push_back(z);
                ++rows;
                with += fit.chi2;
                without += sum.rr - w * r * r - sr * sr / sw;
                if (std::abs(z) > input_.limits.columnPull) {
                    ++bad;
                    first = std::min(first, y);
                    last = std::max(last, y + 1);
                }
            }
            constexpr int fewestColumnRows = 24;
            if (rows < fewestColumnRows || 2 * bad < rows) continue;
            const double gain = with - without;
            const double other = (chi2 - explained) * rows / rowCount; // what offset and width do in as many rows
            if (gain > best && gain > 0.6 * (with - count * (static_cast<double>(rows) / rowCount)) && gain > other) {
                best = gain;
                result.column = x;
                result.columnChi2 = gain;
                result.columnPull = median(pulls);
                result.columnFirst = first;
                result.columnLast = last;
            }
        }
        if (result.column >= 0) {
            result.offset = {};
            result.width = {};
            for (int y = block.first; y < block.last; ++y) fits[static_cast<std::size_t>(y)] = {};
        }
    }

    static void fitFiber(const std::vector<RowFit>& fits, SpectrumPass& pass) {
        std::vector<std::pair<double, double>> offsets;
        std::vector<std::pair<double, double>> widths;
        for (const RowFit& fit : fits) {
            if (fit.offsetWeight <= 0 || fit.widthWeight <= 0) continue;
            offsets.emplace_back(fit.offset, fit.offsetWeight);
            widths.emplace_back(fit.width, fit.widthWeight);
        }
        pass.offset = robustEstimate(offsets);
        pass.width = robustEstimate(widths);
    }

    [[nodiscard]] std::size_t amplifierIndex(int x, int y) const {
        for (std::size_t a = 0; a < out_.amplifiers.size(); ++a) {
            const AmplifierQuality& amp = out_.amplifiers[a];
            if (x >= amp.x0 && x < amp.x1 && y >= amp.y0 && y < amp.y1) return a;
        }
        return out_.amplifiers.size();
    }

    void countPulls(int s, const SpotStrip& strip, const BundleModel& model, const std::vector<char>& known,
                    SpectrumPass& pass, double half) {
        pass.pulls.assign(out_.amplifiers.size() + 1, {});
        pass.lightByAmplifier.resize(out_.amplifiers.size() + 1);
        constexpr double outlier = 5.0;
        int rows = 0;
        for (int y = 0; y < pixels_.ny; ++y) {
            if (known[static_cast<std::size_t>(y)] == 0) continue;
            const IndexRange columns = nearColumns(strip, pass, y, half);
            if (columns.empty()) continue;
            ++rows;
            const auto middle = static_cast<int>(std::lround(pass.nearest[static_cast<std::size_t>(y)]));
            double light = 0;
            for (int x = columns.first; x < columns.last; ++x) {
                light += strip.at(x, y);
                const double w = pixels_.weights[pixel(x, y)];
                if (w <= 0) continue;
                const double pull = (pixels_.pixels[pixel(x, y)] - model.at(x, y)) * std::sqrt(w);
                PullFigures& figures = pass.pulls[amplifierIndex(x, y)];
                ++figures.count;
                figures.mean += pull;
                figures.sigma += pull * pull;
                if (std::abs(pull) > outlier) ++figures.outliers;
            }
            pass.lightByAmplifier[amplifierIndex(middle, y)].push_back(static_cast<float>(light));
        }
        const int first = strip.cornerY(0);
        const int last = strip.cornerY(strip.bins() - 1);
        pass.bins = last > first ? static_cast<double>(rows) * (strip.bins() - 1) / (last - first) : 0;
        static_cast<void>(s);
    }

    void measureBins(int s, const SpotStrip& strip, const SpotStrip& dx, const SpotStrip& ds, const BundleModel& model,
                     const BundleModel& peaks, const std::vector<char>& known, const SpectrumPass& pass) {
        const ExtractedFrame& frame = *input_.frame;
        const auto row = static_cast<std::size_t>(s);
        const int stampX = strip.stampX();
        const int stampY = strip.stampY();
        const QualityLimits& limits = input_.limits;
        std::vector<double> own(wave_.size());
        std::vector<double> others(wave_.size());
        for (int j = 0; j < strip.bins(); ++j) {
            const auto bin = static_cast<std::size_t>(j);
            const std::span<const float> spot = strip.spot(j);
            float largest = 0;
            for (const float a : spot) largest = std::max(largest, a);
            double unmasked = 0;
            double onCcd = 0;
            double weight = 0;
            double square = 0;
            double chi2 = 0;
            double counted = 0;
            double ownLight = 0;
            double otherLight = 0;
            double peak = 0;
            double deficit = 0;
            double chi2Line = 0;
            int maskedSaturated = 0;
            int atCeiling = 0;
            bool complete = true;
            for (int iy = 0; iy < stampY; ++iy) {
                const int y = strip.cornerY(j) + iy;
                if (y < 0 || y >= pixels_.ny) continue;
                const bool rowKnown = known[static_cast<std::size_t>(y)] != 0;
                if (!rowKnown) complete = false;
                const BlockFit& block = pass.blocks[static_cast<std::size_t>(y / blockRows)];
                const bool moved = significant(block.offset) || significant(block.width);
                for (int ix = 0; ix < stampX; ++ix) {
                    const int x = strip.cornerX(j) + ix;
                    if (x < 0 || x >= pixels_.nx) continue;
                    const double a = spot[static_cast<std::size_t>(iy * stampX + ix)];
                    onCcd += a;
                    const double w = pixels_.weights[pixel(x, y)];
                    if (w <= 0 && a >= 0.02F * largest && isMaskedSaturated(x, y)) ++maskedSaturated;
                    if (w <= 0) continue;
                    unmasked += a;
                    weight += a * w;
                    square += a * a * w;
                    const double m = model.at(x, y);
                    const double light = strip.at(x, y);
                    ownLight += a * w * light;
                    otherLight += a * w * (m - light);
                    if (m == 0.0 || !rowKnown) continue;
                    const double p = pixels_.pixels[pixel(x, y)];
                    const double line = out_.psferr * std::max(m, peaks.at(x, y));
                    chi2 += a * pixelChi2(p, w, m, out_.psferr);
                    chi2Line += a * (p - m) * (p - m) / (1.0 / w + line * line);
                    counted += a;
                    if (a < 0.1F * largest) continue;
                    double r = p - m;
                    if (p >= 0.98 * out_.ceiling) {
                        ++atCeiling;
                        deficit -= r;
                    }
                    double variance = 1.0 / w + line * line;
                    if (moved) { // taken out to first order; half of it may remain
                        const double byOffset = block.offset.value * (dx.at(x, y) - light) / derivativeStep;
                        const double byWidth = block.width.value * (ds.at(x, y) - light) / derivativeStep;
                        r -= byOffset + byWidth;
                        variance += 0.25 * (byOffset * byOffset + byWidth * byWidth);
                    }
                    peak = std::max(peak, r / std::sqrt(variance));
                }
            }
            out_.maskedFraction(row, bin) = static_cast<float>(std::max(0.0, 1.0 - unmasked));
            shareOnCcd(row, bin) = static_cast<float>(onCcd);
            out_.fluxweight(row, bin) = static_cast<float>(weight);
            maskedSaturatedPixels(row, bin) = static_cast<float>(maskedSaturated);
            if (complete && counted > 0) {
                computedChi2(row, bin) = static_cast<float>(chi2 / counted);
                out_.chi2Line(row, bin) = static_cast<float>(chi2Line / counted);
                out_.peakPull(row, bin) = static_cast<float>(peak);
                constexpr int plateau = 3; // pixels: fewer may be the top of a bright line
                if (atCeiling >= plateau && deficit > 0) saturatedPixels(row, bin) = static_cast<float>(atCeiling);
            }
            own[bin] = square > 0 ? ownLight / square : 0;
            others[bin] = square > 0 ? otherLight / square : 0;
        }
        constexpr std::size_t halfWindow = 25;
        constexpr std::size_t stride = 5;
        const std::vector<double> ownSmooth = runningMedian(own, halfWindow, stride);
        const std::vector<double> step = binWidths(wave_);
        for (std::size_t j = 0; j < wave_.size(); ++j) {
            // The median, since noise is no light; but where all fibers have a line, so has this one.
            const double ownPart = std::max({0.0, ownSmooth[j], own[j]});
            const double other = std::max(0.0, others[j]);
            out_.neighbour(row, j) = other > 0 ? static_cast<float>(other / (other + ownPart)) : 0.0F;
            const double sigmas = other / step[j] * std::sqrt(std::max(0.0, frame.ivar(row, j)));
            if (sigmas > limits.neighbourSigma && other > limits.neighbourLight * ownPart)
                neighbourRatio(row, j) = static_cast<float>(other / std::max(ownPart, 1e-3 * other));
        }
    }

    [[nodiscard]] bool isMaskedSaturated(int x, int y) const {
        const std::vector<std::int32_t>& mask = input_.image->mask;
        return !mask.empty() &&
               (static_cast<std::uint32_t>(mask[pixel(x, y)]) & static_cast<std::uint32_t>(CcdMaskBit::Saturated)) != 0;
    }

    [[nodiscard]] bool significant(const Measured& measured) const {
        return measured.known() && measured.significance() > input_.limits.significance;
    }

    /// Photons per bin that the fibers' lines have in common, 0 away from bright ones; empty where too few fibers are there to tell.
    void findCommonLines() {
        const ExtractedFrame& frame = *input_.frame;
        lines_ = narrowStructure(frame, flux_, input_.threads);
        const std::vector<double> common = commonStructure(frame, lines_, input_.threads);
        if (common.empty()) return;
        std::vector<double> sizes;
        for (const double value : common) sizes.push_back(std::abs(value));
        constexpr double bright = 40.0;   // times the median size of what is no line
        constexpr std::size_t around = 4; // bins
        const double least = bright * median(std::move(sizes));
        commonLines_.assign(common.size(), 0.0);
        for (std::size_t j = 0; j < common.size(); ++j)
            if (common[j] > least)
                for (std::size_t k = j > around ? j - around : 0; k < std::min(common.size(), j + around + 1); ++k)
                    commonLines_[k] = common[k];
    }

    /// By how much a spectrum's lines are beside those that all fibers have: least squares in its pixels, which are compared with the common lines painted at
    /// moved wavelengths in place of its own. Its own model cannot tell: its fluxes move with the light.
    void measureShift(int s, const SpotStrip& strip, const BundleModel& model, const std::vector<char>& known,
                      SpectrumPass& pass, double half) const {
        if (commonLines_.empty()) return;
        const PsfView view = input_.psf->view();
        const auto row = static_cast<std::size_t>(s);
        std::vector<double> ownLines(commonLines_.size(), 0.0);
        for (std::size_t j = 0; j < ownLines.size(); ++j)
            if (commonLines_[j] != 0.0) ownLines[j] = lines_(row, j);
        SpotStrip own = strip.sameShape();
        // Without tails, which differ by next to nothing and cost most.
        own.paint(view, ownLines, false, false);
        SpotStrip before = strip.sameShape();
        SpotStrip after = strip.sameShape();
        constexpr double step = 0.05;   // Angstrom
        constexpr double largest = 2.0; // Angstrom
        double shift = 0;
        double amplitude = 1;
        Measured result;
        constexpr int passes = 3;
        for (int turn = 0; turn < passes; ++turn) {
            before.paint(view, commonLines_, false, false, shift - step);
            after.paint(view, commonLines_, false, false, shift + step);
            double aa = 0;
            double ab = 0;
            double bb = 0;
            double ya = 0;
            double yb = 0;
            for (int y = 0; y < pixels_.ny; ++y) {
                if (known[static_cast<std::size_t>(y)] == 0) continue;
                const IndexRange columns = nearColumns(strip, pass, y, half);
                for (int x = columns.first; x < columns.last; ++x) {
                    const double weight = pixels_.weights[pixel(x, y)];
                    const double low = before.at(x, y);
                    const double high = after.at(x, y);
                    if (weight <= 0 || (low == 0.0 && high == 0.0)) continue;
                    const double line = 0.5 * (low + high);
                    const double slope = (high - low) / (2 * step);
                    const double r = pixels_.pixels[pixel(x, y)] - model.at(x, y) + own.at(x, y);
                    // The lines are not quite the same in all fibers.
                    constexpr double difference = 0.02;
                    const double error = difference * std::max(std::abs(line), own.at(x, y));
                    const double w = 1.0 / (1.0 / weight + error * error);
                    constexpr double clip = 8.0;
                    if (turn > passes / 2 && std::abs(r - amplitude * line) * std::sqrt(w) > clip) continue;
                    aa += w * line * line;
                    ab += w * line * slope;
                    bb += w * slope * slope;
                    ya += w * line * r;
                    yb += w * slope * r;
                }
            }
            const double det = aa * bb - ab * ab;
            if (det <= 0) return;
            amplitude = (ya * bb - yb * ab) / det;
            constexpr double enough = 20.0; // sigma of the lines' brightness
            if (!(amplitude > 0) || amplitude * std::sqrt(aa) < enough) return;
            shift = std::clamp(shift + std::clamp((yb * aa - ya * ab) / det / amplitude, -0.4, 0.4), -largest, largest);
            result = {shift, std::sqrt(aa / det) / amplitude};
        }
        // As in the frame, where HELIOCOR stretches wavelengths.
        const double scale = input_.frame->wavelength.front() / wave_.front();
        pass.wavelengthShift = {result.value * scale, result.error * scale};
    }

    void addModels(const std::vector<BundleModel>& models) {
        out_.model.assign(static_cast<std::size_t>(pixels_.nx) * static_cast<std::size_t>(pixels_.ny), 0.0F);
        for (const BundleModel& model : models)
            for (int y = 0; y < pixels_.ny; ++y)
                for (int x = model.x0; x < model.x0 + model.width; ++x)
                    out_.model[pixel(x, y)] += static_cast<float>(model.at(x, y));
    }

    void finishColumns() {
        std::map<int, BadCcdColumn> columns;
        std::map<int, std::vector<double>> pulls;
        for (const SpectrumPass& pass : spectrumPasses) {
            std::map<int, bool> seen;
            for (const BlockFit& block : pass.blocks) {
                if (block.column < 0) continue;
                BadCcdColumn& column = columns[block.column];
                if (column.chi2 == 0) {
                    column.x = block.column;
                    column.y0 = block.columnFirst;
                    column.y1 = block.columnLast;
                }
                column.y0 = std::min(column.y0, block.columnFirst);
                column.y1 = std::max(column.y1, block.columnLast);
                column.chi2 += block.columnChi2;
                if (!seen[block.column]) ++column.fibers;
                seen[block.column] = true;
                pulls[block.column].push_back(block.columnPull);
            }
        }
        for (auto& [x, column] : columns) {
            column.medianPull = median(pulls[x]);
            out_.badColumns.push_back(column);
        }
        std::stable_sort(out_.badColumns.begin(), out_.badColumns.end(),
                         [](const BadCcdColumn& a, const BadCcdColumn& b) { return a.chi2 > b.chi2; });
    }

    static PullFigures finished(PullFigures sums, double bins) {
        if (sums.count == 0) return {};
        const auto n = static_cast<double>(sums.count);
        sums.mean /= n;
        sums.sigma = std::sqrt(std::max(0.0, sums.sigma / n - sums.mean * sums.mean));
        sums.expectedSigma = std::sqrt(std::max(0.0, 1.0 - bins / n));
        return sums;
    }

    static void add(PullFigures& to, const PullFigures& from) {
        to.count += from.count;
        to.mean += from.mean;
        to.sigma += from.sigma;
        to.outliers += from.outliers;
    }

    void finishAmplifiers() {
        const std::size_t count = out_.amplifiers.size();
        for (std::size_t a = 0; a < count; ++a) {
            AmplifierQuality& amp = out_.amplifiers[a];
            PullFigures sum;
            double bins = 0;
            std::vector<double> light;
            for (const SpectrumPass& pass : spectrumPasses) {
                add(sum, pass.pulls[a]);
                double all = 0;
                for (const PullFigures& part : pass.pulls) all += static_cast<double>(part.count);
                if (all > 0) bins += pass.bins * static_cast<double>(pass.pulls[a].count) / all;
                if (pass.lightByAmplifier[a].empty()) continue;
                std::vector<float> rows = pass.lightByAmplifier[a];
                light.push_back(medianInPlace(std::span<float>(rows)));
            }
            amp.pulls = finished(sum, bins);
            amp.light = light.empty() ? nan : median(light);
            std::int64_t masked = 0;
            for (int y = amp.y0; y < amp.y1; ++y)
                for (int x = amp.x0; x < amp.x1; ++x)
                    if (pixels_.weights[pixel(x, y)] <= 0.0F) ++masked;
            amp.maskedShare = static_cast<double>(masked) / std::max(1.0, static_cast<double>(amp.x1 - amp.x0) *
                                                                              static_cast<double>(amp.y1 - amp.y0));
        }
        // Beside an amplifier that sees light at the same wavelengths, one without any is dead.
        for (AmplifierQuality& amp : out_.amplifiers) {
            constexpr double allMasked = 0.9;
            constexpr double faint = 0.05;
            constexpr double brightRow = 5.0; // electrons: above what noise can pretend in a median
            if (amp.maskedShare > allMasked) amp.dead = true;
            for (const AmplifierQuality& other : out_.amplifiers) {
                const int common = std::min(amp.y1, other.y1) - std::max(amp.y0, other.y0);
                if (&amp == &other || 2 * common < amp.y1 - amp.y0) continue;
                if (other.light > brightRow && std::abs(amp.light) < faint * other.light) amp.dead = true;
            }
        }
    }

    void finishFibers() {
        const ExtractedFrame& frame = *input_.frame;
        const std::vector<PsfBias> biases =
            psfFluxBias(*input_.psf, frame.specmin, static_cast<int>(frame.nspec()), wave_.front(), wave_.back());
        for (std::size_t s = 0; s < spectrumPasses.size(); ++s) {
            FiberQuality& fiber = out_.fibers[s];
            const SpectrumPass& pass = spectrumPasses[s];
            PullFigures sum;
            for (const PullFigures& part : pass.pulls) add(sum, part);
            fiber.pulls = finished(sum, pass.bins);
            fiber.traceOffset = pass.offset;
            fiber.widthError = pass.width;
            if (pass.wavelengthShift.known()) fiber.wavelengthShift = pass.wavelengthShift;
            fiber.lineBias = biases[s].line;
            fiber.continuumBias = biases[s].continuum;
        }
        std::vector<std::pair<double, double>> widths;
        for (const FiberQuality& fiber : out_.fibers)
            if (fiber.widthError.known())
                widths.emplace_back(fiber.widthError.value, 1.0 / (fiber.widthError.error * fiber.widthError.error));
        out_.frameWidth = robustEstimate(widths);
    }

    void residualMedians() {
        const int nx = pixels_.nx;
        const int ny = pixels_.ny;
        out_.noise.columnPull.assign(2 * static_cast<std::size_t>(nx), nanFloat);
        out_.noise.rowPull.assign(2 * static_cast<std::size_t>(ny), nanFloat);
        // Rows that the grid covers in all spectra: beyond them light is missing in the model.
        IndexRange rows{0, ny};
        for (const SpectrumPass& pass : spectrumPasses)
            rows = {std::max(rows.first, pass.rows.first), std::min(rows.last, pass.rows.last)};
        const auto half = [&](std::size_t index, IndexRange range, bool along) {
            std::vector<double> values;
            if (along)
                range = {std::max(range.first, rows.first), std::min(range.last, rows.last)};
            else if (!rows.contains(static_cast<int>(index)))
                return nan;
            for (int k = range.first; k < range.last; ++k) {
                const std::size_t p = along ? pixel(static_cast<int>(index), k) : pixel(k, static_cast<int>(index));
                if (pixels_.weights[p] > 0.0F && out_.model[p] != 0.0F)
                    values.push_back((pixels_.pixels[p] - out_.model[p]) * std::sqrt(pixels_.weights[p]));
            }
            constexpr std::size_t fewest = 20;
            return values.size() < fewest ? nan : median(std::move(values));
        };
        forEachParallel(static_cast<std::size_t>(nx), input_.threads, [&](std::size_t x, std::size_t) {
            out_.noise.columnPull[x] = static_cast<float>(half(x, {0, ny / 2}, true));
            out_.noise.columnPull[static_cast<std::size_t>(nx) + x] = static_cast<float>(half(x, {ny / 2, ny}, true));
        });
        forEachParallel(static_cast<std::size_t>(ny), input_.threads, [&](std::size_t y, std::size_t) {
            out_.noise.rowPull[y] = static_cast<float>(half(y, {0, nx / 2}, false));
            out_.noise.rowPull[static_cast<std::size_t>(ny) + y] = static_cast<float>(half(y, {nx / 2, nx}, false));
        });
    }

    const QualityInput& input_;
    FrameQuality& out_;
    WeightedPixels pixels_;
    Array2<double> flux_;
    std::vector<double> wave_;
    Array2<double> lines_;            ///< photons per bin, narrow structure of each spectrum
    std::vector<double> commonLines_; ///< that of the median fiber at bright lines; empty: unknown
    Psf shifted_;
    Psf widened_;
    bool tail_ = true;
};

constexpr std::size_t lagrangePoints = 4; // on each side

/// Values between bins, by the polynomial through the eight nearest. @param at  bins, not within four of the ends
double interpolated(std::span<const double> values, double at) {
    const double floor = std::floor(at);
    const double t = at - floor;
    const auto first = static_cast<std::ptrdiff_t>(floor) - 3;
    double sum = 0;
    for (int i = 0; i < 8; ++i) {
        double weight = 1;
        for (int k = 0; k < 8; ++k)
            if (k != i) weight *= (t + 3 - k) / (i - k);
        const std::ptrdiff_t index = std::clamp<std::ptrdiff_t>(first + i, 0, std::ssize(values) - 1);
        sum += weight * values[static_cast<std::size_t>(index)];
    }
    return sum;
}

/// Wavelength shifts of fibers against the median fiber, from the narrow structure that they share: sky lines. For frames alone: pixels tell it better, since
/// a line narrower than two bins does not keep its shape in the flux when it moves.
void measureWavelengthShifts(FrameQuality& out, const ExtractedFrame& frame, int threads) {
    const std::size_t nspec = frame.nspec();
    const std::size_t nwave = frame.nwave();
    const Array2<double> lines = narrowStructure(frame, frame.flux, threads);
    const std::vector<double> common = commonStructure(frame, lines, threads);
    if (common.empty()) return;
    forEachParallel(nspec, threads, [&](std::size_t s, std::size_t) {
        // lines = a common, moved by a number of bins: Gauss and Newton's way, since a shift is not small beside a line's width. Errors of a few percent of
        // the line for what resolution does.
        double shift = 0; // bins
        double amplitude = 0;
        double amplitudeError = 0;
        double shiftError = 0;
        constexpr int passes = 8;
        for (int pass = 0; pass < passes; ++pass) {
            double aa = 0;
            double ab = 0;
            double bb = 0;
            double ya = 0;
            double yb = 0;
            for (std::size_t j = lagrangePoints; j + lagrangePoints < nwave; ++j) {
                if (!isGood(frame, s, j)) continue;
                constexpr double small = 0.05; // bins
                const double at = static_cast<double>(j) - shift;
                const double here = interpolated(common, at);
                const double slope =
                    (interpolated(common, at - small) - interpolated(common, at + small)) / (2 * small);
                constexpr double resolutionError = 0.02;
                const double systematic = resolutionError * std::max(std::abs(here), std::abs(slope));
                const double w = 1.0 / (1.0 / frame.ivar(s, j) + systematic * systematic);
                // What is no line of all fibers: a cosmic ray, a target's own line. Not before the shift is nearly right.
                constexpr double clip = 8.0;
                if (pass > passes / 2 && std::abs(lines(s, j) - amplitude * here) * std::sqrt(w) > clip) continue;
                aa += w * here * here;
                ab += w * here * slope;
                bb += w * slope * slope;
                ya += w * lines(s, j) * here;
                yb += w * lines(s, j) * slope;
            }
            const double det = aa * bb - ab * ab;
            if (det <= 0) return;
            amplitude = (ya * bb - yb * ab) / det;
            amplitudeError = 1.0 / std::sqrt(aa);
            if (!(amplitude > 0)) return;
            shiftError = std::sqrt(aa / det) / amplitude;
            // A step of more than half a bin would leave the line.
            shift = std::clamp(shift + std::clamp((yb * aa - ya * ab) / det / amplitude, -0.5, 0.5), -3.0, 3.0);
        }
        constexpr double enough = 20.0; // sigma of the lines' brightness
        if (amplitude < enough * amplitudeError) return;
        const double step = (out.wavelength.back() - out.wavelength.front()) / static_cast<double>(nwave - 1);
        out.fibers[s].wavelengthShift = {shift * step, shiftError * step};
    });
}

/// fluxweight over the largest of its fiber and of those beside it, as far as a padded patch reaches: what minweight is made of (docs/method.md).
void measureWeightShares(FrameQuality& out, const ExtractedFrame& frame, int threads) {
    if (out.fluxweight.empty()) return;
    const auto step = static_cast<std::size_t>(frame.header.integer("NWAVSTEP").value_or(50));
    const auto pad = static_cast<std::size_t>(frame.header.integer("WAVEPAD").value_or(10));
    const std::size_t reach = step / 2 + pad;
    const std::size_t nspec = frame.nspec();
    const std::size_t nwave = frame.nwave();
    Array2<float> largest(nspec, nwave);
    forEachParallel(nspec, threads, [&](std::size_t s, std::size_t) {
        for (std::size_t j = 0; j < nwave; ++j) {
            float most = 0;
            for (std::size_t k = j > reach ? j - reach : 0; k < std::min(nwave, j + reach + 1); ++k)
                if (out.fluxweight(s, k) > most) most = out.fluxweight(s, k);
            largest(s, j) = most;
        }
    });
    out.weightShare = Array2<float>(nspec, nwave, nanFloat);
    for (const IndexRange bundle : bundlesOf(frame))
        for (int s = bundle.first; s < bundle.last; ++s)
            for (std::size_t j = 0; j < nwave; ++j) {
                float most = 0;
                for (int t = std::max(bundle.first, s - 1); t <= std::min(bundle.last - 1, s + 1); ++t)
                    most = std::max(most, largest(static_cast<std::size_t>(t), j));
                if (most > 0)
                    out.weightShare(static_cast<std::size_t>(s), j) =
                        out.fluxweight(static_cast<std::size_t>(s), j) / most;
            }
}

/// Gives every bin its cause.
class Judge {
public:
    Judge(const QualityInput& input, FrameQuality& out, const PixelPass* pass)
        : input_(input), frame_(*input.frame), out_(out), pass_(pass) {
        if (input.psf != nullptr) view_ = input.psf->view();
    }

    void run() {
        const std::size_t nspec = out_.nspec();
        const std::size_t nwave = out_.nwave();
        out_.kind = Array2<BadBinKind>(nspec, nwave, BadBinKind::None);
        out_.severity = Array2<float>(nspec, nwave, 0.0F);
        forEachParallel(nspec, input_.threads, [&](std::size_t s, std::size_t) {
            std::vector<double> ivars;
            for (std::size_t j = 0; j < nwave; ++j)
                if (frame_.ivar(s, j) > 0) ivars.push_back(frame_.ivar(s, j));
            const double typical = ivars.empty() ? 0 : median(std::move(ivars));
            for (std::size_t j = 0; j < nwave; ++j) {
                const auto [kind, severity] = judge(s, j, typical);
                out_.kind(s, j) = kind;
                out_.severity(s, j) = static_cast<float>(severity);
            }
        });
        if (pass_ != nullptr) absorb();
        for (const BadBinKind kind : out_.kind.values()) ++out_.counts[static_cast<std::size_t>(kind)];
        for (std::size_t s = 0; s < nspec; ++s) {
            FiberQuality& fiber = out_.fibers[s];
            std::array<std::int64_t, badBinKindCount> counts{};
            for (std::size_t j = 0; j < nwave; ++j) ++counts[static_cast<std::size_t>(out_.kind(s, j))];
            for (int k = 1; k < badBinKindCount; ++k) {
                const auto index = static_cast<std::size_t>(k);
                fiber.alarms += counts[index];
                if (counts[index] >
                    (fiber.worst == BadBinKind::None ? 0 : counts[static_cast<std::size_t>(fiber.worst)]))
                    fiber.worst = static_cast<BadBinKind>(k);
            }
        }
    }

private:
    using Verdict = std::pair<BadBinKind, double>;

    [[nodiscard]] Verdict judge(std::size_t s, std::size_t j, double typicalIvar) const {
        const QualityLimits& limits = out_.limits;
        const double ivar = frame_.ivar(s, j);
        const std::uint32_t mask = frame_.mask(s, j);
        if (!std::isfinite(frame_.flux(s, j)) || !std::isfinite(ivar) || ivar < 0) return {BadBinKind::NotANumber, 1};
        if (has(mask, SpecMaskBit::NoData) || (pass_ != nullptr && pass_->shareOnCcd(s, j) < 0.5F))
            return {BadBinKind::NoData, 1};
        const BinPlace place = pass_ != nullptr ? binPlace(view_, frame_, s, j) : BinPlace{};
        if (pass_ != nullptr) {
            const AmplifierQuality* amplifier = amplifierAt(out_, place);
            if (amplifier != nullptr && amplifier->dead) return {BadBinKind::DeadAmplifier, 1};
        }
        if (!out_.maskedFraction.empty() && static_cast<double>(out_.maskedFraction(s, j)) > limits.maskedFraction)
            return {BadBinKind::MaskedPixels, static_cast<double>(out_.maskedFraction(s, j)) / limits.maskedFraction};
        if (has(mask, SpecMaskBit::SomeBadPix) || has(mask, SpecMaskBit::AllBadPix) || ivar == 0)
            return {BadBinKind::MaskedPixels, has(mask, SpecMaskBit::AllBadPix) || ivar == 0 ? 2 : 1};
        if (pass_ != nullptr) {
            if (const BadCcdColumn* column = badColumnAt(out_, place))
                return {BadBinKind::BadColumn, std::sqrt(column->chi2)};
            if (pass_->saturatedPixels(s, j) > 0)
                return {BadBinKind::Saturated, static_cast<double>(pass_->saturatedPixels(s, j)) / 3};
            const double peak = out_.peakPull(s, j);
            if (peak > limits.pixelPull) return {BadBinKind::CosmicRay, peak / limits.pixelPull};
            const Measured offset = offsetAt(out_, s, place);
            if (offset.significance() > limits.significance && std::abs(offset.value) > limits.traceOffset)
                return {BadBinKind::TraceOffset, std::abs(offset.value) / limits.traceOffset};
            const Measured width = widthAt(out_, s, place);
            if (width.significance() > limits.significance && std::abs(width.value) > limits.widthError)
                return {BadBinKind::PsfWidth, std::abs(width.value) / limits.widthError};
            if (pass_->neighbourRatio(s, j) > 0)
                return {BadBinKind::Neighbour,
                        static_cast<double>(pass_->neighbourRatio(s, j)) / limits.neighbourLight};
        }
        if (ivar < limits.lowWeight * typicalIvar)
            return {BadBinKind::LowWeight, limits.lowWeight * typicalIvar / ivar};
        if (!out_.weightShare.empty() && static_cast<double>(out_.weightShare(s, j)) < limits.lowWeight)
            return {BadBinKind::LowWeight,
                    limits.lowWeight / std::max(1e-12, static_cast<double>(out_.weightShare(s, j)))};
        if (!out_.chi2Ratio.empty() && static_cast<double>(out_.chi2Ratio(s, j)) > limits.bad2dFactor &&
            !isBrightLine(out_, s, j))
            return {BadBinKind::PoorFit, static_cast<double>(out_.chi2Ratio(s, j)) / limits.bad2dFactor};
        if (out_.chi2Ratio.empty() && has(mask, SpecMaskBit::Bad2dFit)) return {BadBinKind::PoorFit, 1};
        return {BadBinKind::None, 0};
    }

    /// What stands beside a fault misfits because of it: around a saturated line in its own fiber and in the next ones, beside a cosmic ray
    /// and at the edge of a dead amplifier in the same fiber.
    void absorb() {
        const Array2<BadBinKind> before = out_.kind;
        using Kind = BadBinKind;
        constexpr int besideLine = 15; // bins
        constexpr int besideCosmic = 8;
        for (std::size_t s = 0; s < out_.nspec(); ++s)
            for (std::size_t j = 0; j < out_.nwave(); ++j) {
                if (pass_->maskedSaturatedPixels(s, j) > 0)
                    spread(Kind::Saturated, s, j, 2, besideLine,
                           {Kind::CosmicRay, Kind::PoorFit, Kind::PsfWidth, Kind::TraceOffset});
                switch (before(s, j)) {
                case Kind::Saturated:
                    spread(Kind::Saturated, s, j, 2, besideLine,
                           {Kind::CosmicRay, Kind::PoorFit, Kind::PsfWidth, Kind::TraceOffset});
                    break;
                case Kind::CosmicRay:
                    spread(Kind::CosmicRay, s, j, 1, besideCosmic, {Kind::PoorFit});
                    break;
                case Kind::DeadAmplifier:
                    spread(Kind::DeadAmplifier, s, j, 0, besideLine, {Kind::PoorFit, Kind::CosmicRay});
                    break;
                default:
                    break;
                }
            }
    }

    void spread(BadBinKind cause, std::size_t s, std::size_t j, int fibers, int bins,
                std::initializer_list<BadBinKind> effects) {
        const auto row = static_cast<int>(s);
        const auto bin = static_cast<int>(j);
        for (int t = std::max(0, row - fibers); t <= std::min(static_cast<int>(out_.nspec()) - 1, row + fibers); ++t)
            for (int k = std::max(0, bin - bins); k <= std::min(static_cast<int>(out_.nwave()) - 1, bin + bins); ++k) {
                BadBinKind& kind = out_.kind(static_cast<std::size_t>(t), static_cast<std::size_t>(k));
                if (std::find(effects.begin(), effects.end(), kind) == effects.end()) continue;
                kind = cause;
                out_.severity(static_cast<std::size_t>(t), static_cast<std::size_t>(k)) = 0.5F;
            }
    }

    const QualityInput& input_;
    const ExtractedFrame& frame_;
    FrameQuality& out_;
    const PixelPass* pass_;
    PsfView view_;
};

/// Runs of neighbouring bins of one kind, joined over fibers, as findings.
class Grouping {
public:
    Grouping(FrameQuality& out, const QualityInput& input) : out_(out), input_(input) {}

    void run() {
        for (int k = 1; k < badBinKindCount; ++k) collect(static_cast<BadBinKind>(k));
    }

private:
    struct Run {
        std::size_t row;
        std::size_t first, last; ///< bins [first, last)
        std::size_t parent;
        int group; ///< runs with different groups are never joined
    };

    std::size_t root(std::size_t i) {
        while (runs_[i].parent != i) i = runs_[i].parent = runs_[runs_[i].parent].parent;
        return i;
    }

    /// What a bin belongs to, where that is not its neighbours: a column, an amplifier, a fiber.
    [[nodiscard]] int groupOf(BadBinKind kind, std::size_t s, std::size_t j) const {
        const ExtractedFrame& frame = *input_.frame;
        switch (kind) {
        case BadBinKind::TraceOffset:
        case BadBinKind::PsfWidth:
        case BadBinKind::Neighbour:
            return static_cast<int>(s);
        case BadBinKind::BadColumn: {
            const BadCcdColumn* column = badColumnAt(out_, binPlace(input_.psf->view(), frame, s, j));
            return column == nullptr ? -1 : column->x;
        }
        case BadBinKind::DeadAmplifier: {
            const AmplifierQuality* amplifier = amplifierAt(out_, binPlace(input_.psf->view(), frame, s, j));
            return amplifier == nullptr ? -1 : static_cast<int>(amplifier - out_.amplifiers.data());
        }
        default:
            return -1;
        }
    }

    void collect(BadBinKind kind) {
        runs_.clear();
        std::map<int, std::size_t> firstOfGroup;
        const std::size_t nwave = out_.nwave();
        constexpr std::size_t gap = 3;
        std::size_t previousBegin = 0;
        std::size_t previousEnd = 0;
        for (std::size_t s = 0; s < out_.nspec(); ++s) {
            const std::size_t begin = runs_.size();
            for (std::size_t j = 0; j < nwave; ++j) {
                if (out_.kind(s, j) != kind) continue;
                const int group = groupOf(kind, s, j);
                if (runs_.size() > begin && runs_.back().group == group && (group >= 0 || j <= runs_.back().last + gap))
                    runs_.back().last = j + 1;
                else
                    runs_.push_back({s, j, j + 1, runs_.size(), group});
            }
            for (std::size_t i = begin; i < runs_.size(); ++i) {
                if (runs_[i].group >= 0) {
                    const auto [at, isNew] = firstOfGroup.emplace(runs_[i].group, i);
                    if (!isNew) runs_[root(i)].parent = root(at->second);
                    continue;
                }
                for (std::size_t o = previousBegin; o < previousEnd; ++o)
                    if (runs_[o].group < 0 && runs_[o].first <= runs_[i].last + gap &&
                        runs_[i].first <= runs_[o].last + gap)
                        runs_[root(i)].parent = root(o);
            }
            previousBegin = begin;
            previousEnd = runs_.size();
        }
        std::map<std::size_t, Finding> groups;
        std::map<std::size_t, std::vector<std::pair<std::size_t, std::size_t>>> worst;
        for (std::size_t i = 0; i < runs_.size(); ++i) {
            const std::size_t group = root(i);
            Finding& finding = groups[group];
            finding.kind = kind;
            for (std::size_t j = runs_[i].first; j < runs_[i].last; ++j) {
                if (out_.kind(runs_[i].row, j) != kind) continue;
                ++finding.bins;
                const auto severity = static_cast<double>(out_.severity(runs_[i].row, j));
                if (severity > finding.severity) {
                    finding.severity = severity;
                    worst[group].clear();
                }
                if (severity == finding.severity) worst[group].emplace_back(runs_[i].row, j);
            }
        }
        // Where many are as bad as each other, the one in their middle is the clearest to look at.
        for (auto& [group, finding] : groups) {
            const auto& bins = worst[group];
            if (bins.empty()) continue;
            finding.row = static_cast<int>(bins[bins.size() / 2].first);
            finding.bin = static_cast<int>(bins[bins.size() / 2].second);
        }
        std::vector<Finding> found;
        for (auto& [index, finding] : groups) found.push_back(std::move(finding));
        std::stable_sort(found.begin(), found.end(), [](const Finding& a, const Finding& b) {
            return std::tuple(a.severity, a.bins) > std::tuple(b.severity, b.bins);
        });
        for (Finding& finding : found) out_.findings.push_back(std::move(finding));
    }

    FrameQuality& out_;
    const QualityInput& input_;
    std::vector<Run> runs_;
};

void requireFits(const QualityInput& input) {
    const ExtractedFrame& frame = *input.frame;
    if (input.image != nullptr && input.psf != nullptr) {
        const CcdImage& image = *input.image;
        const Psf& psf = *input.psf;
        if ((psf.nx > 0 && psf.nx != image.nx) || (psf.ny > 0 && psf.ny != image.ny))
            throw Error(fmt::format("{}: the CCD image has {} x {} pixels (columns x rows), the PSF {} is for {} x {}",
                                    image.path, image.nx, image.ny, psf.path, psf.nx, psf.ny));
        if (frame.specmin + static_cast<int>(frame.nspec()) > psf.nspec)
            throw Error(fmt::format("{}: the PSF holds {} spectra, the frame spectra {} to {} (SPECMIN, and its rows)",
                                    psf.path, psf.nspec, frame.specmin,
                                    frame.specmin + static_cast<int>(frame.nspec()) - 1));
        constexpr double slack = 5.0; // Angstrom, as in an extraction
        const std::vector<double> wave = psfWavelengths(frame);
        if (wave.front() < psf.wavemin() - slack || wave.back() > psf.wavemax() + slack)
            throw Error(
                fmt::format("{}: the PSF covers {:.1f} to {:.1f} Angstrom, the frame {:.1f} to {:.1f}: they do not "
                            "belong together",
                            psf.path, psf.wavemin(), psf.wavemax(), wave.front(), wave.back()));
    }
}

void describeFibers(FrameQuality& out, const ExtractedFrame& frame) {
    const std::size_t nspec = frame.nspec();
    std::vector<std::int64_t> fibers;
    std::vector<std::int64_t> targets;
    std::vector<std::string> types;
    if (frame.fibermap && frame.fibermap->rowCount == nspec) {
        if (frame.fibermap->hasColumn("FIBER")) fibers = frame.fibermap->integers("FIBER");
        if (frame.fibermap->hasColumn("TARGETID")) targets = frame.fibermap->integers("TARGETID");
        if (frame.fibermap->hasColumn("OBJTYPE")) types = frame.fibermap->texts("OBJTYPE");
    }
    out.fibers.resize(nspec);
    for (std::size_t s = 0; s < nspec; ++s) {
        FiberQuality& fiber = out.fibers[s];
        fiber.spectrum = frame.specmin + static_cast<int>(s);
        fiber.fiber = s < fibers.size() ? fibers[s] : fiber.spectrum;
        fiber.targetId = s < targets.size() ? targets[s] : 0;
        if (s < types.size()) fiber.objectType = types[s];
        fiber.lineBias = fiber.continuumBias = fiber.medianChi2pix = nan;
        std::vector<double> flux;
        std::vector<double> snr;
        std::int64_t masked = 0;
        for (std::size_t j = 0; j < frame.nwave(); ++j) {
            if (frame.mask(s, j) != 0 || !(frame.ivar(s, j) > 0)) ++masked;
            if (!std::isfinite(frame.flux(s, j)) || !(frame.ivar(s, j) > 0)) continue;
            flux.push_back(frame.flux(s, j));
            snr.push_back(static_cast<double>(out.snr(s, j)));
        }
        fiber.maskedShare = frame.nwave() == 0 ? 0 : static_cast<double>(masked) / static_cast<double>(frame.nwave());
        if (!flux.empty()) {
            fiber.medianFlux = median(std::move(flux));
            fiber.medianSnr = median(std::move(snr));
        }
    }
}

void medianChi2(FrameQuality& out, const ExtractedFrame& frame) {
    for (std::size_t s = 0; s < frame.nspec(); ++s) {
        std::vector<double> chi2;
        for (std::size_t j = 0; j < frame.nwave(); ++j)
            if (frame.ivar(s, j) > 0 && std::isfinite(out.chi2pix(s, j)))
                chi2.push_back(static_cast<double>(out.chi2pix(s, j)));
        if (!chi2.empty()) out.fibers[s].medianChi2pix = median(std::move(chi2));
    }
}

} // namespace

const char* badBinKindName(BadBinKind kind) { return kindTexts.at(static_cast<std::size_t>(kind)).name; }
const char* badBinKindWord(BadBinKind kind) { return kindTexts.at(static_cast<std::size_t>(kind)).word; }

double Measured::significance() const { return known() ? std::abs(value) / error : 0; }

bool isBrightLine(const FrameQuality& quality, std::size_t row, std::size_t bin) {
    if (quality.chi2Line.empty() || quality.chi2Ratio.empty()) return false;
    const double line = quality.chi2Line(row, bin);
    const double ratio = quality.chi2Ratio(row, bin);
    // The ratio that chi2pix would have.
    return std::isfinite(line) &&
           line * ratio <= quality.limits.bad2dFactor * static_cast<double>(quality.chi2pix(row, bin));
}

std::int64_t FrameQuality::alarms() const { return std::accumulate(counts.begin() + 1, counts.end(), std::int64_t{0}); }

Array2<float> resolutionRowSums(const ExtractedFrame& frame) {
    Array2<float> out(frame.nspec(), frame.nwave());
    const auto ndiag = static_cast<std::ptrdiff_t>(frame.ndiag());
    const auto nwave = static_cast<std::ptrdiff_t>(frame.nwave());
    for (std::size_t s = 0; s < frame.nspec(); ++s)
        for (std::ptrdiff_t i = 0; i < nwave; ++i) {
            double sum = 0;
            for (std::ptrdiff_t j = std::max<std::ptrdiff_t>(0, i - ndiag); j <= std::min(nwave - 1, i + ndiag); ++j)
                sum += frame.resolution(s, static_cast<std::size_t>(i - j + ndiag), static_cast<std::size_t>(j));
            out(s, static_cast<std::size_t>(i)) = static_cast<float>(sum);
        }
    return out;
}

Array2<float> chi2Ratios(const Array2<float>& chi2pix, const Array2<double>& ivar, int threads) {
    const std::size_t nspec = chi2pix.rows();
    const std::size_t nwave = chi2pix.columns();
    const auto counts = [&](std::size_t s, std::size_t j) { return ivar(s, j) > 0 && std::isfinite(chi2pix(s, j)); };
    std::vector<double> overFibers(nwave);
    forEachParallel(nwave, threads, [&](std::size_t j, std::size_t) {
        std::vector<double> values;
        for (std::size_t s = 0; s < nspec; ++s)
            if (counts(s, j)) values.push_back(static_cast<double>(chi2pix(s, j)));
        overFibers[j] = values.empty() ? nan : median(std::move(values));
    });
    Array2<float> out(nspec, nwave, 0.0F);
    forEachParallel(nspec, threads, [&](std::size_t s, std::size_t) {
        std::vector<double> values;
        for (std::size_t j = 0; j < nwave; ++j)
            if (counts(s, j)) values.push_back(static_cast<double>(chi2pix(s, j)));
        if (values.empty()) return;
        const double overWavelengths = median(std::move(values));
        for (std::size_t j = 0; j < nwave; ++j) {
            const double larger = std::max(overWavelengths, overFibers[j]);
            if (counts(s, j) && larger > 0) out(s, j) = static_cast<float>(static_cast<double>(chi2pix(s, j)) / larger);
        }
    });
    return out;
}

FrameQuality measureFrameQuality(const QualityInput& input) {
    if (input.frame == nullptr) throw Error("no extracted frame to measure");
    const ExtractedFrame& frame = *input.frame;
    if (frame.nspec() == 0 || frame.nwave() == 0) throw Error("the extracted frame holds no bins");
    requireFits(input);
    FrameQuality out;
    out.specmin = frame.specmin;
    out.wavelength = frame.wavelength;
    out.limits = input.limits;
    constexpr double usualPsferr = 0.01;
    out.psferr = input.psferr.value_or(
        frame.header.number("PSFERR").value_or(input.psf != nullptr ? input.psf->psferr : usualPsferr));
    out.pixels = input.image != nullptr && input.psf != nullptr && !frame.resolution.empty();
    if (input.image == nullptr || input.psf == nullptr)
        out.notes.push_back(
            fmt::format("without the {} nothing can be said of pixels: masks by name, residuals, columns, "
                        "amplifiers, traces, the PSF, neighbours",
                        input.image == nullptr && input.psf == nullptr ? "CCD image and the PSF"
                        : input.image == nullptr                       ? "CCD image"
                                                                       : "PSF"));
    else if (!out.pixels)
        out.notes.emplace_back("the frame has no RESOLUTION, so its model image cannot be made: nothing can be said of "
                               "residuals, columns, amplifiers, traces, the PSF, neighbours");

    out.snr = Array2<float>(frame.nspec(), frame.nwave());
    for (std::size_t i = 0; i < out.snr.size(); ++i)
        out.snr.data()[i] = static_cast<float>(frame.flux.data()[i] * std::sqrt(std::max(0.0, frame.ivar.data()[i])));
    if (!frame.resolution.empty()) out.rowSum = resolutionRowSums(frame);
    if (!frame.chi2pix.empty()) out.chi2pix = toFloat(frame.chi2pix);
    describeFibers(out, frame);
    if (!out.pixels) measureWavelengthShifts(out, frame, input.threads);

    std::optional<PixelPass> pass;
    if (out.pixels) {
        pass.emplace(input, out);
        pass->run();
        if (frame.chi2pix.empty()) out.chi2pix = pass->computedChi2;
    }
    if (out.chi2pix.empty())
        out.notes.emplace_back("the frame has no CHI2PIX, so that bins which fit badly are known by MASK alone");
    else
        out.chi2Ratio = chi2Ratios(out.chi2pix, frame.ivar, input.threads);
    if (!out.chi2pix.empty()) medianChi2(out, frame);
    if (!frame.fluxweight.empty()) out.fluxweight = toFloat(frame.fluxweight);
    if (out.fluxweight.empty())
        out.notes.emplace_back("a frame file holds no fluxweight, and without image and PSF it cannot be computed");
    measureWeightShares(out, frame, input.threads);
    checkStop(input);
    Judge(input, out, pass ? &*pass : nullptr).run();
    Grouping(out, input).run();
    // Sentences cost a spot each; nobody reads the hundredth of a kind.
    constexpr int sentences = 100;
    std::array<int, badBinKindCount> made{};
    for (Finding& finding : out.findings)
        if (made[static_cast<std::size_t>(finding.kind)]++ < sentences)
            finding.sentence = diagnoseBin(input, out, finding.row, finding.bin).sentence;
    return out;
}

} // namespace patchlight
