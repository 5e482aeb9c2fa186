#include "core/analysis/CompareFrames.h"

#include "core/analysis/MaskNames.h"
#include "core/analysis/Statistics.h"
#include "core/base/Error.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <utility>

namespace patchlight {

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

/// Fiber numbers of a frame's rows: FIBER of its fibermap; empty where it has none.
std::vector<std::int64_t> fibersOf(const ExtractedFrame& frame) {
    if (!frame.fibermap || frame.fibermap->rowCount != frame.nspec() || !frame.fibermap->hasColumn("FIBER")) return {};
    return frame.fibermap->integers("FIBER");
}

/// Row numbers by fiber; empty where a fiber comes twice or has no number.
std::map<std::int64_t, std::size_t> rowsByFiber(const std::vector<std::int64_t>& fibers) {
    std::map<std::int64_t, std::size_t> rows;
    for (std::size_t row = 0; row < fibers.size(); ++row) {
        if (fibers[row] < 0 || !rows.emplace(fibers[row], row).second) return {};
    }
    return rows;
}

std::string describeGrid(const ExtractedFrame& frame) {
    const std::vector<double>& wavelength = frame.wavelength;
    if (wavelength.size() < 2) return fmt::format("{} wavelength(s)", wavelength.size());
    return fmt::format("{} wavelengths from {:.10g} to {:.10g} in steps of {:.10g} Angstrom", wavelength.size(),
                       wavelength.front(), wavelength.back(),
                       (wavelength.back() - wavelength.front()) / static_cast<double>(wavelength.size() - 1));
}

/// Rows and bins that two frames have in common.
struct Common {
    std::vector<std::pair<std::size_t, std::size_t>> rows; ///< of A and of B
    std::size_t firstA = 0;                                ///< bins
    std::size_t firstB = 0;
    std::size_t nwave = 0;
};

void findCommonRows(Common& common, std::vector<std::string>& notes, const ExtractedFrame& a, const ExtractedFrame& b,
                    const std::string& nameA, const std::string& nameB, bool byRow) {
    const std::size_t smaller = std::min(a.nspec(), b.nspec());
    if (byRow) {
        for (std::size_t row = 0; row < smaller; ++row) common.rows.emplace_back(row, row);
        notes.emplace_back("rows compared by their position in the files");
    } else {
        const auto rowsA = rowsByFiber(fibersOf(a));
        const auto rowsB = rowsByFiber(fibersOf(b));
        if (!rowsA.empty() && !rowsB.empty()) {
            for (std::size_t row = 0; const std::int64_t fiber : fibersOf(a)) {
                const auto found = rowsB.find(fiber);
                if (found != rowsB.end()) common.rows.emplace_back(row, found->second);
                ++row;
            }
        } else {
            for (std::size_t row = 0; row < a.nspec(); ++row) {
                const std::int64_t other = static_cast<std::int64_t>(row) + a.specmin - b.specmin;
                if (other >= 0 && other < static_cast<std::int64_t>(b.nspec())) {
                    common.rows.emplace_back(row, static_cast<std::size_t>(other));
                }
            }
        }
    }
    if (common.rows.empty()) {
        throw Error(fmt::format("{} and {} have no spectrum in common: {} spectra from {} on, and {} from {} on "
                                "(--by-row compares row by row)",
                                nameA, nameB, a.nspec(), a.specmin, b.nspec(), b.specmin));
    }
    if (common.rows.size() < a.nspec() || common.rows.size() < b.nspec()) {
        notes.push_back(fmt::format("{} spectra in common, of {} in {} and {} in {}", common.rows.size(), a.nspec(),
                                    nameA, b.nspec(), nameB));
    }
}

void findCommonBins(Common& common, std::vector<std::string>& notes, const ExtractedFrame& a, const ExtractedFrame& b,
                    const std::string& nameA, const std::string& nameB) {
    const std::vector<double>& wa = a.wavelength;
    const std::vector<double>& wb = b.wavelength;
    if (wa.empty() || wb.empty()) throw Error(fmt::format("{} has no wavelengths", wa.empty() ? nameA : nameB));
    const double stepA = wa.size() > 1 ? (wa.back() - wa.front()) / static_cast<double>(wa.size() - 1) : 1.0;
    const double stepB = wb.size() > 1 ? (wb.back() - wb.front()) / static_cast<double>(wb.size() - 1) : 1.0;
    const double same = 1e-6 * std::min(std::abs(stepA), std::abs(stepB));
    // The later of the two first wavelengths must be on the other grid.
    const double start = std::max(wa.front(), wb.front());
    const auto nearest = [start, same](const std::vector<double>& grid) {
        return static_cast<std::size_t>(std::lower_bound(grid.begin(), grid.end(), start - same) - grid.begin());
    };
    common.firstA = nearest(wa);
    common.firstB = nearest(wb);
    common.nwave = common.firstA < wa.size() && common.firstB < wb.size()
                       ? std::min(wa.size() - common.firstA, wb.size() - common.firstB)
                       : 0;
    for (std::size_t i = 0; i < common.nwave; ++i) {
        const double difference = std::abs(wa[common.firstA + i] - wb[common.firstB + i]);
        if (difference > same) {
            throw Error(fmt::format("{} and {} have different wavelength grids: {}, and {}; they can be compared where "
                                    "wavelengths agree to "
                                    "1e-6 of a step",
                                    nameA, nameB, describeGrid(a), describeGrid(b)));
        }
    }
    if (common.nwave == 0) {
        throw Error(fmt::format("{} and {} have no wavelength in common: {}, and {}", nameA, nameB, describeGrid(a),
                                describeGrid(b)));
    }
    if (common.nwave < wa.size() || common.nwave < wb.size()) {
        notes.push_back(fmt::format("{} wavelengths in common, {:.10g} to {:.10g} Angstrom, of {} in {} and {} in {}",
                                    common.nwave, wa[common.firstA], wa[common.firstA + common.nwave - 1], wa.size(),
                                    nameA, wb.size(), nameB));
    }
}

/// Collects the differences of one quantity, element by element.
class DifferenceCollector {
public:
    DifferenceCollector(std::string quantity, std::string measure) {
        result_.quantity = std::move(quantity);
        result_.measure = std::move(measure);
    }

    /// @param scale  what |a - b| is divided by
    void add(double a, double b, double scale, std::size_t row, std::size_t bin, int diagonal = 0) {
        double difference = 0.0;
        const bool bothNan = std::isnan(a) && std::isnan(b);
        if (!(a == b) && !bothNan) {
            ++result_.unequal;
            difference = std::abs(a - b) / scale;
            if (!std::isfinite(difference)) difference = infinity;
        }
        values_.push_back(static_cast<float>(difference));
        if (difference > result_.largest || result_.compared == 0) {
            result_.largest = difference;
            result_.valueA = a;
            result_.valueB = b;
            result_.diagonal = diagonal;
            result_.where.row = row;
            result_.where.bin = bin;
        }
        ++result_.compared;
    }

    /// `position` turns row and bin into a position. The median is over float32 values, as the files have them.
    template <class Position> QuantityDifference finish(Position position) {
        if (result_.compared > 0) {
            result_.median = medianInPlace(std::span<float>(values_));
            result_.where = position(result_.where.row, result_.where.bin);
        }
        return result_;
    }

private:
    QuantityDifference result_;
    std::vector<float> values_;
};

/// Keeps the `count` bins with the largest |sigmas|.
class WorstBins {
public:
    explicit WorstBins(std::size_t count) : count_(count) {}

    void add(double a, double b, double sigmas, std::size_t row, std::size_t bin) {
        if (count_ == 0 || sigmas == 0.0) return;
        if (bins_.size() == count_ && !worse(sigmas, bins_.back().sigmas)) return;
        OutlierBin outlier;
        outlier.where.row = row;
        outlier.where.bin = bin;
        outlier.valueA = a;
        outlier.valueB = b;
        outlier.sigmas = sigmas;
        const auto at = std::find_if(bins_.begin(), bins_.end(),
                                     [&](const OutlierBin& other) { return worse(sigmas, other.sigmas); });
        bins_.insert(at, outlier);
        if (bins_.size() > count_) bins_.pop_back();
    }

    template <class Position> std::vector<OutlierBin> finish(Position position) {
        for (OutlierBin& outlier : bins_) outlier.where = position(outlier.where.row, outlier.where.bin);
        return bins_;
    }

private:
    static bool worse(double a, double b) { return std::isnan(a) ? !std::isnan(b) : std::abs(a) > std::abs(b); }

    std::size_t count_;
    std::vector<OutlierBin> bins_; ///< the worst first
};

/// Positions of a frame's bins.
class Positions {
public:
    explicit Positions(const ExtractedFrame& frame) : frame_(frame), fibers_(fibersOf(frame)) {}

    BinPosition operator()(std::size_t row, std::size_t bin) const {
        BinPosition position;
        position.row = row;
        position.bin = bin;
        position.spectrum = frame_.specmin + static_cast<int>(row);
        position.fiber = row < fibers_.size() ? fibers_[row] : position.spectrum;
        position.wavelength = frame_.wavelength[bin];
        return position;
    }

private:
    const ExtractedFrame& frame_;
    std::vector<std::int64_t> fibers_;
};

void compareMasks(FrameComparison& result, const ExtractedFrame& a, const ExtractedFrame& b, const Common& common,
                  const Positions& position) {
    std::vector<MaskBitDifference> bits(32);
    std::vector<bool> hasPosition(32, false);
    for (const auto& [rowA, rowB] : common.rows) {
        for (std::size_t i = 0; i < common.nwave; ++i) {
            const std::uint32_t maskA = a.mask(rowA, common.firstA + i);
            const std::uint32_t maskB = b.mask(rowB, common.firstB + i);
            if ((maskA | maskB) == 0) continue;
            if (maskA != maskB) ++result.maskUnequal;
            for (std::size_t bit = 0; bit < bits.size(); ++bit) {
                const bool inA = (maskA >> bit & 1U) != 0;
                const bool inB = (maskB >> bit & 1U) != 0;
                bits[bit].both += inA && inB ? 1 : 0;
                bits[bit].onlyA += inA && !inB ? 1 : 0;
                bits[bit].onlyB += inB && !inA ? 1 : 0;
                if (inA != inB && !hasPosition[bit]) {
                    hasPosition[bit] = true;
                    bits[bit].where = position(rowA, common.firstA + i);
                }
            }
        }
    }
    for (std::size_t bit = 0; bit < bits.size(); ++bit) {
        if (bits[bit].both + bits[bit].onlyA + bits[bit].onlyB == 0) continue;
        bits[bit].bit = static_cast<int>(bit);
        bits[bit].name = specMaskBitName(static_cast<int>(bit));
        result.maskBits.push_back(bits[bit]);
    }
}

void noteTargets(FrameComparison& result, const ExtractedFrame& a, const ExtractedFrame& b, const Common& common) {
    const auto has = [](const ExtractedFrame& frame) {
        return frame.fibermap && frame.fibermap->rowCount == frame.nspec() && frame.fibermap->hasColumn("TARGETID");
    };
    if (!has(a) || !has(b)) return;
    const std::vector<std::int64_t> idsA = a.fibermap->integers("TARGETID");
    const std::vector<std::int64_t> idsB = b.fibermap->integers("TARGETID");
    const auto different = std::count_if(common.rows.begin(), common.rows.end(),
                                         [&](const auto& rows) { return idsA[rows.first] != idsB[rows.second]; });
    if (different > 0)
        result.notes.push_back(
            fmt::format("{} of the spectra have different TARGETIDs in the two fibermaps", different));
}

} // namespace

const QuantityDifference* FrameComparison::find(std::string_view quantity) const {
    const auto found = std::find_if(differences.begin(), differences.end(),
                                    [&](const auto& entry) { return entry.quantity == quantity; });
    return found == differences.end() ? nullptr : &*found;
}

FrameComparison compareFrames(const ExtractedFrame& a, const ExtractedFrame& b, const std::string& nameA,
                              const std::string& nameB, const FrameCompareOptions& options) {
    FrameComparison result;
    Common common;
    findCommonRows(common, result.notes, a, b, nameA, nameB, options.byRow);
    findCommonBins(common, result.notes, a, b, nameA, nameB);
    noteTargets(result, a, b, common);
    const Positions position(a);
    result.nspec = common.rows.size();
    result.nwave = common.nwave;
    result.specmin = a.specmin + static_cast<int>(common.rows.front().first);
    result.wavemin = a.wavelength[common.firstA];
    result.wavemax = a.wavelength[common.firstA + common.nwave - 1];

    DifferenceCollector wavelength("WAVELENGTH", "|A - B|, Angstrom");
    for (std::size_t i = 0; i < common.nwave; ++i) {
        wavelength.add(a.wavelength[common.firstA + i], b.wavelength[common.firstB + i], 1.0, common.rows.front().first,
                       common.firstA + i);
    }

    DifferenceCollector flux("FLUX", "|A - B| / sigma");
    DifferenceCollector ivar("IVAR", "|A - B| / larger");
    DifferenceCollector chi2pix("CHI2PIX", "|A - B| / larger (at least 0.01)");
    DifferenceCollector resolution("RESOLUTION", "|A - B|");
    WorstBins worst(options.worst);
    const bool hasChi2 = !a.chi2pix.empty() && !b.chi2pix.empty();
    const bool hasMask = !a.mask.empty() && !b.mask.empty();
    const bool hasResolution = a.resolution.size() > 0 && b.resolution.size() > 0;
    const int ndiag = hasResolution ? static_cast<int>(std::min(a.ndiag(), b.ndiag())) : 0;
    for (const auto& [rowA, rowB] : common.rows) {
        for (std::size_t i = 0; i < common.nwave; ++i) {
            const std::size_t binA = common.firstA + i;
            const std::size_t binB = common.firstB + i;
            const double ivarA = a.ivar(rowA, binA);
            const double ivarB = b.ivar(rowB, binB);
            // NaN is data of the bad kind: it must show, not pass for a bin without data.
            const bool dataA = ivarA > 0.0 || std::isnan(ivarA);
            const bool dataB = ivarB > 0.0 || std::isnan(ivarB);
            result.dataOnlyA += dataA && !dataB ? 1 : 0;
            result.dataOnlyB += dataB && !dataA ? 1 : 0;
            if (!dataA || !dataB) continue;
            ++result.dataBoth;
            const double fluxA = a.flux(rowA, binA);
            const double fluxB = b.flux(rowB, binB);
            const double sigma = 1.0 / std::sqrt(std::max(ivarA, ivarB));
            flux.add(fluxA, fluxB, sigma, rowA, binA);
            ivar.add(ivarA, ivarB, std::max(ivarA, ivarB), rowA, binA);
            worst.add(fluxA, fluxB, fluxA == fluxB ? 0.0 : (fluxA - fluxB) / sigma, rowA, binA);
            if (hasChi2) {
                const double chi2A = a.chi2pix(rowA, binA);
                const double chi2B = b.chi2pix(rowB, binB);
                chi2pix.add(chi2A, chi2B, std::max({std::abs(chi2A), std::abs(chi2B), 0.01}), rowA, binA);
            }
            for (int d = -ndiag; hasResolution && d <= ndiag; ++d) {
                resolution.add(a.resolution(rowA, static_cast<std::size_t>(static_cast<int>(a.ndiag()) + d), binA),
                               b.resolution(rowB, static_cast<std::size_t>(static_cast<int>(b.ndiag()) + d), binB), 1.0,
                               rowA, binA, d);
            }
        }
    }
    result.differences.push_back(flux.finish(position));
    result.differences.push_back(ivar.finish(position));
    if (hasResolution) {
        result.differences.push_back(resolution.finish(position));
        if (a.ndiag() != b.ndiag()) {
            result.notes.push_back(
                fmt::format("RESOLUTION has {} diagonals in {} and {} in {}: the inner {} are compared",
                            2 * a.ndiag() + 1, nameA, 2 * b.ndiag() + 1, nameB, 2 * ndiag + 1));
        }
    }
    if (hasChi2) result.differences.push_back(chi2pix.finish(position));
    result.differences.push_back(wavelength.finish(position));
    if (hasMask) compareMasks(result, a, b, common, position);
    const std::pair<bool, const char*> parts[] = {
        {hasMask, "MASK"}, {hasResolution, "RESOLUTION"}, {hasChi2, "CHI2PIX"}};
    for (const auto& [compared, name] : parts) {
        if (!compared) result.notes.push_back(fmt::format("{} is not compared: not both files have it", name));
    }
    result.worst = worst.finish(position);
    return result;
}

PullStatistics pullStatistics(std::vector<double>& pulls) {
    PullStatistics result;
    result.count = pulls.size();
    if (pulls.empty()) return result;
    const double n = static_cast<double>(pulls.size());
    double sum = 0.0;
    result.smallest = pulls.front();
    result.largest = pulls.front();
    for (const double pull : pulls) {
        sum += pull;
        result.smallest = std::min(result.smallest, pull);
        result.largest = std::max(result.largest, pull);
        result.outliers += std::abs(pull) > 5.0 ? 1 : 0;
    }
    result.mean = sum / n;
    double squares = 0.0;
    for (const double pull : pulls) squares += (pull - result.mean) * (pull - result.mean);
    result.sigma = std::sqrt(squares / n);
    result.robustSigma = robustSigmaInPlace(pulls);
    return result;
}

namespace {

/// The row of the truth for each row of a frame: by spectrum index where the truth (or the caller) says it, else by fiber, else
/// in turn.
std::vector<std::optional<std::size_t>> matchTruth(const ExtractedFrame& frame, const TruthSpectra& truth,
                                                   const std::string& frameName, const TruthCompareOptions& options,
                                                   std::vector<std::string>& notes) {
    std::vector<std::optional<std::size_t>> rows(frame.nspec());
    std::string what = "spectra";
    const std::optional<int> specmin = options.truthSpecmin ? options.truthSpecmin : truth.specmin;
    if (specmin) {
        for (std::size_t row = 0; row < rows.size(); ++row) {
            const std::int64_t other = static_cast<std::int64_t>(row) + frame.specmin - *specmin;
            if (other >= 0 && other < static_cast<std::int64_t>(truth.flux.rows()))
                rows[row] = static_cast<std::size_t>(other);
        }
    } else if (!truth.fiber.empty()) {
        what = "fibers";
        std::vector<std::int64_t> fibers = fibersOf(frame);
        const std::int64_t first = frame.header.integer("FIBERMIN").value_or(frame.specmin);
        for (std::size_t row = fibers.size(); row < rows.size(); ++row)
            fibers.push_back(first + static_cast<std::int64_t>(row));
        const auto rowOfFiber = rowsByFiber(truth.fiber);
        for (std::size_t row = 0; row < rows.size(); ++row) {
            const auto found = rowOfFiber.find(fibers[row]);
            if (found != rowOfFiber.end()) rows[row] = found->second;
        }
    } else if (truth.flux.rows() == frame.nspec()) {
        notes.push_back(fmt::format("{} does not say which spectra it holds (SPECMIN): taken row by row", truth.path));
        for (std::size_t row = 0; row < rows.size(); ++row) rows[row] = row;
    } else {
        throw Error(fmt::format(
            "{}: {} spectra without SPECMIN, FIBERMIN or a column FIBER, {} in {}: say with --truth-specmin which "
            "spectrum the first one is",
            truth.path, truth.flux.rows(), frame.nspec(), frameName));
    }
    const auto matched = std::count_if(rows.begin(), rows.end(), [](const auto& row) { return row.has_value(); });
    if (matched == 0) {
        throw Error(fmt::format("{} and {} have none of their {} in common: {} spectra from {} on, and {} from {} on",
                                frameName, truth.path, what, frame.nspec(), frame.specmin, truth.flux.rows(),
                                specmin ? std::int64_t{*specmin} : (truth.fiber.empty() ? 0 : truth.fiber.front())));
    }
    if (matched < static_cast<std::ptrdiff_t>(rows.size())) {
        notes.push_back(fmt::format("{} of the {} spectra are in the truth", matched, rows.size()));
    }
    return rows;
}

/// Edges of the bins of a grid: half-way between neighbours, the outer ones as far out as their inner neighbours.
std::vector<double> binEdges(const std::vector<double>& centres) {
    const std::size_t n = centres.size();
    std::vector<double> edges(n + 1);
    for (std::size_t i = 1; i < n; ++i) edges[i] = 0.5 * (centres[i - 1] + centres[i]);
    edges[0] = centres[0] - (edges[1] - centres[0]);
    edges[n] = centres[n - 1] + (centres[n - 1] - edges[n - 1]);
    return edges;
}

} // namespace

TruthResampler::TruthResampler(const std::vector<double>& truth, const std::vector<double>& grid, TruthResampling kind)
    : covered_(grid.size(), false) {
    const std::vector<double> truthEdges = binEdges(truth);
    const std::vector<double> gridEdges = binEdges(grid);
    const std::size_t n = grid.size();
    const double step = (grid.back() - grid.front()) / static_cast<double>(n - 1);
    // Rounding must not make a bin at the end of the truth an uncovered one.
    const double slack = 1e-6 * std::min(truthEdges[1] - truthEdges[0], gridEdges[1] - gridEdges[0]);

    onGrid_ = true;
    for (std::size_t k = 0; k < truth.size() && onGrid_; ++k) {
        if (truth[k] < grid.front() - slack || truth[k] > grid.back() + slack) continue;
        const double position = (truth[k] - grid.front()) / step;
        onGrid_ = std::abs(position - std::round(position)) < 1e-4;
    }

    if (kind == TruthResampling::Bins) {
        std::size_t first = 0; // of the truth's bins that reach into the present bin
        for (std::size_t i = 0; i < n; ++i) {
            const double low = gridEdges[i];
            const double high = gridEdges[i + 1];
            if (low < truthEdges.front() - slack || high > truthEdges.back() + slack) continue;
            covered_[i] = true;
            while (first + 1 < truth.size() && truthEdges[first + 1] <= low) ++first;
            for (std::size_t k = first; k < truth.size() && truthEdges[k] < high; ++k) {
                const double overlap = std::min(high, truthEdges[k + 1]) - std::max(low, truthEdges[k]);
                if (overlap > 0.0) shares_.push_back({k, i, overlap / (high - low)});
            }
        }
        return;
    }

    for (std::size_t i = 0; i < n; ++i) {
        if (std::abs(grid[i] - (grid.front() + static_cast<double>(i) * step)) > 1e-3 * step) {
            throw Error(fmt::format(
                "the truth can be interpolated only to wavelengths in equal steps; {:.8g} Angstrom is not one of them",
                grid[i]));
        }
    }
    constexpr int half = 6; // grid wavelengths on each side of a sample
    for (std::size_t i = 0; i < n; ++i) {
        covered_[i] =
            grid[i] - half * step >= truthEdges.front() - slack && grid[i] + half * step <= truthEdges.back() + slack;
    }
    for (std::size_t k = 0; k < truth.size(); ++k) {
        const double position = (truth[k] - grid.front()) / step;
        const double below = std::floor(position);
        const double width = truthEdges[k + 1] - truthEdges[k];
        for (int node = 1 - half; node <= half; ++node) { // counted from the grid wavelength below the sample
            const double bin = below + node;
            if (bin < 0.0 || bin >= static_cast<double>(n)) continue;
            double weight = 1.0;
            for (int other = 1 - half; other <= half; ++other) {
                if (other != node) weight *= (position - below - other) / (node - other);
            }
            if (weight != 0.0) shares_.push_back({k, static_cast<std::size_t>(bin), weight * width / step});
        }
    }
}

std::vector<double> TruthResampler::apply(const double* flux) const {
    std::vector<double> result(covered_.size(), 0.0);
    for (const Share& share : shares_) result[share.bin] += flux[share.sample] * share.weight;
    for (std::size_t i = 0; i < result.size(); ++i) {
        if (!covered_[i]) result[i] = std::numeric_limits<double>::quiet_NaN();
    }
    return result;
}

std::vector<double> convolveWithResolution(const Array3<double>& resolution, std::size_t spectrum,
                                           const std::vector<double>& truth) {
    const auto ndiag = static_cast<std::ptrdiff_t>(resolution.rows() / 2);
    const auto nwave = static_cast<std::ptrdiff_t>(truth.size());
    std::vector<double> model(truth.size(), 0.0);
    for (std::ptrdiff_t k = 0; k <= 2 * ndiag; ++k) {
        for (std::ptrdiff_t j = 0; j < nwave; ++j) { // element k of column j is R[j - ndiag + k, j]
            const std::ptrdiff_t i = j - ndiag + k;
            if (i < 0 || i >= nwave) continue;
            model[static_cast<std::size_t>(i)] +=
                resolution(spectrum, static_cast<std::size_t>(k), static_cast<std::size_t>(j)) *
                truth[static_cast<std::size_t>(j)];
        }
    }
    return model;
}

TruthComparison compareWithTruth(const ExtractedFrame& frame, const TruthSpectra& truth, const std::string& frameName,
                                 const TruthCompareOptions& options) {
    if (frame.resolution.size() == 0) {
        throw Error(
            fmt::format("{}: no RESOLUTION: the truth cannot be brought to the resolution of the frame", frameName));
    }
    if (truth.wavelength.size() < 2 || frame.wavelength.size() < 2) {
        throw Error(fmt::format("{}: WAVELENGTH has fewer than two values",
                                truth.wavelength.size() < 2 ? truth.path : frameName));
    }
    TruthComparison result;
    const Positions position(frame);

    const std::vector<std::optional<std::size_t>> truthRows =
        matchTruth(frame, truth, frameName, options, result.notes);

    // The CCD saw the wavelengths before the barycentric correction.
    const double heliocor = frame.header.number("HELIOCOR").value_or(1.0);
    if (!(heliocor > 0.5 && heliocor < 2.0))
        throw Error(fmt::format("{}: HELIOCOR = {}, a number close to 1 expected", frameName, heliocor));
    std::vector<double> grid = frame.wavelength;
    for (double& wavelength : grid) wavelength /= heliocor;

    const TruthResampler resampler(truth.wavelength, grid, options.resampling);
    result.truthOnGrid = resampler.onGrid();
    const auto ndiag = static_cast<std::ptrdiff_t>(frame.ndiag());
    const auto nwave = static_cast<std::ptrdiff_t>(frame.nwave());
    constexpr double classes[] = {0.0, 1.0, 10.0, 100.0, infinity};
    std::vector<std::vector<double>> classPulls(std::size(classes) - 1);
    std::vector<double> allPulls;
    const std::vector<double> ones(frame.nwave(), 1.0);
    WorstBins worst(options.worst);
    bool first = true;
    for (std::size_t row = 0; row < frame.nspec(); ++row) {
        if (!truthRows[row]) continue;
        if (first) result.specmin = frame.specmin + static_cast<int>(row);
        first = false;
        ++result.nspec;
        const std::vector<double> binned = resampler.apply(truth.flux.row(*truthRows[row]).data());
        std::vector<double> filled = binned;
        for (double& value : filled) value = std::isfinite(value) ? value : 0.0;
        const std::vector<double> model = convolveWithResolution(frame.resolution, row, filled);
        const std::vector<double> rowSums = convolveWithResolution(frame.resolution, row, ones);
        // Uncovered bins so far, so that a range of bins is known to be covered by one subtraction.
        std::vector<std::ptrdiff_t> uncovered(binned.size() + 1, 0);
        for (std::size_t i = 0; i < binned.size(); ++i)
            uncovered[i + 1] = uncovered[i] + (std::isfinite(binned[i]) ? 0 : 1);

        std::vector<double> own;
        for (std::ptrdiff_t i = 0; i < nwave; ++i) {
            const auto bin = static_cast<std::size_t>(i);
            const double ivar = frame.ivar(row, bin);
            if (!(ivar > 0.0)) {
                ++result.noData;
                continue;
            }
            if (!frame.mask.empty() && frame.mask(row, bin) != 0) {
                ++result.masked;
                continue;
            }
            // Light from beyond the grid is in the flux, but the stored band does not say how much.
            if (i < ndiag || i + ndiag >= nwave ||
                uncovered[static_cast<std::size_t>(i + ndiag + 1)] != uncovered[static_cast<std::size_t>(i - ndiag)]) {
                ++result.atEdges;
                continue;
            }
            const double pull = (frame.flux(row, bin) - model[bin]) * std::sqrt(ivar);
            if (!std::isfinite(pull)) {
                throw Error(
                    fmt::format("{}: FLUX is not finite in row {} at {:g} Angstrom although IVAR is {:g} and MASK 0",
                                frameName, row, frame.wavelength[bin], ivar));
            }
            own.push_back(pull);
            result.bandRowSum += rowSums[bin];
            result.bandShift -= (rowSums[bin] - 1.0) * model[bin] * std::sqrt(ivar);
            worst.add(frame.flux(row, bin), model[bin], pull, row, bin);
            const double signal = std::abs(model[bin]) * std::sqrt(ivar);
            std::size_t level = 0;
            while (level + 1 < classPulls.size() && signal >= classes[level + 1]) ++level;
            classPulls[level].push_back(pull);
        }
        allPulls.insert(allPulls.end(), own.begin(), own.end());
        if (own.empty()) continue;
        const PullStatistics statistics = pullStatistics(own);
        const BinPosition where = position(row, 0);
        if (std::abs(statistics.mean) > std::abs(result.worstMean.value)) {
            result.worstMean = {where.spectrum, where.fiber, statistics.mean};
        }
        if (result.worstSigma.value == 0.0 ||
            std::abs(statistics.sigma - 1.0) > std::abs(result.worstSigma.value - 1.0)) {
            result.worstSigma = {where.spectrum, where.fiber, statistics.sigma};
        }
    }
    if (allPulls.empty()) {
        throw Error(fmt::format("{} and {}: no bin to compare: {} without data, {} masked, {} at the ends of the frame "
                                "or of the truth ({:g} to "
                                "{:g} Angstrom)",
                                frameName, truth.path, result.noData, result.masked, result.atEdges,
                                truth.wavelength.front(), truth.wavelength.back()));
    }
    for (std::size_t level = 0; level < classPulls.size(); ++level) {
        if (!classPulls[level].empty())
            result.bySignal.push_back({classes[level], classes[level + 1], pullStatistics(classPulls[level])});
    }
    result.bandRowSum /= static_cast<double>(allPulls.size());
    result.bandShift /= static_cast<double>(allPulls.size());
    result.all = pullStatistics(allPulls);
    result.worst = worst.finish(position);
    return result;
}

} // namespace patchlight
